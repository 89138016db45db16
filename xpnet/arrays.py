"""Takes in arrays of any kind, and tells their dtype."""

from typing import Any

import numpy as np

from xpnet.arguments import brief
from xpnet.backends import Backend, owner
from xpnet.errors import UsageError, XpnetError
from xpnet.nn.typing import Array

SCALES = {"int8": 127.0, "uint8": 255.0, "int16": 32767.0, "uint16": 65535.0}
"""The integer types that rows may have, and the largest value of each, by which such rows are divided."""


def taken(backend: Backend, array: Any, what: str) -> Array:
    """Take rows of any kind: arrays of any library, frames and lists.

    Returns
    -------
    array
        A host array is returned as it is. Lists and frames become a new host array. Any other array becomes
        an array of the library, on the device: it is copied from the host, and shares memory on the same GPU.

    Raises
    ------
    UsageError
        It is not an array.
    XpnetError
        It is on another device, rows have different lengths, or it holds no numbers, or masked ones.
    """
    return host_array(array, what) if owner(array) in (None, "numpy") else backend.asarray(array)


def host_array(values: Any, what: str) -> np.ndarray:
    """Take a host array, a frame or a list; see `taken`."""
    try:
        array = values if isinstance(values, np.ndarray) else np.asarray(values)
    except (TypeError, ValueError) as error:
        raise XpnetError(f"{what}: rows of different lengths, or not numbers: {error}") from error
    if np.ma.is_masked(array):
        raise XpnetError(f"{what}: masked numbers; fill them, or leave their rows out")
    if array.ndim == 0:
        raise UsageError(f"{what} must be an array, not {brief(values)}")
    return array


def dtype_name(array: Array) -> str:
    """The name of the dtype of any library's array: "uint8", "float32"."""
    return str(array.dtype).rpartition(".")[2]


def is_floating(name: str) -> bool:
    """Whether a dtype's name is that of a floating-point type: "float32", "bfloat16"."""
    return "float" in name


def scale_of(name: str, what: str = "X") -> float:
    """The divisor of rows of a dtype: 1 for floats, the largest value of the type for integers.

    Raises
    ------
    XpnetError
        Rows cannot have this dtype.
    """
    if is_floating(name):
        return 1.0
    if name not in SCALES:
        raise XpnetError(f"{what}: {name} numbers; give uint8 or uint16, or floats already scaled")
    return SCALES[name]
