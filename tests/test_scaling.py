"""Columns at mean 0 and standard deviation 1, kept in the model; and what each kind of network predicts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.helpers import refused
from xpnet import MLP, evaluate, train
from xpnet.arrays import dtype_name
from xpnet.backends import Backend
from xpnet.scaling import Columns


def table(rows: int = 300) -> np.ndarray:
    """Columns of different size: about 1000 +- 20, 0 +- 0.001, and always 0.1, which no binary number is."""
    rng = np.random.default_rng(8)
    X = rng.standard_normal((rows, 3)) * [20.0, 1e-3, 0.0] + [1000.0, 0.0, 0.1]
    return X.astype(np.float32)


@pytest.mark.parametrize("dtype", ["float64", "uint8"])
def test_columns_are_scaled_to_mean_0_and_deviation_1(backend: Backend, dtype: str) -> None:
    X = (table() % 200).astype(dtype)
    y = np.arange(len(X)) % 2
    largest = 255.0 if dtype == "uint8" else 1.0
    mean, std = (function(X.astype(np.float64) / largest, axis=0) for function in (np.mean, np.std))
    for given in (X, backend.asarray(X)):
        model = MLP((3, 2), backend=backend)
        train(model, given, y, epochs=1, standardize=True)
        assert model.inputs is not None
        np.testing.assert_allclose(model.inputs.mean, mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(model.inputs.std[:2], np.where(std[:2], std[:2], 1 / largest), rtol=1e-4)
        scaled = model.inputs.scaled(X.astype(np.float64) / largest)
        assert abs(scaled[:, 2]).max() < 1e-6  # nothing is made of a constant column
        assert np.isfinite(backend.to_numpy(model.logits(given))).all()
    train(model, X, y, epochs=1)
    assert model.inputs is None  # what is not asked for again is gone


def test_columns_of_one_row_and_of_more_rows_than_are_read_at_once() -> None:
    X = table(360_000)
    found = Columns.of(X[:1])
    assert (found.mean.tolist(), found.std.tolist()) == (X[0].astype(np.float64).tolist(), [1.0] * 3)
    weights = np.arange(len(X)) % 3.0
    found, exact = Columns.of(X, weights), X.astype(np.float64)
    mean = np.average(exact, axis=0, weights=weights)
    std = np.sqrt(np.average((exact - mean) ** 2, axis=0, weights=weights))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.std, [std[0], std[1], 1.0], rtol=1e-9)
    for dtype in (">i2", "bool", "float16"):
        rows = (X[:300] % 200).astype(dtype)
        np.testing.assert_allclose(Columns.of(rows).mean, rows.astype(np.float64).mean(axis=0), rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "dtype"),
    [
        *(("cross-entropy", "float32"), ("binary-cross-entropy", "float64")),
        *(("squared-error", "float32"), ("poisson", "float64")),
    ],
)
def test_every_library_predicts_from_the_file_what_numpy_does(
    backend: Backend, tmp_path: Path, loss: str, dtype: str
) -> None:
    X = table()
    T = np.abs(X[:, [0, 1]] - [900.0, 0.0]).astype(np.float32)
    numbers, labels = (X[:, 0] > 1000).astype(np.int32), (T.mean(axis=0) < T).astype(np.int32)
    y = {"cross-entropy": numbers, "binary-cross-entropy": labels}.get(loss, T)
    model = MLP((3, 4, 2), loss=loss, dtype=dtype)
    train(model, X, y, epochs=2, standardize=True)
    model.save(tmp_path / "model")
    there = xpnet.load(tmp_path / "model", backend=backend)
    tolerance: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5} if dtype == "float32" else {"rtol": 1e-9}
    answers = [(there.logits, model.logits), (there.predict, model.predict)]
    if model.kind != "numbers":
        answers.append((there.predict_proba, model.predict_proba))
    for call, expected in answers:
        for given in (X, backend.asarray(X)):
            found = call(given)
            assert backend.device_of(found) == backend.device
            np.testing.assert_allclose(backend.to_numpy(found), expected(X), **tolerance)
    result, reference = evaluate(there, X, y), evaluate(model, X, y)
    assert result.loss == pytest.approx(reference.loss, rel=1e-4)
    assert result.metrics == pytest.approx(reference.metrics, rel=1e-4)
    if model.kind == "numbers":  # in the units of the targets
        error = backend.to_numpy(there.predict(X)) - T
        assert result.rmse == pytest.approx(float(np.sqrt(np.mean(error**2))), rel=1e-4)


# --- by hand ------------------------------------------------------------------------------------------------

PARAMETERS = {"W1": np.array([[1.0, -1.0], [2.0, 1.0]]), "b1": np.array([0.5, 0.0])}
ROWS = np.array([[3.0, 5.0], [-1.0, 5.0], [1.0, 1.0]])
INPUTS = Columns(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
# the rows scaled: [1, 0.5], [-1, 0.5], [0, -0.5]
LOGITS = np.array([[2.5, -0.5], [0.5, 1.5], [-0.5, -0.5]])


def by_hand(backend: Backend, **options: Any) -> MLP:
    return MLP((2, 2), parameters=PARAMETERS, inputs=INPUTS, dtype="float64", backend=backend, **options)


def test_labels_are_predicted_each_by_itself(backend: Backend) -> None:
    model = by_hand(backend, loss="binary-cross-entropy")
    X = backend.asarray(ROWS)
    assert backend.to_numpy(model.logits(X)).tolist() == LOGITS.tolist()
    answer = model.predict(X)
    assert backend.to_numpy(answer).tolist() == [[1, 0], [1, 1], [0, 0]]
    assert dtype_name(answer) == "int32"
    A = backend.to_numpy(model.predict_proba(X))
    np.testing.assert_allclose(A, 1 / (1 + np.exp(-LOGITS)), rtol=1e-12)


@pytest.mark.parametrize(
    ("loss", "mean", "expected"),
    [
        ("squared-error", [10.0, -1.0], LOGITS * [2.0, 0.5] + [10.0, -1.0]),
        ("poisson", [0.0, 0.0], np.exp(LOGITS) * [2.0, 0.5]),
    ],
)
def test_numbers_are_predicted_in_the_units_of_their_targets(
    loss: str, mean: list[float], expected: np.ndarray, backend: Backend
) -> None:
    model = by_hand(backend, loss=loss, targets=Columns(np.array(mean), np.array([2.0, 0.5])))
    np.testing.assert_allclose(backend.to_numpy(model.predict(ROWS)), expected, rtol=1e-12)
    assert backend.to_numpy(model.logits(ROWS)).tolist() == LOGITS.tolist()
    assert "has no probabilities; ask predict for its numbers" in refused(lambda: model.predict_proba(ROWS))


@pytest.mark.parametrize("loss", ["binary-cross-entropy", "squared-error", "poisson"])
def test_one_output_gives_one_answer_a_row(backend: Backend, loss: str) -> None:
    X, y = table(), np.arange(300) % 2
    model = MLP((3, 1), loss=loss, backend=backend)
    for targets in (y, y[:, None], y.astype(np.float32)):
        train(model, X, targets, epochs=1, standardize=True)
        assert tuple(model.predict(X).shape) == (300,)
    assert tuple(model.logits(X).shape) == (300, 1)
    if loss == "binary-cross-entropy":
        assert tuple(model.predict_proba(X).shape) == (300, 1)


def test_rows_without_a_number_are_named(backend: Backend) -> None:
    model = by_hand(backend, loss="squared-error")
    rows = np.concatenate([ROWS, [[np.nan, 1.0]]])
    assert refused(lambda: model.predict(rows)).startswith("X, or the weights: row 3, counted from 0")


def test_classes_cannot_be_one_and_labels_and_numbers_can() -> None:
    assert "sizes end in 1" in refused(lambda: MLP((3, 1)), xpnet.errors.UsageError)
    for loss in ("binary_cross_entropy", "squared_error", "poisson"):
        assert MLP((3, 1), loss=loss).outputs == 1
