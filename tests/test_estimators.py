"""The estimators as people who know scikit-learn use and misuse them, and what scikit-learn's do not have."""

import copy
import inspect
import pickle
import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn.neural_network as theirs
from scipy.sparse import coo_array, csc_array, csr_array
from sklearn import config_context
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.datasets import make_classification
from sklearn.metrics import log_loss
from sklearn.utils import compute_class_weight, compute_sample_weight, get_tags

import xpnet
from tests.helpers import refused
from xpnet.estimators import fitting

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Call = Callable[..., Any]

X, Y = make_classification(60, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=4)
NUMBERS = X[:, 0] ** 2
NAMES = [f"column {number}" for number in range(6)]
FRAME = pd.DataFrame(X, columns=NAMES)
SMALL: dict[str, Any] = {"hidden_layer_sizes": 5, "max_iter": 5, "random_state": 0}
PAIRS = {"MLPClassifier": Y, "MLPRegressor": NUMBERS}
OWN = {"device", "backend", "dropout", "clip_norm", "weight_decay", "progress"}
"""The parameters that scikit-learn's estimators do not have."""

each_class = pytest.mark.parametrize("name", PAIRS)


def both(name: str, **settings: Any) -> tuple[Any, Any]:
    """Our estimator and scikit-learn's, with the same settings."""
    return getattr(xpnet, name)(**SMALL | settings), getattr(theirs, name)(**SMALL | settings)


def outcome(call: Call, *arguments: Any, **options: Any) -> tuple[Any, ...]:
    """What a call comes to: the answer, or the kind of the error and its words; and its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = call(*arguments, **options)
            found: Any = np.asarray(answer).tolist() if not hasattr(answer, "get_params") else "an estimator"
        except Exception as error:
            found = (type(error).__name__, str(error))
    return found, [(w.category.__name__, str(w.message)) for w in caught]


def same_outcome(call: Callable[[Any], Any], name: str = "MLPClassifier", **settings: Any) -> Any:
    """Do the same with our estimator and scikit-learn's: answers, errors and warnings must be equal."""
    ours, other = (outcome(call, estimator) for estimator in both(name, **settings))
    assert ours == other
    return ours


@each_class
def test_parameters_are_scikit_learns_and_more_that_change_nothing(name: str) -> None:
    ours, other = (inspect.signature(getattr(home, name)).parameters for home in (xpnet, theirs))
    assert [p.name for p in ours.values()][: len(other)] == [*other]
    for parameter in other.values():
        found = ours[parameter.name]
        assert (found.default, found.kind) == (parameter.default, parameter.kind)
    extra = ours.keys() - other.keys()
    assert extra == OWN | ({"class_weight"} if name == "MLPClassifier" else set())
    assert all(ours[p].kind is inspect.Parameter.KEYWORD_ONLY and not ours[p].default for p in extra)
    methods = {method for method in dir(getattr(theirs, name)) if not method.startswith("_")}
    assert methods <= set(dir(getattr(xpnet, name)))


@each_class
def test_it_is_an_estimator(name: str) -> None:
    ours, other = both(name)
    assert repr(ours) == repr(other)
    assert (is_classifier(ours), is_regressor(ours)) == (is_classifier(other), is_regressor(other))
    assert clone(ours).get_params() == ours.get_params()
    assert other.get_params().items() <= ours.get_params().items()
    assert name in ours.fit(X, PAIRS[name])._repr_html_()
    tags, expected = get_tags(ours), get_tags(other)
    assert tags.array_api_support
    tags.array_api_support = expected.array_api_support
    assert tags == expected
    learned = [attribute for attribute in vars(other.fit(X, PAIRS[name])) if attribute.endswith("_")]
    assert [attribute for attribute in learned if not hasattr(ours, attribute)] == []


BAD: dict[str, Any] = dict(
    [
        *[("hidden_layer_sizes", (5, 0)), ("solver", "newton"), ("alpha", -1), ("batch_size", 1.5)],
        *[("learning_rate", "fast"), ("learning_rate_init", 0.0), ("power_t", -0.5), ("max_iter", 0)],
        *[("shuffle", "yes"), ("random_state", "seed"), ("tol", -1e-4), ("warm_start", 2), ("momentum", 1.1)],
        *[("nesterovs_momentum", None), ("validation_fraction", 1.0), ("beta_1", 1.0), ("beta_2", -0.1)],
        *[("epsilon", 0.0), ("n_iter_no_change", 2.5), ("max_fun", 0), ("early_stopping", "no")],
    ]
)


