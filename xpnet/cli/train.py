"""`xpnet train`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from xpnet import __version__
from xpnet.backends import get_backend
from xpnet.cli.folder import CHECKPOINT, HISTORY, MODEL, claimed, resume_command
from xpnet.cli.options import MEMORY, PLACE, Command, class_weights, names, option, rates, sizes
from xpnet.cli.progress import Lines, say
from xpnet.cli.tables import place, print_table, shown
from xpnet.data import load_data
from xpnet.errors import DivergedError, UsageError, XpnetError
from xpnet.files import append_line, write_atomically, write_json
from xpnet.model import DTYPES, MLP
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
        option(
            "--activation",
            "Activation of the hidden layers: relu, tanh, sigmoid, identity; relu,tanh for two layers.",
            names,
            "relu",
        ),
        option("--loss", "What the network is trained for.", LOSSES, "cross-entropy"),
        option("--dtype", "Type of the weights.", DTYPES, "float32"),
    ),
    "Training": (
        setting("epochs", "Passes over the training rows."),
        setting("batch_size", "Rows in a step."),
        option(
            "--lr",
            "Learning rate.  [default: for sgd that of the loss, such as 0.5 (1 - momentum); else 0.001]",
            float,
        ),
        setting("optimizer", "How weights follow from gradients.", OPTIMIZERS),
        setting("momentum", "Momentum of sgd."),
        option("--nesterov", "Use Nesterov's momentum.", is_flag=True),
        option(
            "--weight-decay", "How much every weight decays in a step.  [default: 0; 0.01 for adamw]", float
        ),
        option("--clip", "Largest norm of the gradient of a batch.", float, metavar="NORM"),
        option(
            "--dropout",
            "Share of units left out: 0.2 of the hidden layers; 0.1,0.5 of the input and the hidden layers.",
            rates,
            metavar="RATES",
        ),
        option(
            "--class-weight",
            "Weights of the classes in the loss: balanced, or 0=1,1=5; others weigh 1.",
            class_weights,
            metavar="balanced|NAME=W,…",
        ),
        setting(
            "schedule", "How the learning rate falls; plateau: when --monitor stops improving.", SCHEDULES
        ),
        setting("warmup", "Steps in which the learning rate rises at the start."),
        option("--patience", "Stop after so many epochs without a better validation; keep the best.", int),
        option(
            "--monitor",
            "Metric of the validation that counts as better.  [default: accuracy, or loss for numbers]",
            METRICS,
        ),
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
    stored: dict[str, Any] = {}
    if resume:
        if out is None:
            raise UsageError("--resume needs --out DIR, the folder of the run to resume")
        stored = Checkpoint(out / CHECKPOINT).load_config()
        check(stored, NOTES, f"{out}: not a run of `xpnet train`")
        stored["hidden"] = tuple(stored["sizes"][1:-1])
        options |= {name: stored[name] for name in options.keys() - given}
    try:
        chosen = {name: options[name] for name in asdict(DEFAULT) if options.get(name) is not None}
        settings = settings_of(chosen, options["loss"])
        backend = get_backend(**{str(option.name): options[str(option.name)] for option in PLACE})
    except UsageError as error:
        raise (
            error if given else XpnetError(f"{out}: the settings of the run are damaged: {error}")
        ) from error
    memory, source = options["memory"], options["data"]
    cpu_threads = backend.threads() if backend.device == "cpu" else None
    if resume and stored["cpu_threads"] != cpu_threads:
        began = f"began with {stored['cpu_threads']} CPU thread(s) and resumes with {cpu_threads}"
        say(f"xpnet: note: this run {began}: its last bits may differ")

    if resume and stored["class_weight"] != options["class_weight"]:
        was = stored["class_weight"]
        raise XpnetError(
            f"{out}: class_weight was {was}, not {options['class_weight']}: resume with the same"
        )

    with claimed(out, resume=resume) as folder:
        data = load_data(source, memory=memory, targets=LOSSES[options["loss"]].kind.name)
        units = (data.features, *options["hidden"], data.outputs)
        described = {name: options[name] for name in ("activation", "loss", "dtype")}
        model = MLP(units, seed=settings.seed, backend=backend, **described)
        try:
            check_evaluation(model, data.X_test, data.y_test, memory=memory)
        except XpnetError as error:  # now rather than after the last epoch
            raise XpnetError(f"the test rows: {error}") from error
        source = source if source == "mnist" else str(Path(source).resolve())
        config = {"data": source, "cpu_threads": cpu_threads}
        config |= {name: options[name] for name in ("threads", "class_weight")}
        checkpoint = _RunCheckpoint(folder / CHECKPOINT, config)
        try:
            history = train_model(
                model,
                data.X_train,
                data.y_train,
                checkpoint=checkpoint,
                resume=resume,
                progress=None if quiet else Lines(),
                memory=memory,
                class_weight=by_number(options["class_weight"]),
                standardize=options["standardize"],
                **asdict(settings),
            )
        except DivergedError as error:
            command = f"{resume_command(folder)} --lr {settings.lower_rate(model.loss):g}"
            raise DivergedError(f"{error}; the last good state is kept, to resume with: {command}") from error
        model.save(folder / MODEL)
        try:
            result = evaluate(model, data.X_test, data.y_test, memory=memory)
        except XpnetError as error:
            raise XpnetError(f"the test rows: {error} (the network is kept in {folder / MODEL})") from error
        _write_summary(folder, model, history, result, settings.seed)
    _print_results(folder, model, history, result)


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
