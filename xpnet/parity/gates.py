"""How far apart two libraries may be.

In a free run of float32 the sign of some relu's input flips between two orders of summation, and the weights
part: that is arithmetic, not a fault. So weights are compared step by step, each from the reference's own
state, and a free run of float32 is held to its mean loss and its accuracy.
"""

from dataclasses import dataclass

import numpy as np

GATES: dict[str, dict[str, float | None]] = {
    "float64": {"one": 1e-12, "parameters": 1e-10, "loss": 1e-10, "accuracy": 1e-10},
    "float32": {"one": 1e-5, "parameters": None, "loss": 5e-3, "accuracy": 5e-3},
}
"""The largest relative error of one operation, gradient, update or step, and of what a free run ends with.

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
        The largest relative error; infinite where the shapes or types differ or a number is not finite.
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
    if not np.isfinite(a).all():
        return float("inf")
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), SCALE))


def judge(quantity: str, kind: str, a: np.ndarray, b: np.ndarray, dtype: str) -> Row:
    """Compare what a library computed with the reference.

    Parameters
    ----------
    kind
        A key of `GATES[dtype]`.
    a, b
        The library's result and the reference's.
    dtype
        What `a` must be in.
    """
    gate = GATES[dtype][kind]
    if a.dtype != np.dtype(dtype):
        return Row(quantity, float("inf"), gate, f"is {a.dtype}, not {dtype}")
    if a.shape != b.shape:
        return Row(quantity, float("inf"), gate, f"has shape {a.shape}, not {b.shape}")
    if kind == "accuracy" and np.isfinite(a).all():
        return Row(quantity, float(np.max(np.abs(a - b))), gate)
    return Row(quantity, relative_error(a, b), gate)
