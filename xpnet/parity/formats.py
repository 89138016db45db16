"""TF32 and bfloat16: the formats to which a matrix product may round its factors.

A float32 has a sign, 8 bits of exponent and 23 explicit bits of fraction. TF32 and bfloat16 keep the sign
and the exponent; of the fraction TF32 keeps the first 10 bits and bfloat16 the first 7. The product of two
such numbers is exact in float32, and the products are added up in float32. The reference rounds its factors
in the same way and then computes in float64. So a library differs from it only by the rounding of its sums,
and a narrow gate is enough.
"""

import numpy as np

from xpnet.backends import Backend, get_backend
from xpnet.backends.base import Patched, without_hooks

FRACTION = {"tf32": 10, "bf16": 7}
"""Explicit bits of the fraction. Float32 has 23."""


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """Round to the nearest number of a short format, and to the even one of two that are equally near.

    The bits of a float32 without its sign, read as an integer, grow with its absolute value. So this function
    adds half a unit of the last bit that is kept, or one less than half if that bit is 0, and then clears the
    bits that are dropped. A carry into the exponent gives the right number too.

    Parameters
    ----------
    array
        Finite numbers. float64 is rounded to float32 first, because a library that computes in float32 has
        its factors in float32.
    precision
        A key of `FRACTION`.

    Returns
    -------
    rounded
        An array of the same shape, float32.
    """
    dropped = np.uint32(23 - FRACTION[precision])
    one = np.uint32(1)
    bits = np.asarray(array, dtype=np.float32).view(np.uint32)
    bits = bits + (one << (dropped - one)) - one + (bits >> dropped & one)
    return (bits >> dropped << dropped).view(np.float32)


def reference_backend(precision: str) -> Backend:
    """Return the NumPy backend, which computes everything by the definitions in ``nn``.

    Unless `precision` is "float32", its matrix products round their factors.
    """
    backend = get_backend("cpu", "numpy", alone=True)
    backend.xp = full = without_hooks(backend.xp)
    if precision == "float32":
        return backend

    def matmul(x1: np.ndarray, x2: np.ndarray, /) -> np.ndarray:
        factors = (rounded(x, precision).astype(x.dtype) for x in (x1, x2))
        product: np.ndarray = full.matmul(*factors)
        return product

    backend.xp = Patched(full, matmul)
    return backend
