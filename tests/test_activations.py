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

# Far out: the functions have reached their ends, and their slopes have reached 0 (or stay 1).
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
    values, expected, slopes = BY_HAND[name]
    Z = backend.asarray(np.array(values, dtype=dtype))
    dA = np.array([1.0, -2.0, 3.0, 4.0, 0.5], dtype=dtype)

    A = ACTIVATIONS[name].forward(xp, Z)
    dZ = ACTIVATIONS[name].backward(xp, backend.asarray(dA), Z, A)

    assert A.dtype == dZ.dtype == backend.dtype(dtype)
    close = 0.0 if name in ("relu", "identity") else 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(backend.to_numpy(A), expected, rtol=close, atol=0)
    np.testing.assert_allclose(backend.to_numpy(dZ), dA * slopes, rtol=close, atol=0)


@each_dtype
def test_nothing_overflows_far_out(name: str, dtype: str, backend: Backend, xp: Any) -> None:
    Z = backend.asarray(np.array([-1000.0, 1000.0, -1000.0, 1000.0, -1000.0], dtype=dtype))
    dA = backend.asarray(np.array([3.0] * 5, dtype=dtype))

    # The backend silences NumPy, which reports an overflow on the way to a right result as well.
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        A = ACTIVATIONS[name].forward(xp, Z)
        dZ = ACTIVATIONS[name].backward(xp, dA, Z, A)

    (low, high), (slope_low, slope_high) = FAR_OUT[name]
    assert backend.to_numpy(A).tolist() == [low, high, low, high, low]
    assert backend.to_numpy(dZ).tolist() == [
        3.0 * slope for slope in [slope_low, slope_high] * 2 + [slope_low]
    ]


def test_any_shape_is_kept(name: str, backend: Backend, xp: Any) -> None:
    Z = backend.asarray(np.full((2, 3, 4), 0.5))
    A = ACTIVATIONS[name].forward(xp, Z)
    dZ = ACTIVATIONS[name].backward(xp, backend.asarray(np.ones((2, 3, 4))), Z, A)
    assert tuple(A.shape) == tuple(dZ.shape) == (2, 3, 4)


def test_inputs_are_left_alone(name: str, backend: Backend, xp: Any) -> None:
    host = np.array([-2.0, -0.5, 0.0, 0.5, 3.0])
    Z, dA = backend.asarray(host), backend.asarray(host + 1.0)
    A = ACTIVATIONS[name].forward(xp, Z)
    before = backend.to_numpy(A).copy()
    ACTIVATIONS[name].backward(xp, dA, Z, A)

    assert (backend.to_numpy(Z) == host).all()
    assert (backend.to_numpy(dA) == host + 1.0).all()
    assert (backend.to_numpy(A) == before).all()


def test_nan_is_let_through(name: str, backend: Backend, xp: Any) -> None:
    """An activation that turned NaN into a number would hide that training has diverged."""
    Z = backend.asarray(np.array([1.0, np.nan, -1.0, 0.0, 2.0]))
    A = backend.to_numpy(ACTIVATIONS[name].forward(xp, Z))
    assert np.isnan(A).tolist() == [False, True, False, False, False]
