"""One file with everything that a run needs to continue after anything that stopped it."""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xpnet.arguments import brief, instance
from xpnet.errors import UsageError, XpnetError
from xpnet.files import read_tensors, write_tensors
from xpnet.nn.typing import State
from xpnet.training.history import History

FORMAT = 2
BEST = "best."
HISTORY = "history"

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
    """

    state: State
    history: History = field(default_factory=History)
    best: State = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


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
        The path is none, or the notes cannot be written as JSON.
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
        if standing.history.epochs and not self.path.parent.is_dir():
            raise XpnetError(f"{self.path}: cannot be written: the folder of the run is no longer there")
        arrays = standing.state | {BEST + name: array for name, array in standing.best.items()}
        metadata = {
            "format": FORMAT,
            "kind": "checkpoint",
            "config": standing.config,
            "notes": standing.notes,
            "best": standing.history.best,
        }
        write_tensors(self.path, arrays | {HISTORY: standing.history.table()}, metadata)

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
        if not self.path.exists():
            raise XpnetError(f"{self.path}: no checkpoint to resume from")
        arrays, described = read_tensors(self.path)
        if described.get("kind") != "checkpoint" or described.get("format") != FORMAT:
            raise XpnetError(f"{self.path}: not a checkpoint of this version of xpnet")
        try:
            history = History.of_table(arrays.pop(HISTORY), described["best"])
            config, notes = dict(described["config"]), dict(described["notes"])
        except (KeyError, TypeError, ValueError) as error:
            raise XpnetError(f"{self.path}: its description is damaged ({error})") from error
        best = {name.removeprefix(BEST): a for name, a in arrays.items() if name.startswith(BEST)}
        state = {name: a for name, a in arrays.items() if not name.startswith(BEST)}
        return Standing(state, history, best, config, notes)
