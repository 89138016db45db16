"""Softmax and cross-entropy: logits to probabilities, and how wrong they are.

Both start from the logits Z_L and work with logarithms, shifted by the largest logit of the row (the
log-sum-exp shift), so that no exponential overflows and no logarithm sees zero.
"""

from xpnet.nn.typing import Array, Namespace


def log_softmax(xp: Namespace, Z: Array) -> Array:
    """log A, where A = softmax(Z).

    Parameters
    ----------
    Z : (m, classes)
        Logits.

    Returns
    -------
    log_A : (m, classes)
    """
    S = Z - xp.max(Z, axis=1, keepdims=True)
    S -= xp.log(xp.sum(xp.exp(S), axis=1, keepdims=True))
    return S


def softmax(xp: Namespace, Z: Array) -> Array:
    """A[i, j] = exp(Z[i, j]) / sum_k exp(Z[i, k]): each row is positive and sums to 1.

    Parameters
    ----------
    Z : (m, classes)
        Logits.

    Returns
    -------
    A : (m, classes)
        Probabilities.
    """
    return xp.exp(log_softmax(xp, Z))


def one_hot(xp: Namespace, y: Array, classes: Array, dtype: object) -> Array:
    """Y[i, j] = 1 where y[i] is classes[j], else 0.

    Parameters
    ----------
    y : (m,) integer
        Labels.
    classes : (k,) integer
        0, 1, …, k - 1, on the device of `y`.
    dtype
        A dtype of `xp`.

    Returns
    -------
    Y : (m, k)
    """
    return xp.astype(xp.expand_dims(y, axis=1) == classes, dtype)


def cross_entropy(xp: Namespace, log_A: Array, Y: Array) -> Array:
    """-log A[i, y_i] for every row: how surprised the network is by the truth, in nats.

    The loss of a batch is the mean of these, weighted where rows carry weights.

    Parameters
    ----------
    log_A : (m, classes)
        From `log_softmax`.
    Y : (m, classes)
        One-hot labels.

    Returns
    -------
    losses : (m,)
    """
    return -xp.sum(Y * log_A, axis=1)


def cross_entropy_backward(xp: Namespace, log_A: Array, Y: Array, weights: Array) -> Array:
    """dZ = (A - Y) / m: softmax and cross-entropy differentiated together.

    Parameters
    ----------
    log_A, Y : (m, classes)
        As for `cross_entropy`.
    weights : (m,)
        The share of each row in the loss, summing to 1: 1/m each for the plain mean.

    Returns
    -------
    dZ : (m, classes)
        Gradient of sum_i weights[i] * losses[i] by the logits.
    """
    dZ = xp.exp(log_A)
    dZ -= Y
    dZ *= xp.expand_dims(weights, axis=1)
    return dZ
