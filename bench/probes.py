"""Questions that `gpu.py` asks of a GPU, each in a process of its own and with an answer of one line.

On a CPU they run too, but nothing is captured there.
"""

import gc
import importlib
import resource
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial
from typing import Any

import numpy as np
from contestants import make
from ours import get_backend
from trainer import Answer, LeftOut, Setting, draw_batches, first_weights

import xpnet
from xpnet.training import Settings
from xpnet.training.inputs import Examples
from xpnet.training.run import Run

SIZES, STEPS, M = (784, 128, 10), 121, 64
"""The network, and the steps and the batch size of a chunk of `xpnet train`."""

SEEN = ["Memcpy HtoD", "Memcpy DtoH", "cudaStreamSync", "cudaDeviceSync", "cudaEventSync"]
SEEN += ["cuStreamSync", "cuEventSync", "cuCtxSync"]  # the driver's own, which JAX calls
"""How the names of copies and waits begin in the profiler."""


def usable(device: str, names: list[str]) -> Answer:
    """The libraries that drive the device, with their precisions; and why others do not."""
    found, reasons = {}, []
    for name in names:
        try:
            found[name] = xpnet.get_backend(device, name).precisions()
        except xpnet.XpnetError as error:
            reasons.append(str(error))
    return {"found": found, "left out": reasons}


