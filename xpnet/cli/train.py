"""`xpnet train`."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import click

from xpnet import __version__
from xpnet.backends import Backend, joined
from xpnet.cli import source
from xpnet.cli.folder import claimed
from xpnet.cli.options import PLACE, Command, backend_of, class_weights, names, option, rates, sizes
from xpnet.cli.progress import Lines, say
from xpnet.cli.report import command_of
from xpnet.cli.tables import place, print_table, shown
from xpnet.data import Dataset
from xpnet.errors import DivergedError, UsageError, XpnetError
from xpnet.files import append_line, status, write_atomically, write_json
from xpnet.model import DTYPES, MLP
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.losses import LOSSES
from xpnet.nn.optimizers import OPTIMIZERS
from xpnet.nn.schedules import SCHEDULES
from xpnet.page import report as write_report
from xpnet.runs import CHECKPOINT, CONFIG, EARLIER, FIELDS, HISTORY, MODEL, SUMMARY, by_number, read, way_on
from xpnet.schema import WHOLE, check
from xpnet.training import Checkpoint, Evaluation, History, Settings, check_evaluation, diagnosis, evaluate
from xpnet.training import train as train_model
from xpnet.training.checkpoint import Standing
from xpnet.training.inputs import enter
from xpnet.training.settings import METRICS, settings_of

DEFAULT = Settings()

DISTORTED = {
    "augment": "shift,rotate,scale,shear,elastic",
    "hidden": "1024,1024",
    "optimizer": "adam",
    "batch_size": "256",
    "validation": "0",
}
RECIPES = {"mnist-short": DISTORTED | {"epochs": "15"}, "mnist-best": DISTORTED | {"epochs": "60"}}
"""Named sets of options. They come from bench/recipes.py; bench/README.md has their results."""

NOTES = FIELDS | {
    "recipe": (None, *RECIPES),
    "threads": (None, WHOLE),
    "cpu_threads": (None, WHOLE),
    "class_weight": (None, "balanced", dict),
}
"""What the checkpoint of a run holds besides the settings of the training."""

FEWEST_STEPS = 2000
"""The least number of steps of a run whose epochs are not given."""

TABLE_LR = 0.003
"""The learning rate of Adam on tables, which falls to 0: so few steps of 0.001 do not reach the end."""


def setting(name: str, text: str, kind: Any = None) -> click.Option:
    """Make the option of a field of `Settings`, which has its default and, unless given another, its type."""
    default = getattr(DEFAULT, name)
    return option("--" + name.replace("_", "-"), text, kind or type(default), default)


def _use_recipe(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Make the options of a recipe the defaults."""
    ctx.default_map = RECIPES.get(name or "")
    return name


def _shown_recipes() -> str:
    """Every recipe as one would type it, for the help, which must not wrap it at hyphens."""
    lines = ["\b", "Recipes:"]
    for name, recipe in RECIPES.items():
        words = " ".join(f"--{option.replace('_', '-')} {value}" for option, value in recipe.items())
        indents: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "    "}
        lines += wrap(f"{name}: {words}", 76, break_on_hyphens=False, **indents)
    return "\n".join(lines)


GROUPS = {
    "Recipe": (
        option(
            "--recipe",
            "A named set of options, shown below; those given beside it win.",
            RECIPES,
            is_eager=True,
            callback=_use_recipe,
        ),
    ),
    "Data": (
        *source.OPTIONS,
        setting("validation", "Fraction of the training rows held back for validation; 0 for none."),
        option(
            "--standardize/--no-standardize",
            "Scale each column to mean 0 and deviation 1.  [default: tables only]",
        ),
    ),
    "Network": (
        option("--hidden", "Sizes of the hidden layers: 512,512 for two layers.", sizes, "128"),
        option("--activation", f"For hidden layers: {', '.join(ACTIVATIONS)}; or relu,tanh.", names, "relu"),
        option("--loss", "What the network is trained for.", LOSSES, "cross-entropy"),
        option("--dtype", "Type of the weights.", DTYPES, "float32"),
    ),
    "Training": (
        option("--epochs", "Passes over the training rows.  [default: 10, or more for 2,000 steps]", int),
        option("--batch-size", "Rows in a step.  [default: 64, or fewer of small data]", int),
        setting("lr", "Learning rate.  [default: 0.5, or less by loss; adam: 0.001; tables: 0.003]", float),
        option("--optimizer", "How weights follow from gradients.  [default: sgd; tables: adam]", OPTIMIZERS),
        setting("momentum", "Momentum of sgd."),
        option("--nesterov", "Use Nesterov's momentum.", is_flag=True),
        setting("beta1", "Decay of the mean of the gradient, for adam and adamw."),
        setting("beta2", "Decay of the mean of its square."),
        setting("epsilon", "Added to the root of that mean."),
        option("--weight-decay", "Decay of every weight in a step.  [default: 0; 0.01 for adamw]", float),
        option("--clip", "Largest norm of the gradient of a batch.", float, metavar="NORM"),
        option("--dropout", "Share of units left out: 0.2 hidden; 0.1,0.5 input, hidden.", rates),
        option("--augment", "Distort images: shift,rotate,scale,shear,elastic; or shift=2,rotate=15."),
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
        option("--report", "Write a page that shows what was learned, as `xpnet report` does.", is_flag=True),
        option("--quiet", "Show no progress.", is_flag=True),
    ),
}


