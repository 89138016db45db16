"""What a user can get wrong at the terminal, and the one line that says so; nothing is left behind.

Exit code 2 where the command line alone shows the mistake, 1 where the world does. The library's own tests
hold every way in which values and files can be wrong; one of each kind stands here.
"""

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

import xpnet
from tests.helpers import tensors, write_tensors
from tests.process import Ended, idx, run, small_data, succeed, without, write_idx, write_npz
from xpnet.cli.commands import LONGEST
from xpnet.data.idx import NAMES

Prepare = Callable[[Path], object]
Case = tuple[str, str] | tuple[str, str, Prepare]
"""A mistake: the command line, a part of the message, and what is made beforehand."""

DIGITS, LONG = "9" * 5000, "a" * 300
TRAIN = "train --data data.npz --epochs 2 --hidden 4 --threads 1 --quiet --out"
AGAIN = "train --resume --quiet --out out"
MODEL, CHECKPOINT, CONFIG = "out/model.safetensors", "out/checkpoint.safetensors", "out/config.json"
DATA = small_data(rows=30, test_rows=9, features=4)
NARROW = {key: DATA[key][:, :3] for key in ("x_train", "x_test")}


def check_error(ended: Ended, code: int, message: str) -> None:
    assert ended.err.startswith("xpnet: error: ")
    assert ended.err.endswith("\n")
    assert ended.err.count("\n") == 1
    assert len(ended.err) < LONGEST + 50
    assert message in ended.err
    assert (ended.code, ended.out) == (code, "")


def check(folder: Path, code: int, case: Case, before: str = "") -> None:
    """Run a case in a folder, which it must leave as it was."""
    line, message, *prepare = case
    for make in prepare:
        make(folder)
    found = listing(folder)
    check_error(run(folder, *line.split(), before=before), code, message)
    assert listing(folder) == found


