"""What a step takes, for a small network: data, a state and batches of row numbers, on the host."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from xpnet.backends import Backend
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.step import EvaluationStep, TrainingStep

Host = dict[str, np.ndarray]

NETWORK = Network((4, 5, 3))
LOSS = LOSSES["cross-entropy"]
PLAIN = TrainingStep(np, NETWORK, LOSS, SGD(), 255.0)
STEPS = {
    "sgd": PLAIN,
    "momentum": replace(PLAIN, optimizer=SGD(momentum=0.9, weight_decay=0.01)),
    "adam": replace(PLAIN, optimizer=Adam(weight_decay=0.01)),
    # with weights and a penalty in its data, too
    "everything": replace(
        PLAIN, optimizer=Adam(weight_decay=0.01, decoupled=True), dropout=(0.1, 0.5), clip=0.5
    ),
}
"""Training steps of NumPy; ``replace(step, xp=xp)`` makes them another library's."""

EVALUATION = EvaluationStep(np, NETWORK, LOSS, 255.0)
each_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


def move(backend: Backend, arrays: dict[str, Any]) -> dict[str, Any]:
    """Move host arrays, or nested lists, to the device of a backend."""
    return {name: backend.asarray(np.array(array)) for name, array in arrays.items()}


def fetch(backend: Backend, arrays: dict[str, Any]) -> Host:
    """Copy arrays to the host."""
    return {name: np.array(backend.to_numpy(array)) for name, array in arrays.items()}


def make_data(rng: np.random.Generator, step: Any = PLAIN, dtype: str = "float64") -> Host:
    """Draw 17 rows of pixels with labels, as `TrainingStep` takes them with ``scale=255``."""
    data: Host = {
        "X": rng.integers(0, 256, (17, 4)).astype(np.uint8),
        "y": rng.integers(0, 3, 17).astype(np.int32),
        "classes": np.arange(3, dtype=np.int32),
    }
    if getattr(step, "dropout", ()):
        floats = {"weights": rng.integers(0, 3, 17) / 2, "penalty": np.full(1, 0.1)}
        data |= {name: array.astype(dtype) for name, array in floats.items()}
        data |= {"seed": np.full(1, 5, np.int32), "places": np.arange(12, dtype=np.int32)}
    return data


def make_state(rng: np.random.Generator, optimizer: Optimizer, dtype: str = "float64") -> Host:
    """Draw the state before the first of 400 training steps."""
    state = {name: 0.5 * rng.standard_normal(shape) for name, shape in NETWORK.shapes.items()}
    state |= optimizer.memory(np, state) | {"loss": np.zeros(1), "rates": np.linspace(0.2, 0.01, 400)}
    counters = {name: np.zeros(1, dtype=np.int32) for name in ("t", "step")}
    return {name: array.astype(dtype) for name, array in state.items()} | counters


def make_sums(state: Host) -> Host:
    """The parameters of a state with the sums of an evaluation, all zero."""
    sums = {"loss": np.zeros(1)} | LOSS.kind.zeros(np, NETWORK.sizes[-1])
    zeros = {name: zero.astype(state["W1"].dtype) for name, zero in sums.items()}
    return {name: state[name] for name in NETWORK.shapes} | zeros


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
