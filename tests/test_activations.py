"""The activations and their derivatives."""

from math import log
from typing import Any

import numpy as np
import pytest

from xpnet.backends import Backend
from xpnet.nn.activations import ACTIVATIONS

# Z, A = f(Z) and f'(Z). The logarithms make fractions:
# tanh(log 2) = (4 - 1) / (4 + 1) and sigmoid(log 3) = 3 / (3 + 1).
BY_HAND = {
    "relu": ([-2.0, -0.5, 0.0, 0.5, 3.0], [0.0, 0.0, 0.0, 0.5, 3.0], [0.0, 0.0, 0.0, 1.0, 1.0]),
    "identity": ([-2.0, -0.5, 0.0, 0.5, 3.0], [-2.0, -0.5, 0.0, 0.5, 3.0], [1.0, 1.0, 1.0, 1.0, 1.0]),
    "tanh": (
        [-log(3), -log(2), 0.0, log(2), log(3)],
        [-4 / 5, -3 / 5, 0.0, 3 / 5, 4 / 5],
        [9 / 25, 16 / 25, 1.0, 16 / 25, 9 / 25],
    ),
    "sigmoid": (
        [-log(4), -log(3), 0.0, log(3), log(4)],
        [1 / 5, 1 / 4, 1 / 2, 3 / 4, 4 / 5],
        [4 / 25, 3 / 16, 1 / 4, 3 / 16, 4 / 25],
    ),
}

# A and f' at Z = -1000 and 1000: the functions have reached their limits, and their slopes are 0 or still 1.
FAR_OUT = {
    "relu": ([0.0, 1000.0], [0.0, 1.0]),
    "identity": ([-1000.0, 1000.0], [1.0, 1.0]),
    "tanh": ([-1.0, 1.0], [0.0, 0.0]),
    "sigmoid": ([0.0, 1.0], [0.0, 0.0]),
}

pytestmark = pytest.mark.parametrize("name", sorted(ACTIVATIONS))
each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


@each_dtype
def test_values_and_slopes_by_hand(name: str, dtype: str, backend: Backend, xp: Any) -> None:
    values, expected, slopes = (np.array([row], dtype=dtype) for row in BY_HAND[name])
    gradient = np.array([[1.0, -2.0, 3.0, 4.0, 0.5]], dtype=dtype)
    Z, dA = backend.asarray(values), backend.asarray(gradient)

    A = ACTIVATIONS[name].forward(xp, Z)
    before = backend.to_numpy(A).copy()
    dZ = ACTIVATIONS[name].backward(xp, dA, Z, A)

    assert A.dtype == dZ.dtype == backend.dtype(dtype)
    rtol = 0.0 if name in ("relu", "identity") else 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(backend.to_numpy(A), expected, rtol=rtol)
    np.testing.assert_allclose(backend.to_numpy(dZ), gradient * slopes, rtol=rtol)
    for given, kept in ((Z, values), (dA, gradient), (A, before)):
        assert (backend.to_numpy(given) == kept).all(), "wrote to what it was given"


@each_dtype
def test_nothing_overflows_far_out(name: str, dtype: str, backend: Backend, xp: Any) -> None:
    Z = backend.asarray(np.array([[-1000.0, 1000.0]] * 3, dtype=dtype))
    dA = backend.asarray(np.full((3, 2), 3.0, dtype=dtype))

    # the backend silences NumPy, which reports overflows on the way to a right result too
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        A = ACTIVATIONS[name].forward(xp, Z)
        dZ = ACTIVATIONS[name].backward(xp, dA, Z, A)

    values, slopes = FAR_OUT[name]
    assert backend.to_numpy(A).tolist() == [values] * 3
    assert backend.to_numpy(dZ / dA).tolist() == [slopes] * 3


def test_nan_is_let_through(name: str, backend: Backend, xp: Any) -> None:
    """An activation that turned NaN into a number would hide that training has diverged."""
    A = ACTIVATIONS[name].forward(xp, backend.asarray(np.array([1.0, np.nan, -1.0, 0.0])))
    assert np.isnan(backend.to_numpy(A)).tolist() == [False, True, False, False]
