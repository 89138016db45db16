"""What a step takes, for a small network: data, a state and batches of row numbers, on the host."""

from typing import Any

import numpy as np
import pytest

from xpnet.backends import Backend
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD, Adam, Optimizer

Host = dict[str, np.ndarray]

NETWORK = Network((4, 5, 3))
OPTIMIZERS: dict[str, Optimizer] = {
    "sgd": SGD(),
    "momentum": SGD(momentum=0.9, weight_decay=0.01),
    "adam": Adam(weight_decay=0.01),
}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def move(backend: Backend, arrays: dict[str, Any]) -> dict[str, Any]:
    """Move host arrays, or nested lists, to the device of a backend."""
    return {name: backend.asarray(np.array(array)) for name, array in arrays.items()}


def fetch(backend: Backend, arrays: dict[str, Any]) -> Host:
    """Copy arrays to the host."""
    return {name: np.array(backend.to_numpy(array)) for name, array in arrays.items()}


def make_data(rng: np.random.Generator) -> Host:
    """Draw 17 rows of pixels with labels, as `TrainingStep` takes them with ``scale=255``."""
    return {
        "X": rng.integers(0, 256, (17, 4)).astype(np.uint8),
        "y": rng.integers(0, 3, 17).astype(np.int32),
        "classes": np.arange(3, dtype=np.int32),
    }


def make_state(rng: np.random.Generator, optimizer: Optimizer, dtype: str = "float64") -> Host:
    """Draw the state before the first of 400 training steps."""
    state = {name: 0.5 * rng.standard_normal(shape) for name, shape in NETWORK.shapes.items()}
    state |= optimizer.memory(np, state) | {"loss": np.zeros(1), "rates": np.linspace(0.2, 0.01, 400)}
    return {name: array.astype(dtype) for name, array in state.items()} | {"t": np.zeros(1, dtype=np.int32)}


def make_batches(rng: np.random.Generator, steps: int, m: int = 6) -> np.ndarray:
    """Draw the rows of some steps; half of the last batch is padding."""
    batches = rng.integers(0, 17, (steps, m)).astype(np.int32)
    batches[-1, m // 2 :] = -1
    return batches


def assert_same(found: Host, expected: Host, tolerance: float = 0.0) -> None:
    """Compare names, shapes, dtypes, and numbers relative to the largest of each array, or to 1."""
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].shape, found[name].dtype) == (array.shape, array.dtype), name
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance * max(abs(array).max(), 1.0))
