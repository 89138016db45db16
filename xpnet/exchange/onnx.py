"""ONNX: a graph that needs nothing else. It takes rows as they come, and answers as `predict` does.

The input is ``X`` (rows, features): integers of the type that the network was trained on, which the graph
divides, or floats of the network's dtype. The outputs are ``label`` and ``probabilities``, or ``numbers``.
"""

import json
from typing import Any

import numpy as np

from xpnet import __version__
from xpnet.arrays import SCALES
from xpnet.data.form import library
from xpnet.errors import XpnetError
from xpnet.exchange.description import KEY, describe
from xpnet.files import FilePath, write_atomically
from xpnet.model import MLP

HEADER = f'<ir_version: 8, opset_import: ["": 13], producer_name: "xpnet", producer_version: "{__version__}">'
"""Versions of the file and of its operators that runtimes have read since 2021."""

LARGEST = 2**31 - 2**20
"""Bytes of weights: no file of Protocol Buffers has 2 GB."""

ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "identity": "Identity"}
OUTPUTS = {
    "cross-entropy": "Softmax<axis=1>",
    "binary-cross-entropy": "Sigmoid",
    "squared-error": "Identity",
    "poisson": "Exp",
}
TYPES = {"float32": "float", "float64": "double", "int64": "int64", "bool": "bool"}
"""What ONNX calls a type; all others that names have are strings."""

NUMBERS = {"float": 1, "double": 11, "int64": 7}
"""The numbers of types."""


def write(model: MLP, path: FilePath) -> None:
    """Write a network as ONNX; see `xpnet.export`."""
    write_atomically(path, graph_of(model).SerializeToString())


def graph_of(model: MLP) -> Any:
    """Make the ``onnx.ModelProto`` of a network, and check it.

    Raises
    ------
    XpnetError
        onnx is not installed, or the network is too large for a file.
    """
    onnx = library("onnx", "ONNX files")
    if (size := model.network.size * np.dtype(model.dtype).itemsize) > LARGEST:
        raise XpnetError(f"{size:,} bytes of weights are too many for an ONNX file; export to torch or npz")
    text, constants = _text(model)
    made = onnx.parser.parse_model(text)
    made.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in constants.items()
    )
    onnx.helper.set_model_props(made, {KEY: json.dumps(describe(model), sort_keys=True)})
    onnx.checker.check_model(made, full_check=True)
    return made


def _text(model: MLP) -> tuple[str, dict[str, np.ndarray]]:
    """The graph in ONNX's textual form, which declares no constants, and its constants."""
    real, depth, k = TYPES[model.dtype], model.network.depth, model.outputs
    integers = {largest: name for name, largest in SCALES.items()}
    given = integers.get(model.scale or 1.0, real)
    constants, nodes, A = model.host_parameters(), [], "X"
    for name, columns in model.columns.items():
        constants |= {
            f"{name}_{part}": getattr(columns, part).astype(model.dtype) for part in ("mean", "std")
        }
    if given != real:
        constants["largest"] = np.asarray(model.scale, model.dtype)
        nodes += [f"real = Cast<to={NUMBERS[real]}>(X)", "divided = Div(real, largest)"]
        A = "divided"
    if model.inputs is not None:
        nodes += [f"centred = Sub({A}, inputs_mean)", "scaled = Div(centred, inputs_std)"]
        A = "scaled"
    for l in range(1, depth + 1):
        nodes.append(f"Z{l} = Gemm({A}, W{l}, b{l})")
        A = f"A{l}"
        f = ACTIVATIONS[model.network.activations[l - 1]] if l < depth else OUTPUTS[model.loss]
        nodes.append(f"{A} = {f}(Z{l})")
    if model.targets is not None:
        nodes += [f"wide = Mul({A}, targets_std)", "restored = Add(wide, targets_mean)"]
        A = "restored"
    answer = "numbers" if model.kind == "numbers" else "probabilities"
    nodes.append(f"{answer} = Identity({A})")
    outputs = f"{real}[rows, {k}] {answer}"
    if model.kind == "labels":
        constants["zero"] = np.zeros((), model.dtype)
        nodes += [f"holds = Greater(Z{depth}, zero)", f"label = Cast<to={NUMBERS['int64']}>(holds)"]
        outputs = f"int64[rows, {k}] label, {outputs}"
    elif model.kind == "classes":
        names = np.asarray(model.class_names or range(k))
        constants["names"] = names.astype(object) if names.dtype.kind == "U" else names
        nodes += [f"best = ArgMax<axis=1, keepdims=0>(Z{depth})", "label = Gather(names, best)"]
        outputs = f"{TYPES.get(names.dtype.name, 'string')}[rows] label, {outputs}"
    graph = "\n".join(nodes)
    inputs = f"{given}[rows, {model.network.sizes[0]}] X"
    return f"{HEADER} xpnet ({inputs}) => ({outputs}) {{ {graph} }}", constants
