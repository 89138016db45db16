"""xpnet as a contestant: its training step alone, and `xpnet.train`.

A process that measures another checkout of xpnet takes that checkout's own `ours.py`, if it has one, so this
file may use whatever this version of xpnet has inside.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from trainer import LeftOut, Setting, Trainer, Weights

import xpnet
from xpnet.backends import PRECISIONS
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD
from xpnet.nn.step import TrainingStep


class Ours(Trainer):
    """The training step, run by `Backend.scan`.

    Raises
    ------
    LeftOut
        The library does not drive the device, or has no such execution or precision there.
    """

    def __init__(self, setting: Setting, library: str, options: Sequence[str] = ()) -> None:
        super().__init__(setting)
        self.backend = get_backend(setting.device, library, options)
        network, loss = Network(setting.sizes), LOSSES["cross-entropy"]
        # all batches are whole, which a compiled step does not use; see xpnet.training.run
        padded = self.backend.execution.actual == "compiled"
        self.step = TrainingStep(self.backend.xp, network, loss, SGD(), 255.0, padded=padded)
        host = {"X": setting.X, "y": setting.y, "classes": np.arange(setting.sizes[-1], dtype=np.int32)}
        self.data = self.placed(host)

    def placed(self, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        """Move arrays to the device."""
        return {name: self.backend.asarray(array) for name, array in arrays.items()}

    def begin(self, weights: Weights) -> None:
        self.state = self.placed(weights)

    def move(self, batches: np.ndarray, rates: np.ndarray) -> tuple[dict[str, Any], Any]:
        """Move the counters of some steps, and their batches, to the device."""
        fresh = {"t": np.zeros(1, np.int32), "step": np.zeros(1, np.int32)}
        fresh |= {"loss": np.zeros(1, np.float32), "rates": rates}
        return self.placed(fresh), self.backend.asarray(batches)

    def run(self, counters: dict[str, Any], batches: Any) -> None:
        """Take the steps, and do not wait."""
        self.state = self.backend.scan(self.step, self.state | counters, batches, self.data)

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        with self.backend.running("float32"):
            self.run(*self.move(batches, rates))
            self.backend.synchronize(self.state)

    def weights(self) -> Weights:
        with self.backend.running("float32"):
            return {name: np.array(self.backend.to_numpy(self.state[name])) for name in self.names}

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        """`MLP.predict`."""
        model = xpnet.MLP(self.setting.sizes, backend=self.backend, parameters=self.weights())
        rows = self.backend.asarray(X)

        def predict() -> Any:
            classes = model.predict(rows)
            self.backend.synchronize({"classes": classes})
            return classes

        return predict

    def notes(self) -> dict[str, Any]:
        """How the steps ran."""
        return {"execution": str(getattr(self.backend, "execution", "unknown to older checkouts"))}


class Train(Ours):
    """`xpnet.train`, an epoch at a time. It draws its own batches."""

    def begin(self, weights: Weights) -> None:
        self.model = xpnet.MLP(self.setting.sizes, backend=self.backend, parameters=weights)

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        settings: dict[str, Any] = {"epochs": 1, "batch_size": self.setting.m, "lr": float(rates[0])}
        settings |= {
            "schedule": "constant",
            "validation": 0.0,
            "seed": int(batches[0, 0]),
        }  # as random as any
        xpnet.train(self.model, self.data["X"], self.data["y"], **settings)

    def weights(self) -> Weights:
        return self.model.host_parameters()


def get_backend(device: str, library: str, options: Sequence[str]) -> Any:
    """The backend with an execution and a precision.

    Raises
    ------
    LeftOut
        It is not there, or does not offer one of them on this device.
    """
    try:
        plain = xpnet.get_backend(device, library)
    except xpnet.XpnetError as error:
        raise LeftOut(str(error)) from error
    for option in options:
        if option not in (*plain.executions(), *plain.precisions()):
            raise LeftOut(f"{library} has no {option} on {plain.device}")
    chosen: Any = {"precision" if option in PRECISIONS else "execution": option for option in options}
    return xpnet.get_backend(device, library, **chosen) if chosen else plain
