"""The training step and the evaluation step, one by one and in a scan."""

from dataclasses import replace
from math import log
from typing import Any

import numpy as np

from tests.states import (
    NETWORK,
    Host,
    assert_same,
    each_optimizer,
    fetch,
    make_batches,
    make_data,
    make_state,
    move,
)
from xpnet.backends import Backend
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.step import EvaluationStep, TrainingStep, gather


def run(backend: Backend, step: Any, state: Host, batches: Any, data: Host) -> Host:
    """Scan over batches, from host arrays to host arrays."""
    rows = backend.asarray(np.array(batches, dtype=np.int32))
    return fetch(backend, backend.scan(step, move(backend, state), rows, move(backend, data)))


def test_gather_scales_the_rows_and_gives_padding_no_weight(backend: Backend, xp: Any) -> None:
    data: Host = {
        "X": np.array([[0, 51], [102, 153], [204, 255]], dtype=np.uint8),
        "y": np.array([1, 0, 1], dtype=np.int32),
        "classes": np.arange(2, dtype=np.int32),
    }
    rows = backend.asarray(np.array([2, 1, -1, 1], dtype=np.int32))

    gathered = gather(xp, rows, move(backend, data), 255.0, backend.dtype("float64"))

    X, Y, weights = fetch(backend, dict(zip("XYw", gathered, strict=True))).values()
    assert X.dtype == Y.dtype == weights.dtype == np.float64
    np.testing.assert_allclose(X[[0, 1, 3]], [[4 / 5, 1], [2 / 5, 3 / 5], [2 / 5, 3 / 5]], rtol=1e-15)
    assert Y[[0, 1, 3]].tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    assert weights.tolist() == [1.0, 1.0, 0.0, 1.0]


def test_padding_changes_nothing(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    data, state = make_data(rng), make_state(rng, SGD(momentum=0.9))
    step = TrainingStep(xp, NETWORK, SGD(momentum=0.9), 255.0)
    short = run(backend, step, state, [[3, 11, 5, 0, 16]], data)
    assert_same(run(backend, step, state, [[3, 11, 5, 0, 16, -1, -1, -1]], data), short, 1e-15)


def test_losses_are_added_up_and_steps_counted(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    """From weights of zero and at a rate of 0 the network knows nothing: every row costs log 3."""
    state = {name: np.zeros_like(array) for name, array in make_state(rng, SGD()).items()}
    state |= {"loss": np.array([10.0]), "t": np.array([2], dtype=np.int32)}
    rows = [[0, 1, 2], [3, 4, -1], [5, -1, -1]]
    after = run(backend, TrainingStep(xp, NETWORK, SGD()), state, rows, make_data(rng))
    np.testing.assert_allclose(after["loss"], [10 + 6 * log(3)], rtol=1e-14)
    assert after["t"].tolist() == [5]
    assert not any(after[name].any() for name in NETWORK.shapes)


def test_each_step_takes_its_own_learning_rate(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    """Three steps of which only the second has a rate are that step alone; half the rate goes half as far."""
    data, start, step = make_data(rng), make_state(rng, SGD()), TrainingStep(xp, NETWORK, SGD(), 255.0)
    rows = [[0, 1], [2, 3], [4, 5]]
    three = run(backend, step, start | {"rates": np.array([0.0, 0.5, 0.0])}, rows, data)
    one, half = (run(backend, step, start | {"rates": np.array([r])}, rows[1:2], data) for r in (0.5, 0.25))
    for name in NETWORK.shapes:
        moved = one[name] - start[name]
        assert abs(moved).max() > 1e-3
        np.testing.assert_allclose(three[name], one[name], rtol=0, atol=1e-15)
        np.testing.assert_allclose(half[name] - start[name], moved / 2, rtol=0, atol=1e-15)


@each_optimizer
def test_a_scan_is_the_step_in_a_loop(
    optimizer: Optimizer, backend: Backend, xp: Any, rng: np.random.Generator
) -> None:
    """Ten batches in two scans on every library, against the plain loop on NumPy.

    A scan consumes the state that it is given, and leaves a copy, the data and the rows as they were.
    """
    data, start = make_data(rng), make_state(rng, optimizer)
    chunks = make_batches(rng, 5), make_batches(rng, 5)
    expected = {name: array.copy() for name, array in start.items()}
    for rows in np.concatenate(chunks):
        expected = TrainingStep(np, NETWORK, optimizer, 255.0)(expected, rows, data)

    step = TrainingStep(xp, NETWORK, optimizer, 255.0)
    state, moved = move(backend, start), move(backend, data)
    kept, placed = backend.copy(state), [backend.asarray(chunk) for chunk in chunks]
    backend.warm_up(step, state, placed[0], moved)
    assert_same(fetch(backend, state), start)
    for chunk in placed:
        state = backend.scan(step, state, chunk, moved)

    assert_same(fetch(backend, state), expected, 1e-12)
    assert abs(expected["W1"] - start["W1"]).max() > 1e-2
    assert_same(fetch(backend, kept | moved), start | data)
    for chunk, host in zip(placed, chunks, strict=True):
        assert (backend.to_numpy(chunk) == host).all()


def test_a_float32_state_stays_float32(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    state, step = (
        make_state(rng, Adam(), "float32"),
        TrainingStep(xp, NETWORK, Adam(weight_decay=0.01), 255.0),
    )
    after = run(backend, step, state, [[0, 1, 2], [3, 4, -1]], make_data(rng))
    assert {name: array.dtype for name, array in after.items()} == {
        name: array.dtype for name, array in state.items()
    }
    assert all(np.isfinite(array).all() for array in after.values())


def test_equal_steps_share_what_was_compiled(xp: Any) -> None:
    """A compiled step is looked up by equality and hash."""
    for step in (TrainingStep(xp, NETWORK, SGD(0.9), 255.0), EvaluationStep(xp, NETWORK, 255.0)):
        assert (step, hash(step)) == (replace(step), hash(replace(step)))
        changes: list[dict[str, Any]] = [{"network": Network((4, 6, 3))}, {"scale": 1.0}]
        for change in (*changes, {"network": Network((4, 5, 3), "tanh")}):
            assert replace(step, **change) != step
    assert TrainingStep(xp, NETWORK, SGD(0.9)) != TrainingStep(xp, NETWORK, SGD(0.8))


def test_evaluation_by_hand(backend: Backend, xp: Any) -> None:
    """The logits are the row times log 3, so a row of (1, 0, 0) means the probabilities 3/5, 1/5, 1/5.

    Rows 0, 2 and 3 are taken for their own class, which costs log 5/3; row 1 is of class 2, taken for
    class 0, and costs log 5. The sum starts from what the state holds, and the oldest outcomes leave it.
    """
    data: Host = {
        "X": np.array([[2, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]], dtype=np.uint8),
        "y": np.array([0, 2, 1, 2], dtype=np.int32),
        "classes": np.arange(3, dtype=np.int32),
    }
    state = {"W1": log(3) * np.eye(3), "b1": np.zeros(3), "loss": np.ones(1)}
    state |= {"outcomes": np.array([[1, 1, 1], [2, 2, 2], [4, 4, 4]], dtype=np.int32)}

    after = run(backend, EvaluationStep(xp, Network((3, 3)), 2.0), state, [[0, 1, 2], [3, -1, -1]], data)

    np.testing.assert_allclose(after["loss"], [1 + 3 * log(5 / 3) + log(5)], rtol=1e-14)
    assert after["outcomes"].tolist() == [[4, 4, 4], [0, 6, 4], [8, -1, -1]]
    for name in ("W1", "b1"):
        assert (after[name] == state[name]).all()
