"""`xpnet report`."""

import shlex
from pathlib import Path

import click

from xpnet.cli.options import Command, option
from xpnet.cli.tables import print_table
from xpnet.page import report

GROUPS = {
    "Output": (
        option("--out", "The file.  [default: report.html in the folder of the run]", metavar="FILE"),
        option("--open opened", "Open the page in the browser.", is_flag=True),
    )
}


@click.command("report", cls=Command, groups=GROUPS, short_help="Write a page that shows what a run learned.")
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
def report_command(run: Path, out: str | None, opened: bool) -> None:
    """Write a page that shows what a run learned, where it fails, and a board to draw on.

    RUN is the folder of a run. The page is one HTML file, which loads nothing and needs no server.
    """
    print_table([("report", str(report(run, out=out, open=opened)))])


def command_of(folder: Path) -> str:
    """The command that writes and opens the page of the run in a folder."""
    return f"xpnet report {shlex.quote(str(folder))} --open"
