"""CuPy, on NVIDIA GPUs. It computes on the caller's current stream and out of the caller's memory pool."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from xpnet.backends.base import Array, Namespace, State
from xpnet.backends.cublas import CuBLAS, CuBLASError
from xpnet.backends.graph import Launch, RecordingBackend
from xpnet.errors import XpnetError


class CuPyBackend(RecordingBackend):
    """CuPy, on an NVIDIA GPU.

    With steps "eager" and precision "float32" everything is CuPy's own. Its matrix products can neither be
    recorded nor rounded, so otherwise those are asked of cuBLAS by a handle of our own.
    """

    name = "cupy"
    library = "cupy"
    namespace = "array_api_compat.cupy"
    kinds = ("cuda",)
    install = "pip install 'xpnet[cuda12]' (or 'xpnet[cuda13]', by the driver that nvidia-smi shows)"

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        try:
            with self.running("float32"):
                one = self.module.ones((1, 1), dtype="float32")
                self.module.asnumpy(one @ one + one)
        except (ImportError, OSError, RuntimeError, self.module.cuda.compiler.CompileException) as error:
            # CuPy imports without CUDA's own libraries, and misses them when it first computes
            said = " ".join(str(error).split())
            raise XpnetError(f"cupy cannot compute on {self.device}: {said} ({self.install})") from error
        if (self.steps, self.precision) != ("eager", "float32"):
            self._take_products_over()

    def _take_products_over(self) -> None:
        """Hand ``nn`` a `matmul` of our own, or do without what needs it where that may be."""
        try:
            with self.running("float32"):
                cublas = CuBLAS.load(self.module, self.precision)
                _check(cublas, self.module)
        except (CuBLASError, OSError) as error:
            if self.steps_asked == "captured" or self.precision != "float32":
                raise XpnetError(f"cupy on {self.device}: {error} ({self.install})") from error
            self.steps, self.steps_note = "eager", str(error)
        else:
            self.xp = Namespace(self.xp, matmul=cublas.matmul)

    @classmethod
    def devices(cls) -> list[str]:
        """Ask `is_available` first: without a driver every other call of the runtime raises."""
        cupy = cls.imported()
        if not cupy.is_available():
            return []
        return [f"cuda:{i}" for i in range(cupy.cuda.runtime.getDeviceCount())]

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """Tell a machine without a driver from one without that GPU."""
        if cls.devices():
            return super().missing_device(kind)
        return "no NVIDIA driver or no GPU: see nvidia-smi, or use the cpu"

    def precisions(self) -> tuple[str, ...]:
        """All of them; older GPUs compute the reduced ones without being faster."""
        return ("float32", "tf32", "bf16")

    def modes(self) -> tuple[str, ...]:
        """A GPU waits for the host all through an eager step, so a recording comes first."""
        return ("captured", "eager")

    def device_of(self, array: Array) -> str:
        """From the array."""
        return f"cuda:{array.device.id}"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Allocate and compute on this device."""
        with self.module.cuda.Device(self.index):
            yield

    def asarray(self, x: np.ndarray) -> Array:
        """Copy to the device."""
        with self.module.cuda.Device(self.index):
            return self.module.asarray(np.asarray(x, order="C"))

    def refill(self, array: Array, x: np.ndarray) -> Array:
        """Copy to the device, into the same memory: a recorded step knows its data by that."""
        with self.module.cuda.Device(self.index):
            array.set(np.asarray(x, order="C"))
        return array

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy to the host."""
        host: np.ndarray = self.module.asnumpy(array)
        return host

    def synchronize(self, state: State) -> None:
        """Wait for the current stream."""
        with self.module.cuda.Device(self.index):
            self.module.cuda.get_current_stream().synchronize()

    def record(self, body: Callable[[], None]) -> Launch:
        """A CUDA graph, recorded on a stream of its own, in a memory pool that nothing else is given.

        What an operation allocates while it is recorded goes back to that pool, where the graph finds it
        again, so the pool lives as long as the graph. The run before fills it.
        """
        cuda = self.module.cuda
        pool, stream, current = cuda.MemoryPool(), cuda.Stream(non_blocking=True), cuda.get_current_stream()
        stream.wait_event(current.record())
        with stream, cuda.using_allocator(pool.malloc):
            body()
            stream.synchronize()
            stream.begin_capture()
            try:
                body()
            finally:
                graph = stream.end_capture()
        current.wait_event(stream.record())

        def launch(memory: object = pool) -> None:
            graph.launch()

        return launch


def _check(cublas: CuBLAS, cupy: Array) -> None:
    """Compare our products with CuPy's own, for every layout that a step multiplies.

    Raises
    ------
    CuBLASError
        They differ by more than the precision explains.
    """
    X, W = (cupy.asarray(np.random.default_rng(0).random(shape, np.float32)) for shape in ((6, 5), (5, 4)))
    for A, B in ((X, W), (X.T, X), (X @ W, W.T)):
        if not np.allclose(cupy.asnumpy(cublas.matmul(A, B)), cupy.asnumpy(A @ B), rtol=0.02):
            raise CuBLASError("the products of cuBLAS are not those of CuPy")
