"""A data set: rows to train on and rows to test with, from the embedded MNIST or a user's files."""

import os
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISDIR

import numpy as np

from xpnet.arguments import instance
from xpnet.data.checks import AT_ONCE, check_finite, check_labels, check_memory, check_rows, check_type
from xpnet.data.idx import NAMES, read_idx_folder
from xpnet.data.mapped import file_of, pieces, read
from xpnet.data.npy import map_npy_folder, read_npz
from xpnet.errors import XpnetError
from xpnet.files import status

MNIST = Path(__file__).parent / "mnist"
"""The folder of the embedded MNIST, in the IDX format; its licence lies beside it."""


@dataclass(frozen=True)
class Dataset:
    """Rows to train on, and rows to test the trained network with.

    Attributes
    ----------
    X_train : (n, features)
        Integers of 8 or 16 bits, or floating-point numbers. If the memory was limited, and the file allows
        it, the array is mapped from its file and has the type and the byte order of the file.
    y_train : (n,)
        Labels 0 … classes - 1, as int32 or, if they are mapped, as in their file.
    X_test : (k, features)
    y_test : (k,)
        Likewise.
    """

    X_train: np.ndarray
    y_train: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray

    def __repr__(self) -> str:
        rows = f"{self.X_train.shape[0]:,} and {self.X_test.shape[0]:,} rows"
        return f"Dataset({rows} of {self.features} x {self.X_train.dtype}, {self.classes} classes)"

    @property
    def features(self) -> int:
        """The number of numbers in a row."""
        return int(self.X_train.shape[1])

    @property
    def classes(self) -> int:
        """One more than the largest training label."""
        return max(int(labels.max()) for labels in pieces(self.y_train, AT_ONCE)) + 1


def load_data(source: str | Path = "mnist", *, memory: int | None = None) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source
        "mnist" for the data set that comes with xpnet (60,000 and 10,000 images of 28 x 28 pixels, uint8);
        a folder with four IDX files that are named as MNIST's, gzipped or not; a folder with ``x_train.npy,
        y_train.npy, x_test.npy, y_test.npy``; or an ``.npz`` file with arrays of those names. Images of any
        shape are flattened.
    memory
        Bytes. With it, rows in ``.npy`` files and in IDX files that are not gzipped stay in their files.
        Rows that need more bytes are streamed if `train` and `evaluate` get the same `memory`.

    Raises
    ------
    UsageError
        The source is no path, or the memory no whole number of bytes.
    XpnetError
        A file is missing or damaged, the arrays do not fit together, or rows are larger than `memory` and
        cannot be streamed. The message names the file.
    """
    memory = check_memory(memory)
    instance("source", source, (str, os.PathLike), "mnist or a path")
    path = MNIST if source == "mnist" else Path(source)
    found = status(path)
    if found is None:
        raise XpnetError(f"{path}: no such file or folder; give mnist, a folder or an .npz")
    if S_ISDIR(found.st_mode):
        npy = any(status(path / f"{key}.npy") for key in NAMES)
        arrays = map_npy_folder(path) if npy else read_idx_folder(path)
    elif path.suffix == ".npz":
        arrays = read_npz(path)
    else:
        raise XpnetError(f"{path}: neither a folder of IDX or .npy files nor an .npz file")

    X_train, y_train, classes = _part(arrays, "train", None, memory)
    if len(X_train) < 2 or classes < 2:
        raise XpnetError(f"{path}: {len(X_train)} training rows of {classes} classes; give 2 or more of each")
    X_test, y_test, _ = _part(arrays, "test", classes, memory)
    train, test = (f"{X.shape[1]} x {check_type(X, str(path))}" for X in (X_train, X_test))
    if train != test:
        raise XpnetError(f"{path}: training rows are {train}, test rows {test}; they must be alike")
    return Dataset(X_train, y_train, X_test, y_test)


def _part(
    arrays: dict[str, tuple[str, np.ndarray]], part: str, classes: int | None, memory: int | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """The rows and labels of a part, checked, and one more than its largest label."""
    (rows, X), (labels, y) = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if X.ndim < 2 or X.size == 0 or y.shape != X.shape[:1]:
        shapes = f"images of shape {X.shape} and labels of shape {y.shape}"
        raise XpnetError(f"{rows}: {shapes}; they must be (n, …) and (n,), and hold a number")
    needed = X.size * check_type(X, rows).itemsize
    found = check_labels(y, classes, labels, taught=part == "train")
    fits = memory is None or needed <= memory
    streamable = file_of(X) and file_of(y) and X.flags.c_contiguous
    if not fits and not streamable:
        raise XpnetError(
            f"{rows}: {needed:,} bytes, more than the memory of {memory:,}, and neither compressed files nor "
            "arrays in Fortran order can be streamed: save them as .npy files in C order"
        )
    if memory is None or not streamable:
        return check_rows(read(X).reshape(len(X), -1), rows), read(y).astype(np.int32), found
    X = X.reshape(len(X), -1)
    if fits:  # others are checked as they are streamed
        check_finite(X, rows)
    return X, y, found