@pytest.mark.parametrize("parameter", BAD)
def test_parameters_are_refused_in_the_same_words(parameter: str) -> None:
    found, _ = same_outcome(lambda est: est.fit(X, Y), **{parameter: BAD[parameter]})
    assert found[0] in ("InvalidParameterError", "ValueError")


@pytest.mark.parametrize(
    "settings",
    [
        *({"activation": given} for given in ("step", ("relu", "tanh"), (), ("relu", "step"), 3)),
        *({"dropout": given} for given in (1.0, -0.1, (0.1, 0.2, 0.3), "half")),
        *({"clip_norm": 0}, {"weight_decay": -1.0}, {"progress": "loud"}, {"backend": "nompy"}),
        *({"device": "gpu"}, {"class_weight": "even"}, {"class_weight": {7: 1.0}}),
        {"device": "cuda", "backend": xpnet.get_backend("cpu")},
    ],
    ids=lambda given: "-".join(given),
)
def test_our_own_parameters_are_refused_with_one_clear_line(settings: dict[str, Any]) -> None:
    parameter, *_ = settings
    said = refused(lambda: both("MLPClassifier")[0].set_params(**settings).fit(X, Y), ValueError)
    assert parameter in said


MISUSE: dict[str, Callable[[Any], Any]] = {
    "y of another length": lambda est: est.fit(X, Y[:-1]),
    "weights of another length": lambda est: est.fit(X, Y, sample_weight=np.ones(3)),
    "NaN": lambda est: est.fit(np.where(X > 2, np.nan, X), Y),
    "infinity": lambda est: est.fit(np.where(X > 2, np.inf, X), Y),
    "NaN in y": lambda est: est.fit(X, np.where(Y, np.nan, 1.0)),
    "one class": lambda est: est.fit(X, np.zeros(60, int)).predict(X[:4]),
    "labels that are floats": lambda est: est.fit(X, Y.astype(float)).predict(X),
    "labels that are no classes": lambda est: est.fit(X, Y + 0.5),
    "labels that are booleans": lambda est: est.fit(X, Y > 0).predict(X),
    "labels that are objects": lambda est: est.fit(X, np.array(["a", "b", "c"], object)[Y]).predict(X),
    "labels of mixed kinds": lambda est: est.fit(X, np.array([1, "b", None], object)[Y]),
    "labels in a column": lambda est: est.fit(X, Y[:, None]).predict(X),
    "labels for many outputs": lambda est: est.fit(X, np.stack([Y, Y], axis=1)),
    "labels None": lambda est: est.fit(X, None),
    "objects": lambda est: est.fit(np.full((60, 6), "a", object), Y),
    "strings": lambda est: est.fit(np.full((60, 6), "a"), Y),
    "complex": lambda est: est.fit(X + 1j, Y),
    "numbers as objects": lambda est: est.fit(X.astype(object), Y).predict(X),
    "lists": lambda est: est.fit(X.tolist(), Y.tolist()).predict(X.tolist()),
    "one dimension": lambda est: est.fit(X[:, 0], Y),
    "three dimensions": lambda est: est.fit(X[:, :, None], Y),
    "no rows": lambda est: est.fit(X[:0], Y[:0]),
    "no columns": lambda est: est.fit(X[:, :0], Y),
    "a column missing": lambda est: est.fit(X, Y).predict(X[:, :5]),
    "a column missing in partial_fit": lambda est: est.fit(X, Y).partial_fit(X[:, :5], Y),
    "one row flat": lambda est: est.fit(X, Y).predict(X[0]),
    "NaN to predict": lambda est: est.fit(X, Y).predict_proba(np.full((1, 6), np.nan)),
    "not fitted": lambda est: est.predict(X),
    "weights of a network that is not fitted": lambda est: est.coefs_,
    "no classes": lambda est: est.partial_fit(X, Y),
    "other classes": lambda est: est.fit(X, Y).partial_fit(X, Y, classes=[0, 1, 3]),
    "a class not named": lambda est: est.partial_fit(X, Y, classes=[0, 1]),
    "a class unseen": lambda est: est.fit(X, Y).partial_fit(X, Y + 1),
    "warm start": lambda est: est.set_params(warm_start=True).fit(X, Y).fit(X, Y % 2),
    "early partial fit": lambda est: est.set_params(early_stopping=True).partial_fit(X, Y, classes=[0, 1, 2]),
    "lbfgs in parts": lambda est: est.set_params(solver="lbfgs").partial_fit(X, Y, classes=[0, 1, 2]),
    "few rows of a class": lambda est: est.set_params(early_stopping=True).fit(X, np.arange(60) == 7),
    "few rows": lambda est: est.set_params(early_stopping=True).fit(X[:5], Y[:5]),
    "a large batch": lambda est: est.set_params(batch_size=61).fit(X, Y).predict(X),
    "sparse rows": lambda est: est.fit(csr_array(X), Y).predict(csc_array(X)),
    "sparse rows of another kind": lambda est: est.fit(coo_array(X), Y).predict(X),
    "names that differ": lambda est: est.fit(FRAME, Y).predict(FRAME[NAMES[::-1]]),
    "names that are missing": lambda est: est.fit(FRAME, Y).predict(X),
    "names not known": lambda est: est.fit(X, Y).predict(FRAME),
    "a column of words": lambda est: est.fit(FRAME.assign(word="a"), Y),
    "a series of words": lambda est: est.fit(FRAME, pd.Series(Y).map(str)).predict(FRAME),
    "integers that may be missing": lambda est: est.fit(FRAME.astype(int).astype("Int64"), Y).predict(FRAME),
}


