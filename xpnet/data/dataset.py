"""A data set in two parts, wherever it comes from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xpnet.data.checks import (
    LABELS_AT_ONCE,
    check_labels,
    check_long_labels,
    check_memory,
    check_rows,
    check_type,
    is_finite,
)
from xpnet.data.idx import read_folder
from xpnet.data.mapped import is_mapped, pieces
from xpnet.data.npy import is_npy_folder, map_npy_folder
from xpnet.data.npz import read_npz
from xpnet.errors import XpnetError

MNIST = Path(__file__).parent / "mnist"
"""The folder of the embedded MNIST, in the IDX format; its licence lies beside it."""


@dataclass(frozen=True)
class Dataset:
    """Rows to learn from, and rows to be judged by once, at the end.

    Attributes
    ----------
    X_train : (n, features)
        Integers of 8 or 16 bits as they came, or floating point. Mapped from its file, as it is there, where
        the memory was limited and the file allows it.
    y_train : (n,)
        Labels, 0 … classes - 1: int32, or as they are in a mapped file.
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
        """Numbers in a row."""
        return int(self.X_train.shape[1])

    @property
    def classes(self) -> int:
        """One more than the largest training label."""
        return max(int(labels.max()) for labels in pieces(self.y_train, LABELS_AT_ONCE)) + 1


def load_data(source: str | Path = "mnist", *, memory: int | None = None) -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source
        "mnist" for the one that is shipped with xpnet (60,000 and 10,000 images, 28 x 28, uint8); a folder
        with four IDX files named as MNIST's, gzipped or not; a folder with ``x_train.npy, y_train.npy,
        x_test.npy, y_test.npy``; or an ``.npz`` file with arrays of those names. Images of any shape are made
        flat.
    memory
        Bytes. Rows stay in their files where they can, ``.npy`` or IDX that is not gzipped, and those that
        need more are streamed when `train` and `evaluate` are given the same `memory`.

    Raises
    ------
    UsageError
        A memory under 1.
    XpnetError
        Something is missing, damaged, does not fit together, or is larger than `memory` and cannot be
        streamed; the message names the file.
    """
    memory = check_memory(memory)
    path = MNIST if source == "mnist" else Path(source)
    try:
        there, folder = path.exists(), path.is_dir()
        npy = folder and is_npy_folder(path)
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        said = getattr(error, "strerror", None) or error
        raise XpnetError(f"{str(path)!r}: cannot be read: {said}") from error
    if not there:
        raise XpnetError(f"{path}: no such file or folder; give mnist, a folder or an .npz")
    if npy:
        parts = map_npy_folder(path)
    elif folder:
        parts = read_folder(path, mapped=memory is not None)
    elif path.suffix == ".npz":
        parts = read_npz(path)
    else:
        raise XpnetError(f"{path}: neither a folder of IDX or .npy files nor an .npz file")

    X_train, y_train = _part(parts, "train", path, memory)
    X_test, y_test = _part(parts, "test", path, memory)
    types = {check_type(X.dtype, str(path)) for X in (X_train, X_test)}  # they may be as in their files
    if X_test.shape[1] != X_train.shape[1] or len(types) > 1:
        raise XpnetError(
            f"{path}: training rows are {X_train.shape[1]} x {X_train.dtype}, "
            f"test rows {X_test.shape[1]} x {X_test.dtype}; they must be alike"
        )
    data = Dataset(X_train, y_train, X_test, y_test)
    if len(X_train) < 2:
        raise XpnetError(f"{path}: only one training row; there must be more")
    if data.classes < 2:
        raise XpnetError(f"{path}: every training label is 0; there must be two classes or more")
    check_long_labels(y_test, data.classes, f"{path}: y_test")
    return data


def _part(
    parts: dict[str, np.ndarray], part: str, path: Path, memory: int | None
) -> tuple[np.ndarray, np.ndarray]:
    X, y = parts[f"x_{part}"], parts[f"y_{part}"]
    if X.ndim < 2:
        raise XpnetError(f"{path}: {part} images have {X.ndim} dimension(s); there must be 2 or more")
    if y.ndim != 1:
        raise XpnetError(f"{path}: {part} labels have {y.ndim} dimensions; there must be 1")
    if len(X) != len(y):
        raise XpnetError(f"{path}: {len(X)} {part} images but {len(y)} labels")
    if X.size == 0:
        raise XpnetError(f"{path}: the {part} images have shape {X.shape}, which holds nothing")
    what, held = f"{path}: x_{part}", check_type(X.dtype, f"{path}: x_{part}")
    if memory is not None:
        needed = X.size * held.itemsize
        streamable = is_mapped(X) and is_mapped(y)
        if needed > memory and not streamable:
            raise XpnetError(
                f"{path}: its {part} images need {needed:,} bytes, memory is {memory:,}, and compressed "
                "files cannot be streamed: unpack them, or save the arrays as .npy files"
            )
        if needed > memory and not X.flags.c_contiguous:
            raise XpnetError(
                f"{path}: its {part} images lie column by column (Fortran order) and cannot be streamed: "
                "save them in C order"
            )
        if streamable and X.flags.c_contiguous:
            if needed <= memory and held.kind == "f" and not is_finite(X):  # others as they are streamed
                raise XpnetError(f"{what}: NaN or infinity among the numbers; clean the rows first")
            check_long_labels(y, None, f"{path}: y_{part}")
            return X.reshape(len(X), -1), y
    X = check_rows(np.array(X.reshape(len(X), -1), copy=is_mapped(X)), what)
    return X, check_labels(y, None, f"{path}: y_{part}")
