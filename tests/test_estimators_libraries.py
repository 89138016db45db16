"""The estimators on every library: NumPy's numbers, on the device of the rows, in the type of the rows."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import sklearn.neural_network as theirs
from scipy.sparse import csr_array
from sklearn.datasets import make_classification

import xpnet
from tests.helpers import refused
from xpnet.backends import LIBRARIES, Backend, backend_class, owner
from xpnet.estimators import places
from xpnet.parity.gates import GATES, relative_error

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Settings = dict[str, Any]

ROWS, BATCH, HIDDEN = 85, 17, (11, 12)
X, CLASSES = make_classification(ROWS, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=2)
TARGETS: dict[str, np.ndarray] = {
    "classes": CLASSES,
    "two": CLASSES % 2,
    "labels": np.stack([CLASSES == 0, X[:, 0] > 0], axis=1).astype(int),
    "number": X[:, 0] ** 2,
    "numbers": X[:, :2] ** 2,
    "counts": np.round(np.exp(0.5 * X[:, 0])),
}
WEIGHTS = np.random.default_rng(0).integers(1, 5, ROWS) / 2
BASE: Settings = {"hidden_layer_sizes": HIDDEN, "max_iter": 10, "batch_size": BATCH, "random_state": 3}
SGD: Settings = {"solver": "sgd", "learning_rate_init": 0.02}
GRID: list[tuple[str, Settings]] = [
    ("classes", {}),
    ("classes", SGD),
    ("classes", SGD | {"activation": "tanh", "learning_rate": "invscaling"}),
    ("classes", {"activation": "logistic", "weights": WEIGHTS}),
    ("classes", {"early_stopping": True, "alpha": 0.1}),
    ("two", {"activation": "tanh"}),
    ("two", SGD | {"learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1, "shuffle": False}),
    ("labels", {"activation": "logistic", "dropout": 0.3}),
    ("number", {"early_stopping": True, "activation": "identity", "clip_norm": 0.5}),
    ("numbers", SGD | {"nesterovs_momentum": False, "weight_decay": 0.1}),
    ("numbers", {"activation": ("tanh", "relu"), "weights": WEIGHTS}),
    ("counts", {"activation": "tanh", "alpha": 0.0}),
]
STEPS = ROWS // BATCH * BASE["max_iter"]
HELD = -(-ROWS // 10)
LENGTHS = {ROWS, BATCH, HELD, ROWS - HELD, (ROWS - HELD) % BATCH}
"""The lengths of tables, batches and activations; parameters and sums have no such length."""

LIMIT = GATES["float64"]["parameters"] or 0.0

each_setting = pytest.mark.parametrize(
    "number", range(len(GRID)), ids=[f"{n}-{k}" for n, (k, _) in enumerate(GRID)]
)


def fitted(kind: str, settings: Settings, X: Any, y: Any = None) -> Any:
    """An estimator of ours, fitted to rows of any library."""
    given = {name: value for name, value in settings.items() if name != "weights"}
    extra = {"loss": "poisson"} if kind == "counts" else {}
    cls = xpnet.MLPClassifier if TARGETS[kind].dtype.kind == "i" else xpnet.MLPRegressor
    y = TARGETS[kind] if y is None else y
    return cls(**BASE | extra | given).fit(X, y, sample_weight=settings.get("weights"))


@cache
def reference(number: int) -> Any:
    """The same fit on NumPy."""
    return fitted(*GRID[number], X)


def answers(estimator: Any, X: Any) -> Any:
    return (estimator.predict_proba if hasattr(estimator, "classes_") else estimator.predict)(X)


def assert_equal(found: Any, expected: Any) -> None:
    """The parameters of two estimators, within the gates of parity, and the curve of the loss."""
    ours, other = (estimator.model_.host_parameters() for estimator in (found, expected))
    assert ours.keys() == other.keys()
    for name, array in other.items():
        assert relative_error(ours[name], array) <= LIMIT, name
    assert found.n_iter_ == expected.n_iter_
    np.testing.assert_allclose(found.loss_curve_, expected.loss_curve_, rtol=LIMIT)


@contextmanager
def spied() -> Iterator[list[tuple[int, ...]]]:
    """Note the shape of every array of another library that reaches the host, by any way known to us."""
    seen: list[tuple[int, ...]] = []

    def noting(function: Any, place: int = 0) -> Any:
        def noted(*arguments: Any, **options: Any) -> Any:
            array: Any = arguments[place] if len(arguments) > place else None
            host = type(array).__name__ == "TypedNdArray"  # JAX's wrapper of a host array
            if owner(array) not in (None, "numpy") and not host and hasattr(array, "shape"):
                seen.append(tuple(array.shape))
            return function(*arguments, **options)

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in ("asarray", "array", "asanyarray", "ascontiguousarray", "from_dlpack"):
            patch.setattr(np, name, noting(getattr(np, name)))
        for name in LIBRARIES:
            patch.setattr(backend_class(name), "to_numpy", noting(backend_class(name).to_numpy, 1))
        torch = pytest.importorskip("torch")
        for name in ("numpy", "cpu", "tolist", "__array__", "__dlpack__"):
            patch.setattr(torch.Tensor, name, noting(getattr(torch.Tensor, name)))
        yield seen


def at_home(answer: Any, X: Any) -> bool:
    """Whether an answer has the type of the rows and is on their device."""
    return type(answer) is type(X) and getattr(answer, "device", None) == getattr(X, "device", None)


def test_the_settings_are_twelve_of_fifty_steps() -> None:
    assert len(GRID) == 12
    assert STEPS == 50
    assert {reference(number).n_iter_ for number in range(12)} == {BASE["max_iter"]}


@each_setting
def test_fits_equal_numpys_and_rows_stay_on_the_device(backend: Backend, number: int) -> None:
    kind, settings = GRID[number]
    place, expected = backend.asarray(X), reference(number)
    with spied() as seen:
        found = fitted(kind, settings, place)
        answer = answers(found, place)
        label = found.predict(place)
    assert [shape for shape in seen if LENGTHS & set(shape)] == []
    assert_equal(found, expected)
    assert at_home(answer, place)
    assert at_home(label, place)
    assert found.model_.backend.name == backend.name
    assert relative_error(backend.to_numpy(answer), answers(expected, X)) <= 10 * LIMIT
    assert backend.to_numpy(label).dtype == expected.predict(X).dtype
    assert abs(found.score(place, TARGETS[kind]) - expected.score(X, TARGETS[kind])) < 1e-9


def test_the_spy_sees_what_a_host_reads(backend: Backend) -> None:
    if backend.name == "numpy":
        pytest.skip("its rows are on the host")
    batch = backend.xp.take(backend.asarray(X), backend.asarray(np.arange(BATCH)), axis=0)
    reads: list[Any] = [lambda x: np.asarray(x), lambda x: backend.to_numpy(x)]
    if backend.name == "torch":
        reads += [lambda x: x.numpy(), lambda x: x.tolist(), lambda x: np.from_dlpack(x), lambda x: x.cpu()]
    refusals = (TypeError, RuntimeError, AssertionError)  # of libraries that copy nothing unasked
    for read in reads:
        with spied() as seen, suppress(*refusals):
            read(batch)
        assert LENGTHS & set(seen[0])


def test_targets_and_weights_may_be_on_the_device_or_the_host(backend: Backend) -> None:
    place = backend.asarray(X)
    for kind in ("classes", "numbers"):
        one = fitted(kind, {"weights": WEIGHTS, "max_iter": 2}, place)
        given = {"weights": backend.asarray(WEIGHTS), "max_iter": 2}
        two = fitted(kind, given, place, backend.asarray(TARGETS[kind]))
        assert_equal(two, one)
        assert two.score(place, backend.asarray(TARGETS[kind])) == two.score(place, TARGETS[kind])


def test_float32_is_kept(backend: Backend) -> None:
    place = backend.asarray(X.astype(np.float32))
    found = fitted("classes", {"activation": "tanh", "max_iter": 3}, place)
    assert {array.dtype.name for array in found.model_.host_parameters().values()} == {"float32"}
    answer = backend.to_numpy(found.predict_proba(place))
    assert answer.dtype == np.float32
    expected = fitted("classes", {"activation": "tanh", "max_iter": 3}, X).predict_proba(X)
    np.testing.assert_allclose(answer, expected, atol=1e-3)
    if backend.supports("float64"):  # rows in another dtype than those of the fit
        answer = backend.to_numpy(found.predict_proba(backend.asarray(X)))
        assert answer.dtype == np.float32
        np.testing.assert_allclose(answer, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["classes", "two", "labels", "number", "numbers"])
def test_many_rows_are_answered_part_by_part(
    backend: Backend, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    methods = ["predict"] if "number" in kind else ["predict", "predict_proba", "predict_log_proba"]
    for rows, settings in ((X, {"backend": backend}), (backend.asarray(X), {})):
        found = fitted(kind, {"max_iter": 1} | settings, rows)
        for method in methods:
            whole = getattr(found, method)(rows)
            with monkeypatch.context() as patch:
                patch.setattr(type(found.model_.backend), "rows_at_once", 17)
                parts = getattr(found, method)(rows)
            assert owner(parts) == owner(rows)
            if settings == {}:
                whole, parts = backend.to_numpy(whole), backend.to_numpy(parts)
            np.testing.assert_allclose(parts, whole, rtol=1e-5, atol=1e-6)


def test_integers_are_not_scaled(backend: Backend) -> None:
    """Unlike `xpnet.train`, scikit-learn takes pixels as they are."""
    pixels = (40 * abs(X)).astype(np.uint8)
    found = fitted("classes", {"max_iter": 3}, backend.asarray(pixels))
    expected = theirs.MLPClassifier(**BASE | {"max_iter": 3}).fit(pixels, CLASSES)
    for name, array in zip(("W1", "W2", "W3"), expected.coefs_, strict=True):
        np.testing.assert_allclose(found.model_.host_parameters()[name], array, rtol=1e-8, atol=1e-8)
    answer = backend.to_numpy(found.predict_proba(backend.asarray(pixels)))
    np.testing.assert_allclose(answer, expected.predict_proba(pixels), atol=1e-8)


def test_a_fit_goes_on_and_lbfgs_runs(backend: Backend) -> None:
    place = backend.asarray(X)
    pairs = [(fitted("classes", SGD | {"max_iter": 2}, rows), rows) for rows in (place, X)]
    for estimator, rows in pairs:
        estimator.partial_fit(rows, CLASSES).set_params(warm_start=True, max_iter=2).fit(rows, CLASSES)
    assert_equal(pairs[0][0], pairs[1][0])
    with spied() as seen:
        found = fitted("two", {"solver": "lbfgs", "alpha": 0.1}, place)
    assert [shape for shape in seen if LENGTHS & set(shape)] == []
    expected = fitted("two", {"solver": "lbfgs", "alpha": 0.1}, X)
    np.testing.assert_allclose(backend.to_numpy(answers(found, place)), answers(expected, X), atol=1e-3)


def test_names_of_classes_are_on_the_host(backend: Backend) -> None:
    place, y = backend.asarray(X), np.array(["ant", "bee", "cow"])[CLASSES]
    found = fitted("classes", {"max_iter": 2}, place, y)
    assert found.predict(place).tolist() == fitted("classes", {"max_iter": 2}, X, y).predict(X).tolist()
    assert at_home(found.predict_proba(place), place)
    assert isinstance(found.classes_, np.ndarray)
    assert 0 < found.score(place, y) <= 1


def test_host_rows_are_sent_to_a_library_and_a_model_is_moved(backend: Backend) -> None:
    expected = reference(0)
    sent = fitted("classes", {"backend": backend.name}, X)
    assert_equal(sent, expected)
    assert sent.model_.backend.name == backend.name
    assert isinstance(sent.predict(X), np.ndarray)
    assert sent.predict(X).tolist() == expected.predict(X).tolist()
    moved = fitted("classes", {}, X).to(backend=backend.name)
    rows = moved.model_.backend.asarray(X)
    answer = moved.predict_proba(rows)
    assert at_home(answer, rows)
    found = moved.model_.backend.to_numpy(answer), moved.to(device="cpu", backend="numpy").predict_proba(X)
    for proba in found:
        np.testing.assert_allclose(proba, expected.predict_proba(X), atol=1e-12)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "score", "partial_fit"])
def test_rows_of_another_library_are_refused(backend: Backend, method: str) -> None:
    others = [rows for name, rows in elsewhere().items() if name != backend.name]
    found = fitted("classes", {"max_iter": 1}, backend.asarray(X))
    targets = [CLASSES] if method in ("score", "partial_fit") else []
    for rows in others:
        said = refused(lambda rows=rows: getattr(found, method)(rows, *targets), ValueError)  # type: ignore[misc]
        assert "must use the same namespace" in said
        assert f"MLPClassifier.{method.replace('score', 'predict')}()" in said
        assert f"The network is on {'the host' if backend.name == 'numpy' else backend.name}" in said
        assert ".to(" in said


def elsewhere() -> dict[str, Any]:
    strict, torch = pytest.importorskip("array_api_strict"), pytest.importorskip("torch")
    return {"numpy": X, "array-api-strict": strict.asarray(X), "torch": torch.asarray(X)}


def test_devices_and_libraries_that_contradict_each_other_are_refused() -> None:
    torch, strict = pytest.importorskip("torch"), pytest.importorskip("array_api_strict")
    said = refused(lambda: fitted("classes", {"backend": "numpy"}, torch.asarray(X)), ValueError)
    assert "torch on cpu" in said
    found = fitted("classes", {}, strict.asarray(X, device=strict.Device("device1")))
    said = refused(lambda: found.predict(strict.asarray(X)), ValueError)
    assert "must use the same namespace" in said
    said = refused(lambda: fitted("classes", {"backend": "torch"}, csr_array(X)), ValueError)
    assert "sparse" in said
    assert "toarray" in said
    with pytest.raises(xpnet.XpnetError, match="no device cuda"):
        fitted("classes", {"device": "cuda", "backend": "torch"}, X)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_bad_numbers_on_a_device_are_refused(backend: Backend, bad: float) -> None:
    broken = X.copy()
    broken[3, 2] = bad
    found = fitted("classes", {"max_iter": 1}, backend.asarray(X))
    place, short = backend.asarray(broken), backend.asarray(X[:, :4].copy())
    calls: list[Any] = [lambda: fitted("classes", {}, place), lambda: found.predict(place)]
    for call in calls:
        with pytest.raises(ValueError, match=r"Input X contains"):
            call()
    with pytest.raises(ValueError, match="X has 4 features, but MLPClassifier is expecting 6"):
        found.predict(short)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        found.fit(backend.asarray(X), CLASSES[:-1])


def test_no_autograd_graph_is_made() -> None:
    torch: Any = pytest.importorskip("torch")
    rows = torch.tensor(X, requires_grad=True)
    found = fitted("classes", {}, rows)
    answer = found.predict_proba(rows)
    assert not answer.requires_grad
    assert rows.grad is None
    assert not any(array.requires_grad for array in found.model_.parameters.values())
    assert_equal(found, reference(0))


def test_bfloat16_targets_and_weights_come_to_the_host(backend: Backend) -> None:
    """NumPy has no bfloat16, which torch, JAX and MLX have."""
    xp = backend.module.numpy if backend.name == "jax" else backend.module
    if not hasattr(xp, "bfloat16"):
        pytest.skip("no bfloat16")
    for name in ("MLPClassifier", "MLPRegressor"):
        est = getattr(xpnet, name)(hidden_layer_sizes=5, max_iter=2, random_state=0)
        given = backend.xp.astype(backend.asarray(np.arange(6, dtype=np.float32) % 2), xp.bfloat16)
        est.fit(np.eye(6), given, given + 1)
        assert est.score(np.eye(6), given) <= 1


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_unsigned_labels(backend: Backend, dtype: str) -> None:
    rows = backend.asarray(np.eye(6, dtype=np.float32))
    est = xpnet.MLPClassifier(5, max_iter=2, random_state=0).fit(rows, np.arange(6, dtype=dtype) % 3)
    assert set(np.asarray(backend.to_numpy(est.predict(rows))).tolist()) <= {0, 1, 2}


def test_two_classes_are_told_without_a_warning(backend: Backend) -> None:
    """JAX has no int64 beside float32, and warns of it."""
    rows = backend.asarray(np.eye(6, dtype=np.float32))
    for labels in (np.arange(6) % 2, np.eye(6, dtype=int)[:, :2]):
        est = xpnet.MLPClassifier(5, max_iter=2, random_state=0).fit(rows, labels)
        assert np.asarray(backend.to_numpy(est.predict(rows))).shape == labels.shape


def test_rows_on_a_device_too_large_for_float32(backend: Backend) -> None:
    if not backend.supports("float64"):
        pytest.skip("no float64")
    est = xpnet.MLPClassifier(5, max_iter=2).fit(backend.asarray(np.eye(6, dtype=np.float32)), np.arange(6))
    with backend.running("float64"):
        rows = backend.asarray(np.eye(6) * 1e200)
    with pytest.raises(ValueError, match="too large for"):
        est.predict(rows)


def on_device(X: np.ndarray) -> Any:
    """An array on a device from which nothing comes to the host unasked."""
    strict = pytest.importorskip("array_api_strict")
    return strict.asarray(X, device=strict.Device("device1"))


class Frame(pd.DataFrame):  # type: ignore[misc]
    """Stands in for a frame of cuDF, whose columns become CuPy's array, here array-api-strict's."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("Implicit conversion to a host NumPy array is not allowed")

    def to_cupy(self) -> Any:
        return on_device(np.stack([self[name] for name in self], axis=1))

    def to_pandas(self) -> Any:
        return pd.DataFrame(self)


