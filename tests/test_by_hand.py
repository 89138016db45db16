"""One training step worked by hand on paper, and asserted number by number on every library.

A network 2-2-2: two inputs, two hidden units with relu, two classes. A batch of m = 2 rows, and lr = 1/2.

    X = [1 2]   y = (1, 0)   Y = [0 1]      W1 = [ 1  3]   b1 = (2, -3)      W2 = [-1 1]   b2 = (2, log 3)
        [2 1]                    [1 0]           [-1 -1]                          [ 2 0]

Forward. Each row of X times each column of W1, plus the bias:

    Z1 = [1 - 2 + 2   3 - 2 - 3] = [1 -2]       A1 = max(0, Z1) = [1 0]      relu silences unit 2 in row 1
         [2 - 1 + 2   6 - 1 - 3]   [3  2]                         [3 2]

    Z2 = [-1 + 0 + 2   1 + 0 + log 3] = [1   1 + log 3]
         [-3 + 4 + 2   3 + 0 + log 3]   [3   3 + log 3]

Softmax. Only differences count, and in both rows the second logit is larger by log 3. So it
gets exp(log 3) = 3 times as much of the row:

    A2 = [1/4 3/4]
         [1/4 3/4]

Loss. Row 1 is of class 1, which has 3/4; row 2 is of class 0, which has 1/4:

    losses = (-log 3/4, -log 1/4) = (log 4/3, log 4)
    loss   = (log 4/3 + log 4) / 2 = log(16/3) / 2

Backward. Softmax and cross-entropy together, with the 1/m of the mean:

    dZ2 = (A2 - Y) / 2 = 1/2 [1/4 - 0   3/4 - 1] = [ 1/8 -1/8]
                             [1/4 - 1   3/4 - 0]   [-3/8  3/8]

    dW2 = A1^T dZ2 = [1 3] dZ2 = [1/8 - 9/8   -1/8 + 9/8] = [ -1    1 ]
                     [0 2]       [0   - 6/8    0   + 6/8]   [-3/4  3/4]

    db2 = column sums of dZ2 = (-1/4, 1/4)

    dA1 = dZ2 W2^T = dZ2 [-1 2] = [-1/8 - 1/8    2/8] = [-1/4  1/4]
                         [ 1 0]   [ 3/8 + 3/8   -6/8]   [ 3/4 -3/4]

    dZ1 = dA1 where Z1 > 0 = [-1/4   0 ]        the silent unit takes no blame
                             [ 3/4 -3/4]

    dW1 = X^T dZ1 = [1 2] dZ1 = [-1/4 + 6/4   0 - 6/4] = [5/4 -3/2]
                    [2 1]       [-2/4 + 3/4   0 - 3/4]   [1/4 -3/4]

    db1 = column sums of dZ1 = (1/2, -3/4)

Update. Every parameter minus half of its gradient:

    W1 = [ 1 - 5/8    3 + 3/4] = [ 3/8  15/4]       b1 = (2 - 1/4, -3 + 3/8)   = (7/4, -21/8)
         [-1 - 1/8   -1 + 3/8]   [-9/8  -5/8]

    W2 = [-1 + 1/2    1 - 1/2] = [-1/2   1/2]       b2 = (2 + 1/8, log 3 - 1/8) = (17/8, log 3 - 1/8)
         [ 2 + 3/8    0 - 3/8]   [19/8  -3/8]
"""

from math import log
from typing import Any

import numpy as np

from tests.states import fetch, move
from xpnet.backends import Backend
from xpnet.nn.activations import relu, relu_backward
from xpnet.nn.dense import dense, dense_backward, dense_backward_input
from xpnet.nn.losses import LOSSES, canonical_backward, cross_entropy, softmax
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD
from xpnet.nn.step import TrainingStep

