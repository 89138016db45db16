"""Checks of the arguments of public functions.

Every function returns the value, as a plain Python one, or raises a `UsageError` of one line that names the
argument.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from numbers import Integral, Real
from reprlib import Repr
from typing import Any

from xpnet.errors import UsageError

MOST = 2**31 - 1
"""The largest whole number that an argument may be."""

SHOWN = 60
"""Characters of a value that a message shows."""

SHORT = Repr()
SHORT.maxstring = SHORT.maxother = SHOWN


def brief(value: object) -> str:
    """Show a value in a message: its `repr`, on one line and cut off where it is long."""
    try:
        text = " ".join(SHORT.repr(value).split())  # which does not follow a list of millions, or without end
    except ValueError:  # Python writes no integer of thousands of digits
        text = f"a {type(value).__name__} of many digits"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def instance(name: str, value: object, kind: type | tuple[type, ...], what: str) -> None:
    """Check that a value is of a type; `what` names the type in the message: "an xpnet.Progress"."""
    if not isinstance(value, kind):
        raise UsageError(f"{name} must be {what}, not {brief(value)}")


def choice(name: str, value: Any, known: Iterable[str]) -> str:
    """Check that a value is one of some strings."""
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"{name} {brief(value)}: choose one of {', '.join(known)}")
    return value


def known_names(given: Iterable[str], known: Sequence[str], hints: Mapping[str, str] | None = None) -> None:
    """Check the names of keywords. An unknown one gets its hint, or else the known one that it resembles."""
    for name in given:
        if name not in known:
            close = ", ".join(get_close_matches(name, known, 1, cutoff=0.4) or known)
            hint = (hints or {}).get(name, f"did you mean {close}?")
            raise UsageError(f"unknown argument {brief(name)}: {hint}")


def flag(name: str, value: Any) -> bool:
    """Check that a value is True or False; NumPy's are accepted too."""
    if type(value).__name__ not in ("bool", "bool_") or value not in (True, False):
        raise UsageError(f"{name} must be True or False, not {brief(value)}")
    return bool(value)


def whole(name: str, value: Any, least: int, most: int = MOST) -> int:
    """Check that a value is a whole number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise UsageError(f"{name} must be a whole number, {least} or more, not {brief(value)}")
    if int(value) > most:
        raise UsageError(f"{name} {brief(value)} is too large: {most} is the most")
    return int(value)


def number(name: str, value: Any, said: str, holds: Callable[[float], bool]) -> float:
    """Check that a value is a number for which `holds` is true; `said` names the range in the message."""
    try:
        plain = float(value) if isinstance(value, Real) and not isinstance(value, bool) else float("nan")
    except OverflowError:
        plain = float("nan")
    if not holds(plain):
        raise UsageError(f"{name} must be {said}, not {brief(value)}")
    return plain
