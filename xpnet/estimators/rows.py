"""The door of the estimators: rows and targets of any kind, checked as scikit-learn checks them.

Rows on the host go through scikit-learn's own checks. Rows on a device are checked here, where they are, and
stay there. Targets and weights come to the host, because they are small, and are needed there.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import check_X_y
from sklearn.utils.validation import validate_data

from xpnet.arrays import dtype_name
from xpnet.backends import Backend
from xpnet.errors import UsageError
from xpnet.estimators.places import asked, home, on_host, opened, place, same
from xpnet.estimators.sparse import SparseRows
from xpnet.nn.typing import Array

if TYPE_CHECKING:
    from xpnet.estimators.base import BaseMLP

DTYPES = (np.float64, np.float32)


def fit_rows(
    estimator: "BaseMLP", X: Any, y: Any, reset: bool, numeric: bool
) -> tuple[Array, np.ndarray, Backend, str]:
    """Let rows and targets in, to learn from them.

    Parameters
    ----------
    reset
        Whether this is a first fit, which sets the names and the number of the features.
    numeric
        Whether targets are numbers.

    Returns
    -------
    X, y, backend, dtype
        The rows on the backend's device, in the dtype; the targets on the host.

    Raises
    ------
    ValueError
        Rows or targets cannot be learned from, or are at another place than the one that was asked for.
    """
    X, y = opened(X), on_host(y)
    there, wanted = home(X), asked(estimator.device, estimator.backend)
    how = {"multi_output": True, "y_numeric": numeric}
    if there is None:
        X, y = validate_data(estimator, X, y, accept_sparse=["csr", "csc"], dtype=DTYPES, reset=reset, **how)
        dtype = X.dtype.name if wanted.supports(X.dtype.name) else "float32"
        return _placed(X, wanted, dtype), y, wanted, dtype
    if (estimator.device, estimator.backend) == (None, None):
        wanted = there
    elif not same(there, wanted):
        raise UsageError(
            f"X is on {place(there)}, but device= and backend= ask for {place(wanted)}: leave them out, or "
            "give X on the host"
        )
    _check_rows(estimator, X, there, reset)
    y = check_X_y(np.zeros((X.shape[0], 1)), y, estimator=estimator, **how)[1]
    dtype = _dtype(X, wanted)
    with wanted.running(dtype):
        return wanted.xp.astype(X, wanted.dtype(dtype), copy=False), y, wanted, dtype


def predict_rows(estimator: "BaseMLP", X: Any, method: str) -> tuple[Array, bool]:
    """Let rows in, to answer for them.

    Returns
    -------
    X, host
        The rows on the device of the network, in its dtype, and whether the answer belongs on the host.

    Raises
    ------
    ValueError
        They are not like those of the fit, or at another place.
    """
    X = opened(X)
    there = home(X)
    estimator._settle(there, there or estimator.model_.backend, method)
    model = estimator.model_
    return rows_for(estimator, X, model.backend, model.dtype), there is None


def rows_for(estimator: "BaseMLP", X: Any, backend: Backend, dtype: str) -> Array:
    """Check rows for an estimator that knows its features, and put them on a device.

    Raises
    ------
    ValueError
        They are not like those of the fit, or on another device.
    """
    X = opened(X)
    there = home(X)
    if there is None:
        X = validate_data(estimator, X, accept_sparse=["csr", "csc"], reset=False)
        return _placed(X, backend, dtype)
    if not same(there, backend):
        raise UsageError(f"the rows are on {place(there)}, but the network is on {place(backend)}")
    with backend.running(dtype):
        _check_rows(estimator, X, backend, False)
        return backend.xp.astype(X, backend.dtype(dtype), copy=False)


def _placed(X: Any, backend: Backend, dtype: str) -> Array:
    """Move rows from the host; on NumPy they are there already."""
    if issparse(X):
        if type(backend).name != "numpy":
            raise UsageError(f"X is sparse, which {place(backend)} cannot take: give X.toarray()")
        return SparseRows(X, dtype=dtype)
    X = X.astype(dtype, copy=False)
    return X if type(backend).name == "numpy" else backend.asarray(X)


def _dtype(X: Array, backend: Backend) -> str:
    """float32 for floats of 32 bits and less; else float64, where the device has it."""
    name = dtype_name(X)
    wanted = "float32" if "float" in name and name != "float64" else "float64"
    return wanted if backend.supports(wanted) else "float32"


def _check_rows(estimator: "BaseMLP", X: Array, backend: Backend, reset: bool) -> None:
    """Check rows on a device, with scikit-learn's words."""
    xp, name = backend.xp, type(estimator).__name__
    if X.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {X.ndim}D array instead. Reshape your data either using "
            "X.reshape(-1, 1) if it has a single feature or X.reshape(1, -1) if it holds a single sample."
        )
    n, features = X.shape
    for what, count in (("sample", n), ("feature", features)):
        if not count:
            raise ValueError(
                f"Found array with 0 {what}(s) (shape={tuple(X.shape)}) while a minimum of 1 is required "
                f"by {name}."
            )
    kind = dtype_name(X)
    if "complex" in kind:
        raise ValueError("Complex data not supported")
    with backend.running("float64"):
        if "float" in kind and not bool(backend.to_numpy(xp.all(xp.isfinite(X)))):
            raise ValueError("Input X contains NaN or infinity.")
    if reset:
        estimator.n_features_in_ = features
        vars(estimator).pop("feature_names_in_", None)
    elif features != estimator.n_features_in_:
        expected = estimator.n_features_in_
        raise ValueError(f"X has {features} features, but {name} is expecting {expected} features as input.")
