"""Tables: CSV files with a line of names, and Parquet files, which pyarrow reads piece by piece."""

import csv
import shlex
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import BufferedReader, TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.arguments import brief
from xpnet.data.checks import FEW_CLASSES
from xpnet.data.form import Form, Rows, library
from xpnet.data.mapped import gathered
from xpnet.errors import XpnetError
from xpnet.files import opened

SUFFIXES = (".csv", ".tsv", ".parquet")

BLOCK = 2**20
"""Bytes of a CSV file that are read at a time. No row may be longer."""

FIRST = 2
"""The number of the first row, as a spreadsheet counts them, with the line of names."""

AT_ONCE = 2**18
"""About as many numbers of a Parquet file are read at a time."""

LONGEST = 120
"""The most characters of an error of pyarrow, which may quote a row, that a message shows."""

MISSING = ("", "na", "n/a", "nan", "null", "none", "?")
"""How missing values are written in columns of numbers, in lower case."""


class Table:
    """A table whose rows are read piece by piece, in little memory.

    Parameters
    ----------
    path
        A file whose name ends in one of `SUFFIXES`.

    Attributes
    ----------
    names
        The names of the columns.
    advises
        Whether messages say how to leave a column out, because the columns of the rows are yet to be chosen.

    Raises
    ------
    XpnetError
        pyarrow is not installed, the file is damaged, or a column has no name of its own.
    """

    def __init__(self, path: str | Path) -> None:
        self.path, self.parquet = str(path), str(path).endswith(".parquet")
        self.pa, self.pc = (library(name, "tables") for name in ("pyarrow", "pyarrow.compute"))
        with opened(path) as file, self._reading():
            self.names = self._opened(file).schema_arrow.names if self.parquet else self._header(file)
        if not self.names:
            raise XpnetError(f"{path}: {'no columns' if self.parquet else 'the first line is empty'}")
        self.places: dict[str, int] = {}
        self.advises = False
        for place, name in enumerate(self.names):
            if not name or self.places.setdefault(name, place) != place:
                said = "the first line must name every column, each by another name"
                raise XpnetError(f"{path}: column {place + 1} is named {brief(name)}: {said}")

    def feature_names(self, form: Form) -> tuple[str, ...]:
        """The columns that rows will have: one for each column of numbers, and for each value of a `one_hot`.

        Raises
        ------
        XpnetError
            A column that is asked for does not exist, or a column has too many values.
        """
        self.advises = True
        for name in (*filter(None, [form.label]), *form.one_hot, *form.drop):
            self._index(name)
        values: dict[str, set[str]] = {name: set() for name in form.one_hot}
        for first, batch in self._batches() if values else ():
            for name, found in values.items():
                texts = self._texts(batch, name)
                found |= set(self.pc.unique(texts).to_pylist())
                if "" in found:
                    raise self._wrong(first, texts.to_pylist().index(""), name, "")
                if len(found) > FEW_CLASSES:
                    more = f"{self.path}: column {name!r} has more than {FEW_CLASSES:,} values"
                    raise XpnetError(f"{more}; leave it out with --drop {shlex.quote(name)}")
        label, names = form.label or self.names[-1], list[str]()
        for name in self.names:
            if name != label and name not in form.drop:
                names += [f"{name}={value}" for value in sorted(values[name])] if name in values else [name]
        if not names or len(set(names)) < len(names):
            raise XpnetError(f"{self.path}: no column besides the label, or two of one name")
        return tuple(names)

    def pieces(
        self, features: tuple[str, ...], label: str | None = None, *, texts: bool = False
    ) -> Iterator[tuple[np.ndarray, Any]]:
        """Read the rows, piece by piece.

        Parameters
        ----------
        features
            The columns in order, as `feature_names` gives them. Other columns are ignored.
        label
            The column of the targets, if there is one.
        texts
            Read the targets as texts, rather than as numbers.

        Returns
        -------
        pieces
            Rows (n, features), float64, and targets (n,): numbers, or an Arrow array of texts, or None.

        Raises
        ------
        XpnetError
            A column is missing, a value is missing or no number, or the file is damaged. The message names
            row and column; row 2 is the first one behind the line of names.
        """
        columns, choices = self._columns(features)
        for first, batch in self._batches():
            X = np.zeros((len(batch), len(features)))
            for name, place in columns.items():
                X[:, place] = self._numbers(first, batch, name)
            for name, values in choices.items():
                found = self._texts(batch, name)
                chosen = self.pc.index_in(found, value_set=self.pa.array(list(values)))
                if chosen.null_count:
                    row = chosen.is_null().to_pylist().index(True)
                    raise self._wrong(
                        first, row, name, found[row].as_py(), f"is none of {brief(list(values))}"
                    )
                X[np.arange(len(X)), np.array(list(values.values()))[chosen.to_numpy()]] = 1
            y = None
            if label is not None:
                y = self._texts(batch, label) if texts else self._numbers(first, batch, label)
            yield X, y

    def label(self, form: Form) -> str:
        """The name of the column of the targets: the one asked for, or the last that is no feature."""
        if form.label:
            return self.names[self._index(form.label)]
        known = set(form.feature_names or ())
        known |= set(self._columns(form.feature_names or ())[1])
        others = [name for name in self.names if name not in known]
        if not others:
            raise XpnetError(f"{self.path}: no column of labels besides the columns of the rows")
        return others[-1]

    def _columns(self, features: tuple[str, ...]) -> tuple[dict[str, int], dict[str, dict[str, int]]]:
        """The places of the columns of numbers and, for other columns, those of each of their values."""
        numbers, choices = dict[str, int](), dict[str, dict[str, int]]()
        for place, feature in enumerate(features):
            cuts = [at for at, letter in enumerate(feature) if letter == "=" and feature[:at] in self.places]
            if feature in self.places:
                numbers[feature] = place
            elif cuts:
                choices.setdefault(feature[: cuts[0]], {})[feature[cuts[0] + 1 :]] = place
            else:
                self._index(feature)
        return numbers, choices

    def _index(self, name: str) -> int:
        if name not in self.places:
            raise XpnetError(f"{self.path}: no column {name!r}; it has {brief(self.names)}")
        return self.places[name]

    def _texts(self, batch: Any, name: str) -> Any:
        column = batch.column(self._index(name))
        try:
            return self.pc.utf8_trim_whitespace(self.pc.fill_null(column.cast(self.pa.string()), ""))
        except (self.pa.ArrowInvalid, self.pa.ArrowNotImplementedError) as error:
            said = f"column {name!r} holds {brief(str(column.type))}, neither numbers nor text"
            raise XpnetError(f"{self.path}: {said}") from error

    def _numbers(self, first: int, batch: Any, name: str) -> np.ndarray:
        column = batch.column(self._index(name))
        try:
            found: np.ndarray = self._cast(column).to_numpy(zero_copy_only=False)
            row = -1 if np.isfinite(found).all() else int(np.argmin(np.isfinite(found)))
        except self.pa.ArrowNotImplementedError as error:
            said = f"column {name!r} holds {brief(str(column.type))}, not numbers; leave it out with --drop"
            raise XpnetError(f"{self.path}: {said} {shlex.quote(name)}") from error
        except self.pa.ArrowInvalid:

            def fails(row: int) -> bool:
                with suppress(self.pa.ArrowInvalid):
                    return self._cast(column[: row + 1]) is None
                return True

            row = bisect_left(range(len(column)), True, key=fails)
        if row >= 0:
            raise self._wrong(first, row, name, column[row].as_py())
        return found

    def _cast(self, column: Any) -> Any:
        if self.pa.types.is_string(column.type):
            column = self.pc.utf8_trim_whitespace(column)
        return column.cast(self.pa.float64(), safe=False)

    def _wrong(self, first: int, row: int, name: str, value: Any, why: str = "") -> XpnetError:
        missing = value is None or str(value).strip().lower() in MISSING
        why = why or ("where a number is expected" if isinstance(value, str) else "is no finite number")
        why = f"a missing value, {brief(value)}; fill it in" if missing else f"{brief(value)} {why}"
        if self.advises:
            word = shlex.quote(name)
            why += f", or give --drop {word}" if missing else f"; give --one-hot {word} or --drop {word}"
        return XpnetError(f"{self.path}: row {first + row:,}, column {name!r}: {why}")

    def _batches(self) -> Iterator[tuple[int, Any]]:
        """The rows as Arrow batches, each with the number of its first row."""
        first = FIRST
        with opened(self.path) as file, self._reading():
            for batch in self._parquet(file) if self.parquet else self._csv(file):
                yield first, batch
                first += len(batch)

    def _parquet(self, file: BufferedReader) -> Iterator[Any]:
        parquet, rows = self._opened(file), max(1, AT_ONCE // len(self.names))
        for group in range(parquet.num_row_groups):  # pyarrow frees groups that are read in one go at the end
            yield from parquet.iter_batches(rows, [group], use_threads=False)

    def _opened(self, file: BufferedReader) -> Any:
        return library("pyarrow.parquet", "tables").ParquetFile(file)

    def _csv(self, file: BufferedReader) -> Any:
        csv_, names = library("pyarrow.csv", "tables"), self.names
        texts = dict.fromkeys(names, self.pa.string())
        return csv_.open_csv(
            file,
            csv_.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names, skip_rows=self.lines),
            csv_.ParseOptions(delimiter=self.delimiter, newlines_in_values=True),
            csv_.ConvertOptions(column_types=texts, strings_can_be_null=False),
        )

    def _header(self, file: BufferedReader) -> list[str]:
        """The names in the first line of a CSV file; the line of a name may go on within quotes."""
        text = TextIOWrapper(file, "utf-8-sig", newline="")
        line = text.readline(BLOCK)
        if len(line) == BLOCK or "\0" in line:
            raise ValueError("straddling" if len(line) == BLOCK else "invalid UTF8")
        self.delimiter = max(",;\t|", key=line.count)
        reader = csv.reader(chain([line], iter(lambda: text.readline(BLOCK), "")), delimiter=self.delimiter)
        names = [name.strip() for name in next(reader, [])]
        self.lines = reader.line_num
        text.detach()
        numbers = [name for name in names if "." in name and name.replace(".", "").lstrip("-").isdecimal()]
        if numbers:
            raise XpnetError(
                f"{self.path}: the first line must name the columns; it holds {brief(numbers[0])}"
            )
        return names

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn the errors of the readers into one that names the file."""
        try:
            yield
        except MemoryError:
            raise
        except UnicodeDecodeError as error:
            raise XpnetError(f"{self.path}: not UTF-8 text; save it as UTF-8") from error
        except (self.pa.ArrowException, OSError, ValueError, csv.Error) as error:
            said = " ".join(str(error).split())
            if "invalid UTF8" in said:
                said = "not UTF-8 text; save it as UTF-8"
            elif "straddling" in said:
                said = f"a row of more than {BLOCK:,} bytes: is a quote not closed?"
            elif "short" in said or "Empty" in said:
                said = "no rows behind the line of names"
            raise XpnetError(f"{self.path}: {said.removeprefix('CSV parse error: ')[:LONGEST]}") from error


def read_table(path: Path, form: Form, targets: str, memory: int | None) -> Rows:
    """Read a whole table.

    Parameters
    ----------
    targets
        As for `load_data`.
    memory
        None to keep the rows in memory; see `gathered`.

    Raises
    ------
    XpnetError
        As for `Table` and `gathered`.
    """
    table = Table(path)
    if form.feature_names is None:
        form = replace(form, feature_names=table.feature_names(form))
    features, label, labels = form.feature_names or (), table.label(form), list[Any]()

    def parts() -> Iterator[np.ndarray]:
        for X, y in table.pieces(features, label, texts=targets == "classes"):
            labels.append(y.dictionary_encode() if targets == "classes" else y)
            yield X
        if not labels:
            raise XpnetError(f"{path}: no rows behind the line of names")

    X = gathered(parts(), memory)
    if targets != "classes":
        return Rows(X, np.concatenate(labels), (), form, FIRST)
    coded = table.pa.chunked_array(labels).unify_dictionaries().combine_chunks()
    return Rows(X, coded.indices.to_numpy(), tuple(coded.dictionary.to_pylist()), form, FIRST)
