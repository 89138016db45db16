"""A data set: rows to train on and rows to test with, from the embedded MNIST or a user's files."""

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

import numpy as np

from xpnet.arguments import choice, instance
from xpnet.data.checks import (
    AT_ONCE,
    check_finite,
    check_labels,
    check_memory,
    check_numbers,
    check_rows,
    check_type,
)
from xpnet.data.idx import NAMES, read_idx
from xpnet.data.mapped import file_of, pieces, read
from xpnet.data.npy import map_npy, read_npz
from xpnet.errors import XpnetError
from xpnet.files import status

MNIST = Path(__file__).parent / "mnist"
"""The folder of the embedded MNIST, in the IDX format; its licence lies beside it."""

TARGETS = ("classes", "labels", "numbers")
"""What targets may be."""


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
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray
    targets: str = "classes"

    def __repr__(self) -> str:
        rows = f"{self.X_train.shape[0]:,} and {self.X_test.shape[0]:,} rows"
        return f"Dataset({rows} of {self.features} x {self.X_train.dtype}, {self.outputs} {self.targets})"

    @property
    def features(self) -> int:
        """The number of numbers in a row."""
        return int(self.X_train.shape[1])

    @property
    def classes(self) -> int:
        """One more than the largest training label."""
        return max(int(labels.max()) for labels in pieces(self.y_train, AT_ONCE)) + 1

    @property
    def outputs(self) -> int:
        """How many outputs a network needs: one for each class, label or number."""
        return self.classes if self.targets == "classes" else self.y_train[0].size


def load_data(
    source: str | Path = "mnist", *, memory: int | None = None, targets: str = "classes"
) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source
        "mnist" for the data set that comes with xpnet (60,000 and 10,000 images of 28 x 28 pixels, uint8);
        a folder with four IDX files that are named as MNIST's, gzipped or not; a folder with ``x_train.npy,
        y_train.npy, x_test.npy, y_test.npy``; or an ``.npz`` file with arrays of those names. Images of any
        shape are flattened.
    memory
        Bytes. Rows stay in their files where they can, ``.npy`` or IDX that is not gzipped, and those that
        need more are streamed when `train` and `evaluate` are given the same `memory`.
    targets
        "classes", whole numbers from 0; "labels", each 0 or 1; or "numbers". Labels and numbers may be
        several in a row, and are kept in memory.

    Raises
    ------
    UsageError
        A memory under 1, or unknown targets.
    XpnetError
        A file is missing or damaged, the arrays do not fit together, or rows are larger than `memory` and
        cannot be streamed. The message names the file.
    """
    memory = check_memory(memory)
    choice("targets", targets, TARGETS)
    instance("source", source, (str, os.PathLike), "mnist or a path")
    path = MNIST if source == "mnist" else Path(source)
    found = status(path)
    if found is None:
        raise XpnetError(f"{path}: no such file or folder; give mnist, a folder or an .npz")
    if S_ISDIR(found.st_mode):
        arrays = {key: _in_folder(path, key) for key in NAMES}
    elif path.suffix == ".npz":
        arrays = read_npz(path)
    else:
        raise XpnetError(f"{path}: neither a folder of IDX or .npy files nor an .npz file")

    X_train, y_train, classes = _part(arrays, "train", targets, None, memory)
    if len(X_train) < 2 or (targets == "classes" and classes < 2):
        of = f" of {classes} classes; give 2 or more of each" if targets == "classes" else "; give 2 or more"
        raise XpnetError(f"{path}: {len(X_train)} training rows{of}")
    X_test, y_test, _ = _part(arrays, "test", targets, classes, memory)
    train, test = (f"{X.shape[1]} x {check_type(X, str(path))}" for X in (X_train, X_test))
    if train != test:
        raise XpnetError(f"{path}: training rows are {train}, test rows {test}; they must be alike")
    if y_train.shape[1:] != y_test.shape[1:]:
        shapes = f"{y_train.shape} and {y_test.shape}"
        raise XpnetError(f"{path}: y_train and y_test have shapes {shapes}; their rows must be alike")
    return Dataset(X_train, y_train, X_test, y_test, targets)


def _in_folder(folder: Path, key: str) -> tuple[str, np.ndarray]:
    """The name and the array of a file of a folder: an ``.npy`` file, or an IDX file, plain or gzipped."""
    names = [f"{key}.npy", NAMES[key], f"{NAMES[key]}.gz"]
    path = next((folder / name for name in names if status(folder / name)), None)
    if path is None:
        raise XpnetError(f"{folder}: none of {', '.join(names)} in this folder")
    return str(path), map_npy(path) if path.suffix == ".npy" else read_idx(path)


def _part(
    arrays: dict[str, tuple[str, np.ndarray]],
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
    streamable = (targets != "classes" or file_of(y)) and file_of(X) and X.flags.c_contiguous
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
