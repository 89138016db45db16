"""Compares a library with NumPy in float64: each operation, the whole network, single steps, a free run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any

import numpy as np

from xpnet.backends import Backend, Execution
from xpnet.data.rows import stream
from xpnet.parity.formats import reference_backend
from xpnet.parity.gates import Row, judge
from xpnet.parity.trials import (
    BATCH,
    CASES,
    NETWORK,
    PLAIN,
    Case,
    Inputs,
    Stepper,
    draw_inputs,
    operations,
    whole,
    with_odd_weights,
)

SINGLE_STEPS = 20
"""Number of single steps, spread evenly over the free run. Each starts from the state of the reference."""

BITS = {"float64": 40, "float32": 12, "tf32": 10, "bf16": 7}
"""For each format, a bit of the fraction that it has and the next format has not; bit 1 stands for 1/2."""

CASE_STEPS = 3
"""Steps that are compared of each of the other cases."""

CHAINED = ("forward Z2", "loss", "gradient", "distort")
"""The beginnings of the names of quantities that depend on several matrix products, one after the other."""

STEPS_AT_ONCE = 100
"""Steps of the free run between two lines of progress."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class SingleStep:
    """One step of the reference: the state before it, its row numbers, and the state after it."""

    before: dict[str, np.ndarray]
    rows: np.ndarray
    after: dict[str, np.ndarray]

    @classmethod
    def taken(cls, stepper: Stepper, state: dict[str, np.ndarray], rows: np.ndarray) -> "SingleStep | None":
        """Take a step, or none if an input of relu is too near to its corner."""
        before = with_odd_weights(state)
        if not stepper.off_the_corner(before, rows):
            return None
        return cls(before, rows, stepper.take(before, rows[np.newaxis]))


