"""JAX, on CPUs and NVIDIA GPUs: loops of steps are compiled, once for chunks of any length."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, ClassVar

import numpy as np

from xpnet.backends.base import Array, Backend, Patched, State, Step, aligned
from xpnet.backends.mpi import free_address, joined
from xpnet.errors import XpnetError

PADDED = 128
"""Batches are filled up to a multiple of this number, because XLA compiles for one shape at a time."""

AXIS = "processes"

BLOCK = 8
"""Steps of one program on a GPU, and over several processes. Their number is a constant, because on a GPU XLA
asks the host before every turn of a loop whose length is an array. Two programs, of so many steps and of one,
serve any number of steps. On a CPU one program takes them all, whatever their number."""


class JAXBackend(Backend):
    """JAX, on a CPU or a GPU."""

    name = "jax"
    library = "jax"
    kinds = ("cpu", "cuda")
    install = "pip install jax (with an NVIDIA GPU: pip install 'jax[cuda12]' or 'jax[cuda13]')"
    hints: ClassVar = {"cuda": "install jax[cuda12] or jax[cuda13], or use the cpu"}

    def __init__(self, kind: str, index: int = 0, **options: Any) -> None:
        if not options.get("alone") and joined().size > 1:
            _join(self.imported(), index if kind == "cuda" else None)
        super().__init__(kind, index, **options)
        local = self.module.local_devices(backend="gpu" if kind == "cuda" else kind)
        self.jax_device = next(d for d in local if kind == "cpu" or d.local_hardware_id == index)
        # arrays of -1, moved to the device the first time
        self._filled = cache(lambda *shape: self.from_numpy(np.full(shape, -1, dtype=np.int32)))

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPUs of an installed CUDA plugin."""
        found = ["cpu"]
        with suppress(RuntimeError):  # JAX knows no "gpu" where no plugin is installed
            found += [f"cuda:{d.local_hardware_id}" for d in cls.imported().local_devices(backend="gpu")]
        return found

    def namespace(self) -> Any:
        """``jax.numpy``, whose products round their factors to bfloat16 if that is asked for."""
        if self.precision == "bf16":
            return _rounding(self.module.numpy)
        return _subtracting(self.module) if self.kind == "cpu" else self.module.numpy

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
        return "cpu" if device.platform == "cpu" else f"cuda:{device.local_hardware_id}"

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
        """Copy to the device. By default JAX would halve numbers of 64 bits.

        On a CPU, JAX takes aligned memory as it is, and would copy any other once more.
        """
        with self.module.enable_x64(x.dtype.itemsize >= 8):
            return self.module.device_put(aligned(x), self.jax_device)

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

    def adding(self) -> Callable[[Array], Array]:
        """`psum`, over the devices of all processes.

        Raises
        ------
        XpnetError
            The processes of JAX are others, because it ran before.
        """
        jax = self.module
        if jax.process_count() != self.group.size:
            hint = "make its backend, by xpnet.get_backend, before anything else is asked of JAX"
            raise XpnetError(f"jax finds {jax.process_count()} of {self.group.size} processes: {hint}")
        self._mesh = jax.sharding.Mesh(np.array(jax.devices(self.jax_device.platform)), AXIS)
        total, one = _total(jax), jax.P(AXIS)
        first = jax.jit(jax.shard_map(total, mesh=self._mesh, in_specs=one, out_specs=one))
        with _nothing_printed():
            jax.block_until_ready(first(self._joined(self.from_numpy(np.zeros(1, np.float32)))))
        return total

    def _joined(self, arrays: Any) -> Any:
        """Arrays of this process as its part of arrays that lie one behind the other, of all processes."""
        jax, size = self.module, self.group.size
        placed = jax.NamedSharding(self._mesh, jax.P(AXIS))
        make = jax.make_array_from_single_device_arrays
        return jax.tree.map(lambda x: make((size * x.shape[0], *x.shape[1:]), placed, [x]), arrays)

    def scan(self, step: Step, state: State, batches: Array, data: State, steps: int = 0) -> State:
        """Take the first `steps` steps, or all: in one call, or in blocks of them. Donate the state.

        Rows of -1 fill up the batches. They are joined on the device, because this compiles fastest, and it
        has to be compiled once for every number of batches.
        """
        rows, m = batches.shape
        if rows % PADDED:
            batches = self.module.lax.concatenate([batches, self._filled(-rows % PADDED, m)], 0)
        steps = steps or rows
        last, together = self._filled(), getattr(step, "total", None) is not None
        constant = together or self.kind == "cuda"
        run = _compiled(self.module, constant, self._mesh if together else None)
        if together:
            state, last, batches, data = self._joined((state, last[None], batches, data))
        blocks = [BLOCK] * (steps // BLOCK) + [1] * (steps % BLOCK)
        for count in blocks if constant else [np.int32(steps)]:
            state, last = run(step, count, state, last, batches, data)
        return {name: x.addressable_data(0) for name, x in state.items()} if together else state

    def warm_up(self, step: Step, state: State, batches: Array, data: State) -> None:
        """Compile for the shapes of `batches`, and take a few steps."""
        self.synchronize(self.scan(step, self.copy(state), batches, data, min(BLOCK + 1, batches.shape[0])))


def _join(jax: Any, index: int | None) -> None:
    """Let the processes of JAX find each other, with the GPU of this one, as those of MPI have.

    Nothing happens if JAX has run before: `adding` tells of it.
    """
    group = joined()
    if jax.distributed.is_initialized():
        return
    with suppress(RuntimeError):
        jax.distributed.initialize(group.first(free_address), group.size, group.rank, local_device_ids=index)


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Keep Gloo, which connects the processes at their first sum, from saying so on standard output."""
    sys.stdout.flush()
    nowhere, out = os.open(os.devnull, os.O_WRONLY), os.dup(1)
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        os.dup2(out, 1)
        os.close(out)
        os.close(nowhere)


@cache
def _total(jax: Any) -> Callable[[Array], Array]:
    """The sum over all processes: one function for all backends, as below."""

    def total(x: Array) -> Array:
        return jax.lax.psum(x, AXIS)

    return total


@cache
def _compiled(jax: Any, constant: bool, mesh: Any = None) -> Any:
    """The loop of steps: one function for all backends, so that equal steps are compiled once in a process.

    It takes `count` steps after batch number `last`, and also returns the number of the last batch then. If
    the count is `constant`, it is compiled for that count, otherwise for any. With a `mesh` it does so in all
    processes, each on its part of every array.
    """

    def steps(
        step: Step, count: Any, state: State, last: Array, batches: Array, data: State
    ) -> tuple[State, Array]:
        def one(i: Array, state: State) -> State:
            return step(state, jax.lax.dynamic_index_in_dim(batches, last + 1 + i, keepdims=False), data)

        return jax.lax.fori_loop(0, count, one, state), last + count

    def together(step: Step, count: int, *arrays: Any) -> Any:
        def own(state: State, last: Array, batches: Array, data: State) -> tuple[State, Array]:
            state, last = steps(step, count, state, last[0], batches, data)
            return state, last[None]

        one = jax.P(AXIS)
        return jax.shard_map(own, mesh=mesh, in_specs=one, out_specs=one, check_vma=False)(*arrays)

    return jax.jit(together if mesh else steps, static_argnums=(0, 1) if constant else 0, donate_argnums=2)


@cache
def _subtracting(jax: Any) -> Patched:
    """``jax.numpy`` with the `subtract_product` that XLA computes best on a CPU.

    A loop of XLA's that only subtracts is slower than one that multiplies, too: for 784 x 128 numbers a step
    took 30 microseconds more. So all of W is kept by a product with a 1 that XLA does not know.
    """

    def subtract_product(W: Array, A: Array, B: Array, kept: Array | float | None = None) -> Array:
        if kept is None:
            kept = jax.lax.optimization_barrier(jax.numpy.ones(1, W.dtype))
        return W * kept - jax.numpy.matmul(A.T, B)

    return Patched(jax.numpy, subtract_product)


def _rounding(jnp: Any) -> Patched:
    """``jax.numpy``, but a product of float32 rounds its factors to bfloat16 and adds up in float32."""

    def matmul(x1: Array, x2: Array, /) -> Array:
        if x1.dtype != jnp.float32:
            return jnp.matmul(x1, x2)
        half = jnp.bfloat16
        return jnp.matmul(x1.astype(half), x2.astype(half), preferred_element_type=jnp.float32)

    return Patched(jnp, matmul)
