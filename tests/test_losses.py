"""The losses: by hand, far out, near their minimum, and against differences and two other autograds."""

from math import exp, inf, log
from typing import Any

import hypothesis
import hypothesis.strategies as st
import numpy as np
from numpy.random import Generator

from tests.oracles import H, assert_close, autograds, draw_targets, each_dtype, each_loss, exact_losses, on
from xpnet.backends import Backend
from xpnet.backends.numpy import NumPyBackend
from xpnet.nn.losses import LOSSES

# Z, T, A and the losses of two rows. The logarithms make fractions: softmax(log n) is n over its sum,
# sigmoid(log 3) = 3 / (3 + 1), sigmoid(-log 4) = 1 / (1 + 4).
BY_HAND: dict[str, Any] = {
    "cross-entropy": (
        np.log([[1, 2, 5], [4, 3, 1]]),
        [[0, 1, 0], [1, 0, 0]],
        [[1 / 8, 2 / 8, 5 / 8], [4 / 8, 3 / 8, 1 / 8]],
        [log(4), log(2)],
    ),
    "binary-cross-entropy": (
        np.log([[3, 1 / 4], [3, 1 / 4]]),
        [[1, 0], [0, 1]],
        [[3 / 4, 1 / 5], [3 / 4, 1 / 5]],
        [log(4 / 3) + log(5 / 4), log(4) + log(5)],
    ),
    "squared-error": ([[1, -2], [0.5, 4]], [[3, 1], [0.5, 3]], [[1, -2], [0.5, 4]], [13 / 2, 1 / 2]),
    "poisson": (
        np.log([[2, 3], [2, 3]]),
        [[1, 0], [4, 1]],
        [[2, 3], [2, 3]],
        [2 - 1 - log(2) + 3, 2 - 4 + 4 * log(2) + 3 - 1 - log(3)],
    ),
}


NUMPY = NumPyBackend("cpu")
"""For what holds on the others because they compute the same: by hand, in the limits, and in parity."""


def everything(xp: Any, loss: Any, Z: Any, T: Any, shares: Any) -> tuple[Any, ...]:
    losses, A = loss.forward(xp, Z, T)
    return losses, A, loss.backward(xp, A, T, shares[:, None]), loss.output(xp, Z)


def loss_of(backend: Backend, name: str, Z: np.ndarray, T: Any, shares: Any = 1) -> tuple[np.ndarray, ...]:
    """The losses of the rows, A and dZ that a library finds."""
    given = {"T": np.array(T, Z.dtype), "shares": np.full(len(Z), shares, Z.dtype)}
    losses, A, dZ, output = on(backend, everything, LOSSES[name], Z=Z, **given)
    np.testing.assert_array_equal(output, A)
    if name == "cross-entropy":
        np.testing.assert_allclose(A.sum(axis=1), 1.0, rtol=20 * float(np.finfo(Z.dtype).eps))
    assert {array.dtype for array in (losses, A, dZ)} == {Z.dtype}
    return losses, A, dZ


@each_dtype
@each_loss
def test_two_rows_by_hand(name: str, dtype: str, backend: Backend) -> None:
    """The second row counts three times as much as the first: dZ = (A - T) times 1/4 or 3/4."""
    Z, T, A, losses = (np.array(array, dtype) for array in BY_HAND[name])
    found = loss_of(backend, name, Z, T, [1 / 4, 3 / 4])
    for array, expected in zip(found, (losses, A, (A - T) * [[1 / 4], [3 / 4]]), strict=True):
        np.testing.assert_allclose(array, expected, rtol=20 * float(np.finfo(dtype).eps))


