"""The file of a network: its parameters, and a description in JSON under one metadata key."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.arguments import brief
from xpnet.arrays import SCALES
from xpnet.errors import XpnetError
from xpnet.files import CHECKED, FilePath, read_tensors, write_tensors
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network
from xpnet.scaling import Columns
from xpnet.schema import check

DTYPES = ("float32", "float64")

DESCRIPTION = {
    "sizes": [range(1, 2**31)],
    "activation": (*ACTIVATIONS, [tuple(ACTIVATIONS)]),
    "loss": tuple(LOSSES),
    "dtype": DTYPES,
    "scale": (None, 1.0, *SCALES.values()),
    "class_names": (None, [(str, bool, int, float)]),
    "feature_names": (None, [str]),
    "image_shape": (None, [range(1, 2**31)]),
}
"""The description of a network, by arguments of `xpnet.MLP`."""

FORMAT = 3
MODEL = {"kind": "model", "format": range(1, FORMAT + 1)}

EARLIER: dict[int, dict[str, Any]] = {3: {}, 2: {"feature_names": None, "image_shape": None}}
EARLIER[1] = {"loss": "cross-entropy", "class_names": None} | EARLIER[2]
"""What a file of each format does not say. One of format 1 has no checksum either."""


def write_model(
    path: FilePath,
    arrays: Mapping[str, np.ndarray],
    columns: Mapping[str, Columns],
    described: Mapping[str, Any],
) -> None:
    """Write a network.

    Parameters
    ----------
    arrays
        The parameters.
    columns
        ``inputs`` and ``targets``: how columns are scaled, where they are.
    described
        The fields of `DESCRIPTION`, as for `xpnet.MLP`.

    Raises
    ------
    XpnetError
        The file cannot be written, or could not be read again.
    """
    check_arrays(path, arrays, described)
    scaling = {f"{name}.{part}": getattr(c, part) for name, c in columns.items() for part in ("mean", "std")}
    fields = MODEL | DESCRIPTION
    write_tensors(path, fields, {**arrays, **scaling}, {"kind": "model", "format": FORMAT, **described})


def read_model(path: FilePath) -> dict[str, Any]:
    """Read a network: the arguments of `xpnet.MLP`, which are its description and its arrays.

    Raises
    ------
    XpnetError
        The file is missing, damaged, not an xpnet model, or holds other arrays than its description says.
        `xpnet.MLP` refuses what else does not fit together.
    """
    arrays, described = read_tensors(path, MODEL)
    described = EARLIER[described["format"]] | described
    check(described, DESCRIPTION if described["format"] == 1 else DESCRIPTION | CHECKED, str(path))
    columns = {}
    for name in ("inputs", "targets"):
        parts = [f"{name}.{part}" for part in ("mean", "std")]
        if arrays.keys() >= {*parts}:
            columns[name] = Columns(*map(arrays.pop, parts))
    check_arrays(path, arrays, described)
    return {name: described[name] for name in DESCRIPTION} | columns | {"parameters": arrays}


def check_arrays(path: FilePath, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any]) -> None:
    """Check that the parameters of a network fit its description.

    Raises
    ------
    XpnetError
        They do not; `path` is named.
    """
    sizes = described["sizes"]
    found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    alike = 2 <= len(sizes) == len(arrays) // 2 + 1  # before a list of millions is looked at
    shapes = Network(tuple(sizes)).shapes if alike else {}
    if not alike or found != {name: (shape, described["dtype"]) for name, shape in shapes.items()}:
        raise XpnetError(f"{path}: its arrays are {brief(found)}, its sizes {brief(sizes)}")
