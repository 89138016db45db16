"""The types in the signatures. The Array API standard provides none to import."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of the library ``xp``."""

Namespace: TypeAlias = Any
"""A module with the functions of the Array API standard (2024.12), or an object that works like one."""

State: TypeAlias = dict[str, Array]
"""Arrays by name: the parameters ``W1, b1, …`` and everything else that changes from step to step."""
