"""PyTorch: the ``state_dict`` of ``nn.Sequential(Linear, activation, Linear, …)``, as safetensors.

A Linear layer keeps its weights as (out, in), and ours as (in, out). Nothing here needs PyTorch.
"""

import re
from typing import Any

import numpy as np

from xpnet.errors import XpnetError
from xpnet.exchange.description import arguments, describe
from xpnet.files import FilePath, read_safetensors, read_tensors, write_tensors
from xpnet.model import MLP

WEIGHT, BIAS = ".weight", ".bias"


def write(model: MLP, path: FilePath) -> None:
    """Write the weights of a network; see `xpnet.export`. What a ``state_dict`` cannot say is metadata."""
    arrays = {}
    for name, array in model.host_parameters().items():
        module = 2 * int(name[1:]) - 2  # an activation stands between two layers
        arrays[f"{module}{WEIGHT if array.ndim > 1 else BIAS}"] = array.T
    write_tensors(path, {}, arrays, describe(model))


def read(path: FilePath) -> dict[str, Any]:
    """Read weights, whatever their modules are called; the numbers in the names tell their order.

    Raises
    ------
    XpnetError
        The file is damaged, or holds something else than Linear layers with a bias.
    """
    arrays, text = read_safetensors(path)
    described = read_tensors(path, {})[1] if text else None
    modules = sorted({name.rpartition(".")[0] for name in arrays}, key=_in_order)
    layers: dict[str, np.ndarray] = {}
    for l, module in enumerate(modules, 1):
        pair = [arrays.pop(f"{module}{part}".lstrip("."), np.empty(0)) for part in (WEIGHT, BIAS)]
        layers |= {f"W{l}": np.ascontiguousarray(pair[0].T), f"b{l}": pair[1]}
    if arrays:
        raise XpnetError(f"{path}: {min(arrays)} is no weight or bias of a Linear layer")
    return arguments(layers, described, path)


def _in_order(module: str) -> list[int | str]:
    """A key that sorts layer2 before layer10."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", module)]
