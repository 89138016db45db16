"""The network as a user holds it: its description, its parameters on a device, and its file."""

from collections.abc import Iterable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.arguments import brief, choice, instance, number, whole
from xpnet.arrays import SCALES, check_owner, dtype_name, is_floating, scale_of
from xpnet.backends import Backend, get_backend
from xpnet.data.rows import stream
from xpnet.errors import UsageError, XpnetError
from xpnet.model_file import DTYPES as DTYPES
from xpnet.model_file import read_model, write_model
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.loss import softmax
from xpnet.nn.network import Network, forward, initial_parameters
from xpnet.nn.typing import Array

NUMBERS_AT_ONCE = 2**23
"""Numbers in the output of a layer while it predicts or evaluates: bounds the memory of wide layers."""

ROWS_AT_ONCE = 8192
"""Rows that go through the network together when it predicts, where its layers are not too wide for that."""

LARGEST_SCALED, FIRST_ROWS = 10.0, 100
"""A network that was trained on integers, which became -1 … 1, refuses rows of larger floats. It looks at the
first rows, which tell whether all were divided."""

LARGEST_NETWORK = 2**48
"""Parameters in a network at most: more is taken for a mistake."""


class MLP:
    """A multilayer perceptron: dense layers, an activation between them, softmax at the end.

    Parameters
    ----------
    sizes
        The number of units in every layer, from the input to the classes.
    activation
        "relu", "tanh", "sigmoid" or "identity".
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

    Attributes
    ----------
    network : Network
        Sizes and activation.
    parameters : dict
        W1 (784, 128), b1 (128,), W2 (128, 10), b2 (10,), …: arrays of the library, on the device.

    Raises
    ------
    UsageError
        An argument makes no sense.
    XpnetError
        The library or the device is not available.
    """

    def __init__(
        self,
        sizes: Iterable[int] = (784, 128, 10),
        *,
        activation: str = "relu",
        seed: int = 0,
        dtype: str = "float32",
        device: str | None = None,
        backend: str | Backend | None = None,
        parameters: Mapping[str, np.ndarray] | None = None,
        scale: float | None = None,
    ) -> None:
        self.network = _network(sizes, activation)
        self.dtype = choice("dtype", dtype, DTYPES)
        self.scale = _scale(scale)
        seed = whole("seed", seed, 0)
        self.backend = _backend(device, backend)
        if not self.backend.supports(dtype):
            raise XpnetError(f"{self.backend.name} on {self.backend.device} has no {dtype}")
        if dtype == "float64" and self.backend.precision != "float32":
            raise UsageError(f"precision {self.backend.precision} belongs to float32, not to {dtype}")
        if parameters is None:
            parameters = initial_parameters(np, self.network, stream(seed, "weights"))
        host = _host_arrays(parameters, self.network, dtype)
        with self.backend.running(dtype):
            self.parameters: dict[str, Array] = {
                name: self.backend.asarray(array) for name, array in host.items()
            }

    def __repr__(self) -> str:
        sizes = "-".join(map(str, self.network.sizes))
        place = f"{self.backend.name} on {self.backend.device}"
        return f"MLP({sizes}, {self.network.activation}, {self.dtype}, {place})"

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.network.sizes[-1]

    @property
    def description(self) -> dict[str, Any]:
        """The arguments of `xpnet.MLP` that describe this network, as JSON can hold them."""
        shape = {"sizes": list(self.network.sizes), "activation": self.network.activation}
        return shape | {"dtype": self.dtype, "scale": self.scale}

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
        return MLP(**self.description, device=device, backend=backend, parameters=self.host_parameters())

    def logits(self, X: Array) -> Array:
        """Compute Z_L, the scores before softmax.

        Parameters
        ----------
        X : (m, features)
            An array of this network's library, on its device. Integers of 8 or 16 bits are divided by the
            largest value of their type.

        Returns
        -------
        logits : (m, classes)
            An array of the same library, on the same device. A row that holds NaN has the logits NaN.

        Raises
        ------
        XpnetError
            X belongs to another library or device, has another shape or type, or holds large floats where
            the network was trained on integers.
        """
        check_owner(self.backend, X, "X")
        check_shape(self, X)
        xp, dtype = self.backend.xp, self.backend.dtype(self.dtype)
        size = rows_at_once(self.network, ROWS_AT_ONCE)
        with self.backend.running(self.dtype):
            divisor, parts = input_scale(self, X), []
            for start in range(0, X.shape[0], size):
                part = xp.astype(X[start : min(start + size, X.shape[0]), :], dtype, copy=False)
                Z, _ = forward(xp, self.network, self.parameters, part / divisor if divisor != 1 else part)
                parts.append(Z[self.network.depth])
            return xp.concat(parts, axis=0) if len(parts) > 1 else parts[0]

    def predict_proba(self, X: Array) -> Array:
        """Compute the probabilities (m, classes); see `logits`. A row that holds NaN gets NaN."""
        with self.backend.running(self.dtype):
            return softmax(self.backend.xp, self.logits(X))

    def predict(self, X: Array) -> Array:
        """Find the most probable class of every row, (m,) integer; see `logits`.

        It waits for the device once, to see whether every row has a class.

        Raises
        ------
        XpnetError
            As for `logits`; or a row has no class, because it holds NaN, infinity or too large a number.
        """
        backend, xp = self.backend, self.backend.xp
        with backend.running(self.dtype):
            logits = self.logits(X)
            if not isfinite(float(backend.to_numpy(xp.sum(logits)))):  # the cheapest look at all of them
                finite = np.isfinite(backend.to_numpy(logits)).all(axis=1)
                if not finite.all():
                    raise XpnetError(
                        f"X: row {int(np.argmin(finite)):,}, counted from 0, has no class: it holds NaN, "
                        f"infinity or a number too large for {self.dtype}, or the weights do"
                    )
            return xp.argmax(logits, axis=1)

    def save(self, path: str | Path) -> None:
        """Write the network as safetensors: the parameters, and one metadata key of JSON.

        Raises
        ------
        XpnetError
            The file cannot be written, or `parameters` are no longer those of this network.
        """
        write_model(path, self.host_parameters(), self.description)


