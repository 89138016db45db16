"""Does everything hold on this GPU, and how fast is it? For a person with an NVIDIA machine:

    python bench/gpu.py                            # every part, one after the other
    python bench/gpu.py --part probes              # one of them; each takes less than ten minutes

The probes ask first what all else depends on: does capture work and with how many nodes, what an operation
costs, whether recordings leave memory behind, two streams, a capture beside a busy thread, and what a step
costs in each execution and precision. Then come the whole suite on every library that drives the device,
parity in each precision, `xpnet train`, sums over processes (the same on all GPUs of the machine, beside a
group of one), the launches of a step with the copies and waits beside them, the
speed beside what a user would pick instead, and the recipe mnist-best for `--epochs`.

Every result goes to ``results/gpu-NAME.json`` at once, beside those that earlier calls have put there with
the same device and versions. What fails, or takes too long, is put down as failed, and the command then fails
at its end. CUDA_VISIBLE_DEVICES picks one of several GPUs. With ``--device cpu`` the script tries itself out.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from report import HERE, NETWORKS, RESULTS, SMALL, gpu, machine, write_results
from speed import LIMITS, race
from time_to_accuracy import train_all
from trainer import EPOCH, Answer
from workers import LEFT_OUT, ask, parse, run

FIELD = ["xpnet cupy eager", "xpnet cupy captured", "xpnet torch eager", "xpnet torch captured", "xpnet jax"]
FIELD += ["jax scan", "torch eager", "torch compile", "floor cupy"]
"""The contestants of the races."""

Found = Iterator[tuple[str, Answer]]


def main() -> None:
    """Run the parts, and write the result of each."""
    libraries = ["cupy", "torch", "jax"]
    options = parse(
        __doc__,
        device="cuda",
        part=[*PARTS],
        backend=libraries,
        minutes=9.0,
        rows=EPOCH,
        epochs=300,
        **LIMITS,
    )
    looked = ask("probes.usable", device=options.device, names=options.backend)
    options.libraries = looked.pop("found", {})
    if not options.libraries:
        raise SystemExit(f"no library here drives {options.device}: {looked}")
    device, failed = describe(options.device), []
    name = f"gpu-{device['name'].lower().replace(' ', '-')}"
    results = earlier(RESULTS / f"{name}.json", {"device": device, "libraries": machine()["libraries"]})
    for part in options.part:
        options.deadline = time.monotonic() + options.minutes * 60
        for key, answer in PARTS[part](options):
            results.setdefault(part, {})[key] = answer
            write_results(name, results)
            print(gpu({part: {key: answer}}).strip(), flush=True)
            failed += [f"{part}: {what}" for what in failures(key, answer)]
    print(f"written to {RESULTS / name}.json")
    if failed:
        raise SystemExit(f"failed: {'; '.join(failed)}")


def failures(key: str, answer: Answer) -> list[str]:
    """The names of the xpnet contestants, or the key of the answer, that failed."""
    if "title" in answer:
        return [name for name, error in answer["errors"].items() if "xpnet" in name and LEFT_OUT not in error]
    return [] if "left_out" in answer or answer.get("passed") else [key]


def describe(device: str) -> dict[str, str]:
    """The GPU's name, its driver and its memory, from nvidia-smi."""
    fields, index = "name,driver_version,memory.total", os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    query = f"nvidia-smi --query-gpu={fields} --format=csv,noheader --id={index.partition(',')[0]}"
    said = run(query.split(), limit=60)[0].strip() if device != "cpu" else ""
    return dict(zip(fields.split(","), said.split(", "), strict=True)) if said else {"name": device}


def earlier(path: Path, now: dict[str, Any]) -> dict[str, Any]:
    """Read the results of earlier calls with the same device and versions."""
    before: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else now
    if any(before[key] != value for key, value in now.items()):
        print(f"{path} is of another installation: kept as before-{path.name}")
        path.rename(path.with_name(f"before-{path.name}"))
        return now
    return before


def ask_probe(what: str, options: Any, **task: Any) -> Answer:
    """Call a function of `probes` in a process of its own."""
    limit = min(90, options.deadline - time.monotonic())
    return ask(f"probes.{what}", limit=limit, device=options.device, **task)


