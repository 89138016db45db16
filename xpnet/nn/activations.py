"""Activations: the bend between two layers, without which they would collapse into one.

A forward takes Z of any shape and returns A of that shape. The backward beneath it takes dA, the gradient
by its output, with the Z and A of the forward, and returns dZ = dA * f'(Z).
"""

from collections.abc import Callable
from typing import NamedTuple

from xpnet.nn.typing import Array, Namespace


def relu(xp: Namespace, Z: Array) -> Array:
    """A = max(0, Z)."""
    return xp.maximum(Z, 0.0)


def relu_backward(xp: Namespace, dA: Array, Z: Array, A: Array) -> Array:
    """dZ = dA where Z > 0, else 0. At Z = 0, where no derivative exists, it is 0 by convention."""
    return dA * xp.astype(Z > 0, dA.dtype)


def tanh(xp: Namespace, Z: Array) -> Array:
    """A = tanh(Z)."""
    return xp.tanh(Z)


def tanh_backward(xp: Namespace, dA: Array, Z: Array, A: Array) -> Array:
    """dZ = dA (1 - A^2)."""
    return dA * (1.0 - A * A)


def sigmoid(xp: Namespace, Z: Array) -> Array:
    """A = 1 / (1 + exp(-Z)), as exp(min(Z, 0)) / (1 + exp(-|Z|)), where no exponential overflows."""
    return xp.exp(xp.minimum(Z, 0.0)) / (1.0 + xp.exp(-xp.abs(Z)))


def sigmoid_backward(xp: Namespace, dA: Array, Z: Array, A: Array) -> Array:
    """dZ = dA A (1 - A)."""
    return dA * A * (1.0 - A)


def identity(xp: Namespace, Z: Array) -> Array:
    """A = Z: no bend at all, which makes the network linear."""
    return Z


def identity_backward(xp: Namespace, dA: Array, Z: Array, A: Array) -> Array:
    """dZ = dA."""
    return dA


class Activation(NamedTuple):
    """A function and its derivative."""

    forward: Callable[[Namespace, Array], Array]
    backward: Callable[[Namespace, Array, Array, Array], Array]


ACTIVATIONS = {
    "relu": Activation(relu, relu_backward),
    "tanh": Activation(tanh, tanh_backward),
    "sigmoid": Activation(sigmoid, sigmoid_backward),
    "identity": Activation(identity, identity_backward),
}
