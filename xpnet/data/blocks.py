"""Rows that stay in their file, and are read in blocks of consecutive rows, in any order of the blocks."""

import numpy as np

from xpnet.data.checks import check_finite, check_type
from xpnet.data.mapped import file_of, read, version_of, version_when_mapped
from xpnet.errors import XpnetError

BLOCK = 2**18
"""Bytes in a block: enough for a disk to read at full speed, and few enough to mix many blocks."""


class Blocks:
    """Rows, by blocks of consecutive rows. The last block may be shorter.

    Parameters
    ----------
    X : (n, features)
        Mapped from a file, as a rule. Checked as it is read.
    dtype
        What floating-point rows are read as; integers stay what they are.
    what
        What the rows are called in messages, where they are in no file.

    Attributes
    ----------
    rows
        The number of rows in a block.
    count
        The number of blocks.

    Raises
    ------
    XpnetError
        The rows are no numbers.
    """

    def __init__(self, X: np.ndarray, dtype: str, what: str = "X") -> None:
        self.X, self.what = X, what
        self.dtype = check_type(X, what, dtype)
        self.file = file_of(X)
        self.version = version_when_mapped(X)
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

    def row_numbers(self, numbers: np.ndarray) -> np.ndarray:
        """The numbers of the rows in some blocks, one block behind the other."""
        ranges = [np.arange(n * self.rows, min((n + 1) * self.rows, len(self.X))) for n in numbers]
        return np.concatenate(ranges)

    def read(self, numbers: np.ndarray, X: np.ndarray, start: int) -> None:
        """Read blocks, one behind the other, into `X` from its row `start` on.

        Raises
        ------
        XpnetError
            A number is not finite, and the message names its row; or the file is cut off, or has changed
            since it was opened.
        """
        for number in numbers:
            begin = int(number) * self.rows
            end = min(begin + self.rows, len(self.X))
            block = X[start : start + end - begin]
            with np.errstate(over="ignore"):  # found to be infinite below
                read(self.X[begin:end], block)
            check_finite(block, self.file or self.what, begin)
            start += end - begin
        if self.file and version_of(self.file) != self.version:
            raise XpnetError(f"{self.file}: changed while it was read; begin again")
