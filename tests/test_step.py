"""The training step and the evaluation step, one by one and in a scan."""

from math import log
from typing import Any

import numpy as np
import pytest

from xpnet.backends import Backend
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.step import EvaluationStep, TrainingStep, gather

NETWORK = Network((4, 5, 3))
OPTIMIZERS = {
    "momentum": SGD(momentum=0.9, weight_decay=0.01),
    "adam": Adam(weight_decay=0.01),
}
each_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)

Host = dict[str, np.ndarray]


def move(backend: Backend, arrays: Host) -> dict[str, Any]:
    return {name: backend.asarray(array) for name, array in arrays.items()}


def fetch(backend: Backend, arrays: dict[str, Any]) -> Host:
    return {name: np.array(backend.to_numpy(array)) for name, array in arrays.items()}


def make_data(rng: np.random.Generator) -> Host:
    return {
        "X": rng.standard_normal((17, 4)),
        "y": rng.integers(0, 3, 17).astype(np.int32),
        "classes": np.arange(3, dtype=np.int32),
    }


def make_state(
    rng: np.random.Generator, optimizer: Optimizer, t: int = 0, rates: np.ndarray | None = None
) -> Host:
    state = {name: 0.5 * rng.standard_normal(shape) for name, shape in NETWORK.shapes.items()}
    state |= optimizer.memory(np, state)
    rates = np.linspace(0.2, 0.01, 40) if rates is None else rates
    return state | {"loss": np.zeros(1), "t": np.full(1, t, dtype=np.int32), "rates": rates}


def run(backend: Backend, step: Any, state: Host, batches: Any, data: Host) -> Host:
    """Scan over batches, from host arrays to host arrays."""
    rows = backend.asarray(np.array(batches, dtype=np.int32))
    return fetch(backend, backend.scan(step, move(backend, state), rows, move(backend, data)))


