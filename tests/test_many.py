"""Several processes train one network, with the numbers of one, and what ends one of them ends all."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.process import Ended, command, environment, python, run, small_data, succeed, wait_for, write_npz
from xpnet import MLP, Checkpoint, UsageError, XpnetError, get_backend, load
from xpnet import train as train_network
from xpnet.backends import mpi

PATIENCE = 120.0
LONELY = SimpleNamespace(MPI=SimpleNamespace(COMM_WORLD=SimpleNamespace(size=1)))
"""A stand-in for mpi4py in a process that was started by the launcher of another MPI."""

SINGLE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NPROC": "1"}
SINGLE |= {"MPIR_CVAR_CH4_PROGRESS_THROTTLE": "1", "MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT": "64"}
"""Variables for more processes than cores: MPICH sleeps now and then while it waits."""

UNSET = dict.fromkeys(["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"], "")


def launcher(processes: int) -> list[str]:
    """The beginning of the command line that starts several processes."""
    if find_spec("mpi4py") is None:
        raise ModuleNotFoundError("mpi4py is not installed", name="mpi4py")
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    assert found, "no mpiexec: pip install mpich"
    return [found, "-n", str(processes)]


def start(folder: Path, *line: str, **variables: str) -> subprocess.Popen[str]:
    """Start a command line."""
    streams: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "stdin": subprocess.DEVNULL,
    }
    settings = environment(None, **SINGLE | variables)
    return subprocess.Popen(line, cwd=folder, env=settings, text=True, start_new_session=True, **streams)


def ended(process: subprocess.Popen[str]) -> Ended:
    """Wait for its end."""
    with process:
        try:
            out, err = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()  # its processes end with it
            out, err = process.communicate()
            pytest.fail(f"it hangs: {out}{err}")
    return Ended(process.returncode, out, err)


@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_compute_what_one_does(tmp_path: Path, processes: int) -> None:
    line = [*launcher(processes), sys.executable, "-m", "tests.many", str(tmp_path)]
    done = ended(start(tmp_path, *line, **{mpi.STALL: "0.3"}))
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert len(found["errors"]) == {2: 20, 3: 12}[processes]
    assert not {name: error for name, error in found["errors"].items() if not error < 1e-12}
    assert found["float32"] < 3, "in float32, as far from float64 as one process"
    assert found["epochs"] == 2
    for times, (ran, reason, error) in found["ways"].items():
        assert ran == ["eager" if times == "fails 2" else "captured"] * 2, "all processes take the same way"
        assert reason.endswith("stream is capturing (process 1)") == (times == "fails 2")
        assert error < 1e-12
    last = processes - 1
    told = found["told"]
    assert told["rows"] == f"rows of process {last} differs from the first's: give each process all rows"
    assert (
        told["lr"]
        == f"lr of process {last} differs from the first's: give each process the same: 0.5, not 0.25"
    )
    assert f"array-api-strict on cpu cannot add up over {processes} processes" in told["library"]
    assert told["diverged"].startswith("diverged: ")
    # the first process slept at the end
    assert f"the others have waited 0.3 s ({mpi.STALL}) for process 0 of {processes}" in done.err


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_npz(tmp_path_factory.mktemp("data") / "small.npz", small_data()))


def train(data: str, epochs: int, *options: str) -> tuple[str, ...]:
    network = (
        "--data",
        data,
        "--hidden",
        "16",
        "--dtype",
        "float64",
        "--momentum",
        "0.9",
        "--dropout",
        "0.1",
    )
    return ("train", *network, "--schedule", "constant", "--epochs", str(epochs), *options)


def rows_of(folder: Path) -> list[str]:
    """The rows of history.csv without their seconds."""
    lines = (folder / "history.csv").read_text(encoding="utf-8").splitlines()
    return [line.rpartition(",")[0] for line in lines[1:]]


def assert_equal(folder: Path, other: Path) -> None:
    """Both runs have ended with the same numbers, but for rounding."""
    one, two = (load(path / "model.safetensors").host_parameters() for path in (folder, other))
    assert max(float(np.abs(one[name] - two[name]).max()) for name in one) < 1e-12
    ours, theirs = (np.array([row.split(",") for row in rows_of(path)], float) for path in (folder, other))
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_the_terminal_of_several_processes_is_that_of_one(data: str, tmp_path: Path) -> None:
    one = succeed(tmp_path, *train(data, 5, "--out", "one"))
    many = ended(start(tmp_path, *launcher(2), *command(*train(data, 5, "--out", "many"))))
    assert many.code == 0, many.err

    def seen(text: str) -> list[str]:
        known = re.sub(r"[\d,.]+ (rows/)?s\b", "", text.replace("many", "one"))
        return [line for line in known.splitlines() if not line.startswith("processes")]

    assert seen(many.out) == seen(one.out)
    assert seen(many.err) == seen(one.err)
    assert "processes      2\n" in many.out
    assert_equal(tmp_path / "one", tmp_path / "many")
    summary = json.loads((tmp_path / "many" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["processes"], summary["threads"]) == (2, 1)


@pytest.mark.parametrize("library", ["numpy", "torch", "jax"])
def test_processes_share_out_the_cores_of_their_machine(library: str, tmp_path: Path) -> None:
    code = "; from xpnet.cli.options import backend_of"
    code = f"import sys{code}; sys.stdout.write(str(backend_of(backend={library!r}).threads()))"
    done = ended(start(tmp_path, *launcher(2), sys.executable, "-c", code, **UNSET))
    assert (done.code, done.out) == (0, str(max(1, (os.cpu_count() or 1) // 2)) * 2), done.err


@pytest.mark.slow
def test_parity_of_several_processes_compares_them_with_one(tmp_path: Path) -> None:
    options = "--backend numpy --backend torch --dtype float64 --run-steps 20 --json"
    done = ended(start(tmp_path, *launcher(2), *command("parity", *options.split())))
    assert done.code == 0, done.err
    reports = {report["backend"]: report["rows"] for report in json.loads(done.out)["reports"]}
    assert set(reports) == {"numpy", "torch"}
    steps = [row["error"] for row in reports["numpy"] if row["quantity"].startswith("single step")]
    assert max(steps) > 0, "the sums of two processes round in another way than those of one"


def test_the_pieces_of_a_prediction_are_shared_out(data: str, tmp_path: Path) -> None:
    succeed(tmp_path, *train(data, 1, "--quiet", "--out", "run"))
    rows = small_data()["x_test"]
    names = [f"{part}.npy" for part in range(5)]
    for name, part in zip(names, np.array_split(rows, len(names)), strict=True):
        np.save(tmp_path / name, part)
    line = command("predict", "run", *names, "--json")
    many = ended(start(tmp_path, *launcher(2), *line))
    assert (many.code, many.out) == (0, succeed(tmp_path, "predict", "run", *names, "--json").out)
    assert len(many.out.splitlines()) == len(rows)

    broken = rows.astype(np.float32)
    broken[2, 3] = np.nan
    np.save(tmp_path / names[1], broken)  # the other process's
    many = ended(start(tmp_path, *launcher(2), *line))
    assert many.code == 1
    assert re.fullmatch("xpnet: error: process 1 of 2: .*1.npy.*\n", many.err), many.err


def begun(folder: Path, line: list[str], processes: int = 2) -> subprocess.Popen[str]:
    """Start a run, or go on with it, and wait for its next epochs."""
    history = folder / "run" / "history.csv"

    def done() -> int:
        return len(rows_of(folder / "run")) if history.exists() else 0

    before = done()
    process = start(folder, *launcher(processes), *line)
    wait_for(lambda: done() > before, process)  # type: ignore[arg-type]
    return process


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes of a launcher, in their order."""
    parents, ranks = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            ranks[int(path.name)] = re.findall(r"\0PMI_RANK=(\d+)", "\0" + (path / "environ").read_text())
        except OSError:  # it has ended, or is another user's
            continue
    ours = {process.pid}
    while more := {number for number, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return [number for _, number in sorted((ranks[n], n) for n in ours if ranks.get(n))]


def is_there(number: int) -> bool:
    """Whether a process has not ended."""
    try:
        return "State:\tZ" not in Path(f"/proc/{number}/status").read_text(encoding="ascii")
    except OSError:
        return False


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")


@needs_proc
def test_a_run_killed_and_resumed_with_other_numbers_of_processes_ends_as_one_of_one(
    data: str, tmp_path: Path
) -> None:
    succeed(tmp_path, *train(data, 120, "--quiet", "--out", "one"))
    first, again = (
        command(*train(data, 120, "--quiet", "--out", "run")),
        command("train", "--resume", "--out", "run"),
    )
    for line, processes in ((first, 2), (again, 1)):
        process = begun(tmp_path, line, processes)
        os.kill(children(process)[-1], signal.SIGKILL)
        assert ended(process).code != 0
        assert not (tmp_path / "run" / "model.safetensors").exists()
    done = ended(start(tmp_path, *launcher(3), *again))
    assert done.code == 0, done.err
    assert_equal(tmp_path / "one", tmp_path / "run")


BREAKS = """
import sys
import xpnet
from xpnet.backends import joined
from xpnet.training.run import Run
epoch = Run.epoch
def breaks(run, standing, progress):
    if joined().rank == 1 and len(standing.history.epochs) == 2:
        {}
    return epoch(run, standing, progress)
Run.epoch = breaks
"""
FAULTS: dict[str, tuple[str, str]] = {
    "raises an error of ours": (
        "raise xpnet.XpnetError('a bad file')",
        r"process 1 of 2: a bad file",
    ),
    "raises another": ("raise RuntimeError('a bug')", "RuntimeError: a bug"),
    "exits": ("sys.exit(3)", ""),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_in_one_process_ends_all(data: str, tmp_path: Path, fault: str) -> None:
    code, said = FAULTS[fault]
    line = command(*train(data, 10**6, "--quiet", "--out", "run"), before=BREAKS.format(code))
    done = ended(start(tmp_path, *launcher(2), *line))
    assert done.code == 1
    assert said in done.err
    assert len(done.err.splitlines()) == 1 or fault != "raises an error of ours"
    assert len(rows_of(tmp_path / "run")) == 2
    assert len(Checkpoint(tmp_path / "run" / "checkpoint.safetensors").load().history.epochs) == 2


@needs_proc
@pytest.mark.parametrize(
    ("hit", "kind"),
    [*product(["launcher", "process"], [signal.SIGKILL, signal.SIGTERM]), ("launcher", signal.SIGINT)],
)
def test_a_signal_ends_all_processes_and_keeps_the_checkpoint(
    data: str, tmp_path: Path, hit: str, kind: signal.Signals
) -> None:
    process = begun(tmp_path, command(*train(data, 10**6, "--quiet", "--out", "run")))
    ours = children(process)
    assert len(ours) == 2
    os.kill(process.pid if hit == "launcher" else ours[1], kind)
    sent = time.monotonic()
    done = ended(process)
    while any(map(is_there, ours)):
        assert time.monotonic() - sent < 20, "orphans"
        time.sleep(0.01)
    assert done.code == (130 if kind != signal.SIGKILL else 9 if hit == "process" else -9)
    assert ("resume with: xpnet train --resume --out run" in done.err) == (
        hit == "launcher" and done.code == 130
    )
    assert Checkpoint(tmp_path / "run" / "checkpoint.safetensors").load().history.epochs


@pytest.fixture
def forgotten() -> Iterator[None]:
    """What is known of the processes is found out anew."""
    mpi.joined.cache_clear()
    yield
    mpi.joined.cache_clear()


@pytest.mark.parametrize("name", mpi.LAUNCHED)
@pytest.mark.parametrize(("module", "said"), [(LONELY, "MPI finds no other"), (None, "MPI is missing")])
def test_one_of_several_processes_that_finds_no_other_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgotten: None, name: str, module: Any, said: str
) -> None:
    for other in mpi.LAUNCHED:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "4")
    monkeypatch.setitem(sys.modules, "mpi4py", module)
    done = run(tmp_path, "train")
    assert done.code == 1
    assert re.fullmatch(f"xpnet: error: .*4 processes.*{said}.*\\n", done.err)
    assert get_backend(alone=True).group.size == 1
    with pytest.raises(XpnetError, match=said):
        train_network(MLP((4, 3)), np.eye(6, 4), np.arange(6) % 3, validation=0)


def test_seconds_until_a_report_must_be_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(mpi.STALL, "soon")
    with pytest.raises(UsageError, match=f"{mpi.STALL} must be a number of seconds, not 'soon'"):
        mpi._stall()


def test_one_process_imports_no_mpi() -> None:
    code = "import sys, numpy as np, xpnet"
    code += "; xpnet.train(xpnet.MLP((4, 3)), np.eye(6, 4), np.arange(6) % 3, validation=0)"
    assert python(f"{code}; print('mpi4py' in sys.modules)") == "False\n"
