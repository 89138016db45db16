"""A step that is recorded once on a GPU and replayed for every batch.

A step is some fifty operations, and asking for one takes the host longer than the GPU needs to compute it. A
recording is launched in one piece, which does the same work on the same memory. So everything that changes
from launch to launch must stand in buffers that stay where they are: the state, the batches, and the number
of the next batch, which the recording counts up by itself.
"""

import gc
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import numpy as np

from xpnet.backends.base import WARM_UP, Array, Backend, Execution, State, Step, said, without_hooks
from xpnet.errors import FellBackWarning, XpnetError

CAPACITY = 128
"""Batches that are copied into the buffer at a time."""

RECORDINGS = 2
"""Recordings that are kept: one of training and one of evaluation. Each holds its memory on the GPU."""

TOLERANCES = {"float32": 1e-5, "float64": 1e-12}
"""How far a recording may be from the step itself, relative to an array's largest number."""

Call: TypeAlias = Callable[[], object]
"""A step that is to be recorded, or the launch of a recording."""

Result = TypeVar("Result")

_ONE_AT_A_TIME = threading.Lock()


class Recording:
    """One step, recorded, with the buffers that it works on.

    Parameters
    ----------
    backend
        The backend that records it.
    step, state, batches, data
        As for `Backend.scan`. None of them is written, and `data` is not kept alive: the recording is
        launched only for callers who hold the very same arrays.

    Raises
    ------
    XpnetError
        The step changes the names, the shapes or the dtypes of its state.

    Attributes
    ----------
    state
        The result of the last run.
    compared
        Steps that it has been compared over, and found to be right.
    """

    def __init__(
        self, backend: "RecordingBackend", step: Step, state: State, batches: Array, data: State
    ) -> None:
        xp, m = backend.xp, batches.shape[1]
        self.compared = 0
        self.state = backend.copy(state)
        self._batches = backend.from_numpy(np.zeros((CAPACITY, m), dtype=np.int32))
        self._next = backend.from_numpy(np.zeros(1, dtype=np.int32))
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

        with _undisturbed():
            self._launch = backend.record(body)

    def alive(self) -> bool:
        """Whether the data that it was recorded with are still there."""
        return all(kept() is not None for kept in self._data.values())

    def fits(self, state: State, batches: Array, data: State) -> bool:
        """Whether it can be launched for these: the same shapes and dtypes, and the very arrays of `data`."""
        same_names, same_width = self._data.keys() == data.keys(), self._batches.shape[1] == batches.shape[1]
        same_data = same_names and all(kept() is data[name] for name, kept in self._data.items())
        return same_data and same_width and _form(self.state) == _form(state)

    def run(self, backend: "RecordingBackend", state: State, batches: Array) -> State:
        """Take one step for every batch, beginning with `state`, and return a copy of the result.

        It waits for the GPU, because the next run may be on another stream and works in the same buffers.
        The wait costs nothing: the caller reads the loss of these steps next.
        """
        for name, array in state.items():
            self.state[name][...] = array
        steps = batches.shape[0]
        for start in range(0, steps, CAPACITY):
            count = min(CAPACITY, steps - start)
            self._batches[:count, :] = batches[start : start + count, :]
            self._next *= 0  # by a kernel: assigning a number may copy it from the host
            for _ in range(count):
                self._launch()
        after = backend.copy(self.state)
        backend.synchronize(after)
        return after


