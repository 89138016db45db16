"""Where a run stands, in one file, so that it can go on after anything that stopped it."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np

from xpnet.errors import UsageError, XpnetError
from xpnet.files import read_tensors, write_tensors
from xpnet.model_file import DESCRIPTION
from xpnet.schema import LONGEST, check
from xpnet.training.history import Epoch, History
from xpnet.training.settings import Settings

BEST = "best."
"""Begins the names of the arrays of the best epoch."""

CHECKPOINT = {
    "kind": "checkpoint",
    "format": 1,
    "config": dict,
    "epochs": [get_type_hints(Epoch)],
    "best": (None, range(1, 2**63)),
}

CONFIG = DESCRIPTION | {"memory": (None, range(1, 2**63)), "rows": str}
CONFIG |= dict.fromkeys(("backend", "device", "precision", "execution"), str)
"""What `train` notes besides its settings, which check themselves."""

EARLIER = {"precision": "float32", "execution": "auto", "memory": None}
"""What a run had that was begun before it could be told."""


@dataclass
class Standing:
    """A run after some epochs: all that the next one depends on.

    Attributes
    ----------
    state
        The flat state of the training step, on the host.
    history
        The epochs so far; their number says which comes next.
    best
        The parameters of the best epoch, where the run looks for one.
    """

    state: dict[str, np.ndarray]
    history: History = field(default_factory=History)
    best: dict[str, np.ndarray] = field(default_factory=dict)


class Checkpoint:
    """One safetensors file that holds a `Standing`, replaced atomically after every epoch.

    Parameters
    ----------
    path
        The file.
    config
        What the caller wants to find in it again: whatever JSON holds. The training adds its own settings,
        which must not change between a run and its resumption, but for how its steps are run.
    """

    def __init__(self, path: str | Path, config: dict[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.config = dict(config or {})

    def save(self, standing: Standing) -> None:
        """Write the file. The one before stays if this fails.

        Raises
        ------
        XpnetError
            The file cannot be written.
        """
        arrays = standing.state | {BEST + name: array for name, array in standing.best.items()}
        described = {
            "format": 1,
            "kind": "checkpoint",
            "config": self.config,
            "epochs": [vars(row) for row in standing.history.epochs],
            "best": standing.history.best,
        }
        write_tensors(self.path, CHECKPOINT, arrays, described)

    def load_config(self) -> dict[str, Any]:
        """Read what the run was told, without its arrays; see `load` for the errors."""
        return self._config(read_tensors(self.path, CHECKPOINT, with_arrays=False)[1])

    def load(self) -> Standing:
        """Read the file, and take over its `config`.

        Raises
        ------
        XpnetError
            The file is missing, cut off, damaged or not a checkpoint.
        """
        arrays, described = read_tensors(self.path, CHECKPOINT)
        self.config = self._config(described)
        history = History([Epoch(**row) for row in described["epochs"]], described["best"])
        best = {name.removeprefix(BEST): a for name, a in arrays.items() if name.startswith(BEST)}
        state = {name: a for name, a in arrays.items() if not name.startswith(BEST)}
        if (history.best or 0) > len(history.epochs):
            raise XpnetError(f"{self.path}: its best epoch is {history.best}, of {len(history.epochs)}")
        return Standing(state, history, best)

    def _config(self, described: dict[str, Any]) -> dict[str, Any]:
        config: dict[str, Any] = EARLIER | described["config"]
        check(config, {name: kind for name, kind in CONFIG.items() if name in config}, str(self.path))
        try:
            Settings(**{field.name: config[field.name] for field in fields(Settings) if field.name in config})
        except (UsageError, OverflowError) as error:
            raise XpnetError(f"{self.path}: its settings are damaged: {str(error)[:LONGEST]}") from error
        return config