REGRESSION: dict[str, Callable[[Any], Any]] = {
    "y is missing": lambda est: est.fit(X, None),
    "y in a column": lambda est: est.fit(X, NUMBERS[:, None]).predict(X[:2]).shape,
    "y infinite": lambda est: est.fit(X, np.where(Y, np.inf, 1.0)),
    "y of three dimensions": lambda est: est.fit(X, np.ones((60, 2, 2))),
    "a loss": lambda est: est.set_params(loss="poison").fit(X, NUMBERS),
    "integers": lambda est: est.fit(X.astype(int), Y).predict(X.astype(int)).shape,
}


@pytest.mark.parametrize("what", [*MISUSE, *REGRESSION])
def test_users_get_what_scikit_learn_gives_them(what: str) -> None:
    same_outcome((MISUSE | REGRESSION)[what], "MLPRegressor" if what in REGRESSION else "MLPClassifier")


def test_targets_that_do_not_fit_are_refused() -> None:
    """Where scikit-learn fails within NumPy, at a sum or a product."""
    ours, _ = both("MLPRegressor")
    assert "string" in refused(lambda: ours.fit(X, np.full(60, "a")), ValueError)
    assert "6-5-2" in refused(lambda: ours.fit(X, NUMBERS).partial_fit(X, X[:, :2]), ValueError)


def test_frames_and_their_names() -> None:
    for frame in (FRAME, pl.DataFrame(X, schema=NAMES)):
        ours, other = (est.fit(frame, Y) for est in both("MLPClassifier"))
        assert ours.feature_names_in_.tolist() == other.feature_names_in_.tolist() == NAMES
        np.testing.assert_allclose(ours.predict_proba(frame), other.predict_proba(frame), atol=1e-10)
    ours.fit(X, Y)
    assert not hasattr(ours, "feature_names_in_")


@pytest.mark.parametrize("kind", [csr_array, csc_array])
@pytest.mark.parametrize(
    "settings", [{}, {"solver": "lbfgs"}, {"early_stopping": True, "shuffle": False}], ids=str
)
def test_sparse_rows_equal_dense_ones(kind: Any, settings: dict[str, Any]) -> None:
    rows = np.where(X > 0.5, X, 0.0)
    one, two = (both("MLPClassifier", **settings)[0].fit(given, Y) for given in (rows, kind(rows)))
    np.testing.assert_allclose(two.predict_proba(kind(rows)), one.predict_proba(rows), atol=1e-8)
    np.testing.assert_allclose(one.predict_proba(kind(rows)), one.predict_proba(rows), atol=1e-12)
    assert two.partial_fit(kind(rows), Y).score(rows, Y) > 0 if not settings else True


