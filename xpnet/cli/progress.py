"""Progress on standard error: lines that stay and, on a terminal, a last line that changes."""

import sys
import time

import click

from xpnet.cli.tables import columns, shown
from xpnet.training import History, Progress

MOST_LINES = 20
"""Lines of a run of more than twice as many epochs."""

BAR = 20
"""Characters of a full bar."""


def say(line: str) -> None:
    """Print a line that stays."""
    clear = "\r\x1b[2K" if sys.stderr.isatty() else ""
    click.echo(f"{clear}{line}", err=True)


def show(title: str, text: str) -> None:
    """Print a line that the next one replaces; on a terminal only."""
    if sys.stderr.isatty():
        line = f"{title}: {text}"
        click.echo(f"\r\x1b[2K{line[: columns(sys.stderr) - 1]}", err=True, nl=False)


class Lines(Progress):
    """Prints a line for each epoch, or for some of many, and moves a bar with every chunk on a terminal."""

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        """Remember the numbers of rows and epochs."""
        self.rows, self.epochs = rows, epochs
        self.every = -(-epochs // MOST_LINES) if epochs > 2 * MOST_LINES else 1
        self.done, self.since = 0, time.perf_counter()

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        """Move the bar."""
        self.done += rows
        share, speed = self.done / self.rows, self.done / (time.perf_counter() - self.since)
        bar = f"{'━' * round(BAR * share):<{BAR}} {100 * share:>3.0f} %"
        show(f"epoch {epoch}/{self.epochs}", f"{bar}  loss {shown('loss', loss)}  {speed:,.0f} rows/s")

    def on_epoch(self, history: History) -> None:
        """Print the epoch's line."""
        row = history.epochs[-1]
        self.done, self.since = 0, time.perf_counter()
        if row.epoch % self.every and row.epoch < self.epochs:
            return
        line = f"epoch {row.epoch:>{len(str(self.epochs))}}/{self.epochs}  loss {shown('loss', row.loss)}"
        found = {name.removeprefix("validation_"): name for name in row.metrics if name.startswith("v")}
        if found:
            values = [f"{short} {shown(short, row.metrics[name])}" for short, name in found.items()]
            line += f"  validation {'  '.join(values)}"
        say(f"{line}  {self.rows / row.seconds:,.0f} rows/s")
