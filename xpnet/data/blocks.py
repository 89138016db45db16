"""Rows that stay in their file: read by blocks of consecutive rows, in any order of the blocks."""

import numpy as np

from xpnet.data.checks import check_labels, check_type
from xpnet.data.mapped import pieces, release
from xpnet.errors import XpnetError

BLOCK = 2**18
"""Bytes in a block: long enough for a disk to read at its speed, short enough to mix many of them."""

LABELS_AT_ONCE = 2**20


class Blocks:
    """Rows and labels, by blocks of consecutive rows. The last block may be shorter.

    Parameters
    ----------
    X : (n, features)
        Mapped from a file, as a rule. Checked as it is read.
    y : (n,)
        Labels; checked at once, in pieces.
    classes
        The labels are 0 … classes - 1.
    dtype
        What floating-point rows are read as; integers stay what they are.

    Attributes
    ----------
    rows
        In a block.
    count
        Of blocks.

    Raises
    ------
    XpnetError
        Rows that are no numbers, or labels outside the classes.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray, classes: int, dtype: str) -> None:
        found = check_type(X.dtype, "X")
        self.X, self.y, self.classes = X, y, classes
        self.dtype = np.dtype(dtype) if found.kind == "f" else found
        for labels in pieces(y, LABELS_AT_ONCE):
            check_labels(labels, classes, "y")
        self.rows = max(1, BLOCK // self.row_bytes)
        self.count = -(-len(X) // self.rows)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row in memory."""
        return int(self.X.shape[1]) * self.dtype.itemsize

    def size(self, numbers: np.ndarray) -> int:
        """The number of rows in the blocks of these numbers."""
        missing = self.count * self.rows - len(self.X)
        return len(numbers) * self.rows - (missing if self.count - 1 in numbers else 0)

    def read(self, numbers: np.ndarray, X: np.ndarray, y: np.ndarray, start: int) -> int:
        """Read blocks, one behind the other, into `X` and `y` from their row `start` on.

        Returns
        -------
        end
            The row after the last that was written.

        Raises
        ------
        XpnetError
            A number that is not finite.
        """
        first = start
        for number in numbers:
            begin = int(number) * self.rows
            end = min(begin + self.rows, len(self.X))
            with np.errstate(over="ignore"):  # found to be infinite below
                X[start : start + end - begin] = self.X[begin:end]
            y[start : start + end - begin] = self.y[begin:end]
            start += end - begin
            release(self.X[begin:end])
            release(self.y[begin:end])
        if self.dtype.kind == "f" and not np.isfinite(X[first:start]).all():
            raise XpnetError(f"X: NaN, infinity or a number too large for {self.dtype}; clean the rows first")
        return start
