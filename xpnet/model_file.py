"""The file of a network: its parameters, and a description in JSON under one metadata key."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.arguments import brief
from xpnet.arrays import SCALES
from xpnet.errors import XpnetError
from xpnet.files import FilePath, read_tensors, write_tensors
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.network import Network

DTYPES = ("float32", "float64")

DESCRIPTION = {
    "sizes": [range(1, 2**31)],
    "activation": tuple(ACTIVATIONS),
    "dtype": DTYPES,
    "scale": (None, 1.0, *SCALES.values()),
}
"""The description of a network, by arguments of `xpnet.MLP`."""

MODEL = {"kind": "model", "format": 1} | DESCRIPTION


def write_model(path: FilePath, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any]) -> None:
    """Write a network.

    Parameters
    ----------
    described
        ``sizes``, ``activation``, ``dtype`` and ``scale``, as for `xpnet.MLP`.

    Raises
    ------
    XpnetError
        The file cannot be written, or could not be read again.
    """
    _check(path, arrays, described)
    write_tensors(path, MODEL, arrays, {"kind": "model", "format": 1, **described})


def read_model(path: FilePath) -> dict[str, Any]:
    """Read a network. Returns arguments of `xpnet.MLP`: its description and its ``parameters``.

    Raises
    ------
    XpnetError
        The file is missing, damaged, not an xpnet model, or holds other arrays than its description says.
    """
    arrays, described = read_tensors(path, MODEL)
    _check(path, arrays, described)
    return {name: described[name] for name in DESCRIPTION} | {"parameters": arrays}


def _check(path: FilePath, arrays: Mapping[str, np.ndarray], described: Mapping[str, Any]) -> None:
    """Check that arrays fit their description."""
    sizes = described["sizes"]
    found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
    alike = 2 <= len(sizes) == len(arrays) // 2 + 1  # before a list of millions is looked at
    shapes = Network(tuple(sizes), described["activation"]).shapes if alike else {}
    if not alike or found != {name: (shape, described["dtype"]) for name, shape in shapes.items()}:
        raise XpnetError(f"{path}: its arrays are {brief(found)}, its sizes {brief(sizes)}")
