"""Checkpoints: a run that was stopped and goes on ends where an unbroken one does, or says why it cannot."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.process import succeed
from xpnet import MLP, Checkpoint, History, Progress, evaluate, train
from xpnet.backends import Backend, get_backend
from xpnet.data.idx import NAMES
from xpnet.errors import UsageError, XpnetError
from xpnet.files import read_tensors

SIZES = (4, 5, 3)


@cache
def rows(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose labels depend on them, but not wholly."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((count, 4))
    y = (X[:, 0] + rng.standard_normal(count) > 0).astype(np.int64) + (X[:, 1] > 1)
    return X, y


class Interrupting(Progress):
    """Ctrl-C at a chunk of an epoch; a chunk of 0 means before the first step of the run."""

    def __init__(self, epoch: int, chunk: int) -> None:
        self.at = (epoch, chunk)
        self.seen: dict[int, int] = {}

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        if self.at[1] == 0:
            raise KeyboardInterrupt

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        self.seen[epoch] = self.seen.get(epoch, 0) + 1
        if (epoch, self.seen[epoch]) == self.at:
            raise KeyboardInterrupt


class Counting(Progress):
    """Which epochs were trained."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        if epoch not in self.epochs:
            self.epochs.append(epoch)


def new_model(**options: Any) -> MLP:
    """The network that every run here begins with."""
    return MLP(**({"sizes": SIZES, "dtype": "float64"} | options))


def bits(model: MLP) -> dict[str, bytes]:
    """The parameters, to be compared exactly."""
    return {name: array.tobytes() for name, array in model.host_parameters().items()}


def timeless(history: History) -> History:
    """A history without its seconds, which differ from run to run."""
    return History([replace(row, seconds=0.0) for row in history.epochs], history.best)


def interrupted(path: Path, epoch: int, chunk: int, **settings: Any) -> Checkpoint:
    """The checkpoint of a run that Ctrl-C ended."""
    checkpoint = Checkpoint(path)
    with pytest.raises(KeyboardInterrupt):
        train(new_model(), *rows(), checkpoint=checkpoint, progress=Interrupting(epoch, chunk), **settings)
    return checkpoint


def refused(call: Callable[[], object], kind: type[Exception] = XpnetError) -> str:
    """The message with which a call is refused, which is one line."""
    with pytest.raises(kind) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


RUNS: dict[str, dict[str, Any]] = {
    "momentum": {"epochs": 4, "batch_size": 1, "lr": 0.01, "momentum": 0.9},
    "nesterov, cosine": {
        "epochs": 4,
        "batch_size": 1,
        "lr": 0.01,
        "momentum": 0.8,
        "nesterov": True,
        "schedule": "cosine",
        "warmup": 400,
    },
    "adam": {"epochs": 4, "batch_size": 1, "optimizer": "adam", "lr": 0.01, "weight_decay": 1e-3},
    "patience": {"epochs": 9, "batch_size": 1, "lr": 0.05, "schedule": "constant", "patience": 2},
    "validation 0": {"epochs": 4, "batch_size": 1, "lr": 0.02, "validation": 0},
}


@cache
def unbroken(name: str) -> tuple[dict[str, bytes], History]:
    """What a run comes to when nothing stops it."""
    model = new_model()
    history = train(model, *rows(), **RUNS[name])
    return bits(model), timeless(history)


@pytest.mark.parametrize(
    ("epoch", "chunk"), [(1, 0), (1, 1), (1, 3), (2, 1), (2, 2), (3, 3)], ids=lambda number: str(number)
)
@pytest.mark.parametrize("name", RUNS)
def test_resumed_run_equals_an_unbroken_one_bit_for_bit(
    tmp_path: Path, name: str, epoch: int, chunk: int
) -> None:
    path = tmp_path / "checkpoint"
    interrupted(path, epoch, chunk, **RUNS[name])
    # another process has a model of its own, of which only the description counts
    model, counting = new_model(seed=99), Counting()
    history = train(model, *rows(), checkpoint=Checkpoint(path), resume=True, progress=counting, **RUNS[name])
    expected, expected_history = unbroken(name)
    assert bits(model) == expected
    assert timeless(history) == expected_history
    assert counting.epochs == list(range(epoch, len(history.epochs) + 1))


