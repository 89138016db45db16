"""A data set: rows to train on and rows to test with, from the embedded MNIST or a user's files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR
from typing import TypeAlias

import numpy as np

from xpnet.arguments import choice, instance, number
from xpnet.data.checks import (
    AT_ONCE,
    check_finite,
    check_labels,
    check_memory,
    check_numbers,
    check_rows,
    check_type,
)
from xpnet.data.form import UNKNOWN, Form, Rows, class_numbers
from xpnet.data.idx import NAMES, read_idx
from xpnet.data.images import class_folders, read_images
from xpnet.data.mapped import file_of, gathered, pieces, read
from xpnet.data.npy import map_npy, read_npz
from xpnet.data.rows import split, stream
from xpnet.data.tables import SUFFIXES, read_table
from xpnet.errors import UsageError, XpnetError
from xpnet.files import status

MNIST = Path(__file__).parent / "mnist"
"""The folder of the embedded MNIST, in the IDX format; its licence lies beside it."""

TARGETS = ("classes", "labels", "numbers")
"""What targets may be."""

TEST = 0.2
"""The fraction of the rows of a table or of images that is split off to test with, unless told otherwise."""

FORMS = (
    f"a table ({', '.join(SUFFIXES)}), a folder with a subfolder of images for each class, a folder of IDX "
    "or .npy files, an .npz file, or mnist"
)
"""What data may be, as messages say it."""


@dataclass(frozen=True)
class Dataset:
    """Rows to train on, and rows to test the trained network with.

    Attributes
    ----------
    X_train : (n, features)
        Integers of 8 or 16 bits as they came, or floating point. If the memory was limited and the file
        allows it, the array stays mapped from its file.
    y_train : (n,) or (n, k)
        Class numbers, 0 … classes - 1: int32, or as they are in a mapped file. Labels and numbers: float64.
    X_test : (k, features)
    y_test : (k,)
        Likewise.
    targets
        What the targets are: "classes", "labels" or "numbers".
    class_names, form
        The names of the classes, the columns and the shape of images, where the data tell them.
    split
        Which rows are those to test with, where they were split off.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    targets: str = "classes"
    class_names: tuple[str, ...] | None = None
    form: Form = UNKNOWN
    split: str | None = None

    def __repr__(self) -> str:
        rows = f"{self.X_train.shape[0]:,} and {self.X_test.shape[0]:,} rows"
        return f"Dataset({rows} of {self.features} x {self.X_train.dtype}, {self.outputs} {self.targets})"

    @property
    def features(self) -> int:
        """The number of numbers in a row."""
        return int(self.X_train.shape[1])

    @property
    def classes(self) -> int:
        """The number of names; without names, one more than the largest training label."""
        if self.class_names is not None:
            return len(self.class_names)
        return max(int(labels.max()) for labels in pieces(self.y_train, AT_ONCE)) + 1

    @property
    def outputs(self) -> int:
        """How many outputs a network needs: one for each class, label or number."""
        return self.classes if self.targets == "classes" else self.y_train[0].size


Arrays: TypeAlias = dict[str, tuple[str, np.ndarray]]
"""The arrays x_train, y_train, x_test and y_test, each with the name of its file."""


