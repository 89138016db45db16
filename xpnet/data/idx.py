"""The IDX format, in which MNIST was published: a magic number, the sizes, then the numbers.

Byte 2 of the file is the type, byte 3 the number of dimensions; each size is a big-endian uint32, and so are
the numbers that follow. Source: http://yann.lecun.com/exdb/mnist/, "The IDX file format".
"""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from xpnet.errors import XpnetError

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CHUNK = 2**22
"""Bytes read at a time, so that a header cannot make us reserve what the file does not hold."""

NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
"""The names that MNIST and its many likes are published under."""


def read_folder(folder: Path, *, mapped: bool = False) -> dict[str, np.ndarray]:
    """Read four IDX files, plain or with ``.gz`` behind their names.

    Parameters
    ----------
    mapped
        Map the plain ones into memory instead, in the byte order of the file.

    Raises
    ------
    XpnetError
        A file is missing or damaged.
    """
    arrays = {}
    for key, name in NAMES.items():
        try:
            found = [path for path in (folder / name, folder / f"{name}.gz") if path.exists()]
        except OSError as error:
            raise XpnetError(f"{folder}: cannot be read: {error.strerror}") from error
        if not found:
            raise XpnetError(f"{folder}: no {name} and no {name}.gz in this folder")
        path = found[0]
        arrays[key] = map_idx(path) if mapped and path.suffix != ".gz" else read_idx(path)
        rank = arrays[key].ndim
        if (key[0] == "x" and rank < 2) or (key[0] == "y" and rank != 1):
            expected = "2 or more for images" if key[0] == "x" else "1 for labels"
            raise XpnetError(f"{path}: {rank} dimension(s) where there must be {expected}")
    return arrays


def read_idx(path: Path) -> np.ndarray:
    """Read one IDX file; a name that ends in ``.gz`` means gzip.

    Raises
    ------
    XpnetError
        The file cannot be read, or is not what its header says.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return _read(file, path)
    except gzip.BadGzipFile as error:
        raise XpnetError(f"{path}: not a gzip file, although named so") from error
    except (EOFError, zlib.error) as error:
        raise XpnetError(f"{path}: the gzip data are cut off or damaged") from error
    except OSError as error:
        raise XpnetError(f"{path}: {error.strerror or error}") from error


def map_idx(path: Path) -> np.ndarray:
    """Map one IDX file, not gzipped, into memory, for reading only.

    Raises
    ------
    XpnetError
        As for `read_idx`.
    """
    try:
        with path.open("rb") as file:
            dtype, shape = _header(file, path)
            offset, holds = file.tell(), path.stat().st_size
        _check_size(path, dtype, shape, holds - offset)
        return np.memmap(path, dtype, mode="r", offset=offset, shape=shape)
    except OSError as error:  # no room for the mapping, or a file system that has none
        raise XpnetError(f"{path}: {error.strerror or error}") from error


def _header(file: IO[bytes] | gzip.GzipFile, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0":
        raise XpnetError(f"{path}: not an IDX file (its magic number is 0x{magic.hex() or '00'})")
    code, rank = magic[2], magic[3]
    if code not in TYPES:
        raise XpnetError(f"{path}: unknown IDX type 0x{code:02x}")
    if not 1 <= rank <= 8:
        raise XpnetError(f"{path}: an IDX file of {rank} dimensions; there must be 1 to 8")
    header = file.read(4 * rank)
    if len(header) < 4 * rank:
        raise XpnetError(f"{path}: cut off within the header")
    shape = tuple(int(n) for n in np.frombuffer(header, ">u4"))

    return np.dtype(TYPES[code]), shape


def _check_size(path: Path, dtype: np.dtype, shape: tuple[int, ...], holds: int) -> None:
    promised = prod(shape) * dtype.itemsize
    if holds != promised:
        found = f"{holds:,}" if holds < promised else "more"
        raise XpnetError(f"{path}: the header promises {promised:,} bytes, the file holds {found}")
    if promised == 0:
        raise XpnetError(f"{path}: its shape {shape} holds nothing")


def _read(file: IO[bytes] | gzip.GzipFile, path: Path) -> np.ndarray:
    dtype, shape = _header(file, path)
    promised = prod(shape) * dtype.itemsize
    content = bytearray()
    while len(content) <= promised:  # one chunk past the end, to see what should not be there
        chunk = file.read(min(CHUNK, promised - len(content) + 1))
        if not chunk:
            break
        content += chunk
    _check_size(path, dtype, shape, len(content))
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)
