"""The network: dense layers with an activation between them, forward and backward.

With A_0 = X, layer l = 1 … L computes Z_l = A_{l-1} W_l + b_l, and each layer but the last A_l = f(Z_l).
Z_L holds the logits.
"""

from dataclasses import dataclass

from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.dense import dense, dense_backward, dense_backward_input
from xpnet.nn.initializers import Generator, glorot_uniform, he_normal
from xpnet.nn.typing import Array, Namespace, State


@dataclass(frozen=True)
class Network:
    """The description of a network: its sizes and its activation, but not its parameters.

    Parameters
    ----------
    sizes
        The number of units of every layer, from the input to the logits: (784, 128, 10).
    activation
        The activation of the hidden layers: a key of `ACTIVATIONS`.

    Raises
    ------
    ValueError
        There are fewer than two sizes, a size is less than 1, or the activation is unknown.
    """

    sizes: tuple[int, ...] = (784, 128, 10)
    activation: str = "relu"

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"sizes {self.sizes}: give at least two, input and output, each 1 or more")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation!r}: choose one of {', '.join(ACTIVATIONS)}")

    @property
    def depth(self) -> int:
        """The number L of dense layers."""
        return len(self.sizes) - 1

    @property
    def size(self) -> int:
        """The number of parameters: all weights and biases."""
        pairs = zip(self.sizes, self.sizes[1:], strict=False)
        return sum(fan_in * fan_out + fan_out for fan_in, fan_out in pairs)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, in the order of the layers: W1, b1, W2, b2, …"""
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(1, self.depth + 1):
            fan_in, fan_out = self.sizes[layer - 1], self.sizes[layer]
            shapes[f"W{layer}"], shapes[f"b{layer}"] = (fan_in, fan_out), (fan_out,)
        return shapes


def initial_parameters(xp: Namespace, network: Network, rng: Generator) -> dict[str, Array]:
    """Draw the initial weights W1, W2, … in this order. Biases start at zero.

    The weights are drawn by `he_normal` for relu, and by `glorot_uniform` for the other activations.

    Parameters
    ----------
    xp
        The namespace of the arrays that `rng` draws: NumPy, as a rule.
    rng
        A generator on the host.

    Returns
    -------
    parameters
        Host arrays by name, float64, in the order of the layers. The caller casts and moves them.
    """
    draw = he_normal if network.activation == "relu" else glorot_uniform
    return {
        name: draw(rng, *shape) if is_weight(name) else xp.zeros(shape, dtype=xp.float64)
        for name, shape in network.shapes.items()
    }


def is_weight(name: str) -> bool:
    """Whether a parameter is a weight matrix. Weight decay applies to weights, not to biases."""
    return name.startswith("W")


def forward(
    xp: Namespace, network: Network, parameters: State, X: Array
) -> tuple[dict[int, Array], dict[int, Array]]:
    """Compute the logits of X, and keep all that `backward` needs.

    Parameters
    ----------
    parameters
        W1, b1, …; other names are ignored.
    X : (m, sizes[0])
        Rows of floating point numbers.

    Returns
    -------
    Z : {1: Z_1, …, L: Z_L}
        The input of every activation. Z_L, of shape (m, sizes[L]), holds the logits.
    A : {0: X, 1: A_1, …, L - 1: A_{L-1}}
        The input of every dense layer.
    """
    f = ACTIVATIONS[network.activation].forward
    Z: dict[int, Array] = {}
    A = {0: X}
    for l in range(1, network.depth + 1):
        Z[l] = dense(xp, A[l - 1], parameters[f"W{l}"], parameters[f"b{l}"])
        if l < network.depth:
            A[l] = f(xp, Z[l])
    return Z, A


def backward(
    xp: Namespace,
    network: Network,
    parameters: State,
    Z: dict[int, Array],
    A: dict[int, Array],
    dZ: Array,
) -> State:
    """Backpropagation: apply the chain rule from the last layer to the first.

    Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", 1986.

    Parameters
    ----------
    Z, A
        The results of `forward`.
    dZ : (m, sizes[L])
        Gradient of the loss with respect to the logits.

    Returns
    -------
    gradients
        The gradient of every parameter, under the name of the parameter: dW1 under "W1".
    """
    f_backward = ACTIVATIONS[network.activation].backward
    gradients: State = {}
    for l in range(network.depth, 0, -1):
        gradients[f"W{l}"], gradients[f"b{l}"] = dense_backward(xp, dZ, A[l - 1])
        if l > 1:
            dA = dense_backward_input(xp, dZ, parameters[f"W{l}"])
            dZ = f_backward(xp, dA, Z[l - 1], A[l - 1])
    return gradients
