"""NumPy, on the CPU: the reference."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import threadpoolctl

from xpnet.backends.base import Array, Backend, Patched
from xpnet.backends.blas import load, subtract_product


class NumPyBackend(Backend):
    """NumPy, on the CPU."""

    name = "numpy"
    library = "numpy"
    kinds = ("cpu",)
    install = "pip install numpy"
    rows_at_once = 4096  # whose layers stay in the cache

    def namespace(self) -> Patched:
        """NumPy follows the standard since 2.1. Some functions have short cuts; one needs its BLAS."""
        return Patched(_short_cuts(), subtract_product) if load() else _short_cuts()

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Silence NumPy's warnings: overflow on the way to divergence is reported once, as divergence."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            yield

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy."""
        return np.array(x, order="C")

    def refill(self, array: Array, x: np.ndarray) -> Array:
        """Copy."""
        array[...] = x
        return array

    def exchange(self, array: Array, x: np.ndarray) -> tuple[Array, np.ndarray]:
        """They are both on the host, so they change places."""
        return x, array

    def adding(self) -> Callable[[Array], Array]:
        """By MPI."""
        return self.group.sum

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Set the size of the thread pool of the BLAS that NumPy was built with."""
        threadpoolctl.threadpool_limits(threads, user_api="blas")

    @classmethod
    def threads(cls) -> int | None:
        """The size of that pool; None for a BLAS that does not tell."""
        pools = threadpoolctl.threadpool_info()
        return max((p["num_threads"] for p in pools if p["user_api"] == "blas"), default=None)


NARROW = 32
"""The most columns of a matrix that counts as narrow."""


def _is_narrow(x: Array, axis: int | None) -> bool:
    """Whether a reduction is over rows that are so short that NumPy is slow.

    NumPy reduces rows one by one, but adds or compares whole columns, which is up to ten times as fast.
    """
    return axis == 1 and x.ndim == 2 and x.shape[1] <= NARROW


def _short_cuts() -> Patched:
    """NumPy, with faster versions of a few functions whose overhead takes longer than their work.

    A step on a small batch is some fifty calls of a few microseconds each. NumPy's own functions (2.4) check
    and wrap their arguments in Python for up to three microseconds; the methods and ufuncs behind them don't.
    """
    largest: Any = np.maximum.reduce
    total: Any = np.add.reduce

    def astype(x: Array, dtype: Any, /, *, copy: bool = True) -> Array:
        return x.astype(dtype, copy=copy)

    def matrix_transpose(x: Array, /) -> Array:
        return x.mT

    def max(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
        if _is_narrow(x, axis):
            return largest(x.T.copy(), 0).reshape(-1, *[1] * keepdims)
        return largest(x, axis, keepdims=keepdims)

    def maximum(x: Array, y: Any, /) -> Array:
        # vector code compares two arrays; an array and a number take three times as long
        return np.maximum(x, np.full_like(x, y) if type(y) is float and x.dtype.kind == "f" else y)

    def sum(x: Array, /, *, axis: int | None = None, dtype: Any = None, keepdims: bool = False) -> Array:
        if _is_narrow(x, axis) and dtype is None:
            return total(x.T.copy(), 0).reshape(-1, *[1] * keepdims)
        return total(x, axis, dtype, keepdims=keepdims)

    def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
        return x.take(indices, axis)

    return Patched(np, astype, matrix_transpose, max, maximum, sum, take)
