"""One training run: its rows, its step, and one epoch of steps."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xpnet.arrays import dtype_name, scale_of
from xpnet.data.checks import FEW_CLASSES, check_labels
from xpnet.data.rows import batches, stream
from xpnet.errors import DivergedError, XpnetError
from xpnet.model import MLP
from xpnet.nn.schedules import learning_rates
from xpnet.nn.step import EvaluationStep, TrainingStep
from xpnet.nn.typing import Array, State
from xpnet.training.checkpoint import Standing
from xpnet.training.evaluation import evaluate_parts
from xpnet.training.feed import Feed, make_feed
from xpnet.training.history import Epoch
from xpnet.training.progress import Progress
from xpnet.training.settings import Settings

STEPS_AT_ONCE = 128
"""The most steps between two looks from the host."""

COUNTERS = ("t", "loss", "rates")
"""The entries of the state that are set anew after every look."""


@dataclass
class Run:
    """Everything that stays the same through all epochs of one run.

    Attributes
    ----------
    feed
        The rows.
    batch_size
        The number of rows in a step.
    steps_per_epoch
        The number of steps in an epoch. The last one is filled up where rows are missing.
    """

    model: MLP
    settings: Settings
    feed: Feed
    batch_size: int
    steps_per_epoch: int
    step: TrainingStep
    evaluation_step: EvaluationStep

    @classmethod
    def prepare(cls, model: MLP, X: Array, y: Array, settings: Settings, memory: int | None = None) -> "Run":
        """Check the data, move them to the device if they fit, and hold back the validation rows.

        Raises
        ------
        XpnetError
            The data do not fit the network, or the settings do not fit the number of rows.
        """
        feed = make_feed(model, X, y, memory, settings.batch_size, settings.validation, settings.seed)
        if model.classes > FEW_CLASSES:
            labels = y if isinstance(y, np.ndarray) else model.backend.to_numpy(y)
            check_labels(labels, model.classes, "y", taught=True)
        batch_size = min(settings.batch_size, feed.rows)
        steps_per_epoch = -(-feed.rows // batch_size)
        steps = settings.epochs * steps_per_epoch
        if settings.warmup >= steps:
            raise XpnetError(f"warmup {settings.warmup} must be less than the {steps} steps of the run")
        scale = scale_of(feed.dtype)
        step = TrainingStep(model.backend.xp, model.network, settings.make_optimizer(), scale)
        evaluation_step = EvaluationStep(model.backend.xp, model.network, scale)
        return cls(model, settings, feed, batch_size, steps_per_epoch, step, evaluation_step)

    def begin(self) -> Standing:
        """Begin with a copy of the model's parameters, and with an optimizer that remembers nothing."""
        backend, parameters = self.model.backend, self.model.parameters
        memory = self.step.optimizer.memory(backend.xp, parameters)
        return Standing(backend.copy(self.parameters(parameters)) | memory)

    def parameters(self, state: State) -> State:
        """Take the parameters out of a state."""
        return {name: state[name] for name in self.model.network.shapes}

    def check(self, standing: Standing, path: Path) -> None:
        """Check that a standing that was read belongs to this run.

        Raises
        ------
        XpnetError
            Its arrays are those of another network or optimizer.
        """
        needed = _forms(self.begin().state)
        best = self.parameters(needed) if standing.history.best else {}
        if (_forms(standing.state), _forms(standing.best)) != (needed, best):
            raise XpnetError(f"{path}: its arrays are not those of this network and optimizer")

    def chunks(self, order: np.ndarray) -> list[np.ndarray]:
        """Cut rows into batches, and these into pieces of at most `STEPS_AT_ONCE`, of about equal size."""
        index = batches(order, self.batch_size)
        pieces = -(-len(index) // STEPS_AT_ONCE)
        size = -(-len(index) // pieces)
        return [index[start : start + size] for start in range(0, len(index), size)]

    def rates(self, first: int, count: int) -> np.ndarray:
        """Compute the learning rates of `count` steps, from step number `first` of the whole run."""
        chosen, steps = self.settings, self.settings.epochs * self.steps_per_epoch
        numbers = np.arange(first, first + count, dtype=np.float64)
        rates = learning_rates(
            np, numbers, lr=chosen.rate, schedule=chosen.schedule, warmup=chosen.warmup, steps=steps
        )
        with np.errstate(over="ignore"):  # a rate too large for the dtype diverges
            return np.asarray(rates, dtype=self.model.dtype)

    def warm_up(self, state: State) -> None:
        """Let the backend compile before the clock runs, and check the compiled step on training rows."""
        backend, (data, order) = self.model.backend, self.feed.sample()
        # as many rows as a part may have, so that the shapes are those of an epoch
        chunk = self.chunks(np.resize(order, min(self.feed.rows, data["X"].shape[0])))[0]
        backend.warm_up(self.step, self._counting(state, 0, len(chunk)), backend.asarray(chunk), data)

    def epoch(self, state: State, epoch: int, progress: Progress) -> tuple[State, Epoch]:
        """Run one epoch, 1 being the first, and evaluate the network on the validation rows.

        Raises
        ------
        DivergedError
            The loss, a parameter or the optimizer's memory is no longer finite.
        """
        backend = self.model.backend
        total, step = 0.0, (epoch - 1) * self.steps_per_epoch
        started = time.perf_counter()
        rng = stream(self.settings.seed, "shuffle", epoch)
        for data, order in self.feed.parts(self.feed.training, rng):
            for chunk in self.chunks(order):
                counting = self._counting(state, step, len(chunk))
                state = backend.scan(self.step, counting, backend.asarray(chunk), data)
                step += len(chunk)
                loss, rows = float(backend.to_numpy(state["loss"])[0]), int((chunk >= 0).sum())
                if not np.isfinite(loss):
                    raise self._diverged("the loss", f"by step {step - 1}")
                total += loss
                progress.on_chunk(epoch, rows, loss / rows)
        backend.synchronize(state)
        seconds = time.perf_counter() - started
        state = {name: array for name, array in state.items() if name not in COUNTERS}
        self._check_finite(state)

        validation: tuple[float | None, float | None] = None, None
        if self.feed.held_rows:
            held = self.feed.parts(self.feed.held)
            result = evaluate_parts(self.model, self.evaluation_step, self.parameters(state), held)
            validation = result.loss, result.accuracy
        lr = float(self.rates(step - 1, 1)[0])
        return state, Epoch(epoch, lr, total / self.feed.rows, *validation, seconds)

    def _counting(self, state: State, first: int, count: int) -> State:
        """Add the counters of a chunk that begins with step number `first`.

        The rates of a short chunk are filled up: all chunks have the same shapes, and are compiled for once.
        """
        dtype = self.model.dtype
        rates = np.zeros(min(STEPS_AT_ONCE, self.steps_per_epoch), dtype)
        rates[:count] = self.rates(first, count)
        counters = {"t": np.zeros(1, np.int32), "loss": np.zeros(1, dtype), "rates": rates}
        return state | {name: self.model.backend.asarray(array) for name, array in counters.items()}

    def _check_finite(self, state: State) -> None:
        backend, xp = self.model.backend, self.model.backend.xp
        sums = backend.to_numpy(xp.stack([xp.sum(array) for array in state.values()]))
        for name in () if np.isfinite(sums).all() else state:  # the sum of large numbers may overflow as well
            if not np.isfinite(backend.to_numpy(state[name])).all():
                raise self._diverged(name, "at the end of an epoch")

    def _diverged(self, what: str, when: str) -> DivergedError:
        rate = f"learning rate {self.settings.rate:g}"
        hint = f"give a smaller one, such as {self.settings.lower_rate:g}, or scale the rows"
        return DivergedError(f"diverged: {what} is no longer finite {when} at {rate}; {hint}")


def _forms(arrays: State) -> dict[str, tuple[object, ...]]:
    return {name: (tuple(array.shape), dtype_name(array)) for name, array in arrays.items()}
