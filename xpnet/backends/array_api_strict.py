"""array-api-strict: the Array API standard and nothing else, on the CPU. It is slow: a proof, not a tool."""

import numpy as np

from xpnet.backends.base import Array, Backend
from xpnet.backends.numpy import NumPyBackend


class StrictBackend(NumPyBackend):
    """array-api-strict, on the CPU. It computes with NumPy underneath."""

    name = "array-api-strict"
    library = "array_api_strict"
    kinds = ("cpu",)
    install = "pip install array-api-strict"
    namespace = Backend.namespace
    refill = Backend.refill  # its arrays take nothing from NumPy's unasked

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy."""
        return self.xp.asarray(x, copy=True)

    def to_numpy(self, array: Array) -> np.ndarray:
        """Copy."""
        return np.array(np.from_dlpack(array))
