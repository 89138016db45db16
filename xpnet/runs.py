"""The folder of a run: its files, and the data that it names."""

import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from xpnet.data import Dataset, Form, load_data
from xpnet.errors import XpnetError
from xpnet.files import read_json
from xpnet.schema import WHOLE, check
from xpnet.training import Checkpoint, Settings
from xpnet.training.checkpoint import DIVERGED
from xpnet.training.settings import lower_rate

CHECKPOINT, MODEL, HISTORY = "checkpoint.safetensors", "model.safetensors", "history.csv"
CONFIG, SUMMARY = "config.json", "summary.json"

FIELDS = {
    "data": str,
    "test": (None, str),
    "label": (None, str),
    "one_hot": (None, [str]),
    "drop": (None, [str]),
    "size": (None, [range(1, 10**5)]),
}
"""What a run notes of its data."""

EARLIER = dict.fromkeys(("test", "label", "one_hot", "drop", "size", "memory"))
"""What runs of earlier versions may not have noted."""

USUAL = ("epochs", "batch_size", "lr", "optimizer", "seed")
"""Settings that the command of a run always names, because their defaults depend on its data."""


def read(options: Mapping[str, Any], targets: str) -> Dataset:
    """Read the data that options name."""
    test = options["test"]
    with suppress(ValueError):
        test = None if test is None else float(test)
    form = Form(
        label=options["label"],
        one_hot=tuple(options["one_hot"] or ()),
        drop=tuple(options["drop"] or ()),
        size=options["size"] and tuple(options["size"]),
    )
    source, memory, seed = options["data"], options["memory"], options["seed"]
    return load_data(source, memory=memory, targets=targets, test=test, seed=seed, form=form)


def of_run(folder: Path) -> dict[str, Any]:
    """The options that the run in a folder had for its data.

    Raises
    ------
    XpnetError
        The folder does not tell them.
    """
    path = folder / CONFIG
    try:
        config = EARLIER | {"seed": 0} | read_json(path)
        check(config, FIELDS | {"memory": (None, WHOLE), "seed": range(2**31)}, str(path))
    except XpnetError as error:
        raise XpnetError(f"{error}; name the data with --data mnist or --data PATH") from error
    return config


def by_number(
    weights: str | dict[str, float] | None, known: tuple[str, ...] | None
) -> str | Mapping[Any, float] | None:
    """Name classes by their numbers, where these are what the names are."""
    if not isinstance(weights, dict) or known is not None:
        return weights
    return {int(name) if name.isdecimal() else name: weight for name, weight in weights.items()}


def command(config: Mapping[str, Any]) -> str:
    """The command that makes a run anew."""
    said = {"data": None if config["data"] == "mnist" else config["data"], "hidden": config["sizes"][1:-1]}
    said |= {name: config[name] for name in ("test", "label", "one_hot", "drop", "memory")}
    said |= {name: config.get(name) for name in ("threads", "class_weight")}
    said |= {"size": "x".join(map(str, config["size"] or ()))}
    usual = {"activation": "relu", "loss": "cross-entropy", "dtype": "float32", "backend": "numpy"}
    usual |= {"device": "cpu", "precision": "float32", "execution": "auto"}
    said |= {name: config[name] for name, value in usual.items() if config[name] != value}
    said |= {name: config[name] for name in named(config)}
    parts = ["xpnet", "train"]
    for name, value in said.items():
        if value not in (None, "", []) and value is not False:
            parts += ["--" + name.replace("_", "-"), *([] if value is True else [typed(value)])]
    if config["standardize"] != (config["feature_names"] is not None):
        parts.append("--standardize" if config["standardize"] else "--no-standardize")
    return shlex.join(parts)


def named(config: Mapping[str, Any]) -> list[str]:
    """The settings of a run that are worth a word: the usual ones, and those that are not the default."""
    default = vars(Settings(optimizer=config["optimizer"])) | {"dropout": []}
    return [f.name for f in fields(Settings) if f.name in USUAL or config[f.name] != default[f.name]]


def typed(value: Any) -> str:
    """A setting as one would type it."""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={part}" for name, part in value.items())
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def resume_command(folder: Path) -> str:
    """The command that resumes the run in a folder."""
    return f"xpnet train --resume --out {shlex.quote(str(folder))}"


def way_on(folder: Path) -> str:
    """Say how to go on with a run that has not ended."""
    standing = Checkpoint(folder / CHECKPOINT).load()
    if not standing.config.get(DIVERGED):
        return f"finish it with {resume_command(folder)}"
    rate = f"--lr {lower_rate(standing.config):g}"
    losses = [epoch.loss for epoch in standing.history.epochs]
    if losses and losses[-1] > min(losses):
        return f"its loss had grown before, so begin anew, with {rate} and another --out"
    return f"the last finite state is kept, to resume with: {resume_command(folder)} {rate}"


def model_of(path: Path) -> Path:
    """The file of a network: the path itself, or the one in the folder of a run.

    Raises
    ------
    XpnetError
        The run has not ended.
    """
    if not path.is_dir():
        return path
    if not (path / MODEL).exists() and (path / CHECKPOINT).exists():
        raise XpnetError(f"{path}: this run has not ended; {way_on(path)}")
    return path / MODEL
