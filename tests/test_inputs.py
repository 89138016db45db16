"""The door: rows, targets and weights of any kind come in as they are, or one line says why they cannot."""

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from tests.helpers import bits, mapped, refused
from xpnet import MLP, Evaluation, evaluate, train
from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend
from xpnet.errors import UsageError
from xpnet.training.inputs import Examples, enter

ROWS, FEATURES, OUTPUTS = 60, 4, 3
SIZES = (FEATURES, 5, OUTPUTS)
ON_CPU = [name for name in LIBRARIES if "cpu" in backend_class(name).kinds]
HOLDERS = ("list", "pandas", "polars", *ON_CPU)
NAMES = ("ant", "bee", "…")
LOSSES = ("cross-entropy", "binary-cross-entropy", "squared-error", "poisson")

Given = tuple[np.ndarray, np.ndarray, np.ndarray]


def example(loss: str = "cross-entropy") -> Given:
    """Rows, targets as the loss takes them, and weights, some of them 0; without float64."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((ROWS, FEATURES)).astype(np.float32)
    counts = rng.integers(0, 3, (ROWS, OUTPUTS)).astype(np.int32)
    targets = {
        "cross-entropy": counts[:, 0],
        "binary-cross-entropy": counts // 2,
        "squared-error": (X[:, :3] - 2).astype(np.float32),
        "poisson": counts.astype(np.float32),
    }
    return X, targets[loss], rng.integers(0, 4, ROWS).astype(np.float32)


def held_by(holder: str, array: np.ndarray, backend: Backend | None = None) -> Any:
    """An array in the hands of a library of arrays or frames; for the backend's own, on its device."""
    if holder == "list":
        return array.tolist()
    if holder in ON_CPU:
        own = backend if backend and backend.name == holder else get_backend("cpu", holder)
        return own.asarray(array)
    library = pytest.importorskip(holder)
    if array.ndim == 1:
        return library.Series(array) if holder == "pandas" else library.Series(values=array)
    return library.DataFrame({f"{i}": column for i, column in enumerate(array.T)})


