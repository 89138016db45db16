"""Parity: every library passes the gates, and the table shows it when one does not."""

import importlib
import json
from collections.abc import Callable
from functools import cache, partial
from itertools import product
from typing import Any

import click.testing
import numpy as np
import pytest

from tests.variants import ReadOnlyNumPy
from xpnet.backends import Backend, get_backend
from xpnet.backends.array_api_strict import StrictBackend
from xpnet.backends.base import Patched, without_hooks
from xpnet.backends.graph import RecordingBackend
from xpnet.backends.numpy import NumPyBackend
from xpnet.cli.commands import cli
from xpnet.errors import UsageError, XpnetError
from xpnet.nn.dropout import VALUES
from xpnet.parity import GATES, Reference, Report, Row, compare
from xpnet.parity.formats import FRACTION, rounded
from xpnet.parity.gates import judge, relative_error
from xpnet.parity.run import arithmetic
from xpnet.parity.trials import CASES, FREE_RUN

each_precision = pytest.mark.parametrize("precision", FRACTION)
invoke = partial(click.testing.CliRunner().invoke, cli)


@cache
def reference(steps: int = 20, precision: str = "float32") -> Reference:
    """What the libraries are compared with, computed once."""
    return Reference.prepare(steps=steps, precision=precision)


def assert_passes(report: Report) -> None:
    assert report.first_failure is None, report.first_failure
    assert report.arithmetic == (report.dtype if report.precision == "float32" else report.precision)
    assert len(report.rows) > 40


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_library_passes_every_gate(dtype: str, backend: Backend) -> None:
    if not backend.supports(dtype):
        pytest.skip(f"the device has no {dtype}")
    # The gates are for 1,000 steps. array-api-strict and the variants compute what NumPy does. dpnp takes
    # 60 ms a step, and every gate of its free run in float64 is narrower than in float32.
    few = isinstance(backend, ReadOnlyNumPy | StrictBackend) or (backend.name, dtype) == ("dpnp", "float32")
    steps = 20 if few else 1000
    assert_passes(compare(backend, dtype, reference(steps)))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_short_run_passes_every_gate(dtype: str) -> None:
    assert_passes(compare(NumPyBackend("cpu"), dtype, reference()))


@pytest.mark.slow
def test_every_library_passes_every_gate_in_its_reduced_precisions(backend: Backend) -> None:
    for precision in set(backend.precisions()) - {"float32"}:
        made = get_backend(backend.device, backend.name, precision=precision)
        assert_passes(compare(made, "float32", reference(1000, precision)))


def test_the_gates_are_those_of_the_design() -> None:
    single = {"one": 1e-5, "chained": 1e-5, "parameters": None, "loss": 5e-3, "accuracy": 5e-3}
    double = {"one": 1e-12, "chained": 1e-12, "parameters": 1e-10, "loss": 1e-10, "accuracy": 1e-10}
    short = {precision: single | {"chained": 2.0**-bits / 64} for precision, bits in FRACTION.items()}
    assert {"float64": double, "float32": single} | short == GATES


def test_errors_by_hand() -> None:
    assert relative_error(np.array([1.0, 2.5]), np.array([1.0, 2.0])) == 0.25
    assert relative_error(np.array([1e-6]), np.array([0.0])) == pytest.approx(1e-3)  # no division by zero
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0, 2.0])
    assert relative_error(a, b, rms=True) == pytest.approx(1 / 3)
    for value, rms in product((np.nan, np.inf), (False, True)):
        assert relative_error(np.array([value]), np.array([0.0]), rms=rms) == np.inf


def test_shape_and_dtype_count_as_much_as_values() -> None:
    b = np.ones((2, 3))
    assert judge("x", "one", b, b, "float64").passed
    assert not judge("x", "one", np.ones((3, 2)), b, "float64").passed
    assert not judge("x", "one", b.astype(np.float32), b, "float64").passed
    assert not judge("x", "one", b, b, "float32").passed
    assert Row("x", 1.0, None).passed


def altered(**functions: Callable[..., Any]) -> Backend:
    """NumPy with some functions replaced. Each replacement is called with the right function first.

    Every product goes through `matmul`.
    """
    backend = NumPyBackend("cpu")
    backend.xp = without_hooks(backend.xp)
    replaced = {name: partial(function, getattr(backend.xp, name)) for name, function in functions.items()}
    backend.xp = Patched(backend.xp, **replaced)
    return backend


@pytest.mark.parametrize(
    ("function", "wrong", "first"),
    [
        ("tanh", lambda f, Z: f(Z) * (1 + 1e-10), "tanh A"),
        ("matmul", lambda f, A, B: f(A, B) * (1 + 1e-10), "dense Z"),
        ("exp", lambda f, Z: f(Z) * np.nan, "sigmoid A"),
        ("matmul", lambda f, A, B: f(cut_off(A, "tf32").astype(A.dtype), B), "dense Z"),
    ],
    ids=["tanh", "matmul", "NaN", "reduced precision"],
)
def test_the_first_failure_points_at_its_cause(function: str, wrong: Callable[..., Any], first: str) -> None:
    report = compare(altered(**{function: wrong}), "float64", reference())
    assert report.first_failure is not None
    assert report.first_failure.quantity == first
    assert report.rows[-1].quantity == "free run accuracy"


