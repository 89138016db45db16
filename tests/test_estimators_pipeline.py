"""The estimators among scikit-learn's tools, and their way to other processes by pickle and safetensors."""

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn.neural_network as theirs
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import xpnet
from tests.conftest import libraries, made
from tests.helpers import refused, tensors, write_tensors
from tests.process import python, without
from xpnet.backends import Backend, backend_class

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = make_classification(90, 6, n_informative=5, n_redundant=0, n_classes=3, random_state=4)
WORDS = np.array(["ant", "bee", "cow"])[Y]
WEIGHTS = np.random.default_rng(0).integers(1, 5, 90) / 2
SMALL: dict[str, Any] = {"hidden_layer_sizes": 6, "max_iter": 8, "random_state": 0, "alpha": 0.01}


def pipeline(home: Any) -> Pipeline:
    """Scaled rows into a network of ours or scikit-learn's."""
    return make_pipeline(StandardScaler(), home.MLPClassifier(**SMALL))


def searched(home: Any, jobs: int) -> Any:
    grid = {"mlpclassifier__alpha": [1e-4, 1.0], "mlpclassifier__solver": ["adam", "sgd", "lbfgs"]}
    search = GridSearchCV(pipeline(home), grid, cv=2, n_jobs=jobs, return_train_score=True).fit(X, WORDS)
    return [search.cv_results_["mean_test_score"], search.cv_results_["mean_train_score"], search.predict(X)]


def weighed(home: Any) -> Any:
    with config_context(enable_metadata_routing=True):
        asking = home.MLPClassifier(**SMALL).set_fit_request(sample_weight=True)
        asking.set_score_request(sample_weight=True)
        scaled = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), asking)
        return cross_validate(scaled, X, Y, cv=3, params={"sample_weight": WEIGHTS})["test_score"]


def stacked(home: Any) -> Any:
    base = [("a", home.MLPClassifier(**SMALL)), ("b", home.MLPClassifier(**SMALL, activation="tanh"))]
    return StackingClassifier(base, LogisticRegression(), cv=2).fit(X, WORDS).predict_proba(X)


def framed(home: Any) -> Any:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(X, columns=list("abcdef"))
    fitted = pipeline(home).set_output(transform="pandas").fit(frame, WORDS)
    return [fitted[-1].feature_names_in_, fitted.predict(frame), fitted.predict_proba(frame)]


def importance(home: Any) -> Any:
    fitted = pipeline(home).fit(X, WORDS)
    return permutation_importance(fitted, X, WORDS, n_repeats=2, random_state=0).importances


def calibrated(home: Any) -> Any:
    return CalibratedClassifierCV(pipeline(home), cv=2).fit(X, WORDS).predict_proba(X)


def weighted(home: Any) -> Any:
    fitted = pipeline(home).fit(X, WORDS, mlpclassifier__sample_weight=WEIGHTS)
    return clone(fitted).fit(X, WORDS).predict_proba(X) + fitted.predict_proba(X)


TOOLS: dict[str, Any] = {
    "Pipeline and clone": weighted,
    "set_output": framed,
    "cross_val_score": lambda home: cross_val_score(pipeline(home), X, WORDS, cv=3),
    "GridSearchCV": lambda home: searched(home, 1),
    "GridSearchCV on two processes": lambda home: searched(home, 2),
    "metadata routing": weighed,
    "CalibratedClassifierCV": calibrated,
    "StackingClassifier": stacked,
    "permutation_importance": importance,
}


@pytest.mark.parametrize("tool", TOOLS)
def test_tools_of_scikit_learn_give_the_same_with_ours(tool: str) -> None:
    found, expected = TOOLS[tool](xpnet), TOOLS[tool](theirs)
    for ours, other in zip(found, expected, strict=True):
        if np.asarray(other).dtype.kind == "f":
            np.testing.assert_allclose(ours, other, rtol=1e-6, atol=1e-6)
        else:
            assert np.asarray(ours).tolist() == np.asarray(other).tolist()


@pytest.mark.parametrize("library", ["numpy", "torch", "array-api-strict"])
def test_a_pipeline_stays_on_the_device(library: str) -> None:
    """scikit-learn's own estimators take arrays of these libraries, and ours take theirs."""
    backend = xpnet.get_backend(backend=library)
    place, y = backend.asarray(X), backend.asarray(Y)
    steps = [StandardScaler(), PCA(4, svd_solver="full"), xpnet.MLPClassifier(**SMALL)]
    expected = make_pipeline(*map(clone, steps)).fit(X, Y)
    with config_context(array_api_dispatch=True), backend.running("float64"):
        found = make_pipeline(*steps).fit(place, y)
        answers = [found.predict_proba(place), found.predict(place)]
        score = found.score(place, y)
    assert [type(answer) for answer in answers] == [type(place)] * 2
    assert all(getattr(answer, "device", None) == getattr(place, "device", None) for answer in answers)
    np.testing.assert_allclose(backend.to_numpy(answers[0]), expected.predict_proba(X), atol=1e-8)
    np.testing.assert_array_equal(backend.to_numpy(answers[1]), expected.predict(X))
    assert score == pytest.approx(expected.score(X, Y))
    assert isinstance(score, float)


