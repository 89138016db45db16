"""How the learning rate moves."""

from typing import Any

import numpy as np
import pytest

from xpnet.backends import Backend
from xpnet.nn.schedules import SCHEDULES, learning_rates

HALF = 0.5**0.5

# Of eight steps from a rate of 2.
BY_HAND: dict[tuple[str, int], list[float]] = {
    ("constant", 0): [2, 2, 2, 2, 2, 2, 2, 2],
    ("linear", 0): [2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25],
    ("constant", 4): [0.5, 1, 1.5, 2, 2, 2, 2, 2],
    ("linear", 4): [0.5, 1, 1.5, 2, 2, 1.5, 1, 0.5],
    ("cosine", 4): [0.5, 1, 1.5, 2, 2, 1 + HALF, 1, 1 - HALF],
    ("linear", 7): [2 / 7, 4 / 7, 6 / 7, 8 / 7, 10 / 7, 12 / 7, 2, 2],
}


def rates(schedule: str, *, lr: float, warmup: int, steps: int) -> np.ndarray:
    t = np.arange(steps, dtype=np.float64)
    return np.asarray(learning_rates(np, t, lr=lr, schedule=schedule, warmup=warmup, steps=steps))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("schedule", "warmup"), BY_HAND)
def test_rates_by_hand(schedule: str, warmup: int, dtype: str, backend: Backend, xp: Any) -> None:
    host = np.arange(8, dtype=dtype)
    t = backend.asarray(host)

    found = learning_rates(xp, t, lr=2.0, schedule=schedule, warmup=warmup, steps=8)

    assert found.dtype == backend.dtype(dtype)
    close = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(backend.to_numpy(found), BY_HAND[schedule, warmup], atol=close, rtol=0)
    assert (backend.to_numpy(t) == host).all()


def test_rates_can_be_asked_for_one_by_one(backend: Backend, xp: Any) -> None:
    t = backend.asarray(np.array([7.0, 2.0]))
    found = learning_rates(xp, t, lr=2.0, schedule="linear", warmup=4, steps=8)
    assert backend.to_numpy(found).tolist() == [0.5, 1.5]


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_linear_ends_one_step_above_zero(steps: int) -> None:
    """The rate would be 0 only after the last step; a step of size 0 would be wasted."""
    found = rates("linear", lr=0.3, warmup=0, steps=steps)
    assert found[0] == 0.3
    assert found[-1] == pytest.approx(0.3 / steps, rel=1e-12)
    assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("steps", [1, 2, 7, 1000])
def test_cosine_falls_by_half_in_half_the_time(steps: int) -> None:
    found = rates("cosine", lr=0.3, warmup=0, steps=2 * steps)
    assert found[0] == 0.3
    assert found[steps] == pytest.approx(0.15, rel=1e-12)
    assert 0 < found[-1] <= 0.15 * (1 + 1e-12)
    assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_constant_is_the_rate_to_the_last_bit(steps: int) -> None:
    assert (rates("constant", lr=0.1, warmup=0, steps=steps) == 0.1).all()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup", [1, 2, 3, 7, 10, 49, 99])
def test_warm_up_climbs_in_equal_parts_to_the_rate_itself(schedule: str, warmup: int) -> None:
    lr = 0.1
    found = rates(schedule, lr=lr, warmup=warmup, steps=100)
    np.testing.assert_allclose(found[:warmup], lr * np.arange(1, warmup + 1) / warmup, rtol=1e-15)
    assert found[warmup - 1] == lr
    assert found[warmup] == lr, "the schedule begins after the warm-up, at its top"
    assert (found <= lr).all()
    assert (found > 0).all()
    np.testing.assert_allclose(
        found[warmup:], rates(schedule, lr=lr, warmup=0, steps=100 - warmup), rtol=1e-12
    )
