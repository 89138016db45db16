"""Does everything hold on this GPU, and how fast is it? One command for a person with an NVIDIA machine:

    python bench/gpu.py

runs the whole suite on CuPy, and on PyTorch and JAX where they are built for CUDA; the parity table in both
dtypes, and in every reduced precision that they have there; `xpnet train` on each; counts the copies and the
waits inside a chunk and of an epoch; and compares the speed with what a user would pick instead
(`gpu_speed.py`). ``--part`` runs some of it. Results go to ``results/gpu-NAME.json`` after every part, with
the device's name, its driver and the versions. What fails, or takes too long, is put down as failed, and the
command then fails at its end.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpu_speed
import numpy as np
from gpu_speed import Ended, describe, device_work, run_child, slug, versions
from report import HERE, RESULTS, write_results

import xpnet
from xpnet.backends import LIBRARIES, PRECISIONS
from xpnet.data.rows import batches
from xpnet.errors import XpnetError
from xpnet.nn.optimizers import SGD
from xpnet.nn.step import TrainingStep

PARTS = ("suite", "parity", "train", "transfers", "speed")
SECONDS = {"usable": 120.0, "suite": 900.0, "parity": 300.0, "train": 120.0, "transfers": 120.0}
"""What a child process of each part may take; `gpu_speed` has limits of its own."""

WORKERS = 4
"""Processes that the suite runs in: more would need more memory than a small GPU has."""

STEPS = 121
"""In the chunk that is looked at: as `xpnet train` cuts its 844, and no size that a library would prefer."""

SEEN = (
    *("Memcpy HtoD", "Memcpy DtoH", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    *("cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize"),
)
"""What CUDA was asked for, as the profiler names it."""


def main() -> None:
    """Run the parts, and write down what came of each; or, as a worker, do a piece of one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cuda:N; cpu tries this script out")
    parser.add_argument("--part", action="append", choices=PARTS, help="run only this; may be repeated")
    parser.add_argument("--backend", action="append", choices=list(LIBRARIES), help="only on this; likewise")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--worker", choices=["usable", "transfers"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    device, names = options.device, options.backend or list(LIBRARIES)
    if options.worker:
        found = usable(device, names) if options.worker == "usable" else transfers(device, names[0])
        print(json.dumps(found))
        return

    described = describe(device)
    libraries = read_json(worker("usable", device, names))
    if not libraries.pop("passed"):
        raise SystemExit(f"cannot look for libraries: {libraries['error']}")
    for reason in libraries["left_out"].values():
        print(f"left out: {reason}")
    found = libraries["found"]
    if not found:
        raise SystemExit(f"no library here drives {device}: see `xpnet info`")
    print(f"{described['name']}: {', '.join(found)}", flush=True)

    path = options.out.resolve() / f"gpu-{slug(described)}.json"
    results: dict[str, Any] = {"device": described, "versions": versions(), "libraries": found}
    if options.part or options.backend:
        results = earlier(path, results)
    parts = [part for part in PARTS if part in (options.part or PARTS)]
    chosen = [argument for name in found for argument in ("--backend", name)]

    def keep(part: str, result: dict[str, Any]) -> None:
        results[part] = result
        write_results(str(path.with_suffix("")), results)

    for part in parts:
        print(f"== {part}", flush=True)
        if part == "suite":
            keep(part, suite(device, chosen))
        elif part == "parity":
            keep(part, parity(device, libraries["precisions"]))
        elif part == "speed":
            speed = gpu_speed.make_parser().parse_args(["--device", device])
            keep(part, gpu_speed.measure(speed, lambda result: keep("speed", result)))
        else:
            act = train if part == "train" else counted_transfers
            runs = results.get(part, {}) if options.backend else {}
            for name in found:
                runs[name] = act(device, name)
                keep(part, runs)
    print(f"written to {path}")
    if bad := [what for part in parts for what in failed(part, results[part], list(found))]:
        raise SystemExit(f"failed: {', '.join(bad)}")


def failed(part: str, result: dict[str, Any], names: list[str]) -> list[str]:
    """The part, if it failed, or the libraries that it failed on."""
    if part in ("train", "transfers"):
        return [f"{part} on {name}" for name in names if not result[name]["passed"]]
    return [] if result["passed"] else [part]


def earlier(path: Path, results: dict[str, Any]) -> dict[str, Any]:
    """What was found before, by other parts or on other libraries, if it was on the same installation."""
    if not path.exists():
        return results
    before: dict[str, Any] = json.loads(path.read_text())
    if any(before.get(key) != results[key] for key in ("device", "versions")):
        return results
    return before | results | {"libraries": before["libraries"] | results["libraries"]}


def worker(task: str, device: str, names: list[str]) -> Ended:
    """Do a piece of work in a process of its own, which may hang or crash alone."""
    chosen = [argument for name in names for argument in ("--backend", name)]
    return run_child([sys.executable, __file__, "--worker", task, "--device", device, *chosen], SECONDS[task])


def read_json(ended: Ended) -> dict[str, Any]:
    """The JSON that a process has printed last, and whether the process passed, if it does not say itself."""
    lines = [line for line in ended.out.splitlines() if line.startswith("{")]
    answer: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    if ended.error:
        return answer | {"passed": False, "error": ended.error}
    return {"passed": True} | answer