@click.command(cls=Command, groups=GROUPS, epilog=_shown_recipes())
@click.pass_context
def train(
    ctx: click.Context, /, out: Path | None, resume: bool, report: bool, quiet: bool, **options: Any
) -> None:
    """Train a network, and write it into the folder of a run.

    The folder receives model.safetensors, history.csv, config.json, summary.json, and checkpoint.safetensors,
    from which --resume continues whatever stopped the run. Several processes train one network together, as
    in `mpiexec -n 4 xpnet train`, and a run may be resumed by another number of them.
    """
    group = joined()
    given = {n for n in options if ctx.get_parameter_source(n) is click.core.ParameterSource.COMMANDLINE}
    stored = group.first(lambda: _stored(out)) if resume else {}
    options |= {name: stored[name] for name in stored.keys() & options.keys() - given}
    try:
        chosen = {name: options[name] for name in asdict(DEFAULT) if options[name] is not None}
        settings = settings_of(chosen, options["loss"])
        backend = backend_of(**{str(option.name): options[str(option.name)] for option in PLACE})
    except UsageError as error:
        if given:
            raise
        raise XpnetError(f"{out}: the settings of the run are damaged: {error}") from error
    notes = source.noted(options) | {name: options[name] for name in ("threads", "class_weight", "recipe")}
    notes["cpu_threads"] = backend.threads() if backend.device == "cpu" else None
    if resume:
        _compare(out, stored, notes)

    with nullcontext(Path()) if group.rank else claimed(out, resume=resume) as folder:
        data = read(options, LOSSES[options["loss"]].kind.name)
        weights = by_number(options["class_weight"], data.class_names)
        settings = completed(settings, options, data)
        model = _network(options, data, settings.seed, backend)
        test, standardize = (model, data.X_test, data.y_test), _standardized(options, data)
        try:
            check_evaluation(*test, memory=options["memory"])
        except XpnetError as error:  # now rather than after the last epoch
            raise XpnetError(f"the test rows: {error}") from error
        try:
            history = train_model(
                model,
                data.X_train,
                data.y_train,
                checkpoint=_RunCheckpoint(folder / CHECKPOINT, notes),
                resume=resume,
                progress=None if quiet else Lines(),
                memory=options["memory"],
                class_weight=weights,
                standardize=standardize,
                **asdict(settings),
            )
        except DivergedError as error:
            raise DivergedError(f"{error}; {way_on(folder)}") from error
        if not group.rank:
            model.save(folder / MODEL)
        try:
            result = evaluate(*test, memory=options["memory"])
        except XpnetError as error:
            raise XpnetError(f"the test rows: {error} (the network is kept in {folder / MODEL})") from error
        if not group.rank:
            _write_summary(folder, model, history, result, settings.seed)
    taught = enter(model, data.X_train, data.y_train, None, weights)
    note = diagnosis.of_history(model, settings, history, taught)
    if note:
        say(f"xpnet: note: {note}")
    page = str(write_report(folder)) if report and not group.rank else command_of(folder)
    _print_results(folder, model, history, result, data, page)


def _network(options: Mapping[str, Any], data: Dataset, seed: int, backend: Backend) -> MLP:
    """Make the network for some data, which knows their classes, columns and images."""
    units = (data.features, *options["hidden"], data.outputs)
    described = {name: options[name] for name in ("activation", "loss", "dtype")}
    described |= {"feature_names": data.form.feature_names, "image_shape": data.form.image_shape}
    return MLP(units, seed=seed, backend=backend, class_names=data.class_names, **described)


def _standardized(options: Mapping[str, Any], data: Dataset) -> bool:
    """Whether columns are standardized: by default those of tables. If not, say whether they should be."""
    table, asked = data.form.feature_names, options["standardize"]
    standardize = table is not None if asked is None else bool(asked)
    note = None if standardize else diagnosis.of_columns(data.X_train, table)
    if note:
        say(f"xpnet: note: {note}")
    return standardize