def assert_same(found: Host, expected: Host, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        assert abs(found[name] - array).max() <= tolerance * max(abs(array).max(), 1.0), name


def test_gather_scales_the_rows_and_weighs_what_fills_up_with_nothing(backend: Backend, xp: Any) -> None:
    data: Host = {
        "X": np.array([[0, 51], [102, 153], [204, 255]], dtype=np.uint8),
        "y": np.array([1, 0, 1], dtype=np.int32),
        "classes": np.arange(2, dtype=np.int32),
    }
    rows = backend.asarray(np.array([2, 1, -1, 1], dtype=np.int32))

    X, Y, weights = gather(xp, rows, move(backend, data), 255.0, backend.dtype("float64"))

    expected = [[4 / 5, 1], [2 / 5, 3 / 5], [2 / 5, 3 / 5]]
    np.testing.assert_allclose(backend.to_numpy(X)[[0, 1, 3]], expected, rtol=1e-15)
    assert backend.to_numpy(Y)[[0, 1, 3]].tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    assert backend.to_numpy(weights).tolist() == [1.0, 1.0, 0.0, 1.0]
    for array in (X, Y, weights):
        assert array.dtype == backend.dtype("float64")


def test_rows_that_fill_up_change_nothing(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    data, state = make_data(rng), make_state(rng, SGD(momentum=0.9))
    step = TrainingStep(xp, NETWORK, SGD(momentum=0.9))
    short = run(backend, step, state, [[3, 11, 5, 0, 16]], data)
    filled = run(backend, step, state, [[3, 11, 5, 0, 16, -1, -1, -1]], data)
    assert_same(filled, short, 1e-15)


def test_integers_are_divided_by_the_scale(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    data, state = make_data(rng), make_state(rng, SGD())
    pixels = rng.integers(0, 256, (17, 4)).astype(np.uint8)
    rows = [[3, 11, 5, 0]]

    found = run(backend, TrainingStep(xp, NETWORK, SGD(), 255.0), state, rows, data | {"X": pixels})
    expected = run(backend, TrainingStep(xp, NETWORK, SGD()), state, rows, data | {"X": pixels / 255.0})

    assert_same(found, expected, 1e-14)


def test_the_losses_of_the_rows_are_added_up_and_the_steps_counted(
    backend: Backend, xp: Any, rng: np.random.Generator
) -> None:
    """At a rate of 0 the network stays one that knows nothing: every row costs log 3."""
    state = {name: np.zeros_like(array) for name, array in make_state(rng, SGD()).items()}
    state |= {"loss": np.array([10.0]), "t": np.array([2], dtype=np.int32)}
    rows = [[0, 1, 2], [3, 4, -1], [5, -1, -1]]

    after = run(backend, TrainingStep(xp, NETWORK, SGD()), state, rows, make_data(rng))

    np.testing.assert_allclose(after["loss"], [10 + 6 * log(3)], rtol=1e-14)
    assert after["t"].tolist() == [5]
    assert not any(after[name].any() for name in NETWORK.shapes)


def test_each_step_takes_its_own_learning_rate(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    """From one and the same start: nothing at rate 0, and half as far at half the rate."""
    data, rates = make_data(rng), np.array([1.0, 0.0, 0.5])
    start, step = make_state(rng, SGD(), rates=rates), TrainingStep(xp, NETWORK, SGD())

    def moved(t: int) -> Host:
        after = run(backend, step, start | {"t": np.array([t], dtype=np.int32)}, [[3, 11, 5, 0]], data)
        assert after["t"].tolist() == [t + 1]
        return {name: after[name] - start[name] for name in NETWORK.shapes}

    whole, none, half = moved(0), moved(1), moved(2)
    for name in NETWORK.shapes:
        assert abs(whole[name]).max() > 1e-3
        assert not none[name].any()
        np.testing.assert_allclose(half[name], whole[name] / 2, atol=1e-15, rtol=0)


def test_a_schedule_moves_within_a_scan(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    """With a rate only at step 1, three steps on different rows are the one on the second rows."""
    start, step = make_state(rng, SGD()), TrainingStep(xp, NETWORK, SGD())
    rows = [[0, 1], [2, 3], [4, 5]]
    data = make_data(rng)
    three = run(backend, step, start | {"rates": np.array([0.0, 0.5, 0.0])}, rows, data)
    one = run(backend, step, start | {"rates": np.array([0.5])}, rows[1:2], data)
    for name in NETWORK.shapes:
        assert abs(one[name] - start[name]).max() > 1e-3
        np.testing.assert_allclose(three[name], one[name], rtol=0, atol=1e-15)


def test_rows_and_data_are_not_written(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    host = make_data(rng)
    index = np.array([[3, 11, 5, -1], [0, 1, -1, -1]], dtype=np.int32)
    data, rows = move(backend, host), backend.asarray(index)
    step = TrainingStep(xp, NETWORK, Adam(weight_decay=0.01), 2.0)

    backend.scan(step, move(backend, make_state(rng, Adam())), rows, data)

    assert_same(fetch(backend, data), host, 0.0)
    assert (backend.to_numpy(rows) == index).all()


@each_optimizer
def test_a_scan_is_the_step_in_a_loop(
    optimizer: Optimizer, backend: Backend, xp: Any, rng: np.random.Generator
) -> None:
    """Ten batches in two chunks on every library, against the plain loop on NumPy.

    A scan consumes the state that it is given; a copy taken before outlives it.
    """
    data, start = make_data(rng), make_state(rng, optimizer)
    batches = np.stack([rng.permutation(17)[:6] for _ in range(10)]).astype(np.int32)
    batches[4, 4:], batches[9, 1:] = -1, -1

    expected = {name: array.copy() for name, array in start.items()}
    for rows in batches:
        expected = TrainingStep(np, NETWORK, optimizer)(expected, rows, data)

    step = TrainingStep(xp, NETWORK, optimizer)
    state, moved = move(backend, start), move(backend, data)
    kept = backend.copy(state)
    for chunk in (batches[:5], batches[5:]):
        state = backend.scan(step, state, backend.asarray(chunk), moved)

    assert_same(fetch(backend, state), expected, 1e-12)
    assert_same(fetch(backend, kept), start, 0.0)
    assert expected["t"].tolist() == [10]
    assert abs(expected["W1"] - start["W1"]).max() > 1e-2


def test_a_float32_state_stays_float32(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    def narrow(arrays: Host) -> Host:
        return {name: a.astype(np.float32) if a.dtype.kind == "f" else a for name, a in arrays.items()}

    state, data = narrow(make_state(rng, Adam())), narrow(make_data(rng))
    step = TrainingStep(xp, NETWORK, Adam(weight_decay=0.01))
    after = run(backend, step, state, [[0, 1, 2], [3, 4, -1]], data)
    expected = {name: "int32" if name == "t" else "float32" for name in state}
    assert {name: str(array.dtype) for name, array in after.items()} == expected
    assert all(np.isfinite(array).all() for array in after.values())


@each_optimizer
def test_a_warm_up_leaves_the_state_as_it_was(
    optimizer: Optimizer, backend: Backend, xp: Any, rng: np.random.Generator
) -> None:
    host, data = make_state(rng, optimizer), make_data(rng)
    batches = np.array([[0, 1, 2], [3, 4, -1]], dtype=np.int32)
    step = TrainingStep(xp, NETWORK, optimizer)
    state, moved, rows = move(backend, host), move(backend, data), backend.asarray(batches)

    backend.warm_up(step, state, rows, moved)

    assert_same(fetch(backend, state), host, 0.0)
    assert_same(fetch(backend, moved), data, 0.0)
    after = fetch(backend, backend.scan(step, state, rows, moved))
    assert_same(after, run(backend, step, host, batches, data), 0.0)


def test_equal_steps_share_what_was_compiled(xp: Any) -> None:
    """A compiled step is looked up by equality and hash."""
    step = TrainingStep(xp, Network((4, 5, 3)), SGD(0.9), 255.0)
    same = TrainingStep(xp, Network((4, 5, 3)), SGD(0.9), 255.0)
    assert step == same
    assert hash(step) == hash(same)
    for other in (
        TrainingStep(xp, Network((4, 6, 3)), SGD(0.9), 255.0),
        TrainingStep(xp, Network((4, 5, 3), "tanh"), SGD(0.9), 255.0),
        TrainingStep(xp, Network((4, 5, 3)), SGD(0.8), 255.0),
        TrainingStep(xp, Network((4, 5, 3)), SGD(0.9)),
    ):
        assert step != other
    evaluation = EvaluationStep(xp, Network((4, 5, 3)), 255.0)
    assert evaluation == EvaluationStep(xp, Network((4, 5, 3)), 255.0)
    assert hash(evaluation) == hash(EvaluationStep(xp, Network((4, 5, 3)), 255.0))
    assert evaluation != EvaluationStep(xp, Network((4, 5, 3)))


def test_evaluation_by_hand(backend: Backend, xp: Any) -> None:
    """The logits are the row times log 3, so a row of (1, 0, 0) means the probabilities 3/5, 1/5, 1/5.

    Rows 0, 2 and 3 are taken for their own class, which costs log 5/3; row 1 is of class 2, taken for
    class 0, and costs log 5. The sum goes on from what the state holds, and the oldest outcomes leave it.
    """
    data: Host = {
        "X": np.array([[2, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]], dtype=np.uint8),
        "y": np.array([0, 2, 1, 2], dtype=np.int32),
        "classes": np.arange(3, dtype=np.int32),
    }
    state = {
        "W1": log(3) * np.eye(3),
        "b1": np.zeros(3),
        "loss": np.array([1.0]),
        "outcomes": np.array([[1, 1, 1], [2, 2, 2], [4, 4, 4]], dtype=np.int32),
    }
    step = EvaluationStep(xp, Network((3, 3)), 2.0)

    after = run(backend, step, state, [[0, 1, 2], [3, -1, -1]], data)

    np.testing.assert_allclose(after["loss"], [1 + 3 * log(5 / 3) + log(5)], rtol=1e-14)
    assert after["outcomes"].tolist() == [[4, 4, 4], [0, 6, 4], [8, -1, -1]]
    assert (after["W1"] == state["W1"]).all()
    assert (after["b1"] == state["b1"]).all()
