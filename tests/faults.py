"""Faults in the mathematics, planted one at a time to prove that the tests notice them.

``pytest -p tests.faults --fault "bias not added" --backend numpy tests/test_by_hand.py`` replaces a function of
``xpnet.nn`` by a wrong one, before any test imports it, and must fail. ``--fault none`` replaces each function
of the table by itself, and must pass.
"""

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import pytest

from xpnet.backends.base import Patched


class Fault(NamedTuple):
    """One fault.

    Attributes
    ----------
    target
        What is replaced, by its path below ``xpnet.nn``. Where a module imports a function from another, the
        replacement at its home reaches all importers, and one at an importer reaches only that module.
    wrong
        Takes its place. It is called with the right function, then with the arguments.
    tests
        The file of tests that must notice it: ``test_{tests}.py``.
    library
        The library, or the strict variant, on which they run.
    """

    target: str
    wrong: Callable[..., Any]
    tests: str
    library: str = "numpy"


def decays_late(right: Any, self: Any, xp: Any, state: Any, gradients: Any, lr: Any) -> Any:
    weights = {name: W - lr * self.weight_decay * W for name, W in state.items() if name.startswith("W")}
    return right(replace(self, weight_decay=0.0), xp, state | weights, gradients, lr)


def corrects_one_step_ahead(right: Any, self: Any, xp: Any, state: Any, gradients: Any, lr: Any) -> Any:
    share = state["mean.share"] * self.beta1 + (1.0 - self.beta1)
    return right(self, xp, state | {"mean.share": share + 0.0}, gradients, lr) | {"mean.share": share}


def adds_epsilon_under_the_root(right: Any, self: Any, xp: Any, *arguments: Any) -> Any:
    changed = Patched(xp, sqrt=lambda s: xp.sqrt(s + self.epsilon))
    return right(replace(self, epsilon=0.0), changed, *arguments)


def reads_rates_late(right: Any, self: Any, state: Any, rows: Any, data: Any) -> Any:
    rates = state["rates"]
    return right(self, state | {"rates": self.xp.concat([rates[:1], rates[:-1]])}, rows, data) | {
        "rates": rates
    }


def counts_twice(right: Any, self: Any, state: Any, rows: Any, data: Any) -> Any:
    return right(self, state | {"t": state["t"] + 1}, rows, data)


def reads_on_the_host(right: Any, self: Any, state: Any, rows: Any, data: Any) -> Any:
    return right(self, state | {"loss": state["loss"] + 0.0 * float(state["loss"][0])}, rows, data)


def writes_to_the_data(right: Any, xp: Any, rows: Any, data: Any, *options: Any) -> Any:
    data["X"] *= 1
    return right(xp, rows, data, *options)


def makes_classes_on_the_cpu(right: Any, xp: Any, rows: Any, data: Any, *options: Any) -> Any:
    return right(xp, rows, data | {"classes": xp.arange(data["classes"].shape[0])}, *options)


def gathers(change: Callable[..., Any], right: Any, xp: Any, *arguments: Any) -> Any:
    return change(xp, *right(xp, *arguments))


