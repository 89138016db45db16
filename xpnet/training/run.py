"""One training run: where its rows come from, its step, and how an epoch of steps goes."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

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
from xpnet.training.inputs import training_scale
from xpnet.training.progress import Progress
from xpnet.training.settings import Settings

CHUNK = 128
"""At most so many steps run between two looks from the host."""

COUNTERS = ("t", "loss", "rates")
"""What begins anew with every chunk, and so is not kept."""


@dataclass
class Run:
    """What stays the same through all epochs of one run.

    Attributes
    ----------
    feed
        Hands out the rows.
    batch_size
        Rows in a step.
    steps_per_epoch
        Steps in an epoch, the last one filled up where rows are missing.
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
        """Check the data, move them as far as they fit, and hold back the validation rows.

        Raises
        ------
        XpnetError
            Data that do not fit the network, or settings that do not fit the number of rows.
        """
        feed = make_feed(
            model,
            X,
            y,
            memory=memory,
            batch_size=settings.batch_size,
            validation=settings.validation,
            seed=settings.seed,
        )
        if settings.validation and feed.held_rows == 0:
            share = f"validation {settings.validation} of {feed.units}"
            raise XpnetError(f"{share} holds none back: give more, or 0")
        batch_size = min(settings.batch_size, feed.rows)
        steps_per_epoch = -(-feed.rows // batch_size)
        steps = settings.epochs * steps_per_epoch
        if settings.warmup >= steps:
            raise XpnetError(f"warmup {settings.warmup} must be less than the {steps} steps of the run")
        scale = training_scale(feed.dtype)
        step = TrainingStep(model.backend.xp, model.network, settings.make_optimizer(), scale)
        evaluation_step = EvaluationStep(model.backend.xp, model.network, scale)
        return cls(model, settings, feed, batch_size, steps_per_epoch, step, evaluation_step)

    def initial_state(self) -> dict[str, np.ndarray]:
        """The model's parameters, and an optimizer that remembers nothing; on the host."""
        model = self.model
        memory = self.step.optimizer.memory(model.backend.xp, model.parameters)
        return {name: model.backend.to_numpy(array) for name, array in (model.parameters | memory).items()}

    def check(self, standing: Standing, path: Path) -> None:
        """Check that a standing that was read is one of this run.

        Raises
        ------
        XpnetError
            Its arrays are those of another network or optimizer.
        """
        expected = {name: (array.shape, array.dtype) for name, array in self.initial_state().items()}
        if {name: (array.shape, array.dtype) for name, array in standing.state.items()} != expected:
            raise XpnetError(f"{path}: its arrays are not those of this network and optimizer")
        needed = {name: expected[name] for name in self.model.network.shapes} if standing.history.best else {}
        if {name: (array.shape, array.dtype) for name, array in standing.best.items()} != needed:
            raise XpnetError(f"{path}: its best weights are not those of this network")

    def to_host(self, state: State) -> dict[str, np.ndarray]:
        """Copy what outlives an epoch to the host, and see that it is finite.

        Raises
        ------
        DivergedError
            It is not.
        """
        host = {
            name: np.array(self.model.backend.to_numpy(array))
            for name, array in state.items()
            if name not in COUNTERS
        }
        for name, array in host.items():
            if not np.isfinite(array).all():
                raise DivergedError(self._diverged(name, "at the end of an epoch"))
        return host

    def chunks(self, order: np.ndarray) -> list[np.ndarray]:
        """The batches of some rows, cut into as few pieces as `CHUNK` allows, as equal as can be."""
        index = batches(order, self.batch_size)
        pieces = -(-len(index) // CHUNK)
        size = -(-len(index) // pieces)
        return [index[start : start + size] for start in range(0, len(index), size)]

    def rates(self, first: int, count: int) -> np.ndarray:
        """The learning rates of `count` steps from step number `first` of the whole run."""
        rates = learning_rates(
            np,
            np.arange(first, first + count, dtype=np.float64),
            lr=self.settings.rate,
            schedule=self.settings.schedule,
            warmup=self.settings.warmup,
            steps=self.settings.epochs * self.steps_per_epoch,
        )
        with np.errstate(over="ignore"):  # a rate too large for the dtype is one that diverges
            return np.asarray(rates, dtype=self.model.dtype)

    def warm_up(self, state: State) -> None:
        """Let the backend compile, before the clock runs, and try what it made on training rows."""
        backend, (data, rows) = self.model.backend, self.feed.sample()
        # as many as a part may have, so that the shapes are those of an epoch
        chunk = self.chunks(np.resize(rows, min(self.feed.rows, data["X"].shape[0])))[0]
        backend.warm_up(self.step, self._counting(state, 0, len(chunk)), backend.asarray(chunk), data)

    def epoch(self, state: State, epoch: int, progress: Progress) -> tuple[State, Epoch]:
        """Run one epoch, 1 being the first, and evaluate the network on the validation rows.

        Raises
        ------
        DivergedError
            The loss is no longer finite.
        """
        backend = self.model.backend
        total, step = 0.0, (epoch - 1) * self.steps_per_epoch
        started = time.perf_counter()
        rng = stream(self.settings.seed, "shuffle", epoch)
        for data, order in self.feed.parts(rng):
            for chunk in self.chunks(order):
                counting = self._counting(state, step, len(chunk))
                state = backend.scan(self.step, counting, backend.asarray(chunk), data)
                step += len(chunk)
                loss, rows = float(backend.to_numpy(state["loss"])[0]), int((chunk >= 0).sum())
                if not np.isfinite(loss):
                    raise DivergedError(self._diverged("the loss", f"by step {step - 1}"))
                total += loss
                progress.on_chunk(epoch, rows, loss / rows)
        backend.synchronize(state)
        seconds = time.perf_counter() - started

        validation = None
        if self.feed.held_rows:
            parameters = {name: state[name] for name in self.model.parameters}
            validation = evaluate_parts(self.model, self.evaluation_step, parameters, self.feed.held_parts())
        return state, Epoch(
            epoch=epoch,
            lr=float(self.rates(step - 1, 1)[0]),
            loss=total / self.feed.rows,
            validation_loss=validation.loss if validation else None,
            validation_accuracy=validation.accuracy if validation else None,
            seconds=seconds,
        )

    def _counting(self, state: State, first: int, count: int) -> State:
        """The state with the counters of a chunk that begins with step number `first`.

        The rates of a short chunk are filled up: every chunk has the same shapes, and is compiled for once.
        """
        rates = np.zeros(min(CHUNK, self.steps_per_epoch), dtype=self.model.dtype)
        rates[:count] = self.rates(first, count)
        counters = {
            "t": np.zeros(1, dtype=np.int32),
            "loss": np.zeros(1, dtype=self.model.dtype),
            "rates": rates,
        }
        return state | {name: self.model.backend.asarray(array) for name, array in counters.items()}

    def _diverged(self, what: str, when: str) -> str:
        lr = f"learning rate {self.settings.lr:g}"
        return f"diverged: {what} is no longer finite {when} at {lr}; give a smaller one, or scale the rows"
