"""`xpnet show`."""

import sys
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path

import click
import numpy as np

from xpnet.cli.tables import columns, print_table, print_title, printable, shown
from xpnet.page.story import Story, of_folder

HEIGHT, WIDTH, FEWEST = 8, 72, 8
"""Lines and columns of a chart, at most and at least."""

MARKS = "●○+x"
"""The marks of the lines of a chart."""

MOST = 10
"""Mistakes that are listed."""

HALVES = " ▀▄█"
"""Two pixels, one over the other: none, the upper one, the lower one, both."""


@click.command("show")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
def show(run: Path) -> None:
    """Show the curves of a run and its surest mistakes, as text.

    RUN is the folder of a run.
    """
    story = of_folder(run)
    facts, table = story.facts, np.array(story.facts["epochs"])
    print_table([(f"test {name}", shown(name, value)) for name, value in facts["result"].items()])
    score = "r2" if facts["kind"] == "numbers" else "accuracy"
    for end in ("loss", score) if len(table) else ():
        names = [name for name in facts["columns"] if name == end or name.endswith(f"_{end}")]
        lines = {name: table[:, facts["columns"].index(name)].tolist() for name in names}
        if lines:
            print_title(f"{end} by epoch, 1 to {table[-1, 0]:.0f}")
            click.echo("\n".join(chart(lines, columns(sys.stdout), end)))
    for note in facts["notes"]:
        print_title(printable(note))
    if "pool.A" in story.arrays:
        _print_mistakes(story)


def chart(lines: Mapping[str, Sequence[float]], width: int, metric: str) -> list[str]:
    """Draw lines over epochs as text, in at most `width` columns."""
    values = [value for line in lines.values() for value in line if isfinite(value)]
    low, high = min(values), max(values)
    labels = [shown(metric, value) for value in (high, low)]
    margin = max(map(len, labels)) + 2
    across = max(FEWEST, min(WIDTH, width - margin - 1))
    cells = np.full((HEIGHT, across), " ")
    for mark, line in reversed([*zip(MARKS, lines.values(), strict=False)]):
        at = np.linspace(0, len(line) - 1, across)
        for x, value in enumerate(np.interp(at, np.arange(len(line)), line).tolist()):
            if isfinite(value):
                cells[round((high - value) / ((high - low) or 1.0) * (HEIGHT - 1)), x] = mark
    left = [labels[0], *[""] * (HEIGHT - 2), labels[1]]
    rows = [f"{label:>{margin - 2}} │{''.join(row)}".rstrip() for label, row in zip(left, cells, strict=True)]
    return [*rows, "  ".join(f"{mark} {name}" for mark, name in zip(MARKS, lines, strict=False))]


def _print_mistakes(story: Story) -> None:
    facts, arrays, kind = story.facts, story.arrays, story.facts["kind"]
    A, T, names = arrays["pool.A"], arrays["pool.T"], facts["classes"]
    count, said = min(MOST, facts["mistakes"]), list[tuple[str, ...]]()
    if kind == "classes":
        header = ["test row", "true", "predicted", "probability"]
        said = [(names[int(T[i])], names[int(np.argmax(A[i]))], f"{A[i].max():.2%}") for i in range(count)]
    elif kind == "labels":
        header, worst = ["test row", "label", "true", "probability"], np.argmax(np.abs(A - T), axis=1)
        said = [(names[j], f"{T[i, j]:g}", f"{A[i, j]:.2%}") for i, j in enumerate(worst[:count].tolist())]
    else:
        header = ["test row", "true", "predicted"]
        said = [tuple(" ".join(f"{x:.6g}" for x in row) for row in (T[i], A[i])) for i in range(count)]
    of = (
        "the largest errors" if kind == "numbers" else f"{facts['mistakes']:,} of {facts['rows']:,} test rows"
    )
    print_title(of if kind == "numbers" else f"{of} are wrong{'; the surest mistakes:' if count else ''}")
    if count:
        print_table([[f"{arrays['pool.row'][i]:,}", *said[i]] for i in range(count)], header, 0)
    if facts["image"] and count:
        _print_pictures(story, count)


def _print_pictures(story: Story, count: int) -> None:
    """Print as many pictures side by side as fit, if the output has the characters for them."""
    h, w, depth = story.facts["image"]
    try:
        HALVES.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return
    fit = min(count, (columns(sys.stdout) + 2) // (w + 2), 4)
    X = story.arrays["pool.X"][:fit].astype(np.float64).reshape(-1, h, w, depth).mean(axis=3)
    low, high = X.min(initial=np.inf), X.max(initial=-np.inf)
    ink = np.pad(X - low > (high - low) / 2, ((0, 0), (0, h % 2), (0, 0)))
    ink = ink[:, : -(-int(np.flatnonzero(ink.any(axis=(0, 2))).max(initial=0) + 1) // 2) * 2]
    halves = ink[:, ::2] + 2 * ink[:, 1::2]
    pictures = [["".join(HALVES[k] for k in row) for row in picture] for picture in halves]
    click.echo(
        "\n" + "\n".join("  ".join(row).rstrip() for row in zip(*pictures, strict=True)) if fit else ""
    )
