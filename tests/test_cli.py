"""The command line: what it accepts, what it writes, and how a run is resumed."""

import csv
import json
import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.process import Ended, command, run, small_data, start, succeed, wait, wait_for, write_npz
from xpnet.backends import LIBRARIES, backend_class

RUN_FILES = {"model.safetensors", "history.csv", "config.json", "summary.json", "checkpoint.safetensors"}
SMALL = ("--hidden", "16", "--threads", "1", "--dtype", "float64")
AGAIN = ("train", "--resume", "--quiet", "--out", "run")


@dataclass(frozen=True)
class Run:
    """A finished run, and what it printed."""

    folder: Path
    ended: Ended

    def read(self, name: str) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / name).read_bytes())
        return content

    def rows(self) -> list[dict[str, str]]:
        with (self.folder / "history.csv").open(encoding="utf-8") as file:
            return list(csv.DictReader(file))

    def model(self) -> bytes:
        return (self.folder / "model.safetensors").read_bytes()

    def facts(self) -> dict[str, str]:
        return facts(self.ended.out)


def facts(out: str) -> dict[str, str]:
    """The lines of a table of two columns."""
    pairs = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in out.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def train(data: Path, at: Path, *options: str, out: str = "run", small: tuple[str, ...] = SMALL) -> Run:
    """Train in the folder `at`, into its folder `out`; for one epoch, unless the options say otherwise."""
    ended = succeed(at, "train", "--data", str(data), "--epochs", "1", *small, "--out", out, *options)
    return Run(at / out, ended)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "small.npz", small_data())


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of which the first class has most."""
    arrays = small_data()
    arrays["y_train"] = np.where(np.arange(300) < 100, 0, arrays["y_train"]).astype(np.uint8)
    return write_npz(tmp_path_factory.mktemp("data") / "uneven.npz", arrays)


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three epochs in the default folder."""
    folder = tmp_path_factory.mktemp("trained")
    ended = run(folder, "train", "--data", str(data), "--epochs", "3", *SMALL)
    return Run(folder / "runs" / "001", ended)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("", "train evaluate parity info --version"),
        ("train", "Data: Network: Training: Run: --data --device --precision --execution --lr --loss relu]"),
        ("evaluate", "MODEL --data --precision --json"),
        ("parity", "--dtype --precision --execution --run-steps --json"),
        ("info", "libraries"),
    ],
)
def test_help(tmp_path: Path, command: str, expected: str) -> None:
    ended = run(tmp_path, *command.split(), "--help")
    assert (ended.code, ended.err) == (0, "")
    assert set(expected.split()) <= set(re.split(r"[\s,]+", ended.out))


@pytest.mark.parametrize("arguments", ["--help", "train --help", "train --quiet --data"])
def test_no_library_is_imported_that_is_not_used(data: Path, tmp_path: Path, arguments: str) -> None:
    others = {backend_class(name).library for name in LIBRARIES if name != "numpy"}
    report = f"print('imported', sorted({others} & sys.modules.keys()), file=sys.stderr)"
    before = f"import atexit, sys; atexit.register(lambda: {report})"
    own_data = (str(data), *SMALL, "--epochs", "1") if "--data" in arguments else ()
    ended = run(tmp_path, *arguments.split(), *own_data, before=before)
    assert (ended.code, ended.err) == (0, "imported []\n")


def test_train_writes_what_came_out_and_on_what(trained: Run) -> None:
    assert trained.ended.code == 0
    assert {path.name for path in trained.folder.iterdir()} == RUN_FILES
    summary, history = trained.read("summary.json"), trained.rows()
    expected = {
        "epochs": 3,
        "best_epoch": None,
        "backend": "numpy",
        "device": "cpu",
        "dtype": "float64",
        "threads": 1,
        "precision": "float32",
        "execution": {"asked": "auto", "actual": "eager", "reason": ""},
        "seed": 0,
        "parameters": 8 * 16 + 16 + 16 * 3 + 3,
        "xpnet": xpnet.__version__,
    }
    assert {key: summary[key] for key in expected} == expected
    assert 0.5 < summary["test_accuracy"] < 1
    assert summary["test_loss"] > 0
    assert summary["library_version"]
    columns = ["epoch", "lr", "loss", "validation_loss", "validation_accuracy", "seconds"]
    assert list(history[0]) == columns
    assert [int(row["epoch"]) for row in history] == [1, 2, 3]
    assert float(history[2]["loss"]) < float(history[0]["loss"])
    assert 0 <= float(history[2]["validation_accuracy"]) == summary["validation_accuracy"] <= 1
    assert sum(float(row["seconds"]) for row in history) == pytest.approx(summary["train_seconds"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("--version", Ended(0, f"xpnet {xpnet.__version__}\n", "")),
        ("trian", Ended(2, "", "xpnet: error: No such command 'trian'. Did you mean train?\n")),
        ("evaluate nowhere", Ended(1, "", "xpnet: error: nowhere: no such file\n")),
    ],
)
def test_exit_codes_of_processes(tmp_path: Path, arguments: str, expected: Ended) -> None:
    assert wait(command(*arguments.split()), tmp_path) == expected


