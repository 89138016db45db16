"""The random numbers inside a step: known answers, the same words everywhere, and statistical tests.

Every statistic below is that of a fixed key, from numbers that are the same on every library. It must lie
within five standard deviations of its mean. Good random numbers fail that a few times in a million keys. The
faults of a generator are hundreds of deviations wide, because a bit or a column repeats another.
"""

from typing import Any

import numpy as np
import pytest

from tests.oracles import on
from xpnet.backends import Backend
from xpnet.backends.numpy import NumPyBackend
from xpnet.nn.random import threefry, uniform16

SIGMAS = 5
NUMPY = NumPyBackend("cpu")

# the file kat_vectors of Random123, threefry2x32 with 13 rounds: counter, key, result
ZERO, ONES = (0, 0), (2**32 - 1, 2**32 - 1)
PI = (0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344)
KNOWN = [
    (ZERO, ZERO, (0x9D1C5EC6, 0x8BD50731)),
    (ONES, ONES, (0xFD36D048, 0x2D17272C)),
    (*PI, (0xBA3E4725, 0xF27D669E)),
]


def words(*values: Any) -> tuple[np.ndarray, ...]:
    """Words of 32 bits as int32 arrays of shape (n,)."""
    return tuple(np.atleast_1d(np.array(x)).astype(np.uint32).view(np.int32) for x in values)


def hashes(xp: Any, key: Any, x: Any) -> tuple[Any, ...]:
    return threefry(key, x[0], x[1])


def hashed(key: tuple[int, int], counter: tuple[int, int]) -> tuple[int, int]:
    """Threefry-2x32 with 13 rounds as the paper writes it: on unsigned words, one block."""
    x, k = list(counter), [*key, key[0] ^ key[1] ^ 0x1BD11BDA]
    for i in range(13):
        if i % 4 == 0:
            x = [(x[0] + k[i // 4 % 3]) % 2**32, (x[1] + k[(i // 4 + 1) % 3] + i // 4) % 2**32]
        r = (13, 15, 26, 6, 17, 29, 16, 24)[i % 8]
        x[0] = (x[0] + x[1]) % 2**32
        x[1] = ((x[1] << r | x[1] >> 32 - r) % 2**32) ^ x[0]
    return x[0], x[1]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_known_answers(counter: Any, key: Any, expected: Any, backend: Backend) -> None:
    assert on(backend, hashes, key=words(*key), x=words(*counter)) == words(*expected)


def draws(xp: Any, stream: int, shape: tuple[int, int], key: Any, places: Any) -> Any:
    return uniform16(xp, key, stream, places, shape)


def draw(backend: Backend, m: int = 128, columns: int = 512, stream: int = 0, **key: int) -> np.ndarray:
    """What `uniform16` draws for m rows."""
    blocks = -(-columns // 4)
    places = np.arange(m * blocks + 3, dtype=np.int32)
    words_of_key = words(key.get("seed", 7), key.get("step", 1))
    found: np.ndarray = on(backend, draws, stream, (m, columns), key=words_of_key, places=places)
    assert (str(found.dtype), found.shape) == ("int32", (m, columns))
    return found


@pytest.mark.parametrize("columns", [1, 4, 13])
def test_every_element_is_a_quarter_of_the_hash_of_its_place(columns: int, backend: Backend) -> None:
    """The low and the high half of each word serve one column each; the counter is (place, stream)."""
    expected, blocks = np.empty((6, columns), np.int32), -(-columns // 4)
    for i, j in np.ndindex(expected.shape):
        x = hashed((2**31 + 5, 9), (i * blocks + j % blocks, 2))
        expected[i, j] = (x[0] % 2**16, x[0] >> 16, x[1] % 2**16, x[1] >> 16)[j // blocks]
    found = draw(backend, 6, columns, seed=2**31 + 5, step=9, stream=2)
    np.testing.assert_array_equal(found, expected)


def deviations(found: np.ndarray, bins: int) -> float:
    """Chi-square of the counts of integers below `bins`, from its mean, in standard deviations."""
    counts, expected = np.bincount(found.ravel(), minlength=bins), found.size / bins
    return float((np.sum((counts - expected) ** 2) / expected - (bins - 1)) / (2 * (bins - 1)) ** 0.5)


def test_values_are_uniform() -> None:
    """Both bytes of the values and their 12 high bits: 65,536 draws."""
    found = draw(NUMPY)
    for part, bins in ((found >> 8, 256), (found & 255, 256), (found >> 4, 4096)):
        assert abs(deviations(part, bins)) < SIGMAS


def test_draws_are_independent_of_each_other() -> None:
    """Correlations have the deviation n^-1/2; four bits of each fill 256 bins evenly.

    A block serves four columns that lie 128 apart.
    """
    found = draw(NUMPY)
    for name, (a, b) in {
        "next column": (found[:, :-1], found[:, 1:]),
        "halves of a word": (found[:, :128], found[:, 128:256]),
        "words of a block": (found[:, :128], found[:, 256:384]),
        "next row": (found[:-1], found[1:]),
        "next step": (found, draw(NUMPY, step=2)),
        "a step far away": (found, draw(NUMPY, step=2**20 + 1)),
        "next layer": (found, draw(NUMPY, stream=1)),
        "next seed": (found, draw(NUMPY, seed=8)),
        "seed and step exchanged": (found, draw(NUMPY, seed=1, step=7)),
    }.items():
        a, b = a.ravel(), b.ravel()
        assert abs(np.corrcoef(a, b)[0, 1]) < SIGMAS * a.size**-0.5, name
        for high, low in ((a >> 12, b >> 12), (a & 15, b & 15), (a >> 12, b & 15)):
            assert abs(deviations(16 * high + low, 256)) < SIGMAS, name
