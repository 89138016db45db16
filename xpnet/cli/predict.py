"""`xpnet predict`."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any

import click
import numpy as np

from xpnet.backends import get_backend
from xpnet.cli import streams
from xpnet.cli.folder import model_of
from xpnet.cli.options import JSON, PLACE, Command, option
from xpnet.cli.tables import printable
from xpnet.data.idx import read_idx
from xpnet.data.mapped import pieces
from xpnet.data.npy import map_npy
from xpnet.errors import UsageError, XpnetError
from xpnet.model import MLP, load

NUMBERS_AT_ONCE = 2**22
"""Numbers that are read at a time, or answered."""

GROUPS = {
    "Output": (
        option("--top", "Classes to name, the most probable first.", click.IntRange(1), 1, metavar="N"),
        JSON,
        option("--csv as_csv", "Print CSV, for a program.", is_flag=True),
    ),
    "Where and how to compute": PLACE,
}

Quote = Callable[[Any], str]


@click.command(cls=Command, groups=GROUPS)
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT…", nargs=-1, required=True)
def predict(path: Path, inputs: tuple[str, ...], top: int, as_json: bool, as_csv: bool, **where: Any) -> None:
    """Ask a trained network about new rows.

    MODEL is a file model.safetensors, or the folder of a run. INPUT is an array: .npy, .npz or IDX. The
    answer to every row is a line: the name of the row, then the class and its probability, the labels that
    hold with theirs, or the numbers.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv: choose one")
    model = load(model_of(path), backend=get_backend(**where))
    if top > 1 and (model.kind != "classes" or top > model.outputs):
        have = f"{model.outputs} classes" if model.kind == "classes" else model.kind
        raise XpnetError(f"--top {top}: this network answers with {have}")
    answers = Answers(model, top, "json" if as_json else "csv" if as_csv else "text")
    sys.stdout.write(answers.header)
    for source in inputs:
        for names, first, X in _rows(source, model, answers.quote):
            try:
                sys.stdout.write(answers.lines(names, first, X))
            except XpnetError as error:
                raise XpnetError(f"{source}: {error}") from error
            if streams.flush_output():  # nobody reads on
                return


def _rows(source: str, model: MLP, quote: Quote) -> Iterator[tuple[Iterable[str], int, np.ndarray]]:
    """The rows of an input, some at a time, with the names of the rows."""
    array, features = _array(Path(source)), model.network.sizes[0]
    several = array.ndim > 1 and prod(array.shape[1:]) == features
    alone = not several and array.size == features
    array = array.reshape(1 if alone or array.ndim < 2 else len(array), -1)
    name = quote(source.replace("%", "%%") + ":%d")
    start = 0
    for X in pieces(array, max(1, NUMBERS_AT_ONCE // max(model.network.sizes))):
        yield map(name.__mod__, range(start, start + len(X))), start, X
        start += len(X)


def _array(path: Path) -> np.ndarray:
    return map_npy(path) if path.suffix == ".npy" else read_idx(path)


def _csv(value: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([value])
    return text.getvalue()


def _text(value: Any) -> str:
    return printable(str(value))


QUOTES: dict[str, Quote] = {"json": json.dumps, "csv": _csv, "text": _text}
"""How each style writes a name."""


class Answers:
    """Writes the answers of a network as lines: a template for the cells of a row.

    Attributes
    ----------
    header
        The line above them, if there is one.
    quote
        Writes a name as the style has it.
    """

    def __init__(self, model: MLP, top: int, style: str) -> None:
        self.model, self.top, self.style, self.quote = model, top, style, QUOTES[style]
        self.names = [self.quote(name) for name in model.class_names or range(model.outputs)]
        digits = "%.15g" if model.dtype == "float64" and model.kind == "numbers" else "%.7g"
        forms: dict[str, Callable[[str], tuple[str, str, str, str]]] = {
            "classes": self._classes,
            "labels": self._labels,
            "numbers": self._numbers,
        }
        header, as_csv, as_json, text = forms[model.kind](digits)
        self.header = f"input,{header}\n" if style == "csv" else ""
        self.template = {
            "csv": f"%s,{as_csv}\n",
            "json": f'{{"input": %s, {as_json}}}\n',
            "text": f"%s  {text}\n",
        }[style]

    def _classes(self, digits: str) -> tuple[str, str, str, str]:
        header = ["label,probability", *(f"label{i},probability{i}" for i in range(2, self.top + 1))]
        pair = f'"label": %s, "probability": {digits}'
        best = ", ".join([f"{{{pair}}}"] * self.top)
        cells = ",".join([f"%s,{digits}"] * self.top)
        return ",".join(header), cells, f'{pair}, "top": [{best}]', "  ".join(["%s %.2f%%"] * self.top)

    def _labels(self, digits: str) -> tuple[str, str, str, str]:
        cells = ",".join([digits] * len(self.names))
        keys = [json.dumps(str(name)).replace("%", "%%") for name in self.model.class_names or self.names]
        pairs = ", ".join(f"{key}: {digits}" for key in keys)
        return ",".join(self.names), cells, f'"labels": [%s], "probabilities": {{{pairs}}}', "%s"

    def _numbers(self, digits: str) -> tuple[str, str, str, str]:
        k = self.model.outputs
        header = ["number"] if k == 1 else [f"number{i}" for i in range(k)]
        numbers = [digits] * k
        return ",".join(header), ",".join(numbers), f'"numbers": [{", ".join(numbers)}]', "  ".join(numbers)

    def lines(self, names: Iterable[str], first: int, X: np.ndarray) -> str:
        """The answers to rows, a line for each. `first` is the number of the first row, for messages.

        Raises
        ------
        XpnetError
            The rows do not fit the network, or one has no answer.
        """
        model = self.model
        logits = model.logits(X)
        Z, A = (model.backend.to_numpy(array) for array in (logits, model.output(logits)))
        sound = np.isfinite(Z).all(axis=1) & np.isfinite(A).all(axis=1)
        if not sound.all():
            row = f"row {first + int(np.argmin(sound)):,}, counted from 0, has no answer"
            raise XpnetError(f"{row}: it holds NaN, infinity or a number too large for {model.dtype}")
        cells: list[Iterable[Any]] = [names]
        if model.kind == "classes":
            pairs = self._best(Z, A)
            cells += [*pairs[: 2 if self.style == "json" else 0], *pairs]
        elif model.kind == "labels" and self.style != "csv":
            cells.append(map(self._held, A))
        if model.kind == "numbers" or (model.kind == "labels" and self.style != "text"):
            cells += A.T.tolist()
        return "".join(map(self.template.__mod__, zip(*cells, strict=True)))

    def _best(self, Z: np.ndarray, A: np.ndarray) -> list[list[Any]]:
        """The names and the probabilities of the most probable classes, one column behind the other."""
        best = np.argmax(Z, axis=1)[:, None] if self.top == 1 else np.argsort(-Z, axis=1, kind="stable")
        shares = np.take_along_axis(A, best, axis=1) * (100 if self.style == "text" else 1)
        columns: list[list[Any]] = []
        for j in range(self.top):
            columns += [[self.names[i] for i in best[:, j].tolist()], shares[:, j].tolist()]
        return columns

    def _held(self, probabilities: np.ndarray) -> str:
        """The labels of a row that hold."""
        held = np.flatnonzero(probabilities > 0.5)
        if self.style == "json":
            return ", ".join(self.names[i] for i in held)
        return "  ".join(f"{self.names[i]} {probabilities[i]:.2%}" for i in held) or "-"
