"""`xpnet train`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from xpnet import __version__
from xpnet.backends import get_backend
from xpnet.cli.folder import CHECKPOINT, HISTORY, MODEL, claimed, way_on
from xpnet.cli.options import MEMORY, PLACE, Command, class_weights, names, option, rates, sizes
from xpnet.cli.progress import Lines, say
from xpnet.cli.tables import place, print_table, shown
from xpnet.data import load_data
from xpnet.errors import DivergedError, UsageError, XpnetError
from xpnet.files import append_line, status, write_atomically, write_json
from xpnet.model import DTYPES, MLP
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.losses import LOSSES
from xpnet.nn.optimizers import OPTIMIZERS
from xpnet.nn.schedules import SCHEDULES
from xpnet.schema import WHOLE, check
from xpnet.training import Checkpoint, Evaluation, History, Settings, check_evaluation, evaluate
from xpnet.training import train as train_model
from xpnet.training.checkpoint import Standing
from xpnet.training.settings import METRICS, settings_of

DEFAULT = Settings()

NOTES = {
    "data": str,
    "threads": (None, WHOLE),
    "cpu_threads": (None, WHOLE),
    "class_weight": (None, "balanced", dict),
}
"""What the checkpoint of a run holds besides the settings of the training."""


def setting(name: str, text: str, kind: Any = None) -> click.Option:
    """Make the option of a field of `Settings`, which has its default and, unless given another, its type."""
    default = getattr(DEFAULT, name)
    return option("--" + name.replace("_", "-"), text, kind or type(default), default)


GROUPS = {
    "Data": (
        option(
            "--data",
            "MNIST, or x_train, y_train, x_test, y_test in one .npz, as .npy files or as IDX files.",
            default="mnist",
            metavar="mnist|PATH",
        ),
        MEMORY,
        setting("validation", "Fraction of the training rows held back for validation; 0 for none."),
        option("--standardize", "Scale each column of the rows to mean 0 and deviation 1.", is_flag=True),
    ),
    "Network": (
        option("--hidden", "Sizes of the hidden layers: 512,512 for two layers.", sizes, "128"),
        option("--activation", f"For hidden layers: {', '.join(ACTIVATIONS)}; or relu,tanh.", names, "relu"),
        option("--loss", "What the network is trained for.", LOSSES, "cross-entropy"),
        option("--dtype", "Type of the weights.", DTYPES, "float32"),
    ),
    "Training": (
        setting("epochs", "Passes over the training rows."),
        setting("batch_size", "Rows in a step."),
        setting("lr", "Learning rate.  [default: 0.001; sgd: by loss, such as 0.5 (1 - momentum)]", float),
        setting("optimizer", "How weights follow from gradients.", OPTIMIZERS),
        setting("momentum", "Momentum of sgd."),
        option("--nesterov", "Use Nesterov's momentum.", is_flag=True),
        setting("beta1", "Decay of the mean of the gradient, for adam and adamw."),
        setting("beta2", "Decay of the mean of its square."),
        setting("epsilon", "Is added to the root of that mean."),
        option("--weight-decay", "Decay of every weight in a step.  [default: 0; 0.01 for adamw]", float),
        option("--clip", "Largest norm of the gradient of a batch.", float, metavar="NORM"),
        option("--dropout", "Share of units left out: 0.2 hidden; 0.1,0.5 input, hidden.", rates),
        option("--class-weight", "Weights of classes: balanced, or 0=1,1=5; others weigh 1.", class_weights),
        setting("schedule", "Fall of the learning rate; plateau: when --monitor stops improving.", SCHEDULES),
        setting("warmup", "Steps in which the learning rate rises at the start."),
        setting("patience", "Stop after so many epochs without a better one; keep the best weights.", int),
        setting("monitor", "What counts as better.  [default: accuracy, or loss for numbers]", METRICS),
        option("--training-metrics", "Measure the metrics of the training rows too.", is_flag=True),
        setting("seed", "Seed of the initial weights and of the order of the rows."),
    ),
    "Where and how to compute": PLACE,
    "Run": (
        option("--out", "A new folder.  [default: in runs/]", click.Path(path_type=Path), metavar="DIR"),
        option("--resume", "Resume the run in --out, with the options that it had.", is_flag=True),
        option("--quiet", "Show no progress.", is_flag=True),
    ),
}


@click.command(cls=Command, groups=GROUPS)
@click.pass_context
def train(ctx: click.Context, /, out: Path | None, resume: bool, quiet: bool, **options: Any) -> None:
    """Train a network, and write it into the folder of a run.

    The folder receives model.safetensors, history.csv, config.json, summary.json, and checkpoint.safetensors,
    from which --resume continues whatever stopped the run.
    """
    given = {n for n in options if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE}
    stored = _stored(out) if resume else {}
    options |= {name: stored[name] for name in stored.keys() & options.keys() - given}
    try:
        chosen = {name: options[name] for name in asdict(DEFAULT) if options[name] is not None}
        settings = settings_of(chosen, options["loss"])
        backend = get_backend(**{str(option.name): options[str(option.name)] for option in PLACE})
    except UsageError as error:
        if given:
            raise
        raise XpnetError(f"{out}: the settings of the run are damaged: {error}") from error
    notes = {name: options[name] for name in ("data", "threads", "class_weight")}
    notes["cpu_threads"] = backend.threads() if backend.device == "cpu" else None
    if resume:
        _compare(out, stored, notes)

    with claimed(out, resume=resume) as folder:
        data = load_data(options["data"], memory=options["memory"], targets=LOSSES[options["loss"]].kind.name)
        units = (data.features, *options["hidden"], data.outputs)
        described = {name: options[name] for name in ("activation", "loss", "dtype")}
        model = MLP(units, seed=settings.seed, backend=backend, **described)
        test = (model, data.X_test, data.y_test)
        try:
            check_evaluation(*test, memory=options["memory"])
        except XpnetError as error:  # now rather than after the last epoch
            raise XpnetError(f"the test rows: {error}") from error
        if notes["data"] != "mnist":
            notes["data"] = str(Path(notes["data"]).resolve())
        try:
            history = train_model(
                model,
                data.X_train,
                data.y_train,
                checkpoint=_RunCheckpoint(folder / CHECKPOINT, notes),
                resume=resume,
                progress=None if quiet else Lines(),
                memory=options["memory"],
                class_weight=by_number(options["class_weight"]),
                standardize=options["standardize"],
                **asdict(settings),
            )
        except DivergedError as error:
            raise DivergedError(f"{error}; {way_on(folder)}") from error
        model.save(folder / MODEL)
        try:
            result = evaluate(*test, memory=options["memory"])
        except XpnetError as error:
            raise XpnetError(f"the test rows: {error} (the network is kept in {folder / MODEL})") from error
        _write_summary(folder, model, history, result, settings.seed)
    _print_results(folder, model, history, result)


def _stored(out: Path | None) -> dict[str, Any]:
    """Read the options of a run that is to be resumed, and what else its checkpoint notes."""
    if out is None:
        raise UsageError("--resume needs --out DIR, the folder of the run to resume")
    if status(out / CHECKPOINT) is None:
        raise XpnetError(
            f"{out}: no run to resume, for there is no {CHECKPOINT}; to begin one, omit --resume"
        )
    stored = Checkpoint(out / CHECKPOINT).load_config()
    check(stored, NOTES, f"{out}: not a run of `xpnet train`")
    return stored | {"hidden": tuple(stored["sizes"][1:-1])}


def _compare(out: Path | None, stored: dict[str, Any], notes: dict[str, Any]) -> None:
    """Compare what the library's checkpoint does not know with what it was when the run began."""
    was, threads = stored["class_weight"], stored["cpu_threads"]
    if was != notes["class_weight"]:
        raise XpnetError(f"{out}: class_weight was {was}, not {notes['class_weight']}: resume with the same")
    if threads != notes["cpu_threads"]:
        now = f"resumes with {notes['cpu_threads']}: its last bits may differ"
        say(f"xpnet: note: this run began with {threads} CPU thread(s) and {now}")


