"""How does the cost grow with the rows, with the width and with the depth, and how much memory does it take?

The rows are MNIST's, repeated with noise, in files that are written to a temporary folder: more than 5 GB for
six million. They are trained on from memory, and streamed from their file within a limited memory. Widths and
depths are compared with the floor of their shape. Run:

    python bench/scaling.py                        # --largest 600000 where the disk is small
"""

import argparse
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from contestants import CONTESTANTS
from report import write_results
from workers import Answer, ask, contest, reply, spread, step_seconds

import xpnet

WIDTHS = {f"784-{width}-{width}-10": (784, width, width, 10) for width in (128, 256, 512, 1024, 2048)}
DEPTHS = {f"784-{'512-' * depth}10": (784, *[512] * depth, 10) for depth in (1, 2, 3, 4, 5, 6)}
BATCH_SIZE = 128
FEATURES = 784
PIECE = 6_000
"""Rows that are made at a time."""

HELD = 1_000_000
"""More rows are only streamed."""


def main() -> None:
    """Measure, or, as a worker, do one task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--smallest", type=int, default=60_000, help="rows; then ten times as many, and so on"
    )
    parser.add_argument("--largest", type=int, default=6_000_000, help="rows")
    parser.add_argument("--memory", type=int, default=2**28, help="bytes, for the rows that are streamed")
    parser.add_argument("--backend", default="numpy", help="that trains")
    parser.add_argument("--folder", type=Path, help="for the files of rows  [default: a temporary one]")
    parser.add_argument("--shape", action="append", choices=[*WIDTHS, *DEPTHS], help="may be repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="timed of each shape in each round")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        task = dict(arguments.worker)
        reply(TASKS[task.pop("task")](**task))
        return

    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        rows = growing_rows(Path(folder), arguments)
    shapes = growing_shapes(arguments)
    write_results("scaling", {"backend": arguments.backend, "memory": arguments.memory} | rows | shapes)


def growing_rows(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds a row and peak memory, for more and more rows, held in memory and streamed."""
    counts = [arguments.smallest]
    while counts[-1] * 10 <= arguments.largest:
        counts.append(counts[-1] * 10)
    needed, free = sum(counts) * (FEATURES + 4), shutil.disk_usage(folder).free
    if needed > free:
        raise SystemExit(f"{folder} has {free:,} bytes left and {needed:,} are needed: give a --largest")
    for count in counts:
        answer = ask(__file__, task="write", folder=str(folder / str(count)), rows=count)
        if "error" in answer:
            raise SystemExit(answer["error"])

    runs = {f"{count:,} rows held": (count, None) for count in counts if count <= HELD}
    runs |= {
        f"{count:,} rows streamed": (count, arguments.memory)
        for count in counts
        if count * FEATURES > arguments.memory
    }

    def act(name: str) -> Answer:
        count, memory = runs[name]
        task = {"folder": str(folder / str(count)), "memory": memory, "backend": arguments.backend}
        return ask(__file__, task="train", **task)

    answers, errors = contest(list(runs), arguments.rounds, act, title="rows")
    nothing = ask(__file__, task="nothing", backend=arguments.backend)["peak"]
    results: list[dict[str, Any]] = [
        {"rows": runs[name][0], "streamed": runs[name][1] is not None}
        | {"peak": max(answer["peak"] for answer in given)}
        | spread([seconds for answer in given for seconds in answer["seconds"]])
        for name, given in answers.items()
    ]
    for row in results:
        how = "streamed" if row["streamed"] else "held"
        print(f"{row['rows']:,} rows {how}: {row['seconds'] * 1e6:.2f} µs a row, {row['peak'] / 1e6:,.0f} MB")
    print(f"no rows: {nothing / 1e6:,.0f} MB")
    return {"rows": results, "nothing": nothing, "errors": errors}


