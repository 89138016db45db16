"""Checks of rows and labels, before they reach the mathematics."""

import numpy as np

from xpnet.arguments import whole
from xpnet.data.mapped import pieces, read
from xpnet.errors import XpnetError

AT_ONCE = 2**20
"""The most numbers that are checked at a time."""

MOST_MEMORY = 2**60
"""Bytes. A larger amount is taken for a mistake."""

MOST_CLASSES = 2**15
"""The largest number of classes that labels may have. A larger label is taken for a mistake."""

MOST_SQUARED = 1e100
"""The largest target: float64 holds the sum of the squares of many of them."""

FEW_CLASSES = 1000
"""Up to this number of classes, any of them may have no row."""


def check_memory(memory: int | None) -> int | None:
    """Check that an amount of memory is a whole number of bytes, or None, and make it a plain one.

    Raises
    ------
    UsageError
        It is not.
    """
    return None if memory is None else whole("memory", memory, 1, MOST_MEMORY)


def check_type(X: np.ndarray, what: str, floats: str | None = None) -> np.dtype:
    """Check the type of rows.

    Parameters
    ----------
    what
        The name of the rows, with which the message begins.
    floats
        The dtype of a network, if floating-point rows are to be held in it.

    Returns
    -------
    dtype
        The dtype in which the rows are held: their own one in the byte order of the machine, but `floats` for
        floating-point rows, and float32 for float16 and bool.

    Raises
    ------
    XpnetError
        They are no numbers, or integers of more than 16 bits, whose largest value pixels never reach.
    """
    dtype = X.dtype
    if dtype.kind in "iu" and dtype.itemsize > 2:
        raise XpnetError(
            f"{what}: {dtype.name} numbers; store pixels as uint8 or uint16, or as floats already scaled"
        )
    if dtype.kind not in "iufb":
        raise XpnetError(f"{what}: {dtype.type.__name__} where there must be numbers, such as float32")
    if floats and dtype.kind in "fb":
        return np.dtype(floats)
    return np.dtype(np.float32) if dtype.kind == "b" or dtype == np.float16 else dtype.newbyteorder("=")


def check_finite(X: np.ndarray, what: str, first: int = 0) -> None:
    """Check that no number of rows is NaN or infinite, a few rows at a time.

    Parameters
    ----------
    what
        The name of the rows, with which the message begins.
    first
        The number of the first row.

    Raises
    ------
    XpnetError
        One is. The message names the row.
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
    """Check rows, and convert them to the dtype in which they are held.

    Parameters
    ----------
    X : (n, features)
    what, floats
        As for `check_type`.

    Returns
    -------
    X
        C-contiguous, and of the dtype that `check_type` returns. If `X` already is, it is not copied.

    Raises
    ------
    XpnetError
        The rows have another type, or a number is not finite.
    """
    dtype = check_type(X, what, floats)
    read(X[-1:])  # an error if a mapped file has been cut off, whose pages must not be touched then
    with np.errstate(over="ignore"):  # found to be infinite below
        rows = np.asarray(X, dtype, order="C")
    check_finite(rows, what)
    return rows


def check_labels(y: np.ndarray, classes: int | None, what: str, *, taught: bool = False) -> int:
    """Check that labels are whole numbers in 0 … classes - 1, a few labels at a time.

    Parameters
    ----------
    classes
        The number of classes; None to find it from the labels.
    what
        The name of the labels, with which the message begins.
    taught
        The labels are those to train on, so most classes must have a row.

    Returns
    -------
    classes
        One more than the largest label.

    Raises
    ------
    XpnetError
        A label is not a whole number or outside the classes; or, of labels to train on, more than half of
        more than `FEW_CLASSES` classes have no row.
    """
    limit = MOST_CLASSES if classes is None else classes
    seen = np.zeros(limit, dtype=bool)
    for labels in pieces(y, AT_ONCE):
        kind = labels.dtype.kind
        if not (kind in "iub" or (kind == "f" and (labels == np.trunc(labels)).all())):
            wanted = "they must be whole numbers from 0, unless the loss is for numbers"
            raise XpnetError(f"{what}: {y.dtype.name} labels; {wanted}")
        low, high = labels.min().item(), labels.max().item()
        if low < 0 or high >= limit:
            wrong = str(low if low < 0 else high).removesuffix(".0")
            if classes is None:
                raise XpnetError(
                    f"{what}: label {wrong}: classes are numbered 0, 1, 2, …, up to {MOST_CLASSES - 1}; "
                    "is it a missing value, or is the loss one for numbers?"
                )
            raise XpnetError(f"{what}: label {wrong} is outside the classes 0 … {limit - 1}")
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


def check_numbers(y: np.ndarray, what: str, *, binary: bool = False) -> np.ndarray:
    """Check targets that are numbers, or labels, and read them into memory.

    Parameters
    ----------
    y : (n,) or (n, k)
    what
        The name of the targets, with which the message begins.
    binary
        Whether they are labels, each 0 or 1.

    Returns
    -------
    y
        In float64.

    Raises
    ------
    XpnetError
        They are no numbers, not finite, or labels other than 0 and 1.
    """
    if y.dtype.kind not in "biuf":
        raise XpnetError(f"{what}: {y.dtype.type.__name__} where there must be numbers")
    T = read(y).astype(np.float64)
    check_finite(T.reshape(len(T), -1), what)
    if (largest := abs(T).max()) > MOST_SQUARED:
        raise XpnetError(f"{what}: {largest:g} is too large: give numbers in a larger unit")
    wrong = T[(T != 0) & (T != 1)] if binary else T[:0]
    if wrong.size:
        raise XpnetError(f"{what}: labels must be 0 or 1, not {wrong[0]:g}")
    return T
