"""Training: epochs of steps, a checkpoint after each, and when to stop."""

import os
from typing import Any

from xpnet.arguments import brief, flag, instance
from xpnet.data.checks import check_memory
from xpnet.errors import DivergedError, UsageError
from xpnet.model import MLP
from xpnet.nn.losses import LOSSES
from xpnet.nn.typing import State
from xpnet.scaling import Columns
from xpnet.training.checkpoint import Checkpoint, Standing
from xpnet.training.history import History
from xpnet.training.identity import identity, refuse_changes, refuse_differences
from xpnet.training.inputs import Examples, columns_of, enter
from xpnet.training.progress import Progress
from xpnet.training.run import Run
from xpnet.training.settings import Settings, settings_of


def train(
    model: MLP,
    X: Any,
    y: Any,
    *,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    memory: int | None = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    validation: Any = 0.1,
    start: Standing | None = None,
    standardize: bool = False,
    **settings: Any,
) -> History:
    """Train a network by mini-batches, until it has seen every training row `epochs` times.

    `model.parameters` are new arrays after every epoch: those of its end. After the last epoch they are the
    trained ones. If the run stops before, by an error or by Ctrl-C, `model.parameters` and `model.scale` are
    again what they were before the call, and the checkpoint holds the last whole epoch.

    Parameters
    ----------
    X : (n, features)
        Rows: an array or frame on the host, which is moved to the network's device once, or an array that is
        on that device. Integers are divided by the largest value of their type, batch by batch; floats are
        left alone.
    y : (n,) or (n, k)
        Targets: class numbers or names, labels 0 and 1, or numbers in their own units. Numbers are scaled to
        mean 0 and standard deviation 1 (counts to mean 1) for the steps; `model.targets` keeps the scale,
        which is computed from all rows, with those that a fraction `validation` holds back.
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
    sample_weight : (n,)
        Weights of the rows, 0 or more, for training and validation; default: 1.
    class_weight
        "balanced": every class weighs the same in sum. Or the weight of each class, by its name or number;
        default: 1. They multiply those of the rows.
    validation
        The fraction of the rows that is held back to validate the network, or rows for it: (X, y) or
        (X, y, sample_weight).
    start
        `History.standing` of another run of this network, to go on from: with the parameters, the
        optimizer's memory and the place in the order of the rows that it had at its end. Columns keep the
        scale that they had.
    standardize
        Scale the columns of X to mean 0 and standard deviation 1; `model.inputs` keeps the scale. Like that
        of the targets, it is computed from all rows.
    **settings
        The other fields of `xpnet.Settings`: epochs, batch_size, lr, optimizer, schedule, …

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
    instance("model", model, MLP, "an xpnet.MLP")
    brought = validation if isinstance(validation, tuple | list) else None
    if validation is None or (brought is not None and len(brought) not in (2, 3)):
        wanted = "a fraction, (X, y) or (X, y, sample_weight)"
        raise UsageError(f"validation must be {wanted}, not {brief(validation)}")
    settings["validation"] = None if brought else validation
    chosen, memory = settings_of(settings, model.loss), check_memory(memory)
    instance("start", start, (Standing, type(None)), "the standing of a history")
    progress = Progress() if progress is None else progress
    instance("progress", progress, Progress, "an xpnet.Progress")
    if checkpoint is not None and not isinstance(checkpoint, Checkpoint):
        checkpoint = Checkpoint(checkpoint)
    if flag("resume", resume) and checkpoint is None:
        raise UsageError("resume needs a checkpoint to go on from")
    before = {name: getattr(model, name) for name in ("parameters", "scale", "inputs", "targets")}
    try:
        with model.backend.running(model.dtype):
            examples = enter(model, X, y, sample_weight, class_weight, taught=True)
            if start is None:
                _scale_columns(model, examples, flag("standardize", standardize))
            elif (model.kind == "numbers" and not model.targets) or (standardize and not model.inputs):
                known = "which knows how it scaled columns"
                raise UsageError(f"start: go on with the network of that run, {known}")
            held = brought and enter(model, *brought, names="X_val y_val sample_weight_val")
            run = Run(model, examples, chosen, memory, held or None)
            standing = _begin(run, start, checkpoint, resume, memory)
            return _epochs(run, standing, checkpoint, progress)
    except BaseException:
        for name, value in before.items():
            setattr(model, name, value)
        raise


def _scale_columns(model: MLP, examples: Examples, standardize: bool) -> None:
    """Find out how to scale the columns of the rows, if asked to, and targets that are numbers."""
    model.inputs = columns_of(model, examples) if standardize else None
    model.targets = None
    if model.kind == "numbers":
        centred = not LOSSES[model.loss].positive
        model.targets = Columns.of(examples.y, examples.weights, centred=centred)


def _begin(
    run: Run, start: Standing | None, checkpoint: Checkpoint | None, resume: bool, memory: int | None
) -> Standing:
    """Begin anew, or where another run ended, or where the checkpoint is; and write the checkpoint."""
    backend, group = run.model.backend, run.model.backend.group
    config = identity(run, memory) if checkpoint or group.size > 1 else {}
    refuse_differences(group.all(config))

    def begun() -> Standing:
        if start is None:
            standing = run.begin()
        else:
            run.check(start, "start")
            standing = Standing(backend.copy(start.state), passes=start.passes)
        if checkpoint:
            if resume:
                standing = checkpoint.load()
                refuse_changes(checkpoint.path, standing.config, config)
                run.check(standing, str(checkpoint.path))
                standing = standing.moved(backend.asarray)
            standing.config, standing.notes = config, standing.notes | checkpoint.config
            checkpoint.save(standing.moved(backend.to_numpy))
        return standing

    if group.size == 1:
        return begun()
    return group.first(lambda: begun().moved(backend.to_numpy)).moved(backend.asarray)


def _epochs(run: Run, standing: Standing, checkpoint: Checkpoint | None, progress: Progress) -> History:
    """Run the epochs that are missing. Arrays come to the host only where a checkpoint needs them."""
    backend, settings, history = run.model.backend, run.settings, standing.history

    def told() -> bool:
        if checkpoint:
            checkpoint.save(standing.moved(backend.to_numpy))
        return bool(progress.on_epoch(history))

    progress.on_start(history, run.feed.rows, settings.epochs)
    ended = _finished(history, settings)
    if not ended:
        run.warm_up(standing.state)
    while not ended:
        try:
            standing.state, row = run.epoch(standing, progress)
            run.check_equal(standing.state)
        except DivergedError:
            if checkpoint:
                checkpoint.mark_diverged()
            raise
        history.epochs.append(row)
        if settings.patience and _is_best(history, settings):
            history.best, standing.best = row.epoch, backend.copy(run.parameters(standing.state))
        _hand_out(run, standing, run.parameters(standing.state))
        ended = backend.group.first(told) or _finished(history, settings)
    _hand_out(run, standing, standing.best or run.parameters(standing.state))
    return history


def _hand_out(run: Run, standing: Standing, parameters: State) -> None:
    """Give the model parameters, and the history what another run needs to go on from here."""
    # copies, because the next step, or another run that goes on from here, may write to the state
    run.model.parameters, run.model.scale = run.model.backend.copy(parameters), run.step.scale
    # this does not refer to the history that refers to it
    passes = standing.passes + len(standing.history.epochs)
    standing.history.standing = Standing(standing.state, passes=passes)


def _finished(history: History, settings: Settings) -> bool:
    done = len(history.epochs)
    waited = done - history.best if history.best else 0
    return done >= settings.epochs or (settings.patience is not None and waited >= settings.patience)


def _is_best(history: History, settings: Settings) -> bool:
    """Whether the last epoch has a better monitored metric than the best so far."""
    score, best = settings.score(history.epochs[-1]), history.best
    return best is None or score > settings.score(history.epochs[best - 1])
