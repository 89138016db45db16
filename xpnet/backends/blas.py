"""NumPy's own BLAS: it can add a product straight to a matrix, but NumPy has no function that asks for it.

One function of the C interface, ``cblas_?gemm``, called through ctypes in the library that NumPy has loaded.
Source: Dongarra, Du Croz, Hammarling and Duff, "A set of level 3 basic linear algebra subprograms", 1990.
"""

import ctypes
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import threadpoolctl

from xpnet.backends.base import Array

ROW_MAJOR, NORMAL, TRANSPOSED = 101, 111, 112  # CBLAS_LAYOUT, CBLAS_TRANSPOSE
FORMS = {
    "scipy_cblas_{}gemm64_": ctypes.c_int64,  # NumPy's own wheels
    "cblas_{}gemm64_": ctypes.c_int64,
    "scipy_cblas_{}gemm": ctypes.c_int,
    "cblas_{}gemm": ctypes.c_int,  # conda and Linux distributions
}
"""The names under which builds of OpenBLAS have the function, and the type of a size there."""

TYPES = {"f": ("s", ctypes.c_float), "d": ("d", ctypes.c_double)}
"""For the character of each dtype that it multiplies: the letter in its name, and the type of a factor."""

Memory: Any = ctypes.c_char * 0
"""The memory of an array that is in C order and may be written to. Of others it cannot be made."""

Gemm: TypeAlias = Any
"""A function of a library that ctypes has loaded."""


@cache
def load() -> dict[str, Gemm]:
    """Find the function for each dtype, by its character, in the OpenBLAS that NumPy multiplies with.

    A function that does not compute what NumPy does is left out, and nothing is found for another BLAS.
    """
    pools = [pool for pool in threadpoolctl.threadpool_info() if pool["user_api"] == "blas"]
    ours = [pool for pool in pools if pool["filepath"].startswith(str(Path(np.__file__).parent))]
    # a BLAS of the system's is NumPy's if there is no other
    found = [pool["filepath"] for pool in ours or pools if pool["internal_api"] == "openblas"]
    if len(found) != 1:
        return {}
    library = ctypes.CDLL(found[0])
    gemms = {char: _function(library, char) for char in TYPES}
    return {char: gemm for char, gemm in gemms.items() if gemm and _is_right(gemm, char)}


def _function(library: Any, char: str) -> Gemm | None:
    letter, scalar = TYPES[char]
    for form, size in FORMS.items():
        if gemm := getattr(library, form.format(letter), None):
            lines = (ctypes.c_void_p, size)  # an array, and the distance from one of its rows to the next
            gemm.argtypes = (*[ctypes.c_int] * 3, *[size] * 3, scalar, *lines, *lines, scalar, *lines)
            gemm.restype = None
            return gemm
    return None


def _is_right(gemm: Gemm, char: str) -> bool:
    A, B, C = (np.random.default_rng(0).random(shape).astype(char) for shape in ((6, 5), (6, 4), (5, 4)))
    right = 0.5 * C - 0.25 * A.T @ B
    found = add_product(gemm, C, A, B, -0.25, 0.5)
    return found and np.allclose(C, right, rtol=1e-5)


def add_product(gemm: Gemm, C: Array, A: Array, B: Array, alpha: float, beta: float) -> bool:
    """C <- beta C + alpha A^T B, if all three are matrices of the dtype of `gemm`, in C order and writable.

    Returns
    -------
    done
        Whether they are. If not, nothing has changed.
    """
    if A.dtype != C.dtype or B.dtype != C.dtype or not A.ndim == B.ndim == C.ndim == 2:
        return False
    try:
        a, b, c = Memory.from_buffer(A), Memory.from_buffer(B), Memory.from_buffer(C)
    except (TypeError, ValueError):
        return False
    (k, m), n = A.shape, B.shape[1]
    gemm(ROW_MAJOR, TRANSPOSED, NORMAL, m, n, k, alpha, a, m, b, n, beta, c, n)
    return True


def subtract_product(W: Array, A: Array, B: Array, kept: Array | float | None = None) -> Array:
    """W <- kept W - A^T B, as ``nn`` defines it: in one product, or in the plain way where that fails."""
    share = 1.0 if kept is None else np.asarray(kept).item()
    gemm = load().get(W.dtype.char)
    if gemm is None or not add_product(gemm, W, A, B, -1.0, share):
        W *= share
        W -= A.T @ B
    return W