def test_results_go_to_standard_output_and_progress_to_standard_error(trained: Run) -> None:
    summary, printed = trained.read("summary.json"), trained.facts()
    assert printed["test accuracy"] == f"{summary['test_accuracy']:.2%}"
    assert printed["test loss"] == f"{summary['test_loss']:.4f}"
    assert (printed["network"], printed["parameters"]) == ("8-16-3 relu", "195")
    assert printed["device"] == "cpu, float64"
    assert printed["library"] == f"numpy {summary['library_version']}"
    assert printed["execution"] == "eager"
    assert "precision" not in printed
    assert printed["folder"] == os.path.join("runs", "001")
    lines = trained.ended.err.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert all("rows/s" in line for line in lines)


@pytest.mark.parametrize("name", ["a[bold]b:rocket:c", "a-long-name-" * 12])
def test_a_folder_is_printed_as_it_is_named(data: Path, tmp_path: Path, name: str) -> None:
    assert train(data, tmp_path, "--quiet", out=name).facts()["folder"] == name


EVERY = (
    "dtype=float64 epochs=4 batch_size=32 lr=0.1 optimizer=sgd momentum=0.9 nesterov=True weight_decay=0.01 "
    "schedule=cosine warmup=2 validation=0.2 patience=4 seed=5 threads=1 backend=numpy device=cpu "
    "precision=float32 execution=eager activation=tanh,relu clip=0.5 dropout=0.1,0.5 class_weight=0=2,2=0.5 "
    "monitor=loss loss=cross-entropy standardize=True training_metrics=True"
)
ADAM = (
    "optimizer=adam epochs=2 activation=sigmoid validation=0.0 schedule=constant lr=0.001 dropout=0.25 "
    "class_weight=balanced beta1=0.8 beta2=0.99 epsilon=1e-07"
)
ADAMW = "optimizer=adamw schedule=plateau monitor=accuracy weight_decay=0.1 activation=identity"
LISTS: dict[str, Any] = {
    "tanh,relu": ["tanh", "relu"],
    "0.1,0.5": [0.1, 0.5],
    "0.25": [0.25],
    "0=2,2=0.5": {"0": 2, "2": 0.5},
}
"""How config.json writes some values."""


@pytest.mark.parametrize(
    ("settings", "hidden"),
    [(EVERY, "16,8"), (ADAM, "128"), (ADAMW, "16")],
    ids=["every", "adam", "adamw"],
)
def test_every_option_reaches_the_run_and_is_resumed_with(
    data: Path, tmp_path: Path, settings: str, hidden: str
) -> None:
    expected = dict(setting.split("=", 1) for setting in settings.split())
    options = [f"--{name}={value}".replace("_", "-").replace("=True", "") for name, value in expected.items()]
    found = train(data, tmp_path, *options, f"--hidden={hidden}", small=())
    config, model = found.read("config.json"), found.model()
    assert config["sizes"] == [8, *map(int, hidden.split(",")), 3]
    assert {
        name: config[name] if value in LISTS else str(config[name]) for name, value in expected.items()
    } == {name: LISTS.get(value, value) for name, value in expected.items()}
    assert config["xpnet"] == xpnet.__version__
    (found.folder / "model.safetensors").unlink()
    succeed(tmp_path, *AGAIN)
    assert (found.model(), found.read("config.json")) == (model, config)


def test_every_option_changes_what_is_learned(uneven: Path, tmp_path: Path) -> None:
    options = ["", "--dropout=0.5", "--dropout=0.5,0", "--clip=0.01", "--class-weight=balanced"]
    options += ["--standardize", "--class-weight=0=9,1=0", "--optimizer=adamw", "--weight-decay=0.1"]
    options += ["--loss=squared-error"]
    models = {
        train(uneven, tmp_path, *option.split(), out=f"{i}").model() for i, option in enumerate(options)
    }
    assert len(models) == len(options)


