"""One step: gather rows, forward, loss, backward, update. It is the same function on every library.

A step has the signature ``step(state, rows, data) -> state``. It is a pure function, except that it owns
`state` and may change it in place. Everything that changes from step to step is an array in the state; a
Python number in a step is a constant. So the same function can run in a loop, be compiled, or be captured as
a graph. Steps are frozen dataclasses, so that equal steps share what was compiled for one of them.

A step never changes `data`, which holds

========================  =====================================================================
``X``  (n, fan_in)        all rows: floats, or integers, which the step divides by its `scale`
``y``  (n,) or (n, k)     targets: class numbers 0 … k - 1, or floats
``classes``  (k,)         0, 1, …, k - 1
``weights``  (n,)         optional: the weight of each row in the loss, 0 or more
``mean, std``  (fan_in,)  optional: each column x of X becomes (x - mean) / std
``penalty``  (1,)         optional: the alpha of the penalty alpha / (2 sum of weights) |W|^2
``seed``  (1,)            with dropout or distortion: the seed of their random numbers
``places``  (p,)          with them: 0, 1, …, p - 1, for `uniform16`
``across, down, lines``   with distortion: see `Distortion.constants`
========================  =====================================================================

A row number of -1 fills up a batch that is too short. Such a row has weight 0 in the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf, prod

from xpnet.nn.dense import Product
from xpnet.nn.distortion import Distortion, distort
from xpnet.nn.dropout import dropout_masks
from xpnet.nn.losses import Loss
from xpnet.nn.metrics import CLASSES, one_hot
from xpnet.nn.network import Network, backward, forward, is_weight
from xpnet.nn.optimizers import SGD, Optimizer, clip_by_norm, subtract
from xpnet.nn.typing import Array, Namespace, State


def gather(
    xp: Namespace,
    rows: Array,
    data: State,
    loss: Loss,
    scale: float,
    dtype: object,
    padded: bool = True,
    change: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array, Array | None]:
    """Take a batch of m rows from the data.

    Parameters
    ----------
    padded
        Whether a row number may be -1.
    change
        Changes the rows as they came, before they are scaled.

    Returns
    -------
    X : (m, fan_in)
        The rows, scaled, in `dtype`.
    T : (m, k)
        Their targets, in `dtype`; class numbers are one-hot.
    weights : (m,)
        The weight of each row; 0 where the row number is -1. None where every row weighs 1.
    """
    weights = None
    if padded:
        weights, rows = xp.astype(rows >= 0, dtype), xp.maximum(rows, 0)
    if "weights" in data:
        given = xp.take(data["weights"], rows, axis=0)
        weights = given * weights if padded else given
    X = xp.take(data["X"], rows, axis=0)
    X = xp.astype(change(X) if change else X, dtype, copy=False)
    if scale != 1.0:
        X *= 1.0 / scale  # a product takes half as long as a quotient
    if "mean" in data:
        X = (X - data["mean"]) / data["std"]
    y = xp.take(data["y"], rows, axis=0)
    if loss.kind is CLASSES:
        return X, one_hot(xp, y, data["classes"], dtype), weights
    T = xp.astype(y, dtype, copy=False)
    return X, T if T.ndim == 2 else T[:, None], weights


def key_of(state: State, data: State) -> tuple[Array, ...]:
    """The key of a step's random numbers, as for `uniform16`."""
    first = [state["first"]] if "first" in state else []
    return data["seed"], state["step"], *first


def add_up(xp: Namespace, total: Callable[[Array], Array], arrays: State) -> State:
    """Add up arrays over all processes: as one flat vector, because every message takes time."""
    flat = total(xp.concat([xp.reshape(array, (-1,)) for array in arrays.values()]))
    added, start = {}, 0
    for name, array in arrays.items():
        stop = start + prod(array.shape)
        added[name], start = xp.reshape(flat[start:stop], array.shape), stop
    return added


