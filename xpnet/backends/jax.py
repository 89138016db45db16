"""JAX, on CPUs and NVIDIA GPUs: a loop over a whole chunk of steps is compiled, once for all chunks."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from xpnet.backends.base import Array, Backend, Namespace, State, Step
from xpnet.errors import XpnetError

PADDED = 128
"""Batches are filled up to a multiple of so many, because XLA compiles for one shape at a time."""

BLOCK = 8
"""Steps in one turn of the loop on a GPU, which asks the host before every turn whether there is another."""


class JAXBackend(Backend):
    """JAX, on a CPU or a GPU."""

    name = "jax"
    library = "jax"
    namespace = "jax.numpy"
    kinds = ("cpu", "cuda")
    install = "pip install 'xpnet[jax]' (with an NVIDIA GPU: pip install 'jax[cuda12]' or 'jax[cuda13]')"

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        self.jax_device = self.module.devices("gpu" if kind == "cuda" else kind)[index]
        self._block = 1 if kind == "cpu" else BLOCK
        self._scan: Callable[[Step, State, Array, Array, State], State] = self.module.jit(
            self._steps, static_argnums=0, donate_argnums=1
        )
        self._placed: dict[tuple[int, ...], Array] = {}
        if self.precision == "bf16":
            self.xp = _rounding(self.xp)

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPUs of an installed CUDA plugin."""
        jax = cls.imported()
        try:
            gpus = len(jax.devices("gpu"))
        except RuntimeError:  # JAX knows no "gpu" where no plugin is installed
            gpus = 0
        return ["cpu", *(f"cuda:{i}" for i in range(gpus))]

    def precisions(self) -> tuple[str, ...]:
        """TF32 is of NVIDIA's; bfloat16 is computed everywhere."""
        return ("float32", "bf16") if self.device == "cpu" else ("float32", "tf32", "bf16")

    def executions(self) -> tuple[str, ...]:
        """A step is never run but compiled."""
        return ("compiled",)

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
        """float64 needs a mode of its own; on a GPU, float32 would be multiplied as TF32 unasked.

        Both are held for this thread and this block; the caller's settings stay as they are.
        """
        jax = self.module
        try:
            with (
                jax.enable_x64(dtype == "float64"),
                jax.default_matmul_precision("tensorfloat32" if self.precision == "tf32" else "highest"),
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

    def _steps(self, step: Step, state: State, batches: Array, count: Array, data: State) -> State:
        """The first `count` steps; it is an argument, so that any number of them is the same program."""
        lax, block = self.module.lax, self._block

        def one(i: Array, state: State) -> State:
            return step(state, lax.dynamic_index_in_dim(batches, i, keepdims=False), data)

        def turn(j: Array, state: State) -> State:
            after: State = lax.fori_loop(0, block, lambda k, state: one(j * block + k, state), state)
            return after

        whole = 0
        if block > 1:
            whole = count // block
            state = lax.fori_loop(0, whole, turn, state)
        after: State = lax.fori_loop(whole * block, count, one, state)
        return after

    def _constant(self, value: int, *shape: int) -> Array:
        """An array of int32 that is full of one number, moved to the device the first time."""
        key = (value, *shape)
        if key not in self._placed:
            self._placed[key] = self.asarray(np.full(shape, value, dtype=np.int32))
        return self._placed[key]

    def _filled(self, batches: Array) -> Array:
        """Batches and rows of -1, up to a multiple of `PADDED`.

        The device puts them together. Of all ways this compiles the fastest, which it must once for every
        number of batches.
        """
        missing = -batches.shape[0] % PADDED
        if not missing:
            return batches
        rows = self._constant(-1, missing, batches.shape[1])
        return self.module.lax.concatenate([batches, rows], 0)

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        """One compiled loop, the same for any number of batches up to a multiple of `PADDED`.

        The state is donated to it.
        """
        return self._scan(step, state, self._filled(batches), self._constant(batches.shape[0]), data)

    def warm_up(self, step: Step, state: State, batches: Array, data: State) -> None:
        """Compile for the shapes of `batches`, and take a single step."""
        self.synchronize(self._scan(step, self.copy(state), self._filled(batches), self._constant(1), data))


def _rounding(jnp: Any) -> Namespace:
    """``jax.numpy`` whose products of float32 round their factors to bfloat16, and add up in float32."""

    def matmul(x1: Array, x2: Array, /) -> Array:
        if x1.dtype != jnp.float32:
            return jnp.matmul(x1, x2)
        half = jnp.bfloat16
        return jnp.matmul(x1.astype(half), x2.astype(half), preferred_element_type=jnp.float32)

    return Namespace(jnp, matmul=matmul)
