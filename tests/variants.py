"""Two libraries made stricter than they are, to catch what would only fail on a GPU or under a compiler."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import array_api_strict as strict
import numpy as np
import pytest

from xpnet.backends.array_api_strict import StrictBackend
from xpnet.backends.base import Array, State, Step
from xpnet.backends.numpy import NumPyBackend


class ReadOnlyNumPy(NumPyBackend):
    """NumPy whose rows and batches cannot be written: a step that tried would raise."""

    def refill(self, array: Array, x: np.ndarray) -> Array:
        return self.from_numpy(x)

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        for array in (batches, *data.values()):
            array.flags.writeable = False
        return super().scan(step, state, batches, data)


class FakeDeviceStrict(StrictBackend):
    """array-api-strict on a device of its own, where reading a value on the host is an error.

    An operation between this device and the CPU raises by itself; what would slip through is an array turned
    into a number, a truth, an index or a NumPy array, which on a GPU is a hidden wait. Within a step, moving
    to the CPU is an error as well.
    """

    device_object = strict.Device("device1")
    READS: ClassVar = (
        *("__float__", "__bool__", "__int__", "__index__", "__complex__"),
        *("__iter__", "__dlpack__", "__repr__", "__str__", "__array__", "__buffer__"),
    )

    def from_numpy(self, x: np.ndarray) -> Array:
        return strict.asarray(np.array(x, order="C"), copy=True, device=self.device_object)

    def to_numpy(self, array: Array) -> np.ndarray:
        return super().to_numpy(array.to_device(strict.Device("CPU_DEVICE")))

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Guard every read, in the strictest setting of the library."""
        kind = type(strict.asarray(0.0))
        flags = strict.ArrayAPIStrictFlags(
            boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
        )
        with super().running(dtype), flags, pytest.MonkeyPatch.context() as patch:
            for name in self.READS:
                if hasattr(kind, name):
                    patch.setattr(kind, name, _guarded(getattr(kind, name), name))
            yield

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        kind = type(strict.asarray(0.0))

        def refuse(array: Any, device: Any, /, **options: Any) -> Any:
            raise AssertionError(f"an array was moved to {device} inside a step")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(kind, "to_device", refuse)
            return super().scan(step, state, batches, data)


def _guarded(method: Any, name: str) -> Any:
    def guarded(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.device != strict.Device("CPU_DEVICE"):
            raise AssertionError(f"{name}: a hidden read of an array on {self.device!r}")
        return method(self, *arguments, **options)

    return guarded
