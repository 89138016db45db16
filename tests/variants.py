"""Two libraries made stricter, to catch mistakes that otherwise fail only on a GPU or under a compiler."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import array_api_strict as strict
import numpy as np
import pytest

from xpnet.backends.array_api_strict import StrictBackend
from xpnet.backends.base import Array, Backend, State, Step
from xpnet.backends.numpy import NumPyBackend

ARRAY = type(strict.asarray(0.0))
CPU = strict.Device("CPU_DEVICE")


class ReadOnlyNumPy(NumPyBackend):
    """NumPy with read-only data and batches: a step that writes to them raises."""

    exchange = Backend.exchange

    def refill(self, array: Array, x: np.ndarray) -> Array:
        return self.from_numpy(x)

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        for array in (batches, *data.values()):
            array.flags.writeable = False
        return super().scan(step, state, batches, data)


class FakeDeviceStrict(StrictBackend):
    """array-api-strict on a device other than the CPU, where reading a value on the host is an error.

    The library itself refuses operations between this device and the CPU. It does not refuse to turn an
    array into a number, a bool, an index or a NumPy array, for which the host would wait for a GPU; this
    class does. Inside a step, moving an array to the CPU is an error too.
    """

    device_object = strict.Device("device1")
    READS: ClassVar = (
        *("__float__", "__bool__", "__int__", "__index__", "__complex__"),
        *("__iter__", "__dlpack__", "__repr__", "__str__", "__array__", "__buffer__"),
    )

    @classmethod
    def device_of(cls, array: Array) -> str:
        return "cpu"  # the only device that this backend can be asked for

    def from_numpy(self, x: np.ndarray) -> Array:
        return strict.asarray(np.array(x, order="C"), copy=True, device=self.device_object)

    def to_numpy(self, array: Array) -> np.ndarray:
        return super().to_numpy(array.to_device(CPU))

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Guard every read, under the strictest flags of the library."""
        flags = strict.ArrayAPIStrictFlags(
            boolean_indexing=False, data_dependent_shapes=False, enabled_extensions=()
        )
        with super().running(dtype), flags, pytest.MonkeyPatch.context() as patch:
            for name in self.READS:
                if hasattr(ARRAY, name):
                    patch.setattr(ARRAY, name, _guarded(getattr(ARRAY, name), name))
            yield

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        def refuse(array: Any, device: Any, /, **options: Any) -> Any:
            raise AssertionError(f"an array was moved to {device} inside a step")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ARRAY, "to_device", refuse)
            return super().scan(step, state, batches, data)


def _guarded(method: Any, name: str) -> Any:
    def guarded(self: Any, *arguments: Any, **options: Any) -> Any:
        if self.device != CPU:
            raise AssertionError(f"{name}: a hidden read of an array on {self.device!r}")
        return method(self, *arguments, **options)

    return guarded
