"""The network: dense layers with an activation between them, forward and backward.

With A_0 = X, layer l = 1 … L computes Z_l = A_{l-1} W_l + b_l. Each layer but the last also computes
A_l = f_l(Z_l).
The loss is computed from Z_L, the output of the last layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

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
        The activation of the hidden layers, a key of `ACTIVATIONS`, or a tuple with one for each of them.

    Raises
    ------
    ValueError
        There are fewer than two sizes, a size is less than 1, an activation is unknown, or there are more or
        fewer activations than hidden layers.
    """

    sizes: tuple[int, ...] = (784, 128, 10)
    activation: str | tuple[str, ...] = "relu"

    def __post_init__(self) -> None:
        if len(self.sizes) < 2 or min(self.sizes) < 1:
            raise ValueError(f"sizes {self.sizes}: give at least two, input and output, each 1 or more")
        if len(self.activations) != self.depth - 1:
            wanted = f"one name, or {self.depth - 1}: one for each hidden layer"
            raise ValueError(f"activation {self.activation}: give {wanted}")
        for name in (self.activation,) if isinstance(self.activation, str) else self.activation:
            if name not in ACTIVATIONS:
                raise ValueError(f"activation {name!r}: choose one of {', '.join(ACTIVATIONS)}")

    @property
    def activations(self) -> tuple[str, ...]:
        """The activation of each hidden layer."""
        return (self.activation,) * (self.depth - 1) if isinstance(self.activation, str) else self.activation

    def __str__(self) -> str:
        names = [self.activation] if isinstance(self.activation, str) else self.activation
        return f"{'-'.join(map(str, self.sizes))} {' '.join(names)}"

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


def initial_parameters(
    xp: Namespace, network: Network, rng: Generator, *, biases: bool = False
) -> dict[str, Array]:
    """Draw the initial parameters W1, b1, W2, b2, … in this order.

    A layer is drawn by `he_normal` if relu follows it, otherwise by `glorot_uniform`. The last layer is drawn
    like the one before it.

    Parameters
    ----------
    xp
        The namespace of the arrays that `rng` draws, usually NumPy.
    rng
        A generator on the host.
    biases
        Draw the biases from the same distribution as the weights of their layer, instead of starting at zero.

    Returns
    -------
    parameters
        Host arrays by name, float64, in the order of the layers. The caller casts and moves them.
    """
    followed = network.activations or ("identity",)
    parameters = {}
    for l in range(1, network.depth + 1):
        draw = he_normal if followed[min(l, len(followed)) - 1] == "relu" else glorot_uniform
        fan_in, fan_out = network.sizes[l - 1], network.sizes[l]
        parameters[f"W{l}"] = draw(rng, fan_in, fan_out, (fan_in, fan_out))
        zero = xp.zeros(fan_out, dtype=xp.float64)
        parameters[f"b{l}"] = draw(rng, fan_in, fan_out, (fan_out,)) if biases else zero
    return parameters


def is_weight(name: str) -> bool:
    """Whether a parameter is a weight matrix. Weight decay applies to weights, not to biases."""
    return name.startswith("W")


class Pass(NamedTuple):
    """The arrays that `forward` computes and `backward` needs.

    Attributes
    ----------
    Z : {1: Z_1, …, L: Z_L}
        The output of every dense layer.
    A : {0: X, 1: A_1, …, L - 1: A_{L-1}}
        The output of every activation, and the input.
    D : {0: D_0, …, L - 1: D_{L-1}}
        The input of every dense layer: A_l without the units that dropout leaves out, A_l * M_l. Where there
        is no mask, D_l is A_l itself.
    masks : {l: M_l}
        As they were given to `forward`.
    """

    Z: dict[int, Array]
    A: dict[int, Array]
    D: dict[int, Array]
    masks: Mapping[int, Array]


def forward(
    xp: Namespace, network: Network, parameters: State, X: Array, masks: Mapping[int, Array] | None = None
) -> Pass:
    """Compute the output of the last layer for X, and keep all that `backward` needs.

    Parameters
    ----------
    parameters
        W1, b1, …; other names are ignored.
    X : (m, sizes[0])
        Rows of floating point numbers.
    masks : {l: M_l}
        The masks of dropout, for the layers that have one. Only training has masks.
    """
    masks, f = masks or {}, network.activations
    Z: dict[int, Array] = {}
    A: dict[int, Array] = {}
    D: dict[int, Array] = {}
    for l in range(network.depth):
        A[l] = ACTIVATIONS[f[l - 1]].forward(xp, Z[l]) if l else X
        D[l] = A[l] * masks[l] if l in masks else A[l]
        Z[l + 1] = dense(xp, D[l], parameters[f"W{l + 1}"], parameters[f"b{l + 1}"])
    return Pass(Z, A, D, masks)


def backward(
    xp: Namespace, network: Network, parameters: State, computed: Pass, dZ: Array, *, factors: bool = False
) -> State:
    """Backpropagation: apply the chain rule from the last layer to the first.

    Rumelhart, Hinton and Williams, "Learning representations by back-propagating errors", 1986.

    Parameters
    ----------
    computed
        The result of `forward`.
    dZ : (m, sizes[L])
        Gradient of the loss with respect to Z_L.
    factors
        Leave the gradients of weights as products, as for `dense_backward`.

    Returns
    -------
    gradients
        The gradient of every parameter, under the name of the parameter: dW1 under "W1".
    """
    f, (Z, A, D, masks) = network.activations, computed
    gradients: State = {}
    for l in range(network.depth, 0, -1):
        gradients[f"W{l}"], gradients[f"b{l}"] = dense_backward(xp, dZ, D[l - 1], factors=factors)
        if l > 1:
            dA = dense_backward_input(xp, dZ, parameters[f"W{l}"])
            if l - 1 in masks:
                dA *= masks[l - 1]
            dZ = ACTIVATIONS[f[l - 2]].backward(xp, dA, Z[l - 1], A[l - 1])
    return gradients
