"""What describes a network in a file of another format, as JSON can hold it."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.arguments import brief
from xpnet.errors import XpnetError
from xpnet.files import FilePath
from xpnet.model import MLP
from xpnet.model_file import DESCRIPTION
from xpnet.scaling import Columns
from xpnet.schema import check

KEY = "xpnet"
"""The name of the description in a file."""

COLUMNS = {"inputs": (None, dict), "targets": (None, dict)}
PARTS = ("mean", "std")


def describe(model: MLP) -> dict[str, Any]:
    """Describe a network: the arguments of `xpnet.MLP`, with the scaling of its columns."""
    columns = {
        name: {part: getattr(found, part).tolist() for part in PARTS} for name, found in model.columns.items()
    }
    return model.description | dict.fromkeys(COLUMNS) | columns


def arguments(
    arrays: Mapping[str, np.ndarray], described: Mapping[str, Any] | None, path: FilePath
) -> dict[str, Any]:
    """The arguments of `xpnet.MLP` for the arrays W1, b1, … of a file, and what `describe` said, if anything.

    Raises
    ------
    XpnetError
        The arrays are no layers, or the description is damaged.
    """
    depth = len(arrays) // 2
    alike = set(arrays) == {f"{kind}{l}" for kind in "Wb" for l in range(1, depth + 1)} != set()
    if not alike or any(arrays[f"W{l}"].ndim != 2 for l in range(1, depth + 1)):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise XpnetError(f"{path}: not the weights of dense layers: {brief(shapes)}")
    sizes = [len(arrays["W1"]), *(arrays[f"W{l}"].shape[1] for l in range(1, depth + 1))]
    wide = "float64" if arrays["W1"].dtype == np.float64 else "float32"
    given: dict[str, Any] = {"sizes": sizes, "dtype": wide, "parameters": arrays}
    if described is None:
        return given
    check(described, DESCRIPTION | COLUMNS, str(path))
    columns = {}
    for name in COLUMNS:
        if described[name] is not None:
            check(described[name], {part: [float] for part in PARTS}, f"{path}: {name}")
            columns[name] = Columns(*(np.asarray(described[name][part], np.float64) for part in PARTS))
    return {name: described[name] for name in DESCRIPTION} | columns | {"parameters": arrays}
