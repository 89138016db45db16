"""The order of the rows: streams of random numbers, the rows held back, and the batches."""

import numpy as np
import pytest

from xpnet.data.rows import STREAMS, batches, split, stream


@pytest.mark.parametrize(
    ("name", "counters", "draws", "permutation", "normal"),
    [
        ("weights", (), [143, 721, 3, 26], [5, 3, 0, 4, 2, 1], 0.15804250808871675),
        ("validation", (), [651, 674, 992, 478], [4, 5, 0, 2, 1, 3], -0.19406034503853545),
        ("shuffle", (1,), [740, 520, 512, 376], [2, 1, 5, 0, 4, 3], -1.2198649152590388),
    ],
)
def test_seed_means_the_same_in_every_version(
    name: str, counters: tuple[int, ...], draws: list[int], permutation: list[int], normal: float
) -> None:
    assert stream(0, name, *counters).integers(0, 1000, 4).tolist() == draws
    assert stream(0, name, *counters).permutation(6).tolist() == permutation
    assert float(stream(7, name, *counters).standard_normal()) == normal


def test_streams_of_different_seeds_names_and_epochs_differ() -> None:
    keys = [(seed, name, epoch) for seed in (0, 1) for name in STREAMS for epoch in (1, 2)]
    drawn = {tuple(stream(seed, name, epoch).integers(0, 2**32, 4)) for seed, name, epoch in keys}
    drawn |= {tuple(stream(seed, name).integers(0, 2**32, 4)) for seed in (0, 1) for name in STREAMS}
    assert len(drawn) == len(keys) + 2 * len(STREAMS)


@pytest.mark.parametrize("fraction", [0.0, 0.1, 0.25, 0.5, 0.99])
def test_split_covers_every_row_once_in_order(rng: np.random.Generator, fraction: float) -> None:
    y = rng.integers(0, 5, 203)
    training, held = split(y, fraction, stream(0, "validation"))
    assert training.dtype == held.dtype == np.int32
    assert sorted([*training, *held]) == list(range(203))
    assert (np.diff(training) > 0).all()
    assert (np.diff(held) > 0).all()


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.1, [10, 4, 1, 0]), (0.25, [25, 10, 2, 0]), (0.0, [0] * 4)]
)
def test_split_takes_the_same_share_of_every_class(fraction: float, counts: list[int]) -> None:
    y = np.repeat([0, 1, 2, 3], [100, 40, 8, 1])
    _, held = split(y, fraction, stream(0, "validation"))
    assert np.bincount(y[held], minlength=4).tolist() == counts


@pytest.mark.parametrize("fraction", [0.5, 0.9, 0.999])
def test_every_class_keeps_a_row_to_learn_from(fraction: float) -> None:
    y = np.repeat([0, 1, 2, 7], [1, 2, 3, 50])
    training, _ = split(y, fraction, stream(0, "validation"))
    assert set(y[training]) == {0, 1, 2, 7}


def test_split_of_a_seed_stays() -> None:
    y = np.array([0] * 6 + [1] * 4)
    training, held = split(y, 0.5, stream(0, "validation"))
    assert training.tolist() == [1, 2, 3, 8, 9]
    assert held.tolist() == [0, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("rows", "batch_size", "expected"),
    [
        ([5, 3, 1, 4], 2, [[5, 3], [1, 4]]),
        ([5, 3, 1, 4, 0], 2, [[5, 3], [1, 4], [0, -1]]),
        ([5, 3], 4, [[5, 3, -1, -1]]),
        ([5, 3, 1], 1, [[5], [3], [1]]),
        ([], 4, []),
    ],
)
def test_batches_keep_the_order_and_fill_up_with_minus_one(
    rows: list[int], batch_size: int, expected: list[list[int]]
) -> None:
    made = batches(np.array(rows, dtype=np.int32), batch_size)
    assert (made.tolist(), made.shape) == (expected, (len(expected), batch_size))
    assert made.dtype == np.int32
