"""PyTorch's backend: its short cuts through the standard, its precisions, and how it records.

What needs a GPU is run over a stand-in, which shows that the calls are those that are meant, in order.
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import xpnet
from tests.test_backends import isolated
from xpnet.backends import get_backend
from xpnet.backends.torch import TorchBackend
from xpnet.errors import XpnetError
from xpnet.parity.formats import rounded


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, as far as the backend is told."""
    monkeypatch.setattr(TorchBackend, "devices", classmethod(lambda cls: ["cpu", "cuda:0", "cuda:1"]))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: [(7, 5), (8, 0)][index])


def products() -> list[str]:
    """How torch multiplies float32 matrices, on a GPU and on a CPU."""
    parts: Any = torch.backends
    return [part.matmul.fp32_precision for part in (parts.cuda, parts.mkldnn)]


class Doubling:
    """A step that makes one array anew and writes to the other."""

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        state = dict(state)
        state["t"] += 1
        return state | {"sum": state["sum"] * 2.0}


def test_arrays_of_a_scan_may_be_used_as_any_others() -> None:
    """Those that are made in inference mode may not: autograd refuses them."""
    backend = get_backend("cpu", "torch")
    state = {"sum": torch.ones(3), "t": torch.nn.Parameter(torch.zeros(1))}
    with backend.running("float32"):
        after = backend.scan(Doubling(), state, torch.zeros((5, 2), dtype=torch.int32), {})
    assert after["t"] is state["t"]
    w = torch.ones(3, requires_grad=True)
    (w * after["sum"] * after["t"].detach()).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [160.0] * 3
    after["sum"] += 1.0


def test_precisions_of_each_device(gpus: None) -> None:
    assert get_backend("cpu", "torch").precisions() == ("float32", "bf16")
    assert get_backend("cuda:1", "torch").precisions() == ("float32", "tf32", "bf16")
    assert get_backend("cuda:0", "torch").precisions() == ("float32",)
    with pytest.raises(XpnetError, match="no bf16 matrix products: torch on cuda:0 has float32"):
        get_backend("cuda:0", "torch", precision="bf16")


def test_only_an_nvidia_gpu_records(gpus: None) -> None:
    ways = {device: get_backend(device, "torch").executions() for device in ("cpu", "cuda:1")}
    assert ways == {"cpu": ("eager",), "cuda:1": ("captured", "eager")}


HELD = {"float32": ["ieee", "ieee"], "bf16": ["ieee", "bf16"], "tf32": ["tf32", "ieee"]}


@pytest.mark.parametrize(
    ("device", "precision"),
    [("cpu", "float32"), ("cpu", "bf16"), ("cuda:1", "float32"), ("cuda:1", "tf32"), ("cuda:1", "bf16")],
)
@pytest.mark.parametrize("caller", ["highest", "medium"])
def test_settings_are_held_while_running_and_given_back(
    gpus: None, device: str, precision: str, caller: str
) -> None:
    backend, older = get_backend(device, "torch", precision=precision), torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(caller)
    try:
        before = products()
        with torch.autocast("cpu"), suppress(KeyboardInterrupt), backend.running("float32"):
            with backend.running("float64"):
                assert products() == HELD[precision]
            assert products() == HELD[precision]
            assert torch.is_autocast_enabled("cpu") is (device != "cpu")
            assert not torch.is_grad_enabled()
            raise KeyboardInterrupt
        assert (products(), torch.get_float32_matmul_precision()) == (before, caller)
        assert torch.is_grad_enabled()
        assert not torch.is_autocast_enabled("cpu")
    finally:
        torch.set_float32_matmul_precision(older)


@pytest.mark.parametrize(
    ("before", "within", "told"),
    [
        ("torch.set_float32_matmul_precision('high')", "torch.backends.cuda.matmul.allow_tf32", "False True"),
        (
            "torch.backends.cuda.matmul.fp32_precision = 'tf32'",
            "torch.backends.cuda.matmul.fp32_precision",
            "ieee tf32",
        ),
    ],
)
def test_older_and_newer_settings_of_the_caller_can_be_read(before: str, within: str, told: str) -> None:
    code = (
        f"import torch\nfrom xpnet.backends import get_backend\n{before}\n"
        f"with get_backend('cpu', 'torch').running('float32'):\n    print({within}, end=' ')\n"
        f"print({within})"
    )
    assert isolated(code) == told