def test_a_longer_run_is_the_unbroken_one(data: Path, tmp_path: Path) -> None:
    options = ("--schedule", "constant", "--dropout", "0.1,0.3", "--class-weight", "1=2", "--standardize")
    unbroken = train(data, tmp_path, *options, "--epochs", "6", out="unbroken")
    longer = train(data, tmp_path, *options, "--epochs", "3")
    ended = succeed(tmp_path, "train", "--resume", "--epochs", "6", "--out", "run")
    assert [line.split("  ")[0] for line in ended.err.splitlines()] == [f"epoch {n}/6" for n in (4, 5, 6)]
    for _ in range(2):  # and a finished run is resumed without a change
        assert len(longer.rows()) == longer.read("summary.json")["epochs"] == 6
        assert longer.model() == unbroken.model()
        assert longer.read("config.json") == unbroken.read("config.json")
        assert succeed(tmp_path, *AGAIN).err == ""
    refused = run(tmp_path, *AGAIN, "--class-weight", "balanced")
    assert (refused.code, refused.err) == (
        1,
        "xpnet: error: run: class_weight was {'1': 2.0}, not balanced: resume with the same\n",
    )


@pytest.mark.parametrize(
    ("loss", "form", "metrics", "lr"),
    [
        ("squared-error", "numbers", ["rmse", "r2"], 0.05),
        ("squared-error", "two numbers", ["rmse", "r2"], 0.05),
        ("poisson", "counts", ["rmse", "r2"], 0.01),
        ("binary-cross-entropy", "labels", ["accuracy", "f1"], 0.2),
        ("binary-cross-entropy", "three labels", ["accuracy", "f1"], 0.2),
    ],
)
def test_a_run_for_other_targets(tmp_path: Path, loss: str, form: str, metrics: list[str], lr: float) -> None:
    arrays = other_targets(form)
    data, epochs = write_npz(tmp_path / "data.npz", arrays), "100" if loss == "poisson" else "30"
    found = train(data, tmp_path, "--loss", loss, "--epochs", epochs, "--patience", "20")
    summary, config, rows = found.read("summary.json"), found.read("config.json"), found.rows()
    assert (config["loss"], config["lr"], config["sizes"][-1]) == (loss, lr, arrays["y_train"][0].size)
    columns = [f"validation_{name}" for name in ("loss", *metrics)]
    assert list(rows[0]) == ["epoch", "lr", "loss", *columns, "seconds"]
    kept = rows[summary["best_epoch"] - 1]
    for name in metrics:
        assert summary[f"validation_{name}"] == float(kept[f"validation_{name}"])
        assert re.search(rf"  {name} [-\d.]+", found.ended.err)
    assert summary[f"test_{metrics[1]}"] > (0.6 if loss == "poisson" else 0.8)  # r2 or f1
    assert ("test_accuracy" in summary) == ("accuracy" in metrics)
    assert list(found.facts())[:3] == [f"test {name}" for name in (*metrics, "loss")]

    result = json.loads(succeed(tmp_path, "evaluate", "run", "--json").out)
    for name in ("loss", *metrics):
        assert result[name] == pytest.approx(summary[f"test_{name}"], rel=1e-12)
    assert not {"confusion", "accuracy_by_class"} & result.keys()
    printed = succeed(tmp_path, "evaluate", "run").out
    assert list(facts(printed))[:4] == [*metrics, "loss", "rows"]
    assert "class" not in printed
    if loss == "squared-error":  # the errors are in the units of the targets
        model = xpnet.load(found.folder / "model.safetensors")
        errors = model.predict(arrays["x_test"]) - arrays["y_test"]
        assert summary["test_rmse"] == pytest.approx((errors**2).mean() ** 0.5, rel=1e-6)


