"""NumPy, on the CPU: the reference."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any

import numpy as np
import threadpoolctl

from xpnet.backends.base import Array, Backend, Namespace


class NumPyBackend(Backend):
    """NumPy, on the CPU."""

    name = "numpy"
    library = "numpy"
    namespace = "numpy"  # since 2.1 it is the standard's own
    kinds = ("cpu",)
    install = "pip install numpy"

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        if self.namespace == "numpy":  # a subclass has one of its own
            self.xp = _namespace()

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Overflow on the way to divergence is reported as divergence, once, and not as a warning."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            yield

    def asarray(self, x: np.ndarray) -> Array:
        """Copy."""
        return np.array(x, order="C")

    def refill(self, array: Array, x: np.ndarray) -> Array:
        """Copy."""
        array[...] = x
        return array

    def to_numpy(self, array: Array) -> np.ndarray:
        """The array itself."""
        return np.asarray(array)

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Set the size of the pool of whatever BLAS NumPy was built with."""
        threadpoolctl.threadpool_limits(threads, user_api="blas")

    @classmethod
    def threads(cls) -> int | None:
        """The size of that pool; None for a BLAS that does not tell."""
        pools = threadpoolctl.threadpool_info()
        return max((p["num_threads"] for p in pools if p["user_api"] == "blas"), default=None)


LARGE = 2**20
"""Bytes from which an array's memory is worth keeping: less comes from the allocator without page faults."""

KEPT = 2**28
"""Bytes of memory that nobody uses which is kept at most."""


class Products:
    """Matrix products whose results are written into memory that an earlier one has left.

    A gradient of megabytes is made anew in every step. Its memory goes back to the system in between, and
    costs a page fault for every 4 KB when it comes again, which takes as long as a fifth of the product.
    """

    def __init__(self) -> None:
        self.buffers: list[np.ndarray] = []
        self.lock = Lock()
        # counted and not written down, because Python's versions count their own references differently
        self.unused = _references([np.empty(0)], 0)

    def matmul(self, A: Array, B: Array, /) -> Array:
        """A B. The result is the caller's for as long as anything, a view too, refers to it."""
        if A.ndim != 2 or B.ndim != 2 or A.shape[0] * B.shape[1] * A.itemsize < LARGE or A.dtype != B.dtype:
            return np.matmul(A, B)
        return np.matmul(A, B, out=self._buffer((A.shape[0], B.shape[1]), A.dtype))

    def _buffer(self, shape: tuple[int, int], dtype: np.dtype) -> np.ndarray:
        with self.lock:  # between finding a buffer unused and referring to it
            unused = [i for i in range(len(self.buffers)) if _references(self.buffers, i) == self.unused]
            for i in unused:
                buffer = self.buffers[i]
                if buffer.shape == shape and buffer.dtype == dtype and buffer.flags.writeable:
                    return buffer
            kept, idle = [np.empty(shape, dtype)], 0
            for i in reversed(range(len(self.buffers))):  # the latest first
                idle += self.buffers[i].nbytes if i in unused else 0
                if i not in unused or idle <= KEPT:
                    kept.insert(0, self.buffers[i])
            self.buffers = kept
            return kept[-1]


def _references(arrays: list[np.ndarray], i: int) -> int:
    """How many references there are to an array of a list: of views of it too, whose base it is."""
    return sys.getrefcount(arrays[i])


_LARGEST: Any = np.maximum.reduce
_TOTAL: Any = np.add.reduce

NARROW = 32
"""Columns up to which a matrix counts as narrow."""


def _is_narrow(x: Array, axis: int | None) -> bool:
    """Whether rows are to be reduced that are so short that NumPy, which takes them one by one, is slow.

    By columns, which it takes as a whole, it is up to ten times as fast.
    """
    return axis == 1 and x.ndim == 2 and x.shape[1] <= NARROW


def _namespace() -> Namespace:
    """NumPy, but for a few functions that cost more on the way to their work than in it.

    A step on a small batch is some fifty calls of a few microseconds each. NumPy's own functions (2.4) check
    and wrap their arguments in Python for up to three of those; the methods and ufuncs behind them do not.
    """

    def astype(x: Array, dtype: Any, /, *, copy: bool = True) -> Array:
        return x.astype(dtype, copy=copy)

    def expand_dims(x: Array, /, *, axis: int = 0) -> Array:
        return x[:, None] if axis == 1 else np.expand_dims(x, axis)

    def matrix_transpose(x: Array, /) -> Array:
        return x.mT

    def max(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
        if _is_narrow(x, axis):
            return np.maximum.reduce(x.T.copy(), 0).reshape(-1, *[1] * keepdims)
        return _LARGEST(x, axis, keepdims=keepdims)

    def maximum(x: Array, y: Any, /) -> Array:
        # of two arrays it is vector code, of an array and a number it is not, and takes three times as long
        return np.maximum(x, np.full_like(x, y) if isinstance(y, float) else y)

    def sum(x: Array, /, *, axis: int | None = None, dtype: Any = None, keepdims: bool = False) -> Array:
        if _is_narrow(x, axis) and dtype is None:
            return np.add.reduce(x.T.copy(), 0).reshape(-1, *[1] * keepdims)
        return _TOTAL(x, axis, dtype, keepdims=keepdims)

    def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
        return x.take(indices, axis)

    return Namespace(
        np,
        astype=astype,
        expand_dims=expand_dims,
        matmul=Products().matmul,
        matrix_transpose=matrix_transpose,
        max=max,
        maximum=maximum,
        sum=sum,
        take=take,
    )
