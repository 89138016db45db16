"""The command line: `xpnet train`, `xpnet evaluate`, `xpnet parity`, `xpnet info`.

Results go to standard output, progress and errors to standard error. The exit code is 0 after success, 2 if
the command line itself is wrong, 1 after any other failure, and 130 after Ctrl-C or SIGTERM.
"""

import signal
import sys

from xpnet.cli import signals


def main() -> None:
    """Run the command line and exit."""
    signals.handle(signals.stop)
    from xpnet.cli.commands import processes, run  # imports NumPy and more: signals are handled by then

    try:
        code = run()
    except BaseException as error:  # a bug; other processes would wait for this one
        if processes().size > 1:
            sys.stderr = sys.__stderr__
            sys.excepthook(type(error), error, error.__traceback__)
            processes().abort(1)
        raise
    signals.handle(signal.SIG_IGN)  # the command has ended, and its exit code is known
    sys.exit(code)