@each_class
def test_an_interrupt_ends_the_fit_and_keeps_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while the third epoch is reported."""

    def interrupting(*words: object, **_: Any) -> None:
        if str(words[0]).startswith("Iteration 3"):
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", interrupting)
    same_outcome(lambda est: est.fit(X, PAIRS[name]).n_iter_, name, verbose=True, max_iter=9)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        ours = both(name, verbose=True, max_iter=9)[0].fit(X, PAIRS[name])
    assert len(ours.loss_curve_) == 3
    assert ours.predict(X).shape == (60,)


@each_class
def test_copies_and_pickles_go_on_with_training(name: str) -> None:
    y = PAIRS[name]
    ours, other = (est.fit(X, y) for est in both(name))
    copies = [pickle.loads(pickle.dumps(ours)), copy.deepcopy(ours)]
    for estimator in (ours, other, *copies):
        estimator.partial_fit(X, y)
    for found in (ours, *copies):
        np.testing.assert_allclose(found.coefs_[0], other.coefs_[0], atol=1e-8)
        np.testing.assert_allclose(found.loss_curve_, other.loss_curve_, rtol=1e-8)


def test_routing_asks_for_weights() -> None:
    with config_context(enable_metadata_routing=True):
        ours, other = both("MLPClassifier")
        for estimator in (ours, other):
            estimator.set_fit_request(sample_weight=True).set_score_request(sample_weight="votes")
            estimator.set_partial_fit_request(sample_weight=False, classes=True)
        for method in ("partial_fit", "score"):
            found, expected = (getattr(est.get_metadata_routing(), method).requests for est in (ours, other))
            assert expected.items() <= found.items()
        assert ours.set_fit_request(validation_data=True).get_metadata_routing().fit.requests == {
            "sample_weight": True,
            "validation_data": True,
        }


def fit(given: dict[str, Any] | None = None, **settings: Any) -> Any:
    """Fit our classifier."""
    return xpnet.MLPClassifier(**SMALL | settings).fit(X, Y, **given or {})


def apart(one: Any, two: Any) -> float:
    """The largest difference of two estimators' weights."""
    return max(float(abs(a - b).max()) for a, b in zip(one.coefs_, two.coefs_, strict=True))


def test_class_weights_are_sample_weights() -> None:
    words = np.array(["ant", "bee", "cow"])[Y]
    kept = np.arange(60) % 5 > 0
    given: list[Any] = ["balanced", {"ant": 3.0, "cow": 0.5}]
    for class_weight in given:
        weights = compute_sample_weight(class_weight, words[kept])
        ours = xpnet.MLPClassifier(**SMALL, class_weight=class_weight).fit(X[kept], words[kept])
        other = theirs.MLPClassifier(**SMALL).fit(X[kept], words[kept], sample_weight=weights)
        np.testing.assert_allclose(ours.coefs_[0], other.coefs_[0], atol=1e-8)
    more = np.linspace(0.5, 2, 60)
    ours = fit({"sample_weight": more}, class_weight={0: 3.0})
    other = theirs.MLPClassifier(**SMALL).fit(X, Y, sample_weight=more * np.where(Y == 0, 3.0, 1.0))
    np.testing.assert_allclose(ours.coefs_[0], other.coefs_[0], atol=1e-8)


def test_the_weights_of_classes_are_those_of_the_training_rows() -> None:
    """Also for rows to validate with, of which each class has its own share."""
    some = (Y > 0) | (np.arange(60) % 4 == 0)
    balanced = compute_sample_weight("balanced", Y[some])
    weight = np.array([balanced[label == Y[some]][0] for label in range(3)])
    one = xpnet.MLPClassifier(**SMALL, class_weight="balanced")
    one.fit(X[some], Y[some], validation_data=(X, Y))
    two = xpnet.MLPClassifier(**SMALL)
    two.fit(X[some], Y[some], balanced, validation_data=(X, Y, weight[Y]))
    np.testing.assert_allclose(one.validation_loss_curve_, two.validation_loss_curve_, rtol=1e-12)


