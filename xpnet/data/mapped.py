"""Arrays in files, mapped into memory rather than read: what is larger than memory is looked at in pieces."""

import mmap
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from numpy.lib.array_utils import byte_bounds

HUGE = 2**21
"""Bytes of the largest page of most machines: looking at one number may bring so many into memory."""


def pieces(array: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Copies of so many consecutive rows at a time, of which only one is in memory."""
    for start in range(0, len(array), rows):
        yield np.array(array[start : start + rows])
        release(array[start : start + rows])


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array is a view of a file that is mapped into memory."""
    return _mapped(array) is not None


def name_of(array: np.ndarray, otherwise: str) -> str:
    """The file that an array is a view of, or another name where it is none."""
    whole = _mapped(array)
    return otherwise if whole is None or whole.filename is None else str(whole.filename)


def release(array: np.ndarray) -> None:
    """Let go of the pages of a mapped file that hold an array, and of their neighbours.

    Read once, they would stay in memory until it runs short. They come from the file again when they are
    next looked at. Any other array stays as it is.
    """
    whole = _mapped(array)
    if whole is None or not hasattr(mmap, "MADV_DONTNEED"):
        return
    mapping = whole.base
    assert isinstance(mapping, mmap.mmap)
    origin = byte_bounds(whole)[0] // mmap.PAGESIZE * mmap.PAGESIZE
    low, high = byte_bounds(array)
    start = max(low // HUGE * HUGE - origin, 0)
    end = min(-(-high // HUGE) * HUGE - origin, len(mapping))
    with suppress(OSError):  # it is advice: rows are as right where it is not taken
        mapping.madvise(mmap.MADV_DONTNEED, start, end - start)


def _mapped(array: np.ndarray) -> np.memmap | None:
    """The mapped array that an array is a view of.

    None as well where pages may have been changed that no file holds, and would be lost: in NumPy's mode "c".
    """
    held: object = array
    while isinstance(held, np.ndarray):
        if isinstance(held, np.memmap) and isinstance(held.base, mmap.mmap):
            return None if held.mode == "c" else held
        held = held.base
    return None
