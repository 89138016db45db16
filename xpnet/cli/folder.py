"""The folder of a run: a new one, or one to go on in, and never two runs in one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from xpnet.errors import XpnetError

RUNS = Path("runs")


def refuse_used(folder: Path) -> None:
    """Refuse a folder that holds anything, so that no run is written over."""
    if folder.exists() and not folder.is_dir():
        raise XpnetError(f"{folder}: not a folder")
    if folder.is_dir() and any(not path.name.endswith(".partial") for path in folder.iterdir()):
        raise XpnetError(
            f"{folder}: the folder is in use; name a new one, or add --resume to go on with its run"
        )


def new_folder() -> Path:
    """Make the first of runs/001, runs/002, … that is free; two runs that begin together get two."""
    try:
        RUNS.mkdir(exist_ok=True)
        for folder in (RUNS / f"{number:03}" for number in count(1)):
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            return folder
    except OSError as error:
        raise XpnetError(f"{RUNS}: cannot be written: {error.strerror}") from error
    raise AssertionError("count has no end")


@contextmanager
def claimed(folder: Path, *, ours: bool) -> Iterator[None]:
    """Hold a folder against other processes; leave none of ours behind that stayed empty.

    The system lets go of the lock when the process ends, however it ends.

    Parameters
    ----------
    ours
        Whether this run made the folder, or is to make it.

    Raises
    ------
    XpnetError
        It cannot be made, or another run holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise XpnetError(f"{folder}: cannot be written: {error.strerror}") from error
    handle = _lock(folder)
    try:
        yield
    finally:
        if handle is not None:
            os.close(handle)
        for made in (folder, RUNS):
            if ours and made.is_dir() and not any(made.iterdir()):
                made.rmdir()


def _lock(folder: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise XpnetError(f"{folder}: another run is going on in this folder") from error
    return handle
