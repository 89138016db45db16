"""Rows that stay in their file, and are read in blocks of consecutive rows, in any order of the blocks."""

import numpy as np

from xpnet.data.checks import check_finite, check_labels, check_type
from xpnet.data.mapped import file_of, reader, version_of
from xpnet.errors import XpnetError

BLOCK = 2**18
"""Bytes in a block: enough for a disk to read at full speed, and few enough to mix many blocks."""


class Blocks:
    """Rows and labels, in blocks of consecutive rows. The last block may be shorter.

    Parameters
    ----------
    X : (n, features)
        Usually mapped from a file. Rows are checked when they are read.
    y : (n,)
        Labels. They are checked at once.
    classes
        The labels are 0 … classes - 1.
    dtype
        The dtype in which floating-point rows are read. Integers keep theirs.

    Attributes
    ----------
    rows
        The number of rows in a block.
    count
        The number of blocks.

    Raises
    ------
    XpnetError
        The rows are no numbers, or a label is outside the classes.
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
        """The bytes that a row needs in memory."""
        return int(self.X.shape[1]) * self.dtype.itemsize

    def size(self, numbers: np.ndarray) -> int:
        """The number of rows in the blocks of these numbers."""
        missing = self.count * self.rows - len(self.X)
        return len(numbers) * self.rows - (missing if self.count - 1 in numbers else 0)

    def read(self, numbers: np.ndarray, X: np.ndarray, y: np.ndarray, start: int) -> int:
        """Read blocks one after the other into `X` and `y`, from row `start` of these on.

        Returns
        -------
        end
            The row after the last one that was written.

        Raises
        ------
        XpnetError
            A number is not finite, and the message names its row; or a file has changed since the labels were
            checked.
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