def test_rows_with_numbers_as_targets_are_streamed(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    (tmp_path / "data").mkdir()
    for part, rows in (("train", 2000), ("test", 50)):
        X = rng.normal(size=(rows, 1024))
        np.save(tmp_path / "data" / f"x_{part}.npy", X)
        np.save(tmp_path / "data" / f"y_{part}.npy", X[:, :2] * 10 - 300)
    found = train(tmp_path / "data", tmp_path, "--loss", "squared-error", "--memory", "15MB", "--standardize")
    assert found.read("config.json")["memory"] == 15 * 2**20 < 2000 * 1024 * 8
    assert 5 < found.read("summary.json")["test_rmse"] < 20
    assert json.loads(succeed(tmp_path, "evaluate", "run", "--json").out)["rows"] == 50


def other_targets(form: str) -> dict[str, np.ndarray]:
    """Rows of which the targets are numbers, counts or labels."""
    rng = np.random.default_rng(4)
    arrays: dict[str, np.ndarray] = {}
    slopes = rng.normal(size=(5, 3))
    for part, rows in (("train", 1600), ("test", 80)):
        X = rng.normal(size=(rows, 5)) / 2
        Y = X @ slopes
        y = {
            "numbers": 1000 + 50 * Y[:, 0],
            "two numbers": 1000 + 50 * Y[:, :2],
            "counts": np.round(np.exp(3 + Y[:, 0] / 2)).astype(np.int64),
            "labels": Y[:, 0] > 0,
            "three labels": (Y > 0).astype(np.uint8),
        }[form]
        arrays |= {f"x_{part}": X, f"y_{part}": y}
    return arrays


def test_the_metrics_of_the_training_rows_are_written_on_request(data: Path, tmp_path: Path) -> None:
    found = train(data, tmp_path, "--training-metrics")
    metrics = [f"{part}_{name}" for part in ("training", "validation") for name in ("loss", "accuracy")]
    assert list(found.rows()[0]) == ["epoch", "lr", "loss", *metrics, "seconds"]
    assert re.fullmatch(
        r"epoch 1/1  loss [\d.]+  validation loss [\d.]+  accuracy [\d.]+%  [\d,]+ rows/s\n", found.ended.err
    )


def test_class_names_are_shown_where_the_model_knows_them(data: Path, tmp_path: Path) -> None:
    arrays, names = small_data(), ["hen", "duck", "a goose"]
    model = xpnet.MLP((8, 4, 3), class_names=names)
    y = np.asarray(names)[arrays["y_train"]]
    xpnet.train(model, arrays["x_train"], y, epochs=1)
    model.save(tmp_path / "birds.safetensors")
    evaluated = ("evaluate", "birds.safetensors", "--data", str(data))
    result = json.loads(succeed(tmp_path, *evaluated, "--json").out)
    assert result["class_names"] == names
    table = succeed(tmp_path, *evaluated).out.splitlines()[-4:]
    assert re.split(r"\s{2,}", table[0].strip()) == ["class", "right", *names]
    for name, counts, line in zip(names, result["confusion"], table[1:], strict=True):
        assert line.strip().startswith(name)
        assert [int(count) for count in line.split()[-3:]] == counts


def test_without_validation_nothing_is_said_of_it(data: Path, tmp_path: Path) -> None:
    found = train(data, tmp_path, "--validation", "0")
    assert list(found.rows()[0]) == ["epoch", "lr", "loss", "seconds"]
    assert found.read("summary.json")["validation_accuracy"] is None
    assert "validation" not in found.ended.err


@pytest.mark.parametrize(
    ("model", "options"),
    [("model.safetensors", "--json"), ("", "--json --backend array-api-strict"), ("", "")],
)
def test_evaluate_agrees_with_the_run(
    data: Path, trained: Run, tmp_path: Path, model: str, options: str
) -> None:
    ended = succeed(tmp_path, "evaluate", str(trained.folder / model), *options.split())
    summary = trained.read("summary.json")
    assert ended.err == ""
    if not options:
        printed = facts(ended.out)
        assert printed["accuracy"] == f"{summary['test_accuracy']:.2%}"
        assert printed["rows"] == f"60 of {data}"  # by default what it was trained on
        return
    result = json.loads(ended.out)
    assert result["data"] == str(data)
    assert result["accuracy"] == summary["test_accuracy"]
    assert result["loss"] == pytest.approx(summary["test_loss"], rel=1e-12)
    assert result["rows"] == 60
    assert [sum(counts) for counts in result["confusion"]] == [20, 20, 20]
    right = [result["confusion"][label][label] / 20 for label in range(3)]
    assert result["accuracy_by_class"] == pytest.approx(right)


def test_history_is_appended_to_and_not_written_anew(data: Path, tmp_path: Path) -> None:
    history = tmp_path / "run" / "history.csv"
    arguments = ("train", "--data", str(data), *SMALL, "--epochs", "100", "--out", "run")
    with start(tmp_path, *arguments) as process:
        wait_for(lambda: history.exists() and len(history.read_bytes().splitlines()) > 1, process)
        os.link(history, tmp_path / "same")
        assert process.wait(120) == 0
    assert history.samefile(tmp_path / "same")
    assert len(history.read_bytes().splitlines()) == 101


def test_resuming_with_another_number_of_threads_is_said(data: Path, tmp_path: Path) -> None:
    found = train(data, tmp_path, "--schedule", "constant")
    assert succeed(tmp_path, *AGAIN, "--epochs", "2").err == ""
    (note,) = succeed(tmp_path, *AGAIN, "--epochs", "3", "--threads", "2").err.splitlines()
    assert "thread" in note
    assert len(found.rows()) == 3


def test_where_the_data_went_is_kept_for_the_next_resumption(data: Path, tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(data.read_bytes())
    found = train(Path("old.npz"), tmp_path, "--schedule", "constant")
    (tmp_path / "old.npz").rename(tmp_path / "new.npz")
    succeed(tmp_path, *AGAIN, "--epochs", "2", "--data", "new.npz")
    assert found.read("config.json")["data"] == str(tmp_path / "new.npz")
    (tmp_path / "elsewhere").mkdir()
    succeed(tmp_path / "elsewhere", "train", "--resume", "--out", "../run", "--epochs", "3")
    assert len(found.rows()) == 3


@pytest.mark.parametrize(("lr", "grown"), [("1e200", False), ("1000", True)])
def test_what_is_said_of_a_diverged_run_leads_to_its_end(
    data: Path, tmp_path: Path, lr: str, grown: bool
) -> None:
    options = ("--data", str(data), *SMALL, "--activation", "identity", "--epochs", "20", "--quiet")
    ended = run(tmp_path, "train", *options, "--lr", lr, "--out", "run")
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    same = run(tmp_path, *AGAIN)
    assert (same.code, len(same.err.splitlines())) == (1, 1)
    assert f"the run diverged at lr {float(lr):g}: resume with a smaller one, such as 0.5" in same.err
    evaluated = run(tmp_path, "evaluate", "run").err
    if grown:
        begin = "its loss had grown before, so begin anew, with --lr 0.5 and another --out"
        assert all(said.endswith(f"; {begin}\n") for said in (ended.err, evaluated))
        ended = run(tmp_path, "train", *options, "--lr", "0.5", "--out", "run2")
    else:
        advice = [
            said.partition("the last finite state is kept, to resume with: ")[2]
            for said in (ended.err, evaluated)
        ]
        assert advice[0] == advice[1] == "xpnet train --resume --out run --lr 0.5\n"
        ended = run(tmp_path, *shlex.split(advice[0])[1:])
    assert ended.code == 0, ended.err
    out = "run2" if grown else "run"
    assert len(Run(tmp_path / out, ended).rows()) == 20
    assert json.loads(succeed(tmp_path, "evaluate", out, "--json").out)["rows"] == 60


def test_a_run_that_has_not_ended_is_not_judged_but_the_advice_ends_it(data: Path, tmp_path: Path) -> None:
    model = train(data, tmp_path, out="a run").folder / "model.safetensors"
    model.unlink()
    ended = run(tmp_path, "evaluate", "a run")
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    advice = ended.err.partition("this run has not ended; finish it with xpnet ")[2].partition(",")[0]
    succeed(tmp_path, *shlex.split(advice))
    assert model.exists()


def test_a_run_of_reduced_precision_says_so_and_keeps_it(data: Path, tmp_path: Path) -> None:
    options = ("--hidden", "16", "--backend", "jax", "--schedule", "constant", "--precision", "bf16")
    found = train(data, tmp_path, small=options)
    assert (found.facts()["execution"], found.facts()["precision"]) == ("compiled", "bf16 matrix products")
    summary, config = found.read("summary.json"), found.read("config.json")
    assert (summary["execution"]["actual"], summary["precision"]) == ("compiled", "bf16")
    assert (config["execution"], config["precision"]) == ("auto", "bf16")
    succeed(tmp_path, *AGAIN, "--epochs", "2")
    assert found.read("summary.json")["precision"] == "bf16"
    judged = facts(succeed(tmp_path, "evaluate", "run", "--backend", "jax", "--precision", "bf16").out)
    assert judged["precision"] == "bf16 matrix products"


FALLING = """
import warnings
from xpnet.backends import numpy as home
from xpnet.backends.graph import RecordingBackend

class Falling(RecordingBackend, home.NumPyBackend):
    def executions(self):
        return ("captured", "eager")

    def record(self, body):
        warnings.warn("steps run late", RuntimeWarning)
        raise RuntimeError("no graph here")

home.NumPyBackend = Falling
"""


def test_steps_that_fell_back_are_told_by_the_table_and_by_no_warning(data: Path, tmp_path: Path) -> None:
    arguments = ("train", "--data", str(data), *SMALL, "--epochs", "1", "--out", "run")
    ended = run(tmp_path, *arguments, before=FALLING)
    assert ended.code == 0, ended.err
    assert facts(ended.out)["execution"] == "eager (steps cannot be captured on cpu: no graph here)"
    assert "steps run eager" not in ended.err
    assert "RuntimeWarning: steps run late" in ended.err  # any other is shown
