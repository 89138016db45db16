"""CuPy's backend as far as it goes without a GPU: its own lines, over a stand-in that computes with NumPy.

What it shows is that every call is one that the backend means to make, on the right device and in order. That
CuPy answers as the stand-in does is for a GPU to show: ``pytest --device cuda``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.backends.cupy import CuPyBackend
from xpnet.errors import XpnetError


class CompileError(Exception):
    """CuPy's own is no more than an exception either."""


class StandIn(SimpleNamespace):
    """What the backend uses of ``cupy``: two devices, and a note of where it was asked to compute."""

    def __init__(self) -> None:
        self.current = [0]
        self.waits: list[int] = []
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
                get_current_stream=lambda: SimpleNamespace(
                    synchronize=lambda: self.waits.append(self.current[-1])
                ),
            ),
        )

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        self.current.append(index)
        yield
        self.current.pop()

    def to_device(self, x: np.ndarray) -> np.ndarray:
        assert self.current[-1] == 1, "an array was made on another device than the one asked for"
        return x.copy()


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    module = StandIn()
    monkeypatch.setattr(CuPyBackend, "imported", classmethod(lambda cls: module))
    monkeypatch.setattr(CuPyBackend, "namespace", "array_api_compat.numpy")
    return module


def test_training_on_the_second_device(stand_in: StandIn, rng: np.random.Generator) -> None:
    X, y = rng.standard_normal((90, 5)), np.arange(90) % 3
    sizes: Any = (5, 8, 3)
    model = xpnet.MLP(sizes, dtype="float64", device="cuda:1", backend="cupy")
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
    backend = xpnet.get_backend("cuda:1", "cupy")

    def full(x: np.ndarray) -> np.ndarray:
        raise MemoryError(f"Out of memory allocating {x.nbytes:,} bytes")

    stand_in.asarray = full
    with pytest.raises(MemoryError, match="allocating 48 bytes"):
        xpnet.MLP((3, 2), dtype="float64", backend=backend)
