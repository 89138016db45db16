"""From a user's rows and labels to the data of a step: checked, and moved to the device once."""

from typing import Any

import numpy as np

from xpnet.arrays import check_owner, dtype_name, integer_scale, is_floating
from xpnet.backends import owner
from xpnet.data.checks import check_labels, check_rows
from xpnet.data.mapped import read
from xpnet.errors import XpnetError
from xpnet.model import MLP
from xpnet.nn.typing import Array, State


def move_data(model: MLP, X: Array, y: Array) -> State:
    """Bring rows and labels to the network's device, as a step wants its `data`.

    NumPy arrays are moved; arrays of the network's own library stay where they are, and are
    checked by a few reductions there. Integers stay integers. Call it within ``model.backend.running``.

    Parameters
    ----------
    X : (n, features)
    y : (n,)

    Returns
    -------
    data : {"X", "y", "classes"}

    Raises
    ------
    XpnetError
        Shapes that do not fit the network or each other, values that are not finite, labels outside its
        classes, arrays of a third library.
    """
    check_shapes(model, X, y)
    return {"X": _rows(model, X), "y": _labels(model, y), "classes": class_numbers(model)}


def check_shapes(model: MLP, X: Array, y: Array) -> None:
    """Check that rows and labels fit the network and each other.

    Raises
    ------
    XpnetError
        They do not.
    """
    features = model.network.sizes[0]
    if X.ndim != 2 or X.shape[1] != features or X.shape[0] == 0:
        raise XpnetError(f"X has shape {tuple(X.shape)}: this network takes (rows, {features})")
    if tuple(y.shape) != tuple(X.shape[:1]):
        raise XpnetError(f"y has shape {tuple(y.shape)}: X of {X.shape[0]} rows needs ({X.shape[0]},)")


def class_numbers(model: MLP) -> Array:
    """0, 1, …, k - 1 on the device."""
    return model.backend.asarray(np.arange(model.classes, dtype=np.int32))


def as_array(values: Any) -> Array:
    """Any library's array as it is; lists and the like as NumPy arrays."""
    if owner(values) is not None:
        return values
    try:
        return np.asarray(values)
    except ValueError as error:
        raise XpnetError(f"rows of different lengths, or not numbers: {error}") from error


def training_scale(name: str) -> float:
    """What a network that is trained on rows of this dtype divides integers by: its largest value."""
    return integer_scale(name) or 1.0


def _rows(model: MLP, X: Array) -> Array:
    backend = model.backend
    if isinstance(X, np.ndarray):
        return backend.asarray(check_rows(X, "X", model.dtype))
    check_owner(backend, X, "X")
    name = dtype_name(X)
    if integer_scale(name) is None and not is_floating(name):
        raise XpnetError(f"X: {name} numbers; give uint8 or uint16, or floats already scaled")
    if is_floating(name) and not backend.to_numpy(backend.xp.all(backend.xp.isfinite(X))):
        raise XpnetError("X: NaN or infinity; clean the rows first")
    return X


def _labels(model: MLP, y: Array) -> Array:
    backend = model.backend
    if isinstance(y, np.ndarray):
        check_labels(y, model.classes, "y")
        return backend.asarray(read(y).astype(np.int32))
    check_owner(backend, y, "y")
    name = dtype_name(y)
    if not name.startswith(("int", "uint")):
        raise XpnetError(f"y: {name} labels; they must be whole numbers from 0")
    if name in ("uint16", "uint32", "uint64"):  # torch has no reductions for these
        return _labels(model, backend.to_numpy(y))
    with backend.running("float64"):  # JAX has int64 only there
        ends = [int(backend.to_numpy(end(y))) for end in (backend.xp.min, backend.xp.max)]
        check_labels(np.asarray(ends), model.classes, "y")
        return backend.xp.astype(y, backend.dtype("int32"))
