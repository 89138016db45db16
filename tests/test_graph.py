"""Recorded steps as far as they go without a GPU: a stand-in for the recorder hands back what it was given.

So the buffers, their counter, the cache and the comparison are our own lines; that a GPU records and
launches as the stand-in does is for a GPU to show: ``pytest --device cuda``.
"""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from inspect import getclosurevars
from typing import Any, ClassVar

import numpy as np
import pytest

import xpnet
from tests.helpers import refused
from tests.states import NETWORK, STEPS, Host, assert_same, fetch, make_batches, make_data, make_state, move
from tests.variants import FakeDeviceStrict
from xpnet.backends import Backend, Execution, get_backend
from xpnet.backends.base import WARM_UP, Patched
from xpnet.backends.graph import CAPACITY, RECORDINGS, Call, Recording, RecordingBackend
from xpnet.backends.numpy import NumPyBackend
from xpnet.backends.torch import TorchBackend
from xpnet.errors import FellBackWarning, XpnetError
from xpnet.nn.optimizers import SGD


class Recorder(RecordingBackend):
    """Runs what it is to record, notes it, and launches it by calling it."""

    recorded = 0
    launched = 0

    def executions(self) -> tuple[str, ...]:
        return ("captured", "eager")

    def record(self, body: Call) -> Call:
        self.recorded += 1
        body()

        def launch() -> None:
            self.launched += 1
            body()

        return launch


class RecordingNumPy(Recorder, NumPyBackend):
    """On NumPy."""


class RecordingTorch(Recorder, TorchBackend):
    """On PyTorch, on a CPU."""


class RecordingFakeDevice(Recorder, FakeDeviceStrict):
    """On a device where a value that is read on the host is an error."""


@pytest.fixture(
    params=[RecordingNumPy, RecordingTorch, RecordingFakeDevice], ids=["numpy", "torch", "strict"]
)
def recorder(request: pytest.FixtureRequest) -> Any:
    """A backend that records, within `running`."""
    made = request.param("cpu")
    with made.running("float64"):
        yield made


@dataclass(frozen=True)
class Doubling:
    """A step that makes new arrays instead of writing to those of the state."""

    factor: float = 2.0

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        return {"sum": state["sum"] * self.factor + data["X"], "t": state["t"] + 1}


def doubling(backend: Backend) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """A state, five batches and data for `Doubling`."""
    state = {"sum": backend.asarray(np.ones(3)), "t": backend.asarray(np.zeros(1, dtype=np.int32))}
    index = backend.asarray(np.zeros((5, 2), dtype=np.int32))
    return state, index, {"X": backend.asarray(np.arange(3.0))}


@pytest.mark.parametrize(("name", "dtype"), [("momentum", "float64"), ("everything", "float32")])
def test_recorded_training_is_the_plain_loop_to_the_last_bit(
    recorder: Recorder, name: str, dtype: str, rng: np.random.Generator
) -> None:
    """Three chunks, the middle one longer than the buffer, the last one short; a launch a step."""
    step = STEPS[name]
    host, data = make_state(rng, step.optimizer, dtype), make_data(rng, step, dtype)
    chunks = [make_batches(rng, steps) for steps in (7, CAPACITY + 5, 2)]
    states = []
    for backend in (recorder, get_backend("cpu", recorder.name)):
        step = replace(step, xp=backend.xp)
        state, moved = move(backend, host), move(backend, data)
        index = [backend.asarray(chunk) for chunk in chunks]
        for rows in index:
            state = backend.scan(step, state, rows, moved)
        states.append(fetch(backend, state))
        assert_same(fetch(backend, moved), data)
        assert all((backend.to_numpy(rows) == chunk).all() for rows, chunk in zip(index, chunks, strict=True))

    assert_same(states[0], states[1])
    assert states[0]["t"] == states[0]["step"] == sum(len(chunk) for chunk in chunks)
    assert abs(states[0]["W1"] - host["W1"]).max() > 1e-2
    assert (recorder.recorded, recorder.launched) == (1, WARM_UP + 7 + CAPACITY + 5 + 2)


