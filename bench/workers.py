"""Measurements in processes of their own, so that no contestant finds what another one left behind."""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from report import HERE, quartiles
from trainer import Answer

from xpnet.cli.progress import show

ROOT = HERE.parent

PINS = ["OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "CUPY_TF32", "NVIDIA_TF32_OVERRIDE"]
PINS += ["TORCH_ALLOW_TF32_CUBLAS_OVERRIDE"]
"""Environment variables that no measured process may see. They choose the kernels of NumPy's BLAS, switch
TF32 on, or forbid it where it is asked for."""

PATIENCE = 300.0
"""Seconds after which a process counts as hanging."""

LEFT_OUT = "left out: "
"""The start of an error that says why a contestant could not take part. That is not a failure."""


def environment(root: Path = ROOT) -> dict[str, str]:
    """The environment of a measured process: without `PINS`, and with the xpnet of a checkout."""
    kept = {name: value for name, value in os.environ.items() if name not in PINS}
    path = os.pathsep.join(filter(None, (str(root), kept.get("PYTHONPATH"))))
    # JAX would take most of a GPU's memory at once, and leave too little for the libraries beside it
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | kept | {"PYTHONPATH": path}


def run(command: Sequence[str], root: Path = ROOT, limit: float = PATIENCE) -> tuple[str, str]:
    """Run a process and all that it starts, for so many seconds and no longer.

    Its output goes to files: a pipe would stay open for as long as anything that it started.

    Returns
    -------
    output
        What it wrote to standard output.
    error
        How it failed, in one line; empty if it did not.
    """
    if limit <= 0:
        return "", "the time was over"
    error = ""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        options: Any = {"stdout": out, "stderr": err, "start_new_session": True}
        try:
            process = subprocess.Popen(command, env=environment(root), **options)
        except OSError as missing:
            return "", str(missing)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            error = f"took longer than {limit:.0f} s"
        finally:  # after Ctrl-C, too
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        out.seek(0)
        err.seek(0)
        output, complaint = (file.read().decode(errors="replace") for file in (out, err))
    if process.returncode:
        error = error or (complaint.strip().splitlines() or [f"exit code {process.returncode}"])[-1]
        print(complaint[-2000:], file=sys.stderr, flush=True)
    return output, error


def ask(what: str, root: Path = ROOT, limit: float = PATIENCE, **task: Any) -> Answer:
    """Give a task to a process of its own, with the xpnet of a checkout.

    Parameters
    ----------
    what
        Who answers: "measures.steps", a function of a module in this folder.

    Returns
    -------
    answer
        What the process replied; or, if it failed, its "error".
    """
    output, error = run([sys.executable, str(HERE / "child.py"), what, json.dumps(task)], root, limit)
    return {"error": error} if error else dict(json.loads(output.splitlines()[-1]))


def measure(title: str, names: Iterable[str], turn: Callable[..., Answer], options: Any) -> dict[str, Any]:
    """Give every contestant a turn in every round, in changing order, and put the figures together.

    Parameters
    ----------
    title
        Of the table: it begins with the unit, "seconds an epoch of 784-128-10".
    turn
        Takes a `contestant`'s name, a `seed` for each round, and `root` and `limit` as for `ask`.
    options
        Of `parse`: the `device`; the number of `rounds`; `against`, another checkout whose xpnet takes part,
        too, with " (other)" after its names; the `patience`, after how many seconds a turn counts as hanging;
        and the `deadline`, when by `time.monotonic` all must be over.

    Returns
    -------
    results
        "results" has a row for each contestant and column, from the rounds in which it did not fail; "errors"
        tells how contestants failed; "notes" holds what else they replied, round by round.
    """
    entries = {name: (name, ROOT) for name in names}
    if options.against:
        entries |= {f"{name} (other)": (name, options.against) for name in entries if "xpnet" in name}
    answers: dict[str, list[Answer]] = {entry: [] for entry in entries}
    errors: dict[str, str] = {}
    order = [entry for _ in range(options.rounds) for entry in random.sample([*entries], len(entries))]
    for number, entry in enumerate(order):
        show(title, f"{number} of {len(order)}")
        limit = min(options.patience, options.deadline - time.monotonic())
        if entry in errors or limit <= 0:
            continue
        name, root = entries[entry]
        answer = turn(contestant=name, seed=len(answers[entry]), root=root, limit=limit)
        if "left_out" in answer or "error" in answer:
            errors[entry] = answer.get("error") or f"{LEFT_OUT}{answer['left_out']}"
            print(f"{entry}: {errors[entry]}", flush=True)
        else:
            answers[entry].append(answer)

    results: list[dict[str, Any]] = []
    for entry, given in answers.items():
        figures, before = [answer.pop("seconds") for answer in given], len(results)
        for column in figures[0] if figures else ():
            rounds = [figure[column] for figure in figures if figure[column]]
            if 2 * len(rounds) > len(given):
                results.append({"contestant": entry, "column": column} | spread(rounds))
        if len(results) == before:
            errors.setdefault(entry, "got there in too few runs" if given else f"{LEFT_OUT}the time was over")
    title += "" if options.device == "cpu" else " on a GPU"
    return {"title": title, "results": results, "errors": errors, "notes": answers}


def spread(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """The median of all figures, their quartiles and their number, and the median of each round."""
    found = [figure for given in rounds for figure in given]
    low, middle, high = quartiles(found)
    about = {"median": middle, "quartiles": [low, high], "calls": len(found)}
    return about | {"rounds": [median(given) for given in rounds]}


def parse(about: str | None, **defaults: Any) -> argparse.Namespace:
    """Read the command line. Each default makes an option, a list an option with several values."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(device="cpu", deadline=inf, patience=PATIENCE)
    for name, default in defaults.items():
        form: Any = {"type": type(default), "help": f"[default: {default}]"}
        if isinstance(default, list):
            known = default if name in ("contestant", "part", "loss") else None
            form |= {"type": type(default[0]), "nargs": "+", "choices": known, "metavar": name.upper()}
        parser.add_argument(f"--{name}", default=default, **form)
    if "rounds" in defaults:
        parser.add_argument("--against", type=checkout, metavar="FOLDER", help="measure the xpnet there, too")
    return parser.parse_args()


def checkout(path: str) -> Path:
    """The path of a folder that holds xpnet.

    Raises
    ------
    argparse.ArgumentTypeError
        It does not.
    """
    if not Path(path, "xpnet", "__init__.py").exists():
        raise argparse.ArgumentTypeError(f"{path} holds no xpnet")
    return Path(path).resolve()
