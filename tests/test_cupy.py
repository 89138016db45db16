"""CuPy's backend as far as it goes without a GPU: its own lines, over a stand-in that computes with NumPy.

What it shows is that every call is one that the backend means to make, on the right device and in order. That
CuPy answers as the stand-in does is for a GPU to show: ``pytest --device cuda``.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends.cublas import CuBLAS, CuBLASError
from xpnet.backends.cupy import CuPyBackend
from xpnet.errors import XpnetError


class CompileError(Exception):
    """CuPy's own is no more than an exception either."""


class DeviceArray(np.ndarray):
    """An array whose `set` has only joined the stream when it returns, as with CuPy."""

    module: "StandIn"

    def set(self, x: np.ndarray) -> None:
        assert self.module.current[-1] == 1
        self.module.copies.append((self, x))


class StandIn(SimpleNamespace):
    """What the backend uses of ``cupy``: two devices, and a note of where it was asked to compute."""

    def __init__(self) -> None:
        self.current = [0]
        self.waits: list[int] = []
        self.events: list[str] = []
        self.copies: list[tuple[np.ndarray, np.ndarray]] = []
        self.capability = "80"
        super().__init__(
            __version__="14.2.0",
            is_available=lambda: True,
            ones=np.ones,
            asarray=self.to_device,
            asnumpy=np.array,
            cuda=SimpleNamespace(
                runtime=SimpleNamespace(getDeviceCount=lambda: 2),
                Device=self.device,
                compiler=SimpleNamespace(CompileException=CompileError),
                get_current_stream=lambda: self.stream("current"),
                Stream=lambda non_blocking: self.stream(f"side, non-blocking {non_blocking}"),
                MemoryPool=lambda: SimpleNamespace(malloc="malloc of a pool"),
                using_allocator=self.using_allocator,
            ),
        )

    def stream(self, name: str) -> "Stream":
        return Stream(self, name)

    @contextmanager
    def using_allocator(self, malloc: str) -> Iterator[None]:
        self.events.append(f"enter {malloc}")
        try:
            yield
        finally:
            self.events.append(f"leave {malloc}")

    def device(self, index: int) -> "Device":
        return Device(self, index)

    def to_device(self, x: np.ndarray) -> np.ndarray:
        assert self.current[-1] == 1, "an array was made on another device than the one asked for"
        made = x.copy().view(DeviceArray)
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


class Stream:
    """A stream that notes what it is asked for."""

    def __init__(self, module: StandIn, name: str) -> None:
        self.module, self.name = module, name

    def synchronize(self) -> None:
        for array, x in self.module.copies:
            array[...] = x
        self.module.copies.clear()
        self.module.waits.append(self.module.current[-1])
        self.module.events.append(f"{self.name}: synchronize")

    def record(self) -> str:
        return f"event of {self.name}"

    def wait_event(self, event: str) -> None:
        self.module.events.append(f"{self.name}: wait for {event}")

    def begin_capture(self) -> None:
        self.module.events.append(f"{self.name}: begin capture")

    def end_capture(self) -> Any:
        self.module.events.append(f"{self.name}: end capture")
        return SimpleNamespace(launch=lambda: self.module.events.append("launch"))

    def __enter__(self) -> None:
        self.module.events.append(f"enter {self.name}")

    def __exit__(self, *error: object) -> None:
        self.module.events.append(f"leave {self.name}")