def _network(sizes: Any, activation: Any) -> Network:
    choice("activation", activation, ACTIVATIONS)
    try:
        network = Network(tuple(whole("a size", size, 1) for size in sizes), activation)
    except (TypeError, ValueError) as error:
        raise UsageError(f"sizes {brief(sizes)}: give whole numbers, say (784, 128, 10) ({error})") from error
    if network.size > LARGEST_NETWORK:
        raise UsageError(f"sizes {brief(sizes)} need {network.size:,} parameters, which are too many")
    return network


def _scale(scale: Any) -> float | None:
    if scale is None:
        return None
    known = ", ".join(f"{largest:.0f} ({name})" for name, largest in SCALES.items())
    return number("scale", scale, f"1 (floats), {known} or None", (1.0, *SCALES.values()).__contains__)


def _host_arrays(parameters: Any, network: Network, dtype: str) -> dict[str, np.ndarray]:
    instance("parameters", parameters, Mapping, "arrays by name")
    given = [name for name in network.shapes if name in parameters]
    try:
        host = {name: np.asarray(parameters[name], dtype=dtype) for name in given}
    except (TypeError, ValueError) as error:
        raise UsageError(f"parameters must be host arrays of numbers: {error}") from error
    found = {name: array.shape for name, array in host.items()}
    if found != network.shapes:
        raise UsageError(f"parameters have shapes {found}, the network needs {network.shapes}")
    return host


def _backend(device: str | None, backend: str | Backend | None) -> Backend:
    """Get the backend of a name, or take the one given, unless `device` contradicts it."""
    if not isinstance(backend, Backend):
        return get_backend(device, backend)
    if device not in (None, backend.device, backend.device.partition(":")[0]):
        raise UsageError(f"device {device!r}, but the backend given is {backend.name} on {backend.device}")
    return backend


def _elsewhere(backend: Backend, device: str | None) -> Backend:
    """Get the same library on another device, with the same options where that device has them."""
    if device is None:
        return backend
    there = get_backend(device, backend.name)
    precision = backend.precision if backend.precision in there.precisions() else "float32"
    asked = backend.execution.asked
    execution = asked if asked in there.executions() else "auto"
    return get_backend(device, backend.name, precision=precision, execution=execution)


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
    return MLP(device=device, backend=backend, **read_model(path))


def rows_at_once(network: Network, most: int) -> int:
    """How many rows go through the network together: at most `most`, and fewer where a layer is wide."""
    return max(1, min(most, NUMBERS_AT_ONCE // max(network.sizes)))


def check_shape(model: MLP, X: Array) -> None:
    """Check that rows have the shape that a network takes.

    Raises
    ------
    XpnetError
        They do not.
    """
    features = model.network.sizes[0]
    if X.ndim != 2 or X.shape[1] != features or X.shape[0] == 0:
        raise XpnetError(f"X has shape {tuple(X.shape)}: this network takes (rows, {features})")


def input_scale(model: MLP, X: Array) -> float:
    """The divisor of rows: 1 for floats, the largest value of the type for integers.

    Rows must be like those that the network was trained on. Only if those were integers and these are floats
    does it look at numbers, those of the first `FIRST_ROWS` rows, and wait for the device. Call it within
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
    first = xp.astype(X[: min(FIRST_ROWS, X.shape[0]), :], backend.dtype(model.dtype), copy=False)
    largest = float(backend.to_numpy(xp.max(first)))
    if largest > LARGEST_SCALED:
        trained = f"trained on integers divided by {model.scale:.0f}"
        raise XpnetError(f"X: floats up to {largest:g}, but the network was {trained}: divide X likewise")
    return scale
