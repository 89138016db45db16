"""The array libraries that xpnet runs on, one file each, and how one of them is picked.

To add a library, write its file, a subclass of `Backend`, and name it in ``libraries.py``.
"""

from xpnet.arguments import brief, flag, whole
from xpnet.backends.base import EXECUTIONS as EXECUTIONS
from xpnet.backends.base import PRECISIONS as PRECISIONS
from xpnet.backends.base import Backend as Backend
from xpnet.backends.base import Execution as Execution
from xpnet.backends.libraries import LIBRARIES as LIBRARIES
from xpnet.backends.libraries import backend_class as backend_class
from xpnet.backends.libraries import owner as owner
from xpnet.backends.mpi import Group as Group
from xpnet.backends.mpi import joined as joined
from xpnet.errors import UsageError

KINDS = ("cpu", "cuda", "xpu", "mps")
"""The kinds of devices. The last three are the GPUs of NVIDIA, Intel and Apple."""

MOST_THREADS = 4096
"""A larger number of threads is taken for a mistake."""


def get_backend(
    device: str | None = None,
    backend: str | None = None,
    *,
    threads: int | None = None,
    precision: str = "float32",
    execution: str = "auto",
    alone: bool = False,
) -> Backend:
    """Pick a library and a device. Nothing else is ever used in their place.

    Parameters
    ----------
    device
        "cpu", "cuda" (NVIDIA), "xpu" (Intel) or "mps" (Apple); "cuda:1" is the second GPU of its kind.
        Default: the first kind that `backend` drives.
    backend
        A key of `LIBRARIES`. Default: the first one that drives `device`; NumPy if neither is given.
    threads
        The number of CPU threads to compute on, in the whole process. Default: the library decides.
    precision
        "float32", "tf32" or "bf16": how float32 matrix products are computed. All else stays float32.
    execution
        How steps run: "eager" (call by call), "captured" (recorded once and replayed) or "auto" (the best
        that the library has on the device).
    alone
        Train and evaluate in this process by itself, although MPI has started others with it. Otherwise all
        of them share out the rows, and each takes the GPU of its number on its machine, if `device` has none.

    Raises
    ------
    UsageError
        A name is unknown, the library does not drive the device, or `threads` is out of range or given for
        a GPU.
    XpnetError
        The library is not installed, the device is missing, or it does not have the precision.
    """
    kind, index = _parse(device) if device is not None else (None, None)
    if backend is None:
        backend = next(name for name in LIBRARIES if (kind or "cpu") in backend_class(name).kinds)
    cls = backend_class(backend)
    kind = kind or cls.kinds[0]
    if kind not in cls.kinds:
        able = ", ".join(name for name in LIBRARIES if kind in backend_class(name).kinds)
        raise UsageError(f"{backend} does not run on {kind}: for {kind} choose {able}")
    if threads is not None:
        threads = whole("threads", threads, 1, MOST_THREADS)
        if kind != "cpu":
            raise UsageError(f"threads applies to the CPU, not to {kind}")
        cls.set_threads(threads)
    if index is None:
        several = kind != "cpu" and not alone and joined().size > 1
        index = joined().local_rank % max(1, len([d for d in cls.devices() if d != "cpu"])) if several else 0
    return cls(kind, index, precision=precision, execution=execution, alone=flag("alone", alone))


def _parse(device: str) -> tuple[str, int | None]:
    kind, colon, index = device.partition(":") if isinstance(device, str) else ("", "", "")
    numbered = kind != "cpu" and index.isascii() and index.isdigit() and len(index) <= 4
    if kind not in KINDS or (colon and not numbered):
        raise UsageError(f"unknown device {brief(device)}: choose cpu, cuda, cuda:N, xpu or mps")
    return kind, int(index) if index else None
