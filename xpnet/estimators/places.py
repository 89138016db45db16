"""Where arrays are: the library and the device that rows bring along, and the way to the host."""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse

from xpnet.arrays import dtype_name
from xpnet.backends import Backend, backend_class, get_backend, owner
from xpnet.errors import UsageError
from xpnet.model import backend_of


@cache
def _made(name: str, kind: str, index: int, precision: str, execution: str, alone: bool = False) -> Backend:
    """One backend for all fits, because it keeps what it has compiled."""
    return backend_class(name)(kind, index, precision=precision, execution=execution, alone=alone)


def asked(device: str | None, backend: str | Backend | None, home: Backend | None = None) -> Backend:
    """The backend of the parameters `device` and `backend`; where neither is given, `home` or NumPy."""
    if home is not None and (device, backend) == (None, None):
        return home
    found = backend_of(device, backend)
    options = found.precision, found.execution.asked, found.alone
    return _made(found.name, found.kind, found.index, *options)


def place(backend: Backend | None) -> str:
    """What to call a place: a library and its device, or the host."""
    return "the host" if backend is None or backend.name == "numpy" else f"{backend.name} on {backend.device}"


class Opened(NamedTuple):
    """What a user gave; as an array of a library; and the backend of that, or None for the host."""

    given: Any
    array: Any
    home: Backend | None


def opened(given: Any) -> Opened:
    """Tell where an array is. What is none of our libraries' becomes CuPy's if it is on a GPU.

    It shares the memory of what was given; only a frame of cuDF is copied, because its columns lie apart.

    Raises
    ------
    UsageError
        The rows are sparse, and not SciPy's.
    """
    array = given
    if owner(array) is None:
        if hasattr(array, "to_cupy"):  # a frame of cuDF
            array = array.to_cupy()
        elif hasattr(array, "__cuda_array_interface__"):
            array = get_backend("cuda").module.asarray(array)
        elif hasattr(array, "__dlpack_device__") and not hasattr(array, "__array__"):
            kind, index = array.__dlpack_device__()
            array = np.from_dlpack(array) if kind == 1 else get_backend(f"cuda:{index}").xp.from_dlpack(array)
        elif hasattr(array, "toarray") and not issparse(array):
            raise UsageError(f"X is sparse, a {type(array).__name__}: give X.toarray()")
    if (name := owner(array)) in (None, "numpy"):
        return Opened(given, array, None)
    kind, _, index = backend_class(name).device_of(array).partition(":")
    return Opened(given, array, _made(name, kind, int(index or 0), "float32", "auto"))


def on_host(array: Any) -> Any:
    """Bring targets or weights of any library to the host; what is there stays as it is."""
    if hasattr(array, "to_cupy"):  # a frame of cuDF, which may hold strings, as CuPy may not
        return array.to_pandas()
    _, array, there = opened(array)
    if there is None:
        return array
    if dtype_name(array) == "bfloat16":  # which NumPy does not have
        array = there.xp.astype(array, there.xp.float32)
    return np.asarray(there.to_numpy(array))
