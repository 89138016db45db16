"""Faults in the mathematics, planted one at a time to prove that the tests notice them.

``pytest -p tests.faults --fault "bias not added" --backend numpy tests/test_by_hand.py`` replaces a function of
``xpnet.nn`` by a wrong one, before any test imports it, and must fail. ``--fault none`` replaces each function
of the table by itself, and must pass.
"""

import importlib
import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from io import StringIO
from typing import Any, NamedTuple

import pytest

from xpnet.backends.base import Patched


class Fault(NamedTuple):
    """One fault.

    Attributes
    ----------
    target
        What is replaced, by its path below ``xpnet.nn``, or from ``backends`` or ``training`` on. Where a module imports a function from another, the
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
    c1 = state["sum.count"] * self.beta1 + 1.0
    return right(self, xp, state | {"sum.count": c1 + 0.0}, gradients, lr) | {"sum.count": c1}


def keeps_the_rate_out_of_the_velocity(
    right: Any, self: Any, xp: Any, state: Any, gradients: Any, lr: Any
) -> Any:
    if not self.momentum:
        return right(self, xp, state, gradients, lr)
    after = {name: array * 1.0 for name, array in state.items()}
    return right(self, xp, after, {name: dW / lr for name, dW in gradients.items()}, lr) | {
        name: state[name] + lr * after[f"velocity.{name}"] for name in gradients
    }


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


def reads_the_key_on_the_host(right: Any, xp: Any, rates: Any, sizes: Any, key: Any, *options: Any) -> Any:
    return right(xp, rates, sizes, (key[0], key[1] + 0 * int(key[1][0])), *options)


def asks_the_host_whether_to_clip(right: Any, xp: Any, gradients: Any, largest: float) -> Any:
    norm = sum(float(xp.sum(dW * dW)) for dW in gradients.values()) ** 0.5
    return right(xp, gradients, largest) if norm > largest else gradients


def asks_the_host_for_the_weight(right: Any, self: Any, state: Any, rows: Any, data: Any, *lr: Any) -> Any:
    weighs_nothing = not float(self.xp.sum(self.xp.take(data["weights"], self.xp.maximum(rows, 0))))
    found = right(self, state, rows, data, *lr)
    return {name: 0.0 * dW for name, dW in found.items()} if weighs_nothing else found


def scales_every_gradient_to_the_norm(right: Any, xp: Any, gradients: Any, largest: float) -> Any:
    return right(xp, {name: dW * 1e6 for name, dW in gradients.items()}, largest)


def cancels(right: Any, xp: Any, Z: Any, T: Any) -> Any:
    A = xp.exp(Z)
    log_T = xp.log(xp.where(T > 0, T, xp.ones_like(T)))
    return xp.sum(A - T + T * (log_T - Z), axis=1), A


def transposes_the_confusion(right: Any, xp: Any, *arrays: Any, **given: Any) -> Any:
    sums = right(xp, *arrays, **given)
    return sums | {"confusion": xp.matrix_transpose(sums["confusion"])}


def without(name: str, right: Any, xp: Any, rows: Any, data: Any, *options: Any) -> Any:
    return right(xp, rows, {key: array for key, array in data.items() if key != name}, *options)


def gathers(change: Callable[..., Any], right: Any, xp: Any, *arguments: Any) -> Any:
    return change(xp, *right(xp, *arguments))


FAULTS = {
    "dZ = A + T": Fault("losses.canonical_backward", lambda f, xp, A, T, w: f(xp, A, -T, w), "by_hand"),
    "dA = dZ W": Fault("dense.dense_backward_input", lambda f, xp, dZ, W: xp.matmul(dZ, W), "by_hand"),
    "dW = A dZ": Fault("dense.dense_backward", lambda f, xp, dZ, A, **o: (xp.matmul(A, dZ), f(xp, dZ, A)[1]), "by_hand"),
    "no 1/m in dZ": Fault("losses.canonical_backward", lambda f, xp, A, T, w: f(xp, A, T, w / w), "by_hand"),
    "bias not summed over the rows": Fault("dense.dense_backward", lambda f, xp, dZ, A, **o: (f(xp, dZ, A)[0], dZ[0, :]), "by_hand"),
    "bias not added": Fault("dense.dense", lambda f, xp, A, W, b: xp.matmul(A, W), "by_hand"),
    "relu' = 1 at zero": Fault("activations.relu_backward", lambda f, xp, dA, Z, A: dA * xp.astype(Z >= 0, dA.dtype), "activations"),
    "relu's mask from the first layer": Fault("network.backward", lambda f, xp, net, W, c, *a, **o: f(xp, net, W, c._replace(Z=dict.fromkeys(c.Z, c.Z[1])), *a, **o), "gradients"),
    "tanh' = 1 - A": Fault("activations.tanh_backward", lambda f, xp, dA, Z, A: dA * (1.0 - A), "activations"),
    "sigmoid' = A (1 - Z)": Fault("activations.sigmoid_backward", lambda f, xp, dA, Z, A: dA * A * (1.0 - Z), "activations"),
    "softmax without its shift": Fault("losses.log_softmax", lambda f, xp, Z: Z - xp.log(xp.sum(xp.exp(Z), axis=1, keepdims=True)), "losses"),
    "loss sums the wrong log A": Fault("losses.cross_entropy", lambda f, xp, Z, T: (f(xp, Z, 1.0 - T)[0], f(xp, Z, T)[1]), "losses"),
    "logarithm of a sigmoid that overflows": Fault("losses.binary_cross_entropy", lambda f, xp, Z, T: (xp.sum(xp.log1p(xp.exp(Z)) - Z * T, axis=1), f(xp, Z, T)[1]), "losses"),
    "squared error not halved": Fault("losses.squared_error", lambda f, xp, Z, T: (2.0 * f(xp, Z, T)[0], Z), "losses"),
    "Poisson's deviance cancels": Fault("losses.poisson", cancels, "losses"),
    "Poisson's mean without its link": Fault("losses.poisson", lambda f, xp, Z, T: (f(xp, Z, T)[0], Z), "losses"),
    "every row the same share": Fault("losses.canonical_backward", lambda f, xp, A, T, w: f(xp, A, T, xp.ones_like(w) / w.shape[0]), "losses"),
    "the confusion transposed": Fault("metrics.class_sums", transposes_the_confusion, "metrics"),
    "accuracy without weights": Fault("metrics.class_sums", lambda f, xp, Z, A, T, weights, classes: f(xp, Z, A, T, xp.ones_like(weights), classes), "metrics"),
    "a label predicted at one half": Fault("metrics.label_sums", lambda f, xp, Z, *a, **given: f(xp, Z + 1e-9, *a, **given), "metrics"),
    "r2 about zero": Fault("metrics.number_metrics", lambda f, xp, totals: f(xp, totals | {"targets": 0.0 * totals["targets"]}), "metrics"),
    "a round of the hash too few": Fault("random.threefry", lambda f, key, x0, x1, rounds=13: f(key, x0, x1, rounds - 1), "random"),
    "a stream for all": Fault("random.uniform16", lambda f, xp, key, stream, *a: f(xp, key, 0, *a), "random"),
    "one mask for all layers": Fault("dropout.uniform16", lambda f, xp, key, stream, *a: f(xp, key, 0, *a), "dropout"),
    "dropout without its seed": Fault("dropout.dropout_masks", lambda f, xp, rates, sizes, key, *a: f(xp, rates, sizes, (0 * key[0], key[1]), *a), "dropout"),
    "dropout by the place in the chunk": Fault("step.TrainingStep.masks", lambda f, self, state, *a: f(self, state | {"step": state["t"]}, *a), "dropout"),
    "dropout's rate is that to stay": Fault("dropout.dropout_masks", lambda f, xp, rates, *a: f(xp, tuple(rate and 1.0 - rate for rate in rates), *a), "dropout"),
    "what dropout leaves is not scaled": Fault("dropout.dropout_masks", lambda f, xp, *a: {l: xp.astype(M > 0, M.dtype) for l, M in f(xp, *a).items()}, "dropout"),
    "no mask on the way back": Fault("network.backward", lambda f, xp, net, W, c, *a, **o: f(xp, net, W, c._replace(masks={}), *a, **o), "dropout"),
    "dW from units that were left out": Fault("network.backward", lambda f, xp, net, W, c, *a, **o: f(xp, net, W, c._replace(D=c.A), *a, **o), "dropout"),
    "one picture for all rows": Fault("distortion.uniform16", lambda f, *a: 0 * f(*a) + f(*a)[:1, :], "distortion"),
    "pictures by the place in the chunk": Fault("step.TrainingStep.gather", lambda f, self, state, *a: f(self, state | {"step": state["t"]}, *a), "distortion"),
    "pictures without their seed": Fault("distortion.points", lambda f, xp, d, data, key, m: f(xp, d, data, (0 * key[0], key[1]), m), "distortion"),
    "rotated the other way": Fault("distortion.points", lambda f, xp, d, *a: f(xp, replace(d, rotate=-d.rotate), *a), "distortion"),
    "noise without its Gaussian": Fault("distortion.Distortion._bump", lambda f, d, n, k, *a: f(replace(d, smooth=d.smooth / 2), n, k, *a), "distortion"),
    "the next pixel instead of both": Fault("distortion.sample", lambda f, xp, images, shape, y, x, *a: f(xp, images, shape, y, xp.ceil(x), *a), "distortion"),
    "a product that is added": Fault("backends.blas.subtract_product", lambda f, W, A, B, kept=None: f(W, A, -B, kept), "products"),
    "a product that keeps all of W": Fault("backends.blas.subtract_product", lambda f, W, A, B, kept=None: f(W, A, B), "products"),
    "a product that is transposed": Fault("backends.blas.subtract_product", lambda f, W, A, B, kept=None: f(W, A[:, ::-1], B, kept), "products"),
    "the rate not in the rows' shares": Fault("step.TrainingStep.gradients", lambda f, self, state, rows, data, lr=None: f(self, state, rows, data, None if lr is None else 1.0 + 0.0 * lr), "products"),
    "what a product keeps is lost": Fault("optimizers.subtract", lambda f, xp, W, dW, kept=None: f(xp, W, dW), "products"),
    "He's variance by fan_out": Fault("initializers.he_normal", lambda f, rng, fan_in, fan_out, shape: f(rng, fan_in, fan_out, shape) * (fan_in / fan_out) ** 0.5, "network"),
    "Glorot's interval too short": Fault("initializers.glorot_uniform", lambda f, *fans: f(*fans) * 0.5**0.5, "network"),
    "weight decay on a bias": Fault("optimizers.is_weight", lambda f, name: True, "optimizers"),
    "weight decay after the momentum": Fault("optimizers.SGD.update", decays_late, "optimizers"),
    "momentum applied twice": Fault("optimizers.SGD.update", lambda f, sgd, *a: f(replace(sgd, momentum=sgd.momentum**2), *a), "optimizers"),
    "Nesterov without looking ahead": Fault("optimizers.SGD.update", lambda f, sgd, *a: f(replace(sgd, nesterov=False), *a), "optimizers"),
    "Adam's bias correction off by one": Fault("optimizers.Adam.update", corrects_one_step_ahead, "optimizers"),
    "Adam's epsilon under the root": Fault("optimizers.Adam.update", adds_epsilon_under_the_root, "optimizers"),
    "Adam's epsilon in the other place": Fault("optimizers.Adam.update", lambda f, adam, *a: f(replace(adam, corrected_epsilon=not adam.corrected_epsilon), *a), "optimizers"),
    "AdamW's decay in the gradient": Fault("optimizers.Adam.update", lambda f, adam, *a: f(replace(adam, decoupled=False), *a), "optimizers"),
    "the rate not in the velocity": Fault("optimizers.SGD.update", keeps_the_rate_out_of_the_velocity, "optimizers"),
    "every gradient clipped by itself": Fault("optimizers.clip_by_norm", lambda f, xp, gradients, largest: {name: f(xp, {name: dW}, largest)[name] for name, dW in gradients.items()}, "optimizers"),
    "clipping makes small gradients large": Fault("optimizers.clip_by_norm", scales_every_gradient_to_the_norm, "optimizers"),
    "warm-up one step late": Fault("schedules.learning_rates", lambda f, xp, t, **o: f(xp, xp.where(t < o["warmup"], t - 1.0, t), **o), "schedules"),
    "schedule over one step too many": Fault("schedules.learning_rates", lambda f, xp, t, **o: f(xp, t, **o | {"steps": o["steps"] + 1}), "schedules"),
    "plateau one epoch late": Fault("training.settings.plateau", lambda f, scores, *, patience, **o: f(scores, patience=patience + 1, **o), "schedules"),
    "rate read one step late": Fault("step.TrainingStep.__call__", reads_rates_late, "step"),
    "steps counted twice": Fault("step.TrainingStep.__call__", counts_twice, "step"),
    "padding counts": Fault("step.gather", partial(gathers, lambda xp, X, Y, w: (X, Y, xp.ones_like(w))), "step"),
    "integers not scaled": Fault("step.gather", lambda f, xp, rows, data, loss, scale, *a: f(xp, rows, data, loss, 1.0, *a), "step"),
    "weights of rows ignored": Fault("step.gather", partial(without, "weights"), "step_family"),
    "columns not standardised": Fault("step.gather", partial(without, "mean"), "step_family"),
    "a penalty on a bias": Fault("step.is_weight", lambda f, name: True, "step_family"),
    "half of the penalty": Fault("step.TrainingStep.gradients", lambda f, self, state, rows, data, *lr: f(self, state, rows, data | {"penalty": 0.5 * data.get("penalty", 0.0)}, *lr), "step_family"),
    "never clipped": Fault("step.clip_by_norm", lambda f, xp, gradients, largest: gradients, "step_family"),
    "evaluation without the metrics' weights": Fault("metrics.number_sums", lambda f, xp, Z, A, T, w, classes: f(xp, Z, A, T, xp.ones_like(w), classes), "step_family"),
    "float32 where float64 was asked for": Fault("step.gather", partial(gathers, lambda xp, X, Y, w: (xp.astype(X, xp.float32), Y, w)), "step"),
    "a host read inside a step": Fault("step.TrainingStep.__call__", reads_on_the_host, "scan", "array-api-strict-device1"),
    "dropout reads its key on the host": Fault("dropout.dropout_masks", reads_the_key_on_the_host, "scan", "array-api-strict-device1"),
    "clipping asks the host": Fault("optimizers.clip_by_norm", asks_the_host_whether_to_clip, "scan", "array-api-strict-device1"),
    "weights ask the host": Fault("step.TrainingStep.gradients", asks_the_host_for_the_weight, "step_family", "array-api-strict-device1"),
    "an array on the wrong device": Fault("step.gather", makes_classes_on_the_cpu, "scan", "array-api-strict-device1"),
    "the data written to": Fault("step.gather", writes_to_the_data, "scan", "numpy-read-only"),
    "evaluation counts padding": Fault("step.EvaluationStep.__call__", lambda f, self, state, rows, data: f(self, state, self.xp.maximum(rows, 0), data), "step"),
}  # fmt: skip


def plant(target: str, wrong: Callable[..., Any]) -> None:
    """Replace a function, in the tables of activations, losses and metrics too."""
    room, module, *owners, name = (
        target if target.startswith(("backends.", "training.")) else f"nn.{target}"
    ).split(".")
    owner: Any = importlib.import_module(f"xpnet.{room}.{module}")
    for attribute in owners:
        owner = getattr(owner, attribute)
    right = getattr(owner, name)

    def planted(*arguments: Any, **options: Any) -> Any:
        return wrong(right, *arguments, **options)

    setattr(owner, name, planted)
    activations, losses = (
        importlib.import_module(f"xpnet.nn.{table}") for table in ("activations", "losses")
    )
    for key, pair in activations.ACTIVATIONS.items():
        activations.ACTIVATIONS[key] = pair._make(
            planted if function is right else function for function in pair
        )
    for loss in losses.LOSSES.values():
        for value in (loss, loss.kind):
            for key in [key for key, function in vars(value).items() if function is right]:
                object.__setattr__(value, key, planted)


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


def main() -> None:
    """Run files of tests once with each fault, all in this process, and print how they ended, as JSON."""
    faults, library, files = json.loads(sys.argv[1])
    options = ["-qx", "-n", "0", "-p", "no:cacheprovider", "--tb=line", "-p", "tests.faults"]
    options += ["-m", "not slow", "--backend", library]
    ended: dict[str, tuple[int, str]] = {}
    for fault in faults:
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "xpnet")]:
            del sys.modules[name]  # what was planted before
        with redirect_stdout(StringIO()) as output:
            code = pytest.main([*options, "--fault", fault, *files])
        ended[fault] = int(code), output.getvalue()
    print(json.dumps(ended))
