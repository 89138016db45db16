"""Softmax and cross-entropy: probabilities, the loss, and its gradient."""

from math import log
from typing import Any

import numpy as np
import pytest

from xpnet.backends import Backend
from xpnet.nn.loss import cross_entropy, cross_entropy_backward, log_softmax, one_hot, softmax

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


@each_dtype
def test_logits_of_logarithms_give_fractions(dtype: str, backend: Backend, xp: Any) -> None:
    """exp(log n) = n: each row of softmax is the row of n divided by its sum."""
    n = np.array([[1.0, 2.0, 5.0], [4.0, 3.0, 1.0]])
    Z = backend.asarray(np.log(n).astype(dtype))
    A = np.array([[1 / 8, 2 / 8, 5 / 8], [4 / 8, 3 / 8, 1 / 8]])

    log_A, found = log_softmax(xp, Z), softmax(xp, Z)
    losses = cross_entropy(xp, log_A, backend.asarray(np.array([[0, 1, 0], [1, 0, 0]], dtype=dtype)))

    close = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(backend.to_numpy(log_A), np.log(A), rtol=close)
    np.testing.assert_allclose(backend.to_numpy(found), A, rtol=close)
    np.testing.assert_allclose(backend.to_numpy(losses), [log(4), log(2)], rtol=close)
    for array in (log_A, found, losses):
        assert array.dtype == backend.dtype(dtype)


@each_dtype
def test_each_row_of_softmax_is_positive_and_sums_to_one(
    dtype: str, backend: Backend, xp: Any, rng: np.random.Generator
) -> None:
    Z = backend.asarray((10 * rng.standard_normal((6, 4))).astype(dtype))
    A = backend.to_numpy(softmax(xp, Z))
    assert (A > 0).all()
    np.testing.assert_allclose(A.sum(axis=1), 1.0, atol=20 * float(np.finfo(dtype).eps), rtol=0)


@each_dtype
def test_huge_logits_stay_finite(dtype: str, backend: Backend, xp: Any) -> None:
    Z = backend.asarray(np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=dtype))
    Y = backend.asarray(np.array([[0, 1, 0], [0, 0, 1]], dtype=dtype))
    weights = backend.asarray(np.array([0.5, 0.5], dtype=dtype))

    # The backend silences NumPy, which reports an overflow on the way to a right result as well.
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        log_A = log_softmax(xp, Z)
        A = softmax(xp, Z)
        losses = cross_entropy(xp, log_A, Y)
        dZ = cross_entropy_backward(xp, log_A, Y, weights)

    assert backend.to_numpy(log_A).tolist() == [[0.0, -2e4, -1e4], [-2e4, -2e4, 0.0]]
    assert backend.to_numpy(A).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert backend.to_numpy(losses).tolist() == [2e4, 0.0]
    assert backend.to_numpy(dZ).tolist() == [[0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("k", [1, 10])
def test_equal_logits_cost_log_k(k: int, backend: Backend, xp: Any) -> None:
    """Who knows nothing gives every class 1/k."""
    Z = backend.asarray(np.repeat([[0.0], [7.25], [-1e4]], k, axis=1))
    Y = backend.asarray(np.eye(k)[[0, k // 2, k - 1]])
    losses = backend.to_numpy(cross_entropy(xp, log_softmax(xp, Z), Y))
    np.testing.assert_allclose(losses, log(k), rtol=1e-14)


def test_a_shift_of_a_row_changes_nothing(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    """Exactly nothing, where the shift itself is exact: eighths and whole numbers are."""
    Z = rng.integers(-40, 40, (6, 4)) / 8.0
    shift = np.array([[1024.0], [-1024.0], [3.0], [0.5], [-0.125], [65536.0]])
    plain = log_softmax(xp, backend.asarray(Z))
    shifted = log_softmax(xp, backend.asarray(Z + shift))
    assert (backend.to_numpy(plain) == backend.to_numpy(shifted)).all()


@pytest.mark.parametrize("label_dtype", ["uint8", "int32", "int64"])
def test_one_hot_is_exact(label_dtype: str, backend: Backend, xp: Any) -> None:
    y = backend.asarray(np.array([2, 0, 3, 2], dtype=label_dtype))
    classes = backend.asarray(np.arange(4, dtype=np.int32))
    Y = one_hot(xp, y, classes, backend.dtype("float32"))
    assert Y.dtype == backend.dtype("float32")
    assert backend.to_numpy(Y).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


@each_dtype
def test_gradient_by_hand(dtype: str, backend: Backend, xp: Any) -> None:
    """(A - Y) / m with m = 2 and A = [[1/4, 3/4], [1/2, 1/2]]."""
    log_A = backend.asarray(np.log([[1 / 4, 3 / 4], [1 / 2, 1 / 2]]).astype(dtype))
    Y = backend.asarray(np.array([[1, 0], [0, 1]], dtype=dtype))
    weights = backend.asarray(np.array([1 / 2, 1 / 2], dtype=dtype))

    dZ = cross_entropy_backward(xp, log_A, Y, weights)

    assert dZ.dtype == backend.dtype(dtype)
    close = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(backend.to_numpy(dZ), [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=close)


def test_rows_count_by_their_weights(backend: Backend, xp: Any) -> None:
    log_A = backend.asarray(np.log([[1 / 4, 3 / 4]] * 3))
    Y = backend.asarray(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    weights = backend.asarray(np.array([0.75, 0.0, 0.25]))

    dZ = backend.to_numpy(cross_entropy_backward(xp, log_A, Y, weights))

    np.testing.assert_allclose(dZ[[0, 2]], [[-9 / 16, 9 / 16], [1 / 16, -1 / 16]], rtol=1e-15)
    assert dZ[1].tolist() == [0.0, 0.0]


def test_inputs_are_left_alone(backend: Backend, xp: Any) -> None:
    host = [np.array([[1.0, 2.0], [3.0, 5.0]]), np.eye(2), np.array([0.5, 0.5])]
    Z, Y, weights = (backend.asarray(array) for array in host)
    log_A = log_softmax(xp, Z)
    before = backend.to_numpy(log_A).copy()
    softmax(xp, Z)
    cross_entropy(xp, log_A, Y)
    cross_entropy_backward(xp, log_A, Y, weights)

    for array, expected in zip((Z, Y, weights, log_A), [*host, before], strict=True):
        assert (backend.to_numpy(array) == expected).all()