def test_training_within_autocast_is_in_float32(rng: np.random.Generator) -> None:
    X, y, found = rng.standard_normal((300, 6)), np.arange(300) % 3, []
    for enabled in (False, True):
        model = xpnet.MLP((6, 16, 3), backend="torch")
        with torch.autocast("cpu", enabled=enabled):
            loss = xpnet.train(model, X, y, epochs=1).epochs[-1].loss
            found.append((loss, model.predict_proba(model.backend.asarray(X)).tolist()))
    assert found[0] == found[1]


@pytest.mark.parametrize("m", [1, 7, 64])
def test_bf16_products_have_float32_sums(m: int, rng: np.random.Generator) -> None:
    """In the three layouts of a step: X W, X^T dZ and dZ W^T."""
    backend = TorchBackend("cpu", precision="bf16")
    X, W, dZ = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, 784), (784, 30), (m, 30)))
    with backend.running("float32"):
        for a, b in ((X, W), (X.T, dZ), (dZ, W.T)):
            # transposed on the device, as a step does
            A, B = (
                backend.asarray(c)
                if c.flags.c_contiguous
                else backend.xp.matrix_transpose(backend.asarray(c.T))
                for c in (a, b)
            )
            found = backend.xp.matmul(A, B)
            assert found.dtype == torch.float32
            right = rounded(a, "bf16").astype(np.float64) @ rounded(b, "bf16").astype(np.float64)
            size = abs(right).max()
            assert abs(backend.to_numpy(found) - right).max() < 2e-6 * size
            assert abs(a.astype(np.float64) @ b - right).max() > 1e-4 * size


def test_a_product_of_bf16_with_float32_sums_is_a_call_that_pytorch_knows() -> None:
    a, b = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((4, 5), (5, 6)))
    product: Any = torch.mm
    assert product(a, b, out_dtype=torch.float32).dtype == torch.float32


class Streams:
    """What recording uses of ``torch.cuda``, and a note of every call."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.streams = ["current"]

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"torch.cuda.{name} was not meant to be used")

    @contextmanager
    def device(self, index: int) -> Iterator[None]:
        self.calls.append(f"device {index}")
        yield
        self.calls.append("device left")

    def made(self, name: str) -> Any:
        waits = self.calls.append
        return SimpleNamespace(name=name, wait_stream=lambda other: waits(f"{name} waits for {other.name}"))

    def current_stream(self) -> Any:
        return self.made(self.streams[-1])

    def Stream(self, device: str) -> Any:  # noqa: N802
        assert device == "cuda:1"
        return self.made("side")

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.streams.append(stream.name)
        try:
            yield
        finally:
            self.streams.pop()

    def CUDAGraph(self) -> Any:  # noqa: N802
        return SimpleNamespace(replay=lambda: self.calls.append(f"replay on {self.streams[-1]}"))

    @contextmanager
    def graph(self, graph: Any, stream: Any, capture_error_mode: str) -> Iterator[None]:
        self.calls.append(f"capture on {stream.name}, {capture_error_mode}")
        yield
        self.calls.append("captured")


@pytest.fixture
def cuda(gpus: None, monkeypatch: pytest.MonkeyPatch) -> Streams:
    """In place of ``torch.cuda``."""
    made = Streams()
    monkeypatch.setattr(torch, "cuda", made)
    forget = lambda: made.calls.append("workspaces forgotten")  # noqa: E731
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", forget, raising=False)
    return made


def test_recording_is_on_a_stream_of_its_own_with_a_workspace_of_its_own(gpus: None, cuda: Streams) -> None:
    backend: Any = TorchBackend("cpu")
    backend.device, backend.index = "cuda:1", 1
    launch = backend.record(lambda: cuda.calls.append(f"body on {cuda.streams[-1]}"))
    launch()
    assert cuda.calls == [
        "device 1",
        "side waits for current",
        "body on side",
        "workspaces forgotten",
        "capture on side, thread_local",
        "body on side",
        "captured",
        "workspaces forgotten",
        "current waits for side",
        "device left",
        "replay on current",
    ]


def test_recording_that_fails_leaves_its_stream(gpus: None, cuda: Streams) -> None:
    backend: Any = TorchBackend("cpu")
    backend.device, backend.index = "cuda:1", 1

    def body() -> None:
        if cuda.calls[-1].startswith("capture"):
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        backend.record(body)
    assert cuda.streams == ["current"]
    assert cuda.calls[-2:] == ["workspaces forgotten", "current waits for side"]