def growing_shapes(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of a step and of its matrix products, for wider and for deeper networks."""
    shapes = {name: sizes for name, sizes in (WIDTHS | DEPTHS).items() if name in (arguments.shape or [name])}

    def act(name: str) -> Answer:
        task = {"sizes": shapes[name], "backend": arguments.backend, "seconds": arguments.seconds}
        return ask(__file__, task="step", **task)

    answers, errors = contest(list(shapes), arguments.rounds, act, title="shapes")
    results: list[dict[str, Any]] = [
        {"network": name}
        | {of: spread([t for answer in given for t in answer[of]]) for of in ("step", "floor")}
        for name, given in answers.items()
    ]
    for row in results:
        step, floor = row["step"]["seconds"], row["floor"]["seconds"]
        print(f"{row['network']}: {step * 1e3:.2f} ms a step, {step / floor:.2f} x its floor")
    kernels = {name: given[-1]["kernels"] for name, given in answers.items()}
    return {"shapes": results, "shape_errors": errors, "kernels": kernels}


def write(folder: str, rows: int) -> Answer:
    """Write MNIST's rows over and over, each time with other noise, a piece at a time."""
    data = xpnet.load_data()
    rng = np.random.default_rng(0)
    Path(folder).mkdir()
    for part, count, X, y in (
        ("train", rows, data.X_train, data.y_train),
        ("test", len(data.y_test), data.X_test, data.y_test),
    ):
        with (Path(folder) / f"x_{part}.npy").open("wb") as file:
            shape = {"descr": "|u1", "fortran_order": False, "shape": (count, FEATURES)}
            np.lib.format.write_array_header_1_0(file, shape)
            for start in range(0, count, PIECE):
                chosen = np.arange(start, min(start + PIECE, count)) % len(X)
                noise = rng.integers(-16, 17, (len(chosen), FEATURES), np.int16)
                (X[chosen] + noise).clip(0, 255).astype(np.uint8).tofile(file)
        np.save(Path(folder) / f"y_{part}.npy", y[np.arange(count) % len(y)])
    return {}


def train(folder: str, memory: int | None, backend: str) -> Answer:
    """Train on the rows in a folder: seconds a row of every epoch, and the process's peak memory."""
    X, y = (np.load(Path(folder) / f"{name}_train.npy", mmap_mode="r") for name in "xy")
    epochs = min(5, max(1, 300_000 // len(X)))
    model = xpnet.MLP(device="cpu", backend=backend)
    if memory is None:
        X, y = np.array(X), np.array(y)
    history = xpnet.train(model, X, y, memory=memory, epochs=epochs, batch_size=BATCH_SIZE, validation=0.0)
    return {"seconds": [epoch.seconds / len(X) for epoch in history.epochs], "peak": peak()}


def nothing(backend: str) -> Answer:
    """The memory of a process that has trained on hardly any rows."""
    model = xpnet.MLP(device="cpu", backend=backend)
    X, y = np.zeros((BATCH_SIZE, FEATURES), np.uint8), np.arange(BATCH_SIZE) % 10
    xpnet.train(model, X, y, epochs=1, validation=0.0)
    return {"peak": peak()}


def peak() -> int:
    """The most bytes that this process had in memory, pages of files that it has mapped included."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def step(sizes: list[int], backend: str, seconds: float) -> Answer:
    """Seconds of our step and of its floor, by turns."""
    data = xpnet.load_data()
    runs = {
        name: CONTESTANTS[f"{of} {backend}"](tuple(sizes), BATCH_SIZE, data.X_train, data.y_train)
        for name, of in (("step", "xpnet"), ("floor", "floor"))
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    for name in ("step", "floor", "floor", "step"):
        times[name] += step_seconds(runs[name], len(data.y_train) // BATCH_SIZE, seconds / 2)
    return times


TASKS: dict[str, Callable[..., Answer]] = {
    "write": write,
    "train": train,
    "nothing": nothing,
    "step": step,
}


if __name__ == "__main__":
    main()
