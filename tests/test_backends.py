"""Backends: how a library and a device are picked, and what each promises about arrays and settings."""

import copy
import pickle
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import torch

import xpnet
from tests.helpers import isolated, refused
from tests.states import move
from xpnet.arguments import brief
from xpnet.backends import LIBRARIES, PRECISIONS, Backend, Execution, backend_class, get_backend, owner
from xpnet.backends.jax import BLOCK, PADDED, JAXBackend, _compiled
from xpnet.backends.torch import TorchBackend
from xpnet.errors import UsageError

KINDS = ("cpu", "cuda", "xpu", "mps")
ON_CPU = [name for name in LIBRARIES if "cpu" in backend_class(name).kinds]
ON_CUDA = [name for name in LIBRARIES if "cuda" in backend_class(name).kinds]
OPTIONAL = [name for name in LIBRARIES if name != "numpy"]


@pytest.mark.parametrize("kind", KINDS)
def test_first_library_that_drives_a_kind_of_device_is_its_default(kind: str) -> None:
    first = next(name for name in LIBRARIES if kind in backend_class(name).kinds)
    assert first == {"cpu": "numpy", "cuda": "cupy", "xpu": "dpnp", "mps": "mlx"}[kind]
    assert get_backend().name == get_backend("cpu").name == "numpy"
    if f"{kind}:0" in backend_class(first).devices() or kind == "cpu":
        assert get_backend(kind).name == first
    else:
        assert refused(lambda: get_backend(kind)).startswith(f"no device {kind}:0: {first} finds ")


@pytest.mark.parametrize(
    ("device", "name"),
    [(kind, name) for kind in KINDS for name in LIBRARIES if kind not in backend_class(name).kinds],
)
def test_pair_that_cannot_be_names_who_can(device: str, name: str) -> None:
    able = ", ".join(other for other in LIBRARIES if device in backend_class(other).kinds)
    said = refused(lambda: get_backend(device, name), UsageError)
    assert said == f"{name} does not run on {device}: for {device} choose {able}"


@pytest.mark.parametrize("name", ["tensorflow", "", "NumPy", "array_api_strict", [], 1, {}, 5000 * "x"])
def test_unknown_library_lists_the_known_ones(name: Any) -> None:
    said = refused(lambda: get_backend("cpu", name), UsageError)
    assert said == f"backend {brief(name)}: choose one of {', '.join(LIBRARIES)}"


@pytest.mark.parametrize(
    "device",
    [
        *("gpu", "", "CPU", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "cuda:1:2", "cuda:²", "cuda:1.5", ":0"),
        *(0, [], b"cpu", "cuda:" + 5000 * "1"),
    ],
    ids=lambda device: repr(device)[:20],
)
def test_unknown_device_is_named(device: Any) -> None:
    said = refused(lambda: get_backend(device), UsageError)
    assert said == f"unknown device {brief(device)}: choose cpu, cuda, cuda:N, xpu or mps"


@pytest.mark.parametrize("name", ON_CUDA)
def test_cuda_is_there_or_an_error_says_what_is_missing(name: str) -> None:
    assert refused(lambda: get_backend("cuda:99", name)).startswith(f"no device cuda:99: {name} finds ")
    if backend_class("cupy").devices():
        assert get_backend("cuda", name).device == "cuda:0"
    else:
        said = refused(lambda: get_backend("cuda", name))
        assert "driver" in said or "CPU build" in said or "jax[cuda" in said


BROKEN = [
    "raise ImportError('undefined symbol: x\\n  in lib.so')",
    "raise ImportError('cannot import name', name=__name__)",
    "raise OSError('libcudart.so.12: cannot open shared object file')",
    "raise RuntimeError('jaxlib is newer than jax')",
    "import a_module_that_nobody_has",
]
MISSING = "raise ModuleNotFoundError('No module named it', name=__name__)"  # as if it were not installed


