"""The array libraries that xpnet runs on, where their backends are, and which one an array belongs to."""

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from xpnet.arguments import choice

if TYPE_CHECKING:
    from xpnet.backends.base import Backend

LIBRARIES = {
    "numpy": "xpnet.backends.numpy:NumPyBackend",
    "cupy": "xpnet.backends.cupy:CuPyBackend",
    "dpnp": "xpnet.backends.dpnp:DpnpBackend",
    "mlx": "xpnet.backends.mlx:MLXBackend",
    "torch": "xpnet.backends.torch:TorchBackend",
    "jax": "xpnet.backends.jax:JAXBackend",
    "array-api-strict": "xpnet.backends.array_api_strict:StrictBackend",
}
"""The class of each library's backend. The first one that drives a kind of device is that kind's default."""

ROOTS = {name.replace("-", "_"): name for name in LIBRARIES}
"""The library by the package that its arrays come from."""


def backend_class(name: str) -> type["Backend"]:
    """Find the backend of a library. This imports our file, but not the library.

    Raises
    ------
    UsageError
        The name is not a key of `LIBRARIES`.
    """
    found: type[Backend] = resolve_name(LIBRARIES[choice("backend", name, LIBRARIES)])
    return found


def owner(array: Any) -> str | None:
    """The name of the library that an array belongs to, or None. This imports nothing."""
    roots = (base.__module__.partition(".")[0] for base in type(array).__mro__)
    return next((ROOTS[root] for root in roots if root in ROOTS), None)
