"""The training step and the evaluation step, one by one."""

from dataclasses import replace
from math import log
from typing import Any

import numpy as np
import pytest

from tests.oracles import scanned
from tests.states import EVALUATION, LOSS, NETWORK, PLAIN, Host, fetch, make_data, make_state, move
from xpnet.backends import Backend
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD
from xpnet.nn.step import EvaluationStep, gather


def test_gather_scales_the_rows_and_gives_padding_no_weight(backend: Backend, xp: Any) -> None:
    data: Host = {
        "X": np.array([[0, 51], [102, 153], [204, 255]], dtype=np.uint8),
        "y": np.array([1, 0, 1], dtype=np.int32),
        "classes": np.arange(2, dtype=np.int32),
    }
    rows = backend.asarray(np.array([2, 1, -1, 1], dtype=np.int32))

    gathered = gather(xp, rows, move(backend, data), LOSS, 255.0, backend.dtype("float64"))

    X, T, weights = fetch(backend, dict(zip("XTw", gathered, strict=True))).values()
    assert X.dtype == T.dtype == weights.dtype == np.float64
    np.testing.assert_allclose(X[[0, 1, 3]], [[4 / 5, 1], [2 / 5, 3 / 5], [2 / 5, 3 / 5]], rtol=1e-15)
    assert T[[0, 1, 3]].tolist() == [[0.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    assert weights.tolist() == [1.0, 1.0, 0.0, 1.0]


def test_losses_are_added_up_and_steps_counted(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    """From weights of zero and at a rate of 0 the network knows nothing: every row costs log 3."""
    state = {name: np.zeros_like(array) for name, array in make_state(rng, SGD()).items()}
    state |= {"loss": np.array([10.0]), "t": np.array([2], dtype=np.int32)}
    rows = [[0, 1, 2], [3, 4, -1], [5, -1, -1]]
    after = scanned(backend, replace(PLAIN, xp=xp), state, rows, make_data(rng))
    np.testing.assert_allclose(after["loss"], [10 + 6 * log(3)], rtol=1e-14)
    assert (after["t"].tolist(), after["step"].tolist()) == ([5], [3])
    assert not any(after[name].any() for name in NETWORK.shapes)


def test_each_step_takes_its_own_learning_rate(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    """Three steps of which only the second has a rate are that step alone; half the rate goes half as far."""
    data, start, step = make_data(rng), make_state(rng, SGD()), replace(PLAIN, xp=xp)
    rows = [[0, 1], [2, 3], [4, 5]]
    three = scanned(backend, step, start | {"rates": np.array([0.0, 0.5, 0.0])}, rows, data)
    one, half = (
        scanned(backend, step, start | {"rates": np.array([r])}, rows[1:2], data) for r in (0.5, 0.25)
    )
    for name in NETWORK.shapes:
        moved = one[name] - start[name]
        assert abs(moved).max() > 1e-3
        np.testing.assert_allclose(three[name], one[name], rtol=0, atol=1e-15)
        np.testing.assert_allclose(half[name] - start[name], moved / 2, rtol=0, atol=1e-15)


def test_equal_steps_share_what_was_compiled(xp: Any) -> None:
    """A compiled step is looked up by equality and hash."""
    changes: list[dict[str, Any]] = [{"network": Network((4, 6, 3))}, {"network": Network((4, 5, 3), "tanh")}]
    changes += [{"scale": 1.0}, {"loss": LOSSES["poisson"]}]
    more = [{"optimizer": SGD(0.8)}, {"dropout": (0.0, 0.5)}, {"clip": 1.0}]
    steps: dict[Any, Any] = {PLAIN: changes + more, EVALUATION: changes}
    for step, different in steps.items():
        step = replace(step, xp=xp)
        assert (step, hash(step)) == (replace(step), hash(replace(step)))
        for change in different:
            assert replace(step, **change) != step


def test_evaluation_by_hand(backend: Backend, xp: Any) -> None:
    """The logits are the row times log 3, so a row of (1, 0, 0) means the probabilities 3/5, 1/5, 1/5.

    Rows 0, 2 and 3 are taken for their own class, which costs log 5/3; row 1 is of class 2, taken for
    class 0, and costs log 5. Every sum starts from what the state holds.
    """
    data: Host = {
        "X": np.array([[2, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]], dtype=np.uint8),
        "y": np.array([0, 2, 1, 2], dtype=np.int32),
        "classes": np.arange(3, dtype=np.int32),
    }
    state = {"W1": log(3) * np.eye(3), "b1": np.zeros(3), "loss": np.ones(1)}
    state |= {"by_class": np.ones(3), "right": np.zeros(3), "confusion": 2.0 * np.eye(3)}

    step = EvaluationStep(xp, Network((3, 3)), LOSS, 2.0)
    after = scanned(backend, step, state, [[0, 1, 2], [3, -1, -1]], data)

    np.testing.assert_allclose(after["loss"], [1 + 3 * log(5 / 3) + log(5)], rtol=1e-14)
    assert (after["by_class"].tolist(), after["right"].tolist()) == ([2, 2, 3], [1, 1, 1])
    assert after["confusion"].tolist() == [[3, 0, 0], [0, 3, 0], [1, 0, 3]]
    for name in ("W1", "b1"):
        assert (after[name] == state[name]).all()


@pytest.mark.parametrize(("name", "k"), [("cross-entropy", 2), ("binary-cross-entropy", 1)])
def test_what_is_predicted_is_judged_even_where_rounding_makes_probabilities_equal(
    name: str, k: int, backend: Backend, xp: Any
) -> None:
    """Both probabilities are 1/2 in float32. `MLP.predict` takes the larger logit, and so does this."""
    data: Host = {"X": np.ones((1, 1), "f4"), "classes": np.arange(k, dtype=np.int32)}
    data["y"] = np.ones(1, np.int32) if k == 2 else np.ones((1, 1), "f4")
    state = {"W1": np.zeros((1, k), "f4"), "b1": np.array([0.0, 1e-9][-k:], "f4")}
    state |= {sum_: zero.astype("f4") for sum_, zero in LOSSES[name].kind.zeros(np, k).items()}
    step = EvaluationStep(xp, Network((1, k)), LOSSES[name])
    after = scanned(backend, step, state | {"loss": np.zeros(1, "f4")}, [[0]], data)
    assert after["right" if k == 2 else "both"].tolist()[-1] == 1