def by_number(weights: str | dict[str, float] | None) -> str | dict[int | str, float] | None:
    """Name classes by their numbers, where these are what the names are."""
    if not isinstance(weights, dict):
        return weights
    return {int(name) if name.isdecimal() else name: weight for name, weight in weights.items()}


class _RunCheckpoint(Checkpoint):
    """The checkpoint of a run, which keeps config.json and history.csv beside it."""

    rows: int | None = None

    def save(self, standing: Standing) -> None:
        """Write the three files."""
        super().save(standing)
        folder, history = self.path.parent, standing.history
        if self.rows is None:
            config = standing.notes | standing.config
            write_json(folder / "config.json", {"xpnet": __version__, **dict(sorted(config.items()))})
        if not self.rows:  # all rows, because a run that was killed may have left fewer
            write_atomically(folder / HISTORY, history.csv().encode(), parents=False)
        elif len(history.epochs) > self.rows:
            append_line(folder / HISTORY, History(history.epochs[-1:]).csv().splitlines(keepends=True)[1])
        self.rows = len(history.epochs)


def _print_results(folder: Path, model: MLP, history: History, result: Evaluation) -> None:
    epochs = f"{len(history.epochs)} epoch{'s' if len(history.epochs) > 1 else ''}"
    best = f", the best of them {history.best}" if history.best else ""
    facts = [
        *((f"test {name}", shown(name, value)) for name, value in result.metrics.items()),
        ("test loss", shown("loss", result.loss)),
        ("training", f"{history.train_seconds:.2f} s for {epochs}{best}"),
        ("network", str(model.network)),
        ("parameters", f"{model.network.size:,}"),
    ]
    print_table([*facts, *place(model), ("folder", str(folder))])


def _write_summary(folder: Path, model: MLP, history: History, result: Evaluation, seed: int) -> None:
    backend, kept = model.backend, history.epochs[(history.best or 0) - 1]
    summary = {
        **{f"test_{name}": value for name, value in result.metrics.items()},
        "test_loss": result.loss,
        **{f"validation_{name}": kept.metrics.get(f"validation_{name}") for name in result.metrics},
        "train_seconds": history.train_seconds,
        "epochs": len(history.epochs),
        "best_epoch": history.best,
        "backend": backend.name,
        "library_version": backend.version(),
        "device": backend.device,
        "threads": backend.threads() if backend.device == "cpu" else None,
        "dtype": model.dtype,
        "precision": backend.precision,
        "execution": asdict(backend.execution),
        "seed": seed,
        "parameters": model.network.size,
        "xpnet": __version__,
    }
    write_json(folder / "summary.json", summary)
