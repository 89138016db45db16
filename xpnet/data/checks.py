"""What must be true of rows and labels before they reach the mathematics."""

import numpy as np

from xpnet.arguments import whole
from xpnet.data.mapped import pieces, read
from xpnet.errors import XpnetError

AT_ONCE = 2**20
"""Labels, or numbers of rows, that are looked at together."""

MOST_MEMORY = 2**60
"""Bytes. More are taken for a mistake."""

MOST_CLASSES = 2**15
"""A label of this or more is taken for a mistake, rather than for a reason to make so many outputs."""

FEW_CLASSES = 1000
"""So many classes, or fewer, may have gaps in their numbers."""


def check_memory(memory: int | None) -> int | None:
    """Check that an amount of memory is a whole number of bytes, or None, and make it a plain one.

    Raises
    ------
    UsageError
        It is not.
    """
    return None if memory is None else whole("memory", memory, 1, MOST_MEMORY)


def check_type(X: np.ndarray, what: str, floats: str | None = None) -> np.dtype:
    """Check the type of rows, and that none of their numbers are masked.

    Parameters
    ----------
    what
        What the rows are called: begins the message.
    floats
        What floating-point rows become, if not what they are: the dtype of a network.

    Returns
    -------
    dtype
        What the rows are held as: their own type in the machine's byte order, but `floats` for floating
        point, and float32 for float16 and bool.

    Raises
    ------
    XpnetError
        They are no numbers, or masked, or integers of a size whose largest value they would never reach.
    """
    dtype = X.dtype
    if dtype.kind in "iu" and dtype.itemsize > 2:
        raise XpnetError(
            f"{what}: {dtype.name} numbers; store pixels as uint8 or uint16, or as floats already scaled"
        )
    if dtype.kind not in "iufb":
        raise XpnetError(f"{what}: {dtype.str} where there must be numbers")
    if np.ma.is_masked(X):
        raise XpnetError(f"{what}: masked numbers; fill them first, as with {what}.filled(0)")
    if floats and dtype.kind in "fb":
        return np.dtype(floats)
    return np.dtype(np.float32) if dtype.kind == "b" or dtype == np.float16 else dtype.newbyteorder("=")


def check_finite(X: np.ndarray, what: str, first: int = 0) -> None:
    """Check that no number of rows is NaN or infinite, looking at few of them at a time.

    Parameters
    ----------
    what
        What the rows are called: begins the message.
    first
        The number of the first row.

    Raises
    ------
    XpnetError
        One is; the message names the row.
    """
    if X.dtype.kind != "f":
        return
    for piece in pieces(X, max(1, AT_ONCE // X.shape[1])):
        finite = np.isfinite(piece).all(axis=1)
        if not finite.all():
            row = f"row {first + int(np.argmin(finite)):,}, counted from 0"
            raise XpnetError(
                f"{what}: {row}: NaN, infinity or a number too large for {X.dtype}; clean the rows first"
            )
        first += len(piece)


def check_rows(X: np.ndarray, what: str, floats: str | None = None) -> np.ndarray:
    """Check rows, and make them what they are held as.

    Parameters
    ----------
    X : (n, features)
    what, floats
        As for `check_type`.

    Returns
    -------
    X
        C-contiguous, of the dtype that `check_type` returns: the same array where it was that already.

    Raises
    ------
    XpnetError
        Another type, or a number that is not finite.
    """
    dtype = check_type(X, what, floats)
    read(X[-1:])  # a mapped file that was cut off since is an error, before a look at the pages it had
    with np.errstate(over="ignore"):  # found to be infinite below
        rows = np.asarray(X, dtype, order="C")
    check_finite(rows, what)
    return rows


def check_labels(y: np.ndarray, classes: int | None, what: str, *, taught: bool = False) -> int:
    """Check that labels are whole numbers in 0 … classes - 1, looking at few of them at a time.

    Parameters
    ----------
    classes
        None where the labels themselves tell how many there are.
    what
        What the labels are called: begins the message.
    taught
        Whether they are to be learned, so that most classes must have a row.

    Returns
    -------
    classes
        One more than the largest label.

    Raises
    ------
    XpnetError
        Labels that are masked, not whole numbers or outside the classes, or labels to be learned of which
        more than half of more than `FEW_CLASSES` classes have no row.
    """
    if np.ma.is_masked(y):
        raise XpnetError(f"{what}: masked labels; leave their rows out")
    limit = MOST_CLASSES if classes is None else classes
    seen = np.zeros(limit, dtype=bool)
    for labels in pieces(y, AT_ONCE):
        kind = labels.dtype.kind
        if not (kind in "iub" or (kind == "f" and (labels == np.trunc(labels)).all())):
            raise XpnetError(f"{what}: {y.dtype} labels; they must be whole numbers from 0")
        low, high = float(labels.min()), float(labels.max())
        if low < 0 or high >= limit:
            wrong = low if low < 0 else high
            raise XpnetError(f"{what}: label {wrong:.0f} is outside the classes 0 … {limit - 1}")
        seen[labels.astype(np.int64)] = True
    found = np.flatnonzero(seen)
    largest = int(found[-1])
    gaps = largest + 1 - len(found)
    if taught and largest >= FEW_CLASSES and 2 * gaps > largest + 1:
        some = ", ".join(map(str, found[:-1][:3]))
        raise XpnetError(
            f"{what}: labels {some} and {largest} leave {gaps:,} of {largest + 1:,} classes without a row: "
            f"is {largest} a missing value? Number the classes 0, 1, 2, … without gaps"
        )
    return largest + 1
