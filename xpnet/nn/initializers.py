"""Where the weights start: random, because equal units would stay equal, and of a size that keeps the
variance of a signal the same from layer to layer.

Both draw from a host generator that is handed in (``numpy.random.Generator`` or anything with its two
methods), in float64, so that every library starts from the same numbers.
"""

from typing import Protocol

from xpnet.nn.typing import Array


class Generator(Protocol):
    """What is needed of ``numpy.random.Generator``."""

    def standard_normal(self, size: tuple[int, ...]) -> Array:
        """Draw from N(0, 1)."""

    def uniform(self, low: float, high: float, size: tuple[int, ...]) -> Array:
        """Draw from [low, high)."""


def he_normal(rng: Generator, fan_in: int, fan_out: int) -> Array:
    """W ~ N(0, 2 / fan_in): relu silences half of its inputs, so the other half speaks twice as loud.

    Returns an array (fan_in, fan_out) of float64. He et al., "Delving deep into rectifiers", 2015, eq. 10.
    """
    return rng.standard_normal((fan_in, fan_out)) * (2.0 / fan_in) ** 0.5


def glorot_uniform(rng: Generator, fan_in: int, fan_out: int) -> Array:
    """W ~ U(-r, r) with r = sqrt(6 / (fan_in + fan_out)), for functions that are straight at zero.

    Returns an array (fan_in, fan_out) of float64. Glorot and Bengio, "Understanding the difficulty of
    training deep feedforward neural networks", 2010, eq. 16.
    """
    r = (6.0 / (fan_in + fan_out)) ** 0.5
    return rng.uniform(-r, r, (fan_in, fan_out))