class Column(pd.Series):  # type: ignore[misc]
    """Stands in for a column of cuDF that holds strings."""

    def to_cupy(self) -> Any:
        raise TypeError("String arrays are not supported by cupy")

    def to_pandas(self) -> Any:
        return pd.Series(self)


def test_a_frame_on_a_gpu_is_converted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rows stay there, its names are known, and its labels, which may be words, come to the host."""
    convert = Frame.to_cupy
    made = Mock(side_effect=lambda frame: convert(frame))
    monkeypatch.setattr(Frame, "to_cupy", lambda frame: made(frame))
    names, words = list("abcdef"), np.array(["ant", "bee", "cow"])[CLASSES]
    rows, labels, weights = Frame(X, columns=names), Column(words), Column(WEIGHTS)
    with spied() as seen:
        found = fitted("classes", {"max_iter": 3, "weights": weights}, rows, labels)
        answer = found.predict_proba(rows)
    assert [shape for shape in seen if LENGTHS & set(shape)] == []
    assert made.call_count == 2
    expected = fitted("classes", {"max_iter": 3, "weights": WEIGHTS}, X, words)
    assert_equal(found, expected)
    assert at_home(answer, on_device(X))
    assert found.predict(rows).tolist() == expected.predict(X).tolist()
    assert found.score(rows, labels) == expected.score(X, words)
    assert found.feature_names_in_.tolist() == names
    with pytest.raises(ValueError, match="feature names"):
        found.predict(Frame(rows[names[::-1]]))
    assert "same namespace" in refused(lambda: found.predict(X), ValueError)


class Foreign:
    """Stands in for an array on a GPU that belongs to none of our libraries."""

    def __init__(self, **known: Any) -> None:
        self.shape = X.shape
        self.__dict__.update(known)


@pytest.mark.parametrize(
    "known",
    [{"__cuda_array_interface__": {"shape": X.shape}}, {"__dlpack_device__": lambda: (2, 1)}],
    ids=["cuda array interface", "dlpack"],
)
def test_arrays_of_others_on_a_gpu_become_cupys(known: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def get_backend(device: str) -> Any:
        asked.append(device)
        taken = SimpleNamespace(asarray=lambda _: on_device(X), from_dlpack=lambda _: on_device(X))
        return SimpleNamespace(module=taken, xp=taken)

    monkeypatch.setattr(places, "get_backend", get_backend)
    found = fitted("classes", {"max_iter": 1}, Foreign(**known))
    assert at_home(found.predict(Foreign(**known)), on_device(X))
    assert set(asked) <= {"cuda", "cuda:1"}
    monkeypatch.undo()
    said = refused(lambda: fitted("classes", {}, Foreign(**known)))
    assert "no device cuda" in said


def test_sparse_rows_of_others_are_refused() -> None:
    said = refused(lambda: fitted("classes", {}, Foreign(toarray=lambda: X)), ValueError)
    assert said == "X is sparse, a Foreign: give X.toarray()"
