"""Parity: every library passes the gates, and the table tells the truth when one does not."""

import importlib
import json
from collections.abc import Callable
from typing import Any

import click.testing
import numpy as np
import pytest
import torch

from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend
from xpnet.backends.base import Patched
from xpnet.backends.graph import Launch, RecordingBackend
from xpnet.backends.numpy import NumPyBackend
from xpnet.cli.commands import cli
from xpnet.errors import UsageError, XpnetError
from xpnet.parity import GATES, Reference, Report, Row, compare
from xpnet.parity.formats import FRACTION, rounded
from xpnet.parity.gates import judge, relative_error, rms_error
from xpnet.parity.run import arithmetic

ON_CPU = [name for name in LIBRARIES if "cpu" in backend_class(name).kinds]
REDUCED = [
    (name, precision)
    for name in ON_CPU
    for precision in FRACTION
    if precision in get_backend("cpu", name).precisions()
]


@pytest.fixture(scope="session")
def reference() -> Reference:
    """NumPy in float64, with the thousand steps that the gates were made for."""
    return Reference.prepare(steps=1000)


@pytest.fixture(scope="session")
def short() -> Reference:
    """The same with a few steps."""
    return Reference.prepare(steps=20)


@pytest.fixture(scope="session")
def rounding() -> dict[str, Reference]:
    """The same with a few steps, the factors of its products rounded."""
    return {precision: Reference.prepare(steps=20, precision=precision) for precision in FRACTION}


def assert_passes(report: Report) -> None:
    assert report.first_failure is None, report.first_failure
    assert report.arithmetic == (report.dtype if report.precision == "float32" else report.precision)
    assert len(report.rows) > 40


def test_every_library_passes_every_gate_in_float64(backend: Backend, reference: Reference) -> None:
    if not backend.supports("float64"):
        return
    assert_passes(compare(backend, "float64", reference))


def test_every_library_passes_every_gate_in_float32(backend: Backend, reference: Reference) -> None:
    assert_passes(compare(backend, "float32", reference))


def test_the_gates_are_those_of_the_design() -> None:
    double = {"one": 1e-12, "chained": 1e-12, "parameters": 1e-10, "loss": 1e-10, "accuracy": 1e-10}
    single = {"one": 1e-5, "chained": 1e-5, "parameters": None, "loss": 5e-3, "accuracy": 5e-3}
    assert GATES["float64"] == double
    assert GATES["float32"] == single
    for precision, bits in FRACTION.items():
        assert GATES[precision] == single | {"chained": 2.0**-bits / 64}


def test_relative_error_by_hand() -> None:
    assert relative_error(np.array([1.0, 2.5]), np.array([1.0, 2.0])) == 0.25
    assert relative_error(np.array([1e-6]), np.array([0.0])) == pytest.approx(1e-3)  # no division by zero
    assert relative_error(np.array([np.nan]), np.array([0.0])) == np.inf


def test_root_mean_square_error_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 2.0])
    assert rms_error(a, b) == pytest.approx(1 / 3)
    assert rms_error(np.array([np.inf]), np.array([0.0])) == np.inf


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
    report = compare(_Rounding(_cut_off, "tf32"), "float32", short)
    assert report.arithmetic == "tf32"
    assert report.first_failure is not None
    assert report.first_failure.quantity == "dense Z"


@pytest.mark.parametrize(
    ("dtype", "eps", "found"),
    [("float64", 2.0**-24, "float32"), ("float32", 2.0**-11, "tf32"), ("float32", 2.0**-3, "less than bf16")],
)
def test_arithmetic_is_named_by_the_bits_that_survive(dtype: str, eps: float, found: str) -> None:
    class Coarse(NumPyBackend):
        def __init__(self) -> None:
            super().__init__("cpu")
            self.xp = Patched(self.xp, matmul=lambda A, B: (np.rint(A / eps) * A.dtype.type(eps)) @ B)

    assert arithmetic(Coarse(), dtype) == found
    assert arithmetic(get_backend("cpu", "numpy"), dtype) == dtype


