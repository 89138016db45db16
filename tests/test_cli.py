"""The terminal face, run as processes: what it prints, what it writes, and how it stops and goes on."""

import csv
import fcntl
import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import xpnet
from tests.process import (
    Ended,
    command,
    environment,
    run,
    small_data,
    start,
    succeed,
    wait_for,
    without,
    write_idx,
    write_npz,
)
from xpnet.backends import LIBRARIES, backend_class

RUN_FILES = {"model.safetensors", "history.csv", "config.json", "summary.json", "checkpoint.safetensors"}
SMALL = ("--hidden", "16", "--threads", "1", "--dtype", "float64")
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""A job in the background of a shell is started deaf to Ctrl-C, and so are its children."""


@dataclass(frozen=True)
class Run:
    """A finished run, and what it printed."""

    folder: Path
    ended: Ended

    def read(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name)


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def model_bytes(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def facts(out: str) -> dict[str, str]:
    """The lines of a table of two columns."""
    pairs = (re.split(r"\s{2,}", line.strip(), maxsplit=1) for line in out.splitlines())
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "small.npz", small_data())


@pytest.fixture(scope="module")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of three epochs in the default folder."""
    folder = tmp_path_factory.mktemp("trained")
    ended = run(folder, "train", "--data", str(data), "--epochs", "3", *SMALL)
    return Run(folder / "runs" / "001", ended)


def test_version(tmp_path: Path) -> None:
    assert run(tmp_path, "--version") == Ended(0, f"xpnet {xpnet.__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ("train", "evaluate", "parity", "info", "--version")),
        (
            ("train",),
            ("--data", "--device", "--precision", "--execution", "--lr", "--resume", "[default: relu]"),
        ),
        (("evaluate",), ("MODEL", "--data", "--precision", "--json")),
        (("parity",), ("--dtype", "--precision", "--execution", "--run-steps", "--json")),
        (("info",), ("libraries",)),
    ],
    ids=["xpnet", "train", "evaluate", "parity", "info"],
)
def test_help(tmp_path: Path, arguments: tuple[str, ...], expected: tuple[str, ...]) -> None:
    ended = run(tmp_path, *arguments, "--help")
    assert (ended.code, ended.err) == (0, "")
    for word in expected:
        assert word in ended.out