def test_state_that_was_returned_outlives_the_next_scan(recorder: Recorder) -> None:
    state, index, data = doubling(recorder)
    first = recorder.scan(Doubling(), state, index, data)
    kept = fetch(recorder, first)
    second = recorder.scan(Doubling(), recorder.copy(first), index, data)
    assert_same(fetch(recorder, first), kept)
    expected = fetch(recorder, second)
    assert expected["sum"].tolist() == [1024.0, 2047.0, 3070.0]
    second["sum"] += 1.0  # nor does the caller change what is recorded
    assert_same(fetch(recorder, recorder.scan(Doubling(), first, index, data)), expected)


def test_warm_up_records_and_leaves_the_state_as_it_was(recorder: Recorder, rng: np.random.Generator) -> None:
    step = replace(STEPS["everything"], xp=recorder.xp)
    host, data = make_state(rng, step.optimizer), move(recorder, make_data(rng, step))
    state, batches = move(recorder, host), recorder.asarray(make_batches(rng, 4))
    recorder.warm_up(step, state, batches, data)
    assert_same(fetch(recorder, state), host)
    launched = recorder.launched
    recorder.scan(step, state, batches, data)
    assert (recorder.recorded, recorder.launched - launched) == (1, 4)  # it is not compared again


@pytest.mark.parametrize("recorder", [RecordingNumPy, RecordingTorch], indirect=True, ids=["numpy", "torch"])
def test_a_recording_is_compared_with_the_definition_of_its_products(
    recorder: Recorder, rng: np.random.Generator
) -> None:
    """The plain loop makes every gradient, so it notices a product that the library subtracts wrongly."""
    right = recorder.xp.subtract_product
    wrong = Patched(recorder.xp, subtract_product=lambda W, A, B, kept=None: right(W, A, 1.001 * B, kept))
    state, data = move(recorder, make_state(rng, SGD())), move(recorder, make_data(rng))
    batches = recorder.asarray(make_batches(rng, 3))
    with pytest.warns(FellBackWarning, match="W1 is not what the plain step makes of it"):
        recorder.scan(replace(STEPS["sgd"], xp=wrong), state, batches, data)


def test_last_step_of_a_run_is_recorded_without_running_out_of_rates(
    recorder: Recorder, rng: np.random.Generator
) -> None:
    state = make_state(rng, SGD()) | {"rates": np.array([0.1])}
    step, data = replace(STEPS["sgd"], xp=recorder.xp), move(recorder, make_data(rng))
    recorder.scan(step, move(recorder, state), recorder.asarray(make_batches(rng, 1)), data)
    assert recorder.execution.actual == "captured"


CHANGES: dict[str, Callable[[Host], object]] = {
    "data": lambda state: None,  # equal, but elsewhere
    "batch size": lambda state: None,
    "shape": lambda state: state.update(rates=state["rates"][:50]),
    "dtype": lambda state: state.update(
        {name: a.astype("f4") for name, a in state.items() if a.dtype == "f8"}
    ),
    "names": lambda state: state.update(more=np.zeros(2)),
}


@pytest.mark.parametrize("changed", CHANGES)
def test_what_does_not_fit_is_recorded_anew(
    recorder: Recorder, changed: str, rng: np.random.Generator
) -> None:
    host, data, other = make_state(rng, SGD()), make_data(rng), get_backend("cpu", recorder.name)
    placed, ends = move(recorder, data), []
    step = replace(STEPS["sgd"], xp=recorder.xp)
    recorder.scan(step, move(recorder, host), recorder.asarray(make_batches(rng, 3)), placed)
    CHANGES[changed](host)
    batches = make_batches(rng, 3, 5 if changed == "batch size" else 6)
    for backend in (recorder, other):
        rows = placed if backend is recorder and changed != "data" else move(backend, data)
        step = replace(STEPS["sgd"], xp=backend.xp)
        after = backend.scan(step, move(backend, host), backend.asarray(batches), rows)
        ends.append(fetch(backend, after))
    assert recorder.recorded == 2
    assert_same(ends[0], ends[1])


def test_equal_steps_share_a_recording_and_few_are_kept(recorder: Recorder) -> None:
    state, index, data = doubling(recorder)
    steps = (0.5, 0.5, 0.6, 0.5, 0.6, 0.7, 0.8, 0.9, 0.5)
    recorded = [
        (recorder.scan(Doubling(factor), state, index, data), recorder.recorded)[1] for factor in steps
    ]
    assert recorded == [1, 1, 2, 2, 2, 3, 4, 5, 6]
    assert len(recorder._recordings) == RECORDINGS


