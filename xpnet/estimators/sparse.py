"""Sparse rows: what a step on NumPy asks of its rows, answered by a sparse matrix of SciPy."""

from typing import Any

import numpy as np
from scipy.sparse import csr_array


class SparseRows(csr_array):
    """Rows of which only the numbers that are not zero are held.

    Rows are taken and multiplied as sparse ones, and a product with a dense matrix is dense. So a step, which
    knows nothing of this, never makes a dense matrix as wide as the rows.
    """

    itemsize = 0
    """So that no product with these rows is written into memory that is kept."""

    def take(self, indices: np.ndarray, axis: int = 0) -> "SparseRows":
        """The rows of some numbers."""
        return SparseRows(self[indices])

    @property
    def mT(self) -> Any:  # noqa: N802
        """The columns as rows."""
        return SparseRows(self.T)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        """Multiply from the left: the only function of NumPy's that a step calls with its rows."""
        if ufunc is not np.matmul or method != "__call__" or options or inputs[0] is not self:
            return NotImplemented
        return csr_array(self) @ inputs[1]
