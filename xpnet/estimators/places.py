"""Where arrays are: the library and the device that rows bring along, and the way to the host."""

from functools import cache
from typing import Any

import numpy as np

from xpnet.arrays import dtype_name
from xpnet.backends import Backend, backend_class, get_backend, owner


@cache
def _made(name: str, kind: str, index: int, precision: str, execution: str, alone: bool = False) -> Backend:
    """One backend for all fits, because it keeps what it has compiled."""
    return backend_class(name)(kind, index, precision=precision, execution=execution, alone=alone)


def asked(device: str | None, backend: str | Backend | None) -> Backend:
    """The backend of the parameters `device` and `backend`; NumPy on the CPU where neither is given."""
    if isinstance(backend, Backend):
        found = backend
    elif (device, backend) == (None, None):
        return _made("numpy", "cpu", 0, "float32", "auto")
    else:
        found = get_backend(device, backend)
    options = found.precision, found.execution.asked, found.alone
    return _made(found.name, found.kind, found.index, *options)


def home(array: Any) -> Backend | None:
    """The backend of the library and the device that an array belongs to; None for the host's arrays."""
    if isinstance(array, np.ndarray) or (name := owner(array)) in (None, "numpy"):
        return None
    kind, _, index = backend_class(name).device_of(array).partition(":")
    return _made(name, kind, int(index or 0), "float32", "auto")


def place(backend: Backend | None) -> str:
    """What to call a place in a message."""
    return "the host" if backend is None else f"{backend.name} on {backend.device}"


def same(one: Backend, other: Backend) -> bool:
    """Whether two backends are one library on one device."""
    return (one.name, one.device) == (other.name, other.device)


def opened(array: Any) -> Any:
    """Take arrays and frames that belong to none of our libraries, and share the memory of those on a GPU."""
    if isinstance(array, np.ndarray) or owner(array) is not None:
        return array
    if hasattr(array, "to_cupy"):  # a frame of cuDF
        return array.to_cupy()
    if hasattr(array, "__cuda_array_interface__"):
        return get_backend("cuda").module.asarray(array)
    if hasattr(array, "__dlpack_device__") and not hasattr(array, "__array__"):
        kind, index = array.__dlpack_device__()
        return np.from_dlpack(array) if kind == 1 else get_backend(f"cuda:{index}").xp.from_dlpack(array)
    return array


def on_host(array: Any) -> Any:
    """Bring an array of any library to the host, as NumPy's; what is on the host stays as it is."""
    array = opened(array)
    there = home(array)
    if there is None:
        return array
    if dtype_name(array) == "bfloat16":  # which NumPy does not have
        array = there.xp.astype(array, there.xp.float32)
    return np.asarray(there.to_numpy(array))
