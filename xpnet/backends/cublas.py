"""cuBLAS by a handle of our own: CuPy does not let its own multiply on a stream that is being captured.

Five functions of cuBLAS's C interface, called through ctypes in the library that CuPy itself has loaded.
Source: NVIDIA, "cuBLAS library", sections 2.4 (helper functions) and 2.8.12 (cublasGemmEx).
"""

import ctypes
import threading
from functools import cache
from typing import Any

from xpnet.backends.base import Array, said

NORMAL, TRANSPOSED = 0, 1  # cublasOperation_t
ON_HOST, ON_DEVICE = 0, 1  # cublasPointerMode_t
TYPES = {"float32": (0, ctypes.c_float), "float64": (1, ctypes.c_double)}  # cudaDataType_t, and its scalar
SUMS = {"float32": 68, "tf32": 77, "bf16": 68, "float64": 70}  # cublasComputeType_t
BFLOAT16 = 14  # cudaDataType_t
TO_BFLOAT16 = """
y = ((x + ((x & 0x7FFFFFFF) <= 0x7F800000) * (0x7FFF + ((x >> 16) & 1))) >> 16)
  | (((x & 0x7FFFFFFF) > 0x7F800000) * 0x40)
""".strip()
"""The bits of a float32 rounded to those of a bfloat16, its upper half: to the nearest, ties to even. NaN is
cut off and made quiet, because rounded it might be infinity. The text is C, and means the same in Python."""

ALGORITHM = -1  # CUBLAS_GEMM_DEFAULT: cuBLAS chooses
WORKSPACE = 2**25
"""Bytes that cuBLAS may use while it multiplies, as NVIDIA recommends for its largest GPUs."""


class CuBLASError(RuntimeError):
    """cuBLAS returned a status other than success."""


@cache
def load(module: Any, device: int, precision: str) -> "CuBLAS":
    """Find the library that CuPy uses, and make a handle on its current device, which is number `device`.

    It is kept as long as the process runs, because to destroy it would wait for the GPU, and so spoil what
    another thread is recording.

    Raises
    ------
    CuBLASError
        The library is not there, or refuses a handle.
    """
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib  # CuPy before 14 comes without it

        path = load_nvidia_dynamic_lib("cublas").abs_path
        return CuBLAS(ctypes.CDLL(path), module, precision)
    except (ImportError, OSError, RuntimeError) as error:
        raise CuBLASError(f"cuBLAS cannot be loaded: {said(error)}") from error


class CuBLAS:
    """Matrix products on one device.

    Parameters
    ----------
    library
        cuBLAS, loaded.
    module
        CuPy, current on that device.
    precision
        "float32", "tf32" or "bf16": how float32 factors are multiplied. float64 always is in full. For
        "tf32" cuBLAS is allowed to round; for "bf16" that would be no promise, so we round ourselves.

    Raises
    ------
    CuBLASError
        cuBLAS refuses a handle.
    """

    def __init__(self, library: Any, module: Any, precision: str) -> None:
        self.library, self.module, self.precision = library, module, precision
        self.handle = ctypes.c_void_p()
        self._lock = threading.Lock()
        self._to_bfloat16 = module.ElementwiseKernel(
            "uint32 x", "uint16 y", f"{TO_BFLOAT16};", "xpnet_to_bfloat16"
        )
        # made before anything is recorded, because a recording would have to copy a number to the device
        self._minus_one = {dtype: -module.ones(1, dtype=dtype) for dtype in TYPES}
        self._call("cublasCreate_v2", ctypes.byref(self.handle))

    def matmul(self, A: Array, B: Array, /) -> Array:
        """A B for matrices (m, k) and (k, n) of one floating-point type; a transposed view is not copied.

        cuBLAS reads a matrix column by column. Read in this way, an array in C order is its own transpose,
        and (A B)^T = B^T A^T. So the factors are exchanged, and nothing has to be moved.

        Returns
        -------
        C : (m, n)
            In C order.
        """
        C = self.module.empty((A.shape[0], B.shape[1]), dtype=A.dtype)
        scalar = TYPES[C.dtype.name][1]
        self._multiply(A, B, C, ON_HOST, ctypes.byref(scalar(1.0)), ctypes.byref(scalar(0.0)))
        return C

    def subtract_product(self, W: Array, A: Array, B: Array, kept: Array | float | None = None) -> Array:
        """W <- kept W - A^T B, as ``nn`` defines it, in one product that is added straight to W.

        `kept` may be an array, which stays on the device. cuBLAS reads it there when it multiplies: the host
        need not wait, and a recording multiplies by what it is when it is launched.
        """
        C = W if W.flags.c_contiguous else self.module.ascontiguousarray(W)
        if kept is None or isinstance(kept, float):
            scalar = TYPES[C.dtype.name][1]
            alpha, beta = scalar(-1.0), scalar(1.0 if kept is None else kept)
            self._multiply(A.T, B, C, ON_HOST, ctypes.byref(alpha), ctypes.byref(beta))
        else:
            minus_one = self._minus_one[C.dtype.name]
            self._multiply(A.T, B, C, ON_DEVICE, _address(minus_one.data), _address(kept.data))
        if C is not W:
            W[...] = C
        return W

    def _multiply(self, A: Array, B: Array, C: Array, mode: int, alpha: Any, beta: Any) -> None:
        """C <- alpha A B + beta C, for C in C order. `alpha` and `beta` are pointers."""
        (m, k), n = A.shape, B.shape[1]
        kind = TYPES[C.dtype.name][0]
        precision = "float64" if C.dtype.name == "float64" else self.precision
        A, transposed_A = self._as_it_lies(A)
        B, transposed_B = self._as_it_lies(B)
        factors = kind
        if precision == "bf16":
            factors = BFLOAT16
            A, B = self._to_bfloat16(A.view("uint32")), self._to_bfloat16(B.view("uint32"))
        # from the pool of the current stream, or of the recording: nobody else uses it at the same time
        workspace = self.module.cuda.alloc(WORKSPACE)
        stream = self.module.cuda.get_current_stream()
        with self._lock:  # all threads share the handle, which keeps its settings from one call to the next
            self._call("cublasSetStream_v2", self.handle, _address(stream))
            # every time, because cuBLAS forgets it with each new stream
            self._call("cublasSetWorkspace_v2", self.handle, _address(workspace), ctypes.c_size_t(WORKSPACE))
            self._call("cublasSetPointerMode_v2", self.handle, mode)
            self._call(
                "cublasGemmEx",
                self.handle,
                *(transposed_B, transposed_A, n, m, k),
                alpha,
                *(_address(B.data), factors, B.shape[1]),
                *(_address(A.data), factors, A.shape[1]),
                beta,
                *(_address(C.data), kind, n),
                SUMS[precision],
                ALGORITHM,
            )

    def _as_it_lies(self, A: Array) -> tuple[Array, int]:
        """An array in C order that cuBLAS can read, and whether it is the transpose of A."""
        if A.flags.c_contiguous:
            return A, NORMAL
        if A.flags.f_contiguous:
            return A.T, TRANSPOSED
        return self.module.ascontiguousarray(A), NORMAL

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            raise CuBLASError(f"{name} returned status {status}")


def _address(memory: Any) -> ctypes.c_void_p:
    return ctypes.c_void_p(memory.ptr)
