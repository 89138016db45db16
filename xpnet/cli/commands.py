"""The commands together, and what happens when one of them fails."""

import errno
import os
import sys
import time
import warnings
from difflib import get_close_matches

import click

from xpnet import __version__
from xpnet.backends import Group, joined
from xpnet.cli import signals, streams
from xpnet.cli.evaluate import evaluate
from xpnet.cli.exchange import export_command, import_command
from xpnet.cli.info import info
from xpnet.cli.parity import parity
from xpnet.cli.predict import predict
from xpnet.cli.progress import say
from xpnet.cli.report import report_command
from xpnet.cli.show import show
from xpnet.cli.tables import printable
from xpnet.cli.train import train
from xpnet.errors import FellBackWarning, UsageError, XpnetError
from xpnet.training.settings import FOREIGN

LONGEST = 500
"""Characters of an error message; of a longer one the middle is left out."""

SHARED = ("train", "evaluate", "predict", "parity")
"""Commands that several processes carry out together; the others are left to the first."""

GRACE = 0.5
"""Seconds for which another process than the first waits before it ends all: the first may have met the same
error, or signal, and then it alone tells of it."""

OTHERS = {"device cpu": "cpu", "device cuda": "gpu cuda", "out": "output_dir", "threads": "jobs n_jobs"}
OURS = {other: ours for ours, others in (FOREIGN | OTHERS).items() for other in others.split()}
"""What other programs call our options, and how we do."""


class Commands(click.Group):
    """The group of commands. An unknown one is answered with the list of them."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Find a command by its name."""
        if cmd_name not in self.commands:
            hint = close(cmd_name, [*self.commands]) or f"The commands are {', '.join(self.commands)}."
            raise click.UsageError(f"No such command {cmd_name!r}. {hint}", ctx)
        return self.commands[cmd_name]


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="xpnet %(version)s")
def cli() -> None:
    """A neural network written from its mathematics, once, and run on any array library."""


for command in (train, evaluate, predict, report_command, show, export_command, import_command, parity, info):
    cli.add_command(command)


def run() -> int:
    """Run the command line.

    A known error is printed as one line; an unknown one is a bug, and is raised.

    Returns
    -------
    code
        The exit code of the process.
    """
    streams.repair()
    warnings.simplefilter("ignore", FellBackWarning)  # the closing table says it
    try:
        if joined().rank:  # the first process alone prints
            signals.delay = GRACE
            sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
            if not set(SHARED) & set(sys.argv[1:2]):
                return 0
        code = cli.main(prog_name="xpnet", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = error.exit_code
    except click.NoSuchOption as error:
        code = _fail(f"No such option {error.option_name!r}. {_meant(error)}", error.exit_code)
    except click.ClickException as error:
        code = _fail(error.format_message(), error.exit_code)
    except XpnetError as error:
        code = _fail(str(error), 2 if isinstance(error, UsageError) else 1)
    except MemoryError as error:
        code = _fail(f"not enough memory: {error}", 1)
    except OSError as error:
        code = _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), 1)
    lost = streams.flush_output()
    if lost and lost.errno != errno.EPIPE:
        return _fail(f"standard output: {lost.strerror}", 1)
    return 1 if lost else code


def _fail(message: str, code: int) -> int:
    text = " ".join(message.split())
    if len(text) > LONGEST:
        text = f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
    group = processes()
    if group.rank:
        time.sleep(GRACE * min(group.rank, 8))  # so that the next one hears of its end before it tells
        text, sys.stderr = f"process {group.rank} of {group.size}: {text}", sys.__stderr__
    say(f"xpnet: error: {printable(text)}")
    group.abort(code)  # the others would wait for this one
    return code


def processes() -> Group:
    """The processes that were started together; this one by itself if they do not find each other."""
    try:
        return joined()
    except XpnetError:
        return Group()


def _meant(error: click.NoSuchOption) -> str:
    """A hint to the option that was probably meant by an unknown one."""
    if not error.option_name.startswith("--"):
        return "Options are written in full, such as --help."
    word = error.option_name.replace("_", "-")
    known = [name for param in error.ctx.command.params for name in param.opts] if error.ctx else []
    ours = f"--{OURS.get(word[2:].replace('-', '_'), '').replace('_', '-')}"
    return f"Did you mean {ours}?" if ours.split()[0] in known else close(word, known)


def close(word: str, known: list[str]) -> str:
    """A hint to a known word that `word` abbreviates, extends or resembles; empty if there is none."""
    related = [other for other in known if other.startswith(word) or word.startswith(f"{other}-")]
    found = related or get_close_matches(word, known, 1, cutoff=0.75)
    return f"Did you mean {found[0]}?" if found else ""
