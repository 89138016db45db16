"""The dense layer: every output is a weighted sum of every input, plus a bias."""

from xpnet.nn.typing import Array, Namespace


def dense(xp: Namespace, A: Array, W: Array, b: Array) -> Array:
    """Z = A W + b.

    Parameters
    ----------
    xp
        Namespace of the arrays.
    A : (m, fan_in)
        A batch of m rows: the data, or the activations of the layer before.
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


def dense_backward(xp: Namespace, dZ: Array, A: Array) -> tuple[Array, Array]:
    """dW = A^T dZ and db = the sum of dZ over the rows.

    Each weight W[i, j] carried A[:, i] into Z[:, j], so its gradient gathers the product of the two
    over the batch. A bias reaches every row with factor one.

    Parameters
    ----------
    dZ : (m, fan_out)
        Gradient of the loss by Z.
    A : (m, fan_in)
        The input that `dense` was given.

    Returns
    -------
    dW : (fan_in, fan_out)
    db : (fan_out,)
    """
    dW = xp.matmul(xp.matrix_transpose(A), dZ)
    db = xp.sum(dZ, axis=0)
    return dW, db


def dense_backward_input(xp: Namespace, dZ: Array, W: Array) -> Array:
    """dA = dZ W^T: the blame handed down to the layer before, through the same weights.

    Apart from `dense_backward` because the first layer has nobody to hand it to.

    Parameters
    ----------
    dZ : (m, fan_out)
    W : (fan_in, fan_out)

    Returns
    -------
    dA : (m, fan_in)
    """
    return xp.matmul(dZ, xp.matrix_transpose(W))
