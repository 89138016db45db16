"""Trials: what every library computes. First each operation alone, then the whole network.

The inputs are drawn once, in float32, so that every library starts from the same numbers in both dtypes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backends import Backend
from xpnet.data import load_data
from xpnet.data.rows import stream
from xpnet.errors import DivergedError
from xpnet.model import MLP
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.dense import Product, dense, dense_backward, dense_backward_input
from xpnet.nn.distortion import Distortion, points, sample
from xpnet.nn.dropout import dropout_masks
from xpnet.nn.losses import LOSSES, canonical_backward, softmax
from xpnet.nn.network import Network, backward, forward, initial_parameters, is_weight
from xpnet.nn.optimizers import SGD, Adam, Optimizer, clip_by_norm, subtract
from xpnet.nn.typing import Array, State
from xpnet.training import Settings, evaluate
from xpnet.training.inputs import Examples
from xpnet.training.run import Run

NETWORK = Network((784, 128, 10), "relu")
BATCH = 128
LR = 0.1
EVALUATED = 10_000
"""Training rows on which the accuracy of a free run is measured."""

CORNER = 1e-5
"""A relu input closer to zero than this may have either sign in float32. Such inputs are drawn again."""

IMAGE = Distortion((28, 28), shift=2.0, rotate=15.0, scale=0.15, shear=0.15, elastic=8.0)
IMAGES = 8
"""The number of images that are distorted alone."""

UPDATES: dict[str, Optimizer] = {
    "sgd": SGD(),
    "sgd momentum": SGD(momentum=0.9),
    "sgd nesterov": SGD(momentum=0.9, nesterov=True),
    "sgd weight decay": SGD(weight_decay=0.01),
    "adam": Adam(),
    "adam weight decay": Adam(weight_decay=0.01),
    "adam epsilon": Adam(epsilon=1e-3, corrected_epsilon=False),
    "adamw": Adam(weight_decay=0.01, decoupled=True),
}


def _settings(**given: Any) -> Settings:
    return Settings(batch_size=BATCH, lr=LR, schedule="constant", validation=0.0, seed=7, **given)


@dataclass(frozen=True)
class Case:
    """One way to train the network.

    Attributes
    ----------
    settings
        The settings of the run.
    loss
        A key of `LOSSES`.
    weighted
        Whether the rows have weights, some of them 0.
    penalty
        alpha of the penalty, or 0.
    """

    settings: Settings
    loss: str = "cross-entropy"
    weighted: bool = False
    penalty: float = 0.0


PLAIN = Case(_settings())
FREE_RUN = Case(_settings(dropout=(0.1, 0.3)))
DISTORTIONS = "shift,rotate,scale,shear,elastic"
CASES = {
    **{loss: Case(_settings(momentum=0.9, clip=0.5), loss) for loss in LOSSES},
    "weights": Case(_settings(momentum=0.9, nesterov=True, augment=DISTORTIONS), weighted=True, penalty=1.0),
    # the usual epsilon would let the rounding of a tiny gradient decide the sign of a whole step
    "adamw": Case(_settings(dropout=(0.2, 0.5), clip=1.0, optimizer="adamw", epsilon=0.01)),
}
"""Cases of which a few steps are taken alone, from the initial parameters on."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of the trials, on the host. All floating point arrays are float32.

    Attributes
    ----------
    arrays
        For the operations: X (m, 20), W (20, 30), b (30,), Z, dA, dZ (m, 30), Y (m, 30) one-hot labels,
        shares (m,), which sum to 1, and classes (30,).
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
    shapes = {"X": (m, fan_in), "W": (fan_in, fan_out), "b": (fan_out,)}
    shapes |= dict.fromkeys(("Z", "dA", "dZ"), (m, fan_out))
    arrays = {name: _odd(rng.standard_normal(shape)) for name, shape in shapes.items()}
    arrays["Y"] = np.eye(fan_out, dtype=np.float32)[rng.integers(0, fan_out, m)]
    arrays["shares"] = np.full(m, 1 / m, dtype=np.float32)
    arrays["classes"] = np.arange(fan_out, dtype=np.int32)

    data = load_data("mnist")
    parameters = with_odd_weights(initial_parameters(np, NETWORK, rng))
    batches = rng.integers(0, len(data.X_train), (steps, BATCH)).astype(np.int32)
    return Inputs(arrays, parameters, data.X_train, data.y_train, batches)


def _odd(array: np.ndarray) -> np.ndarray:
    """Cast to float32 and set the last bit.

    Then no number lies half way between two numbers of a shorter format, where one library rounds to the even
    one and another away from zero.
    """
    return (array.astype(np.float32).view(np.uint32) | np.uint32(1)).view(np.float32)


