"""The terminal face: `xpnet train`, `xpnet evaluate`, `xpnet parity`, `xpnet info`.

Results go to standard output, progress and errors to standard error. Exit codes: 0, 2 for a command line that
cannot be meant, 1 for a world that does not allow it, 130 after Ctrl-C or SIGTERM.
"""

import errno
import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from xpnet import __version__
from xpnet.cli.evaluate import evaluate
from xpnet.cli.info import info
from xpnet.cli.parity import parity
from xpnet.cli.train import train
from xpnet.errors import FellBackWarning, UsageError, XpnetError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="xpnet %(version)s")
def cli() -> None:
    """A neural network written from its mathematics, once, and run on any array library."""


for command in (train, evaluate, parity, info):
    cli.add_command(command)


def main() -> NoReturn:
    """Run the command line and exit.

    A known error is one line; an unknown one is a bug, and shows its traceback.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    warnings.simplefilter("ignore", FellBackWarning)  # the closing table says it
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller, as by >&-
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
    try:
        code = cli.main(prog_name="xpnet", standalone_mode=False) or 0
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except XpnetError as error:
        code = _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except (KeyboardInterrupt, click.Abort):
        code = _fail("interrupted", 130)
    except MemoryError as error:
        code = _fail(f"not enough memory: {error}", 1)
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.ENOSPC, errno.EIO) or error.filename is not None:
            raise
        # whoever read us has gone, or its disk is full; Python must not complain when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1 if isinstance(error, BrokenPipeError) else _fail(f"standard output: {error.strerror}", 1)
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    click.echo(f"xpnet: error: {' '.join(message.split())}", err=True)
    return code


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
