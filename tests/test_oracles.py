"""Independent oracles: random networks against the automatic differentiation of PyTorch and of JAX."""

from typing import Any

import hypothesis
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from array_api_compat import numpy as xp

from xpnet.nn.loss import cross_entropy, cross_entropy_backward, log_softmax
from xpnet.nn.network import Network, backward, forward
from xpnet.parity.gates import relative_error

CORNER = 1e-5

TORCH = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "identity": lambda Z: Z}
JAX = {"relu": jax.nn.relu, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "identity": lambda Z: Z}

networks = st.builds(
    Network,
    st.lists(st.integers(1, 12), min_size=2, max_size=5).map(tuple),
    st.sampled_from(sorted(TORCH)),
)
batches = st.tuples(networks, st.integers(1, 9), st.integers(0, 2**32 - 1))

quiet = hypothesis.settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)


class Batch:
    """A random network, its parameters, and m rows with labels and weights that add up to one."""

    def __init__(self, network: Network, m: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.network = network
        self.parameters = {
            name: rng.standard_normal(shape) / np.sqrt(shape[0]) for name, shape in network.shapes.items()
        }
        self.X = rng.standard_normal((m, network.sizes[0]))
        self.y = rng.integers(0, network.sizes[-1], m)
        self.Y = np.eye(network.sizes[-1])[self.y]
        weights = rng.uniform(0.1, 1, m)
        self.weights = weights / weights.sum()

    def ours(self) -> tuple[float, dict[str, np.ndarray]]:
        """Loss and gradients by hand. A relu input near its corner is drawn again, not forgiven."""
        Z, A = forward(xp, self.network, self.parameters, self.X)
        if self.network.activation == "relu":
            hypothesis.assume(all(np.abs(Z[layer]).min() > CORNER for layer in range(1, self.network.depth)))
        log_A = log_softmax(xp, Z[self.network.depth])
        loss = float(np.sum(self.weights * cross_entropy(xp, log_A, self.Y)))
        dZ = cross_entropy_backward(xp, log_A, self.Y, self.weights)
        return loss, backward(xp, self.network, self.parameters, Z, A, dZ)

    def logits(self, f: Any, parameters: dict[str, Any], X: Any) -> Any:
        """The same network, written with another library's operators."""
        for layer in range(1, self.network.depth + 1):
            X = X @ parameters[f"W{layer}"] + parameters[f"b{layer}"]
            X = f(X) if layer < self.network.depth else X
        return X


@quiet
@hypothesis.given(batches)
def test_gradients_are_those_of_torch(drawn: tuple[Network, int, int]) -> None:
    batch = Batch(*drawn)
    loss, gradients = batch.ours()

    parameters = {name: torch.tensor(a, requires_grad=True) for name, a in batch.parameters.items()}
    logits = batch.logits(TORCH[batch.network.activation], parameters, torch.tensor(batch.X))
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(batch.y), reduction="none")
    theirs = (torch.tensor(batch.weights) * losses).sum()
    theirs.backward()

    assert loss == pytest.approx(theirs.item(), rel=1e-12, abs=1e-14)
    for name, dW in gradients.items():
        grad = parameters[name].grad
        assert grad is not None
        assert relative_error(dW, grad.numpy()) < 1e-11, name


@hypothesis.settings(quiet, max_examples=20)  # JAX compiles every new shape
@hypothesis.given(batches)
def test_gradients_are_those_of_jax(drawn: tuple[Network, int, int]) -> None:
    batch = Batch(*drawn)
    loss, gradients = batch.ours()

    def objective(parameters: dict[str, Any]) -> Any:
        logits = batch.logits(JAX[batch.network.activation], parameters, batch.X)
        log_A = jax.nn.log_softmax(logits)
        return -jnp.sum(batch.weights * jnp.take_along_axis(log_A, batch.y[:, None], axis=1)[:, 0])

    with jax.enable_x64(True):
        theirs, expected = jax.value_and_grad(objective)(
            {name: jnp.asarray(array) for name, array in batch.parameters.items()}
        )
        assert loss == pytest.approx(float(theirs), rel=1e-12, abs=1e-14)
        for name, dW in gradients.items():
            assert relative_error(dW, np.asarray(expected[name])) < 1e-11, name
