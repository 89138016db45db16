"""PyTorch, on CPUs and on NVIDIA, Intel and Apple GPUs, without its autograd."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from xpnet.backends.base import Array, Patched, State, Step, aligned, said
from xpnet.backends.graph import Call, RecordingBackend
from xpnet.backends.mpi import free_address
from xpnet.errors import XpnetError


class TorchBackend(RecordingBackend):
    """PyTorch, on a CPU or a GPU."""

    name = "torch"
    library = "torch"
    kinds = ("cpu", "cuda", "xpu", "mps")
    install = "pip install torch"
    hints: ClassVar = {"xpu": "needs an Intel GPU and its PyTorch", "mps": "needs a Mac with Apple silicon"}

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPUs that this build of PyTorch can use."""
        torch = cls.imported()
        gpu = torch.accelerator.current_accelerator()
        return ["cpu", *(f"{gpu.type}:{i}" for i in range(torch.accelerator.device_count()))]

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """Tell a build without CUDA from a machine without that GPU."""
        if kind == "cuda" and not cls.imported().backends.cuda.is_built():
            return "this PyTorch is a CPU build: install one with CUDA, or use the cpu"
        return super().missing_device(kind)

    def namespace(self) -> Patched:
        """array-api-compat's, with short cuts."""
        short = _short_cuts(self.module, import_module("array_api_compat.torch"))
        if self.precision == "bf16":
            return Patched(short, matmul=_rounded(self.module))
        return Patched(short, subtract_product)

    def supports(self, dtype: str) -> bool:
        """Apple's GPUs have no float64."""
        return dtype == "float32" or self.kind != "mps"

    @classmethod
    def device_of(cls, array: Array) -> str:
        """From the tensor."""
        torch = cls.imported()
        if not isinstance(array, torch.Tensor):
            raise XpnetError(f"a {type(array).__name__} of torch is not a tensor: give a torch.Tensor")
        if array.layout != torch.strided or array.is_quantized:
            raise XpnetError("the tensor is sparse or quantized: give X.to_dense() or X.dequantize()")
        return str(array.device)

    def precisions(self) -> tuple[str, ...]:
        """A CPU rounds to bf16, and may compute faster for it. NVIDIA's GPUs have instructions for both from
        compute capability 8.0 on.
        """
        if self.kind == "cuda" and self.module.cuda.get_device_capability(self.index) >= (8, 0):
            return ("float32", "tf32", "bf16")
        return ("float32", "bf16") if self.kind == "cpu" else ("float32",)

    def executions(self) -> tuple[str, ...]:
        """An NVIDIA GPU waits for the host all through an eager step, so a recording comes first."""
        return ("captured", "eager") if self.kind == "cuda" else ("eager",)

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Make no autograd graph, cast nothing by `torch.autocast`, and multiply float32 matrices in the
        backend's own precision, whatever the caller has chosen.

        PyTorch keeps the precision for the whole process, so another thread sees ours meanwhile.
        """
        torch, kind = self.module, self.kind
        # of factors that are bf16 already: see `_rounded`
        ours = {"tf32": ("tf32", "ieee"), "bf16": ("ieee", "bf16")}.get(self.precision, ("ieee", "ieee"))
        with ExitStack() as settings:

            def hold(setting: Callable[[Any], object], before: Any, now: Any) -> None:
                if before != now:
                    settings.callback(setting, before)
                    setting(now)

            with suppress(RuntimeError):  # the older setting cannot be read by whoever uses the newer ones
                older = torch.get_float32_matmul_precision()
                hold(torch.set_float32_matmul_precision, older, "highest")
            for place, precision in zip((torch.backends.cuda, torch.backends.mkldnn), ours, strict=True):
                product = place.matmul
                hold(partial(setattr, product, "fp32_precision"), product.fp32_precision, precision)
            hold(partial(torch.set_autocast_enabled, kind), torch.is_autocast_enabled(kind), False)
            hold(torch.set_grad_enabled, torch.is_grad_enabled(), False)
            try:
                yield
            except torch.OutOfMemoryError as error:
                raise MemoryError(str(error)) from error

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy to the device."""
        return self.module.from_numpy(aligned(x)).to(self.device)

    def refill(self, array: Array, x: np.ndarray) -> Array:
        """Copy to the device, into the same memory: a recorded step knows its data by that.

        PyTorch waits for the copy unless it is told `non_blocking`, so `x` may be written to next.
        """
        return array.copy_(self.module.from_numpy(x))

    def adding(self) -> Callable[[Array], Array]:
        """On a CPU by MPI, in the memory that a tensor shares with NumPy; on CUDA by PyTorch's own NCCL.

        Raises
        ------
        XpnetError
            PyTorch has been told of other processes, or NCCL refuses the GPUs.
        """
        group, torch = self.group, self.module
        if self.kind not in ("cpu", "cuda"):
            return super().adding()
        distributed = torch.distributed
        if self.kind == "cuda" and not distributed.is_initialized():
            host, _, port = group.first(free_address).rpartition(":")
            store = distributed.TCPStore(host, int(port), group.size, group.rank == 0)
            known = {"world_size": group.size, "rank": group.rank, "device_id": torch.device(self.device)}
            try:
                distributed.init_process_group("nccl", store=store, **known)
            except RuntimeError as error:
                raise XpnetError(f"NCCL on {self.device}: {said(error)}") from error
        elif self.kind == "cuda" and distributed.get_world_size() != group.size:
            theirs = f"{distributed.get_world_size()} processes of torch.distributed"
            raise XpnetError(f"{theirs} are not the {group.size} of MPI: start as many")

        def total(x: Array) -> Array:
            if self.kind == "cpu":
                group.sum(x.numpy())
            else:
                distributed.all_reduce(x)
            return x

        return total

    @classmethod
    def exported(cls, array: Array) -> Array:
        """Without its autograd graph."""
        return array.detach()

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy to the host; on the CPU, the same memory."""
        return np.asarray(array.detach().cpu())

    def synchronize(self, state: State) -> None:
        """Wait for the current stream; on a GPU that is not NVIDIA's, for the whole device."""
        if self.kind == "cuda":
            self.module.cuda.current_stream(self.device).synchronize()
        elif self.kind != "cpu":
            self.module.accelerator.synchronize(self.device)

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Set the size of PyTorch's pool."""
        cls.imported().set_num_threads(threads)

    @classmethod
    def threads(cls) -> int | None:
        """The size of that pool."""
        return int(cls.imported().get_num_threads())

    def record(self, body: Call) -> Call:
        """A CUDA graph, recorded on a stream of its own, in memory that nothing else is given.

        The workspace of cuBLAS belongs to that memory too. PyTorch keeps one for every stream, and takes a
        new one where it is told to forget them, so it is told before and after the recording.
        """
        torch, side = self.module, self.module.cuda.Stream(self.device)
        forget_workspaces = torch._C._cuda_clearCublasWorkspaces
        with torch.cuda.device(self.index):
            graph, current = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            side.wait_stream(current)
            try:
                with torch.cuda.stream(side):  # left in any case: a recording that fails stays on it
                    body()
                    forget_workspaces()
                    # other threads may do meanwhile what would spoil a recording in the default mode
                    with torch.cuda.graph(graph, stream=side, capture_error_mode="thread_local"):
                        body()
            finally:
                forget_workspaces()
                current.wait_stream(side)  # before anything else is given the memory of the buffers
        launch: Call = graph.replay
        return launch

    def eager(self, step: Step, state: State, batches: Array, data: State) -> State:
        """The plain loop in inference mode, which takes the host less time for every operation.

        A tensor that is made there can never be part of an autograd graph. So one that the step has made,
        and not updated in place, is copied for the caller.
        """
        torch = self.module
        with torch.inference_mode():
            for rows in torch.unbind(batches):
                state = step(state, rows, data)
        return {name: array.clone() if array.is_inference() else array for name, array in state.items()}