def usable(device: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """The libraries that drive the device here, with their versions and precisions; and why others do not."""
    found, precisions, left_out = {}, {}, {}
    for name in names:
        try:
            backend = xpnet.get_backend(device, name)
        except XpnetError as error:
            left_out[name] = str(error)
        else:
            found[name], precisions[name] = backend.version(), backend.precisions()
    return {"found": found, "precisions": precisions, "left_out": left_out}


def suite(device: str, chosen: list[str]) -> dict[str, Any]:
    """The whole suite on the device."""
    workers = min(WORKERS, len(os.sched_getaffinity(0)))
    options = ["-q", "-n", str(workers), "--device", device, *chosen]
    ended = run_child(
        [sys.executable, "-m", "pytest", *options, str(HERE.parent / "tests")], SECONDS["suite"]
    )
    print(ended.out[-6000:], ended.err[-2000:], flush=True)
    return {
        "passed": not ended.error,
        "error": ended.error,
        "closing_lines": ended.out.splitlines()[-12:],
    }


def parity(device: str, offered: dict[str, list[str]]) -> dict[str, Any]:
    """What `xpnet parity` finds in each precision, on the libraries that offer it."""
    found = {}
    for precision in PRECISIONS:
        if having := [name for name, precisions in offered.items() if precision in precisions]:
            found[precision] = compared(device, precision, having)
    return {"passed": all(answer["passed"] for answer in found.values()), "precisions": found}


def compared(device: str, precision: str, names: list[str]) -> dict[str, Any]:
    """What `xpnet parity` finds in one; its reports say how the steps ran."""
    chosen = [argument for name in names for argument in ("--backend", name)]
    options = ["--device", device, "--precision", precision, *chosen, "--json"]
    ended = run_child([sys.executable, "-m", "xpnet", "parity", *options], SECONDS["parity"])
    print(ended.err[-6000:], flush=True)
    try:
        answer: dict[str, Any] = json.loads(ended.out)
    except ValueError:
        answer = {"error": ended.error or "printed no JSON"}
    return answer | {"passed": "error" not in answer and not ended.error}


def train(device: str, backend: str) -> dict[str, Any]:
    """`xpnet train` with its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        options = ["--device", device, "--backend", backend, "--out", str(out)]
        ended = run_child([sys.executable, "-m", "xpnet", "train", *options], SECONDS["train"])
        print(ended.out, ended.err[-2000:], flush=True)
        if ended.error:
            return {"passed": False, "error": ended.error}
        summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
        return summary | {"passed": True}


def counted_transfers(device: str, backend: str) -> dict[str, Any]:
    """`transfers` in a process of its own."""
    found = read_json(worker("transfers", device, [backend]))
    print(f"{backend}: {found}", flush=True)
    return found


def transfers(device: str, backend_name: str) -> dict[str, Any]:
    """Count what CUDA is asked for during a chunk of steps: no copy from or to the host, and no wait.

    PyTorch's profiler sees every call of the process, whichever library makes it. That it does is shown by
    reading one number under it: a copy that must be counted.
    """
    try:
        from torch.profiler import ProfilerActivity, profile
    except ImportError as error:
        return {"passed": False, "error": f"needs PyTorch with CUDA, for its profiler: {error}"}
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])

    def profiled(act: Callable[[], object]) -> Any:
        with profile(activities=activities) as profiler:
            act()
        return profiler

    def counted(profiler: Any) -> dict[str, int]:
        counts = {event.key: event.count for event in profiler.key_averages()}
        return {kind: sum(n for key, n in counts.items() if key.startswith(kind)) for kind in SEEN}

    backend, data = xpnet.get_backend(device, backend_name), xpnet.load_data()
    model = xpnet.MLP(backend=backend)
    with backend.running("float32"):
        step = TrainingStep(backend.xp, model.network, SGD(), 255.0)
        arrays = {"X": data.X_train, "y": data.y_train, "classes": np.arange(10, dtype=np.int32)}
        held = {name: backend.asarray(array) for name, array in arrays.items()}
        index = backend.asarray(batches(np.arange(STEPS * 64, dtype=np.int32), 64))
        state = backend.copy(model.parameters)

        def chunk() -> None:
            nonlocal state
            state = backend.scan(step, state | counters, index, held)

        def fresh() -> dict[str, Any]:
            rates = np.full(STEPS, 0.1, np.float32)
            begin = {"t": np.zeros(1, np.int32), "loss": np.zeros(1, np.float32), "rates": rates}
            made = {name: backend.asarray(array) for name, array in begin.items()}
            backend.synchronize(made)
            return made

        for _ in range(2):  # whatever compiles has compiled
            counters = fresh()
            chunk()
        backend.synchronize(state)
        counters = fresh()
        steps = profiled(chunk)
        backend.synchronize(state)
        control = counted(profiled(lambda: backend.to_numpy(state["loss"])))
    # a whole epoch moves the data once and, at the border of every chunk, its counters in and its loss out
    epoch = profiled(lambda: xpnet.train(model, data.X_train, data.y_train, epochs=1, validation=0))
    inside, waits = counted(steps), "cudaDeviceSynchronize"
    inside[waits] -= min(inside[waits], 1)  # the profiler's own, at its end
    return {
        "passed": not any(inside.values()) and (device == "cpu" or control["Memcpy DtoH"] > 0),
        "steps": STEPS,
        "ran": backend.steps,
        "note": backend.steps_note,
        "device_work": device_work(steps),
        "copies_and_waits": inside,
        "whole_epoch": counted(epoch),
        "control": control["Memcpy DtoH"],
    }


if __name__ == "__main__":
    main()
