"""The optimizers and clipping: by hand, against torch.optim and scikit-learn, and in float32."""

from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from tests.oracles import assert_close, each_dtype, on
from tests.states import Host, fetch, move
from xpnet.backends import Backend
from xpnet.nn.optimizers import SGD, Adam, Optimizer, clip_by_norm

SHAPES = {"W1": (3, 4), "b1": (4,)}
GRADIENTS: list[dict[str, Any]] = [{"W1": [2.0, -1.0], "b1": [8.0]}, {"W1": [1.0, 1.0], "b1": [-2.0]}]
RATES = [1 / 2, 1 / 4]


def take_steps(
    backend: Backend, optimizer: Optimizer, gradients: list[dict[str, Any]], rates: list[float]
) -> Any:
    """The parameters after every step from W1 = [1, -2], b1 = [4]."""
    parameters = move(backend, {"W1": [1.0, -2.0], "b1": [4.0]})
    state, seen = parameters | optimizer.memory(backend.xp, parameters), []
    for gradient, rate in zip(gradients, rates, strict=True):
        lr = backend.asarray(np.array([rate]))
        state = optimizer.update(backend.xp, state, move(backend, gradient), lr)
        seen += [fetch(backend, state)[name].tolist() for name in parameters]
    return seen


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        # W - lr dW, with lr = 1/2, then 1/4
        (SGD(), [[0.0, -1.5], [0.0], [-0.25, -1.75], [0.5]]),
        # v is -dW / 2 at first, then v / 2 - dW / 4: it keeps the rate at which it was gained
        (SGD(momentum=0.5), [[0.0, -1.5], [0.0], [-0.75, -1.5], [-1.5]]),
        # the same v, (-1, 1/2) and -4, then (-3/4, 0) and -3/2; the parameters move by v / 2 - lr dW
        (SGD(momentum=0.5, nesterov=True), [[-0.5, -1.25], [-2.0], [-1.125, -1.5], [-2.25]]),
        # dW + W / 2 is (5/2, -2), then (1 - 1/8, 1 - 1/2); b does not decay
        (SGD(weight_decay=0.5), [[-0.25, -1.0], [0.0], [-0.46875, -1.125], [0.5]]),
        # v is (-5/4, 1), then v / 2 - (1 - 1/8, 1 - 1/2) / 4; b as with momentum alone
        (SGD(momentum=0.5, weight_decay=0.5), [[-0.25, -1.0], [0.0], [-1.09375, -0.625], [-1.5]]),
        # W loses a quarter, then an eighth, of itself; v is as with momentum alone
        (SGD(0.5, weight_decay=0.5, decoupled=True), [[-0.25, -1.0], [0.0], [-0.96875, -0.875], [-1.5]]),
    ],
    ids=["plain", "momentum", "nesterov", "weight decay", "momentum and weight decay", "decoupled decay"],
)
def test_two_steps_of_sgd_by_hand(optimizer: SGD, expected: list[list[float]], backend: Backend) -> None:
    assert take_steps(backend, optimizer, GRADIENTS, RATES) == expected


def test_two_steps_of_adam_by_hand(backend: Backend) -> None:
    """With beta1 = 1/2, beta2 = 3/4 and epsilon = 1; g is the gradient, 3 and then -3 for W1[0].

    Step 1: m / c1 = (3/2) / (1/2) = 3, s / c2 = (9/4) / (1/4) = 9, so the step is 3 / (sqrt 9 + 1) = 3/4.
    Step 2: m = 3/4 - 3/2 = -3/4 and c1 = 3/4, so m / c1 = -1; s / c2 is still 9; the step is -1/4.
    For W1[1] all signs are turned. b1 sees 8 twice: both steps are 8/9.
    """
    gradients = [{"W1": [3.0, -3.0], "b1": [8.0]}, {"W1": [-3.0, 3.0], "b1": [8.0]}]
    found = take_steps(backend, Adam(beta1=0.5, beta2=0.75, epsilon=1.0), gradients, [1.0, 2.0])
    expected = [[1 / 4, -5 / 4], [4 - 8 / 9], [1 / 4 + 2 / 4, -5 / 4 - 2 / 4], [4 - 8 / 9 - 16 / 9]]
    for array, right in zip(found, expected, strict=True):
        np.testing.assert_allclose(array, right, rtol=1e-14)


def test_weight_decay_of_adam_by_hand(backend: Backend) -> None:
    """It is added to the gradient: 1 + 2 * 1 = 3 and 1 - 2 * 2 = -3; the bias keeps its own, 3."""
    gradient = {"W1": [1.0, 1.0], "b1": [3.0]}
    W1, b1 = take_steps(backend, Adam(epsilon=1.0, weight_decay=2.0), [gradient], [1.0])
    np.testing.assert_allclose(W1, [1 - 3 / 4, -2 + 3 / 4], rtol=1e-14)
    np.testing.assert_allclose(b1, [4 - 3 / 4], rtol=1e-14)


def test_decoupled_weight_decay_by_hand(backend: Backend) -> None:
    """The steps are lr * 2 / (2 + 1), then lr * 1 / (1 + 1); before each, W loses lr / 2 of itself."""
    gradients = [{"W1": [dW, dW], "b1": [dW]} for dW in (2.0, 1.0)]
    W1, b1 = take_steps(backend, Adam(0, 0, 1, 0.5, decoupled=True), gradients, RATES)[2:]
    by_hand = [(start * (1 - 1 / 4) - 1 / 3) * (1 - 1 / 8) - 1 / 8 for start in (1, -2)]
    np.testing.assert_allclose(W1, by_hand, rtol=1e-14)
    np.testing.assert_allclose(b1, [4 - 1 / 3 - 1 / 8], rtol=1e-14)


