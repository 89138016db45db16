"""The IDX format, in which MNIST was published: a magic number, the sizes, then the numbers.

Byte 2 of the file is the type, byte 3 the number of dimensions; each size is a big-endian uint32, and so are
the numbers that follow. Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

import gzip
import os
import zlib
from io import BufferedReader
from math import prod
from pathlib import Path

import numpy as np

from xpnet.data.mapped import stamped
from xpnet.errors import XpnetError
from xpnet.files import opened

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
AT_ONCE = 2**22
"""Bytes that are read at a time, so that no memory is reserved for what a header only promises."""

NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
"""The file names of MNIST and of the many data sets in its format."""


def read_idx(path: Path) -> np.ndarray:
    """Map a plain IDX file into memory, for reading only, or read one whose name ends in ``.gz``.

    Returns
    -------
    array
        In the byte order of the file.

    Raises
    ------
    XpnetError
        The file cannot be read or mapped, or is not what its header says.
    """
    with opened(path) as file:
        if path.suffix != ".gz":
            dtype, shape, promised = _header(file, path)
            offset = file.tell()
            _check_size(path, promised, os.fstat(file.fileno()).st_size - offset)
            return stamped(np.memmap(file, dtype, "r", offset, shape))
        content = bytearray()
        try:
            with gzip.open(file) as unpacked:
                dtype, shape, promised = _header(unpacked, path)
                # one byte past the end as well, to see what should not be there
                while chunk := unpacked.read(min(AT_ONCE, promised + 1 - len(content))):
                    content += chunk
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise XpnetError(f"{path}: not gzip data, or cut off or damaged") from error
        _check_size(path, promised, len(content))
        return np.frombuffer(content, dtype).reshape(shape)


def _header(file: BufferedReader | gzip.GzipFile, path: Path) -> tuple[np.dtype, tuple[int, ...], int]:
    """The type, the sizes, and the bytes of the numbers that follow."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in TYPES or not 1 <= magic[3] <= 8:
        raise XpnetError(f"{path}: not an IDX file of numbers (its magic number is 0x{magic.hex() or '00'})")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise XpnetError(f"{path}: cut off within the header")
    dtype, shape = np.dtype(TYPES[magic[2]]), tuple(np.frombuffer(sizes, ">u4").tolist())
    if 0 in shape:
        raise XpnetError(f"{path}: its shape {shape} holds nothing")
    return dtype, shape, prod(shape) * dtype.itemsize


def _check_size(path: Path, promised: int, holds: int) -> None:
    if holds != promised:
        found = f"{holds:,}" if holds < promised else "more"
        raise XpnetError(f"{path}: the header promises {promised:,} bytes, the file holds {found}")
