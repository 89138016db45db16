"""What a hostile tester found: damage, replaced files and odd arguments, each refused in one line."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.process import run, small_data, succeed, write_npz
from xpnet.errors import UsageError, XpnetError
from xpnet.files import read_tensors, write_tensors
from xpnet.training.checkpoint import CHECKPOINT

SMALL = ("--hidden", "4", "--threads", "1", "--quiet")


def begun(folder: Path, **changed: Any) -> Path:
    """A run of one epoch, whose checkpoint says something else about its settings."""
    write_npz(folder / "small.npz", small_data())
    succeed(folder, "train", "--data", "small.npz", *SMALL, "--epochs", "1", "--out", "out")
    path = folder / "out" / "checkpoint.safetensors"
    arrays, described = read_tensors(path, CHECKPOINT)
    described["config"] |= changed
    write_tensors(path, {}, arrays, described)
    return path


@pytest.mark.parametrize("sizes", [[8, 10**8, 3], [8, *[1] * 10**6, 3]], ids=["wide", "deep"])
def test_a_checkpoint_of_a_huge_network_is_refused_before_the_network_is_made(
    sizes: list[int], tmp_path: Path
) -> None:
    begun(tmp_path, sizes=sizes)
    ended = run(tmp_path, "train", "--resume", "--out", "out", "--quiet")
    assert ended.code == 1
    assert "its arrays are " in ended.err
    assert len(ended.err) < 500


def test_a_memory_that_no_run_has_is_damage(tmp_path: Path) -> None:
    begun(tmp_path, memory=2**62)
    ended = run(tmp_path, "train", "--resume", "--out", "out", "--quiet")
    assert (ended.code, "unexpected memory" in ended.err) == (1, True)


def test_the_advice_for_a_run_that_diverged_names_the_rate(tmp_path: Path) -> None:
    begun(tmp_path, diverged=True)
    (tmp_path / "out" / "model.safetensors").unlink()
    ended = run(tmp_path, "evaluate", "out")
    assert ended.code == 1
    advice = ended.err.strip().partition("finish it with xpnet ")[2]
    assert "--lr" in advice
    succeed(tmp_path, *advice.split(), "--quiet")


def test_rows_replaced_between_reading_and_training_are_noticed(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, rows in (("train", 400_000), ("test", 10)):
        np.save(tmp_path / f"x_{name}.npy", rng.integers(0, 255, (rows, 64)).astype(np.uint8))
        np.save(tmp_path / f"y_{name}.npy", np.arange(rows) % 3)
    data = xpnet.load_data(tmp_path, memory=16 * 10**6)
    np.save(tmp_path / "other.npy", np.zeros((400_000, 64), np.uint8))
    os.replace(tmp_path / "other.npy", tmp_path / "x_train.npy")
    with pytest.raises(XpnetError, match=r"x_train.npy: changed while it was read"):
        xpnet.train(xpnet.MLP((64, 3)), data.X_train, data.y_train, epochs=1, memory=16 * 10**6)


def test_floats_that_were_not_divided_are_found_behind_black_rows_and_beside_nan() -> None:
    model = xpnet.MLP((4, 3), scale=255.0)
    late = np.zeros((1000, 4), np.float32)
    late[500:] = 200.0
    beside = np.full((10, 4), 200.0, np.float32)
    beside[0, 0] = np.nan
    for X in (late, beside, -late):
        with pytest.raises(XpnetError, match="floats up to 200"):
            model.predict_proba(X)


@pytest.mark.parametrize(
    "value", [np.ma.array(np.zeros(3), mask=True), np.full(3, np.nan), np.zeros(3, complex)]
)
def test_parameters_must_be_real_numbers(value: np.ndarray) -> None:
    with pytest.raises(UsageError, match="parameters must be"):
        xpnet.MLP((2, 3), parameters={"W1": np.zeros((2, 3)), "b1": value})


def test_odd_arguments_are_errors_of_one_line(tmp_path: Path) -> None:
    model, data = xpnet.MLP((8, 3)), small_data()
    with pytest.raises(XpnetError, match="names no file"):
        model.save("")
    odd: dict[str, Any] = {"x" * 5000: 1}
    with pytest.raises(UsageError) as caught:
        xpnet.train(model, data["x_train"], data["y_train"], **odd)
    assert len(str(caught.value)) < 500
    huge: Any = {"W1": np.zeros((2, 3)), "b1": [10**5000, 1, 2]}
    with pytest.raises(UsageError, match="parameters must be"):
        xpnet.MLP((2, 3), parameters=huge)


def test_a_network_of_many_classes_is_evaluated_without_a_confusion_table(tmp_path: Path) -> None:
    classes = 3000
    y = np.arange(classes) % classes
    X = np.random.default_rng(0).random((classes, 2)).astype(np.float32)
    write_npz(tmp_path / "many.npz", {"x_train": X, "y_train": y, "x_test": X[:50], "y_test": y[:50]})
    succeed(
        tmp_path, "train", "--data", "many.npz", *SMALL, "--epochs", "1", "--validation", "0", "--out", "out"
    )
    assert "accuracy by class\n" in succeed(tmp_path, "evaluate", "out").out
    assert json.loads(succeed(tmp_path, "evaluate", "out", "--json").out)["confusion"] is None