def with_odd_weights(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Change a state so that no weight lies half way: its rounding could decide the sign of a relu input."""
    return {name: _odd(array) if is_weight(name) else array for name, array in state.items()}


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
    number, array = 0.875, backend.asarray(np.full(1, 0.875, dtype))
    for name, kept in (("W", None), ("0.875 W", number), ("kept W", array)):
        # W + 0 is a copy, because the library may write to it
        yield f"{name} - product", subtract(xp, W + 0.0, Product(X, dZ), kept)
    for name, (f, f_backward) in ACTIVATIONS.items():
        A = f(xp, Z)
        yield f"{name} A", A
        yield f"{name} dZ", f_backward(xp, dA, Z, A)
    yield "softmax A", softmax(xp, Z)
    for name, loss in LOSSES.items():
        T = given["Y"] if loss.kind.name != "numbers" else xp.abs(dA)
        losses, A = loss.forward(xp, Z, T)
        yield f"{name} losses", losses
        yield f"{name} A", A
        yield f"{name} dZ", loss.backward(xp, A, T, given["shares"][:, None])
        for sum_name, array in loss.kind.sums(xp, Z, A, T, given["shares"], given["classes"]).items():
            yield f"{name} {sum_name}", array
    key = backend.asarray(np.full(1, 3, np.int32)), backend.asarray(np.full(1, 1000, np.int32))
    places = backend.asarray(np.arange(BATCH * 8, dtype=np.int32))
    masks = dropout_masks(xp, (0.25,), (30,), key, places, BATCH, Z.dtype)
    yield "dropout mask", masks[0]
    tables = {name: table.astype(dtype) for name, table in IMAGE.constants(np).items()}
    tables = {name: backend.asarray(table) for name, table in tables.items()}
    y, x = points(xp, IMAGE, tables | {"places": places}, key, IMAGES)
    yield "distortion y", y
    yield "distortion x", x
    images = backend.asarray(inputs.images[:IMAGES])
    yield "distorted images", sample(xp, images, IMAGE.shape, y, x, places)
    yield "clip dZ", clip_by_norm(xp, {"Z": dZ}, 1.5)["Z"]
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
    computed = forward(xp, NETWORK, parameters, X)
    yield "forward Z1", computed.Z[1]
    yield "forward Z2", computed.Z[2]
    losses, A2 = LOSSES["cross-entropy"].forward(xp, computed.Z[2], Y)
    yield "loss", xp.mean(losses, axis=0, keepdims=True)
    dZ2 = canonical_backward(xp, A2, Y, 1 / BATCH)
    gradients = backward(xp, NETWORK, parameters, computed, dZ2)
    for name in NETWORK.shapes:
        yield f"gradient d{name}", gradients[name]


class Stepper:
    """Takes the training steps of a case on a device, with the learning rate `LR`, on MNIST.

    Attributes
    ----------
    run
        The run that the steps belong to.
    """

    def __init__(self, backend: Backend, inputs: Inputs, dtype: str, case: Case = FREE_RUN) -> None:
        parameters, y = inputs.parameters, targets(LOSSES[case.loss].kind.name, inputs.labels)
        weights = np.arange(len(y)) % 4.0 if case.weighted else None
        described: dict[str, Any] = {"loss": case.loss, "dtype": dtype, "image_shape": IMAGE.shape}
        model = MLP(NETWORK.sizes, backend=backend, parameters=parameters, **described)
        self.run = Run(model, Examples(inputs.images, y, weights), case.settings)
        self.part = self.run.feed.sample()
        self.data = self.part.data
        if case.penalty:
            self.data |= place(backend, {"penalty": np.full(1, case.penalty)}, dtype)

    def begin(self) -> dict[str, np.ndarray]:
        """The state before the first step, on the host."""
        return self._fetched(self.run.begin().state) | {"loss": np.zeros(1)}

    def off_the_corner(self, state: dict[str, np.ndarray], rows: np.ndarray) -> bool:
        """Whether every relu input of a batch is farther from zero than `CORNER`. For NumPy."""
        X = self.run.step.gather(state, rows, self.data)[0]
        masks = self.run.step.masks(state, self.data, len(rows))
        Z = forward(np, NETWORK, state, X, masks).Z
        return all(float(np.min(np.abs(Z[layer]))) > CORNER for layer in range(1, NETWORK.depth))

    def take(self, state: dict[str, np.ndarray], batches: np.ndarray) -> dict[str, np.ndarray]:
        """Take a step for each row of `batches`. The given state and the returned one are on the host."""
        model = self.run.model
        placed = place(model.backend, state, model.dtype)
        rates = self.run.rates(0, len(batches))
        return self._fetched(self.run.advance(placed, batches, rates, self.part)[0])

    def accuracy(self, state: dict[str, np.ndarray], inputs: Inputs) -> float:
        """The accuracy on some training rows of the network with the parameters of a state, or NaN."""
        model = self.run.model
        model.parameters = place(model.backend, self.run.parameters(state), model.dtype)
        try:
            return evaluate(model, inputs.images[:EVALUATED], inputs.labels[:EVALUATED]).accuracy
        except DivergedError:  # NaN fails its gate like any other error, and the report goes on
            return float("nan")

    def _fetched(self, state: State) -> dict[str, np.ndarray]:
        return {name: np.array(self.run.model.backend.to_numpy(array)) for name, array in state.items()}


def targets(kind: str, labels: np.ndarray) -> np.ndarray:
    """Targets of a kind, made from the classes of MNIST."""
    digits, j = labels[:, np.newaxis].astype(np.int64), np.arange(NETWORK.sizes[-1])
    if kind == "labels":
        return (digits >= j).astype(np.float32)
    return (digits * (j + 1) % 10 / 3).astype(np.float32) if kind == "numbers" else labels