def load_data(
    source: str | Path = "mnist",
    *,
    memory: int | None = None,
    targets: str = "classes",
    test: float | str | Path | None = None,
    seed: int = 0,
    form: Form = UNKNOWN,
    class_names: Sequence[str] | None = None,
) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source
        "mnist" for the data set that comes with xpnet (60,000 and 10,000 images of 28 x 28 pixels, uint8);
        a folder with four IDX files that are named as MNIST's, gzipped or not; a folder with ``x_train.npy,
        y_train.npy, x_test.npy, y_test.npy``; or an ``.npz`` file with arrays of those names. Images of any
        shape are flattened. Or a CSV or Parquet table with a column of labels; or a folder of images with a
        subfolder for each class, or with ``train`` and ``test``, which hold such subfolders.
    memory
        Bytes. Rows stay in their files where they can, ``.npy`` or IDX that is not gzipped; those of tables
        and images are copied to a temporary file, for as long as the arrays live. Rows that need more are
        streamed when `train` and `evaluate` are given the same `memory`.
    targets
        "classes", whole numbers from 0 or names; "labels", each 0 or 1; or "numbers". Labels and numbers may
        be several in a row, and are kept in memory.
    test, seed
        Of a table or of images: the file or folder of the rows to test with, or the fraction that is split
        off, by a seed, the same of every class. Default: the ``test`` folder beside ``train``, or 0.2.
    form
        How rows are read from tables and images.
    class_names
        The names of the classes, where they are known.

    Raises
    ------
    UsageError
        A memory under 1, unknown targets, or `test` for data that bring their own rows to test with.
    XpnetError
        A file is missing or damaged, the arrays do not fit together, or rows are larger than `memory` and
        cannot be streamed. The message names the file.
    """
    memory = check_memory(memory)
    choice("targets", targets, TARGETS)
    instance("source", source, (str, os.PathLike), "mnist or a path")
    path = MNIST if source == "mnist" else Path(source)
    reader = _reader(path)
    if reader is not None:
        return _own(path, reader, test, seed, targets, memory, form, class_names)
    if test is not None or form != UNKNOWN:
        raise UsageError(f"{source} has rows to test with: options of tables and images do not belong to it")
    arrays = {key: _in_folder(path, key) for key in NAMES} if path.is_dir() else read_npz(path)
    names = _number_names(arrays, class_names) if targets == "classes" else None

    X_train, y_train, classes = _part(arrays, "train", targets, len(names) if names else None, memory)
    _check_enough(path, X_train, targets, classes)
    X_test, y_test, _ = _part(arrays, "test", targets, classes, memory)
    train, test_ = (f"{X.shape[1]} x {check_type(X, str(path))}" for X in (X_train, X_test))
    if train != test_:
        raise XpnetError(f"{path}: training rows are {train}, test rows {test_}; they must be alike")
    if y_train.shape[1:] != y_test.shape[1:]:
        shapes = f"{y_train.shape} and {y_test.shape}"
        raise XpnetError(f"{path}: y_train and y_test have shapes {shapes}; their rows must be alike")
    shape = arrays["x_train"][1].shape[1:]
    images = len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)
    form = Form(image_shape=shape) if images else UNKNOWN
    return Dataset(X_train, y_train, X_test, y_test, targets, names, form)


def load_test(
    source: str | Path,
    *,
    memory: int | None,
    targets: str,
    form: Form,
    class_names: Sequence[str] | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Read rows to test a trained network with, and their targets: all rows of a table or of a folder.

    Parameters
    ----------
    form, class_names
        What the network knows of its rows and classes.

    Raises
    ------
    XpnetError
        As for `load_data`, or the rows are not like those that the network was trained on.
    """
    path = Path(source)
    reader = None if source == "mnist" else _reader(path)
    if reader is None:
        data = load_data(source, memory=memory, targets=targets, class_names=class_names)
        return data.X_test, data.y_test
    rows = reader(_parts(path)[1] or path, form, targets, memory)
    return rows.X, _own_targets(rows, path, targets, class_names)[0]


Reader: TypeAlias = Callable[[Path, Form, str, int | None], Rows]


def _reader(path: Path) -> Reader | None:
    """What reads a table or a folder of images; None for arrays.

    Raises
    ------
    XpnetError
        It is nothing that can be read.
    """
    found = status(path)
    if found is None:
        raise XpnetError(f"{path}: no such file or folder; give {FORMS}")
    if not S_ISDIR(found.st_mode):
        if path.suffix != ".npz" and path.suffix not in SUFFIXES:
            raise XpnetError(f"{path}: not a form of data that is read; give {FORMS}")
        return read_table if path.suffix in SUFFIXES else None
    if any(status(path / name) for key in NAMES for name in _names(key)):
        return None
    if not class_folders(path):
        raise XpnetError(f"{path}: none of the forms of data that are read; give {FORMS}")
    return read_images


def _parts(path: Path) -> tuple[Path, Path | None]:
    """The folders ``train`` and ``test`` within a folder of images, if it has just these; else the folder."""
    if path.is_dir() and [folder.name for folder in class_folders(path)] == ["test", "train"]:
        return path / "train", path / "test"
    return path, None


