"""PyTorch's backend: its short cuts through the standard, its precisions, and how it records.

What needs a GPU is run over a stand-in, which shows that the calls are those that are meant, in order.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import xpnet
from xpnet.backends import get_backend
from xpnet.backends.torch import TorchBackend, _rounded
from xpnet.errors import XpnetError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two GPUs, as far as the backend is told."""
    monkeypatch.setattr(TorchBackend, "devices", classmethod(lambda cls: ["cpu", "cuda:0", "cuda:1"]))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: [(7, 5), (8, 0)][index])


@pytest.fixture
def xp() -> Iterator[Any]:
    """The namespace that is handed to nn."""
    backend = get_backend("cpu", "torch")
    with backend.running("float32"):
        yield backend.xp


def products() -> list[str]:
    """How torch multiplies float32 matrices, on a GPU and on a CPU."""
    parts: Any = torch.backends
    return [part.matmul.fp32_precision for part in (parts.cuda, parts.mkldnn)]


def to_bfloat16(x: np.ndarray) -> np.ndarray:
    """Round float32 to the 7 explicit bits of bfloat16, ties to even, by the bits of the numbers."""
    bits = x.astype(np.float32).view(np.uint32)
    rounded: np.ndarray = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


@pytest.mark.parametrize("source", [torch.bool, torch.uint8, torch.int32, torch.float32, torch.float64])
@pytest.mark.parametrize("target", [torch.int32, torch.float32, torch.float64])
@pytest.mark.parametrize("copy", [True, False])
def test_astype(xp: Any, source: torch.dtype, target: torch.dtype, copy: bool) -> None:
    x = torch.tensor([[0, 1, 3], [1, 0, 2]]).to(source)
    before = x.tolist()
    cast = xp.astype(x, target, copy=copy)
    assert cast.dtype == target
    assert cast.tolist() == [[float(value) for value in row] for row in before]
    assert (cast is x) is (source == target and not copy)
    if cast is not x:
        cast += 1
        assert x.tolist() == before


def test_astype_of_a_view(xp: Any) -> None:
    x = torch.arange(12).reshape(3, 4)
    assert xp.astype((x > 5).mT[1:], torch.float32).tolist() == [[0, 0, 1], [0, 1, 1], [0, 1, 1]]
    assert xp.astype(x[0, 0] == 0, torch.float64).tolist() == 1.0


def test_take(xp: Any) -> None:
    x = torch.arange(12).reshape(3, 4)
    rows = torch.tensor([2, 0, 2], dtype=torch.int32)
    assert xp.take(x, rows, axis=0).tolist() == [[8, 9, 10, 11], [0, 1, 2, 3], [8, 9, 10, 11]]
    assert xp.take(x, rows, axis=1).tolist() == [[2, 0, 2], [6, 4, 6], [10, 8, 10]]
    assert xp.take(x[0, :], rows).tolist() == [2, 0, 2]
    with pytest.raises(ValueError, match="axis must be specified"):
        xp.take(x, rows)


def test_maximum_and_minimum_of_an_array_and_a_number_or_an_array(xp: Any) -> None:
    x = torch.tensor([-1.0, 0.0, 2.0, float("nan")])
    for y in (0.5, torch.full((4,), 0.5), torch.tensor(0.5, dtype=torch.float32)):
        np.testing.assert_array_equal(xp.maximum(x, y), [0.5, 0.5, 2.0, np.nan])
        np.testing.assert_array_equal(xp.minimum(x, y), [-1.0, 0.0, 0.5, np.nan])
    assert xp.maximum(torch.tensor([-1, 3], dtype=torch.int32), 0).dtype == torch.int32


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
def test_sum_and_max(xp: Any, axis: int | None, keepdims: bool, dtype: str) -> None:
    host = np.arange(12).reshape(3, 4)[::-1].astype(dtype)
    x = torch.tensor(host.copy())
    found = xp.max(x, axis=axis, keepdims=keepdims)
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found, np.max(host, axis=axis, keepdims=keepdims))
    found = xp.sum(x, axis=axis, keepdims=keepdims)
    assert found.dtype == (x.dtype if x.dtype.is_floating_point else torch.int64)
    np.testing.assert_array_equal(found, np.sum(host, axis=axis, keepdims=keepdims))
    assert xp.sum(x, axis=axis, keepdims=keepdims, dtype=torch.float64).dtype == torch.float64


def test_shapes_are_those_of_the_standard(xp: Any) -> None:
    x = torch.arange(24).reshape(2, 3, 4)
    assert xp.matrix_transpose(x).shape == (2, 4, 3)
    assert xp.matmul(x, xp.matrix_transpose(x)).shape == (2, 3, 3)


class Doubling:
    """A step that makes one array anew and writes to the other."""

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        state = dict(state)
        state["t"] += 1
        return state | {"sum": state["sum"] * 2.0}


def test_arrays_of_a_scan_may_be_used_as_any_others() -> None:
    """Those that are made in inference mode may not: autograd refuses them."""
    backend = get_backend("cpu", "torch")
    state = {"sum": torch.ones(3), "t": torch.zeros(1)}
    with backend.running("float32"):
        after = backend.scan(Doubling(), state, torch.zeros((5, 2), dtype=torch.int32), {})
    assert after["t"] is state["t"]
    assert not any(array.is_inference() for array in after.values())
    w = torch.ones(3, requires_grad=True)
    (w * after["sum"] * after["t"]).sum().backward()
    assert w.grad is not None
    assert w.grad.tolist() == [160.0] * 3
    after["sum"] += 1.0


