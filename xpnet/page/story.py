"""What the page of a run tells: facts, as JSON can hold them, and arrays."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from xpnet import runs
from xpnet.arrays import scale_of
from xpnet.backends import get_backend
from xpnet.data import Dataset
from xpnet.data.mapped import read as read_rows
from xpnet.data.rows import stream
from xpnet.errors import XpnetError
from xpnet.files import FilePath, read_json
from xpnet.model import MLP, load
from xpnet.nn.dense import dense
from xpnet.nn.distortion import distort
from xpnet.nn.losses import LOSSES
from xpnet.nn.step import gather
from xpnet.schema import check
from xpnet.training import Checkpoint, History, Settings, evaluate
from xpnet.training.inputs import enter
from xpnet.training.run import Run

MOST_PARAMETERS, MOST_UNITS = 2**21, 128
"""A page computes with networks of at most so many parameters. It shows so many units of the first layer."""

MOST_NUMBERS, FEWEST_ROWS, SOME_ROWS = 2**20, 12, 10_000
"""Numbers in the test rows of a page, or a few rows; and rows that are searched for exciting ones."""

MISTAKES, PER_UNIT, PER_CLASS, MOST_EPOCHS, LESSON, SHEET, STEPS = 400, 4, 6, 1000, 64, 4, 7
"""The most rows, of each sort, and epochs on a page; and the steps of which distortions are shown."""

MOST_OFF = 1.1
"""Pixels by which the mass of centred pictures, such as MNIST's, may be off the middle."""

ENVIRONMENT = {"library_version": str, "threads": (None, int), "execution": dict, "xpnet": str}
TOTALS = ("confusion", "true", "predicted", "both")
"""What a page takes from ``summary.json``, and from the totals of an evaluation."""


