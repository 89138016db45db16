"""How good a network is on rows that it was not taught."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xpnet.data.checks import check_memory
from xpnet.data.rows import batches
from xpnet.errors import DivergedError
from xpnet.model import MLP, input_scale
from xpnet.nn.step import EvaluationStep
from xpnet.nn.typing import Array, State
from xpnet.training.feed import Part, Streamed, bytes_held, make_feed
from xpnet.training.inputs import as_array, check_shapes

BATCH_SIZE = 1000
CHUNK = 1000
"""Batches that are counted on the device before the host adds them up: float32 counts exactly to 2^24."""


@dataclass(frozen=True)
class Evaluation:
    """What a network makes of some rows.

    Attributes
    ----------
    loss
        Mean cross-entropy, in nats.
    confusion : (classes, classes) int64
        [i, j] counts the rows of class i that were taken for class j.
    """

    loss: float
    confusion: np.ndarray

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.confusion.sum())

    @property
    def accuracy(self) -> float:
        """The share of rows whose most probable class is the true one, 0 to 1."""
        return float(np.trace(self.confusion)) / self.rows

    @property
    def accuracy_by_class(self) -> list[float | None]:
        """The same within every class; None for a class without rows."""
        counts = self.confusion.sum(axis=1)
        return [
            float(right) / int(count) if count else None
            for right, count in zip(np.diagonal(self.confusion), counts, strict=True)
        ]


def evaluate(model: MLP, X: Array, y: Array, *, memory: int | None = None) -> Evaluation:
    """Run a network over rows and compare with their labels.

    Parameters
    ----------
    X : (n, features)
        NumPy, or the network's own library.
    y : (n,)
    memory
        Bytes: NumPy rows that need more, mapped from a file as a rule, are streamed.

    Raises
    ------
    UsageError
        A memory under 1, or one for rows that are on a device already.
    XpnetError
        Rows or labels that do not fit the network.
    DivergedError
        The loss is not a finite number.
    """
    memory = check_memory(memory)
    with model.backend.running(model.dtype):
        X, y = as_array(X), as_array(y)
        # parts of any length will do, so no memory in which training fits is too little here
        feed = make_feed(model, X, y, memory=memory, batch_size=1, validation=0.0, seed=0)
        step = EvaluationStep(model.backend.xp, model.network, input_scale(model, feed.dtype))
        return evaluate_parts(model, step, model.parameters, feed.parts(None))


def check_evaluation(model: MLP, X: np.ndarray, y: np.ndarray, *, memory: int | None = None) -> None:
    """Find out early what `evaluate` would refuse, as far as that can be told without a look at the rows.

    Parameters
    ----------
    X, y, memory
        As for `evaluate`.

    Raises
    ------
    XpnetError
        Rows or labels that do not fit the network, or too little memory to stream them.
    """
    check_shapes(model, X, y)
    if memory is not None and bytes_held(model, X) > memory:
        Streamed.prepare(model, X, y, memory, 1, 0.0, 0)


def evaluate_parts(model: MLP, step: EvaluationStep, parameters: State, parts: Iterable[Part]) -> Evaluation:
    """Evaluate parameters on what a feed hands out. Within ``model.backend.running``."""
    backend, total = model.backend, 0.0
    confusion = np.zeros((model.classes, model.classes), dtype=np.int64)
    for data, rows in parts:
        index = batches(rows, min(BATCH_SIZE, len(rows)))
        for start in range(0, len(index), CHUNK):
            sums = {
                "loss": np.zeros(1, dtype=model.dtype),
                "confusion": np.zeros(confusion.shape, dtype=model.dtype),
            }
            state = backend.copy(parameters) | {name: backend.asarray(array) for name, array in sums.items()}
            state = backend.scan(step, state, backend.asarray(index[start : start + CHUNK]), data)
            total += float(backend.to_numpy(state["loss"])[0])
            confusion += backend.to_numpy(state["confusion"]).round().astype(np.int64)
    rows_seen = int(confusion.sum())
    loss = total / rows_seen
    if not np.isfinite(loss):
        raise DivergedError(
            f"the loss of {rows_seen} rows is {loss}: rows or weights are too large for {model.dtype}"
        )
    return Evaluation(loss, confusion)
