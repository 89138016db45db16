"""What training needs of a backend, on every library and device: rows, matrix products, and scans.

On a GPU these tests cover what other tests cover with stand-ins: refilled arrays, cuBLAS, and recorded steps.
"""

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

import xpnet
from tests import states
from tests.states import NETWORK, STEPS, assert_same, fetch, make_batches, make_data, make_state, move
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
        array, host = backend.exchange(array, kept.copy())
        host[...] = 201
        np.testing.assert_array_equal(backend.to_numpy(array), kept)
    array = array + backend.asarray(np.ones(1, dtype))
    assert (host == 201).all()


@pytest.mark.parametrize("name", ["adam", "everything", "evaluation"])
def test_scans_in_a_row_are_the_plain_loop_of_numpy(
    name: str, backend: Backend, rng: np.random.Generator
) -> None:
    """A scan consumes the state that it is given, and leaves a copy, the data and the rows as they were.

    In float64 one is longer than the buffer of a recording.
    In float32 there are too few steps for the weights to diverge.
    """
    plain, optimizer = STEPS.get(name, states.EVALUATION), STEPS.get(name, states.PLAIN).optimizer
    long = 5 if backend.name == "jax" or type(backend).scan is Backend.scan else CAPACITY + 2
    for dtype in dtypes(backend):
        start, data = make_state(rng, optimizer, dtype), make_data(rng, plain, dtype)
        start = states.make_sums(start) if name == "evaluation" else start
        sizes, tolerance = {"float32": ((3, 5, 1), 1e-4), "float64": ((3, long, 1), 1e-9)}[dtype]
        chunks = [make_batches(rng, steps) for steps in sizes]
        expected = {key: array.copy() for key, array in start.items()}
        for rows in np.concatenate(chunks):
            expected = plain(expected, rows, data)
        step = replace(plain, xp=backend.xp)
        with backend.running(dtype):
            state, moved = move(backend, start), move(backend, data)
            kept, placed = backend.copy(state), [backend.asarray(chunk) for chunk in chunks]
            backend.warm_up(step, state, placed[0], moved)
            assert_same(fetch(backend, state), start)
            for chunk in placed:
                state = backend.scan(step, state, chunk, moved)
            assert_same(fetch(backend, state), expected, tolerance)
            assert_same(fetch(backend, kept | moved), start | data)
            for chunk, host in zip(placed, chunks, strict=True):
                assert (backend.to_numpy(chunk) == host).all()
        if name == "evaluation":
            assert expected["by_class"].sum() == sum((chunk >= 0).sum() for chunk in chunks)
        else:
            assert expected["t"].tolist() == expected["step"].tolist() == [sum(sizes)]
            assert abs(expected["W1"] - start["W1"]).max() > 1e-2
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
            for left, other in product(layouts(A), layouts(B)):
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
