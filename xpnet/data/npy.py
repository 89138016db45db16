"""A folder of NumPy's own files, an array each, which can be mapped into memory."""

from pathlib import Path
from tokenize import TokenError

import numpy as np

from xpnet.data.idx import NAMES
from xpnet.errors import XpnetError


def is_npy_folder(folder: Path) -> bool:
    """Whether a folder holds any of the four files."""
    return any((folder / f"{key}.npy").exists() for key in NAMES)


def map_npy_folder(folder: Path) -> dict[str, np.ndarray]:
    """Map ``x_train.npy, y_train.npy, x_test.npy, y_test.npy`` into memory, for reading only.

    Raises
    ------
    XpnetError
        A file is missing or damaged, or holds Python objects, which are never unpickled.
    """
    return {key: _mapped(folder / f"{key}.npy") for key in NAMES}


def _mapped(path: Path) -> np.ndarray:
    if not path.exists():
        raise XpnetError(f"{path.parent}: no {path.name} in this folder")
    try:
        array: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OverflowError, TokenError) as error:
        raise XpnetError(f"{path}: cut off, damaged, or not an .npy file of numbers") from error
    except OSError as error:
        raise XpnetError(f"{path}: {error.strerror or error}") from error
    if not isinstance(array, np.memmap):
        raise XpnetError(f"{path}: an archive under the name of an .npy file; call it .npz")
    return array
