"""What training needs of a backend, on every library and device: rows, matrix products, and scans.

On a GPU these tests cover what other tests cover with stand-ins: refilled arrays, cuBLAS, and recorded steps.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.states import (
    EVALUATION,
    NETWORK,
    STEPS,
    assert_same,
    fetch,
    make_batches,
    make_data,
    make_state,
    make_sums,
    move,
)
from xpnet.backends import Backend
from xpnet.backends.graph import CAPACITY


def dtypes(backend: Backend) -> list[str]:
    return [dtype for dtype in ("float32", "float64") if backend.supports(dtype)]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_a_refilled_array_holds_only_the_new_numbers(
    backend: Backend, dtype: str, rng: np.random.Generator
) -> None:
    """The array is so large that a copy may still be under way when the host array is overwritten."""
    shape = (2000, 784)
    array = backend.asarray(np.zeros(shape, dtype))
    for _ in range(3):
        host = rng.integers(0, 200, shape).astype(dtype)
        kept = host.copy()
        array = backend.refill(array, host)
        host[...] = 201
        np.testing.assert_array_equal(backend.to_numpy(array), kept)
    array = array + backend.asarray(np.ones(1, dtype))
    assert (host == 201).all()


@pytest.mark.parametrize("step", [STEPS["adam"], STEPS["everything"], EVALUATION])
def test_scans_in_a_row_are_the_plain_loop_of_steps(
    step: Any, backend: Backend, rng: np.random.Generator
) -> None:
    """In float64 longer than the buffer of a recording; in float32 too short for the weights to diverge."""
    training, step = step is not EVALUATION, replace(step, xp=backend.xp)
    for dtype in dtypes(backend):
        start, data = make_state(rng, STEPS["adam"].optimizer, dtype), make_data(rng, step, dtype)
        start = start if training else make_sums(start)
        sizes, tolerance = {"float32": ((3, 5, 1), 1e-4), "float64": ((3, CAPACITY + 2, 1), 1e-9)}[dtype]
        chunks = [make_batches(rng, steps) for steps in sizes]
        ends = []
        with backend.running(dtype):
            for scan in (type(backend).scan, Backend.scan):
                state, placed = move(backend, start), move(backend, data)
                for chunk in chunks:
                    state = scan(backend, step, state, backend.asarray(chunk), placed)
                ends.append(fetch(backend, state))
        assert_same(ends[0], ends[1], tolerance)
        if training:
            assert ends[0]["t"].tolist() == ends[0]["step"].tolist() == [sum(sizes)]
            assert abs(ends[0]["W1"] - start["W1"]).max() > 1e-2
        else:
            assert ends[0]["by_class"].sum() == sum((chunk >= 0).sum() for chunk in chunks)
    assert (backend.execution.actual, backend.execution.reason) == (backend.executions()[0], "")


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(1, 784, 128), (64, 784, 128), (64, 128, 10), (3, 1, 5), (1, 1, 1), (5, 7, 1), (1, 10, 128)],
)
def test_products_of_every_layout(backend: Backend, m: int, k: int, n: int, rng: np.random.Generator) -> None:
    """Contiguous, transposed, and a slice of a wider array, each with each."""
    xp = backend.xp

    def layouts(host: np.ndarray) -> list[Any]:
        wide = np.pad(host, ((0, 0), (2, 1)))
        return [
            backend.asarray(host),
            xp.matrix_transpose(backend.asarray(np.ascontiguousarray(host.T))),
            backend.asarray(wide)[:, 2:-1],
        ]

    for dtype in dtypes(backend):
        A, B = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        right = A.astype(np.float64) @ B.astype(np.float64)
        atol = (1e-5 if dtype == "float32" else 1e-13) * np.sqrt(k) * max(1.0, abs(right).max())
        with backend.running(dtype):
            for left in layouts(A):
                for other in layouts(B):
                    found = backend.to_numpy(xp.matmul(left, other))
                    assert found.dtype == dtype
                    np.testing.assert_allclose(found, right, rtol=0, atol=atol)


def test_training_never_falls_back_silently(backend: Backend, rng: np.random.Generator) -> None:
    """On a GPU the steps are recorded, and the recording is compared and found right."""
    X, y = rng.standard_normal((700, 4)), np.arange(700) % 3
    for dtype in dtypes(backend):
        model = xpnet.MLP(NETWORK.sizes, dtype=dtype, backend=backend)
        history = xpnet.train(model, X, y, epochs=2, batch_size=16, validation=0.2)
        assert [row.epoch for row in history.epochs] == [1, 2]
        assert (backend.execution.actual, backend.execution.reason) == (backend.executions()[0], "")