def test_batches_cannot_be_balanced_but_by_the_advice() -> None:
    est = xpnet.MLPClassifier(**SMALL, class_weight="balanced")
    said = refused(lambda: est.partial_fit(X[:30], Y[:30], classes=[0, 1, 2]), ValueError)
    advice = re.search(r"pass (dict\(.*\)) as the", said)
    assert advice is not None
    names = {"compute_class_weight": compute_class_weight, "classes": np.arange(3), "y": Y}
    weights = eval(advice.group(1), names)
    est.set_params(class_weight=weights).partial_fit(X[:30], Y[:30], classes=[0, 1, 2])
    other = theirs.MLPClassifier(**SMALL)
    other.partial_fit(
        X[:30], Y[:30], classes=[0, 1, 2], sample_weight=compute_sample_weight("balanced", Y)[:30]
    )
    np.testing.assert_allclose(est.coefs_[0], other.coefs_[0], atol=1e-8)


def test_rows_that_weigh_nothing_teach_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(lambda: fit(class_weight={0: 0, 1: 0, 2: 0}), ValueError)
    assert "at least one non-zero" in said
    monkeypatch.setattr(fitting, "train_test_split", lambda rows, **_: (rows[:50], rows[50:]))
    late = np.where(np.arange(60) < 50, 0.0, 1.0)
    for name, y in PAIRS.items():
        for weights in (late, 1 - late):  # nothing to train on, and nothing to validate with
            est = both(name, early_stopping=True)[0]
            said = refused(lambda est=est, y=y, w=weights: est.fit(X, y, w), ValueError)  # type: ignore[misc]
            assert "early_stopping" in said


def test_an_epsilon_that_float32_does_not_have() -> None:
    rows = np.where(np.arange(6) > 0, X, 0).astype(np.float32)  # the gradient of a column is 0
    est = xpnet.MLPClassifier(**SMALL, alpha=0.0, epsilon=1e-300).fit(rows, Y)
    assert np.isfinite(est.loss_)


def test_dropout_is_for_training_only_and_repeats() -> None:
    plain, one, again = fit(), fit(dropout=0.5), fit(dropout=0.5)
    assert apart(plain, one) > 1e-3
    assert apart(one, again) == 0.0
    assert apart(fit(dropout=0.5, random_state=1), one) > 1e-3
    np.testing.assert_array_equal(one.predict_proba(X), one.predict_proba(X))
    hidden = np.maximum(X @ one.coefs_[0] + one.intercepts_[0], 0) @ one.coefs_[1] + one.intercepts_[1]
    np.testing.assert_array_equal(np.argmax(hidden, axis=1), one.predict(X))
    assert apart(fit(dropout=(0.0, 0.5)), one) == 0.0  # one rate is that of all hidden layers
    assert apart(fit(dropout=(0.5, 0.0)), one) > 1e-3


def test_an_activation_for_each_layer() -> None:
    sizes: dict[str, Any] = {"hidden_layer_sizes": (5, 4)}
    assert apart(fit(activation=("tanh", "tanh"), **sizes), fit(activation="tanh", **sizes)) < 1e-12
    mixed = fit(activation=("tanh", "logistic"), **sizes)
    A1 = np.tanh(X @ mixed.coefs_[0] + mixed.intercepts_[0])
    A2 = 1 / (1 + np.exp(-(A1 @ mixed.coefs_[1] + mixed.intercepts_[1])))
    Z3 = A2 @ mixed.coefs_[2] + mixed.intercepts_[2]
    shares = np.exp(Z3) / np.exp(Z3).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(mixed.predict_proba(X), shares, atol=1e-12)


