"""Schedules: how the learning rate changes during a run, from large steps to small ones.

A schedule maps the progress p of the run, 0 at the first step and 1 after the last, to a factor of the
learning rate. The rates of many steps are computed at once and put into the state, where each step looks up
its own. So the rate changes in a compiled or captured step too, and is the same on every library.
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
    "plateau": constant,  # times a factor that is known only epoch by epoch
}


def learning_rates(xp: Namespace, t: Array, *, lr: float, schedule: str, warmup: int, steps: int) -> Array:
    """Compute the learning rates of the steps `t`.

    Parameters
    ----------
    t : (n,) floating point
        Numbers of the steps; the first step of the run is 0.
    lr
        The largest learning rate.
    schedule
        A key of `SCHEDULES`. The schedule starts after the warm-up.
    warmup
        Number of steps in which the rate grows linearly, from lr / warmup in the first to lr in the last.
    steps
        Number of steps in the whole run; more than `warmup`.

    Returns
    -------
    rates : (n,)
    """
    p = xp.maximum(t - warmup, 0.0) / (steps - warmup)
    climb = xp.minimum((t + 1.0) / max(warmup, 1), 1.0)
    return lr * climb * SCHEDULES[schedule](xp, p)
