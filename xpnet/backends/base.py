"""The base class of the backends: one array library on one device."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, ClassVar, TypeAlias

import numpy as np

from xpnet.arguments import choice
from xpnet.backends.libraries import backend_class, owner
from xpnet.backends.mpi import Group, joined
from xpnet.errors import UsageError, XpnetError

Array: TypeAlias = Any
State: TypeAlias = dict[str, Array]
Step: TypeAlias = Callable[[State, Array, State], State]

PRECISIONS = {
    "float32": "every library",
    "tf32": "cupy, torch and jax on an NVIDIA GPU of compute capability 8.0 or more",
    "bf16": "torch and jax on a CPU, and cupy, torch and jax on an NVIDIA GPU of 8.0 or more",
}
"""How float32 matrix products are computed, and who can. tf32 rounds the factors to 10 explicit
bits of fraction, bf16 to 7; the sums are float32."""

EXECUTIONS = ("auto", "eager", "captured")
"""How a user may ask for steps to run: call by call, or recorded once and replayed."""

MALLOC_HINT = 2**25 - 2**16
"""Bytes: a little less than 32 MB, the largest size that glibc learns from on a 64-bit machine."""

CAST = "give a plain array of another dtype, such as float32"
"""The advice about numbers that a library does not take."""

WARM_UP = 2
"""Steps that `warm_up` takes; the second starts from what the first left behind."""


def said(error: BaseException) -> str:
    """The message of an error, on one line."""
    return " ".join(str(error).split())


@dataclass(frozen=True)
class Execution:
    """How `Backend.scan` runs a step.

    Attributes
    ----------
    asked
        The one of `EXECUTIONS` that the user asked for.
    actual
        "eager" (call by call), "captured" (a recorded graph) or "compiled".
    reason
        Why "auto" fell back to eager; empty if it did not.
    """

    asked: str
    actual: str
    reason: str = ""

    def __str__(self) -> str:
        ran = "captured graph" if self.actual == "captured" else self.actual
        return f"{ran} ({self.reason})" if self.reason else ran


class Patched:
    """A library's namespace with some of its functions replaced.

    Parameters
    ----------
    module
        The namespace.
    *functions
        Each replaces the function of its name.
    **replaced
        Functions, or dtypes, that replace those of these names.
    """

    def __init__(self, module: Any, *functions: Callable[..., Array], **replaced: Any) -> None:
        named = {function.__name__: function for function in functions}
        vars(self).update(vars(module) | named | replaced)

    def __deepcopy__(self, memo: object) -> "Patched":
        return self  # modules cannot be copied


def aligned(x: np.ndarray) -> np.ndarray:
    """Copy to memory that begins where libraries want it: at a multiple of 64 bytes.

    NumPy asks for large pages, which makes this up to ten times as fast as the copies of PyTorch and JAX.
    """
    memory = np.empty(x.nbytes + 64, dtype=np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


HOOKS = ("subtract_product",)
"""Functions beyond the standard that a namespace may have, where its library computes them faster.

Where it has none, ``nn`` does the same by the standard's operations. That is the definition, and both are
compared by parity, by the tests, and when a step is first recorded.
"""


def without_hooks(xp: Any) -> Any:
    """The same namespace by the standard's operations alone."""
    plain = Patched(xp)
    for name in HOOKS:
        vars(plain).pop(name, None)
    return plain


