"""Random numbers inside a step. Each is computed from its place, so every library draws the same numbers.

A generator that keeps a state would have to be carried from step to step and from library to library. A
counter-based generator has none: the number at a place is a hash of the place, under a key. So a step that is
compiled, captured, resumed, or shared out over processes draws what a plain loop draws.

The hash is Threefry-2x32 with 13 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
1, 2, 3", 2011), in int32, whose sums, products and left shifts wrap around on every library.
"""

from xpnet.nn.typing import Array, Namespace

ROUNDS = 13
"""The fewest that pass the authors' statistical tests (BigCrush)."""

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
"""The constant that makes the third word of the key, so that no key is all zeros."""


def threefry(key: tuple[Array, Array], x0: Array, x1: Array, rounds: int = ROUNDS) -> tuple[Array, Array]:
    """Hash two words under a key of two words.

    Parameters
    ----------
    key
        Two arrays of shape (1,), int32.
    x0, x1
        The counter: int32 arrays of one shape. They are not written.

    Returns
    -------
    x0, x1
        Two int32 arrays of that shape, whose bits pass for independent random bits.
    """
    k0, k1 = key
    schedule = (k0, k1, k0 ^ k1 ^ PARITY)
    x0, x1 = x0 + k0, x1 + k1
    for i in range(rounds):
        r = ROTATIONS[i % 8]
        x0 += x1
        # rotate left; a right shift of int32 repeats the sign, which the mask cuts off
        x1 = (x1 << r) | ((x1 >> (32 - r)) & ((1 << r) - 1))
        x1 ^= x0
        if i % 4 == 3:
            n = i // 4 + 1
            x0 += schedule[n % 3]
            x1 += schedule[(n + 1) % 3] + n
    return x0, x1


def uniform16(
    xp: Namespace, key: tuple[Array, ...], stream: int, places: Array, shape: tuple[int, int]
) -> Array:
    """Draw a whole number from 0 to 65,535 for every element of a matrix.

    A block of the hash gives two words of 32 bits, which serve four columns of a row. A place depends on the
    row and the column alone, so a part of the rows draws what it would draw within the whole.

    Parameters
    ----------
    key
        Arrays of shape (1,), int32: the seed of a run, the number of its step and, for a part of a batch, the
        place of its first row.
    stream
        What the numbers are for: different streams are independent.
    places : (n,) int32
        0, 1, 2, …: at least ``m * ceil(columns / 4)`` of them.
    shape
        (m, columns).

    Returns
    -------
    draws : (m, columns) int32
    """
    m, columns = shape
    blocks = -(-columns // 4)
    x0 = xp.reshape(places[: m * blocks], (m, blocks))
    for first in key[2:]:
        x0 = x0 + first * blocks
    x0, x1 = threefry((key[0], key[1]), x0, xp.full_like(x0, stream))
    words = (x0 & 0xFFFF, (x0 >> 16) & 0xFFFF, x1 & 0xFFFF, (x1 >> 16) & 0xFFFF)
    return xp.concat(words, axis=1)[:, :columns]
