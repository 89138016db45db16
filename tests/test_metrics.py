"""The metrics of each kind of targets: from sums over weighted batches, against formulas for all rows."""

from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from tests.oracles import each_dtype, on
from tests.states import Host
from xpnet.backends import Backend
from xpnet.nn.metrics import CLASSES, LABELS, MOST_TABULATED, NUMBERS, Kind

each_kind = pytest.mark.parametrize("kind", [CLASSES, LABELS, NUMBERS], ids=lambda kind: kind.name)


def totals_of(backend: Backend, kind: Kind, size: int, *arrays: np.ndarray) -> Host:
    """The sums of A, T and weights over batches of `size` rows, and the weight, in float64."""
    (m, k), dtype = arrays[0].shape, arrays[0].dtype
    totals: Host = {name: zero.astype(dtype) for name, zero in kind.zeros(np, k).items()}
    for i in range(0, m, size):
        batch = {name: x[i : i + size] for name, x in zip(("A", "T", "weights"), arrays, strict=True)}
        batch["Z"] = batch["A"] - 0.5  # what is most probable and what is above one half are judged by Z
        parts = on(backend, kind.sums, **batch, classes=np.arange(k, dtype=np.int32))
        for name, part in parts.items():
            assert (part.shape, part.dtype) == (totals[name].shape, dtype)
            totals[name] = totals[name] + part
    totals["weight"] = np.full(1, arrays[2].sum())
    return {name: array.astype(np.float64) for name, array in totals.items()}


def draw(rng: Generator, kind: Kind, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and targets (n, 3) that agree better than by chance."""
    if kind is NUMBERS:
        T: Any = rng.standard_normal((n, 3)) * [1.0, 5.0, 0.1]
        return T + rng.standard_normal((n, 3)) / 2, T
    T = np.eye(3)[rng.integers(0, 3, n)] if kind is CLASSES else 1.0 * rng.integers(0, 2, (n, 3))
    return 0.4 * T + 0.6 * rng.random((n, 3)), T


def by_formula(kind: Kind, A: np.ndarray, T: np.ndarray, w: np.ndarray) -> dict[str, float]:
    """As scikit-learn defines them: f1 "micro", r2 "uniform_average", each with sample weights."""
    if kind is CLASSES:
        return {"accuracy": np.average(A.argmax(1) == T.argmax(1), weights=w)}
    if kind is LABELS:
        right, wrong = (w @ ((A > 0.5) * T)).sum(), (w @ ((A > 0.5) != T)).sum()
        exact = np.average(((A > 0.5) == T).all(1), weights=w)
        return {"accuracy": exact, "f1": 2 * right / (2 * right + wrong)}
    error = np.average((A - T) ** 2, axis=0, weights=w)
    variance = np.average((T - np.average(T, axis=0, weights=w)) ** 2, axis=0, weights=w)
    return {"rmse": np.sqrt(np.mean(error)), "r2": np.mean(1 - error / variance)}


@each_kind
def test_batches_added_up_give_the_metrics_of_all_rows(kind: Kind, backend: Backend, rng: Generator) -> None:
    A, T = draw(rng, kind, 60)
    weights = rng.integers(0, 4, 60) / 2.0
    A[weights == 0] = 1e6  # padding has this weight
    for size in (12, 60):
        found = kind.metrics(np, totals_of(backend, kind, size, A, T, weights))
        assert found == pytest.approx(by_formula(kind, A, T, weights), rel=1e-12)


# A and T of rows with the weights 1, 2 and 4, their sums, and their metrics
BY_HAND: dict[Kind, Any] = {
    # rows of the confusion are true classes, columns predicted ones; of equal outputs the first is predicted
    CLASSES: (
        [[0.5, 0.3, 0.2], [0.1, 0.6, 0.3], [0.4, 0.4, 0.2]],
        [[1, 0, 0], [0, 0, 1], [0, 1, 0]],
        {"by_class": [1, 4, 2], "right": [1, 0, 0], "confusion": [[1, 0, 0], [4, 0, 0], [0, 2, 0]]},
        {"accuracy": 1 / 7},
    ),
    # a label is predicted above one half, not at it; row 2 has one label wrong, row 3 two
    LABELS: (
        [[0.9, 0.5], [0.75, 0.25], [0.25, 0.75]],
        [[1, 0], [1, 1], [1, 0]],
        {"true": [7, 2], "predicted": [3, 4], "both": [3, 0], "exact": [1]},
        {"accuracy": 1 / 7, "f1": 2 * 3 / (9 + 7)},
    ),
    # the second number is 1 everywhere: there is nothing to explain, so its r2 is 0 unless it is met
    NUMBERS: (
        [[1, 1], [3, 1], [2, 3]],
        [[0, 1], [4, 1], [2, 1]],
        {"squares": [3, 16], "targets": [16, 7], "target_squares": [48, 7]},
        {"rmse": (19 / 14) ** 0.5, "r2": (1 - 3 / (48 - 16**2 / 7) + 0) / 2},
    ),
}


@each_dtype
@each_kind
def test_sums_and_metrics_by_hand(kind: Kind, dtype: str, backend: Backend) -> None:
    A, T, sums, metrics = BY_HAND[kind]
    totals = totals_of(backend, kind, 3, *(np.array(array, dtype) for array in (A, T, [1, 2, 4])))
    assert {name: array.tolist() for name, array in totals.items()} == sums | {"weight": [7]}
    assert kind.metrics(np, totals) == pytest.approx(metrics, rel=1e-14)


def test_very_many_classes_have_no_confusion_table(backend: Backend) -> None:
    A = np.eye(2, MOST_TABULATED + 1)
    totals = totals_of(backend, CLASSES, 2, A, A[[0, 0]], np.ones(2))
    assert set(totals) == {"by_class", "right", "weight"}
    assert CLASSES.metrics(np, totals) == {"accuracy": 0.5}


@pytest.mark.parametrize(("answer", "r2"), [(2.5, 1.0), (3.0, 0.0)])
def test_r2_of_a_constant_target_is_as_in_scikit_learn(backend: Backend, answer: float, r2: float) -> None:
    totals = totals_of(backend, NUMBERS, 3, np.full((3, 1), answer), np.full((3, 1), 2.5), np.ones(3))
    assert NUMBERS.metrics(np, totals)["r2"] == r2


def test_no_label_true_and_none_predicted_is_an_f1_of_zero(backend: Backend) -> None:
    totals = totals_of(backend, LABELS, 3, np.full((3, 2), 0.25), np.zeros((3, 2)), np.ones(3))
    assert LABELS.metrics(np, totals) == {"accuracy": 1.0, "f1": 0.0}


def test_float32_keeps_r2_of_targets_with_mean_zero(backend: Backend, rng: Generator) -> None:
    """100 batches of 300 rows: five digits of r2 are right."""
    T = rng.standard_normal((30_000, 2))
    T -= T.mean(axis=0)
    given = T + 0.3 * rng.standard_normal(T.shape), T, np.ones(len(T))
    single = totals_of(backend, NUMBERS, 300, *(array.astype(np.float32) for array in given))
    assert NUMBERS.metrics(np, single) == pytest.approx(by_formula(NUMBERS, *given), abs=5e-6)
