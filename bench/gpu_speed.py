"""Who is fastest on this GPU, and by how much? Ours, and what a user would pick instead, side by side.

    python bench/gpu_speed.py                      # also a part of `python bench/gpu.py`

Every contestant runs in a process of its own, in several rounds of changing order. Measured are the seconds
of an epoch of MNIST, waiting for the device at its end only; the kernels and the launches of a step; and the
seconds of training until 98 % of the test set are right. All get the same rows in the same order, the same
first weights and the same learning rates. Results go to ``results/gpu-speed-NAME.json`` after every process.
A contestant that fails is put down with its error; only a failure of ours makes the command fail.
"""

import argparse
import importlib.metadata
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from gpu_contestants import (
    CONTESTANTS,
    CUPY_CAPTURED,
    EXTRAS,
    JAX_SCAN,
    LR,
    MAIN,
    ONLY_CUDA,
    TORCH_EAGER,
    LeftOut,
    Setting,
    Trainer,
    index_of,
    is_ours,
)
from report import HERE, RESULTS, write_results
from workers import environment, spread

import xpnet
from xpnet.cli.tables import print_table
from xpnet.data.rows import stream
from xpnet.nn.network import Network, initial_parameters
from xpnet.nn.schedules import learning_rates
from xpnet.training.run import CHUNK
from xpnet.training.settings import Settings

EPOCH = 60_000
SMALL, LARGE = (784, 128, 10), (784, 2048, 2048, 10)
BATCHES = (128, 1024, 8192)
LARGE_BATCH = 1024
PROFILED_STEPS = 100

TRAINING = Settings(validation=0.0)
TO_REACH = 0.98

SETTLED = 0.3
"""Seconds that epochs are repeated for, so that the device's clock has risen."""

PATIENCE = 240.0
"""Seconds after which a process counts as hanging."""

MEASURES = ("epochs", "launches", "accuracy")
DEVICE_WORK = ("kernels", "launches", "graph_launches")

METHOD = {
    "numbers": "float32 with TF32 off everywhere (PyTorch: float32 matmul precision highest; JAX: default "
    "matmul precision highest; CuPy: as it comes), but for what is named tf32 or bf16",
    "epochs": "whole batches only, scaled to 60,000 rows; counted are moving the order of the rows to the "
    "device, the steps, and one wait for the device at the end; median and quartiles over all rounds",
    "launches": f"{PROFILED_STEPS} steps, or an epoch, under torch.profiler: kernels that ran on the device, "
    "and the calls that launched them, a graph being one; of a loop within a graph it may see one round only",
    "accuracy": "xpnet train's defaults without a validation split; seconds of training to the end of the "
    "first epoch after which 98 % of the test set are right, not counting evaluation; and the same from the "
    "start of the process, with its imports, its data and an epoch of warm-up, the libraries' caches on disk "
    "being filled",
}


@dataclass(frozen=True)
class Task:
    """What one process does.

    Attributes
    ----------
    measures
        Of `MEASURES`.
    networks
        Of which an epoch is timed: sizes and batch size.
    rows
        Of the training set.
    epochs
        Timed, at least.
    seeds
        Trainings to the end.
    started
        `time.time` when the process was started.
    """

    contestant: str
    measures: tuple[str, ...]
    networks: tuple[tuple[tuple[int, ...], int], ...]
    device: str
    rows: int
    epochs: int
    seeds: int
    started: float = 0.0


def main() -> None:
    """Measure and write; or, as a worker, do one task."""
    parser = make_parser()
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(Task(**json.loads(options.worker)))
        return
    device = describe(options.device)
    name = str(options.out.resolve() / f"gpu-speed-{slug(device)}")
    speed = measure(options, lambda found: write_results(name, {"device": device, "speed": found}))
    print(f"written to {name}.json")
    if not speed["passed"]:
        raise SystemExit(f"failed: {', '.join(filter(is_ours, speed['failures']))}")


