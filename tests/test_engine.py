"""One engine for every target: weights, validation, metrics, dropout, going on, and scaled columns."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import Interrupting, bits, losses, refused, timeless
from xpnet import MLP, Checkpoint, Evaluation, History, Progress, evaluate, load, train
from xpnet.backends import Backend, get_backend
from xpnet.data.rows import split, stream
from xpnet.errors import UsageError
from xpnet.training import Settings
from xpnet.training.inputs import Examples
from xpnet.training.run import Run

Arrays = tuple[np.ndarray, np.ndarray]

METRICS = {
    "cross-entropy": ["loss", "accuracy"],
    "binary-cross-entropy": ["loss", "accuracy", "f1"],
    "squared-error": ["loss", "rmse", "r2"],
    "poisson": ["loss", "rmse", "r2"],
}
each_loss = pytest.mark.parametrize("loss", METRICS)


@cache
def examples(loss: str, rows: int = 90) -> Arrays:
    """Rows of four columns, with targets for three outputs that depend on them, and on chance."""
    rng = np.random.default_rng(8)
    X = rng.standard_normal((rows, 4))
    Z = X @ rng.standard_normal((4, 3)) + 0.5 * rng.standard_normal((rows, 3))
    targets: dict[str, Callable[[], Any]] = {
        "cross-entropy": lambda: Z.argmax(axis=1),
        "binary-cross-entropy": lambda: (Z > 0).astype(np.int64),
        "squared-error": lambda: 10.0 * Z + np.array([1e4, 0.0, -3.0]),
        "poisson": lambda: rng.poisson(20 * np.exp(0.3 * Z)),
    }
    return X, targets[loss]()


def network(loss: str = "cross-entropy", **options: Any) -> MLP:
    """The network of these tests."""
    return MLP((4, 6, 3), **{"loss": loss, "dtype": "float64", "activation": "tanh"} | options)


def close(found: MLP, expected: MLP, rtol: float = 1e-9) -> None:
    """Compare the parameters of two networks."""
    for name, array in expected.host_parameters().items():
        np.testing.assert_allclose(found.host_parameters()[name], array, rtol=rtol, atol=1e-3 * rtol)


def scores(result: Evaluation) -> dict[str, float]:
    """The loss and the metrics."""
    return {"loss": result.loss, **result.metrics}


class Stopping(Progress):
    """Ends a run after some epochs, and counts the rows of its chunks."""

    def __init__(self, epochs: int) -> None:
        self.epochs, self.rows = epochs, list[int]()

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        self.rows.append(rows)

    def on_epoch(self, history: History) -> bool:
        return len(history.epochs) == self.epochs


WHOLE: dict[str, Any] = {"batch_size": 10**6, "validation": 0, "epochs": 5, "momentum": 0.5}
"""A run of which every batch holds all rows."""


@each_loss
def test_weights_count_as_rows_that_are_repeated(loss: str, rng: np.random.Generator) -> None:
    X, y = examples(loss)
    weights = rng.integers(0, 4, len(X))
    assert (weights == 0).any()
    X = np.where(weights[:, None] == 0, 1e3, X)  # rows that do not count
    weighted, repeated = network(loss), network(loss)
    rows = np.repeat(X, weights, axis=0), np.repeat(y, weights, axis=0)
    options = WHOLE | {"standardize": True, "training_metrics": True}
    found = train(weighted, X, y, sample_weight=weights, **options)
    expected = train(repeated, *rows, **options)
    np.testing.assert_allclose(losses(found), losses(expected), rtol=1e-10)
    assert found.epochs[-1].metrics == pytest.approx(expected.epochs[-1].metrics, rel=1e-9)
    close(weighted, repeated)
    result, of_repeated = evaluate(weighted, X, y, sample_weight=weights), evaluate(weighted, *rows)
    assert scores(result) == pytest.approx(scores(of_repeated), rel=1e-10)
    assert list(found.epochs[-1].metrics) == [f"training_{name}" for name in METRICS[loss]]
    if loss == "cross-entropy":
        assert result.confusion.tolist() == of_repeated.confusion.tolist()


def test_batch_that_weighs_nothing_makes_no_update() -> None:
    X, y = examples("cross-entropy", 60)
    order = stream(0, "shuffle", 1).permutation(np.arange(60, dtype=np.int32))
    weights = np.ones(60)
    weights[order[20:40]] = 0.0  # the second batch of three
    options: dict[str, Any] = {"epochs": 1, "batch_size": 20, "validation": 0, "lr": 0.1, "dropout": 0.5}
    history = train(network(), X, y, sample_weight=weights, optimizer="adam", schedule="constant", **options)
    assert history.standing is not None
    assert history.standing.state["step"].tolist() == [2]
    assert history.standing.state["sum.count"] == pytest.approx(1 + 0.9)

    one, alone = network(), network()
    weights[order] = np.repeat([0.0, 0.0, 2.0], 20)
    options |= {"dropout": (), "schedule": "constant", "momentum": 0.5, "epochs": 2}
    second = stream(0, "shuffle", 2).permutation(np.arange(60, dtype=np.int32)).reshape(3, 20)
    recorder = Stopping(1)
    train(one, X, y, sample_weight=weights, progress=recorder, **options)
    train(alone, X[order[40:]], y[order[40:]], **options | {"epochs": 1})
    assert (weights[second] > 0).any(axis=1).sum() > 1  # the second epoch would have had more batches
    assert recorder.rows == [20]
    close(one, alone)


def test_training_rows_that_weigh_nothing_are_refused() -> None:
    X, y = examples("cross-entropy")
    _, held = split(y, 0.1, stream(0, "validation"))
    weights = np.zeros(90)
    weights[held] = 1.0
    model = network()
    before = bits(model)
    assert refused(lambda: train(model, X, y, sample_weight=weights)).startswith(
        "every training row weighs 0"
    )
    assert refused(lambda: train(model, X, y, sample_weight=1 - weights)).startswith("every row weighs 0")
    assert bits(model) == before


NAMES = ("cat", "dog", "eel")


def test_class_weight_is_a_weight_of_each_row() -> None:
    X, y = examples("cross-entropy")
    own = np.linspace(0.5, 1.5, 90)
    found, expected = network(class_names=NAMES), network()
    given = {"dog": 3, "cat": 0.0}
    first = train(found, X, np.array(NAMES)[y], sample_weight=own, class_weight=given, epochs=2)
    second = train(expected, X, y, sample_weight=own * np.array([0.0, 3.0, 1.0])[y], epochs=2)
    close(found, expected, 1e-12)
    # the rows held back are weighted too
    np.testing.assert_allclose(losses(first), losses(second), rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@each_loss
def test_validation_rows_may_be_brought(loss: str, weighted: bool) -> None:
    (X, y), model = examples(loss), network(loss)
    weights = np.linspace(0, 2, 30) if weighted else None
    brought = (X[60:], y[60:], weights) if weighted else (X[60:], y[60:])
    history = train(model, X[:60], y[:60], validation=brought, training_metrics=True, epochs=2, batch_size=16)
    expected = {f"training_{name}": x for name, x in scores(evaluate(model, X[:60], y[:60])).items()}
    result = evaluate(model, X[60:], y[60:], sample_weight=weights)
    expected |= {f"validation_{name}": x for name, x in scores(result).items()}
    row = history.epochs[-1]
    assert row.metrics == pytest.approx(expected, rel=1e-10)
    assert [row.validation_loss, row.training_loss] == [
        row.metrics["validation_loss"],
        row.metrics["training_loss"],
    ]
    assert list(row.metrics) == list(expected)
    assert history.columns == ["epoch", "lr", "loss", *expected, "seconds"]
    assert history.csv().splitlines()[0] == ",".join(history.columns)
    # all rows were trained on
    alone = network(loss)
    train(alone, X[:60], y[:60], validation=0, epochs=2, batch_size=16)
    assert bits(alone) == bits(model)


def test_validation_rows_of_another_kind_are_refused() -> None:
    X, y = examples("cross-entropy")
    message = refused(lambda: train(network(), X, y, validation=(np.abs(X).astype(np.uint8), y)))
    assert message.startswith("validation: its rows are uint8, the training rows float64")


def better(name: str, value: float) -> float:
    return -value if name in ("loss", "rmse") else value


MONITORS = [(loss, name) for loss, names in METRICS.items() for name in [None, *names]]


@pytest.mark.parametrize(("loss", "monitor"), MONITORS, ids=str)
def test_patience_watches_the_metric_named(loss: str, monitor: str | None, tmp_path: Path) -> None:
    X, y = examples(loss)
    y = np.random.default_rng(1).permutation(y)  # nothing to learn
    options: dict[str, Any] = {"schedule": "constant", "validation": 0.3, "momentum": 0.9, "batch_size": 8}
    model, name = network(loss), monitor or ("accuracy" if "accuracy" in METRICS[loss] else "loss")
    history = train(
        model, X, y, epochs=200, patience=3, monitor=monitor, checkpoint=tmp_path / "c", **options
    )
    seen = [better(name, row.metrics[f"validation_{name}"]) for row in history.epochs]
    assert history.best == seen.index(max(seen)) + 1
    assert len(history.epochs) == history.best + 3 < 200
    best = network(loss)
    train(best, X, y, epochs=history.best, **options)
    assert bits(best) == bits(model)
    assert Checkpoint(tmp_path / "c").load_config()["monitor"] == monitor


@each_loss
def test_metric_that_the_loss_has_not_is_refused_at_once(loss: str) -> None:
    others = {name for names in METRICS.values() for name in names} - set(METRICS[loss])
    for name in others:
        message = refused(lambda name=name: train(network(loss), *examples(loss), monitor=name), UsageError)  # type: ignore[misc]
        assert message == f"monitor {name}: {loss} measures {', '.join(METRICS[loss])}"


def test_rate_falls_on_a_plateau_and_a_resumed_run_knows_it(tmp_path: Path) -> None:
    X, y = examples("cross-entropy")
    options: dict[str, Any] = {"schedule": "plateau", "epochs": 9}
    flat = train(network(), X, y, lr=1e-30, **options)  # the first epoch stays the best
    assert [row.lr for row in flat.epochs] == pytest.approx([1e-30] * 4 + [5e-31] * 3 + [2.5e-31] * 2)
    options |= {"lr": 0.5, "momentum": 0.5, "batch_size": 8, "epochs": 20, "monitor": "loss"}
    y = np.random.default_rng(1).permutation(y)
    whole, parts, path = network(), network(), tmp_path / "checkpoint"
    expected = train(whole, X, y, **options)
    fall = next(row for row in expected.epochs if row.lr < 0.5)
    constant = options | {"schedule": "constant", "epochs": fall.epoch - 1}
    before = train(network(), X, y, **constant)
    after = train(network(), X, y, start=before.standing, **constant | {"lr": 0.25, "epochs": 1})
    assert fall.loss == after.epochs[0].loss
    with pytest.raises(KeyboardInterrupt):
        train(parts, X, y, checkpoint=path, progress=Interrupting(12, 1), **options)
    assert timeless(train(parts, X, y, checkpoint=path, resume=True, **options)) == timeless(expected)
    assert bits(parts) == bits(whole)
    # without validation rows it watches the training loss
    assert train(network(), X, y, validation=0, **options).epochs[-1].lr < 0.5


DROPPING: dict[str, Any] = {"epochs": 3, "batch_size": 16, "lr": 0.1, "momentum": 0.5, "dropout": (0.2, 0.5)}


@cache
def dropped() -> tuple[MLP, History]:
    """A run with dropout on NumPy."""
    model = network(backend=get_backend("cpu", "numpy"))
    return model, train(model, *examples("cross-entropy"), **DROPPING)


def test_every_library_drops_the_same_units_and_resumes_with_them(backend: Backend, tmp_path: Path) -> None:
    expected_model, expected = dropped()
    whole, parts = (network(backend=backend) for _ in range(2))
    history, path = train(whole, *examples("cross-entropy"), **DROPPING), tmp_path / "checkpoint"
    np.testing.assert_allclose(losses(history), losses(expected), rtol=1e-9)
    close(whole, expected_model)
    with pytest.raises(KeyboardInterrupt):
        train(parts, *examples("cross-entropy"), checkpoint=path, progress=Interrupting(2, 1), **DROPPING)
    train(parts, *examples("cross-entropy"), checkpoint=path, resume=True, **DROPPING)
    assert bits(parts) == bits(whole)


def test_rates_of_dropout_are_for_the_input_and_the_hidden_layers() -> None:
    def trained(dropout: Any, **options: Any) -> dict[str, bytes]:
        model = MLP((4, 6, 5, 3), dtype="float64")
        train(model, *examples("cross-entropy"), **DROPPING | {"dropout": dropout} | options)
        return bits(model)

    assert trained(0.5) == trained([0.5]) == trained((0.0, 0.5)) == trained((0.0, 0.5, 0.5))
    assert trained((0.2, 0.5)) == trained((0.2, 0.5, 0.5))
    different = [0.0, 0.5, 0.4, (0.2, 0.5), (0.2, 0.0), (0.0, 0.5, 0.0)]
    assert len({trained(rates)["W1"] for rates in different}) == len(different)
    assert trained(0.5, seed=1) != trained(0.5)
    assert trained(0.0) == trained(()) == trained((0.0, 0.0))
    assert "give one rate, two, or 3: for the input" in refused(lambda: trained((0.1,) * 4), UsageError)


def test_dropout_is_for_training_alone() -> None:
    (X, y), (model, history) = examples("cross-entropy"), dropped()
    _, held = split(y, 0.1, stream(0, "validation"))
    W = model.host_parameters()
    Z = np.tanh(X[held] @ W["W1"] + W["b1"]) @ W["W2"] + W["b2"]
    loss = np.mean(np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(len(held)), y[held]])
    assert history.epochs[-1].validation_loss == pytest.approx(loss, rel=1e-12)
    np.testing.assert_allclose(model.logits(X[held]), Z, rtol=1e-12)


def test_rows_of_padding_are_looked_for_where_there_may_be_some(backend: Backend) -> None:
    """A recorded step serves a whole run. So it looks for them in every chunk, or in none."""
    model, how = MLP((4, 3), backend=backend), backend.execution.actual
    full, short = np.arange(4)[None, :], np.array([[8, 9, -1, -1]])
    for rows in (8, 10):
        given = Examples(np.zeros((rows, 4), np.float32), np.arange(rows) % 3, None)
        run = Run(model, given, Settings(batch_size=4, validation=0.0, lr=0.1))
        assert run.step_for(full).padded == (how == "compiled" or (rows == 10 and how == "captured"))
        assert rows == 8 or run.step_for(short).padded


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_settings_of_the_optimizer_reach_the_steps(optimizer: str) -> None:
    torch = pytest.importorskip("torch")
    X, y = examples("squared-error")
    model = network("squared-error")
    W = {name: torch.tensor(array, requires_grad=True) for name, array in model.host_parameters().items()}
    groups = [
        {"params": [W["W1"], W["W2"]], "weight_decay": 0.03},
        {"params": [W["b1"], W["b2"]], "weight_decay": 0.0},
    ]
    adam = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3}
    theirs = {
        "sgd": lambda: torch.optim.SGD(groups, lr=0.1),
        "adam": lambda: torch.optim.Adam(groups, **adam),
        "adamw": lambda: torch.optim.AdamW(groups, **adam),
    }[optimizer]()
    T = torch.tensor((y - y.mean(axis=0)) / y.std(axis=0))
    norms = []
    for _ in range(5):
        theirs.zero_grad()
        with torch.enable_grad():
            Z = torch.tanh(torch.tensor(X) @ W["W1"] + W["b1"]) @ W["W2"] + W["b2"]
            (((Z - T) ** 2).sum() / 2 / len(X)).backward()
        norm = torch.cat([array.grad.ravel() for array in W.values()]).norm()
        for array in W.values():  # torch.nn.utils.clip_grad_norm_ adds 1e-6 to the norm
            array.grad *= min(1.0, 1.8 / norm)
        norms.append(norm)
        theirs.step()
    assert max(norms) > 1.8 > min(norms)
    options: dict[str, Any] = {"optimizer": optimizer, "weight_decay": 0.03, "clip": 1.8, "lr": 0.1}
    if optimizer != "sgd":
        options |= {"beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}
    train(model, X, y, schedule="constant", **WHOLE | {"momentum": 0.0} | options)
    for name, array in model.host_parameters().items():
        np.testing.assert_allclose(array, W[name].detach().numpy(), rtol=1e-9, atol=1e-12)


def test_adamw_decays_by_default_and_others_do_not() -> None:
    for optimizer, decay in (("adamw", 0.01), ("adam", 0.0), ("sgd", 0.0)):
        models = [network(), network()]
        for model, given in zip(models, (None, decay), strict=True):
            train(model, *examples("cross-entropy"), epochs=1, optimizer=optimizer, weight_decay=given)
        assert bits(models[0]) == bits(models[1])


GOING: dict[str, dict[str, Any]] = {
    "squared-error": {"momentum": 0.9, "lr": 0.05},
    "cross-entropy": {"optimizer": "adam", "lr": 0.01, "dropout": 0.3},
}


@pytest.mark.parametrize("loss", GOING)
def test_run_goes_on_from_the_standing_of_another(backend: Backend, loss: str) -> None:
    options: dict[str, Any] = GOING[loss] | {"schedule": "constant", "batch_size": 16}
    (X, y), model, whole = examples(loss), network(loss, backend=backend), network(loss, backend=backend)
    first = train(model, X, y, epochs=2, **options)
    middle = bits(model)
    second = train(model, X, y, epochs=1, start=first.standing, **options)
    third = train(model, X, y, epochs=1, start=second.standing, **options)
    expected = train(whole, X, y, epochs=4, **options)
    assert [*losses(first)[:2], second.epochs[0].loss, third.epochs[0].loss] == losses(expected)[:4]
    assert bits(model) == bits(whole)
    assert [row.epoch for row in third.epochs] == [1]
    # the first standing is still there, and what goes on from it changes nothing of it
    again = network(loss, backend=backend, seed=9, targets=model.targets)
    train(again, X, y, epochs=2, start=first.standing, **options)
    assert bits(again) == bits(whole)
    assert first.standing is not None
    assert {key: backend.to_numpy(first.standing.state[key]).tobytes() for key in middle} == middle


def test_model_and_standing_share_no_memory() -> None:
    for patience in (None, 2):
        model = network()
        history = train(model, *examples("cross-entropy"), epochs=3, patience=patience, momentum=0.5)
        assert history.standing is not None
        for array in history.standing.state.values():
            assert not any(np.shares_memory(array, W) for W in model.parameters.values())


def test_standing_that_does_not_fit_is_refused() -> None:
    X, y = examples("cross-entropy")
    standing = train(network(), X, y, epochs=1, momentum=0.5).standing
    said = "start: its arrays are not those of this network and optimizer"
    others = (MLP((4, 5, 3), dtype="float64"), MLP((4, 6, 6, 3), dtype="float64"), network(dtype="float32"))
    for model in others:
        before = bits(model)
        assert refused(partial(train, model, X, y, start=standing, momentum=0.5)) == said
        assert bits(model) == before
    assert refused(partial(train, network(), X, y, start=standing)) == said
    assert refused(partial(train, network(), X, y, start=standing, optimizer="adam")) == said
    numbers = examples("squared-error")
    standing = train(network("squared-error"), *numbers, epochs=1).standing
    message = refused(partial(train, network("squared-error"), *numbers, start=standing), UsageError)
    assert message == "start: go on with the network of that run, which knows how it scaled columns"


def test_callback_that_answers_true_ends_the_run(tmp_path: Path) -> None:
    X, y = examples("cross-entropy")
    options: dict[str, Any] = {"schedule": "constant", "lr": 0.1}
    stopped, two, six = (network() for _ in range(3))
    path = tmp_path / "checkpoint"
    history = train(stopped, X, y, epochs=6, progress=Stopping(2), checkpoint=path, **options)
    train(two, X, y, epochs=2, **options)
    assert len(history.epochs) == 2
    assert bits(stopped) == bits(two)
    train(stopped, X, y, epochs=6, checkpoint=path, resume=True, **options)
    train(six, X, y, epochs=6, **options)
    assert bits(stopped) == bits(six)


def test_numbers_are_learned_in_their_own_units(backend: Backend, tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    X = rng.standard_normal((400, 3)).astype(np.float32)
    y = 1e4 + X @ np.array([3.0, -2.0, 0.5])
    model = MLP((3, 1), loss="squared_error", backend=backend)
    history = train(model, X, y, epochs=15, lr=0.2)
    assert model.targets is not None
    assert history.epochs[-1].validation_r2 > 0.99999
    answers = np.asarray(backend.to_numpy(model.predict(backend.asarray(X))), dtype=np.float64)
    assert answers.shape == (400,)
    np.testing.assert_allclose(answers, y, atol=0.02)
    result = evaluate(model, X, y + 3.0)
    errors = np.sqrt(np.mean((answers - y - 3.0) ** 2))
    assert result.rmse == pytest.approx(errors, rel=1e-3)
    assert result.r2 == pytest.approx(1 - errors**2 / y.var(), rel=1e-3)
    assert result.loss == pytest.approx(errors**2 / 2 / model.targets.std[0] ** 2, rel=1e-3)
    assert evaluate(model, X, y[:, None] + 3.0).loss == result.loss
    model.save(tmp_path / "model")
    again = load(tmp_path / "model", backend=backend)
    assert backend.to_numpy(again.predict(backend.asarray(X))).tolist() == answers.tolist()


def test_rates_are_learned_and_judged_in_float32() -> None:
    rng = np.random.default_rng(3)
    X = rng.standard_normal((2000, 3)).astype(np.float32)
    rates = 1e4 * np.exp(0.01 * X @ np.array([1.0, -0.5, 0.0]))
    y = rng.poisson(rates)
    model = MLP((3, 1), loss="poisson")
    train(model, X, y, epochs=100, lr=0.2)
    answers = np.asarray(model.predict(X), dtype=np.float64)
    np.testing.assert_allclose(answers, rates, rtol=0.005)
    many, of_many = np.tile(X, (100, 1)), np.tile(y, 100)
    result = evaluate(model, many, of_many)
    assert result.r2 == pytest.approx(1 - np.mean((answers - y) ** 2) / y.var(), abs=1e-4)
    deviance = np.mean(answers - y + y * np.log(y / answers))
    assert result.loss * y.mean() == pytest.approx(deviance, rel=1e-2)


def test_several_labels_are_learned() -> None:
    X, Y = examples("binary-cross-entropy", 300)
    model = network("binary-cross-entropy")
    train(model, X, Y.astype(bool), epochs=40)
    answers = model.predict(X)
    assert set(answers.ravel().tolist()) == {0, 1}
    result = evaluate(model, X, Y)
    assert result.accuracy == pytest.approx((answers == Y).all(axis=1).mean())
    assert result.f1 == pytest.approx(2 * (answers * Y).sum() / (answers.sum() + Y.sum()))
    assert result.f1 > 0.85


@pytest.mark.parametrize("kind", ["float32", "uint8"])
def test_columns_are_scaled_on_request(backend: Backend, kind: str) -> None:
    X, y = examples("cross-entropy")
    X = X * [1.0, 5.0, 0.1, 1.0] + [3.0, 100.0, 0.0, 7.0]
    X = (40 + 20 * X % 200 if kind == "uint8" else X).astype(kind)
    X[:, 3] = 0.1 if kind != "uint8" else 7  # a constant column, of which nothing must be left
    wide = X / 255.0 if kind == "uint8" else X.astype(np.float64)
    scaled = (wide - wide.mean(axis=0)) / np.where(wide.std(axis=0) > 1e-9, wide.std(axis=0), 1.0)
    scaled[:, 3] = 0.0
    rows, scaled_rows = backend.asarray(X), backend.asarray(scaled)
    model, plain = (network(backend=backend) for _ in range(2))
    history = train(model, rows, y, standardize=True, epochs=2)
    expected = train(plain, scaled_rows, y, epochs=2)
    np.testing.assert_allclose(losses(history), losses(expected), rtol=1e-8)
    close(model, plain, 1e-6)
    assert model.inputs is not None
    assert model.inputs.std[3] * (model.scale or 1.0) == 1.0
    found, same = (backend.to_numpy(answer) for answer in (model.predict(rows), plain.predict(scaled_rows)))
    assert found.tolist() == same.tolist()
    assert evaluate(model, X, y).loss == pytest.approx(evaluate(plain, scaled, y).loss, rel=1e-8)


def test_run_that_fails_leaves_the_scale_of_the_columns() -> None:
    X, y = examples("squared-error")
    model = network("squared-error")
    train(model, X, y, standardize=True, epochs=1)
    before = bits(model), model.inputs, model.targets
    with pytest.raises(KeyboardInterrupt):
        train(model, X * 2, y * 3, epochs=2, progress=Interrupting(2, 1))
    assert (bits(model), model.inputs, model.targets) == before
