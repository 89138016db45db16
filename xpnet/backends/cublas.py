"""cuBLAS by a handle of our own: CuPy does not let its own multiply on a stream that is being captured.

Four functions of cuBLAS's C interface, called through ctypes in the library that CuPy itself has loaded.
Source: NVIDIA, "cuBLAS library", sections 2.4 (helper functions) and 2.8.12 (cublasGemmEx).
"""

import ctypes
from collections.abc import Callable
from typing import Any, TypeAlias

Array: TypeAlias = Any

NORMAL, TRANSPOSED = 0, 1  # cublasOperation_t
TYPES = {"float32": (0, ctypes.c_float), "float64": (1, ctypes.c_double)}  # cudaDataType_t, and its scalar
SUMS = {"float32": 68, "tf32": 77, "bf16": 75, "float64": 70}  # cublasComputeType_t
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
        "float32", "tf32" or "bf16": how float32 factors are multiplied. float64 always is in full.

    Raises
    ------
    CuBLASError
        There is no handle to be had.
    """

    def __init__(self, library: Any, module: Any, precision: str) -> None:
        self.library, self.module, self.precision = library, module, precision
        self.handle = ctypes.c_void_p()
        self.workspace = module.cuda.alloc(WORKSPACE)
        self._call("cublasCreate_v2", ctypes.byref(self.handle))

    @classmethod
    def load(cls, module: Any, precision: str) -> "CuBLAS":
        """Find the library that CuPy uses.

        Raises
        ------
        CuBLASError
            It is not there, or there is no handle to be had.
        """
        from cuda.pathfinder import DynamicLibNotFoundError, load_nvidia_dynamic_lib

        try:
            path = load_nvidia_dynamic_lib("cublas").abs_path
            return cls(ctypes.CDLL(path), module, precision)
        except (DynamicLibNotFoundError, OSError) as error:
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
        kind, scalar = TYPES[A.dtype.name]
        A, transposed_A, row_A = self._as_it_lies(A)
        B, transposed_B, row_B = self._as_it_lies(B)
        self._follow_stream()
        self._call(
            "cublasGemmEx",
            self.handle,
            transposed_B,
            transposed_A,
            *(n, m, k),
            ctypes.byref(scalar(1.0)),
            *(ctypes.c_void_p(B.data.ptr), kind, row_B),
            *(ctypes.c_void_p(A.data.ptr), kind, row_A),
            ctypes.byref(scalar(0.0)),
            *(ctypes.c_void_p(C.data.ptr), kind, n),
            SUMS["float64" if A.dtype.name == "float64" else self.precision],
            ALGORITHM,
        )
        return C

    def _as_it_lies(self, A: Array) -> tuple[Array, int, int]:
        """An array that cuBLAS can read, whether it is the transpose of it, and the length of its lines."""
        if A.flags.c_contiguous:
            return A, NORMAL, A.shape[1]
        if A.flags.f_contiguous:
            return A, TRANSPOSED, A.shape[0]
        return self.module.ascontiguousarray(A), NORMAL, A.shape[1]

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
