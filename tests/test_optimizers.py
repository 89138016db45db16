"""The optimizers: by hand, against torch.optim, and in float32."""

from typing import Any

import numpy as np
import pytest

from tests.states import fetch, move
from xpnet.backends import Backend
from xpnet.nn.optimizers import SGD, Adam, Optimizer

SHAPES = {"W1": (3, 4), "b1": (4,), "W2": (4, 2), "b2": (2,)}
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
        # v is dW at first, then v / 2 + dW: (2, 1/2) and 2
        (SGD(momentum=0.5), [[0.0, -1.5], [0.0], [-0.5, -1.625], [-0.5]]),
        # the same v; the step is dW + v / 2: (3, -3/2) and 12, then (2, 5/4) and -1
        (SGD(momentum=0.5, nesterov=True), [[-0.5, -1.25], [-2.0], [-1.0, -1.5625], [-1.75]]),
        # dW + W / 2 is (5/2, -2), then (1 - 1/8, 1 - 1/2); b does not decay
        (SGD(weight_decay=0.5), [[-0.25, -1.0], [0.0], [-0.46875, -1.125], [0.5]]),
        # v is (5/2, -2), then v / 2 + dW + W / 2: (5/4 + 1 - 1/8, -1 + 1 - 1/2); b as with momentum alone
        (SGD(momentum=0.5, weight_decay=0.5), [[-0.25, -1.0], [0.0], [-0.78125, -0.875], [-0.5]]),
    ],
    ids=["plain", "momentum", "nesterov", "weight decay", "momentum and weight decay"],
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


@pytest.mark.parametrize("weight_decay", [0.0, 0.01, 0.5])
@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [
        ("SGD", SGD(), {}),
        ("SGD", SGD(momentum=0.9), {"momentum": 0.9}),
        ("SGD", SGD(momentum=0.9, nesterov=True), {"momentum": 0.9, "nesterov": True}),
        ("Adam", Adam(), {}),
        ("Adam", Adam(beta1=0.8, beta2=0.95, epsilon=1e-3), {"betas": (0.8, 0.95), "eps": 1e-3}),
    ],
)
def test_fifty_steps_agree_with_torch_optim(
    name: str, ours: Any, theirs: dict[str, Any], weight_decay: float, rng: np.random.Generator
) -> None:
    import torch

    start = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    tensors = {name: torch.tensor(array) for name, array in start.items()}
    optimizer = type(ours)(**vars(ours) | {"weight_decay": weight_decay})
    state = {name: array.copy() for name, array in start.items()}
    state |= optimizer.memory(np, state)
    groups = [
        {"params": [tensors["W1"], tensors["W2"]], "weight_decay": weight_decay},
        {"params": [tensors["b1"], tensors["b2"]], "weight_decay": 0.0},
    ]
    other = getattr(torch.optim, name)(groups, lr=1.0, **theirs)

    for rate in 0.05 * (1 + rng.random(50)):
        gradients = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradients[name])
        for group in other.param_groups:
            group["lr"] = float(rate)
        other.step()
        state = optimizer.update(np, state, gradients, np.array([rate]))

    for name, tensor in tensors.items():
        expected = tensor.numpy()
        assert abs(state[name] - expected).max() < 1e-11 * abs(expected).max()
        assert abs(expected - start[name]).max() > 0.1, "the steps must have gone somewhere"


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