@each_dtype
@each_loss
def test_nothing_overflows_far_out(name: str, dtype: str, backend: Backend) -> None:
    """Two rows each. Only e^far of the Poisson loss is infinite, and nothing is NaN.

    A rate of 0 costs T (log T - 1 - Z). A tiny T must not overflow where A does not.
    """
    far = 1e4 if dtype == "float64" else 200.0
    Z: Any = [[-far, far], [far, -far]]
    T, A, losses = {
        "cross-entropy": ([[0, 1], [0, 1]], [[0, 1], [1, 0]], [0, 2 * far]),
        "binary-cross-entropy": ([[0, 1], [0, 1]], [[0, 1], [1, 0]], [0, 2 * far]),
        "squared-error": ([[0, 0], [1, 0]], Z, [far**2, far**2 - far + 0.5]),
        "poisson": ([[3, 1e-30], [0, 1]], [[0, exp(30)], [inf, 0]], [3 * (log(3) - 1 + far) + exp(30), inf]),
    }[name]
    if name == "poisson":
        Z = [[-far, 30.0], [far, -far]]
    with np.errstate(all="ignore" if name == "poisson" else "raise", under="ignore"):
        found = loss_of(backend, name, np.array(Z, dtype), T)
    for array, expected in zip(found, (losses, A, np.array(A, dtype) - np.array(T, dtype)), strict=True):
        np.testing.assert_allclose(array, expected, rtol=40 * float(np.finfo(dtype).eps))


@each_dtype
@each_loss
def test_no_digits_cancel_near_the_minimum(name: str, dtype: str, backend: Backend) -> None:
    """The error is a few units in the last place of the loss, and what rounding log T does to poisson.

    The cross-entropy is right only to a few units in the last place of 1: where one class has all but 1e-8 of
    the probability, float32 says 1.
    """
    eps, near = float(np.finfo(dtype).eps), np.append(0.0, np.geomspace(1e-6, 30.0, 399))[:, None]
    T = draw_targets(np.random.default_rng(4), name, 400, 3 if "cross" in name else 1)
    from_T = {"squared-error": T + near * T, "poisson": np.log(np.where(T > 0, T, 1e-3)) + near / 10}
    Z, T = from_T.get(name, near * (2 * T - 1)).astype(dtype), T.astype(dtype)

    losses, _, _ = loss_of(backend, name, Z, T)

    expected, room = exact_losses(name, Z, T), 1.0 if name == "cross-entropy" else 0.0
    if name == "poisson":
        logs = 1 + np.abs(Z) + np.abs(np.log(np.where(T > 0, T, 1)))
        room = np.sum(np.abs(np.exp(Z) - T) * logs, axis=1)
    assert (abs(losses - expected) <= 4 * eps * (4 * expected + room)).all()
    assert (losses >= 0).all()


@each_loss
def test_gradient_against_differences(name: str, rng: Generator) -> None:
    """A row does not depend on another, so a column of all rows is moved at once."""
    Z, T = 2 * rng.standard_normal((5, 4)), draw_targets(rng, name, 5, 4)
    shares = np.array([0.5, 0.0, 0.25, 0.125, 0.125])
    _, _, dZ = loss_of(NUMPY, name, Z, T, shares)
    for j, E in enumerate(H * np.eye(4)):
        above, below = (loss_of(NUMPY, name, Z + sign * E, T)[0] for sign in (1, -1))
        assert_close(dZ[:, j], shares * (above - below) / (2 * H), 1e-8)


@each_loss
@hypothesis.settings(max_examples=8, deadline=None, derandomize=True)
@hypothesis.given(
    shape=st.sampled_from([(1, 1), (2, 5), (9, 2)]), spread=st.floats(0.1, 8), seed=st.integers(0, 2**32)
)
def test_loss_and_gradient_are_those_of_torch_and_jax(
    name: str, shape: tuple[int, int], spread: float, seed: int
) -> None:
    """JAX compiles for every shape, so there are few of them."""
    rng, (m, k) = np.random.default_rng(seed), shape
    given = spread * rng.standard_normal((m, k)), draw_targets(rng, name, m, k), rng.dirichlet(np.ones(m))
    losses, _, dZ = loss_of(NUMPY, name, *given)
    for theirs, slopes in (oracle(name, *given) for oracle in autograds):
        assert_close(losses, theirs, 1e-13)
        assert_close(dZ, slopes, 1e-13)
