"""Parity: every library passes the gates, and the table tells the truth when one does not."""

import json
from typing import Any

import click.testing
import numpy as np
import pytest

from xpnet.backends import Backend
from xpnet.backends.numpy import NumPyBackend
from xpnet.cli import cli
from xpnet.parity import GATES, Reference, Report, Row, compare
from xpnet.parity.gates import judge, relative_error


@pytest.fixture(scope="session")
def reference() -> Reference:
    """NumPy in float64, with the thousand steps that the gates were made for."""
    return Reference.prepare(steps=1000)


@pytest.fixture(scope="session")
def short() -> Reference:
    """The same with a few steps."""
    return Reference.prepare(steps=20)


def assert_passes(report: Report) -> None:
    assert report.first_failure is None, report.first_failure
    assert report.arithmetic == report.dtype
    assert len(report.rows) > 40


def test_every_library_passes_every_gate_in_float64(backend: Backend, reference: Reference) -> None:
    if not backend.supports("float64"):
        return
    assert_passes(compare(backend, "float64", reference))


def test_every_library_passes_every_gate_in_float32(backend: Backend, reference: Reference) -> None:
    assert_passes(compare(backend, "float32", reference))


def test_the_gates_are_those_of_the_design() -> None:
    assert GATES["float64"] == {"one": 1e-12, "parameters": 1e-10, "loss": 1e-10, "accuracy": 1e-10}
    assert GATES["float32"] == {"one": 1e-5, "parameters": None, "loss": 5e-3, "accuracy": 5e-3}


def test_relative_error_by_hand() -> None:
    assert relative_error(np.array([1.0, 2.5]), np.array([1.0, 2.0])) == 0.25
    assert relative_error(np.array([1e-6]), np.array([0.0])) == pytest.approx(1e-3)  # no division by zero
    assert relative_error(np.array([np.nan]), np.array([0.0])) == np.inf


def test_shape_and_type_count_as_much_as_values() -> None:
    b = np.ones((2, 3))
    assert judge("x", "one", b, b, "float64").passed
    assert not judge("x", "one", np.ones((3, 2)), b, "float64").passed
    assert not judge("x", "one", b.astype(np.float32), b, "float64").passed
    assert not judge("x", "one", b, b, "float32").passed
    assert Row("x", 1.0, None).passed


class _Faulty(NumPyBackend):
    """NumPy whose `matmul` or `tanh` is slightly off, as by TF32."""

    def __init__(self, function: str, factor: float) -> None:
        super().__init__("cpu")
        true = self.xp

        class Namespace:
            def __getattr__(self, name: str) -> Any:
                return getattr(true, name)

        def off(*arguments: Any) -> Any:
            return getattr(true, function)(*arguments) * factor

        self.xp = Namespace()
        setattr(self.xp, function, off)


@pytest.mark.parametrize(
    ("function", "first"), [("tanh", "tanh A"), ("matmul", "dense Z"), ("sqrt", "adam W")]
)
def test_the_first_failure_points_at_its_cause(short: Reference, function: str, first: str) -> None:
    report = compare(_Faulty(function, 1 + 1e-10), "float64", short)
    assert report.first_failure is not None
    assert report.first_failure.quantity == first


def test_a_library_that_yields_nan_still_gets_its_table(short: Reference) -> None:
    report = compare(_Faulty("exp", float("nan")), "float64", short)
    assert report.first_failure is not None
    assert report.first_failure.quantity == "sigmoid A"
    assert report.rows[-1].quantity == "free run accuracy"
    assert not report.rows[-1].passed


def test_reduced_precision_is_found_out(short: Reference) -> None:
    class Reduced(_Faulty):
        def __init__(self) -> None:
            super().__init__("matmul", 1.0)
            exact = self.xp.matmul

            def matmul(A: np.ndarray, B: np.ndarray) -> np.ndarray:
                # TF32 keeps 10 of float32's 23 bits: the rest is cut off
                cut = [(a.astype(np.float32).view(np.uint32) & 0xFFFFE000).view(np.float32) for a in (A, B)]
                product: np.ndarray = exact(*cut)
                return product

            self.xp.matmul = matmul

    report = compare(Reduced(), "float32", short)
    assert report.arithmetic == "reduced (TF32 or less)"
    assert report.first_failure is not None
    assert report.first_failure.quantity == "dense Z"


def test_the_command_prints_a_table_and_json() -> None:
    run = click.testing.CliRunner().invoke
    table = run(cli, ["parity", "--backend", "numpy", "--backend", "array-api-strict", "--steps", "5"])
    assert table.exit_code == 0, table.output
    for text in ("float64", "float32", "array-api-strict", "gradient dW1", "free run accuracy", "pass"):
        assert text in table.stdout
    assert "FAIL" not in table.stdout

    arguments = ["parity", "--backend", "numpy", "--dtype", "float32", "--steps", "5", "--json"]
    described = json.loads(run(cli, arguments).stdout)
    (report,) = described["reports"]
    assert report["passed"] is True
    assert report["dtype"] == "float32"
    assert {row["quantity"] for row in report["rows"]} >= {"dense dW", "relu dZ", "adam W", "single step W1"}


def test_a_broken_gate_fails_the_command_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GATES["float32"], "one", 1e-9)
    result = click.testing.CliRunner().invoke(cli, ["parity", "--backend", "numpy", "--steps", "5"])
    assert result.exception is not None
    assert "numpy float32: dense Z is off by" in str(result.exception)
    assert "FAIL" in result.stdout
