"""The dense layer and its gradient."""

from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.nn.dense import dense, dense_backward, dense_backward_input


def test_dense_by_hand(backend: Backend, xp: Any) -> None:
    A = backend.asarray(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
    W = backend.asarray(np.array([[1.0, 0.0], [10.0, -1.0]]))
    b = backend.asarray(np.array([0.5, 0.25]))
    dZ = backend.asarray(np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))

    Z = dense(xp, A, W, b)
    dW, db = dense_backward(xp, dZ, A)
    dA = dense_backward_input(xp, dZ, W)

    assert backend.to_numpy(Z).tolist() == [[21.5, -1.75], [43.5, -3.75], [65.5, -5.75]]
    assert backend.to_numpy(dW).tolist() == [[6.0, 8.0], [8.0, 10.0]]
    assert backend.to_numpy(db).tolist() == [2.0, 2.0]
    assert backend.to_numpy(dA).tolist() == [[1.0, 10.0], [0.0, -1.0], [1.0, 9.0]]


def test_dense_leaves_its_inputs_alone(backend: Backend, xp: Any) -> None:
    host = [np.ones((3, 2)), np.ones((2, 2)), np.ones(2)]
    A, W, b = (backend.asarray(array) for array in host)
    dense(xp, A, W, b)
    for array in (A, W, b):
        assert (backend.to_numpy(array) == 1.0).all()
