"""Gates: the largest errors that are allowed between a library and the reference.

Two libraries add up numbers in different orders. In a free run in float32 this changes, sooner or later,
the sign of an input of relu, and from there on the weights of the two runs differ. This is rounding, not a
fault. It depends even on the number of threads of a BLAS, which divides the sums among them: the errors of a
free run in float32 may differ from machine to machine. So weights are compared after single steps, each from
the state of the reference, and a free run in float32 has gates only for its mean loss and its accuracy.

If matrix products round their factors, the reference rounds them too (see ``formats``). A product of given
factors is then as exact as in float32. But if the factors are results themselves, they differ between
libraries in the last bits of float32. A few of them lie next to a rounding boundary and are rounded to
different sides. These differ by a whole unit of the short format, which is 2^-7 for bf16 and 2^-10 for
tf32. So results that depend on such products are compared by their root mean square error. A few such
numbers change it little, but products that round differently, or not at all, change it much. Its gate is
1/64 of the unit.

Measured over eight seeds, with sums in several orders, with sums cut off as on a GPU, and with halves
rounded to either side, the errors were at most 2e-5 (bf16) and 9e-6 (tf32). For a gradient without any
rounding they were at least 3e-4 and 2e-5, and with factors cut off instead of rounded ten times as large.
The loss and the single steps cannot detect that a library computed in float32 instead, because a gradient
is only a small part of a weight. The operations, Z1, Z2 and the gradient can.
"""

from dataclasses import dataclass

import numpy as np

GATES: dict[str, dict[str, float | None]] = {
    "float64": {"one": 1e-12, "chained": 1e-12, "parameters": 1e-10, "loss": 1e-10, "accuracy": 1e-10},
    "float32": {"one": 1e-5, "chained": 1e-5, "parameters": None, "loss": 5e-3, "accuracy": 5e-3},
    "tf32": {"one": 1e-5, "chained": 2.0**-16, "parameters": None, "loss": 5e-3, "accuracy": 5e-3},
    "bf16": {"one": 1e-5, "chained": 2.0**-13, "parameters": None, "loss": 5e-3, "accuracy": 5e-3},
}
"""The largest relative errors, by dtype, or by precision if that is reduced.

``one``         a single operation or product
``chained``     a result of several products, such as a gradient or a step
``parameters``  the parameters after a free run
``loss``        the mean loss of a free run
``accuracy``    the accuracy after a free run: an absolute difference of two numbers from 0 to 1

A gate of None means that the error is reported only.
"""

SCALE = 1e-3
"""The least number that an error is divided by, so that a gradient of zero does not divide by zero."""


@dataclass(frozen=True)
class Row:
    """One quantity of one library, compared with the reference.

    Attributes
    ----------
    quantity
        The name of the quantity: "dense dW".
    error
        The largest relative error, or the root mean square error if the name ends in "rms". It is infinite if
        the shapes or dtypes differ or a number is not finite.
    gate
        The largest `error` that passes, or None if the error is reported only.
    note
        What is wrong if the error is infinite because of a shape or a dtype. Otherwise empty.
    """

    quantity: str
    error: float
    gate: float | None
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the error is within its gate."""
        return self.gate is None or self.error <= self.gate


def relative_error(a: np.ndarray, b: np.ndarray, *, rms: bool = False) -> float:
    """Compute max |a - b| / max(max |b|, SCALE). It is infinite if a number of `a` is not finite.

    Parameters
    ----------
    rms
        Divide the root mean square of a - b instead of its largest absolute value.
    """
    if not np.isfinite(a).all():
        return float("inf")
    difference = a.astype(np.float64) - b
    size = np.sqrt(np.mean(difference**2)) if rms else np.max(np.abs(difference))
    return float(size / max(float(np.max(np.abs(b))), SCALE))


def judge(
    quantity: str, kind: str, a: np.ndarray, b: np.ndarray, dtype: str, precision: str = "float32"
) -> Row:
    """Compare a result of a library with the reference.

    Parameters
    ----------
    kind
        Which gate applies: a key of the inner dicts of `GATES`.
    a, b
        The result of the library, and the result of the reference.
    dtype
        The dtype that `a` must have.
    precision
        The precision of the matrix products that `a` depends on.
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
    return Row(quantity, relative_error(a, b, rms=by_rms), gate)
