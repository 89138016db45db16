"""The vocabulary of the signatures: the Array API has no importable types of its own."""

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""An array of whatever library ``xp`` is."""

Namespace: TypeAlias = Any
"""A module, or an object like one, with the functions of the Array API standard (2024.12)."""

State: TypeAlias = dict[str, Array]
"""Arrays by name: the parameters ``W1, b1, …`` and all else that changes from step to step."""
