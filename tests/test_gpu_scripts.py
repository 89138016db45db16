"""The scripts for a person with an NVIDIA GPU, as processes, as far as they go without one."""

import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.process import environment
from xpnet.backends.jax import PADDED

BENCH = Path(__file__).parent.parent / "bench"

if not BENCH.exists():  # a wheel that is tested from elsewhere
    pytest.skip("no bench here", allow_module_level=True)

ON_A_CPU = {"xpnet torch eager", "xpnet jax", "JAX lax.scan", "PyTorch eager"}
ON_A_GPU = {
    *("xpnet cupy eager", "xpnet cupy captured", "xpnet torch captured", "torch.compile", "PyTorch graph")
}


def run(script: str, out: Path, *options: str) -> dict[str, Any]:
    """Run a script on the CPU, where it must succeed, and read its results."""
    command = [sys.executable, str(BENCH / script), "--device", "cpu", "--out", str(out), *options]
    ended = subprocess.run(
        command, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    (path,) = out.glob("*.json")
    assert str(path) in ended.stdout
    results: dict[str, Any] = json.loads(path.read_text())
    assert results["device"] == {"name": "cpu"}
    return results


TINY = (
    "--rows",
    "512",
    "--rounds",
    "1",
    "--epochs",
    "1",
    "--seeds",
    "1",
    "--batch-size",
    "128",
    "--no-extras",
)


def test_every_contestant_has_its_seconds_or_a_reason(tmp_path: Path) -> None:
    speed = run("gpu_speed.py", tmp_path, *TINY, "--measure", "epochs")["speed"]
    assert {row["contestant"] for row in speed["epochs"]} == ON_A_CPU
    for row in speed["epochs"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["seconds"] <= high
        assert (row["network"], row["batch_size"]) == ("784-128-10", 128)
    assert set(speed["left_out"]) == ON_A_GPU
    assert all(speed["left_out"].values())
    assert speed["failures"] == {}
    assert [target["met"] for target in speed["targets"]] == [None, None, None]
    assert "numpy" in speed["versions"]


def test_launches_are_counted_and_trainings_go_to_their_end(tmp_path: Path) -> None:
    chosen = ("--contestant", "PyTorch eager", "--measure", "launches", "--measure", "accuracy")
    speed = run("gpu_speed.py", tmp_path, *TINY, *chosen)["speed"]
    (counted,) = speed["launches"]
    assert (counted["steps"], counted["batch_size"], counted["kernels"]) == (4, 128, 0)
    (row,) = speed["accuracy"]
    (training,) = row["runs"]
    assert len(training["seconds"]) == len(training["test_accuracy"]) == 10
    assert row["mean_test_accuracy"] > 0.6
    assert training["startup"] > 0
    assert (row["seconds_to_98"], row["seeds_that_reached_98"]) == (None, 0)


def test_a_part_runs_alone(tmp_path: Path) -> None:
    results = run("gpu.py", tmp_path, "--part", "transfers", "--backend", "numpy")
    counted = results["transfers"]["numpy"]
    assert counted["passed"]
    assert counted["steps"] % PADDED  # or a library that fills batches up would have nothing to fill
    assert not {"suite", "parity", "train", "speed"} & set(results)


@pytest.fixture
def gpu_speed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("gpu_speed")


@pytest.fixture
def gpu(gpu_speed: Any) -> Any:
    """The other script as a module."""
    return importlib.import_module("gpu")


def test_earlier_parts_are_kept_if_nothing_was_installed_since(gpu: Any, tmp_path: Path) -> None:
    path = tmp_path / "gpu-cpu.json"
    now = {"device": {"name": "cpu"}, "versions": {"numpy": "2"}, "libraries": {"numpy": "2"}}
    assert gpu.earlier(path, now) == now
    before = now | {"libraries": {"jax": "1"}, "parity": {"passed": True}}
    path.write_text(json.dumps(before))
    assert gpu.earlier(path, now) == before | {"libraries": {"jax": "1", "numpy": "2"}}
    assert gpu.earlier(path, now | {"versions": {"numpy": "3"}}) == now | {"versions": {"numpy": "3"}}


def test_every_precision_is_compared_on_those_who_have_it(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = gpu.usable("cpu", ["numpy", "torch", "cupy"])
    assert set(looked["found"]) == {"numpy", "torch"}
    assert set(looked["left_out"]) == {"cupy"}
    asked = []

    def run_child(command: list[str], seconds: float) -> Any:
        asked.append(" ".join(command[3:]))
        failing = "--precision bf16" in asked[-1]
        return gpu.Ended('{"reports": []}', "", "exit code 1" if failing else "")

    monkeypatch.setattr(gpu, "run_child", run_child)
    found = gpu.parity("cpu", looked["precisions"])
    assert asked == [
        "parity --device cpu --precision float32 --backend numpy --backend torch --json",
        "parity --device cpu --precision bf16 --backend torch --json",
    ]
    assert {name: answer["passed"] for name, answer in found["precisions"].items()} == {
        "float32": True,
        "bf16": False,
    }
    assert not found["passed"]


def test_children_see_nothing_that_would_change_their_numbers(
    gpu_speed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pins = ("OPENBLAS_CORETYPE", "NVIDIA_TF32_OVERRIDE")
    for name in pins:
        monkeypatch.setenv(name, "1")
    script = tmp_path / "shown.py"
    script.write_text("import json, os; print(json.dumps(dict(os.environ)))")
    seen = json.loads(gpu_speed.run_child([sys.executable, str(script)], 60).out)
    for environ in (seen, importlib.import_module("workers").ask(script)):
        assert not {*pins} & {*environ}
        assert environ["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"


def test_what_failed_is_named(gpu: Any) -> None:
    runs = {"numpy": {"passed": True}, "jax": {"passed": False}, "torch": {"passed": False}}
    assert gpu.failed("train", runs, ["numpy", "jax"]) == ["train on jax"]
    assert gpu.failed("suite", {"passed": False}, []) == ["suite"]
    assert gpu.failed("suite", {"passed": True}, []) == []


def test_a_process_that_hangs_is_ended_with_its_children(gpu_speed: Any, tmp_path: Path) -> None:
    late = "import pathlib, time; time.sleep(4); pathlib.Path('late').write_text('')"
    hang = f"import os, subprocess, sys; os.chdir({str(tmp_path)!r}); print('begun', flush=True)\n"
    hang += f"subprocess.run([sys.executable, '-c', {late!r}])"
    ended = gpu_speed.run_child([sys.executable, "-c", hang], 2.5)
    assert ended.out == "begun\n"
    assert ended.error.startswith("took longer than 2.5 s, exit code -9")
    time.sleep(2.5)
    assert not (tmp_path / "late").exists()


def measured(gpu_speed: Any, monkeypatch: pytest.MonkeyPatch, failing: str) -> dict[str, Any]:
    """A comparison in which every process ends at once, with made-up figures, and one fails."""
    seconds = {"xpnet cupy captured": 0.01, "JAX lax.scan": 0.02, "PyTorch eager": 0.04}

    def outcome(task: Any) -> tuple[list[dict[str, Any]], str]:
        if task.contestant == failing:
            return [], "exit code 1\nout of luck"
        about = {"contestant": task.contestant, "measure": "epochs", "network": "784-128-10"}
        times = [seconds.get(task.contestant, 1.0)] * 3
        return [about | {"batch_size": 128, "seconds": times}], ""

    monkeypatch.setattr(gpu_speed, "outcome", outcome)
    options = gpu_speed.make_parser().parse_args(["--no-extras", "--measure", "epochs"])
    saved: list[dict[str, Any]] = []
    speed: dict[str, Any] = gpu_speed.measure(options, saved.append)
    assert saved[-1] == speed
    return speed


def test_a_missed_target_is_told_and_fails_nothing(
    gpu_speed: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    speed = measured(gpu_speed, monkeypatch, failing="torch.compile")
    assert speed["passed"]
    assert list(speed["failures"]) == ["torch.compile"]
    assert [(row["measured"], row["met"]) for row in speed["targets"]] == [
        (0.5, True),
        (0.25, False),
        (None, None),
    ]
    said = capsys.readouterr().out
    assert "MISSED" in said
    assert "out of luck" in said


def test_only_a_failure_of_ours_is_one(gpu_speed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not measured(gpu_speed, monkeypatch, failing="xpnet cupy captured")["passed"]
