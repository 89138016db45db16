"""Backends: how a library and a device are picked, and what each promises about arrays and settings."""

import copy
import os
import pickle
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import array_api_strict
import jax
import numpy as np
import pytest
import torch

import xpnet
from tests.test_torch import products as products_of_torch
from xpnet.backends import (
    EXECUTIONS,
    KINDS,
    LIBRARIES,
    PRECISIONS,
    Backend,
    Execution,
    backend_class,
    get_backend,
    owner,
)
from xpnet.backends.jax import BLOCK, PADDED, JAXBackend
from xpnet.errors import UsageError, XpnetError

ON_CPU = [name for name in LIBRARIES if "cpu" in backend_class(name).kinds]
OPTIONAL = [name for name in LIBRARIES if name != "numpy"]
ARRAYS: dict[str, Any] = {
    "numpy": np.ones(2),
    "torch": torch.ones(2),
    "jax": jax.numpy.ones(2),
    "array-api-strict": array_api_strict.ones(2),
}


def isolated(code: str, **environment: str) -> str:
    """What a fresh Python prints."""
    kept = os.environ | {"PYTHONPATH": str(Path(xpnet.__file__).parents[1])} | environment
    ended = subprocess.run(
        [sys.executable, "-c", code], env=kept, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def one_line(error: pytest.ExceptionInfo[XpnetError]) -> str:
    """The message, which is one line."""
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_default_is_numpy_on_the_cpu() -> None:
    made = get_backend()
    assert (made.name, made.device) == ("numpy", "cpu")
    assert (get_backend("cpu").name, get_backend(backend="numpy").device) == ("numpy", "cpu")


@pytest.mark.parametrize("name", ON_CPU)
def test_library_alone_implies_its_first_device(name: str) -> None:
    made = get_backend(backend=name)
    assert (made.name, made.device) == (name, "cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_first_library_that_drives_a_kind_of_device_is_its_default(kind: str) -> None:
    first = next(name for name in LIBRARIES if kind in backend_class(name).kinds)
    assert first == {"cpu": "numpy", "cuda": "cupy", "xpu": "dpnp", "mps": "mlx"}[kind]
    if f"{kind}:0" in backend_class(first).devices() or kind == "cpu":
        assert get_backend(kind).name == first
    else:
        with pytest.raises(XpnetError, match=f"no device {kind}:0: {first} finds ") as caught:
            get_backend(kind)
        assert not isinstance(caught.value, UsageError)
        one_line(caught)


@pytest.mark.parametrize(
    ("device", "name"),
    [(kind, name) for kind in KINDS for name in LIBRARIES if kind not in backend_class(name).kinds],
)
def test_pair_that_cannot_be_names_who_can(device: str, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_backend(device, name)
    message = one_line(caught)
    head, _, able = message.partition(": ")
    assert head == f"{name} does not run on {device}"
    expected = [other for other in LIBRARIES if device in backend_class(other).kinds]
    assert able == f"for {device} choose {', '.join(expected)}"


@pytest.mark.parametrize("name", ["tensorflow", "", "NumPy", "array_api_strict"])
def test_unknown_library_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_backend("cpu", name)
    message = one_line(caught)
    assert repr(name) in message
    assert all(known in message for known in LIBRARIES)


@pytest.mark.parametrize(
    "device",
    ["gpu", "", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cuda:²", "cuda:1.5", ":0"],
)
def test_unknown_device_is_named(device: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_backend(device)
    message = one_line(caught)
    assert f"unknown device {device!r}" in message
    assert "cuda:N" in message


@pytest.mark.parametrize("name", [name for name in LIBRARIES if "cuda" in backend_class(name).kinds])
def test_cuda_is_there_or_an_error_says_what_is_missing(name: str) -> None:
    if backend_class("cupy").devices():
        assert get_backend("cuda", name).device == "cuda:0"
        return
    with pytest.raises(XpnetError) as caught:
        get_backend("cuda", name)
    assert not isinstance(caught.value, UsageError)
    message = one_line(caught)
    assert message.startswith(f"no device cuda:0: {name} finds ")
    assert "driver" in message or "CPU build" in message or "jax[cuda" in message


def test_cuda_without_a_driver_is_said_by_the_default() -> None:
    if backend_class("cupy").devices():
        assert get_backend("cuda").name == "cupy"
        return
    with pytest.raises(XpnetError, match=r"cupy finds none .*no NVIDIA driver"):
        get_backend("cuda")


@pytest.mark.parametrize("name", [name for name in LIBRARIES if "cuda" in backend_class(name).kinds])
def test_gpu_that_is_not_there_is_never_replaced(name: str) -> None:
    with pytest.raises(XpnetError, match="no device cuda:99") as caught:
        get_backend("cuda:99", name)
    one_line(caught)


def forget(monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    """Let a library not be imported yet, until the test is over."""
    for module in [module for module in sys.modules if module.partition(".")[0] == root]:
        monkeypatch.delitem(sys.modules, module)


class Missing:
    """Looks for modules before anybody else, and finds that one is not installed."""

    def __init__(self, root: str) -> None:
        self.root = root

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == self.root:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


@pytest.mark.parametrize("name", OPTIONAL)
def test_library_that_is_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    root = backend_class(name).library.partition(".")[0]
    forget(monkeypatch, root)
    monkeypatch.setattr(sys, "meta_path", [Missing(root), *sys.meta_path])
    with pytest.raises(XpnetError) as caught:
        get_backend(backend=name)
    assert not isinstance(caught.value, UsageError)
    assert one_line(caught).startswith(f"{name} is not installed: pip install ")


BROKEN = {
    "a missing symbol": "raise ImportError('undefined symbol: x\\n  in lib.so')",
    "a missing part": "import a_module_that_nobody_has",
    "a missing shared library": "raise OSError('libcudart.so.12: cannot open shared object file')",
    "a version that does not fit": "raise RuntimeError('jaxlib is newer than jax')",
}


@pytest.mark.parametrize("name", OPTIONAL)
@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN)
def test_library_that_is_broken_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, code: str
) -> None:
    root = backend_class(name).library.partition(".")[0]
    (tmp_path / root).mkdir()
    (tmp_path / root / "__init__.py").write_text(code)
    forget(monkeypatch, root)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(XpnetError) as caught:
        get_backend(backend=name)
    assert one_line(caught).startswith(f"{name} cannot be imported: ")


@pytest.mark.parametrize("threads", [0, -1])
@pytest.mark.parametrize("name", ON_CPU)
def test_no_threads_at_all_is_a_usage_error(name: str, threads: int) -> None:
    with pytest.raises(UsageError, match=f"threads must be 1 or more, not {threads}"):
        get_backend("cpu", name, threads=threads)


@pytest.mark.parametrize("name", [None, "cupy", "torch", "jax"])
def test_threads_on_a_gpu_are_a_usage_error(name: str | None) -> None:
    with pytest.raises(UsageError, match="threads applies to the CPU, not to cuda"):
        get_backend("cuda", name, threads=2)


@pytest.mark.parametrize("name", ["numpy", "torch", "array-api-strict"])
def test_threads_are_what_was_asked_for(name: str) -> None:
    cls = backend_class(name)
    before = cls.threads()
    assert before is not None
    try:
        for threads in (1, 2):
            assert get_backend("cpu", name, threads=threads).threads() == threads
        assert get_backend("cpu", name).threads() == 2
    finally:
        cls.set_threads(before)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_of_jax_are_set_before_it_is_imported(threads: int) -> None:
    code = (
        "from xpnet.backends import get_backend\n"
        f"backend = get_backend('cpu', 'jax', threads={threads})\n"
        "import numpy as np\n"
        "backend.asarray(np.ones(3)).sum().block_until_ready()\n"
        "print(backend.threads())"
    )
    assert isolated(code, NPROC="2") == str(threads)


def test_threads_of_a_running_jax_are_refused() -> None:
    with pytest.raises(XpnetError, match="NPROC before it is imported") as caught:
        get_backend("cpu", "jax", threads=2)
    one_line(caught)


def test_library_without_threads_to_set_says_so() -> None:
    class Bare(Backend):
        name = "bare"

    assert Bare.threads() is None
    with pytest.raises(UsageError, match="bare has no CPU threads to set"):
        Bare.set_threads(2)


@pytest.mark.parametrize("name", ON_CPU)
def test_by_default_products_are_of_float32_and_steps_as_the_library_runs_them(name: str) -> None:
    made = get_backend("cpu", name)
    assert (made.precision, made.execution.asked, made.execution.reason) == ("float32", "auto", "")
    assert made.precisions()[0] == "float32"
    assert made.execution.actual == made.executions()[0] == ("compiled" if name == "jax" else "eager")


@pytest.mark.parametrize(
    ("what", "known"), [("precision", list(PRECISIONS)), ("execution", list(EXECUTIONS))]
)
@pytest.mark.parametrize("given", ["fp8", "", "compiled", "TF32"])
def test_unknown_precision_or_execution_lists_the_known_ones(what: str, known: list[str], given: str) -> None:
    with pytest.raises(UsageError) as caught:
        get_backend("cpu", "numpy", **{what: given})  # type: ignore[arg-type]
    assert one_line(caught) == f"{what} {given!r}: choose one of {', '.join(known)}"


@pytest.mark.parametrize("precision", list(PRECISIONS))
@pytest.mark.parametrize("name", ON_CPU)
def test_precision_is_had_or_an_error_names_who_has_it(name: str, precision: str) -> None:
    if precision in get_backend("cpu", name).precisions():
        assert get_backend("cpu", name, precision=precision).precision == precision
        return
    with pytest.raises(XpnetError) as caught:
        get_backend("cpu", name, precision=precision)
    assert not isinstance(caught.value, UsageError)
    message = one_line(caught)
    assert message.startswith(f"no {precision} matrix products: {name} on cpu has float32")
    assert message.endswith(f"({precision}: {PRECISIONS[precision]})")


def test_the_libraries_that_are_named_for_a_precision_have_it() -> None:
    having = [name for name in ON_CPU if "bf16" in get_backend("cpu", name).precisions()]
    assert PRECISIONS["bf16"].startswith(f"{' and '.join(having)} on a CPU")
    assert not any("tf32" in get_backend("cpu", name).precisions() for name in ON_CPU)


@pytest.mark.parametrize("execution", ["eager", "captured"])
@pytest.mark.parametrize("name", ON_CPU)
def test_steps_run_as_asked_or_the_request_is_refused(name: str, execution: str) -> None:
    available = get_backend("cpu", name).executions()
    if execution in available:
        made = get_backend("cpu", name, execution=execution)
        assert made.execution == Execution(execution, execution)
        return
    with pytest.raises(UsageError) as caught:
        get_backend("cpu", name, execution=execution)
    assert one_line(caught).startswith(
        f"execution cannot be {execution}: {name} on cpu runs steps {available[0]}"
    )


def test_copies_of_a_backend_keep_precision_and_execution() -> None:
    for made in (get_backend("cpu", "jax", precision="bf16"), get_backend("cpu", "numpy", execution="eager")):
        for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert (again.name, again.device) == (made.name, "cpu")
            assert (again.precision, again.execution.asked) == (made.precision, made.execution.asked)


@pytest.mark.parametrize("failing", [False, True])
def test_running_gives_torch_its_settings_back(failing: bool) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        chosen = products_of_torch()
        assert "ieee" not in chosen
        with suppress(KeyboardInterrupt), get_backend("cpu", "torch").running("float32"):
            assert products_of_torch() == ["ieee", "ieee"]
            assert not torch.is_grad_enabled()
            if failing:
                raise KeyboardInterrupt
        assert products_of_torch() == chosen
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.is_grad_enabled()
    finally:
        torch.set_float32_matmul_precision(before)


def test_running_keeps_torch_grad_mode_off_where_it_was_off() -> None:
    with torch.no_grad():
        with get_backend("cpu", "torch").running("float64"):
            pass
        assert not torch.is_grad_enabled()


def test_torch_settings_of_the_older_kind_can_be_read_while_running() -> None:
    code = (
        "import torch\n"
        "from xpnet.backends import get_backend\n"
        "torch.set_float32_matmul_precision('high')\n"
        "with get_backend('cpu', 'torch').running('float32'):\n"
        "    print(torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision())\n"
        "print(torch.backends.cuda.matmul.allow_tf32, torch.get_float32_matmul_precision())"
    )
    assert isolated(code).split() == ["False", "highest", "True", "high"]


def test_torch_settings_of_the_newer_kind_are_no_obstacle() -> None:
    code = (
        "import torch\n"
        "from xpnet.backends import get_backend\n"
        "torch.backends.cuda.matmul.fp32_precision = 'tf32'\n"
        "with get_backend('cpu', 'torch').running('float32'):\n"
        "    pass\n"
        "print(torch.backends.cuda.matmul.fp32_precision)"
    )
    assert isolated(code) == "tf32"


@pytest.mark.parametrize("failing", [False, True])
@pytest.mark.parametrize("precision", ["bfloat16", None])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_running_gives_jax_its_settings_back(failing: bool, precision: str | None, dtype: str) -> None:
    config: Any = jax.config
    before = config.jax_enable_x64, config.jax_default_matmul_precision
    try:
        config.update("jax_default_matmul_precision", precision)
        with suppress(KeyboardInterrupt), get_backend("cpu", "jax").running(dtype):
            assert config.jax_enable_x64 is (dtype == "float64")
            assert config.jax_default_matmul_precision == "highest"
            assert jax.numpy.zeros(1, dtype=dtype).dtype == dtype
            if failing:
                raise KeyboardInterrupt
        assert config.jax_enable_x64 is before[0]
        assert config.jax_default_matmul_precision == precision
    finally:
        config.update("jax_default_matmul_precision", before[1])


def test_tf32_of_jax_is_held_while_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(JAXBackend, "precisions", lambda self: ("float32", "tf32"))  # as on a GPU
    config: Any = jax.config
    with get_backend("cpu", "jax", precision="tf32").running("float32"):
        assert config.jax_default_matmul_precision == "tensorfloat32"
    assert config.jax_default_matmul_precision is None


@pytest.mark.parametrize("name", [n for n in ON_CPU if "bf16" in get_backend("cpu", n).precisions()])
def test_bf16_rounds_the_factors_and_nothing_else(name: str) -> None:
    made = get_backend("cpu", name, precision="bf16")
    # 1 + 2^-8 lies half way between two numbers of bfloat16, and 1 + 2^-7 is one
    A = np.array([[1 + 2**-8, 2**-20], [1 + 2**-7, 2.0]])
    B = np.array([[1.0, 3.0], [1.0, 0.0]])
    exact = {"float32": [[1 + 2**-20, 3.0], [3 + 2**-7, 3 + 3 * 2**-7]], "float64": (A @ B).tolist()}
    for dtype, expected in exact.items():
        with made.running(dtype):
            factors = [made.asarray(x.astype(dtype)) for x in (A, B)]
            product = made.to_numpy(made.xp.matmul(*factors))
            assert product.dtype == dtype
            assert product.tolist() == expected
            assert made.to_numpy(factors[0] + factors[1]).tolist() == (A + B).tolist()


@pytest.mark.parametrize("name", ["numpy", "array-api-strict"])
def test_running_gives_numpy_its_error_handling_back(name: str) -> None:
    with np.errstate(all="raise"):
        before = np.geterr()
        made = get_backend("cpu", name)
        with made.running("float32"):
            large = made.asarray(np.full(2, 1e38, dtype=np.float32))
            assert np.isinf(made.to_numpy(large * large)).all()
        assert np.geterr() == before


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4)], ids=str)
def test_array_there_and_back_is_the_same(backend: Backend, dtype: str, shape: tuple[int, ...]) -> None:
    host = (np.arange(np.prod(shape, dtype=int)).reshape(shape) * 37 % 256).astype(dtype)
    array = backend.asarray(host)
    assert tuple(array.shape) == shape
    assert array.dtype == backend.dtype(dtype)
    back = backend.to_numpy(array)
    assert isinstance(back, np.ndarray)
    assert back.dtype == host.dtype
    assert back.shape == shape
    assert back.tolist() == host.tolist()


def test_arrays_that_are_views_arrive_right(backend: Backend) -> None:
    host = np.arange(12.0).reshape(3, 4)
    for view in (host.T, host[:, ::2], host[::-1], np.asfortranarray(host)):
        assert backend.to_numpy(backend.asarray(view)).tolist() == view.tolist()


def test_array_that_cannot_be_written_is_taken(backend: Backend) -> None:
    host = np.arange(3.0)
    host.flags.writeable = False
    assert backend.to_numpy(backend.asarray(host)).tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("size", [3, 4096])
def test_array_shares_no_memory_with_the_host(backend: Backend, size: int) -> None:
    host = np.zeros(size)
    array = backend.asarray(host)
    host += 1.0
    assert (backend.to_numpy(array) == 0.0).all()


def test_copy_shares_no_memory(backend: Backend) -> None:
    state = {"W1": backend.asarray(np.zeros((2, 3))), "t": backend.asarray(np.zeros(1, dtype=np.int32))}
    copy = backend.copy(state)
    assert list(copy) == list(state)
    state["W1"] += 1.0
    state["t"] += 1
    assert backend.to_numpy(copy["W1"]).tolist() == [[0.0] * 3] * 2
    assert backend.to_numpy(copy["t"]).tolist() == [0]
    assert backend.to_numpy(state["W1"]).tolist() == [[1.0] * 3] * 2


class Adding:
    """A step that adds the rows it is given, weighted, to a sum, in place where that can be."""

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        state = dict(state)
        state["sum"] += data["X"] * 2.0
        state["t"] += 1
        return state


def adding(backend: Backend) -> tuple[dict[str, Any], Any, dict[str, Any]]:
    """A state, five batches and data for `Adding`."""
    state = {"sum": backend.asarray(np.zeros(3)), "t": backend.asarray(np.zeros(1, dtype=np.int32))}
    index = backend.asarray(np.zeros((5, 2), dtype=np.int32))
    return state, index, {"X": backend.asarray(np.arange(3.0))}


def test_copy_outlives_a_scan_that_consumes_the_state(backend: Backend) -> None:
    state, index, data = adding(backend)
    kept = backend.copy(state)
    after = backend.scan(Adding(), state, index, data)
    assert backend.to_numpy(after["sum"]).tolist() == [0.0, 10.0, 20.0]
    assert backend.to_numpy(after["t"]).tolist() == [5]
    assert backend.to_numpy(kept["sum"]).tolist() == [0.0] * 3
    assert backend.to_numpy(kept["t"]).tolist() == [0]


def test_warm_up_leaves_the_state_as_it_was(backend: Backend) -> None:
    state, index, data = adding(backend)
    backend.warm_up(Adding(), state, index, data)
    backend.synchronize(state)
    assert backend.to_numpy(state["sum"]).tolist() == [0.0] * 3
    assert backend.to_numpy(state["t"]).tolist() == [0]
    assert backend.to_numpy(data["X"]).tolist() == [0.0, 1.0, 2.0]


class Tracing:
    """A step that adds its rows to a sum, and counts how often it is compiled."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        self.times += 1
        return {"sum": state["sum"] * 3 + rows.sum(), "t": state["t"] + 1}


@pytest.mark.parametrize("block", [1, BLOCK], ids=["as on a CPU", "as on a GPU"])
def test_jax_compiles_once_for_any_number_of_steps(block: int) -> None:
    made: Any = get_backend("cpu", "jax")
    made._block = block
    step = Tracing()

    def steps(count: int) -> None:
        rows = np.arange(2 * count, dtype=np.int32).reshape(count, 2) % 7
        state = {"sum": np.zeros(1, np.int32), "t": np.zeros(1, np.int32)}
        expected = np.zeros(1, np.int32)
        for pair in rows:
            expected = expected * 3 + pair.sum(dtype=np.int32)  # wraps around, as on the device
        placed = {name: made.asarray(array) for name, array in state.items()}
        after = made.scan(step, placed, made.asarray(rows), {})
        assert made.to_numpy(after["t"]).tolist() == [count]
        assert made.to_numpy(after["sum"]).tolist() == expected.tolist()

    with made.running("float32"):
        state = {name: made.asarray(np.zeros(1, np.int32)) for name in ("sum", "t")}
        made.warm_up(step, state, made.asarray(np.zeros((3, 2), np.int32)), {})
        compiled = step.times
        for count in (1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 106, PADDED - 1, PADDED):
            steps(count)
        assert step.times == compiled
        steps(PADDED + 1)
        assert step.times > compiled


def test_jax_moves_nothing_in_a_scan_that_is_warm() -> None:
    made: Any = get_backend("cpu", "jax")
    state = {"sum": made.asarray(np.zeros(1, np.int32)), "t": made.asarray(np.zeros(1, np.int32))}
    index = made.asarray(np.ones((121, 2), np.int32))  # not a multiple of PADDED

    def refuse(array: Any) -> None:
        raise AssertionError("read back")

    with made.running("float32"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(made, "to_numpy", refuse)  # reading from a CPU is no transfer that the guard would see
        step = Tracing()
        state = made.scan(step, state, index, {})
        with jax.transfer_guard("disallow_explicit"):
            state = made.scan(step, state, index, {})
    assert made.to_numpy(state["t"]).tolist() == [242]


def test_dpnp_beside_another_library_does_not_wait_for_ever() -> None:
    # in a process of its own, which can be ended
    code = (
        "import numpy as np\n"
        "from xpnet import MLP, train\n"
        "X, y = np.random.default_rng(0).standard_normal((100, 4)), np.arange(100) % 3\n"
        "for name in ['mlx'] + 10 * ['dpnp']:\n"
        "    model = MLP((4, 8, 3), dtype='float64', activation='tanh', backend=name)\n"
        "    train(model, X, y, epochs=5, batch_size=16)\n"
        "print('done')"
    )
    assert isolated(code) == "done"


def test_backend_knows_its_own_arrays(backend: Backend) -> None:
    array = backend.asarray(np.ones(2))
    assert owner(array) == backend.name
    assert owner(backend.xp.sum(array * 2.0)) == backend.name
    assert backend.device_of(array) == backend.device
    others = [name for name in LIBRARIES if name != backend.name]
    assert not any(backend_class(name).owns(array) for name in others)


@pytest.mark.parametrize("name", ARRAYS)
def test_owner_is_the_library_of_the_array(name: str) -> None:
    assert owner(ARRAYS[name]) == name


def test_owner_knows_arrays_of_classes_derived_from_a_library() -> None:
    class Mine(np.ndarray):
        pass

    assert owner(np.ones(2).view(Mine)) == "numpy"
    assert owner(torch.nn.Parameter(torch.ones(2))) == "torch"


def test_owner_of_what_is_no_array_is_nobody() -> None:
    for thing in ([1.0, 2.0], None, (1,), "numpy", 1.0, {"W1": 1}, memoryview(b"12"), object()):
        assert owner(thing) is None


def test_owner_imports_no_library() -> None:
    roots = [backend_class(name).library.partition(".")[0] for name in OPTIONAL]
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from xpnet.backends import owner\n"
        "print(owner(np.ones(1)), owner([1.0]), owner(None))\n"
        f"print(*sorted({{*{roots}}} & {{*sys.modules}}))"
    )
    assert isolated(code) == "numpy None None"


def test_every_library_says_its_version_and_its_devices() -> None:
    for name in LIBRARIES:
        cls = backend_class(name)
        assert cls.version()[0].isdigit()
        assert set(cls.kinds) <= set(KINDS)
        assert {device.partition(":")[0] for device in cls.devices()} <= set(cls.kinds)
