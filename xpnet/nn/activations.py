"""Activations: the nonlinear functions between two layers.

Without them, any number of layers computes only what a single layer can compute.

A forward function takes Z of any shape and returns A of the same shape. The backward function beneath it
takes dA, the gradient of the loss with respect to A, and the Z and A of the forward pass. It returns
dZ = dA * f'(Z).
"""

from collections.abc import Callable
from typing import NamedTuple

from xpnet.nn.typing import Array, Namespace


def relu(xp: Namespace, Z: Array) -> Array:
    """A = max(0, Z)."""
    return xp.maximum(Z, 0.0)


def relu_backward(xp: Namespace, dA: Array, Z: Array, A: Array) -> Array:
    """dZ = dA where Z > 0, else 0. At Z = 0 relu has no derivative; the convention is 0."""
    return dA * xp.astype(Z > 0, dA.dtype)


def tanh(xp: Namespace, Z: Array) -> Array:
    """A = tanh(Z)."""
    return xp.tanh(Z)


def tanh_backward(xp: Namespace, dA: Array, Z: Array, A: Array) -> Array:
    """dZ = dA (1 - A^2)."""
    return dA * (1.0 - A * A)


def sigmoid(xp: Namespace, Z: Array) -> Array:
    """A = 1 / (1 + exp(-Z)), written as exp(min(Z, 0)) / (1 + exp(-|Z|)) so that no exponential overflows."""
    return xp.exp(xp.minimum(Z, 0.0)) / (1.0 + xp.exp(-xp.abs(Z)))


def sigmoid_backward(xp: Namespace, dA: Array, Z: Array, A: Array) -> Array:
    """dZ = dA A (1 - A)."""
    return dA * A * (1.0 - A)


def identity(xp: Namespace, Z: Array) -> Array:
    """A = Z. The whole network is then linear."""
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
