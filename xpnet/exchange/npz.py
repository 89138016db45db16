"""NumPy's archive: the arrays W1, b1, …, and what describes them as JSON in the array ``xpnet``."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data.npy import read_npz
from xpnet.exchange.description import KEY, arguments, describe
from xpnet.files import FilePath, parse_json, write_atomically
from xpnet.model import MLP


def write(model: MLP, path: FilePath) -> None:
    """Write the weights of a network; see `xpnet.export`."""
    content, arrays = io.BytesIO(), dict[str, Any](model.host_parameters())
    np.savez(content, **arrays | {KEY: np.asarray(json.dumps(describe(model)))})
    write_atomically(path, content.getvalue())


def read(path: FilePath) -> dict[str, Any]:
    """Read weights that NumPy wrote.

    Raises
    ------
    XpnetError
        The file is damaged, or holds something else than layers.
    """
    arrays = {name: array for name, (_, array) in read_npz(Path(path), None).items()}
    text = arrays.pop(KEY, None)
    return arguments(arrays, None if text is None else parse_json(str(text), path), path)