@pytest.mark.parametrize(
    ("precision", "number", "nearest"),
    [
        ("bf16", 1 + 2**-8, 1.0),  # half way: to the even one
        ("bf16", 1 + 3 * 2**-8, 1 + 2**-6),
        ("bf16", 1 + 2**-8 + 2**-23, 1 + 2**-7),
        ("bf16", 1 + 2**-8 - 2**-23, 1.0),
        ("bf16", 2 - 2**-9, 2.0),  # the carry reaches the exponent
        ("bf16", -(1 + 3 * 2**-8), -(1 + 2**-6)),
        ("bf16", 0.0, 0.0),
        ("tf32", 1 + 2**-11, 1.0),
        ("tf32", 1 + 3 * 2**-11, 1 + 2**-9),
        ("tf32", 1 + 2**-10, 1 + 2**-10),
        ("tf32", -(2 - 2**-12), -2.0),
    ],
)
def test_rounding_by_hand(precision: str, number: float, nearest: float) -> None:
    found = rounded(np.array([number]), precision)
    assert found.dtype == np.float32
    assert found.tolist() == [nearest]


def test_rounding_to_bf16_is_that_of_another_library(rng: np.random.Generator) -> None:
    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32)
    bits[::2] &= 0xFFFF8000  # many half way
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    theirs = torch.from_numpy(numbers).bfloat16().float().numpy()
    assert rounded(numbers, "bf16").tobytes() == theirs.tobytes()


@pytest.mark.parametrize("precision", FRACTION)
def test_rounding_is_to_the_nearest(rng: np.random.Generator, precision: str) -> None:
    numbers = rng.standard_normal(10_000).astype(np.float32)
    _, exponent = np.frexp(numbers.astype(np.float64))
    unit = 2.0 ** (exponent - 1 - FRACTION[precision])
    found = rounded(numbers, precision).astype(np.float64)
    assert (np.abs(found - numbers) <= unit / 2).all()
    assert (found / unit == np.rint(found / unit)).all()


@pytest.mark.parametrize("precision", FRACTION)
def test_no_factor_that_is_given_lies_half_way(rounding: dict[str, Reference], precision: str) -> None:
    inputs = rounding[precision].inputs
    pixels = (np.arange(256) / 255).astype(np.float32)
    nearly = np.nextafter(pixels[1:], np.float32(2))  # multiplied by 1 / 255 instead of divided by 255
    given = [inputs.arrays[name] for name in ("X", "W", "dZ")] + [inputs.parameters["W1"]]
    for factors in (*given, pixels, nearly):
        assert (_half_away(factors, precision) == rounded(factors, precision)).all()
    assert (rounded(nearly, precision) == rounded(pixels[1:], precision)).all()


def _half_away(array: np.ndarray, precision: str) -> np.ndarray:
    """To the nearest, and from half way away from zero, as cuBLAS does for TF32."""
    half = np.uint32(1 << (22 - FRACTION[precision]))
    return _cut_off((array.astype(np.float32).view(np.uint32) + half).view(np.float32), precision)


def _cut_off(array: np.ndarray, precision: str) -> np.ndarray:
    """Towards zero."""
    kept = np.uint32(2**32 - (1 << (23 - FRACTION[precision])))
    return (array.astype(np.float32).view(np.uint32) & kept).view(np.float32)


def _not_at_all(array: np.ndarray, precision: str) -> np.ndarray:
    """Plain float32."""
    return array


class _Rounding(NumPyBackend):
    """NumPy whose matrix products of float32 round their factors, or only those that sum over `inner`."""

    def __init__(self, way: Any, precision: str, inner: tuple[int, ...] = ()) -> None:
        super().__init__("cpu")
        full = self.xp

        def matmul(x1: np.ndarray, x2: np.ndarray, /) -> np.ndarray:
            how = way if not inner or x2.shape[0] in inner else rounded
            product: np.ndarray = full.matmul(how(x1, precision), how(x2, precision))
            return product

        self.xp = Patched(full, matmul=matmul)


