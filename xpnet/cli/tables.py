"""Tables on standard output."""

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

import click

from xpnet.model import MLP

PIPE = 120
"""Columns of a table in a file or a pipe, where no window sets a limit."""


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


def lay_out(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: int | None = None) -> list[str]:
    """Arrange rows in columns, the ones from number `right` on flush right. No line is cut or folded."""
    cells = [[printable(cell) for cell in row] for row in ([header, *rows] if header else rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [str.ljust if right is None or i < right else str.rjust for i in range(len(widths))]
    return [
        "  ".join(
            align(cell, width) for align, cell, width in zip(aligned, row, widths, strict=True)
        ).rstrip()
        for row in cells
    ]


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: int | None = None) -> None:
    """Print rows in columns; see `lay_out`."""
    click.echo("\n".join(lay_out(rows, header, right)))


def place(model: MLP) -> list[tuple[str, str]]:
    """Where and how a model computes, for a table. The precision is left out unless it is reduced."""
    backend = model.backend
    precision = (
        [("precision", f"{backend.precision} matrix products")] if backend.precision != "float32" else []
    )
    return [
        ("device", f"{backend.device}, {model.dtype}"),
        ("library", f"{backend.name} {backend.version()}"),
        ("execution", str(backend.execution)),
        *precision,
    ]


def place_json(model: MLP) -> dict[str, Any]:
    """Where and how a model computes, for JSON."""
    backend = model.backend
    return {
        "backend": backend.name,
        "library_version": backend.version(),
        "device": backend.device,
        "threads": backend.threads() if backend.device == "cpu" else None,
        "dtype": model.dtype,
        "precision": backend.precision,
        "execution": asdict(backend.execution),
    }
