"""How the learning rate changes."""

from math import cos, nan, pi
from typing import Any

import numpy as np
import pytest

from xpnet.backends import Backend
from xpnet.nn.schedules import learning_rates
from xpnet.training.settings import plateau

HALF = 0.5**0.5

# of eight steps from a rate of 2
BY_HAND: dict[tuple[str, int], list[float]] = {
    ("constant", 0): [2, 2, 2, 2, 2, 2, 2, 2],
    ("linear", 0): [2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.25],
    ("constant", 4): [0.5, 1, 1.5, 2, 2, 2, 2, 2],
    ("linear", 4): [0.5, 1, 1.5, 2, 2, 1.5, 1, 0.5],
    ("cosine", 4): [0.5, 1, 1.5, 2, 2, 1 + HALF, 1, 1 - HALF],
    ("cosine", 0): [1 + cos(pi * t / 8) for t in range(8)],
    ("linear", 7): [2 / 7, 4 / 7, 6 / 7, 8 / 7, 10 / 7, 12 / 7, 2, 2],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("schedule", "warmup"), BY_HAND)
def test_rates_by_hand(schedule: str, warmup: int, dtype: str, backend: Backend, xp: Any) -> None:
    order = [7, 2, 0, 1, 3, 4, 5, 6]  # steps can be asked for in any order
    t = backend.asarray(np.array(order, dtype=dtype))

    found = learning_rates(xp, t, lr=2.0, schedule=schedule, warmup=warmup, steps=8)

    assert found.dtype == backend.dtype(dtype)
    expected, atol = np.array(BY_HAND[schedule, warmup])[order], 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(backend.to_numpy(found), expected, atol=atol, rtol=0)
    assert backend.to_numpy(t).tolist() == order


def test_the_rate_falls_where_the_score_stops_growing() -> None:
    """After more than `patience` epochs in a row without a better score, which NaN never is."""
    scores = [1.0, 2.0, 2.0, 1.5, nan, 3.0, 3.05, 3.09, 3.2, 3.0, 3.0, 3.0, 3.0, 3.0]
    found = [plateau(scores[:n], patience=1, factor=0.5) for n in range(len(scores) + 1)]
    falls = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3]
    assert found == [0.5**n for n in falls]