@dataclass(frozen=True)
class Story:
    """Facts, as JSON can hold them, and arrays by name."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


def of_folder(folder: FilePath) -> Story:
    """Tell what is in the folder of a run; see `xpnet.report` for the errors."""
    path = Path(folder)
    if not path.is_dir():
        raise XpnetError(f"{path}: give the folder of a run, which `xpnet train` made")
    model = load(runs.model_of(path), backend=get_backend("cpu", "numpy", alone=True))
    standing, summary = Checkpoint(path / runs.CHECKPOINT).load(), read_json(path / runs.SUMMARY)
    config: dict[str, Any] = runs.EARLIER | standing.notes | standing.config
    check(config, runs.FIELDS, str(path / runs.CHECKPOINT))
    story = _told(model, standing.history)
    facts = story.facts
    facts |= {"title": path.resolve().name, "command": runs.command(config)}
    facts["settings"] += [[name, runs.typed(config[name])] for name in runs.named(config)]
    facts["environment"] = _environment(summary, config, str(path / runs.SUMMARY))
    facts["result"] = {name[5:]: summary[name] for name in summary if name.startswith("test_")}
    start = MLP(**model.description, seed=config["seed"], backend=model.backend).host_parameters()
    _tell_start(story, {name: start[name] for name in story.arrays if name[0] == "W"})
    try:
        data = runs.read(runs.of_run(path), model.kind)
        _tell_rows(story, model, data.X_test, data.y_test, config["memory"])
        if facts["whole"]:
            _tell_lesson(story, model, data, config)
    except (XpnetError, OSError) as error:
        facts["notes"].append(f"The data of the run cannot be read, so no row is shown: {error}")
    return story


def of_model(model: MLP, X: Any, y: Any, history: History | None) -> Story:
    """Tell what a network makes of some rows."""
    host = model.to("cpu", "numpy")
    story, examples = _told(host, history or History()), enter(host, X, y)
    _tell_rows(story, host, examples.X, y, None)
    return story


def _environment(summary: Mapping[str, Any], config: Mapping[str, Any], what: str) -> list[list[Any]]:
    check(summary, ENVIRONMENT | {name: float for name in summary if name.startswith("test_")}, what)
    place = f"{config['backend']} {summary['library_version']} on {config['device']}"
    threads = f", {summary['threads']} threads" if summary["threads"] else ""
    how = f"{summary['execution'].get('actual')}, {config['precision']} products"
    return [["library", place + threads], ["execution", how], ["xpnet", summary["xpnet"]]]


def _told(model: MLP, history: History) -> Story:
    """Tell of a network and its epochs, but not of rows."""
    network, epochs, names = model.network, history.epochs, model.class_names
    whole, shape, side = network.size <= MOST_PARAMETERS, model.image_shape, isqrt(network.sizes[0])
    if shape is None and model.scale not in (None, 1.0) and side**2 == network.sizes[0]:
        shape = (side, side)  # integers that nobody named are pixels
    every = -(-len(epochs) // MOST_EPOCHS) or 1
    facts: dict[str, Any] = {"title": "network", "network": str(network), "parameters": network.size}
    facts |= {"sizes": network.sizes, "activations": network.activations, "whole": whole, "loss": model.loss}
    facts |= {"kind": model.kind, "classes": [str(name) for name in names or range(model.outputs)]}
    facts |= {"features": model.feature_names, "image": shape and [*shape, 1][:3]}
    facts |= {"columns": history.columns, "epochs": history.table()[::-every][::-1].tolist()}
    facts |= {"seconds": history.train_seconds, "best": history.best, "settings": [["loss", model.loss]]}
    facts["notes"] = []
    parameters = model.host_parameters()
    if not whole:  # a few units of the first layer, as pictures
        parameters = {"W1": parameters["W1"][:, :MOST_UNITS]}
        facts["notes"] += [f"{network.size:,} parameters are too many for a page with a board and a lesson."]
    arrays = {name: array.astype(np.float32) for name, array in parameters.items()}
    arrays |= {f"{n}.{part}": getattr(c, part) for n, c in model.columns.items() for part in ("mean", "std")}
    return Story(facts, arrays)


def _tell_start(story: Story, start: Mapping[str, np.ndarray]) -> None:
    """Tell what the parameters have become since the start, in 16 bits each: 1 / 65,534 of the range."""
    story.facts["learned"] = {}  # biases start at zero
    for name, array in start.items():
        learned = story.arrays[name] - array[:, : story.arrays[name].shape[1]]
        unit = float(np.abs(learned).max()) / 32767 or 1.0
        story.facts["learned"][name] = unit
        story.arrays[f"learned.{name}"] = np.round(learned / unit).astype(np.int16)


def _tell_rows(story: Story, model: MLP, X: np.ndarray, y: Any, memory: int | None) -> None:
    """Tell how the network answers the rows that it was tested with, and show some of them."""
    facts, arrays = story.facts, story.arrays
    result = evaluate(model, X, y, memory=memory)
    facts.setdefault("result", {**result.metrics, "loss": result.loss})
    facts["rows"] = result.rows
    logits, T = model.logits(X), enter(model, X, y).y
    A = np.asarray(model.output(logits), np.float64)
    facts["totals"] = {name: total.tolist() for name, total in result.totals.items() if name in TOTALS}
    if model.kind == "classes":
        predicted = np.argmax(logits, axis=1)
        wrong, sure = predicted != T, A[np.arange(len(A)), predicted]
    else:
        wrong = ((A > 0.5) != (T > 0.5)).any(axis=1) if model.kind == "labels" else np.full(len(A), True)
        sure = (np.abs(A - T) / (1.0 if model.kind == "labels" else T.std(axis=0) + 1e-300)).max(axis=1)
    most = max(FEWEST_ROWS, MOST_NUMBERS // X.shape[1])
    mistakes = np.argsort(np.where(wrong, -sure, 1.0), kind="stable")[: min(MISTAKES, most // 2, wrong.sum())]
    facts |= {"mistakes": int(wrong.sum()), "listed": len(mistakes)}
    spread = np.arange(0, len(A), -(-len(A) // SOME_ROWS))
    groups = [spread[T[spread] == j][:PER_CLASS] for j in range(model.outputs)] if T.ndim == 1 else []
    entered, P = _entered(model, _shown(model, X, spread)), model.host_parameters()
    Z1 = dense(np, entered, P["W1"][:, :MOST_UNITS], P["b1"][:MOST_UNITS])
    exciting = np.argsort(-Z1, axis=0, kind="stable")[:PER_UNIT].T.ravel()
    groups = [mistakes, *groups, spread[exciting], spread[:: -(-len(spread) // MISTAKES)]]
    chosen = np.array([*dict.fromkeys(np.concatenate(groups).tolist())][:most])
    arrays |= {"pool.row": chosen.astype(np.int32), "pool.X": _shown(model, X, chosen)}
    arrays |= {"pool.A": A[chosen].astype(np.float32), "pool.T": T[chosen].astype(np.float32)}
    if facts["image"]:
        facts |= _pictures(model, arrays["pool.X"], facts["image"])


def _shown(model: MLP, X: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Some rows: bytes as they are, other numbers as they enter the network."""
    some = np.stack([read_rows(X[row : row + 1])[0] for row in rows.tolist()])
    return some if some.dtype == np.uint8 else _entered(model, some).astype(np.float32)


