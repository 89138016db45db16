"""Whose an array is, and what its numbers are."""

from typing import Any

import numpy as np

from xpnet.backends import Backend, owner
from xpnet.errors import XpnetError
from xpnet.nn.typing import Array


def check_owner(backend: Backend, array: Any, what: str) -> None:
    """Check that an array belongs to the network's library and device.

    Raises
    ------
    XpnetError
        It does not; nothing is moved behind the user's back.
    """
    library = owner(array)
    place = f"{backend.name} on {backend.device}"
    if library is None:
        raise XpnetError(f"{what} is a {type(array).__name__}: give an array of {backend.name}")
    if library != backend.name:
        raise XpnetError(
            f"{what} belongs to {library}, the network to {place}: move one of them, "
            f"say with model.backend.asarray({what}) or model.to(backend={library!r})"
        )
    if backend.device_of(array) != backend.device:
        raise XpnetError(
            f"{what} is on {backend.device_of(array)}, the network on {backend.device}: move one"
        )


def dtype_name(array: Array) -> str:
    """The dtype of any library's array: "uint8", "float32"."""
    return str(array.dtype).rpartition(".")[2]


def is_floating(name: str) -> bool:
    """Whether a dtype's name is that of a floating-point type: "float32", "bfloat16"."""
    return "float" in name


def integer_scale(name: str) -> float | None:
    """The largest value of an integer type of 8 or 16 bits; None for another type."""
    if name in ("uint8", "int8", "uint16", "int16"):
        return float(np.iinfo(name).max)
    return None