@pytest.mark.parametrize(
    ("optimizer", "kinds", "shares"),
    [
        (SGD(), [], []),
        (SGD(0.9), ["velocity"], []),
        (Adam(), ["mean", "square"], ["mean.share", "square.share"]),
    ],
    ids=["plain", "momentum", "adam"],
)
def test_memory_starts_at_zero_in_the_dtype_of_the_parameters(
    optimizer: Optimizer, kinds: list[str], shares: list[str], backend: Backend, xp: Any
) -> None:
    parameters = move(backend, {name: np.ones(shape, np.float32) for name, shape in SHAPES.items()})
    memory = fetch(backend, optimizer.memory(xp, parameters))
    expected = {f"{kind}.{name}": shape for kind in kinds for name, shape in SHAPES.items()}
    assert {name: array.shape for name, array in memory.items()} == expected | dict.fromkeys(shares, (1,))
    for name, array in memory.items():
        assert array.dtype == np.float32, name
        assert not array.any(), name
    assert all((array == 1.0).all() for array in fetch(backend, parameters).values())


def update(xp: Any, optimizer: Optimizer, state: Any, gradients: Any, lr: Any) -> Any:
    return optimizer.update(xp, state, gradients, lr)


def run(backend: Backend, optimizer: Optimizer, start: Host, gradients: list[Host], rates: Any) -> Host:
    """The parameters after a step with each gradient at each rate."""
    state = start | optimizer.memory(np, start)
    for gradient, rate in zip(gradients, rates, strict=True):
        state = on(backend, update, optimizer, state=state, gradients=gradient, lr=np.full(1, rate))
    return {name: state[name] for name in start}


def draw(rng: Generator, steps: int) -> tuple[Host, list[Host]]:
    drawn = [{name: rng.standard_normal(shape) for name, shape in SHAPES.items()} for _ in range(steps + 1)]
    return drawn[0], drawn[1:]


@pytest.mark.parametrize(
    ("ours", "name", "theirs"),
    [
        (SGD(), "SGD", {}),
        (SGD(0.9), "SGD", {"momentum": 0.9}),
        (SGD(weight_decay=0.3), "SGD", {"weight_decay": 0.3}),
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


def sklearn_rule(ours: Any, memory: Any, dW: Any, lr: float, t: int) -> tuple[Any, Any]:
    """The memory, and what is added to the parameters, in scikit-learn's optimizers; t counts from 1."""
    if isinstance(ours, SGD):
        v = 0.9 * memory - lr * dW
        return v, 0.9 * v - lr * dW if ours.nesterov else v
    m, s = 0.9 * memory[0] + (1 - 0.9) * dW, 0.999 * memory[1] + (1 - 0.999) * dW**2
    return np.stack([m, s]), -lr * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m / (np.sqrt(s) + 1e-8)


@pytest.mark.parametrize("ours", [SGD(0.9), SGD(0.9, nesterov=True), Adam(corrected_epsilon=False)])
def test_thirty_steps_of_sklearn_at_changing_rates(ours: Optimizer, backend: Backend, rng: Generator) -> None:
    """The gradients of b1 are as small as epsilon, whose place then shows in the first digit."""
    start, gradients = draw(rng, 30)
    gradients = [gradient | {"b1": 1e-9 * gradient["b1"]} for gradient in gradients]
    rates = rng.uniform(0.001, 0.1, 30)
    found = run(backend, ours, start, gradients, rates)
    for name, W in start.items():
        memory = np.zeros((2, *W.shape) if isinstance(ours, Adam) else W.shape)
        for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), 1):
            memory, change = sklearn_rule(ours, memory, gradient[name], rate, t)
            W = W + change
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


@each_dtype
@pytest.mark.parametrize("largest", [1.0, 1000.0])
def test_clipping_of_torch(largest: float, dtype: str, backend: Backend, rng: Generator) -> None:
    """PyTorch adds 1e-6 to the norm, which is 190 here: a relative difference of 5e-9."""
    import torch

    W, b = rng.standard_normal((300, 120)).astype(dtype), rng.standard_normal(120).astype(dtype)
    leaves = [torch.tensor(W), torch.tensor(b)]
    for leaf in leaves:
        leaf.grad = leaf.clone()
    torch.nn.utils.clip_grad_norm_(leaves, largest)
    clipped = on(backend, partial(clip_by_norm, largest=largest), gradients={"W1": W, "b1": b})
    for leaf, found in zip(leaves, clipped.values(), strict=True):
        expected: Any = leaf.grad
        np.testing.assert_allclose(found, expected.numpy(), rtol=max(1e-8, 8 * float(np.finfo(dtype).eps)))


def test_early_steps_of_adam_lose_nothing_in_float32(backend: Backend, xp: Any) -> None:
    """1 - beta2^t, taken literally, is off by 1e-5 in float32 at first, and the step by half of that."""
    gradients = 1.0 + np.random.default_rng(5).random((10, 6))

    def first_steps(dtype: str) -> list[np.ndarray]:
        parameters = {"W1": backend.asarray(np.zeros(6, dtype=dtype))}
        state, seen = parameters | Adam().memory(xp, parameters), []
        for gradient in gradients.astype(dtype):
            given, lr = {"W1": backend.asarray(gradient)}, backend.asarray(np.ones(1, dtype))
            state = Adam().update(xp, state, given, lr)
            seen.append(fetch(backend, state)["W1"])
        return seen

    for single, double in zip(first_steps("float32"), first_steps("float64"), strict=True):
        assert single.dtype == np.float32
        np.testing.assert_allclose(single, double, rtol=1e-6)
