"""Tables on standard output."""

import os
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from xpnet.model import MLP

PIPE = 120
"""Columns of a table in a file or a pipe, where no window sets a limit."""

HUGE = 1e6
"""Larger losses are written as powers of ten."""


def columns(stream: TextIO) -> int:
    """The number of characters that fit in a line of a stream."""
    if not stream.isatty():
        return PIPE
    try:
        found = int(os.environ["COLUMNS"])
    except (KeyError, ValueError):
        found = os.get_terminal_size(stream.fileno()).columns
    return found if found > 0 else 80


def printable(text: str) -> str:
    """Replace control characters, and halves of characters, by their escape sequences."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def lay_out(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: int = sys.maxsize) -> list[str]:
    """Arrange rows in columns, the ones from number `right` on flush right. No line is cut or folded."""
    cells = [[printable(cell) for cell in row] for row in ([header, *rows] if header else rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    pads = [str.ljust if i < right else str.rjust for i in range(len(widths))]
    return ["  ".join(pads[i](row[i], widths[i]) for i in range(len(row))).rstrip() for row in cells]


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: int = sys.maxsize) -> None:
    """Print rows in columns; see `lay_out`."""
    click.echo("\n".join(lay_out(rows, header, right)))


def print_title(text: str) -> None:
    """Print the title of a table after an empty line, on as many lines as it needs."""
    click.echo(f"\n{click.wrap_text(text, columns(sys.stdout))}")


def shown(metric: str, value: float) -> str:
    """Write the value of a metric: accuracies as percentages, errors in units of the targets by digits."""
    if metric == "accuracy":
        return f"{value:.2%}"
    return f"{value:.4g}" if metric == "rmse" else f"{value:.4f}" if abs(value) < HUGE else f"{value:.4e}"


def place(model: MLP) -> list[tuple[str, str]]:
    """Where and how a model computes. The precision is left out unless it is reduced."""
    backend = model.backend
    facts = [
        ("device", f"{backend.device}, {model.dtype}"),
        ("library", f"{backend.name} {backend.version()}"),
        ("execution", str(backend.execution)),
        ("precision", f"{backend.precision} matrix products"),
    ]
    processes = [("processes", str(backend.group.size))] if backend.group.size > 1 else []
    return processes + facts[: 3 if backend.precision == "float32" else 4]
