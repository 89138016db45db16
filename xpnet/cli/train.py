"""`xpnet train`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from xpnet import __version__
from xpnet.backends import get_backend
from xpnet.cli.folder import CHECKPOINT, HISTORY, MODEL, append_line, claimed, refuse_vanished, resume_command
from xpnet.cli.options import MEMORY, PLACE, Command, option, sizes
from xpnet.cli.progress import Lines, say
from xpnet.cli.tables import place, place_json, print_table
from xpnet.data import load_data
from xpnet.errors import DivergedError, UsageError, XpnetError
from xpnet.files import write_atomically, write_json
from xpnet.model import DTYPES, MLP
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.optimizers import OPTIMIZERS
from xpnet.nn.schedules import SCHEDULES
from xpnet.training import Checkpoint, Evaluation, History, Progress, Settings, check_evaluation, evaluate
from xpnet.training import train as train_model

DEFAULT = Settings()
SETTINGS = tuple(DEFAULT.__dataclass_fields__)
WHERE = tuple(str(option.name) for option in PLACE)


def setting(name: str, text: str = "", kind: Any = None) -> click.Option:
    """Make the option of a field of `Settings`, which has its default and, unless given another, its type."""
    default = getattr(DEFAULT, name)
    return option("--" + name.replace("_", "-"), text, kind or type(default), default)


DATA = (
    option(
        "--data",
        "The embedded MNIST, a folder of IDX files, or x_train, y_train, x_test, y_test in one .npz "
        "or in a folder of .npy files.",
        default="mnist",
        metavar="mnist|PATH",
    ),
    MEMORY,
    setting("validation", "Fraction of the training rows held back for validation; 0 for none."),
)
NETWORK = (
    option("--hidden", "Sizes of the hidden layers: 512,512 for two layers.", sizes, "128"),
    option("--activation", "Activation of the hidden layers.", ACTIVATIONS, "relu"),
    option("--dtype", "Type of the weights.", DTYPES, "float32"),
)
TRAINING = (
    setting("epochs", "Passes over the training rows."),
    setting("batch_size", "Rows in a step."),
    option("--lr", "Learning rate.  [default: 0.5 (1 - momentum) for sgd, 0.001 for adam]", float),
    setting("optimizer", kind=OPTIMIZERS),
    setting("momentum", "Momentum of sgd."),
    option("--nesterov", "Use Nesterov's momentum.", is_flag=True),
    setting("weight_decay", "Added to the gradient of each weight, times the weight."),
    setting("schedule", "How the learning rate falls.", SCHEDULES),
    setting("warmup", "Steps in which the learning rate rises at the start."),
    option(
        "--patience", "Stop after so many epochs without a better validation; keep the best weights.", int
    ),
    setting("seed", "Seed of the initial weights and of the order of the rows."),
)
RUN = (
    option("--out", "A new folder.  [default: in runs/]", click.Path(path_type=Path), metavar="DIR"),
    option("--resume", "Resume the run in --out, with the options that it had.", is_flag=True),
    option("--quiet", "Show no progress.", is_flag=True),
)
GROUPS = {
    "Data": DATA,
    "Network": NETWORK,
    "Training": TRAINING,
    "Where and how to compute": PLACE,
    "Run": RUN,
}


@click.command(cls=Command, groups=GROUPS)
@click.pass_context
def train(ctx: click.Context, /, out: Path | None, resume: bool, quiet: bool, **options: Any) -> None:
    """Train a network, and write it into the folder of a run.

    The folder receives model.safetensors, history.csv, config.json, summary.json, and checkpoint.safetensors,
    from which --resume continues whatever stopped the run.
    """
    stored: dict[str, Any] = {}
    if resume:
        if out is None:
            raise UsageError("--resume needs --out DIR, the folder of the run to resume")
        stored = Checkpoint(out / CHECKPOINT).load_config()
        options = _resumed_options(ctx, out, stored, options)
    settings = Settings(**{name: options[name] for name in SETTINGS})
    backend = get_backend(**{name: options[name] for name in WHERE})
    memory, source = options["memory"], options["data"]
    cpu_threads = backend.threads() if backend.device == "cpu" else None
    if resume and stored["cpu_threads"] != cpu_threads:
        began = f"began with {stored['cpu_threads']} CPU thread(s) and resumes with {cpu_threads}"
        say(f"xpnet: note: this run {began}: its last bits may differ")

    with claimed(out, resume=resume) as folder:
        data = load_data(source, memory=memory)
        model = MLP(
            (data.features, *options["hidden"], data.classes),
            activation=options["activation"],
            seed=settings.seed,
            dtype=options["dtype"],
            backend=backend,
        )
        config = {
            "data": source if source == "mnist" else str(Path(source).resolve()),
            "threads": options["threads"],
            "cpu_threads": cpu_threads,
        }
        checkpoint = Checkpoint(folder / CHECKPOINT, config)
        try:
            check_evaluation(model, data.X_test, data.y_test, memory=memory)
        except XpnetError as error:  # now rather than after the last epoch
            raise XpnetError(f"the test rows: {error}") from error
        try:
            history = train_model(
                model,
                data.X_train,
                data.y_train,
                checkpoint=checkpoint,
                resume=resume,
                progress=_Recorder(checkpoint, Progress() if quiet else Lines()),
                memory=memory,
                **asdict(settings),
            )
        except DivergedError as error:
            command = f"{resume_command(folder)} --lr {settings.rate / 10:g}"
            raise DivergedError(f"{error}; the last good state is kept, to resume with: {command}") from error
        refuse_vanished(folder)
        model.save(folder / MODEL)
        try:
            result = evaluate(model, data.X_test, data.y_test, memory=memory)
        except XpnetError as error:
            raise XpnetError(f"the test rows: {error} (the network is kept in {folder / MODEL})") from error
        _write_summary(folder, model, history, result, settings)
    _print_results(folder, model, history, result)


class _Recorder(Progress):
    """Keeps config.json and history.csv in the folder of the run, and reports the progress."""

    def __init__(self, checkpoint: Checkpoint, reporter: Progress) -> None:
        self.checkpoint, self.folder, self.reporter = checkpoint, checkpoint.path.parent, reporter
        self.on_chunk = reporter.on_chunk  # type: ignore[method-assign]

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        refuse_vanished(self.folder)
        config = {"xpnet": __version__, **dict(sorted(self.checkpoint.load_config().items()))}
        write_json(self.folder / "config.json", config)
        # all rows, because a run that was killed may have left fewer than its checkpoint has
        write_atomically(self.folder / HISTORY, history.csv().encode())
        self.reporter.on_start(history, rows, epochs)

    def on_epoch(self, history: History) -> None:
        _, row = History(history.epochs[-1:]).csv().splitlines(keepends=True)
        append_line(self.folder / HISTORY, row)
        self.reporter.on_epoch(history)


def _resumed_options(
    ctx: click.Context, out: Path, config: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """The options of the run in `out`, replaced by those given now; `train` refuses what must not change."""
    known = {"hidden": tuple(config["sizes"][1:-1])} | config
    if not {*given, "cpu_threads"} <= known.keys():
        raise XpnetError(f"{out}: its checkpoint was not written by `xpnet train`")
    explicit = click.core.ParameterSource.COMMANDLINE
    return {
        name: value if ctx.get_parameter_source(name) is explicit else known[name]
        for name, value in given.items()
    }


def _print_results(out: Path, model: MLP, history: History, result: Evaluation) -> None:
    epochs = len(history.epochs)
    best = f", the best of them {history.best}" if history.best else ""
    print_table(
        [
            ("test accuracy", f"{result.accuracy:.2%}"),
            ("test loss", f"{result.loss:.4f}"),
            (
                "training",
                f"{history.train_seconds:.2f} s for {epochs} epoch{'s' if epochs > 1 else ''}{best}",
            ),
            ("network", f"{'-'.join(map(str, model.network.sizes))} {model.network.activation}"),
            ("parameters", f"{model.network.size:,}"),
            *place(model),
            ("folder", str(out)),
        ]
    )


def _write_summary(out: Path, model: MLP, history: History, result: Evaluation, settings: Settings) -> None:
    summary = {
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "validation_accuracy": history.epochs[(history.best or 0) - 1].validation_accuracy,
        "train_seconds": history.train_seconds,
        "epochs": len(history.epochs),
        "best_epoch": history.best,
        **place_json(model),
        "seed": settings.seed,
        "parameters": model.network.size,
        "xpnet": __version__,
    }
    write_json(out / "summary.json", summary)
