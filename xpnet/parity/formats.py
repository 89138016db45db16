"""The short formats to which matrix products may round their factors; the reference does it too.

A float32 is a sign, 8 bits of exponent and 23 explicit bits of fraction. TF32 keeps the first 10 of these and
bfloat16 the first 7, and the whole exponent. Two such numbers have a product that is exact in float32, and
the products are added up in float32. So if the reference rounds the factors in the same way and goes on in
float64, a library differs from it by its sums alone, and can be held to a narrow gate.
"""

import numpy as np

from xpnet.backends import Backend, get_backend
from xpnet.backends.base import Namespace

FRACTION = {"tf32": 10, "bf16": 7}
"""Explicit bits of fraction; float32 has 23."""


def rounded(array: np.ndarray, precision: str) -> np.ndarray:
    """The nearest numbers of a short format, those half way to the even one.

    The bits of a float32 but for its sign, read as a whole number, grow with its size. So to round is to add
    half a unit of the last bit that is kept, or one less where that bit is 0, and to cut off what is dropped.
    A carry goes on into the exponent, where it belongs.

    Parameters
    ----------
    array
        Finite numbers; float64 is rounded to float32 first, as a library that computes in float32 has it.
    precision
        A key of `FRACTION`.

    Returns
    -------
    rounded
        float32.
    """
    dropped = np.uint32(23 - FRACTION[precision])
    one = np.uint32(1)
    bits = np.asarray(array, dtype=np.float32).view(np.uint32)
    bits = bits + (one << (dropped - one)) - one + (bits >> dropped & one)
    return (bits >> dropped << dropped).view(np.float32)


def reference_backend(precision: str) -> Backend:
    """NumPy, whose matrix products round their factors where `precision` is not "float32"."""
    backend = get_backend("cpu", "numpy")
    if precision == "float32":
        return backend
    full = backend.xp

    def matmul(x1: np.ndarray, x2: np.ndarray, /) -> np.ndarray:
        factors = (rounded(x, precision).astype(x.dtype) for x in (x1, x2))
        product: np.ndarray = full.matmul(*factors)
        return product

    backend.xp = Namespace(full, matmul=matmul)
    return backend
