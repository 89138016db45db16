"""Options that several commands share."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from xpnet.backends import LIBRARIES

Command = TypeVar("Command", bound=Callable[..., Any])


class Sizes(click.ParamType[tuple[int, ...]]):
    """Hidden sizes: `128`, or `512,512` for two layers."""

    name = "sizes"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Split at commas; every part a whole number, 1 or more."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.strip().isascii() and part.strip().isdigit() and int(part) >= 1 for part in parts):
            self.fail(f"{value!r} is not a list of sizes such as 128 or 512,512.", param, ctx)
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
