"""The dense layer: each output is a weighted sum of all inputs plus a bias."""

from typing import NamedTuple

from xpnet.nn.typing import Array, Namespace


def dense(xp: Namespace, A: Array, W: Array, b: Array) -> Array:
    """Z = A W + b.

    Parameters
    ----------
    xp
        Namespace of the arrays.
    A : (m, fan_in)
        A batch of m rows: the input data, or the activations of the previous layer.
    W : (fan_in, fan_out)
        Weights.
    b : (fan_out,)
        Biases, added to every row.

    Returns
    -------
    Z : (m, fan_out)
    """
    Z = xp.matmul(A, W)
    Z += b
    return Z


class Product(NamedTuple):
    """A^T B as its two factors, which nobody has multiplied yet. dW is one, with B = dZ."""

    A: Array
    B: Array


def dense_backward(xp: Namespace, dZ: Array, A: Array, *, factors: bool = False) -> tuple[Array, Array]:
    """dW = A^T dZ, and db is the sum of dZ over the rows.

    The weight W[i, j] multiplies A[:, i] in Z[:, j], so its gradient is the sum of A[:, i] * dZ[:, j] over
    the batch. The bias b[j] is added to every row of Z[:, j], so its gradient is the sum of dZ[:, j].

    Parameters
    ----------
    dZ : (m, fan_out)
        Gradient of the loss with respect to Z.
    A : (m, fan_in)
        The input of `dense`.
    factors
        Return dW as a `Product`, which can be subtracted from W without being made.

    Returns
    -------
    dW : (fan_in, fan_out)
    db : (fan_out,)
    """
    dW = Product(A, dZ) if factors else xp.matmul(xp.matrix_transpose(A), dZ)
    db = xp.sum(dZ, axis=0)
    return dW, db


def dense_backward_input(xp: Namespace, dZ: Array, W: Array) -> Array:
    """dA = dZ W^T: the gradient that goes on to the previous layer.

    This is a function of its own because the first layer does not need it.

    Parameters
    ----------
    dZ : (m, fan_out)
        Gradient of the loss with respect to Z.
    W : (fan_in, fan_out)
        Weights.

    Returns
    -------
    dA : (m, fan_in)
        Gradient of the loss with respect to the input of `dense`.
    """
    return xp.matmul(dZ, xp.matrix_transpose(W))
