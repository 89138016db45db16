"""CuPy, on NVIDIA GPUs. It computes on the caller's current stream and out of the caller's memory pool."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from xpnet.backends.base import Array, Backend, State
from xpnet.errors import XpnetError


class CuPyBackend(Backend):
    """CuPy, on an NVIDIA GPU."""

    name = "cupy"
    library = "cupy"
    namespace = "array_api_compat.cupy"
    kinds = ("cuda",)
    install = "pip install 'xpnet[cuda12]' (or 'xpnet[cuda13]', by the driver that nvidia-smi shows)"

    def __init__(self, kind: str, index: int = 0) -> None:
        super().__init__(kind, index)
        try:
            with self.running("float32"):
                one = self.module.ones((1, 1), dtype="float32")
                self.module.asnumpy(one @ one + one)
        except (ImportError, OSError, RuntimeError, self.module.cuda.compiler.CompileException) as error:
            # CuPy imports without CUDA's own libraries, and misses them when it first computes
            said = " ".join(str(error).split())
            raise XpnetError(f"cupy cannot compute on {self.device}: {said} ({self.install})") from error

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

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy to the host."""
        host: np.ndarray = self.module.asnumpy(array)
        return host

    def synchronize(self, state: State) -> None:
        """Wait for the current stream."""
        with self.module.cuda.Device(self.index):
            self.module.cuda.get_current_stream().synchronize()