def test_data_and_recordings_that_are_of_no_use_are_let_go(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a recorder that keeps nothing of what it recorded, as a GPU's does."""
    monkeypatch.setattr(recorder, "record", lambda body: int)
    monkeypatch.setattr(recorder, "_compare", lambda *arguments: None)
    state, index, lasting = doubling(recorder)
    data = doubling(recorder)[2]
    gone = weakref.ref(data["X"])
    recorder.scan(Doubling(2.0), state, index, lasting)
    recorder.scan(Doubling(3.0), state, index, data)
    del data
    gc.collect()
    recorder.scan(Doubling(4.0), state, index, lasting)
    assert gone() is None
    assert list(recorder._recordings) == [Doubling(2.0), Doubling(4.0)]


def recording_of(body: Call) -> Recording:
    """The recording that a body belongs to."""
    found: Recording = getclosurevars(body).nonlocals["self"]
    return found


class First(RecordingNumPy):
    """A recording that reads the first batch every time."""

    def record(self, body: Call) -> Call:
        def launch() -> None:
            recording_of(body)._next[...] = 0
            body()

        return launch


class Stale(RecordingNumPy):
    """A recording that goes on computing with what it found first."""

    def record(self, body: Call) -> Call:
        return lambda: None


class Failing(RecordingNumPy):
    """Cannot record at some times, and notes what goes on when it tries."""

    failing: tuple[int, ...] = (1, 2)
    error: type[Exception] = RuntimeError

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        self.tried: list[weakref.ref[Recording]] = []
        self.disturbed: list[bool] = []

    def record(self, body: Call) -> Call:
        self.disturbed += [gc.isenabled(), *(recording() is not None for recording in self.tried)]
        self.tried.append(weakref.ref(recording_of(body)))
        launch = super().record(body)
        if len(self.tried) in self.failing:
            raise self.error("operation not permitted\n  when stream is capturing")
        return launch


NOTE = "steps cannot be captured on cpu: operation not permitted when stream is capturing"


class Reshaping:
    """A step that returns another shape than it was given."""

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        return state | {"sum": np.concat([state["sum"], data["X"]])}


@pytest.mark.parametrize("kind", [RecordingNumPy, First])
@pytest.mark.filterwarnings("ignore::xpnet.errors.FellBackWarning")
def test_training_is_the_same_whether_a_recording_is_the_step_or_not(
    kind: type[Recorder], rng: np.random.Generator
) -> None:
    """What warms up finds a wrong one, before the first epoch, although it leaves no trace."""
    X, y = rng.standard_normal((1500, 4)), np.arange(1500) % 3
    backend, ends = kind("cpu"), []
    for made in (backend, NumPyBackend("cpu")):
        model = xpnet.MLP(NETWORK.sizes, backend=made)
        history = xpnet.train(model, X, y, epochs=2, batch_size=4, validation=0.2)
        ends.append([(row.loss, row.validation_loss) for row in history.epochs])
        ends.append([array.tolist() for array in model.host_parameters().values()])
    assert ends[:2] == ends[2:]
    right = kind is RecordingNumPy
    assert (backend.execution.actual, backend.recorded) == (("captured", 2) if right else ("eager", 0))
    assert right or backend.execution.reason.endswith(" is not what the plain step makes of it")


def test_recording_that_was_compared_over_one_step_is_compared_again(rng: np.random.Generator) -> None:
    """One step alone is what this one does right."""
    backend, other, data = First("cpu"), NumPyBackend("cpu"), make_data(rng)
    step, batches = replace(STEPS["sgd"], xp=backend.xp), make_batches(rng, 6)
    first = make_state(rng, SGD())
    states = [made.scan(step, made.copy(first), batches[:1, :], data) for made in (backend, other)]
    assert_same(states[0], states[1])
    assert backend.execution.actual == "captured"
    with pytest.warns(RuntimeWarning, match="is not what the plain step makes of it"):
        after = backend.scan(step, states[0], batches[1:, :], data)
    assert_same(after, other.scan(step, states[1], batches[1:, :], data))
    assert backend.execution.actual == "eager"


def test_threads_that_share_a_recording_take_turns() -> None:
    """And wait for the device at the end of theirs, because the other may launch on another stream."""

    class Slow(RecordingNumPy):
        launching: ClassVar[set[int]] = set()

        def record(self, body: Call) -> Call:
            launch = super().record(body)

            def slow() -> None:
                self.launching.add(threading.get_ident())
                assert len(self.launching) == 1
                time.sleep(0.002)  # another thread may go on
                launch()

            return slow

        def synchronize(self, state: dict[str, Any]) -> None:
            self.launching.clear()

    backend = Slow("cpu")
    state, index, data = doubling(backend)
    starts = [state | {"sum": np.full(3, start)} for start in (1.0, 2.0, 3.0, 4.0)]
    with ThreadPoolExecutor(2) as threads:
        ends = list(threads.map(lambda start: backend.scan(Doubling(), start, index, data), starts))
    assert [end["sum"].tolist() for end in ends] == [
        [32.0 * k, 32 * k + 31, 32 * k + 62] for k in (1, 2, 3, 4)
    ]
    assert (backend.recorded, backend.launching, backend.execution.actual) == (1, set(), "captured")


@pytest.mark.parametrize("collecting", [True, False])
def test_recording_that_is_spoilt_once_is_made_again(collecting: bool) -> None:
    """While nothing is collected, and after the memory of the first has been given back."""
    backend = Failing("cpu")
    backend.failing = (1,)
    state, index, data = doubling(backend)
    try:
        gc.enable() if collecting else gc.disable()
        assert backend.scan(Doubling(), state, index, data)["sum"].tolist() == [32.0, 63.0, 94.0]
        assert gc.isenabled() is collecting
    finally:
        gc.enable()
    assert (len(backend.tried), backend.execution.actual) == (2, "captured")
    assert backend.disturbed == [False, False, False]


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, XpnetError])
def test_failing_recorder_leaves_the_plain_loop_and_a_note(error: type[Exception]) -> None:
    backend = Failing("cpu")
    backend.failing, backend.error = (2, 3), error
    state, index, data = doubling(backend)
    backend.scan(Doubling(3.0), state, index, data)
    with pytest.warns(RuntimeWarning, match=f"^steps run eager, not captured: {NOTE}$"):
        after = backend.scan(Doubling(), state, index, data)
    assert after["sum"].tolist() == [32.0, 63.0, 94.0]
    assert backend.execution == Execution("auto", "eager", NOTE)
    gc.collect()  # the stand-in keeps what it has recorded
    assert not any(recording() for recording in backend.tried)
    assert backend.scan(Doubling(), after, index, data)["t"].tolist() == [10]
    assert len(backend.tried) == (3 if error is RuntimeError else 2)


@pytest.mark.parametrize("asked", ["auto", "captured"])
@pytest.mark.parametrize(
    ("kind", "step", "reason"),
    [
        (Stale, Doubling(), "sum is not what the plain step makes of it"),
        (RecordingNumPy, Reshaping(), "a step may not change the names, shapes or dtypes of its state"),
    ],
)
@pytest.mark.filterwarnings("ignore::xpnet.errors.FellBackWarning")
def test_recording_that_is_not_the_step_is_not_used(
    kind: type[Recorder], step: Any, reason: str, asked: str
) -> None:
    backend, reason = kind("cpu", execution=asked), f"steps cannot be captured on cpu: {reason}"
    state, index, data = doubling(backend)
    if asked == "captured":
        assert refused(lambda: backend.scan(step, state, index, data)) == f"{reason}; leave execution at auto"
    else:
        expected = NumPyBackend("cpu").scan(step, backend.copy(state), index, data)
        assert_same(backend.scan(step, state, index, data), expected)
        assert backend.execution == Execution("auto", "eager", reason)
    assert backend._recordings == {}


@pytest.mark.parametrize(
    ("dtype", "error", "good"),
    [("float64", 1e-9, False), ("float64", 1e-14, True), ("float32", 1e-3, False), ("float32", 1e-6, True)],
)
@pytest.mark.filterwarnings("ignore::xpnet.errors.FellBackWarning")
def test_how_far_a_recording_may_be_off_depends_on_the_dtype(dtype: str, error: float, good: bool) -> None:
    """And a state that is not finite is compared as well."""

    class Off(RecordingNumPy):
        def record(self, body: Call) -> Call:
            def launch() -> None:
                body()
                recording_of(body).state["sum"] *= 1.0 + error

            return launch

    backend = Off("cpu")
    state, index, data = doubling(backend)
    state["sum"], data["X"] = np.array([1.0, np.nan, np.inf], dtype), data["X"].astype(dtype)
    backend.scan(Doubling(), state, index, data)
    assert (backend.execution.actual == "captured") is good
