"""How long does it take to get 97.5 % of MNIST's test digits right, from the start of the process?

Everybody learns the same network from the same files, a process each with a seed of its own, in changing
order, and tests after every epoch; the figures are medians over the seeds. Run:

    python bench/time_to_accuracy.py
"""

import argparse
import time
from itertools import count
from statistics import median
from typing import Any

from learners import LEARNERS
from report import HERE, write_results
from workers import Answer, ask, contest, spread

from xpnet.cli.tables import print_table

CONTESTANTS = ("xpnet numpy", "xpnet jax", "xpnet torch", "scikit-learn", "torch eager", "torch DataLoader")


def main() -> None:
    """Run everybody with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--contestant", action="append", choices=list(LEARNERS), help="may be repeated")
    parser.add_argument("--data", default="mnist", help="as for `xpnet train`")
    parser.add_argument("--target", type=float, default=0.975)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=20, help="after which a contestant has failed")
    arguments = parser.parse_args()

    names = arguments.contestant or CONTESTANTS
    limits = {"data": arguments.data, "target": arguments.target, "epochs": arguments.epochs}
    seeds = {name: count() for name in names}

    def act(name: str) -> Answer:
        task = {"contestant": name, "seed": next(seeds[name])} | limits
        return ask(HERE / "learners.py", **task, started=time.time())

    answers, errors = contest(names, arguments.seeds, act)
    results = [{"contestant": name} | outcome(runs, arguments.target) for name, runs in answers.items()]
    print_table([line(row) for row in results], ["", "from start", "from first step", "epochs"], right=1)
    write_results("time_to_accuracy", limits | {"results": results, "errors": errors, "runs": answers})


def outcome(runs: list[Answer], target: float) -> dict[str, Any]:
    """Medians over the seeds; the worst seed's best accuracy where one of them did not get there."""
    worst = min(max(run["accuracies"]) for run in runs)
    if worst < target:
        return {"reached": worst}
    return {
        "reached": target,
        "start": spread([run["tested"][-1] for run in runs]),
        "first_step": spread([run["tested"][-1] - run["ready"] for run in runs]),
        "epochs": median(len(run["tested"]) for run in runs),
    }


def line(row: dict[str, Any]) -> list[str]:
    """A contestant's line of the table."""
    if "start" not in row:
        return [row["contestant"], f"{row['reached']:.2%} at best", "", ""]
    seconds = [f"{row[since]['seconds']:.2f} s" for since in ("start", "first_step")]
    return [row["contestant"], *seconds, f"{row['epochs']:g}"]


if __name__ == "__main__":
    main()