def test_run_that_is_stopped_again_and_again_comes_to_the_same(tmp_path: Path) -> None:
    checkpoint = interrupted(tmp_path / "checkpoint", 1, 2, **RUNS["adam"])
    for epoch, chunk in ((1, 3), (2, 1), (2, 3), (3, 1), (4, 3)):
        with pytest.raises(KeyboardInterrupt):
            train(
                new_model(),
                *rows(),
                checkpoint=checkpoint,
                resume=True,
                progress=Interrupting(epoch, chunk),
                **RUNS["adam"],
            )
    model = new_model()
    history = train(model, *rows(), checkpoint=checkpoint, resume=True, **RUNS["adam"])
    assert (bits(model), timeless(history)) == unbroken("adam")


def test_every_library_goes_on_where_it_stopped(backend: Backend, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 100, "momentum": 0.9, "patience": 3}
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    whole, parts = new_model(backend=backend), new_model(backend=backend)
    expected = train(whole, *rows(), **settings)
    with pytest.raises(KeyboardInterrupt):
        train(parts, *rows(), checkpoint=checkpoint, progress=Interrupting(2, 1), **settings)
    history = train(parts, *rows(), checkpoint=checkpoint, resume=True, **settings)
    assert [row.epoch for row in history.epochs] == [row.epoch for row in expected.epochs]
    np.testing.assert_allclose(
        [row.loss for row in history.epochs], [row.loss for row in expected.epochs], rtol=1e-9
    )
    for name, array in parts.host_parameters().items():
        np.testing.assert_allclose(array, whole.host_parameters()[name], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_checkpoint_is_there_before_the_first_step(tmp_path: Path, dtype: str) -> None:
    path = tmp_path / "runs" / "1" / "checkpoint"
    model = new_model(dtype=dtype)
    with pytest.raises(KeyboardInterrupt):
        train(model, *rows(), checkpoint=Checkpoint(path), progress=Interrupting(1, 0), momentum=0.5)
    standing = Checkpoint(path).load()
    assert standing.history == History()
    assert {name: standing.state[name].tobytes() for name in model.parameters} == bits(model)
    rest = {name: array for name, array in standing.state.items() if name not in model.parameters}
    assert {f"velocity.{name}" for name in model.parameters} <= set(rest)
    assert all((array == 0).all() for array in rest.values())  # nothing has moved yet
    assert {array.dtype.name for name, array in standing.state.items() if "." in name} == {dtype}


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


@pytest.mark.parametrize("name", RUNS)
def test_resuming_a_finished_run_changes_nothing(tmp_path: Path, name: str) -> None:
    path = tmp_path / "checkpoint"
    first = train(new_model(), *rows(), checkpoint=Checkpoint(path), **RUNS[name])
    content = path.read_bytes()
    model, counting = new_model(seed=99), Counting()
    history = train(model, *rows(), checkpoint=Checkpoint(path), resume=True, progress=counting, **RUNS[name])
    assert counting.epochs == []
    assert history == first
    assert path.read_bytes() == content
    assert bits(model) == unbroken(name)[0]


def test_patience_had_its_effect_in_the_runs_above() -> None:
    _, history = unbroken("patience")
    assert history.best is not None
    assert len(history.epochs) == history.best + 2 < 9


def test_resumed_run_brings_the_scale_of_its_data(tmp_path: Path) -> None:
    X, y = rows()
    pixels = (X * 40 + 128).clip(0, 255).astype(np.uint8)
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    train(new_model(), pixels, y, epochs=1, checkpoint=checkpoint)
    model = new_model()
    train(model, pixels, y, epochs=1, checkpoint=checkpoint, resume=True)
    assert model.scale == 255.0


@pytest.mark.parametrize("patience", [None, 50])
def test_more_epochs_at_a_constant_rate_equal_a_longer_run(tmp_path: Path, patience: int | None) -> None:
    settings: dict[str, Any] = {"schedule": "constant", "batch_size": 20, "lr": 0.05, "momentum": 0.9}
    settings["patience"] = patience
    checkpoint, model, longer = Checkpoint(tmp_path / "checkpoint"), new_model(), new_model()
    train(new_model(), *rows(), epochs=2, checkpoint=checkpoint, **settings)
    history = train(model, *rows(), epochs=5, checkpoint=checkpoint, resume=True, **settings)
    expected = train(longer, *rows(), epochs=5, **settings)
    assert bits(model) == bits(longer)
    assert timeless(history) == timeless(expected)
    # the checkpoint knows of the new end
    assert Checkpoint(checkpoint.path).load_config()["epochs"] == 5


@pytest.mark.parametrize(
    ("schedule", "epochs"), [("linear", 5), ("cosine", 5), ("linear", 1), ("constant", 1)], ids=str
)
def test_other_epochs_are_refused_where_the_steps_so_far_depend_on_them(
    tmp_path: Path, schedule: str, epochs: int
) -> None:
    checkpoint = interrupted(tmp_path / "checkpoint", 2, 1, epochs=3, batch_size=20, schedule=schedule)
    message = refused(
        lambda: train(
            new_model(),
            *rows(),
            checkpoint=checkpoint,
            resume=True,
            epochs=epochs,
            batch_size=20,
            schedule=schedule,
        )
    )
    assert message.startswith(f"{checkpoint.path}: epochs was 3, not {epochs}")


BEFORE: dict[str, Any] = {"epochs": 3, "batch_size": 20, "lr": 0.1, "momentum": 0.5}
CHANGES: dict[str, Any] = {
    "batch_size": 30,
    "lr": 0.2,
    "momentum": 0.6,
    "nesterov": True,
    "weight_decay": 0.1,
    "schedule": "constant",
    "warmup": 2,
    "validation": 0.2,
    "patience": 3,
    "seed": 1,
}


@pytest.mark.parametrize(("name", "value"), CHANGES.items(), ids=str)
def test_changed_setting_is_refused_and_named(tmp_path: Path, name: str, value: Any) -> None:
    checkpoint = interrupted(tmp_path / "checkpoint", 2, 1, **BEFORE)
    content, model = checkpoint.path.read_bytes(), new_model()
    before = bits(model)
    settings = BEFORE | {name: value}
    message = refused(lambda: train(model, *rows(), checkpoint=checkpoint, resume=True, **settings))
    assert message.startswith(f"{checkpoint.path}: {name} was ")
    assert f"not {value}" in message
    assert checkpoint.path.read_bytes() == content
    assert bits(model) == before


def test_changed_optimizer_is_refused_and_named(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 20, "lr": 0.1}
    checkpoint = interrupted(tmp_path / "checkpoint", 2, 1, optimizer="adam", **settings)
    message = refused(lambda: train(new_model(), *rows(), checkpoint=checkpoint, resume=True, **settings))
    assert f"{checkpoint.path}: optimizer was adam, not sgd" in message


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sizes": (4, 6, 3)}, "sizes was [4, 5, 3], not [4, 6, 3]"),
        ({"sizes": (4, 5, 5, 3)}, "sizes was [4, 5, 3], not [4, 5, 5, 3]"),
        ({"activation": "tanh"}, "activation was relu, not tanh"),
        ({"dtype": "float32"}, "dtype was float64, not float32"),
        ({"backend": "torch"}, "backend was numpy, not torch"),
    ],
    ids=str,
)
def test_changed_network_is_refused_and_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    checkpoint = interrupted(tmp_path / "checkpoint", 2, 1, **BEFORE)
    model = new_model(**options)
    message = refused(lambda: train(model, *rows(), checkpoint=checkpoint, resume=True, **BEFORE))
    assert message.startswith(f"{checkpoint.path}: {said}")


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


