"""Arrays that are mapped from a file. They are read from it in pieces, not through the mapping.

Looking at a mapped page of a file that another process has cut off kills the process, and the pages that were
looked at stay in memory. Reading does neither.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.lib.array_utils import byte_bounds

from xpnet.errors import XpnetError
from xpnet.files import opened, status


def read(array: np.ndarray) -> np.ndarray:
    """Copy an array into memory; one that is mapped comes from its file.

    Raises
    ------
    XpnetError
        The file is gone, cannot be read, or ends before the array does.
    """
    whole = _mapped(array)
    if whole is None or array.size == 0:
        return np.array(array)
    low, high = byte_bounds(array)
    content = np.empty(high - low, np.uint8)
    with opened(Path(str(whole.filename))) as file:
        file.seek(whole.offset + low - byte_bounds(whole)[0])
        if file.readinto(content.data) < len(content):
            raise XpnetError(f"{whole.filename}: cut off since it was opened")
    first = array.__array_interface__["data"][0] - low
    return np.ndarray(array.shape, array.dtype, content.data, first, array.strides)


def pieces(array: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Copies of so many consecutive rows at a time."""
    return (read(array[start : start + rows]) for start in range(0, len(array), rows))


def file_of(array: np.ndarray) -> str | None:
    """The file that an array is mapped from, if it is."""
    whole = _mapped(array)
    return None if whole is None else str(whole.filename)


def version_of(file: str) -> tuple[int, ...]:
    """Numbers that change when a file is replaced, cut off or written to."""
    found = status(Path(file))
    return () if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _mapped(array: np.ndarray) -> np.memmap | None:
    """The mapped array that an array is a view of.

    None as well where its file has no name, or holds something else than the pages: in NumPy's mode "c".
    """
    held: object = array
    while isinstance(held, np.ndarray):
        if isinstance(held, np.memmap) and isinstance(held.base, mmap.mmap):
            named = held.mode != "c" and held.filename is not None and os.path.exists(held.filename)
            return held if named else None
        held = held.base
    return None
