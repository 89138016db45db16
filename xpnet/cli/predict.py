"""`xpnet predict`."""

import csv
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import chain, islice
from math import isqrt, prod
from pathlib import Path
from shutil import copyfileobj, rmtree
from typing import Any, TypeAlias

import click
import numpy as np

from xpnet.backends import joined
from xpnet.cli import signals, streams
from xpnet.cli.options import JSON, PLACE, Command, backend_of, option
from xpnet.cli.tables import printable
from xpnet.data import Form
from xpnet.data.checks import check_finite
from xpnet.data.idx import read_idx
from xpnet.data.images import files_in, read_image
from xpnet.data.mapped import pieces
from xpnet.data.npy import map_npy, read_npz
from xpnet.data.tables import FIRST, Table
from xpnet.data.tables import SUFFIXES as TABLES
from xpnet.errors import UsageError, XpnetError
from xpnet.files import opened
from xpnet.model import MLP, load
from xpnet.runs import model_of

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

MAGIC = {b"\x93NUMPY": ".npy", b"PK": ".npz", b"PAR1": ".parquet", b"\0\0": ".idx", b"\x1f\x8b": ".gz"}
"""How files begin. Others are images if they hold a null byte, otherwise tables."""

Quote: TypeAlias = Callable[[Any], str]


@click.command(cls=Command, groups=GROUPS)
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
@click.argument("inputs", metavar="INPUT…", nargs=-1, required=True)
def predict(path: Path, inputs: tuple[str, ...], top: int, as_json: bool, as_csv: bool, **where: Any) -> None:
    """Ask a trained network about new rows.

    MODEL is a file model.safetensors, or the folder of a run. INPUT is an image, a folder of images, a table
    (.csv, .parquet), an array (.npy, .npz, IDX), or - for standard input. The answer to every row is a line:
    the name of the row, then the class and its probability, the labels that hold with theirs, or the numbers.
    Rows of tables are counted as lines, the first below the names is 2; those of arrays from 0.
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv: choose one")
    model = load(model_of(path), backend=backend_of(**where))
    if top > 1 and (model.kind != "classes" or top > model.outputs):
        have = f"{model.outputs} classes" if model.kind == "classes" else model.kind
        raise XpnetError(f"--top {top}: this network answers with {have}")
    group = joined()
    answers = Answers(model, top, "json" if as_json else "csv" if as_csv else "text")
    sys.stdout.write(answers.header)
    with _files(inputs) as files:
        pieces = _pieces(files, model, answers.quote)
        while some := list(islice(pieces, group.size)):  # a piece for every process
            source, first, names, X = some[min(group.rank, len(some) - 1)]
            lines = answers.lines(names, X, source, first) if group.rank < len(some) else ""
            sys.stdout.write("".join(group.all(lines)))
            if group.first(lambda: bool(streams.flush_output())):  # nobody reads on
                return
            del some, X, lines  # before the next piece is read


@contextmanager
def _files(inputs: Iterable[str]) -> Iterator[list[tuple[str, Path]]]:
    """The files of inputs, with their names: standard input, which ``-`` means, is copied into one."""
    with ExitStack() as stack:
        held = _standard_input(stack) if "-" in inputs else Path()
        pairs = ([("-", held)] if source == "-" else _within(source) for source in inputs)
        yield list(chain.from_iterable(pairs))


def _standard_input(stack: ExitStack) -> Path:
    """Copy standard input to a file that goes with the stack."""
    from tempfile import TemporaryDirectory

    if sys.stdin is None:  # closed by the caller, as by <&-
        raise XpnetError("-: standard input is closed")
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="xpnet-")))

    def removed() -> str:
        rmtree(folder, ignore_errors=True)
        return ""

    held, signals.last_words = folder / "standard input", removed
    if joined().size > 1:  # the first process alone is given it
        held.write_bytes(joined().first(sys.stdin.buffer.read))
    else:
        with held.open("wb") as file:
            copyfileobj(sys.stdin.buffer, file)
    return held.rename(f"{held}{_form(held)}")


def _within(source: str) -> list[tuple[str, Path]]:
    """A file, or all files of a folder and of the folders in it."""
    path = Path(source)
    if not path.is_dir():
        return [(source, path)]
    return [pair for inner in files_in(path) for pair in _within(str(inner))]


def _form(path: Path) -> str:
    """The form of a file as a suffix: its own one if that tells, otherwise by its first bytes."""
    if path.suffix in (*TABLES, ".npy", ".npz"):
        return path.suffix
    with opened(path) as file:
        start = file.read(1024)
    binary = ".png" if b"\0" in start else ".csv"
    return next((form for magic, form in MAGIC.items() if start.startswith(magic)), binary)


def _pieces(
    files: Iterable[tuple[str, Path]], model: MLP, quote: Quote
) -> Iterator[tuple[str, int, Iterable[str], np.ndarray]]:
    """The rows of files, some at a time: their source, the number of the first, and the names of all."""
    features, at_once = model.network.sizes[0], max(1, NUMBERS_AT_ONCE // max(model.network.sizes))
    for source, path in files:
        form = _form(path)
        if form == ".png":
            yield source, 0, [quote(source)], read_image(path, _image_shape(model)).reshape(1, -1)
            continue
        rows = _table(path, model) if form in TABLES else pieces(_array(path, form, features), at_once)
        start, name = 0, quote(source.replace("%", "%%") + ":%d")
        for X in rows:
            number = start + (FIRST if form in TABLES else 0)
            yield source, start, map(name.__mod__, range(number, number + len(X))), X
            start += len(X)


def _image_shape(model: MLP) -> Form:
    """The form of images that a network takes: squares of grey, as MNIST's, if it does not say."""
    features = model.network.sizes[0]
    shape = model.image_shape or (isqrt(features),) * 2
    if prod(shape) != features:
        raise XpnetError(f"this network takes rows of {features} numbers, and was not trained on images")
    return Form(size=(shape[1], shape[0]), image_shape=shape)


