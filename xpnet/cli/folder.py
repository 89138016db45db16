"""The folder of a run: a new one, or that of a run to resume, and never of two runs at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from xpnet.cli import signals
from xpnet.errors import XpnetError
from xpnet.runs import CHECKPOINT, resume_command

RUNS = Path("runs")

PARTIAL = ".*.partial"
"""Files that were being written when a process ended."""


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
        for path in made:
            with suppress(OSError):  # it holds something
                path.rmdir()

    def stopped() -> str:
        tidy()
        if held is None or not (held / CHECKPOINT).exists():
            return ""
        return f"xpnet: stopped; resume with: {resume_command(held)}\n"

    signals.last_words = stopped
    try:
        folder = _make(folder, made)
        lock = _lock(folder)
        held = folder
        if not resume and any(not path.match(PARTIAL) for path in folder.iterdir()):
            hint = "name a new one, or add --resume to resume its run"
            raise XpnetError(f"{folder}: the folder is in use; {hint}")
        yield folder
    finally:
        tidy()
        signals.last_words = str
        if lock is not None:
            os.close(lock)


def _make(folder: Path | None, made: list[Path]) -> Path:
    """Make a folder, or the first of runs/001, … that is not there; note what was made, the deepest first."""
    wanted = folder or RUNS
    if wanted.exists() and not wanted.is_dir():
        raise XpnetError(f"{wanted}: not a folder")
    made += [path for path in (wanted, *wanted.parents) if not path.exists()]
    wanted.mkdir(parents=True, exist_ok=True)
    for number in count(1) if folder is None else ():
        with suppress(FileExistsError):
            wanted = RUNS / f"{number:03}"
            wanted.mkdir()
            made.insert(0, wanted)
            break
    return wanted


def _lock(folder: Path) -> int | None:
    """Lock a folder until the answer is closed; None if the system or the file system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    lock = os.open(folder, os.O_RDONLY)
    with suppress(OSError):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise XpnetError(f"{folder}: another run is going on in this folder") from None
    return lock
