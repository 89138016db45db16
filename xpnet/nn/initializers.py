"""Random initial weights.

They are random because units that start equal stay equal. Their size is chosen so that the variance of a
signal stays about the same from layer to layer.

Both functions draw from a generator on the host, in float64, so that every library starts from the same
numbers.
"""

from typing import Protocol

from xpnet.nn.typing import Array


class Generator(Protocol):
    """The two methods of ``numpy.random.Generator`` that are used here."""

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        """Draw from N(0, 1)."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> Array:
        """Draw from [low, high)."""


def he_normal(rng: Generator, fan_in: int, fan_out: int, shape: tuple[int, ...]) -> Array:
    """W ~ N(0, 2 / fan_in). The factor 2 makes up for relu, which sets about half of its inputs to zero.

    Returns an array of the given shape, float64: (fan_in, fan_out) for weights, (fan_out,) for biases.
    He et al., "Delving deep into rectifiers", 2015, eq. 10.
    """
    return rng.standard_normal(shape) * (2.0 / fan_in) ** 0.5


def glorot_uniform(rng: Generator, fan_in: int, fan_out: int, shape: tuple[int, ...]) -> Array:
    """W ~ U(-r, r) with r = sqrt(6 / (fan_in + fan_out)), for activations that are almost linear near zero.

    Returns an array of the given shape, float64, as `he_normal` does.
    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks", 2010,
    eq. 16.
    """
    r = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-r, r, shape)