FAULTS = {
    "dZ = A + Y": Fault("loss.cross_entropy_backward", lambda f, xp, log_A, Y, w: f(xp, log_A, -Y, w), "by_hand"),
    "dA = dZ W": Fault("dense.dense_backward_input", lambda f, xp, dZ, W: xp.matmul(dZ, W), "by_hand"),
    "dW = A dZ": Fault("dense.dense_backward", lambda f, xp, dZ, A: (xp.matmul(A, dZ), f(xp, dZ, A)[1]), "by_hand"),
    "no 1/m in dZ": Fault("step.cross_entropy_backward", lambda f, xp, log_A, Y, w: f(xp, log_A, Y, w / w), "by_hand"),
    "bias not summed over the rows": Fault("dense.dense_backward", lambda f, xp, dZ, A: (f(xp, dZ, A)[0], dZ[0, :]), "by_hand"),
    "bias not added": Fault("dense.dense", lambda f, xp, A, W, b: xp.matmul(A, W), "by_hand"),
    "relu' = 1 at zero": Fault("activations.relu_backward", lambda f, xp, dA, Z, A: dA * xp.astype(Z >= 0, dA.dtype), "activations"),
    "relu's mask from the first layer": Fault("network.backward", lambda f, xp, net, W, Z, A, dZ: f(xp, net, W, dict.fromkeys(Z, Z[1]), A, dZ), "gradients"),
    "tanh' = 1 - A": Fault("activations.tanh_backward", lambda f, xp, dA, Z, A: dA * (1.0 - A), "activations"),
    "sigmoid' = A (1 - Z)": Fault("activations.sigmoid_backward", lambda f, xp, dA, Z, A: dA * A * (1.0 - Z), "activations"),
    "softmax without its shift": Fault("loss.log_softmax", lambda f, xp, Z: Z - xp.log(xp.sum(xp.exp(Z), axis=1, keepdims=True)), "loss"),
    "loss sums the wrong log A": Fault("loss.cross_entropy", lambda f, xp, log_A, Y: f(xp, log_A, 1.0 - Y), "loss"),
    "He's variance by fan_out": Fault("initializers.he_normal", lambda f, rng, fan_in, fan_out: f(rng, fan_in, fan_out) * (fan_in / fan_out) ** 0.5, "network"),
    "Glorot's interval too short": Fault("initializers.glorot_uniform", lambda f, *fans: f(*fans) * 0.5**0.5, "network"),
    "weight decay on a bias": Fault("optimizers.is_weight", lambda f, name: True, "optimizers"),
    "weight decay after the momentum": Fault("optimizers.SGD.update", decays_late, "optimizers"),
    "momentum applied twice": Fault("optimizers.SGD.update", lambda f, sgd, *a: f(replace(sgd, momentum=sgd.momentum**2), *a), "optimizers"),
    "Nesterov without looking ahead": Fault("optimizers.SGD.update", lambda f, sgd, *a: f(replace(sgd, nesterov=False), *a), "optimizers"),
    "Adam's bias correction off by one": Fault("optimizers.Adam.update", corrects_one_step_ahead, "optimizers"),
    "Adam's epsilon under the root": Fault("optimizers.Adam.update", adds_epsilon_under_the_root, "optimizers"),
    "warm-up one step late": Fault("schedules.learning_rates", lambda f, xp, t, **o: f(xp, xp.where(t < o["warmup"], t - 1.0, t), **o), "schedules"),
    "schedule over one step too many": Fault("schedules.learning_rates", lambda f, xp, t, **o: f(xp, t, **o | {"steps": o["steps"] + 1}), "schedules"),
    "rate read one step late": Fault("step.TrainingStep.__call__", reads_rates_late, "step"),
    "steps counted twice": Fault("step.TrainingStep.__call__", counts_twice, "step"),
    "padding counts": Fault("step.gather", partial(gathers, lambda xp, X, Y, w: (X, Y, xp.ones_like(w))), "step"),
    "integers not scaled": Fault("step.gather", lambda f, xp, rows, data, scale, dtype: f(xp, rows, data, 1.0, dtype), "step"),
    "float32 where float64 was asked for": Fault("step.gather", partial(gathers, lambda xp, X, Y, w: (xp.astype(X, xp.float32), Y, w)), "step"),
    "a host read inside a step": Fault("step.TrainingStep.__call__", reads_on_the_host, "step", "array-api-strict-device1"),
    "an array on the wrong device": Fault("step.gather", makes_classes_on_the_cpu, "step", "array-api-strict-device1"),
    "the data written to": Fault("step.gather", writes_to_the_data, "step", "numpy-read-only"),
    "evaluation counts padding": Fault("step.EvaluationStep.__call__", lambda f, self, state, rows, data: f(self, state, self.xp.maximum(rows, 0), data), "step"),
}  # fmt: skip


def plant(target: str, wrong: Callable[..., Any]) -> None:
    """Replace a function of ``xpnet.nn``, in the table of activations too."""
    activations = importlib.import_module("xpnet.nn.activations")
    module, *owners, name = target.split(".")
    owner: Any = importlib.import_module(f"xpnet.nn.{module}")
    for attribute in owners:
        owner = getattr(owner, attribute)
    right = getattr(owner, name)

    def planted(*arguments: Any, **options: Any) -> Any:
        return wrong(right, *arguments, **options)

    setattr(owner, name, planted)
    for key, pair in activations.ACTIVATIONS.items():
        activations.ACTIVATIONS[key] = pair._make(
            planted if function is right else function for function in pair
        )


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fault", help="plant this fault of tests/faults.py, or none")


def pytest_configure(config: pytest.Config) -> None:
    assert "xpnet.nn.step" not in sys.modules, (
        "imported too early: other modules hold the right functions already"
    )
    asked = config.getoption("fault")
    for name, fault in FAULTS.items():
        if asked == name:
            plant(fault.target, fault.wrong)
        elif asked == "none":
            plant(fault.target, lambda right, *arguments, **options: right(*arguments, **options))
