"""cuBLAS by a handle of our own: CuPy does not let its own multiply on a stream that is being captured.

Five functions of cuBLAS's C interface, called through ctypes in the library that CuPy itself has loaded.
Source: NVIDIA, "cuBLAS library", sections 2.4 (helper functions) and 2.8.12 (cublasGemmEx).
"""

import ctypes
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

Array: TypeAlias = Any

NORMAL, TRANSPOSED = 0, 1  # cublasOperation_t
TYPES = {"float32": (0, ctypes.c_float), "float64": (1, ctypes.c_double)}  # cudaDataType_t, and its scalar
SUMS = {"float32": 68, "tf32": 77, "bf16": 68, "float64": 70}  # cublasComputeType_t
BFLOAT16 = 14  # cudaDataType_t
TO_BFLOAT16 = """
y = ((x + ((x & 0x7FFFFFFF) <= 0x7F800000) * (0x7FFF + ((x >> 16) & 1))) >> 16)
  | (((x & 0x7FFFFFFF) > 0x7F800000) * 0x40)
""".strip()
"""The bits of a float32 rounded to those of a bfloat16, its upper half: to the nearest, ties to even. NaN is
cut off and made quiet, or it might end as infinity. In C, and read as Python the same."""

ALGORITHM = -1  # CUBLAS_GEMM_DEFAULT: cuBLAS chooses
WORKSPACE = 2**25
"""Bytes that cuBLAS may use while it multiplies: what NVIDIA recommends for its largest GPUs."""


class CuBLASError(RuntimeError):
    """cuBLAS returned a status other than success."""


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
        There is no handle to be had.
    """

    def __init__(self, library: Any, module: Any, precision: str) -> None:
        self.library, self.module, self.precision = library, module, precision
        self.handle = ctypes.c_void_p()
        self.workspace = module.cuda.alloc(WORKSPACE)
        self._lock = threading.Lock()
        self._to_bfloat16 = module.ElementwiseKernel(
            "uint32 x", "uint16 y", f"{TO_BFLOAT16};", "xpnet_to_bfloat16"
        )
        self._call("cublasCreate_v2", ctypes.byref(self.handle))
        destroyed = weakref.finalize(self, library.cublasDestroy_v2, self.handle)
        destroyed.atexit = False  # the driver may be gone by then, and takes the handle with it

    @classmethod
    def load(cls, module: Any, precision: str) -> "CuBLAS":
        """Find the library that CuPy uses.

        Raises
        ------
        CuBLASError
            It is not there, or there is no handle to be had.
        """
        try:
            from cuda.pathfinder import load_nvidia_dynamic_lib  # CuPy before 14 comes without it

            path = load_nvidia_dynamic_lib("cublas").abs_path
            return cls(ctypes.CDLL(path), module, precision)
        except (ImportError, OSError, RuntimeError) as error:
            raise CuBLASError(f"cuBLAS cannot be loaded: {' '.join(str(error).split())}") from error

    def matmul(self, A: Array, B: Array, /) -> Array:
        """A B for matrices (m, k) and (k, n) of one floating-point type; a transposed view is not copied.

        cuBLAS takes a matrix column by column. Read so, an array in C order is its own transpose, and
        (A B)^T = B^T A^T: with the factors exchanged, nothing has to be moved.

        Returns
        -------
        C : (m, n)
            In C order.
        """
        (m, k), n = A.shape, B.shape[1]
        C = self.module.empty((m, n), dtype=A.dtype)
        kind, scalar = TYPES[C.dtype.name]
        precision = "float64" if C.dtype.name == "float64" else self.precision
        A, transposed_A = self._as_it_lies(A)
        B, transposed_B = self._as_it_lies(B)
        factors = kind
        if precision == "bf16":
            factors = BFLOAT16
            A, B = self._to_bfloat16(A.view("uint32")), self._to_bfloat16(B.view("uint32"))
        with self._lock:  # the handle keeps the stream from one call to the next, and is one for all threads
            self._follow_stream()
            self._call(
                "cublasGemmEx",
                self.handle,
                transposed_B,
                transposed_A,
                *(n, m, k),
                ctypes.byref(scalar(1.0)),
                *(ctypes.c_void_p(B.data.ptr), factors, B.shape[1]),
                *(ctypes.c_void_p(A.data.ptr), factors, A.shape[1]),
                ctypes.byref(scalar(0.0)),
                *(ctypes.c_void_p(C.data.ptr), kind, n),
                SUMS[precision],
                ALGORITHM,
            )
        return C

    def _as_it_lies(self, A: Array) -> tuple[Array, int]:
        """An array in C order that cuBLAS can read, and whether it is the transpose of what was given."""
        if A.flags.c_contiguous:
            return A, NORMAL
        if A.flags.f_contiguous:
            return A.T, TRANSPOSED
        return self.module.ascontiguousarray(A), NORMAL

    def _follow_stream(self) -> None:
        """Multiply on the current stream, in a workspace that is ours: a graph keeps its address.

        Every time, because cuBLAS forgets the workspace with each new stream, and a stream's address may be
        that of one before.
        """
        stream = self.module.cuda.get_current_stream().ptr
        self._call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))
        workspace = ctypes.c_void_p(self.workspace.ptr)
        self._call("cublasSetWorkspace_v2", self.handle, workspace, ctypes.c_size_t(WORKSPACE))

    def _call(self, name: str, *arguments: Any) -> None:
        function: Callable[..., int] = getattr(self.library, name)
        status = function(*arguments)
        if status != 0:
            raise CuBLASError(f"{name} returned status {status}")
