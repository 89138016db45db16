"""PyTorch, on CPUs, NVIDIA and Apple GPUs, without its autograd."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from xpnet.backends.base import Array, Backend, State


class TorchBackend(Backend):
    """PyTorch, on a CPU or a GPU."""

    name = "torch"
    library = "torch"
    namespace = "array_api_compat.torch"
    kinds = ("cpu", "cuda")
    install = "pip install 'xpnet[torch]'"

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPUs that this build of PyTorch can use."""
        torch = cls.imported()
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return ["cpu", *(f"cuda:{i}" for i in range(gpus))]

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """Tell a build without CUDA from a machine without that GPU."""
        if not cls.imported().backends.cuda.is_built():
            return "this PyTorch is a CPU build: install one with CUDA, or use the cpu"
        return super().missing_device(kind)

    def device_of(self, array: Array) -> str:
        """From the tensor."""
        device = array.device
        return str(device.type) if device.type == "cpu" else f"{device.type}:{device.index}"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """No autograd graph; float32 matrix products in full precision, whatever the caller has chosen."""
        torch = self.module
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with torch.no_grad():
                yield
        finally:
            torch.set_float32_matmul_precision(before)

    def asarray(self, x: np.ndarray) -> Array:
        """Copy to the device."""
        return self.module.tensor(np.ascontiguousarray(x), device=self.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy to the host."""
        host: np.ndarray = array.detach().cpu().numpy()
        return host

    def synchronize(self, state: State) -> None:
        """Wait for the GPU."""
        if self.device != "cpu":
            self.module.cuda.synchronize(self.device)

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Set the size of PyTorch's pool."""
        cls.imported().set_num_threads(threads)

    @classmethod
    def threads(cls) -> int | None:
        """The size of that pool."""
        return int(cls.imported().get_num_threads())
