"""What must be true of rows and labels before they reach the mathematics."""

import numpy as np

from xpnet.errors import XpnetError

MOST_CLASSES = 2**15
"""Above this a label is taken for a mistake, rather than for a reason to make so many outputs."""


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
    if X.dtype.kind in "iu" and X.dtype.itemsize > 2:
        raise XpnetError(
            f"{what}: {X.dtype} numbers; store pixels as uint8 or uint16, or as floats already scaled"
        )
    if X.dtype.kind not in "iufb":
        raise XpnetError(f"{what}: {X.dtype} where there must be numbers")
    if X.dtype.kind == "b" or X.dtype == np.float16:
        X = X.astype(np.float32)
    if X.dtype.kind == "f" and not np.isfinite(X).all():
        raise XpnetError(f"{what}: NaN or infinity among the numbers; clean the rows first")
    return np.ascontiguousarray(X, dtype=X.dtype.newbyteorder("="))


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
