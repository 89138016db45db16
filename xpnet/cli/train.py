"""`xpnet train`."""

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from xpnet import __version__
from xpnet.backends import get_backend
from xpnet.cli.folder import claimed, refuse_used
from xpnet.cli.options import data_option, memory_option, place_options, sizes
from xpnet.cli.progress import Bar, Lines, Silence
from xpnet.cli.tables import computing, print_facts
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
PLACE = ("device", "backend", "threads", "precision", "execution")


@click.command()
@data_option
@memory_option
@place_options
@click.option("--dtype", type=click.Choice(DTYPES), default="float32", show_default=True)
@click.option(
    "--hidden",
    type=sizes,
    default="128",
    show_default=True,
    metavar="SIZES",
    help="Hidden sizes; 512,512 for two layers.",
)
@click.option("--activation", type=click.Choice(list(ACTIVATIONS)), default="relu", show_default=True)
@click.option("--epochs", type=int, default=DEFAULT.epochs, show_default=True)
@click.option("--batch-size", type=int, default=DEFAULT.batch_size, show_default=True)
@click.option(
    "--lr", type=float, help="Learning rate.  [default: 0.5 (1 - momentum) for sgd, 0.001 for adam]"
)
@click.option(
    "--optimizer", type=click.Choice(list(OPTIMIZERS)), default=DEFAULT.optimizer, show_default=True
)
@click.option("--momentum", type=float, default=DEFAULT.momentum, show_default=True, help="For sgd.")
@click.option("--nesterov", is_flag=True, help="Momentum that looks ahead.")
@click.option("--weight-decay", type=float, default=DEFAULT.weight_decay, show_default=True)
@click.option("--schedule", type=click.Choice(list(SCHEDULES)), default=DEFAULT.schedule, show_default=True)
@click.option(
    "--warmup", type=int, default=DEFAULT.warmup, show_default=True, help="Steps in which the rate climbs."
)
@click.option(
    "--validation",
    type=float,
    default=DEFAULT.validation,
    show_default=True,
    help="Fraction of the training rows held back to watch by; 0 trains on every row.",
)
@click.option(
    "--patience",
    type=int,
    help="Stop after so many epochs without a better validation; keep the best weights.",
)
@click.option("--seed", type=int, default=DEFAULT.seed, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="A new folder.  [default: under runs/]"
)
@click.option("--resume", is_flag=True, help="Go on with the run in --out; its options need not be repeated.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.pass_context
def train(ctx: click.Context, /, out: Path | None, resume: bool, quiet: bool, **options: Any) -> None:
    """Teach a network, and write what it learned into a folder.

    The folder receives model.safetensors, history.csv, config.json, summary.json, and checkpoint.safetensors,
    from which --resume goes on after anything that stopped the run.
    """
    if resume:
        if out is None:
            raise UsageError("--resume needs --out DIR, the folder of the run to go on with")
        stored = Checkpoint(out / "checkpoint.safetensors").load_config()
        options = _resumed_options(ctx, out, stored, options)
    settings = Settings(**{name: options[name] for name in SETTINGS})
    backend = get_backend(**{name: options[name] for name in PLACE})
    if out is not None and not resume:
        refuse_used(out)

    cpu_threads = backend.threads() if backend.device == "cpu" else None
    if resume and stored["cpu_threads"] != cpu_threads:
        began = f"began with {stored['cpu_threads']} CPU thread(s) and goes on with {cpu_threads}"
        click.echo(f"xpnet: note: this run {began}: its last bits may differ", err=True)

    data = load_data(options["data"], memory=options["memory"])
    units = (data.features, *options["hidden"], data.classes)
    model = MLP(
        units, activation=options["activation"], seed=settings.seed, dtype=options["dtype"], backend=backend
    )
    try:
        check_evaluation(model, data.X_test, data.y_test, memory=options["memory"])
    except XpnetError as error:  # now rather than after the last epoch
        raise XpnetError(f"the test rows: {error}") from error
    source = options["data"] if options["data"] == "mnist" else str(Path(options["data"]).resolve())
    config = {"data": source, "threads": options["threads"], "cpu_threads": cpu_threads}
    reporter = Silence() if quiet else Bar() if sys.stderr.isatty() else Lines()
    with claimed(out, resume=resume) as folder:
        checkpoint = Checkpoint(folder / "checkpoint.safetensors", config)
        try:
            with reporter.showing():
                history = train_model(
                    model,
                    data.X_train,
                    data.y_train,
                    checkpoint=checkpoint,
                    resume=resume,
                    progress=_Recorder(checkpoint, reporter),
                    memory=options["memory"],
                    **{name: getattr(settings, name) for name in SETTINGS},
                )
        except DivergedError as error:
            raise DivergedError(f"{error} (the last good state is kept in {checkpoint.path})") from error
        except KeyboardInterrupt:
            if checkpoint.path.exists():
                again = f"xpnet train --resume --out {shlex.quote(str(folder))}"
                click.echo(f"xpnet: stopped; go on with: {again}", err=True)
            raise click.Abort from None  # of a KeyboardInterrupt click would say more than one line
        model.save(folder / "model.safetensors")
        write_atomically(folder / "history.csv", history.csv().encode())
        try:
            result = evaluate(model, data.X_test, data.y_test, memory=options["memory"])
        except XpnetError as error:
            kept = f"the network is trained, and kept in {folder / 'model.safetensors'}"
            raise XpnetError(f"the test rows: {error} ({kept})") from error
        _write_summary(folder, model, history, result, settings)
    _print_results(folder, model, history, result)


class _Recorder(Progress):
    """Keeps config.json and history.csv in the folder of the run, and tells the reporter."""

    def __init__(self, checkpoint: Checkpoint, reporter: Lines) -> None:
        self.checkpoint, self.folder, self.reporter = checkpoint, checkpoint.path.parent, reporter

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        config = dict(sorted(self.checkpoint.config.items()))
        write_json(self.folder / "config.json", {"xpnet": __version__} | config)
        self.reporter.on_start(history, rows, epochs)

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        self.reporter.on_chunk(epoch, rows, loss)

    def on_epoch(self, history: History) -> None:
        write_atomically(self.folder / "history.csv", history.csv().encode())
        self.reporter.on_epoch(history)


def _resumed_options(
    ctx: click.Context, out: Path, config: dict[str, Any], given: dict[str, Any]
) -> dict[str, Any]:
    """The options of the run in `out`, but for those given now; `train` refuses what must not change."""
    missing = ({*given, "sizes", "cpu_threads"} - {"hidden"}) - config.keys()
    if missing:
        raise XpnetError(f"{out}: its checkpoint was not written by `xpnet train` (no {min(missing)})")
    stored = {name: config[name] for name in given if name != "hidden"}
    stored["hidden"] = tuple(config["sizes"][1:-1])
    explicit = {
        name: value
        for name, value in given.items()
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    }
    return stored | explicit


def _print_results(out: Path, model: MLP, history: History, result: Evaluation) -> None:
    backend, epochs = model.backend, len(history.epochs)
    best = f", the best of them {history.best}" if history.best else ""
    print_facts(
        {
            "test accuracy": f"{result.accuracy:.2%}",
            "test loss": f"{result.loss:.4f}",
            "training": f"{history.train_seconds:.2f} s for {epochs} epoch{'s' if epochs > 1 else ''}{best}",
            "network": f"{'-'.join(map(str, model.network.sizes))} {model.network.activation}",
            "parameters": f"{model.network.size:,}",
            "device": f"{backend.device}, {model.dtype}",
            "library": f"{backend.name} {backend.version()}",
            **computing(backend),
            "folder": str(out),
        },
    )


def _write_summary(out: Path, model: MLP, history: History, result: Evaluation, settings: Settings) -> None:
    backend = model.backend
    last = history.epochs[(history.best or len(history.epochs)) - 1]
    summary = {
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
        "validation_accuracy": last.validation_accuracy,
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
        "seed": settings.seed,
        "parameters": model.network.size,
        "xpnet": __version__,
    }
    write_json(out / "summary.json", summary)
