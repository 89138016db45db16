"""The door of training and evaluation: rows, targets and weights of any kind are checked here, once.

Rows come out as a host array, which may be mapped from a file, or as an array of the network's own library
on its device. Targets and weights come out on the host, because they are small, and are needed there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.arguments import brief
from xpnet.arrays import dtype_name, host_array, is_floating, scale_of, taken
from xpnet.backends import get_backend, owner
from xpnet.data.checks import check_labels, check_numbers, check_type
from xpnet.data.mapped import read
from xpnet.errors import UsageError, XpnetError
from xpnet.model import MLP, check_shape
from xpnet.nn.losses import LOSSES
from xpnet.nn.typing import Array
from xpnet.scaling import Columns

REAL = (int, float, np.integer, np.floating)
"""The types of a number that is the weight of a class."""

MOST_WEIGHT = 1e30
"""A larger one is taken for a mistake."""


@dataclass(frozen=True)
class Examples:
    """Rows with their targets and weights.

    Attributes
    ----------
    X : (n, features)
        On the host, where its numbers are still to be checked; or on the device, and checked.
    y : (n,) int32 or (n, k) float64
        Class numbers, or labels, or numbers in their own units.
    weights : (n,) float64
        The weight of every row, or None for 1.
    what
        What the rows are called in messages.
    """

    X: Array
    y: np.ndarray
    weights: np.ndarray | None
    what: str = "X"

    @property
    def rows(self) -> int:
        """The number of rows."""
        return int(self.X.shape[0])


def enter(
    model: MLP,
    X: Any,
    y: Any,
    weights: Any = None,
    class_weight: Any = None,
    *,
    names: str = "X y sample_weight",
    taught: bool = False,
) -> Examples:
    """Let rows, targets and weights in. Call it within ``model.backend.running``.

    Parameters
    ----------
    X : (n, features)
        Any array or frame. One on a device must be on the network's; one of another library that is there too
        is taken without a copy where the libraries can share memory.
    y : (n,) or (n, k)
        Targets, likewise; those on a device are read.
    weights : (n,)
        Weights of the rows, likewise; None for 1.
    class_weight
        "balanced", or the weight of each class by its name or number.
    names
        What to call the three in messages.
    taught
        Whether they are to be learned; see `check_labels`.

    Raises
    ------
    UsageError
        Something is no array.
    XpnetError
        Shapes, dtypes or values do not fit the network, or an array is on another device.
    """
    what_X, what_y, what_weights = names.split()
    X = _rows(model, X, what_X)
    host = _host(model, y, what_y)
    if host.shape[:1] != tuple(X.shape[:1]):
        raise XpnetError(f"{what_y} has shape {host.shape}: {what_X} of {X.shape[0]} rows needs as many")
    targets = _targets(model, host, what_y, taught)
    shares = None if weights is None else _weights(model, weights, X.shape[0], what_weights)
    if class_weight is not None:
        by_row = _class_weights(model, class_weight, targets, shares)
        shares = by_row if shares is None else shares * by_row
    if shares is not None and not shares.sum() > 0:
        raise XpnetError(f"{what_weights}: every row weighs 0; give some of them more")
    return Examples(X, targets, shares, what_X)


def columns_of(model: MLP, examples: Examples) -> Columns:
    """The mean and the standard deviation of the columns of rows, divided as a step divides them."""
    backend, xp, X, weights = model.backend, model.backend.xp, examples.X, examples.weights
    if isinstance(X, np.ndarray):
        scale, found = scale_of(check_type(X, examples.what).name), Columns.of(X, weights)
        return Columns(found.mean / scale, found.std / scale)
    scale, rows = scale_of(dtype_name(X)), xp.astype(X, backend.dtype(model.dtype), copy=False)
    shares = np.ones(examples.rows) if weights is None else weights
    w = backend.asarray((shares / shares.sum()).astype(model.dtype))[:, None]
    row = rows[int(np.argmax(shares > 0)), :]  # see Columns.of
    mean = row + xp.sum(w * (rows - row), axis=0)
    variance = xp.sum(w * (rows - mean) ** 2, axis=0)
    mean, std = (backend.to_numpy(x).astype(np.float64) for x in (mean, xp.sqrt(variance)))
    return Columns(mean / scale, np.where(std > 0, std, 1.0) / scale)


def _rows(model: MLP, X: Any, what: str) -> Array:
    backend, X = model.backend, taken(model.backend, X, what)
    check_shape(model, X, what)
    if not isinstance(X, np.ndarray):
        name = dtype_name(X)
        scale_of(name, what)
        if is_floating(name) and not bool(backend.to_numpy(backend.xp.all(backend.xp.isfinite(X)))):
            raise XpnetError(f"{what}: NaN or infinity; clean the rows first")
        return X
    check_type(X, what)
    return X


def _host(model: MLP, values: Any, what: str) -> np.ndarray:
    """Bring targets or weights to the host."""
    backend, name = model.backend, owner(values)
    if name in (None, "numpy"):
        return host_array(values, what)
    try:
        host: np.ndarray
        host = backend.to_numpy(values) if name == backend.name else get_backend("cpu").asarray(values)
        if host.dtype.kind == "V":
            raise TypeError(f"NumPy has no {dtype_name(values)}")
    except (XpnetError, TypeError, ValueError, RuntimeError, BufferError) as error:
        raise XpnetError(f"{what}: {error}; give a NumPy array of float32 or integers") from error
    return host


def _targets(model: MLP, y: np.ndarray, what: str, taught: bool) -> np.ndarray:
    kind, k = LOSSES[model.loss].kind.name, model.outputs
    if kind == "classes":
        if y.ndim != 1:
            raise XpnetError(f"{what} has shape {y.shape}: class numbers have shape (rows,)")
        names = model.class_names
        # integers are class numbers, unless the names themselves are numbers
        if names is not None and not (y.dtype.kind in "iub" and all(isinstance(name, str) for name in names)):
            return _numbered(names, y, what)
        if y.dtype.kind not in "biuf":
            said = "they must be whole numbers from 0, or the network must know their names, by class_names"
            raise XpnetError(f"{what}: {y.dtype} labels; {said}")
        check_labels(y, k, what, taught=taught)
        return read(y).astype(np.int32)
    if y.ndim == 1 and k == 1:
        y = y[:, np.newaxis]
    if y.ndim != 2 or y.shape[1] != k:
        raise XpnetError(f"{what} has shape {y.shape}: a network of {k} outputs needs (rows, {k})")
    T = check_numbers(y, what, binary=kind == "labels")
    if LOSSES[model.loss].positive and T.min() < 0:
        raise XpnetError(f"{what}: {T.min():g} is less than 0: {model.loss} needs 0 or more")
    return T


def _numbered(names: tuple[Any, ...], y: np.ndarray, what: str) -> np.ndarray:
    numbers, values = {name: number for number, name in enumerate(names)}, read(y).tolist()
    try:
        return np.array([numbers[value] for value in values], dtype=np.int32)
    except (KeyError, TypeError):  # a list, within an array of objects, has no place in a dict
        unknown = next(value for value in values if value not in names)
        raise XpnetError(f"{what}: {brief(unknown)} is none of the classes {brief(list(names))}") from None


def _weights(model: MLP, values: Any, rows: int, what: str) -> np.ndarray:
    weights = _host(model, values, what)
    if weights.shape != (rows,) or weights.dtype.kind not in "biuf":
        raise XpnetError(f"{what} has shape {weights.shape} of {weights.dtype}: it must be ({rows},) numbers")
    found = read(weights).astype(np.float64)
    if not (np.isfinite(found).all() and found.min() >= 0):
        row = int(np.argmin(np.isfinite(found) & (found >= 0)))
        raise XpnetError(f"{what}: row {row:,} weighs {found[row]:g}; weights are 0 or more")
    if found.max() > np.finfo(model.dtype).max:
        raise XpnetError(f"{what}: a weight of {found.max():g} is too large for {model.dtype}")
    return found


def _class_weights(model: MLP, given: Any, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The weight of every row, by its class. Balanced, every class weighs the same in sum."""
    if LOSSES[model.loss].kind.name != "classes":
        raise UsageError(f"class_weight belongs to classes, and {model.loss} has none; give sample_weight")
    k = model.outputs
    if isinstance(given, str) and given == "balanced":
        counts = np.bincount(y, weights, minlength=k)
        factors = counts.sum() / (np.count_nonzero(counts) * np.where(counts > 0, counts, 1.0))
    elif isinstance(given, Mapping):
        factors, known = np.ones(k), model.class_names or range(k)
        for name, weight in given.items():
            if name not in known or not isinstance(weight, REAL) or not 0 <= weight <= MOST_WEIGHT:
                wrong = brief({name: weight})
                raise UsageError(f"class_weight {wrong}: give classes and weights of 0 or more")
            factors[known.index(name)] = weight
    else:
        raise UsageError(f"class_weight must be 'balanced' or a mapping, not {brief(given)}")
    by_row: np.ndarray = factors[y]
    return by_row