@pytest.mark.parametrize(
    ("name", "code"), [*(("jax", code) for code in BROKEN), *((name, MISSING) for name in OPTIONAL)]
)
def test_library_that_cannot_be_imported_is_an_error_of_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, code: str
) -> None:
    root = backend_class(name).library.partition(".")[0]
    (tmp_path / root).mkdir()
    (tmp_path / root / "__init__.py").write_text(code)
    for module in [module for module in sys.modules if module.partition(".")[0] == root]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    message, missing = refused(lambda: get_backend(backend=name)), code is MISSING
    assert message.startswith(f"{name} {'is not installed' if missing else 'cannot be imported'}: ")
    command = r"pip install ('?)(\w+-)*\w+(\[\w+\])?\1( |$)"  # of the library itself: no index has xpnet
    assert missing == bool(re.fullmatch(f".*: {command}.*", message))
    assert "xpnet" not in message


@pytest.mark.parametrize("threads", [0, -1, 4097, 10**30, 2.0, "2", [1], float("nan")])
def test_threads_that_cannot_be_meant_are_a_usage_error(threads: Any) -> None:
    said = refused(lambda: get_backend("cpu", "torch", threads=threads), UsageError)
    few = f"threads must be a whole number, 1 or more, not {brief(threads)}"
    assert said in (few, f"threads {brief(threads)} is too large: 4096 is the most")


def test_threads_on_a_gpu_are_a_usage_error() -> None:
    said = refused(lambda: get_backend("cuda", threads=2), UsageError)
    assert said == "threads applies to the CPU, not to cuda"


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


@pytest.mark.parametrize("told", ["2", "²", 5000 * "1"], ids=lambda told: told[:2])
def test_threads_of_jax_are_set_before_it_is_imported(told: str) -> None:
    code = (
        "from xpnet.backends import backend_class, get_backend\n"
        "before = backend_class('jax').threads()\n"
        "backend = get_backend('cpu', 'jax', threads=3)\n"
        "backend.asarray([1.0]).sum().block_until_ready()\n"
        "print(before, backend.threads())"
    )
    before, after = isolated(code, NPROC=told).split()
    assert after == "3"
    assert told != "2" or before == told
    assert "NPROC before it is imported" in refused(lambda: get_backend("cpu", "jax", threads=2))


def test_library_without_threads_to_set_says_so() -> None:
    said = refused(lambda: get_backend("cpu", "dpnp", threads=2), UsageError)
    assert (backend_class("dpnp").threads(), said) == (None, "threads: dpnp has no CPU threads to set")


@pytest.mark.parametrize(
    ("what", "known"), [("precision", list(PRECISIONS)), ("execution", ["auto", "eager", "captured"])]
)
@pytest.mark.parametrize("given", ["fp8", "", "compiled", "TF32", None, 32, [], {}])
def test_unknown_precision_or_execution_lists_the_known_ones(what: str, known: list[str], given: Any) -> None:
    said = refused(lambda: get_backend("cpu", "numpy", **{what: given}), UsageError)
    assert said == f"{what} {given!r}: choose one of {', '.join(known)}"


@pytest.mark.parametrize("name", ON_CPU)
def test_precision_is_had_or_an_error_names_who_has_it(name: str) -> None:
    made = get_backend("cpu", name)
    assert (made.precision, made.precisions()[0]) == ("float32", "float32")
    assert (name in PRECISIONS["bf16"].partition(" on a CPU")[0].split()) is ("bf16" in made.precisions())
    for precision, who in PRECISIONS.items():
        if precision in made.precisions():
            assert get_backend("cpu", name, precision=precision).precision == precision
        else:
            said = refused(lambda precision=precision: get_backend("cpu", name, precision=precision))  # type: ignore[misc]
            assert said.startswith(f"no {precision} matrix products: {name} on cpu has float32")
            assert said.endswith(f"({precision}: {who})")


