"""Helpers for tests of models and training runs."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from xpnet import MLP, History, Progress
from xpnet.errors import XpnetError


def refused(call: Callable[..., object], *args: object, kind: type[Exception] = XpnetError, **options: object) -> str:
    """The message with which a call is refused. It is one line of at most a few hundred characters."""
    with pytest.raises(kind) as caught:
        call(*args, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 400
    return message


def bits(model: MLP) -> dict[str, bytes]:
    """The parameters, to be compared exactly."""
    return {name: array.tobytes() for name, array in model.host_parameters().items()}


def timeless(history: History) -> History:
    """A history without its seconds, which differ from run to run."""
    return History([replace(row, seconds=0.0) for row in history.epochs], history.best)


def losses(history: History) -> list[float]:
    """The training losses, then the validation losses."""
    validation = [row.validation_loss for row in history.epochs if row.validation_loss is not None]
    return [row.loss for row in history.epochs] + validation


class Recorder(Progress):
    """Keeps its reports, and raises KeyboardInterrupt at one of them.

    Parameters
    ----------
    epoch, chunk
        The report to raise at: the chunk of an epoch, 1 being the first; chunk 0 is the start of the run.
    """

    def __init__(self, epoch: int = -1, chunk: int = -1) -> None:
        self.stop = (epoch, chunk)
        self.reports: list[tuple[str | int, ...]] = []
        self.losses: dict[int, list[float]] = {}

    def _note(self, *report: str | int, at: tuple[int, int]) -> None:
        self.reports.append(report)
        if at == self.stop:
            raise KeyboardInterrupt

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        self._note("start", len(history.epochs), rows, epochs, at=(self.stop[0], 0))

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        self.losses.setdefault(epoch, []).append(loss)
        self._note("chunk", epoch, rows, at=(epoch, len(self.losses[epoch])))

    def on_epoch(self, history: History) -> None:
        self._note("epoch", len(history.epochs), at=(-2, -2))


def separable(rows: int = 300, features: int = 4, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Rows scattered about one point for each class, the points far apart. They cannot be written to."""
    rng = np.random.default_rng(11)
    y = np.arange(rows) % classes
    X = 2.0 * np.eye(classes, features)[y] + 0.3 * rng.standard_normal((rows, features))
    for array in (X, y):
        array.flags.writeable = False
    return X, y
