"""The optimizers: by hand, against torch.optim, and in float32."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from xpnet.backends import Backend
from xpnet.nn.optimizers import SGD, Adam, Optimizer

SHAPES = {"W1": (3, 4), "b1": (4,), "W2": (4, 2), "b2": (2,)}


def step_by_hand(
    backend: Backend, optimizer: Optimizer, gradients: list[dict[str, list[float]]], rates: list[float]
) -> list[dict[str, list[float]]]:
    """The parameters after every step from W1 = [[1, -2]], b1 = [4]."""
    xp = backend.xp
    parameters = {
        "W1": backend.asarray(np.array([[1.0, -2.0]])),
        "b1": backend.asarray(np.array([4.0])),
    }
    state = parameters | optimizer.memory(xp, parameters)
    seen = []
    for gradient, rate in zip(gradients, rates, strict=True):
        given = {name: backend.asarray(np.array(dW)) for name, dW in gradient.items()}
        state = optimizer.update(xp, state, given, backend.asarray(np.array([rate])))
        seen.append({name: backend.to_numpy(state[name]).ravel().tolist() for name in parameters})
    return seen


TWO_STEPS: list[dict[str, Any]] = [{"W1": [[2.0, -1.0]], "b1": [8.0]}, {"W1": [[1.0, 1.0]], "b1": [-2.0]}]


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        # W - lr dW, with lr = 1/2, then 1/4.
        (
            SGD(),
            [{"W1": [0.0, -1.5], "b1": [0.0]}, {"W1": [-0.25, -1.75], "b1": [0.5]}],
        ),
        # v is dW at first, then v / 2 + dW: (2, 1/2) and 2.
        (
            SGD(momentum=0.5),
            [{"W1": [0.0, -1.5], "b1": [0.0]}, {"W1": [-0.5, -1.625], "b1": [-0.5]}],
        ),
        # The same v; the step is dW + v / 2: (3, -3/2) and 12, then (2, 5/4) and -1.
        (
            SGD(momentum=0.5, nesterov=True),
            [{"W1": [-0.5, -1.25], "b1": [-2.0]}, {"W1": [-1.0, -1.5625], "b1": [-1.75]}],
        ),
        # dW + W / 2 is (5/2, -2), then (1 - 1/8, 1 - 1/2); b does not decay.
        (
            SGD(weight_decay=0.5),
            [{"W1": [-0.25, -1.0], "b1": [0.0]}, {"W1": [-0.46875, -1.125], "b1": [0.5]}],
        ),
    ],
    ids=["plain", "momentum", "nesterov", "weight decay"],
)
def test_two_steps_of_sgd_by_hand(
    optimizer: SGD, expected: list[dict[str, list[float]]], backend: Backend
) -> None:
    assert step_by_hand(backend, optimizer, TWO_STEPS, [0.5, 0.25]) == expected


def test_two_steps_of_adam_by_hand(backend: Backend) -> None:
    """With beta1 = 1/2, beta2 = 3/4 and epsilon = 1; g is the gradient, 3 and then -3 for W1[0, 0].

    Step 1: m / c1 = (3/2) / (1/2) = 3, s / c2 = (9/4) / (1/4) = 9, so the step is 3 / (sqrt 9 + 1) = 3/4.
    Step 2: m = 3/4 - 3/2 = -3/4 and c1 = 3/4, so m / c1 = -1; s / c2 is still 9; the step is -1/4.
    For W1[0, 1] all signs are turned. b1 sees 8 twice: both steps are 8/9.
    """
    gradients: list[dict[str, Any]] = [
        {"W1": [[3.0, -3.0]], "b1": [8.0]},
        {"W1": [[-3.0, 3.0]], "b1": [8.0]},
    ]
    first, second = step_by_hand(backend, Adam(beta1=0.5, beta2=0.75, epsilon=1.0), gradients, [1.0, 2.0])
    np.testing.assert_allclose(first["W1"], [1 - 3 / 4, -2 + 3 / 4], rtol=1e-14)
    np.testing.assert_allclose(first["b1"], [4 - 8 / 9], rtol=1e-14)
    np.testing.assert_allclose(second["W1"], [1 / 4 + 2 / 4, -5 / 4 - 2 / 4], rtol=1e-14)
    np.testing.assert_allclose(second["b1"], [4 - 8 / 9 - 2 * 8 / 9], rtol=1e-14)


def test_weight_decay_of_adam_by_hand(backend: Backend) -> None:
    """It is added to the gradient: 1 + 2 * 1 = 3 and 1 - 2 * 2 = -3; the bias keeps its own, 3."""
    gradients: list[dict[str, Any]] = [{"W1": [[1.0, 1.0]], "b1": [3.0]}]
    (found,) = step_by_hand(backend, Adam(epsilon=1.0, weight_decay=2.0), gradients, [1.0])
    np.testing.assert_allclose(found["W1"], [1 - 3 / 4, -2 + 3 / 4], rtol=1e-14)
    np.testing.assert_allclose(found["b1"], [4 - 3 / 4], rtol=1e-14)


@pytest.mark.parametrize("optimizer", [SGD(), SGD(0.9), Adam()], ids=["plain", "momentum", "adam"])
def test_memory_starts_at_zero_in_the_dtype_of_the_parameters(
    optimizer: Optimizer, backend: Backend, xp: Any
) -> None:
    host = {name: np.ones(shape, dtype=np.float32) for name, shape in SHAPES.items()}
    parameters = {name: backend.asarray(array) for name, array in host.items()}
    memory = optimizer.memory(xp, parameters)

    kinds = {"velocity": 1} if optimizer == SGD(0.9) else {"mean": 1, "square": 1}
    expected = {f"{kind}.{name}": shape for kind in kinds for name, shape in SHAPES.items()}
    expected |= {"mean.share": (1,), "square.share": (1,)} if isinstance(optimizer, Adam) else {}
    assert {name: tuple(array.shape) for name, array in memory.items()} == (
        {} if optimizer == SGD() else expected
    )
    for array in memory.values():
        assert array.dtype == backend.dtype("float32")
        assert not backend.to_numpy(array).any()
    for name, array in host.items():
        assert (backend.to_numpy(parameters[name]) == array).all()


def run_in_torch(
    make: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    weight_decay: float,
    parameters: dict[str, np.ndarray],
    gradients: list[dict[str, np.ndarray]],
    rates: np.ndarray,
) -> dict[str, np.ndarray]:
    """The same steps by torch.optim, whose weights decay in one group and whose biases do not in another."""
    tensors = {name: torch.tensor(array) for name, array in parameters.items()}
    optimizer = make(
        [
            {"params": [tensors["W1"], tensors["W2"]], "weight_decay": weight_decay},
            {"params": [tensors["b1"], tensors["b2"]], "weight_decay": 0.0},
        ]
    )
    for gradient, rate in zip(gradients, rates, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(gradient[name])
        optimizer.step()
    return {name: tensor.numpy() for name, tensor in tensors.items()}


@pytest.mark.parametrize("weight_decay", [0.0, 0.01, 0.5])
@pytest.mark.parametrize(
    ("optimizer", "options", "tolerance"),
    [
        (SGD, {}, 1e-12),
        (SGD, {"momentum": 0.9}, 1e-12),
        (SGD, {"momentum": 0.9, "nesterov": True}, 1e-12),
        (Adam, {}, 1e-10),
        (Adam, {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}, 1e-10),
    ],
    ids=["sgd", "momentum", "nesterov", "adam", "adam with other betas"],
)
def test_fifty_steps_agree_with_torch_optim(
    optimizer: type[SGD] | type[Adam],
    options: dict[str, Any],
    tolerance: float,
    weight_decay: float,
    rng: np.random.Generator,
) -> None:
    parameters = {name: rng.standard_normal(shape) for name, shape in SHAPES.items()}
    gradients = [{name: rng.standard_normal(shape) for name, shape in SHAPES.items()} for _ in range(50)]
    rates = 0.05 * (1 + rng.random(50))

    made = optimizer(**options, weight_decay=weight_decay)
    state = {name: array.copy() for name, array in parameters.items()}
    state |= made.memory(np, state)
    for gradient, rate in zip(gradients, rates, strict=True):
        given = {name: array.copy() for name, array in gradient.items()}
        state = made.update(np, state, given, np.array([rate]))

    def make(groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
        if optimizer is SGD:
            return torch.optim.SGD(groups, lr=1.0, **options)
        betas = (options.get("beta1", 0.9), options.get("beta2", 0.999))
        return torch.optim.Adam(groups, lr=1.0, betas=betas, eps=options.get("epsilon", 1e-8))

    for name, expected in run_in_torch(make, weight_decay, parameters, gradients, rates).items():
        assert abs(state[name] - expected).max() < tolerance * abs(expected).max()
        assert abs(expected - parameters[name]).max() > 0.1, "the steps must have gone somewhere"


def test_early_steps_of_adam_lose_nothing_in_float32(backend: Backend, xp: Any) -> None:
    """1 - beta2^t, taken literally, is wrong by 1e-5 in float32 at first, and by half of that the step."""
    gradients = 1.0 + np.random.default_rng(5).random((10, 6))

    def first_steps(dtype: str) -> list[np.ndarray]:
        parameters = {"W1": backend.asarray(np.zeros(6, dtype=dtype))}
        state = parameters | Adam().memory(xp, parameters)
        rate, seen = backend.asarray(np.array([1.0], dtype=dtype)), []
        for gradient in gradients:
            state = Adam().update(xp, state, {"W1": backend.asarray(gradient.astype(dtype))}, rate)
            assert state["W1"].dtype == backend.dtype(dtype)
            seen.append(backend.to_numpy(state["W1"]).copy())
        return seen

    for single, double in zip(first_steps("float32"), first_steps("float64"), strict=True):
        np.testing.assert_allclose(single, double, rtol=1e-6)
