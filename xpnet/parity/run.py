"""One library against NumPy in float64, from its smallest piece to a whole run."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from xpnet.backends import Backend, Execution
from xpnet.errors import DivergedError, UsageError
from xpnet.model import MLP
from xpnet.nn.network import forward
from xpnet.parity.formats import reference_backend
from xpnet.parity.gates import Row, judge
from xpnet.parity.trials import (
    BATCH,
    CORNER,
    NETWORK,
    Inputs,
    Run,
    draw_inputs,
    operations,
    whole,
)
from xpnet.training import evaluate

SINGLE_STEPS = 20
"""Steps that are taken alone, each from the reference's own state, spread evenly over the run."""

BITS = {"float64": 40, "float32": 12, "tf32": 10, "bf16": 7}
"""A bit of the fraction, counted from its point, that this format has and the next does not."""

CHAINED = ("forward Z2", "loss", "gradient")
"""Pieces for which products are made of what other products gave."""

CHUNK = 100
EVALUATED = 10_000

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Single:
    """One step of the reference: the state before it, its rows, and the state after."""

    before: dict[str, np.ndarray]
    rows: np.ndarray
    after: dict[str, np.ndarray]


@dataclass(frozen=True)
class Reference:
    """What NumPy computes in float64, the factors of its matrix products rounded as `precision` says."""

    precision: str
    inputs: Inputs
    pieces: dict[str, np.ndarray]
    singles: list[Single]
    final: dict[str, np.ndarray]
    loss: float
    accuracy: float

    @classmethod
    def prepare(cls, steps: int = 1000, seed: int = 0, precision: str = "float32") -> "Reference":
        """Compute it.

        Parameters
        ----------
        steps
            Of the free run.
        precision
            Of the libraries that are to be compared with it.

        Raises
        ------
        UsageError
            No steps.
        """
        if steps < 1:
            raise UsageError(f"a free run takes 1 step or more, not {steps}")
        backend = reference_backend(precision)
        with backend.running("float64"):
            inputs = _draw_off_the_corner(backend, seed, steps)
            pieces = _pieces(backend, inputs, "float64")
            run = Run.prepare(backend, inputs, "float64")
            wanted = set(range(0, steps, max(steps // SINGLE_STEPS, 1)))
            singles, state, loss = [], dict(inputs.parameters), 0.0
            for i in range(steps):
                before = state
                state = run.steps(before, inputs.batches[i : i + 1])
                loss += float(state["loss"][0])
                if i in wanted and _off_the_corner(backend, before, inputs, inputs.batches[i]):
                    singles.append(Single(before, inputs.batches[i], state))
                elif i in wanted and i + 1 < steps:
                    wanted.add(i + 1)  # a draw too near to a corner is made again, not forgiven
            accuracy = _accuracy(backend, inputs, state, "float64")
        return cls(precision, inputs, pieces, singles, state, loss / (steps * BATCH), accuracy)


@dataclass
class Report:
    """One library in one dtype, compared with the reference.

    Attributes
    ----------
    precision
        What its matrix products were told to compute in, and the reference with them.
    arithmetic
        What they were found to compute in: a key of `BITS`, or less.
    execution
        How steps ran at the end.
    rows
        From the smallest piece to the whole, so that the first to fail is nearest to the cause.
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
        """The first quantity that leaves its gate."""
        return next((row for row in self.rows if not row.passed), None)

    @property
    def passed(self) -> bool:
        """Whether every error is within its gate, and steps ran as they do for a user."""
        return self.first_failure is None and not self.execution.fell_back


def compare(backend: Backend, dtype: str, reference: Reference, tell: Tell = lambda text: None) -> Report:
    """Compute on a library what the reference holds, and judge every number.

    Parameters
    ----------
    tell
        Is told, in a few words, what is being done.
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
        run = Run.prepare(backend, inputs, dtype)
        singles: dict[str, list[Row]] = {}
        for single in reference.singles:
            after = run.steps(single.before, single.rows[np.newaxis])
            for name in (*NETWORK.shapes, "loss"):
                b = single.after[name]
                row = judge(f"single step {name}", "chained", after[name], b, dtype, precision)
                singles.setdefault(name, []).append(row)
        report.rows += [max(rows, key=lambda row: row.error) for rows in singles.values()]

        state, loss, steps = dict(inputs.parameters), 0.0, len(inputs.batches)
        for start in range(0, steps, CHUNK):
            tell(f"free run, step {start:,} of {steps:,}")
            state = run.steps(state, inputs.batches[start : start + CHUNK])
            loss += float(state["loss"][0])
        for name in NETWORK.shapes:
            b = reference.final[name]
            report.rows.append(judge(f"free run {name}", "parameters", state[name], b, dtype, precision))
        ends = {
            "loss": (loss / (steps * BATCH), reference.loss),
            "accuracy": (_accuracy(backend, inputs, state, dtype), reference.accuracy),
        }
        for name, (ours, theirs) in ends.items():
            a, b = np.asarray(ours, dtype), np.asarray(theirs, dtype)
            report.rows.append(judge(f"free run {name}", name, a, b, dtype, precision))
    report.execution = backend.execution  # only now is it known whether steps fell back
    report.seconds = time.perf_counter() - started
    return report


def arithmetic(backend: Backend, dtype: str) -> str:
    """Find out what the library's matrix products compute in, by numbers that only so many bits get right."""
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


def _draw_off_the_corner(backend: Backend, seed: int, steps: int) -> Inputs:
    """Draw until no relu of the first batch is within `CORNER` of its corner."""
    inputs = draw_inputs(seed, steps)
    while not _off_the_corner(backend, inputs.parameters, inputs, inputs.batches[0]):
        seed += 1
        inputs = draw_inputs(seed, steps)
    return inputs


def _off_the_corner(
    backend: Backend, parameters: dict[str, np.ndarray], inputs: Inputs, rows: np.ndarray
) -> bool:
    Z, _ = forward(backend.xp, NETWORK, parameters, inputs.images[rows] / 255.0)
    return all(float(np.min(np.abs(Z[layer]))) > CORNER for layer in range(1, NETWORK.depth))


def _accuracy(backend: Backend, inputs: Inputs, parameters: dict[str, np.ndarray], dtype: str) -> float:
    model = MLP(
        NETWORK.sizes,
        activation=NETWORK.activation,
        dtype=dtype,
        backend=backend,
        parameters=parameters,
        scale=255.0,
    )
    try:
        return evaluate(model, inputs.images[:EVALUATED], inputs.labels[:EVALUATED]).accuracy
    except DivergedError:  # a row of the table, like any other error
        return float("nan")
