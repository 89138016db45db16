"""What a user can get wrong, and the one line that says so; nothing is left behind.

Exit code 2 where the command line alone shows the mistake, 1 where the world does.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import xpnet
from tests.process import (
    IDX_NAMES,
    Ended,
    idx,
    run,
    small_data,
    succeed,
    without,
    write_idx,
    write_npz,
)

Prepare = Callable[[Path], object]
TRAIN = (
    "train",
    "--data",
    "data.npz",
    "--epochs",
    "2",
    "--hidden",
    "4",
    "--threads",
    "1",
    "--quiet",
    "--out",
)
IMAGES, LABELS = IDX_NAMES["x_train"], IDX_NAMES["y_train"]


@dataclass(frozen=True)
class Case:
    """A mistake: the command line, the exit code, a part of the message, and what is made beforehand."""

    line: str
    code: int
    message: str
    prepare: Prepare | None = None


def data() -> dict[str, np.ndarray]:
    return small_data(rows=30, test_rows=9, features=4)


def check_error(ended: Ended, code: int, message: str) -> None:
    assert "Traceback" not in ended.err
    assert ended.err.startswith("xpnet: error: ")
    assert ended.err.endswith("\n")
    assert ended.err.count("\n") == 1
    assert message in ended.err
    assert (ended.code, ended.out) == (code, "")


def check(folder: Path, case: Case, before: str = "") -> None:
    """Run a case in a folder, which it must leave as it was."""
    if case.prepare:
        case.prepare(folder)
    found = listing(folder)
    ended = run(folder, *case.line.split(), before=before)
    check_error(ended, case.code, case.message)
    assert listing(folder) == found


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, to the byte."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def named(case: Case) -> str:
    return f"{case.line} ({case.message})"


# --- the command line alone ---------------------------------------------------------------------------------

USAGE = [
    Case("trian", 2, "No such command 'trian'"),
    Case("train --bogus", 2, "No such option '--bogus'"),
    Case("train extra", 2, "unexpected extra argument"),
    Case("evaluate", 2, "Missing argument 'MODEL'"),
    Case("train --device gpu", 2, "unknown device 'gpu'"),
    Case("train --device cuda:x", 2, "unknown device 'cuda:x'"),
    Case("train --device cuda:", 2, "unknown device 'cuda:'"),
    Case("train --device cuda:-1", 2, "unknown device 'cuda:-1'"),
    Case("train --device cpu:1", 2, "unknown device 'cpu:1'"),
    Case("evaluate model --device gpu", 2, "unknown device 'gpu'"),
    Case("train --backend tensorflow", 2, "unknown backend 'tensorflow'"),
    Case("train --backend numpy --device cuda", 2, "numpy does not run on cuda"),
    Case("train --backend cupy --device cpu", 2, "cupy does not run on cpu"),
    Case("train --device cuda --threads 1", 2, "threads applies to the CPU"),
    Case("train --threads 0", 2, "threads must be 1 or more"),
    Case("train --threads 99999999999999999999", 2, "threads"),
    Case("train --threads many", 2, "'--threads'"),
    Case("train --epochs 0", 2, "epochs must be a whole number, 1 or more"),
    Case("train --epochs -1", 2, "epochs must be a whole number, 1 or more"),
    Case("train --epochs 1.5", 2, "'1.5' is not a valid integer"),
    Case("train --batch-size 0", 2, "batch_size must be a whole number, 1 or more"),
    Case("train --batch-size -1", 2, "batch_size must be a whole number, 1 or more"),
    Case("train --hidden 0", 2, "'0' is not a list of sizes"),
    Case("train --hidden -1", 2, "'-1' is not a list of sizes"),
    Case("train --hidden 16,,8", 2, "'16,,8' is not a list of sizes"),
    Case("train --hidden wide", 2, "'wide' is not a list of sizes"),
    Case("train --lr 0", 2, "lr must be greater than 0"),
    Case("train --lr -1", 2, "lr must be greater than 0"),
    Case("train --lr nan", 2, "lr must be greater than 0"),
    Case("train --lr inf", 2, "lr must be greater than 0"),
    Case("train --lr fast", 2, "'fast' is not a valid float"),
    Case("train --optimizer adagrad", 2, "'adagrad' is not one of"),
    Case("train --schedule step", 2, "'step' is not one of"),
    Case("train --activation gelu", 2, "'gelu' is not one of"),
    Case("train --dtype float16", 2, "'float16' is not one of"),
    Case("train --momentum 1", 2, "momentum must be at least 0 and less than 1"),
    Case("train --momentum -0.1", 2, "momentum must be at least 0 and less than 1"),
    Case("train --momentum nan", 2, "momentum must be at least 0 and less than 1"),
    Case("train --momentum 0.9 --optimizer adam", 2, "momentum and nesterov belong to sgd"),
    Case("train --nesterov", 2, "nesterov needs momentum"),
    Case("train --weight-decay -1", 2, "weight_decay must be 0 or more"),
    Case("train --weight-decay nan", 2, "weight_decay must be 0 or more"),
    Case("train --warmup -1", 2, "warmup must be a whole number, 0 or more"),
    Case("train --validation 1", 2, "validation must be at least 0 and less than 1"),
    Case("train --validation -0.1", 2, "validation must be at least 0 and less than 1"),
    Case("train --patience 0", 2, "patience must be a whole number, 1 or more"),
    Case("train --patience 3 --validation 0", 2, "patience needs validation rows"),
    Case("train --memory 0", 2, "'--memory': 0 is not between 1 byte and"),
    Case("train --memory 0.4", 2, "'--memory': 0.4 is not between 1 byte and"),
    Case("train --memory 9999999TB", 2, "'--memory': 9999999TB is not between 1 byte and"),
    Case("train --memory lots", 2, "'lots' is not an amount of memory such as 512MB or 4GB"),
    Case("train --memory -1", 2, "'-1' is not an amount of memory"),
    Case("train --memory 1e9", 2, "'1e9' is not an amount of memory"),
    Case("evaluate model --memory 0", 2, "'--memory': 0 is not between 1 byte and"),
    Case("train --seed -1", 2, "seed must be a whole number, 0 or more"),
    Case("train --seed 0.5", 2, "'0.5' is not a valid integer"),
    Case("train --resume", 2, "--resume needs --out DIR"),
]


@pytest.mark.parametrize("case", USAGE, ids=named)
def test_a_command_line_that_cannot_be_meant(tmp_path: Path, case: Case) -> None:
    check(tmp_path, case)


def test_no_command_shows_the_help_as_an_error(tmp_path: Path) -> None:
    ended = run(tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: xpnet")


# --- devices and libraries ----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["train", "evaluate model"])
def test_a_gpu_that_is_not_there(tmp_path: Path, command: str) -> None:
    check(tmp_path, Case(f"{command} --device cuda:99", 1, "no device cuda:99: cupy finds"))


def test_a_library_that_is_not_installed(tmp_path: Path) -> None:
    case = Case("train --backend torch", 1, "torch is not installed: pip install 'xpnet[torch]'")
    check(tmp_path, case, before=without("torch"))


def test_a_gpu_library_that_is_not_installed(tmp_path: Path) -> None:
    case = Case("train --device cuda", 1, "cupy is not installed: pip install 'xpnet[cuda12]'")
    check(tmp_path, case, before=without("cupy"))


# --- data ---------------------------------------------------------------------------------------------------


def idx_data(**changed: bytes | None) -> Prepare:
    """A folder of IDX files, of which some are missing (None) or changed."""

    def prepare(folder: Path) -> None:
        write_idx(folder / "data", data())
        for key, content in changed.items():
            path = folder / "data" / IDX_NAMES[key]
            path.unlink()
            if content is not None:
                path.write_bytes(content)

    return prepare


def npy_data(**changed: bytes | None) -> Prepare:
    """A folder of .npy files, of which some are missing (None) or changed."""

    def prepare(folder: Path) -> None:
        (folder / "data").mkdir()
        for key, content in (data() | changed).items():
            if content is not None:
                np.save(folder / "data" / f"{key}.npy", content)
            if isinstance(content, bytes):
                (folder / "data" / f"{key}.npy").write_bytes(content)

    return prepare


def npz_data(**changed: Any) -> Prepare:
    """``data.npz``, of which some arrays are missing (None) or changed."""

    def prepare(folder: Path) -> None:
        arrays = {key: array for key, array in (data() | changed).items() if array is not None}
        write_npz(folder / "data.npz", arrays)

    return prepare


def file(name: str, content: bytes) -> Prepare:
    return lambda folder: (folder / name).write_bytes(content)


X = idx(data()["x_train"])
FLOATS = data()["x_train"] / 255
NOT_A_NUMBER = np.where(np.arange(FLOATS.size).reshape(FLOATS.shape) == 5, np.nan, FLOATS)

# a case for every reader and every kind of damage; the others are in test_data
UNREADABLE = [
    Case("data", 1, "data: no such file or folder"),
    Case("data", 1, f"no {IMAGES} and no {IMAGES}.gz", lambda folder: (folder / "data").mkdir()),
    Case("data", 1, f"{IMAGES}: the header promises 120 bytes, the file holds 119", idx_data(x_train=X[:-1])),
    Case("data", 1, f"{IMAGES}: not an IDX file", idx_data(x_train=b"")),
    Case("data", 1, "data/y_train.npy: no such file", npy_data(y_train=None)),
    Case("data", 1, "data/x_train.npy: cut off, damaged, or no numbers", npy_data(x_train=X)),
    Case("data.npz", 1, "data.npz: cut off, damaged, or no numbers", file("data.npz", b"PK\3\4")),
    Case("data.txt", 1, "data.txt: neither a folder of IDX or .npy files", file("data.txt", b"1,2")),
    Case("data.npz", 1, "no array y_test in it", npz_data(y_test=None)),
    Case("data.npz", 1, "x_train: row 1, counted from 0: NaN", npz_data(x_train=NOT_A_NUMBER, x_test=FLOATS)),
    Case("data.npz", 1, "they must be alike", npz_data(x_test=data()["x_test"][:, :3])),
    Case("data.npz", 1, "y_test: label 7 is outside the classes 0 … 2", npz_data(y_test=np.full(9, 7))),
    Case("data.npz", 1, "is 9999 a missing value?", npz_data(y_train=np.where(np.eye(30)[0], 9999, 1))),
]
TOO_LARGE = [
    Case("data", 1, "too little for batches of 64 rows of 4 bytes: give 120 or more", npy_data()),
    Case("data", 1, "too little for batches of 64 rows of 4 bytes: give 120 or more", idx_data()),
    Case("data.npz", 1, "120 bytes, more than the memory of 100, and neither compressed files", npz_data()),
    Case("mnist", 1, "47,040,000 bytes, more than the memory of 100, and neither compressed files nor"),
]


@pytest.mark.parametrize("case", TOO_LARGE, ids=named)
def test_data_larger_than_memory_that_cannot_be_streamed(tmp_path: Path, case: Case) -> None:
    line = f"train --memory 100 --data {case.line} --out out"
    check(tmp_path, Case(line, case.code, case.message, case.prepare))


@pytest.mark.parametrize("case", UNREADABLE, ids=named)
def test_data_that_cannot_be_read(tmp_path: Path, case: Case) -> None:
    line = f"train --data {case.line} --out out"
    check(tmp_path, Case(line, case.code, case.message, case.prepare))


def test_evaluate_reads_data_as_train_does(tmp_path: Path) -> None:
    xpnet.MLP((4, 3)).save(tmp_path / "model.safetensors")
    case = UNREADABLE[2]
    check(tmp_path, Case("evaluate . --data data", case.code, case.message, case.prepare))


@pytest.mark.parametrize("largest", [np.float64(1e300), np.float32(3e38)], ids=["beyond float32", "float32"])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_rows_too_large_to_be_judged_by(tmp_path: Path, command: str, largest: np.floating[Any]) -> None:
    rows = {"x_train": FLOATS.astype(largest.dtype), "x_test": np.full((9, 4), largest)}
    npz_data(**rows)(tmp_path)
    xpnet.MLP((4, 3)).save(tmp_path / "model.safetensors")
    evaluation = ("evaluate", "model.safetensors", "--data", "data.npz", "--json")
    ended = run(tmp_path, *((*TRAIN, "out") if command == "train" else evaluation))
    if ended.code:  # both an error and a loss that is told to be none would do
        check_error(ended, 1, "")
        return
    assert ended.err == ""
    written = ended.out if command == "evaluate" else (tmp_path / "out" / "summary.json").read_text()
    json.loads(written, parse_constant=refuse_constant)


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not JSON")


# --- settings that do not fit the data ----------------------------------------------------------------------

MISFITS = [
    Case("--warmup 10", 1, "warmup 10 must be less than the 2 steps of the run"),
    Case("--validation 0.01", 1, "holds none back"),
    Case("--hidden 2000000000", 1, "memory"),
    Case("--hidden 1000000000000000", 2, "'--hidden'"),
    Case("--hidden 1000000000000000000000000000000", 2, "'--hidden'"),
    Case("--epochs 100000000000000000000", 2, "epochs"),
]


@pytest.mark.parametrize("case", MISFITS, ids=named)
def test_settings_that_do_not_fit(tmp_path: Path, case: Case) -> None:
    line = f"{' '.join(TRAIN)} out {case.line}"
    check(tmp_path, Case(line, case.code, case.message, npz_data()))


@pytest.mark.parametrize(
    ("lr", "options"),
    [("1e30", ()), ("1e300", ("--backend", "torch"))],  # the second is too large for float32 itself
    ids=["numpy", "torch"],
)
def test_divergence_is_reported_and_keeps_the_last_good_state(
    tmp_path: Path, lr: str, options: tuple[str, ...]
) -> None:
    npz_data()(tmp_path)
    ended = run(tmp_path, *TRAIN, "out", "--lr", lr, "--batch-size", "5", *options)
    check_error(ended, 1, f"at learning rate {float(lr):g}")
    assert f"kept in {Path('out') / 'checkpoint.safetensors'}" in ended.err
    state = xpnet.Checkpoint(tmp_path / "out" / "checkpoint.safetensors").load().state
    assert all(np.isfinite(array).all() for array in state.values())
    assert not (tmp_path / "out" / "model.safetensors").exists()
    assert not (tmp_path / "out" / "summary.json").exists()


# --- the folder of a run ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data.npz`` and a finished run in ``out``."""
    folder = tmp_path_factory.mktemp("finished")
    npz_data()(folder)
    succeed(folder, *TRAIN, "out")
    return folder


