"""Options that several commands share."""

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from xpnet.backends import EXECUTIONS, LIBRARIES, PRECISIONS

Command = TypeVar("Command", bound=Callable[..., Any])


MOST_UNITS = 2**31 - 1
"""More in a layer are taken for a mistake."""


def sizes(text: str) -> tuple[int, ...]:
    """Hidden sizes: `128`, or `512,512` for two layers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= MOST_UNITS for part in parts):
        raise click.BadParameter(f"{text!r} is not a list of sizes such as 128 or 512,512.")
    return tuple(int(part) for part in parts)


MOST_BYTES = 2**60
"""More are taken for a mistake."""

UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def number_of_bytes(text: str) -> int:
    """Bytes: `4GB`, `512M`, `1000000`. A kilobyte is 1,024 bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?)B?", text.strip(), re.ASCII | re.IGNORECASE)
    if found is None:
        raise click.BadParameter(f"{text!r} is not an amount of memory such as 512MB or 4GB.")
    amount = float(found[1]) * UNITS[found[2].upper()]
    if not 1 <= amount < MOST_BYTES:
        raise click.BadParameter(f"{text} is not between 1 byte and {MOST_BYTES // UNITS['T']:,} TB.")
    return int(amount)


def memory_option(command: Command) -> Command:
    """`--memory`."""
    return click.option(
        "--memory",
        type=number_of_bytes,
        metavar="SIZE",
        help="Stream rows that need more than this, say 4GB, from uncompressed IDX or .npy files.",
    )(command)


def data_option(command: Command) -> Command:
    """`--data`."""
    return click.option(
        "--data",
        default="mnist",
        show_default=True,
        metavar="mnist|PATH",
        help="The embedded MNIST, a folder of IDX files, or x_train, y_train, x_test, y_test "
        "in one .npz or in a folder of .npy files.",
    )(command)


def device_option(command: Command) -> Command:
    """`--device`."""
    return click.option(
        "--device",
        metavar="cpu|cuda|cuda:N|xpu|mps",
        help="Where to compute. By default where the library does first.",
    )(command)


def precision_option(command: Command) -> Command:
    """`--precision`."""
    return click.option(
        "--precision",
        type=click.Choice(list(PRECISIONS)),
        default="float32",
        show_default=True,
        help="Of float32 matrix products: tf32 and bf16 round their factors, not their sums.",
    )(command)


def execution_option(command: Command) -> Command:
    """`--execution`."""
    return click.option(
        "--execution",
        type=click.Choice(EXECUTIONS),
        default="auto",
        show_default=True,
        help="Run a step call by call, or record it once and replay it; auto takes the best that is there.",
    )(command)


def place_options(command: Command) -> Command:
    """`--device`, `--backend`, `--precision`, `--execution` and `--threads`."""
    for option in (
        click.option("--threads", type=int, metavar="N", help="CPU threads. By default the library decides."),
        execution_option,
        precision_option,
        click.option(
            "--backend",
            metavar="NAME",
            help=f"Array library: {', '.join(LIBRARIES)}. By default the first that drives the device.",
        ),
        device_option,
    ):
        command = option(command)
    return command