@pytest.mark.parametrize("name", ON_CPU)
def test_steps_run_as_asked_or_the_request_is_refused(name: str) -> None:
    first = "compiled" if name == "jax" else "eager"
    assert get_backend("cpu", name).execution == Execution("auto", first)
    said = refused(lambda: get_backend("cpu", name, execution="captured"), UsageError)
    assert said == f"execution cannot be captured: {name} on cpu runs steps {first}; leave it at auto"
    if first == "eager":
        assert get_backend("cpu", name, execution="eager").execution == Execution("eager", "eager")


def test_copies_of_a_backend_keep_precision_and_execution() -> None:
    for made in (get_backend("cpu", "jax", precision="bf16"), get_backend("cpu", "numpy", execution="eager")):
        for again in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
            assert (again.name, again.device) == (made.name, "cpu")
            assert (again.precision, again.execution.asked) == (made.precision, made.execution.asked)


@pytest.mark.parametrize("name", ["numpy", "torch", "mlx"])
def test_copy_of_a_namespace_is_one(name: str) -> None:
    made = get_backend("cpu", name)
    for again in (copy.copy(made.xp), copy.deepcopy(made.xp)):
        assert (again.matmul, again.tanh) == (made.xp.matmul, made.xp.tanh)
        with pytest.raises(AttributeError, match="no_such_function"):
            _ = again.no_such_function


@pytest.mark.parametrize("name", ["numpy", "torch"])
@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "int64", "float32", "float64"])
def test_short_cuts_take_every_dtype(name: str, dtype: str) -> None:
    backend, host = get_backend("cpu", name), np.array([0, 1, 3]).astype(dtype)
    xp, x = backend.xp, backend.asarray(host)
    for y in (0.5, float("nan"), 1, True, np.array([1, 0, 2]).astype(dtype)):
        for function in ("maximum", "minimum"):
            other = backend.asarray(y) if isinstance(y, np.ndarray) else y
            found = backend.to_numpy(getattr(xp, function)(x, other))
            np.testing.assert_array_equal(found, getattr(np, function)(host, y))
            assert found.dtype == dtype or not (host.dtype.kind == "f" or isinstance(y, bool | np.ndarray))
    for target in ("int32", "float32", "float64"):
        cast = xp.astype(x, backend.dtype(target))
        assert (backend.to_numpy(cast).tolist(), cast.dtype) == (host.tolist(), backend.dtype(target))
        assert backend.to_numpy(xp.astype(x[1:], cast.dtype)).tolist() == host[1:].tolist()
        assert (xp.astype(x, cast.dtype, copy=False) is x) is (target == dtype)
        cast += 1
        assert backend.to_numpy(x).tolist() == host.tolist()


