"""Ctrl-C and SIGTERM end the process from within their handler.

The handler does not raise KeyboardInterrupt, because that could be raised anywhere: within an import, which
then reports another error, or within a destructor, where Python prints it and goes on. Every file that xpnet
writes is whole or not there, so nothing has to be unwound.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

EXIT_CODE = 130

DEAF = 1.0
"""Seconds after the first signal in which others are ignored. A later one ends the process at once."""

last_words: Callable[[], str] = str
"""Is called before the process ends. The text that it returns is printed."""

delay = 0.0
"""Seconds from the first signal to the end. Of several processes the others go on for a while: the first may
be waiting for them within MPI, hears its own signal only afterwards, and has something to say."""

_stopped_at: float | None = None


def handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    """Set the handler of both signals, unless the parent process has set them to be ignored."""
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def stop(number: int, frame: FrameType | None) -> None:
    """End the process at the first signal, or at a later one that does not follow at once."""
    global _stopped_at
    now = time.monotonic()
    if _stopped_at is None:
        _stopped_at = now
        if delay:
            threading.Timer(delay, end).start()
        else:
            end()
    elif now - _stopped_at >= DEAF:
        os._exit(EXIT_CODE)


def end() -> None:
    """Say that the process was interrupted, and end it."""
    with suppress(OSError, AttributeError):  # standard error is full or closed
        clear = "\r\x1b[2K" if sys.stderr.isatty() else ""
        text = f"{clear}{last_words()}xpnet: error: interrupted\n"
        # not by sys.stderr.write, in the middle of which this may have been called
        os.write(sys.stderr.fileno(), text.encode(sys.stderr.encoding, "backslashreplace"))
    os._exit(EXIT_CODE)
