"""Losses: from the output Z_L of the last layer to one number that says how wrong the network is.

A forward function takes Z of shape (m, k) and the targets T of the same shape. It returns the loss of every
row, (m,), and the output A that a user sees: probabilities, or means. Up to a term without Z, each loss is
the negative log-likelihood of a distribution, and A is the mean of that distribution, by its canonical link.
So all of them have the same derivative: dZ = (A - T) / m.

====================  ===============================  =============  ==================================
name                  targets T                        output A       loss of a row
====================  ===============================  =============  ==================================
cross-entropy         one of k classes, one-hot        softmax(Z)     -sum_j T log A
binary-cross-entropy  k labels, each 0 or 1            sigmoid(Z)     -sum_j T log A + (1-T) log(1-A)
squared-error         k numbers                        Z              sum_j (A - T)^2 / 2
poisson               k counts, or rates, 0 or more    exp(Z)         sum_j A - T + T log(T / A)
====================  ===============================  =============  ==================================

To add a loss, write its forward function (and a backward function, if A is not the mean by the canonical
link), and name it in `LOSSES` with a default learning rate.
"""

from collections.abc import Callable
from dataclasses import dataclass

from xpnet.nn.activations import identity, sigmoid
from xpnet.nn.metrics import CLASSES, LABELS, NUMBERS, RATES, Kind
from xpnet.nn.typing import Array, Namespace


def log_softmax(xp: Namespace, Z: Array) -> Array:
    """log A, where A = softmax(Z), computed after the largest logit of each row is subtracted from the row.

    With this log-sum-exp shift no exponential overflows, and no logarithm of zero is taken.

    Parameters
    ----------
    Z : (m, k)
        Logits.

    Returns
    -------
    log_A : (m, k)
    """
    S = Z - xp.max(Z, axis=1, keepdims=True)
    S -= xp.log(xp.sum(xp.exp(S), axis=1, keepdims=True))
    return S


def softmax(xp: Namespace, Z: Array) -> Array:
    """A[i, j] = exp(Z[i, j]) / sum_k exp(Z[i, k]): each row is positive and sums to 1."""
    return xp.exp(log_softmax(xp, Z))


def cross_entropy(xp: Namespace, Z: Array, T: Array) -> tuple[Array, Array]:
    """-log A[i, y_i] with A = softmax(Z): small where the true class has a high probability. In nats.

    Returns the losses (m,) and A (m, k).
    """
    log_A = log_softmax(xp, Z)
    return -xp.sum(T * log_A, axis=1), xp.exp(log_A)


def binary_cross_entropy(xp: Namespace, Z: Array, T: Array) -> tuple[Array, Array]:
    """The cross-entropy of each label with A = sigmoid(Z), summed over the labels. In nats.

    -T log A - (1 - T) log(1 - A) = max(Z, 0) - Z T + log(1 + exp(-|Z|)), where no exponential overflows.
    Returns the losses (m,) and A (m, k).
    """
    losses = xp.maximum(Z, 0.0) - Z * T + xp.log1p(xp.exp(-xp.abs(Z)))
    return xp.sum(losses, axis=1), sigmoid(xp, Z)


def squared_error(xp: Namespace, Z: Array, T: Array) -> tuple[Array, Array]:
    """(A - T)^2 / 2 with A = Z, summed over the k numbers. Returns the losses (m,) and A (m, k)."""
    D = Z - T
    D *= D
    return xp.sum(D, axis=1) / 2.0, Z


def poisson(xp: Namespace, Z: Array, T: Array) -> tuple[Array, Array]:
    """Half of the Poisson deviance with A = exp(Z), summed over the k rates.

    A - T + T log(T / A) is zero where A = T. With D = Z - log T it is A - T (1 + D), which is A where T = 0.
    Near A = T it is T (exp(D) - 1 - D), which does not subtract large numbers from one another. McCullagh and
    Nelder, "Generalized linear models", 1989, table 2.1. Returns the losses (m,) and A (m, k).
    """
    A = xp.exp(Z)
    D = Z - xp.log(xp.where(T > 0, T, xp.ones_like(T)))
    near = (T > 0) & (xp.abs(D) < 1)
    return xp.sum(xp.where(near, T * (xp.expm1(D) - D), A - T * (1.0 + D)), axis=1), A


def canonical_backward(xp: Namespace, A: Array, T: Array, shares: Array) -> Array:
    """dZ = (A - T) / m: the derivative of each loss above together with its output.

    Parameters
    ----------
    A, T : (m, k)
        The output and the targets.
    shares : (m, 1), or a number
        The share of each row in the loss of the batch. The shares sum to 1; for the plain mean each is 1/m.

    Returns
    -------
    dZ : (m, k)
        Gradient of sum_i shares[i] * losses[i] with respect to Z.
    """
    dZ = A - T
    dZ *= shares
    return dZ


@dataclass(frozen=True)
class Loss:
    """All that a step must know about a loss.

    Attributes
    ----------
    kind
        What the targets are, and how the outputs are judged.
    forward
        ``forward(xp, Z, T) -> losses, A``.
    output
        ``output(xp, Z) -> A``, the same A without targets.
    lr
        The default learning rate of SGD, measured on validation rows by bench/defaults.py.
    positive
        Whether targets must be 0 or more. Such targets are scaled, but not centred.
    backward
        ``backward(xp, A, T, shares) -> dZ``.
    """

    kind: Kind
    forward: Callable[[Namespace, Array, Array], tuple[Array, Array]]
    output: Callable[[Namespace, Array], Array]
    lr: float
    positive: bool = False
    backward: Callable[[Namespace, Array, Array, Array], Array] = canonical_backward


def _exp(xp: Namespace, Z: Array) -> Array:
    return xp.exp(Z)


LOSSES = {
    "cross-entropy": Loss(CLASSES, cross_entropy, softmax, lr=0.5),
    "binary-cross-entropy": Loss(LABELS, binary_cross_entropy, sigmoid, lr=0.2),
    "squared-error": Loss(NUMBERS, squared_error, identity, lr=0.05),
    "poisson": Loss(RATES, poisson, _exp, lr=0.01, positive=True),
}
