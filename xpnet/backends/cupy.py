"""CuPy, on NVIDIA GPUs. It computes on the caller's current stream and out of the caller's memory pool."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

import numpy as np

from xpnet.backends.base import Array, Patched, State, said
from xpnet.backends.cublas import CuBLAS, CuBLASError, load
from xpnet.backends.graph import Call, RecordingBackend
from xpnet.errors import XpnetError


class CuPyBackend(RecordingBackend):
    """CuPy, on an NVIDIA GPU.

    With execution "eager" and precision "float32" everything is CuPy's own. Its matrix products can neither
    be recorded nor rounded, so otherwise cuBLAS computes them by a handle of our own.
    """

    name = "cupy"
    library = "cupy"
    kinds = ("cuda",)
    install = "pip install 'cupy-cuda12x[ctk]' (or 'cupy-cuda13x[ctk]': nvidia-smi shows the version)"

    def __init__(self, kind: str, index: int = 0, **options: Any) -> None:
        super().__init__(kind, index, **options)
        try:
            with self.running("float32"):
                one = self.module.ones((1, 1), dtype="float32")
                self.module.asnumpy(one @ one + one)
        except (ImportError, OSError, RuntimeError, self.module.cuda.compiler.CompileException) as error:
            # CuPy imports without CUDA's own libraries, and misses them when it first computes
            raise XpnetError(
                f"cupy cannot compute on {self.device}: {said(error)} ({self.install})"
            ) from error
        if (self.execution.actual, self.precision) == ("eager", "float32"):
            return
        try:  # or run eager without products of our own, where that was left open
            with self.running("float32"):
                cublas = load(self.module, self.index, self.precision)
                _check(cublas, self.module)
        except (CuBLASError, OSError) as error:
            if self.execution.asked == "captured" or self.precision != "float32":
                raise XpnetError(f"cupy on {self.device}: {error} ({self.install})") from error
            self.fall_back(str(error))
        else:
            self.xp = Patched(self.xp, cublas.matmul, cublas.subtract_product)

    @classmethod
    def devices(cls) -> list[str]:
        """Ask `is_available` first: without a driver every other call of the runtime raises."""
        cupy = cls.imported()
        count = cupy.cuda.runtime.getDeviceCount() if cupy.is_available() else 0
        return [f"cuda:{i}" for i in range(count)]

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """Tell a machine without a driver from one without that GPU."""
        if cls.devices():
            return super().missing_device(kind)
        return "no NVIDIA driver or no GPU: see nvidia-smi, or use the cpu"

    def namespace(self) -> Any:
        """array-api-compat's."""
        return import_module("array_api_compat.cupy")

    def precisions(self) -> tuple[str, ...]:
        """GPUs have instructions for the reduced ones from compute capability 8.0 on."""
        able = int(self.module.cuda.Device(self.index).compute_capability) >= 80
        return ("float32", "tf32", "bf16") if able else ("float32",)

    def executions(self) -> tuple[str, ...]:
        """A GPU waits for the host all through an eager step, so a recording comes first."""
        return ("captured", "eager")

    @classmethod
    def device_of(cls, array: Array) -> str:
        """From the array."""
        return f"cuda:{array.device.id}"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Allocate and compute on this device."""
        with self.module.cuda.Device(self.index):
            yield

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy to the device. CuPy's own `asarray` would keep page-locked memory of up to twice the size."""
        with self.running(x.dtype.name):
            return self.refill(self.module.empty(x.shape, x.dtype), x)

    def refill(self, array: Array, x: np.ndarray) -> Array:
        """Copy to the device, into the same memory: a recorded step knows its data by that.

        Wait for it, because the copy only joins the stream, and the caller may write to `x` next.
        """
        with self.running(x.dtype.name):
            array.set(x)
            self.module.cuda.get_current_stream().synchronize()
        return array

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy to the host."""
        return np.asarray(self.module.asnumpy(array))

    def adding(self) -> Callable[[Array], Array]:
        """NCCL, on the current stream: so it is recorded with the step.

        Raises
        ------
        XpnetError
            NCCL is missing, or refuses these GPUs: of two processes that share one, for example.
        """
        group, cuda = self.group, self.module.cuda
        nccl = import_module(f"{self.library}.cuda.nccl")
        if not nccl.available:
            raise XpnetError(
                "cupy adds up over processes by NCCL, which is missing: pip install nvidia-nccl-cu12"
            )
        number = {"float32": nccl.NCCL_FLOAT32, "float64": nccl.NCCL_FLOAT64}
        try:
            with self.running("float32"):
                communicator = nccl.NcclCommunicator(group.size, group.first(nccl.get_unique_id), group.rank)
        except (nccl.NcclError, RuntimeError) as error:
            raise XpnetError(f"NCCL on {self.device}: {said(error)}") from error

        def total(x: Array) -> Array:
            at, stream = x.data.ptr, cuda.get_current_stream().ptr
            communicator.allReduce(at, at, x.size, number[x.dtype.name], nccl.NCCL_SUM, stream)
            return x

        return total

    def synchronize(self, state: State) -> None:
        """Wait for the current stream."""
        with self.running("float32"):
            self.module.cuda.get_current_stream().synchronize()

    def record(self, body: Call) -> Call:
        """A CUDA graph, recorded on a stream of its own, in a memory pool of its own.

        What an operation allocates while it is recorded goes back to that pool, where the graph finds it
        again, so the pool lives as long as the graph. The run before fills it.
        """
        cuda = self.module.cuda
        pool, stream, current = cuda.MemoryPool(), cuda.Stream(non_blocking=True), cuda.get_current_stream()
        graphs: list[Any] = []

        def launch() -> None:
            graphs[0].launch()

        weakref.finalize(launch, _free, graphs, pool, cuda.Device(self.index)).atexit = False
        stream.wait_event(current.record())
        try:
            with stream, cuda.using_allocator(pool.malloc):
                body()
                stream.synchronize()
                stream.begin_capture()
                try:
                    body()
                finally:
                    with suppress(RuntimeError):  # it says less than what went wrong before
                        graphs.append(stream.end_capture())
        finally:
            current.wait_event(stream.record())  # before anything else is given the memory of the buffers
        if not graphs:
            raise RuntimeError("another thread has spoilt the recording")
        return launch


def _free(graphs: list[Any], pool: Any, device: Any) -> None:
    """Give the memory of a recording back. CuPy (14) does not by itself when the pool is dropped."""
    graphs.clear()
    with device:
        pool.free_all_blocks()


def _check(cublas: CuBLAS, cupy: Any) -> None:
    """Compare our products with CuPy's own, for every layout that a step multiplies.

    Raises
    ------
    CuBLASError
        They differ by more than the precision explains.
    """
    X, W = (cupy.asarray(np.random.default_rng(0).random(shape, np.float32)) for shape in ((6, 5), (5, 4)))
    for A, B in ((X, W), (X.T, X), (X @ W, W.T), (X[:1, :], W)):
        if not np.allclose(cupy.asnumpy(cublas.matmul(A, B)), cupy.asnumpy(A @ B), rtol=0.02):
            raise CuBLASError("the products of cuBLAS are not those of CuPy")
    W = cupy.ones((5, 5), dtype="float32")
    for kept in (None, 0.5, W[0, :1] / 4):
        found = cublas.subtract_product(W + 0, X, X, kept)
        right = W - X.T @ X if kept is None else kept * W - X.T @ X
        if not np.allclose(cupy.asnumpy(found), cupy.asnumpy(right), rtol=0.02):
            raise CuBLASError("the products that cuBLAS subtracts are not those of CuPy")