def _short_cuts(torch: Any, compat: Any) -> Patched:
    """array-api-compat's namespace, but with PyTorch's own functions where a step calls them most often.

    A wrapper takes longer than a small operation itself. `take` counts no rows from the end, which the
    standard leaves open and array-api-compat provides for in every step. `matmul` wants factors of one
    dtype. A number beside an array stays a number; as an array it would be copied to the GPU.
    """
    casts = {torch.float32: torch.Tensor.float, torch.float64: torch.Tensor.double}

    def astype(x: Array, dtype: Any, /, *, copy: bool = True) -> Array:
        if x.dtype == dtype:
            return x.clone() if copy else x
        if x.dtype == torch.bool:
            x = x.view(torch.uint8)  # the same bytes, which are cast by vector code
        return casts[dtype](x) if dtype in casts else x.to(dtype)  # `to` is the slower of the two

    def take(x: Array, indices: Array, /, *, axis: int | None = None) -> Array:
        return compat.take(x, indices) if axis is None else _selected(torch, x, axis, indices)

    def maximum(x: Array, y: Any, /) -> Array:
        return compat.maximum(x, y) if isinstance(y, torch.Tensor | bool) else torch.clamp_min(x, y)

    def minimum(x: Array, y: Any, /) -> Array:
        return compat.minimum(x, y) if isinstance(y, torch.Tensor | bool) else torch.clamp_max(x, y)

    def max(x: Array, /, *, axis: int | None = None, keepdims: bool = False) -> Array:
        return compat.max(x, keepdims=keepdims) if axis is None else torch.amax(x, axis, keepdims)

    def sum(x: Array, /, *, axis: int | None = None, dtype: Any = None, keepdims: bool = False) -> Array:
        if dtype is not None or (axis is None and keepdims):
            return compat.sum(x, axis=axis, dtype=dtype, keepdims=keepdims)
        return torch.sum(x) if axis is None else torch.sum(x, axis, keepdims)

    def matrix_transpose(x: Array, /) -> Array:
        return x.mT

    return Patched(compat, astype, matrix_transpose, max, maximum, minimum, sum, take, matmul=torch.matmul)


