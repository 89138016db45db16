"""The protocol of every contestant: begin with given weights, take steps on given rows, return the weights.

A process of a benchmark imports this file first, so it imports nothing but NumPy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

EPOCH = 60_000
"""The number of rows of MNIST."""

Answer = dict[str, Any]
"""The reply of a process, with its "error" if it failed."""

Weights = dict[str, np.ndarray]
"""W1, b1, W2, b2, …: float32, on the host."""


class LeftOut(Exception):  # noqa: N818
    """A contestant cannot take part on this machine. That is not a failure."""


@dataclass(frozen=True)
class Setting:
    """What a contestant is made for.

    Attributes
    ----------
    device
        "cpu" or "cuda".
    sizes
        Units of every layer.
    m
        Batch size.
    X : (n, features) uint8
        Rows of pixels. A contestant divides them by 255.
    y : (n,)
        Labels.
    lr
        Learning rate of the contestants that cannot change theirs.
    """

    device: str
    sizes: tuple[int, ...]
    m: int
    X: np.ndarray
    y: np.ndarray
    lr: float = 0.1


class Trainer:
    """A contestant. It moves the rows to its device when it is made.

    Attributes
    ----------
    names
        W1, b1, W2, b2, …
    parameters
        The arrays of those names, on the device.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting, self.parameters = setting, list[Any]()
        self.names = [f"{kind}{layer}" for layer in range(1, len(setting.sizes)) for kind in "Wb"]

    def begin(self, weights: Weights) -> None:
        """Start anew from these weights, which are not written to."""
        self.parameters = [self.place(weights[name]) for name in self.names]

    def place(self, array: np.ndarray) -> Any:
        """Copy an array to where the contestant wants it."""
        return array.copy()

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        """Take one step for each batch, and wait for the last.

        Parameters
        ----------
        batches : (steps, m) int32
            Row numbers. A contestant that always draws its own batches draws as many.
        rates : (steps,) float32
            The learning rate of each step.
        """
        raise NotImplementedError

    def weights(self) -> Weights:
        """Copy the weights to the host. A floor, which does not learn, has none."""
        return dict(zip(self.names, map(np.array, self.parameters), strict=True))

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        """Move scaled float32 rows to the device, and return a function that computes their classes."""
        raise NotImplementedError

    def notes(self) -> dict[str, Any]:
        """Facts that are written beside the figures."""
        return {}


def first_weights(sizes: tuple[int, ...], seed: int) -> Weights:
    """He's initial weights, and biases of zero."""
    rng, weights = np.random.default_rng(seed), Weights()
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes), 1):
        W = rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)
        weights |= {f"W{layer}": W.astype(np.float32), f"b{layer}": np.zeros(fan_out, np.float32)}
    return weights


def draw_batches(rng: np.random.Generator, rows: int, m: int) -> np.ndarray:
    """The whole batches (steps, m) of an epoch, in random order."""
    order = rng.permutation(rows).astype(np.int32)
    return order[: rows - rows % m].reshape(-1, m)


def classes_of(weights: Weights, X: np.ndarray) -> np.ndarray:
    """The most probable class of each row of X, computed by NumPy on the host."""
    *hidden, W, b = weights.values()
    for w, v in zip(hidden[::2], hidden[1::2], strict=True):
        X = np.maximum(X @ w + v, 0)
    return np.asarray(np.argmax(X @ W + b, axis=1))