def _entered(model: MLP, rows: np.ndarray) -> np.ndarray:
    """Rows as they enter the network."""
    rows = rows / scale_of(rows.dtype.name)
    return rows if model.inputs is None else model.inputs.scaled(rows)


def _pictures(model: MLP, shown: np.ndarray, shape: list[int]) -> dict[str, Any]:
    """What pictures have in common: their range, their paper, and whether they are centred by their mass."""
    X = shown / 255 if shown.dtype == np.uint8 else shown
    if model.inputs is not None and shown.dtype != np.uint8:
        X = model.inputs.restored(X)
    low, high = (0.0, 1.0) if shown.dtype == np.uint8 else (float(X.min()), float(X.max()))
    P = (X.reshape(-1, *shape).mean(axis=3) - low) / ((high - low) or 1.0)
    paper = float(np.median(P[:, [0, -1]]) > 0.5)
    ink, off = np.abs(P - paper) + 1e-9, 0.0
    for n, axis in ((shape[0], 2), (shape[1], 1)):
        mass = ink.sum(axis=axis)
        centre = (mass * (np.arange(n) + 0.5)).sum(axis=1) / mass.sum(axis=1)
        off = max(off, float(np.abs(centre - n / 2).max()))
    return {"low": low, "high": high, "paper": paper, "centred": off < MOST_OFF}


def _tell_lesson(story: Story, model: MLP, data: Dataset, config: Mapping[str, Any]) -> None:
    """Tell the first step of the run: its rows, their targets and shares in the loss, and its rate."""
    settings = Settings(**{f.name: config[f.name] for f in fields(Settings)})
    weights = runs.by_number(config.get("class_weight"), model.class_names)
    examples = enter(model, data.X_train, data.y_train, None, weights, taught=True)
    run = Run(model, examples, settings, config["memory"])
    part = next(run.feed.parts(run.feed.training, stream(settings.seed, "shuffle", 1)))
    batch = run.chunks(part.order, part.weights)[0][0]
    rows = batch[batch >= 0][:LESSON]
    _, T, shares = gather(np, rows, part.data, LOSSES[model.loss], run.step.scale, np.dtype(model.dtype))
    assert shares is not None  # gather is told that rows may be padded
    story.arrays["lesson.X"] = _shown(model, part.data["X"], rows)
    if run.step.distortion:
        X = part.data["X"][rows[:SHEET]]
        keys = [(part.data["seed"], np.array([step], np.int32)) for step in range(STEPS)]
        seen = [distort(np, run.step.distortion, part.data, key, X) for key in keys]
        sheet = np.stack([X, *(np.round(x) if X.dtype == np.uint8 else x for x in seen)], axis=1)
        sheet = sheet.reshape(-1, X.shape[1]).astype(X.dtype)
        story.arrays["sheet"], story.facts["sheet"] = _shown(model, sheet, np.arange(len(sheet))), 1 + STEPS
    story.arrays["lesson.T"] = T.astype(np.float32)
    story.arrays["lesson.shares"] = (shares / shares.sum()).astype(np.float32)
    story.facts["lesson"] = asdict(settings) | {"rate": run.rates(0, 1).tolist()[0], "rows": len(batch)}
