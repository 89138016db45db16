"""The network as a user holds it: its description, its parameters on a device, and its file."""

from collections.abc import Mapping, Sequence
from math import inf
from operator import index
from pathlib import Path

import numpy as np

from xpnet.arrays import check_owner, dtype_name, integer_scale, is_floating
from xpnet.backends import Backend, get_backend
from xpnet.data.rows import stream
from xpnet.errors import UsageError, XpnetError
from xpnet.files import read_tensors, write_tensors
from xpnet.nn.loss import softmax
from xpnet.nn.network import Network, forward, initial_parameters
from xpnet.nn.typing import Array

DTYPES = ("float32", "float64")
FORMAT = 1
"""Version of the model file."""

ROWS_AT_ONCE = 8192
"""Rows that go through the network together when it predicts: bounds the memory that takes."""


class MLP:
    """A multilayer perceptron: dense layers, an activation between them, softmax at the end.

    Parameters
    ----------
    sizes
        Units of every layer from the input to the classes.
    activation
        "relu", "tanh", "sigmoid" or "identity".
    seed
        Of the initial weights: He's for relu, Glorot's for the rest. The same on every library.
    dtype
        "float32" or "float64".
    device, backend
        Where the parameters live and by which library, as for `xpnet.get_backend`; `backend` may also be
        what that returned.
    parameters
        Host arrays W1, b1, … to start from instead of drawing them; further names are ignored.
    scale
        What integer inputs are divided by: by default the largest value of their type. Training sets it to
        that of the training data, or to 1 where they were floating point. Floats are left alone.

    Attributes
    ----------
    network : Network
        Sizes and activation.
    parameters : dict
        W1 (784, 128), b1 (128,), W2 (128, 10), b2 (10,), …: arrays of the library, on the device.

    Raises
    ------
    UsageError
        Values that cannot be meant.
    XpnetError
        The library or the device is not there.
    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 128, 10),
        *,
        activation: str = "relu",
        seed: int = 0,
        dtype: str = "float32",
        device: str | None = None,
        backend: str | Backend | None = None,
        parameters: Mapping[str, np.ndarray] | None = None,
        scale: float | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError(f"dtype {dtype!r}: choose one of {', '.join(DTYPES)}")
        if not isinstance(sizes, Sequence) or not all(hasattr(size, "__index__") for size in sizes):
            raise UsageError(f"sizes {sizes} must be a row of whole numbers, such as (784, 128, 10)")
        try:
            self.network = Network(tuple(index(size) for size in sizes), activation)
        except ValueError as error:
            raise UsageError(str(error)) from error
        self.dtype = dtype
        self.scale = scale
        self.backend = _backend(device, backend)
        if not self.backend.supports(dtype):
            raise XpnetError(f"{self.backend.name} on {self.backend.device} has no {dtype}")
        if dtype == "float64" and self.backend.precision != "float32":
            raise UsageError(f"precision {self.backend.precision} belongs to float32, not to {dtype}")
        if parameters is None:
            if not hasattr(seed, "__index__") or seed < 0:
                raise UsageError(f"seed must be a whole number, 0 or more, not {seed}")
            parameters = initial_parameters(np, self.network, stream(seed, "weights"))
        given = {name: np.shape(array) for name, array in parameters.items()}
        if {name: given.get(name) for name in self.network.shapes} != self.network.shapes:
            raise UsageError(f"parameters have shapes {given}, the network needs {self.network.shapes}")
        with self.backend.running(dtype):
            self.parameters: dict[str, Array] = {
                name: self.backend.asarray(np.asarray(parameters[name], dtype=dtype))
                for name in self.network.shapes
            }

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.network.sizes))
        place = f"{self.backend.name} on {self.backend.device}"
        return f"MLP({sizes}, {self.network.activation}, {self.dtype}, {place})"

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.network.sizes[-1]

    def host_parameters(self) -> dict[str, np.ndarray]:
        """The parameters as NumPy arrays."""
        with self.backend.running(self.dtype):
            return {name: np.array(self.backend.to_numpy(a)) for name, a in self.parameters.items()}

    def to(self, device: str | None = None, backend: str | Backend | None = None) -> "MLP":
        """A copy of this network elsewhere; given only a device, by the same library if that drives it.

        The same library computes there with the precision and the execution that it has here, where the
        device has them too; another one as `xpnet.get_backend` does by default.
        """
        if backend is None and device is not None and device.partition(":")[0] in self.backend.kinds:
            backend = self.backend.name
        if backend == self.backend.name:
            backend = _elsewhere(self.backend, device)
            device = None
        return MLP(
            self.network.sizes,
            activation=self.network.activation,
            dtype=self.dtype,
            device=device,
            backend=backend,
            parameters=self.host_parameters(),
            scale=self.scale,
        )

    def logits(self, X: Array) -> Array:
        """Z_L, the scores before softmax.

        Parameters
        ----------
        X : (m, features)
            An array of this network's library, on its device. Integers, of 8 or 16 bits, are scaled.

        Returns
        -------
        logits : (m, classes)
            Of the same library, on the same device.

        Raises
        ------
        XpnetError
            X belongs to another library or device, or has another shape or type.
        """
        check_owner(self.backend, X, "X")
        divisor = input_scale(self, dtype_name(X))
        if X.ndim != 2 or X.shape[1] != self.network.sizes[0] or X.shape[0] == 0:
            raise XpnetError(f"X has shape {tuple(X.shape)}: it must be (rows, {self.network.sizes[0]})")
        xp, dtype = self.backend.xp, self.backend.dtype(self.dtype)
        with self.backend.running(self.dtype):
            parts = []
            for start in range(0, X.shape[0], ROWS_AT_ONCE):
                part = xp.astype(X[start : min(start + ROWS_AT_ONCE, X.shape[0]), :], dtype, copy=False)
                Z, _ = forward(xp, self.network, self.parameters, part / divisor if divisor != 1 else part)
                parts.append(Z[self.network.depth])
            return xp.concat(parts, axis=0) if len(parts) > 1 else parts[0]

    def predict_proba(self, X: Array) -> Array:
        """Probabilities (m, classes); see `logits`."""
        with self.backend.running(self.dtype):
            return softmax(self.backend.xp, self.logits(X))

    def predict(self, X: Array) -> Array:
        """The most probable class of every row, (m,) integer; see `logits`."""
        with self.backend.running(self.dtype):
            return self.backend.xp.argmax(self.logits(X), axis=1)

    def save(self, path: str | Path) -> None:
        """Write the network as safetensors: the parameters, and one metadata key of JSON.

        Raises
        ------
        XpnetError
            The file cannot be written, or `parameters` are no longer those of this network.
        """
        arrays = self.host_parameters()
        found = {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}
        needed = {name: (shape, self.dtype) for name, shape in self.network.shapes.items()}
        if found != needed:
            raise XpnetError(f"parameters are {found}, but this network has {needed}")
        metadata = {
            "format": FORMAT,
            "kind": "model",
            "sizes": self.network.sizes,
            "activation": self.network.activation,
            "dtype": self.dtype,
            "scale": self.scale,
        }
        write_tensors(Path(path), arrays, metadata)


def _backend(device: str | None, backend: str | Backend | None) -> Backend:
    """The backend that is asked for by name, or itself, if that is not contradicted by `device`."""
    if not isinstance(backend, Backend):
        return get_backend(device, backend)
    if device not in (None, backend.device, backend.device.partition(":")[0]):
        raise UsageError(f"device {device!r}, but the backend given is {backend.name} on {backend.device}")
    return backend


def _elsewhere(backend: Backend, device: str | None) -> Backend:
    """The same library on another device, which keeps what that device has too."""
    there = get_backend(device, backend.name)
    precision = backend.precision if backend.precision in there.precisions() else "float32"
    asked = backend.execution.asked
    execution = asked if asked in there.executions() else "auto"
    return get_backend(device, backend.name, precision=precision, execution=execution)


def save(model: MLP, path: str | Path) -> None:
    """Write a network; see `MLP.save`."""
    model.save(path)


def load(path: str | Path, *, device: str | None = None, backend: str | Backend | None = None) -> MLP:
    """Read a network that any library wrote, onto any library and device.

    Raises
    ------
    XpnetError
        The file is missing, damaged, not an xpnet model, or holds other shapes than it says.
    """
    arrays, described = read_tensors(Path(path))
    if described.get("kind") != "model":
        raise XpnetError(f"{path}: not a model but a {described.get('kind')}; give model.safetensors")
    if described.get("format") != FORMAT:
        raise XpnetError(f"{path}: format {described.get('format')}; this xpnet reads format {FORMAT}")
    try:
        network = Network(tuple(int(n) for n in described["sizes"]), described["activation"])
        dtype, scale = described["dtype"], described["scale"]
        if dtype not in DTYPES or not (scale is None or 0 < float(scale) < inf):
            raise ValueError(f"dtype {dtype}, scale {scale}")
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise XpnetError(f"{path}: its description is damaged ({error})") from error
    found = {name: array.shape for name, array in arrays.items()}
    if found != network.shapes:
        raise XpnetError(f"{path}: holds {found}, but sizes {network.sizes} need {network.shapes}")
    if any(str(array.dtype) != dtype for array in arrays.values()):
        raise XpnetError(f"{path}: its arrays are not all {dtype}, as it says")
    return MLP(
        network.sizes,
        activation=network.activation,
        dtype=dtype,
        device=device,
        backend=backend,
        parameters=arrays,
        scale=scale,
    )


def input_scale(model: MLP, name: str) -> float:
    """What rows X of this dtype are divided by: 1 for floating point, its largest value for integers.

    Raises
    ------
    XpnetError
        Integers where the network was trained on something else, whose range they would not have.
    """
    if is_floating(name):
        return 1.0
    scale = integer_scale(name)
    if scale is None:
        raise XpnetError(f"X: {name} numbers; give uint8 or uint16, or floats already scaled")
    if model.scale not in (None, scale):
        trained = "floating-point rows" if model.scale == 1.0 else f"integers up to {model.scale:.0f}"
        raise XpnetError(f"X is {name}, but the network was trained on {trained}: scale X as those were")
    return scale
