"""Training: epochs of steps, watched from the host once a chunk."""

import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data.rows import batches, split, stream
from xpnet.errors import DivergedError, UsageError, XpnetError
from xpnet.model import MLP
from xpnet.nn.schedules import learning_rates
from xpnet.nn.step import EvaluationStep, TrainingStep
from xpnet.nn.typing import Array, State
from xpnet.training.checkpoint import Checkpoint, Standing
from xpnet.training.evaluation import evaluate_rows
from xpnet.training.history import Epoch, History
from xpnet.training.inputs import as_array, move_data, training_scale
from xpnet.training.settings import Settings

CHUNK = 128
"""At most so many steps run between two looks from the host."""

MOST_STEPS = 2**31 - 1
"""The step count in the state is an int32, because JAX has no int64 beside float32."""


class Progress:
    """What a training run tells while it runs. Override what you want to hear."""

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        """Before the first step: the epochs already done, the rows of an epoch, and all epochs."""

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        """After some steps of an epoch: their rows, and the mean loss over them."""

    def on_epoch(self, history: History) -> None:
        """After an epoch and its checkpoint."""


def train(
    model: MLP,
    X: Array,
    y: Array,
    *,
    checkpoint: Checkpoint | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> History:
    """Teach a network, by mini-batches, until it has seen every training row `epochs` times.

    At the end `model.parameters` are the trained ones, new arrays. If the run stops before, by an error or
    by Ctrl-C, they are as they were, and the checkpoint holds the last whole epoch.

    Parameters
    ----------
    X : (n, features)
        Rows: NumPy, moved to the network's device once, or arrays of its own library, left in place.
        Integers are divided by the largest value of their type, batch by batch; floats are left alone.
    y : (n,)
        Labels 0 … classes - 1, likewise.
    checkpoint
        Where to save the run's standing, before the first step and after every epoch.
    resume
        Go on from `checkpoint`. On NumPy the result is then that of an unbroken run, bit for bit, on the
        same machine with the same number of threads.
    progress
        Is told how it goes.
    **settings
        The fields of `xpnet.Settings`: epochs, batch_size, lr, optimizer, schedule, validation, …

    Returns
    -------
    History

    Raises
    ------
    UsageError
        Settings that cannot be meant.
    XpnetError
        Data that do not fit, a checkpoint that cannot be written, read or resumed.
    DivergedError
        The loss or a weight became NaN or infinite.
    """
    chosen = Settings(**settings)
    progress = progress or Progress()
    X, y = as_array(X), as_array(y)
    with model.backend.running(model.dtype):
        run = _Run.prepare(model, X, y, chosen)
        config = _config(model, X, y, chosen)
        if resume:
            if checkpoint is None:
                raise UsageError("resume needs a checkpoint to go on from")
            told = checkpoint.config
            standing = checkpoint.load()
            checkpoint.config |= told
            _refuse_changes(checkpoint, config)
            run.check(standing, checkpoint.path)
        else:
            standing = Standing(run.initial_state())
        if checkpoint:
            checkpoint.config |= config
            checkpoint.save(standing)

        state = {name: model.backend.asarray(array) for name, array in standing.state.items()}
        history = standing.history
        progress.on_start(history, len(run.training_rows), chosen.epochs)
        if not _finished(history, chosen):
            run.warm_up(state)
        while not _finished(history, chosen):
            epoch = len(history.epochs) + 1
            state, row = run.epoch(state, epoch, progress)
            history.epochs.append(row)
            standing.state = run.to_host(state)
            if chosen.patience and _is_best(history):
                history.best = epoch
                standing.best = {name: standing.state[name] for name in model.parameters}
            if checkpoint:
                checkpoint.save(standing)
            progress.on_epoch(history)

        kept = standing.best or standing.state
        model.parameters = {name: model.backend.asarray(kept[name]) for name in model.parameters}
        model.scale = run.step.scale
    return history


@dataclass
class _Run:
    """What stays the same through all epochs of one run."""

    model: MLP
    settings: Settings
    data: State
    training_rows: np.ndarray
    validation_rows: np.ndarray
    batch_size: int
    rates: np.ndarray
    step: TrainingStep
    evaluation_step: EvaluationStep

    @classmethod
    def prepare(cls, model: MLP, X: Array, y: Array, settings: Settings) -> "_Run":
        backend, xp = model.backend, model.backend.xp
        data = move_data(model, X, y)
        rows = np.arange(data["y"].shape[0], dtype=np.int32)
        held = rows[:0]
        if settings.validation:
            labels = backend.to_numpy(data["y"])
            rows, held = split(labels, settings.validation, stream(settings.seed, "validation"))
            if len(held) == 0:
                raise XpnetError(
                    f"validation {settings.validation} of {len(rows)} rows holds none back: give more, or 0"
                )

        batch_size = min(settings.batch_size, len(rows))
        steps = settings.epochs * -(-len(rows) // batch_size)
        if steps > MOST_STEPS:
            raise XpnetError(f"{settings.epochs} epochs are {steps} steps: more than can be counted")
        if settings.warmup >= steps:
            raise XpnetError(f"warmup {settings.warmup} must be less than the {steps} steps of the run")
        rates = learning_rates(
            np,
            np.arange(steps, dtype=np.float64),
            lr=settings.rate,
            schedule=settings.schedule,
            warmup=settings.warmup,
            steps=steps,
        )
        with np.errstate(over="ignore"):  # a rate too large for the dtype is one that diverges
            rates = rates.astype(model.dtype)
        data["rates"] = backend.asarray(rates)

        scale = training_scale(data["X"])
        step = TrainingStep(xp, model.network, settings.make_optimizer(), scale)
        evaluation_step = EvaluationStep(xp, model.network, scale)
        return cls(model, settings, data, rows, held, batch_size, rates, step, evaluation_step)

    def initial_state(self) -> dict[str, np.ndarray]:
        """The model's parameters, an optimizer that remembers nothing, and step 0; on the host."""
        model = self.model
        memory = self.step.optimizer.memory(model.backend.xp, model.parameters)
        state = {name: model.backend.to_numpy(array) for name, array in (model.parameters | memory).items()}
        return state | {"t": np.zeros(1, dtype=np.int32)}

    def check(self, standing: Standing, path: Path) -> None:
        """Check that a standing that was read is one of this run."""
        expected = {name: array.shape for name, array in self.initial_state().items()}
        if {name: array.shape for name, array in standing.state.items()} != expected:
            raise XpnetError(f"{path}: its arrays are not those of this network and optimizer")
        if bool(standing.history.best) != bool(standing.best):
            raise XpnetError(f"{path}: it says that it keeps the best weights, and does not")

    def to_host(self, state: State) -> dict[str, np.ndarray]:
        """Copy what outlives an epoch to the host, and see that it is finite."""
        host = {name: np.array(self.model.backend.to_numpy(a)) for name, a in state.items() if name != "loss"}
        for name, array in host.items():
            if not np.isfinite(array).all():
                raise DivergedError(self._diverged(name, int(host["t"][0]) - 1))
        return host

    def chunks(self, order: np.ndarray) -> list[np.ndarray]:
        """The batches of an epoch, cut into as few pieces as `CHUNK` allows, as equal as can be."""
        index = batches(order, self.batch_size)
        pieces = -(-len(index) // CHUNK)
        size = -(-len(index) // pieces)
        return [index[start : start + size] for start in range(0, len(index), size)]

    def warm_up(self, state: State) -> None:
        """Let the backend compile for every size of chunk that is to come."""
        backend = self.model.backend
        for chunk in {len(chunk): chunk for chunk in self.chunks(self.training_rows)}.values():
            backend.warm_up(self.step, self._counting(state), backend.asarray(chunk), self.data)

    def epoch(self, state: State, epoch: int, progress: Progress) -> tuple[State, Epoch]:
        """Run one epoch, and evaluate the network on the validation rows."""
        backend = self.model.backend
        total = 0.0
        started = time.perf_counter()
        order = stream(self.settings.seed, "shuffle", epoch).permutation(self.training_rows)
        for chunk in self.chunks(order):
            state = backend.scan(self.step, self._counting(state), backend.asarray(chunk), self.data)
            loss, rows = float(backend.to_numpy(state["loss"])[0]), int((chunk >= 0).sum())
            if not np.isfinite(loss):
                raise DivergedError(self._diverged("the loss", int(backend.to_numpy(state["t"])[0]) - 1))
            total += loss
            progress.on_chunk(epoch, rows, loss / rows)
        backend.synchronize(state)
        seconds = time.perf_counter() - started

        validation = None
        if len(self.validation_rows):
            parameters = {name: state[name] for name in self.model.parameters}
            validation = evaluate_rows(
                self.model, self.evaluation_step, parameters, self.data, self.validation_rows
            )
        return state, Epoch(
            epoch=epoch,
            lr=float(self.rates[epoch * len(self.rates) // self.settings.epochs - 1]),
            loss=total / len(self.training_rows),
            validation_loss=validation.loss if validation else None,
            validation_accuracy=validation.accuracy if validation else None,
            seconds=seconds,
        )

    def _counting(self, state: State) -> State:
        """The state with a running loss of zero."""
        return state | {"loss": self.model.backend.asarray(np.zeros(1, dtype=self.model.dtype))}

    def _diverged(self, what: str, step: int) -> str:
        return (
            f"diverged: {what} is no longer finite by step {step} at learning rate {self.settings.lr:g}; "
            "give a smaller one"
        )


def _finished(history: History, settings: Settings) -> bool:
    done = len(history.epochs)
    waited = done - history.best if history.best else 0
    return done >= settings.epochs or (settings.patience is not None and waited >= settings.patience)


def _is_best(history: History) -> bool:
    """Whether the last epoch has the best validation accuracy, alone."""
    scores = [row.validation_accuracy or 0.0 for row in history.epochs]
    return scores[-1] > max(scores[:-1], default=-1.0)


def _config(model: MLP, X: Array, y: Array, settings: Settings) -> dict[str, Any]:
    """Everything that the bits of a run depend on, except the number of threads."""
    return asdict(settings) | {
        "sizes": list(model.network.sizes),
        "activation": model.network.activation,
        "dtype": model.dtype,
        "backend": model.backend.name,
        "device": model.backend.device,
        "rows": f"{tuple(X.shape)} {_fingerprint(X)} {_fingerprint(y)}",
    }


def _fingerprint(array: Array) -> str:
    """A checksum of host data; data on a device are taken on trust rather than moved."""
    return (
        f"{zlib.crc32(np.ascontiguousarray(array).data):08x}" if isinstance(array, np.ndarray) else "device"
    )


def _refuse_changes(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Raise where a run is resumed with other settings than it had; more epochs may be allowed."""
    for name, now in config.items():
        before = checkpoint.config.get(name)
        if before == now or (name == "epochs" and config["schedule"] == "constant" and now > before):
            continue
        if name == "rows":
            raise XpnetError(f"{checkpoint.path}: the data are not those that the run began with")
        hint = "; epochs can only be added, and to a constant schedule" if name == "epochs" else ""
        raise XpnetError(f"{checkpoint.path}: {name} was {before}, not {now}: resume with the same{hint}")
