"""Products that are subtracted straight from weights: what they compute, and where they are used."""

import ctypes
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.oracles import assert_close, each_dtype
from tests.states import PLAIN, assert_same, fetch, make_batches, make_data, make_state, move
from xpnet.backends import Backend, blas, get_backend
from xpnet.backends.base import HOOKS, Patched, without_hooks
from xpnet.nn.dense import Product
from xpnet.nn.optimizers import SGD, Adam, Optimizer, subtract
from xpnet.parity import Reference, compare
from xpnet.parity.formats import reference_backend

OPTIMIZERS = {
    "sgd": SGD(),
    "decay": SGD(weight_decay=0.3),
    "momentum": SGD(0.9),
    "nesterov": SGD(0.9, nesterov=True, weight_decay=0.3),
}


@each_dtype
@pytest.mark.parametrize("kept", [None, 0.75, "array"])
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (5, 7, 1), (1, 4, 3), (128, 784, 128), (700, 40, 30)])
def test_a_product_is_subtracted_from_arrays_of_every_layout(
    m: int, k: int, n: int, kept: Any, dtype: str, backend: Backend, rng: np.random.Generator
) -> None:
    """As they lie, transposed, and as a part of a wider array; the factors stay as they were."""
    xp = backend.xp
    host = [rng.standard_normal(shape).astype(dtype) for shape in ((k, n), (m, k), (m, n))]
    W, A, B = (x.astype(np.float64) for x in host)
    expected = ((1.0 if kept is None else 0.75) * W - A.T @ B).astype(dtype)

    def layouts(x: np.ndarray) -> list[Any]:
        transposed = xp.matrix_transpose(backend.asarray(np.ascontiguousarray(x.T)))
        return [backend.asarray(x), transposed, backend.asarray(np.pad(x, ((0, 0), (2, 1))))[:, 2:-1]]

    with backend.running(dtype):
        share = backend.asarray(np.full(1, 0.75, dtype)) if kept == "array" else kept
        for i in range(3):
            given = [layouts(x) for x in host]
            for W, A, B in (
                (given[0][i], *(g[0] for g in given[1:])),
                (given[0][0], given[1][i], given[2][-i]),
            ):
                found = backend.to_numpy(subtract(xp, W + 0.0, Product(A, B), share))
                assert_close(found, expected, 3e-6 if dtype == "float32" else 1e-14)
                assert (backend.to_numpy(A) == host[1]).all()
                assert (backend.to_numpy(B) == host[2]).all()


@pytest.mark.parametrize("name", [*OPTIMIZERS, "penalty"])
def test_a_step_makes_no_gradient_of_weights(name: str, backend: Backend, rng: np.random.Generator) -> None:
    """It equals the step without such products; a library that has them multiplies for Z and dA alone.

    With a penalty, whose loss is a product too, they are added to its gradient, which Adam takes.
    """
    optimizer = OPTIMIZERS.get(name, Adam())
    step, host = replace(PLAIN, optimizer=optimizer), make_state(rng, optimizer)
    data, batches = make_data(rng), make_batches(rng, 3)
    data |= {"penalty": np.full(1, 0.1)} if name == "penalty" else {}
    called: Counter[str] = Counter()

    def counted(name: str) -> Any:
        def function(*arguments: Any) -> Any:
            called[name] += 1
            return getattr(backend.xp, name)(*arguments)

        return function

    known = ("matmul", *(hook for hook in HOOKS if hasattr(backend.xp, hook)))
    watched = Patched(backend.xp, **{name: counted(name) for name in known})
    found = []
    for xp in (watched, without_hooks(backend.xp)):
        state = move(backend, host)
        placed = move(backend, data)
        for rows in batches:
            state = replace(step, xp=xp)(state, backend.asarray(rows), placed)
        found.append(fetch(backend, state))
    assert_same(found[0], found[1], 1e-13)
    depth = step.network.depth
    others = 3 * (2 * depth - 1 + depth * (name == "penalty"))
    own = backend.name in ("numpy", "torch", "cupy", "jax")
    assert hasattr(backend.xp, "subtract_product") == own
    if own:
        assert called == {"matmul": others, "subtract_product": 3 * depth}
    else:
        assert called == {"matmul": others + 3 * depth}


@pytest.mark.parametrize(("optimizer", "clip"), [(Adam(), 0.0), (SGD(), 1.0)], ids=["adam", "clipping"])
def test_who_needs_the_gradient_gets_it(optimizer: Optimizer, clip: float, rng: np.random.Generator) -> None:
    def refuse(*arguments: Any) -> Any:
        raise AssertionError("a gradient of weights was not made")

    xp = Patched(get_backend("cpu", "numpy").xp, subtract_product=refuse)
    step = replace(PLAIN, xp=xp, optimizer=optimizer, clip=clip)
    step(make_state(rng, optimizer), make_batches(rng, 1)[0], make_data(rng))
    with pytest.raises(AssertionError, match="not made"):
        replace(step, optimizer=SGD(), clip=0.0)(
            make_state(rng, SGD()), make_batches(rng, 1)[0], make_data(rng)
        )


@each_dtype
def test_numpys_own_blas_writes_to_the_weights_themselves(dtype: str, rng: np.random.Generator) -> None:
    gemm = blas.load()[np.dtype(dtype).char]  # NumPy's wheels for Linux bring OpenBLAS
    A, B, W = (rng.standard_normal(shape).astype(dtype) for shape in ((6, 5), (6, 4), (5, 4)))
    expected = W - A.T @ B
    assert blas.add_product(gemm, W, A, B, -1.0, 1.0)
    assert_close(W, expected, 1e-6 if dtype == "float32" else 1e-14)