def assert_same(found: Evaluation, expected: Evaluation, tolerance: float = 1e-5) -> None:
    assert (found.rows, found.metrics.keys()) == (expected.rows, expected.metrics.keys())
    assert found.loss == pytest.approx(expected.loss, rel=tolerance)
    for name, total in expected.totals.items():
        np.testing.assert_allclose(found.totals[name], total, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("holder", HOLDERS)
def test_arrays_and_frames_of_any_library_are_taken(backend: Backend, holder: str) -> None:
    given = X, y, weights = example("squared-error")
    theirs = [held_by(holder, array, backend) for array in given]
    found, expected = (MLP(SIZES, loss="squared-error", backend=backend) for _ in range(2))
    assert_same(
        evaluate(found, theirs[0], theirs[1], sample_weight=theirs[2]),
        evaluate(expected, X, y, sample_weight=weights),
    )
    answer = found.predict(theirs[0])
    assert backend.device_of(answer) == backend.device
    predicted = backend.to_numpy(expected.predict(backend.asarray(X)))
    np.testing.assert_allclose(backend.to_numpy(answer), predicted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("holder", HOLDERS)
def test_training_takes_the_same_arrays(holder: str) -> None:
    models = [MLP(SIZES, loss="squared-error") for _ in range(2)]
    given = example("squared-error")
    for model, arrays in zip(models, (given, [held_by(holder, array) for array in given]), strict=True):
        X, y, weights = arrays
        options: dict[str, Any] = {"validation": (X, y, weights), "epochs": 1, "standardize": True}
        train(model, X, y, sample_weight=weights, **options)
    assert bits(models[0]) == bits(models[1])


def test_integers_and_truth_values_in_frames_and_lists_are_taken() -> None:
    polars, pandas = pytest.importorskip("polars"), pytest.importorskip("pandas")
    rows = np.arange(8).reshape(2, 4) % 2
    expected = MLP(SIZES).logits(rows.astype(np.float32)).tolist()
    for X in (rows.astype(bool), rows.astype(bool).tolist(), pandas.DataFrame(rows.astype(bool))):
        assert MLP(SIZES).logits(X).tolist() == expected
    X = polars.DataFrame(rows.astype(np.uint8))
    assert MLP(SIZES).logits(X).tolist() == pytest.approx(MLP(SIZES).logits(rows / 255.0))
    X = pandas.DataFrame({"a": [1.0], "b": ["x"], "c": [1.0], "d": [1.0]})
    assert "where there must be numbers" in refused(lambda: MLP(SIZES).predict(X))


def test_rows_of_the_library_are_taken_without_a_copy(backend: Backend) -> None:
    X, y, _ = (backend.asarray(array) for array in example())
    examples = enter(MLP(SIZES, backend=backend), X, y)
    assert examples.X is X
    assert examples.y.dtype == np.int32


# --- names of classes ---------------------------------------------------------------------------------------


def named(y: Any, names: Any) -> Examples:
    model = MLP((FEATURES, 2, len(names or NAMES)), class_names=names)
    return enter(model, np.zeros((len(y), FEATURES), np.float32), y)


def test_targets_may_be_the_names_of_the_classes() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    words = ["bee", "…", "ant", "bee"]
    kinds = [
        words,
        np.array(words),
        np.array(words, dtype=object),
        pandas.Series(words),
        polars.Series(words),
    ]
    kinds += [pandas.Categorical(words), [1, 2, 0, 1], np.array([1, 2, 0, 1], np.uint8)]
    for y in kinds:
        found = named(y, NAMES).y
        assert found.tolist() == [1, 2, 0, 1]
        assert found.dtype == np.int32
    # integers are the names where these are numbers, and not the numbers of the classes
    for names, given in (
        ((10, 1, 0), [1, 0, 10, 1]),
        ((0.5, 1.0, 2.0), [1.0, 2.0, 0.5, 1.0]),
        ((0.5, 1, 2), np.array([1, 2, 0.5, 1])),
        ((5, 1, 2), np.array([1, 2, 5, 1], np.float32)),
    ):
        assert named(given, names).y.tolist() == [1, 2, 0, 1]
    assert named([True, False], (True, False)).y.tolist() == [0, 1]


def test_a_network_trained_on_names_answers_with_them(backend: Backend) -> None:
    X, y, _ = example()
    words = np.array(NAMES)[y]
    models = [MLP(SIZES, class_names=NAMES, backend=backend), MLP(SIZES, backend=backend)]
    for model, targets in zip(models, (words, y), strict=True):
        train(model, X, targets, epochs=2)
    assert bits(models[0]) == bits(models[1])
    names = models[0].class_names
    assert names is not None
    predicted = np.array(names)[backend.to_numpy(models[0].predict(X))]
    accuracy = float(np.mean(predicted == words))
    assert evaluate(models[0], X, words).accuracy == pytest.approx(accuracy)


@pytest.mark.parametrize(
    ("y", "names", "said"),
    [
        (["ant", "wasp"], NAMES, "y: 'wasp' is none of the classes ['ant', 'bee', '…']"),
        (["ant", None], NAMES, "y: None is none of the classes"),
        (np.array(["ant", float("nan")], dtype=object), NAMES, "y: nan is none of the classes"),
        (np.array(["ant", [1]], dtype=object), NAMES, "y: [1] is none of the classes"),
        (["ant"], None, "y: <U3 labels; they must be whole numbers from 0, or the network must know"),
        ([0, 3], NAMES, "y: label 3 is outside the classes 0 … 2"),
        ([1, 3], (1, 5, 7), "y: 3 is none of the classes [1, 5, 7]"),
        ([0.5, np.nan], (0.5, 1.5), "y: nan is none of the classes"),
        (np.array(["ant"] * 5 + ["x" * 1000]), NAMES, "y: 'xxx"),
        (np.ma.masked_equal(np.array([1, 0]), 0), NAMES, "y: masked"),
    ],
    ids=["unknown", "None", "NaN", "list", "no names", "number", "other number", "float", "long", "masked"],
)
def test_unknown_names_are_refused(y: Any, names: Any, said: str) -> None:
    message = refused(lambda: named(y, names))
    assert message.startswith(said)
    assert len(message) < 250


# --- weights of classes -------------------------------------------------------------------------------------


def weights_of(class_weight: Any, names: Any = None, weights: Any = None) -> Any:
    y = np.array([0, 0, 0, 1, 2, 2])
    model = MLP(SIZES, class_names=names)
    return enter(model, np.zeros((6, FEATURES), np.float32), y, weights, class_weight).weights


def test_weights_of_classes_are_those_of_their_rows() -> None:
    assert weights_of(None) is None
    # 6 rows of 3 classes: 6 / (3 * rows of the class), as scikit-learn has it
    np.testing.assert_allclose(weights_of("balanced"), [2 / 3] * 3 + [2] + [1] * 2)
    # with weights of the rows, every class weighs the same in sum
    weights = np.array([1.0, 0.0, 1.0, 3.0, 0.5, 0.5])
    np.testing.assert_allclose(weights_of("balanced", weights=weights), [1, 0, 1, 2, 1, 1])
    # as if a class without rows were none
    np.testing.assert_allclose(weights_of("balanced", weights=[1, 1, 1, 0, 1, 1])[[0, 4]], [5 / 6, 5 / 4])
    assert weights_of({0: 0, 2: 2.5}).tolist() == [0, 0, 0, 1, 2.5, 2.5]
    assert weights_of({"bee": np.float32(0.5)}, NAMES).tolist() == [1, 1, 1, 0.5, 1, 1]
    assert weights_of({np.int64(1): 3}, weights=weights).tolist() == [1, 0, 1, 9, 0.5, 0.5]


@pytest.mark.parametrize(
    "class_weight",
    ["auto", 3, [1, 1, 1], {3: 1}, {"ant": 1}, {0: -1}, {0: float("nan")}, {0: "1"}, {0: 1j}, {0.5: 1}],
    ids=repr,
)
def test_weights_of_classes_that_make_no_sense_are_refused(class_weight: Any) -> None:
    assert refused(lambda: weights_of(class_weight), UsageError).startswith("class_weight ")


def test_weights_of_classes_need_classes() -> None:
    X, y, _ = example("poisson")
    call = partial(train, MLP(SIZES, loss="poisson"), X, y, class_weight="balanced")
    assert "give sample_weight" in refused(call, UsageError)
    assert "every row weighs 0" in refused(lambda: weights_of({0: 0, 1: 0, 2: 0}))


# --- what is refused ----------------------------------------------------------------------------------------

Change = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[Any, Any, Any]]


def with_(array: np.ndarray, value: float) -> np.ndarray:
    """A copy in float64 with another last number."""
    changed = array.astype(np.float64)
    changed.flat[-1] = value
    return changed


WRONG: list[tuple[str, Change, str]] = [
    ("poisson", lambda X, y, w: (X[:, :3], y, w), "X has shape (60, 3): this network takes (rows, 4)"),
    ("poisson", lambda X, y, w: (X[0], y, w), "X has shape (4,): this network takes"),
    ("poisson", lambda X, y, w: (X.reshape(60, 2, 2), y, w), "X has shape (60, 2, 2)"),
    ("poisson", lambda X, y, w: (X.astype(str), y, w), "X: str_ where there must be numbers"),
    ("poisson", lambda X, y, w: (X.astype(np.int64), y, w), "X: int64 numbers"),
    ("poisson", lambda X, y, w: (X.astype(complex), y, w), "X: complex128 where there must be numbers"),
    ("poisson", lambda X, y, w: ([[1.0], [1.0, 2.0]], y, w), "X: rows of different lengths"),
    ("poisson", lambda X, y, w: (np.ma.masked_greater(X, 0), y, w), "X: masked numbers"),
    ("poisson", lambda X, y, w: (with_(X, np.nan), y, w), "X: row 59, counted from 0: NaN"),
    ("poisson", lambda X, y, w: (X, y[1:], w), "y has shape (59, 3): X of 60 rows needs as many"),
    ("poisson", lambda X, y, w: (X, y[:, :2], w), "y has shape (60, 2): a network of 3 outputs needs (rows,"),
    ("poisson", lambda X, y, w: (X, y[:, 0], w), "y has shape (60,): a network of 3 outputs needs (rows, 3)"),
    ("poisson", lambda X, y, w: (X, with_(y, -1), w), "y: -1 is less than 0: poisson needs 0 or more"),
    ("poisson", lambda X, y, w: (X, with_(y, np.inf), w), "y: row 59, counted from 0: NaN, infinity"),
    ("squared-error", lambda X, y, w: (X, with_(y, np.nan), w), "y: row 59, counted from 0: NaN, infinity"),
    ("squared-error", lambda X, y, w: (X, with_(y, 1e200), w), "y: 1e+200 is too large"),
    ("squared-error", lambda X, y, w: (X, y.astype(str), w), "y: str_ where there must be numbers"),
    ("squared-error", lambda X, y, w: (X, np.ma.masked_less(y, 0), w), "y: masked"),
    ("squared-error", lambda X, y, w: (X, y.astype(complex), w), "y: complex128 where there must be numbers"),
    ("binary-cross-entropy", lambda X, y, w: (X, with_(y, 2), w), "y: labels must be 0 or 1, not 2"),
    ("binary-cross-entropy", lambda X, y, w: (X, with_(y, 0.5), w), "y: labels must be 0 or 1, not 0.5"),
    ("cross-entropy", lambda X, y, w: (X, y[:, None], w), "y has shape (60, 1): class numbers have shape (r"),
    ("cross-entropy", lambda X, y, w: (X, with_(y, 0.5), w), "y: float64 labels; they must be whole numbers"),
    ("cross-entropy", lambda X, y, w: (X, with_(y, -1), w), "y: label -1 is outside the classes 0 … 2"),
    ("cross-entropy", lambda X, y, w: (X, np.ma.masked_equal(y, 2), w), "y: masked"),
    ("cross-entropy", lambda X, y, w: (X, [None] * 60, w), "y: object labels; they must be whole"),
    ("poisson", lambda X, y, w: (X, y, w[1:]), "sample_weight has shape (59,)"),
    ("poisson", lambda X, y, w: (X, y, w[:, None]), "sample_weight has shape (60, 1)"),
    ("poisson", lambda X, y, w: (X, y, w.astype(str)), "sample_weight has shape (60,) of <U32"),
    ("poisson", lambda X, y, w: (X, y, with_(w, -0.5)), "sample_weight: row 59 weighs -0.5; weights are 0 o"),
    ("poisson", lambda X, y, w: (X, y, with_(w, np.nan)), "sample_weight: row 59 weighs nan"),
    ("poisson", lambda X, y, w: (X, y, with_(w, 1e39)), "sample_weight: a weight of 1e+39 is too large for"),
    ("poisson", lambda X, y, w: (X, y, 0 * w), "sample_weight: every row weighs 0"),
    ("poisson", lambda X, y, w: (X, y, np.ma.masked_equal(w, 0)), "sample_weight: masked"),
]


@pytest.mark.parametrize(
    ("loss", "change", "said"), WRONG, ids=[f"{loss}: {said[:40]}" for loss, _, said in WRONG]
)
def test_examples_that_do_not_fit_are_refused(loss: str, change: Change, said: str) -> None:
    X, y, weights = change(*example(loss))
    model = MLP(SIZES, loss=loss)
    before = bits(model)
    for standardize in (False, True):
        call = partial(train, model, X, y, sample_weight=weights, epochs=1, standardize=standardize)
        assert refused(call).startswith(said)
    assert refused(partial(evaluate, model, X, y, sample_weight=weights)).startswith(said)
    assert (bits(model), model.scale, model.columns) == (before, None, {})
    validation = partial(train, model, *example(loss)[:2], validation=(X, y, weights), epochs=1)
    assert refused(validation).startswith(re.sub(r"\b(X|y|sample_weight)\b", r"\1_val", said))


@pytest.mark.parametrize("values", [3, "ab", None, {"a": 1}], ids=repr)
def test_what_is_no_array_and_no_network_is_named(values: Any) -> None:
    X, y, _ = example()
    for call in (train, evaluate):
        for said, what in (
            (refused(partial(call, MLP(SIZES), values, y), UsageError), "X"),
            (refused(partial(call, MLP(SIZES), X, values), UsageError), "y"),
        ):
            assert said == f"{what} must be an array, not {values!r}"
        assert refused(partial(call, values, X, y), UsageError).startswith("model must be an xpnet.MLP, not ")
        if values is not None:
            said = refused(partial(call, MLP(SIZES), X, y, sample_weight=values), UsageError)
            assert said == f"sample_weight must be an array, not {values!r}"


DEVICE: list[tuple[Callable[[np.ndarray, np.ndarray], tuple[Any, Any]], str]] = [
    (lambda X, y: (X[:, :3], y), "X has shape (60, 3): this network takes (rows, 4)"),
    (lambda X, y: (X[:0], y[:0]), "X has shape (0, 4)"),
    (lambda X, y: (with_(X, np.nan), y), "NaN"),
    (lambda X, y: (with_(X, -np.inf), y), "infinity"),
    (lambda X, y: (X.astype(np.int64), y), "int64 numbers"),
    (lambda X, y: (X, np.where(y == 2, 3, y)), "label 3 is outside the classes 0 … 2"),
    (lambda X, y: (X, y + 0.5), "float64 labels"),
    (lambda X, y: (X, y[:-1]), "y has shape (59,): X of 60 rows needs as many"),
]


def test_examples_on_the_device_that_do_not_fit_are_refused(backend: Backend) -> None:
    model = MLP(SIZES, dtype="float64", backend=backend)
    before = bits(model)
    for change, said in DEVICE:
        X, y = (backend.asarray(array) for array in change(*example()[:2]))
        for call in (train, evaluate):
            assert said in refused(partial(call, model, X, y))
    assert bits(model) == before


@pytest.mark.parametrize("holder", ["torch", "jax", "mlx"])
def test_targets_and_weights_of_bfloat16_are_refused_and_may_be_cast(backend: Backend, holder: str) -> None:
    X, y, weights = example("squared-error")
    library = get_backend("cpu", holder)
    half = library.xp.astype(library.asarray(weights), library.dtype("bfloat16"))
    model = MLP(SIZES, loss="squared-error", backend=backend)
    said = refused(lambda: evaluate(model, X, y, sample_weight=half))
    assert said.startswith("sample_weight")
    assert "float32" in said
    cast = library.xp.astype(half, library.dtype("float32"))
    assert_same(evaluate(model, X, y, sample_weight=cast), evaluate(model, X, y, sample_weight=weights))


# --- in memory and streamed ---------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_and_targets_streamed_are_those_in_memory(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    monkeypatch.setattr("xpnet.data.blocks.BLOCK", 2 * 4 * FEATURES)  # 2 rows of float32
    X, y, weights = (np.concatenate([array] * 5) for array in example(loss))
    options: dict[str, Any] = {"class_names": NAMES if loss == "cross-entropy" else None, "loss": loss}
    files = [mapped(tmp_path / f"{i}.npy", array) for i, array in enumerate((X, y, weights))]
    memory = 3 * (4 * FEATURES + 16) * 40 + X.nbytes // 10
    assert memory < X.nbytes
    model, streamed = MLP(SIZES, **options), MLP(SIZES, **options)
    train(model, X, y, sample_weight=weights, epochs=1, lr=0.01, standardize=True)
    expected = evaluate(model, X, y, sample_weight=weights)
    assert_same(evaluate(model, *files[:2], sample_weight=files[2], memory=memory), expected)

    more: dict[str, Any] = {"sample_weight": files[2], "memory": memory, "standardize": True}
    history = train(streamed, *files[:2], validation=tuple(files), epochs=3, batch_size=8, lr=0.01, **more)
    for name, columns in streamed.columns.items():  # as in memory
        np.testing.assert_array_equal(columns.mean, model.columns[name].mean)
        np.testing.assert_array_equal(columns.std, model.columns[name].std)
    after = evaluate(streamed, X, y, sample_weight=weights)
    assert history.epochs[-1].validation_loss == pytest.approx(after.loss, rel=1e-5)
    untrained = MLP(SIZES, loss=loss, targets=streamed.targets, inputs=streamed.inputs)
    assert after.loss < evaluate(untrained, X, y, sample_weight=weights).loss
