"""Does everything hold on this GPU? One command for a person with an NVIDIA machine:

    python bench/gpu.py

runs the whole suite on CuPy, and on PyTorch and JAX where they are built for CUDA; the parity table in both
dtypes; `xpnet train` on each; and counts the copies and the waits inside a chunk and of an epoch. Results
go to ``results/gpu-NAME.json``, with the device's name, its driver and the versions. A part that fails is put
down as failed, and the command then fails at its end.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from report import HERE, write_results

import xpnet
from xpnet.backends import LIBRARIES, backend_class
from xpnet.data.rows import batches
from xpnet.errors import XpnetError
from xpnet.nn.optimizers import SGD
from xpnet.nn.step import TrainingStep

STEPS = 100
SEEN = (
    *("Memcpy HtoD", "Memcpy DtoH", "cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"),
    *("cuStreamSynchronize", "cuEventSynchronize", "cuCtxSynchronize"),
    *("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch"),
)
"""What CUDA was asked for, as the profiler names it."""


def main() -> None:
    """Run every part, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--device", default="cuda", help="cuda or cuda:N; cpu tries this script out without a GPU"
    )
    device = parser.parse_args().device
    # JAX would take most of the memory at once, and leave too little for the libraries beside it
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"

    libraries = usable(device)
    if not libraries:
        raise SystemExit(f"no library here drives {device}: see `xpnet info`")
    chosen = [argument for name in libraries for argument in ("--backend", name)]
    results: dict[str, Any] = {"device": describe(device), "libraries": libraries}
    print(f"{results['device'].get('name', device)}: {', '.join(libraries)}", flush=True)

    results["suite"] = suite(device, chosen)
    results["parity"] = command_json(["parity", "--device", device, *chosen, "--json"])
    results["train"] = {name: train(device, name) for name in libraries}
    results["transfers"] = {name: transfers(device, name) for name in libraries}
    name = str(results["device"].get("name", device)).lower().replace(" ", "-")
    print(f"written to {write_results(f'gpu-{name}', results)}")

    bad = [part for part in ("suite", "parity") if not results[part].get("passed")]
    for part in ("train", "transfers"):
        bad += [f"{part} on {name}" for name, run in results[part].items() if not run.get("passed")]
    if bad:
        raise SystemExit(f"failed: {', '.join(bad)}")


def usable(device: str) -> dict[str, str]:
    """The libraries that drive the device here, and their versions."""
    found = {}
    for name in LIBRARIES:
        try:
            xpnet.get_backend(device, name)
        except XpnetError as error:
            print(f"left out: {error}")
        else:
            found[name] = backend_class(name).version()
    return found


def describe(device: str) -> dict[str, Any]:
    """The GPU's name, its driver and its memory, from nvidia-smi."""
    fields = "name,driver_version,memory.total,compute_cap"
    index = device.partition(":")[2] or "0"
    query = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", f"--id={index}"]
    try:
        answer = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"nvidia-smi: {error}")
        return {}
    return dict(zip(fields.split(","), (part.strip() for part in answer.split(",")), strict=True))


def suite(device: str, chosen: list[str]) -> dict[str, Any]:
    """The whole suite on the device."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-n",
        "0",
        "--device",
        device,
        *chosen,
        str(HERE.parent / "tests"),
    ]
    done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True)
    print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    return {"passed": done.returncode == 0, "closing_lines": done.stdout.splitlines()[-12:]}


def command_json(arguments: list[str]) -> dict[str, Any]:
    """What `xpnet` prints as JSON."""
    done = subprocess.run([sys.executable, "-m", "xpnet", *arguments], capture_output=True, text=True)
    print(done.stderr, flush=True)
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        return {"passed": False, "error": done.stderr[-2000:]}
    return answer | {"passed": done.returncode == 0}


def train(device: str, backend: str) -> dict[str, Any]:
    """`xpnet train` with its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [
            sys.executable,
            "-m",
            "xpnet",
            "train",
            "--device",
            device,
            "--backend",
            backend,
            "--out",
            str(out),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        print(done.stdout, done.stderr[-2000:], flush=True)
        if done.returncode:
            return {"passed": False, "error": done.stderr[-2000:]}
        summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
        return summary | {"passed": True}


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

    def counted(act: Callable[[], object]) -> dict[str, int]:
        with profile(activities=activities) as profiler:
            act()
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
        inside = counted(chunk)
        backend.synchronize(state)
        control = counted(lambda: backend.to_numpy(state["loss"]))
    # a whole epoch moves the data once and, at the border of every chunk, its counters in and its loss out
    epoch = counted(lambda: xpnet.train(model, data.X_train, data.y_train, epochs=1, validation=0))
    inside["cudaDeviceSynchronize"] -= min(
        inside["cudaDeviceSynchronize"], 1
    )  # the profiler's own, at its end
    launches = inside.pop("cudaLaunchKernel") + inside.pop("cuLaunchKernel") + inside.pop("cudaGraphLaunch")
    print(f"{backend_name}: {STEPS} steps, {launches} launches, {inside}", flush=True)
    return {
        "passed": not any(inside.values()) and (device == "cpu" or control["Memcpy DtoH"] > 0),
        "steps": STEPS,
        "launches_a_step": launches / STEPS,
        "copies_and_waits": inside,
        "whole_epoch": epoch,
        "control": control["Memcpy DtoH"],
    }


if __name__ == "__main__":
    main()