@pytest.mark.parametrize("way", [rounded, _half_away])
@pytest.mark.parametrize("precision", FRACTION)
def test_products_that_round_to_the_nearest_pass(
    rounding: dict[str, Reference], precision: str, way: Any
) -> None:
    report = compare(_Rounding(way, precision), "float32", rounding[precision])
    assert_passes(report)
    assert report.precision == precision


@pytest.mark.parametrize("way", [_not_at_all, _cut_off])
@pytest.mark.parametrize("precision", FRACTION)
def test_products_that_round_otherwise_fail(rounding: dict[str, Reference], precision: str, way: Any) -> None:
    report = compare(_Rounding(way, precision), "float32", rounding[precision])
    failed = {row.quantity for row in report.rows if not row.passed}
    expected = {"dense Z", "dense dW", "dense dA", "forward Z1", "forward Z2 rms"}
    assert failed >= expected | {f"gradient d{name} rms" for name in ("W1", "b1", "W2", "b2")}
    assert not {"dense db", "relu dZ", "adam W"} & failed


@pytest.mark.parametrize("precision", FRACTION)
def test_products_of_products_that_do_not_round_fail(rounding: dict[str, Reference], precision: str) -> None:
    # the first layer and the single operations round; what sums over 128 or 10 does not
    report = compare(_Rounding(_not_at_all, precision, inner=(128, 10)), "float32", rounding[precision])
    failed = [row.quantity for row in report.rows if not row.passed]
    assert "forward Z1" not in failed
    assert "forward Z2 rms" in failed


@pytest.mark.parametrize(("name", "precision"), REDUCED)
def test_every_library_passes_every_gate_in_its_reduced_precisions(name: str, precision: str) -> None:
    reference = Reference.prepare(steps=1000, precision=precision)
    assert_passes(compare(get_backend("cpu", name, precision=precision), "float32", reference))


def test_the_command_prints_a_table_and_json() -> None:
    run = click.testing.CliRunner().invoke
    table = run(cli, ["parity", "--backend", "numpy", "--backend", "array-api-strict", "--run-steps", "5"])
    assert table.exit_code == 0, table.output
    for text in ("float64", "float32", "array-api-strict", "gradient dW1", "free run accuracy", "pass"):
        assert text in table.stdout
    assert "FAIL" not in table.stdout

    arguments = ["parity", "--backend", "numpy", "--dtype", "float32", "--run-steps", "5", "--json"]
    described = json.loads(run(cli, arguments).stdout)
    (report,) = described["reports"]
    assert report["passed"] is True
    assert report["dtype"] == "float32"
    assert {row["quantity"] for row in report["rows"]} >= {"dense dW", "relu dZ", "adam W", "single step W1"}


def test_a_broken_gate_fails_the_command_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GATES["float32"], "one", 1e-9)
    result = click.testing.CliRunner().invoke(cli, ["parity", "--backend", "numpy", "--run-steps", "5"])
    assert result.exception is not None
    assert "numpy float32: dense Z is off by" in str(result.exception)
    assert "FAIL" in result.stdout


class _Unrecordable(RecordingBackend, NumPyBackend):
    """NumPy that should be recorded, and cannot be."""

    def executions(self) -> tuple[str, ...]:
        return ("captured", "eager")

    def record(self, body: Callable[[], None]) -> Launch:
        raise RuntimeError("no graph here")


NO_GRAPH = "steps cannot be captured on cpu: no graph here"


