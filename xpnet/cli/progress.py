"""What a person sees while a network learns: a bar on a terminal, plain lines in a pipe."""

import time
from contextlib import AbstractContextManager, nullcontext

import click

from xpnet.training import History, Progress


def epoch_line(history: History, epochs: int, rows: int) -> str:
    """The last epoch in one line."""
    row = history.epochs[-1]
    line = f"epoch {row.epoch:>{len(str(epochs))}}/{epochs}  loss {row.loss:.4f}"
    if row.validation_accuracy is not None:
        line += f"  validation loss {row.validation_loss:.4f}  accuracy {row.validation_accuracy:.2%}"
    return f"{line}  {rows / row.seconds:,.0f} rows/s"


class Lines(Progress):
    """A line on standard error for each epoch."""

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        """Remember the sizes."""
        self.rows, self.epochs = rows, epochs

    def on_epoch(self, history: History) -> None:
        """Print the line."""
        click.echo(epoch_line(history, self.epochs, self.rows), err=True)

    def showing(self) -> AbstractContextManager[object]:
        """Nothing to open or close."""
        return nullcontext()


class Bar(Lines):
    """The same lines, and beneath them a bar that moves with every chunk."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        self.bar = RichProgress(
            TextColumn("epoch {task.fields[epoch]}/{task.fields[epochs]}"),
            BarColumn(),
            TextColumn(
                "{task.percentage:>3.0f} %  loss {task.fields[loss]}  {task.fields[speed]:,.0f} rows/s"
            ),
            console=Console(stderr=True, highlight=False),
            transient=True,
        )

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        """Add the bar."""
        super().on_start(history, rows, epochs)
        done = len(history.epochs)
        self.task = self.bar.add_task(
            "", total=rows, epoch=min(done + 1, epochs), epochs=epochs, loss="…", speed=0.0
        )
        self.done, self.since = 0, time.perf_counter()

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        """Move the bar."""
        self.done += rows
        speed = self.done / (time.perf_counter() - self.since)
        self.bar.update(self.task, completed=self.done, epoch=epoch, loss=f"{loss:.4f}", speed=speed)

    def on_epoch(self, history: History) -> None:
        """Print the epoch's line above the bar, and begin the next."""
        self.bar.console.print(epoch_line(history, self.epochs, self.rows))
        self.done, self.since = 0, time.perf_counter()

    def showing(self) -> AbstractContextManager[object]:
        """Show the bar within the block."""
        return self.bar


class Silence(Lines):
    """Nothing at all."""

    def on_epoch(self, history: History) -> None:
        """Say nothing."""
