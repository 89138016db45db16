"""`xpnet` as a user runs it, within these tests or in a process of its own, and small data sets for it."""

import gzip
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any
from warnings import catch_warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import xpnet
from xpnet.backends import LIBRARIES, backend_class
from xpnet.cli import commands
from xpnet.data.idx import NAMES

PATIENCE = 120.0
"""Seconds after which a process is taken to hang."""

LOOKS = ("COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Variables of the environment that change how an output looks."""

TYPES = {"uint8": 0x08, "int16": 0x0B, "float32": 0x0D}


@dataclass(frozen=True)
class Ended:
    """The exit code of a process that has ended, and what it wrote."""

    code: int
    out: str
    err: str


def command(*arguments: str, before: str = "") -> list[str]:
    """The command line of a process. `before` is Python code that runs in it first.

    Raises
    ------
    ModuleNotFoundError
        The arguments name a library that is not installed; see `tests.conftest` for what follows.
    """
    asked = {"cupy" if text.startswith("cuda") else text for text in arguments}
    for name in asked.intersection(LIBRARIES) if not before else ():
        root = backend_class(name).library.partition(".")[0]
        if find_spec(root) is None:
            raise ModuleNotFoundError(f"{name} is not installed", name=root)
    if before:
        code = f"{before}\nfrom xpnet.cli import main\nmain()"
        return [sys.executable, "-c", code, *arguments]
    return [sys.executable, "-m", "xpnet", *arguments]


def environment(path: Path | None = None, **extra: str) -> dict[str, str]:
    """This process's environment, without the variables above.

    It finds the package under test from any folder. `path` is searched before it.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    for name in LOOKS:
        kept.pop(name, None)
    folders = [*([path] if path else []), Path(xpnet.__file__).parents[1]]
    return kept | {"PYTHONPATH": os.pathsep.join(map(str, folders)), "PYTHONUTF8": "1"} | extra


def wait(arguments: list[str], folder: Path | None = None, path: Path | None = None) -> Ended:
    """Run a command line and wait for its end."""
    ended = subprocess.run(
        arguments,
        cwd=folder,
        env=environment(path),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)


def run(folder: Path, *arguments: str, before: str = "", path: Path | None = None) -> Ended:
    """Run `xpnet` in a folder and wait for its end.

    It runs within this process, as all but its first lines could in any, which saves the start of another;
    in one of its own where something is to be done before, or another path searched. See also `start`.
    """
    line = command(*arguments, before=before)
    if before or path:
        return wait(line, folder, path)
    with (
        TemporaryFile("w+", encoding="utf-8") as out,
        TemporaryFile("w+", encoding="utf-8") as err,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["xpnet", *arguments])
        for name in LOOKS:
            patch.delenv(name, raising=False)
        with chdir(folder), redirect_stdout(out), redirect_stderr(err), catch_warnings(), threadpool_limits():
            code = commands.run()
        for stream in (out, err):
            stream.seek(0)
        return Ended(code, out.read(), err.read())


def python(code: str) -> str:
    """Run code in a new Python process, with warnings as errors. Returns what it printed."""
    ended = wait([sys.executable, "-W", "error", "-c", code])
    assert ended.code == 0, ended.err
    return ended.out


def without(*modules: str) -> str:
    """Python code for `before` that makes modules look as if they were not installed."""
    return f"""
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {modules}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
"""


def succeed(folder: Path, *arguments: str) -> Ended:
    """Run `xpnet`, which must succeed."""
    ended = run(folder, *arguments)
    assert ended.code == 0, ended.err
    return ended


def start(
    folder: Path,
    *arguments: str,
    before: str = "",
    interrupts: Any = signal.default_int_handler,
    **options: Any,
) -> subprocess.Popen[bytes]:
    """Start `xpnet` in a folder.

    Its output is discarded unless the options of Popen say otherwise. It reacts to Ctrl-C even if these tests
    run in the background of a shell, unless `interrupts` is SIG_IGN.
    """
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    settings: dict[str, Any] = {"env": environment()} | streams | options
    earlier = signal.signal(signal.SIGINT, interrupts)  # a new process inherits SIG_IGN, and nothing else
    try:
        process: subprocess.Popen[bytes] = subprocess.Popen(
            command(*arguments, before=before), cwd=folder, **settings
        )
    finally:
        signal.signal(signal.SIGINT, earlier)
    return process


def on_terminal(folder: Path, *arguments: str, columns: int, stream: str = "stdout") -> tuple[int, str]:
    """Run `xpnet` with one stream on a terminal of a width. Returns its exit code and what was to be seen."""
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, columns))
    settings: dict[str, Any] = {"env": environment(TERM="xterm-256color"), stream: end}
    seen = b""
    with start(folder, *arguments, **settings) as process:
        os.close(end)
        with suppress(OSError):  # is how Linux reports the end
            while part := os.read(terminal, 65536):
                seen += part
    os.close(terminal)
    return process.returncode, seen.decode().replace("\r\n", "\n")


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    """Wait until a running process has brought something about."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, f"ended with {process.returncode} too early"
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)


def small_data(
    rows: int = 300, test_rows: int = 60, features: int = 8, classes: int = 3
) -> dict[str, np.ndarray]:
    """Draw rows of bytes around one point for each class, so scattered that no network is always right."""
    rng = np.random.default_rng(7)
    centres = rng.uniform(80, 175, (classes, features))
    arrays: dict[str, np.ndarray] = {}
    for part, count in (("train", rows), ("test", test_rows)):
        y = np.arange(count) % classes
        X = centres[y] + rng.normal(0, 40, (count, features))
        arrays |= {f"x_{part}": X.clip(0, 255).astype(np.uint8), f"y_{part}": y.astype(np.uint8)}
    return arrays


def write_npz(path: Path, arrays: Mapping[str, Any]) -> Path:
    """Write a data set as one ``.npz`` file."""
    np.savez(path, **arrays)
    return path


def idx(array: np.ndarray) -> bytes:
    """An array in the IDX format."""
    sizes = np.array(array.shape, dtype=">u4").tobytes()
    header = bytes([0, 0, TYPES[array.dtype.name], array.ndim]) + sizes
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_idx(folder: Path, arrays: Mapping[str, np.ndarray], zipped: bool = False) -> Path:
    """Write a data set as a folder of four IDX files."""
    folder.mkdir()
    for key, array in arrays.items():
        if zipped:
            (folder / f"{NAMES[key]}.gz").write_bytes(gzip.compress(idx(array)))
        else:
            (folder / NAMES[key]).write_bytes(idx(array))
    return folder