def cut(name: str) -> Prepare:
    """Keep the first half of a file."""

    def prepare(folder: Path) -> None:
        path = folder / name
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    return prepare


def foreign(name: str) -> Prepare:
    """A sound safetensors file that another program wrote."""
    return lambda folder: save_file({"W1": np.zeros((4, 3), np.float32)}, folder / name)


def a_checkpoint_of_the_library(folder: Path) -> None:
    """A run that `xpnet.train` was called for, and so without options."""
    arrays = data()
    xpnet.train(
        xpnet.MLP((4, 3)),
        arrays["x_train"],
        arrays["y_train"],
        epochs=1,
        checkpoint=xpnet.Checkpoint(folder / "other" / "checkpoint.safetensors"),
    )


AGAIN = "train --resume --quiet --out out"
MODEL = "out/model.safetensors"
CHECKPOINT = "out/checkpoint.safetensors"
RUNS = [
    Case(f"{' '.join(TRAIN)} out", 1, "out: the folder is in use; name a new one, or add --resume"),
    Case(f"{' '.join(TRAIN)} file", 1, "file: not a folder", file("file", b"")),
    Case(f"{' '.join(TRAIN)} file/out", 1, "cannot be written: Not a directory", file("file", b"")),
    Case("train --resume --out nowhere", 1, "nowhere/checkpoint.safetensors: no such file"),
    Case(AGAIN, 1, f"{CHECKPOINT}: not a safetensors file, or cut off", cut(CHECKPOINT)),
    Case(AGAIN, 1, f"{CHECKPOINT}: not a safetensors file, or cut off", file(CHECKPOINT, b"")),
    Case(AGAIN, 1, f"{CHECKPOINT}: damaged, or not written by xpnet", foreign(CHECKPOINT)),
    Case(AGAIN, 1, "unexpected kind: 'model'", lambda at: shutil.copy(at / MODEL, at / CHECKPOINT)),
    Case("train --resume --out other", 1, "not written by `xpnet train`", a_checkpoint_of_the_library),
    Case(f"{AGAIN} --lr 0.25", 1, "lr was 0.5, not 0.25: resume with the same"),
    Case(f"{AGAIN} --seed 1", 1, "seed was 0, not 1"),
    Case(f"{AGAIN} --optimizer adam", 1, "optimizer was sgd, not adam"),
    Case(f"{AGAIN} --hidden 5", 1, "sizes was [4, 4, 3], not [4, 5, 3]"),
    Case(f"{AGAIN} --dtype float64", 1, "dtype was float32, not float64"),
    Case(f"{AGAIN} --backend array-api-strict", 1, "backend was numpy, not array-api-strict"),
    Case(f"{AGAIN} --epochs 3", 1, "epochs was 2, not 3: resume with the same; epochs can only be added"),
    Case(f"{AGAIN} --epochs 1", 1, "epochs was 2, not 1"),
    Case(
        f"{AGAIN} --data data.npz",
        1,
        "the data are not those that the run began with",
        npz_data(x_train=255 - data()["x_train"]),
    ),
    Case("evaluate nowhere", 1, "nowhere: no such file"),
    Case("evaluate .", 1, "model.safetensors: no such file"),
    Case("evaluate data.npz --data data.npz", 1, "data.npz: not a safetensors file"),
    Case(f"evaluate {MODEL} --data data.npz", 1, "not a safetensors file, or cut off", cut(MODEL)),
    Case(f"evaluate {MODEL} --data data.npz", 1, "not written by xpnet", foreign(MODEL)),
    Case(f"evaluate {CHECKPOINT} --data data.npz", 1, "unexpected kind: 'checkpoint', not 'model'"),
    Case("evaluate out --data nothing", 1, "nothing: no such file or folder"),
    Case(
        "evaluate out --data data.npz",
        1,
        "X has shape (9, 3): this network takes (rows, 4)",
        npz_data(x_train=data()["x_train"][:, :3], x_test=data()["x_test"][:, :3]),
    ),
    Case(
        "evaluate out --data data.npz",
        1,
        "label 3 is outside the classes 0 … 2",
        npz_data(y_train=np.arange(30) % 4, y_test=np.full(9, 3)),
    ),
    Case(
        "evaluate out --data data.npz",
        1,
        "X is uint16, but the network was trained on integers up to 255",
        npz_data(**{key: data()[key].astype(np.uint16) for key in ("x_train", "x_test")}),
    ),
]


