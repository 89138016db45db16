"""Which learning rate, batch size and schedule should be the defaults?

Trains the reference network once for every combination and seed, each on the same validation split of MNIST's
training rows, and tells the mean validation accuracy. The test set is not touched. Run:

    python bench/defaults.py
"""

from itertools import product
from statistics import mean
from typing import Any

from report import defaults, write_results
from workers import parse

import xpnet
from xpnet.cli.progress import show

BATCH_SIZES, RATES, SCHEDULES = (32, 64, 128), (0.1, 0.2, 0.3, 0.5, 0.7), ("constant", "linear", "cosine")


def main() -> None:
    """Train every combination."""
    options, data, found = parse(__doc__, seeds=3, epochs=10), xpnet.load_data(), []
    grid = [*product(BATCH_SIZES, RATES, SCHEDULES)]
    for number, (batch_size, lr, schedule) in enumerate(grid):
        show("tried", f"{number} of {len(grid)}")
        settings: dict[str, Any] = {"batch_size": batch_size, "lr": lr, "schedule": schedule}
        scores = []
        for seed in range(options.seeds):
            about = settings | {"epochs": options.epochs, "seed": seed}
            history = xpnet.train(xpnet.MLP(seed=seed), data.X_train, data.y_train, **about)
            scores.append(history.epochs[-1].validation_accuracy or 0.0)
        found.append(settings | {"mean": mean(scores), "worst": min(scores)})
    found.sort(key=lambda row: -row["mean"])
    results = {"epochs": options.epochs, "seeds": options.seeds, "results": found}
    write_results("defaults", results)
    print(defaults(results))


if __name__ == "__main__":
    main()
