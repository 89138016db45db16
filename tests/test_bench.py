"""The scripts under bench/, in tiny settings: they run, and their results make the README's tables."""

import importlib
import inspect
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xpnet
from tests.process import PATIENCE, Ended, environment
from xpnet.backends import owner

BENCH = Path(__file__).parent.parent / "bench"

SPEED = ("--batch-size", "128", "--rows", "128", "--rounds", "1", "--seconds", "0.01")
SCALING = ("--smallest", "3000", "--largest", "30000", "--memory", str(2**24), "--shape", "784-512-10")
US = ("--contestant", "xpnet numpy")
SCRIPTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "speed": ((*SPEED, *US, "--contestant", "floor numpy"), ("speed", "ratios")),
    "time_to_accuracy": ((*US, "--seeds", "2", "--target", "0.9"), ("time_to_accuracy",)),
    "prediction": ((*US, "--rounds", "1", "--seconds", "0.01"), ("prediction",)),
    "scaling": ((*SCALING, "--rounds", "1", "--seconds", "0.01"), ("scaling",)),
    "startup": ((*US, "--rounds", "1"), ("startup",)),
}
"""How each is run, and the parts of the README that come of it."""

ELSEWHERE = ("torch compile", "scikit-learn")
"""Who takes too long to compile here, and who is not installed for the tests."""


def bench(folder: Path, script: str, *arguments: str, path: Path | None = None) -> Ended:
    """Run a script whose results go to a folder, with NumPy's BLAS told to compute as on an old processor."""
    done = subprocess.run(
        [sys.executable, str(BENCH / f"{script}.py"), *arguments],
        env=environment(path, XPNET_RESULTS=str(folder), OPENBLAS_CORETYPE="Nehalem"),
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )
    return Ended(done.returncode, done.stdout, done.stderr)


def read(path: Path) -> dict[str, Any]:
    """JSON as the standard has it, without NaN and Infinity."""

    def refuse(constant: str) -> float:
        raise AssertionError(f"{path.name} holds {constant}")

    content: dict[str, Any] = json.loads(path.read_text(), parse_constant=refuse)
    return content


