"""Arrays that are mapped from a file. They are read from the file, not through the mapping.

If another process cuts the file off, touching a mapped page behind its end kills this process; and touched
pages stay in memory. Reading has neither fault. A file without a name, which nobody can cut off, is read
through the mapping.
"""

import mmap
import os
from collections.abc import Iterable, Iterator
from math import inf
from pathlib import Path

import numpy as np
from numpy.lib.array_utils import byte_bounds

from xpnet.errors import XpnetError
from xpnet.files import opened, status


def read(array: np.ndarray, into: np.ndarray | None = None) -> np.ndarray:
    """Bring an array into memory: from the file that it is mapped from, if it is.

    Parameters
    ----------
    into
        An array of the same shape to copy it to, and to cast it to the dtype of.

    Returns
    -------
    array
        `into`, or a new array; or, without `into`, the same memory if the array is mapped from no file.

    Raises
    ------
    XpnetError
        The file cannot be read, or ends before the array does.
    """
    whole, array = _mapped(array), np.asarray(array)
    if whole is None and into is None:
        return array
    into = np.empty_like(array, order="C") if into is None else into
    if whole is None or not array.size:
        np.copyto(into, array, casting="unsafe")
        return into
    low, high = byte_bounds(array)
    direct = array.dtype == into.dtype and array.flags.c_contiguous and into.flags.c_contiguous
    content = into.reshape(-1).view(np.uint8) if direct else np.empty(high - low, np.uint8)
    start = low - byte_bounds(whole)[0]
    if whole.filename is None:
        content[:] = np.asarray(whole).reshape(-1).view(np.uint8)[start : start + len(content)]
        # otherwise what was read counts as memory of this process
        if isinstance(whole.base, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            whole.base.madvise(mmap.MADV_DONTNEED)
    else:
        with opened(str(whole.filename)) as file:
            file.seek(start + whole.offset)
            if file.readinto(content.data) < len(content):
                raise XpnetError(f"{whole.filename}: cut off since it was opened")
    if not direct:
        first = array.__array_interface__["data"][0] - low
        into[...] = np.ndarray(array.shape, array.dtype, content.data, first, array.strides)
    return into


def pieces(array: np.ndarray, rows: int) -> Iterator[np.ndarray]:
    """Bring so many consecutive rows at a time into memory."""
    return (read(array[start : start + rows]) for start in range(0, len(array), rows))


def gathered(parts: Iterable[np.ndarray], memory: int | None) -> np.ndarray:
    """Put rows together: in memory or, if memory is limited, in a mapped file that goes with the array.

    Raises
    ------
    XpnetError
        The machine has too little memory, or the folder of temporary files has no room.
    """
    if memory is None:
        return np.concatenate(list(_held(parts)))
    from tempfile import TemporaryFile, gettempdir

    rows = 0
    try:
        with TemporaryFile() as file:
            for part in parts:
                file.write(np.ascontiguousarray(part).data)
                rows += len(part)
            return np.memmap(file, part.dtype, "r", shape=(rows, *part.shape[1:]))
    except OSError as error:
        said = f"cannot hold the rows, because memory is limited: {error.strerror or error}"
        raise XpnetError(f"{gettempdir()}: {said}; name another folder in TMPDIR") from error


def _held(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Hand on parts while all memory of the machine has room for them twice: apart, and put together."""
    room = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else inf
    for part in parts:
        room -= 2 * part.nbytes
        if room < 0:
            advice = "stream them with --memory, such as --memory 1GB, or memory= in a program"
            raise XpnetError(f"the rows need more memory than this machine has: {advice}")
        yield part


def file_of(array: np.ndarray) -> str | None:
    """Return the name of the file that an array is mapped from, or None."""
    whole = _mapped(array)
    return None if whole is None or whole.filename is None else str(whole.filename)


def stamped(array: np.ndarray) -> np.ndarray:
    """Note on an array that was just mapped which version of its file this is."""
    whole = _mapped(array)
    if whole is not None:
        vars(whole)["version"] = version_of(str(whole.filename))
    return array


def version_when_mapped(array: np.ndarray) -> tuple[int, ...]:
    """The version of the file of an array: the one that `stamped` noted, otherwise that of now."""
    whole, file = _mapped(array), file_of(array)
    return () if file is None else vars(whole).get("version") or version_of(file)


def version_of(file: str) -> tuple[int, ...]:
    """Return numbers that change when a file is replaced, cut off or written to."""
    found = status(Path(file))
    names = ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
    return () if found is None else tuple(getattr(found, name) for name in names)


def _mapped(array: np.ndarray) -> np.memmap | None:
    """Return the mapped array that an array is a view of, or None.

    It is None as well if the file has lost its name, or if the array was mapped in NumPy's mode "c", whose
    changes never reach the file.
    """
    held: object = array
    while isinstance(held, np.ndarray):
        if isinstance(held, np.memmap) and isinstance(held.base, mmap.mmap):
            nameless = held.filename is None and held.flags.c_contiguous
            there = nameless or (held.filename is not None and os.path.exists(held.filename))
            return held if there and held.mode != "c" else None
        held = held.base
    return None