def resume(path: Path) -> None:
    """Go on with the run of a file."""
    train(new_model(), *rows(), checkpoint=Checkpoint(path), resume=True, **BEFORE)


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "checkpoint"
    assert refused(lambda: resume(path)) == f"{path}: no checkpoint to resume from"
    assert not path.parent.exists()


def test_resuming_without_naming_a_checkpoint_is_a_usage_error() -> None:
    assert "needs a checkpoint" in refused(lambda: train(new_model(), *rows(), resume=True), UsageError)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_truncated_checkpoint_is_named_and_left_alone(tmp_path: Path, share: float) -> None:
    path = interrupted(tmp_path / "checkpoint", 2, 1, **BEFORE).path
    cut = path.read_bytes()[: int(path.stat().st_size * share)]
    path.write_bytes(cut)
    assert refused(lambda: resume(path)).startswith(f"{path}: not a safetensors file, or cut off")
    assert path.read_bytes() == cut


def test_model_in_the_place_of_a_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    new_model().save(path)
    assert refused(lambda: resume(path)).startswith(f"{path}: not a checkpoint")


def test_file_of_another_program_is_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file({"W1": np.ones((4, 5))}, path, metadata={"format": "np"})
    assert refused(lambda: resume(path)).startswith(f"{path}: not written by xpnet")


