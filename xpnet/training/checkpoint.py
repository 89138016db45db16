"""One file with everything that a run needs to continue after anything that stopped it."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from xpnet.arguments import brief, instance
from xpnet.data.checks import MOST_MEMORY
from xpnet.errors import UsageError, XpnetError
from xpnet.files import CHECKED, read_tensors, write_tensors
from xpnet.model_file import DESCRIPTION, EARLIER, check_arrays
from xpnet.nn.typing import Array, State
from xpnet.schema import WHOLE, check
from xpnet.training.history import History
from xpnet.training.settings import Settings

BEST = "best."
HISTORY = "history"

FORMAT = 3
CHECKPOINT = CHECKED | {
    "kind": "checkpoint",
    "format": FORMAT,
    "config": dict,
    "notes": dict,
    "best": (None, WHOLE),
    "columns": [str],
    "passes": range(2**63),
}

CONFIG = get_type_hints(Settings) | DESCRIPTION | {"memory": (None, range(1, MOST_MEMORY + 1)), "rows": str}
CONFIG |= {"dropout": [float], "augment": (None, dict), "standardize": bool}
CONFIG |= dict.fromkeys(("backend", "device", "precision", "execution"), str)
"""The identity of a run."""

DIVERGED = "diverged"
"""Stands beside the settings of a run that diverged after its last epoch."""


@dataclass
class Standing:
    """A run after some epochs: everything that the next epoch depends on.

    Attributes
    ----------
    state
        The flat state of the training step: on the device while the run goes on, on the host in a file.
    history
        The epochs so far.
    best
        The parameters of the best epoch, where the run looks for one.
    config
        The identity of the run: its settings, network, library and data.
    notes
        What the caller wants to find in the checkpoint again.
    passes
        Passes over the rows that came before this history: those of the runs that it continues.
    """

    state: State
    history: History = field(default_factory=History)
    best: State = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)
    passes: int = 0

    def moved(self, move: Callable[[Array], Array]) -> "Standing":
        """Move every array by a function of the backend."""
        state, best = ({name: move(x) for name, x in arrays.items()} for arrays in (self.state, self.best))
        return replace(self, state=state, best=best)


class Checkpoint:
    """One safetensors file that holds a `Standing`. It is replaced atomically after every epoch.

    Parameters
    ----------
    path
        The file.
    config
        Notes of the caller, as JSON can hold them, which `load_config` finds again.

    Raises
    ------
    UsageError
        `path` is not a path, or the notes cannot be written as JSON.
    """

    def __init__(self, path: str | os.PathLike[str], config: dict[str, Any] | None = None) -> None:
        instance("checkpoint", path, (str, os.PathLike), "an xpnet.Checkpoint or a path")
        self.path = Path(path)
        instance("config", config, (dict, type(None)), "a dict")
        self.config = dict(config or {})
        try:
            json.dumps(self.config, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"config {brief(config)} cannot be written as JSON: {error}") from error

    def save(self, standing: Standing) -> None:
        """Write the file. If this fails, the previous file stays.

        Raises
        ------
        XpnetError
            The file cannot be written, or its folder has vanished since the run began.
        """
        arrays = standing.state | {BEST + name: array for name, array in standing.best.items()}
        described = {
            "kind": "checkpoint",
            "format": FORMAT,
            "config": standing.config,
            "notes": standing.notes,
            "best": standing.history.best,
            "columns": standing.history.columns,
            "passes": standing.passes,
        }
        arrays[HISTORY] = standing.history.table()
        # a folder that vanishes during the run is not made anew
        write_tensors(self.path, CHECKPOINT, arrays, described, parents=not standing.history.epochs)

    def mark_diverged(self) -> None:
        """Note that the run diverged after the epoch that was saved last, if the file can be written."""
        with suppress(XpnetError):
            standing = self.load()
            standing.config[DIVERGED] = True
            self.save(standing)

    def load_config(self) -> dict[str, Any]:
        """Read the settings of the run and the notes of the caller; see `load` for the errors."""
        standing = self.load()
        return standing.notes | standing.config

    def load(self) -> Standing:
        """Read the file.

        Raises
        ------
        XpnetError
            It is missing, cut off, damaged or not a checkpoint.
        """
        arrays, described = read_tensors(self.path, CHECKPOINT)
        config = EARLIER[2] | {"augment": None} | described["config"]
        check(config, CONFIG, str(self.path))
        parameters = {name: a for name, a in arrays.items() if name[0] in "Wb" and name[1:].isdecimal()}
        check_arrays(self.path, parameters, config)
        try:
            Settings(**{setting.name: config[setting.name] for setting in fields(Settings)})
            history = History.of_table(arrays.pop(HISTORY), described["columns"], described["best"])
        except UsageError as error:
            raise XpnetError(f"{self.path}: its settings are damaged: {error}") from error
        except (KeyError, ValueError) as error:
            raise XpnetError(f"{self.path}: its history is damaged") from error
        done = len(history.epochs)
        if [row.epoch for row in history.epochs] != list(range(1, done + 1)) or (history.best or 0) > done:
            raise XpnetError(f"{self.path}: its epochs are not in order, or the best of them is missing")
        best = {name.removeprefix(BEST): a for name, a in arrays.items() if name.startswith(BEST)}
        state = _summed({name: a for name, a in arrays.items() if not name.startswith(BEST)}, config)
        return Standing(state, history, best, config, described["notes"], described["passes"])


def _summed(state: State, config: dict[str, Any]) -> State:
    """Turn the means of gradients, which Adam kept in earlier versions, into the sums that it keeps now."""
    for was, kind, beta in (("mean.", "sum.", config["beta1"]), ("square.", "squares.", config["beta2"])):
        for name in [name for name in state if name.startswith(was)]:
            now = kind + name.removeprefix(was).replace("correction", "count")
            state[now] = state.pop(name) / (1.0 - beta)
    return state
