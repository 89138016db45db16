"""Does everything hold on this GPU? One command for a person with an NVIDIA machine:

    python bench/gpu.py

runs the whole suite on CuPy, and on PyTorch and JAX where they are built for CUDA; the parity table in both
dtypes; `xpnet train` on each; and counts the copies and the waits inside a chunk of steps on CuPy. Results
go to ``results/gpu-NAME.json``, with the device's name, its driver and the versions. A part that fails is put
down as failed, and the command then fails at its end.
"""

import argparse
import json
import subprocess
import sys
import tempfile
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


def main() -> None:
    """Run every part, and write down what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--device", default="cuda", help="cuda or cuda:N; cpu tries this script out without a GPU"
    )
    device = parser.parse_args().device

    libraries = usable(device)
    if not libraries:
        raise SystemExit(f"no library here drives {device}: see `xpnet info`")
    chosen = [argument for name in libraries for argument in ("--backend", name)]
    results: dict[str, Any] = {"device": describe(device), "libraries": libraries}
    print(f"{results['device'].get('name', device)}: {', '.join(libraries)}", flush=True)

    results["suite"] = suite(device, chosen)
    results["parity"] = command_json(["parity", "--device", device, *chosen, "--json"])
    results["train"] = {name: train(device, name) for name in libraries}
    results["transfers"] = transfers(device, next(iter(libraries)))
    name = str(results["device"].get("name", device)).lower().replace(" ", "-")
    print(f"written to {write_results(f'gpu-{name}', results)}")

    bad = [part for part in ("suite", "parity", "transfers") if not results[part].get("passed")]
    bad += [f"train on {name}" for name, run in results["train"].items() if not run.get("passed")]
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
    """The GPU's name, its driver and the CUDA version, from nvidia-smi."""
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
    print(done.stdout[-6000:], flush=True)
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

    PyTorch's profiler sees every call of the process, whichever library makes it.
    """
    try:
        from torch.profiler import ProfilerActivity, profile
    except ImportError as error:
        return {"passed": False, "error": f"needs PyTorch with CUDA, for its profiler: {error}"}
    backend = xpnet.get_backend(device, backend_name)
    data = xpnet.load_data()
    model = xpnet.MLP(backend=backend)
    steps = 100
    with backend.running("float32"):
        step = TrainingStep(backend.xp, model.network, SGD(), 255.0)
        held = {
            "X": backend.asarray(data.X_train),
            "y": backend.asarray(data.y_train),
            "classes": backend.asarray(np.arange(10, dtype=np.int32)),
        }
        index = backend.asarray(batches(np.arange(steps * 64, dtype=np.int32), 64))
        rates = np.full(2 * steps + 2, 0.1, np.float32)
        counters = {"t": np.zeros(1, np.int32), "loss": np.zeros(1, np.float32), "rates": rates}
        state = backend.copy(model.parameters) | {k: backend.asarray(v) for k, v in counters.items()}
        backend.warm_up(step, state, index, held)
        state = backend.scan(step, state, index, held)
        backend.synchronize(state)
        activities = [ProfilerActivity.CPU]
        if device != "cpu":
            activities.append(ProfilerActivity.CUDA)
        with profile(activities=activities) as profiler:
            state = backend.scan(step, state, index, held)
        backend.synchronize(state)
    counts = {event.key: event.count for event in profiler.key_averages()}
    named = (
        "Memcpy HtoD",
        "Memcpy DtoH",
        "cudaStreamSynchronize",
        "cudaDeviceSynchronize",
        "cudaEventSynchronize",
    )
    # the profiler itself waits for the device once when it stops
    seen = {name: sum(n for key, n in counts.items() if key.startswith(name)) for name in named}
    kernels = sum(n for key, n in counts.items() if "LaunchKernel" in key)
    waits = (
        max(seen["cudaDeviceSynchronize"] - 1, 0)
        + seen["cudaStreamSynchronize"]
        + seen["cudaEventSynchronize"]
    )
    copies = seen["Memcpy HtoD"] + seen["Memcpy DtoH"]
    print(f"{backend_name}: {steps} steps, {kernels} kernels, {copies} copies, {waits} waits", flush=True)
    return {
        "passed": copies == 0 and waits == 0 and (kernels > 0 or device == "cpu"),
        "backend": backend_name,
        "steps": steps,
        "kernels_a_step": kernels / steps,
        "counts": seen,
    }


if __name__ == "__main__":
    main()
