"""What makes a resumed run the same run: its settings, its network, its library and its data."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data.mapped import read
from xpnet.errors import XpnetError
from xpnet.nn.typing import Array
from xpnet.training.checkpoint import DIVERGED
from xpnet.training.inputs import Examples
from xpnet.training.run import Run
from xpnet.training.settings import lower_rate

PIECE, PIECES = 2**18, 512
"""A fingerprint is taken of at least so many pieces of so many bytes: of all data below 256 MB."""

CHANGEABLE = ("execution",)
"""Settings that may change when a run is resumed: eager steps are the way out if a recorded one fails."""


def identity(run: Run, memory: int | None) -> dict[str, Any]:
    """Collect everything that the bits of a run depend on, except the number of threads."""
    model = run.model
    examples = [run.feed.examples, *([run.validation.examples] if run.validation else [])]
    return (
        asdict(run.settings)
        | {"dropout": list(run.settings.dropout)}
        | model.description
        | {
            "backend": model.backend.name,
            "device": model.backend.device,
            "precision": model.backend.precision,
            "execution": model.backend.execution.asked,
            "scale": run.step.scale,
            "memory": memory,
            "standardize": model.inputs is not None,
            "rows": " ".join(map(fingerprint, examples)),
        }
    )


def refuse_changes(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuse to resume a run under another identity than it had.

    More epochs are allowed where the schedule does not depend on their number. A run that diverged needs a
    smaller learning rate.

    Raises
    ------
    XpnetError
        A setting or the data changed, or a run that diverged would diverge again.
    """
    diverged = before.get(DIVERGED, False)
    if diverged and now["lr"] >= before["lr"]:
        smaller = f"resume with a smaller one, such as {lower_rate(before):g}"
        raise XpnetError(f"{path}: the run diverged at lr {before['lr']:g}: {smaller}")
    for name, value in now.items():
        was = before.get(name)
        longer = name == "epochs" and now["schedule"] == "constant" and value > was
        told = name == "image_shape" and was is None  # only distortions depend on it, which need it
        if value == was or name in CHANGEABLE or longer or told or (diverged and name == "lr"):
            continue
        if name == "rows":
            raise XpnetError(f"{path}: the data are not those that the run began with")
        hint = "; epochs can only be added, and to a constant schedule" if name == "epochs" else ""
        raise XpnetError(f"{path}: {name} was {was}, not {value}: resume with the same{hint}")


def refuse_differences(identities: Sequence[Mapping[str, Any]]) -> None:
    """Refuse to train one network by several processes that have different settings or data.

    Raises
    ------
    XpnetError
        They have. All of them raise it.
    """
    one = identities[0]
    for process, other in enumerate(identities):
        for name in one:
            if name != "device" and other.get(name) != one[name]:
                said = "all rows" if name == "rows" else f"the same: {one[name]}, not {other.get(name)}"
                raise XpnetError(
                    f"{name} of process {process} differs from the first's: give each process {said}"
                )


def fingerprint(examples: Examples) -> str:
    """Compute what tells these rows, targets and weights from others."""
    parts = [examples.X, examples.y, *([] if examples.weights is None else [examples.weights])]
    return " ".join([str(tuple(examples.X.shape)), str(examples.X.dtype), *map(_checksum, parts)])


def _checksum(array: Array) -> str:
    """Compute a checksum of host data. Data on a device are trusted, because they would have to be moved.

    Of large data only evenly spaced pieces are read, `PIECES` or more, from the beginning to the end.
    """
    if not isinstance(array, np.ndarray):
        return "device"
    rows = max(1, PIECE // max(1, array.nbytes // len(array)))
    starts = range(0, len(array), rows)
    checksum = 0
    for start in starts[:: max(1, len(starts) // PIECES)]:
        piece = np.ascontiguousarray(read(array[start : start + rows]))
        checksum = zlib.crc32(piece.data, checksum)
    return f"{checksum:08x}"
