"""Training and evaluation: what a run learns and reports, what it refuses, and what it leaves unchanged."""

import tracemalloc
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

from tests.helpers import Interrupting, bits, losses, refused
from xpnet import MLP, Checkpoint, History, Progress, evaluate, train
from xpnet.arrays import dtype_name
from xpnet.backends import Backend, get_backend
from xpnet.backends.numpy import NumPyBackend
from xpnet.data.rows import split, stream
from xpnet.errors import DivergedError, UsageError
from xpnet.training.settings import settings_of

SIZES = (4, 8, 3)


@cache
def separable(rows: int = 300, features: int = 4, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Rows scattered about one point for each class, the points far apart. They are read-only."""
    rng = np.random.default_rng(11)
    y = np.arange(rows) % classes
    X = 2.0 * np.eye(classes, features)[y] + 0.3 * rng.standard_normal((rows, features))
    for array in (X, y):
        array.flags.writeable = False
    return X, y


@cache
def pixels(rows: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """The same as bytes."""
    X, y = separable(rows)
    return ((X + 2.0) * 50.0).clip(0, 255).astype(np.uint8), y


def test_defaults_learn_a_separable_problem(backend: Backend) -> None:
    X, y = separable()
    model = MLP(SIZES, backend=backend)
    before = evaluate(model, X, y)
    history = train(model, X, y)
    after = evaluate(model, X, y)
    assert len(history.epochs) == 10
    assert after.loss < 0.1 < before.loss
    assert after.accuracy >= 0.99
    assert history.epochs[-1].validation_accuracy >= 0.96
    assert history.best is None


RUNS: dict[str, dict[str, Any]] = {
    "momentum": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
    "nesterov, cosine": {"momentum": 0.9, "nesterov": True, "schedule": "cosine", "warmup": 5},
    "adam": {"lr": 0.01, "optimizer": "adam", "weight_decay": 1e-3},
}


def run_of(backend: Backend, name: str) -> tuple[MLP, History]:
    """A run of two epochs, the batches of which do not come out even."""
    model = MLP(SIZES, dtype="float64", activation="sigmoid", backend=backend)
    history = train(model, *separable(100), epochs=2, batch_size=16, **RUNS[name])
    return model, history


@cache
def reference(name: str) -> tuple[MLP, History]:
    """The same run on NumPy."""
    return run_of(get_backend("cpu", "numpy"), name)


@pytest.mark.parametrize("name", RUNS)
def test_every_library_trains_to_the_same_numbers(backend: Backend, name: str) -> None:
    expected_model, expected = reference(name)
    model, history = run_of(backend, name)
    np.testing.assert_allclose(losses(history), losses(expected), rtol=1e-9)
    assert [row.lr for row in history.epochs] == [row.lr for row in expected.epochs]
    assert [row.validation_accuracy for row in history.epochs] == [
        row.validation_accuracy for row in expected.epochs
    ]
    for key, array in model.host_parameters().items():
        np.testing.assert_allclose(array, expected_model.parameters[key], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("batch_size", [7, 60, 1000])
def test_first_epoch_is_the_one_of_a_plain_loop(batch_size: int) -> None:
    given, y = pixels()
    X = given / 255.0
    model = MLP((4, 5, 3), dtype="float64", seed=1)
    W1, b1, W2, b2 = (model.parameters[name].copy() for name in ("W1", "b1", "W2", "b2"))

    order = stream(9, "shuffle", 1).permutation(np.arange(60, dtype=np.int32))
    total = 0.0
    for start in range(0, 60, batch_size):
        rows = order[start : start + batch_size]
        A0, Y = X[rows], np.eye(3)[y[rows]]
        Z1 = A0 @ W1 + b1
        A1 = np.where(Z1 > 0, Z1, 0)
        E = np.exp(A1 @ W2 + b2)
        A2 = E / E.sum(axis=1, keepdims=True)
        total -= np.log(A2[Y == 1]).sum()
        dZ2 = (A2 - Y) / len(rows)
        dZ1 = (dZ2 @ W2.T) * (Z1 > 0)
        W2, b2 = W2 - 0.3 * A1.T @ dZ2, b2 - 0.3 * dZ2.sum(axis=0)
        W1, b1 = W1 - 0.3 * A0.T @ dZ1, b1 - 0.3 * dZ1.sum(axis=0)

    options = {"lr": 0.3, "schedule": "constant", "validation": 0, "seed": 9}
    history = train(model, given, y, epochs=1, batch_size=batch_size, **options)  # type: ignore[arg-type]
    assert history.epochs[0].loss == pytest.approx(total / 60, rel=1e-12)
    for name, expected in {"W1": W1, "b1": b1, "W2": W2, "b2": b2}.items():
        np.testing.assert_allclose(model.parameters[name], expected, rtol=1e-10, atol=1e-13)


class Recorder(Progress):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.chunk_losses: list[float] = []

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        self.told.append(("start", len(history.epochs), rows, epochs))

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        self.told.append(("chunk", epoch, rows))
        self.chunk_losses.append(loss * rows)

    def on_epoch(self, history: History) -> None:
        self.told.append(("epoch", len(history.epochs)))


def test_progress_is_told_in_order_and_of_every_row() -> None:
    recorder = Recorder()
    model = MLP(SIZES, dtype="float64")
    # 150 steps an epoch, seen in two halves, the last batch of one row
    history = train(model, *separable(299), epochs=2, batch_size=2, validation=0, progress=recorder)
    halves = [("chunk", 150), ("chunk", 149)]
    expected: list[tuple[Any, ...]] = [("start", 0, 299, 2)]
    for epoch in (1, 2):
        expected += [(what, epoch, rows) for what, rows in halves]
        expected += [("epoch", epoch)]
    assert recorder.told == expected
    assert sum(recorder.chunk_losses[:2]) / 299 == pytest.approx(history.epochs[0].loss, rel=1e-12)


@pytest.mark.parametrize(("validation", "rows"), [(0, 100), (0.1, 91), (0.25, 76), (0.99, 3)])
def test_validation_holds_back_its_share_of_every_class(validation: float, rows: int) -> None:
    recorder = Recorder()
    X, y = separable(100)  # 34, 33 and 33 rows
    history = train(MLP(SIZES), X, y, epochs=1, validation=validation, progress=recorder)
    assert recorder.told[0] == ("start", 0, rows, 1)
    assert sum(told[2] for told in recorder.told if told[0] == "chunk") == rows
    assert list(history.epochs[0].metrics) == (
        ["validation_loss", "validation_accuracy"] if validation else []
    )


def test_history_tells_of_the_network_at_the_end_of_the_epoch() -> None:
    X, y = separable(100)
    model = MLP(SIZES, dtype="float64")
    history = train(model, X, y, epochs=3, seed=4, validation=0.2)
    _, held = split(y, 0.2, stream(4, "validation"))
    result = evaluate(model, X[held], y[held])
    assert history.epochs[-1].validation_loss == pytest.approx(result.loss, rel=1e-12)
    assert history.epochs[-1].validation_accuracy == result.accuracy
    assert [row.epoch for row in history.epochs] == [1, 2, 3]
    assert all(row.seconds > 0 for row in history.epochs)
    assert history.train_seconds == pytest.approx(sum(row.seconds for row in history.epochs))


def test_history_tells_the_rate_of_the_last_step_of_an_epoch() -> None:
    # 4 steps an epoch, the rate falls from 0.8 by a tenth of that each step after the two that climb
    X, y = separable(40)
    options: dict[str, Any] = {"lr": 0.8, "batch_size": 10, "validation": 0, "warmup": 2}
    history = train(MLP(SIZES), X, y, epochs=3, **options)
    assert [row.lr for row in history.epochs] == pytest.approx([0.8 * 0.9, 0.8 * 0.5, 0.8 * 0.1])


def test_history_as_a_table() -> None:
    X, y = separable(40)
    history = train(MLP(SIZES), X, y, epochs=2)
    text = history.csv()
    header, first, second = text.splitlines()
    assert header == "epoch,lr,loss,validation_loss,validation_accuracy,seconds"
    assert first.startswith("1,")
    assert second.split(",")[3:5] == [str(history.epochs[1].metrics[name]) for name in header.split(",")[3:5]]
    assert text.endswith("\n")
    bare = train(MLP(SIZES), X, y, epochs=2, validation=0)
    assert bare.csv().splitlines()[0] == "epoch,lr,loss,seconds"
    with pytest.raises(AttributeError, match="no validation_loss; it has no metrics, because nothing was"):
        _ = bare.epochs[0].validation_loss


@cache
def noise() -> tuple[np.ndarray, np.ndarray]:
    """Labels that have nothing to do with the rows, so that validation gets no better for long."""
    rng = np.random.default_rng(5)
    return rng.standard_normal((200, 4)), rng.integers(0, 3, 200)


def test_patience_stops_early_and_keeps_the_best_weights(backend: Backend) -> None:
    (X, y), patience = noise(), 2
    model = MLP(SIZES, dtype="float64", backend=backend)
    options: dict[str, Any] = {"lr": 0.1, "schedule": "constant", "validation": 0.2}
    history = train(model, X, y, epochs=40, patience=patience, **options)

    scores = [row.validation_accuracy for row in history.epochs]
    assert history.best == scores.index(max(scores)) + 1
    assert len(history.epochs) == history.best + patience < 40
    _, held = split(y, 0.2, stream(0, "validation"))
    assert evaluate(model, X[held], y[held]).accuracy == max(scores)
    # and they are the weights that the run had then
    same = MLP(SIZES, dtype="float64", backend=backend)
    train(same, X, y, epochs=history.best, **options)
    assert bits(same) == bits(model)


def test_first_of_equally_good_epochs_is_the_best() -> None:
    history = train(MLP(SIZES), *separable(100), epochs=9, patience=3, lr=1e-30)
    assert (history.best, len(history.epochs)) == (1, 4)


ARRAY = np.eye(3)
OUT_OF_RANGE: dict[str, list[Any]] = {
    "epochs": [0, -1, 2.5, True, "3", None, ARRAY, 10**400, 10**5000],
    "batch_size": [0, 32.0, 2**31],
    "lr": [0.0, -0.1, float("nan"), float("inf"), "fast", "0.1", True, 10**400, ARRAY, [0.1]],
    "optimizer": ["lbfgs", ["sgd"], {}, None, np.sign],
    "momentum": [-0.1, 1.0, float("nan"), None, "0.9"],
    "beta1": [-0.1, 1.0, "0.9"],
    "beta2": [1.0, None],
    "epsilon": [0.0, -1e-8, float("inf")],
    "clip": [0.0, -1.0, "1"],
    "dropout": [1.0, -0.1, "0.5", [0.1, 2.0], [0.1, 0.1, 0.1], None],
    "monitor": ["auc", 3, ["loss"]],
    "training_metrics": ["yes", 2, None],
    "start": [3, {}, Checkpoint("x")],
    "standardize": [2, "yes", None],
    "weight_decay": [-1e-4, float("nan"), float("inf"), 10**400],
    "schedule": ["step", ["linear"], None],
    "warmup": [-1, 0.5],
    "validation": [1.0, -0.1, float("nan"), (ARRAY,), [ARRAY] * 4, None, "0.1"],
    "patience": [0, 1.5, "2"],
    "seed": [-1, None, 0.5, np.random.default_rng(0)],
    "nesterov": [True, "yes", 2, None, ARRAY],  # True needs momentum
    "progress": [print, Progress, 3, False],
    "checkpoint": [3, 2.5, ["file"], b"file", False],
    "resume": ["yes", None, 2, ARRAY],
    "memory": [0, -1, 1.5, "4GB", True],
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_argument_that_makes_no_sense_is_named(name: str) -> None:
    for value in OUT_OF_RANGE[name]:
        for call in (train, evaluate) if name == "memory" else (train,):
            message = refused(partial(call, MLP(SIZES), *separable(40), **{name: value}), UsageError)
            assert message.startswith(name)
            assert len(message) < 250


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"optimizer": "adam", "momentum": 0.9}, "momentum and nesterov belong to sgd"),
        ({"patience": 3, "validation": 0}, "patience needs validation rows"),
        ({"resume": True}, "resume needs a checkpoint"),
        ({"epoch": 3}, "unknown argument 'epoch': did you mean epochs?"),
        ({"learning_rate_init": 3}, "did you mean lr?"),
        ({"x" * 5000: 1}, "unknown argument 'xxx"),
        ({"verbose": True}, "did you mean progress?"),
        ({"hidden_layer_sizes": (3,)}, "it belongs to xpnet.MLP"),
        ({"shuffle": False}, "unknown argument 'shuffle': xpnet has none yet"),
        ({"validation_data": ()}, "give validation=(X, y)"),
        ({"monitor": "r2"}, "monitor r2: cross-entropy measures loss, accuracy"),
        ({"monitor": "accuracy", "validation": 0}, "monitor needs validation rows"),
    ],
    ids=str,
)
def test_settings_that_contradict_each_other_or_are_unknown_are_refused(
    settings: dict[str, Any], said: str
) -> None:
    message = refused(lambda: train(MLP(SIZES), *separable(40), **settings), UsageError)
    assert said in message
    assert len(message) < 500


def test_unknown_keywords_of_evaluate_are_told_the_known_ones() -> None:
    model, (X, y) = MLP(SIZES), separable(40)
    said = refused(lambda: evaluate(model, X, y, sample_weights=None), UsageError)
    assert said == "unknown argument 'sample_weights': did you mean sample_weight?"
    said = refused(lambda: evaluate(model, X, y, batch=3), UsageError)
    assert said == "unknown argument 'batch': did you mean sample_weight, memory?"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"warmup": 10, "epochs": 1, "batch_size": 4}, "warmup 10 must be less than the 10 steps"),
        ({"validation": 0.01}, "validation 0.01 of 40 rows holds none back"),
    ],
    ids=str,
)
def test_settings_that_do_not_go_with_the_rows_are_refused(settings: dict[str, Any], said: str) -> None:
    # 13 or 14 rows a class, of which one each is held back: 37 are left, ten batches of four
    assert said in refused(lambda: train(MLP(SIZES), *separable(40), **settings))


@pytest.mark.parametrize(
    ("settings", "lr"),
    [
        ({}, 0.5),
        ({"momentum": 0.9}, 0.05),
        ({"optimizer": "adam"}, 0.001),
        ({"loss": "squared-error", "optimizer": "adamw"}, 0.001),
        ({"loss": "squared-error", "momentum": 0.9}, 0.005),
        ({"loss": "binary-cross-entropy"}, 0.2),
        ({"loss": "poisson"}, 0.01),
        ({"lr": 0.3, "momentum": 0.9}, 0.3),
    ],
    ids=str,
)
def test_learning_rate_has_a_default_for_each_loss_and_optimizer(settings: dict[str, Any], lr: float) -> None:
    loss = settings.pop("loss", "cross-entropy")
    assert settings_of(settings, loss).lr == pytest.approx(lr)


def test_settings_that_are_numpy_numbers_can_be_saved(tmp_path: Any) -> None:
    numbers: dict[str, Any] = {"lr": np.float32(0.1), "epochs": np.int64(1), "momentum": np.float64(0.5)}
    numbers |= {"nesterov": np.bool_(True)}
    train(MLP(SIZES), *separable(40), checkpoint=str(tmp_path / "run"), **numbers)
    config = Checkpoint(tmp_path / "run").load_config()
    assert {name: config[name] for name in numbers} == pytest.approx(numbers)


DIVERGING: dict[str, Any] = {"weight_decay": 1001.0, "lr": 1.0, "schedule": "constant", "batch_size": 64}
"""Every step makes the weights a thousand times larger."""


def test_divergence_is_said_and_leaves_the_last_good_state(backend: Backend, tmp_path: Any) -> None:
    model = MLP(SIZES, backend=backend)
    before = bits(model)
    checkpoint = Checkpoint(tmp_path / "checkpoint")
    recorder = Recorder()
    options = DIVERGING | {"progress": recorder, "checkpoint": checkpoint, "validation": 0}
    message = refused(lambda: train(model, *separable(60), epochs=300, **options), DivergedError)
    assert message.startswith("diverged: ")
    assert message.endswith("at learning rate 1; give a smaller one, such as 0.1, or scale the rows")
    assert bits(model) == before

    standing = checkpoint.load()
    assert len(standing.history.epochs) == sum(told[0] == "epoch" for told in recorder.told)
    assert len(standing.history.epochs) > 1
    for array in standing.state.values():
        assert np.isfinite(array).all()
    assert np.abs(standing.state["W1"]).max() > 1e3


@pytest.mark.parametrize(
    ("dtype", "lr", "validation", "said"),
    [
        ("float64", 1e300, 0.1, "the loss of 6 rows is "),  # the logits overflow
        ("float32", 1e39, 0, "diverged: W1 is no longer finite at the end of an epoch"),
    ],
)
def test_divergence_by_the_last_step_is_said(dtype: str, lr: float, validation: float, said: str) -> None:
    options: dict[str, Any] = {"epochs": 1, "batch_size": 100, "schedule": "constant", "lr": lr}
    model = MLP(SIZES, dtype=dtype)
    before = bits(model)
    message = refused(lambda: train(model, *separable(60), validation=validation, **options), DivergedError)
    assert message.startswith(said)
    assert bits(model) == before


@pytest.mark.parametrize("dtype", ["int8", "uint16", "float32"])
def test_rows_on_the_device_give_what_rows_of_the_host_give(backend: Backend, dtype: str) -> None:
    X, y = pixels()
    X = (X // 2).astype(dtype)
    options: dict[str, Any] = {"epochs": 1, "batch_size": 16, "lr": 0.01}
    there, here = (MLP(SIZES, dtype="float64", backend=backend) for _ in range(2))
    device = backend.asarray(X), backend.asarray(y)
    of_there = train(there, *device, **options)
    of_here = train(here, X, y, **options)
    np.testing.assert_allclose(losses(of_there), losses(of_here), rtol=1e-12)
    assert bits(there) == bits(here)
    assert there.scale == here.scale == (1.0 if dtype.startswith("f") else np.iinfo(dtype).max)
    assert evaluate(there, *device).confusion.tolist() == evaluate(here, X, y).confusion.tolist()


def test_labels_on_the_device_may_be_of_any_integer_type(backend: Backend) -> None:
    X, y = separable(60)
    model = MLP(SIZES, dtype="float64", backend=backend)
    expected = evaluate(model, X, y)
    for dtype in ("uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64"):
        result = evaluate(model, X, backend.asarray(y.astype(dtype)))
        assert result.confusion.tolist() == expected.confusion.tolist()
        assert result.loss == expected.loss


def test_training_leaves_the_rows_and_labels_as_they_were(backend: Backend) -> None:
    X, y = separable(60)
    host, device = (X.copy(), y.copy()), (backend.asarray(X), backend.asarray(y))
    model = MLP(SIZES, dtype="float64", backend=backend)
    for mine in (host, device):
        train(model, *mine, epochs=1)
        evaluate(model, *mine)
    for array in (host[0], backend.to_numpy(device[0])):
        assert array.tolist() == X.tolist()
    for array in (host[1], backend.to_numpy(device[1])):
        assert array.tolist() == y.tolist()


def test_model_takes_the_scale_of_the_data_it_was_taught() -> None:
    model = MLP(SIZES, dtype="float64")
    X, y = pixels()
    train(model, X, y, epochs=1)
    assert model.scale == 255.0
    assert model.logits(X).tolist() == pytest.approx(model.logits(X / 255.0))
    train(model, X / 255.0, y, epochs=1)
    assert model.scale == 1.0


def test_tensors_that_require_grad_are_taken_and_get_none() -> None:
    torch = pytest.importorskip("torch")
    X, y = separable(60)
    leaf = torch.tensor(X, requires_grad=True)
    model, same = (MLP(SIZES, dtype="float64", backend="torch") for _ in range(2))
    train(model, leaf, torch.tensor(y), epochs=2)
    train(same, X, y, epochs=2)
    assert bits(model) == bits(same)
    assert leaf.grad is None
    assert leaf.requires_grad
    assert not any(array.requires_grad for array in model.parameters.values())
    assert evaluate(model, leaf, torch.tensor(y)).loss == evaluate(same, X, y).loss


def test_parameters_that_a_user_kept_are_not_overwritten(backend: Backend) -> None:
    model = MLP(SIZES, dtype="float64", backend=backend)
    kept, before = dict(model.parameters), bits(model)
    options: dict[str, Any] = {"epochs": 2, "batch_size": 16, "momentum": 0.9}
    with pytest.raises(KeyboardInterrupt):
        train(model, *pixels(), progress=Interrupting(2, 1), **options)
    assert all(model.parameters[name] is array for name, array in kept.items())
    assert model.scale is None
    train(model, *pixels(), **options)
    assert {name: backend.to_numpy(array).tobytes() for name, array in kept.items()} == before
    assert bits(model) != before


def test_training_again_goes_on_from_the_weights() -> None:
    X, y = separable(60)
    options: dict[str, Any] = {"epochs": 2, "lr": 0.1, "schedule": "constant"}
    model = MLP(SIZES, dtype="float64")
    first = train(model, X, y, **options)
    other = MLP(SIZES, dtype="float64", parameters=model.host_parameters())
    second = train(model, X, y, seed=1, **options)
    train(other, X, y, seed=1, **options)
    assert second.epochs[0].loss < first.epochs[0].loss
    assert [row.epoch for row in second.epochs] == [1, 2]
    assert bits(model) == bits(other)


def test_float32_stays_float32(backend: Backend) -> None:
    model = MLP(SIZES, dtype="float32", backend=backend)
    train(model, *separable(60), epochs=2, optimizer="adam", schedule="cosine", warmup=1)
    assert {dtype_name(array) for array in model.parameters.values()} == {"float32"}
    assert {array.dtype.name for array in model.host_parameters().values()} == {"float32"}
    assert tuple(model.parameters) == ("W1", "b1", "W2", "b2")


def test_callbacks_see_the_weights_of_the_epoch_and_may_keep_or_change_them(backend: Backend) -> None:
    X, y = pixels()
    _, held = split(y, 0.2, stream(0, "validation"))
    kept: list[dict[str, Any]] = []

    class Evaluating(Progress):
        def on_epoch(self, history: History) -> None:
            row = history.epochs[-1]
            result = evaluate(model, X[held], y[held])
            assert result.loss == pytest.approx(row.validation_loss, rel=1e-12)
            assert result.accuracy == row.validation_accuracy
            kept.append(model.parameters)
            model.parameters = {name: array * 0.0 for name, array in model.parameters.items()}

    model, same = (MLP(SIZES, dtype="float64", backend=backend) for _ in range(2))
    options: dict[str, Any] = {"epochs": 2, "validation": 0.2, "lr": 0.1}
    train(model, X, y, progress=Evaluating(), **options)
    train(same, X, y, **options)
    assert bits(model) == bits(same)
    assert len({backend.to_numpy(parameters["W1"]).tobytes() for parameters in kept}) == 2
    assert backend.to_numpy(kept[1]["W1"]).tobytes() == bits(model)["W1"]


@pytest.mark.parametrize("patience", [None, 2])
def test_run_without_a_checkpoint_copies_no_weights_to_the_host(patience: int | None) -> None:
    sizes: list[int] = []

    class Watched(NumPyBackend):
        def to_numpy(self, array: Any) -> np.ndarray:
            sizes.append(np.size(array))
            return super().to_numpy(array)

    model = MLP((4, 2000, 3), backend=Watched("cpu"))
    train(model, *separable(), epochs=3, optimizer="adam", patience=patience, batch_size=1)
    # of an epoch: the loss of each of three chunks, a look at the weights, four sums of the rows held back
    assert sizes == [1, 1, 1, 14, 1, 3, 3, 9] * 3


def known(backend: Backend, dtype: str = "float64") -> tuple[MLP, np.ndarray, np.ndarray]:
    """A network whose logits are its inputs, five rows, and their labels; nobody is of class 3."""
    model = MLP((4, 4), dtype=dtype, backend=backend, parameters={"W1": np.eye(4), "b1": np.zeros(4)})
    X = np.array([[2.0, 0, 0, 0], [0, 3, 0, 0], [0, 1, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]])
    return model, X, np.array([0, 1, 0, 2, 2])


def test_evaluation_by_hand(backend: Backend) -> None:
    model, X, y = known(backend)
    result = evaluate(model, X, y)
    assert result.confusion.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert result.confusion.dtype == np.int64
    assert result.rows == 5
    assert result.accuracy == pytest.approx(3 / 5)
    assert result.accuracy_by_class == [0.5, 1.0, 0.5, None]
    right = [2.0, 3.0, 0.0, 5.0, 0.0]
    totals = [np.exp(2) + 3, np.exp(3) + 3, np.e + 3, np.exp(5) + 3, np.e + 3]
    assert result.loss == pytest.approx(np.mean(np.log(totals) - right), rel=1e-12)


def test_evaluation_of_many_rows_is_that_of_each(backend: Backend) -> None:
    model, X, y = known(backend)
    few = evaluate(model, X, y)
    for times in (200, 401):  # rows that come out even where they are cut into batches, and that do not
        many = evaluate(model, np.tile(X, (times, 1)), np.tile(y, times))
        assert many.rows == 5 * times
        assert many.loss == pytest.approx(few.loss, rel=1e-11)
        assert many.confusion.tolist() == (few.confusion * times).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_that_were_not_divided_are_refused_by_a_network_trained_on_integers(dtype: str) -> None:
    model = MLP(SIZES, dtype="float64")
    X, y = pixels()
    train(model, X, y, epochs=1)
    divided, undivided = (X / 255.0).astype(dtype), X.astype(dtype)
    message = refused(lambda: evaluate(model, undivided, y))
    largest = f"X: floats up to {X.max()}, but the network was trained on integers divided by 255"
    assert message == f"{largest}: divide X likewise"
    assert evaluate(model, divided, y).loss == pytest.approx(evaluate(model, X, y).loss, rel=1e-5)
    train(model, undivided, y, epochs=1, lr=1e-6)  # which is training on floats from now on
    evaluate(model, undivided, y)


def test_memory_does_not_grow_with_the_square_of_the_classes() -> None:
    X, y = np.eye(200, 4), np.arange(200) * 25
    model = MLP((4, 8, 5000), seed=3)
    tracemalloc.start()
    try:
        result = evaluate(model, X, y)
        memory = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert memory < 50e6  # the table would have 200 MB
    right = np.argmax(model.predict_proba(X), axis=1) == y
    assert (result.rows, result.accuracy) == (200, right.mean())
    assert result.accuracy_by_class[25] == float(right[1])
    assert result.accuracy_by_class[26] is None
    said = "the confusion table of 5,000 classes would have 200 MB, more than 64: use accuracy_by_class"
    assert refused(lambda: result.confusion).startswith(said)


def test_memory_does_not_grow_with_the_width_of_a_layer_times_the_rows() -> None:
    model, X = MLP((4, 2**18, 3)), np.ones((500, 4), dtype=np.float32)
    for call in (partial(evaluate, y=np.zeros(500, dtype=int)), MLP.predict):
        tracemalloc.start()
        try:
            call(model, X=X)
            memory = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert memory < 200e6  # one output of the layer would have 500 MB


def test_confusion_table_of_many_classes() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.random((3000, 4)), rng.integers(0, 1000, 3000)
    model = MLP((4, 8, 1000), dtype="float64")
    result = evaluate(model, X, y)
    expected = np.zeros((1000, 1000), dtype=np.int64)
    np.add.at(expected, (y, model.predict(X)), 1)
    assert (result.confusion == expected).all()
    assert result.accuracy == np.trace(expected) / 3000
