"""Checks the description of a file, in JSON, against the kinds of values that it may hold."""

import sys
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeAlias

from xpnet.arguments import brief
from xpnet.errors import XpnetError

Kind: TypeAlias = Any
"""A kind of value: a type (float stands for any finite number), a union of types, a range of whole numbers, a
list of one kind (for a list of any length), a tuple of kinds (for any of them), or the value itself."""

WHOLE = range(1, 2**63)
"""Whole numbers of 1 or more."""


def check(found: object, fields: Mapping[str, Kind], what: str) -> None:
    """Check that an object has some fields, each of its kind. It may have others.

    Parameters
    ----------
    found
        The description, as JSON was read.
    what
        The name of the file, with which the message begins.

    Raises
    ------
    XpnetError
        It is no object, or a field is missing or of another kind. The message quotes little of it.
    """
    if not isinstance(found, dict):
        raise XpnetError(f"{what}: its description is {brief(found)}, which is not an object")
    for name, kind in fields.items():
        if name not in found:
            raise XpnetError(f"{what}: its description has no {name}")
        if not _is(found[name], kind):
            expected = f", not {kind!r}" if isinstance(kind, str | int) else ""
            unexpected = f"an unexpected {name}: {brief(found[name])}{expected}"
            raise XpnetError(f"{what}: its description has {unexpected}")


def _is(value: Any, kind: Kind) -> bool:
    if isinstance(kind, tuple | UnionType):
        return any(_is(value, one) for one in (kind if isinstance(kind, tuple) else kind.__args__))
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is(entry, kind[0]) for entry in value)
    if isinstance(kind, range):
        return type(value) is int and value in kind
    if kind is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return type(value) is kind if isinstance(kind, type) else type(value) is type(kind) and value == kind