def test_validation_rows_of_ones_own() -> None:
    data = X[:40] + 0.1, Y[:40]
    plain, watched = fit(alpha=0.0), fit({"validation_data": data}, alpha=0.0)
    assert apart(plain, watched) == 0.0
    assert len(watched.validation_loss_curve_) == watched.n_iter_
    expected = log_loss(data[1], watched.predict_proba(data[0]), labels=[0, 1, 2])
    assert watched.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-9)
    early = fit({"validation_data": data}, early_stopping=True, max_iter=30, n_iter_no_change=2, tol=0.1)
    assert len(early.validation_scores_) == len(early.validation_loss_curve_) == early.n_iter_ < 30
    scores = [fit(max_iter=n, tol=0).score(*data) for n in range(1, early.n_iter_ + 1)]  # on all the rows
    np.testing.assert_allclose(early.validation_scores_, scores)
    held = fit(early_stopping=True)
    assert len(held.validation_loss_curve_) == held.n_iter_
    for wrong in ((X[:, :5], Y), (X, Y[:-1]), X, (X, Y + 1), (X, Y, np.zeros(60))):
        said = refused(lambda wrong=wrong: fit({"validation_data": wrong}), ValueError)  # type: ignore[misc]
        assert said.startswith("validation_data")


def test_clipping_and_weight_decay_of_one_step() -> None:
    plain: dict[str, Any] = {"solver": "sgd", "momentum": 0.0, "max_iter": 1, "alpha": 0.0}

    def after(rate: float = 0.1, **settings: Any) -> np.ndarray:
        est = fit(learning_rate_init=rate, **plain, **settings)
        return np.concatenate([np.ravel(array) for array in (*est.coefs_, *est.intercepts_)])

    start = after(rate=1e-300)
    change = after() - start
    norm = float(np.linalg.norm(change)) / 0.1  # of the gradient
    for clip, share in ((10 * norm, 1.0), (norm / 4, 0.25)):
        np.testing.assert_allclose(after(clip_norm=clip) - start, share * change, rtol=1e-6, atol=1e-12)
    weights = np.arange(start.size) < 5 * (6 + 3)  # biases do not decay
    np.testing.assert_allclose(after(weight_decay=0.5), start + change - 0.05 * start * weights, atol=1e-12)
    assert apart(fit(weight_decay=0.5), fit()) > 1e-5  # Adam's too


def test_progress_is_shown_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    fit(progress=True)
    out, err = capsys.readouterr()
    assert out == ""
    assert "5/5" in err
    fit()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["classes", "two", "labels", "number", "numbers", "counts"])
def test_models_and_scikit_learns_estimators_become_ours_and_back(kind: str) -> None:
    targets: dict[str, Any] = {
        "classes": np.array(["ant", "bee", "cow"])[Y],
        "two": np.array(["ant", "bee"])[Y % 2],
        "labels": np.stack([Y == 0, X[:, 0] > 0], axis=1).astype(int),
        "number": NUMBERS,
        "numbers": X[:, :2],
        "counts": np.round(NUMBERS),
    }
    y, name = targets[kind], "MLPClassifier" if kind in ("classes", "two", "labels") else "MLPRegressor"
    ours, other = (est.fit(X, y) for est in both(name, **{"loss": "poisson"} if kind == "counts" else {}))
    taken, given = type(ours).from_sklearn(other), ours.to_sklearn()
    assert type(given) is type(other)
    assert given.get_params() == other.get_params()
    assert vars(given).keys() <= vars(other).keys()  # a private attribute that is gone is noticed
    methods = ["predict"] + (["predict_proba", "predict_log_proba"] if name == "MLPClassifier" else [])
    for method in methods:
        expected = getattr(other, method)(X)
        for found in (ours, taken, given, pickle.loads(pickle.dumps(given))):
            answer = getattr(found, method)(X)
            assert answer.dtype == expected.dtype
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(answer, expected, atol=1e-8)
            else:
                np.testing.assert_array_equal(answer, expected)
    for found in (taken, given):
        found.partial_fit(X, y)  # both without the memory of an optimizer
        found.set_params(warm_start=True).fit(X, y)
    np.testing.assert_allclose(taken.coefs_[0], given.coefs_[0], atol=1e-8)
    np.testing.assert_allclose(taken.loss_curve_, given.loss_curve_, rtol=1e-8)
    for wrong in (getattr(theirs, name)(), ours):
        with pytest.raises(ValueError, match="fitted"):
            type(ours).from_sklearn(wrong)


def test_the_model_answers_as_the_estimator() -> None:
    est = fit()
    np.testing.assert_allclose(est.model_.predict_proba(X), est.predict_proba(X), atol=1e-12)
    assert xpnet.evaluate(est.model_, X, Y).accuracy == pytest.approx(est.score(X, Y))


