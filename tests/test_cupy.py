"""CuPy's backend as far as it goes without a GPU: its own lines, over a stand-in that computes with NumPy.

They show that the backend asks for what it means to, on the right device and in order. That CuPy answers as
the stand-in does is for a GPU to show: ``pytest --device cuda``.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import array_api_compat.numpy
import numpy as np
import pytest

import xpnet
from tests.helpers import refused
from xpnet.backends.cublas import CuBLASError
from xpnet.backends.cupy import CuPyBackend


class CompileError(Exception):
    """CuPy's own is no more than an exception either."""


class DeviceArray(np.ndarray):
    """An array that can be filled on its own device."""

    module: "StandIn"

    def set(self, x: np.ndarray) -> None:
        assert self.module.current[-1] == 1, "an array was filled on another device than the one asked for"
        self[...] = x


class StandIn(SimpleNamespace):
    """What the backend uses of ``cupy``: two devices, and a note of what it was asked for."""

    def __init__(self) -> None:
        self.current = [0]
        self.events: list[str] = []
        self.capability = "80"
        pool = SimpleNamespace(malloc="pool", free_all_blocks=lambda: self.note("blocks freed"))
        super().__init__(
            __version__="14.2.0",
            is_available=lambda: True,
            ones=np.ones,
            empty=self.empty,
            asarray=np.array,
            asnumpy=np.array,
            cuda=SimpleNamespace(
                runtime=SimpleNamespace(getDeviceCount=lambda: 2),
                Device=lambda index: Device(self, index),
                compiler=SimpleNamespace(CompileException=CompileError),
                get_current_stream=lambda: Stream(self, "current"),
                Stream=lambda non_blocking: Stream(self, "side"),
                MemoryPool=lambda: pool,
                using_allocator=self.noted,
            ),
        )

    def note(self, event: str) -> None:
        self.events.append(f"{event} on device {self.current[-1]}")

    @contextmanager
    def noted(self, name: str) -> Iterator[None]:
        self.note(f"enter {name}")
        try:
            yield
        finally:
            self.note(f"leave {name}")

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        made = np.empty(shape, dtype).view(DeviceArray)
        made.module = self
        return made


class Device:
    """A device that can be entered."""

    def __init__(self, module: StandIn, index: int) -> None:
        self.module, self.index, self.compute_capability = module, index, module.capability

    def __enter__(self) -> None:
        self.module.current.append(self.index)

    def __exit__(self, *error: object) -> None:
        self.module.current.pop()


class Graph:
    """A graph that notes its launches and its end."""

    def __init__(self, module: StandIn) -> None:
        self.module = module

    def launch(self) -> None:
        self.module.note("launch")

    def __del__(self) -> None:
        self.module.note("graph destroyed")


class Stream:
    """A stream that notes what it is asked for."""

    spoilt = False

    def __init__(self, module: StandIn, name: str) -> None:
        self.module, self.name, self.within = module, name, module.noted(name)
        self.record = lambda: name
        self.wait_event = lambda event: module.note(f"{name} waits for {event}")
        self.begin_capture = lambda: module.note("capture")

    def synchronize(self) -> None:
        assert self.module.current[-1] == 1

    def end_capture(self) -> Graph:
        self.module.note("captured")
        if self.spoilt:
            raise RuntimeError("the capture was invalidated")
        return Graph(self.module)

    def __enter__(self) -> None:
        self.within.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.within.__exit__(*error)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """In place of CuPy, on a machine where cuBLAS cannot be loaded."""
    module = StandIn()
    monkeypatch.setattr(CuPyBackend, "imported", classmethod(lambda cls: module))
    monkeypatch.setattr(CuPyBackend, "namespace", lambda self: array_api_compat.numpy)

    def nowhere(module: Any, device: int, precision: str) -> Any:
        raise CuBLASError("cuBLAS cannot be loaded: not here")

    monkeypatch.setattr("xpnet.backends.cupy.load", nowhere)
    return module


@pytest.fixture
def eager(stand_in: StandIn) -> Any:
    """The backend on the second device, within `running`, after which every device has been left."""
    made = xpnet.get_backend("cuda:1", "cupy", execution="eager")
    with made.running("float64"):
        yield made
    assert stand_in.current == [0]


def test_training_on_the_second_device_is_numpys(eager: Any, rng: np.random.Generator) -> None:
    X, y, found = rng.standard_normal((90, 5)), np.arange(90) % 3, []
    for backend in (eager, "numpy"):
        model = xpnet.MLP((5, 8, 3), dtype="float64", backend=backend)
        losses = [row.loss for row in xpnet.train(model, X, y, epochs=2, batch_size=32).epochs]
        found.append((losses, {name: array.tolist() for name, array in model.host_parameters().items()}))
    assert found[0] == found[1]


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, CompileError])
def test_a_cupy_without_the_libraries_of_cuda_says_what_to_install(
    stand_in: StandIn, error: type[Exception]
) -> None:
    def ones(*arguments: Any, **options: Any) -> Any:
        raise error("CuPy failed to load libnvrtc.so.12:\n no such file")

    stand_in.ones = ones
    said = refused(lambda: xpnet.get_backend("cuda:1", "cupy"))
    assert said.startswith(
        "cupy cannot compute on cuda:1: CuPy failed to load libnvrtc.so.12: no such file (pip"
    )


def test_a_recording_is_made_aside_and_gives_its_memory_back(stand_in: StandIn, eager: Any) -> None:
    stand_in.events.clear()
    launch = eager.record(lambda: stand_in.note("step"))
    launch()
    launch()
    del launch
    assert [event.removesuffix(" on device 1") for event in stand_in.events] == [
        *("side waits for current", "enter side", "enter pool"),
        *("step", "capture", "step", "captured"),  # the first compiles and allocates
        *("leave pool", "leave side", "current waits for side"),
        *("launch", "launch", "graph destroyed", "blocks freed"),
    ]


