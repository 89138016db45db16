"""The door of the estimators: rows and targets of any kind, checked as scikit-learn checks them.

Rows on the host go through scikit-learn's own checks. Rows on a device are checked here, where they are, and
stay there. Targets and weights come to the host, because they are small, and are needed there.
"""

from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_regressor
from sklearn.utils import assert_all_finite, check_X_y
from sklearn.utils.validation import _check_feature_names, column_or_1d, validate_data

from xpnet.arrays import dtype_name, is_floating
from xpnet.backends import Backend
from xpnet.errors import UsageError
from xpnet.estimators.places import Opened, on_host, place
from xpnet.estimators.sparse import SparseRows
from xpnet.nn.typing import Array


def check_targets(estimator: Any, X: Array, y: Any) -> np.ndarray:
    """Bring the targets of rows to the host, and check them."""
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
    rows, numeric = np.broadcast_to(0.0, (X.shape[0], 1)), is_regressor(estimator)
    y = check_X_y(rows, on_host(y), multi_output=True, y_numeric=numeric, estimator=estimator)[1]
    return np.asarray(column_or_1d(y, warn=True)) if y.ndim == 2 and y.shape[1] == 1 else y


def check_rows(
    estimator: Any, rows: Opened, backend: Backend, dtype: str | None = None, reset: bool = False
) -> tuple[Array, str]:
    """Check rows that are to be learned or answered, and cast them.

    Parameters
    ----------
    backend
        Where they are needed.
    dtype
        What they are cast to. None for their own: float32 and float64 stay, smaller floats on a device become
        float32, and all else float64, where the device has it.
    reset
        Whether this is a first fit, which sets the names and the number of the features.

    Returns
    -------
    X, dtype
        The rows, on the host or on the device as before; and their dtype.

    Raises
    ------
    ValueError
        They cannot be learned from, are not like those of the fit, or are on another device.
    """
    if rows.home is not None:
        if place(rows.home) != place(backend):
            said = f"X is on {place(rows.home)}, but the fit is on {place(backend)}"
            raise UsageError(f"{said}: change device= and backend=, or give X on the host")
        _check_feature_names(estimator, rows.given, reset=reset)
        return _checked(estimator, rows.array, backend, dtype, reset)
    how = {"accept_sparse": ["csr", "csc"], "dtype": (np.float64, np.float32)}
    X = validate_data(estimator, rows.array, reset=reset, **how)
    if issparse(X) and backend.name != "numpy":
        raise UsageError(f"X is sparse, which {place(backend)} cannot take: give X.toarray()")
    dtype = dtype or (X.dtype.name if backend.supports(X.dtype.name) else "float32")
    if X.dtype != dtype:
        with np.errstate(over="ignore", invalid="ignore"):
            X = X.astype(dtype)
            assert_all_finite(X, input_name="X")  # in float32 a large number is infinite
    return SparseRows(X) if issparse(X) else X, dtype


def _checked(estimator: Any, X: Array, backend: Backend, dtype: str | None, reset: bool) -> tuple[Array, str]:
    """Check rows on a device, with scikit-learn's words, and cast them."""
    xp, name, kind = backend.xp, type(estimator).__name__, dtype_name(X)
    if X.ndim != 2:
        raise ValueError(f"Expected 2D array, got {X.ndim}D array instead. Reshape your data.")
    if 0 in X.shape:
        what = "feature" if X.shape[0] else "sample"
        raise ValueError(f"Found array with 0 {what}(s) (shape={tuple(X.shape)}), which {name} cannot take.")
    if "complex" in kind:
        raise ValueError("Complex data not supported")
    expected = X.shape[1] if reset else estimator.n_features_in_
    if X.shape[1] != expected:
        raise ValueError(
            f"X has {X.shape[1]} features, but {name} is expecting {expected} features as input."
        )
    narrow = (is_floating(kind) and kind != "float64") or not backend.supports("float64")
    held = "float32" if narrow else "float64"
    dtype = dtype or held
    with backend.running(max(held, dtype)):
        X = xp.astype(X, backend.dtype(dtype), copy=False)
        if is_floating(kind) and not bool(backend.to_numpy(xp.all(xp.isfinite(X)))):
            raise ValueError(f"Input X contains NaN, infinity or a value too large for {dtype}.")
    if reset:
        estimator.n_features_in_ = int(expected)
    return X, dtype
