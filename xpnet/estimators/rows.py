"""The door of the estimators: rows and targets of any kind, checked as scikit-learn checks them.

Rows on the host go through scikit-learn's own checks. Rows on a device are checked here, where they are, and
stay there. Targets and weights come to the host, because they are small, and are needed there.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils import assert_all_finite, check_X_y
from sklearn.utils.validation import _check_feature_names, validate_data

from xpnet.arrays import dtype_name, is_floating
from xpnet.backends import Backend
from xpnet.errors import UsageError
from xpnet.estimators.places import asked, home, on_host, opened, place, same
from xpnet.estimators.sparse import SparseRows
from xpnet.nn.typing import Array

if TYPE_CHECKING:
    from xpnet.estimators.base import BaseMLP


def rows_and_targets(
    estimator: "BaseMLP", X: Any, y: Any, reset: bool
) -> tuple[Array, np.ndarray, Backend, str]:
    """Let rows and targets in, to learn from them.

    Parameters
    ----------
    reset
        Whether this is a first fit, which sets the names and the number of the features.

    Returns
    -------
    X, y, backend, dtype
        The rows on the backend's device, in the dtype; the targets on the host.

    Raises
    ------
    ValueError
        Rows or targets cannot be learned from, or are at another place than the one that was asked for.
    """
    there, backend = home(opened(X)), asked(estimator.device, estimator.backend)
    if there is not None and (estimator.device, estimator.backend) == (None, None):
        backend = there
    X, dtype = rows_on(estimator, X, backend, None, reset)
    return X, check_targets(estimator, X, y), backend, dtype


def check_targets(estimator: "BaseMLP", X: Array, y: Any) -> np.ndarray:
    """Check the targets of rows, and bring them to the host."""
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"This {name} estimator requires y to be passed, but the target y is None.")
    rows, how = np.broadcast_to(0.0, (X.shape[0], 1)), {"multi_output": True, "y_numeric": estimator._numeric}
    return check_X_y(rows, on_host(y), estimator=estimator, **how)[1]  # type: ignore[no-any-return]


def predict_rows(estimator: "BaseMLP", X: Any, method: str) -> tuple[Array, bool]:
    """Let rows in, to answer for them.

    Returns
    -------
    X, host
        The rows, on the host or on the device of the network; and whether they came from the host, so that
        the answer belongs there too.

    Raises
    ------
    ValueError
        They are not like those of the fit, or at another place.
    """
    there = home(opened(X))
    estimator._settle(there, there or estimator.model_.backend, method)
    backend, dtype = estimator.model_.backend, estimator.model_.dtype
    if there is not None:
        return rows_on(estimator, X, backend, dtype)[0], False
    X = _validated(estimator, X, False)
    return _placed(X, backend, dtype) if issparse(X) else _cast(X, dtype), True


def rows_on(
    estimator: "BaseMLP", X: Any, backend: Backend, dtype: str | None, reset: bool = False
) -> tuple[Array, str]:
    """Check rows, put those from the host on a device, and tell their dtype: that asked for, or their own.

    Raises
    ------
    ValueError
        They are not like those of the fit, or on another device.
    """
    given, X = X, opened(X)
    there = home(X)
    if there is None:
        X = _validated(estimator, X, reset)
        dtype = dtype or (X.dtype.name if backend.supports(X.dtype.name) else "float32")
        return _placed(X, backend, dtype), dtype
    if not same(there, backend):
        said = f"X is on {place(there)}, but the fit is on {place(backend)}"
        raise UsageError(f"{said}: change device= and backend=, or give X on the host")
    _check_feature_names(estimator, given, reset=reset)
    return _checked(estimator, X, backend, dtype, reset)


def _validated(estimator: "BaseMLP", X: Any, reset: bool) -> Any:
    how = {"accept_sparse": ["csr", "csc"], "dtype": (np.float64, np.float32)}
    return validate_data(estimator, X, reset=reset, **how)


def _placed(X: Any, backend: Backend, dtype: str) -> Array:
    """Move rows from the host; on NumPy they are there already."""
    if issparse(X) and type(backend).name != "numpy":
        raise UsageError(f"X is sparse, which {place(backend)} cannot take: give X.toarray()")
    if issparse(X):
        return SparseRows(_cast(X, dtype))
    X = _cast(X, dtype)
    return X if type(backend).name == "numpy" else backend.asarray(X)


def _cast(X: np.ndarray, dtype: str) -> np.ndarray:
    """Cast rows on the host. In float32 a large number would be infinite, which is an error."""
    if X.dtype == dtype:
        return X
    with np.errstate(over="ignore", invalid="ignore"):
        X = X.astype(dtype)
        assert_all_finite(X, input_name="X")
    return X


def _checked(
    estimator: "BaseMLP", X: Array, backend: Backend, dtype: str | None, reset: bool
) -> tuple[Array, str]:
    """Check rows on a device, with scikit-learn's words, and cast them to the dtype that is asked for.

    If none is, float32 and float64 stay, smaller floats become float32, and integers float64,
    where the device has it.
    """
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