def _stored(out: Path | None) -> dict[str, Any]:
    """Read the options of a run that is to be resumed, and what else its checkpoint notes."""
    if out is None:
        raise UsageError("--resume needs --out DIR, the folder of the run to resume")
    if status(out / CHECKPOINT) is None:
        raise XpnetError(
            f"{out}: no run to resume, for there is no {CHECKPOINT}; to begin one, omit --resume"
        )
    stored = Checkpoint(out / CHECKPOINT).load_config()
    stored = EARLIER | {"recipe": None} | stored
    check(stored, NOTES, f"{out}: not a run of `xpnet train`")
    if joined().size > 1:  # each process takes a GPU of its own
        stored["device"] = stored["device"].partition(":")[0]
    return stored | {"hidden": tuple(stored["sizes"][1:-1])}


def _compare(out: Path | None, stored: dict[str, Any], notes: dict[str, Any]) -> None:
    """Compare what the library's checkpoint does not know with what it was when the run began."""
    for name in ("class_weight", "recipe"):
        was, now = stored[name], notes[name]
        if was != now:
            raise XpnetError(f"{out}: {name} was {was}, not {now}: resume with the same")
    threads = stored["cpu_threads"]
    if threads != notes["cpu_threads"]:
        now = f"resumes with {notes['cpu_threads']}: its last bits may differ"
        say(f"xpnet: note: this run began with {threads} CPU thread(s) and {now}")


def completed(settings: Settings, options: Mapping[str, Any], data: Dataset) -> Settings:
    """Fill in the defaults that depend on the data.

    Adam trains on tables unless something is said of the optimizer, because a value that few rows have is
    large once it is standardized. Small data are trained on for `FEWEST_STEPS`, in epochs of about ten steps
    of 16 rows or more.
    """
    said = [options[name] for name in ("optimizer", "lr", "momentum", "nesterov")]
    if data.form.feature_names and not any(said):
        settings = settings_of(asdict(settings) | {"optimizer": "adam", "lr": TABLE_LR}, options["loss"])
    if options["epochs"] is None:
        rows = max(1, round(len(data.X_train) * (1 - (settings.validation or 0))))
        if options["batch_size"] is None:
            settings = replace(settings, batch_size=min(settings.batch_size, max(16, rows // 10)))
        steps = -(-rows // min(settings.batch_size, rows))
        settings = replace(settings, epochs=max(settings.epochs, -(-FEWEST_STEPS // steps)))
    return settings


class _RunCheckpoint(Checkpoint):
    """The checkpoint of a run, which keeps config.json and history.csv beside it."""

    rows: int | None = None

    def save(self, standing: Standing) -> None:
        """Write the three files."""
        super().save(standing)
        folder, history = self.path.parent, standing.history
        if self.rows is None:
            config = standing.notes | standing.config
            write_json(folder / CONFIG, {"xpnet": __version__, **dict(sorted(config.items()))})
        if not self.rows:  # all rows, because a run that was killed may have left fewer
            write_atomically(folder / HISTORY, history.csv().encode(), parents=False)
        elif len(history.epochs) > self.rows:
            append_line(folder / HISTORY, History(history.epochs[-1:]).csv().splitlines(keepends=True)[1])
        self.rows = len(history.epochs)


def _print_results(
    folder: Path, model: MLP, history: History, result: Evaluation, data: Dataset, page: str
) -> None:
    epochs = f"{len(history.epochs)} epoch{'s' if len(history.epochs) > 1 else ''}"
    best = f", the best of them {history.best}" if history.best else ""
    facts = [
        *((f"test {name}", shown(name, value)) for name, value in result.metrics.items()),
        ("test loss", shown("loss", result.loss)),
        *([("test rows", f"{result.rows:,}: {data.split}")] if data.split else []),
        ("training", f"{history.train_seconds:.2f} s for {epochs}{best}"),
        ("network", str(model.network)),
        ("parameters", f"{model.network.size:,}"),
    ]
    print_table([*facts, *place(model), ("folder", str(folder)), ("report", page)])


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
        "processes": backend.group.size,
        "threads": backend.threads() if backend.device == "cpu" else None,
        "dtype": model.dtype,
        "precision": backend.precision,
        "execution": asdict(backend.execution),
        "seed": seed,
        "parameters": model.network.size,
        "xpnet": __version__,
    }
    write_json(folder / SUMMARY, summary)
