"""The order of the rows: which rows are held back, and which rows form a batch.

Every draw has a random stream of its own, named by its purpose, so that one draw never changes another. A
stream depends only on the seed and its name. So an epoch can be drawn again without the epochs before it, and
a resumed run equals an unbroken one.
"""

import numpy as np

STREAMS = {"weights": 0, "validation": 1, "shuffle": 2, "parity": 3, "test": 4}


def stream(seed: int, name: str, *counters: int) -> np.random.Generator:
    """Make the random generator (Philox) of a key of `STREAMS` and of counters, such as the epoch."""
    key = np.random.SeedSequence(seed, spawn_key=(STREAMS[name], *counters))
    return np.random.Generator(np.random.Philox(key))


def split(y: np.ndarray, fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hold back a fraction of the rows, the same fraction of every class.

    Parameters
    ----------
    y : (n,)
        Labels.
    fraction
        In [0, 1). It is rounded to a whole number of rows for each class, of which one at least is kept.

    Returns
    -------
    training, validation
        Row numbers in ascending order, int32.
    """
    held = np.zeros(len(y), dtype=bool)
    by_class = np.argsort(y, kind="stable")
    for rows in np.split(by_class, np.flatnonzero(np.diff(y[by_class])) + 1):
        count = min(round(fraction * len(rows)), len(rows) - 1)
        held[rng.permutation(rows)[:count]] = True
    return np.flatnonzero(~held).astype(np.int32), np.flatnonzero(held).astype(np.int32)


def batches(rows: np.ndarray, batch_size: int) -> np.ndarray:
    """Cut rows into batches of one size. The last batch is filled up with -1.

    Returns
    -------
    batches : (ceil(n / batch_size), batch_size) int32
    """
    steps = -(-len(rows) // batch_size)
    filled = np.full(steps * batch_size, -1, dtype=np.int32)
    filled[: len(rows)] = rows
    return filled.reshape(steps, batch_size)
