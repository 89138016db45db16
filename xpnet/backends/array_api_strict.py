"""array-api-strict: the Array API standard and nothing else, on the CPU. It is slow: a proof, not a tool."""

from typing import Any

import numpy as np

from xpnet.backends.base import Array, Backend
from xpnet.backends.numpy import NumPyBackend


class StrictBackend(NumPyBackend):
    """array-api-strict, on the CPU. It computes with NumPy underneath.

    Its own device1 and device2, which it has for tests of programs for GPUs, are "fake:1" and "fake:2" here.
    Nobody is offered them, but arrays that are there are taken.
    """

    name = "array-api-strict"
    library = "array_api_strict"
    kinds = ("cpu",)
    install = "pip install array-api-strict"
    namespace = Backend.namespace
    adding = Backend.adding
    refill, exchange = Backend.refill, Backend.exchange  # its arrays take nothing from NumPy's unasked

    def __init__(self, kind: str, index: int = 0, **options: Any) -> None:
        super().__init__("cpu", 0, **options)
        if kind == "fake":
            self.kind, self.index, self.device = kind, index, f"fake:{index}"

    @classmethod
    def device_of(cls, array: Array) -> str:
        """From the array."""
        strict = cls.imported()
        return next((f"fake:{i}" for i in (1, 2) if array.device == strict.Device(f"device{i}")), "cpu")

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy."""
        name = f"device{self.index}" if self.kind == "fake" else "CPU_DEVICE"
        return self.xp.asarray(x, copy=True, device=self.xp.Device(name))

    @classmethod
    def exported(cls, array: Array) -> Array:
        """On the CPU."""
        return array.to_device(cls.imported().Device("CPU_DEVICE"))

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy."""
        return np.array(np.from_dlpack(self.exported(array)))