GIVEN = {"X": [[1.0, 2.0], [2.0, 1.0]], "Y": [[0.0, 1.0], [1.0, 0.0]], "shares": [1 / 2, 1 / 2]}
START = {
    "W1": [[1.0, 3.0], [-1.0, -1.0]],
    "b1": [2.0, -3.0],
    "W2": [[-1.0, 1.0], [2.0, 0.0]],
    "b2": [2.0, log(3)],
}
Z1 = [[1, -2], [3, 2]]
A1 = [[1, 0], [3, 2]]
Z2 = [[1, 1 + log(3)], [3, 3 + log(3)]]
A2 = [[1 / 4, 3 / 4], [1 / 4, 3 / 4]]
LOSS = [log(4 / 3), log(4)]
DZ2 = [[1 / 8, -1 / 8], [-3 / 8, 3 / 8]]
DA1 = [[-1 / 4, 1 / 4], [3 / 4, -3 / 4]]
DZ1 = [[-1 / 4, 0], [3 / 4, -3 / 4]]
GRADIENTS = {
    "W1": [[5 / 4, -3 / 2], [1 / 4, -3 / 4]],
    "b1": [1 / 2, -3 / 4],
    "W2": [[-1, 1], [-3 / 4, 3 / 4]],
    "b2": [-1 / 4, 1 / 4],
}
END = {
    "W1": [[3 / 8, 15 / 4], [-9 / 8, -5 / 8]],
    "b1": [7 / 4, -21 / 8],
    "W2": [[-1 / 2, 1 / 2], [19 / 8, -3 / 8]],
    "b2": [17 / 8, log(3) - 1 / 8],
}


def check(backend: Backend, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Equal but for the last digit or two, which log 3 brings in."""
    for name, array in fetch(backend, {name: found[name] for name in expected}).items():
        np.testing.assert_allclose(array, expected[name], rtol=0, atol=4e-15, err_msg=name)


def test_every_number_of_the_page_rule_by_rule(backend: Backend, xp: Any) -> None:
    W, given = move(backend, START), move(backend, GIVEN)
    X, Y, shares = given.values()

    z1 = dense(xp, X, W["W1"], W["b1"])
    a1 = relu(xp, z1)
    z2 = dense(xp, a1, W["W2"], W["b2"])
    losses, a2 = cross_entropy(xp, z2, Y)
    check(backend, {"Z1": z1, "A1": a1, "Z2": z2}, {"Z1": Z1, "A1": A1, "Z2": Z2})
    check(backend, {"A2": a2, "losses": losses}, {"A2": A2, "losses": LOSS})
    check(backend, {"A2": softmax(xp, z2)}, {"A2": A2})
    check(backend, {"loss": xp.sum(shares * losses)}, {"loss": log(16 / 3) / 2})

    dz2 = canonical_backward(xp, a2, Y, shares)
    dw2, db2 = dense_backward(xp, dz2, a1)
    da1 = dense_backward_input(xp, dz2, W["W2"])
    dz1 = relu_backward(xp, da1, z1, a1)
    dw1, db1 = dense_backward(xp, dz1, X)
    check(backend, {"dZ2": dz2, "dA1": da1, "dZ1": dz1}, {"dZ2": DZ2, "dA1": DA1, "dZ1": DZ1})
    check(backend, {"W1": dw1, "b1": db1, "W2": dw2, "b2": db2}, GRADIENTS)

    # no rule wrote to what it was given
    check(backend, W | given, START | GIVEN)
    check(backend, {"Z1": z1, "A1": a1, "Z2": z2}, {"Z1": Z1, "A1": A1, "Z2": Z2})


def test_the_training_step_arrives_at_the_new_parameters(backend: Backend, xp: Any) -> None:
    step = TrainingStep(xp, Network((2, 2, 2)), LOSSES["cross-entropy"], SGD())
    host = {"y": [1, 0], "classes": [0, 1], "t": [0], "step": [6]}
    integers = move(backend, {name: np.array(array, dtype=np.int32) for name, array in host.items()})
    state = move(backend, START | {"loss": [0.0], "rates": [1 / 2]}) | {
        name: integers.pop(name) for name in ("t", "step")
    }
    data = integers | {"X": move(backend, GIVEN)["X"]}

    state = backend.scan(step, state, backend.asarray(np.array([[0, 1]], dtype=np.int32)), data)

    check(backend, state, END | {"loss": [log(16 / 3)], "t": [1], "step": [7]})
