"""What describes a network in a file of another format, as JSON can hold it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.errors import XpnetError
from xpnet.files import FilePath
from xpnet.model import MLP
from xpnet.model_file import DESCRIPTION
from xpnet.scaling import Columns
from xpnet.schema import check

KEY = "xpnet"
"""The name of the description in a file."""

COLUMNS = {"inputs": (None, dict), "targets": (None, dict)}


def describe(model: MLP) -> dict[str, Any]:
    """Describe a network: the arguments of `xpnet.MLP`, with the scaling of its columns."""
    columns = {
        name: {"mean": scaling.mean.tolist(), "std": scaling.std.tolist()}
        for name, scaling in model.columns.items()
    }
    return model.description | dict.fromkeys(COLUMNS) | columns


def arguments(
    arrays: Mapping[str, np.ndarray], described: Mapping[str, Any] | None, path: FilePath
) -> dict[str, Any]:
    """The arguments of `xpnet.MLP` for the arrays W1, b1, … of a file, and what `describe` said, if anything.

    Raises
    ------
    XpnetError
        The arrays are no layers that follow each other, or the description is damaged.
    """
    depth = len(arrays) // 2
    weights = [arrays.get(f"W{l}", np.empty(0)) for l in range(1, depth + 1)]
    biases = [arrays.get(f"b{l}", np.empty(0)) for l in range(1, depth + 1)]
    if depth == 0 or len(arrays) % 2 or any(W.ndim != 2 or W.dtype.kind != "f" for W in weights):
        shapes = ", ".join(f"{name} {array.shape}" for name, array in [*arrays.items()][:4])
        raise XpnetError(f"{path}: not the weights of dense layers, but {shapes or 'nothing'}")
    sizes = [weights[0].shape[0], *(W.shape[1] for W in weights)]
    for l, (W, b) in enumerate(zip(weights, biases, strict=True)):
        if W.shape[0] != sizes[l] or b.shape != W.shape[1:] or b.dtype.kind != "f":
            said = f"layer {l + 1} has weights {W.shape} and a bias {b.shape}"
            raise XpnetError(f"{path}: {said}, which do not fit {sizes[l]} units")
    if described is None:
        wide = "float64" if weights[0].dtype == np.float64 else "float32"
        return {"sizes": sizes, "dtype": wide, "parameters": arrays}
    check(described, DESCRIPTION | COLUMNS, str(path))
    try:
        columns = {
            name: Columns(*(np.asarray(described[name][part], np.float64) for part in ("mean", "std")))
            for name in COLUMNS
            if described[name] is not None
        }
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise XpnetError(f"{path}: the scaling of its columns is damaged") from error
    return {name: described[name] for name in DESCRIPTION} | columns | {"parameters": arrays}
