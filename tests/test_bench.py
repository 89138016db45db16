"""The scripts under bench/ in tiny settings, their contestants, and the tables made from their results."""

import importlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.helpers import answered
from tests.process import PATIENCE, environment

BENCH = Path(__file__).parent.parent / "bench"

if not BENCH.exists():  # a wheel that is tested from elsewhere
    pytest.skip("no bench here", allow_module_level=True)

ONE = "--rounds 1 --seconds 0.01"
SPEED = f"speed {ONE} --network 784-128-10 --batch 128 --rows 128 --contestant 'xpnet numpy'"
SCALING = f"scaling {ONE} --memory {2**24} --width 784-128-128-10 --depth 784-512-10 --rows 128 30000"
TIME = "time_to_accuracy --contestant 'xpnet.train numpy' --rounds 2 --target 0.9"
PREDICTION = f"prediction --contestant 'xpnet numpy' {ONE} --table 50 70"
PROCESSES = f"processes {ONE} --batch 32 64"
STARTUP = "startup --contestant 'import xpnet' 'first step, xpnet.train numpy' --rounds 1"


def bench(folder: Path, line: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a script whose results go to a folder, with NumPy's BLAS told to compute as on an old processor."""
    script, *arguments = shlex.split(line)
    env = environment(path, XPNET_RESULTS=str(folder), OPENBLAS_CORETYPE="Nehalem")
    form: Any = {"env": env, "capture_output": True, "encoding": "utf-8", "timeout": PATIENCE}
    return subprocess.run([sys.executable, str(BENCH / f"{script}.py"), *arguments], **form)


@pytest.fixture
def of_bench(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Import a module of bench/, as its scripts do."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


@pytest.fixture
def inside(of_bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any) -> Callable[..., str]:
    """Run a script within this process, its contestants too. Returns what it printed."""

    def run(line: str) -> str:
        script, *arguments = shlex.split(line)
        module = of_bench(script)
        monkeypatch.setattr(module, "ask", answered)
        monkeypatch.setattr(of_bench("report"), "RESULTS", tmp_path)
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        module.main()
        return str(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("line", [f"{SPEED} 'floor numpy'", SCALING, TIME, PREDICTION, PROCESSES, STARTUP])
def test_a_script_measures_and_prints_its_tables(line: str, tmp_path: Path) -> None:
    done = bench(tmp_path, line)
    assert done.returncode == 0, done.stderr
    found = {file.stem: file.read_text(encoding="utf-8") for file in tmp_path.glob("*.json")}
    for text in found.values():
        content = json.loads(text, parse_constant=pytest.fail)
        assert (content["errors"], "Nehalem" in text) == ({}, False)
        for row in content["results"]:
            assert 0 < row["quartiles"][0] <= row["median"] <= row["quartiles"][1] < inf
            assert re.search(rf"^\| {row['contestant']} \|.*\d", done.stdout, re.MULTILINE)
    if "speed" in line:
        assert content["notes"]["xpnet numpy"][0]["kernels"]
        assert re.search(r"\| xpnet numpy / floor numpy \| \d\S+ \(.* to .*\) [≤>] 1.50 \|", done.stdout)
    if "scaling" in line:  # the memory of the training alone, and not of the process that started it
        rows = json.loads(found["scaling-rows"])["results"]
        most = {row["contestant"]: row["median"] for row in rows}
        assert most["xpnet numpy, 30,000 rows held"] > most["xpnet numpy, 128 rows held"] + 2e7


def test_learning_rates_of_a_loss_are_tried_on_every_table(inside: Any, tmp_path: Path) -> None:
    """The smallest does not diverge, and a run that diverges has no loss."""
    said = inside("defaults --loss poisson --seeds 1 --epochs 1")
    found = json.loads((tmp_path / "defaults-poisson.json").read_text(encoding="utf-8"))
    losses = {row["contestant"]: row["median"] for row in found["results"] if row["column"] == "0.005"}
    assert [*losses] == [*found["notes"]]
    assert all(0 < loss < inf for loss in losses.values())
    assert re.search(r"^\| poisson, 5,000 rows, 3 wide \| \d.*\| - \|$", said, re.MULTILINE)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_accuracy_is_compared_with_scikit_learn(inside: Any, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    said = inside("accuracy --part diabetes labels --rounds 1")
    assert re.search(r"^\| xpnet.train numpy / MLPRegressor \| \d", said, re.MULTILINE)
    assert re.search(r"^\| xpnet.train numpy / MLPClassifier \| \d", said, re.MULTILINE)
    for part, column in {"diabetes": "r2", "labels": "f1"}.items():
        found = json.loads((tmp_path / f"accuracy-{part}.json").read_text(encoding="utf-8"))
        scores = [row["median"] for row in found["results"] if row["column"] == column]
        assert (found["errors"], len(scores)) == ({}, len(found["notes"]))
        assert all(0.1 < score < 0.9 for score in scores), "a guess would have 0, its training rows 1"


def test_dropout_is_judged_on_the_validation_rows(of_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracy = of_bench("accuracy")
    monkeypatch.setitem(accuracy.PARTS, "dropout", ("784-8-10 on MNIST", []))
    monkeypatch.setattr(accuracy.xpnet, "evaluate", pytest.fail)
    plain, dropped = (
        accuracy.judged(name, 0, "dropout")["seconds"] for name in (accuracy.PLAIN, accuracy.DROPOUT)
    )
    assert plain["best validation loss"][0] < dropped["best validation loss"][0], "8 units cannot spare any"


def test_candidates_of_the_recipes_are_judged_on_validation_rows(
    of_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes, data = of_bench("recipes"), xpnet.load_data()
    few = replace(data, X_train=data.X_train[:1200], y_train=data.y_train[:1200], X_test=data.X_test[:0])
    monkeypatch.setattr(recipes.xpnet, "load_data", lambda: few)
    found = recipes.judged(**recipes.SHORT | {"hidden": (32,), "epochs": 4, "batch_size": 32})
    assert len(found["curve"]) == 4
    assert found["curve"][-1] > 0.5
    assert all(abs(found[f"average {n}"] - found["curve"][-1]) < 0.3 for n in recipes.AVERAGES)
    assert found["average 5"] == found["average 10"], "there are but four epochs"


@pytest.mark.parametrize("loss", ["cross-entropy", "binary-cross-entropy", "squared-error", "poisson"])
def test_losses_metrics_and_weights_are_those_of_scikit_learn(loss: str, of_bench: Any) -> None:
    pytest.importorskip("sklearn")
    found = of_bench("agreement").compared(loss, 0)["seconds"]
    assert {"loss", "repeated rows"} < {*found}
    assert max(figure for figures in found.values() for figure in figures) < 1e-12


@pytest.mark.parametrize("part", ["20,000 rows", "24 fits"])
def test_estimators_are_timed(part: str, of_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scikit-learn's own class stands in for ours."""
    theirs = pytest.importorskip("sklearn.neural_network").MLPClassifier
    estimators = of_bench("estimators")
    monkeypatch.setitem(estimators.ROWS, part, 400)
    monkeypatch.setattr(xpnet, "MLPClassifier", lambda backend, **rest: theirs(**rest), raising=False)
    for name in [name for name in estimators.NAMES if part != "24 fits" or name not in estimators.BY_HAND]:
        found = estimators.timed(name, 0, part, 1)["seconds"]
        assert [*found] == (["search"] if part == "24 fits" else ["first fit", "second fit", "predict"])
        assert all(figure > 0 for figures in found.values() for figure in figures)


def test_two_checkouts_are_measured_by_turns_each_with_its_own_adapter(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    (tmp_path / "xpnet").symlink_to(Path(xpnet.__file__).parent)
    adapter = (BENCH / "ours.py").read_text(encoding="utf-8").replace('"execution": ', '"other": ')
    (tmp_path / "bench" / "ours.py").write_text(adapter, encoding="utf-8")
    done = bench(tmp_path, f"{SPEED} --against {tmp_path}")
    assert re.search(r"\| xpnet numpy, batch 128 \| \d+\.\d{3} \(.*\) \| 1 \|", done.stdout), done.stderr
    notes = json.loads((tmp_path / "against-speed-784-128-10.json").read_text(encoding="utf-8"))["notes"]
    assert "execution" in notes["xpnet numpy"][0]
    assert "other" in notes["xpnet numpy (other)"][0]


def test_what_cannot_be_measured_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('no such thing')\n")
    done = bench(tmp_path, "prediction --part rows --contestant scikit-learn --rows 1", path=tmp_path)
    assert "| scikit-learn: ImportError: no such thing |" in done.stdout
    asked = {f"--against {tmp_path}": "holds no xpnet", "--rows 100": "batch 128 needs more --rows than 100"}
    for wrong, said in asked.items():
        ended = bench(tmp_path, f"speed {wrong}").stderr
        assert (said in ended, "Traceback" in ended) == (True, False)


LIBRARIES = ("numpy", "torch", "jax", "mlx", "dpnp")
OWN_BATCHES = [*(f"xpnet.train {library}" for library in LIBRARIES), "torch DataLoader", "scikit-learn"]
GIVEN_BATCHES = [f"xpnet {library}" for library in LIBRARIES]
GIVEN_BATCHES += ["torch by hand", "torch eager", "jax jit", "jax scan"]
FLOORS = [f"floor {library}" for library in LIBRARIES]


@pytest.mark.parametrize("name", [*OWN_BATCHES, *GIVEN_BATCHES, *FLOORS])
def test_every_contestant_computes_the_same(name: str, of_bench: Any, rng: np.random.Generator) -> None:
    """The same weights as a beginner's NumPy; those that draw their own batches, from batches of all rows."""
    if name == "scikit-learn":
        pytest.importorskip("sklearn")
    trainer, sizes = of_bench("trainer"), (9, 5, 4, 3)
    X, y = rng.integers(0, 256, (60, 9), np.uint8), rng.integers(0, 3, 60, np.int32)
    batches = trainer.draw_batches(rng, 60, 60 if name in OWN_BATCHES else 12)
    rates = np.linspace(0.2, 0.1, len(batches), dtype=np.float32)
    setting = trainer.Setting("cpu", sizes, batches.shape[1], X, y, 0.2)
    first, found = trainer.first_weights(sizes, 3), []
    for one in ("numpy, a beginner's", name):
        made = of_bench("contestants").make(one, setting)
        made.begin(first)
        made.epoch(batches, rates)
        made.epoch(batches, rates)
        found.append(made.weights())
    assert [*found[1]] == ([] if name in FLOORS else [*first])
    for key, array in trainer.first_weights(sizes, 3).items():
        assert np.array_equal(first[key], array), "begin wrote to what it was given"
        assert np.abs(found[0][key] - array).max() > 1e-3, "there is nothing to compare"
        assert found[1].get(key, found[0][key]) == pytest.approx(found[0][key], abs=1e-6)


@pytest.mark.parametrize("name", [*GIVEN_BATCHES[:4], "torch eager", "jax jit", "numpy, a beginner's"])
def test_wrong_predictions_fail(name: str, of_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    measures, task = of_bench("measures"), (name, 0, [784, 16, 10], [50], 0.001)
    assert measures.predictions(*task)["seconds"]["50 rows"]
    monkeypatch.setattr(measures, "classes_of", lambda weights, X: -np.ones(len(X)))
    with pytest.raises(RuntimeError, match="does not predict"):
        measures.predictions(*task)


@pytest.mark.parametrize("factor", [1, nan])
def test_who_does_not_learn_fails(factor: float, of_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def epoch(self: Any, batches: np.ndarray, rates: np.ndarray) -> None:
        self.parameters = [array * factor for array in self.parameters]

    measures, task = of_bench("measures"), ({"batch 32": ("784-8-10", 32)}, 64, 0.001, 60_000, "cpu")
    assert measures.steps("numpy, a beginner's", 0, *task)["seconds"]["batch 32"]
    monkeypatch.setattr(of_bench("contestants").Beginner, "epoch", epoch)
    with pytest.raises(RuntimeError, match="does not learn"):
        measures.steps("numpy, a beginner's", 0, *task)


@pytest.mark.parametrize(("step", "steps"), [(2**-13, 400), (2**-10, 256), (2**-6, 16), (4.0, 1)])
def test_a_slow_contestant_takes_fewer_steps(step: float, steps: int, of_bench: Any) -> None:
    calls: list[int] = []

    def act(count: int) -> float:
        calls.append(count)
        return count * step

    times = of_bench("measures").step_seconds(act, 400, 0.75)
    assert times == pytest.approx([step] * len(times))
    assert calls[-1] == steps
    assert 0.75 <= sum(times) * steps < 0.75 + step * steps


def test_a_process_has_its_time_and_an_environment_of_its_own(
    of_bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    run, python = of_bench("workers").run, [sys.executable, "-c"]
    late = f"import time; time.sleep(4); open({str(tmp_path / 'late')!r}, 'w')"
    start = f"import subprocess; print('begun', flush=True); subprocess.run({[*python, late]})"
    assert run([*python, start], limit=1) == ("begun\n", "took longer than 1 s")
    assert run([*python, "import time; time.sleep(4)"], limit=9) == ("", "")
    assert not (tmp_path / "late").exists(), "what it had started went on"
    seen, _ = run([*python, "import os; print('TF32' in str(os.environ), os.environ['PYTHONPATH'])"])
    assert seen.startswith(f"False {BENCH.parent}")


def test_turns_are_put_together_and_failures_put_down(of_bench: Any) -> None:
    def turn(contestant: str, seed: int, root: Path, limit: float) -> Any:
        replies: Any = {"steady": {"seconds": {"a": [seed + 1, seed + 2]}}, "absent": {"left_out": "no GPU"}}
        replies |= {"unsure": {"seconds": {"a": [1][seed:]}}, "breaks": {"seconds": {"a": [4]}}}
        return {"error": "broken"} if (contestant, seed) == ("breaks", 1) else replies[contestant]

    options = SimpleNamespace(rounds=2, against=None, patience=9.0, deadline=inf, device="cpu")
    found = of_bench("workers").measure("seconds", ["steady", "absent", "unsure", "breaks"], turn, options)
    errors = {"absent": "left out: no GPU", "unsure": "got there in too few runs", "breaks": "broken"}
    row = {"median": 2, "quartiles": [1.75, 2.25], "calls": 4, "rounds": [1.5, 2.5]}
    assert found["errors"] == errors
    assert found["results"][0] == {"contestant": "steady", "column": "a"} | row
    assert [row["contestant"] for row in found["results"]] == ["steady", "breaks"]
    options.deadline = 0.0
    late = of_bench("workers").measure("seconds", ["steady"], turn, options)
    assert late["errors"] == {"steady": "left out: the time was over"}


def test_a_ratio_has_its_spread_and_its_verdict(of_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    report = of_bench("report")
    monkeypatch.setattr(report, "RULES", {"targets": {"N, a: us / *": 1.2, "N, *: us / them": 1.1}})
    us, them = {"median": 6, "quartiles": [5, 9]}, {"median": 5, "quartiles": [4, 10]}
    assert report.ratio(us, them, "N, a: us / them") == "1.20 (0.50 to 2.25) ≤ 1.20"
    assert report.ratio(us, them, "N, b: us / them") == "1.20 (0.50 to 2.25) > 1.10"
    assert report.ratio(us, them, "N, b: us / others") == "1.20 (0.50 to 2.25)"
    assert report.ratio(us, None, "N, a: us / them") == "-"


def test_the_committed_tables_are_those_of_the_committed_results(tmp_path: Path) -> None:
    page, committed = tmp_path / "page.md", (BENCH / "README.md").read_text(encoding="utf-8")
    old = committed.replace("| xpnet numpy |", "| old |")
    page.write_text(f"{old}a <!-- parity-short -->\n<!-- end -->\n<!-- foo -->", encoding="utf-8")
    assert bench(BENCH / "results", f"report {page}").returncode == 0
    start, _, end = page.read_text(encoding="utf-8").partition("a <!-- parity-short -->\n")
    assert start == committed
    assert re.fullmatch(r"\| largest .*\| 1e-12 \|.*\|\n<!-- end -->\n<!-- foo -->", end, re.DOTALL)


def test_the_machine_is_told_without_linux(of_bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(Path, "exists", lambda path: False)  # there is no /proc
    assert of_bench("report").machine()["cores"] == os.cpu_count()
