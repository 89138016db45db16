"""Training: epochs of steps, a checkpoint after each, and when to stop."""

import os
from typing import Any

from xpnet.arguments import flag, instance
from xpnet.data.checks import check_memory
from xpnet.errors import DivergedError, UsageError
from xpnet.model import MLP
from xpnet.nn.typing import Array
from xpnet.training.checkpoint import Checkpoint, Standing
from xpnet.training.history import History
from xpnet.training.identity import identity, refuse_changes
from xpnet.training.inputs import as_array
from xpnet.training.progress import Progress
from xpnet.training.run import Run
from xpnet.training.settings import Settings, settings_of


def train(
    model: MLP,
    X: Array,
    y: Array,
    *,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    memory: int | None = None,
    **settings: Any,
) -> History:
    """Train a network by mini-batches, until it has seen every training row `epochs` times.

    `model.parameters` are new arrays after every epoch: those of its end. After the last epoch they are the
    trained ones. If the run stops before, by an error or by Ctrl-C, `model.parameters` and `model.scale` are
    again what they were before the call, and the checkpoint holds the last whole epoch.

    Parameters
    ----------
    X : (n, features)
        Rows: NumPy, moved to the network's device once, or arrays of its own library, left in place.
        Integers are divided by the largest value of their type, batch by batch; floats are left alone.
    y : (n,)
        Labels 0 … classes - 1, likewise.
    checkpoint
        A file in which the run is saved before the first step and after every epoch.
    resume
        Continue from `checkpoint`, under the same settings and with the same data. On NumPy the result then
        equals that of an unbroken run, bit for bit, on the same machine with the same number of threads. A
        run that diverged is resumed with a smaller `lr`.
    progress
        Receives reports while the run goes on.
    memory
        Bytes. NumPy rows that need more, usually mapped from a file, are not moved at once but streamed to
        the device in chunks, for which about that much memory is used. It changes the order of the rows, and
        which of them are held back, so a run is resumed with the same `memory`.
    **settings
        The fields of `xpnet.Settings`: epochs, batch_size, lr, optimizer, schedule, validation, …

    Returns
    -------
    History

    Raises
    ------
    UsageError
        An argument makes no sense.
    XpnetError
        The data do not fit, or a checkpoint cannot be written, read or resumed.
    DivergedError
        The loss or a weight became NaN or infinite.
    """
    chosen, memory = settings_of(settings), check_memory(memory)
    instance("model", model, MLP, "an xpnet.MLP")
    progress = Progress() if progress is None else progress
    instance("progress", progress, Progress, "an xpnet.Progress")
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    if flag("resume", resume) and checkpoint is None:
        raise UsageError("resume needs a checkpoint to go on from")
    X, y = as_array("X", X), as_array("y", y)
    before = model.parameters, model.scale
    try:
        with model.backend.running(model.dtype):
            run = Run.prepare(model, X, y, chosen, memory)
            standing = run.begin()
            if checkpoint:
                config = identity(run, X, y, memory)
                if resume:
                    standing = checkpoint.load()
                    refuse_changes(checkpoint.path, standing.config, config)
                    run.check(standing, checkpoint.path)
                    standing = standing.moved(model.backend.asarray)
                standing.config, standing.notes = config, standing.notes | checkpoint.config
                checkpoint.save(standing.moved(model.backend.to_numpy))
            return _epochs(run, standing, checkpoint, progress)
    except BaseException:
        model.parameters, model.scale = before
        raise


def _epochs(run: Run, standing: Standing, checkpoint: Checkpoint | None, progress: Progress) -> History:
    """Run the epochs that are missing. Arrays come to the host only where a checkpoint needs them."""
    model, settings, history = run.model, run.settings, standing.history
    progress.on_start(history, run.feed.rows, settings.epochs)
    if not _finished(history, settings):
        run.warm_up(standing.state)
    while not _finished(history, settings):
        try:
            standing.state, row = run.epoch(standing.state, len(history.epochs) + 1, progress)
        except DivergedError:
            if checkpoint:
                checkpoint.mark_diverged()
            raise
        history.epochs.append(row)
        if settings.patience and _is_best(history):
            history.best, standing.best = row.epoch, model.backend.copy(run.parameters(standing.state))
        if checkpoint:
            checkpoint.save(standing.moved(model.backend.to_numpy))
        # a copy, because the next step may write to the state
        model.parameters, model.scale = model.backend.copy(run.parameters(standing.state)), run.step.scale
        progress.on_epoch(history)
    model.parameters, model.scale = standing.best or run.parameters(standing.state), run.step.scale
    return history


def _finished(history: History, settings: Settings) -> bool:
    done = len(history.epochs)
    waited = done - history.best if history.best else 0
    return done >= settings.epochs or (settings.patience is not None and waited >= settings.patience)


def _is_best(history: History) -> bool:
    """Whether the last epoch has a better validation accuracy than the best so far."""
    score, best = history.epochs[-1].validation_accuracy or 0.0, history.best
    return best is None or score > (history.epochs[best - 1].validation_accuracy or 0.0)
