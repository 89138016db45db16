"""Where a run stands, in one file, so that it can go on after anything that stopped it."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import XpnetError
from xpnet.files import read_tensors, write_tensors
from xpnet.training.history import Epoch, History

FORMAT = 1
BEST = "best."

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
        metadata = {
            "format": FORMAT,
            "kind": "checkpoint",
            "config": self.config,
            "epochs": [asdict(row) for row in standing.history.epochs],
            "best": standing.history.best,
        }
        write_tensors(self.path, arrays, metadata)

    def load_config(self) -> dict[str, Any]:
        """What the run was told; see `load` for the errors."""
        self.load()
        return self.config

    def load(self) -> Standing:
        """Read the file, and take over its `config`.

        Raises
        ------
        XpnetError
            There is none, or it is cut off, damaged or not a checkpoint.
        """
        if not self.path.exists():
            raise XpnetError(f"{self.path}: no checkpoint to resume from")
        arrays, described = read_tensors(self.path)
        if described.get("kind") != "checkpoint" or described.get("format") != FORMAT:
            raise XpnetError(f"{self.path}: not a checkpoint of this version of xpnet")
        try:
            epochs = [Epoch(**row) for row in described["epochs"]]
            history = History(epochs, described["best"])
            self.config = EARLIER | described["config"]
        except (KeyError, TypeError, ValueError) as error:
            raise XpnetError(f"{self.path}: its description is damaged ({error})") from error
        best = {name.removeprefix(BEST): a for name, a in arrays.items() if name.startswith(BEST)}
        state = {name: a for name, a in arrays.items() if not name.startswith(BEST)}
        return Standing(state, history, best)
