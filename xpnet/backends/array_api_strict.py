"""array-api-strict: the Array API standard and nothing else, on the CPU. Slow; a proof, not a tool."""

import numpy as np

from xpnet.backends.base import Array
from xpnet.backends.numpy import NumPyBackend


class StrictBackend(NumPyBackend):
    """array-api-strict, on the CPU, which computes with NumPy underneath."""

    name = "array-api-strict"
    library = "array_api_strict"
    namespace = "array_api_strict"
    kinds = ("cpu",)
    install = "pip install array-api-strict"

    def asarray(self, x: np.ndarray) -> Array:
        """Copy."""
        return self.xp.asarray(np.array(x, order="C"), copy=True)

    def refill(self, array: Array, x: np.ndarray) -> Array:
        """A new array: this library takes nothing from NumPy unasked."""
        return self.asarray(x)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy."""
        return np.array(np.from_dlpack(array))