@pytest.mark.parametrize(
    ("dtype", "eps", "found"),
    [("float64", 2.0**-24, "float32"), ("float32", 2.0**-11, "tf32"), ("float32", 2.0**-3, "less than bf16")],
)
def test_arithmetic_is_named_by_the_bits_that_survive(dtype: str, eps: float, found: str) -> None:
    coarse = altered(matmul=lambda f, A, B: f(np.rint(A / eps) * A.dtype.type(eps), B))
    assert arithmetic(coarse, dtype) == found
    assert arithmetic(NumPyBackend("cpu"), dtype) == dtype


@pytest.mark.parametrize(
    ("precision", "number", "nearest"),
    [
        ("bf16", 1 + 3 * 2**-8, 1 + 2**-6),  # half way: to the even one
        ("tf32", 1 + 2**-11, 1.0),
        ("tf32", 1 + 3 * 2**-11, 1 + 2**-9),
        ("tf32", -(2 - 2**-12), -2.0),  # the carry reaches the exponent
    ],
)
def test_rounding_by_hand(precision: str, number: float, nearest: float) -> None:
    found = rounded(np.array([number]), precision)
    assert (found.dtype.name, found.tolist()) == ("float32", [nearest])


def test_rounding_to_bf16_is_that_of_another_library(rng: np.random.Generator) -> None:
    import torch

    bits = rng.integers(0, 2**32, 100_000, dtype=np.uint32)
    bits[::2] &= 0xFFFF8000  # many half way
    numbers = bits.view(np.float32)
    numbers = numbers[np.isfinite(numbers)]
    theirs = torch.from_numpy(numbers).bfloat16().float().numpy()
    assert rounded(numbers, "bf16").tobytes() == theirs.tobytes()


def cut_off(array: np.ndarray, precision: str) -> np.ndarray:
    """Round towards zero."""
    kept = np.uint32(2**32 - (1 << (23 - FRACTION[precision])))
    return (array.astype(np.float32).view(np.uint32) & kept).view(np.float32)


def half_away(array: np.ndarray, precision: str) -> np.ndarray:
    """Round to the nearest, and from half way away from zero, as cuBLAS does for TF32."""
    half = np.uint32(1 << (22 - FRACTION[precision]))
    return cut_off((array.astype(np.float32).view(np.uint32) + half).view(np.float32), precision)


def not_at_all(array: np.ndarray, precision: str) -> np.ndarray:
    return array


def rounding(way: Any, precision: str, inner: tuple[int, ...] = ()) -> Report:
    """Compare NumPy whose products round their factors in some way, or only sums over `inner` terms."""

    def matmul(f: Any, A: np.ndarray, B: np.ndarray) -> Any:
        how = way if not inner or len(B) in inner else rounded
        return f(how(A, precision), how(B, precision))

    return compare(altered(matmul=matmul), "float32", reference(20, precision))


@each_precision
def test_no_factor_that_is_given_lies_half_way(precision: str) -> None:
    """Not even the pixels that dropout scales, nor the weights before a single step."""
    inputs, singles = reference(20, precision).inputs, reference(20, precision).singles
    pixels = (np.arange(256) / 255).astype(np.float32)
    settings = [case.settings for case in (FREE_RUN, *CASES.values())]
    rates = {chosen.dropout[0] for chosen in settings if chosen.dropout}
    nearly = np.nextafter(pixels[1:], np.float32(2))  # multiplied by 1 / 255 instead of divided by 255
    given = [inputs.arrays[name] for name in ("X", "W", "dZ")] + [inputs.parameters["W1"]]
    given += [single.before["W1"].astype(np.float32) for single in singles]
    given += [x * np.float32(VALUES / round((1 - rate) * VALUES)) for rate in rates for x in (pixels, nearly)]
    for factors in (*given, pixels, nearly):
        assert (half_away(factors, precision) == rounded(factors, precision)).all()
    assert (rounded(nearly, precision) == rounded(pixels[1:], precision)).all()


@pytest.mark.parametrize("way", [rounded, half_away])
@each_precision
def test_products_that_round_to_the_nearest_pass(precision: str, way: Any) -> None:
    report = rounding(way, precision)
    assert_passes(report)
    assert report.precision == precision


@pytest.mark.parametrize("way", [not_at_all, cut_off])
@each_precision
def test_products_that_round_otherwise_fail(precision: str, way: Any) -> None:
    failed = {row.quantity for row in rounding(way, precision).rows if not row.passed}
    expected = {"dense Z", "dense dW", "dense dA", "forward Z1", "forward Z2 rms"}
    assert failed >= expected | {f"gradient d{name} rms" for name in ("W1", "b1", "W2", "b2")}
    assert not {"dense db", "relu dZ", "adam W"} & failed


