"""Who learns in `time_to_accuracy.py`, and takes a first step in `startup.py`.

All learn by plain SGD, in batches of 64 and at a constant learning rate of 0.5, a network of 784-128-10, as
their documentation teaches. A learner takes the data and a seed, and returns two functions: one learns for an
epoch, the other tells the test accuracy. This file is what a contestant's process runs, so it imports only
what everybody needs.
"""

import sys
import time
from collections.abc import Callable
from itertools import count
from json import loads
from typing import Any

import numpy as np

import xpnet

BATCH_SIZE = 64
LR = 0.5
HIDDEN = 128

Pair = tuple[Callable[[], object], Callable[[], float]]
Learner = Callable[[Any, int], Pair]


def xpnet_on(library: str) -> Learner:
    """Us, an epoch at a time."""

    def make(data: Any, seed: int) -> Pair:
        model = xpnet.MLP((data.features, HIDDEN, data.classes), seed=seed, device="cpu", backend=library)
        settings: dict[str, Any] = {"epochs": 1, "batch_size": BATCH_SIZE, "lr": LR}
        settings |= {"schedule": "constant", "validation": 0.0}
        arrays = data.X_train, data.y_train, data.X_test, data.y_test
        with model.backend.running("float32"):
            X, y, X_test, y_test = (model.backend.asarray(array) for array in arrays)
        seeds = count(seed)

        def learn() -> None:
            xpnet.train(model, X, y, seed=next(seeds), **settings)

        return learn, lambda: xpnet.evaluate(model, X_test, y_test).accuracy

    return make


def scikit_learn(data: Any, seed: int) -> Pair:
    """MLPClassifier."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(
        (HIDDEN,),
        solver="sgd",
        batch_size=BATCH_SIZE,
        learning_rate_init=LR,
        momentum=0.0,
        alpha=0.0,
        random_state=seed,
    )
    X, X_test = (part.astype(np.float32) / 255 for part in (data.X_train, data.X_test))
    classes = np.arange(data.classes)

    def learn() -> None:
        net.partial_fit(X, data.y_train, classes=classes)

    return learn, lambda: float(net.score(X_test, data.y_test))


def torch_with(loader: bool) -> Learner:
    """PyTorch, on tensors in place or fed by a DataLoader."""

    def make(data: Any, seed: int) -> Pair:
        import torch
        from torch import nn
        from torch.utils.data import DataLoader, TensorDataset

        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(data.features, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, data.classes))
        optimizer = torch.optim.SGD(net.parameters(), lr=LR)
        X, X_test = (torch.from_numpy(part).float() / 255 for part in (data.X_train, data.X_test))
        y, y_test = (torch.from_numpy(part).long() for part in (data.y_train, data.y_test))
        batches = DataLoader(TensorDataset(X, y), batch_size=BATCH_SIZE, shuffle=True)

        def drawn() -> Any:
            for rows in torch.randperm(len(X)).split(BATCH_SIZE):
                yield X[rows], y[rows]

        def learn() -> None:
            for rows, labels in batches if loader else drawn():
                optimizer.zero_grad()
                nn.functional.cross_entropy(net(rows), labels).backward()
                optimizer.step()

        @torch.inference_mode()
        def score() -> float:
            return float((net(X_test).argmax(1) == y_test).float().mean())

        return learn, score

    return make


LEARNERS: dict[str, Learner] = {
    **{f"xpnet {library}": xpnet_on(library) for library in ("numpy", "torch", "jax", "mlx", "dpnp")},
    "scikit-learn": scikit_learn,
    "torch eager": torch_with(loader=False),
    "torch DataLoader": torch_with(loader=True),
}


def learned(
    contestant: str, data: str, seed: int, target: float, epochs: int, started: float
) -> dict[str, Any]:
    """Learn until the test accuracy reaches `target`, or for so many epochs.

    Parameters
    ----------
    started
        When this process was started, as its parent's clock said.

    Returns
    -------
    answer
        Seconds since `started`: of the first step's beginning, and of the end of every epoch and of its
        test; and the accuracies that those found.
    """
    learn, score = LEARNERS[contestant](xpnet.load_data(data), seed)
    ready = time.time() - started
    learnt: list[float] = []
    tested: list[float] = []
    accuracies: list[float] = []
    while len(tested) < epochs and not (accuracies and accuracies[-1] >= target):
        learn()
        learnt.append(time.time() - started)
        accuracies.append(score())
        tested.append(time.time() - started)
    return {"ready": ready, "learnt": learnt, "tested": tested, "accuracies": accuracies}


if __name__ == "__main__":
    answer = learned(**loads(sys.argv[2]))
    from workers import reply  # what it imports is not the contestant's

    reply(answer)
