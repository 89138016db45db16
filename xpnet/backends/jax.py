"""JAX, on CPUs and NVIDIA GPUs: loops of steps are compiled, once for chunks of any length."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, ClassVar

import numpy as np

from xpnet.backends.base import Array, Backend, Patched, State, Step
from xpnet.errors import XpnetError

PADDED = 128
"""Batches are filled up to a multiple of this number, because XLA compiles for one shape at a time."""

BLOCK = 8
"""Steps of one program. Their number is a constant, because XLA asks the host before every turn of a loop
whose length is an array. Two programs, of so many steps and of one, serve any number of steps."""


class JAXBackend(Backend):
    """JAX, on a CPU or a GPU."""

    name = "jax"
    library = "jax"
    kinds = ("cpu", "cuda")
    install = "pip install jax (with an NVIDIA GPU: pip install 'jax[cuda12]' or 'jax[cuda13]')"
    hints: ClassVar = {"cuda": "install jax[cuda12] or jax[cuda13], or use the cpu"}

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        self.jax_device = self.module.devices("gpu" if kind == "cuda" else kind)[index]
        self._run = self.module.jit(self._steps, static_argnums=(0, 1), donate_argnums=2)
        # arrays of -1, moved to the device the first time
        self._filled = cache(lambda *shape: self.from_numpy(np.full(shape, -1, dtype=np.int32)))

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPUs of an installed CUDA plugin."""
        found = ["cpu"]
        with suppress(RuntimeError):  # JAX knows no "gpu" where no plugin is installed
            found += [f"cuda:{i}" for i in range(len(cls.imported().devices("gpu")))]
        return found

    def namespace(self) -> Any:
        """``jax.numpy``, whose products round their factors to bfloat16 if that is asked for."""
        return _rounding(self.module.numpy) if self.precision == "bf16" else self.module.numpy

    def precisions(self) -> tuple[str, ...]:
        """TF32 needs an NVIDIA GPU; bfloat16 is computed everywhere."""
        return ("float32", "bf16") if self.kind == "cpu" else ("float32", "tf32", "bf16")

    def executions(self) -> tuple[str, ...]:
        """A step is always compiled."""
        return ("compiled",)

    @classmethod
    def device_of(cls, array: Array) -> str:
        """From the array, which has a single device."""
        if not isinstance(array, cls.imported().Array):
            raise XpnetError(f"a {type(array).__name__} of jax is not a dense array: give a jax.Array")
        device = next(iter(array.devices()))
        return "cpu" if device.platform == "cpu" else f"cuda:{device.id}"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Allow float64, which needs a mode of its own, and keep a GPU from multiplying in TF32 unasked.

        Both settings hold for this thread and this block; the caller's stay as they are.
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

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy to the device. By default JAX would halve numbers of 64 bits."""
        with self.module.enable_x64(x.dtype.itemsize >= 8):
            return self.module.device_put(np.array(x), self.jax_device)

    def synchronize(self, state: State) -> None:
        """Wait for the arrays."""
        self.module.block_until_ready(state)

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Tell XLA by the variable that it reads when it starts. Later the size of its pool is fixed.

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
        """The number that XLA takes: NPROC, or every core that this process may use."""
        told = os.environ.get("NPROC", "")
        if told.isascii() and told.isdigit() and len(told) < 10:
            return int(told)
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

    def _steps(
        self, step: Step, count: int, state: State, last: Array, batches: Array, data: State
    ) -> tuple[State, Array]:
        """Take `count` steps after batch number `last`; also returns the number of the last batch then."""
        lax = self.module.lax

        def one(i: Array, state: State) -> State:
            return step(state, lax.dynamic_index_in_dim(batches, last + 1 + i, keepdims=False), data)

        return lax.fori_loop(0, count, one, state), last + count

    def scan(self, step: Step, state: State, batches: Array, data: State, steps: int = 0) -> State:
        """Take the first `steps` steps, or all, in blocks, and what is left one by one. Donate the state.

        Rows of -1 fill up the batches. They are joined on the device, because this compiles fastest, and it
        has to be compiled once for every number of batches.
        """
        rows, m = batches.shape
        if rows % PADDED:
            batches = self.module.lax.concatenate([batches, self._filled(-rows % PADDED, m)], 0)
        blocks, rest = divmod(steps or rows, BLOCK)
        last = self._filled()
        for count in [BLOCK] * blocks + [1] * rest:
            state, last = self._run(step, count, state, last, batches, data)
        return state

    def warm_up(self, step: Step, state: State, batches: Array, data: State) -> None:
        """Compile for the shapes of `batches`, and take a few steps."""
        self.synchronize(self.scan(step, self.copy(state), batches, data, min(BLOCK + 1, batches.shape[0])))


def _rounding(jnp: Any) -> Patched:
    """``jax.numpy``, but a product of float32 rounds its factors to bfloat16 and adds up in float32."""

    def matmul(x1: Array, x2: Array, /) -> Array:
        if x1.dtype != jnp.float32:
            return jnp.matmul(x1, x2)
        half = jnp.bfloat16
        return jnp.matmul(x1.astype(half), x2.astype(half), preferred_element_type=jnp.float32)

    return Patched(jnp, matmul)
