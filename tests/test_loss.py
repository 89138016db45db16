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
    """exp(log n) = n: each row of softmax is the row of n divided by its sum. The gradient is (A - Y) / m."""
    Z = backend.asarray(np.log([[1.0, 2.0, 5.0], [4.0, 3.0, 1.0]]).astype(dtype))
    Y = backend.asarray(np.array([[0, 1, 0], [1, 0, 0]], dtype=dtype))
    A = np.array([[1 / 8, 2 / 8, 5 / 8], [4 / 8, 3 / 8, 1 / 8]])

    log_A = log_softmax(xp, Z)
    dZ = cross_entropy_backward(xp, log_A, Y, backend.asarray(np.array([1 / 2, 1 / 2], dtype=dtype)))

    for found, expected in (
        (log_A, np.log(A)),
        (softmax(xp, Z), A),
        (cross_entropy(xp, log_A, Y), [log(4), log(2)]),
        (dZ, [[1 / 16, -6 / 16, 5 / 16], [-4 / 16, 3 / 16, 1 / 16]]),
    ):
        assert found.dtype == backend.dtype(dtype)
        np.testing.assert_allclose(backend.to_numpy(found), expected, rtol=8 * float(np.finfo(dtype).eps))


@each_dtype
def test_huge_logits_stay_finite(dtype: str, backend: Backend, xp: Any) -> None:
    Z = backend.asarray(np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]], dtype=dtype))
    Y = backend.asarray(np.array([[0, 1, 0], [0, 0, 1]], dtype=dtype))
    shares = backend.asarray(np.array([0.5, 0.5], dtype=dtype))

    # the backend silences NumPy, which reports overflows on the way to a right result too
    with np.errstate(over="raise", divide="raise", invalid="raise"):
        log_A, A = log_softmax(xp, Z), softmax(xp, Z)
        losses = cross_entropy(xp, log_A, Y)
        dZ = cross_entropy_backward(xp, log_A, Y, shares)

    assert backend.to_numpy(log_A).tolist() == [[0.0, -2e4, -1e4], [-2e4, -2e4, 0.0]]
    assert backend.to_numpy(A).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    assert backend.to_numpy(losses).tolist() == [2e4, 0.0]
    assert backend.to_numpy(dZ).tolist() == [[0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("k", [1, 10])
def test_equal_logits_cost_log_k(k: int, backend: Backend, xp: Any) -> None:
    """A network that knows nothing gives every class 1/k."""
    Z = backend.asarray(np.repeat([[0.0], [7.25], [-1e4]], k, axis=1))
    Y = backend.asarray(np.eye(k)[[0, k // 2, k - 1]])
    losses = backend.to_numpy(cross_entropy(xp, log_softmax(xp, Z), Y))
    np.testing.assert_allclose(losses, log(k), rtol=1e-14)


def test_a_shift_of_a_row_changes_nothing(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    """Exactly nothing, where the shift itself is exact: eighths and whole numbers are."""
    Z = rng.integers(-40, 40, (6, 4)) / 8.0
    shift = np.array([[1024.0], [-1024.0], [3.0], [0.5], [-0.125], [65536.0]])
    plain, shifted = (backend.to_numpy(log_softmax(xp, backend.asarray(logits))) for logits in (Z, Z + shift))
    assert (plain == shifted).all()


@pytest.mark.parametrize("label_dtype", ["uint8", "int32", "int64"])
def test_one_hot_is_exact(label_dtype: str, backend: Backend, xp: Any) -> None:
    y = backend.asarray(np.array([2, 0, 3, 2], dtype=label_dtype))
    Y = one_hot(xp, y, backend.asarray(np.arange(4, dtype=np.int32)), backend.dtype("float32"))
    assert Y.dtype == backend.dtype("float32")
    assert backend.to_numpy(Y).tolist() == [[0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]


def test_rows_count_by_their_weights(backend: Backend, xp: Any) -> None:
    log_A = backend.asarray(np.log([[1 / 4, 3 / 4]] * 3))
    Y = backend.asarray(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    dZ = cross_entropy_backward(xp, log_A, Y, backend.asarray(np.array([0.75, 0.0, 0.25])))
    expected = [[-9 / 16, 9 / 16], [0.0, 0.0], [1 / 16, -1 / 16]]
    np.testing.assert_allclose(backend.to_numpy(dZ), expected, rtol=1e-15)
