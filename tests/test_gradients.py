"""Every gradient against central differences, against torch's autograd, and across libraries, in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from xpnet.backends import Backend
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.dense import dense, dense_backward, dense_backward_input
from xpnet.nn.loss import cross_entropy, cross_entropy_backward, log_softmax
from xpnet.nn.network import Network, backward, forward
from xpnet.nn.optimizers import SGD
from xpnet.nn.step import TrainingStep

H = 1e-5
"""Half the width of a central difference: its own error is then about 1e-10."""

CORNER = 1e-3
"""How far every relu stays from its corner. A difference across it would measure two slopes at once."""

SIZES = {
    "none hidden": (3, 4),
    "one hidden": (3, 5, 4),
    "two hidden": (3, 5, 4, 3),
    "four hidden": (2, 4, 3, 4, 3, 3),
    "one unit in every layer but the last": (1, 1, 1, 2),
    "one class, which is always right": (3, 2, 1),
}
WEIGHTS = {
    "rows alike": [1.0] * 6,
    "one row": [1.0],
    "weighted": [0.5, 2.0, 0.0, 1.0, 3.0, 0.0],
}


def differences(f: Callable[[], float], x: np.ndarray) -> np.ndarray:
    """The slope of f() by every entry of `x`, which is changed in place and put back."""
    slopes = np.empty_like(x)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + H
        above = f()
        x[i] = kept - H
        slopes[i] = (above - f()) / (2 * H)
        x[i] = kept
    return slopes


def assert_close(found: Any, expected: np.ndarray, tolerance: float, scale: float = 0.01) -> None:
    """The largest error, by the largest entry, or by `scale` where all of them are smaller."""
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= tolerance * max(abs(expected).max(), scale)


@dataclass
class Case:
    """A network, its parameters, and a batch."""

    network: Network
    parameters: dict[str, np.ndarray]
    X: np.ndarray
    y: np.ndarray
    Y: np.ndarray
    shares: np.ndarray

    def loss(self) -> float:
        """The weighted mean that is reported."""
        Z, _ = forward(np, self.network, self.parameters, self.X)
        losses = cross_entropy(np, log_softmax(np, Z[self.network.depth]), self.Y)
        return float(np.sum(self.shares * losses))


def draw(rng: np.random.Generator, sizes: tuple[int, ...], activation: str, weights: list[float]) -> Case:
    """Draw a case, and draw again while a relu is near its corner."""
    network, m = Network(sizes, activation), len(weights)
    while True:
        parameters = {name: rng.standard_normal(shape) for name, shape in network.shapes.items()}
        X = rng.standard_normal((m, sizes[0]))
        Z, _ = forward(np, network, parameters, X)
        if activation != "relu" or all(abs(Z[l]).min() > CORNER for l in range(1, network.depth)):
            break
    y = rng.integers(0, sizes[-1], m)
    return Case(network, parameters, X, y, np.eye(sizes[-1])[y], np.array(weights) / sum(weights))


def gradients_of(case: Case, xp: Any, move: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """What our backpropagation finds, on any library."""
    parameters = {name: move(array) for name, array in case.parameters.items()}
    Z, A = forward(xp, case.network, parameters, move(case.X))
    log_A = log_softmax(xp, Z[case.network.depth])
    dZ = cross_entropy_backward(xp, log_A, move(case.Y), move(case.shares))
    return backward(xp, case.network, parameters, Z, A, dZ)


def test_dense_against_differences(rng: np.random.Generator) -> None:
    """Of sum(dZ * Z), whose gradient by Z is dZ."""
    A, W, b = rng.standard_normal((4, 3)), rng.standard_normal((3, 5)), rng.standard_normal(5)
    dZ = rng.standard_normal((4, 5))

    def f() -> float:
        return float(np.sum(dZ * dense(np, A, W, b)))

    dW, db = dense_backward(np, dZ, A)
    assert_close(dW, differences(f, W), 1e-9)
    assert_close(db, differences(f, b), 1e-9)
    assert_close(dense_backward_input(np, dZ, W), differences(f, A), 1e-9)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_activation_against_differences(activation: str, rng: np.random.Generator) -> None:
    pair = ACTIVATIONS[activation]
    Z, dA = 3 * rng.standard_normal((40, 5)), rng.standard_normal((40, 5))
    while abs(Z).min() <= CORNER:
        Z = 3 * rng.standard_normal((40, 5))
    dZ = pair.backward(np, dA, Z, pair.forward(np, Z))
    assert_close(dZ, differences(lambda: float(np.sum(dA * pair.forward(np, Z))), Z), 1e-8)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
def test_loss_against_differences(weights: list[float], rng: np.random.Generator) -> None:
    m = len(weights)
    Z, Y = 2 * rng.standard_normal((m, 4)), np.eye(4)[rng.integers(0, 4, m)]
    shares = np.array(weights) / sum(weights)
    dZ = cross_entropy_backward(np, log_softmax(np, Z), Y, shares)

    def loss() -> float:
        return float(np.sum(shares * cross_entropy(np, log_softmax(np, Z), Y)))

    assert_close(dZ, differences(loss, Z), 1e-8)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_network_against_differences_and_autograd(
    activation: str, sizes: tuple[int, ...], weights: list[float], rng: np.random.Generator
) -> None:
    case = draw(rng, sizes, activation, weights)
    gradients = gradients_of(case, np, np.array)
    assert gradients.keys() == case.parameters.keys()
    loss, autograd = by_autograd(case)
    assert case.loss() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    for name, dW in gradients.items():
        assert_close(dW, differences(case.loss, case.parameters[name]), 1e-7)
        assert_close(dW, autograd[name], 1e-12)


def by_autograd(case: Case) -> tuple[float, dict[str, np.ndarray]]:
    """The same network in torch's own words, and the gradients that torch finds for it."""
    functions: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "relu": torch.nn.functional.relu,
        "tanh": torch.nn.functional.tanh,
        "sigmoid": torch.nn.functional.sigmoid,
        "identity": torch.nn.Identity(),
    }
    leaves = {name: torch.tensor(array, requires_grad=True) for name, array in case.parameters.items()}
    A = torch.tensor(case.X)
    for l in range(1, case.network.depth + 1):
        A = torch.nn.functional.linear(A, leaves[f"W{l}"].T, leaves[f"b{l}"])
        if l < case.network.depth:
            A = functions[case.network.activation](A)
    losses = torch.nn.functional.cross_entropy(A, torch.tensor(case.y), reduction="none")
    loss = (torch.tensor(case.shares) * losses).sum()
    loss.backward()
    found = {}
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        found[name] = leaf.grad.numpy()
    return float(loss.detach()), found


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_every_library_finds_the_gradients_that_numpy_finds(
    activation: str, backend: Backend, xp: Any, rng: np.random.Generator
) -> None:
    case = draw(rng, (3, 5, 4, 3), activation, WEIGHTS["weighted"])
    expected = gradients_of(case, np, np.array)
    found = gradients_of(case, xp, backend.asarray)
    assert found.keys() == expected.keys()
    for name, dW in found.items():
        assert_close(backend.to_numpy(dW), expected[name], 1e-12)


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_a_step_follows_the_slope_of_the_loss_that_it_reports(
    activation: str, rng: np.random.Generator
) -> None:
    """From outside: at a rate of 1, a plain step moves each parameter by its gradient. One row is padding."""
    case = draw(rng, (3, 5, 4), activation, [1.0] * 6)
    step = TrainingStep(np, case.network, SGD())
    data = {"X": case.X, "y": case.y, "classes": np.arange(4)}
    rows = np.array([0, 3, 1, 5, -1])

    def run() -> dict[str, np.ndarray]:
        start = {name: array.copy() for name, array in case.parameters.items()}
        counters = {"loss": np.zeros(1), "t": np.zeros(1, dtype=np.int32), "rates": np.ones(1)}
        return step(start | counters, rows, data)

    after = run()
    for name, W in case.parameters.items():
        moved = W - after[name]
        assert_close(moved, differences(lambda: float(run()["loss"][0]) / 4, W), 1e-7)
