"""Ctrl-C and SIGTERM: from the first moment to the last they end a process in order, and lose nothing."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.process import small_data, start, succeed, wait_for, write_npz
from xpnet import Checkpoint
from xpnet.cli.signals import DEAF

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without a signal")

INTERRUPT, TERMINATE = signal.SIGINT, signal.SIGTERM
INTERRUPTED = b"xpnet: error: interrupted\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_npz(tmp_path_factory.mktemp("data") / "small.npz", small_data()))


def train(data: str, epochs: int, out: str) -> tuple[str, ...]:
    options = ("--hidden", "16", "--threads", "1", "--dtype", "float64", "--epochs", str(epochs))
    return ("train", "--data", data, *options, "--out", out)


def handles_signals(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process handles SIGTERM, which Python by itself does not."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    return bool(int(re.findall(r"SigCgt:\s*(\w+)", status)[0], 16) >> (TERMINATE - 1) & 1)


def history(folder: Path) -> list[str]:
    """The rows of history.csv, without the header; none if there is no file."""
    path = folder / "history.csv"
    return path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
@pytest.mark.parametrize("second", [None, 0.0, 0.001, 0.03])
@pytest.mark.parametrize("kind", [INTERRUPT, TERMINATE])
def test_a_signal_while_a_run_begins(
    data: str, tmp_path: Path, kind: signal.Signals, second: float | None
) -> None:
    delays = (0, 10, 20, 40, 80, 120, 160, 200, 250, 300)
    for number, delay in enumerate(delays[kind == INTERRUPT :: 2] if second is not None else delays):
        out = tmp_path / str(number)
        with start(tmp_path, *train(data, 100_000, str(number)), stderr=subprocess.PIPE) as process:
            wait_for(lambda process=process: handles_signals(process), process)  # type: ignore[misc]
            time.sleep(delay / 1000)
            process.send_signal(kind)
            if second is not None:
                time.sleep(second)
                process.send_signal(INTERRUPT)
            _, err = process.communicate(timeout=60)
        assert (process.returncode, err.count(b"Traceback")) == (130, 0), err
        assert err.endswith(INTERRUPTED)
        if out.exists():  # else the run had written nothing
            assert not list(out.glob("*.partial"))
            epochs = len(Checkpoint(out / "checkpoint.safetensors").load().history.epochs)
            assert abs(epochs - len(history(out))) <= 1
            assert b"resume with: " in err


@pytest.mark.parametrize(
    ("module", "kind"), [("numpy", INTERRUPT), ("click", TERMINATE), ("xpnet.training", INTERRUPT)]
)
def test_a_signal_within_an_import(tmp_path: Path, kind: signal.Signals, module: str) -> None:
    at_import = f"""
import signal, sys
class Signalling:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            signal.raise_signal({int(kind)})
sys.meta_path.insert(0, Signalling())
"""
    with start(tmp_path, "--help", before=at_import, stderr=subprocess.PIPE) as process:
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, INTERRUPTED)


@pytest.mark.parametrize(("kind", "out"), [(INTERRUPT, "run"), (TERMINATE, "a run")])
def test_a_stopped_run_says_how_to_resume_and_ends_as_an_unbroken_one(
    data: str, tmp_path: Path, kind: signal.Signals, out: str
) -> None:
    succeed(tmp_path, *train(data, 150, "unbroken"))
    # standard error is a pipe too small for all epochs, and unread: the run cannot end before the signal
    with start(tmp_path, *train(data, 150, out), stderr=subprocess.PIPE, pipesize=4096) as process:
        wait_for(lambda: len(history(tmp_path / out)) > 0, process)
        process.send_signal(kind)
        _, err = process.communicate(timeout=120)

    assert process.returncode == 130
    advice, last = (line for line in err.splitlines(keepends=True) if not line.startswith(b"epoch "))
    assert last == INTERRUPTED
    assert 1 <= len(history(tmp_path / out)) < 150
    assert {path.name for path in (tmp_path / out).iterdir()} == {
        "checkpoint.safetensors",
        "config.json",
        "history.csv",
    }

    program, *again = shlex.split(advice.decode().partition("xpnet: stopped; resume with: ")[2])
    assert program == "xpnet"
    succeed(tmp_path, *again)
    models = [(tmp_path / name / "model.safetensors").read_bytes() for name in (out, "unbroken")]
    assert models[0] == models[1]
    assert [int(row.partition(",")[0]) for row in history(tmp_path / out)] == list(range(1, 151))


def test_a_signal_after_the_results_changes_nothing(data: str, tmp_path: Path) -> None:
    slow_end = "import atexit, time; atexit.register(time.sleep, 1)"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(tmp_path, *train(data, 1, "run"), "--quiet", before=slow_end, **pipes) as process:
        assert process.stdout is not None
        assert any(line.startswith(b"folder") for line in process.stdout)
        time.sleep(0.3)
        process.send_signal(INTERRUPT)
        process.send_signal(TERMINATE)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")


def fill(reader: int, writer: int, room: int) -> None:
    """Fill a pipe, but for about `room` bytes. Linux makes room by whole pages of 4,096 bytes."""
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.read(reader, 4096)
    os.write(writer, bytes(4096 - room))
    os.set_blocking(writer, True)


def test_a_second_signal_ends_a_process_that_cannot_say_its_last_words(data: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    fill(reader, writer, 1500)
    with start(tmp_path, *train(data, 40, "run"), stderr=writer) as process:
        rows = 0
        while rows == 0 or rows < len(history(tmp_path / "run")):  # until the pipe is full
            rows = len(history(tmp_path / "run"))
            time.sleep(0.5)
        process.terminate()
        time.sleep(DEAF + 0.2)
        assert process.poll() is None
        process.terminate()
        assert process.wait(20) == 130
    os.close(reader)
    os.close(writer)


def test_a_signal_that_is_ignored_stays_ignored(data: str, tmp_path: Path) -> None:
    with start(tmp_path, *train(data, 10_000, "run"), interrupts=signal.SIG_IGN) as process:
        wait_for((tmp_path / "run" / "history.csv").exists, process)
        process.send_signal(INTERRUPT)
        time.sleep(0.3)
        assert process.poll() is None
        process.terminate()
        assert process.wait(60) == 130


def test_a_folder_that_vanishes_ends_the_run_and_is_not_made_anew(data: str, tmp_path: Path) -> None:
    with start(tmp_path, *train(data, 100_000, "run"), "--quiet", stderr=subprocess.PIPE) as process:
        wait_for(lambda: len(history(tmp_path / "run")) > 0, process)
        (tmp_path / "run").rename(tmp_path / "away")
        _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.fullmatch(rb"xpnet: error: run/\S+: cannot be written: No such file or directory\n", err)
    assert not (tmp_path / "run").exists()
