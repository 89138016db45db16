"""Few threads for small products: many small fits at the same time must not quarrel over the cores."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

SMALL = 2**22
"""Multiplications of a step up to which a second thread costs more than it brings."""

_LOCK = Lock()
_held: list[Any] = []
_count = 0


@cache
def _controller() -> ThreadpoolController:
    """Looking for the libraries takes milliseconds, so it is done once."""
    return ThreadpoolController()


@contextmanager
def few_threads(multiplications: int) -> Iterator[None]:
    """Let the BLAS of NumPy use one thread, where a step is small.

    The size of its pool is one for the whole process. So of several fits in several threads, the first sets
    it and the last restores it.
    """
    global _count
    if multiplications > SMALL:
        with nullcontext():
            yield
        return
    with _LOCK:
        _count += 1
        if _count == 1:
            _held.append(_controller().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _LOCK:
            _count -= 1
            if _count == 0:
                _held.pop().restore_original_limits()
