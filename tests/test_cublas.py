"""cuBLAS as we call it, over a stand-in that multiplies what the pointers point at, column by column.

So the order of the arguments, the transpositions and the lengths of the lines are tested for what they mean.
Whether NVIDIA's library does the same is for a GPU to show: ``pytest --device cuda``.
"""

import ctypes
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda import pathfinder

from xpnet.backends.cublas import WORKSPACE, CuBLAS, CuBLASError

CTYPES = {0: ctypes.c_float, 1: ctypes.c_double}


class DeviceArray(np.ndarray):
    """An array that tells its address as CuPy's do."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


def on_device(x: np.ndarray) -> DeviceArray:
    return x.view(DeviceArray)


class Library:
    """The four functions, as section 2 of cuBLAS's manual has them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sums: list[int] = []
        self.streams: list[int] = []
        self.fails: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.calls.append(name)
            return self.fails.get(name, 0) or getattr(self, f"do_{name}", lambda *_: 0)(*arguments)

        if name.startswith("do_"):
            raise AttributeError(name)
        return function

    def do_cublasSetStream_v2(self, handle: Any, stream: ctypes.c_void_p) -> int:  # noqa: N802
        self.streams.append(stream.value or 0)
        return 0

    def do_cublasGemmEx(  # noqa: N802
        self,
        handle: Any,
        op_a: int,
        op_b: int,
        m: int,
        n: int,
        k: int,
        alpha: Any,
        a: Any,
        a_type: int,
        lda: int,
        b: Any,
        b_type: int,
        ldb: int,
        beta: Any,
        c: Any,
        c_type: int,
        ldc: int,
        sums: int,
        algorithm: int,
    ) -> int:
        def matrix(pointer: Any, kind: int, lines: int, rows: int, columns: int) -> np.ndarray:
            # column-major with `lines` numbers from one column to the next
            assert lines >= rows
            size = (columns - 1) * lines + rows
            flat = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(CTYPES[kind])), (size,))
            strides = (flat.itemsize, lines * flat.itemsize)
            return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)

        A = matrix(a, a_type, lda, *((k, m) if op_a else (m, k)))
        B = matrix(b, b_type, ldb, *((n, k) if op_b else (k, n)))
        C = matrix(c, c_type, ldc, m, n)
        C[...] = alpha._obj.value * (A.T if op_a else A) @ (B.T if op_b else B)
        assert (beta._obj.value, algorithm) == (0.0, -1)
        self.sums.append(sums)
        return 0


def stand_in(library: Library, precision: str = "float32") -> tuple[CuBLAS, Any]:
    cupy: Any = SimpleNamespace(
        empty=lambda shape, dtype: on_device(np.full(shape, np.nan, dtype)),
        ascontiguousarray=lambda x: on_device(np.ascontiguousarray(x)),
        cuda=SimpleNamespace(
            alloc=lambda size: SimpleNamespace(ptr=4096, size=size),
            get_current_stream=lambda: SimpleNamespace(ptr=cupy.stream),
        ),
        stream=0,
    )
    return CuBLAS(library, cupy, precision), cupy


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(2, 3, 4), (5, 1, 3), (1, 4, 1), (3, 2, 1), (1, 1, 6), (128, 10, 128)]
)
def test_products_of_every_layout(m: int, k: int, n: int, dtype: str, rng: np.random.Generator) -> None:
    cublas, _ = stand_in(Library())
    A, B = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    wide_A, wide_B = np.zeros((m, 2 * k), dtype), np.zeros((k, 3 * n), dtype)
    wide_A[:, ::2], wide_B[:, ::3] = A, B
    layouts_A = (A, np.asfortranarray(A), wide_A[:, ::2])
    layouts_B = (B, np.asfortranarray(B), wide_B[:, ::3])
    for left, right in product(layouts_A, layouts_B):
        C = cublas.matmul(on_device(left), on_device(right))
        assert C.dtype == dtype
        assert C.flags.c_contiguous
        np.testing.assert_allclose(
            np.asarray(C), A @ B, rtol=1e-5 if dtype == "float32" else 1e-13, atol=1e-6
        )


def test_a_transposed_view_is_not_copied(rng: np.random.Generator) -> None:
    cublas, cupy = stand_in(Library())
    A = on_device(rng.standard_normal((4, 3)))
    cupy.ascontiguousarray = None  # any copy would be an error
    np.testing.assert_allclose(np.asarray(cublas.matmul(A.T, A)), np.asarray(A).T @ np.asarray(A))


@pytest.mark.parametrize(
    ("precision", "dtype", "expected"),
    [("float32", "float32", 68), ("tf32", "float32", 77), ("bf16", "float32", 75), ("bf16", "float64", 70)],
)
def test_the_precision_is_asked_for(precision: str, dtype: str, expected: int) -> None:
    library = Library()
    cublas, _ = stand_in(library, precision)
    one = on_device(np.ones((2, 2), dtype))
    cublas.matmul(one, one)
    assert library.sums == [expected]


def test_every_product_is_on_the_current_stream_and_in_the_workspace() -> None:
    library = Library()
    cublas, cupy = stand_in(library)
    assert cublas.workspace.size == WORKSPACE
    one = on_device(np.ones((2, 2)))
    for stream in (0, 7, 0):
        cupy.stream = stream
        cublas.matmul(one, one)
    product_calls = ["cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGemmEx"]
    assert library.calls == ["cublasCreate_v2", *product_calls * 3]
    assert library.streams == [0, 7, 0]


@pytest.mark.parametrize("name", ["cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGemmEx"])
def test_a_failure_is_named(name: str) -> None:
    library = Library()
    cublas, _ = stand_in(library)
    library.fails[name] = 13
    one = on_device(np.ones((2, 2)))
    with pytest.raises(CuBLASError, match=f"{name} returned status 13"):
        cublas.matmul(one, one)


def test_a_machine_without_cublas_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Any:
        raise pathfinder.DynamicLibNotFoundError(f"Failure finding\n {name}")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", nowhere)
    with pytest.raises(CuBLASError, match=r"^cuBLAS cannot be loaded: Failure finding cublas$"):
        CuBLAS.load(SimpleNamespace(), "float32")