def _table(path: Path, model: MLP) -> Iterator[np.ndarray]:
    table = Table(path)
    return (X for X, _ in table.pieces(model.feature_names or tuple(table.names)))


def _array(path: Path, form: str, features: int) -> np.ndarray:
    """The array in a file, as rows. An array of as many numbers as a row has is one row."""
    if form == ".npz":
        arrays = read_npz(path, None)
        named = [array for name, (_, array) in arrays.items() if name in ("x_test", "X") or len(arrays) == 1]
        if not named:
            raise XpnetError(f"{path}: must hold one array, or X or x_test; it holds {', '.join(arrays)}")
        array = named[0]
    else:
        array = map_npy(path) if form == ".npy" else read_idx(path)
    alone = array.ndim < 2 or (array.size == features and prod(array.shape[1:]) != features)
    return array.reshape(1 if alone else len(array), -1)


def _csv(value: Any) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow([value])
    return text.getvalue()


def _text(value: Any) -> str:
    return printable(str(value))


PAIR = ("label", "probability")
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
        names = model.class_names or range(model.outputs)
        self.names, k = [self.quote(name) for name in names], model.outputs
        digits = "%.15g" if model.dtype == "float64" and model.kind == "numbers" else "%.7g"
        pair, values = f'"label": %s, "probability": {digits}', [digits] * k
        if model.kind == "classes":
            header = [*PAIR, *(f"{w}{i + 2}" for i in range(top - 1) for w in PAIR)]
            cells, text = [f"%s,{digits}"] * top, ["%s %.2f%%"] * top
            entries = f'{pair}, "top": [{", ".join([f"{{{pair}}}"] * top)}]'
        elif model.kind == "labels":
            header, cells, text = self.names, values, ["%s"]
            keys = [json.dumps(str(name)).replace("%", "%%") for name in names]
            shares = ", ".join(f"{key}: {digits}" for key in keys)
            entries = f'"labels": [%s], "probabilities": {{{shares}}}'
        else:
            header, cells, text = [f"number{i}" for i in range(k)] if k > 1 else ["number"], values, values
            entries = f'"numbers": [{", ".join(values)}]'
        self.header = f"{','.join(['input', *header])}\n" if style == "csv" else ""
        templates = {"csv": ",".join(["%s", *cells]), "json": f'{{"input": %s, {entries}}}'}
        self.template = templates.get(style, "  ".join(["%s", *text])) + "\n"

    def lines(self, names: Iterable[str], X: np.ndarray, source: str, first: int) -> str:
        """The answers to rows, a line for each. Messages name the source and the number of the row.

        Raises
        ------
        XpnetError
            The rows do not fit the network, or one has no answer.
        """
        model = self.model
        try:
            logits = model.logits(X)
        except XpnetError as error:
            raise XpnetError(f"{source}: {error}") from error
        Z, A = (model.backend.to_numpy(array) for array in (logits, model.output(logits)))
        check_finite(Z, source, first)
        check_finite(A, source, first)
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