@dataclass(frozen=True)
class TrainingStep:
    """One step of gradient descent, on one batch, or on this process's part of a batch.

    Besides the parameters and the optimizer's memory, the state holds

    ``rates`` (steps,)  the learning rates of the next steps
    ``t`` (1,)          the place of the next learning rate in ``rates``
    ``step`` (1,)       the number of the step in the whole run, from 0
    ``loss`` (1,)       a running sum: the loss of every row times its weight

    and, where `total` is given,

    ``batch_weights`` (steps,)  the weight of the whole batch in each of the next steps
    ``first`` (1,)              the place in the whole batch of the first row of the part

    Parameters
    ----------
    scale
        The number that X is divided by.
    dropout
        For the input and each hidden layer, the probability that a unit is left out; empty for no dropout.
    clip
        The largest norm of the gradient; a longer gradient is scaled down. 0 for no limit.
    mean_loss
        Let every row of a batch count the same in ``loss``: add the mean loss of the batch times its rows.
    total
        ``total(x) -> sum of x``, of a vector over all processes that share out a batch: its gradient is the
        sum of those of the parts, each divided by the weight of the whole. None: this process has it all.
    distortion
        How the rows, which are images, are distorted; None for not at all.
    padded
        Whether row numbers may be -1. If not, an unweighted step need not ask what each row weighs.
    """

    xp: Namespace
    network: Network
    loss: Loss
    optimizer: Optimizer
    scale: float = 1.0
    dropout: tuple[float, ...] = ()
    clip: float = 0.0
    mean_loss: bool = False
    distortion: Distortion | None = None
    total: Callable[[Array], Array] | None = None
    padded: bool = True

    def __call__(self, state: State, rows: Array, data: State) -> State:
        """Take one step on the rows with the numbers `rows` (m,), and return the new state."""
        xp, state = self.xp, dict(state)
        lr = xp.take(state["rates"], state["t"], axis=0)
        # clipping and Adam need the gradient itself
        if isinstance(self.optimizer, SGD) and not self.clip:
            state = self.optimizer.descend(xp, state, self.gradients(state, rows, data, lr), lr)
        else:
            state = self.apply(state, self.gradients(state, rows, data), lr)
        state["t"] += 1
        state["step"] += 1
        return state

    def gradients(self, state: State, rows: Array, data: State, lr: Array | None = None) -> State:
        """Compute the gradient of the mean loss of a batch, and add its losses to the running sums.

        With `lr` (1,), the gradient is multiplied by it, by way of the few shares of the rows, and those of
        weights stay products, as for `backward`, unless they are added up over processes.
        """
        xp = self.xp
        X, T, weights = self.gather(state, rows, data)
        masks = self.masks(state, data, X.shape[0])

        computed = forward(xp, self.network, state, X, masks)
        losses, A = self.loss.forward(xp, computed.Z[self.network.depth], T)
        batch_weight = float(X.shape[0])
        if weights is not None:
            losses, batch_weight = weights * losses, xp.sum(weights, axis=0, keepdims=True)
        loss = xp.sum(losses, axis=0, keepdims=True)
        if self.total is not None:
            batch_weight = xp.take(state["batch_weights"], state["t"], axis=0)
        if "weights" in data:  # a batch that weighs nothing has no gradient
            batch_weight = xp.where(batch_weight > 0, batch_weight, xp.full_like(batch_weight, inf))

        share = (1.0 if lr is None else lr) / batch_weight
        shares = share if weights is None else (weights * share)[:, None]
        dZ, penalty = self.loss.backward(xp, A, T, shares), data.get("penalty")
        factors = self.total is None and (lr is not None or penalty is not None)
        gradients = backward(xp, self.network, state, computed, dZ, factors=factors)
        sums = {"loss": loss}
        if self.mean_loss:
            sums["rows"] = xp.sum(xp.astype(rows >= 0, loss.dtype), axis=0, keepdims=True)
        if self.total is not None:
            gradients = add_up(xp, self.total, gradients | sums)
            sums = {name: gradients.pop(name) for name in sums}
        loss = sums["loss"]
        if penalty is not None:
            for name in filter(is_weight, gradients):
                W, dW = state[name], gradients[name]
                w = xp.reshape(W, (1, -1))
                loss += penalty / 2.0 * xp.matmul(w, xp.matrix_transpose(w))[0, :]
                minus = Product(dW[0], -dW[1]) if factors else -dW
                gradients[name] = subtract(xp, penalty * share * W, minus)
        if self.mean_loss:
            loss *= sums["rows"] / batch_weight
        state["loss"] += loss
        return gradients

    def gather(self, state: State, rows: Array, data: State) -> tuple[Array, Array, Array | None]:
        """Take a batch as `gather` does, and distort its images."""
        change = None
        if self.distortion:
            change = partial(distort, self.xp, self.distortion, data, key_of(state, data))
        return gather(self.xp, rows, data, self.loss, self.scale, state["W1"].dtype, self.padded, change)

    def masks(self, state: State, data: State, m: int) -> dict[int, Array]:
        """Draw the masks of dropout for a batch of m rows."""
        if not self.dropout:
            return {}
        key, dtype = key_of(state, data), state["W1"].dtype
        return dropout_masks(self.xp, self.dropout, self.network.sizes, key, data["places"], m, dtype)

    def apply(self, state: State, gradients: State, lr: Array) -> State:
        """Clip the gradient, and update the parameters at the learning rate `lr` (1,)."""
        if self.clip:
            gradients = clip_by_norm(self.xp, gradients, self.clip)
        return self.optimizer.update(self.xp, state, gradients, lr)


@dataclass(frozen=True)
class EvaluationStep:
    """Evaluate the network on one batch.

    Besides the parameters, the state holds running sums: ``loss``, as in training, and the sums that the
    kind of the loss names for its metrics.
    """

    xp: Namespace
    network: Network
    loss: Loss
    scale: float = 1.0

    def __call__(self, state: State, rows: Array, data: State) -> State:
        """Add up the rows with the numbers `rows` (m,), and return the new state."""
        xp, state = self.xp, dict(state)
        X, T, weights = gather(xp, rows, data, self.loss, self.scale, state["W1"].dtype)
        Z = forward(xp, self.network, state, X).Z[self.network.depth]
        losses, A = self.loss.forward(xp, Z, T)
        state["loss"] += xp.sum(weights * losses)
        for name, part in self.loss.kind.sums(xp, Z, A, T, weights, data["classes"]).items():
            state[name] += part
        return state
