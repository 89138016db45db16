"""The epochs of a run."""

import csv
import io
from dataclasses import dataclass, field, fields

import numpy as np


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows.

    Attributes
    ----------
    epoch
        Its number: 1 for the first.
    lr
        The learning rate of its last step.
    loss
        Mean cross-entropy over its rows, in nats. The loss of a row is that of the network at the moment
        when the row was used.
    validation_loss, validation_accuracy
        Measured at the end of the epoch; None without validation rows.
    seconds
        Time spent in training steps, without evaluation, checkpoints and compilation.
    """

    epoch: int
    lr: float
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float


NAMES = tuple(column.name for column in fields(Epoch))


@dataclass
class History:
    """The epochs of a run, and which one's weights it kept.

    Attributes
    ----------
    epochs
        In order.
    best
        The number of the epoch with the best validation accuracy, the first of several, where the run had a
        `patience`: the weights of that epoch are kept. Otherwise None, and the weights of the last epoch are
        kept.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: int | None = None

    @property
    def train_seconds(self) -> float:
        """Seconds in training steps, over all epochs."""
        return sum(row.seconds for row in self.epochs)

    def csv(self) -> str:
        """Write a table with a row for each epoch. Without validation, cells are empty."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerows([NAMES, *(vars(row).values() for row in self.epochs)])
        return text.getvalue()

    def table(self) -> np.ndarray:
        """Write the epochs as an array (epochs, 6) of float64, or (epochs, 4) without validation."""
        values = (value for row in self.epochs for value in vars(row).values() if value is not None)
        return np.fromiter(values, np.float64).reshape(len(self.epochs), -1 if self.epochs else len(NAMES))

    @classmethod
    def of_table(cls, table: np.ndarray, best: int | None) -> "History":
        """Read what `table` wrote.

        Raises
        ------
        ValueError
            The array has another shape.
        """
        if table.ndim != 2 or table.shape[1] not in (len(NAMES), len(NAMES) - 2):
            raise ValueError(f"a history of shape {table.shape}")
        none = [None] * (len(NAMES) - table.shape[1])
        return cls([Epoch(int(row[0]), *row[1:3], *none, *row[3:]) for row in table.tolist()], best)
