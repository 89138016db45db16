"""Checkpoints: a run that was stopped and resumed ends like an unbroken one, or is refused in one line."""

import shutil
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import Interrupting, bits, refused, timeless
from xpnet import MLP, Checkpoint, History, Progress, train
from xpnet.backends import get_backend
from xpnet.errors import DivergedError, UsageError

SIZES = (4, 5, 3)


@cache
def rows(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose labels depend on them, but not wholly."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((count, 4))
    y = (X[:, 0] + rng.standard_normal(count) > 0).astype(np.int64) + (X[:, 1] > 1)
    return X, y


class Counting(Progress):
    """Notes which epochs are trained."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        if epoch not in self.epochs:
            self.epochs.append(epoch)


def new_model(**options: Any) -> MLP:
    """The network with which every run here begins."""
    return MLP(**({"sizes": SIZES, "dtype": "float64"} | options))


def interrupted(path: Path, epoch: int, chunk: int, **settings: Any) -> Checkpoint:
    """The checkpoint of a run that Ctrl-C ended."""
    checkpoint = Checkpoint(path)
    with pytest.raises(KeyboardInterrupt):
        train(new_model(), *rows(), checkpoint=checkpoint, progress=Interrupting(epoch, chunk), **settings)
    return checkpoint


def resumed(checkpoint: Checkpoint | Path, model: MLP | None = None, **settings: Any) -> tuple[MLP, History]:
    """Resume a run in another process, so to speak, whose network has other weights."""
    model = model or new_model(seed=99)
    return model, train(model, *rows(), checkpoint=checkpoint, resume=True, **settings)


MOMENTUM: dict[str, Any] = {"epochs": 4, "batch_size": 1, "lr": 0.01, "momentum": 0.9}
RUNS: dict[str, dict[str, Any]] = {
    "momentum": MOMENTUM,
    "nesterov, cosine": MOMENTUM | {"nesterov": True, "schedule": "cosine", "warmup": 400},
    "adam": {"epochs": 4, "batch_size": 1, "optimizer": "adam", "lr": 0.01, "weight_decay": 1e-3},
    "patience": {"epochs": 9, "batch_size": 1, "lr": 0.05, "schedule": "constant", "patience": 2},
    "validation 0": {"epochs": 4, "batch_size": 1, "lr": 0.02, "validation": 0},
}


@cache
def unbroken(name: str) -> tuple[dict[str, bytes], History]:
    """The end of a run that nothing stops."""
    model = new_model()
    history = train(model, *rows(), **RUNS[name])
    return bits(model), timeless(history)


@pytest.mark.parametrize(("epoch", "chunk"), [(1, 0), (2, 1), (3, 3)])
@pytest.mark.parametrize("name", RUNS)
def test_resumed_run_equals_an_unbroken_one_bit_for_bit(
    tmp_path: Path, name: str, epoch: int, chunk: int
) -> None:
    path = tmp_path / "checkpoint"
    interrupted(path, epoch, chunk, **RUNS[name])
    counting = Counting()
    model, history = resumed(path, progress=counting, **RUNS[name])
    expected, expected_history = unbroken(name)
    assert bits(model) == expected
    assert timeless(history) == expected_history
    assert counting.epochs == list(range(epoch, len(history.epochs) + 1))


def test_checkpoint_is_there_before_the_first_step(tmp_path: Path) -> None:
    path = tmp_path / "runs" / "1" / "checkpoint"
    model = new_model(dtype="float32")
    with pytest.raises(KeyboardInterrupt):
        train(model, *rows(), checkpoint=Checkpoint(path), progress=Interrupting(1, 0), momentum=0.5)
    standing = Checkpoint(path).load()
    assert standing.history == History()
    assert {name: standing.state[name].tobytes() for name in model.parameters} == bits(model)
    rest = {name: array for name, array in standing.state.items() if name not in model.parameters}
    assert rest.pop("step").tolist() == [0]
    assert {f"velocity.{name}" for name in model.parameters} == set(rest)
    assert all((array == 0).all() and array.dtype == "float32" for array in rest.values())


def test_checkpoint_is_replaced_after_every_epoch(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    seen: list[bytes] = []

    class Looking(Progress):
        def on_epoch(self, history: History) -> None:
            standing = Checkpoint(checkpoint.path).load()
            assert timeless(standing.history) == timeless(history)
            seen.append(standing.state["W1"].tobytes())

    model = new_model()
    train(model, *rows(), epochs=3, batch_size=100, checkpoint=checkpoint, progress=Looking())
    assert len(set(seen)) == 3
    assert seen[-1] == bits(model)["W1"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("name", ["adam", "patience"])
def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "checkpoint"
    first = train(new_model(), *rows(), checkpoint=Checkpoint(path), **RUNS[name])
    content = path.read_bytes()
    counting = Counting()
    model, history = resumed(path, progress=counting, **RUNS[name])
    assert counting.epochs == []
    assert history == first
    assert path.read_bytes() == content
    assert bits(model) == unbroken(name)[0]


def test_patience_had_its_effect_in_the_runs_above() -> None:
    _, history = unbroken("patience")
    assert history.best == 1  # before the last two of the interruptions
    assert len(history.epochs) == history.best + 2 < 9


def test_resumed_run_brings_the_scale_of_its_data(tmp_path: Path) -> None:
    X, y = rows()
    pixels = (X * 40 + 128).clip(0, 255).astype(np.uint8)
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    train(new_model(), pixels, y, epochs=1, checkpoint=checkpoint)
    model = new_model()
    train(model, pixels, y, epochs=1, checkpoint=checkpoint, resume=True)
    assert model.scale == 255.0


def test_more_epochs_at_a_constant_rate_equal_a_longer_run(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"schedule": "constant", "batch_size": 20, "lr": 0.05, "momentum": 0.9}
    settings["patience"] = 50
    checkpoint, longer = Checkpoint(tmp_path / "checkpoint"), new_model()
    train(new_model(), *rows(), epochs=2, checkpoint=checkpoint, **settings)
    model, history = resumed(checkpoint, epochs=5, **settings)
    expected = train(longer, *rows(), epochs=5, **settings)
    assert bits(model) == bits(longer)
    assert timeless(history) == timeless(expected)
    assert Checkpoint(checkpoint.path).load_config()["epochs"] == 5


@pytest.mark.parametrize(
    ("schedule", "epochs"), [("linear", 5), ("cosine", 5), ("linear", 1), ("constant", 1)], ids=str
)
def test_other_epochs_are_refused_where_the_steps_so_far_depend_on_them(
    tmp_path: Path, schedule: str, epochs: int
) -> None:
    checkpoint = interrupted(tmp_path / "checkpoint", 2, 1, epochs=3, schedule=schedule)
    message = refused(lambda: resumed(checkpoint, epochs=epochs, schedule=schedule))
    assert message.startswith(f"{checkpoint.path}: epochs was 3, not {epochs}")


BEFORE: dict[str, Any] = {"epochs": 3, "batch_size": 20, "lr": 0.1, "momentum": 0.5}
CHANGES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"batch_size": 30}, {}, "batch_size was 20, not 30"),
    ({"lr": 0.2}, {}, "lr was 0.1, not 0.2"),
    ({"optimizer": "adam", "momentum": 0}, {}, "optimizer was sgd, not adam"),
    ({"momentum": 0.6}, {}, "momentum was 0.5, not 0.6"),
    ({"nesterov": True}, {}, "nesterov was False, not True"),
    ({"weight_decay": 0.1}, {}, "weight_decay was 0.0, not 0.1"),
    ({"schedule": "constant"}, {}, "schedule was linear, not constant"),
    ({"warmup": 2}, {}, "warmup was 0, not 2"),
    ({"validation": 0.2}, {}, "validation was 0.1, not 0.2"),
    ({"patience": 3}, {}, "patience was None, not 3"),
    ({"seed": 1}, {}, "seed was 0, not 1"),
    ({}, {"sizes": (4, 5, 5, 3)}, "sizes was [4, 5, 3], not [4, 5, 5, 3]"),
    ({}, {"activation": "tanh"}, "activation was relu, not tanh"),
    ({}, {"dtype": "float32"}, "dtype was float64, not float32"),
    ({}, {"backend": "array-api-strict"}, "backend was numpy, not array-api-strict"),
]


def test_changed_setting_or_network_is_refused_and_named(tmp_path: Path) -> None:
    path = interrupted(tmp_path / "checkpoint", 2, 1, **BEFORE).path
    content = path.read_bytes()
    for settings, options, said in CHANGES:
        model = new_model(**options)
        before = bits(model)
        message = refused(partial(resumed, path, model, **BEFORE | settings))
        assert message.startswith(f"{path}: {said}")
        assert (path.read_bytes(), bits(model)) == (content, before)


@pytest.mark.parametrize("config", [{"seed": 1}, {"lr": 0.2, "note": "…"}], ids=str)
def test_notes_of_the_caller_hide_no_change_of_settings(tmp_path: Path, config: dict[str, Any]) -> None:
    path = interrupted(tmp_path / "checkpoint", 2, 1, **BEFORE).path
    settings = BEFORE | {name: value for name, value in config.items() if name != "note"}
    message = refused(lambda: resumed(Checkpoint(path, config), **settings))
    assert message.startswith(f"{path}: {min(settings, key=lambda name: name not in config)} was ")
    # nor do those that the file holds
    model, _ = resumed(Checkpoint(path, config), **BEFORE)
    assert Checkpoint(path).load().notes == config
    assert Checkpoint(path).load_config() == config | Checkpoint(path).load().config
    assert "was" in refused(lambda: resumed(path, **settings))
    assert bits(resumed(path, **BEFORE)[0]) == bits(model)


def changed(array: np.ndarray) -> np.ndarray:
    """A copy of which one number is another."""
    other = array.copy()
    other.flat[7] = other.flat[8]
    assert other.tolist() != array.tolist()
    return other


OTHERS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]] = {
    "other rows": lambda X, y: (changed(X), y),
    "other labels": lambda X, y: (X, np.roll(y, 1)),
    "rows in another order": lambda X, y: (X[::-1], y),
    "fewer rows": lambda X, y: (X[:-30], y[:-30]),
    "another type": lambda X, y: (X.astype(np.float32), y),
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_other_data_are_refused(tmp_path: Path, change: Callable[..., Any]) -> None:
    checkpoint = interrupted(tmp_path / "checkpoint", 2, 1, **BEFORE)
    X, y = change(*rows())
    message = refused(lambda: train(new_model(), X, y, checkpoint=checkpoint, resume=True, **BEFORE))
    assert message == f"{checkpoint.path}: the data are not those that the run began with"


def test_equal_data_in_another_place_are_accepted(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path / "checkpoint", 2, 1, **RUNS["momentum"])
    X, y = rows()
    model = new_model()
    train(model, np.asfortranarray(X), y.copy(), checkpoint=checkpoint, resume=True, **RUNS["momentum"])
    assert bits(model) == unbroken("momentum")[0]


def test_folder_that_vanishes_is_not_made_again(tmp_path: Path) -> None:
    checkpoint, model = Checkpoint(tmp_path / "runs" / "1" / "checkpoint"), new_model()
    before = bits(model)

    class Removing(Progress):
        def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
            if epoch == 2 and checkpoint.path.exists():
                shutil.rmtree(tmp_path / "runs")

    message = refused(lambda: train(model, *rows(), checkpoint=checkpoint, progress=Removing(), **BEFORE))
    assert message == f"{checkpoint.path}: cannot be written: No such file or directory"
    assert list(tmp_path.iterdir()) == []
    assert bits(model) == before


@pytest.mark.parametrize("config", [3, ["note"], {"a": {1}}, {"a": float("nan")}, {"a": np.ones(2)}], ids=str)
def test_notes_that_json_cannot_hold_are_refused_at_once(tmp_path: Path, config: Any) -> None:
    assert refused(lambda: Checkpoint(tmp_path / "x", config), UsageError).startswith("config ")


def test_run_that_diverged_is_resumed_with_a_smaller_rate_alone(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    # weights that decay by more than they have grow until they overflow
    settings: dict[str, Any] = {"schedule": "constant", "weight_decay": 1e5, "batch_size": 60, "epochs": 100}
    settings["patience"] = 50
    refused(lambda: train(new_model(), *rows(), checkpoint=path, lr=1.0, **settings), DivergedError)
    done = len(Checkpoint(path).load().history.epochs)
    assert done > 1
    for lr in (1.0, 2.0):
        message = refused(partial(resumed, path, lr=lr, **settings))
        assert message == f"{path}: the run diverged at lr 1: resume with a smaller one, such as 0.1"
    assert "seed was 0" in refused(lambda: resumed(path, lr=0.1, seed=1, **settings))
    # 0.1 is too large as well, and such a run diverges at once; what its error advises is enough in the end
    for lr in (0.1, 0.01, 0.001, 1e-4):
        message = refused(partial(resumed, path, lr=lr, **settings), DivergedError)
        assert f"at learning rate {lr:g}; give a smaller one, such as {lr / 10:g}" in message
    _, history = resumed(path, lr=1e-5, **settings)
    assert [row.lr for row in history.epochs] == [1.0] * done + [1e-5] * (len(history.epochs) - done)
    assert len(history.epochs) > done
    config = Checkpoint(path).load_config()
    assert (config["lr"], "diverged" in config) == (1e-5, False)
    assert "lr was 1e-05, not 1e-06" in refused(lambda: resumed(path, lr=1e-6, **settings))


def test_new_run_replaces_the_checkpoint_of_an_old_one(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    train(new_model(), *rows(), checkpoint=checkpoint, **BEFORE)
    model = new_model(seed=5)
    train(model, *rows(), checkpoint=checkpoint, **(BEFORE | {"lr": 0.01}))
    standing = Checkpoint(checkpoint.path).load()
    assert {name: standing.state[name].tobytes() for name in model.parameters} == bits(model)
    assert checkpoint.load_config()["lr"] == 0.01


def test_resuming_in_another_precision_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    path = tmp_path / "checkpoint"
    train(MLP(SIZES, backend="jax"), *rows(), checkpoint=path, epochs=1)
    other = MLP(SIZES, backend=get_backend("cpu", "jax", precision="bf16"))
    message = refused(lambda: resumed(path, other, epochs=1))
    assert message == f"{path}: precision was float32, not bf16: resume with the same"


def test_a_run_may_be_resumed_with_another_execution_and_keeps_it(tmp_path: Path) -> None:
    path, whole = tmp_path / "checkpoint", new_model()
    train(new_model(), *rows(), checkpoint=path, epochs=1, schedule="constant")
    eager = new_model(backend=get_backend("cpu", "numpy", execution="eager"))
    resumed(path, eager, epochs=2, schedule="constant")
    train(whole, *rows(), epochs=2, schedule="constant")
    assert bits(eager) == bits(whole)
    assert Checkpoint(path).load_config()["execution"] == "eager"


def test_a_run_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    """Adam kept means, and the shape of images was not known."""
    path = tmp_path / "checkpoint"
    settings: Any = {"schedule": "constant", "optimizer": "adam", "validation": 0.0}
    train(new_model(), *rows(), checkpoint=path, epochs=1, **settings)
    standing = Checkpoint(path).load()
    for now, was, beta in (("sum.", "mean.", 0.9), ("squares.", "square.", 0.999)):
        for name in [name for name in standing.state if name.startswith(now)]:
            earlier = was + name.removeprefix(now).replace("count", "correction")
            standing.state[earlier] = standing.state.pop(name) * (1 - beta)
    del standing.config["augment"]
    Checkpoint(path).save(standing)
    model, _ = resumed(path, new_model(image_shape=(2, 2)), epochs=2, **settings)
    whole = new_model()
    train(whole, *rows(), epochs=2, **settings)
    for name, array in whole.host_parameters().items():
        np.testing.assert_allclose(model.host_parameters()[name], array, rtol=0, atol=1e-12)
