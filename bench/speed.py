"""How many seconds does an epoch of MNIST take, beside what a user would pick instead?

Every contestant runs in a process of its own, one after the other, in several rounds of changing order; the
figure is the median over all its epochs but the first of each process. Run:

    python bench/speed.py                          # 784-128-10, batches of 32, 128 and 1024
    python bench/speed.py --network 512,512 --rows 12000

With fewer rows the seconds are still those of an epoch of 60,000.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from statistics import median, quantiles
from typing import Any

from contestants import CONTESTANTS
from report import write_results

import xpnet
from xpnet.cli.tables import print_table

EPOCH = 60_000


def main() -> None:
    """Run the rounds, or, as a worker, one contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--network", default="128", help="hidden sizes")
    parser.add_argument("--batch-size", type=int, action="append", help="may be repeated")
    parser.add_argument("--contestant", action="append", choices=list(CONTESTANTS), help="may be repeated")
    parser.add_argument("--rows", type=int, default=EPOCH)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=4, help="timed in each round")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = (784, *map(int, arguments.network.split(",")), 10)
    if arguments.worker:
        print(json.dumps(timed(arguments.contestant[0], sizes, arguments.batch_size[0], arguments)))
        return

    names = arguments.contestant or list(CONTESTANTS)
    results = []
    for m in arguments.batch_size or (32, 128, 1024):
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(arguments.rounds):
            for name in random.sample(names, len(names)):
                seconds[name] += worker(name, m, arguments)
        for name, times in seconds.items():
            low, _, high = quantiles(times, n=4)
            results.append(
                {"batch_size": m, "contestant": name, "seconds": median(times), "quartiles": [low, high]}
            )
        show(m, sizes, results)
    network = "-".join(map(str, sizes))
    write_results(f"speed-{network}", {"network": network, "rows": arguments.rows, "results": results})


def timed(name: str, sizes: tuple[int, ...], m: int, arguments: argparse.Namespace) -> list[float]:
    """Seconds of each epoch after the first, scaled to 60,000 rows."""
    data = xpnet.load_data()
    epoch = CONTESTANTS[name](sizes, m, data.X_train[: arguments.rows], data.y_train[: arguments.rows])
    epoch()
    times = []
    for _ in range(arguments.epochs):
        started = time.perf_counter()
        epoch()
        times.append((time.perf_counter() - started) * EPOCH / arguments.rows)
    return times


def worker(name: str, m: int, arguments: argparse.Namespace) -> list[float]:
    """Run `timed` in a process of its own."""
    command = [sys.executable, __file__, "--worker", "--contestant", name, "--batch-size", str(m)]
    command += [
        "--network",
        arguments.network,
        "--rows",
        str(arguments.rows),
        "--epochs",
        str(arguments.epochs),
    ]
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    times: list[float] = json.loads(answer.splitlines()[-1])
    return times


def show(m: int, sizes: tuple[int, ...], results: list[dict[str, Any]]) -> None:
    """Print a batch size's table, the fastest first."""
    rows = sorted((row for row in results if row["batch_size"] == m), key=lambda row: row["seconds"])
    lines = [
        [row["contestant"], f"{row['seconds']:.3f}", "{:.3f} to {:.3f}".format(*row["quartiles"])]
        for row in rows
    ]
    print(f"\n{'-'.join(map(str, sizes))}, batch {m}: seconds an epoch")
    print_table(lines, ["", "median", "quartiles"], right=1)


if __name__ == "__main__":
    main()
