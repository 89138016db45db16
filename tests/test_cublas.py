"""cuBLAS as we call it, over a stand-in that multiplies what the pointers point at, column by column.

So the order of the arguments, the transpositions and the lengths of the lines are tested for what they mean.
Whether NVIDIA's library does the same is for a GPU to show: ``pytest --device cuda``.
"""

import ctypes
import gc
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda import pathfinder

from xpnet.backends.cublas import WORKSPACE, CuBLAS, CuBLASError

CTYPES: dict[int, Any] = {0: ctypes.c_float, 1: ctypes.c_double, 14: ctypes.c_uint16}


class DeviceArray(np.ndarray):
    """An array that tells its address as CuPy's do."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


def on_device(x: np.ndarray) -> DeviceArray:
    return x.view(DeviceArray)


class Library:
    """The five functions, as section 2 of cuBLAS's manual has them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.sums: list[int] = []
        self.kinds: list[tuple[int, int, int]] = []
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
            if kind == 14:
                flat = (flat.astype(np.uint32) << 16).view(np.float32)
            strides = (flat.itemsize, lines * flat.itemsize)
            return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)

        A = matrix(a, a_type, lda, *((k, m) if op_a else (m, k)))
        B = matrix(b, b_type, ldb, *((n, k) if op_b else (k, n)))
        C = matrix(c, c_type, ldc, m, n)
        C[...] = alpha._obj.value * (A.T if op_a else A) @ (B.T if op_b else B)
        assert (beta._obj.value, algorithm) == (0.0, -1)
        self.sums.append(sums)
        self.kinds.append((a_type, b_type, c_type))
        return 0


def elementwise_kernel(inputs: str, outputs: str, operation: str, name: str) -> Any:
    """Does in NumPy what is written to be compiled."""
    assert (inputs, outputs) == ("uint32 x", "uint16 y")
    expression = compile(operation.removeprefix("y = ").rstrip(";").replace("\n", " "), name, "eval")

    def run(x: np.ndarray) -> DeviceArray:
        assert x.dtype == "uint32"
        assert x.flags.c_contiguous
        return on_device(np.asarray(eval(expression, {"x": np.asarray(x)})).astype(np.uint16))

    return run


def stand_in(library: Library, precision: str = "float32") -> tuple[CuBLAS, Any]:
    cupy: Any = SimpleNamespace(
        empty=lambda shape, dtype: on_device(np.full(shape, np.nan, dtype)),
        ascontiguousarray=lambda x: on_device(np.ascontiguousarray(x)),
        ElementwiseKernel=elementwise_kernel,
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
    [("float32", "float32", 68), ("tf32", "float32", 77), ("bf16", "float32", 68), ("bf16", "float64", 70)],
)
def test_the_precision_is_asked_for(precision: str, dtype: str, expected: int) -> None:
    library = Library()
    cublas, _ = stand_in(library, precision)
    one = on_device(np.ones((2, 2), dtype))
    cublas.matmul(one, one)
    assert library.sums == [expected]
    kind = 0 if dtype == "float32" else 1
    factors = 14 if expected == 68 and precision == "bf16" else kind
    assert library.kinds == [(factors, factors, kind)]


def bfloat16(x: np.ndarray) -> np.ndarray:
    """The nearest numbers of 8 bits in all, ties to even: by arithmetic, not by bits."""
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return np.ldexp(np.rint(mantissa * 256.0) / 256.0, exponent)  # rint: ties to even


def test_bf16_multiplies_rounded_factors_in_full(rng: np.random.Generator) -> None:
    """In every layout; the sums are those of float32."""
    library = Library()
    cublas, _ = stand_in(library, "bf16")
    A, B = rng.standard_normal((7, 30)).astype(np.float32), rng.standard_normal((30, 5)).astype(np.float32)
    wide = np.zeros((7, 60), np.float32)
    wide[:, ::2] = A
    right = bfloat16(A) @ bfloat16(B)
    assert abs(right - A.astype(np.float64) @ B).max() > 1e-3
    for left, other in product((A, np.asfortranarray(A), wide[:, ::2]), (B, np.asfortranarray(B))):
        C = cublas.matmul(on_device(left), on_device(other))
        assert C.dtype == np.float32
        np.testing.assert_allclose(np.asarray(C), right, rtol=0, atol=1e-5)


def test_rounding_is_to_the_nearest_and_keeps_what_is_not_finite() -> None:
    cublas, _ = stand_in(Library(), "bf16")
    hard = [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-9, 1.4e-45, np.inf, -np.inf]
    x = np.array([*hard, 3.4e38, -3.4e38], np.float32)
    rounded = np.asarray(cublas._to_bfloat16(x.view(np.uint32))).astype(np.uint32) << 16
    expected = [0.0, -0.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0, 0.0, np.inf, -np.inf, np.inf, -np.inf]
    assert rounded.view(np.float32).tolist() == expected
    assert np.signbit(rounded.view(np.float32)[1])
    nan = np.array([0x7F800001, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    assert np.isnan((np.asarray(cublas._to_bfloat16(nan)).astype(np.uint32) << 16).view(np.float32)).all()


def test_two_threads_do_not_mix_the_calls_of_their_products() -> None:
    library = Library()
    cublas, _ = stand_in(library)
    by: list[int] = []

    def noting(*arguments: Any) -> int:
        by.append(threading.get_ident())
        time.sleep(0.001)  # as in ctypes, where another thread may go on
        return 0

    for name in ("cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasGemmEx"):
        setattr(library, name, noting)
    one = on_device(np.ones((2, 2)))
    with ThreadPoolExecutor(2) as threads:
        for found in [threads.submit(cublas.matmul, one, one) for _ in range(20)]:
            found.result()
    assert [by[i] for i in range(0, 60, 3) for _ in range(3)] == by


def test_the_handle_goes_with_its_object_but_not_at_exit() -> None:
    library = Library()
    cublas, _ = stand_in(library)
    one = on_device(np.ones((2, 2)))
    cublas.matmul(one, one)
    assert "cublasDestroy_v2" not in library.calls
    del cublas
    gc.collect()
    assert library.calls[-1] == "cublasDestroy_v2"
    kept, _ = stand_in(library)
    finalizers: Any = weakref.finalize._registry  # type: ignore[attr-defined]
    (ours,) = [known for known in finalizers if (known.peek() or [None])[0] is kept]
    assert ours.atexit is False


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


def test_a_cupy_without_pathfinder_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(CuBLASError, match=r"^cuBLAS cannot be loaded: .*cuda\.pathfinder"):
        CuBLAS.load(SimpleNamespace(), "float32")


def test_a_machine_without_cublas_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Any:
        raise pathfinder.DynamicLibNotFoundError(f"Failure finding\n {name}")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", nowhere)
    with pytest.raises(CuBLASError, match=r"^cuBLAS cannot be loaded: Failure finding cublas$"):
        CuBLAS.load(SimpleNamespace(), "float32")
