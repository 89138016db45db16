"""PyTorch, on CPUs and on NVIDIA, Intel and Apple GPUs, without its autograd."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np

from xpnet.backends.base import Array, Namespace, State, Step
from xpnet.backends.graph import Launch, RecordingBackend


class TorchBackend(RecordingBackend):
    """PyTorch, on a CPU or a GPU."""

    name = "torch"
    library = "torch"
    namespace = "array_api_compat.torch"
    kinds = ("cpu", "cuda", "xpu", "mps")
    install = "pip install 'xpnet[torch]'"

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        self.xp = _namespace(self.module, self.xp)
        if self.precision == "bf16":
            self.xp.matmul = _rounded(self.module)

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

    def precisions(self) -> tuple[str, ...]:
        """A CPU rounds to bf16 and may compute faster for it; NVIDIA's GPUs have instructions for the reduced
        ones from compute capability 8.0 on.
        """
        kind = self.device.partition(":")[0]
        if kind == "cuda" and self.module.cuda.get_device_capability(self.index) >= (8, 0):
            return ("float32", "tf32", "bf16")
        return ("float32", "bf16") if kind == "cpu" else ("float32",)

    def executions(self) -> tuple[str, ...]:
        """An NVIDIA GPU is waiting for the host all through a step, so a recording comes first."""
        return ("captured", "eager") if self.device.startswith("cuda") else ("eager",)

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """No autograd graph; float32 matrix products in the backend's own precision, whatever the caller
        has chosen.

        PyTorch keeps the precision for the whole process, so another thread sees ours meanwhile.
        """
        torch = self.module
        products = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
        # of factors that are bf16 already: see `_rounded`
        ours = {"tf32": ("tf32", "ieee"), "bf16": ("ieee", "bf16")}.get(self.precision, ("ieee", "ieee"))
        before = [product.fp32_precision for product in products]
        try:
            older = torch.get_float32_matmul_precision()
        except RuntimeError:  # the caller has used the newer settings, beside which the older may not be read
            older = "highest"
        try:
            if older != "highest":
                torch.set_float32_matmul_precision("highest")
            for product, precision in zip(products, ours, strict=True):
                product.fp32_precision = precision
            with torch.no_grad():
                yield
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error
        finally:
            if older != "highest":
                torch.set_float32_matmul_precision(older)
            for product, precision in zip(products, before, strict=True):
                product.fp32_precision = precision

    def asarray(self, x: np.ndarray) -> Array:
        """Copy to the device."""
        return self.module.tensor(np.asarray(x, order="C"), device=self.device)

    def refill(self, array: Array, x: np.ndarray) -> Array:
        """Copy to the device, into the same memory: a recorded step knows its data by that.

        PyTorch waits for the copy, as long as it is not told `non_blocking`: `x` may be written to next.
        """
        return array.copy_(self.module.from_numpy(x))

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

    @cached_property
    def _side(self) -> Any:
        """The stream that records.

        One for all recordings: PyTorch has 32, and hands out the first again after the last. What they
        share by it, the workspace of cuBLAS, is used by one of them at a time, because they are launched
        in order.
        """
        return self.module.cuda.Stream(self.device)

    def record(self, body: Callable[[], None]) -> Launch:
        """A CUDA graph, recorded on a stream of its own, in memory that nothing else is given."""
        torch, side = self.module, self._side
        with torch.cuda.device(self.index):
            graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):  # left in any case: a recording that fails stays on it
                    body()
                    with torch.cuda.graph(graph, stream=side):
                        body()
            finally:
                current.wait_stream(side)  # before anything else is given the memory of the buffers
        launch: Launch = graph.replay
        return launch

    def eager(self, step: Step, state: State, batches: Array, data: State) -> State:
        """The plain loop in inference mode, which asks less of the host for every operation.

        What is made there can never be part of an autograd graph, so an array that the step has made, and
        not updated in place, is copied for the caller.
        """
        torch = self.module
        with torch.inference_mode():
            for rows in torch.unbind(batches):
                state = step(state, rows, data)
        return {name: array.clone() if array.is_inference() else array for name, array in state.items()}


def _namespace(torch: Any, compat: Any) -> Namespace:
    """array-api-compat's, with what a step asks for most often straight from PyTorch.

    A wrapper takes longer than a small operation itself. `take` counts no rows from the end, which the
    standard leaves open and array-api-compat provides for in every step; `matmul` wants factors of one
    dtype; a number beside an array stays a number, where it would be copied to the GPU.
    """
    casts = {torch.float32: torch.Tensor.float, torch.float64: torch.Tensor.double}

    def astype(x: Array, dtype: Any, /, *, copy: bool = True) -> Array:
        if x.dtype == dtype:
            return x.clone() if copy else x
        if x.dtype == torch.bool:
            x = x.view(torch.uint8)  # the same bytes, which are cast by vector code
        return casts[dtype](x) if dtype in casts else x.to(dtype)  # `to` is the slower of the two

    def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
        return compat.take(x, indices) if axis is None else torch.index_select(x, axis, indices)

    def maximum(x: Array, y: Any, /) -> Array:
        return compat.maximum(x, y) if isinstance(y, torch.Tensor) else torch.clamp_min(x, y)

    def minimum(x: Array, y: Any, /) -> Array:
        return compat.minimum(x, y) if isinstance(y, torch.Tensor) else torch.clamp_max(x, y)

    def max(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
        return compat.max(x, keepdims=keepdims) if axis is None else torch.amax(x, axis, keepdims)

    def sum(x: Array, /, *, axis: int | None = None, dtype: Any = None, keepdims: bool = False) -> Array:
        if dtype is not None or (axis is None and keepdims):
            return compat.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)
        return torch.sum(x) if axis is None else torch.sum(x, axis, keepdims)

    def expand_dims(x: Array, /, *, axis: int) -> Array:
        return torch.unsqueeze(x, axis)

    def matrix_transpose(x: Array, /) -> Array:
        return x.mT

    return Namespace(
        compat,
        astype=astype,
        expand_dims=expand_dims,
        matmul=torch.matmul,
        matrix_transpose=matrix_transpose,
        max=max,
        maximum=maximum,
        minimum=minimum,
        sum=sum,
        take=take,
    )


def _rounded(torch: Any) -> Callable[[Array, Array], Array]:
    """`matmul` of float32 matrices (m, k) and (k, n) rounded to bfloat16, to float32 sums of their products.

    A GPU multiplies them as they are. On a CPU they are widened again, which changes no number: with its
    precision at "bf16" oneDNN may multiply them as bfloat16, and does so where the processor has the
    instructions. Where it has none, the rounding is only a loss of time.
    """

    def matmul(a: Array, b: Array, /) -> Array:
        if a.dtype != torch.float32:
            return torch.matmul(a, b)
        a, b = a.bfloat16(), b.bfloat16()
        return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else torch.mm(a.float(), b.float())

    return matmul
