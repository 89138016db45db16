"""Which learning rate, batch size and schedule should be the defaults?

For the cross-entropy it trains the reference network once for every combination and seed, each on the same
validation split of MNIST's training rows, and tells the mean validation accuracy, without the test set.
For every other loss it tries learning rates on small tables that are made here, and on the diabetes table of
scikit-learn where that is installed, and tells the validation loss. Run:

    python bench/defaults.py                       # or one of them: --loss poisson
"""

from contextlib import suppress
from functools import partial
from itertools import product
from statistics import mean
from typing import Any

import numpy as np
from report import defaults, publish, write_results
from trainer import Answer
from workers import ask, measure, parse

import xpnet
from xpnet.cli.progress import show
from xpnet.nn.losses import LOSSES
from xpnet.nn.metrics import LABELS

BATCH_SIZES, RATES, SCHEDULES = (32, 64, 128), (0.1, 0.2, 0.3, 0.5, 0.7), ("constant", "linear", "cosine")
SMALL_RATES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
MNIST = "cross-entropy"
"""The loss that is measured on MNIST."""


def main() -> None:
    """Try all learning rates of every loss."""
    options = parse(__doc__, loss=[*LOSSES], seeds=3, epochs=10, rounds=1)
    about = {"epochs": options.epochs, "seeds": options.seeds}
    for loss in options.loss:
        if loss == MNIST:
            results = about | {"results": of_classes(options)}
            write_results("defaults", results)
            print(defaults(results))
        else:
            names, turn = (
                [f"{loss}, {name}" for name in tables(loss)],
                partial(ask, "defaults.of_table", **about),
            )
            results = measure("validation loss at a learning rate of", names, turn, options)
            publish(f"defaults-{loss}", about | results)


def of_classes(options: Any) -> list[dict[str, Any]]:
    """Train every combination on MNIST."""
    data, found = xpnet.load_data(), []
    grid = [*product(BATCH_SIZES, RATES, SCHEDULES)]
    for number, (batch_size, lr, schedule) in enumerate(grid):
        show("tried", f"{number} of {len(grid)}")
        settings: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "schedule": schedule}
        scores = []
        for seed in range(options.seeds):
            about = settings | {"epochs": options.epochs, "seed": seed}
            history = xpnet.train(xpnet.MLP(seed=seed), data.X_train, data.y_train, **about)
            scores.append(history.epochs[-1].validation_accuracy)
        found.append(settings | {"mean": mean(scores), "worst": min(scores)})
    return sorted(found, key=lambda row: -row["mean"])


def of_table(contestant: str, seed: int, seeds: int, epochs: int) -> Answer:
    """Train with every learning rate and seed, and return the last validation losses.

    A rate at which a run diverges has none.
    """
    loss, _, name = contestant.partition(", ")
    X, y = tables(loss)[name]

    def last_loss(lr: float, seed: int) -> float:
        model = xpnet.MLP((X.shape[1], 128, y[0].size), loss=loss, seed=seed)
        history = xpnet.train(model, X, y, standardize=True, lr=lr, epochs=epochs, seed=seed)
        return history.epochs[-1].validation_loss

    found: dict[str, list[float]] = {f"{lr:g}": [] for lr in SMALL_RATES}
    for lr in SMALL_RATES:
        with suppress(xpnet.DivergedError):
            found[f"{lr:g}"] = [last_loss(lr, seed) for seed in range(seeds)]
    return {"seconds": found}


def tables(loss: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Make tables (rows, 20) with one target and with three, and find the one of scikit-learn."""
    rng, made, labels = np.random.default_rng(0), {}, LOSSES[loss].kind is LABELS
    for rows, outputs in ((500, 1), (5000, 1), (5000, 3)):
        X = rng.standard_normal((rows, 20))
        Z = np.tanh(X @ rng.standard_normal((20, 10)) / 4) @ rng.standard_normal((10, outputs))
        noisy = Z + 0.3 * rng.standard_normal(Z.shape)
        y = rng.poisson(np.exp(Z)) if LOSSES[loss].positive else 50 + 20 * noisy
        made[f"{rows:,} rows, {outputs} wide"] = X, 1.0 * (noisy > 0) if labels else 1.0 * y
    try:
        from sklearn.datasets import load_diabetes
    except ImportError:
        return made
    X, y = load_diabetes(return_X_y=True)
    return made | {"diabetes": (X, 1.0 * (y > np.median(y)) if labels else y)}


if __name__ == "__main__":
    main()
