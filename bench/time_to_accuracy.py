"""How long does it take to get 97.5 % of MNIST's test digits right, from the start of the process?

Every contestant trains the same network on the same files, in batches of 64 and at a learning rate of 0.5.
Each seed has a process of its own, and the test set is tried after every epoch. The figures are medians over
the seeds that reached the target. Run:

    python bench/time_to_accuracy.py
"""

import time
from collections.abc import Iterable
from typing import Any

from report import publish
from trainer import Answer
from workers import ask, measure, parse

NAMES = [f"xpnet.train {library}" for library in ("numpy", "jax", "torch")]
NAMES += ["scikit-learn", "torch eager", "torch DataLoader"]


def main() -> None:
    """Train every contestant with every seed."""
    options = parse(__doc__, contestant=NAMES, data="mnist", target=0.975, rounds=5, epochs=20)
    task = {"data": options.data, "target": options.target, "epochs": options.epochs}
    publish("time_to_accuracy", train_all(options.contestant, task, options))


def train_all(names: Iterable[str], task: Answer, options: Any) -> dict[str, Any]:
    """Train the contestants until the target. A round is a seed."""

    def turn(**who: Any) -> Answer:
        return ask("measures.learned", started=time.time(), device=options.device, **task, **who)

    return task | measure(f"seconds to {task['target']:.1%} of {task['data']}", names, turn, options)


if __name__ == "__main__":
    main()
