"""CuPy, on NVIDIA GPUs. It computes on the caller's current stream and out of the caller's memory pool."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress

import numpy as np

from xpnet.backends.base import Array, Namespace, State
from xpnet.backends.cublas import CuBLAS, CuBLASError
from xpnet.backends.graph import Launch, RecordingBackend
from xpnet.errors import XpnetError


class CuPyBackend(RecordingBackend):
    """CuPy, on an NVIDIA GPU.

    With execution "eager" and precision "float32" everything is CuPy's own. Its matrix products can neither
    be recorded nor rounded, so otherwise those are asked of cuBLAS by a handle of our own.
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
        if (self.execution.actual, self.precision) != ("eager", "float32"):
            self._take_products_over()

    def _take_products_over(self) -> None:
        """Hand ``nn`` a `matmul` of our own, or do without what needs it where that may be."""
        try:
            with self.running("float32"):
                cublas = CuBLAS.load(self.module, self.precision)
                _check(cublas, self.module)
        except (CuBLASError, OSError) as error:
            if self.execution.asked == "captured" or self.precision != "float32":
                raise XpnetError(f"cupy on {self.device}: {error} ({self.install})") from error
            self.fall_back(str(error))
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
        """The reduced ones from the first GPUs on that have instructions for them."""
        able = int(self.module.cuda.Device(self.index).compute_capability) >= 80
        return ("float32", "tf32", "bf16") if able else ("float32",)

    def executions(self) -> tuple[str, ...]:
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
        """Copy to the device, into the same memory: a recorded step knows its data by that.

        Wait for it: the copy only joins the stream, and the caller may write to `x` next.
        """
        with self.module.cuda.Device(self.index):
            array.set(np.asarray(x, order="C"))
            self.module.cuda.get_current_stream().synchronize()
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
        graphs = []
        # rejoined in any case, before anything else is given the memory of the buffers
        with (
            _ending(lambda: current.wait_event(stream.record())),
            stream,
            cuda.using_allocator(pool.malloc),
        ):
            body()
            stream.synchronize()
            stream.begin_capture()
            with _ending(lambda: graphs.append(stream.end_capture())):
                body()
        launch_graph = graphs[0].launch

        def launch(memory: object = pool) -> None:
            launch_graph()

        return launch


@contextmanager
def _ending(end: Callable[[], None]) -> Iterator[None]:
    """Call `end` in any case. After an error it may fail as well, which must not hide the first."""
    done = False
    try:
        yield
        done = True
    finally:
        with nullcontext() if done else suppress(RuntimeError):
            end()


def _check(cublas: CuBLAS, cupy: Array) -> None:
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
