"""The optimizers and clipping: by hand, against torch.optim and scikit-learn, and in float32."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from tests.oracles import assert_close, each_dtype, on
from tests.states import Host
from xpnet.backends import Backend
from xpnet.nn.optimizers import SGD, Adam, Optimizer, clip_by_norm

SHAPES = {"W1": (3, 4), "b1": (4,)}
GRADIENTS: list[dict[str, Any]] = [{"W1": [2.0, -1.0], "b1": [8.0]}, {"W1": [1.0, 1.0], "b1": [-2.0]}]
RATES = [1 / 2, 1 / 4]

BY_HAND: dict[str, Any] = {
    # W - lr dW, with lr = 1/2, then 1/4
    "plain": (SGD(), GRADIENTS, RATES, [-0.25, -1.75, 0.5]),
    # v is -dW / 2 at first, then v / 2 - dW / 4: it keeps the rate at which it was gained
    "momentum": (SGD(momentum=0.5), GRADIENTS, RATES, [-0.75, -1.5, -1.5]),
    # the same v, (-1, 1/2) and -4, then (-3/4, 0) and -3/2; the parameters move by v / 2 - lr dW
    "nesterov": (SGD(momentum=0.5, nesterov=True), GRADIENTS, RATES, [-1.125, -1.5, -2.25]),
    # dW + W / 2 is (5/2, -2), then (1 - 1/8, 1 - 1/2); b does not decay
    "weight decay": (SGD(weight_decay=0.5), GRADIENTS, RATES, [-0.46875, -1.125, 0.5]),
    # v is (-5/4, 1), then v / 2 - (1 - 1/8, 1 - 1/2) / 4; b as with momentum alone
    "both": (SGD(momentum=0.5, weight_decay=0.5), GRADIENTS, RATES, [-1.09375, -0.625, -1.5]),
    # W loses a quarter, then an eighth, of itself; v is as with momentum alone
    "decoupled": (SGD(0.5, weight_decay=0.5, decoupled=True), GRADIENTS, RATES, [-0.96875, -0.875, -1.5]),
    # beta1 = 1/2, beta2 = 3/4 and epsilon = 1; g is the gradient, 3 and then -3 for W1[0], with all signs
    # turned for W1[1]. Step 1: m / c1 = (3/2) / (1/2) = 3, s / c2 = (9/4) / (1/4) = 9, so the step is
    # 3 / (sqrt 9 + 1) = 3/4. Step 2: m = 3/4 - 3/2 = -3/4 and c1 = 3/4, so m / c1 = -1; s / c2 is still 9;
    # the step is -1/4. b1 sees 8 twice: both steps are 8/9.
    "adam": (
        Adam(beta1=0.5, beta2=0.75, epsilon=1.0),
        [{"W1": [3.0, -3.0], "b1": [8.0]}, {"W1": [-3.0, 3.0], "b1": [8.0]}],
        [1.0, 2.0],
        [1 / 4 + 2 / 4, -5 / 4 - 2 / 4, 4 - 8 / 9 - 16 / 9],
    ),
    # the decay is added to the gradient: 1 + 2 * 1 = 3 and 1 - 2 * 2 = -3; the bias keeps its own, 3
    "adam, weight decay": (
        Adam(epsilon=1.0, weight_decay=2.0),
        [{"W1": [1.0, 1.0], "b1": [3.0]}],
        [1.0],
        [1 - 3 / 4, -2 + 3 / 4, 4 - 3 / 4],
    ),
    # the steps are lr * 2 / (2 + 1), then lr * 1 / (1 + 1); before each, W loses lr / 2 of itself
    "adamw": (
        Adam(0, 0, 1, 0.5, decoupled=True),
        [{"W1": [dW, dW], "b1": [dW]} for dW in (2.0, 1.0)],
        RATES,
        [*((W * (1 - 1 / 4) - 1 / 3) * (1 - 1 / 8) - 1 / 8 for W in (1, -2)), 4 - 1 / 3 - 1 / 8],
    ),
}
"""An optimizer, gradients and rates, and where they take W1 = [1, -2], b1 = [4]."""


def update(xp: Any, optimizer: Optimizer, state: Any, gradients: Any, lr: Any) -> Any:
    return optimizer.update(xp, state, gradients, lr)


def run(backend: Backend, optimizer: Optimizer, start: Host, gradients: list[Host], rates: Any) -> Host:
    """The parameters after a step with each gradient at each rate."""
    state, dtype = start | optimizer.memory(np, start), start["W1"].dtype
    for gradient, rate in zip(gradients, rates, strict=True):
        lr = np.full(1, rate, dtype)
        state = on(backend, update, optimizer, state=state, gradients=gradient, lr=lr)
    return {name: state[name] for name in start}


def draw(rng: Generator, steps: int) -> tuple[Host, list[Host]]:
    drawn = [{name: rng.standard_normal(shape) for name, shape in SHAPES.items()} for _ in range(steps + 1)]
    return drawn[0], drawn[1:]


@pytest.mark.parametrize("name", BY_HAND)
def test_steps_by_hand(name: str, backend: Backend) -> None:
    optimizer, gradients, rates, expected = BY_HAND[name]
    start = {"W1": np.array([1.0, -2.0]), "b1": np.array([4.0])}
    found = run(backend, optimizer, start, gradients, rates)
    exact = isinstance(optimizer, SGD)  # of halves and quarters
    np.testing.assert_allclose([*found["W1"], *found["b1"]], expected, rtol=0.0 if exact else 1e-14)


@pytest.mark.parametrize(
    ("ours", "name", "theirs"),
    [
        (SGD(0.9, True, 0.3), "SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.3}),
        (SGD(0.9, weight_decay=0.3), "SGD", {"momentum": 0.9, "weight_decay": 0.3}),
        (Adam(weight_decay=0.3), "Adam", {"weight_decay": 0.3}),
        (Adam(0.8, 0.95, 1e-3), "Adam", {"betas": (0.8, 0.95), "eps": 1e-3}),
        (Adam(weight_decay=0.3, decoupled=True), "AdamW", {"weight_decay": 0.3}),
    ],
)
def test_fifty_steps_of_torch(
    ours: Any, name: str, theirs: dict[str, Any], backend: Backend, rng: Generator
) -> None:
    """At changing rates, but for momentum: the velocity of PyTorch does not hold them."""
    import torch

    start, gradients = draw(rng, 50)
    rates = [0.02] * 50 if "momentum" in theirs else list(0.02 * (1 + rng.random(50)))
    found = run(backend, ours, start, gradients, rates)

    W, b = (torch.tensor(array) for array in start.values())
    groups = [{"params": [W]}, {"params": [b], "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, name)(groups, lr=0.02, **theirs)
    for gradient, rate in zip(gradients, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        W.grad, b.grad = (torch.tensor(array) for array in gradient.values())
        optimizer.step()
    for key, tensor in (("W1", W), ("b1", b)):
        assert_close(found[key], tensor.numpy(), 1e-12)
        assert abs(found[key] - start[key]).max() > 0.02, "the steps must have gone somewhere"


def test_thirty_steps_of_sklearns_adam_at_changing_rates(backend: Backend, rng: Generator) -> None:
    """The gradients of b1 are as small as epsilon, whose place then shows in the first digit."""
    start, gradients = draw(rng, 30)
    gradients = [gradient | {"b1": 1e-9 * gradient["b1"]} for gradient in gradients]
    rates = rng.uniform(0.001, 0.1, 30)
    found = run(backend, Adam(corrected_epsilon=False), start, gradients, rates)
    for name, W in start.items():
        m, s = np.zeros_like(W), np.zeros_like(W)
        for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
            m, s = 0.9 * m + 0.1 * gradient[name], 0.999 * s + 0.001 * gradient[name] ** 2
            W = W - rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(s) + 1e-8)
        np.testing.assert_allclose(found[name] - start[name], W - start[name], rtol=1e-9, atol=1e-15)


@each_dtype
def test_clipping_by_hand(dtype: str, backend: Backend) -> None:
    """The norm of (3, 0) and 4 is 5. A norm that is small enough changes no bit; 0 is no problem."""
    host: Host = {"W1": np.array([[3.0, 0.0]], dtype), "b1": np.array([4.0], dtype)}
    zeros = {name: np.zeros_like(array) for name, array in host.items()}
    for given, largest, factor in ((host, 2.5, 0.5), (host, 5.0, 1.0), (host, 100.0, 1.0), (zeros, 1.0, 1.0)):
        found = on(backend, partial(clip_by_norm, largest=largest), gradients=given)
        for name, array in given.items():
            np.testing.assert_array_equal(found[name], factor * array, strict=True)


@pytest.mark.parametrize("steps", [1, 2, 5, 10])
def test_early_steps_of_adam_lose_nothing_in_float32(steps: int, backend: Backend, rng: Generator) -> None:
    """1 - beta2^t, taken literally, is off by 1e-5 in float32 at first, and the step by half of that."""
    gradients, rates, ends = 1.0 + rng.random((steps, 6)), np.ones(steps), []
    for dtype in ("float32", "float64"):
        slopes = [{"W1": dW} for dW in gradients.astype(dtype)]
        ends += [run(backend, Adam(), {"W1": np.zeros(6, dtype)}, slopes, rates)["W1"]]
    assert ends[0].dtype == np.float32
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-6)
