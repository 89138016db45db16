"""PyTorch's backend: its short cuts through the standard, its precisions, and how it records.

What needs a GPU is run over a stand-in, which shows that the calls are those that are meant, in order.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import xpnet
from tests.helpers import isolated
from xpnet.backends import get_backend
from xpnet.backends.torch import TorchBackend
from xpnet.errors import XpnetError


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
    assert get_backend("cuda:1", "torch").executions() == ("captured", "eager")
    with pytest.raises(XpnetError, match="no bf16 matrix products: torch on cuda:0 has float32"):
        get_backend("cuda:0", "torch", precision="bf16")


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
    ("before", "name", "told"),
    [
        ("torch.set_float32_matmul_precision('high')", "allow_tf32", "False True"),
        ("matmul.fp32_precision = 'tf32'", "fp32_precision", "ieee tf32"),
    ],
)
def test_older_and_newer_settings_of_the_caller_can_be_read(before: str, name: str, told: str) -> None:
    code = (
        "import torch\nfrom xpnet.backends import get_backend\n"
        f"matmul = torch.backends.cuda.matmul\n{before}\n"
        f"with get_backend('cpu', 'torch').running('float32'):\n    print(matmul.{name}, end=' ')\n"
        f"print(matmul.{name})"
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


def test_a_product_of_bf16_with_float32_sums_is_a_call_that_pytorch_knows() -> None:
    a, b = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((4, 5), (5, 6)))
    product: Any = torch.mm
    assert product(a, b, out_dtype=torch.float32).dtype == torch.float32


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What recording asks ``torch.cuda`` for, in order; a stand-in takes its place."""
    made: list[str] = []

    @contextmanager
    def noted(what: str) -> Iterator[None]:
        made.append(what)
        try:
            yield
        finally:
            made.append(f"leave {what}")

    def stream(name: str) -> Any:
        return SimpleNamespace(
            name=name, wait_stream=lambda other: made.append(f"{name} waits for {other.name}")
        )

    cuda = SimpleNamespace(
        device=lambda index: noted(f"device {index}"),
        current_stream=lambda: stream("current"),
        Stream=lambda device: stream(f"side of {device}"),
        stream=lambda stream: noted(stream.name),
        CUDAGraph=lambda: SimpleNamespace(replay=lambda: made.append("replay")),
        graph=lambda graph, stream, capture_error_mode: noted(
            f"{capture_error_mode} capture on {stream.name}"
        ),
    )
    monkeypatch.setattr(torch, "cuda", cuda)
    forget = lambda: made.append("forget workspaces")  # noqa: E731
    monkeypatch.setattr(torch._C, "_cuda_clearCublasWorkspaces", forget, raising=False)
    return made


@pytest.mark.parametrize("fails", [False, True])
def test_recording_has_a_stream_and_a_workspace_of_its_own(calls: list[str], fails: bool) -> None:
    """And leaves both, also when it fails."""
    backend: Any = TorchBackend("cpu")
    backend.device, backend.index = "cuda:1", 1

    def body() -> None:
        calls.append("body")
        if fails and calls.count("body") == 2:
            raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted") if fails else nullcontext():
        backend.record(body)()
    side, capture = "side of cuda:1", "thread_local capture on side of cuda:1"
    assert calls == [
        *("device 1", f"{side} waits for current", side, "body", "forget workspaces"),
        *(capture, "body", f"leave {capture}", f"leave {side}"),
        *("forget workspaces", f"current waits for {side}", "leave device 1"),
        *([] if fails else ["replay"]),
    ]


def test_what_is_no_dense_tensor_is_refused_by_name() -> None:
    torch = pytest.importorskip("torch")
    dense = torch.eye(6)
    data = torch.utils.data.TensorDataset(dense)
    for given, said in ((dense.to_sparse(), "X.to_dense()"), (data, "a TensorDataset of torch")):
        for taker in (get_backend("cpu", "torch").asarray, get_backend("cpu", "numpy").asarray):
            with pytest.raises(XpnetError) as caught:
                taker(given)
            assert said in str(caught.value)


def test_processes_on_cuda_add_up_by_torch_distributed(gpus: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    distributed = torch.distributed
    monkeypatch.setattr(distributed, "init_process_group", lambda *a, **known: asked.append((a, known)))
    monkeypatch.setattr(distributed, "all_reduce", asked.append)
    backend, x = get_backend("cuda:1", "torch"), torch.ones(3)
    assert backend.adding()(x) is x
    ((kind,), known), added = asked
    assert (kind, known["world_size"], known["rank"]) == ("nccl", 1, 0)
    assert known["device_id"] == torch.device("cuda:1")
    assert added is x
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    with pytest.raises(XpnetError, match=r"2 processes of torch\.distributed are not the 1 of MPI"):
        backend.adding()