@pytest.mark.filterwarnings("ignore::xpnet.errors.FellBackWarning")
def test_steps_that_fell_back_do_not_pass_unless_eager_was_asked_for(short: Reference) -> None:
    report = compare(_Unrecordable("cpu"), "float32", short)
    assert report.first_failure is None
    assert (report.execution.asked, report.execution.actual, report.execution.reason) == (
        "auto",
        "eager",
        NO_GRAPH,
    )
    assert report.execution.fell_back
    assert not report.passed

    report = compare(_Unrecordable("cpu", execution="eager"), "float32", short)
    assert (report.execution.asked, report.execution.actual, report.execution.reason) == (
        "eager",
        "eager",
        "",
    )
    assert report.passed


@pytest.mark.filterwarnings("ignore::xpnet.errors.FellBackWarning")
def test_the_command_tells_how_steps_ran_and_fails_where_they_fell_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def made(device: str, name: str, *, precision: str, execution: str) -> Backend:
        asked.append(execution)
        return _Unrecordable("cpu", execution=execution)

    monkeypatch.setattr(importlib.import_module("xpnet.cli.parity"), "get_backend", made)
    run = click.testing.CliRunner().invoke
    arguments = ["parity", "--backend", "numpy", "--dtype", "float32", "--run-steps", "5"]
    result = run(cli, arguments)
    assert isinstance(result.exception, XpnetError)
    assert str(result.exception) == f"numpy float32: steps fell back to eager ({NO_GRAPH})"
    assert f"float32 arithmetic, execution eager ({NO_GRAPH})" in result.stdout
    assert "FAIL" in result.stdout.splitlines()[-1]
    described = json.loads(run(cli, [*arguments, "--json"]).stdout)
    (report,) = described["reports"]
    assert (report["passed"], report["first_failure"]) == (False, None)
    assert report["execution"] == {"asked": "auto", "actual": "eager", "reason": NO_GRAPH}
    assert described["run_steps"] == 5

    result = run(cli, [*arguments, "--execution", "eager"])
    assert result.exit_code == 0, result.output
    assert "float32 arithmetic, execution eager\n" in result.stdout
    assert asked == ["auto", "auto", "eager"]


def test_libraries_that_do_not_run_steps_as_told_are_left_out() -> None:
    arguments = ["parity", "--precision", "bf16", "--execution", "eager", "--run-steps", "5", "--json"]
    result = click.testing.CliRunner().invoke(cli, arguments)
    assert [report["backend"] for report in json.loads(result.stdout)["reports"]] == ["torch"]
    assert "left out: execution cannot be eager: jax on cpu runs steps compiled" in result.stderr


def test_the_command_compares_in_a_reduced_precision() -> None:
    run = click.testing.CliRunner().invoke
    result = run(cli, ["parity", "--precision", "bf16", "--run-steps", "5"])
    assert result.exit_code == 0, result.output
    for text in ("float32 with bf16 matrix products", "on cpu: bf16 arithmetic", "gradient dW1 rms", "pass"):
        assert text in result.stdout
    assert "float64" not in result.stdout.replace("numpy float64", "")
    assert "left out: no bf16 matrix products: numpy on cpu" in result.stderr

    described = json.loads(run(cli, ["parity", "--precision", "bf16", "--run-steps", "5", "--json"]).stdout)
    assert [(report["precision"], report["dtype"]) for report in described["reports"]] == [
        ("bf16", "float32") for _ in REDUCED
    ]


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ("--precision fp8", click.UsageError, "'fp8' is not one of"),
        ("--precision bf16 --dtype float64", UsageError, "precision bf16 belongs to float32, not to float64"),
        ("--precision bf16 --backend numpy", XpnetError, "no bf16 matrix products: numpy on cpu has float32"),
        ("--precision tf32", XpnetError, "nothing to compare: no library has tf32 on cpu"),
        ("--execution captured", XpnetError, "no library has float32 with captured execution on cpu"),
        ("--execution 5", click.UsageError, "'5' is not one of 'auto', 'eager', 'captured'"),
        ("--run-steps 0", UsageError, "a free run takes 1 step or more, not 0"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        cli.main(["parity", *arguments.split()], standalone_mode=False)
    assert isinstance(caught.value, UsageError) == (kind is UsageError)
    assert message in str(caught.value)
