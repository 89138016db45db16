"""Matrix products of NumPy whose results reuse memory, because fetching it anew costs page faults."""

import sys
from threading import Lock

import numpy as np

from xpnet.backends.base import Array

LARGE = 2**20
"""Bytes of a result from which its memory is worth reusing. Smaller results cost malloc no page fault."""

SPARE = 2**28
"""Bytes of unused memory that are kept at most."""


class Products:
    """Matrix products that are written into the memory of earlier ones that nobody uses any more.

    A gradient of megabytes is made anew in every step. If its memory goes back to the system in between, it
    costs a page fault for every 4 KB to fetch it again, which takes a fifth of the time of the product.
    """

    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []
        self.lock = Lock()
        # measured and not written down, because Python's versions count their own references differently
        self.unused = _references([np.empty(0)], 0)

    def matmul(self, A: Array, B: Array, /) -> Array:
        """A B. The result is the caller's for as long as anything refers to it, a view of it included."""
        if A.ndim != 2 or B.ndim != 2 or A.shape[0] * B.shape[1] * A.itemsize < LARGE or A.dtype != B.dtype:
            return np.matmul(A, B)
        return np.matmul(A, B, out=self._buffer((A.shape[0], B.shape[1]), A.dtype))

    def _buffer(self, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
        with self.lock:  # a buffer that is found unused must be referred to before another thread looks
            unused = [i for i in range(len(self.buffers)) if _references(self.buffers, i) == self.unused]
            for i in unused:
                buffer = self.buffers[i]
                if buffer.shape == shape and buffer.dtype == dtype and buffer.flags.writeable:
                    return buffer
            kept, idle = [np.empty(shape, dtype)], 0
            for i in reversed(range(len(self.buffers))):  # the latest first
                idle += self.buffers[i].nbytes if i in unused else 0
                if i not in unused or idle <= SPARE:
                    kept.insert(0, self.buffers[i])
            self.buffers = kept
            return kept[-1]


def _references(arrays: list[np.ndarray], i: int) -> int:
    """Count the references to an array of a list. Its views count too, because it is their base."""
    return sys.getrefcount(arrays[i])
