"""NumPy's own files: a folder of ``.npy`` files, or an ``.npz`` archive of such files.

Python objects in them are never unpickled.
"""

import struct
import warnings
import zipfile
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.lib.format import open_memmap
from numpy.lib.npyio import NpzFile

from xpnet.arguments import brief
from xpnet.data.idx import NAMES
from xpnet.data.mapped import stamped
from xpnet.errors import XpnetError
from xpnet.files import opened

DAMAGE = (
    *(ValueError, TypeError, KeyError, OverflowError, RuntimeError, EOFError, SyntaxError, TokenError),
    *(zipfile.BadZipFile, zlib.error, struct.error),
)
"""The exceptions of NumPy and zipfile for damaged files. The header of an array is a Python literal."""

PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The compressions that NumPy uses."""


def map_npy(path: Path) -> np.ndarray:
    """Map an ``.npy`` file into memory, for reading only.

    Raises
    ------
    XpnetError
        The file is damaged.
    """
    with opened(path), _parsing(str(path)):
        return stamped(open_memmap(path, "r"))


def read_npz(path: Path, keys: Collection[str] | None = tuple(NAMES)) -> dict[str, tuple[str, np.ndarray]]:
    """Read ``x_train, y_train, x_test, y_test`` from an ``.npz`` file, or other arrays; None for all.

    Returns the name and array of each.

    Raises
    ------
    XpnetError
        The file cannot be read, is damaged, or lacks an array.
    """
    arrays: dict[str, tuple[str, np.ndarray]] = {}
    with opened(path) as file, _parsing(str(path)), NpzFile(file) as archive:
        keys = archive.files if keys is None else keys
        missing = [key for key in keys if key not in archive.files]
        if missing:
            raise XpnetError(f"{path}: no array {', '.join(missing)} in it; it holds {brief(archive.files)}")
        assert archive.zip is not None
        if any(member.compress_type not in PLAIN for member in archive.zip.infolist()):
            raise XpnetError(f"{path}: packed in a way that NumPy does not; write it with numpy.savez")
        for key in keys:
            with _parsing(f"{path}: {key}"):
                arrays[key] = f"{path}: {key}", np.asarray(archive[key])
    return arrays


@contextmanager
def _parsing(name: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings(action="ignore"):  # about the literal in a damaged header
            yield
    except DAMAGE as error:
        raise XpnetError(f"{name}: cut off, damaged, or no numbers (Python objects are not read)") from error
