"""What a file says about itself in JSON, checked against what it may say."""

import sys
from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeAlias

from xpnet.arguments import brief
from xpnet.errors import XpnetError

Kind: TypeAlias = Any
"""What a value may be: a type (float means any finite number), a union of types, a range of whole numbers, a
list of one kind for a list of any length, a tuple of kinds for any of them, or the value itself."""

WHOLE = range(1, 2**63)
"""Whole numbers of 1 or more."""


def check(found: object, fields: Mapping[str, Kind], what: str) -> None:
    """Check that an object has some fields, each of its kind. It may have others.

    Parameters
    ----------
    found
        What JSON was read as.
    what
        Whose description this is: begins the message.

    Raises
    ------
    XpnetError
        It is no object, or a field is missing or of another kind; the message quotes a short piece of it.
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