class Backend:
    """One array library on one device: what the mathematics needs besides the Array API.

    Every library has a subclass in a file of its own, which is listed in ``backends/libraries.py`` and can be
    imported without the library.

    Parameters
    ----------
    kind, index
        The device: ("cpu", 0) or ("cuda", 1).
    precision
        A key of `PRECISIONS`: how float32 matrix products are computed. All else stays float32.
    execution
        One of `EXECUTIONS`. "auto" takes the first of `executions`.
    alone
        Compute in this process by itself, even if MPI has started others with it.

    Attributes
    ----------
    xp
        The namespace that is handed to ``nn``.
    device
        The device's name: "cpu", "cuda:0".
    kind, index, precision, alone
        As given.
    execution : Execution
        How `scan` runs a step.

    Raises
    ------
    UsageError
        The precision is unknown, or the execution is unknown or not available here.
    XpnetError
        The library is not installed, the device is missing, or it does not have the precision.
    """

    name: ClassVar[str]
    """The name of the library, as ``--backend`` takes it."""

    library: ClassVar[str]
    """The module to import."""

    kinds: ClassVar[tuple[str, ...]]
    """The kinds of devices that it can drive. The first is the default."""

    install: ClassVar[str]
    """The command that installs it."""

    hints: ClassVar[dict[str, str]] = {}
    """What to do when a kind of device is missing."""

    steps_at_once: ClassVar[int | None] = None
    """The number of steps that `scan` takes before it waits for the device. None: it does not wait."""

    rows_at_once: ClassVar[int] = 8192
    """Rows that go through a network together when it predicts, unless its layers are too wide for that."""

    xp: Any

    def __init__(
        self,
        kind: str,
        index: int = 0,
        *,
        precision: str = "float32",
        execution: str = "auto",
        alone: bool = False,
    ) -> None:
        choice("precision", precision, PRECISIONS)
        choice("execution", execution, EXECUTIONS)
        self.module = self.imported()
        self.kind, self.index, self.alone = kind, index, alone
        self._total: Callable[[Array], Array] | None = None
        _let_malloc_keep_memory()
        self.device = kind if kind == "cpu" else f"{kind}:{index}"
        found = self.devices()
        if self.device not in found:
            have = f"{self.name} finds {', '.join(found) or 'none'}"
            raise XpnetError(f"no device {self.device}: {have} ({self.missing_device(kind)})")
        if precision not in self.precisions():
            have = f"{self.name} on {self.device} has {', '.join(self.precisions())}"
            raise XpnetError(f"no {precision} matrix products: {have} ({precision}: {PRECISIONS[precision]})")
        if execution not in ("auto", *self.executions()):
            have = f"{self.name} on {self.device} runs steps {' or '.join(self.executions())}"
            raise UsageError(f"execution cannot be {execution}: {have}; leave it at auto")
        self.precision = precision
        self.xp = self.namespace()
        self.execution = Execution(execution, self.executions()[0] if execution == "auto" else execution)

    def __reduce__(self) -> tuple[Callable[..., "Backend"], tuple[str, int]]:
        """Copy and pickle a backend as its arguments, because modules cannot be copied."""
        made = partial(type(self), precision=self.precision, execution=self.execution.asked, alone=self.alone)
        return made, (self.kind, self.index)

    @classmethod
    def imported(cls) -> ModuleType:
        """Import the library.

        Raises
        ------
        XpnetError
            It is not installed, or cannot be imported; the message says what to install.
        """
        try:
            return importlib.import_module(cls.library)
        except (ImportError, OSError, RuntimeError) as error:  # a shared library or a version may not fit
            if isinstance(error, ModuleNotFoundError) and error.name == cls.library.partition(".")[0]:
                raise XpnetError(f"{cls.name} is not installed: {cls.install}") from error
            raise XpnetError(f"{cls.name} cannot be imported: {said(error)}") from error

    @property
    def group(self) -> Group:
        """The processes that train and evaluate together."""
        return Group() if self.alone else joined()

    def total(self) -> Callable[[Array], Array] | None:
        """A function that adds up a vector over these processes, for a step; None for one process.

        Raises
        ------
        XpnetError
            This library has none, or it fails.
        """
        if self.group.size > 1 and self._total is None:
            self._total = self.adding()
        return self._total

    def adding(self) -> Callable[[Array], Array]:
        """Make that function, for several processes."""
        able = "numpy, torch and jax on a CPU, and cupy, torch and jax on an NVIDIA GPU"
        raise XpnetError(
            f"{self.name} on {self.device} cannot add up over {self.group.size} processes: {able} can"
        )

    @classmethod
    def version(cls) -> str:
        """The version of the installed library."""
        return str(cls.imported().__version__)

    @classmethod
    def devices(cls) -> list[str]:
        """The names of the devices that are there: ["cpu", "cuda:0"]."""
        return ["cpu"]

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """Say what to do when a device of this kind is missing."""
        return cls.hints.get(kind, "`xpnet info` lists what is there")

    def namespace(self) -> Any:
        """The functions that are handed to ``nn``: the library's own, if they follow the standard."""
        return self.module

    def supports(self, dtype: str) -> bool:
        """Whether the device computes in "float32" or "float64"."""
        return True

    def precisions(self) -> tuple[str, ...]:
        """The keys of `PRECISIONS` that this library has on this device."""
        return ("float32",)

    def executions(self) -> tuple[str, ...]:
        """How `scan` can run a step here: "eager", "captured", "compiled". The first is the default."""
        return ("eager",)

    @classmethod
    def device_of(cls, array: Array) -> str:
        """The name of the device that holds an array of this library."""
        return "cpu"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Set, while computing in `dtype`, what the library keeps as a global setting.

        Raises
        ------
        MemoryError
            The device has too little memory. Errors of the library's own become this one.
        """
        yield

    def dtype(self, name: str) -> Any:
        """The library's own dtype of this name: "float32", "int32"."""
        return getattr(self.xp, name)

    def asarray(self, x: Any) -> Array:
        """Bring an array to this device, in its own dtype.

        Parameters
        ----------
        x
            An array of any library, or what NumPy turns into an array: a list, a number.

        Returns
        -------
        array
            x itself if this library has it on this device already. It shares memory with x if x belongs to
            another library on the same GPU. Otherwise, and for every NumPy array, it is a copy.

        Raises
        ------
        XpnetError
            x is on another GPU, or on a GPU while this device is none: it is never moved from there unasked.
            Or x holds no numbers, or numbers of a dtype that this library does not have.
        """
        name = owner(x) or "numpy"
        try:
            if name == "numpy":
                if np.ma.is_masked(x):
                    raise XpnetError("some of the numbers are masked: fill them, or leave them out")
                host = np.asarray(x, order="C")
            else:
                theirs = self if name == self.name else backend_class(name)
                place = theirs.device_of(x)
                if theirs is self and place == self.device:
                    return x
                if place not in ("cpu", self.device):
                    raise XpnetError(
                        f"the array is on {place}, but {self.name} computes on {self.device}: copy it to the "
                        f"host first, or take the network there with model.to(device={place!r})"
                    )
                if place != "cpu":
                    with self.running("float64"):  # JAX would halve float64 otherwise
                        return self.xp.from_dlpack(theirs.exported(x))
                host = np.asarray(np.from_dlpack(theirs.exported(x)), order="C")
        except (TypeError, ValueError, RuntimeError, BufferError) as error:
            kind = str(getattr(x, "dtype", "these")).rpartition(".")[2]
            raise XpnetError(f"{self.name} cannot take {kind} numbers ({said(error)}): {CAST}") from error
        dtype = host.dtype.newbyteorder("=")
        known = dtype.kind in "biufc" and hasattr(self.xp, dtype.name)
        if not known or (dtype == np.float64 and not self.supports("float64")):
            raise XpnetError(f"{self.name} takes no {dtype} numbers: {CAST}")
        return self.from_numpy(host.astype(dtype, copy=False))

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy a host array in C order to the device, in its own dtype."""
        raise NotImplementedError

    def refill(self, array: Array, x: np.ndarray) -> Array:
        """Copy a host array of the same shape and dtype into an array on the device, if the library can.

        Returns
        -------
        array
            The same array, or a new one in its place. It shares no memory with `x`.
        """
        return self.from_numpy(x)

    def exchange(self, array: Array, x: np.ndarray) -> tuple[Array, np.ndarray]:
        """Refill an array that nobody else uses. Also returns a host array to write to next, of its form."""
        return self.refill(array, x), x

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy an array to the host, after waiting for the device. PyTorch on a CPU shares memory instead."""
        return np.array(self.exported(array))

    @classmethod
    def exported(cls, array: Array) -> Array:
        """Return an array in the form in which DLPack or NumPy takes it."""
        return array

    def copy(self, state: State) -> State:
        """Copy every array of a state, so that `scan` may consume the copy. Call it within `running`."""
        return {name: self.xp.asarray(array, copy=True) for name, array in state.items()}

    def synchronize(self, state: State) -> None:
        """Wait until the arrays of `state` are computed. By default every call has waited already."""

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Set the number of CPU threads to compute on, for the whole process."""
        raise UsageError(f"threads: {cls.name} has no CPU threads to set")

    @classmethod
    def threads(cls) -> int | None:
        """The number of CPU threads that it computes on, or None if that is not known."""
        return None

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        """Run `step` over the rows of an index matrix, on the device, without reading anything back.

        Parameters
        ----------
        step
            ``step(state, rows, data) -> state``, hashable: what is compiled for it is kept.
        state
            Consumed: it may be updated in place or given away. `copy` it first to keep it.
        batches : (steps, batch_size) int32
            Row numbers into `data`, -1 where a batch is short. Not written.
        data
            Not written.

        Returns
        -------
        state
            After the last step.
        """
        for i in range(batches.shape[0]):
            state = step(state, batches[i, :], data)
            if self.steps_at_once and (i + 1) % self.steps_at_once == 0:
                self.synchronize(state)
        return state

    def warm_up(self, step: Step, state: State, batches: Array, data: State) -> None:
        """Compile and load what `scan` needs for these batches, so that no step is slower than the rest.

        The state stays as it was.
        """
        some = batches[: min(WARM_UP, batches.shape[0]), :]
        self.synchronize(self.scan(step, self.copy(state), some, data))


def _let_malloc_keep_memory() -> None:
    """Tell glibc to keep the memory that a step frees for the next step.

    When a large block is freed, glibc's malloc learns to keep blocks up to that size. Otherwise, depending on
    what the process did before, every step may return its memory to the system and fetch it again, which
    takes as long as the step. The array is never touched, so it uses no memory.
    """
    np.empty(MALLOC_HINT, np.uint8)