def test_what_the_blas_cannot_take_is_left_to_numpy(rng: np.random.Generator) -> None:
    gemm = blas.load()["d"]
    A, B, W = (rng.standard_normal(shape) for shape in ((6, 5), (6, 4), (5, 4)))
    fixed = W.copy()
    fixed.flags.writeable = False
    for C, left, right in (
        (W.astype(np.float32), A, B),
        (W, A.astype(np.float32), B),
        (np.asfortranarray(W), A, B),
        (W, A[:, ::-1], B),
        (W, A, np.repeat(B, 2, 1)[:, ::2]),
        (W, A[0], B),
        (fixed, A, B),
    ):
        before = C.copy()
        assert not blas.add_product(gemm, C, left, right, -1.0, 1.0)
        assert (before == C).all()


POOL = {"user_api": "blas", "internal_api": "openblas", "filepath": "/usr/lib/libopenblas.so"}
OPENMP = {"user_api": "openmp", "internal_api": "openmp", "filepath": "/usr/lib/libgomp.so"}
OURS = POOL | {"filepath": f"{np.__path__[0]}.libs/libscipy_openblas64_.so"}


@pytest.mark.parametrize(
    ("pools", "found"),
    [
        ([], None),
        ([POOL | {"internal_api": "mkl"}], None),
        ([POOL], POOL),
        (
            [POOL, OURS, {"user_api": "openmp", "internal_api": "openmp", "filepath": "/usr/lib/libgomp.so"}],
            OURS,
        ),
        ([POOL, POOL | {"filepath": "/opt/libopenblas.so"}], None),
        ([POOL, OURS | {"internal_api": "mkl"}], None),
    ],
)
def test_only_the_openblas_of_numpy_is_used(
    pools: list[Any], found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str] = []
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: pools)

    def load(path: str) -> Any:
        loaded.append(path)
        return SimpleNamespace()

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert blas.load.__wrapped__() == {}  # such a library has no function
    assert loaded == ([found["filepath"]] if found else [])


@pytest.mark.parametrize("form", blas.FORMS)
def test_a_function_that_computes_something_else_is_left_out(
    form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def right(*arguments: Any) -> None:
        (m, n, k, alpha, a), (b, beta, c) = arguments[3:8], (arguments[9], arguments[11], arguments[12])
        A, B, C = (
            np.ctypeslib.as_array(ctypes.cast(memory, ctypes.POINTER(ctypes.c_float)), shape)
            for memory, shape in ((a, (k, m)), (b, (k, n)), (c, (m, n)))
        )
        C[...] = beta * C + alpha * A.T @ B

    library = SimpleNamespace(**{form.format("s"): right, form.format("d"): lambda *arguments: None})
    monkeypatch.setattr("threadpoolctl.threadpool_info", lambda: [POOL])
    monkeypatch.setattr(ctypes, "CDLL", lambda path: library)
    assert blas.load.__wrapped__() == {"f": right}
    assert right.argtypes[3] is blas.FORMS[form]  # type: ignore[attr-defined]


def test_what_the_blas_does_not_take_is_computed_in_the_plain_way(rng: np.random.Generator) -> None:
    for dtype in ("float16", "longdouble"):
        W, A, B = (rng.standard_normal(shape).astype(dtype) for shape in ((5, 4), (6, 5), (6, 4)))
        for kept in (None, 0.75, np.full(1, 0.75)):
            found = blas.subtract_product(W.copy(), A, B, kept)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, W * (1.0 if kept is None else 0.75) - A.T @ B, atol=0.02)


def test_without_a_blas_that_is_known_steps_are_computed_by_the_definition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert hasattr(get_backend("cpu", "numpy").xp, "subtract_product")
    monkeypatch.setattr("xpnet.backends.numpy.load", dict)
    assert not hasattr(get_backend("cpu", "numpy").xp, "subtract_product")


def test_parity_compares_with_the_definition() -> None:
    reference = Reference.prepare(2)
    assert not hasattr(reference_backend("float32").xp, "subtract_product")
    assert not hasattr(reference_backend("bf16").xp, "subtract_product")
    backend = get_backend("cpu", "numpy")
    assert compare(backend, "float64", reference).passed
    right = backend.xp.subtract_product
    backend.xp = Patched(backend.xp, subtract_product=lambda W, A, B, kept=None: right(W, A, 1.001 * B, kept))
    failure = compare(backend, "float64", reference).first_failure
    assert failure
    assert failure.quantity == "W - product"


OPERATIONS = {"sgd": 39, "decay": 45, "momentum": 45, "nesterov": 63}
"""How many operations a step of a network with one hidden layer asks for, on a batch without rows of -1.

Views are left out. A recorded step has two more, which find its batch."""


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_step_asks_for_so_many_operations(name: str) -> None:
    """Counted on PyTorch's device without numbers; on a GPU each is about one kernel."""
    torch = pytest.importorskip("torch")
    views = ("view", "t.", "transpose", "unsqueeze", "slice", "alias", "detach", "empty")
    asked: list[str] = []

    class Count(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc, name-defined]
        def __torch_dispatch__(self, f: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called = str(f).removeprefix("aten.")
            asked.extend([] if called.startswith(views) else [called])
            return f(*args, **(kwargs or {}))

    backend, rng = get_backend("cpu", "torch"), np.random.default_rng(0)
    given = (make_state(rng, OPTIMIZERS[name], "float32"), make_data(rng), {"rows": make_batches(rng, 1)[0]})
    state, data, rows = (
        {key: torch.from_numpy(array).to("meta") for key, array in arrays.items()} for arrays in given
    )
    with backend.running("float32"), Count():
        step = replace(PLAIN, xp=backend.xp, optimizer=OPTIMIZERS[name], padded=False)
        step(state, rows["rows"], data)
    assert len(asked) == OPERATIONS[name], asked
