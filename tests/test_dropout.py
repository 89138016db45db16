"""Dropout: the same masks on every library, their rate, and the gradient of a network with masks."""

from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from tests.oracles import assert_close, differences, draw_step, each_dtype, network_by_torch, on, scanned
from tests.states import Host, assert_same
from tests.test_random import NUMPY, SIGMAS, draw, words
from xpnet.backends import Backend
from xpnet.nn.dropout import dropout_masks
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network, backward, forward
from xpnet.nn.optimizers import SGD
from xpnet.nn.step import TrainingStep

NAME = "squared-error"
SQUARED = LOSSES[NAME]


def masks(xp: Any, rates: Any, sizes: Any, m: int, dtype: Any, key: Any, places: Any) -> Any:
    return dropout_masks(xp, rates, sizes, key, places, m, dtype)


def masks_of(
    backend: Backend, rates: Any, sizes: Any = (512, 512), m: int = 128, dtype: str = "float64", **key: int
) -> dict[int, np.ndarray]:
    given = {"key": words(key.get("seed", 7), key.get("step", 1)), "places": np.arange(2**14, dtype=np.int32)}
    found: dict[int, np.ndarray] = on(backend, masks, rates, sizes, m, backend.dtype(dtype), **given)
    return found


@each_dtype
@pytest.mark.parametrize("rate", [0.1, 0.5, 1 - 1e-6])
def test_a_unit_is_left_out_by_its_draw(rate: float, dtype: str, backend: Backend) -> None:
    """So the masks are the same everywhere. What stays is divided by the probability to stay, never by 0."""
    found = masks_of(backend, (0.0, rate, 0.0), (8, 512, 8), dtype=dtype)
    assert list(found) == [1], "there is no mask where the rate is 0"
    kept = max(round((1 - rate) * 2**16), 1)
    expected = np.where(draw(backend, stream=1) < kept, 2**16 / kept, 0.0).astype(dtype)
    np.testing.assert_array_equal(found[1], expected, strict=True)
    stays = kept / 2**16
    assert abs(np.mean(expected > 0) - stays) < SIGMAS * (stays * (1 - stays) / expected.size) ** 0.5


def test_masks_depend_on_seed_step_and_layer() -> None:
    """Of two independent masks at a rate of 1/2, half of all units differ."""
    one, other = masks_of(NUMPY, (0.5, 0.5)).values()
    seed, step = masks_of(NUMPY, (0.5,), seed=-7)[0], masks_of(NUMPY, (0.5,), step=2)[0]
    for mask in (other, seed, step):
        assert abs(np.mean(one != mask) - 0.5) < SIGMAS * 0.5 / one.size**0.5
    np.testing.assert_array_equal(masks_of(NUMPY, (0.5,))[0], one)


def gradients(xp: Any, network: Network, masks: Any, parameters: Any, X: Any, T: Any, shares: Any) -> Any:
    """The gradient of the weighted squared error."""
    computed = forward(xp, network, parameters, X, masks)
    dZ = SQUARED.backward(xp, computed.Z[network.depth], T, shares[:, None])
    return backward(xp, network, parameters, computed, dZ)


@pytest.mark.parametrize("activation", [("relu", "tanh"), ("tanh", "sigmoid"), ("sigmoid", "relu")])
def test_gradient_with_masks(activation: tuple[str, str], backend: Backend, rng: Generator) -> None:
    """Input and both hidden layers have masks: against differences and the autograd of PyTorch."""
    network = Network((6, 8, 7, 3), activation)
    parameters: Host = {name: rng.standard_normal(shape) for name, shape in network.shapes.items()}
    X, T, shares = rng.standard_normal((5, 6)), rng.standard_normal((5, 3)), rng.dirichlet(np.ones(5))
    drawn = masks_of(backend, (0.2, 0.5, 0.4), network.sizes, 5)
    assert all(0 < np.mean(mask == 0) < 1 for mask in drawn.values())
    assert all(abs(Z).min() > 1e-4 for Z in forward(np, network, parameters, X, drawn).Z.values()), "a corner"

    def loss() -> float:
        return float(shares @ SQUARED.forward(np, forward(np, network, parameters, X, drawn).Z[3], T)[0])

    given: Any = {"masks": drawn, "parameters": parameters, "X": X, "T": T, "shares": shares}
    found, theirs = on(backend, gradients, network, **given), network_by_torch(network, NAME, **given)[1]
    for name, W in parameters.items():
        assert_close(found[name], theirs[name], 1e-12)
        assert_close(found[name], differences(loss, W), 1e-7)


def test_a_scan_of_steps_draws_its_masks_by_seed_and_step(backend: Backend, rng: Generator) -> None:
    """Two chunks, between which `t` starts again and `step` goes on; by torch and with masks drawn above."""
    network = Network((4, 5, 3), "tanh")
    data, state = draw_step(rng, NAME, network, SGD())
    given = data | {"seed": np.full(1, 99, np.int32), "places": np.arange(12, dtype=np.int32)}
    expected = {name: state[name] for name in network.shapes}
    step = TrainingStep(backend.xp, network, SQUARED, SGD(), dropout=(0.0, 0.5))
    for i, rows in enumerate(rng.integers(-1, 17, (2, 3, 6)).astype(np.int32)):
        state["t"] = np.zeros(1, np.int32)
        state = scanned(backend, step, state, rows, given)
        for j, batch in enumerate(rows):
            drawn = masks_of(NUMPY, (0.0, 0.5), network.sizes, 6, seed=99, step=3 * i + j)
            shares = (batch >= 0) / np.sum(batch >= 0)
            taken = {"X": data["X"][batch], "T": data["y"][batch], "shares": shares, "masks": drawn}
            _, slopes = network_by_torch(network, NAME, expected, **taken)
            expected = {name: W - 0.1 * slopes[name] for name, W in expected.items()}
    assert_same({name: state[name] for name in network.shapes}, expected, 1e-12)
    assert (state["step"].tolist(), state["t"].tolist()) == ([6], [3])
