"""The network as a user holds it: its description, its parameters on a device, and its file."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from math import isfinite, prod
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.arguments import brief, choice, instance, known_names, number, whole
from xpnet.arrays import SCALES, dtype_name, host_array, is_floating, scale_of, taken
from xpnet.backends import Backend, get_backend
from xpnet.data.checks import check_finite, check_type
from xpnet.data.mapped import read
from xpnet.data.rows import stream
from xpnet.errors import UsageError, XpnetError
from xpnet.files import FilePath
from xpnet.model_file import DESCRIPTION, read_model, write_model
from xpnet.model_file import DTYPES as DTYPES
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network, forward, initial_parameters
from xpnet.nn.typing import Array
from xpnet.scaling import Columns

NUMBERS_AT_ONCE = 2**23
"""Numbers in the output of a layer while it predicts or evaluates: bounds the memory of wide layers."""

LARGEST_SCALED, SOME_ROWS = 10.0, 100
"""A network that was trained on integers, which were divided to -1 … 1, refuses floats above
`LARGEST_SCALED`. It checks about `SOME_ROWS` rows, evenly spaced."""

LARGEST_NETWORK = 2**48
"""Parameters in a network at most: more is taken for a mistake."""


class MLP:
    """A multilayer perceptron: dense layers with an activation between them, and a loss.

    Parameters
    ----------
    sizes
        The number of units in every layer, from the input to the output: one output for each class, label or
        number.
    activation
        "relu", "tanh", "sigmoid" or "identity", or a sequence with one for each hidden layer.
    loss
        What the network is trained for: "cross-entropy" (one of several classes), "binary-cross-entropy"
        (labels, each 0 or 1), "squared-error" (numbers) or "poisson" (counts and rates). An underscore may
        take the place of a hyphen.
    seed
        Seed of the initial weights, which follow He for relu and Glorot for the other activations. They are
        the same on every library.
    dtype
        "float32" or "float64".
    device, backend
        Where the parameters live and which library computes, as for `xpnet.get_backend`; `backend` may also
        be what that function returned.
    parameters
        Host arrays W1, b1, … to start from instead of random ones; other names are ignored.
    scale
        What kind of rows the network was trained on: 1.0 for floats, the largest value of the type for
        integers (127, 255, 32767 or 65535), None if unknown. `train` sets it. It changes no computation:
        integers are always divided by the largest value of their type. But the network refuses rows of
        another kind than the one it was trained on.
    class_names
        The names of the classes, strings or numbers, in the order of their numbers. Targets may then be
        names. None if there are only class numbers.
    feature_names, image_shape
        The names of the columns of the rows, and the shape of images before they were made flat: (28, 28), or
        (28, 28, 3) for colours. None if they are unknown. They change no computation.
    inputs, targets
        How the columns of the rows, and targets that are numbers, are scaled before they enter. `train` sets
        them.

    Attributes
    ----------
    network : Network
        Sizes and activation.

    Raises
    ------
    UsageError
        An argument makes no sense, or is unknown.
    XpnetError
        The library or the device is not available.
    """

    def __init__(
        self,
        sizes: Iterable[int] = (784, 128, 10),
        *,
        activation: str | Sequence[str] = "relu",
        loss: str = "cross-entropy",
        seed: int = 0,
        dtype: str = "float32",
        device: str | None = None,
        backend: str | Backend | None = None,
        parameters: Mapping[str, np.ndarray] | None = None,
        scale: float | None = None,
        class_names: Sequence[Any] | None = None,
        feature_names: Sequence[str] | None = None,
        image_shape: Sequence[int] | None = None,
        inputs: Columns | None = None,
        targets: Columns | None = None,
        **unknown: Any,
    ) -> None:
        known_names(unknown, [*signature(MLP).parameters][:-1])
        self.network = _network(sizes, activation)
        self.loss = choice("loss", loss.replace("_", "-") if isinstance(loss, str) else loss, LOSSES)
        self.dtype = choice("dtype", dtype, DTYPES)
        self.scale = _scale(scale)
        self.class_names = _class_names(class_names, self.network.sizes[-1])
        self.feature_names = _feature_names(feature_names, self.network.sizes[0])
        self.image_shape = _image_shape(image_shape, self.network.sizes[0])
        self.inputs = _columns("inputs", inputs, self.network.sizes[0])
        self.targets = _columns("targets", targets, self.outputs if self.kind == "numbers" else 0)
        if self.kind == "classes" and self.outputs < 2:
            raise UsageError(
                "sizes end in 1, but cross-entropy needs two classes; or take binary-cross-entropy"
            )
        seed = whole("seed", seed, 0)
        self.backend = backend_of(device, backend)
        if not self.backend.supports(dtype):
            raise XpnetError(f"{self.backend.name} on {self.backend.device} has no {dtype}")
        if dtype == "float64" and self.backend.precision != "float32":
            raise UsageError(f"precision {self.backend.precision} belongs to float32, not to {dtype}")
        if parameters is None:
            parameters = initial_parameters(np, self.network, stream(seed, "weights"))
        host = _host_arrays(parameters, self.network, dtype)
        with self.backend.running(dtype):
            self.parameters = {name: self.backend.asarray(array) for name, array in host.items()}

    def __repr__(self) -> str:
        place = f"{self.backend.name} on {self.backend.device}"
        return f"MLP({self.network}, {self.loss}, {self.dtype}, {place})"

    @property
    def parameters(self) -> dict[str, Array]:
        """W1 (784, 128), b1 (128,), W2 (128, 10), b2 (10,), …: arrays of the library, on the device.

        Raises
        ------
        UsageError
            Arrays of other names or shapes are assigned.
        """
        return self._parameters

    @parameters.setter
    def parameters(self, arrays: dict[str, Array]) -> None:
        _check_shapes(arrays, self.network)
        self._parameters = arrays

    @property
    def outputs(self) -> int:
        """The number of outputs: classes, labels or numbers."""
        return self.network.sizes[-1]

    @property
    def kind(self) -> str:
        """What the outputs are: "classes", "labels" or "numbers"."""
        return LOSSES[self.loss].kind.name

    @property
    def description(self) -> dict[str, Any]:
        """The arguments of `xpnet.MLP` that describe this network, as JSON can hold them."""
        known = vars(self.network) | vars(self)
        found = {name: known[name] for name in DESCRIPTION}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in found.items()}

    @property
    def columns(self) -> dict[str, Columns]:
        """How columns are scaled: ``inputs`` and ``targets``, where they are."""
        pairs = {"inputs": self.inputs, "targets": self.targets}
        return {name: columns for name, columns in pairs.items() if columns is not None}

    def host_parameters(self) -> dict[str, np.ndarray]:
        """The parameters as NumPy arrays."""
        with self.backend.running(self.dtype):
            return {name: np.array(self.backend.to_numpy(a)) for name, a in self.parameters.items()}

    def to(self, device: str | None = None, backend: str | Backend | None = None) -> "MLP":
        """Copy this network to another device or library. Without an argument the copy stays here.

        With a device alone, the library stays the same if it drives that device. With a library alone, the
        device stays the same if it is this network's own library; otherwise it is that library's first one.
        The same library keeps the precision and the execution, where the other device has them too.
        """
        kind = device.partition(":")[0] if isinstance(device, str) else device
        if backend is None and (kind is None or kind in self.backend.kinds):
            backend = self.backend.name
        if isinstance(backend, str) and backend == self.backend.name:
            backend, device = _elsewhere(self.backend, device), None
        described: dict[str, Any] = self.description | self.columns
        return MLP(**described, device=device, backend=backend, parameters=self.host_parameters())

    def logits(self, X: Array) -> Array:
        """Compute Z_L, the output of the last layer: for classes the scores before softmax.

        Parameters
        ----------
        X : (m, features)
            Any array, frame or list on the host, or an array on the network's device. Integers of 8 or 16
            bits are divided by the largest value of their type.

        Returns
        -------
        logits : (m, outputs)
            An array of the network's library, on its device. A row that holds NaN has the logits NaN.

        Raises
        ------
        XpnetError
            X is on another device, has another shape or type, or holds large floats where the network was
            trained on integers.
        """
        backend, dtype = self.backend, self.backend.dtype(self.dtype)
        with backend.running(self.dtype), np.errstate(over="ignore"):
            X = taken(backend, X, "X")
            check_shape(self, X)
            held = check_type(X, "X", self.dtype) if isinstance(X, np.ndarray) else None

            def answer(rows: Array) -> Array:
                if held is not None:  # on the host, and perhaps mapped from a file
                    rows = np.asarray(read(rows), held)
                    rows = rows if backend.name == "numpy" else backend.asarray(rows)  # which would copy them
                divisor, part = input_scale(self, rows), backend.xp.astype(rows, dtype, copy=False)
                part = part / divisor if divisor != 1 else part
                part = part if self.inputs is None else self.inputs.scaled(part, self._place)
                return forward(backend.xp, self.network, self.parameters, part).Z[self.network.depth]

            return in_parts(self, X, answer)

    def predict_proba(self, X: Array) -> Array:
        """Compute the probabilities (m, outputs) of classes or labels; see `logits`.

        A row that holds NaN gets NaN.

        Raises
        ------
        XpnetError
            As for `logits`; or the network is trained for numbers.
        """
        if self.kind == "numbers":
            raise XpnetError(f"a network with {self.loss} has no probabilities; ask predict for its numbers")
        return self.output(self.logits(X))

    def output(self, logits: Array) -> Array:
        """Compute what logits (m, outputs) mean: probabilities, or numbers in the units of the targets."""
        with self.backend.running(self.dtype):
            A = LOSSES[self.loss].output(self.backend.xp, logits)
            return A if self.targets is None else self.targets.restored(A, self._place)

    def predict(self, X: Array) -> Array:
        """Find the most probable class, the labels or the numbers of every row; see `logits`.

        It waits for the device once, to see whether every row has an answer.

        Returns
        -------
        classes : (m,) integer
            Class numbers, which `class_names` maps to names.
        labels, numbers : (m, outputs), or (m,) for one output
            Labels are integers, 0 or 1; numbers are in the units of the targets.

        Raises
        ------
        XpnetError
            As for `logits`; or a row has no answer, because it holds NaN, infinity or too large a number.
        """
        backend, xp = self.backend, self.backend.xp
        with backend.running(self.dtype):
            logits = self.logits(X)
            if not isfinite(float(backend.to_numpy(xp.sum(logits)))):  # the cheapest look at all of them
                check_finite(backend.to_numpy(logits), "X, or the weights")
            if self.kind == "classes":
                return xp.argmax(logits, axis=1)
            labels = self.kind == "labels"
            answer = xp.astype(logits > 0, xp.int32) if labels else self.output(logits)
            return answer[:, 0] if self.outputs == 1 else answer

    def _place(self, column: np.ndarray) -> Array:
        return self.backend.asarray(column.astype(self.dtype))

    def save(self, path: str | Path) -> None:
        """Write the network as safetensors: the parameters, and one metadata key of JSON.

        Raises
        ------
        XpnetError
            The file cannot be written, or `parameters` are no longer those of this network.
        """
        write_model(path, self.host_parameters(), self.columns, self.description)


def _network(sizes: Any, activation: Any) -> Network:
    instance("sizes", sizes, Iterable, "whole numbers, such as (784, 128, 10)")
    units = tuple(whole("sizes: each", size, 1) for size in sizes)
    several = isinstance(activation, Sequence) and not isinstance(activation, str)
    names = [choice("activation", name, ACTIVATIONS) for name in (activation if several else [activation])]
    try:
        network = Network(units, tuple(names) if several else names[0])
    except ValueError as error:
        raise UsageError(str(error)) from error
    if network.size > LARGEST_NETWORK:
        raise UsageError(f"sizes {brief(sizes)} need {network.size:,} parameters, which are too many")
    return replace(network, activation=names[0]) if len(set(names)) == 1 else network


def _class_names(names: Any, k: int) -> tuple[Any, ...] | None:
    if names is None:
        return None
    try:
        plain = () if isinstance(names, str) else tuple(np.asarray(list(names)).tolist())
    except (TypeError, ValueError) as error:
        raise UsageError(f"class_names {brief(names)} must be strings or numbers") from error
    known = all(isinstance(name, str | int) or (isinstance(name, float) and isfinite(name)) for name in plain)
    if not known or len(set(plain)) != len(plain) or len(plain) != k:
        raise UsageError(f"class_names {brief(names)}: give {k} different strings or numbers, one a class")
    return plain


def _feature_names(names: Any, k: int) -> tuple[str, ...] | None:
    if names is None:
        return None
    plain = () if isinstance(names, str) or not isinstance(names, Iterable) else tuple(names)
    if not all(isinstance(name, str) for name in plain) or not len(plain) == len(set(plain)) == k:
        raise UsageError(f"feature_names {brief(names)}: give {k} different strings, one a column")
    return plain


def _image_shape(shape: Any, k: int) -> tuple[int, ...] | None:
    if shape is None:
        return None
    instance("image_shape", shape, Sequence, "sizes, such as (28, 28)")
    sizes = tuple(whole("image_shape: each", size, 1) for size in shape)
    if prod(sizes) != k or len(sizes) not in (2, 3):
        raise UsageError(f"image_shape {brief(shape)}: give height, width and, for colours, 3: {k} in all")
    return sizes


def _columns(what: str, columns: Columns | None, k: int) -> Columns | None:
    instance(what, columns, (Columns, type(None)), "xpnet.scaling.Columns")
    if columns is not None and not columns.matches(k):
        raise UsageError(f"{what} must have a finite mean and a std above 0 for each of {k} columns")
    return columns


def _scale(scale: Any) -> float | None:
    if scale is None:
        return None
    known = ", ".join(f"{largest:.0f} ({name})" for name, largest in SCALES.items())
    return number("scale", scale, f"1 (floats), {known} or None", (1.0, *SCALES.values()).__contains__)


def _host_arrays(parameters: Any, network: Network, dtype: str) -> dict[str, np.ndarray]:
    instance("parameters", parameters, Mapping, "arrays by name")
    try:
        given = {name: host_array(parameters[name], name) for name in network.shapes if name in parameters}
        host = {name: array.astype(dtype, casting="same_kind") for name, array in given.items()}
    except (TypeError, XpnetError) as error:
        raise UsageError(f"parameters must be host arrays of numbers: {error}") from error
    if not all(np.isfinite(array).all() for array in host.values()):
        raise UsageError("parameters must be finite numbers, without NaN and infinity")
    _check_shapes(host, network)
    return host


def _check_shapes(parameters: Any, network: Network) -> None:
    instance("parameters", parameters, dict, "arrays by name")
    found = {name: tuple(getattr(array, "shape", ())) for name, array in parameters.items()}
    if found != network.shapes:
        raise UsageError(f"parameters have shapes {brief(found)}, the network needs {network.shapes}")


def backend_of(device: str | None, backend: str | Backend | None) -> Backend:
    """Get the backend of a name, or take the one given, unless `device` contradicts it."""
    if not isinstance(backend, Backend):
        return get_backend(device, backend)
    if device not in (None, backend.device, backend.device.partition(":")[0]):
        given = f"{backend.name} on {backend.device}"
        raise UsageError(f"device {brief(device)}, but the backend given is {given}")
    return backend


def _elsewhere(backend: Backend, device: str | None) -> Backend:
    """Get the same library on another device, with the same options where that device has them."""
    if device is None:
        return backend
    there = get_backend(device, backend.name, alone=backend.alone)
    precision = backend.precision if backend.precision in there.precisions() else "float32"
    asked = backend.execution.asked
    execution = asked if asked in there.executions() else "auto"
    options: dict[str, Any] = {"precision": precision, "execution": execution, "alone": backend.alone}
    return get_backend(device, backend.name, **options)


def save(model: MLP, path: str | Path) -> None:
    """Write a network; see `MLP.save`."""
    instance("model", model, MLP, "an xpnet.MLP")
    model.save(path)


def load(path: str | Path, *, device: str | None = None, backend: str | Backend | None = None) -> MLP:
    """Read a network that any library wrote, onto any library and device.

    Raises
    ------
    XpnetError
        The file is missing, damaged, not an xpnet model, or holds other shapes than it says.
    """
    return made_of(path, read_model(path), backend_of(device, backend))


def made_of(path: FilePath, arguments: Mapping[str, Any], backend: Backend) -> MLP:
    """Make a network of the arguments that a file holds; where they make no sense, the error names it."""
    try:
        return MLP(backend=backend, **arguments)
    except UsageError as error:
        raise XpnetError(f"{path}: {error}") from error


def rows_at_once(network: Network, most: int) -> int:
    """How many rows go through the network together: at most `most`, and fewer where a layer is wide."""
    return max(1, min(most, NUMBERS_AT_ONCE // max(network.sizes)))


def in_parts(model: MLP, X: Array, answer: Callable[[Array], Array]) -> Array:
    """Answer as many rows at a time as the backend likes, and put the answers together."""
    m, size = X.shape[0], rows_at_once(model.network, model.backend.rows_at_once)
    if m <= size:
        return answer(X)
    parts = [answer(X[start : min(start + size, m), :]) for start in range(0, m, size)]
    return model.backend.xp.concat(parts, axis=0)


def check_shape(model: MLP, X: Array, what: str = "X") -> None:
    """Check that rows have the shape that a network takes.

    Raises
    ------
    XpnetError
        They do not.
    """
    features = model.network.sizes[0]
    if X.ndim != 2 or X.shape[1] != features or X.shape[0] == 0:
        raise XpnetError(f"{what} has shape {tuple(X.shape)}: this network takes (rows, {features})")


def input_scale(model: MLP, X: Array) -> float:
    """The divisor of rows: 1 for floats, the largest value of the type for integers.

    Rows must be like those that the network was trained on. Only if those were integers and these are floats
    does it look at numbers, those of about `SOME_ROWS` rows, and wait for the device. Call it within
    ``model.backend.running``.

    Raises
    ------
    XpnetError
        Integers of another type than the network was trained on, floats that are too large to have been
        divided, or rows that are no numbers.
    """
    name = dtype_name(X)
    scale = scale_of(name)
    if model.scale in (None, scale):
        return scale
    if not is_floating(name):
        trained = "floating-point rows" if model.scale == 1.0 else f"integers up to {model.scale:.0f}"
        raise XpnetError(f"X is {name}, but the network was trained on {trained}: scale X as those were")
    backend, xp = model.backend, model.backend.xp
    some = xp.astype(X[:: -(-X.shape[0] // SOME_ROWS), :], backend.dtype(model.dtype), copy=False)
    largest = float(backend.to_numpy(xp.max(xp.where(xp.isfinite(some), xp.abs(some), xp.zeros_like(some)))))
    if largest > LARGEST_SCALED:
        trained = f"trained on integers divided by {model.scale:.0f}"
        raise XpnetError(f"X: floats up to {largest:g}, but the network was {trained}: divide X likewise")
    return scale
