"""MLX, on Apple GPUs and on CPUs. It is lazy: operations are noted, and computed when somebody asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import e
from typing import Any

import numpy as np

from xpnet.backends.base import Array, Backend, Namespace, State, Step

NOTED_STEPS = 8
"""Steps that are noted before they are computed: enough to keep the device busy, few enough for memory."""


class MLXBackend(Backend):
    """MLX, on a CPU or an Apple GPU."""

    name = "mlx"
    library = "mlx.core"
    namespace = "mlx.core"
    kinds = ("cpu", "mps")
    install = "pip install 'xpnet[mlx]'"

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        self.mlx_device = self.module.cpu if kind == "cpu" else self.module.gpu
        self.xp = _namespace(self.module)

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPU that shares its memory."""
        mx = cls.imported()
        return ["cpu", "mps:0"] if mx.is_available(mx.gpu) else ["cpu"]

    @classmethod
    def missing_device(cls, kind: str) -> str:
        """A GPU comes with the machine."""
        return "needs a Mac with Apple silicon; use the cpu"

    def supports(self, dtype: str) -> bool:
        """Apple's GPUs have no float64."""
        return dtype == "float32" or self.device == "cpu"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Compute on this device; arrays have none of their own."""
        with self.module.stream(self.mlx_device):
            yield

    def asarray(self, x: np.ndarray) -> Array:
        """Copy; without a dtype, float64 would become float32."""
        return self.module.array(np.asarray(x, order="C"), dtype=getattr(self.module, x.dtype.name))

    def to_numpy(self, array: Array) -> np.ndarray:
        """Compute and copy."""
        return np.array(array)

    def synchronize(self, state: State) -> None:
        """Compute what has been noted."""
        self.module.eval(state)

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        """The plain loop, computed every few steps."""
        for i in range(batches.shape[0]):
            state = step(state, batches[i, :], data)
            if i % NOTED_STEPS == NOTED_STEPS - 1:
                self.module.eval(state)
        return state


def _namespace(mx: Any) -> Namespace:
    """``mlx.core`` (0.32) where it keeps to the standard, and the rest."""

    def astype(x: Array, dtype: Any, /, *, copy: bool = True) -> Array:
        return mx.astype(x, dtype)  # MLX's takes no `copy`

    def exp(x: Array, /) -> Array:
        # MLX's own is wrong by 2e-6 in float64; its power is right to the last digits
        return mx.power(mx.array(e, dtype=mx.float64), x) if x.dtype == mx.float64 else mx.exp(x)

    def cos(x: Array, /) -> Array:
        # MLX's own is wrong by 1e-7 in float64; its tan, of half the angle, is right
        if x.dtype != mx.float64:
            return mx.cos(x)
        t = mx.tan(x / 2.0)
        return (1.0 - t * t) / (1.0 + t * t)

    return Namespace(mx, astype=astype, exp=exp, cos=cos)