def command(options: Any, limit: float, library: str, *words: str, launcher: Sequence[str] = ()) -> Answer:
    """Run a command on a library, and return the JSON that it prints, or its last lines."""
    where = ["--device", options.device, "--backend", library]
    limit = min(limit, options.deadline - time.monotonic())
    output, error = run([*launcher, sys.executable, "-P", "-m", *words, *where], limit=limit)
    said = json.loads(output) if output.startswith("{") else output.splitlines()[-15:]
    return {"passed": not error, "error": error, "said": said}


def probes(options: Any) -> Found:
    """Ask the questions that come first."""
    for library in options.libraries:
        yield library, ask_probe("launches", options, contestant=f"xpnet {library}")
        for what in ("nodes", "memory", "streams", "busy"):
            yield f"{library}, {what}", ask_probe(what, options, library=library)
    yield from executions(options, SMALL, 128)


def executions(options: Any, network: str, m: int) -> Found:
    """Time a step in every execution and precision."""
    once = argparse.Namespace(**vars(options) | {"rounds": 1})
    for library in options.libraries:
        ways = product(("", " eager", " captured"), ("", " tf32", " bf16"))
        names = [f"xpnet {library}{''.join(way)}" for way in ways]
        yield f"{library}, {network}", races(once, names, network, m)


def races(options: Any, names: list[str], network: str, *batches: int) -> Answer:
    """Time an epoch of some contestants."""
    cells = {f"batch {m}": (network, m) for m in sorted({min(m, options.rows) for m in batches})}
    return race(f"seconds an epoch of {network}", cells, names, options)


def suite(options: Any) -> Found:
    """Run the whole suite in few processes: more would need more memory than a small GPU has."""
    for library in options.libraries:
        words = ("pytest", "-q", "-n", "4", str(HERE.parent / "tests"))
        yield library, command(options, 540, library, *words)


def parity(options: Any) -> Found:
    """Run `xpnet parity` in every precision."""
    for library, precisions in options.libraries.items():
        for precision in precisions:
            words = ("xpnet", "parity", "--precision", precision, "--json")
            yield f"{library}, {precision}", command(options, 300, library, *words)


def train(options: Any) -> Found:
    """Run `xpnet train` with its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        for library in options.libraries:
            yield library, command(options, 120, library, "xpnet", "train", "--out", f"{folder}/{library}")


def recipe(options: Any) -> Found:
    """Train the best recipe, in more epochs than on a CPU: it aims at 99.5 % in 5 minutes."""
    words = ("xpnet", "train", "--recipe", "mnist-best", "--epochs", f"{options.epochs}")
    with tempfile.TemporaryDirectory() as folder:
        for library in options.libraries:
            yield library, command(options, 480, library, *words, "--out", f"{folder}/{library}")


def launches(options: Any) -> Found:
    """Count the launches of a step, for every contestant."""
    for name in FIELD[:-1]:
        foreign = {} if name.startswith("xpnet") else {"passed": True}
        yield name, ask_probe("launches", options, contestant=name) | foreign


def speed(options: Any) -> Found:
    """Time an epoch of every contestant at three batch sizes."""
    yield SMALL, races(options, FIELD, SMALL, 128, 1024, 8192)


def accuracy(options: Any) -> Found:
    """Train every contestant until 98 % of the test set."""
    yield SMALL, train_all(FIELD[:-1], {"data": "mnist", "target": 0.98, "epochs": 10}, options)


def precisions(options: Any) -> Found:
    """Time a step of a large network."""
    yield from executions(options, NETWORKS[-1], 1024)


def processes(options: Any) -> Found:
    """Add up over a group of one process and, on a machine with several GPUs, compare all of them with one.

    It needs mpi4py with an MPI and, for CuPy, nvidia-nccl-cu12.
    """
    gpus = len(run(["nvidia-smi", "--list-gpus"], limit=60)[0].splitlines()) if options.device != "cpu" else 1
    for library in options.libraries:
        yield f"{library}, a group of one", ask_probe("added", options, library=library)
        if gpus > 1:
            together = ["mpiexec", "-n", f"{gpus}"]
            words = ("xpnet", "parity", "--json")
            yield f"{library}, {gpus} GPUs", command(options, 300, library, *words, launcher=together)


ORDER = (probes, suite, parity, train, processes, launches, speed, accuracy, precisions, recipe)
PARTS = {part.__name__: part for part in ORDER}

if __name__ == "__main__":
    main()
