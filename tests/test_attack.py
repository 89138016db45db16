"""What a hostile tester found: damage, replaced files and odd arguments, each refused in one line."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.process import run, small_data, succeed, write_npz
from xpnet.errors import XpnetError
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
