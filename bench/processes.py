"""What does a step cost on several processes of this machine, and what does a simple model predict?

Every process has one thread. The model takes the time that one process needs for a batch of the size of a
part, and adds the time of the sum of all gradients, which is measured by itself. It needs mpi4py and an MPI
(`pip install mpi4py mpich`), and as many free cores. Run:

    python bench/processes.py                      # --processes 1 2 4 8 on a larger machine
"""

import json
import os
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from report import HERE, SMALL, publish
from trainer import Answer
from workers import measure, parse, run

import xpnet
from xpnet.training import Settings
from xpnet.training.inputs import Examples
from xpnet.training.run import STEPS_AT_ONCE, Run

CALLS = 5
"""Calls that are timed in each cell."""

LATENCY = "a sum of 8 bytes"


def main() -> None:
    """Measure, predict, and print both."""
    options = parse(
        __doc__,
        network=SMALL,
        processes=[1, 2],
        batch=[32, 128, 512, 1024, 4096],
        rounds=3,
        seconds=1.0,
    )
    beside = Path(sys.executable).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None:
        raise SystemExit("no mpiexec: pip install mpich")
    task = {"network": options.network, "batches": options.batch, "seconds": options.seconds}

    def turn(contestant: str, seed: int, **where: Any) -> Answer:
        child = [sys.executable, str(HERE / "child.py"), "processes.steps", json.dumps(task | {"seed": seed})]
        output, error = run([launcher, "-n", contestant.split()[0], *child], **where)
        return {"error": error} if error else dict(json.loads(output.splitlines()[-1]))

    names = [f"{n} process{'es' if n > 1 else ''}" for n in options.processes]
    results = measure(f"ms a step of {options.network}", names, turn, options)
    sizes = [int(size) for size in options.network.split("-")]
    vector = f"a sum of {4 * sum(a * b + b for a, b in pairwise(sizes)):,} bytes"
    results["results"] += predicted(results["results"], options.batch, vector)
    publish("processes", results)


def predicted(rows: list[dict[str, Any]], batches: list[int], vector: str) -> list[dict[str, Any]]:
    """Predict every step of several processes from the steps of one, and from the time of a sum.

    Parameters
    ----------
    vector
        The column of the sum of all gradients.
    """
    found = {(row["contestant"], row["column"]): row["median"] for row in rows}
    known = sorted(
        (m, found["1 process", f"batch {m}"]) for m in batches if ("1 process", f"batch {m}") in found
    )
    if len(known) < 2:
        return []
    (m1, t1), (m2, t2) = known[:2]
    lines = []
    for name in dict.fromkeys(name for name, column in found if column == vector):
        n = int(name.split()[0])
        for m in batches:
            part = -(-m // n)
            alone = np.interp(part, *zip(*known, strict=True))
            alone = t1 + (part - m1) * (t2 - t1) / (m2 - m1) if part < m1 else float(alone)
            taken = alone + found[name, vector]
            row = {"contestant": f"{name}, predicted", "column": f"batch {m}", "median": taken, "calls": 0}
            lines.append(row | {"quartiles": [taken, taken], "rounds": [taken]})
    return lines


def steps(network: str, batches: list[int], seconds: float, seed: int) -> Answer:
    """Time steps of one of several processes, and the sum by itself. The first process answers."""
    group, backend = xpnet.backends.joined(), xpnet.get_backend("cpu", "numpy", threads=1)
    data, sizes = xpnet.load_data(), tuple(map(int, network.split("-")))
    found: dict[str, list[float]] = {}
    with backend.running("float32"):
        for m in batches:
            model = xpnet.MLP(sizes, backend=backend, seed=seed)
            examples = Examples(data.X_train, data.y_train.astype(np.int32), None)
            training = Run(model, examples, Settings(batch_size=m, validation=0.0, lr=0.1, epochs=1))
            chunk = training.chunks(np.random.default_rng(seed).permutation(len(data.X_train)))[0]
            found[f"batch {m}"] = timed(training, chunk[:STEPS_AT_ONCE], seconds)
        for count in (2, model.network.size) if group.size > 1 else ():
            x, taken = np.zeros(count, np.float32), []
            for _ in range(200):
                started = time.perf_counter()
                group.sum(x)
                taken.append(time.perf_counter() - started)
            found[LATENCY if count == 2 else f"a sum of {4 * count:,} bytes"] = taken[50:]
    if group.rank:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    return {"seconds": found}


def timed(training: Run, chunk: np.ndarray, seconds: float) -> list[float]:
    """Time calls of as many steps as take `seconds` together: the seconds of a step in each."""
    state, part = training.begin().state, training.feed.sample()
    group, taken = training.model.backend.group, []
    count = len(chunk)
    for call in range(CALLS + 2):
        started = time.perf_counter()
        state, _ = training.advance(state, chunk[:count], np.full(count, 0.1, np.float32), part)
        taken.append((time.perf_counter() - started) / count)
        if call == 1:  # the first one finds cold caches
            count = group.first(lambda: max(1, min(len(chunk), int(seconds / CALLS / taken[1]))))
    return taken[2:]


if __name__ == "__main__":
    main()
