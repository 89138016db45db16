"""Tables on standard output."""

import sys
from collections.abc import Mapping, Sequence

import click

from xpnet.backends import Backend

WIDE = 10_000
"""Columns of a pipe, where there is no window to fit into."""


def print_table(rows: Sequence[Sequence[str]], header: Sequence[str] = (), right: int | None = None) -> None:
    """Print rows in columns; from column `right` on they are set flush right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD if header else None, show_header=bool(header), pad_edge=False)
    for i in range(len(rows[0])):
        flush_right = right is not None and i >= right
        table.add_column(
            header[i] if header else "",
            justify="right" if flush_right else "left",
            overflow="fold",
            no_wrap=i == 0,
        )
    for row in rows:
        table.add_row(*row)
    console = Console(markup=False, emoji=False, highlight=False, width=None if sys.stdout.isatty() else WIDE)
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().strip("\n").splitlines() if line.strip()))


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names with their values, a line each."""
    print_table(list(facts.items()))


def computing(backend: Backend) -> dict[str, str]:
    """Facts about how a library computes: its execution, and its precision where that is reduced."""
    facts = {"execution": str(backend.execution)}
    if backend.precision != "float32":
        facts["precision"] = f"{backend.precision} matrix products"
    return facts
