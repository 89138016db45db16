"""Training: epochs of steps, a checkpoint after each, and when to stop."""

import zlib
from dataclasses import asdict, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data.checks import check_memory
from xpnet.data.mapped import release
from xpnet.errors import UsageError, XpnetError
from xpnet.model import MLP
from xpnet.nn.typing import Array
from xpnet.training.checkpoint import Checkpoint, Standing
from xpnet.training.history import History
from xpnet.training.inputs import as_array
from xpnet.training.progress import Progress
from xpnet.training.run import Run
from xpnet.training.settings import Settings

SAMPLE, SAMPLES = 2**18, 512
"""Bytes in a piece, and at least so many pieces, by which data are known again: all of them below 256 MB."""

CHANGEABLE = ("execution",)
"""What may be another when a run goes on: should a recorded step fail, eager ones are the way out."""


def train(
    model: MLP,
    X: Array,
    y: Array,
    *,
    checkpoint: Checkpoint | str | Path | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    memory: int | None = None,
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
        Where to save the run's standing, before the first step and after every epoch: a file.
    resume
        Go on from `checkpoint`. On NumPy the result is then that of an unbroken run, bit for bit, on the
        same machine with the same number of threads.
    progress
        Is told how it goes.
    memory
        Bytes. NumPy rows that need more, mapped from a file as a rule, are not moved at once but streamed to
        the device in chunks, for which about so much is used. It changes the order of the rows, and which are
        held back, so a run is resumed with the same.
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
    chosen, memory = _settings(settings), check_memory(memory)
    progress = progress or Progress()
    if isinstance(checkpoint, str | Path):
        checkpoint = Checkpoint(checkpoint)
    X, y = as_array(X), as_array(y)
    with model.backend.running(model.dtype):
        run = Run.prepare(model, X, y, chosen, memory)
        standing = _begin(run, checkpoint, resume, _config(run, X, y, memory) if checkpoint else {})
        state = {name: model.backend.asarray(array) for name, array in standing.state.items()}
        history = standing.history
        progress.on_start(history, run.feed.rows, chosen.epochs)
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


def _begin(run: Run, checkpoint: Checkpoint | None, resume: bool, config: dict[str, Any]) -> Standing:
    """Where the run stands before its next epoch: at its start, or at its checkpoint; and save that."""
    if not resume:
        standing = Standing(run.initial_state())
    elif checkpoint is None:
        raise UsageError("resume needs a checkpoint to go on from")
    else:
        told = checkpoint.config
        standing = checkpoint.load()
        checkpoint.config |= told
        _refuse_changes(checkpoint, config)
        run.check(standing, checkpoint.path)
    if checkpoint:
        checkpoint.config |= config
        checkpoint.save(standing)
    return standing


def _finished(history: History, settings: Settings) -> bool:
    done = len(history.epochs)
    waited = done - history.best if history.best else 0
    return done >= settings.epochs or (settings.patience is not None and waited >= settings.patience)


def _is_best(history: History) -> bool:
    """Whether the last epoch has the best validation accuracy, alone."""
    scores = [row.validation_accuracy or 0.0 for row in history.epochs]
    return scores[-1] > max(scores[:-1], default=-1.0)


def _settings(given: dict[str, Any]) -> Settings:
    """Settings from keywords; a misspelt one is named."""
    known = [field.name for field in fields(Settings)]
    for name in given.keys() - set(known):
        near = get_close_matches(name, known, 1, cutoff=0.4) or known
        raise UsageError(f"unknown setting {name!r}: did you mean {', '.join(near)}?")
    return Settings(**given)


def _config(run: Run, X: Array, y: Array, memory: int | None) -> dict[str, Any]:
    """Everything that the bits of a run depend on, except the number of threads."""
    model = run.model
    return asdict(run.settings) | {
        "sizes": list(model.network.sizes),
        "activation": model.network.activation,
        "dtype": model.dtype,
        "backend": model.backend.name,
        "device": model.backend.device,
        "precision": model.backend.precision,
        "execution": model.backend.execution.asked,
        "scale": run.step.scale,
        "memory": memory,
        "rows": f"{tuple(X.shape)} {X.dtype} {_fingerprint(X)} {_fingerprint(y)}",
    }


def _fingerprint(array: Array) -> str:
    """A checksum of host data; data on a device are taken on trust rather than moved.

    Of twice as many pieces as `SAMPLES` or more it takes every second, third, …, from beginning to end.
    """
    if not isinstance(array, np.ndarray):
        return "device"
    rows = max(1, SAMPLE // max(1, array.nbytes // len(array)))
    starts = range(0, len(array), rows)
    checksum = 0
    for start in starts[:: max(1, len(starts) // SAMPLES)]:
        piece = array[start : start + rows]
        checksum = zlib.crc32(np.ascontiguousarray(piece).data, checksum)
        release(piece)
    return f"{checksum:08x}"


def _refuse_changes(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """Raise where a run is resumed with other settings than it had; more epochs may be allowed."""
    for name, now in config.items():
        before = checkpoint.config.get(name)
        if (
            before == now
            or name in CHANGEABLE
            or (name == "epochs" and config["schedule"] == "constant" and now > before)
        ):
            continue
        if name == "rows":
            raise XpnetError(f"{checkpoint.path}: the data are not those that the run began with")
        hint = "; epochs can only be added, and to a constant schedule" if name == "epochs" else ""
        raise XpnetError(f"{checkpoint.path}: {name} was {before}, not {now}: resume with the same{hint}")