def begun(contestant: str, device: str, steps: int = STEPS) -> tuple[Any, tuple[np.ndarray, np.ndarray]]:
    """Make a contestant that has compiled everything, and the batches and rates of an epoch."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (steps * M, 784), np.uint8), rng.integers(0, 10, steps * M, np.int32)
    trainer = make(contestant, Setting(device, SIZES, M, X, y))
    trainer.begin(first_weights(SIZES, 0))
    task = draw_batches(rng, len(X), M), np.full(steps, 0.1, np.float32)
    for _ in range(2):
        trainer.epoch(*task)
    return trainer, task


def launches(contestant: str, device: str) -> Answer:
    """Count the kernels of a step, the launches, and the copies and waits.

    For xpnet it looks at the steps of a chunk, which must not copy or wait. Then it reads a number, and this
    copy must be counted. For the others it looks at a whole epoch.
    """
    trainer, task = begun(contestant, device)
    if not contestant.startswith("xpnet"):
        return profiled(lambda: trainer.epoch(*task))
    backend = trainer.backend
    with backend.running("float32"):
        chunk = trainer.move(*task)
        backend.synchronize(trainer.state)
        counted = profiled(lambda: trainer.run(*chunk))
        backend.synchronize(trainer.state)
        seen = profiled(lambda: backend.to_numpy(trainer.state["loss"]))["copies and waits"]
    model, rows = xpnet.MLP(SIZES, backend=backend), trainer.setting
    epoch = profiled(lambda: xpnet.train(model, rows.X, rows.y, epochs=1, validation=0.0))["copies and waits"]
    right = not (counted["copies and waits"] or backend.execution.reason) and (
        device == "cpu" or "Memcpy DtoH" in seen
    )
    return counted | {"in xpnet.train": epoch, "execution": str(backend.execution), "passed": right}


def profiled(act: Callable[[], object]) -> Answer:
    """Count what an act of `STEPS` steps asks of the device.

    PyTorch's profiler sees every call of the process, whichever library makes it. The kernels of one launch
    share its id; only a graph has several. Of a loop within a graph it may see one round only.
    """
    try:
        from torch.profiler import ProfilerActivity, profile, supported_activities
    except ImportError as error:
        raise LeftOut(f"needs PyTorch, for its profiler: {error}") from error
    activities = {ProfilerActivity.CPU, ProfilerActivity.CUDA} & supported_activities()
    with profile(activities=activities) as profiler:
        act()
    events = [event for event in profiler.events() if not getattr(event, "is_user_annotation", False)]
    on_device = [event for event in events if event.device_type.name == "CUDA"]
    kernels = Counter(event.id for event in on_device if not event.name.startswith(("Memcpy", "Memset")))
    asked = Counter(kind for event in events for kind in SEEN if event.name.startswith(kind))
    asked["cudaDeviceSync"] -= 1  # the profiler's own, at its end
    a_step = {"kernels a step": kernels.total() / STEPS, "launches a step": len(kernels) / STEPS}
    return a_step | {"nodes of a graph": max(kernels.values(), default=0), "copies and waits": dict(+asked)}


def chain(count: int, state: Answer, rows: Any, data: Answer) -> Answer:
    """Take a step of so many small operations."""
    for _ in range(count):
        state["x"] += 1.0
    return state


def added(library: str, device: str) -> Answer:
    """Does a step whose gradients are added up over a group of one process do what it does without?"""
    rng, ends = np.random.default_rng(0), []
    X, y = rng.integers(0, 256, (4 * M, 784), np.uint8), rng.integers(0, 10, 4 * M, np.int32)
    backend = xpnet.get_backend(device, library)
    for total in (None, backend.adding()):
        backend._total = total  # which only several processes have by themselves
        model = xpnet.MLP(SIZES, backend=backend)
        with backend.running("float32"):
            run = Run(model, Examples(X, y, None), Settings(batch_size=M, validation=0.0, lr=0.1))
            chunk, part = run.chunks(np.arange(len(X), dtype=np.int32))[0], run.feed.sample()
            state, _ = run.advance(run.begin().state, chunk, run.rates(0, len(chunk)), part)
            ends.append({name: backend.to_numpy(array) for name, array in run.parameters(state).items()})
    apart = max(float(np.abs(ends[0][name] - ends[1][name]).max()) for name in ends[0])
    captured = device == "cpu" or library == "jax" or backend.execution.actual == "captured"
    return {"apart": apart, "execution": str(backend.execution), "passed": apart < 1e-5 and captured}


def nodes(library: str, device: str) -> Answer:
    """How many microseconds does a step of so many small operations take, in each execution?"""
    taken = {}
    for options in ([], ["eager"]):
        with suppress(LeftOut):
            backend = get_backend(device, library, options)
            batches, data = (backend.asarray(np.zeros((100, 1), np.int32)) for _ in range(2))
            for count in (1, 10, 50, 100, 200):
                step = partial(chain, count)
                with backend.running("float32"):
                    state = {"x": backend.asarray(np.zeros(1024, np.float32))}
                    for _ in range(2):  # the first time it is recorded or compiled
                        started = time.perf_counter()
                        state = backend.scan(step, state, batches, {"data": data})
                        backend.synchronize(state)
                    seconds = time.perf_counter() - started
                taken[f"{count} {backend.execution.actual}"] = round(seconds * 1e4, 1)
    return {"µs": taken, "passed": True}


def memory(library: str, device: str) -> Answer:
    """How much memory does a recording leave behind? Twenty are made and dropped."""

    def used(times: int) -> int:
        for _ in range(times):
            begun(f"xpnet {library}", device, steps=2)
        gc.collect()
        if device == "cpu":
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        cuda = importlib.import_module("cupy" if library == "cupy" else "torch").cuda
        free, total = cuda.runtime.memGetInfo() if library == "cupy" else cuda.mem_get_info()
        return int(total - free)

    before = used(5)
    lost = (used(20) - before) / 20
    return {"bytes a recording": lost, "passed": lost < 2**17}


def streams(library: str, device: str) -> Answer:
    """Does one step, run on two streams at once, give what it gives on one stream?"""
    trainer, task = begun(f"xpnet {library}", device)
    backend, alone, prepared, after = trainer.backend, [], [], []
    for weights in (first_weights(SIZES, 1), first_weights(SIZES, 2)):
        trainer.begin(weights)
        trainer.epoch(*task)
        alone.append(trainer.weights()["W1"])
        trainer.begin(weights)
        prepared.append((new_stream(library, device, backend.module), trainer.state, trainer.move(*task)))
    with backend.running("float32"):
        backend.synchronize(trainer.state)
        for stream, state, chunk in prepared:
            trainer.state = state
            with stream:
                trainer.run(*chunk)
            after.append((stream, trainer.state))
        for stream, state in after:
            with stream:
                backend.synchronize(state)
        found = [np.array(backend.to_numpy(state["W1"])) for _, state in after]
    difference = float(np.abs(np.array(found) - np.array(alone)).max())
    return {"largest difference": difference, "passed": difference < 1e-5}


def new_stream(library: str, device: str, module: Any) -> Any:
    """Make a stream as a context, or an empty context where the library has no streams for its users."""
    if device == "cpu" or library == "jax":
        return nullcontext()
    cuda = module.cuda
    return cuda.Stream(non_blocking=True) if library == "cupy" else cuda.stream(cuda.Stream())


def busy(library: str, device: str) -> Answer:
    """Is a step captured while another thread trains and waits for the device?"""
    done, captured = threading.Event(), 0
    other, task = begun(f"xpnet {library}", device)

    def train() -> None:
        while not done.is_set():
            other.epoch(*task)

    with ThreadPoolExecutor() as pool:
        trained = pool.submit(train)
        for _ in range(10):
            captured += not begun(f"xpnet {library}", device, steps=2)[0].backend.execution.reason
        done.set()
        trained.result()
    return {"captured": f"{captured} of 10", "passed": captured == 10}
