"""A step that is recorded once on a GPU and launched again for every batch.

A step is some fifty operations, and asking for one takes longer than a GPU needs to compute it. A recording
is launched in one piece, which does the same work on the same memory. So whatever changes from launch to
launch must stand in buffers that stay where they are: the state, the batches, and the number of the batch
that is next, which the recording counts up by itself.
"""

import threading
import warnings
import weakref
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from xpnet.backends.base import Array, Backend, Execution, State, Step
from xpnet.errors import FellBackWarning, XpnetError

CAPACITY = 128
"""Batches that are copied into the buffer at a time."""

KEPT = 2
"""Recordings that are kept: one of training and one of evaluation. Each holds its memory on the GPU."""

COMPARED = 2
"""Steps that a new recording is compared over; the second starts from what the first left behind."""

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
"""How far a recording may be from the step itself, relative to an array's largest number."""

Launch: TypeAlias = Callable[[], object]


class Recording:
    """One step, recorded, with the buffers that it works on.

    Parameters
    ----------
    backend
        Copies arrays, and records.
    step, state, batches, data
        As for `Backend.scan`. Nothing of them is written, and `data` is not kept alive: the recording is
        launched only for callers who hold the very same arrays.

    Raises
    ------
    XpnetError
        The step changes the names, the shapes or the dtypes of its state.

    Attributes
    ----------
    state
        What came of the last run.
    compared
        Steps that it has been compared over, and found to be right.
    """

    def __init__(
        self, backend: "RecordingBackend", step: Step, state: State, batches: Array, data: State
    ) -> None:
        xp, m = backend.xp, batches.shape[1]
        self.compared = 0
        self.state = backend.copy(state)
        self._batches = backend.asarray(np.zeros((CAPACITY, m), dtype=np.int32))
        self._next = backend.asarray(np.zeros(1, dtype=np.int32))
        self._data = {name: weakref.ref(array) for name, array in data.items()}

        def body() -> None:
            rows = xp.reshape(xp.take(self._batches, self._next, axis=0), (m,))
            after = step(dict(self.state), rows, data)
            if _form(after) != _form(self.state):
                raise XpnetError("a step may not change the names, shapes or dtypes of its state")
            for name, array in after.items():
                if array is not self.state[name]:
                    self.state[name][...] = array
            self._next += 1

        self._launch = backend.record(body)

    def alive(self) -> bool:
        """Whether the data that it was recorded with are still there."""
        return all(kept() is not None for kept in self._data.values())

    def fits(self, state: State, batches: Array, data: State) -> bool:
        """Whether it can be launched for these: the forms of the first two, and the very arrays of `data`."""
        same_data = self._data.keys() == data.keys() and all(
            kept() is data[name] for name, kept in self._data.items()
        )
        same_width = self._batches.shape[1] == batches.shape[1]
        return same_data and same_width and _form(self.state) == _form(state)

    def run(self, state: State, batches: Array) -> None:
        """Take one step a batch, from `state` on. What comes of it is in the attribute `state`."""
        for name, array in state.items():
            self.state[name][...] = array
        steps = batches.shape[0]
        for start in range(0, steps, CAPACITY):
            count = min(CAPACITY, steps - start)
            self._batches[:count, :] = batches[start : start + count, :]
            self._next *= 0  # by a kernel: assigning a number may copy it from the host
            for _ in range(count):
                self._launch()


class RecordingBackend(Backend):
    """A backend that can record a step, and runs it so where `execution` is "captured".

    The recordings of the last `KEPT` steps are kept, each for the forms of its state and batches and for
    the data that it was made with; other forms or other data take its place. The first scan of a
    recording pays for it: the step is run, recorded, and compared with what the plain loop makes of it.
    One thread records or launches at a time, because a recording has one state.

    If that fails and `execution` was left at "auto", steps run eager from then on; a `FellBackWarning` and
    `execution.reason` say why.
    """

    def __init__(self, kind: str, index: int = 0, **options: str) -> None:
        super().__init__(kind, index, **options)
        self._recordings: dict[Step, Recording] = {}
        self._lock = threading.Lock()

    def record(self, body: Callable[[], None]) -> Launch:
        """Record what `body` asks of the device.

        Runs it once before, on the stream that records, so that all it needs is compiled and allocated;
        not more often, because the state may hold no further learning rate.

        Returns
        -------
        launch
            Does it again, on the current stream, and does not wait. It keeps nothing of `body` itself, but
            all the memory that is used in between.

        Raises
        ------
        RuntimeError
            It cannot be recorded.
        """
        raise NotImplementedError

    def eager(self, step: Step, state: State, batches: Array, data: State) -> State:
        """`scan` without a recording: the plain loop."""
        return super().scan(step, state, batches, data)

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        """Launch the recording of `step`, made if there is none that fits, or loop.

        The state that is returned is a copy, so that the next scan leaves it alone.

        Raises
        ------
        XpnetError
            The step cannot be recorded, and "captured" was asked for.
        """
        with self._lock:
            if (
                self.execution.actual == "captured"
            ):  # another thread may have found meanwhile that it cannot be
                try:
                    recording = self._recording(step, state, batches, data)
                except (XpnetError, RuntimeError, MemoryError) as error:
                    said = f"steps cannot be captured on {self.device}: {' '.join(str(error).split())}"
                    if self.execution.asked == "captured":
                        raise XpnetError(f"{said}; leave execution at auto") from error
                    self._recordings.clear()
                    self.fall_back(said)
                else:
                    recording.run(state, batches)
                    return self.copy(recording.state)
        return self.eager(step, state, batches, data)

    def warm_up(self, step: Step, state: State, batches: Array, data: State) -> None:
        """Over as many batches as a recording is compared over, so that it is before the clock runs."""
        compared = batches[: min(COMPARED, batches.shape[0]), :]
        self.synchronize(self.scan(step, self.copy(state), compared, data))

    def fall_back(self, reason: str) -> None:
        """Run steps eager from now on, and say why."""
        self.execution = Execution(self.execution.asked, "eager", reason)
        warnings.warn(f"steps run eager, not captured: {reason}", FellBackWarning, stacklevel=3)

    def _recording(self, step: Step, state: State, batches: Array, data: State) -> Recording:
        # what can never be launched again gives its memory back
        self._recordings = {known: kept for known, kept in self._recordings.items() if kept.alive()}
        found = self._recordings.pop(step, None)
        if found is None or not found.fits(state, batches, data):
            del found  # its memory is free for the next
            found = Recording(self, step, state, batches, data)
        steps = min(COMPARED, batches.shape[0])
        if found.compared < steps:  # it is new, or there was but one batch to compare it over
            self._compare(found, step, state, batches[:steps, :], data)
            found.compared = steps
        self._recordings[step] = found  # the latest stands last
        while len(self._recordings) > KEPT:
            del self._recordings[next(iter(self._recordings))]
        return found

    def _compare(self, recording: Recording, step: Step, state: State, batches: Array, data: State) -> None:
        expected = self.eager(step, self.copy(state), batches, data)
        recording.run(state, batches)
        for name, array in expected.items():
            found, right = self.to_numpy(recording.state[name]), self.to_numpy(array)
            size = np.abs(right[np.isfinite(right)]).max(initial=0)
            tolerance = TOLERANCES.get(right.dtype.name, 0.0) * float(size)
            if not np.allclose(found, right, rtol=0.0, atol=tolerance, equal_nan=True):
                raise XpnetError(f"{name} is not what the plain step makes of it")


def _form(state: State) -> dict[str, tuple[object, ...]]:
    return {name: (tuple(array.shape), array.dtype) for name, array in state.items()}
