"""Softmax turns logits into probabilities; cross-entropy measures how wrong they are.

Both compute with logarithms, after the largest logit of each row is subtracted from the row (the log-sum-exp
shift). So no exponential overflows, and no logarithm of zero is taken.
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
    return xp.astype(y[:, None] == classes, dtype)


def cross_entropy(xp: Namespace, log_A: Array, Y: Array) -> Array:
    """-log A[i, y_i] for every row i, in nats. It is small where the true class has a high probability.

    The loss of a batch is the mean of these, or the weighted mean where the rows have weights.

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


def cross_entropy_backward(xp: Namespace, log_A: Array, Y: Array, shares: Array) -> Array:
    """dZ = (A - Y) / m: the derivative of softmax and cross-entropy together.

    Parameters
    ----------
    log_A, Y : (m, classes)
        As for `cross_entropy`.
    shares : (m,)
        The share of each row in the loss of the batch. The shares sum to 1; for the plain mean each is 1/m.

    Returns
    -------
    dZ : (m, classes)
        Gradient of sum_i shares[i] * losses[i] with respect to the logits.
    """
    dZ = xp.exp(log_A)
    dZ -= Y
    dZ *= shares[:, None]
    return dZ