def listing(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, to the byte."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


def named(part: Case | int) -> str:
    return f"{part[0][:60]} ({part[1]})" if isinstance(part, tuple) else f"{part}"


def npz(**changed: Any) -> Prepare:
    """Makes ``data.npz``, with some arrays changed."""
    return lambda folder: write_npz(folder / "data.npz", DATA | changed)


def file(name: str, content: bytes) -> Prepare:
    """Makes a file, within a folder that is there."""
    return lambda folder: (folder / name).write_bytes(content)


def folder_of(suffix: str, **changed: bytes) -> Prepare:
    """Makes a folder ``data`` of .npy or IDX files, some of them replaced."""

    def prepare(folder: Path) -> None:
        write_idx(folder / "data", DATA) if suffix == "idx" else (folder / "data").mkdir()
        for key, array in DATA.items():
            content = io.BytesIO()
            np.save(content, array)
            if suffix == "npy":
                (folder / "data" / f"{key}.npy").write_bytes(changed.get(key, content.getvalue()))
            elif key in changed:
                (folder / "data" / NAMES[key]).write_bytes(changed[key])

    return prepare


def cut(name: str) -> Prepare:
    """Removes the end of a file."""
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size // 2)


USAGE: list[Case] = [
    (
        "forecast",
        "No such command 'forecast'. The commands are train, evaluate, predict, report, show, export",
    ),
    (LONG * 20, "The commands are train"),
    ("train --bogus", "No such option '--bogus'."),
    ("train -lr 1", "No such option '-l'. Options are written in full"),
    ("train --learning-rate 1", "Did you mean --lr?"),
    ("train --random_state 1", "Did you mean --seed?"),
    ("train --max-grad-norm 1", "Did you mean --clip?"),
    ("train --n-jobs 1", "Did you mean --threads?"),
    ("train --hidden_layer_sizes 9", "Did you mean --hidden?"),
    ("train --gpu", "Did you mean --device cuda?"),
    ("train extra", "unexpected extra argument"),
    ("evaluate", "Missing argument 'MODEL'"),
    ("train --device gpu", "unknown device 'gpu'"),
    ("evaluate model --device cpu:1", "unknown device 'cpu:1'"),
    (f"train --device cuda:{DIGITS}", "device"),
    ("train --backend tensorflow", "backend 'tensorflow'"),
    ("train --backend numpy --device cuda", "numpy does not run on cuda"),
    ("train --device cuda --threads 1", "threads applies to the CPU"),
    ("train --threads 0", "threads must be"),
    ("train --epochs 1.5", "'1.5' is not a valid integer"),
    *[(f"train --{name} {DIGITS}", f"'--{name}'") for name in ("hidden", "memory", "seed")],
    (f"train --lr {LONG * 20}", "is not a valid float"),
    ("train --lr inf", "lr must be greater than 0"),
    ("train --hidden 16,,8", "'16,,8' is not a list of sizes"),
    ("train --activation gelu", "'gelu' is not one of"),
    ("train --loss hinge", "'hinge' is not one of 'cross-entropy', 'binary-cross-entropy'"),
    ("train --dropout half", "'half' is not a list of rates such as 0.2 or 0.1,0.5"),
    ("train --augment twist", "augment: 'twist': choose one of shift, rotate, scale, shear, elastic"),
    ("train --augment shift=far", "augment: shift must be more than 0 and less than 1000, not 'far'"),
    ("train --recipe best", "'best' is not one of 'mnist-short', 'mnist-best'"),
    ("train --monitor mse", "'mse' is not one of 'loss', 'accuracy', 'f1', 'rmse', 'r2'"),
    ("train --class-weight 0=1,0=2", "'0=1,0=2' is neither balanced nor weights such as 0=1,1=5"),
    ("train --class-weight 0=nan", "'0=nan' is neither balanced nor weights such as 0=1,1=5"),
    ("train --beta1 0.5", "beta1, beta2, epsilon belong to adam and adamw, not to sgd"),
    ("train --class-weight 0=1,,1=2", "'0=1,,1=2' is neither balanced nor weights such as 0=1,1=5"),
    ("train --momentum 0.9 --optimizer adamw", "momentum and nesterov belong to sgd, not to adamw"),
    ("train --patience 3 --validation 0", "patience needs validation rows"),
    ("train --memory 0.4", "'--memory': 0.4 is not between 1 byte and"),
    ("evaluate model --memory lots", "'lots' is not an amount of memory such as 512MB or 4GB"),
    ("train --resume", "--resume needs --out DIR"),
    ("parity --run-steps 0", "0 is not in the range"),
    ("train --precision fp8", "'fp8' is not one of 'float32', 'tf32', 'bf16'"),
    ("train --execution captured", "execution cannot be captured: numpy on cpu runs steps eager"),
    ("train --backend jax --precision bf16 --dtype float64", "bf16 belongs to float32, not to float64"),
]
DATA_USAGE: list[Case] = [
    (f"{TRAIN} out --activation relu,tanh", "activation", npz()),
    (f"{TRAIN} out --dropout 0.1,0.2,0.3", "dropout (0.1, 0.2, 0.3): give one rate, two, or 2", npz()),
    (f"{TRAIN} out --augment shift", "augment is for images, rows whose height and width are known", npz()),
    (f"{TRAIN} out --class-weight hen=1", "class_weight {'hen': 1.0}: give classes", npz()),
    (f"{TRAIN} out --class-weight 0=-1", "class_weight {0: -1.0}: give classes and weights of 0 or", npz()),
    (f"{TRAIN} out --loss poisson --class-weight balanced", "class_weight belongs to classes", npz()),
    (f"{TRAIN} out --monitor f1 --patience 1", "monitor f1: cross-entropy measures loss, accuracy", npz()),
]
"""Mistakes of the command line that only the data show."""
NUMBERS = {f"y_{part}": DATA[f"y_{part}"] + 0.5 for part in ("train", "test")}
SQUARED = f"{TRAIN} out --loss squared-error"
WORLD: list[Case] = [
    (f"{TRAIN} out", "y_train: float64 labels; they must be whole numbers from 0, unless", npz(**NUMBERS)),
    (SQUARED, "y_test: row 0, counted from 0: NaN, infinity", npz(y_test=np.full(9, np.inf))),
    (SQUARED, "y_train and y_test have shapes (30, 2) and (9,)", npz(y_train=np.zeros((30, 2)))),
    (SQUARED, "y_train: str_ where there must be numbers", npz(y_train=np.full(30, "a"))),
    (f"{TRAIN} out --loss binary-cross-entropy", "y_train: labels must be 0 or 1, not 2", npz()),
    (f"{TRAIN} out --loss poisson", "-1 is less than 0", npz(y_train=np.full(30, -1))),
    (f"{TRAIN} out --class-weight 0=0,1=0,2=0", "every row weighs 0", npz()),
    ("train --device cuda:99", "no device cuda:99: cupy finds"),
    ("train --precision tf32", "no tf32 matrix products: numpy on cpu has float32 (tf32: "),
    ("train --out /proc/mine", "/proc/mine: No such file or directory"),
    (f"train --out {LONG}", "File name too long"),
    (f"train --resume --out {'a/' * 3000}", "File name too long"),
    (f"evaluate {LONG}", "File name too long"),
    ("train --data data", "data: no such file or folder"),
    ("train --data data", "holds 119", folder_of("idx", x_train=idx(DATA["x_train"])[:-1])),
    ("train --data data", "x_train.npy: ", folder_of("npy", x_train=b"\x93NUMPY")),
    ("train --data data --memory 100", "give 120 or more", folder_of("npy")),
    ("train --data data.npz", "data.npz: ", file("data.npz", b"PK\3\4")),
    ("train --data data.npz", "y_test: label 7 is outside the classes 0 … 2", npz(y_test=np.full(9, 7))),
    (f"{TRAIN} out --warmup 10", "warmup 10 must be less than the 2 steps of the run", npz()),
    (f"{TRAIN} out --hidden 2000000000", "memory", npz()),
]
NAME_DATA = "name the data with --data mnist or --data PATH"
RUNS: list[Case] = [
    (f"{TRAIN} out", "out: the folder is in use; name a new one, or add --resume"),
    (f"{TRAIN} file", "file: not a folder", file("file", b"")),
    (f"{TRAIN} file/out", "file/out: Not a directory", file("file", b"")),
    (
        "train --resume --out nowhere",
        "nowhere: no run to resume, for there is no checkpoint.safetensors; to begin",
    ),
    (AGAIN, f"{CHECKPOINT}: not a safetensors file, or cut off", cut(CHECKPOINT)),
    (AGAIN, f"{CHECKPOINT}: its description", lambda at: shutil.copy(at / MODEL, at / CHECKPOINT)),
    ("train --resume --out other", "not a run of `xpnet train`", lambda at: of_the_library(at / "other")),
    (f"{AGAIN} --lr 0.25", "lr was 0.5, not 0.25: resume with the same"),
    (f"{AGAIN} --dropout 0.5", "dropout was [], not [0.5]: resume with the same"),
    (f"{AGAIN} --loss binary-cross-entropy", "y_train: labels must be 0 or 1, not 2"),
    (f"{AGAIN} --standardize", "standardize was False, not True: resume with the same"),
    (f"{AGAIN} --epochs 3", "epochs was 2, not 3: resume with the same; epochs can only be added"),
    (f"{AGAIN} --data data.npz", "the data are not those", npz(x_train=255 - DATA["x_train"])),
    ("evaluate nowhere", "nowhere: no such file"),
    ("evaluate data.npz --data data.npz", "data.npz: not a safetensors file"),
    (f"evaluate {MODEL}", "not a safetensors file, or cut off", cut(MODEL)),
    (f"evaluate {MODEL}", "not written by xpnet", lambda at: save_file({"W1": np.zeros((4, 3))}, at / MODEL)),
    (f"evaluate {CHECKPOINT}", "its description"),
    ("evaluate out --data nothing", "nothing: no such file or folder"),
    ("evaluate out --data data.npz", "this network takes", npz(**NARROW)),
    ("evaluate out", NAME_DATA, lambda at: (at / CONFIG).unlink()),
    ("evaluate out", NAME_DATA, cut(CONFIG)),
    *[
        ("evaluate out", NAME_DATA, file(CONFIG, content))
        for content in (b"", b"[]", b"{}", b"[" * 9999, b'{"data": 1}', b"\xff")
    ],
    ("evaluate out", "x", file(CONFIG, b'{"data": "x\\u0000\\ud800"}')),
]


def of_the_library(folder: Path) -> None:
    """Leaves the checkpoint of a run that `xpnet.train` was called for, and so without options."""
    checkpoint = xpnet.Checkpoint(folder / "checkpoint.safetensors")
    xpnet.train(xpnet.MLP((4, 3)), DATA["x_train"], DATA["y_train"], epochs=1, checkpoint=checkpoint)


CASES = [*((2, case) for case in [*USAGE, *DATA_USAGE]), *((1, case) for case in WORLD)]


@pytest.mark.parametrize(("code", "case"), CASES, ids=named)
def test_what_cannot_be_meant_or_is_not_allowed(tmp_path: Path, code: int, case: Case) -> None:
    check(tmp_path, code, case)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``data.npz`` and a finished run in ``out``."""
    folder = tmp_path_factory.mktemp("finished")
    npz()(folder)
    succeed(folder, *TRAIN.split(), "out")
    return folder


@pytest.mark.parametrize("case", RUNS, ids=named)
def test_a_run_that_cannot_be_used(finished: Path, tmp_path: Path, case: Case) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    check(tmp_path, 1, case)


def test_a_damaged_setting_is_not_the_fault_of_the_command_line(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    arrays, described = tensors(tmp_path / CHECKPOINT)
    described["config"]["device"] = "cpo"
    write_tensors(tmp_path / CHECKPOINT, arrays, described)
    check(tmp_path, 1, (AGAIN, "unknown device 'cpo'"))
    check(tmp_path, 2, (f"{AGAIN} --threads 0", ""))


def test_no_command_shows_the_help_as_an_error(tmp_path: Path) -> None:
    ended = run(tmp_path)
    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith("Usage: xpnet")


@pytest.mark.parametrize(("name", "options"), [("torch", "--backend torch"), ("cupy", "--device cuda")])
def test_a_library_that_is_not_installed(tmp_path: Path, name: str, options: str) -> None:
    check(tmp_path, 1, (f"train {options}", f"{name} is not installed: pip install "), without(name))


def test_a_thread_that_the_system_refuses(tmp_path: Path) -> None:
    rows = {f"x_{part}": np.zeros((n, 784), np.uint8) for part, n in (("train", 20_000), ("test", 9))}
    (tmp_path / "data").mkdir()
    for key, array in (DATA | rows | {"y_train": np.arange(20_000) % 3}).items():
        np.save(tmp_path / "data" / f"{key}.npy", array)
    refused = """
import threading
def start(thread):
    raise RuntimeError("can't start new thread")
threading.Thread.start = start
"""
    ended = run(tmp_path, "train", "--data", "data", "--memory", "13MB", before=refused)
    check_error(ended, 1, "rows cannot be read ahead: can't start new thread")


def full(name: str) -> str:
    """Python code for `before` that makes the disk full for a file of this name."""
    return f"""
import errno, pathlib
replace = pathlib.Path.replace
def full(path, target):
    if target.name == {name!r}:
        raise OSError(errno.ENOSPC, "No space left on device")
    return replace(path, target)
pathlib.Path.replace = full
"""


def test_a_disk_that_is_full_costs_no_epoch(finished: Path, tmp_path: Path) -> None:
    npz()(tmp_path)
    message = "checkpoint.safetensors: cannot be written: No space left on device"
    check(tmp_path, 1, (f"{TRAIN} out", message), full("checkpoint.safetensors"))  # not even a folder is left
    ended = run(tmp_path, *TRAIN.split(), "out", before=full("model.safetensors"))
    check_error(ended, 1, "model.safetensors: cannot be written: No space left on device")
    left = {path.name for path in (tmp_path / "out").iterdir()}
    assert left == {"checkpoint.safetensors", "config.json", "history.csv"}
    check(tmp_path, 1, (AGAIN, message), full("checkpoint.safetensors"))

    before = (tmp_path / "out" / "history.csv").read_bytes()
    succeed(tmp_path, *AGAIN.split())
    assert (tmp_path / "out" / "history.csv").read_bytes() == before
    assert (tmp_path / MODEL).read_bytes() == (finished / MODEL).read_bytes()
