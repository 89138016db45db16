"""One step: gather rows, forward, loss, backward, update. It is the same function on every library.

A step has the signature ``step(state, rows, data) -> state``. It is a pure function, except that it owns
`state` and may change it in place. Everything that changes from step to step is an array in the state; a
Python number in a step is a constant. So the same function can run in a loop, be compiled, or be captured as
a graph. Steps are frozen dataclasses, so that equal steps share what was compiled for one of them.

A step never changes `data`, which holds

====================  =========================================================================
``X``  (n, fan_in)    all rows: floats, or integers, which the step divides by its `scale`
``y``  (n,)           integer labels, 0 … k - 1
``classes``  (k,)     0, 1, …, k - 1
====================  =========================================================================

A row number of -1 fills up a batch that is too short. Such a row has weight 0 in the loss.
"""

from dataclasses import dataclass

from xpnet.nn.loss import cross_entropy, cross_entropy_backward, log_softmax, one_hot
from xpnet.nn.network import Network, backward, forward
from xpnet.nn.optimizers import Optimizer
from xpnet.nn.typing import Array, Namespace, State


def gather(
    xp: Namespace, rows: Array, data: State, scale: float, dtype: object
) -> tuple[Array, Array, Array]:
    """Take a batch of m rows from the data.

    Returns
    -------
    X : (m, fan_in)
        The rows divided by `scale`, in `dtype`.
    Y : (m, k)
        One-hot labels.
    weights : (m,)
        The weight of each row: 1, or 0 where the row number is -1.
    """
    weights = xp.astype(rows >= 0, dtype)
    rows = xp.maximum(rows, 0)
    X = xp.astype(xp.take(data["X"], rows, axis=0), dtype, copy=False)
    if scale != 1.0:
        X /= scale
    Y = one_hot(xp, xp.take(data["y"], rows, axis=0), data["classes"], dtype)
    return X, Y, weights


@dataclass(frozen=True)
class TrainingStep:
    """One step of gradient descent, on one batch.

    The state holds the parameters, the optimizer's memory, and

    ``rates`` (steps,)  the learning rates of the next steps
    ``t`` (1,)          the place of the next learning rate in ``rates``
    ``loss`` (1,)       a running sum, to which the step adds the loss of every row
    """

    xp: Namespace
    network: Network
    optimizer: Optimizer
    scale: float = 1.0

    def __call__(self, state: State, rows: Array, data: State) -> State:
        """Take one step on the rows with the numbers `rows` (m,), and return the new state."""
        xp, state = self.xp, dict(state)
        X, Y, weights = gather(xp, rows, data, self.scale, state["W1"].dtype)

        Z, A = forward(xp, self.network, state, X)
        log_A = log_softmax(xp, Z[self.network.depth])
        losses = cross_entropy(xp, log_A, Y)
        state["loss"] += xp.sum(weights * losses)

        dZ = cross_entropy_backward(xp, log_A, Y, weights / xp.sum(weights))
        gradients = backward(xp, self.network, state, Z, A, dZ)

        lr = xp.take(state["rates"], state["t"], axis=0)
        state = self.optimizer.update(xp, state, gradients, lr)
        state["t"] += 1
        return state


@dataclass(frozen=True)
class EvaluationStep:
    """Evaluate the network on one batch.

    The state holds the parameters and two running sums:

    ``loss`` (1,)         the loss of every row
    ``confusion`` (k, k)  at [i, j] the number of rows of class i for which class j was predicted
    """

    xp: Namespace
    network: Network
    scale: float = 1.0

    def __call__(self, state: State, rows: Array, data: State) -> State:
        """Add up the rows with the numbers `rows` (m,), and return the new state."""
        xp, state = self.xp, dict(state)
        X, Y, weights = gather(xp, rows, data, self.scale, state["W1"].dtype)
        Z, _ = forward(xp, self.network, state, X)
        logits = Z[self.network.depth]

        state["loss"] += xp.sum(weights * cross_entropy(xp, log_softmax(xp, logits), Y))
        predicted = one_hot(xp, xp.argmax(logits, axis=1), data["classes"], logits.dtype)
        Y *= weights[:, None]
        state["confusion"] += xp.matmul(xp.matrix_transpose(Y), predicted)
        return state
