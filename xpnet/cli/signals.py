"""Ctrl-C and SIGTERM end the process from within their handler.

The handler does not raise KeyboardInterrupt, because that could be raised anywhere: within an import, which
then reports another error, or within a destructor, where Python prints it and goes on. Every file that xpnet
writes is whole or not there, so nothing has to be unwound.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

EXIT_CODE = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)

DEAF = 1.0
"""Seconds after the first signal in which others are ignored. A later one ends the process at once."""

_last_words: Callable[[], str] = str
_stopped_at: float | None = None


def listen() -> None:
    """Handle both signals from now on, unless the parent process has set them to be ignored."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def ignore() -> None:
    """Ignore both signals from now on: the command has ended and its exit code is known."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def last_words(function: Callable[[], str]) -> Iterator[None]:
    """Within the block, call a function before a signal ends the process, and print the text it returns."""
    global _last_words
    before, _last_words = _last_words, function
    try:
        yield
    finally:
        _last_words = before


def _stop(number: int, frame: FrameType | None) -> None:
    global _stopped_at
    now = time.monotonic()
    if _stopped_at is not None and now - _stopped_at < DEAF:
        return
    if _stopped_at is None:
        _stopped_at = now
        text = f"{_last_words()}xpnet: error: interrupted\n"
        with suppress(OSError, AttributeError):  # standard error is full, closed, or was so from the start
            clear = "\r\x1b[2K" if sys.stderr.isatty() else ""
            # not by sys.stderr.write, in the middle of which this may have been called
            os.write(sys.stderr.fileno(), f"{clear}{text}".encode(sys.stderr.encoding, "backslashreplace"))
    os._exit(EXIT_CODE)