@pytest.mark.parametrize("arguments", [("--help",), ("train", "--help"), ("train", *SMALL, "--quiet")])
def test_no_library_is_imported_that_is_not_used(
    data: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    others = {backend_class(name).library for name in LIBRARIES if name != "numpy"}
    report = f"print('imported', sorted({others} & sys.modules.keys()), file=sys.stderr)"
    before = f"import atexit, sys; atexit.register(lambda: {report})"
    own_data = ("--data", str(data)) if "--quiet" in arguments else ()
    ended = run(tmp_path, *arguments, *own_data, before=before)
    assert (ended.code, ended.err) == (0, "imported []\n")


def test_train_writes_five_files(trained: Run) -> None:
    assert trained.ended.code == 0
    assert {path.name for path in trained.folder.iterdir()} == RUN_FILES


def test_summary_tells_what_came_out_and_on_what(trained: Run) -> None:
    summary = trained.read("summary.json")
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
    assert 0 <= summary["validation_accuracy"] <= 1
    assert summary["test_loss"] > 0
    assert summary["train_seconds"] > 0
    assert summary["library_version"]


def test_history_has_a_row_for_each_epoch(trained: Run) -> None:
    history = rows(trained.folder)
    columns = ["epoch", "lr", "loss", "validation_loss", "validation_accuracy", "seconds"]
    assert list(history[0]) == columns
    assert [int(row["epoch"]) for row in history] == [1, 2, 3]
    assert float(history[2]["loss"]) < float(history[0]["loss"])
    summary = trained.read("summary.json")
    assert float(history[2]["validation_accuracy"]) == summary["validation_accuracy"]
    assert sum(float(row["seconds"]) for row in history) == pytest.approx(summary["train_seconds"])


def test_results_go_to_standard_output_and_progress_to_standard_error(trained: Run) -> None:
    summary, printed = trained.read("summary.json"), facts(trained.ended.out)
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


def test_a_pipe_gets_no_control_characters(trained: Run) -> None:
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", trained.ended.out + trained.ended.err)


@pytest.mark.parametrize("name", ["a[bold]b:rocket:c", "a-long-name-" * 8])
def test_a_folder_is_printed_as_it_is_named(data: Path, tmp_path: Path, name: str) -> None:
    ended = succeed(tmp_path, "train", "--data", str(data), *SMALL, "--epochs", "1", "--quiet", "--out", name)
    assert facts(ended.out)["folder"] == name


def test_quiet_leaves_standard_error_empty_and_the_next_run_gets_the_next_folder(
    data: Path, tmp_path: Path
) -> None:
    for number in ("001", "002"):
        ended = succeed(tmp_path, "train", "--data", str(data), *SMALL, "--epochs", "1", "--quiet")
        assert ended.err == ""
        assert facts(ended.out)["folder"] == os.path.join("runs", number)
    assert model_bytes(tmp_path / "runs" / "001") == model_bytes(tmp_path / "runs" / "002")


def test_runs_that_begin_together_get_folders_of_their_own(data: Path, tmp_path: Path) -> None:
    # each waits for the other before it writes its first file
    meet = (
        "import pathlib, sys, time, xpnet\n"
        "save = xpnet.Checkpoint.save\n"
        "def wait(*arguments):\n"
        "    pathlib.Path(f'{sys.argv[-1]}.ready').touch()\n"
        "    deadline = time.monotonic() + 60\n"
        "    while len(list(pathlib.Path().glob('*.ready'))) < 2 and time.monotonic() < deadline:\n"
        "        time.sleep(0.001)\n"
        "    save(*arguments)\n"
        "xpnet.Checkpoint.save = wait"
    )
    arguments = ("train", "--data", str(data), *SMALL, "--epochs", "1", "--seed")
    processes = [start(tmp_path, *arguments, seed, before=meet) for seed in ("1", "2")]
    assert [process.wait(120) for process in processes] == [0, 0]
    folders = sorted((tmp_path / "runs").iterdir())
    assert sorted(read_json(folder / "summary.json")["seed"] for folder in folders) == [1, 2]


def test_a_terminal_sees_a_bar(data: Path, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    terminal, end = pty.openpty()
    arguments = ("train", "--data", str(data), *SMALL, "--epochs", "3")
    settings = environment(TERM="xterm-256color", COLUMNS="100")
    with start(tmp_path, *arguments, env=settings, stdout=subprocess.PIPE, stderr=end) as process:
        os.close(end)
        seen = b"".join(read_all(terminal)).decode()
        assert process.stdout is not None
        results = process.stdout.read().decode()
    os.close(terminal)

    assert process.returncode == 0
    assert re.search(r"epoch 1/3.*━.* %  loss ", seen)
    assert "\x1b[" in seen
    assert re.search(r"epoch 3/3  loss [\d.]+  validation loss [\d.]+  accuracy [\d.]+%", seen)
    assert "test accuracy" in results
    assert "\x1b" not in results


def read_all(terminal: int) -> Iterator[bytes]:
    """Read a pseudo terminal to its end, which Linux reports as an error."""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:
            return
        if not part:
            return
        yield part


@pytest.mark.parametrize("name", [name for name in LIBRARIES if "cpu" in backend_class(name).kinds])
def test_every_library_begins_with_the_same_loss(data: Path, trained: Run, tmp_path: Path, name: str) -> None:
    options = ("--hidden", "16", "--dtype", "float64", "--epochs", "3", "--backend", name)
    succeed(tmp_path, "train", "--data", str(data), *options, "--out", "run")
    summary = read_json(tmp_path / "run" / "summary.json")
    assert (summary["backend"], summary["device"], summary["dtype"]) == (name, "cpu", "float64")
    loss, expected = (float(rows(folder)[0]["loss"]) for folder in (tmp_path / "run", trained.folder))
    assert loss == pytest.approx(expected, rel=1e-9, abs=0)


SGD = {
    "hidden": "16,8",
    "activation": "tanh",
    "dtype": "float64",
    "epochs": 4,
    "batch_size": 32,
    "lr": 0.1,
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 0.0001,
    "schedule": "cosine",
    "warmup": 2,
    "validation": 0.2,
    "patience": 4,
    "seed": 5,
    "threads": 1,
    "backend": "numpy",
    "device": "cpu",
    "precision": "float32",
    "execution": "eager",
}
ADAM = {"optimizer": "adam", "epochs": 2, "activation": "sigmoid", "validation": 0.0, "schedule": "constant"}


@pytest.mark.parametrize("options", [SGD, ADAM], ids=["sgd", "adam"])
def test_every_option_reaches_the_run(data: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    arguments = []
    for name, value in options.items():
        arguments.append("--" + name.replace("_", "-"))
        if value is not True:
            arguments.append(str(value))
    succeed(tmp_path, "train", "--data", str(data), *arguments, "--out", "run")

    config = read_json(tmp_path / "run" / "config.json")
    expected = {name: value for name, value in options.items() if name != "hidden"}
    hidden = [int(size) for size in str(options.get("hidden", "128")).split(",")]
    assert config["sizes"] == [8, *hidden, 3]
    assert {name: config[name] for name in expected} == expected
    assert config["xpnet"] == xpnet.__version__
    assert config["lr"] == options.get("lr", 0.001)


def test_data_may_be_a_folder_of_idx_files(trained: Run, tmp_path: Path) -> None:
    for name, zipped in (("plain", False), ("zipped", True)):
        write_idx(tmp_path / name, small_data(), zipped=zipped)
        succeed(tmp_path, "train", "--data", name, "--epochs", "3", *SMALL, "--out", f"run-{name}")
        assert model_bytes(tmp_path / f"run-{name}") == model_bytes(trained.folder)


def test_patience_ends_a_run_and_keeps_its_best_epoch(data: Path, tmp_path: Path) -> None:
    options = ("--epochs", "200", "--patience", "2", "--lr", "0.3", *SMALL)
    succeed(tmp_path, "train", "--data", str(data), *options, "--out", "run", "--quiet")
    summary, history = read_json(tmp_path / "run" / "summary.json"), rows(tmp_path / "run")
    scores = [float(row["validation_accuracy"]) for row in history]
    assert summary["epochs"] == len(history) == summary["best_epoch"] + 2 < 200
    assert summary["best_epoch"] == scores.index(max(scores)) + 1
    assert summary["validation_accuracy"] == max(scores)


def test_without_validation_the_history_has_empty_cells(data: Path, tmp_path: Path) -> None:
    options = ("--epochs", "1", "--validation", "0", *SMALL)
    ended = succeed(tmp_path, "train", "--data", str(data), *options, "--out", "run")
    assert rows(tmp_path / "run")[0]["validation_loss"] == ""
    assert read_json(tmp_path / "run" / "summary.json")["validation_accuracy"] is None
    assert "validation" not in ended.err


@pytest.mark.parametrize(
    ("model", "options"),
    [("", ()), ("model.safetensors", ()), ("", ("--backend", "array-api-strict"))],
    ids=["a folder", "a file", "another library"],
)
def test_evaluate_agrees_with_the_run(
    data: Path, trained: Run, tmp_path: Path, model: str, options: tuple[str, ...]
) -> None:
    arguments = ("evaluate", str(trained.folder / model), "--data", str(data), *options)
    ended = succeed(tmp_path, *arguments, "--json")
    result, summary = json.loads(ended.out), trained.read("summary.json")
    assert ended.err == ""
    assert result["accuracy"] == summary["test_accuracy"]
    assert result["loss"] == pytest.approx(summary["test_loss"], rel=1e-12)
    assert result["rows"] == 60
    assert [sum(counts) for counts in result["confusion"]] == [20, 20, 20]
    right = [result["confusion"][label][label] / 20 for label in range(3)]
    assert result["accuracy_by_class"] == pytest.approx(right)


def test_evaluate_prints_accuracy_and_confusion(data: Path, trained: Run, tmp_path: Path) -> None:
    ended = succeed(tmp_path, "evaluate", str(trained.folder), "--data", str(data))
    printed = facts(ended.out)
    assert ended.err == ""
    assert printed["accuracy"] == f"{trained.read('summary.json')['test_accuracy']:.2%}"
    assert printed["rows"] == f"60 of {data}"
    counts = [line.split() for line in ended.out.splitlines() if re.match(r"\s*[012]\s+[\d.]+%", line)]
    assert [sum(map(int, row[2:])) for row in counts] == [20, 20, 20]


def test_info_tells_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    missing = [name for name in LIBRARIES if name not in ("numpy", "array-api-strict")]
    modules = [backend_class(name).library.partition(".")[0] for name in missing]
    ended = run(tmp_path, "info", before=without(*modules))
    assert (ended.code, ended.err) == (0, "")
    for name in LIBRARIES:
        library = backend_class(name)
        (line,) = [line for line in ended.out.splitlines() if line.split()[:1] == [name]]
        expected = ["-", library.install] if name in missing else [library.version(), "cpu"]
        assert re.split(r"\s+", line.strip(), maxsplit=2)[1:] == expected


def test_info_survives_a_library_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so: cannot open\\nthe file')\n")
    others = {backend_class(name).library.partition(".")[0] for name in LIBRARIES} - {"torch", "numpy"}
    ended = run(tmp_path, "info", before=without(*others), path=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^ ?torch +-.* libcudart\.so: cannot open the file", ended.out, re.MULTILINE)


def outputs(trained: Run, data: Path) -> Sequence[tuple[str, ...]]:
    evaluation = ("evaluate", str(trained.folder), "--data", str(data))
    return (evaluation, (*evaluation, "--json"), ("--help",))


@pytest.mark.parametrize("which", [0, 1, 2], ids=["table", "json", "help"])
def test_a_reader_that_has_gone_is_no_error(data: Path, trained: Run, tmp_path: Path, which: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    arguments = outputs(trained, data)[which]
    with start(tmp_path, *arguments, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        _, err = process.communicate(timeout=120)
    assert err == b""


@pytest.mark.parametrize("which", [0, 1, 2], ids=["table", "json", "help"])
def test_an_output_that_is_closed_is_no_error(data: Path, trained: Run, tmp_path: Path, which: int) -> None:
    arguments = command(*outputs(trained, data)[which])
    ended = subprocess.run(
        f"{shlex.join(arguments)} >&-",
        shell=True,
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert ended.stderr == b""


@pytest.mark.parametrize("which", [0, 1, 2], ids=["table", "json", "help"])
def test_an_output_that_is_full_is_an_error_of_one_line(
    data: Path, trained: Run, tmp_path: Path, which: int
) -> None:
    with open("/dev/full", "wb") as full:
        arguments = outputs(trained, data)[which]
        with start(tmp_path, *arguments, stdout=full, stderr=subprocess.PIPE) as process:
            _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert re.fullmatch(rb"xpnet: error: [^\n]*No space left on device[^\n]*\n", err)


@pytest.mark.parametrize(("kind", "out"), [(signal.SIGINT, "run"), (signal.SIGTERM, "a run")])
def test_a_stopped_run_says_how_to_go_on_and_ends_as_an_unbroken_one(
    data: Path, tmp_path: Path, kind: signal.Signals, out: str
) -> None:
    arguments = ("train", "--data", str(data), *SMALL, "--epochs", "150", "--out")
    succeed(tmp_path, *arguments, "unbroken")
    # standard error is a pipe too small for all epochs, and unread: the run cannot end before the signal
    with start(
        tmp_path, *arguments, out, before=INTERRUPTIBLE, stderr=subprocess.PIPE, pipesize=4096
    ) as process:
        wait_for((tmp_path / out / "history.csv").exists, process)
        process.send_signal(kind)
        _, err = process.communicate(timeout=120)

    assert process.returncode == 130
    assert b"Traceback" not in err
    lines = [line for line in err.decode().splitlines() if not line.startswith("epoch ")]
    advice = [line for line in lines if "go on with: " in line]
    assert len(advice) == 1
    assert 1 <= len(rows(tmp_path / out)) < 150
    assert not (tmp_path / out / "model.safetensors").exists()

    program, *again = shlex.split(advice[0].partition("go on with: ")[2])
    assert program == "xpnet"
    ended = succeed(tmp_path, *again)
    assert facts(ended.out)["folder"] == out
    assert model_bytes(tmp_path / out) == model_bytes(tmp_path / "unbroken")
    assert {path.name for path in (tmp_path / out).iterdir()} == RUN_FILES
    assert [int(row["epoch"]) for row in rows(tmp_path / out)] == list(range(1, 151))


def test_a_stopped_run_writes_nothing_between_its_lines(data: Path, tmp_path: Path) -> None:
    arguments = ("train", "--data", str(data), *SMALL, "--epochs", "150", "--out", "run")
    with start(tmp_path, *arguments, stderr=subprocess.PIPE, pipesize=4096) as process:
        wait_for((tmp_path / "run" / "history.csv").exists, process)
        process.terminate()
        _, err = process.communicate(timeout=120)
    rest = [line for line in err.decode().splitlines() if not line.startswith("epoch ")]
    assert rest
    assert all(line.startswith("xpnet: ") for line in rest)


def test_a_run_goes_on_with_more_epochs(data: Path, tmp_path: Path) -> None:
    arguments = ("train", "--data", str(data), *SMALL, "--schedule", "constant", "--epochs")
    succeed(tmp_path, *arguments, "6", "--out", "unbroken")
    succeed(tmp_path, *arguments, "3", "--out", "longer")
    ended = succeed(tmp_path, "train", "--resume", "--epochs", "6", "--out", "longer")
    assert [line.split("  ")[0] for line in ended.err.splitlines()] == [f"epoch {n}/6" for n in (4, 5, 6)]
    assert model_bytes(tmp_path / "longer") == model_bytes(tmp_path / "unbroken")
    assert len(rows(tmp_path / "longer")) == read_json(tmp_path / "longer" / "summary.json")["epochs"] == 6
    assert read_json(tmp_path / "longer" / "config.json")["epochs"] == 6


def test_resuming_a_finished_run_changes_no_weight(data: Path, tmp_path: Path) -> None:
    succeed(tmp_path, "train", "--data", str(data), *SMALL, "--epochs", "2", "--out", "run")
    weights, config = model_bytes(tmp_path / "run"), read_json(tmp_path / "run" / "config.json")
    ended = succeed(tmp_path, "train", "--resume", "--out", "run")
    assert ended.err == ""
    assert model_bytes(tmp_path / "run") == weights
    assert read_json(tmp_path / "run" / "config.json") == config
    assert len(rows(tmp_path / "run")) == 2


def test_resuming_with_another_number_of_threads_is_said(data: Path, tmp_path: Path) -> None:
    arguments = ("train", "--data", str(data), "--hidden", "16", "--schedule", "constant")
    succeed(tmp_path, *arguments, "--threads", "1", "--epochs", "1", "--out", "run")
    again = ("train", "--resume", "--out", "run", "--quiet", "--epochs")
    assert succeed(tmp_path, *again, "2").err == ""
    notes = succeed(tmp_path, *again, "3", "--threads", "2").err.splitlines()
    assert len(notes) == 1
    assert "thread" in notes[0]
    assert len(rows(tmp_path / "run")) == 3


def test_where_the_data_went_is_kept_for_the_next_resumption(data: Path, tmp_path: Path) -> None:
    (tmp_path / "old.npz").write_bytes(data.read_bytes())
    options = ("--epochs", "1", "--schedule", "constant", "--out", "run")
    succeed(tmp_path, "train", "--data", "old.npz", *SMALL, *options)
    (tmp_path / "old.npz").rename(tmp_path / "new.npz")
    again = ("train", "--resume", "--out", "run", "--epochs")
    succeed(tmp_path, *again, "2", "--data", "new.npz")
    assert read_json(tmp_path / "run" / "config.json")["data"] == str(tmp_path / "new.npz")
    (tmp_path / "elsewhere").mkdir()
    succeed(tmp_path / "elsewhere", *("train", "--resume", "--out", "../run", "--epochs"), "3")
    assert len(rows(tmp_path / "run")) == 3


def test_a_run_is_judged_by_default_on_what_it_was_trained_on(data: Path, tmp_path: Path) -> None:
    succeed(tmp_path, "train", "--data", str(data), *SMALL, "--epochs", "1", "--out", "run")
    described = json.loads(succeed(tmp_path, "evaluate", "run", "--json").out)
    assert described["data"] == str(data)
    assert described["accuracy"] == read_json(tmp_path / "run" / "summary.json")["test_accuracy"]


def test_a_run_that_has_not_ended_is_not_judged(data: Path, tmp_path: Path) -> None:
    succeed(tmp_path, "train", "--data", str(data), *SMALL, "--epochs", "1", "--out", "run")
    (tmp_path / "run" / "model.safetensors").unlink()
    ended = run(tmp_path, "evaluate", "run")
    assert ended.code == 1
    assert "this run has not ended" in ended.err


def test_a_folder_holds_one_run_at_a_time(data: Path, tmp_path: Path) -> None:
    succeed(tmp_path, "train", "--data", str(data), *SMALL, "--epochs", "1", "--out", "run")
    handle = os.open(tmp_path / "run", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        ended = run(tmp_path, "train", "--resume", "--out", "run")
    finally:
        os.close(handle)
    assert ended.code == 1
    assert "another run is going on" in ended.err
    succeed(tmp_path, "train", "--resume", "--out", "run")


def test_the_model_file_of_a_run_is_judged_on_its_data_too(data: Path, tmp_path: Path) -> None:
    succeed(tmp_path, "train", "--data", str(data), *SMALL, "--epochs", "1", "--out", "run")
    described = json.loads(succeed(tmp_path, "evaluate", "run/model.safetensors", "--json").out)
    assert described["data"] == str(data)


def test_a_run_of_reduced_precision_says_so_and_keeps_it(data: Path, tmp_path: Path) -> None:
    options = ("--hidden", "16", "--backend", "jax", "--epochs", "1", "--schedule", "constant")
    arguments = ("train", "--data", str(data), *options, "--precision", "bf16", "--out", "run")
    printed = facts(succeed(tmp_path, *arguments).out)
    assert (printed["execution"], printed["precision"]) == ("compiled", "bf16 matrix products")
    summary = read_json(tmp_path / "run" / "summary.json")
    assert (summary["execution"]["actual"], summary["precision"]) == ("compiled", "bf16")
    config = read_json(tmp_path / "run" / "config.json")
    assert (config["execution"], config["precision"]) == ("auto", "bf16")

    again = ("train", "--resume", "--out", "run", "--epochs", "2")
    ended = run(tmp_path, *again, "--precision", "float32")
    assert (ended.code, len(ended.err.splitlines())) == (1, 1)
    assert "precision was bf16, not float32: resume with the same" in ended.err
    succeed(tmp_path, *again)
    assert read_json(tmp_path / "run" / "summary.json")["precision"] == "bf16"

    place = ("--backend", "jax", "--precision", "bf16")
    judged = facts(succeed(tmp_path, "evaluate", "run", *place).out)
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


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ("--precision fp8", 2, "'fp8' is not one of 'float32', 'tf32', 'bf16'"),
        ("--execution compiled", 2, "'compiled' is not one of 'auto', 'eager', 'captured'"),
        ("--precision tf32", 1, "no tf32 matrix products: numpy on cpu has float32 (tf32: "),
        ("--execution captured", 2, "execution cannot be captured: numpy on cpu runs steps eager"),
        ("--backend jax --execution eager", 2, "execution cannot be eager: jax on cpu runs steps compiled"),
        ("--backend jax --precision bf16 --dtype float64", 2, "bf16 belongs to float32, not to float64"),
    ],
)
def test_precision_or_steps_that_cannot_be_are_one_line(
    data: Path, tmp_path: Path, options: str, code: int, message: str
) -> None:
    ended = run(tmp_path, "train", "--data", str(data), *options.split())
    assert ended.code == code
    assert len(ended.err.splitlines()) == 1
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []
