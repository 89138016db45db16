"""Recorded steps as far as they go without a GPU: a stand-in for the recorder hands back what it was given.

So the buffers, their counter, the cache and the comparison are our own lines; that a GPU records and
launches as the stand-in does is for a GPU to show: ``pytest --device cuda``.
"""

import copy
import gc
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from inspect import getclosurevars
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.variants import FakeDeviceStrict
from xpnet.backends import Backend, get_backend
from xpnet.backends.graph import CAPACITY, COMPARED, RECORDINGS, Call, RecordingBackend
from xpnet.backends.numpy import NumPyBackend
from xpnet.backends.torch import TorchBackend
from xpnet.errors import XpnetError
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.step import EvaluationStep, TrainingStep

Host = dict[str, np.ndarray]

NETWORK = Network((4, 5, 3))
OPTIMIZERS = {"sgd": SGD(), "momentum": SGD(momentum=0.9, weight_decay=0.01), "adam": Adam(weight_decay=0.01)}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


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


def move(backend: Backend, arrays: Host) -> dict[str, Any]:
    return {name: backend.asarray(array) for name, array in arrays.items()}


def fetch(backend: Backend, arrays: dict[str, Any]) -> Host:
    return {name: np.array(backend.to_numpy(array)) for name, array in arrays.items()}


def same(found: Host, expected: Host) -> bool:
    """Whether two states are the same, to the last bit."""
    assert found.keys() == expected.keys()
    return all(
        found[name].dtype == array.dtype and found[name].tobytes() == array.tobytes()
        for name, array in expected.items()
    )


def make_data(rng: np.random.Generator) -> Host:
    return {
        "X": rng.integers(0, 256, (17, 4)).astype(np.uint8),
        "y": rng.integers(0, 3, 17).astype(np.int32),
        "classes": np.arange(3, dtype=np.int32),
    }


def make_state(rng: np.random.Generator, optimizer: Optimizer, dtype: str = "float64") -> Host:
    state = {name: 0.5 * rng.standard_normal(shape) for name, shape in NETWORK.shapes.items()}
    state |= optimizer.memory(np, state) | {"loss": np.zeros(1), "rates": np.linspace(0.2, 0.01, 400)}
    return {name: array.astype(dtype) for name, array in state.items()} | {"t": np.zeros(1, dtype=np.int32)}


def make_batches(rng: np.random.Generator, steps: int, m: int = 6) -> np.ndarray:
    batches = rng.integers(0, 17, (steps, m)).astype(np.int32)
    batches[-1, m // 2 :] = -1
    return batches


def plain(recorder: RecordingBackend) -> Backend:
    """The same library as it comes, which loops."""
    return get_backend("cpu", recorder.name)


class Doubling:
    """A step that makes new arrays instead of writing to those of the state."""

    factor = 2.0

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        return {"sum": state["sum"] * self.factor + data["X"], "t": state["t"] + 1}


def doubling(backend: Backend) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """A state, five batches and data for `Doubling`."""
    state = {"sum": backend.asarray(np.ones(3)), "t": backend.asarray(np.zeros(1, dtype=np.int32))}
    index = backend.asarray(np.zeros((5, 2), dtype=np.int32))
    return state, index, {"X": backend.asarray(np.arange(3.0))}


@each_optimizer
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recorded_training_is_the_plain_loop_to_the_last_bit(
    recorder: Recorder, optimizer: Optimizer, dtype: str, rng: np.random.Generator
) -> None:
    """Three chunks, the middle one longer than the buffer, the last one short."""
    host, data = make_state(rng, optimizer, dtype), make_data(rng)
    chunks = [make_batches(rng, steps) for steps in (7, CAPACITY + 5, 2)]
    states = []
    for backend in (recorder, plain(recorder)):
        step = TrainingStep(backend.xp, NETWORK, optimizer, 255.0)
        state, moved = move(backend, host), move(backend, data)
        for chunk in chunks:
            state = backend.scan(step, state, backend.asarray(chunk), moved)
        states.append(fetch(backend, state))

    assert same(*states)
    assert states[0]["t"] == sum(len(chunk) for chunk in chunks)
    assert abs(states[0]["W1"] - host["W1"]).max() > 1e-2
    assert recorder.recorded == 1


def test_recorded_evaluation_is_the_plain_loop_to_the_last_bit(
    recorder: Recorder, rng: np.random.Generator
) -> None:
    host, data = make_state(rng, SGD()), make_data(rng)
    host = {name: host[name] for name in NETWORK.shapes}
    host |= {"loss": np.zeros(1), "outcomes": np.full((9, 6), -1, np.int32)}
    batches = make_batches(rng, 9)
    states = []
    for backend in (recorder, plain(recorder)):
        step = EvaluationStep(backend.xp, NETWORK, 255.0)
        after = backend.scan(step, move(backend, host), backend.asarray(batches), move(backend, data))
        states.append(fetch(backend, after))
    assert same(*states)
    assert ((states[0]["outcomes"] >= 0) == (batches >= 0)).all()


def test_training_from_the_outside_is_the_same(recorder: Recorder, rng: np.random.Generator) -> None:
    """Chunks, validation and epochs as they come, with one recording of each step."""
    X, y = rng.standard_normal((1500, 4)), np.arange(1500) % 3
    models = [xpnet.MLP(NETWORK.sizes, dtype="float64", backend=kind) for kind in (recorder, plain(recorder))]
    histories = [xpnet.train(m, X, y, epochs=2, batch_size=4, validation=0.2) for m in models]
    assert [row.loss for row in histories[0].epochs] == [row.loss for row in histories[1].epochs]
    assert same(models[0].host_parameters(), models[1].host_parameters())
    assert (recorder.execution.actual, recorder.execution.reason) == ("captured", "")
    assert recorder.recorded == 2


def test_arrays_that_a_step_makes_anew_are_written_back(recorder: Recorder) -> None:
    state, index, data = doubling(recorder)
    after = fetch(recorder, recorder.scan(Doubling(), state, index, data))
    assert after["sum"].tolist() == [32.0, 63.0, 94.0]
    assert after["t"].tolist() == [5]


def test_state_that_was_returned_outlives_the_next_scan(recorder: Recorder, rng: np.random.Generator) -> None:
    step, data = TrainingStep(recorder.xp, NETWORK, SGD(), 255.0), move(recorder, make_data(rng))
    batches = recorder.asarray(make_batches(rng, 4))
    first = recorder.scan(step, move(recorder, make_state(rng, SGD())), batches, data)
    kept = fetch(recorder, first)
    second = recorder.scan(step, recorder.copy(first), batches, data)
    assert same(fetch(recorder, first), kept)
    expected = fetch(recorder, second)
    second["W1"] += 1.0  # nor does the caller change what is recorded
    assert same(fetch(recorder, recorder.scan(step, first, batches, data)), expected)


def test_rows_and_data_are_not_written(recorder: Recorder, rng: np.random.Generator) -> None:
    data, batches = make_data(rng), make_batches(rng, 4)
    moved, index = move(recorder, data), recorder.asarray(batches)
    step = TrainingStep(recorder.xp, NETWORK, Adam(), 255.0)
    recorder.scan(step, move(recorder, make_state(rng, Adam())), index, moved)
    assert same(fetch(recorder, moved), data)
    assert (recorder.to_numpy(index) == batches).all()


def test_warm_up_records_and_leaves_the_state_as_it_was(recorder: Recorder, rng: np.random.Generator) -> None:
    host = make_state(rng, Adam())
    step, data = TrainingStep(recorder.xp, NETWORK, Adam(), 255.0), move(recorder, make_data(rng))
    state, batches = move(recorder, host), recorder.asarray(make_batches(rng, 4))
    recorder.warm_up(step, state, batches, data)
    assert same(fetch(recorder, state), host)
    assert recorder._recordings[step].compared == COMPARED
    recorder.scan(step, state, batches, data)
    assert recorder.recorded == 1


def test_last_step_of_a_run_is_recorded_without_running_out_of_rates(
    recorder: Recorder, rng: np.random.Generator
) -> None:
    state = make_state(rng, SGD()) | {"rates": np.array([0.1])}
    step, data = TrainingStep(recorder.xp, NETWORK, SGD(), 255.0), move(recorder, make_data(rng))
    after = recorder.scan(step, move(recorder, state), recorder.asarray(make_batches(rng, 1)), data)
    assert fetch(recorder, after)["t"].tolist() == [1]
    assert recorder.execution.reason == ""


def test_every_step_is_one_launch(recorder: Recorder, rng: np.random.Generator) -> None:
    step, data = TrainingStep(recorder.xp, NETWORK, SGD(), 255.0), move(recorder, make_data(rng))
    state = recorder.scan(
        step, move(recorder, make_state(rng, SGD())), recorder.asarray(make_batches(rng, 3)), data
    )
    before = recorder.launched
    recorder.scan(step, state, recorder.asarray(make_batches(rng, 200)), data)
    assert recorder.launched - before == 200


@pytest.mark.parametrize("changed", ["data", "batch size", "shape", "dtype", "names"])
def test_what_does_not_fit_is_recorded_anew(
    recorder: Recorder, changed: str, rng: np.random.Generator
) -> None:
    host = make_data(rng)
    state, data, m = make_state(rng, SGD()), move(recorder, host), 6
    step = TrainingStep(recorder.xp, NETWORK, SGD(), 255.0)
    recorder.scan(step, move(recorder, state), recorder.asarray(make_batches(rng, 3)), data)
    if changed == "data":  # equal, but elsewhere
        data = data | {"X": recorder.asarray(host["X"])}
    elif changed == "batch size":
        m = 5
    elif changed == "shape":
        state["rates"] = state["rates"][:50]
    elif changed == "dtype":
        state = {name: a.astype("float32") if a.dtype.kind == "f" else a for name, a in state.items()}
    else:
        state["more"] = np.zeros(2)

    batches = make_batches(rng, 3, m)
    after = recorder.scan(step, move(recorder, state), recorder.asarray(batches), data)

    assert recorder.recorded == 2
    other = plain(recorder)
    step = TrainingStep(other.xp, NETWORK, SGD(), 255.0)
    right = other.scan(step, move(other, state), other.asarray(batches), move(other, host))
    assert same(fetch(recorder, after), fetch(other, right))


def test_equal_steps_share_a_recording_and_few_are_kept(recorder: Recorder, rng: np.random.Generator) -> None:
    data, batches = move(recorder, make_data(rng)), recorder.asarray(make_batches(rng, 3))

    def scan(momentum: float) -> None:
        optimizer = SGD(momentum)
        step = TrainingStep(recorder.xp, NETWORK, optimizer, 255.0)
        recorder.scan(step, move(recorder, make_state(rng, optimizer)), batches, data)

    for momentum in (0.5, 0.5, 0.6, 0.5, 0.6):
        scan(momentum)
    assert recorder.recorded == 2
    for momentum in (0.7, 0.8, 0.9):
        scan(momentum)
    assert recorder.recorded == 5
    assert len(recorder._recordings) == RECORDINGS
    scan(0.5)
    assert recorder.recorded == 6


def test_data_and_older_recordings_are_not_kept_alive(
    recorder: Recorder, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a recorder that keeps nothing of what it recorded, as a GPU's does."""
    monkeypatch.setattr(recorder, "record", lambda body: int)
    monkeypatch.setattr(recorder, "_compare", lambda *arguments: None)
    batches, step = recorder.asarray(make_batches(rng, 3)), TrainingStep(recorder.xp, NETWORK, SGD(), 255.0)
    gone = []
    for _ in range(3):
        data = move(recorder, make_data(rng))
        recorder.scan(step, move(recorder, make_state(rng, SGD())), batches, data)
        gone += [weakref.ref(data["X"]), weakref.ref(recorder._recordings[step])]
    del data
    gc.collect()
    assert [ref() is None for ref in gone] == [True, True, True, True, True, False]


def test_recording_whose_data_are_gone_is_dropped_before_another_is_made(
    recorder: Recorder, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "_compare", lambda *arguments: None)
    batches = recorder.asarray(make_batches(rng, 3))
    kept: list[list[Any]] = []

    def record(body: Call) -> Call:
        kept.append(list(recorder._recordings))
        return int

    monkeypatch.setattr(recorder, "record", record)
    steps = [TrainingStep(recorder.xp, NETWORK, SGD(momentum), 255.0) for momentum in (0.0, 0.5, 0.6)]
    lasting = move(recorder, make_data(rng))
    for step in steps:
        data = move(recorder, make_data(rng)) if step is steps[1] else lasting
        recorder.scan(step, move(recorder, make_state(rng, step.optimizer)), batches, data)
        del data
        gc.collect()
    assert kept == [[], [steps[0]], [steps[0]]]


def test_backend_that_is_copied_records_for_itself(recorder: Recorder) -> None:
    state, index, data = doubling(recorder)
    recorder.scan(Doubling(), state, index, data)
    assert copy.copy(recorder)._recordings == {}


class Once(RecordingNumPy):
    """A recording whose second launch does nothing."""

    def record(self, body: Call) -> Call:
        launches = iter([body])
        return lambda: next(launches, int)()


class First(RecordingNumPy):
    """A recording that reads the first batch every time."""

    def record(self, body: Call) -> Call:
        recording = getclosurevars(body).nonlocals["self"]

        def launch() -> None:
            recording._next[...] = 0
            body()

        return launch


class Failing(RecordingNumPy):
    """Cannot record."""

    error: type[Exception] = RuntimeError

    def record(self, body: Call) -> Call:
        body()
        raise self.error("operation not permitted\n  when stream is capturing")


class Stale(RecordingNumPy):
    """A recording that goes on computing with what it found first."""

    def record(self, body: Call) -> Call:
        return lambda: None


class Reshaping:
    """A step that returns another shape than it was given."""

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        return state | {"sum": np.concat([state["sum"], data["X"]])}


@pytest.mark.parametrize("kind", [Once, First, Stale])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_finds_a_recording_that_is_not_the_step(
    kind: type[Recorder], dtype: str, rng: np.random.Generator
) -> None:
    """Before the first epoch, although what warms up leaves no trace."""
    X, y = rng.standard_normal((300, 4)), np.arange(300) % 3
    backend = kind("cpu")
    models = [xpnet.MLP(NETWORK.sizes, dtype=dtype, backend=made) for made in (backend, plain(backend))]
    with pytest.warns(RuntimeWarning, match="steps cannot be captured on cpu: .* is not what the plain step"):
        xpnet.train(models[0], X, y, epochs=2, batch_size=16)
    xpnet.train(models[1], X, y, epochs=2, batch_size=16)
    assert backend.execution.actual == "eager"
    assert same(models[0].host_parameters(), models[1].host_parameters())


def test_recording_that_was_compared_over_one_step_is_compared_again(rng: np.random.Generator) -> None:
    """One step alone is what this one does right."""
    backend, other, data = First("cpu"), NumPyBackend("cpu"), make_data(rng)
    step, batches = TrainingStep(backend.xp, NETWORK, SGD(), 255.0), make_batches(rng, 6)
    first = make_state(rng, SGD())
    states = [made.scan(step, made.copy(first), batches[:1, :], data) for made in (backend, other)]
    assert same(*states)
    assert backend.execution.actual == "captured"
    with pytest.warns(RuntimeWarning, match="is not what the plain step makes of it"):
        after = backend.scan(step, states[0], batches[1:, :], data)
    assert same(after, other.scan(step, states[1], batches[1:, :], data))
    assert backend.execution.actual == "eager"


def test_recording_is_compared_until_it_was_over_enough_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = RecordingNumPy("cpu")
    state, index, data = doubling(backend)
    compared: list[int] = []
    compare = backend._compare

    def noting(recording: Any, step: Any, state: Any, batches: Any, data: Any) -> None:
        compared.append(batches.shape[0])
        compare(recording, step, state, batches, data)

    monkeypatch.setattr(backend, "_compare", noting)
    step = Doubling()
    for count in (1, 1, 5, 1, 5):
        state = backend.scan(step, state, index[:count, :], data)
    assert compared == [1, COMPARED]
    assert backend.recorded == 1


def test_threads_that_share_a_recording_take_turns(rng: np.random.Generator) -> None:
    class Slow(RecordingNumPy):
        def record(self, body: Call) -> Call:
            launch = super().record(body)

            def slow() -> None:
                time.sleep(0.0005)  # another thread may go on
                launch()

            return slow

    backend, other, data = Slow("cpu"), NumPyBackend("cpu"), make_data(rng)
    states = [make_state(rng, SGD()) for _ in range(2)]
    batches = [make_batches(rng, 30) for _ in range(2)]
    step = TrainingStep(backend.xp, NETWORK, SGD(), 255.0)
    with ThreadPoolExecutor(2) as threads:
        running = [
            threads.submit(backend.scan, step, backend.copy(state), rows, data)
            for state, rows in zip(states, batches, strict=True)
        ]
        for found, state, rows in zip(running, states, batches, strict=True):
            assert same(found.result(), other.scan(step, other.copy(state), rows, data))
    assert (backend.recorded, backend.execution.actual) == (1, "captured")


@pytest.mark.parametrize("error", [RuntimeError, MemoryError, XpnetError])
def test_failing_recorder_leaves_the_plain_loop_and_a_note(error: type[Exception]) -> None:
    backend = Failing("cpu")
    backend.error = error
    state, index, data = doubling(backend)
    note = "steps cannot be captured on cpu: operation not permitted when stream is capturing"
    with pytest.warns(RuntimeWarning, match=f"^steps run eager, not captured: {note}$"):
        after = backend.scan(Doubling(), state, index, data)
    assert after["sum"].tolist() == [32.0, 63.0, 94.0]
    assert backend.execution.actual == "eager"
    assert backend.execution.reason == note
    assert backend.scan(Doubling(), after, index, data)["t"].tolist() == [10]
    assert backend.recorded == 0


def test_failing_recorder_lets_go_of_what_it_has_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = RecordingNumPy("cpu")
    state, index, data = doubling(backend)
    state = backend.scan(Doubling(), state, index, data)
    assert len(backend._recordings) == 1
    monkeypatch.setattr(backend, "record", Failing("cpu").record)
    with pytest.warns(RuntimeWarning, match="operation not permitted"):
        backend.scan(Doubling(), state, index, data)
    assert backend.execution.actual == "eager"
    assert backend._recordings == {}


def test_failing_recorder_is_an_error_where_it_was_asked_for() -> None:
    backend = Failing("cpu", execution="captured")
    state, index, data = doubling(backend)
    with pytest.raises(XpnetError) as caught:
        backend.scan(Doubling(), state, index, data)
    message = "steps cannot be captured on cpu: operation not permitted when stream is capturing"
    assert str(caught.value) == f"{message}; leave execution at auto"
    assert state["sum"].tolist() == [1.0] * 3
    assert backend.execution.actual == "captured"


@pytest.mark.parametrize("asked", ["auto", "captured"])
@pytest.mark.parametrize(
    ("kind", "step", "reason"),
    [
        (Stale, Doubling(), "sum is not what the plain step makes of it"),
        (Once, Doubling(), "sum is not what the plain step makes of it"),
        (RecordingNumPy, Reshaping(), "a step may not change the names, shapes or dtypes of its state"),
    ],
)
def test_recording_that_is_not_the_step_is_not_used(
    kind: type[Recorder], step: Any, reason: str, asked: str
) -> None:
    backend = kind("cpu", execution=asked)
    state, index, data = doubling(backend)
    if asked == "captured":
        with pytest.raises(XpnetError, match=f"steps cannot be captured on cpu: {reason}"):
            backend.scan(step, state, index, data)
        assert backend._recordings == {}
    else:
        expected = fetch(backend, NumPyBackend("cpu").scan(step, backend.copy(state), index, data))
        with pytest.warns(RuntimeWarning, match=reason):
            after = backend.scan(step, state, index, data)
        assert same(fetch(backend, after), expected)
        assert backend.execution.actual == "eager"
        assert backend.execution.reason == f"steps cannot be captured on cpu: {reason}"


@pytest.mark.parametrize(
    ("dtype", "error", "good"),
    [("float64", 1e-9, False), ("float64", 1e-14, True), ("float32", 1e-3, False), ("float32", 1e-6, True)],
)
def test_how_far_a_recording_may_be_off_depends_on_the_dtype(
    monkeypatch: pytest.MonkeyPatch, dtype: str, error: float, good: bool
) -> None:
    backend, step = RecordingNumPy("cpu"), Doubling()

    def record(body: Call) -> Call:
        def launch() -> None:
            step.factor = 2.0 * (1.0 + error)
            body()
            step.factor = 2.0

        return launch

    monkeypatch.setattr(backend, "record", record)
    state, index, data = doubling(backend)
    state["sum"], data["X"] = state["sum"].astype(dtype), data["X"].astype(dtype)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        backend.scan(step, state, index, data)
    assert (backend.execution.actual == "captured") is good
    assert len(said) == (not good)


def test_state_that_is_not_finite_is_compared_as_well() -> None:
    backend = RecordingNumPy("cpu")
    state, index, data = doubling(backend)
    state["sum"] = np.array([np.nan, np.inf, 1.0])
    with backend.running("float64"):
        after = backend.scan(Doubling(), state, index, data)
    assert backend.execution.reason == ""
    assert np.isnan(after["sum"][0])
    assert np.isinf(after["sum"][1])
    assert after["sum"][2] == 94.0


def test_eager_is_the_plain_loop() -> None:
    backend = RecordingNumPy("cpu", execution="eager")
    state, index, data = doubling(backend)
    assert backend.scan(Doubling(), state, index, data)["t"].tolist() == [5]
    assert (backend.recorded, backend.execution.actual, backend.execution.reason) == (0, "eager", "")