@pytest.mark.parametrize("case", RUNS, ids=named)
def test_a_run_that_cannot_be_used(finished: Path, tmp_path: Path, case: Case) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    check(tmp_path, case)


def full_at(name: str) -> str:
    """Python that makes the disk full when a file of a name is about to be in place; for `before`."""
    return f"""
import pathlib
replace = pathlib.Path.replace
def fail(path, target):
    if pathlib.Path(target).name == {name!r}:
        raise OSError(28, "No space left on device")
    return replace(path, target)
pathlib.Path.replace = fail
"""


def test_a_disk_that_is_full_at_the_first_checkpoint(tmp_path: Path) -> None:
    npz_data()(tmp_path)
    (tmp_path / "out").mkdir()
    before = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))"
    check_error(run(tmp_path, *TRAIN, "out", before=before), 1, "cannot be written: File too large")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_disk_that_is_full_at_the_end_costs_no_epoch(finished: Path, tmp_path: Path) -> None:
    npz_data()(tmp_path)
    ended = run(tmp_path, *TRAIN, "out", before=full_at("model.safetensors"))
    check_error(ended, 1, "model.safetensors: cannot be written: No space left on device")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"checkpoint.safetensors", "config.json", "history.csv"}

    before = (tmp_path / "out" / "history.csv").read_bytes()
    succeed(tmp_path, "train", "--resume", "--out", "out")
    assert (tmp_path / "out" / "history.csv").read_bytes() == before
    assert (tmp_path / MODEL).read_bytes() == (finished / MODEL).read_bytes()


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    before = listing(tmp_path)
    ended = run(tmp_path, *AGAIN.split(), before=full_at("checkpoint.safetensors"))
    check_error(ended, 1, "No space left on device")
    assert listing(tmp_path) == before
