"""One training run: its rows, its step, and one epoch of steps."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from zlib import crc32

import numpy as np

from xpnet.arrays import dtype_name, scale_of
from xpnet.data.rows import batches, stream
from xpnet.errors import DivergedError, UsageError, XpnetError
from xpnet.model import MLP
from xpnet.nn.losses import LOSSES
from xpnet.nn.schedules import learning_rates
from xpnet.nn.step import EvaluationStep, TrainingStep
from xpnet.nn.typing import Array, State
from xpnet.training.checkpoint import Standing
from xpnet.training.evaluation import evaluate_parts, metric_names
from xpnet.training.feed import Part, make_feed, weights_of
from xpnet.training.history import Epoch
from xpnet.training.inputs import Examples
from xpnet.training.progress import Progress
from xpnet.training.settings import Settings, distortion_of, dropout_rates, lower_rate

STEPS_AT_ONCE = 128
"""The most steps between two looks from the host."""


class Run:
    """Everything that stays the same through all epochs of one run.

    Rows are moved to the device if they fit, and the validation rows are held back.

    Parameters
    ----------
    validation
        Rows to validate with, instead of some that are held back.

    Attributes
    ----------
    feed
        The rows.
    validation
        The rows to validate with, where the user brought some.
    batch_size
        The number of rows in a step.
    steps_per_epoch
        The number of steps in an epoch. The last one is filled up where rows are missing.

    Raises
    ------
    XpnetError
        The data do not fit the network, or the settings do not fit the number of rows.
    """

    def __init__(
        self,
        model: MLP,
        examples: Examples,
        settings: Settings,
        memory: int | None = None,
        validation: Examples | None = None,
    ) -> None:
        self.model, self.settings = model, settings
        network, xp, loss = model.network, model.backend.xp, LOSSES[model.loss]
        measured = metric_names(loss.kind, model.outputs)
        if settings.monitor not in (None, *measured):
            raise UsageError(f"monitor {settings.monitor}: {model.loss} measures {', '.join(measured)}")
        dropout = dropout_rates(settings.dropout, network.depth)
        distortion = distortion_of(settings.augment, model.image_shape)
        constants: State = {}
        if dropout or distortion:
            draws = max(*network.sizes, distortion.draws if distortion else 0)
            places = min(settings.batch_size, examples.rows) * -(-draws // 4)
            host = {"seed": np.full(1, settings.seed, np.int32), "places": np.arange(places, dtype=np.int32)}
            tables = distortion.constants(np) if distortion else {}
            host |= {name: table.astype(model.dtype) for name, table in tables.items()}
            constants = {name: model.backend.asarray(array) for name, array in host.items()}
        self.feed = make_feed(
            model,
            examples,
            memory,
            batch_size=settings.batch_size,
            validation=settings.validation or 0.0,
            seed=settings.seed,
            constants=constants,
        )
        self.validation = None if validation is None else make_feed(model, validation, memory)
        self.batch_size = min(settings.batch_size, self.feed.rows)
        self.steps_per_epoch = -(-self.feed.rows // self.batch_size)
        if settings.warmup >= self.steps:
            raise XpnetError(f"warmup {settings.warmup} must be less than the {self.steps} steps of the run")
        scale = scale_of(self.feed.dtype)
        if self.validation and scale_of(self.validation.dtype) != scale:
            was = f"{self.validation.dtype}, the training rows {self.feed.dtype}"
            raise XpnetError(f"validation: its rows are {was}")
        optimizer, clip = settings.make_optimizer(), settings.clip or 0.0
        ways: dict[str, Any] = {"distortion": distortion, "total": model.backend.total()}
        self.step = TrainingStep(xp, network, loss, optimizer, scale, dropout, clip, **ways)
        self.evaluation_step = EvaluationStep(xp, network, loss, scale)

    @property
    def steps(self) -> int:
        """The number of steps in the run."""
        return self.settings.epochs * self.steps_per_epoch

    def begin(self) -> Standing:
        """Begin with a copy of the model's parameters, and with an optimizer that remembers nothing."""
        backend, parameters = self.model.backend, self.model.parameters
        memory = self.step.optimizer.memory(backend.xp, parameters)
        step = {"step": backend.asarray(np.zeros(1, dtype=np.int32))}
        return Standing(backend.copy(self.parameters(parameters)) | memory | step)

    def parameters(self, state: State) -> State:
        """Take the parameters out of a state."""
        return {name: state[name] for name in self.model.network.shapes}

    def check(self, standing: Standing, what: str) -> None:
        """Check that a standing from elsewhere fits this run.

        Raises
        ------
        XpnetError
            Its arrays are those of another network or optimizer.
        """
        needed = _forms(self.begin().state)
        best = self.parameters(needed) if standing.history.best else {}
        if (_forms(standing.state), _forms(standing.best)) != (needed, best):
            raise XpnetError(f"{what}: its arrays are not those of this network and optimizer")

    def chunks(self, order: np.ndarray, weights: np.ndarray | None = None) -> list[np.ndarray]:
        """Cut rows into batches, and these into pieces of at most `STEPS_AT_ONCE`, of about equal size.

        A batch of which every row weighs 0 is left out: it has no loss, and makes no update.
        """
        index = batches(order, self.batch_size)
        if weights is not None:
            index = index[(weights_of(index, weights) > 0).any(axis=1)]
        pieces = -(-len(index) // STEPS_AT_ONCE) or 1
        size = -(-len(index) // pieces) or 1
        return [index[start : start + size] for start in range(0, len(index), size)]

    def rates(self, first: int, count: int, factor: float = 1.0) -> np.ndarray:
        """Compute the learning rates of `count` steps, from step number `first` on, times a factor."""
        rates = learning_rates(
            np,
            np.arange(first, first + count, dtype=np.float64),
            lr=self.settings.rate * factor,
            schedule=self.settings.schedule,
            warmup=self.settings.warmup,
            steps=self.steps,
        )
        with np.errstate(over="ignore"):  # a rate too large for the dtype diverges
            return np.asarray(rates, dtype=self.model.dtype)

    def warm_up(self, state: State) -> None:
        """Let the backend compile before the clock runs, and check the compiled step on training rows."""
        backend, part = self.model.backend, self.feed.sample()
        # as many rows as a part may have, so that the shapes are those of an epoch
        rows = np.resize(part.order, min(self.feed.rows, part.data["X"].shape[0]))
        chunk = np.maximum(self.chunks(rows)[0], 0)
        counting, mine = self._counting(state, chunk, self.rates(0, len(chunk)), part)
        backend.warm_up(self.step_for(chunk), counting, mine, part.data)

    def advance(
        self, state: State, batches: np.ndarray, rates: np.ndarray, part: Part
    ) -> tuple[State, float]:
        """Take a step with each of some batches.

        Parameters
        ----------
        state
            As `begin` makes it. It is consumed.
        batches : (steps, batch_size) int32
            Row numbers, at most `STEPS_AT_ONCE` batches; see `chunks`. Several processes share out each.
        rates : (steps,)
            The learning rate of each step.
        part
            The part of the feed which the row numbers belong to.

        Returns
        -------
        state, loss
            The state after the steps, and the sum over their rows of loss times weight. It may be infinite or
            NaN; to read it, the host waits for the device.
        """
        backend = self.model.backend
        counting, mine = self._counting(state, batches, rates, part)
        after = backend.scan(self.step_for(batches), counting, mine, part.data)
        loss = float(backend.to_numpy(after["loss"])[0])
        return {name: after[name] for name in state}, loss

    def epoch(self, standing: Standing, progress: Progress) -> tuple[State, Epoch]:
        """Run the next epoch, and evaluate the network at its end.

        Returns
        -------
        state, epoch
            The state of `standing` is consumed; this is the one after the epoch.

        Raises
        ------
        DivergedError
            The loss, a parameter or the optimizer's memory is no longer finite.
        """
        state, epoch = standing.state, len(standing.history.epochs) + 1
        total, weight, step = 0.0, 0.0, (epoch - 1) * self.steps_per_epoch
        factor = self.settings.factor(standing.history)
        started = time.perf_counter()
        rng = stream(self.settings.seed, "shuffle", standing.passes + epoch)
        for part in self.feed.parts(self.feed.training, rng):
            for chunk in self.chunks(part.order, part.weights):
                state, loss = self.advance(state, chunk, self.rates(step, len(chunk), factor), part)
                step, used = step + len(chunk), int((chunk >= 0).sum())
                weighs = float(weights_of(chunk, part.weights).sum())
                if not np.isfinite(loss):
                    raise self._diverged("the loss", f"by step {step - 1}")
                total, weight = total + loss, weight + weighs
                progress.on_chunk(epoch, used, loss / weighs)
        if not weight:
            raise XpnetError("every training row weighs 0: give some of them more")
        self.model.backend.synchronize(state)
        seconds = time.perf_counter() - started
        self._check_finite(state)
        metrics = self._evaluated(self.parameters(state))
        return state, Epoch(
            epoch, float(self.rates(step - 1, 1, factor)[0]), total / weight, metrics, seconds
        )

    def _evaluated(self, parameters: State) -> dict[str, float]:
        """Measure the loss and the metrics on the validation rows and, if asked for, on the training rows."""
        found: dict[str, Iterator[Part]] = {}
        if self.settings.training_metrics:
            found["training"] = self.feed.parts(self.feed.training)
        if self.validation is not None:
            found["validation"] = self.validation.parts(self.validation.training)
        elif self.feed.held_rows:
            found["validation"] = self.feed.parts(self.feed.held)
        metrics: dict[str, float] = {}
        for name, parts in found.items():
            result = evaluate_parts(self.model, self.evaluation_step, parameters, parts)
            numbers = {"loss": result.loss, **result.metrics}
            metrics |= {f"{name}_{metric}": number for metric, number in numbers.items()}
        return metrics

    def step_for(self, batches: np.ndarray) -> TrainingStep:
        """The step for some batches: one that does not look for rows of -1, where there are none.

        A step that is recorded serves all chunks of a run, and the last may have such rows. A compiler joins
        the look with other work, so it is left in. Where several processes cannot share out a batch evenly,
        every part may have some.
        """
        backend, how = self.model.backend, self.model.backend.execution.actual
        short = (batches < 0).any() if how == "eager" else self.feed.rows % self.batch_size
        uneven = self.batch_size % backend.group.size
        return replace(self.step, padded=how == "compiled" or bool(short or uneven))

    def _counting(
        self, state: State, batches: np.ndarray, rates: np.ndarray, part: Part
    ) -> tuple[State, Array]:
        """Add the counters of a chunk of steps, and find this process's part of its batches.

        What a short chunk has for each step is filled up: all chunks have the same shapes, and are compiled
        for once.
        """
        backend, group = self.model.backend, self.model.backend.group
        by_step = {"rates": rates}
        counters = {"t": np.zeros(1, dtype=np.int32), "loss": np.zeros(1, dtype=self.model.dtype)}
        if group.size > 1:
            by_step["batch_weights"] = weights_of(batches, part.weights).sum(axis=1)
            batches = part.here(group.part(batches))
            counters["first"] = np.full(1, group.rank * batches.shape[1], dtype=np.int32)
        for name, numbers in by_step.items():
            counters[name] = np.zeros(min(STEPS_AT_ONCE, self.steps_per_epoch), dtype=self.model.dtype)
            counters[name][: len(numbers)] = numbers
        placed = {name: backend.asarray(array) for name, array in counters.items()}
        return state | placed, backend.asarray(batches)

    def _check_finite(self, state: State) -> None:
        backend, xp = self.model.backend, self.model.backend.xp
        state = {name: array for name, array in state.items() if name != "step"}  # an integer
        sums = backend.to_numpy(xp.stack([xp.sum(array) for array in state.values()]))
        for name in () if np.isfinite(sums).all() else state:  # the sum of large numbers may overflow as well
            if not np.isfinite(backend.to_numpy(state[name])).all():
                raise self._diverged(name, "at the end of an epoch")

    def check_equal(self, state: State) -> None:
        """Check that every process has the same state, to the bit.

        Raises
        ------
        XpnetError
            One has not, because its machine computes differently. All of them raise it.
        """
        backend, group = self.model.backend, self.model.backend.group
        if group.size > 1:
            host = (np.ascontiguousarray(backend.to_numpy(array)) for array in state.values())
            sums = group.all([crc32(array.data) for array in host])
            odd = [str(process) for process, found in enumerate(sums) if found != sums[0]]
            if odd:
                said = "use machines of one kind, with the same versions"
                raise XpnetError(f"process {', '.join(odd)} computes other numbers than the first: {said}")

    def _diverged(self, what: str, when: str) -> DivergedError:
        lower = lower_rate(vars(self.settings) | {"loss": self.model.loss})
        said = f"diverged: {what} is no longer finite {when} at learning rate {self.settings.lr:g}"
        scaling = ", or scale the rows" if self.step.scale == 1 and self.model.inputs is None else ""
        return DivergedError(f"{said}; give a smaller one, such as {lower:g}{scaling}")


def _forms(arrays: State) -> dict[str, tuple[object, ...]]:
    return {name: (tuple(array.shape), dtype_name(array)) for name, array in arrays.items()}
