"""How far apart two libraries may be.

In a free run of float32 the sign of some relu's input flips between two orders of summation, and the weights
part: that is arithmetic, not a fault. So weights are compared step by step, each from the reference's own
state, and a free run of float32 is held to its mean loss and its accuracy.

Where matrix products round their factors, the reference rounds them too (see ``formats``), and a product of
given factors is as exact as in float32. But a factor that was computed differs between libraries in its last
bits of float32, and the few that lie next to a boundary are rounded to the other side: they are off by a
whole unit of the short format, 2^-7 for bf16 and 2^-10 for tf32. So what is made of such products is held to
its root mean square error: a few such numbers count little in it, and products that round in another way, or
not at all, count in full. Its gate is a 64th of the unit. Over eight seeds, with sums in several orders, or
cut off as on a GPU, and with halves rounded either way, the errors were at most 2e-5 (bf16) and 9e-6 (tf32);
without any rounding at least 3e-4 and 2e-5 for a gradient, and with the factors cut off ten times that. A
loss and a single step, in which a gradient is a small part of a weight, cannot tell that float32 was computed
instead. The operations, Z1, Z2 and the gradient can.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

GATES: dict[str, dict[str, float | None]] = {
    "float64": {"one": 1e-12, "chained": 1e-12, "parameters": 1e-10, "loss": 1e-10, "accuracy": 1e-10},
    "float32": {"one": 1e-5, "chained": 1e-5, "parameters": None, "loss": 5e-3, "accuracy": 5e-3},
    "tf32": {"one": 1e-5, "chained": 2.0**-16, "parameters": None, "loss": 5e-3, "accuracy": 5e-3},
    "bf16": {"one": 1e-5, "chained": 2.0**-13, "parameters": None, "loss": 5e-3, "accuracy": 5e-3},
}
"""By dtype, or by precision where that is reduced: the largest relative error of one operation or product, of
what products are made of products (a gradient, a step), and of what a free run ends with.

``accuracy`` is a difference of shares, 0 to 1. None: reported, but not held to a gate.
"""

SCALE = 1e-3
"""Sizes under this count as this, so that an error is not divided by a gradient of zero."""


@dataclass(frozen=True)
class Row:
    """One quantity of one library, compared with the reference.

    Attributes
    ----------
    quantity
        What was compared: "dense dW".
    error
        The largest relative error, or the root mean square of a quantity that says "rms"; infinite where the
        shapes or types differ or a number is not finite.
    gate
        What `error` may be at most; None where it is only reported.
    note
        What is wrong beyond a large error; mostly empty.
    """

    quantity: str
    error: float
    gate: float | None
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within its gate."""
        return self.gate is None or self.error <= self.gate


def relative_error(a: np.ndarray, b: np.ndarray) -> float:
    """max |a - b| / max(max |b|, SCALE), infinite where a number of `a` is not finite."""
    return _over_largest(a, b, lambda difference: np.max(np.abs(difference)))


def rms_error(a: np.ndarray, b: np.ndarray) -> float:
    """The same with the root mean square of a - b."""
    return _over_largest(a, b, lambda difference: np.sqrt(np.mean(difference**2)))


def _over_largest(a: np.ndarray, b: np.ndarray, size: Callable[[np.ndarray], np.floating]) -> float:
    if not np.isfinite(a).all():
        return float("inf")
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return float(size(a - b) / max(float(np.max(np.abs(b))), SCALE))


def judge(
    quantity: str, kind: str, a: np.ndarray, b: np.ndarray, dtype: str, precision: str = "float32"
) -> Row:
    """Compare what a library computed with the reference.

    Parameters
    ----------
    kind
        A key of the gates.
    a, b
        The library's result and the reference's.
    dtype
        What `a` must be in.
    precision
        Of the matrix products behind it.
    """
    reduced = precision != "float32"
    gate = GATES[precision if reduced else dtype][kind]
    by_rms = reduced and kind == "chained"
    quantity = f"{quantity} rms" if by_rms else quantity
    if a.dtype != np.dtype(dtype):
        return Row(quantity, float("inf"), gate, f"is {a.dtype}, not {dtype}")
    if a.shape != b.shape:
        return Row(quantity, float("inf"), gate, f"has shape {a.shape}, not {b.shape}")
    if kind == "accuracy" and np.isfinite(a).all():
        return Row(quantity, float(np.max(np.abs(a - b))), gate)
    return Row(quantity, (rms_error if by_rms else relative_error)(a, b), gate)
