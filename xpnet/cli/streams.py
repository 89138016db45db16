"""Standard output and standard error: whatever happens to them, no result is lost and no run ends."""

import io
import os
import select
import sys
from typing import Any


class Stream(io.FileIO):
    """The bytes of a standard stream. After the first error of the system, what is written is dropped.

    Attributes
    ----------
    error
        The error: the reader has gone, or the disk is full.
    """

    error: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write some bytes; in a stream that is set not to block, wait until there is room."""
        try:
            while self.error is None:
                written = super().write(content)
                if written is not None:
                    return written
                select.select([], [self], [])
        except OSError as error:
            self.error = error
        return memoryview(content).nbytes


def repair() -> None:
    """Let both streams survive a missing reader, a full disk, and characters that they cannot encode."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by the caller, as by >&-
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif sys.platform == "win32":  # a console is no file there
            stream.reconfigure(errors="backslashreplace")
        else:
            buffer = io.BufferedWriter(Stream(stream.fileno(), "w", closefd=False))
            text = io.TextIOWrapper(buffer, stream.encoding, "backslashreplace", line_buffering=True)
            setattr(sys, name, text)


def flush_output() -> OSError | None:
    """Write out what standard output still holds, and tell what its first error was."""
    sys.stdout.flush()
    return getattr(getattr(sys.stdout.buffer, "raw", None), "error", None)
