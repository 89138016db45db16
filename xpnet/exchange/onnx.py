"""ONNX: a graph that needs nothing else. It takes rows as they come and answers as `predict` does.

The input is ``X`` (rows, features): integers of the type that the network was trained on, which are divided in
the graph, or floats of the network's dtype. The outputs are ``label`` and ``probabilities``, or ``numbers``.
"""

import json
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from xpnet import __version__
from xpnet.arrays import SCALES
from xpnet.errors import XpnetError
from xpnet.exchange.description import KEY, describe
from xpnet.files import FilePath, write_atomically
from xpnet.model import MLP

OPSET, IR = 13, 8
"""Versions of the operators and of the file: old enough for runtimes of 2021."""

LARGEST = 2**31 - 2**20
"""Bytes of weights: a file of Protocol Buffers cannot have 2 GB."""

ACTIVATIONS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid"}
OUTPUTS = {"cross-entropy": "Softmax", "binary-cross-entropy": "Sigmoid", "poisson": "Exp"}
WHOLE = np.dtype(np.int64)

Output: TypeAlias = tuple[str, np.dtype, tuple[str | int, ...]]
"""The name, the type and the shape of an input or an output of the graph."""


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
    try:
        import onnx
    except ModuleNotFoundError as error:
        raise XpnetError("onnx is not installed: pip install onnx") from error
    if (size := model.network.size * np.dtype(model.dtype).itemsize) > LARGEST:
        raise XpnetError(f"{size:,} bytes of weights are too many for one ONNX file; export to torch or npz")
    graph = _Graph(onnx)
    outputs = _build(graph, model)
    made = onnx.helper.make_model(
        graph.proto(("X", _input_type(model), ("rows", model.network.sizes[0])), outputs),
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR,
        producer_name="xpnet",
        producer_version=__version__,
    )
    onnx.helper.set_model_props(made, {KEY: json.dumps(describe(model), sort_keys=True)})
    onnx.checker.check_model(made, full_check=True)
    return made


def _input_type(model: MLP) -> np.dtype:
    integers = {largest: name for name, largest in SCALES.items()}
    return np.dtype(integers.get(model.scale or 1.0, model.dtype))


def _build(graph: "_Graph", model: MLP) -> list[Output]:
    """Add the nodes of a network, and tell its outputs."""
    dtype, network, arrays = np.dtype(model.dtype), model.network, model.host_parameters()
    A = "X"
    if _input_type(model) != dtype:
        A = graph.add("Cast", A, to=graph.number_of(dtype))
        A = graph.add("Div", A, np.asarray(model.scale, dtype))
    if model.inputs is not None:
        A = graph.add("Sub", A, model.inputs.mean.astype(dtype))
        A = graph.add("Div", A, model.inputs.std.astype(dtype))
    for l in range(1, network.depth + 1):
        Z = A = graph.add("Gemm", A, arrays[f"W{l}"], arrays[f"b{l}"], output=f"Z{l}")
        if l < network.depth and network.activations[l - 1] in ACTIVATIONS:
            A = graph.add(ACTIVATIONS[network.activations[l - 1]], Z, output=f"A{l}")

    answer = "numbers" if model.kind == "numbers" else "probabilities"
    last = graph.add(OUTPUTS.get(model.loss, "Identity"), Z, output=answer if model.targets is None else "")
    if model.targets is not None:
        last = graph.add("Mul", last, model.targets.std.astype(dtype))
        graph.add("Add", last, model.targets.mean.astype(dtype), output=answer)
    outputs: list[Output] = [(answer, dtype, ("rows", model.outputs))]
    if model.kind == "labels":
        held = graph.add("Greater", Z, np.zeros((), dtype))
        graph.add("Cast", held, to=graph.number_of(WHOLE), output="label")
        outputs.insert(0, ("label", WHOLE, ("rows", model.outputs)))
    elif model.kind == "classes":
        names = np.arange(model.outputs) if model.class_names is None else np.asarray(model.class_names)
        best = graph.add("ArgMax", Z, axis=1, keepdims=0)
        graph.add("Gather", names, best, output="label")
        outputs.insert(0, ("label", names.dtype, ("rows",)))
    return outputs


class _Graph:
    """Nodes and constants, as they are added."""

    def __init__(self, onnx: ModuleType) -> None:
        self.onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def number_of(self, dtype: np.dtype) -> int:
        """The number that ONNX gives to a type."""
        return int(
            self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(object) if dtype.kind == "U" else dtype)
        )

    def add(self, op: str, *inputs: str | np.ndarray, output: str = "", **attributes: int) -> str:
        """Add a node, whose inputs are outputs of others or constants. Returns the name of its output."""
        output = output or f"{op}{len(self.nodes)}"
        names = []
        for given in inputs:
            names.append(given if isinstance(given, str) else f"constant{len(self.constants)}")
            if not isinstance(given, str):
                held = given.astype(object) if given.dtype.kind == "U" else given
                self.constants.append(self.onnx.numpy_helper.from_array(held, names[-1]))
        self.nodes.append(self.onnx.helper.make_node(op, names, [output], **attributes))
        return output

    def proto(self, rows: Output, outputs: list[Output]) -> Any:
        """The graph, for any number of rows."""
        X, *answers = (
            self.onnx.helper.make_tensor_value_info(name, self.number_of(dtype), shape)
            for name, dtype, shape in (rows, *outputs)
        )
        return self.onnx.helper.make_graph(self.nodes, "xpnet", [X], answers, self.constants)