def test_parameters_that_want_a_gradient_can_be_trained() -> None:
    backend = get_backend("cpu", "torch")
    state = {"sum": torch.ones(3), "t": torch.nn.Parameter(torch.zeros(1))}
    with backend.running("float32"):
        after = backend.scan(Doubling(), state, torch.zeros((5, 2), dtype=torch.int32), {})
    assert after["t"].tolist() == [5.0]


def test_precisions_of_each_device(gpus: None) -> None:
    assert get_backend("cpu", "torch").precisions() == ("float32", "bf16")
    assert get_backend("cuda:1", "torch").precisions() == ("float32", "tf32", "bf16")
    assert get_backend("cuda:0", "torch").precisions() == ("float32",)
    with pytest.raises(XpnetError, match="no bf16 matrix products: torch on cuda:0 has float32"):
        get_backend("cuda:0", "torch", precision="bf16")
    with pytest.raises(XpnetError, match="tf32"):
        TorchBackend("cpu", precision="tf32")


def test_only_an_nvidia_gpu_records(gpus: None) -> None:
    assert (get_backend("cpu", "torch").executions(), get_backend("cpu", "torch").execution.actual) == (
        ("eager",),
        "eager",
    )
    made = get_backend("cuda:1", "torch")
    assert (made.executions(), made.execution.actual) == (("captured", "eager"), "captured")
    assert TorchBackend("cuda", 1, execution="eager").execution.actual == "eager"


@pytest.mark.parametrize(
    ("device", "precision", "held"),
    [
        ("cpu", "float32", ["ieee", "ieee"]),
        ("cpu", "bf16", ["ieee", "bf16"]),
        ("cuda:1", "float32", ["ieee", "ieee"]),
        ("cuda:1", "tf32", ["tf32", "ieee"]),
        ("cuda:1", "bf16", ["ieee", "bf16"]),
    ],
)
@pytest.mark.parametrize("caller", ["highest", "medium"])
def test_precision_is_held_while_running(
    gpus: None, device: str, precision: str, held: list[str], caller: str
) -> None:
    older = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(caller)
    try:
        before = products()
        backend = get_backend(device, "torch", precision=precision)
        with backend.running("float32"):
            assert products() == held
            with backend.running("float64"):
                assert products() == held
            assert products() == held
        assert products() == before
        assert torch.get_float32_matmul_precision() == caller
    finally:
        torch.set_float32_matmul_precision(older)


def test_bf16_rounds_to_the_nearest_and_ties_to_even() -> None:
    x = np.array([[1.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-8 + 2**-20, -1 - 2**-9, 3e38, 1e-30]], np.float32)
    assert to_bfloat16(x)[0, :4].tolist() == [1.0, 1.0, 1 + 2**-6, 1 + 2**-7]
    backend = TorchBackend("cpu", precision="bf16")
    with backend.running("float32"):
        found = backend.xp.matmul(backend.asarray(x), torch.eye(7))
    assert backend.to_numpy(found).tolist() == to_bfloat16(x).tolist()


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
            right = to_bfloat16(a).astype(np.float64) @ to_bfloat16(b).astype(np.float64)
            size = abs(right).max()
            assert abs(backend.to_numpy(found) - right).max() < 2e-6 * size
            assert abs(a.astype(np.float64) @ b - right).max() > 1e-4 * size


def test_bf16_leaves_float64_alone(rng: np.random.Generator) -> None:
    A, B = (torch.tensor(rng.standard_normal(shape)) for shape in ((5, 6), (6, 7)))
    backend = TorchBackend("cpu", precision="bf16")
    with backend.running("float64"):
        assert torch.equal(backend.xp.matmul(A, B), torch.matmul(A, B))


def test_bf16_trains(rng: np.random.Generator) -> None:
    X, y = rng.standard_normal((300, 6)), np.arange(300) % 3
    X[np.arange(300), y] += 3.0
    losses = []
    for precision in ("float32", "bf16"):
        model = xpnet.MLP((6, 16, 3), backend=TorchBackend("cpu", precision=precision))
        losses.append(xpnet.train(model, X, y, epochs=3, validation=0).epochs[-1].loss)
    assert losses[0] != losses[1]
    np.testing.assert_allclose(losses[1], losses[0], rtol=0.02)


def test_bf16_on_a_gpu_multiplies_what_is_rounded_into_float32() -> None:
    def matrix(name: str) -> Any:
        rounded = SimpleNamespace(name=name, is_cuda=True)
        return SimpleNamespace(dtype=torch.float32, bfloat16=lambda: rounded)

    def mm(a: Any, b: Any, out_dtype: Any) -> Any:
        return a.name, b.name, out_dtype

    stand_in = SimpleNamespace(float32=torch.float32, mm=mm)
    assert _rounded(stand_in)(matrix("A"), matrix("B")) == ("A", "B", torch.float32)
    # and that is a call that PyTorch knows
    shapes = [torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((4, 5), (5, 6))]
    product: Any = torch.mm
    assert product(*shapes, out_dtype=torch.float32).dtype == torch.float32


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