def _own(
    path: Path,
    reader: Reader,
    test: float | str | Path | None,
    seed: int,
    targets: str,
    memory: int | None,
    form: Form,
    class_names: Sequence[str] | None,
) -> Dataset:
    """Read a table, or a folder of images, and the rows to test with."""
    (path, beside), fraction = _parts(path), TEST
    if isinstance(test, str | os.PathLike):
        beside = Path(test)
        if _reader(beside) is not reader:
            raise XpnetError(f"{beside}: rows to test with must have the same form as those of {path}")
        beside = _parts(beside)[1] or beside
    elif test is not None:
        fraction, beside = number("test", test, "a fraction between 0 and 1", lambda x: 0 < x < 1), None
    rows = reader(path, form, targets, memory)
    y, names = _own_targets(rows, path, targets, class_names)
    _check_enough(path, rows.X, targets, len(names or ()))
    if beside is not None:
        other = reader(beside, rows.form, targets, memory)
        y_test, _ = _own_targets(other, beside, targets, names)
        return Dataset(rows.X, y, other.X, y_test, targets, names, rows.form, str(beside))
    training, held = split(y if targets == "classes" else np.zeros(len(y)), fraction, stream(seed, "test"))
    if not len(held):
        raise XpnetError(f"{path}: test {fraction} of {len(y):,} rows holds none back: give more, or a file")
    said, some = f"{100 * fraction:.3g}% of {path}, by seed {seed}", max(1, AT_ONCE // rows.X.shape[1])
    test_rows = np.isin(np.arange(len(y)), held)
    X_train, X_test = (
        gathered((X[kept] for X, kept in zip(pieces(rows.X, some), pieces(mask, some), strict=True)), memory)
        for mask in (~test_rows, test_rows)
    )
    return Dataset(X_train, y[training], X_test, y[held], targets, names, rows.form, said)


def _own_targets(
    rows: Rows, path: Path, targets: str, known: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """The targets of rows, and the names of the classes."""
    if targets == "classes":
        folders = rows.form.image_shape is not None
        return class_numbers(rows.y, rows.names, known, str(path), first=rows.first, folders=folders)
    return check_numbers(rows.y, str(path), binary=targets == "labels"), None


def _number_names(arrays: Arrays, known: Sequence[str] | None) -> tuple[str, ...] | None:
    """Put class numbers in the place of labels that are strings, and return the names of the classes."""
    for key in ("y_train", "y_test"):
        what, y = arrays[key]
        if y.dtype.kind not in "US" or y.ndim != 1 or not y.size:
            continue
        texts, codes = np.unique(read(y), return_inverse=True)
        try:
            names = [str(text, "utf-8") if isinstance(text, bytes) else text for text in texts.tolist()]
        except UnicodeDecodeError as error:
            raise XpnetError(f"{what}: labels that are not UTF-8 text") from error
        codes, known = class_numbers(codes, names, known, what)
        arrays[key] = what, codes
    return None if known is None else tuple(known)


def _check_enough(path: Path, X: np.ndarray, targets: str, classes: int) -> None:
    if len(X) < 2 or (targets == "classes" and classes < 2):
        of = f" of {classes} classes; give 2 or more of each" if targets == "classes" else "; give 2 or more"
        raise XpnetError(f"{path}: {len(X)} training rows{of}")


def _names(key: str) -> list[str]:
    return [f"{key}.npy", NAMES[key], f"{NAMES[key]}.gz"]


def _in_folder(folder: Path, key: str) -> tuple[str, np.ndarray]:
    """The name and the array of a file of a folder: an ``.npy`` file, or an IDX file, plain or gzipped."""
    names = _names(key)
    path = next((folder / name for name in names if status(folder / name)), None)
    if path is None:
        raise XpnetError(f"{folder}: none of {', '.join(names)} in this folder")
    return str(path), map_npy(path) if path.suffix == ".npy" else read_idx(path)


def _part(
    arrays: Arrays,
    part: str,
    targets: str,
    classes: int | None,
    memory: int | None,
) -> tuple[np.ndarray, np.ndarray, int]:
    """The rows and targets of a part, checked, and the number of classes, or 0."""
    (rows, X), (labels, y) = arrays[f"x_{part}"], arrays[f"y_{part}"]
    several = targets != "classes" and y.ndim == 2 and y.size > 0
    if X.ndim < 2 or X.size == 0 or y.shape[: 1 if several else None] != X.shape[:1]:
        called, wanted = ("labels", "(n,)") if targets == "classes" else (targets, "(n,) or (n, k)")
        shapes = f"images of shape {X.shape} and {called} of shape {y.shape}"
        raise XpnetError(f"{rows}: {shapes}; they must be (n, …) and {wanted}, and hold a number")
    needed = X.size * check_type(X, rows).itemsize
    streamable = file_of(X) and X.flags.c_contiguous
    if targets == "classes":
        found = check_labels(y, classes, labels, taught=part == "train")
    else:
        y, found = check_numbers(y, labels, binary=targets == "labels"), 0
    fits = memory is None or needed <= memory
    if not fits and not streamable:
        raise XpnetError(
            f"{rows}: {needed:,} bytes, more than the memory of {memory:,}, and neither compressed files nor "
            "arrays in Fortran order can be streamed: save them as .npy files in C order"
        )
    if memory is None or not streamable:
        y = read(y).astype(np.int32) if targets == "classes" else y
        return check_rows(read(X).reshape(len(X), -1), rows), y, found
    X = X.reshape(len(X), -1)
    if fits:  # others are checked as they are streamed
        check_finite(X, rows)
    return X, y, found