@dataclass(frozen=True)
class Reference:
    """The results of NumPy in float64, which every library is compared with.

    Attributes
    ----------
    precision
        The precision to which the factors of its matrix products are rounded: "float32", "tf32" or "bf16".
    inputs
        The inputs of all trials.
    pieces
        Every operation, the forward pass and the gradient, by name.
    singles
        Single steps of the free run.
    cases
        Single steps of each of `CASES`.
    outcome
        The parameters after the free run, its mean loss, and the accuracy after it.
    """

    precision: str
    inputs: Inputs
    pieces: dict[str, np.ndarray]
    singles: list[SingleStep]
    cases: dict[str, list[SingleStep]]
    outcome: dict[str, np.ndarray]

    @classmethod
    def prepare(cls, steps: int = 1000, seed: int = 0, precision: str = "float32") -> "Reference":
        """Compute the reference.

        Parameters
        ----------
        steps
            The number of steps in the free run, 1 or more.
        seed
            The seed of the inputs.
        precision
            The precision of the libraries that will be compared with it.
        """
        backend = reference_backend(precision)
        with backend.running("float64"):
            inputs = _draw_off_the_corner(backend, seed, steps)
            pieces = _pieces(backend, inputs, "float64")
            stepper = Stepper(backend, inputs, "float64")
            wanted = set(range(0, steps, max(steps // SINGLE_STEPS, 1)))
            singles, state, loss = [], stepper.begin(), 0.0
            for i, rows in enumerate(inputs.batches):
                if i in wanted:
                    single = SingleStep.taken(stepper, state, rows)
                    singles += [single] if single else []
                    wanted |= set() if single else {i + 1}
                state = stepper.take(state, rows[np.newaxis])
                loss += float(state["loss"][0])
            outcome = _outcome(stepper, inputs, state, loss)
            cases = {name: _case_steps(backend, inputs, case) for name, case in CASES.items()}
        return cls(precision, inputs, pieces, singles, cases, outcome)


@dataclass
class Report:
    """The comparison of one library, in one dtype, with the reference.

    Attributes
    ----------
    precision
        The precision that was set for the matrix products of the library and of the reference.
    arithmetic
        The format that its matrix products were found to compute in: a key of `BITS`, or "less than bf16".
    execution
        How the steps ran, known after the last of them.
    rows
        The quantities, from single operations to the whole run: the first that fails is nearest to the cause.
    """

    backend: str
    version: str
    device: str
    dtype: str
    precision: str
    arithmetic: str
    execution: Execution
    rows: list[Row] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def first_failure(self) -> Row | None:
        """The first quantity whose error is larger than its gate, or None."""
        return next((row for row in self.rows if not row.passed), None)

    @property
    def passed(self) -> bool:
        """Whether every error is within its gate and no step fell back to eager."""
        return self.first_failure is None and not self.execution.reason


def compare(backend: Backend, dtype: str, reference: Reference, tell: Tell = lambda text: None) -> Report:
    """Run all trials on a library, and compare every result with the reference.

    Parameters
    ----------
    tell
        A function that is called with a few words about the trial that begins.
    """
    started = time.perf_counter()
    inputs, precision = reference.inputs, reference.precision
    with backend.running(dtype):
        found = arithmetic(backend, dtype)
        report = Report(
            backend.name, backend.version(), backend.device, dtype, precision, found, backend.execution
        )
        tell("pieces")
        for name, array in _pieces(backend, inputs, dtype).items():
            kind = "chained" if name.startswith(CHAINED) else "one"
            report.rows.append(judge(name, kind, array, reference.pieces[name], dtype, precision))

        tell("single steps")
        stepper = Stepper(backend, inputs, dtype)
        for name, row in _compare_steps(stepper, reference.singles, precision).items():
            report.rows.append(replace(row, quantity=f"single step {name}"))
        for case, singles in reference.cases.items():
            tell(f"single steps, {case}")
            other = Stepper(backend, inputs, dtype, CASES[case])
            worst = max(_compare_steps(other, singles, precision).values(), key=attrgetter("error"))
            report.rows.append(replace(worst, quantity=f"single step, {case}"))

        state, loss, steps = stepper.begin(), 0.0, len(inputs.batches)
        for start in range(0, steps, STEPS_AT_ONCE):
            tell(f"free run, step {start:,} of {steps:,}")
            state = stepper.take(state, inputs.batches[start : start + STEPS_AT_ONCE])
            loss += float(state["loss"][0])
        for name, a in _outcome(stepper, inputs, state, loss).items():
            b, kind = reference.outcome[name], "parameters" if name in NETWORK.shapes else name
            b = b if kind == "parameters" else b.astype(dtype)
            report.rows.append(judge(f"free run {name}", kind, a, b, dtype, precision))
    report.execution = backend.execution  # only now is it known whether steps fell back
    report.seconds = time.perf_counter() - started
    return report


def arithmetic(backend: Backend, dtype: str) -> str:
    """Find the format that matrix products compute in: multiply numbers that need a given number of bits."""
    for name, bits in BITS.items():
        A = (np.eye(BATCH, 784) * (1 + 2.0**-bits)).astype(dtype)
        B = np.eye(784, BATCH).astype(dtype)
        with backend.running(dtype):
            product = backend.to_numpy(backend.xp.matmul(backend.asarray(A), backend.asarray(B)))
        if bits <= np.finfo(dtype).nmant and np.array_equal(product, A[:, :BATCH]):
            return name
    return "less than bf16"


def _pieces(backend: Backend, inputs: Inputs, dtype: str) -> dict[str, np.ndarray]:
    pieces = {}
    for trials in (operations, whole):
        for name, array in trials(backend, inputs, dtype):
            pieces[name] = np.array(backend.to_numpy(array))
    return pieces


def _compare_steps(stepper: Stepper, singles: list[SingleStep], precision: str) -> dict[str, Row]:
    """Take single steps, and compare what comes of them: the worst error of each quantity."""
    worst: dict[str, Row] = {}
    for single in singles:
        after = stepper.take(single.before, single.rows[np.newaxis])
        for name in (*NETWORK.shapes, "loss"):
            row = judge(name, "chained", after[name], single.after[name], stepper.run.model.dtype, precision)
            worst[name] = max(worst.get(name, row), row, key=attrgetter("error"))
    return worst


def _case_steps(backend: Backend, inputs: Inputs, case: Case) -> list[SingleStep]:
    """The first steps of a case that have no relu input next to its corner."""
    stepper = Stepper(backend, inputs, "float64", case)
    singles: list[SingleStep] = []
    state, draws = stepper.begin(), stream(0, "parity")
    while len(singles) < CASE_STEPS:
        rows = draws.integers(0, len(inputs.labels), BATCH).astype(np.int32)
        if single := SingleStep.taken(stepper, state, rows):
            singles.append(single)
            state = single.after
    return singles


def _draw_off_the_corner(backend: Backend, seed: int, steps: int) -> Inputs:
    """Draw inputs until no relu input of the first batch is closer to zero than `CORNER`."""
    while True:
        inputs = draw_inputs(seed, steps)
        stepper = Stepper(backend, inputs, "float64", PLAIN)
        if stepper.off_the_corner(stepper.begin(), inputs.batches[0]):
            return inputs
        seed += 1


def _outcome(stepper: Stepper, inputs: Inputs, state: dict[str, np.ndarray], loss: float) -> dict[str, Any]:
    """The parameters after a free run, its mean loss, and the accuracy after it."""
    means = {"loss": loss / (len(inputs.batches) * BATCH), "accuracy": stepper.accuracy(state, inputs)}
    dtype = stepper.run.model.dtype
    return stepper.run.parameters(state) | {name: np.asarray(mean, dtype) for name, mean in means.items()}