@pytest.mark.parametrize(
    ("failing", "said"),
    [
        (1, "no memory"),
        (2, "no memory"),  # it says more than the end of what it spoilt
        (3, "another thread has spoilt the recording"),
    ],
)
def test_a_recording_that_fails_is_ended_and_gives_its_memory_back(
    stand_in: StandIn, eager: Any, monkeypatch: pytest.MonkeyPatch, failing: int, said: str
) -> None:
    def body() -> None:
        stand_in.note("step")
        if stand_in.events.count("step on device 1") == failing:
            raise MemoryError("no memory")

    monkeypatch.setattr(Stream, "spoilt", failing > 1)
    stand_in.events.clear()
    with pytest.raises((MemoryError, RuntimeError), match=said) as caught:
        eager.record(body)
    del caught
    gc.collect()
    events = [event.removesuffix(" on device 1") for event in stand_in.events]
    assert events.count("captured") == (failing > 1)
    assert events[events.index("leave pool") :] == [
        *("leave pool", "leave side", "current waits for side", "blocks freed")
    ]


def test_reduced_precisions_need_a_gpu_with_the_instructions(stand_in: StandIn) -> None:
    for capability, able in (("75", False), ("80", True), ("120", True)):
        stand_in.capability = capability
        backend = xpnet.get_backend("cuda:1", "cupy", execution="eager")
        assert backend.precisions() == (("float32", "tf32", "bf16") if able else ("float32",))


def test_without_cublas_the_steps_are_eager_and_say_why(stand_in: StandIn) -> None:
    with pytest.warns(RuntimeWarning, match=r"^steps run eager, not captured: cuBLAS cannot be loaded: not"):
        backend = xpnet.get_backend("cuda:1", "cupy")
    assert backend.execution == xpnet.backends.Execution("auto", "eager", "cuBLAS cannot be loaded: not here")
    assert xpnet.get_backend("cuda:1", "cupy", execution="eager").execution.reason == ""


@pytest.mark.parametrize("options", [{"execution": "captured"}, {"precision": "tf32"}, {"precision": "bf16"}])
def test_what_needs_cublas_says_so_without_it(stand_in: StandIn, options: dict[str, Any]) -> None:
    said = refused(lambda: xpnet.get_backend("cuda:1", "cupy", **options))
    assert said.startswith("cupy on cuda:1: cuBLAS cannot be loaded: not here (pip install")


def subtract_product(W: Any, A: Any, B: Any, kept: Any = None) -> Any:
    return (1.0 if kept is None else kept) * W - A.T @ B


@pytest.mark.parametrize(
    ("matmul", "subtracted", "said"),
    [
        (lambda A, B: A @ B * 1.1, subtract_product, "the products of cuBLAS are not those of CuPy"),
        (np.matmul, lambda W, A, B, kept: W - A.T @ B, "that cuBLAS subtracts are not those of CuPy"),
        (np.matmul, lambda W, A, B, kept: subtract_product(W, A, -B, kept), "are not those of CuPy"),
    ],
)
def test_wrong_products_are_not_used(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, matmul: Any, subtracted: Any, said: str
) -> None:
    wrong = SimpleNamespace(matmul=matmul, subtract_product=subtracted)
    monkeypatch.setattr("xpnet.backends.cupy.load", lambda *arguments: wrong)
    with pytest.warns(RuntimeWarning, match=said):
        assert xpnet.get_backend("cuda:1", "cupy").execution.actual == "eager"
    assert "not those of CuPy" in refused(lambda: xpnet.get_backend("cuda:1", "cupy", precision="bf16"))


def test_right_products_become_those_of_the_steps(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    def matmul(A: Any, B: Any) -> Any:
        return A @ B

    right = SimpleNamespace(matmul=matmul, subtract_product=subtract_product)
    monkeypatch.setattr("xpnet.backends.cupy.load", lambda *arguments: right)
    xp = xpnet.get_backend("cuda:1", "cupy").xp
    assert (xp.matmul, xp.subtract_product) == (matmul, subtract_product)
    assert not hasattr(xpnet.get_backend("cuda:1", "cupy", execution="eager").xp, "subtract_product")


def test_nccl_adds_up_in_place_on_the_current_stream(
    stand_in: StandIn, eager: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Communicator:
        def __init__(self, *who: Any) -> None:
            stand_in.note(f"processes {who}")

        def allReduce(self, *what: Any) -> None:  # noqa: N802
            stand_in.note(f"sum {what}")

    codes = {"NCCL_FLOAT32": 7, "NCCL_FLOAT64": 8, "NCCL_SUM": 0, "NcclError": OSError}
    nccl = SimpleNamespace(available=True, NcclCommunicator=Communicator, get_unique_id=lambda: "id", **codes)
    monkeypatch.setitem(sys.modules, "cupy.cuda.nccl", nccl)
    monkeypatch.setattr(Stream, "ptr", 99, raising=False)
    total = eager.adding()
    for dtype, code in (("float32", 7), ("float64", 8)):
        x = SimpleNamespace(data=SimpleNamespace(ptr=5), size=3, dtype=np.dtype(dtype))
        assert total(x) is x
        assert stand_in.events[-1].startswith(f"sum (5, 5, 3, {code}, 0, 99)")
    assert "processes (1, 'id', 0) on device 1" in stand_in.events
    nccl.available = False
    assert "pip install nvidia-nccl-cu12" in refused(eager.adding)
