"""Evaluation: how good a network is on rows that it was not trained on."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from xpnet.arguments import instance
from xpnet.data.checks import check_memory
from xpnet.data.rows import batches
from xpnet.errors import DivergedError, XpnetError
from xpnet.model import MLP, input_scale, rows_at_once
from xpnet.nn.step import EvaluationStep
from xpnet.nn.typing import Array, State
from xpnet.training.feed import Part, Streamed, bytes_held, make_feed
from xpnet.training.inputs import as_array, check_shapes

BATCH_SIZE = 1000
BATCHES_AT_ONCE = 32
"""Batches that are evaluated on the device before the host counts their outcomes."""

LARGEST_TABLE = 2**26
"""Bytes of the largest confusion table: it has the square of the number of classes."""


@dataclass(frozen=True)
class Evaluation:
    """The results of a network on some rows.

    Attributes
    ----------
    loss
        Mean cross-entropy, in nats.
    right, by_class : (classes,) int64
        The number of rows of every class for which that class was predicted, and the number of all its rows.
    """

    loss: float
    right: np.ndarray
    by_class: np.ndarray
    _table: np.ndarray | None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.by_class.sum())

    @property
    def accuracy(self) -> float:
        """The share of rows for which their own class was predicted, 0 to 1."""
        return float(self.right.sum()) / self.rows

    @property
    def accuracy_by_class(self) -> list[float | None]:
        """The accuracy on the rows of every class; None for a class without rows."""
        pairs = zip(self.right.tolist(), self.by_class.tolist(), strict=True)
        return [right / rows if rows else None for right, rows in pairs]

    @property
    def confusion(self) -> np.ndarray:
        """The confusion table (classes, classes) int64: at [i, j] the rows of class i predicted as class j.

        Raises
        ------
        XpnetError
            The table would have more than 64 MB.
        """
        if self._table is None:
            table = f"the confusion table of {len(self.by_class):,} classes would have more than 64 MB"
            raise XpnetError(f"{table}: use accuracy_by_class, or compare model.predict(X) with y")
        return self._table


def evaluate(model: MLP, X: Array, y: Array, *, memory: int | None = None) -> Evaluation:
    """Run a network over rows and compare its predictions with their labels.

    Parameters
    ----------
    X : (n, features)
        NumPy, or the network's own library.
    y : (n,)
        Labels 0 … classes - 1, likewise.
    memory
        Bytes: NumPy rows that need more, usually mapped from a file, are streamed.

    Raises
    ------
    UsageError
        `memory` is under 1, or given for rows that are on a device already.
    XpnetError
        Rows or labels do not fit the network.
    DivergedError
        The loss is not a finite number.
    """
    instance("model", model, MLP, "an xpnet.MLP")
    memory = check_memory(memory)
    with model.backend.running(model.dtype):
        X, y = as_array("X", X), as_array("y", y)
        # parts of any length will do, so any memory that is enough for training is enough here
        feed = make_feed(model, X, y, memory, batch_size=1, validation=0.0, seed=0)
        scale = input_scale(model, feed.sample()[0]["X"])
        step = EvaluationStep(model.backend.xp, model.network, scale)
        return evaluate_parts(model, step, model.parameters, feed.parts(feed.training))


def check_evaluation(model: MLP, X: np.ndarray, y: np.ndarray, *, memory: int | None = None) -> None:
    """Raise early what `evaluate` would raise, as far as this is known without reading the rows.

    Parameters
    ----------
    X, y, memory
        As for `evaluate`.

    Raises
    ------
    XpnetError
        Rows or labels do not fit the network, or the memory is too little to stream them.
    """
    check_shapes(model, X, y)
    if memory is not None and bytes_held(model, X) > memory:
        Streamed.prepare(model, X, y, memory, 1, 0.0, 0)


def evaluate_parts(model: MLP, step: EvaluationStep, parameters: State, parts: Iterable[Part]) -> Evaluation:
    """Evaluate parameters on the parts of a feed. Call it within ``model.backend.running``."""
    backend, k, total = model.backend, model.classes, 0.0
    right, by_class = np.zeros(k, dtype=np.int64), np.zeros(k, dtype=np.int64)
    table = np.zeros((k, k), dtype=np.int64) if 8 * k**2 <= LARGEST_TABLE else None
    for data, order in parts:
        index = batches(order, min(rows_at_once(model.network, BATCH_SIZE), len(order)))
        for start in range(0, len(index), BATCHES_AT_ONCE):
            empty = np.full((BATCHES_AT_ONCE, index.shape[1]), -1, dtype=np.int32)
            sums = {"loss": np.zeros(1, dtype=model.dtype), "outcomes": empty}
            state = backend.copy(parameters) | {name: backend.asarray(array) for name, array in sums.items()}
            state = backend.scan(step, state, backend.asarray(index[start : start + BATCHES_AT_ONCE]), data)
            total += float(backend.to_numpy(state["loss"])[0])
            outcomes = backend.to_numpy(state["outcomes"])
            outcomes = outcomes[outcomes >= 0]
            truth, predicted = np.divmod(outcomes, k)
            by_class += np.bincount(truth, minlength=k)
            right += np.bincount(truth[truth == predicted], minlength=k)
            if table is not None:
                np.add.at(table.reshape(-1), outcomes, 1)
    loss = total / by_class.sum()
    if not np.isfinite(loss):
        rows = f"the loss of {by_class.sum():,} rows is {loss}"
        raise DivergedError(f"{rows}: rows or weights are too large for {model.dtype}")
    return Evaluation(float(loss), right, by_class, table)
