"""cuBLAS as we call it, over a stand-in that multiplies what the pointers point at, column by column.

So the order of the arguments, the transpositions and the lengths of the lines are tested for what they mean.
Whether NVIDIA's library does the same is for a GPU to show: ``pytest --device cuda``.
"""

import ctypes
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda import pathfinder

from xpnet.backends.cublas import WORKSPACE, CuBLAS, CuBLASError, load
from xpnet.parity.formats import rounded

CTYPES: dict[int, Any] = {0: ctypes.c_float, 1: ctypes.c_double, 14: ctypes.c_uint16}


class DeviceArray(np.ndarray):
    """An array that tells its address as CuPy's do."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


def on_device(x: np.ndarray) -> DeviceArray:
    return x.view(DeviceArray)


class Library:
    """The functions that we call, as section 2 of cuBLAS's manual has them, and a note of every call."""

    mode = 0

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.fails: dict[str, int] = {}
        self.pause = 0.0

    def __getattr__(self, name: str) -> Any:
        def function(*arguments: Any) -> int:
            self.calls.append((name, *(getattr(value, "value", value) for value in arguments)))
            time.sleep(self.pause)
            if name == "cublasSetPointerMode_v2":
                self.mode = arguments[1]
            if name == "cublasGemmEx" and name not in self.fails:
                # an address on the device would be read on the host, and the other way round
                assert [isinstance(x, ctypes.c_void_p) for x in arguments[6:14:7]] == [self.mode == 1] * 2
                gemm(*arguments[1:])
            return self.fails.get(name, 0)

        return function


def gemm(*arguments: Any) -> None:
    """C <- alpha op(A) op(B), by arrays over the memory that is pointed at."""
    op_a, op_b, m, n, k, alpha, a, a_type, lda, b, b_type, ldb, beta, c, c_type, ldc, _, algorithm = arguments
    scalar = ctypes.POINTER(CTYPES[c_type])
    # on the host they are given by reference, on the device by address
    alpha, beta = (ctypes.cast(x, scalar)[0] for x in (alpha, beta))

    def matrix(pointer: Any, kind: int, lines: int, rows: int, columns: int) -> np.ndarray:
        # column-major with `lines` numbers from one column to the next
        assert lines >= rows
        size = (columns - 1) * lines + rows
        flat = np.ctypeslib.as_array(ctypes.cast(pointer, ctypes.POINTER(CTYPES[kind])), (size,))
        if kind == 14:
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return np.lib.stride_tricks.as_strided(flat, (rows, columns), (flat.itemsize, lines * flat.itemsize))

    A = matrix(a, a_type, lda, *((k, m) if op_a else (m, k)))
    B = matrix(b, b_type, ldb, *((n, k) if op_b else (k, n)))
    C = matrix(c, c_type, ldc, m, n)
    before = beta * C if beta else 0.0  # what is kept by 0 may be anything, NaN included
    C[...] = before + alpha * (A.T if op_a else A) @ (B.T if op_b else B)
    assert algorithm == -1


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
    """Products by a library, and the module that takes CuPy's place."""
    cupy: Any = SimpleNamespace(
        ones=lambda shape, dtype: on_device(np.ones(shape, dtype)),
        empty=lambda shape, dtype: on_device(np.full(shape, np.nan, dtype)),
        ascontiguousarray=lambda x: on_device(np.ascontiguousarray(x)),
        ElementwiseKernel=elementwise_kernel,
        cuda=SimpleNamespace(
            # every thread has a stream of its own
            alloc=lambda size: SimpleNamespace(ptr=4096 + threading.get_ident()),
            get_current_stream=lambda: SimpleNamespace(ptr=threading.get_ident()),
        ),
    )
    return CuBLAS(library, cupy, precision), cupy


def layouts(x: np.ndarray) -> list[DeviceArray]:
    """As it lies, transposed, and as a part of something wider."""
    wide = np.zeros((x.shape[0], 2 * x.shape[1]), x.dtype)
    wide[:, ::2] = x
    return [on_device(x), on_device(np.asfortranarray(x)), on_device(wide[:, ::2])]


@pytest.mark.parametrize(
    ("precision", "dtype", "factors", "sums"),
    [
        ("float32", "float32", 0, 68),
        ("tf32", "float32", 0, 77),
        ("bf16", "float32", 14, 68),
        ("bf16", "float64", 1, 70),
    ],
)
@pytest.mark.parametrize(
    ("m", "k", "n"), [(2, 3, 4), (5, 1, 3), (1, 4, 1), (3, 2, 1), (1, 1, 6), (128, 10, 128)]
)
def test_products_of_every_layout(
    m: int, k: int, n: int, precision: str, dtype: str, factors: int, sums: int, rng: np.random.Generator
) -> None:
    library = Library()
    cublas, _ = stand_in(library, precision)
    A, B = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
    right = rounded(A, "bf16") @ rounded(B, "bf16") if factors == 14 else A @ B
    for left, other in product(layouts(A), layouts(B)):
        C = cublas.matmul(left, other)
        assert (C.dtype, C.flags.c_contiguous) == (dtype, True)
        np.testing.assert_allclose(np.asarray(C), right, atol=1e-5 if dtype == "float32" else 1e-13)
        called = library.calls[-1]
        assert (called[9], called[12], called[16]) == (factors, factors, int(dtype == "float64"))
        assert called[18] == sums