def make_parser() -> argparse.ArgumentParser:
    """The options of `measure`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N; cpu tries this script out")
    parser.add_argument("--contestant", action="append", choices=list(CONTESTANTS), help="may be repeated")
    parser.add_argument("--measure", action="append", choices=MEASURES, help="may be repeated")
    parser.add_argument("--batch-size", type=int, action="append", help="of timed epochs; may be repeated")
    parser.add_argument("--rows", type=int, default=EPOCH)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=5, help="timed in each round, at least")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--no-extras", action="store_true", help="without tf32, bf16 and the large network")
    parser.add_argument("--minutes", type=float, default=9.0, help="what has not begun by then is left out")
    return parser


def describe(device: str) -> dict[str, str]:
    """The GPU's name, its driver and its memory, from nvidia-smi."""
    if device == "cpu":
        return {"name": device}
    fields = "name,driver_version,memory.total,compute_cap"
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", f"--id={index_of(device)}"]
    try:
        answer = subprocess.run(query, check=True, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        print(f"nvidia-smi: {error}")
        return {"name": device}
    return dict(zip(fields.split(","), (part.strip() for part in answer.split(",")), strict=True))


def slug(device: dict[str, str]) -> str:
    """The device's name as a part of a file's."""
    return device["name"].lower().replace(" ", "-").replace(":", "-")


def versions() -> dict[str, str]:
    """Of everything installed that computes."""
    roots = ("array-api-compat", "cuda", "cupy", "jax", "numpy", "nvidia", "torch", "triton", "xpnet")
    found = {d.name: d.version for d in importlib.metadata.distributions()}
    return {name: found[name] for name in sorted(found) if name.lower().startswith(roots)}


@dataclass(frozen=True)
class Ended:
    """A child process that has ended.

    Attributes
    ----------
    error
        How it failed, with the end of what it complained; empty if it did not.
    """

    out: str
    err: str
    error: str


def run_child(command: list[str], seconds: float) -> Ended:
    """Run a process and all that it starts, for so long and no longer.

    Its output goes to files: a pipe would stay open for as long as anything that it started.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command, stdout=out, stderr=err, cwd=HERE.parent, env=environment(), start_new_session=True
        )
        late = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:  # after Ctrl-C, too
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        err.seek(0)
        said, complained = out.read(), err.read()
    error = f"exit code {process.returncode}\n{complained[-2000:]}" if process.returncode else ""
    return Ended(said, complained, f"took longer than {seconds:g} s, {error}" if late else error)


def measure(options: argparse.Namespace, save: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """Run every process, saving what there is after each; and show it."""
    deadline = time.monotonic() + options.minutes * 60
    records: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    failures: dict[str, str] = {}
    for task in plan(options):
        name, what = task.contestant, f"{task.contestant}: {', '.join(task.measures)}"
        if name in failures or name in left_out:
            continue
        if options.device == "cpu" and any(word in name for word in ONLY_CUDA):
            left_out[name] = "runs on a CUDA device only"
            continue
        if time.monotonic() > deadline:
            left_out[what] = f"the {options.minutes:g} minutes were over"
            continue
        print(what, flush=True)
        found, error = outcome(task)
        records += [record for record in found if "left_out" not in record]
        for record in found:
            if "left_out" in record:
                left_out[what if record["measure"] else name] = record["left_out"]
        if error:
            failures[name] = f"{', '.join(task.measures)}: {error}"
            print(error, flush=True)
        save(summary(records, left_out, failures))
    speed = summary(records, left_out, failures)
    save(speed)
    show(speed)
    return speed


def plan(options: argparse.Namespace) -> Iterator[Task]:
    """The tasks in their order: the rounds of epochs first, the other precisions last."""
    chosen = options.contestant or (MAIN if options.no_extras else CONTESTANTS)
    main, extras = ([name for name in group if name in chosen] for group in (MAIN, EXTRAS))
    measures = [kind for kind in MEASURES if kind in (options.measure or MEASURES)]
    rows = min(options.rows, EPOCH)
    networks = tuple((SMALL, min(m, rows)) for m in options.batch_size or BATCHES)
    task = Task("", (), networks, options.device, rows, options.epochs, options.seeds)
    for kind in measures:
        for _ in range(options.rounds if kind == "epochs" else 1):
            for name in random.sample(main, len(main)):
                yield replace(task, contestant=name, measures=(kind,))
    large = (LARGE, min(LARGE_BATCH, rows))
    for name in extras:
        new = not name.endswith("float32")  # the others have the small network in float32
        wanted = tuple(kind for kind in measures if kind == "epochs" or (new and kind == "accuracy"))
        if wanted:
            several = networks if new else ()
            yield replace(task, contestant=name, measures=wanted, networks=(*several, large))


def outcome(task: Task) -> tuple[list[dict[str, Any]], str]:
    """Run a task: all that it found, also before it failed; and how it failed, if it did."""
    told = json.dumps(asdict(replace(task, started=time.time())))
    ended = run_child([sys.executable, __file__, "--worker", told], PATIENCE)
    lines = [line for line in ended.out.splitlines() if line.startswith('{"contestant"')]
    return [json.loads(line) for line in lines], ended.error


def work(task: Task) -> None:
    """Do a task in this process, and print each finding as a line of JSON."""
    data = xpnet.load_data()
    X, y = data.X_train[: task.rows], data.y_train[: task.rows]

    def tell(measure: str, found: dict[str, Any]) -> None:
        print(json.dumps({"contestant": task.contestant, "measure": measure} | found), flush=True)

    def make(sizes: tuple[int, ...], m: int, most: int, rows: int = EPOCH) -> tuple[Trainer, Setting]:
        setting = Setting(task.device, tuple(sizes), min(m, len(X)), X[:rows], y[:rows], most)
        return CONTESTANTS[task.contestant](setting), setting

    try:
        if "launches" in task.measures:
            for sizes, m in task.networks:
                tell("launches", launches(partial(make, sizes, m, EPOCH, PROFILED_STEPS * m)))
        if "epochs" in task.measures:
            for sizes, m in task.networks:
                tell("epochs", timed(*make(sizes, m, EPOCH), task.epochs))
        if "accuracy" in task.measures:
            trainer, setting = make(SMALL, TRAINING.batch_size, CHUNK)
            for found in trainings(trainer, setting, task, data.X_test, data.y_test):
                tell("accuracy", found)
    except LeftOut as reason:
        tell("", {"left_out": str(reason)})


def first_weights(sizes: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """As `xpnet train` draws them."""
    drawn = initial_parameters(np, Network(sizes), stream(seed, "weights"))
    return {name: np.asarray(array, dtype=np.float32) for name, array in drawn.items()}


def order(setting: Setting, seed: int, epoch: int) -> np.ndarray:
    """The batches (steps, m) of an epoch, whole ones only, as `xpnet train` draws them."""
    rows = stream(seed, "shuffle", epoch).permutation(len(setting.X)).astype(np.int32)
    return rows[: setting.steps * setting.m].reshape(setting.steps, setting.m)


def timed(trainer: Trainer, setting: Setting, least: int) -> dict[str, Any]:
    """Seconds of each of many epochs, after as many others."""
    rates = np.full(setting.steps, LR, np.float32)
    trainer.begin(first_weights(setting.sizes, 0))
    for _ in ("warm-up", "timed"):
        times: list[float] = []
        while len(times) < least or (sum(times) < SETTLED and len(times) < 10 * least):
            index = order(setting, 0, len(times) + 1)
            started = time.perf_counter()
            trainer.epoch(index, rates)
            times.append(time.perf_counter() - started)
    scale = EPOCH / (setting.steps * setting.m)
    about = {"network": setting.network, "batch_size": setting.m}
    return about | {"seconds": [seconds * scale for seconds in times]} | trainer.notes()


def launches(make: Callable[[], tuple[Trainer, Setting]]) -> dict[str, Any]:
    """Count what runs on the device in an epoch of few steps.

    PyTorch's profiler sees every kernel of the process, whichever library launches it.
    """
    try:
        from torch.profiler import ProfilerActivity, profile, supported_activities
    except ImportError as error:
        return {"left_out": f"needs PyTorch, for its profiler: {error}"}
    trainer, setting = make()
    rates = np.full(setting.steps, LR, np.float32)
    trainer.begin(first_weights(setting.sizes, 0))
    activities = {ProfilerActivity.CPU, ProfilerActivity.CUDA} & supported_activities()
    for _ in range(2):  # the first time for what compiles, is captured, or starts with the profiler
        trainer.epoch(order(setting, 0, 1), rates)
        with profile(activities=activities) as profiler:
            trainer.epoch(order(setting, 0, 2), rates)
    counted = device_work(profiler)
    if setting.device != "cpu" and not counted["kernels"]:
        return {"left_out": "the profiler saw no kernel"}
    about = {"network": setting.network, "batch_size": setting.m, "steps": setting.steps}
    return about | counted | trainer.notes()


def device_work(profiler: Any) -> dict[str, int]:
    """Kernels that ran under a profiler, the calls that launched them, and how many of those were graphs.

    The kernels of one launch share its correlation id, which is the event's; only a graph has several. Names
    of calls would not do: of the driver's own, which JAX makes, the profiler notes few.
    """
    owners = Counter(
        event.id
        for event in profiler.events()
        if event.device_type.name == "CUDA"
        and not event.is_user_annotation
        and not event.name.startswith(("Memcpy", "Memset"))
    )
    graphs = sum(1 for kernels in owners.values() if kernels > 1)
    return {"kernels": owners.total(), "launches": len(owners), "graph_launches": graphs}


def trainings(
    trainer: Trainer, setting: Setting, task: Task, X: np.ndarray, y: np.ndarray
) -> Iterator[dict[str, Any]]:
    """Train from several seeds; after each epoch tell how much of the test set is right."""
    steps = setting.steps * TRAINING.epochs
    rates = learning_rates(
        np,
        np.arange(steps, dtype=np.float64),
        lr=TRAINING.rate,
        schedule=TRAINING.schedule,
        warmup=0,
        steps=steps,
    ).astype(np.float32)
    by_epoch = rates.reshape(TRAINING.epochs, setting.steps)
    trainer.begin(first_weights(setting.sizes, 0))
    trainer.epoch(order(setting, 0, 1), by_epoch[0])
    startup = 0.0
    for seed in range(task.seeds):
        trainer.begin(first_weights(setting.sizes, seed))
        startup = startup or time.time() - task.started
        seconds, scores = [], []
        for epoch, now in enumerate(by_epoch, 1):
            index = order(setting, seed, epoch)
            started = time.perf_counter()
            trainer.epoch(index, now)
            seconds.append(time.perf_counter() - started)
            scores.append(accuracy(trainer.weights(), X, y))
        found = {"seed": seed, "startup": startup, "seconds": seconds, "test_accuracy": scores}
        yield found | trainer.notes()


def accuracy(weights: dict[str, np.ndarray], X: np.ndarray, y: np.ndarray) -> float:
    """The share of rows that a network gets right, computed on the host for all alike."""
    A, depth = X.astype(np.float32) / 255, len(weights) // 2
    for layer in range(1, depth + 1):
        A = A @ weights[f"W{layer}"] + weights[f"b{layer}"]
        if layer < depth:
            A = np.maximum(A, 0)
    return float((A.argmax(axis=1) == y).mean())


def summary(
    records: list[dict[str, Any]], left_out: dict[str, str], failures: dict[str, str]
) -> dict[str, Any]:
    """What there is so far."""
    speed: dict[str, Any] = {"method": METHOD, "versions": versions()}
    speed["epochs"] = epochs_of(records)
    speed["launches"] = [record for record in records if record["measure"] == "launches"]
    speed["accuracy"] = accuracy_of(records)
    speed["targets"] = targets(speed)
    speed |= {"left_out": left_out, "failures": failures}
    return speed | {"passed": not any(map(is_ours, failures))}


def epochs_of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rounds of each contestant, network and batch size, taken together."""
    together: dict[tuple[Any, ...], dict[str, Any]] = {}
    for record in records:
        if record["measure"] == "epochs":
            key = (record["contestant"], record["network"], record["batch_size"])
            times = together.get(key, {"times": []})["times"] + record["seconds"]
            together[key] = record | {"times": times}
    for row in together.values():
        row |= spread(row["times"])
    return list(together.values())


def accuracy_of(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The seeds of each contestant, taken together; None stands for what was not reached."""
    rows = []
    told = [record for record in records if record["measure"] == "accuracy"]
    for name in CONTESTANTS:
        runs = [record for record in told if record["contestant"] == name]
        if not runs:
            continue
        reached = [seconds_to(run) for run in runs]
        typical = median(reached)
        rows.append(
            {
                "contestant": name,
                "seconds_to_98": typical if math.isfinite(typical) else None,
                "from_process_start": typical + runs[0]["startup"] if math.isfinite(typical) else None,
                "seeds_that_reached_98": sum(map(math.isfinite, reached)),
                "mean_test_accuracy": fmean(run["test_accuracy"][-1] for run in runs),
                "runs": runs,
            }
        )
    return rows


def seconds_to(run: dict[str, Any]) -> float:
    """Seconds of training until enough of the test set was right, for the first time."""
    for epoch, score in enumerate(run["test_accuracy"], 1):
        if score >= TO_REACH:
            return math.fsum(run["seconds"][:epoch])
    return math.inf


def targets(speed: dict[str, Any]) -> list[dict[str, Any]]:
    """What we have set out to reach, and whether that was; None where it was not measured."""
    small = "-".join(map(str, SMALL))
    seconds: dict[str, float] = {
        row["contestant"]: row["seconds"]
        for row in speed["epochs"]
        if (row["network"], row["batch_size"]) == (small, BATCHES[0])
    }
    never = {row["contestant"]: row["seconds_to_98"] or math.inf for row in speed["accuracy"]}
    ours, to_98 = seconds.get(CUPY_CAPTURED, math.nan), never.get(CUPY_CAPTURED, math.nan)
    epoch = f"an epoch at batch {BATCHES[0]}"
    measured = (
        (f"{CUPY_CAPTURED} / {JAX_SCAN}, {epoch}", 1.0, ours / seconds.get(JAX_SCAN, math.nan)),
        (f"{CUPY_CAPTURED} / {TORCH_EAGER}, {epoch}", 0.2, ours / seconds.get(TORCH_EAGER, math.nan)),
        (f"{CUPY_CAPTURED}, seconds of training to 98 %", 0.3, to_98),
    )
    return [
        {
            "target": target,
            "limit": limit,
            "measured": value if math.isfinite(value) else None,
            "met": None if math.isnan(value) else value <= limit,
        }
        for target, limit, value in measured
    ]


def show(speed: dict[str, Any]) -> None:
    """Print the tables."""
    print_grid("seconds an epoch, median (quartiles)", speed["epochs"], with_quartiles)
    print_grid("a step: " + ", ".join(DEVICE_WORK).replace("_", " "), speed["launches"], per_step)
    lines = [
        [
            row["contestant"],
            seconds_or_never(row["seconds_to_98"]),
            seconds_or_never(row["from_process_start"]),
            f"{row['seeds_that_reached_98']} of {len(row['runs'])}",
            f"{row['mean_test_accuracy']:.2%}",
        ]
        for row in speed["accuracy"]
    ]
    header = ["", "s of training", "s from process start", "seeds", "test accuracy at the end"]
    print_part("to 98 % of the test set, median of the seeds", lines, header)

    met = {True: "met", False: "MISSED", None: "not measured"}
    lines = [
        [
            row["target"],
            f"{row['limit']:g}",
            "" if row["measured"] is None else f"{row['measured']:.3f}",
            met[row["met"]],
        ]
        for row in speed["targets"]
    ]
    print_part("targets", lines, ["", "at most", "measured", ""])
    for name, reason in speed["left_out"].items():
        print(f"left out: {name}: {reason}")
    for name, error in speed["failures"].items():
        print(f"FAILED: {name}: {error}")


def print_part(title: str, lines: list[list[str]], header: list[str]) -> None:
    """A table under its title, if there is anything in it."""
    if lines:
        print(f"\n{title}", flush=True)
        print_table(lines, header, right=1)


def print_grid(title: str, rows: list[dict[str, Any]], cell: Callable[[dict[str, Any]], str]) -> None:
    """A table with a contestant a line, and a network and batch size a column."""
    cells = {(row["contestant"], row["network"], row["batch_size"]): cell(row) for row in rows}
    columns = sorted({key[1:] for key in cells}, key=lambda column: (len(column[0]), column[1]))
    lines = [
        [name, *(cells.get((name, *column), "") for column in columns)]
        for name in CONTESTANTS
        if any(key[0] == name for key in cells)
    ]
    print_part(title, lines, ["", *(f"{network}, batch {m}" for network, m in columns)])


def per_step(row: dict[str, Any]) -> str:
    """Kernels and launches."""
    return ", ".join(f"{row[kind] / row['steps']:.2f}" for kind in DEVICE_WORK)


def with_quartiles(row: dict[str, Any]) -> str:
    """A median, and between what half of the times are."""
    low, high = row["quartiles"]
    return f"{row['seconds']:.5f} ({low:.5f} to {high:.5f})"


def seconds_or_never(seconds: float | None) -> str:
    """What was not reached has no seconds."""
    return "never" if seconds is None else f"{seconds:.3f}"


if __name__ == "__main__":
    main()