def test_no_variable_of_the_environment_is_needed() -> None:
    """Users do not set SCIPY_ARRAY_API, as this suite does."""
    python(
        "import os; os.environ.pop('SCIPY_ARRAY_API')\n"
        "import torch, xpnet\n"
        "X, y = torch.randn(40, 3, dtype=torch.float64), torch.arange(40) % 2\n"
        "est = xpnet.MLPClassifier(tol=1.0, hidden_layer_sizes=3).fit(X, y)\n"
        "assert type(est.predict(X)) is torch.Tensor\n"
        "assert 0 <= est.score(X, y) <= 1"
    )


def sent(backend: Backend) -> Any:
    """A network that was fitted on a library, and what it answers."""
    named = backend if type(backend) is backend_class(backend.name) else None  # no stand-in of the tests
    est = xpnet.MLPClassifier(**SMALL, backend=named).fit(backend.asarray(X), Y)
    return est, backend.to_numpy(est.predict_proba(backend.asarray(X)))


def test_files_are_read_where_the_libraries_are_missing(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """Those of all libraries, in one process that can import none of them."""
    expected: dict[str, Any] = {}
    backends = [made(pytestconfig, name) for name in libraries(pytestconfig)]
    for number, backend in enumerate(backends):
        with backend.running("float64"):
            est, proba = sent(backend)
        (tmp_path / f"{number}.pickle").write_bytes(pickle.dumps(est))
        joblib.dump(est, tmp_path / f"{number}.joblib")
        est.model_.save(tmp_path / f"{number}.safetensors")
        expected |= {f"{number}.{way}": proba for way in ("pickle", "joblib", "safetensors")}
    np.save(tmp_path / "rows.npy", X)
    missing = {type(backend).library.partition(".")[0] for backend in backends} - {"numpy"}
    python(f"""{without(*missing)}
import joblib, pickle, numpy as np, xpnet
from pathlib import Path
readers = {{".pickle": lambda path: pickle.loads(path.read_bytes()), ".joblib": joblib.load}}
X, answers = np.load({str(tmp_path / "rows.npy")!r}), {{}}
for path in Path({str(tmp_path)!r}).glob("[0-9]*"):
    est = readers.get(path.suffix, xpnet.load)(path)
    answers |= {{path.name: est.predict_proba(X), path.name + " label": est.predict(X)}}
np.savez({str(tmp_path / "answers.npz")!r}, **answers)
assert not {missing} & {{*sys.modules}}
""")
    found = np.load(tmp_path / "answers.npz")
    assert len(expected) == 3 * len(backends)
    for name, proba in expected.items():
        np.testing.assert_allclose(found[name], proba, atol=1e-12)
        if "safetensors" not in name:
            np.testing.assert_array_equal(found[f"{name} label"], proba.argmax(axis=1))


def test_a_pickle_and_a_model_file_go_back_to_their_library(backend: Backend, tmp_path: Path) -> None:
    (est, proba), place = sent(backend), backend.asarray(X)
    est.model_.save(tmp_path / "model.safetensors")
    loaded = xpnet.load(tmp_path / "model.safetensors", backend=backend.name)
    answer = loaded.predict_proba(loaded.backend.asarray(X))
    np.testing.assert_allclose(loaded.backend.to_numpy(answer), proba, atol=1e-12)
    again = pickle.loads(pickle.dumps(est))
    np.testing.assert_array_equal(backend.to_numpy(again.predict_proba(place)), proba)
    for estimator in (est, again):
        estimator.partial_fit(place, Y)
    one, two = (estimator.model_.host_parameters() for estimator in (est, again))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_a_file_that_lies_about_itself_is_refused(tmp_path: Path) -> None:
    est = xpnet.MLPClassifier(**SMALL).fit(X, WORDS)
    path = tmp_path / "model.safetensors"
    est.model_.save(path)
    assert xpnet.load(path).class_names == ("ant", "bee", "cow")
    arrays, described = tensors(path)
    described["sizes"] = [6, 7, 3]
    write_tensors(path, arrays, described)
    whole = path.read_bytes()
    for damaged in (whole, whole[:-9], b""):
        path.write_bytes(damaged)
        assert str(path) in refused(lambda: xpnet.load(path))
