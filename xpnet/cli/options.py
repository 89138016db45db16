"""Commands whose options stand under headings, and the options that several commands share."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from math import isfinite
from typing import Any

import click

from xpnet.backends import EXECUTIONS, LIBRARIES, PRECISIONS, Backend, get_backend, joined
from xpnet.errors import XpnetError
from xpnet.nn.activations import ACTIVATIONS

MOST_UNITS = 2**31 - 1
"""A layer with more is refused as a mistake."""

MOST_BYTES = 2**60
"""More memory is refused as a mistake."""

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Command(click.Command):
    """A command that shows its options under headings.

    Parameters
    ----------
    groups
        The options under each heading.
    """

    def __init__(self, *args: Any, groups: Mapping[str, Iterable[click.Option]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.groups = groups
        self.params += [option for options in groups.values() for option in options]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options under their headings."""
        for heading, options in {**self.groups, "Help": [self.get_help_option(ctx)]}.items():
            with formatter.section(heading):
                formatter.write_dl([option.get_help_record(ctx) or ("", "") for option in options if option])


def option(name: str, text: str = "", kind: Any = None, default: Any = None, **settings: Any) -> click.Option:
    """Make an option.

    Parameters
    ----------
    name
        ``"--json"``, or ``"--json as_json"`` where the parameter has another name.
    text
        The help.
    kind
        A type, a function that converts a text, or the values to choose from.
    default
        Is shown in the help, unless it is None.
    """
    if isinstance(kind, tuple | dict):
        kind = click.Choice(list(kind))
    if default is not None:
        settings |= {"default": default, "show_default": True}
    elif "/" in name:  # a flag that may be left open
        settings["default"] = None
    return click.Option(name.split(), type=kind, help=text, **settings)


def sizes(text: str) -> tuple[int, ...]:
    """Hidden sizes: `128`, or `512,512` for two layers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch("[1-9][0-9]{0,9}", part) and int(part) <= MOST_UNITS for part in parts):
        raise click.BadParameter(f"{text!r} is not a list of sizes such as 128 or 512,512.")
    return tuple(map(int, parts))


def amount(text: str) -> int:
    """Bytes: `4GB`, `512M`, `1000000`. A kilobyte has 1,024 bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)B?", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise click.BadParameter(f"{text!r} is not an amount of memory such as 512MB or 4GB.")
    bytes_ = float(found[1]) * UNITS[found[2].upper()]
    if not 1 <= bytes_ < MOST_BYTES:
        raise click.BadParameter(f"{text} is not between 1 byte and {MOST_BYTES // UNITS['T']:,} TB.")
    return int(bytes_)


def names(text: str) -> str | list[str]:
    """Activations: `relu` for all hidden layers, or `relu,tanh` for two."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if part not in ACTIVATIONS:
            raise click.BadParameter(f"{part!r} is not one of {', '.join(map(repr, ACTIVATIONS))}.")
    return parts if len(parts) > 1 else parts[0]


def rates(text: str) -> tuple[float, ...]:
    """Rates of dropout: `0.2` for the hidden layers, `0.1,0.5` for the input and the hidden layers."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a list of rates such as 0.2 or 0.1,0.5.") from None


def columns(text: str) -> tuple[str, ...]:
    """Names of columns: `colour`, or `colour,shape` for two."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def picture(text: str) -> tuple[int, int]:
    """Width and height of a picture: `28x28`, or `28` for both."""
    found = re.fullmatch("([1-9][0-9]{0,4})(?:x([1-9][0-9]{0,4}))?", text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a size such as 28x28.")
    return int(found[1]), int(found[2] or found[1])


def class_weights(text: str) -> str | dict[str, float]:
    """Weights of classes: `balanced`, or `0=1,1=5` for two classes; the others weigh 1."""
    if text == "balanced":
        return text
    pairs = [part.rpartition("=") for part in text.split(",")]
    try:
        weights = {name.strip(): float(weight) for name, _, weight in pairs}
        if len(weights) == len(pairs) and all(weights) and all(map(isfinite, weights.values())):
            return weights
        raise ValueError
    except ValueError:
        raise click.BadParameter(f"{text!r} is neither balanced nor weights such as 0=1,1=5.") from None


def backend_of(threads: int | None = None, **place: Any) -> Backend:
    """Get the backend that options name. Processes of one machine share out its cores."""
    local = joined().local_size
    if threads is None and local > 1:
        share = max(1, (os.cpu_count() or 1) // local)
        with suppress(XpnetError):  # there are no threads to set on a GPU, nor in every library
            return get_backend(threads=share, **place)
    return get_backend(threads=threads, **place)


MEMORY = option(
    "--memory",
    "Stream rows that need more, such as 4GB or 512M (1K is 1,024 bytes).",
    amount,
)
DEVICE = option(
    "--device", "Where to compute.  [default: the backend's first device]", metavar="cpu|cuda|cuda:N|xpu|mps"
)
BACKEND = option("--backend", f"{', '.join(LIBRARIES)}.  [default: the first for the device]", metavar="NAME")
THREADS = option("--threads", "CPU threads.  [default: the library decides]", int)
PRECISION = option("--precision", "Precision of the factors of float32 products.", PRECISIONS, "float32")
EXECUTION = option("--execution", "Run a step call by call, or record and replay it.", EXECUTIONS, "auto")
JSON = option("--json as_json", "Print JSON, for a program.", is_flag=True)
PLACE = (DEVICE, BACKEND, THREADS, PRECISION, EXECUTION)