@pytest.mark.parametrize(("precision", "held"), [("float32", "highest"), ("tf32", "tensorfloat32")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_settings_of_jax_are_held_while_running_and_given_back(
    monkeypatch: pytest.MonkeyPatch, precision: str, held: str, dtype: str
) -> None:
    monkeypatch.setattr(JAXBackend, "precisions", lambda self: ("float32", "tf32"))  # as on a GPU
    config: Any = jax.config
    for caller in ("bfloat16", None):
        config.update("jax_default_matmul_precision", caller)
        with suppress(KeyboardInterrupt), get_backend("cpu", "jax", precision=precision).running(dtype):
            assert (config.jax_enable_x64, config.jax_default_matmul_precision) == (dtype == "float64", held)
            assert jax.numpy.zeros(1, dtype=dtype).dtype == dtype
            raise KeyboardInterrupt
        assert (config.jax_enable_x64, config.jax_default_matmul_precision) == (False, caller)


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
        with made.running("float64"):
            assert np.isinf(made.to_numpy(made.asarray([1e308]) * 1e308)).all()
        assert np.geterr() == before


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int32", "float32", "float64", ">f8"])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0, 4), (64, 64)], ids=str)
def test_array_there_and_back_is_the_same(backend: Backend, dtype: str, shape: tuple[int, ...]) -> None:
    """And shares no memory, however it lies in the host's, which may be read-only."""
    native = np.dtype(dtype).newbyteorder("=").name
    host = np.array(np.arange(np.prod(shape, dtype=int)).reshape(shape) * 37 % 256, dtype)
    for view in (host, host.T, host[::-1, ::-1] if host.ndim == 2 else host):
        kept = view.tolist()
        view.flags.writeable = False
        array = backend.asarray(view)
        assert (tuple(array.shape), array.dtype) == (view.shape, backend.dtype(native))
        view.flags.writeable = host.flags.writeable = True
        host[...] = ~host if dtype == "bool" else host + 1
        back = backend.to_numpy(array)
        assert (type(back).__name__, back.dtype.name, back.tolist()) == ("ndarray", native, kept)


def test_array_that_is_there_already_stays_as_it_is(backend: Backend) -> None:
    array = backend.asarray([[1.0, 2.0]])
    again = backend.asarray(array)
    assert (again is array) is (backend.name != "numpy")  # whose arrays are everybody's host arrays
    assert backend.to_numpy(again).tolist() == [[1.0, 2.0]]
    assert backend.to_numpy(backend.asarray(3)).tolist() == 3


def holdings() -> dict[str, Any]:
    """Rows in the hands of every library, as a user may have them."""
    rows = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
    made = {name: get_backend("cpu", name).asarray(rows) for name in ON_CPU}
    return made | {
        "torch with a gradient": torch.tensor(rows, requires_grad=True),
        "torch transposed": torch.tensor(rows.T.copy()).T,
        "jax on the CPU": jax.device_put(rows),
        "a list": rows.tolist(),
    }


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("holder", holdings())
def test_foreign_rows_are_taken_and_may_be_moved_before(name: str, holder: str) -> None:
    X = holdings()[holder]
    model = xpnet.MLP((3, 4, 2), backend=name)
    expected = xpnet.MLP((3, 4, 2)).predict_proba(np.asarray(holdings()["a list"], np.float32))
    for given in (X, model.backend.asarray(X)):
        found = model.predict_proba(given)
        assert owner(found) == name
        np.testing.assert_allclose(model.backend.to_numpy(found), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ON_CPU)
@pytest.mark.parametrize("holder", ["torch", "jax", "mlx"])
def test_rows_of_bfloat16_go_elsewhere_when_they_are_cast(name: str, holder: str) -> None:
    backend, library = get_backend("cpu", name), get_backend("cpu", holder)
    rows = library.xp.astype(library.asarray(np.ones((4, 3), np.float32)), library.dtype("bfloat16"))
    if name == holder:
        assert backend.asarray(rows) is rows
        return
    said = refused(lambda: backend.asarray(rows))
    assert said.startswith(f"{name} cannot take bfloat16 numbers (")
    assert said.endswith("give a plain array of another dtype, such as float32")
    cast = library.xp.astype(rows, library.dtype("float32"))
    assert backend.to_numpy(backend.asarray(cast)).tolist() == [[1.0] * 3] * 4


@pytest.mark.parametrize(
    "x",
    [
        *("rows", None, object(), ["a", "b"], [[1.0], [1.0, 2.0]], {"W1": 1}, np.array(["2026-01-01"], "M8")),
        *(np.ones(2, np.longdouble), np.zeros(2, [("a", "f4")]), np.ma.array([1.0, 2.0], mask=[False, True])),
        *(torch.ones(2).to_sparse(), torch.ones(2, device="meta")),
    ],
    ids=lambda x: type(x).__name__,
)
@pytest.mark.parametrize("name", ["torch", "jax", "dpnp", "mlx", "array-api-strict"])
def test_what_holds_no_numbers_for_a_library_is_refused_in_one_line(name: str, x: Any) -> None:
    backend = get_backend("cpu", name)
    refused(lambda: backend.asarray(x))


def test_rows_on_a_gpu_are_shared_there_and_never_moved_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over two libraries whose arrays are said to be on GPUs."""
    monkeypatch.setattr(TorchBackend, "device_of", classmethod(lambda cls, array: "cuda:1"))
    rows = torch.arange(4096, dtype=torch.float64).requires_grad_()
    backend = get_backend("cpu", "jax")
    backend.device = "cuda:1"
    shared = backend.asarray(rows)
    assert (owner(shared), shared.dtype) == ("jax", "float64")
    assert shared.unsafe_buffer_pointer() == rows.data_ptr()
    backend.device = "cuda:0"
    said = refused(lambda: backend.asarray(rows))
    assert said.startswith("the array is on cuda:1, but jax computes on cuda:0: copy it to the host first, ")
    assert said.endswith("model.to(device='cuda:1')")
    refused(lambda: get_backend("cpu", "torch").asarray(rows))  # nor do its own library's


ZEROS = {"sum": np.zeros(1, np.int32), "t": np.zeros(1, np.int32)}


class Tracing:
    """A step that adds its rows to a sum, and counts how often it is compiled."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, state: dict[str, Any], rows: Any, data: dict[str, Any]) -> dict[str, Any]:
        self.times += 1
        return {"sum": state["sum"] * 3 + rows.sum(), "t": state["t"] + 1}


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_jax_compiles_once_for_any_number_of_steps_and_reads_nothing(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Any = get_backend("cpu", "jax")
    monkeypatch.setattr(made, "kind", kind)  # the way of a GPU, on a CPU
    step = Tracing()

    def steps(count: int) -> None:
        rows = np.arange(2 * count, dtype=np.int32).reshape(count, 2) % 7
        expected = np.zeros(1, np.int32)
        for pair in rows:
            expected = expected * 3 + pair.sum(dtype=np.int32)  # wraps around, as on the device
        index, state = made.asarray(rows), move(made, ZEROS)
        with jax.transfer_guard_device_to_host("disallow_explicit"):
            after = made.scan(step, state, index, {})
        assert made.to_numpy(after["t"]).tolist() == [count]
        assert made.to_numpy(after["sum"]).tolist() == expected.tolist()

    with made.running("float32"):
        made.warm_up(step, move(made, ZEROS), made.asarray(np.zeros((BLOCK + 2, 2), np.int32)), {})
        compiled = step.times
        assert compiled == {"cpu": 1, "cuda": 2}[kind]
        for count in (1, 2, BLOCK - 1, BLOCK, BLOCK + 1, 106, PADDED - 1, PADDED):
            steps(count)
        assert step.times == compiled
        made = get_backend("cpu", "jax")  # another shares what was compiled
        monkeypatch.setattr(made, "kind", kind)
        steps(1)
        assert step.times == compiled
        steps(PADDED + 1)
        assert step.times > compiled


def test_loops_of_jax_on_a_gpu_have_a_length_that_is_known_when_they_are_compiled() -> None:
    """It would ask the host before every turn otherwise."""
    made: Any = get_backend("cpu", "jax")
    index, last = made.asarray(np.zeros((PADDED, 2), np.int32)), made.asarray(np.array(-1, np.int32))
    run = _compiled(made.module, True)
    program = run.lower(Tracing(), BLOCK, move(made, ZEROS), last, index, {}).compile().as_text()
    assert f'"known_trip_count":{{"n":"{BLOCK}"}}' in program


@pytest.mark.slow
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


def test_owner_is_the_library_of_a_class_or_of_what_it_derives_from() -> None:
    class Mine(np.ndarray):
        pass

    assert owner(np.ones(2).view(Mine)) == "numpy"
    assert owner(torch.nn.Parameter(torch.ones(2))) == "torch"
    for thing in ([1.0, 2.0], None, (1,), "numpy", 1.0, {"W1": 1}, memoryview(b"12"), object()):
        assert owner(thing) is None


def test_owner_imports_no_library_and_no_backend() -> None:
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from xpnet.backends import owner\n"
        "before = {*sys.modules}\n"
        "print(owner(np.ones(1)), owner([1.0]), owner(None), *({*sys.modules} - before))"
    )
    assert isolated(code) == "numpy None None"
