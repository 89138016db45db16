"""The folder of a run: a new one, or one to go on in, and never two runs in one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from xpnet.errors import XpnetError

RUNS = Path("runs")


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds anything, so that no run is written over."""
    try:
        if folder.exists() and not folder.is_dir():
            raise XpnetError(f"{folder}: not a folder")
        used = folder.is_dir() and any(not path.name.endswith(".partial") for path in folder.iterdir())
    except OSError as error:
        raise XpnetError(f"{folder}: cannot be read: {error.strerror}") from error
    if used:
        hint = "name a new one, or add --resume to go on with its run"
        raise XpnetError(f"{folder}: the folder is in use; {hint}")


@contextmanager
def claimed(folder: Path | None, *, resume: bool) -> Iterator[Path]:
    """Hold the folder of a run against other processes: the one given, or the first free of runs/001, …

    The system lets go of the lock when the process ends, however it ends. Folders that were made here and
    stayed empty are removed again.

    Raises
    ------
    XpnetError
        It cannot be made, holds something although this is no resumption, or another run holds it.
    """
    made: list[Path] = []
    try:
        if folder is None:
            _make(RUNS, made)
            for folder in (RUNS / f"{number:03}" for number in count(1)):
                with suppress(FileExistsError):
                    folder.mkdir()
                    made.append(folder)
                    break
        else:
            _make(folder, made)
        assert folder is not None
        handle = _lock(folder)
    except OSError as error:
        raise XpnetError(f"{folder or RUNS}: cannot be written: {error.strerror}") from error
    try:
        if not resume:
            refuse_used(folder)  # again, now that nobody else can write into it
        yield folder
    finally:
        for path in reversed(made):
            with suppress(OSError):  # it holds something
                path.rmdir()
        if handle is not None:
            os.close(handle)


def _make(folder: Path, made: list[Path]) -> None:
    """Make a folder and its parents, and note which of them were not there."""
    for path in (*reversed(folder.parents), folder):
        if not path.exists():
            path.mkdir(exist_ok=True)
            made.append(path)


def _lock(folder: Path) -> int | None:
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
    except OSError:  # a file system without locks
        os.close(handle)
        return None
    return handle