@pytest.fixture(autouse=True)
def without_cublas(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(module: Any, precision: str) -> Any:
        raise CuBLASError("cuBLAS cannot be loaded: not here")

    monkeypatch.setattr(CuBLAS, "load", nowhere)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setattr(CuPyBackend, "imported", classmethod(lambda cls: module))
    monkeypatch.setattr(CuPyBackend, "namespace", "array_api_compat.numpy")
    return module


def test_training_on_the_second_device(stand_in: StandIn, rng: np.random.Generator) -> None:
    X, y = rng.standard_normal((90, 5)), np.arange(90) % 3
    sizes: Any = (5, 8, 3)
    backend = xpnet.get_backend("cuda:1", "cupy", execution="eager")
    model = xpnet.MLP(sizes, dtype="float64", backend=backend)
    history = xpnet.train(model, X, y, epochs=2, optimizer="adam", lr=0.01)

    reference = xpnet.MLP(sizes, dtype="float64")
    expected = xpnet.train(reference, X, y, epochs=2, optimizer="adam", lr=0.01)
    assert [row.loss for row in history.epochs] == [row.loss for row in expected.epochs]
    for name, array in reference.host_parameters().items():
        assert (model.host_parameters()[name] == array).all()
    assert set(stand_in.waits) == {1}
    assert stand_in.current == [0]  # every device that was entered was left


def test_devices_are_counted(stand_in: StandIn) -> None:
    assert CuPyBackend.devices() == ["cuda:0", "cuda:1"]
    assert CuPyBackend.version() == "14.2.0"
    with pytest.raises(XpnetError, match="no device cuda:2: cupy finds cuda:0, cuda:1"):
        xpnet.get_backend("cuda:2", "cupy")


@pytest.mark.parametrize("error", [ImportError, OSError, RuntimeError, CompileError])
def test_a_cupy_without_the_libraries_of_cuda_says_what_to_install(
    stand_in: StandIn, error: type[Exception]
) -> None:
    def ones(*arguments: Any, **options: Any) -> Any:
        raise error("CuPy failed to load libnvrtc.so.12:\n no such file")

    stand_in.ones = ones
    with pytest.raises(XpnetError) as caught:
        xpnet.get_backend("cuda:1", "cupy")
    assert "cupy cannot compute on cuda:1: CuPy failed to load libnvrtc.so.12: no such file" in str(
        caught.value
    )
    assert "pip install" in str(caught.value)


def test_memory_that_runs_out_is_an_error_of_memory(stand_in: StandIn) -> None:
    # CuPy's OutOfMemoryError is a MemoryError, which names the bytes, and goes through as it is
    backend = xpnet.get_backend("cuda:1", "cupy", execution="eager")

    def full(x: np.ndarray) -> np.ndarray:
        raise MemoryError(f"Out of memory allocating {x.nbytes:,} bytes")

    stand_in.asarray = full
    with pytest.raises(MemoryError, match="allocating 48 bytes"):
        xpnet.MLP((3, 2), dtype="float64", backend=backend)


def test_a_recording_is_made_on_a_stream_and_in_a_pool_of_its_own(stand_in: StandIn) -> None:
    backend: Any = xpnet.get_backend("cuda:1", "cupy", execution="eager")
    stand_in.events.clear()
    launch = backend.record(lambda: stand_in.events.append("step"))
    side = "side, non-blocking True"
    assert stand_in.events == [
        f"{side}: wait for event of current",
        f"enter {side}",
        "enter malloc of a pool",
        "step",  # compiles and allocates
        f"{side}: synchronize",
        f"{side}: begin capture",
        "step",
        f"{side}: end capture",
        "leave malloc of a pool",
        f"leave {side}",
        f"current: wait for event of {side}",
    ]
    stand_in.events.clear()
    launch()
    launch()
    assert stand_in.events == ["launch", "launch"]


def test_a_capture_that_fails_is_ended(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    backend: Any = xpnet.get_backend("cuda:1", "cupy", execution="eager")
    times = iter([None, RuntimeError("operation not permitted when stream is capturing")])

    def body() -> None:
        error = next(times)
        if error is not None:
            raise error

    def broken(stream: Stream) -> Any:
        stand_in.events.append("end capture")
        raise RuntimeError("the capture was invalidated")  # says less than the error that did so

    monkeypatch.setattr(Stream, "end_capture", broken)
    with pytest.raises(RuntimeError, match="not permitted"):
        backend.record(body)
    assert "end capture" in stand_in.events
    assert stand_in.events[-1] == "current: wait for event of side, non-blocking True"


def test_a_recording_whose_first_run_fails_rejoins_the_streams(stand_in: StandIn) -> None:
    backend: Any = xpnet.get_backend("cuda:1", "cupy", execution="eager")
    stand_in.events.clear()

    def body() -> None:
        raise MemoryError("out of memory")

    with pytest.raises(MemoryError, match="out of memory"):
        backend.record(body)
    side = "side, non-blocking True"
    assert stand_in.events == [
        f"{side}: wait for event of current",
        f"enter {side}",
        "enter malloc of a pool",
        "leave malloc of a pool",
        f"leave {side}",
        f"current: wait for event of {side}",
    ]


def test_a_capture_that_cannot_be_ended_is_an_error(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(stream: Stream) -> Any:
        raise RuntimeError("the capture was invalidated")

    monkeypatch.setattr(Stream, "end_capture", broken)
    backend: Any = xpnet.get_backend("cuda:1", "cupy", execution="eager")
    with pytest.raises(RuntimeError, match="invalidated"):
        backend.record(lambda: None)


def test_refilling_waits_so_that_the_host_array_may_be_overwritten(stand_in: StandIn) -> None:
    backend = xpnet.get_backend("cuda:1", "cupy", execution="eager")
    array, host = backend.asarray(np.zeros(3)), np.arange(3.0)
    assert backend.refill(array, host) is array
    host[...] = 9.0
    stand_in.stream("current").synchronize()
    assert array.tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(("capability", "able"), [("75", False), ("80", True), ("90", True), ("120", True)])
def test_reduced_precisions_need_a_gpu_with_the_instructions(
    stand_in: StandIn, capability: str, able: bool
) -> None:
    stand_in.capability = capability
    backend = xpnet.get_backend("cuda:1", "cupy", execution="eager")
    assert backend.precisions() == (("float32", "tf32", "bf16") if able else ("float32",))
    if not able:
        with pytest.raises(XpnetError, match="no bf16 matrix products: cupy on cuda:1 has float32"):
            xpnet.get_backend("cuda:1", "cupy", precision="bf16")


def test_without_cublas_the_steps_are_eager_and_say_why(stand_in: StandIn) -> None:
    said = "steps run eager, not captured: cuBLAS cannot be loaded: not here"
    with pytest.warns(RuntimeWarning, match=f"^{said}$"):
        backend = xpnet.get_backend("cuda:1", "cupy")
    assert (backend.execution.actual, backend.execution.reason) == (
        "eager",
        "cuBLAS cannot be loaded: not here",
    )
    assert xpnet.get_backend("cuda:1", "cupy", execution="eager").execution.reason == ""


@pytest.mark.parametrize("options", [{"execution": "captured"}, {"precision": "tf32"}, {"precision": "bf16"}])
def test_what_needs_cublas_says_so_without_it(stand_in: StandIn, options: dict[str, Any]) -> None:
    with pytest.raises(XpnetError, match=r"cupy on cuda:1: cuBLAS cannot be loaded: not here .*pip install"):
        xpnet.get_backend("cuda:1", "cupy", **options)


class Products:
    """A stand-in for `CuBLAS` on host arrays."""

    def __init__(self, wrong: Callable[[np.ndarray], np.ndarray]) -> None:
        self.wrong, self.count = wrong, 0

    def matmul(self, A: np.ndarray, B: np.ndarray, /) -> np.ndarray:
        self.count += 1
        return self.wrong(A @ B)


def test_steps_that_are_captured_end_where_eager_ones_do(
    stand_in: StandIn, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    products = Products(lambda C: C)
    monkeypatch.setattr(CuBLAS, "load", lambda module, precision: products)

    def record(self: Any, body: Callable[[], None]) -> Callable[[], None]:
        body()
        return body  # launched, it does again what it did: as a graph does

    monkeypatch.setattr(CuPyBackend, "record", record)
    X, y = rng.standard_normal((90, 5)), np.arange(90) % 3
    sizes: Any = (5, 8, 3)
    found = {}
    for steps in ("eager", "captured"):
        backend = xpnet.get_backend("cuda:1", "cupy", execution=steps)
        model = xpnet.MLP(sizes, dtype="float64", backend=backend)
        before = products.count
        history = xpnet.train(model, X, y, epochs=3, optimizer="adam", lr=0.01, batch_size=32)
        assert backend.execution.actual == steps
        assert (products.count > before) == (steps == "captured")
        found[steps] = [row.loss for row in history.epochs], model.host_parameters()
    assert found["captured"][0] == found["eager"][0]
    for name, array in found["eager"][1].items():
        assert (found["captured"][1][name] == array).all()


def test_wrong_products_are_not_used(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CuBLAS, "load", lambda module, precision: Products(lambda C: C * 1.1))
    with pytest.warns(RuntimeWarning, match="the products of cuBLAS are not those of CuPy"):
        backend = xpnet.get_backend("cuda:1", "cupy")
    assert (backend.execution.actual, backend.execution.reason) == (
        "eager",
        "the products of cuBLAS are not those of CuPy",
    )
    with pytest.raises(XpnetError, match="the products of cuBLAS are not those of CuPy"):
        xpnet.get_backend("cuda:1", "cupy", precision="bf16")
