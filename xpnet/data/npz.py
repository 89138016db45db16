"""NumPy's own archive, without pickles."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from xpnet.data.idx import NAMES
from xpnet.errors import XpnetError


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read ``x_train, y_train, x_test, y_test`` from an ``.npz`` file.

    Raises
    ------
    XpnetError
        The file cannot be read, lacks a key, or holds Python objects, which are never unpickled.
    """
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise zipfile.BadZipFile
            with np.load(file, allow_pickle=False) as archive:
                missing = [key for key in NAMES if key not in archive]
                if missing:
                    held = ", ".join(archive.files) or "nothing"
                    raise XpnetError(f"{path}: no array {', '.join(missing)} in it; it holds {held}")
                return {key: _member(archive, key, path) for key in NAMES}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError) as error:
        raise XpnetError(f"{path}: cut off, damaged, or not an .npz file") from error
    except OSError as error:
        raise XpnetError(f"{path}: {error.strerror or error}") from error


def _member(archive: np.lib.npyio.NpzFile, key: str, path: Path) -> np.ndarray:
    try:
        array = archive[key]
    except (ValueError, MemoryError, OverflowError) as error:
        if "allow_pickle" in str(error):
            raise XpnetError(f"{path}: {key} holds Python objects, not numbers") from error
        raise XpnetError(f"{path}: {key} is damaged: {error}") from error
    if not isinstance(array, np.ndarray):
        raise XpnetError(f"{path}: {key} is damaged: not an array")
    return array
