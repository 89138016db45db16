"""What must be true of rows and labels before they reach the mathematics."""

from operator import index

import numpy as np

from xpnet.data.mapped import pieces
from xpnet.errors import UsageError, XpnetError

LABELS_AT_ONCE = 2**20
NUMBERS_AT_ONCE = 2**20

MOST_CLASSES = 2**15
"""Above this a label is taken for a mistake, rather than for a reason to make so many outputs."""


def check_memory(memory: int | None) -> int | None:
    """Check that an amount of memory is a whole number of bytes, or None, and make it a plain one.

    Raises
    ------
    UsageError
        It is not.
    """
    if memory is None:
        return None
    if isinstance(memory, bool) or not hasattr(memory, "__index__") or memory < 1:
        raise UsageError(f"memory must be a whole number of bytes, 1 or more, not {memory!r}")
    return index(memory)


def check_type(dtype: np.dtype, what: str) -> np.dtype:
    """Check the type of rows.

    Parameters
    ----------
    what
        Whose rows they are: begins the message.

    Returns
    -------
    dtype
        The same in the machine's byte order; float16 and bool become float32.

    Raises
    ------
    XpnetError
        They are no numbers, or integers of a size whose largest value they would never reach.
    """
    if dtype.kind in "iu" and dtype.itemsize > 2:
        raise XpnetError(
            f"{what}: {dtype} numbers; store pixels as uint8 or uint16, or as floats already scaled"
        )
    if dtype.kind not in "iufb":
        raise XpnetError(f"{what}: {dtype} where there must be numbers")
    if dtype.kind == "b" or dtype == np.float16:
        return np.dtype(np.float32)
    return dtype.newbyteorder("=")


def held_type(dtype: np.dtype, floats: str, what: str) -> np.dtype:
    """What rows are held as while a network is trained on them.

    Parameters
    ----------
    floats
        What floating-point rows become: the dtype of the network.
    what
        Whose rows they are: begins the message.

    Raises
    ------
    XpnetError
        As for `check_type`.
    """
    found = check_type(dtype, what)
    return np.dtype(floats) if found.kind == "f" else found


def is_finite(X: np.ndarray) -> bool:
    """Whether no number of floating-point rows is NaN or infinite. Needs memory for few of them."""
    rows = max(1, NUMBERS_AT_ONCE // max(1, X.size // max(1, len(X))))
    return all(np.isfinite(piece).all() for piece in pieces(X, rows))


def check_rows(X: np.ndarray, what: str) -> np.ndarray:
    """Check the type of rows, and that floating-point ones are finite.

    Parameters
    ----------
    what
        Whose rows they are: begins the message.

    Returns
    -------
    X
        As it came, in the machine's byte order; float16 and bool as float32.

    Raises
    ------
    XpnetError
        Another type, or a number that is not finite.
    """
    X = np.ascontiguousarray(X, dtype=check_type(X.dtype, what))
    if X.dtype.kind == "f" and not is_finite(X):
        raise XpnetError(f"{what}: NaN or infinity among the numbers; clean the rows first")
    return X


def check_labels(y: np.ndarray, classes: int | None, what: str) -> np.ndarray:
    """Check that labels are whole numbers in 0 … classes - 1.

    Parameters
    ----------
    classes
        None where the labels themselves tell how many there are.
    what
        Whose labels they are: begins the message.

    Returns
    -------
    y : int32

    Raises
    ------
    XpnetError
        Labels that are not whole numbers, or outside the classes.
    """
    whole = y.dtype.kind in "iub" or (
        y.dtype.kind == "f" and np.isfinite(y).all() and (y == np.floor(y)).all()
    )
    if not whole:
        raise XpnetError(f"{what}: {y.dtype} labels; they must be whole numbers from 0")
    limit = MOST_CLASSES if classes is None else classes
    low, high = int(y.min(initial=0)), int(y.max(initial=0))
    if low < 0 or high >= limit:
        wrong = low if low < 0 else high
        raise XpnetError(f"{what}: label {wrong} is outside the classes 0 … {limit - 1}")
    return y.astype(np.int32)


def check_long_labels(y: np.ndarray, classes: int | None, what: str) -> None:
    """`check_labels` of labels that may be mapped from a file, with few of them in memory."""
    for labels in pieces(y, LABELS_AT_ONCE):
        check_labels(labels, classes, what)
