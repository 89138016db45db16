"""JAX, on CPUs and NVIDIA GPUs: a whole chunk of steps is compiled at once."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from xpnet.backends.base import Array, Backend, State, Step
from xpnet.errors import XpnetError


class JAXBackend(Backend):
    """JAX, on a CPU or a GPU."""

    name = "jax"
    library = "jax"
    namespace = "jax.numpy"
    kinds = ("cpu", "cuda")
    install = "pip install 'xpnet[jax]' (with an NVIDIA GPU: pip install 'jax[cuda12]' or 'jax[cuda13]')"

    def __init__(self, kind: str, index: int = 0) -> None:
        super().__init__(kind, index)
        self.jax_device = self.module.devices("gpu" if kind == "cuda" else kind)[index]
        self._scan: Callable[[Step, State, Array, State], State] = self.module.jit(
            self._steps, static_argnums=0, donate_argnums=1
        )

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPUs of an installed CUDA plugin."""
        jax = cls.imported()
        try:
            gpus = len(jax.devices("gpu"))
        except RuntimeError:  # JAX knows no "gpu" where no plugin is installed
            gpus = 0
        return ["cpu", *(f"cuda:{i}" for i in range(gpus))]

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """Without its plugin, JAX knows nothing of a GPU."""
        return "install jax[cuda12] or jax[cuda13], or use the cpu"

    def device_of(self, array: Array) -> str:
        """From the array, whose single device it is."""
        device = next(iter(array.devices()))
        return "cpu" if device.platform == "cpu" else f"cuda:{device.id}"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """float64 needs a mode of its own; on a GPU, float32 would be multiplied as TF32 unless told not to.

        Both are held for this thread and this block; the caller's settings stay as they are.
        """
        jax = self.module
        try:
            with (
                jax.enable_x64(dtype == "float64"),
                jax.default_matmul_precision("highest"),
                jax.default_device(self.jax_device),
            ):
                yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" in str(error):
                raise MemoryError(str(error)) from error
            raise

    def asarray(self, x: np.ndarray) -> Array:
        """Copy to the device; numbers of 8 bytes stay so, although JAX's default would halve them."""
        with self.module.enable_x64(x.dtype.itemsize == 8):
            return self.module.device_put(np.array(x, order="C"), self.jax_device)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy to the host."""
        return np.array(array)

    def synchronize(self, state: State) -> None:
        """Wait for the arrays."""
        self.module.block_until_ready(state)

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Tell XLA, through the variable that it reads when it starts; later its pool is fixed.

        Raises
        ------
        XpnetError
            JAX is already imported.
        """
        if "jax" in sys.modules:
            raise XpnetError("threads: JAX is running already: set NPROC before it is imported")
        os.environ["NPROC"] = str(threads)

    @classmethod
    def threads(cls) -> int | None:
        """What XLA takes: NPROC, or every core that this process may use."""
        told = os.environ.get("NPROC", "")
        if told.isdigit():
            return int(told)
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def _steps(self, step: Step, state: State, batches: Array, data: State) -> State:
        def body(state: State, rows: Array) -> tuple[State, None]:
            return step(state, rows, data), None

        state, _ = self.module.lax.scan(body, state, batches)
        return state

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        """One compiled loop, for each step and each number of batches; the state is donated to it."""
        return self._scan(step, state, batches, data)

    def warm_up(self, step: Step, state: State, batches: Array, data: State) -> None:
        """Compile for the shapes of `batches`."""
        self.synchronize(self.scan(step, self.copy(state), batches, data))
