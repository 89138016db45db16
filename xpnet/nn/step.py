"""One step: gather rows, forward, loss, backward, update. The same function on every library.

A step is ``step(state, rows, data) -> state``. It is pure but for what it owns: `state` is consumed, and may
be updated in place. What changes from step to step is an array in the state; a Python number is a constant.
So the same function can be looped over, compiled, or captured into a graph. Steps are frozen dataclasses,
so that two equal ones share what was compiled for the first.

`data` is never written:

====================  =================================================================
``X``  (n, fan_in)    rows as they came: integers, divided by `scale` here, or floats
``y``  (n,)           integer labels, 0 … classes - 1
``classes``  (k,)     0, 1, …, k - 1
====================  =================================================================

A row number of -1 fills up a short batch: it weighs nothing in the loss.
"""

from dataclasses import dataclass

from xpnet.nn.loss import cross_entropy, cross_entropy_backward, log_softmax, one_hot
from xpnet.nn.network import Network, backward, forward
from xpnet.nn.optimizers import Optimizer
from xpnet.nn.typing import Array, Namespace, State


def gather(
    xp: Namespace, rows: Array, data: State, scale: float, dtype: object
) -> tuple[Array, Array, Array]:
    """Take a batch of m rows out of the data.

    Returns
    -------
    X : (m, fan_in)
        Scaled, in `dtype`.
    Y : (m, classes)
        One-hot labels.
    weights : (m,)
        1 for a row, 0 for one that only fills up.
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
    """Gradient descent on one batch.

    The state holds the parameters and the optimizer's memory; ``rates`` (steps,), the learning rates of the
    steps to come, and ``t`` (1,), which of them is next; and ``loss`` (1,), to which the losses of the rows
    are added.
    """

    xp: Namespace
    network: Network
    optimizer: Optimizer
    scale: float = 1.0

    def __call__(self, state: State, rows: Array, data: State) -> State:
        """Take one step on the rows `rows` (m,)."""
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
    """Count what the network makes of one batch.

    The state holds the parameters, ``loss`` (1,), to which the losses of the rows are added, and
    ``confusion`` (classes, classes), to which the rows of true class i taken for class j are added at [i, j].
    """

    xp: Namespace
    network: Network
    scale: float = 1.0

    def __call__(self, state: State, rows: Array, data: State) -> State:
        """Count the rows `rows` (m,)."""
        xp, state = self.xp, dict(state)
        X, Y, weights = gather(xp, rows, data, self.scale, state["W1"].dtype)
        Z, _ = forward(xp, self.network, state, X)
        logits = Z[self.network.depth]

        state["loss"] += xp.sum(weights * cross_entropy(xp, log_softmax(xp, logits), Y))
        predicted = one_hot(xp, xp.argmax(logits, axis=1), data["classes"], logits.dtype)
        Y *= xp.expand_dims(weights, axis=1)
        state["confusion"] += xp.matmul(xp.matrix_transpose(Y), predicted)
        return state
