"""Few threads for small products: many small fits at the same time must not quarrel over the cores."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController

SMALL = 2**22
"""Multiplications of a forward pass up to which a second thread costs more than it brings."""

_LOCK = Lock()
_FITS: list[Any] = []
"""The small fits that run now. The size of the pool is that of the process: the first one sets it."""


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()  # which looks for libraries for milliseconds, so it does so once


@contextmanager
def few_threads(multiplications: int) -> Iterator[None]:
    """Let the BLAS of NumPy use one thread, where a step is small, until the last of such fits ends."""
    if multiplications > SMALL:
        yield
        return
    with _LOCK:
        _FITS.append(_FITS[0] if _FITS else _controller().limit(limits=1, user_api="blas"))
    try:
        yield
    finally:
        with _LOCK:
            limiter = _FITS.pop()
            if not _FITS:
                limiter.restore_original_limits()