def numbers(content: Any, name: str) -> Iterator[float]:
    """Every number of that name, however deep."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == name and isinstance(value, float):
                yield value
            yield from numbers(value, name)
    elif isinstance(content, list):
        for value in content:
            yield from numbers(value, name)


def readme(folder: Path, *parts: str) -> Path:
    """A README with these parts, empty ones."""
    path = folder / "README.md"
    path.write_text("".join(f"<!-- {part} -->\n<!-- end -->\n" for part in parts))
    return path


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_measures_and_the_report_tells(script: str, tmp_path: Path) -> None:
    arguments, parts = SCRIPTS[script]
    done = bench(tmp_path, script, *arguments)
    assert done.code == 0, done.err
    files = list(tmp_path.glob("*.json"))
    assert files
    for file in files:
        content = read(file)
        assert not content.get("errors"), content["errors"]
        assert content["machine"]["libraries"]["numpy"] == np.__version__
        seconds = list(numbers(content, "seconds"))
        assert seconds
        assert all(math.isfinite(number) and number > 0 for number in seconds)
        assert "Nehalem" not in file.read_text()

    path = readme(tmp_path, *parts)
    told = bench(tmp_path, "report", str(path))
    assert told.code == 0, told.err
    text = path.read_text()
    for part in parts:
        made = text.partition(f"<!-- {part} -->\n")[2].partition("<!-- end -->")[0]
        assert re.search(r"\d", made)
        assert not re.search(r"nan|inf", made)
        assert len({line.count("|") for line in made.splitlines() if line.startswith("|")}) <= 1


def test_who_fails_is_put_down_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "sklearn.py").write_text("raise ImportError('no such thing')\n")
    others = ("--contestant", "scikit-learn", "--rounds", "2", "--seconds", "0.01", "--rows", "1")
    done = bench(tmp_path, "prediction", *US, *others, path=tmp_path)
    assert done.code == 0, done.err
    content = read(tmp_path / "prediction.json")
    assert content["errors"] == {"scikit-learn": "ImportError: no such thing"}
    assert {row["contestant"] for row in content["results"]} == {"xpnet numpy"}
    path = readme(tmp_path, "prediction")
    bench(tmp_path, "report", str(path))
    assert "| scikit-learn | - |" in path.read_text()


def test_the_report_skips_nothing_silently(tmp_path: Path) -> None:
    done = bench(tmp_path, "report", str(readme(tmp_path, "startup")))
    assert done.code == 1
    assert "startup.json" in done.err

    row = {"what": "import xpnet", "step": False, "seconds": 0.25}
    (tmp_path / "startup.json").write_text(json.dumps({"results": [row], "errors": {}}))
    path = readme(tmp_path)
    done = bench(tmp_path, "report", str(path))
    assert done.code == 0
    assert path.read_text() == ""
    assert "startup: measured, but" in done.out
    assert "prediction: neither measured nor" in done.out


@pytest.fixture
def of_bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a module of bench/, as its scripts do."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module


CONTESTANTS = [
    *(
        f"{kind} {library}"
        for kind in ("xpnet", "floor")
        for library in ("numpy", "torch", "jax", "mlx", "dpnp")
    ),
    *("torch eager", "torch by hand", "torch DataLoader", "jax jit", "jax scan", "numpy, a beginner's"),
]


def test_the_contestants_are_those(of_bench: Any) -> None:
    assert {*of_bench("contestants").CONTESTANTS} == {*CONTESTANTS, *ELSEWHERE}


def numbers_of(run: Any) -> list[np.ndarray]:
    """Copies of all floating-point arrays that a contestant holds: its weights, and its rows where scaled."""

    def found(value: Any) -> Iterator[np.ndarray]:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, torch.nn.Module):
            value = [parameter.detach() for parameter in value.parameters()]
        if isinstance(value, list | tuple):
            for part in value:
                yield from found(part)
        library = owner(value)
        if library is not None and "float" in str(getattr(value, "dtype", "")):
            yield np.array(xpnet.get_backend("cpu", library).to_numpy(value))

    return list(found(inspect.getclosurevars(inspect.unwrap(run)).nonlocals))


@pytest.mark.parametrize("name", CONTESTANTS)
def test_every_contestant_runs(name: str, of_bench: Any, rng: np.random.Generator) -> None:
    X, y = rng.integers(0, 256, (40, 5), np.uint8), rng.integers(0, 3, 40, np.int32)
    run = of_bench("contestants").CONTESTANTS[name]((5, 4, 4, 3), 16, X, y)
    run(1)
    before = numbers_of(run)
    run(2)
    after = numbers_of(run)
    assert all(np.isfinite(array).all() for array in after)
    if not name.startswith("floor"):  # whose products are thrown away
        changed = [not np.array_equal(*pair) for pair in zip(before, after, strict=True)]
        assert sum(changed) >= 6, "it did not learn: every weight and bias of three layers moves in a step"


LEARNERS = [f"xpnet {library}" for library in ("numpy", "torch", "jax", "mlx", "dpnp")]


@pytest.mark.parametrize("name", [*LEARNERS, "torch eager", "torch DataLoader"])
def test_every_learner_learns(name: str, of_bench: Any, rng: np.random.Generator) -> None:
    y = rng.integers(0, 2, 256, np.int32)
    X = (rng.integers(0, 40, (256, 6)) + 200 * y[:, None]).astype(np.uint8)
    learn, score = of_bench("learners").LEARNERS[name](xpnet.Dataset(X, y, X, y), 0)
    for _ in range(3):
        learn()
    assert score() > 0.95


PREDICTORS = [*(f"xpnet {library}" for library in ("numpy", "torch", "jax", "mlx")), "torch eager", "jax jit"]


@pytest.mark.parametrize("name", [*PREDICTORS, "numpy, a beginner's"])
def test_everybody_predicts(name: str, of_bench: Any, rng: np.random.Generator) -> None:
    of_bench("prediction").CONTESTANTS[name](rng.random((3, 784), np.float32))()


@pytest.mark.parametrize(("step", "steps"), [(2**-13, 400), (2**-10, 256), (2**-6, 16), (4.0, 1)])
def test_a_slow_contestant_runs_fewer_steps(
    step: float, steps: int, of_bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, calls = 0.0, []

    def run(count: int) -> None:
        nonlocal now
        calls.append(count)
        now += count * step

    workers = of_bench("workers")
    monkeypatch.setattr(workers.time, "perf_counter", lambda: now)
    times = workers.step_seconds(run, 400, 0.75)
    assert times == pytest.approx([step] * len(times))
    assert calls[-1] == steps
    assert 0.75 <= sum(times) * steps < 0.75 + step * steps
