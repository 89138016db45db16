"""The order of the rows: which are held back, and which come together in a batch.

Every draw comes from a stream of its own, named by what it is for, so that asking for one thing never
changes another. A stream depends on nothing but the seed and its name: an epoch can be drawn again
without the ones before it, which is what makes a resumed run equal to an unbroken one.
"""

import numpy as np

STREAMS = {"weights": 0, "validation": 1, "shuffle": 2, "parity": 3}


def stream(seed: int, name: str, *counters: int) -> np.random.Generator:
    """A generator (Philox) of its own for a key of `STREAMS` and, say, an epoch."""
    key = np.random.SeedSequence(seed, spawn_key=(STREAMS[name], *counters))
    return np.random.Generator(np.random.Philox(key))


def split(y: np.ndarray, fraction: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hold back a fraction of the rows, the same fraction of every class.

    Parameters
    ----------
    y : (n,)
        Labels.
    fraction
        In [0, 1). A class gives its nearest whole number of rows, and keeps at least one.

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
    """Cut rows into batches of one size, the last one filled up with -1.

    Returns
    -------
    batches : (ceil(n / batch_size), batch_size) int32
    """
    steps = -(-len(rows) // batch_size)
    filled = np.full(steps * batch_size, -1, dtype=np.int32)
    filled[: len(rows)] = rows
    return filled.reshape(steps, batch_size)
