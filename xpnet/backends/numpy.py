"""NumPy, on the CPU: the reference."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import threadpoolctl

from xpnet.backends.base import Array, Backend


class NumPyBackend(Backend):
    """NumPy, on the CPU."""

    name = "numpy"
    library = "numpy"
    namespace = "numpy"  # since 2.1 it is the standard's own
    kinds = ("cpu",)
    install = "pip install numpy"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Overflow on the way to divergence is reported as divergence, once, and not as a warning."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore", under="ignore"):
            yield

    def asarray(self, x: np.ndarray) -> Array:
        """Copy."""
        return np.array(x, order="C")

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