def test_too_little_memory_names_the_bytes() -> None:
    with pytest.raises(MemoryError, match=r"(?i)\d.*(bytes|[KMGTP]i?B)"):
        fit(hidden_layer_sizes=10**13)


def test_a_fit_that_goes_on_has_the_activation_that_was_set() -> None:
    """As with scikit-learn's, `set_params(activation=...)` counts in a warm start."""
    ours, other = both("MLPClassifier", warm_start=True)
    for est in (ours, other):
        est.fit(X, Y).set_params(activation="tanh").fit(X, Y)
    assert ours.model_.network.activations == ("tanh",)
    np.testing.assert_allclose(ours.coefs_[0], other.coefs_[0], atol=1e-8)


def test_weights_cannot_be_replaced_in_vain() -> None:
    est = both("MLPClassifier")[0].fit(X, Y)
    with pytest.raises(TypeError, match="does not support item assignment"):
        est.coefs_[0] = est.coefs_[0] * 0
    est.coefs_[0][:] = 0
    assert (est.model_.parameters["W1"] == 0).all()


@pytest.mark.parametrize("dtype", ["datetime64[D]", "datetime64[ns]", "longdouble"])
def test_labels_that_a_model_file_cannot_hold(dtype: str) -> None:
    ours, other = both("MLPClassifier")
    labels = Y.astype(dtype)
    assert (ours.fit(X, labels).predict(X) == other.fit(X, labels).predict(X)).all()
    assert ours.model_.class_names == tuple(np.unique(labels).astype(str))


def test_numbers_are_no_dates() -> None:
    est = both("MLPRegressor")[0]
    with pytest.raises(ValueError, match="but a regressor learns numbers"):
        est.fit(X, Y.astype("datetime64[D]"))


@each_class
def test_rows_too_large_for_float32(name: str) -> None:
    est = both(name)[0].fit(X.astype(np.float32), PAIRS[name])
    for rows in (X * 1e200, csr_array(X * 1e200)):
        with pytest.raises(ValueError, match="too large for dtype"):
            est.predict(rows)


def test_weights_of_classes_are_for_one_label_a_row() -> None:
    with pytest.raises(ValueError, match="class_weight is for one label a row"):
        xpnet.MLPClassifier(**SMALL, class_weight={0: 2}).fit(X, np.stack([Y > 0, Y > 1], axis=1))


@pytest.mark.parametrize("weights", [{0: -1}, {0: np.nan}])
def test_weights_of_classes_are_0_or_more(weights: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="class_weight must be 0 or more"):
        xpnet.MLPClassifier(**SMALL, class_weight=weights).fit(X, Y)


def test_weights_of_classes_that_a_batch_does_not_hold() -> None:
    est = xpnet.MLPClassifier(**SMALL, class_weight={0: 2})
    est.partial_fit(X[Y > 0], Y[Y > 0], classes=[0, 1, 2]).partial_fit(X, Y)
    weighted = both("MLPClassifier")[0]
    weighted.partial_fit(X[Y > 0], Y[Y > 0], classes=[0, 1, 2]).partial_fit(X, Y, np.where(Y == 0, 2.0, 1.0))
    np.testing.assert_array_equal(est.coefs_[0], weighted.coefs_[0])


@pytest.mark.parametrize("rates", [[2.0], [-0.5], [0.1, 1.0], [float("nan")]])
def test_rates_of_dropout_in_a_list(rates: list[float]) -> None:
    with pytest.raises(ValueError, match="dropout must be at least 0 and less than 1"):
        xpnet.MLPClassifier(**SMALL, dropout=rates).fit(X, Y)


@pytest.mark.parametrize("settings", [{"early_stopping": True}, {}])
def test_a_fit_goes_on_from_scikit_learns(settings: dict[str, Any]) -> None:
    fitted = both("MLPClassifier", warm_start=True, **settings)[1].fit(X, Y)
    taken = xpnet.MLPClassifier.from_sklearn(fitted)
    taken.fit(X, Y, validation_data=(X, Y))
    assert len(taken.validation_loss_curve_) == SMALL["max_iter"]