@each_precision
def test_products_of_products_that_do_not_round_fail(precision: str) -> None:
    # the first layer and the single operations round; what sums over 128 or 10 terms does not
    failed = [row.quantity for row in rounding(not_at_all, precision, (128, 10)).rows if not row.passed]
    assert "forward Z1" not in failed
    assert "forward Z2 rms" in failed


def test_the_command_prints_a_table_and_json() -> None:
    table = invoke(["parity", "--backend", "numpy", "--backend", "array-api-strict", "--run-steps", "5"])
    assert table.exit_code == 0, table.output
    for text in ("float64", "float32", "array-api-strict", "gradient dW1", "free run accuracy", "pass"):
        assert text in table.stdout
    assert "FAIL" not in table.stdout

    arguments = ["parity", "--backend", "numpy", "--dtype", "float32", "--run-steps", "5", "--json"]
    described = json.loads(invoke(arguments).stdout)
    (report,) = described["reports"]
    assert (report["passed"], report["dtype"], report["precision"]) == (True, "float32", "float32")
    assert described["run_steps"] == 5
    assert {row["quantity"] for row in report["rows"]} >= {"dense dW", "relu dZ", "adam W", "single step W1"}


def test_a_broken_gate_fails_the_command_and_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GATES["float32"], "one", 1e-9)
    result = invoke(["parity", "--backend", "numpy", "--run-steps", "5"])
    assert "numpy float32: dense Z is off by" in str(result.exception)
    assert "FAIL" in result.stdout


class Unrecordable(RecordingBackend, NumPyBackend):
    """NumPy that should be recorded, and cannot be."""

    def executions(self) -> tuple[str, ...]:
        return ("captured", "eager")

    def record(self, body: Callable[[], object]) -> Any:
        raise RuntimeError("no graph here")


NO_GRAPH = "steps cannot be captured on cpu: no graph here"


@pytest.mark.filterwarnings("ignore::xpnet.errors.FellBackWarning")
def test_steps_that_fell_back_fail_the_command_unless_eager_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def made(device: str, name: str, *, precision: str, execution: str) -> Backend:
        return Unrecordable("cpu", execution=execution)

    monkeypatch.setattr(importlib.import_module("xpnet.cli.parity"), "get_backend", made)
    arguments = ["parity", "--backend", "numpy", "--dtype", "float32", "--run-steps", "5"]
    result = invoke(arguments)
    assert isinstance(result.exception, XpnetError)
    assert str(result.exception) == f"numpy float32: steps fell back to eager ({NO_GRAPH})"
    assert f"float32 arithmetic, execution eager ({NO_GRAPH})" in result.stdout
    assert "FAIL" in result.stdout.splitlines()[-1]
    (report,) = json.loads(invoke([*arguments, "--json"]).stdout)["reports"]
    assert report["execution"] == {"asked": "auto", "actual": "eager", "reason": NO_GRAPH}

    result = invoke([*arguments, "--execution", "eager"])
    assert result.exit_code == 0, result.output
    assert "float32 arithmetic, execution eager\n" in result.stdout


@pytest.mark.slow
def test_the_command_leaves_out_libraries_that_cannot_do_what_was_asked() -> None:
    pytest.importorskip("jax")
    pytest.importorskip("torch")
    result = invoke(["parity", "--precision", "bf16", "--execution", "eager", "--run-steps", "5"])
    assert result.exit_code == 0, result.output
    for text in ("float32 with bf16 matrix products", "on cpu: bf16 arithmetic", "gradient dW1 rms", "pass"):
        assert text in result.stdout
    assert "float64" not in result.stdout.replace("numpy float64", "")
    assert "left out: no bf16 matrix products: numpy on cpu" in result.stderr
    assert "left out: execution cannot be eager: jax on cpu runs steps compiled" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        ("--precision fp8", click.UsageError, "'fp8' is not one of"),
        ("--precision bf16 --dtype float64", UsageError, "precision bf16 belongs to float32, not to float64"),
        ("--precision bf16 --backend numpy", XpnetError, "no bf16 matrix products: numpy on cpu has float32"),
        ("--precision tf32", XpnetError, "nothing to compare: no library has tf32 on cpu"),
        ("--execution captured", XpnetError, "no library has float32 with captured execution on cpu"),
        ("--execution 5", click.UsageError, "'5' is not one of 'auto', 'eager', 'captured'"),
        ("--run-steps 0", click.UsageError, "0 is not in the range"),
    ],
)
def test_what_cannot_be_compared_is_said(arguments: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as caught:
        cli.main(["parity", *arguments.split()], standalone_mode=False)
    assert isinstance(caught.value, UsageError) == (kind is UsageError)
    assert message in str(caught.value)
