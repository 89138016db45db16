"""scikit-learn's own tests of its networks, and its checks of any estimator, on ours.

`tests/__init__.py` sets SCIPY_ARRAY_API, without which scikit-learn skips the checks of array libraries.
"""

import importlib.util
import re
from collections.abc import Iterator
from functools import partial
from inspect import getsource
from types import ModuleType
from typing import Any
from unittest import SkipTest

import pytest
import sklearn.neural_network
from sklearn.base import clone
from sklearn.utils._test_common.instance_generator import PER_ESTIMATOR_CHECK_PARAMS
from sklearn.utils.estimator_checks import estimator_checks_generator

import xpnet
from xpnet.backends import backend_class

CLASSES = ("MLPClassifier", "MLPRegressor")
EQUAL = "tests.test_estimators_equal"

PRIVATE = {
    "test_fit": ("sets _coef_velocity and the like by hand", f"{EQUAL}:test_one_step_by_hand"),
    "test_gradient": ("calls _loss_grad_lbfgs", f"{EQUAL}:test_fits_equal_scikit_learns"),
    "test_learning_rate_warmstart": (
        "reads _optimizer",
        f"{EQUAL}:test_warm_starts_and_partial_fits_are_equal",
    ),
    "test_adaptive_learning_rate": ("reads _optimizer", f"{EQUAL}:test_stops_are_equal"),
    "test_n_iter_no_change": ("reads _no_improvement_count", f"{EQUAL}:test_stops_are_equal"),
    "test_n_iter_no_change_inf": ("reads _no_improvement_count", f"{EQUAL}:test_stops_are_equal"),
}
"""Their tests that reach for private names: how, and our own test of the same behaviour."""

RUN = [
    ("numpy", None, None),
    ("array_api_strict", "CPU_DEVICE", "float64"),
    ("array_api_strict", "device1", "float32"),
    ("torch", "cpu", "float64"),
    ("torch", "cpu", "float32"),
    ("dpnp", "cpu", "float64"),
    ("dpnp", "cpu", "float32"),
]
"""Checks of array libraries that must run, and not be skipped: the library, the device and the dtype."""


def their_tests() -> ModuleType:
    """Run scikit-learn's file of tests with our classes in place of theirs."""
    spec = importlib.util.find_spec("sklearn.neural_network.tests.test_mlp")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        for name in CLASSES:
            patch.setattr(sklearn.neural_network, name, getattr(xpnet, name))
        spec.loader.exec_module(module)
    return module


THEIRS = their_tests()
NAMES = [name for name in vars(THEIRS) if name.startswith("test_")]
globals().update(
    {
        name: pytest.mark.filterwarnings("default")(getattr(THEIRS, name))
        for name in NAMES
        if name not in PRIVATE
    }
)


@pytest.fixture(params=[42])
def global_random_seed(request: pytest.FixtureRequest) -> Any:
    """The seed that scikit-learn's own conftest gives."""
    return request.param


def test_their_tests_run_on_our_classes() -> None:
    assert len(NAMES) >= 43
    assert all(getattr(THEIRS, name) is getattr(xpnet, name) for name in CLASSES)


@pytest.mark.parametrize("name", PRIVATE)
def test_what_is_left_out_is_private_and_covered(name: str) -> None:
    said, home = PRIVATE[name]
    words = re.findall(r"\b_\w+", said)
    source = getsource(getattr(THEIRS, name))
    assert words
    assert all(re.search(rf"\.{word}\b", source) for word in words)
    module, _, ours = home.partition(":")
    assert callable(getattr(importlib.import_module(module), ours))


def place(check: partial[None]) -> tuple[Any, ...] | None:
    """The library, the device and the dtype of a check of array libraries. None for any other check."""
    given = check.keywords
    if "X_ns_and_device" in given:
        return (*given["X_ns_and_device"], "mixed with", *given["other_ns_and_device"])
    if "array_namespace" in given:
        return given["array_namespace"], given.get("device_name"), given.get("dtype_name")
    return None


def checks() -> Iterator[Any]:
    """Every check of both classes, with the settings that scikit-learn needs for its own."""
    for name in CLASSES:
        ours, theirs = getattr(xpnet, name), getattr(sklearn.neural_network, name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(PER_ESTIMATOR_CHECK_PARAMS, ours, PER_ESTIMATOR_CHECK_PARAMS[theirs])
            for estimator, check in estimator_checks_generator(ours(max_iter=100)):
                words = [check.func.__name__, *map(str, place(check) or check.keywords)]
                yield pytest.param(estimator, check, id=f"{name}-{'-'.join(words)}")


CHECKS = list(checks())


@pytest.mark.parametrize(("estimator", "check"), CHECKS)
@pytest.mark.filterwarnings("default")
def test_checks_of_any_estimator(estimator: Any, check: partial[None]) -> None:
    where = place(check) or ()
    if "cupy" in where and not backend_class("cupy").devices():
        pytest.skip(
            "CuPy finds no GPU: its allocation raises, where the check expects that it is not installed"
        )
    if "dpnp" in where:
        backend_class("dpnp").imported()  # which finds the OpenCL driver of a CPU
    if where:  # fits to the same numbers, however long they are
        estimator = clone(estimator).set_params(max_iter=10)
    try:
        check(estimator)
    except SkipTest as error:
        elsewhere = "cuda" in where or "mps" in where
        if where in RUN or ("mixed with" in where and not elsewhere):
            pytest.fail(f"the check must run, but was skipped: {error}")
        raise


@pytest.mark.parametrize("name", CLASSES)
def test_the_checks_of_array_libraries_are_among_them(name: str) -> None:
    mine = [
        check for estimator, check in (param.values for param in CHECKS) if type(estimator).__name__ == name
    ]
    places = [place(check) for check in mine]
    assert [where for where in RUN if where not in places] == []
    assert ("torch", "cpu", "mixed with", "array_api_strict", "device1") in places
    assert "check_array_api_same_namespace" in [check.func.__name__ for check in mine]
