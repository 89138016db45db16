"""Gradients against central differences, against the autograd of PyTorch and JAX."""

from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from tests.oracles import assert_close, differences, network_by_jax, network_by_torch
from tests.states import LOSS
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.network import Network, backward, forward

CORNER = 1e-3
"""How far the input of every relu stays from zero. A difference across zero would mix two slopes."""

SIZES = {
    "none hidden": (3, 4),
    "one hidden": (3, 5, 4),
    "two hidden": (3, 5, 5, 3),
    "four hidden": (2, 4, 3, 4, 3, 3),
    "one unit in every layer but the last": (1, 1, 1, 2),
    "one class, which is always right": (3, 2, 1),
}
WEIGHTS = {
    "rows alike": [1.0] * 6,
    "one row": [1.0],
    "weighted": [0.5, 2.0, 0.0, 1.0, 3.0, 0.0],
}


class Case:
    """A network, its parameters, and a batch, drawn again while a relu is near its corner."""

    def __init__(self, rng: np.random.Generator, network: Network, weights: list[float]) -> None:
        self.network, m = network, len(weights)
        self.shares = np.array(weights) / sum(weights)
        self.Y = np.eye(network.sizes[-1])[rng.integers(0, network.sizes[-1], m)]
        while True:
            self.parameters = {name: rng.standard_normal(shape) for name, shape in network.shapes.items()}
            self.X = rng.standard_normal((m, network.sizes[0]))
            Z = forward(np, network, self.parameters, self.X).Z
            if network.activation != "relu" or all(abs(Z[l]).min() > CORNER for l in range(1, network.depth)):
                break

    def loss(self) -> float:
        """The weighted mean that is reported."""
        Z = forward(np, self.network, self.parameters, self.X).Z
        return float(self.shares @ LOSS.forward(np, Z[self.network.depth], self.Y)[0])

    def gradients(self) -> dict[str, np.ndarray]:
        """What our backpropagation finds."""
        computed = forward(np, self.network, self.parameters, self.X)
        dZ = LOSS.backward(np, LOSS.output(np, computed.Z[self.network.depth]), self.Y, self.shares[:, None])
        return backward(np, self.network, self.parameters, computed, dZ)


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_network_against_differences(
    activation: str, sizes: tuple[int, ...], weights: list[float], rng: np.random.Generator
) -> None:
    case = Case(rng, Network(sizes, activation), weights)
    found = case.gradients()
    assert found.keys() == case.parameters.keys()
    for name, dW in found.items():
        assert_close(dW, differences(case.loss, case.parameters[name]), 1e-7)


cases = st.builds(
    lambda sizes, activation, weights, seed: Case(
        np.random.default_rng(seed), Network(tuple(sizes), activation), [1.0, *weights]
    ),
    st.lists(st.sampled_from([1, 2, 5, 9]), min_size=2, max_size=5),
    st.sampled_from(sorted(ACTIVATIONS)),
    st.lists(st.floats(0.0, 3.0), min_size=0, max_size=8),
    st.integers(0, 2**32 - 1),
)
fixed = hypothesis.settings(max_examples=60, deadline=None, derandomize=True)


def check(case: Case, theirs: Callable[..., Any]) -> None:
    given = {"X": case.X, "T": case.Y, "shares": case.shares}
    loss, gradients = theirs(case.network, "cross-entropy", case.parameters, **given)
    assert case.loss() == pytest.approx(loss, rel=1e-12, abs=1e-14)
    for name, dW in case.gradients().items():
        assert_close(dW, gradients[name], 1e-11)


@fixed
@hypothesis.given(cases)
def test_gradients_are_those_of_torch(case: Case) -> None:
    check(case, network_by_torch)


@pytest.mark.slow
@hypothesis.settings(fixed, max_examples=5)  # JAX compiles every new shape
@hypothesis.given(cases)
def test_gradients_are_those_of_jax(case: Case) -> None:
    check(case, network_by_jax)
