"""The array libraries that xpnet runs on, one file each, and how one of them is picked.

To add a library, write its file, a subclass of `Backend`, and name it in `LIBRARIES`.
"""

import importlib
from typing import Any

from xpnet.backends.base import EXECUTIONS, PRECISIONS, Backend, Execution
from xpnet.errors import UsageError

LIBRARIES = {
    "numpy": "xpnet.backends.numpy:NumPyBackend",
    "cupy": "xpnet.backends.cupy:CuPyBackend",
    "dpnp": "xpnet.backends.dpnp:DpnpBackend",
    "mlx": "xpnet.backends.mlx:MLXBackend",
    "torch": "xpnet.backends.torch:TorchBackend",
    "jax": "xpnet.backends.jax:JAXBackend",
    "array-api-strict": "xpnet.backends.array_api_strict:StrictBackend",
}
"""Where each library's backend is. The first that can drive a kind of device is that kind's default."""

KINDS = ("cpu", "cuda", "xpu", "mps")
"""The kinds of devices: NVIDIA's GPUs, Intel's, Apple's."""

MOST_THREADS = 4096
"""More are taken for a mistake."""

__all__ = [
    "EXECUTIONS",
    "KINDS",
    "LIBRARIES",
    "PRECISIONS",
    "Backend",
    "Execution",
    "backend_class",
    "get_backend",
    "owner",
]


def backend_class(name: str) -> type[Backend]:
    """The class behind a library's name. Imports our file, but not the library.

    Raises
    ------
    UsageError
        The name is not known.
    """
    if name not in LIBRARIES:
        raise UsageError(f"unknown backend {name!r}: choose one of {', '.join(LIBRARIES)}")
    module, _, attribute = LIBRARIES[name].partition(":")
    found: type[Backend] = getattr(importlib.import_module(module), attribute)
    return found


def get_backend(
    device: str | None = None,
    backend: str | None = None,
    *,
    threads: int | None = None,
    precision: str = "float32",
    execution: str = "auto",
) -> Backend:
    """Pick a library and a device. Nothing else is ever taken in their place.

    Parameters
    ----------
    device
        "cpu", "cuda" (NVIDIA), "xpu" (Intel) or "mps" (Apple); "cuda:1" for the second of them. By
        default the first kind that `backend` drives.
    backend
        A key of `LIBRARIES`. By default the first that drives `device`; without either, NumPy.
    threads
        Compute on so many CPU threads, in the whole process. By default the library decides.
    precision
        "float32", "tf32" or "bf16": how float32 matrix products are computed. All else stays float32.
    execution
        How steps run: "eager" (call by call), "captured" (recorded once and replayed) or "auto" (the best
        that the library has on the device).

    Raises
    ------
    UsageError
        An unknown name, a pair that cannot be, or `threads` out of range or off the CPU.
    XpnetError
        The library is not installed, the device is not there, or it has no such precision.
    """
    kind, index = _parse(device) if device is not None else (None, 0)
    if backend is None:
        backend = next(name for name in LIBRARIES if (kind or "cpu") in backend_class(name).kinds)
    cls = backend_class(backend)
    kind = kind or cls.kinds[0]
    if kind not in cls.kinds:
        able = ", ".join(name for name in LIBRARIES if kind in backend_class(name).kinds)
        raise UsageError(f"{backend} does not run on {kind}: for {kind} choose {able}")
    if threads is not None:
        if threads < 1:
            raise UsageError(f"threads must be 1 or more, not {threads}")
        if threads > MOST_THREADS:
            raise UsageError(f"threads {threads} is too many: {MOST_THREADS} is the most")
        if kind != "cpu":
            raise UsageError(f"threads applies to the CPU, not to {kind}")
        cls.set_threads(threads)
    return cls(kind, index, precision=precision, execution=execution)


def owner(array: Any) -> str | None:
    """The name of the library that an array belongs to, or None. Imports no library."""
    return next((name for name in LIBRARIES if backend_class(name).owns(array)), None)


def _parse(device: str) -> tuple[str, int]:
    kind, colon, index = device.partition(":")
    numbered = kind != "cpu" and index.isascii() and index.isdigit()
    if kind not in KINDS or (colon and not numbered):
        raise UsageError(f"unknown device {device!r}: choose cpu, cuda, cuda:N, xpu or mps")
    return kind, int(index or 0)
