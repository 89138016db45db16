"""The script for a person with an NVIDIA GPU, as far as it goes without one."""

import importlib
import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.helpers import answered

BENCH = Path(__file__).parent.parent / "bench"

if not BENCH.exists():  # a wheel that is tested from elsewhere
    pytest.skip("no bench here", allow_module_level=True)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The script as a module that writes to a folder of its own."""
    monkeypatch.syspath_prepend(str(BENCH))
    made = importlib.import_module("gpu")
    for module in (made, importlib.import_module("report")):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    for module in (made, importlib.import_module("speed")):
        monkeypatch.setattr(module, "ask", answered)
    return made


def options(deadline: float = 100.0) -> SimpleNamespace:
    """What `main` hands to the parts, on a CPU."""
    libraries = {"numpy": ["float32"], "torch": ["float32", "bf16"]}
    return SimpleNamespace(device="cpu", libraries=libraries, deadline=time.monotonic() + deadline)


def test_parts_add_up_in_one_file(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    importlib.import_module("torch")  # whose profiler counts the launches
    monkeypatch.setitem(gpu.PARTS, "train", lambda options: [("numpy", {"passed": False})])
    words = "gpu.py --device cpu --backend numpy --rows 256 --seconds 0.01 --part"
    monkeypatch.setattr(sys, "argv", [*words.split(), "probes"])
    gpu.main()
    monkeypatch.setattr(sys, "argv", [*words.split(), "train"])
    with pytest.raises(SystemExit, match=r"^failed: train: numpy$"):
        gpu.main()

    found = json.loads((tmp_path / "gpu-cpu.json").read_text(encoding="utf-8"))
    assert (found["device"], found["train"]) == ({"name": "cpu"}, {"numpy": {"passed": False}})
    race = found["probes"].pop("numpy, 784-128-10")
    assert {row["contestant"] for row in race["results"]} == {"xpnet numpy", "xpnet numpy eager"}
    assert all(error.startswith("left out: ") for error in race["errors"].values())
    asked = ["numpy", *(f"numpy, {what}" for what in ("nodes", "memory", "streams", "busy"))]
    assert {name: answer["passed"] for name, answer in found["probes"].items()} == dict.fromkeys(asked, True)


def test_results_of_another_installation_are_kept_apart(gpu: Any, tmp_path: Path) -> None:
    path, now = tmp_path / "gpu-x.json", {"device": {"name": "x"}, "libraries": {"numpy": "2"}}
    before, later = now | {"parity": {"jax": {"passed": True}}}, now | {"libraries": {"numpy": "3"}}
    assert gpu.earlier(path, now) == now
    path.write_text(json.dumps(before))
    assert gpu.earlier(path, now) == before
    assert gpu.earlier(path, later) == later
    assert json.loads((tmp_path / "before-gpu-x.json").read_text()) == before


def test_every_precision_is_compared_on_those_who_have_it(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], limit: float) -> tuple[str, str]:
        return json.dumps({"asked": " ".join(command[3:])}), "broken" if "bf16" in command else ""

    monkeypatch.setattr(gpu, "run", run)
    for key, answer in gpu.parity(options()):
        library, precision = key.split(", ")
        words = f"xpnet parity --precision {precision} --json --device cpu --backend {library}"
        assert (answer["said"]["asked"], answer["passed"]) == (words, precision == "float32")
    assert [key for key, _ in gpu.parity(options())] == ["numpy, float32", "torch, float32", "torch, bf16"]


def test_what_failed_is_named_if_it_is_ours(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    late = [gpu.failures(*found) for found in gpu.suite(options(deadline=-1.0))]
    assert late == [["numpy"], ["torch"]], "a part that has had its time is put down as failed"
    errors = {"xpnet jax": "broken", "xpnet cupy eager": "left out: no CuPy", "torch compile": "broken"}
    assert gpu.failures("784-128-10", {"title": "seconds", "errors": errors}) == ["xpnet jax"]
    monkeypatch.setattr(gpu, "ask_probe", lambda what, options, contestant: {"error": "broken"})
    failed = [name for found in gpu.launches(options()) for name in gpu.failures(*found)]
    assert failed == [name for name in gpu.FIELD if name.startswith("xpnet")]


def test_a_step_that_fell_back_fails_its_probes(gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    probes = importlib.import_module("probes")
    make = probes.make

    def fallen(contestant: str, setting: Any) -> Any:
        trainer = make(contestant, setting)
        trainer.backend.execution = SimpleNamespace(actual="eager", reason="no graph")
        return trainer

    monkeypatch.setattr(probes, "make", fallen)
    assert probes.busy("numpy", "cpu") == {"captured": "0 of 10", "passed": False}
    assert not probes.launches("xpnet numpy", "cpu")["passed"]


def test_a_group_of_one_process_adds_up(gpu: Any) -> None:
    found = dict(gpu.processes(options()))
    assert {key: answer["passed"] for key, answer in found.items()} == {
        f"{library}, a group of one": True for library in ("numpy", "torch")
    }
