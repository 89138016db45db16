"""Evaluation: how good a network is on rows that it was not trained on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xpnet.arguments import instance, known_names
from xpnet.data.checks import check_memory
from xpnet.data.rows import batches
from xpnet.errors import DivergedError, XpnetError
from xpnet.model import MLP, input_scale, rows_at_once
from xpnet.nn.losses import LOSSES
from xpnet.nn.metrics import Kind
from xpnet.nn.step import EvaluationStep
from xpnet.nn.typing import State
from xpnet.training.feed import Part, bytes_held, make_feed
from xpnet.training.history import Measured
from xpnet.training.inputs import enter

BATCH_SIZE = 1000
BATCHES_AT_ONCE = 1000
"""Batches that are added up on the device before the host adds the sums: float32 is exact up to 2^24."""


@dataclass(frozen=True)
class Evaluation(Measured):
    """The results of a network on some rows.

    Each metric is an attribute as well: ``accuracy`` for classes, ``accuracy`` and ``f1`` for labels,
    ``rmse`` and ``r2`` for numbers. See ``nn.metrics``.

    Attributes
    ----------
    loss
        The mean loss, weighted by the rows. That of numbers is of scaled targets.
    rows
        The number of rows.
    metrics
        The metrics by name.
    totals
        The sums that the metrics come from.
    """

    loss: float
    rows: int
    metrics: Mapping[str, float]
    totals: Mapping[str, np.ndarray] = field(repr=False)

    @property
    def accuracy_by_class(self) -> list[float | None]:
        """The accuracy on the rows of every class; None for a class without rows. For classes alone."""
        pairs = zip(self.totals["right"].tolist(), self.totals["by_class"].tolist(), strict=True)
        return [right / rows if rows else None for right, rows in pairs]

    @property
    def confusion(self) -> np.ndarray:
        """The confusion table (classes, classes): at [i, j] the rows of class i predicted as class j.

        It is int64, or float64 where the rows had weights, which are added up. For classes alone.

        Raises
        ------
        XpnetError
            The table would have more than 64 MB.
        """
        if "confusion" not in self.totals:
            k = len(self.totals["by_class"])
            raise XpnetError(
                f"the confusion table of {k:,} classes would have {8 * k**2 // 10**6:,} MB, more than 64: "
                "use accuracy_by_class, or compare model.predict(X) with y"
            )
        table = self.totals["confusion"]
        return table if (table % 1).any() else table.astype(np.int64)


def evaluate(
    model: MLP, X: Any, y: Any, *, sample_weight: Any = None, memory: int | None = None, **unknown: Any
) -> Evaluation:
    """Run a network over rows and compare its outputs with their targets.

    Parameters
    ----------
    X : (n, features)
        Any array or frame on the host, or an array on the network's device.
    y : (n,) or (n, k)
        Targets: class numbers or names, labels 0 and 1, or numbers.
    sample_weight : (n,)
        Weights of the rows, 0 or more; default: 1.
    memory
        Bytes: NumPy rows that need more, usually mapped from a file, are streamed.

    Raises
    ------
    UsageError
        A keyword is unknown; `memory` is under 1, or given for rows that are on a device already.
    XpnetError
        Rows or targets do not fit the network.
    DivergedError
        The loss is not a finite number.
    """
    known_names(unknown, ("sample_weight", "memory"))
    instance("model", model, MLP, "an xpnet.MLP")
    memory = check_memory(memory)
    with model.backend.running(model.dtype):
        examples = enter(model, X, y, sample_weight)
        feed = make_feed(model, examples, memory)
        scale = input_scale(model, feed.sample().data["X"])
        step = EvaluationStep(model.backend.xp, model.network, LOSSES[model.loss], scale)
        return evaluate_parts(model, step, model.parameters, feed.parts(feed.training))


def check_evaluation(model: MLP, X: Any, y: Any, *, memory: int | None = None) -> None:
    """Raise early what `evaluate` would raise, as far as this is known without reading the rows.

    Parameters
    ----------
    X, y, memory
        As for `evaluate`; on the host.

    Raises
    ------
    XpnetError
        Rows or targets do not fit the network, or the memory is too little to stream them.
    """
    examples = enter(model, X, y)
    if memory is not None and bytes_held(model, examples.X) > memory:
        make_feed(model, examples, memory)


def evaluate_parts(model: MLP, step: EvaluationStep, parameters: State, parts: Iterable[Part]) -> Evaluation:
    """Evaluate parameters on the parts of a feed. Call it within ``model.backend.running``.

    The parts are those of this process; the result is that of all processes.
    """
    backend, kind, counts = model.backend, step.loss.kind, np.zeros(2)
    totals: dict[str, np.ndarray] = {"loss": np.zeros(1)} | kind.zeros(np, model.outputs)
    zeros = {name: np.zeros_like(total, model.dtype) for name, total in totals.items()}
    for data, order, weights, _ in parts:
        counts += len(order), len(order) if weights is None else weights[order].sum()
        index = batches(order, min(rows_at_once(model.network, BATCH_SIZE), len(order)))
        for start in range(0, len(index), BATCHES_AT_ONCE):
            batch = backend.asarray(index[start : start + BATCHES_AT_ONCE])
            state = backend.copy(parameters) | {name: backend.asarray(zero) for name, zero in zeros.items()}
            state = backend.scan(step, state, batch, data)
            for name, total in totals.items():
                total += backend.to_numpy(state[name])
    for total in (counts, *totals.values()):
        backend.group.sum(total)
    rows, weight = int(counts[0]), float(counts[1])
    if weight == 0:
        raise XpnetError("every row weighs 0: there is nothing to evaluate")
    loss = float(totals.pop("loss")[0]) / weight
    if not np.isfinite(loss):
        said = f"the loss of {rows:,} rows is {loss}"
        raise DivergedError(f"{said}: rows or weights are too large for {model.dtype}")
    totals |= {"weight": np.full(1, weight)}
    return Evaluation(loss, rows, kind.metrics(np, _in_units(model, totals)), totals)


def metric_names(kind: Kind, outputs: int) -> list[str]:
    """The names of what an evaluation measures."""
    return ["loss", *kind.metrics(np, kind.zeros(np, outputs) | {"weight": np.ones(1)})]


def _in_units(model: MLP, totals: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Bring the sums of scaled targets back to the units of the targets."""
    if model.targets is None:
        return totals
    std = model.targets.std
    powers = {"squares": std**2, "targets": std, "target_squares": std**2}
    return totals | {name: totals[name] * power for name, power in powers.items()}
