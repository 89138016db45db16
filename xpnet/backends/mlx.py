"""MLX, on Apple GPUs and on CPUs. It is lazy: it notes operations, and computes when somebody asks."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import e
from typing import Any, ClassVar

import numpy as np

from xpnet.backends.base import Array, Backend, Patched, State


class MLXBackend(Backend):
    """MLX, on a CPU or an Apple GPU."""

    name = "mlx"
    library = "mlx.core"
    kinds = ("cpu", "mps")
    install = "pip install 'mlx[cpu]'"
    steps_at_once = 8
    """Steps that are noted before they are computed: enough for a busy device, few enough for memory."""
    hints: ClassVar = {"mps": "needs a Mac with Apple silicon; use the cpu"}

    def __init__(self, kind: str, index: int = 0, **options: Any) -> None:
        super().__init__(kind, index, **options)
        self.mlx_device = self.module.cpu if kind == "cpu" else self.module.gpu
        # an array has no device, because the CPU and the GPU share their memory
        self.device_of = lambda array: self.device  # type: ignore[method-assign]

    @classmethod
    def devices(cls) -> list[str]:
        """The CPU, and the GPU that shares its memory."""
        mx = cls.imported()
        return ["cpu", "mps:0"] if mx.is_available(mx.gpu) else ["cpu"]

    def namespace(self) -> Patched:
        """MLX, with what it lacks of the standard."""
        return _completed(self.module)

    def supports(self, dtype: str) -> bool:
        """Apple's GPUs have no float64."""
        return dtype == "float32" or self.kind == "cpu"

    @contextmanager
    def running(self, dtype: str) -> Iterator[None]:
        """Compute on this device; arrays have none of their own."""
        with self.module.stream(self.mlx_device):
            yield

    def from_numpy(self, x: np.ndarray) -> Array:
        """Copy. Without a dtype, MLX would make float64 float32."""
        return self.module.array(x, dtype=getattr(self.xp, x.dtype.name))

    def synchronize(self, state: State) -> None:
        """Compute what has been noted."""
        self.module.eval(state)


def _completed(mx: Any) -> Patched:
    """``mlx.core`` (0.32), with what it lacks of the standard, or does not compute to the last digits."""

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

    return Patched(mx, astype, exp, cos, bool=mx.bool_)
