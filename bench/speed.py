"""How many seconds does an epoch of MNIST take, beside what a user would pick instead?

Every contestant runs in a process of its own, one after the other, in several rounds of changing order; the
figure is the median over all its timed calls. Run:

    python bench/speed.py                          # three networks, batches of 32, 128 and 1024
    python bench/speed.py --network 512,512 --batch-size 128 --seconds 3

However few steps a contestant has time for, the seconds are those of an epoch of 60,000 rows.
"""

import argparse
import json
from typing import Any

from contestants import CONTESTANTS
from report import write_results
from workers import Answer, ask, contest, reply, spread, step_seconds

import xpnet
from xpnet.cli.tables import print_table

EPOCH = 60_000
NETWORKS = ("128", "512,512", "2048,2048")
YARDSTICKS = ("torch eager", "torch by hand", "jax scan")
"""Whom we are measured by on the larger networks, where the products take nearly all of the time."""

SLOW = 20.0
"""A contestant that needs more seconds for a round is not asked for another one."""


def main() -> None:
    """Run the rounds, or, as a worker, one contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", action="append", help="hidden sizes; may be repeated")
    parser.add_argument("--batch-size", type=int, action="append", help="may be repeated")
    parser.add_argument("--contestant", action="append", choices=list(CONTESTANTS), help="may be repeated")
    parser.add_argument("--rows", type=int, default=EPOCH, help="of MNIST, at most")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.6, help="timed of each batch size in each round")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        reply(measured(**arguments.worker))
        return
    for network in arguments.network or NETWORKS:
        race(network, arguments)


def race(network: str, arguments: argparse.Namespace) -> None:
    """Let the contestants run on one network, and write down what they took."""
    sizes = (784, *map(int, network.split(",")), 10)
    larger = [name for name in CONTESTANTS if name.startswith(("xpnet", "floor")) or name in YARDSTICKS]
    names = arguments.contestant or (list(CONTESTANTS) if network == NETWORKS[0] else larger)
    batches = arguments.batch_size or [32, 128, 1024]
    limits = {"rows": arguments.rows, "seconds": arguments.seconds}
    title = "-".join(map(str, sizes))

    def act(name: str) -> Answer:
        return ask(__file__, contestant=name, sizes=sizes, batches=batches, **limits)

    answers, errors = contest(names, arguments.rounds, act, title=title, slow=SLOW)
    results: list[dict[str, Any]] = [
        {"batch_size": m, "contestant": name} | spread([t for answer in given for t in answer["seconds"][i]])
        for i, m in enumerate(batches)
        for name, given in answers.items()
    ]
    for m in batches:
        show(m, title, results)
    kernels = {name: given[-1]["kernels"] for name, given in answers.items()}
    found = {"results": results, "errors": errors, "kernels": kernels}
    write_results(f"speed-{title}", {"network": title} | limits | found)


def measured(contestant: str, sizes: list[int], batches: list[int], rows: int, seconds: float) -> Answer:
    """Seconds of an epoch of 60,000 rows, as each timed call has it, for every batch size."""
    data = xpnet.load_data()
    X, y = data.X_train[:rows], data.y_train[:rows]
    answers = []
    for m in batches:
        run = CONTESTANTS[contestant](tuple(sizes), m, X, y)
        answers.append([taken * EPOCH / m for taken in step_seconds(run, len(X) // m, seconds)])
    return {"seconds": answers}


def show(m: int, network: str, results: list[dict[str, Any]]) -> None:
    """Print a batch size's table, the fastest first."""
    rows = sorted((row for row in results if row["batch_size"] == m), key=lambda row: row["seconds"])
    lines = [
        [row["contestant"], f"{row['seconds']:.3f}", "{:.3f} to {:.3f}".format(*row["quartiles"])]
        for row in rows
    ]
    print(f"\n{network}, batch {m}: seconds an epoch")
    print_table(lines, ["", "median", "quartiles"], right=1)


if __name__ == "__main__":
    main()
