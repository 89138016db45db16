"""Checks a user's rows and labels, and moves them to the device."""

from typing import Any

import numpy as np

from xpnet.arguments import brief
from xpnet.arrays import check_owner, dtype_name, is_floating, scale_of
from xpnet.backends import owner
from xpnet.data.checks import check_labels, check_rows
from xpnet.data.mapped import read
from xpnet.errors import UsageError, XpnetError
from xpnet.model import MLP, check_shape
from xpnet.nn.typing import Array


def as_array(name: str, values: Any) -> Array:
    """Take an array of any library as it is, and make a NumPy array of a list or the like.

    Raises
    ------
    UsageError
        It is no array and nothing like one.
    XpnetError
        It is a list of lists of different lengths, or something that only another library can read.
    """
    if owner(values) is not None:
        return values
    try:
        array = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise XpnetError(f"{name}: rows of different lengths, or not numbers: {error}") from error
    if array.ndim == 0:
        raise UsageError(f"{name} must be an array, not {brief(values)}")
    return array


def check_shapes(model: MLP, X: Array, y: Array) -> None:
    """Check that rows and labels fit the network and each other.

    Raises
    ------
    XpnetError
        They do not.
    """
    check_shape(model, X)
    if tuple(y.shape) != tuple(X.shape[:1]):
        raise XpnetError(f"y has shape {tuple(y.shape)}: X of {X.shape[0]} rows needs ({X.shape[0]},)")


def move_rows(model: MLP, X: Array) -> Array:
    """Check rows, and move NumPy arrays to the network's device. Integers stay integers.

    Arrays of the network's own library are checked by a reduction there, and stay where they are. Call it
    within ``model.backend.running``.

    Parameters
    ----------
    X : (n, features)

    Raises
    ------
    XpnetError
        A number is not finite or too large for the network's dtype, the type is not one of rows, or the array
        belongs to a third library.
    """
    backend = model.backend
    if isinstance(X, np.ndarray):
        return backend.asarray(check_rows(X, "X", model.dtype))
    check_owner(backend, X, "X")
    name = dtype_name(X)
    scale_of(name)
    if is_floating(name) and not backend.to_numpy(backend.xp.all(backend.xp.isfinite(X))):
        raise XpnetError("X: NaN or infinity; clean the rows first")
    return X


def host_labels(model: MLP, y: Array) -> np.ndarray:
    """Check labels, and move those of the network's own library to the host, where they are checked.

    Parameters
    ----------
    y : (n,)

    Returns
    -------
    y : (n,) int32

    Raises
    ------
    XpnetError
        A label is not a whole number or outside the network's classes, or the array belongs to a third
        library.
    """
    if not isinstance(y, np.ndarray):
        check_owner(model.backend, y, "y")
        if not dtype_name(y).startswith(("int", "uint")):
            raise XpnetError(f"y: {dtype_name(y)} labels; they must be whole numbers from 0")
        y = model.backend.to_numpy(y)
    check_labels(y, model.classes, "y")
    return read(y).astype(np.int32)
