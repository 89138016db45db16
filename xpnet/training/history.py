"""What happened, epoch by epoch."""

import csv
import io
from dataclasses import asdict, dataclass, field, fields


@dataclass(frozen=True)
class Epoch:
    """One pass over the training rows.

    Attributes
    ----------
    epoch
        1 for the first.
    lr
        The learning rate of its last step.
    loss
        Mean cross-entropy over its rows, in nats, each taken as the network was when it saw the row.
    validation_loss, validation_accuracy
        Of the network at its end; None without validation rows.
    seconds
        In its training steps, without evaluation, checkpoints and compilation.
    """

    epoch: int
    lr: float
    loss: float
    validation_loss: float | None
    validation_accuracy: float | None
    seconds: float


@dataclass
class History:
    """The epochs of a run, and which one's weights it kept.

    Attributes
    ----------
    epochs
        In order.
    best
        The number of the epoch with the best validation accuracy, the first of equals, where the run had a
        `patience`; its weights are the ones kept. None otherwise: the last epoch's are.
    """

    epochs: list[Epoch] = field(default_factory=list)
    best: int | None = None

    @property
    def train_seconds(self) -> float:
        """Seconds in training steps, over all epochs."""
        return sum(row.seconds for row in self.epochs)

    def csv(self) -> str:
        """A table with a row for each epoch; empty cells where there was no validation."""
        text = io.StringIO()
        writer = csv.DictWriter(text, [f.name for f in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in self.epochs)
        return text.getvalue()