def without(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Take an array out."""

    def change(arrays: dict[str, Any], described: dict[str, Any]) -> None:
        del arrays[name]

    return change


def describing(**values: Any) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Describe the file otherwise."""

    def change(arrays: dict[str, Any], described: dict[str, Any]) -> None:
        described.update(values)

    return change


def reshaped(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    """Give an array another shape."""

    def change(arrays: dict[str, Any], described: dict[str, Any]) -> None:
        arrays[name] = np.zeros((2, 2))

    return change


DAMAGES = {
    "another format": describing(format=2),
    "no epochs": describing(epochs=None),
    "epochs of other fields": describing(epochs=[{"epoch": 1}]),
    "no settings": describing(config=None),
    "no weights": without("W1"),
    "no velocity": without("velocity.b2"),
    "weights of another shape": reshaped("W1"),
    "best weights that are not there": describing(best=1),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_damaged_checkpoint_is_named(tmp_path: Path, damage: Callable[..., None]) -> None:
    path = interrupted(tmp_path / "checkpoint", 2, 1, **BEFORE).path
    arrays, described = read_tensors(path)
    damage(arrays, described)
    save_file(arrays, path, metadata={"xpnet": json.dumps(described)})
    assert refused(lambda: resume(path)).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "damage", [without("best.W1"), reshaped("best.W1")], ids=["incomplete", "of another shape"]
)
def test_checkpoint_of_damaged_best_weights_is_named(tmp_path: Path, damage: Callable[..., None]) -> None:
    settings: dict[str, Any] = {"epochs": 3, "batch_size": 20, "patience": 2}
    path = interrupted(tmp_path / "checkpoint", 3, 1, **settings).path
    arrays, described = read_tensors(path)
    damage(arrays, described)
    save_file(arrays, path, metadata={"xpnet": json.dumps(described)})
    message = refused(
        lambda: train(new_model(), *rows(), checkpoint=Checkpoint(path), resume=True, **settings)
    )
    assert message.startswith(f"{path}: ")


def test_checkpoint_that_cannot_be_written_ends_the_run_before_its_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    checkpoint, model, counting = Checkpoint(tmp_path / "file" / "checkpoint"), new_model(), Counting()
    before = bits(model)
    message = refused(lambda: train(model, *rows(), checkpoint=checkpoint, progress=counting))
    assert message.startswith(f"{checkpoint.path}: cannot be written")
    assert counting.epochs == []
    assert bits(model) == before


def test_full_disk_in_the_middle_leaves_the_epoch_before(tmp_path: Path) -> None:
    checkpoint, model = Checkpoint(tmp_path / "checkpoint"), new_model()
    before = bits(model)

    class Filling(Progress):
        def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
            if epoch == 2:
                checkpoint.path.with_name(".checkpoint.partial").symlink_to("/dev/full")

    message = refused(lambda: train(model, *rows(), checkpoint=checkpoint, progress=Filling(), **BEFORE))
    assert "No space left" in message
    assert bits(model) == before
    resumed, whole = new_model(), new_model()
    history = train(resumed, *rows(), checkpoint=checkpoint, resume=True, **BEFORE)
    train(whole, *rows(), **BEFORE)
    assert len(history.epochs) == 3
    assert bits(resumed) == bits(whole)


def test_callers_own_notes_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    notes = {"data": "mnist", "note": ["…", None, 1.5]}
    train(new_model(), *rows(), checkpoint=Checkpoint(path, notes), **BEFORE)
    config = Checkpoint(path).load_config()
    assert {name: config[name] for name in notes} == notes
    assert {name: config[name] for name in BEFORE} == BEFORE
    assert config["sizes"] == [4, 5, 3]


def test_new_run_replaces_the_checkpoint_of_an_old_one(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    train(new_model(), *rows(), checkpoint=checkpoint, **BEFORE)
    model = new_model(seed=5)
    train(model, *rows(), checkpoint=checkpoint, **(BEFORE | {"lr": 0.01}))
    standing = Checkpoint(checkpoint.path).load()
    assert {name: standing.state[name].tobytes() for name in model.parameters} == bits(model)
    assert checkpoint.load_config()["lr"] == 0.01


def test_best_weights_survive_the_resumption(tmp_path: Path) -> None:
    # the best epoch lies before the interruption
    _, expected = unbroken("patience")
    assert expected.best is not None
    checkpoint = interrupted(tmp_path / "checkpoint", expected.best + 1, 2, **RUNS["patience"])
    standing = checkpoint.load()
    model = new_model()
    history = train(model, *rows(), checkpoint=checkpoint, resume=True, **RUNS["patience"])
    assert history.best == expected.best
    assert {name: array.tobytes() for name, array in standing.best.items()} == bits(model)
    assert evaluate(model, *rows()).rows == 300


def forget(path: Path, *names: str) -> None:
    """Take settings out of a checkpoint, as one has none that was written before they were known."""
    arrays, described = read_tensors(path)
    described["config"] = {name: value for name, value in described["config"].items() if name not in names}
    save_file(arrays, path, metadata={"xpnet": json.dumps(described)})


def test_old_checkpoint_goes_on_in_float32_with_the_steps_of_its_library(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    train(new_model(), *rows(), checkpoint=path, epochs=1, schedule="constant")
    forget(path, "precision", "execution")
    resumed, whole = new_model(), new_model()
    train(resumed, *rows(), checkpoint=path, resume=True, epochs=2, schedule="constant")
    train(whole, *rows(), epochs=2, schedule="constant")
    assert bits(resumed) == bits(whole)
    config = Checkpoint(path).load_config()
    assert (config["precision"], config["execution"]) == ("float32", "auto")


@pytest.mark.parametrize("old", [False, True])
def test_resuming_in_another_precision_is_refused(tmp_path: Path, old: bool) -> None:
    path = tmp_path / "checkpoint"
    model = MLP(SIZES, backend=get_backend("cpu", "jax"))
    train(model, *rows(), checkpoint=path, epochs=1)
    if old:
        forget(path, "precision", "execution")
    other = MLP(SIZES, backend=get_backend("cpu", "jax", precision="bf16"))
    message = refused(lambda: train(other, *rows(), checkpoint=path, resume=True, epochs=1))
    assert message == f"{path}: precision was float32, not bf16: resume with the same"


def test_a_run_may_go_on_with_other_steps_and_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint"
    settings: dict[str, Any] = {"schedule": "constant"}
    train(new_model(), *rows(), checkpoint=path, epochs=1, **settings)
    other, whole = new_model(backend=get_backend("cpu", "numpy", execution="eager")), new_model()
    train(other, *rows(), checkpoint=path, resume=True, epochs=2, **settings)
    train(whole, *rows(), epochs=2, **settings)
    assert bits(other) == bits(whole)
    assert Checkpoint(path).load_config()["execution"] == "eager"


def test_on_the_command_line_steps_may_change_and_stay_so(tmp_path: Path) -> None:
    for name, array in zip(NAMES, (*rows(), *rows()), strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    settings = ("--hidden", "5", "--schedule", "constant", "--data", ".")
    succeed(tmp_path, "train", "--epochs", "1", *settings, "--out", "out")
    for epochs, given, execution in (("2", ("--execution", "eager"), "eager"), ("3", (), "eager")):
        succeed(tmp_path, "train", "--resume", "--epochs", epochs, *given, "--out", "out")
        assert json.loads((tmp_path / "out" / "config.json").read_text())["execution"] == execution