class RecordingBackend(Backend):
    """A backend that can record a step, and runs it so where `execution` is "captured".

    The recordings of the last `RECORDINGS` steps are kept, each for the forms of its state and batches and
    for the data that it was made with; other forms or other data take its place. The first scan of a
    recording pays for it: the step is run, recorded, and compared with the result of the plain loop. One
    thread records or launches at a time, because a recording has one state.

    If recording fails twice and the execution was left at "auto", steps run eager from then on. A
    `FellBackWarning` and `execution.reason` say why.
    """

    def __init__(self, kind: str, index: int = 0, **options: Any) -> None:
        super().__init__(kind, index, **options)
        self._recordings: dict[Step, Recording] = {}
        self._lock = threading.Lock()

    def record(self, body: Call) -> Call:
        """Record what `body` asks of the device.

        `body` runs once before, on the stream that records, so that all it needs is compiled and allocated.
        It does not run again, because the state may hold no further learning rate.

        Returns
        -------
        launch
            Does the same again, on the current stream, without waiting. It keeps the memory that is used in
            between, but neither `body` nor the backend.

        Raises
        ------
        RuntimeError
            It cannot be recorded.
        """
        raise NotImplementedError

    def eager(self, step: Step, state: State, batches: Array, data: State) -> State:
        """Run the steps in a plain loop, as `scan` does without a recording."""
        return super().scan(step, state, batches, data)

    def scan(self, step: Step, state: State, batches: Array, data: State) -> State:
        """Launch the recording of `step`, and make it first if there is none that fits.

        The state that is returned is a copy, so the next scan does not change it.

        Raises
        ------
        XpnetError
            The step cannot be recorded, and "captured" was asked for.
        """
        with self._lock:
            if self._agreed(step, self.execution.actual == "captured"):
                try:
                    recording = self._recording(step, state, batches, data)
                except (XpnetError, RuntimeError, MemoryError) as error:
                    reason = f"steps cannot be captured on {self.device}: {said(error)}"
                    if self.execution.asked == "captured":
                        raise XpnetError(f"{reason}; leave execution at auto") from error
                    self._recordings.clear()
                    self.fall_back(reason)
                else:
                    return recording.run(self, state, batches)
            elif self.execution.actual == "captured":
                self.fall_back("another process runs eager")
        return self.eager(step, state, batches, data)

    def _agreed(self, step: Step, able: bool) -> bool:
        """Whether all processes that take a step together are able to.

        A sum over processes is one call of all of them, in a recording too. So none may take another way.
        """
        return all(self.group.all(able)) if getattr(step, "total", None) else able

    def _together(self, step: Step, attempt: Callable[[], Result]) -> Result:
        """Attempt what must succeed in all processes, or fails in all.

        Raises
        ------
        RuntimeError
            A recording may succeed another time.
        XpnetError, MemoryError
            It may not.
        """
        if not getattr(step, "total", None):
            return attempt()
        found: Any = None
        failure: tuple[bool, str] | None = None
        try:
            found = attempt()
        except (XpnetError, RuntimeError, MemoryError) as error:
            failure = isinstance(error, RuntimeError), said(error)
        failures = {process: one for process, one in enumerate(self.group.all(failure)) if one}
        if failures:
            kind = RuntimeError if all(again for again, _ in failures.values()) else XpnetError
            raise kind("; ".join(f"{text} (process {process})" for process, (_, text) in failures.items()))
        result: Result = found
        return result

    def fall_back(self, reason: str) -> None:
        """Run steps eager from now on, and say why."""
        self.execution = Execution(self.execution.asked, "eager", reason)
        warnings.warn(f"steps run eager, not captured: {reason}", FellBackWarning, stacklevel=3)

    def _recording(self, step: Step, state: State, batches: Array, data: State) -> Recording:
        # what can never be launched again gives its memory back
        self._recordings = {known: kept for known, kept in self._recordings.items() if kept.alive()}
        found = self._recordings.pop(step, None)
        if found is None or not found.fits(state, batches, data):
            found = None  # its memory is free for the next
            record = partial(Recording, self, step, state, batches, data)
            with suppress(RuntimeError):  # another thread spoils it by waiting for the device, say
                found = self._together(step, record)
            found = found or self._together(step, record)
        steps = min(WARM_UP, batches.shape[0])
        if found.compared < steps:  # it is new, or there was but one batch to compare it over
            compare = partial(self._compare, found, step, state, batches[:steps, :], data)
            self._together(step, compare)
            found.compared = steps
        self._recordings[step] = found  # the latest stands last
        while len(self._recordings) > RECORDINGS:
            del self._recordings[next(iter(self._recordings))]
        return found

    def _compare(self, recording: Recording, step: Step, state: State, batches: Array, data: State) -> None:
        plain: Any = step
        if hasattr(step, "xp"):
            plain = replace(plain, xp=without_hooks(plain.xp))
        expected = self.eager(plain, self.copy(state), batches, data)
        found = recording.run(self, state, batches)
        for name, array in expected.items():
            ours, right = self.to_numpy(found[name]), self.to_numpy(array)
            size = np.abs(right[np.isfinite(right)]).max(initial=0)
            tolerance = TOLERANCES.get(right.dtype.name, 0.0) * float(size)
            if not np.allclose(ours, right, rtol=0.0, atol=tolerance, equal_nan=True):
                raise XpnetError(f"{name} is not what the plain step makes of it")


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let only one thread of the process record, and pause the garbage collector meanwhile.

    An object that is collected, such as a library's handle, may wait for the GPU, which spoils a recording.
    """
    with _ONE_AT_A_TIME, ExitStack() as afterwards:
        if gc.isenabled():
            gc.disable()
            afterwards.callback(gc.enable)
        yield


def _form(state: State) -> dict[str, tuple[object, ...]]:
    return {name: (tuple(array.shape), array.dtype) for name, array in state.items()}
