"""Rows that stay in their file: read by blocks of consecutive rows, in any order of the blocks."""

import numpy as np

from xpnet.data.checks import check_long_labels, held_type
from xpnet.data.mapped import name_of, release
from xpnet.errors import XpnetError

BLOCK = 2**18
"""Bytes in a block: long enough for a disk to read at its speed, short enough to mix many of them."""


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
        self.X, self.y, self.classes = X, y, classes
        self.dtype = held_type(X.dtype, dtype, "X")
        check_long_labels(y, classes, "y")
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
            A number that is not finite; the message names the row.
        """
        for number in numbers:
            begin = int(number) * self.rows
            end = min(begin + self.rows, len(self.X))
            block = X[start : start + end - begin]
            with np.errstate(over="ignore"):  # found to be infinite below
                block[...] = self.X[begin:end]
            if self.dtype.kind == "f":
                self._check(block, begin)
            y[start : start + end - begin] = self.y[begin:end]
            start += end - begin
            release(self.X[begin:end])
            release(self.y[begin:end])
        return start

    def _check(self, block: np.ndarray, begin: int) -> None:
        finite = np.isfinite(block)
        if finite.all():
            return
        place = f"{name_of(self.X, 'X')}: row {begin + int(np.argmin(finite.all(axis=1))):,}, counted from 0"
        raise XpnetError(
            f"{place}: NaN, infinity or a number too large for {self.dtype}; clean the rows first"
        )
