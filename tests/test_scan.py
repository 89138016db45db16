"""What training asks of a backend, on every library and device: rows, products, and steps in a row.

On a GPU these are the tests of what is over a stand-in elsewhere: refilled arrays, cuBLAS, and recordings.
"""

from typing import Any

import numpy as np
import pytest

import xpnet
from tests.test_graph import NETWORK, fetch, make_batches, make_data, make_state, move
from xpnet.backends import Backend
from xpnet.backends.graph import CAPACITY
from xpnet.nn.optimizers import SGD, Adam
from xpnet.nn.step import EvaluationStep, TrainingStep


def dtypes(backend: Backend) -> list[str]:
    return [dtype for dtype in ("float32", "float64") if backend.supports(dtype)]


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_refilled_array_holds_the_new_numbers_alone(
    backend: Backend, dtype: str, rng: np.random.Generator
) -> None:
    """Large enough for a copy to be under way still when the host array is overwritten."""
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


def test_scans_in_a_row_are_the_plain_loop_of_steps(backend: Backend, rng: np.random.Generator) -> None:
    """In float64 longer than the buffer of a recording; in float32 too short for the weights to part."""
    optimizer = Adam(weight_decay=0.01)
    for dtype in dtypes(backend):
        state, data = make_state(rng, optimizer, dtype), make_data(rng)
        sizes, tolerance = {"float32": ((3, 5, 1), 1e-4), "float64": ((3, CAPACITY + 2, 1), 1e-9)}[dtype]
        chunks = [make_batches(rng, steps) for steps in sizes]
        found = []
        with backend.running(dtype):
            step = TrainingStep(backend.xp, NETWORK, optimizer, 255.0)
            placed = move(backend, data)
            for scan in (type(backend).scan, Backend.scan):
                after = move(backend, state)
                for chunk in chunks:
                    after = scan(backend, step, after, backend.asarray(chunk), placed)
                found.append(fetch(backend, after))
        assert found[0].keys() == found[1].keys()
        assert found[0]["t"].tolist() == [sum(sizes)]
        assert abs(found[0]["W1"] - state["W1"]).max() > 1e-2
        for name, right in found[1].items():
            atol = tolerance * max(1.0, abs(right).max())
            np.testing.assert_allclose(found[0][name], right, rtol=0, atol=atol)
    assert (backend.execution.actual, backend.execution.reason) == (backend.executions()[0], "")


def test_scans_of_the_evaluation_are_the_plain_loop_of_steps(
    backend: Backend, rng: np.random.Generator
) -> None:
    dtype = dtypes(backend)[-1]
    state = {name: array for name, array in make_state(rng, SGD(), dtype).items() if name in NETWORK.shapes}
    state |= {"loss": np.zeros(1, dtype), "outcomes": np.full((4, 6), -1, np.int32)}
    chunks = [make_batches(rng, steps) for steps in (2, 5)]
    found = []
    with backend.running(dtype):
        step, placed = EvaluationStep(backend.xp, NETWORK, 255.0), move(backend, make_data(rng))
        for scan in (type(backend).scan, Backend.scan):
            after = move(backend, state)
            for chunk in chunks:
                after = scan(backend, step, after, backend.asarray(chunk), placed)
            found.append(fetch(backend, after))
    assert (found[0]["outcomes"] == found[1]["outcomes"]).all()
    assert ((found[0]["outcomes"] >= 0) == (np.concatenate(chunks)[-4:] >= 0)).all()
    np.testing.assert_allclose(found[0]["loss"], found[1]["loss"], rtol=1e-5)


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(1, 784, 128), (64, 784, 128), (64, 128, 10), (3, 1, 5), (1, 1, 1), (5, 7, 1), (1, 10, 128)],
)
def test_products_of_every_layout(backend: Backend, m: int, k: int, n: int, rng: np.random.Generator) -> None:
    """As they lie, as transposed views, and as a part of something wider; each with each."""
    xp = backend.xp

    def layouts(host: np.ndarray) -> list[Any]:
        rows, columns = host.shape
        wide = np.zeros((rows, columns + 3), host.dtype)
        wide[:, 2 : columns + 2] = host
        return [
            backend.asarray(host),
            xp.matrix_transpose(backend.asarray(np.ascontiguousarray(host.T))),
            backend.asarray(wide)[:, 2 : columns + 2],
        ]

    for dtype in dtypes(backend):
        A, B = rng.standard_normal((m, k)).astype(dtype), rng.standard_normal((k, n)).astype(dtype)
        right = A.astype(np.float64) @ B.astype(np.float64)
        tolerance = (1e-5 if dtype == "float32" else 1e-13) * np.sqrt(k) * max(1.0, abs(right).max())
        with backend.running(dtype):
            for left in layouts(A):
                for other in layouts(B):
                    found = backend.to_numpy(xp.matmul(left, other))
                    assert found.dtype == dtype
                    np.testing.assert_allclose(found, right, rtol=0, atol=tolerance)


def test_training_runs_its_steps_as_the_device_does_best(backend: Backend, rng: np.random.Generator) -> None:
    """No silent fall-back: on a GPU that is the recorded step, compared and found right."""
    X, y = rng.standard_normal((700, 4)), np.arange(700) % 3
    for dtype in dtypes(backend):
        model = xpnet.MLP(NETWORK.sizes, dtype=dtype, backend=backend)
        history = xpnet.train(model, X, y, epochs=2, batch_size=16, validation=0.2)
        assert [row.epoch for row in history.epochs] == [1, 2]
        assert (backend.execution.actual, backend.execution.reason) == (backend.executions()[0], "")
