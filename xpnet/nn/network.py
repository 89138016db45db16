"""The network: dense layers with an activation between them, forward and backward.

For layers l = 1 … L, and A_0 = X:  Z_l = A_{l-1} W_l + b_l,  A_l = f(Z_l), and Z_L are the logits.
"""

from dataclasses import dataclass

from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.dense import dense, dense_backward, dense_backward_input
from xpnet.nn.initializers import Generator, glorot_uniform, he_normal
from xpnet.nn.typing import Array, Namespace, State


@dataclass(frozen=True)
class Network:
    """The description of a network: what is needed to run it, besides its parameters.

    Parameters
    ----------
    sizes
        Units of every layer from the input to the logits: (784, 128, 10).
    activation
        Between the layers: a key of `ACTIVATIONS`.

    Raises
    ------
    ValueError
        Fewer than two sizes, a size under 1, or an unknown activation.
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
        """L, the number of dense layers."""
        return len(self.sizes) - 1

    @property
    def size(self) -> int:
        """The number of all weights and biases."""
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
    """Draw W1, W2, … in that order: He for relu, Glorot for the rest. Biases start at zero.

    Parameters
    ----------
    xp
        The namespace of what `rng` draws: that of the host.

    Returns
    -------
    parameters
        Host arrays of float64, by name, in the order of the layers; the caller casts and moves them.
    """
    draw = he_normal if network.activation == "relu" else glorot_uniform
    return {
        name: draw(rng, *shape) if is_weight(name) else xp.zeros(shape, dtype=xp.float64)
        for name, shape in network.shapes.items()
    }


def is_weight(name: str) -> bool:
    """Whether a parameter is a weight matrix, which decays, and not a bias, which does not."""
    return name.startswith("W")


def forward(
    xp: Namespace, network: Network, parameters: State, X: Array
) -> tuple[dict[int, Array], dict[int, Array]]:
    """Run X through the layers and keep what the way back needs.

    Parameters
    ----------
    parameters
        W1, b1, … (further names are ignored).
    X : (m, sizes[0])
        Floating point.

    Returns
    -------
    Z : {1: Z_1, …, L: Z_L}
        The last one holds the logits, (m, sizes[L]).
    A : {0: X, 1: A_1, …, L - 1: A_{L-1}}
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
    """Backpropagation: the chain rule, from the last layer to the first.

    Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", 1986.

    Parameters
    ----------
    Z, A
        What `forward` returned.
    dZ : (m, sizes[L])
        Gradient of the loss by the logits.

    Returns
    -------
    gradients
        dW_l under the name of W_l, db_l under the name of b_l.
    """
    f_backward = ACTIVATIONS[network.activation].backward
    gradients: State = {}
    for l in range(network.depth, 0, -1):
        gradients[f"W{l}"], gradients[f"b{l}"] = dense_backward(xp, dZ, A[l - 1])
        if l > 1:
            dA = dense_backward_input(xp, dZ, parameters[f"W{l}"])
            dZ = f_backward(xp, dA, Z[l - 1], A[l - 1])
    return gradients
