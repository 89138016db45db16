"""PyTorch, on CPUs and on NVIDIA, Intel and Apple GPUs, without its autograd."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xpnet.backends.base import Array, Backend, Namespace, State


class TorchBackend(Backend):
    """PyTorch, on a CPU or a GPU."""

    name = "torch"
    library = "torch"
    namespace = "array_api_compat.torch"
    kinds = ("cpu", "cuda", "xpu", "mps")
    install = "pip install 'xpnet[torch]'"

    def __init__(self, kind: str, index: int = 0) -> None:
        super().__init__(kind, index)
        self.xp = _namespace(self.module, self.xp)

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPUs that this build of PyTorch can use."""
        torch = cls.imported()
        found = ["cpu"]
        for kind in cls.kinds[1:]:
            driver = torch.backends.mps if kind == "mps" else getattr(torch, kind)
            if driver.is_available():
                found += [f"{kind}:{i}" for i in range(getattr(torch, kind).device_count())]
        return found

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """Tell a build without CUDA from a machine without that GPU."""
        if kind == "cuda" and not cls.imported().backends.cuda.is_built():
            return "this PyTorch is a CPU build: install one with CUDA, or use the cpu"
        needs = {"xpu": "an Intel GPU and PyTorch's build for it", "mps": "a Mac with Apple silicon"}
        return f"needs {needs[kind]}" if kind in needs else super().missing_device(kind)

    def supports(self, dtype: str) -> bool:
        """Apple's GPUs have no float64."""
        return dtype == "float32" or not self.device.startswith("mps")

    def device_of(self, array: Array) -> str:
        """From the tensor."""
        device = array.device
        return str(device.type) if device.type == "cpu" else f"{device.type}:{device.index}"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """No autograd graph; float32 matrix products in full precision, whatever the caller has chosen.

        PyTorch keeps the precision for the whole process, so another thread sees ours meanwhile.
        """
        torch = self.module
        products = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
        before = [product.fp32_precision for product in products]
        try:
            older = torch.get_float32_matmul_precision()
        except RuntimeError:  # the caller has used the newer settings, beside which the older may not be read
            older = "highest"
        try:
            if older != "highest":
                torch.set_float32_matmul_precision("highest")
            for product in products:
                if product.fp32_precision not in ("ieee", "none"):
                    product.fp32_precision = "ieee"
            with torch.no_grad():
                yield
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error
        finally:
            if older != "highest":
                torch.set_float32_matmul_precision(older)
            for product, precision in zip(products, before, strict=True):
                if product.fp32_precision != precision:
                    product.fp32_precision = precision

    def asarray(self, x: np.ndarray) -> Array:
        """Copy to the device."""
        return self.module.tensor(np.asarray(x, order="C"), device=self.device)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy to the host; on the CPU, the same memory."""
        host: np.ndarray = array.detach().cpu().numpy()
        return host

    def synchronize(self, state: State) -> None:
        """Wait for the GPU."""
        kind = self.device.partition(":")[0]
        if kind == "mps":
            self.module.mps.synchronize()
        elif kind != "cpu":
            getattr(self.module, kind).synchronize(self.device)

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Set the size of PyTorch's pool."""
        cls.imported().set_num_threads(threads)

    @classmethod
    def threads(cls) -> int | None:
        """The size of that pool."""
        return int(cls.imported().get_num_threads())


def _namespace(torch: Any, compat: Any) -> Namespace:
    """array-api-compat's, but for a number beside a tensor: it would be copied to the GPU in every step."""

    def maximum(x: Array, y: Any, /) -> Array:
        return compat.maximum(x, y) if isinstance(y, torch.Tensor) else torch.clamp(x, min=y)

    def minimum(x: Array, y: Any, /) -> Array:
        return compat.minimum(x, y) if isinstance(y, torch.Tensor) else torch.clamp(x, max=y)

    return Namespace(compat, maximum=maximum, minimum=minimum)
