"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from xpnet.backends import LIBRARIES

Command = TypeVar("Command", bound=Callable[..., Any])


MOST_UNITS = 2**31 - 1
"""More in a layer are taken for a mistake."""


def sizes(text: str) -> tuple[int, ...]:
    """Hidden sizes: `128`, or `512,512` for two layers."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and 1 <= int(part) <= MOST_UNITS for part in parts):
        raise click.BadParameter(f"{text!r} is not a list of sizes such as 128 or 512,512.")
    return tuple(int(part) for part in parts)


def data_option(command: Command) -> Command:
    """`--data`."""
    return click.option(
        "--data",
        default="mnist",
        show_default=True,
        metavar="mnist|PATH",
        help="The embedded MNIST, a folder of IDX files, or an .npz with x_train, y_train, x_test, y_test.",
    )(command)


def device_option(command: Command) -> Command:
    """`--device`."""
    return click.option(
        "--device",
        metavar="cpu|cuda|cuda:N|xpu|mps",
        help="Where to compute. By default where the library does first.",
    )(command)


def place_options(command: Command) -> Command:
    """`--device`, `--backend` and `--threads`."""
    for option in (
        click.option("--threads", type=int, metavar="N", help="CPU threads. By default the library decides."),
        click.option(
            "--backend",
            metavar="NAME",
            help=f"Array library: {', '.join(LIBRARIES)}. By default the first that drives the device.",
        ),
        device_option,
    ):
        command = option(command)
    return command
