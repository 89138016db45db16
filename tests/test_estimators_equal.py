"""Our estimators and scikit-learn's, step by step: the same data and seed give the same numbers to 1e-8."""

import warnings
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning

import xpnet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

Settings = dict[str, Any]

X, CLASSES = make_classification(61, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=4)
RNG = np.random.default_rng(3)
NUMBERS = X[:, :2] ** 2 + 0.1 * RNG.standard_normal((61, 2))
TARGETS: dict[str, np.ndarray] = {
    "classes": CLASSES,
    "two": np.array(["no", "yes"])[CLASSES % 2],
    "labels": np.stack([CLASSES == 0, X[:, 0] > 0, X[:, 1] > 1], axis=1).astype(int),
    "number": NUMBERS[:, 0],
    "numbers": NUMBERS,
    "counts": RNG.poisson(np.exp(0.5 * X[:, 0])).astype(float),
}
WEIGHTS = RNG.integers(1, 5, 61) / 2

BASE: Settings = {"hidden_layer_sizes": (7, 5), "max_iter": 7, "batch_size": 17, "learning_rate_init": 0.02}
POLICIES: list[Settings] = [
    {"solver": "adam"},
    {"solver": "sgd"},
    {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1, "max_iter": 12},
    {"solver": "sgd", "nesterovs_momentum": False},
    {"solver": "sgd", "momentum": 0.0},
]
EARLY: Settings = {"early_stopping": True}
SGD, ADAPTIVE = POLICIES[1], POLICIES[3]
OTHERS: list[Settings] = [
    *({"alpha": alpha} for alpha in (0.0, 3.0)),
    *({"batch_size": size} for size in (61, 60, "auto")),
    *({"batch_size": 1, "max_iter": 2}, {"shuffle": False}, SGD | {"shuffle": False, "batch_size": 20}),
    *(EARLY, EARLY | SGD | {"validation_fraction": 0.3, "tol": 0.0}, EARLY | {"weights": "some"}),
    *(EARLY | {"n_iter_no_change": 1, "max_iter": 30, "tol": 0.01}, EARLY | ADAPTIVE | {"max_iter": 20}),
    *({"weights": "some"}, SGD | {"weights": "some", "alpha": 1.0}, {"weights": "zeros", "batch_size": 31}),
    {"tol": 0.5, "n_iter_no_change": 2, "max_iter": 40},
    {"tol": 10.0, "n_iter_no_change": np.inf},
    {"tol": 0.0, "n_iter_no_change": 3, "max_iter": 20},
    *({"hidden_layer_sizes": 4}, {"hidden_layer_sizes": (3, 4, 5, 3), "activation": "tanh"}),
    *({"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3}, SGD | {"learning_rate_init": 0.3}),
    {"random_state": np.random.RandomState(8)},
]
"""What differs from `BASE`. "weights" are sample weights; each goes to the next kind of targets in turn."""

GRID: list[tuple[str, Settings]] = [
    (kind, {"activation": activation, **policy})
    for number, policy in enumerate(POLICIES)
    for turn, activation in enumerate(("relu", "tanh", "logistic", "identity"))
    for kind in (list(TARGETS)[(number + turn) % 6], list(TARGETS)[(number + turn + 3) % 6])
] + [
    (kind, other)
    for number, other in enumerate(OTHERS)
    for kind in (list(TARGETS)[number % 3], list(TARGETS)[3 + number % 3])
]


def pair(kind: str, **settings: Any) -> tuple[Any, Any]:
    """Our estimator for a kind of targets, and scikit-learn's."""
    name = "MLPClassifier" if TARGETS[kind].dtype.kind in "iU" else "MLPRegressor"
    extra = {"loss": "poisson"} if kind == "counts" else {}
    given = {"random_state": 5} | BASE | extra | settings
    ours, other = (getattr(home, name)(**deepcopy(given)) for home in (xpnet, theirs))
    return ours, other


def described(settings: Settings) -> str:
    return ",".join(f"{name}={value}" for name, value in settings.items() if name != "random_state") or "seed"


def near(found: Any, expected: Any, what: str, tolerance: float = 1e-8) -> None:
    assert np.shape(found) == np.shape(expected), what
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def same(ours: Any, other: Any, tolerance: float = 1e-8) -> None:
    """Compare everything that a fit leaves, and what the networks answer."""
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(other, name), name
    for name in ("coefs_", "intercepts_"):
        found, expected = getattr(ours, name), getattr(other, name)
        assert len(found) == len(expected)
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert a.dtype == b.dtype
            near(a, b, f"{name}[{number}]", tolerance)
    for name in ("loss_curve_", "validation_scores_", "loss_", "best_loss_", "best_validation_score_"):
        found, expected = (getattr(estimator, name, None) for estimator in (ours, other))
        assert (found is None) == (expected is None), name
        near([] if found is None else found, [] if expected is None else expected, name, tolerance)
    near(answers(ours), answers(other), "answers", tolerance)
    if hasattr(other, "classes_"):
        assert ours.classes_.dtype == other.classes_.dtype
        assert ours.classes_.tolist() == other.classes_.tolist()
        assert ours.predict(X).tolist() == other.predict(X).tolist()


def answers(estimator: Any) -> np.ndarray:
    found: np.ndarray = (estimator.predict_proba if hasattr(estimator, "classes_") else estimator.predict)(X)
    return found


def test_the_grid_is_large() -> None:
    assert len(GRID) >= 60
    names = ["solver", "activation", "learning_rate", "alpha", "batch_size", "shuffle", "early_stopping"]
    for name in [*names, "weights", "tol", "n_iter_no_change"]:
        assert any(name in settings for _, settings in GRID)
    assert {kind for kind, _ in GRID} == TARGETS.keys()


@pytest.mark.parametrize(
    ("kind", "settings"), GRID, ids=[f"{kind}-{described(given)}" for kind, given in GRID]
)
def test_fits_equal_scikit_learns(kind: str, settings: Settings) -> None:
    given = {name: value for name, value in settings.items() if name != "weights"}
    zeros = WEIGHTS * (np.arange(61) % 4 > 0)
    weights = {"some": WEIGHTS, "zeros": zeros}.get(settings.get("weights", ""))
    ours, other = pair(kind, **given)
    for estimator in (ours, other):
        estimator.fit(X, TARGETS[kind], sample_weight=weights)
    same(ours, other)
    scores = [estimator.score(X, TARGETS[kind], sample_weight=weights) for estimator in (ours, other)]
    near(scores[0], scores[1], "score")
    if isinstance(ours.random_state, np.random.RandomState):
        assert ours.random_state.randint(2**30) == other.random_state.randint(
            2**30
        )  # as many numbers were drawn


@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic", "identity"])
@pytest.mark.parametrize("kind", TARGETS)
def test_lbfgs_agrees(kind: str, activation: str) -> None:
    weights = WEIGHTS if activation in ("tanh", "identity") else None
    ours, other = pair(kind, solver="lbfgs", activation=activation, max_iter=20, alpha=0.1)
    for estimator in (ours, other):
        estimator.fit(X, TARGETS[kind], sample_weight=weights)
    assert abs(ours.n_iter_ - other.n_iter_) <= 1
    near(answers(ours), answers(other), "answers", 1e-3)
    assert abs(ours.loss_ - other.loss_) < 1e-5 * other.loss_
    assert not hasattr(ours, "loss_curve_")
    early = [estimator.set_params(max_iter=2).fit(X, TARGETS[kind], weights) for estimator in (ours, other)]
    same(early[0], early[1], 1e-7)  # before rounding is blown up by the line search


@pytest.mark.parametrize("kind", ["classes", "two", "labels", "numbers", "counts"])
@pytest.mark.parametrize("policy", POLICIES[:4], ids=described)
def test_warm_starts_and_partial_fits_are_equal(kind: str, policy: Settings) -> None:
    """The optimizer's memory, the curves and the rates go on as scikit-learn's, in mixed calls too."""
    y, estimators = TARGETS[kind], pair(kind, **policy | {"max_iter": 3})
    classes = {"classes": np.unique(y) if y.ndim == 1 else [0, 1, 2]} if y.dtype.kind in "iU" else {}
    calls: list[Any] = [
        lambda est: est.partial_fit(X[:40], y[:40], **classes),
        lambda est: est.partial_fit(X[40:], y[40:]),
        lambda est: est.partial_fit(X, y, sample_weight=WEIGHTS),
        lambda est: est.set_params(warm_start=True).fit(X, y),
        lambda est: est.set_params(learning_rate_init=0.01).fit(X, y),
        lambda est: est.partial_fit(X, y),
        lambda est: est.set_params(warm_start=False).fit(X, y),
        lambda est: est.partial_fit(X, y),
    ]
    for call in calls:
        for estimator in estimators:
            call(estimator)
        same(*estimators)


def test_a_warm_start_with_early_stopping_is_equal() -> None:
    estimators = pair("classes", warm_start=True, early_stopping=True)
    for _ in range(3):
        for estimator in estimators:
            estimator.fit(X, CLASSES)
        same(*estimators)


@pytest.mark.parametrize(
    "settings",
    [
        {"tol": 0.05, "n_iter_no_change": 2},
        {"tol": 0.05, "n_iter_no_change": 11},
        {"tol": 1e9, "n_iter_no_change": np.inf, "max_iter": 90},
        {"tol": 0.05, "solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1},
        {"tol": 0.05, "early_stopping": True, "n_iter_no_change": 4},
    ],
    ids=described,
)
def test_stops_are_equal(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """Why and when a fit ends, in the words that it prints, which give the rate and the losses as well."""
    estimators, said, counts = pair("classes", **{"max_iter": 300, "verbose": True} | settings), [], []
    for estimator in estimators:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimator.fit(X, CLASSES)
        said.append((capsys.readouterr().out, [(w.category, str(w.message)) for w in caught]))
        counts.append(estimator.n_iter_)
    assert said[0] == said[1]
    assert counts[0] == counts[1]
    reached = counts[0] == estimators[1].max_iter
    assert reached == (settings["n_iter_no_change"] == np.inf)
    assert [category for category, _ in said[0][1]] == [ConvergenceWarning] * reached
    same(*estimators)


def test_one_step_by_hand() -> None:
    """Their `test_fit` without private names: full batches of one row, so each step is worked out here."""
    x, y, rate, alpha = np.array([[0.6, 0.8, 0.7]]), np.array([0.25]), 0.1, 0.1
    settings: Settings = {"hidden_layer_sizes": 2, "activation": "logistic", "alpha": alpha, "momentum": 0.0}
    est = xpnet.MLPRegressor(solver="sgd", learning_rate_init=rate, max_iter=1, random_state=1, **settings)
    before, after = ([np.array(a) for a in est.partial_fit(x, y).coefs_ + est.intercepts_] for _ in range(2))
    W1, W2, b1, b2 = before
    hidden = 1 / (1 + np.exp(-(x @ W1 + b1)))
    delta2 = hidden @ W2 + b2 - y
    delta1 = delta2 @ W2.T * hidden * (1 - hidden)
    steps = (x.T @ delta1 + alpha * W1, hidden.T @ delta2 + alpha * W2, delta1[0], delta2[0])
    for (found, old), step in zip(zip(after, before, strict=True), steps, strict=True):
        near(found, old - rate * step, "after one step", 1e-12)
    penalty = alpha / 2 * ((W1**2).sum() + (W2**2).sum())
    near(est.loss_curve_[1], float(delta2[0, 0] ** 2 / 2 + penalty), "loss", 1e-12)
