"""Checks which library and device an array belongs to, and its dtype."""

from typing import Any

import numpy as np

from xpnet.backends import Backend, owner
from xpnet.errors import XpnetError
from xpnet.nn.typing import Array

SCALES = {"int8": 127.0, "uint8": 255.0, "int16": 32767.0, "uint16": 65535.0}
"""The integer types that rows may have, and the largest value of each, by which such rows are divided."""


def check_owner(backend: Backend, array: Any, what: str) -> None:
    """Check that an array belongs to the network's library and device.

    Raises
    ------
    XpnetError
        It does not, or some of its numbers are masked. An array is never moved unasked.
    """
    library = owner(array)
    if np.ma.is_masked(array):
        raise XpnetError(f"{what}: masked numbers; fill them first, as with {what}.filled(0)")
    if library is None:
        raise XpnetError(f"{what} is a {type(array).__name__}: give an array of {backend.name}")
    if library != backend.name:
        raise XpnetError(
            f"{what} belongs to {library}, the network to {backend.name} on {backend.device}: move one of "
            f"them, say with model.backend.asarray({what}) or model.to(backend={library!r})"
        )
    if backend.device_of(array) != backend.device:
        there = backend.device_of(array)
        raise XpnetError(
            f"{what} is on {there}, the network on {backend.device}: move one of them, "
            f"say with model.to(device={there!r})"
        )


def dtype_name(array: Array) -> str:
    """The name of the dtype of any library's array: "uint8", "float32"."""
    return str(array.dtype).rpartition(".")[2]


def is_floating(name: str) -> bool:
    """Whether a dtype's name is that of a floating-point type: "float32", "bfloat16"."""
    return "float" in name


def scale_of(name: str) -> float:
    """The divisor of rows of a dtype: 1 for floats, the largest value of the type for integers.

    Raises
    ------
    XpnetError
        Rows cannot have this dtype.
    """
    if is_floating(name):
        return 1.0
    if name not in SCALES:
        raise XpnetError(f"X: {name} numbers; give uint8 or uint16, or floats already scaled")
    return SCALES[name]
