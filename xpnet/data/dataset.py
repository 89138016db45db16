"""A data set in two parts, wherever it comes from."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xpnet.data.checks import check_labels, check_rows
from xpnet.data.idx import read_folder
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
        Integers of 8 or 16 bits as they came, or floating point.
    y_train : (n,) int32
        Labels, 0 … classes - 1.
    X_test : (k, features)
    y_test : (k,) int32
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
        return int(self.y_train.max()) + 1


def load_data(source: str | Path = "mnist") -> Dataset:
    """Read a data set.

    Parameters
    ----------
    source
        "mnist" for the one that is shipped with xpnet (60,000 and 10,000 images, 28 x 28, uint8); a folder
        with four IDX files named as MNIST's, gzipped or not; or an ``.npz`` file with the arrays
        ``x_train, y_train, x_test, y_test``. Images of any shape are made flat.

    Raises
    ------
    XpnetError
        Something is missing, damaged or does not fit together; the message names the file.
    """
    path = MNIST if source == "mnist" else Path(source)
    try:
        there, folder = path.exists(), path.is_dir()
    except (OSError, ValueError) as error:  # no permission, or a name that no file can have
        said = getattr(error, "strerror", None) or error
        raise XpnetError(f"{str(path)!r}: cannot be read: {said}") from error
    if not there:
        raise XpnetError(f"{path}: no such file or folder; give mnist, a folder of IDX files or an .npz")
    if folder:
        parts = read_folder(path)
    elif path.suffix == ".npz":
        parts = read_npz(path)
    else:
        raise XpnetError(f"{path}: neither a folder of IDX files nor an .npz file")

    X_train, y_train = _part(parts, "train", path)
    X_test, y_test = _part(parts, "test", path)
    if X_test.shape[1] != X_train.shape[1] or X_test.dtype != X_train.dtype:
        raise XpnetError(
            f"{path}: training rows are {X_train.shape[1]} x {X_train.dtype}, "
            f"test rows {X_test.shape[1]} x {X_test.dtype}; they must be alike"
        )
    data = Dataset(X_train, y_train, X_test, y_test)
    if len(X_train) < 2:
        raise XpnetError(f"{path}: only one training row; there must be more")
    if data.classes < 2:
        raise XpnetError(f"{path}: every training label is 0; there must be two classes or more")
    check_labels(y_test, data.classes, f"{path}: y_test")
    return data


def _part(parts: dict[str, np.ndarray], part: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    X, y = parts[f"x_{part}"], parts[f"y_{part}"]
    if X.ndim < 2:
        raise XpnetError(f"{path}: {part} images have {X.ndim} dimension(s); there must be 2 or more")
    if y.ndim != 1:
        raise XpnetError(f"{path}: {part} labels have {y.ndim} dimensions; there must be 1")
    if len(X) != len(y):
        raise XpnetError(f"{path}: {len(X)} {part} images but {len(y)} labels")
    if X.size == 0:
        raise XpnetError(f"{path}: the {part} images have shape {X.shape}, which holds nothing")
    X = check_rows(X.reshape(len(X), -1), f"{path}: x_{part}")
    return X, check_labels(y, None, f"{path}: y_{part}")
