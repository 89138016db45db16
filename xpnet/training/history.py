"""The epochs of a run."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xpnet.training.checkpoint import Standing


class Measured:
    """Something with metrics by name, each of which is an attribute too."""

    metrics: Mapping[str, float]

    def __getattr__(self, name: str) -> float:
        metrics = self.__dict__.get("metrics", {})
        if name in metrics:
            return float(metrics[name])
        known = ", ".join(metrics) or "no metrics, because nothing was validated"
        raise AttributeError(f"{type(self).__name__} has no {name}; it has {known}")


@dataclass(frozen=True)
class Epoch(Measured):
    """One pass over the training rows.

    Each metric is an attribute as well: ``validation_loss``, ``validation_accuracy``, …

    Attributes
    ----------
    epoch
        Its number: 1 for the first.
    lr
        The learning rate of its last step.
    loss
        The mean loss over its rows. The loss of a row is that of the network at the moment when the row was
        used.
    metrics
        Measured at the end of the epoch, on the validation rows and, if asked for, on the training rows; by
        name.
    seconds
        Time spent in training steps, without evaluation, checkpoints and compilation.
    """

    epoch: int
    lr: float
    loss: float
    metrics: Mapping[str, float]
    seconds: float

    @property
    def row(self) -> dict[str, Any]:
        """All numbers by name, in the order of the table."""
        named = {"epoch": self.epoch, "lr": self.lr, "loss": self.loss, **self.metrics}
        return named | {"seconds": self.seconds}


@dataclass
class History:
    """The epochs of a run, and which one's weights it kept.

    Attributes
    ----------
    epochs
        In order.
    best
        The number of the epoch with the best monitored metric, the first of several, where the run had a
        `patience`: the weights of that epoch are kept. Otherwise None, and the weights of the last epoch are
        kept.
    standing
        Everything that another call of `xpnet.train` needs to go on from the last epoch, as its ``start``:
        the parameters, the optimizer's memory and the place in the order of the rows. On the device.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: int | None = None
    standing: "Standing | None" = field(default=None, repr=False, compare=False)

    @property
    def train_seconds(self) -> float:
        """Seconds in training steps, over all epochs."""
        return sum(row.seconds for row in self.epochs)

    @property
    def columns(self) -> list[str]:
        """The names of the columns of the table."""
        return list(self.epochs[0].row) if self.epochs else []

    def csv(self) -> str:
        """Write a table with a row for each epoch."""
        rows = [self.columns, *(epoch.row.values() for epoch in self.epochs)]
        return "".join(f"{','.join(map(str, row))}\n" for row in rows)  # names and numbers need no quotes

    def table(self) -> np.ndarray:
        """Write the epochs as an array (epochs, columns) of float64."""
        rows = [list(epoch.row.values()) for epoch in self.epochs]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(self.columns))

    @classmethod
    def of_table(cls, table: np.ndarray, columns: list[str], best: int | None) -> "History":
        """Read what `table` wrote.

        Raises
        ------
        ValueError, KeyError
            The array has another shape than its columns say, or lacks a column.
        """
        if table.ndim != 2 or table.shape[1] != len(columns):
            raise ValueError(f"a history of shape {table.shape} for columns {columns}")
        epochs = []
        for numbers in table.tolist():
            row = dict(zip(columns, numbers, strict=True))
            number, lr, loss, seconds = (row.pop(name) for name in ("epoch", "lr", "loss", "seconds"))
            epochs.append(Epoch(int(number), lr, loss, row, seconds))
        return cls(epochs, best)
