"""How the learning rate moves: large steps while far away, small ones near the end.

A schedule maps progress p, from 0 at the first step to 1 after the last, to a factor of the rate. The
rates of many steps are made at once and put into the state, and a step takes its own by the counter beside
them: so a compiled or captured step sees the rate change, and every library the same one.
"""

from collections.abc import Callable
from math import pi

from xpnet.nn.typing import Array, Namespace


def constant(xp: Namespace, p: Array) -> Array:
    """Factor 1."""
    return xp.ones_like(p)


def linear(xp: Namespace, p: Array) -> Array:
    """Factor 1 - p."""
    return 1.0 - p


def cosine(xp: Namespace, p: Array) -> Array:
    """Factor (1 + cos(pi p)) / 2. Loshchilov and Hutter, "SGDR", 2017, eq. 5."""
    return (1.0 + xp.cos(pi * p)) / 2.0


SCHEDULES: dict[str, Callable[[Namespace, Array], Array]] = {
    "constant": constant,
    "linear": linear,
    "cosine": cosine,
}


def learning_rates(xp: Namespace, t: Array, *, lr: float, schedule: str, warmup: int, steps: int) -> Array:
    """The learning rate of every step in `t`.

    Parameters
    ----------
    t : (n,) floating point
        Step numbers, 0 for the first.
    lr
        The largest rate.
    schedule
        A key of `SCHEDULES`; it runs over the steps after the warm-up.
    warmup
        Steps in which the rate climbs in equal parts: lr / warmup at the first, lr at the last of them.
    steps
        Of the whole run, more than `warmup`.

    Returns
    -------
    rates : (n,)
    """
    p = xp.maximum(t - warmup, 0.0) / (steps - warmup)
    climb = xp.minimum((t + 1.0) / max(warmup, 1), 1.0)
    return lr * climb * SCHEDULES[schedule](xp, p)
