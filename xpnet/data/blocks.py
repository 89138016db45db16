"""Rows that stay in their file: read by blocks of consecutive rows, in any order of the blocks."""

import numpy as np

from xpnet.data.checks import check_finite, check_labels, check_type
from xpnet.data.mapped import file_of, reader, version_of
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
        Rows in a block.
    count
        The number of blocks.

    Raises
    ------
    XpnetError
        Rows that are no numbers, or labels outside the classes.
    """

    def __init__(self, X: np.ndarray, y: np.ndarray, classes: int, dtype: str) -> None:
        self.X, self.y = X, y
        self.dtype = check_type(X, "X", dtype)
        self.versions = {file: version_of(file) for file in map(file_of, (X, y)) if file}
        check_labels(y, classes, "y")
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
            A number that is not finite, whose row the message names; or a file that is cut off, or that has
            changed since its labels were checked.
        """
        name = file_of(self.X) or "X"
        with reader(self.X) as fill_rows, reader(self.y) as fill_labels:
            for number in numbers:
                begin = int(number) * self.rows
                end = min(begin + self.rows, len(self.X))
                block = X[start : start + end - begin]
                with np.errstate(over="ignore"):  # found to be infinite below
                    fill_rows(begin, end, block)
                check_finite(block, name, begin)
                fill_labels(begin, end, y[start : start + end - begin])
                start += end - begin
        for file, version in self.versions.items():
            if version_of(file) != version:
                raise XpnetError(f"{file}: changed while it was read; begin again")
        return start
