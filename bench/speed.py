"""How many seconds does an epoch of MNIST take, beside what a user would pick instead?

Every contestant runs in a process of its own, one after the other, in several rounds of changing order; the
figure is the median of all its timed calls. Run:

    python bench/speed.py                          # three networks, batches of 32, 128 and 1024
    python bench/speed.py --network 784-512-512-10 --batch 128 --seconds 3
    python bench/speed.py --against ../xpnet-before --contestant "xpnet numpy" --rounds 9

However few steps a contestant has time for, the seconds are those of an epoch of 60,000 rows.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from contestants import CPU
from report import NETWORKS, SMALL, publish
from trainer import EPOCH
from workers import ask, measure, parse

LARGER = [f"{whose} {library}" for whose in ("xpnet", "floor") for library in CPU]
LARGER += ["torch eager", "torch by hand", "jax scan"]
"""The contestants on the larger networks, where the matrix products take nearly all of the time."""

BATCHES = [32, 128, 1024]
LIMITS: dict[str, Any] = {"rounds": 3, "seconds": 0.6}
ALL = [*LARGER, "torch compile", "torch DataLoader", "jax jit", "scikit-learn", "numpy, a beginner's"]


def main() -> None:
    """Race on every network."""
    options = parse(__doc__, network=NETWORKS, batch=BATCHES, contestant=ALL, rows=EPOCH, **LIMITS)
    for network in options.network:
        names = LARGER if network != SMALL and options.contestant == ALL else options.contestant
        cells = {f"batch {m}": (network, m) for m in options.batch}
        publish(f"speed-{network}", race(f"seconds an epoch of {network}", cells, names, options))


def race(
    title: str, cells: Mapping[str, tuple[str, int]], names: Iterable[str], options: Any, per: int = EPOCH
) -> dict[str, Any]:
    """Time so many rows on some networks and batch sizes, one for each column of the table."""
    if short := [column for column, (_, m) in cells.items() if m > options.rows]:
        raise SystemExit(f"{short[0]} needs more --rows than {options.rows}")
    limits = {"rows": options.rows, "seconds": options.seconds}
    turn = partial(ask, "measures.steps", cells=cells, per=per, device=options.device, **limits)
    return limits | measure(title, names, turn, options)


if __name__ == "__main__":
    main()
