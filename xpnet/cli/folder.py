"""The folder of a run: a new one, or that of a run to resume, and never of two runs at once."""

import errno
import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from xpnet.cli.signals import last_words
from xpnet.errors import XpnetError

RUNS = Path("runs")
CHECKPOINT, MODEL, HISTORY = "checkpoint.safetensors", "model.safetensors", "history.csv"
PARTIAL = ".*.partial"
"""Files that were being written when a process ended."""


def resume_command(folder: Path) -> str:
    """The command that resumes the run in a folder."""
    return f"xpnet train --resume --out {shlex.quote(str(folder))}"


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds anything, so that no run is overwritten."""
    if folder.exists() and not folder.is_dir():
        raise XpnetError(f"{folder}: not a folder")
    if folder.is_dir() and any(not path.match(PARTIAL) for path in folder.iterdir()):
        hint = "name a new one, or add --resume to resume its run"
        raise XpnetError(f"{folder}: the folder is in use; {hint}")


def refuse_vanished(folder: Path) -> None:
    """Refuse to write into the folder of a run once somebody has removed it."""
    if not folder.is_dir():
        raise XpnetError(f"{folder}: the folder of this run has been removed")


@contextmanager
def claimed(folder: Path | None, *, resume: bool) -> Iterator[Path]:
    """Hold the folder of a run against other processes: the given one, or the first free one of runs/001, …

    The system releases the lock when the process ends, however it ends. At the end of the block, and when a
    signal ends the process within it, unfinished files are removed, and so are folders that were made here
    and are still empty.

    Raises
    ------
    XpnetError
        The folder holds something although no run is to be resumed, or another run holds it.
    OSError
        The folder cannot be made.
    """
    made: list[Path] = []
    held: Path | None = None
    lock: int | None = None

    def tidy() -> None:
        with suppress(OSError):
            for path in held.glob(PARTIAL) if held else ():
                path.unlink(missing_ok=True)
        for path in reversed(made):
            with suppress(OSError):  # it holds something
                path.rmdir()

    def stopped() -> str:
        tidy()
        if held is None or not (held / CHECKPOINT).exists():
            return ""
        return f"xpnet: stopped; resume with: {resume_command(held)}\n"

    with last_words(stopped):
        try:
            folder = _new_run(made) if folder is None else _make(folder, made)
            lock = _lock(folder)
            held = folder
            if not resume:
                refuse_used(folder)  # again, now that nobody else can write into it
            yield folder
        finally:
            tidy()
            if lock is not None:
                os.close(lock)


def _make(folder: Path, made: list[Path]) -> Path:
    """Make a folder and its parents, and note which of them were not there."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(exist_ok=True)
            made.append(path)
    return folder


def _new_run(made: list[Path]) -> Path:
    """Make the first folder of runs/001, runs/002, … that is not there."""
    _make(RUNS, made)
    for number in count(1):
        folder = RUNS / f"{number:03}"
        with suppress(FileExistsError):
            folder.mkdir()
            made.append(folder)
            break
    return folder


def _lock(folder: Path) -> int | None:
    """Lock a folder; the answer is None on a system, or a file system, that has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise XpnetError(f"{folder}: another run is going on in this folder") from error
    except OSError:
        os.close(handle)
        return None
    return handle


def append_line(path: Path, line: str) -> None:
    """Append a line to a file that is there: all of it or, if the disk is full, nothing.

    Raises
    ------
    XpnetError
        The file is not there, or cannot be written.
    """
    content = line.encode()
    try:
        with path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(content) < len(content):
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise XpnetError(f"{path}: cannot be written: {error.strerror}") from error
