"""Which learning rate, batch size and schedule should be the defaults?

Trains the reference network once for every combination and seed, each on the same validation split of
MNIST's training rows, and prints the mean validation accuracy. The test set is not touched. Run:

    python bench/defaults.py
"""

import argparse
import itertools
import statistics
from typing import Any

import numpy as np
from report import write_results
from rich.progress import track

import xpnet
from xpnet.cli.tables import print_table


def main() -> None:
    """Run the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()

    data = xpnet.load_data()
    grid = list(itertools.product((32, 64, 128), (0.1, 0.2, 0.3, 0.5, 0.7), ("constant", "linear", "cosine")))
    results: list[dict[str, Any]] = []
    for batch_size, lr, schedule in track(grid):
        scores = []
        for seed in range(arguments.seeds):
            model = xpnet.MLP(seed=seed)
            history = xpnet.train(
                model,
                data.X_train,
                data.y_train,
                epochs=arguments.epochs,
                batch_size=batch_size,
                lr=lr,
                schedule=schedule,
                seed=seed,
            )
            scores.append(history.epochs[-1].validation_accuracy or 0.0)
        results.append(
            {
                "batch_size": batch_size,
                "lr": lr,
                "schedule": schedule,
                "mean": statistics.mean(scores),
                "worst": min(scores),
            }
        )
    results.sort(key=lambda row: -row["mean"])
    about = {"epochs": arguments.epochs, "seeds": arguments.seeds, "numpy": np.__version__}
    write_results("defaults", about | {"results": results})
    print_table(
        [
            [
                str(row["batch_size"]),
                f"{row['lr']:g}",
                str(row["schedule"]),
                f"{row['mean']:.2%}",
                f"{row['worst']:.2%}",
            ]
            for row in results
        ],
        ["batch size", "lr", "schedule", "mean", "worst"],
        right=0,
    )


if __name__ == "__main__":
    main()
