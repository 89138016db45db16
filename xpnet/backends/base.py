"""What a backend is: one array library on one device."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar, TypeAlias

import numpy as np

from xpnet.errors import UsageError, XpnetError

Array: TypeAlias = Any
State: TypeAlias = dict[str, Array]
Step: TypeAlias = Callable[[State, Array, State], State]


class Namespace:
    """A library's namespace, with some of its functions replaced.

    Parameters
    ----------
    module
        The namespace.
    **replaced
        Functions that are taken instead of its own.
    """

    def __init__(self, module: Any, **replaced: Callable[..., Array]) -> None:
        self._module = module
        for name, function in replaced.items():
            setattr(self, name, function)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._module, name)
        setattr(self, name, found)  # looked up once
        return found


class Backend:
    """One array library on one device: what the mathematics needs besides the Array API.

    A library is a subclass in a file of its own, listed in ``backends/__init__.py``. It names its library
    in `library`, and is importable without it.

    Parameters
    ----------
    kind, index
        The device: ("cpu", 0) or ("cuda", 1).

    Attributes
    ----------
    xp
        The namespace that is handed to ``nn``.
    device
        The device's name: "cpu", "cuda:0".

    Raises
    ------
    XpnetError
        The library is not installed, or the device is not there.
    """

    name: ClassVar[str]
    """As in ``--backend``."""

    library: ClassVar[str]
    """The module to import."""

    namespace: ClassVar[str]
    """The module whose functions are handed to ``nn``: the library's own, or array-api-compat's."""

    kinds: ClassVar[tuple[str, ...]]
    """Kinds of devices it can drive, the first by default."""

    install: ClassVar[str]
    """The command that installs it."""

    xp: Any

    def __init__(self, kind: str, index: int = 0) -> None:
        self.module = self.imported()
        self.index = index
        self.device = kind if kind == "cpu" else f"{kind}:{index}"
        self.xp = importlib.import_module(self.namespace)
        found = self.devices()
        if self.device not in found:
            have = f"{self.name} finds {', '.join(found) or 'none'}"
            raise XpnetError(f"no device {self.device}: {have} ({self.missing_device(kind)})")

    def __reduce__(self) -> tuple[type["Backend"], tuple[str, int]]:
        """Copied and pickled as what it was made from; modules cannot be."""
        return type(self), (self.device.partition(":")[0], self.index)

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
        except ModuleNotFoundError as error:
            if error.name != cls.library.partition(".")[0]:
                raise XpnetError(f"{cls.name} cannot be imported: {error}") from error
            raise XpnetError(f"{cls.name} is not installed: {cls.install}") from error
        except (
            ImportError,
            OSError,
            RuntimeError,
        ) as error:  # a shared library or a version that does not fit
            raise XpnetError(f"{cls.name} cannot be imported: {' '.join(str(error).split())}") from error

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
        return "`xpnet info` lists what is there"

    def supports(self, dtype: str) -> bool:
        """Whether the device computes in "float32" or "float64"."""
        return True

    @classmethod
    def owns(cls, array: Any) -> bool:
        """Whether `array` is an array of this library. Imports nothing."""
        roots = {base.__module__.partition(".")[0] for base in type(array).__mro__}
        return cls.library.partition(".")[0] in roots

    def device_of(self, array: Array) -> str:
        """The name of the device that holds an array of this library."""
        return self.device

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Hold, while computing in `dtype`, whatever the library keeps as a setting.

        Raises
        ------
        MemoryError
            The device has not enough memory, where the library has an error of its own for that.
        """
        yield

    def dtype(self, name: str) -> Any:
        """The library's own "float32", "int32", …"""
        return getattr(self.xp, name)

    def asarray(self, x: np.ndarray) -> Array:
        """Move a host array to the device, in its own dtype. The result shares no memory with it."""
        raise NotImplementedError

    def to_numpy(self, array: Array) -> np.ndarray:
        """Move an array to the host. It waits for the device."""
        raise NotImplementedError

    def copy(self, state: State) -> State:
        """Copy every array of a state, so that `scan` may consume the copy. Within `running`."""
        return {name: self.xp.asarray(array, copy=True) for name, array in state.items()}

    def synchronize(self, state: State) -> None:
        """Wait until the arrays of `state` are computed. Nothing to do where every call waits."""

    @classmethod
    def set_threads(cls, threads: int) -> None:
        """Compute on so many CPU threads from now on, in the whole process."""
        raise UsageError(f"threads: {cls.name} has no CPU threads to set")

    @classmethod
    def threads(cls) -> int | None:
        """The number of CPU threads that it computes on, or None where that is not known."""
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
        return state

    def warm_up(self, step: Step, state: State, batches: Array, data: State) -> None:
        """Compile and load what the first `scan` over `batches` would, so that no step is slower than
        another. The state stays as it was.
        """
        self.synchronize(self.scan(step, self.copy(state), batches[:1, :], data))
