"""Trials: what every library computes. First each operation alone, then the whole network.

The inputs are drawn once, in float32, so that every library starts from the same numbers in both dtypes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from xpnet.backends import Backend
from xpnet.data import load_data
from xpnet.data.rows import stream
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.dense import dense, dense_backward, dense_backward_input
from xpnet.nn.loss import cross_entropy, cross_entropy_backward, log_softmax, softmax
from xpnet.nn.network import Network, backward, forward, initial_parameters
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.step import TrainingStep
from xpnet.nn.typing import Array, State

NETWORK = Network((784, 128, 10), "relu")
BATCH = 128
LR = 0.1
CORNER = 1e-5
"""A relu input closer to zero than this may have either sign in float32. Such inputs are drawn again."""

UPDATES: dict[str, Optimizer] = {
    "sgd": SGD(),
    "sgd momentum": SGD(momentum=0.9),
    "sgd nesterov": SGD(momentum=0.9, nesterov=True),
    "sgd weight decay": SGD(weight_decay=0.01),
    "adam": Adam(),
    "adam weight decay": Adam(weight_decay=0.01),
}


@dataclass(frozen=True)
class Inputs:
    """The inputs of the trials, on the host. All floating point arrays are float32.

    Attributes
    ----------
    arrays
        For the operations: X (m, 20), W (20, 30), b (30,), Z, dA, dZ (m, 30), Y (m, 30) one-hot labels, and
        shares (m,), which sum to 1.
    parameters
        The initial parameters of `NETWORK`.
    images, labels
        The training rows of MNIST, uint8, and their classes.
    batches : (steps, BATCH) int32
        The row numbers of every step.
    """

    arrays: dict[str, np.ndarray]
    parameters: dict[str, np.ndarray]
    images: np.ndarray
    labels: np.ndarray
    batches: np.ndarray


def draw_inputs(seed: int, steps: int) -> Inputs:
    """Draw the inputs of all trials."""
    rng = stream(seed, "parity")
    m, fan_in, fan_out = BATCH, 20, 30
    shapes = {
        "X": (m, fan_in),
        "W": (fan_in, fan_out),
        "b": (fan_out,),
        "Z": (m, fan_out),
        "dA": (m, fan_out),
        "dZ": (m, fan_out),
    }
    arrays = {name: _odd(rng.standard_normal(shape)) for name, shape in shapes.items()}
    arrays["Y"] = np.eye(fan_out, dtype=np.float32)[rng.integers(0, fan_out, m)]
    arrays["shares"] = np.full(m, 1 / m, dtype=np.float32)

    data = load_data("mnist")
    drawn = initial_parameters(np, NETWORK, rng)
    parameters = {
        name: array.astype(np.float32) if name.startswith("b") else _odd(array)
        for name, array in drawn.items()
    }
    batches = rng.integers(0, len(data.X_train), (steps, BATCH)).astype(np.int32)
    return Inputs(arrays, parameters, data.X_train, data.y_train, batches)


def _odd(array: np.ndarray) -> np.ndarray:
    """Cast to float32 and set the last bit.

    Then no number lies half way between two numbers of a shorter format, where one library rounds to the even
    one and another away from zero.
    """
    return (array.astype(np.float32).view(np.uint32) | np.uint32(1)).view(np.float32)


def place(backend: Backend, arrays: dict[str, np.ndarray], dtype: str) -> State:
    """Move host arrays to a device, and cast floating point arrays to `dtype`."""
    return {
        name: backend.asarray(array.astype(dtype) if array.dtype.kind == "f" else array)
        for name, array in arrays.items()
    }


def operations(backend: Backend, inputs: Inputs, dtype: str) -> Iterator[tuple[str, Array]]:
    """Compute every operation of the network and its derivative, and yield the results by name."""
    xp = backend.xp
    given = place(backend, inputs.arrays, dtype)
    X, W, b, Z, dA, dZ = (given[name] for name in ("X", "W", "b", "Z", "dA", "dZ"))

    yield "dense Z", dense(xp, X, W, b)
    dW, db = dense_backward(xp, dZ, X)
    yield "dense dW", dW
    yield "dense db", db
    yield "dense dA", dense_backward_input(xp, dZ, W)
    for name, (f, f_backward) in ACTIVATIONS.items():
        A = f(xp, Z)
        yield f"{name} A", A
        yield f"{name} dZ", f_backward(xp, dA, Z, A)
    yield "softmax A", softmax(xp, Z)
    log_A = log_softmax(xp, Z)
    yield "cross-entropy losses", cross_entropy(xp, log_A, given["Y"])
    yield "cross-entropy dZ", cross_entropy_backward(xp, log_A, given["Y"], given["shares"])
    for name, optimizer in UPDATES.items():
        given = place(backend, inputs.arrays, dtype)  # again, because an update may change them in place
        parameters = {"W1": given["W"], "b1": given["b"]}
        state = parameters | optimizer.memory(xp, parameters)
        for dW, db in ((given["W"] * 0.5, given["b"] * 2.0), (given["W"] * -0.25, given["b"] * 0.5)):
            state = optimizer.update(xp, state, {"W1": dW, "b1": db}, backend.asarray(np.full(1, LR, dtype)))
        yield f"{name} W", state["W1"]
        yield f"{name} b", state["b1"]


def whole(backend: Backend, inputs: Inputs, dtype: str) -> Iterator[tuple[str, Array]]:
    """Compute the forward pass, the loss and the gradient of one batch, and yield the results by name."""
    xp = backend.xp
    rows = inputs.batches[0]
    parameters = place(backend, inputs.parameters, dtype)
    X = backend.asarray((inputs.images[rows] / np.float64(255)).astype(dtype))
    Y = backend.asarray(np.eye(NETWORK.sizes[-1], dtype=dtype)[inputs.labels[rows]])
    Z, A = forward(xp, NETWORK, parameters, X)
    log_A = log_softmax(xp, Z[NETWORK.depth])
    yield "forward Z1", Z[1]
    yield "forward Z2", Z[2]
    yield "loss", xp.mean(cross_entropy(xp, log_A, Y), axis=0, keepdims=True)
    shares = backend.asarray(np.full(BATCH, 1 / BATCH, dtype))
    dZ = cross_entropy_backward(xp, log_A, Y, shares)
    gradients = backward(xp, NETWORK, parameters, Z, A, dZ)
    for name in NETWORK.shapes:
        yield f"gradient d{name}", gradients[name]


@dataclass(frozen=True)
class Stepper:
    """Takes training steps on a device: plain SGD with the learning rate `LR`, on MNIST."""

    backend: Backend
    dtype: str
    step: TrainingStep
    data: State

    @classmethod
    def prepare(cls, backend: Backend, inputs: Inputs, dtype: str) -> "Stepper":
        """Move the data to the device."""
        data = {
            "X": backend.asarray(inputs.images),
            "y": backend.asarray(inputs.labels),
            "classes": backend.asarray(np.arange(NETWORK.sizes[-1], dtype=np.int32)),
        }
        return cls(backend, dtype, TrainingStep(backend.xp, NETWORK, SGD(), scale=255.0), data)

    def run(self, state: dict[str, np.ndarray], batches: np.ndarray) -> dict[str, np.ndarray]:
        """Take a step for each row of `batches`. The given state and the returned one are on the host."""
        counters: dict[str, np.ndarray] = {
            "t": np.zeros(1, np.int32),
            "loss": np.zeros(1),
            "rates": np.full(len(batches), LR),
        }
        placed = place(self.backend, state | counters, self.dtype)
        placed = self.backend.scan(self.step, placed, self.backend.asarray(batches), self.data)
        return {name: np.array(self.backend.to_numpy(array)) for name, array in placed.items()}
