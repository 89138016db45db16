"""The measurements that a contestant's process makes.

Under "seconds" every answer holds a list of figures for each column of a table. The file imports only what
the contestants need, because start-up counts.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from contestants import make
from trainer import Answer, Setting, Trainer, Weights, classes_of, draw_batches, first_weights

import xpnet

Cells = dict[str, tuple[str, int]]
"""A network and a batch size for each column of the table: ("784-128-10", 128)."""

CALLS = 3
"""The number of calls that a contestant's time is divided into, at least."""

MOST_PREDICTIONS = 100_000
"""Predictions in one timed call."""


def steps(
    contestant: str, seed: int, cells: Cells, rows: int, seconds: float, per: int, device: str
) -> Answer:
    """Time training steps, in every cell of a line of the table.

    Parameters
    ----------
    seed
        Of the initial weights.
    rows
        Rows of MNIST to train on, at most.
    seconds
        To be timed in each cell.
    per
        Rows that the answer is for: an epoch, or a batch.

    Raises
    ------
    RuntimeError
        The contestant did not learn.
    """
    data = xpnet.load_data()
    found: Answer = {"seconds": {}}
    for column, (network, m) in cells.items():
        sizes = tuple(map(int, network.split("-")))
        setting = Setting(device, sizes, m, data.X_train[:rows], data.y_train[:rows])
        trainer, first = make(contestant, setting), first_weights(sizes, seed)
        trainer.begin(first)
        times = step_seconds(timed(trainer), len(setting.X) // m, seconds)
        check_learned(first, trainer.weights())
        found["seconds"][column] = [taken * per / m for taken in times]
        found |= trainer.notes()
    return found


def timed(trainer: Trainer) -> Callable[[int], float]:
    """Make a function that times so many steps on new batches. Drawing the batches is not counted."""
    rng, setting = np.random.default_rng(0), trainer.setting

    def act(steps: int) -> float:
        batches = draw_batches(rng, len(setting.X), setting.m)[:steps]
        rates = np.full(steps, setting.lr, np.float32)
        started = time.perf_counter()
        trainer.epoch(batches, rates)
        return time.perf_counter() - started

    return act


def step_seconds(act: Callable[[int], float], most: int, seconds: float) -> list[float]:
    """Time several calls that take about `seconds` together, and return the seconds of a step for each.

    A step that takes longer than that is timed once.

    Parameters
    ----------
    act
        Takes at least one step, and returns the seconds that they took.
    most
        Steps in a call, at most.
    """
    steps = 1
    while True:
        act(steps)  # compiles what is compiled for this number of steps
        times = [act(steps)]
        if steps == most or times[0] > seconds / CALLS / 2:
            break
        steps = min(most, max(2 * steps, int(steps * seconds / CALLS / times[0])))
    while sum(times) < seconds:
        times.append(act(steps))
    return [taken / steps for taken in times]


def check_learned(first: Weights, last: Weights) -> None:
    """Check that every weight matrix and bias has changed and is finite.

    Raises
    ------
    RuntimeError
        One has not, or is not.
    """
    for name, array in last.items():
        if np.array_equal(first[name], array) or not np.isfinite(array).all():
            raise RuntimeError(f"it does not learn: {name} has not changed, or is not finite")


def learned(
    contestant: str, seed: int, started: float, data: str, target: float, epochs: int, device: str = "cpu"
) -> Answer:
    """Train 784-128-10 until the test accuracy reaches `target`, or for so many epochs.

    On a GPU the learning rate falls from 0.5 to 0, as in `xpnet train`, and an epoch that does not count
    comes first, in which whatever compiles has compiled. On a CPU the rate stays at 0.5.

    Parameters
    ----------
    started
        `time.time` when this process was started.

    Returns
    -------
    answer
        The accuracy after every epoch, which the host computes for all contestants alike; and, if one of
        them reached the target, the seconds until then and the number of epochs.
    """
    loaded, rng = xpnet.load_data(data), np.random.default_rng(seed)
    sizes, X, y = (loaded.features, 128, loaded.classes), loaded.X_train, loaded.y_train
    trainer = make(contestant, Setting(device, sizes, 64, X, y, 0.5))
    weights = first_weights(sizes, seed)
    rates = np.full((epochs, len(X) // 64), 0.5, np.float32)
    trainer.begin(weights)
    if device != "cpu":
        rates *= 1 - np.arange(rates.size, dtype=np.float32).reshape(rates.shape) / rates.size
        trainer.epoch(draw_batches(rng, len(X), 64), rates[0])
        trainer.begin(weights)
    ready, training = time.time() - started, 0.0
    accuracies: list[float] = []
    while len(accuracies) < epochs and max(accuracies, default=-1.0) < target:
        batches, begun = draw_batches(rng, len(X), 64), time.perf_counter()
        trainer.epoch(batches, rates[len(accuracies)])
        training += time.perf_counter() - begun
        classes = classes_of(trainer.weights(), loaded.X_test.astype(np.float32) / 255)
        accuracies.append(float((classes == loaded.y_test).mean()))
    start, reached = time.time() - started, accuracies[-1] >= target
    found = {"from process start": start, "from first step": start - ready, "training alone": training}
    columns = {name: [seconds] if reached else [] for name, seconds in found.items()}
    columns["epochs"] = [len(accuracies)] if reached else []
    return {"seconds": columns, "accuracies": accuracies} | trainer.notes()


def predictions(contestant: str, seed: int, sizes: list[int], counts: list[int], seconds: float) -> Answer:
    """Time predictions, for every number of rows.

    Raises
    ------
    RuntimeError
        The contestant does not predict the classes of its network.
    """
    data, weights = xpnet.load_data(), first_weights(tuple(sizes), seed)
    X = data.X_train[: max(counts)].astype(np.float32) / 255
    trainer = make(contestant, Setting("cpu", tuple(sizes), 100, data.X_train[:100], data.y_train[:100]))
    trainer.begin(weights)
    found: Answer = {}
    for rows in counts:
        predict = trainer.predictor(X[:rows])
        if (np.asarray(predict()) == classes_of(weights, X[:rows])).mean() < 0.99:
            raise RuntimeError("it does not predict the classes of its network")

        def act(calls: int, predict: Callable[[], Any] = predict) -> float:
            started = time.perf_counter()
            for _ in range(calls):
                predict()
            return time.perf_counter() - started

        found[f"{rows:,} row{'s' if rows > 1 else ''}"] = step_seconds(act, MOST_PREDICTIONS, seconds)
    return {"seconds": found}