def subtract_product(W: Array, A: Array, B: Array, kept: Array | float | None = None) -> Array:
    """W <- kept W - A^T B, as ``nn`` defines it, in one product that is added straight to W."""
    if kept is None:
        kept = 1.0
    elif W.device.type == "cpu":
        kept = float(kept)
    elif not isinstance(kept, float):  # a product takes a number, for which the host would wait for a GPU
        W *= kept
        kept = 1.0
    return W.addmm_(A.mT, B, beta=kept, alpha=-1.0)


def _selected(torch: Any, x: Array, axis: int, indices: Array) -> Array:
    try:
        return torch.index_select(x, axis, indices)
    except NotImplementedError:  # for unsigned numbers of more than 8 bits
        return x.movedim(axis, 0)[indices].movedim(0, axis)


def _rounded(torch: Any) -> Callable[[Array, Array], Array]:
    """`matmul` of float32 matrices (m, k) and (k, n) rounded to bfloat16, with sums in float32.

    A GPU multiplies them as they are. On a CPU they are widened again, which changes no number: with its
    precision at "bf16" oneDNN may multiply them as bfloat16, and does so where the processor has the
    instructions. Where it has none, rounding only costs time.
    """

    def matmul(a: Array, b: Array, /) -> Array:
        if a.dtype != torch.float32:
            return torch.matmul(a, b)
        a, b = a.bfloat16(), b.bfloat16()
        return torch.mm(a, b, out_dtype=torch.float32) if a.is_cuda else torch.mm(a.float(), b.float())

    return matmul
