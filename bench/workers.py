"""Measurements in processes of their own, so that no contestant finds what another one left behind.

A script asks itself, or another script, by starting it with a task; the worker replies with one line of JSON.
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import threadpoolctl
from rich.progress import track

PINS = (
    *("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"),
    *("CUPY_TF32", "NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"),
)
"""What would make NumPy's BLAS take other kernels than it picks for this processor by itself; and what would
switch TF32 on, or forbid it where it is asked for."""

PATIENCE = 300.0
"""Seconds after which a worker counts as hanging."""

CALLS = 3
"""Calls that a contestant's time is cut into."""

Answer = dict[str, Any]
"""What a worker found, or its "error"."""

Run = Callable[[int], None]
"""Runs so many steps, and waits for their end."""


def environment() -> dict[str, str]:
    """What every measured process finds around it: this process's environment without `PINS`."""
    kept = {name: value for name, value in os.environ.items() if name not in PINS}
    # JAX would take most of a GPU's memory at once, and leave too little for the libraries beside it
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | kept


def contest(
    names: Sequence[str],
    rounds: int,
    act: Callable[[str], Answer],
    *,
    title: str = "",
    slow: float = inf,
) -> tuple[dict[str, list[Answer]], dict[str, str]]:
    """Give everybody a turn in every round, in changing order.

    Parameters
    ----------
    act
        Takes a turn; see `ask`.
    slow
        Who needs more seconds for a turn than this has no other one.

    Returns
    -------
    answers
        Of everybody who did not fail.
    errors
        Of the others.
    """
    answers: dict[str, list[Answer]] = {name: [] for name in names}
    errors: dict[str, str] = {}
    done: set[str] = set()
    for name in track([name for _ in range(rounds) for name in random.sample(names, len(names))], title):
        if name in done:
            continue
        started = time.perf_counter()
        answer = act(name)
        if "error" in answer:
            errors[name] = answer["error"]
            print(f"{name}: {errors[name]}")
        if "error" in answer or time.perf_counter() - started > slow:
            done.add(name)
        answers[name].append(answer)
    return {name: given for name, given in answers.items() if name not in errors}, errors


def ask(script: str | Path, **task: Any) -> Answer:
    """Give a script a task in a process of its own.

    Returns
    -------
    answer
        What it replied; or, where it failed, what it died of, under "error".
    """
    command = [sys.executable, str(script), "--worker", json.dumps(task)]
    try:
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return {"error": f"no answer within {PATIENCE:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        return {"error": lines[-1]}
    answer: Answer = json.loads(done.stdout.splitlines()[-1])
    return answer


def reply(answer: Answer) -> None:
    """Answer the task of this process, and say which kernels it computed with."""
    print(json.dumps(answer | {"kernels": kernels()}))


def kernels() -> list[str]:
    """The kernels that each BLAS of this process picked: ["openblas SkylakeX, 2 threads"]."""
    found = [
        f"{pool['internal_api']} {pool.get('architecture', 'of its own')}, {pool['num_threads']} threads"
        for pool in threadpoolctl.threadpool_info()
        if pool["user_api"] == "blas"
    ]
    if torch := sys.modules.get("torch"):  # its BLAS is built in, where nobody else sees it
        found.append(f"torch {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")
    return found


def step_seconds(run: Run, most: int, seconds: float) -> list[float]:
    """Seconds a step, as each of several calls finds them, which take about `seconds` together.

    A step that takes longer than that is timed once.

    Parameters
    ----------
    run
        Runs at least one step.
    most
        Steps in a call, at most.
    """
    steps = 1
    while True:
        run(steps)  # what is compiled for this number of steps, is compiled here
        times = [timed(run, steps)]
        if steps == most or times[0] > seconds / CALLS / 2:
            break
        steps = min(most, max(2 * steps, int(steps * seconds / CALLS / times[0])))
    while sum(times) < seconds:
        times.append(timed(run, steps))
    return [time / steps for time in times]


def timed(run: Run, steps: int) -> float:
    """Seconds that some steps take."""
    started = time.perf_counter()
    run(steps)
    return time.perf_counter() - started


def spread(times: list[float]) -> dict[str, Any]:
    """The median of some seconds, their quartiles and their number, as every result holds them."""
    low, _, high = quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return {"seconds": median(times), "quartiles": [low, high], "calls": len(times)}