@pytest.mark.parametrize("kept", [None, 0.75, "array"])
@pytest.mark.parametrize(
    ("precision", "dtype"), [("float32", "float32"), ("tf32", "float32"), ("bf16", "float64")]
)
@pytest.mark.parametrize(("m", "k", "n"), [(2, 3, 4), (5, 1, 3), (1, 4, 1), (1, 1, 6), (128, 10, 16)])
def test_products_are_subtracted_in_place_from_weights_of_every_layout(
    m: int, k: int, n: int, precision: str, dtype: str, kept: Any, rng: np.random.Generator
) -> None:
    """What is kept may be an array, which stays on the device, as does the -1 beside it."""
    library = Library()
    cublas, _ = stand_in(library, precision)
    W, A, B = (rng.standard_normal(shape).astype(dtype) for shape in ((k, n), (m, k), (m, n)))
    right = (1.0 if kept is None else 0.75) * W - A.T @ B
    share = on_device(np.full(1, 0.75, dtype)) if kept == "array" else kept
    for weights in layouts(W):
        for left, other in product(layouts(A), layouts(B)):
            given = on_device(np.copy(weights)) if weights.flags.c_contiguous else weights.copy("K")
            found = cublas.subtract_product(given, left, other, share)
            assert found is given
            np.testing.assert_allclose(np.asarray(found), right, atol=2e-5 if dtype == "float32" else 1e-13)
            assert library.mode == (kept == "array")
    cublas.matmul(on_device(A), on_device(W))  # which reads its scalars on the host again
    assert library.mode == 0


def test_rounding_is_to_the_nearest_and_keeps_what_is_not_finite() -> None:
    cublas, _ = stand_in(Library(), "bf16")
    hard = [0.0, -0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-9, 1.4e-45, np.inf, -np.inf]
    bits = np.array([*hard, 3.4e38, -3.4e38], np.float32).view(np.uint32)
    nan = np.array([0x7F800001, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    found, nans = (
        (np.asarray(cublas._to_bfloat16(x)).astype(np.uint32) << 16).view(np.float32) for x in (bits, nan)
    )
    assert found.tolist() == [0.0, 0.0, 1.0, 1 + 2**-6, 1 + 2**-7, -1.0, 0.0, *[np.inf, -np.inf] * 2]
    assert np.signbit(found[1])
    assert np.isnan(nans).all()


def test_products_of_two_threads_are_each_on_their_stream_in_memory_of_that_stream() -> None:
    """Two streams, or two recordings, never multiply in the same workspace."""
    library = Library()
    cublas, _ = stand_in(library)
    one = on_device(np.ones((2, 2)))
    library.pause = 0.001  # as in ctypes, where another thread may go on
    with ThreadPoolExecutor(4) as threads:
        for found in [threads.submit(cublas.matmul, one, one) for _ in range(20)]:
            found.result()
    calls = [call for call in library.calls[1:] if call[0] != "cublasSetPointerMode_v2"]
    for set_stream, set_workspace, multiplied in zip(calls[::3], calls[1::3], calls[2::3], strict=True):
        assert (set_stream[0], set_stream[2]) == ("cublasSetStream_v2", set_workspace[2] - 4096)
        assert (set_workspace[0], set_workspace[3]) == ("cublasSetWorkspace_v2", WORKSPACE)
        assert multiplied[0] == "cublasGemmEx"
    assert len({call[2] for call in calls[::3]}) > 1


@pytest.mark.parametrize(
    "name", ["cublasSetStream_v2", "cublasSetWorkspace_v2", "cublasSetPointerMode_v2", "cublasGemmEx"]
)
def test_a_failure_is_named(name: str) -> None:
    library = Library()
    cublas, _ = stand_in(library)
    library.fails[name] = 13
    one = on_device(np.ones((2, 2)))
    with pytest.raises(CuBLASError, match=f"{name} returned status 13"):
        cublas.matmul(one, one)


def test_a_handle_is_made_once_for_a_device_and_a_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """To destroy one would wait for the GPU, and so spoil what another thread is recording."""
    library, module = Library(), type("CuPy", (), {"ElementwiseKernel": lambda *_: None, "ones": np.ones})
    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", lambda name: SimpleNamespace(abs_path=name))
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    found = [load(module, *wanted) for wanted in ((0, "tf32"), (0, "tf32"), (1, "tf32"), (0, "bf16"))]
    assert found[0] is found[1]
    del found
    load.cache_clear()
    assert [call[0] for call in library.calls] == ["cublasCreate_v2"] * 3


def test_a_machine_without_cublas_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> Any:
        raise pathfinder.DynamicLibNotFoundError(f"Failure finding\n {name}")

    monkeypatch.setattr(pathfinder, "load_nvidia_dynamic_lib", nowhere)
    with pytest.raises(CuBLASError, match=r"^cuBLAS cannot be loaded: Failure finding cublas$"):
        load(None, 0, "float32")
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)  # as before CuPy 14
    with pytest.raises(CuBLASError, match=r"^cuBLAS cannot be loaded: .*cuda\.pathfinder"):
        load(None, 0, "float32")
