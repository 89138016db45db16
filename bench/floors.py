"""The floor of a training step: its matrix products alone, by the same library and on the same threads.

No step can be faster than these, because it has to do them. Their results go into memory that is kept where
the library allows that, so that nothing but the products is timed.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from workers import Run

import xpnet

Array = Any
Product = tuple[Array, Array, Array]


def products(made: Callable[[tuple[int, ...]], Array], sizes: tuple[int, ...], m: int) -> list[Product]:
    """What is multiplied in one step: left, right, and room for the result.

    Parameters
    ----------
    made
        Makes an array of a shape. Its numbers must be written: pages that nobody has written to are all
        the same one, which never leaves the cache.
    """
    A, dZ = ([made((m, size)) for size in sizes] for _ in range(2))
    W, dW = ([made(pair) for pair in pairwise(sizes)] for _ in range(2))
    forward = [(A[l], W[l], A[l + 1]) for l in range(len(W))]
    weights = [(A[l].T, dZ[l + 1], dW[l]) for l in range(len(W))]
    inputs = [(dZ[l + 1], W[l].T, dZ[l]) for l in range(1, len(W))]
    return forward + weights + inputs


def floor_numpy(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """On NumPy."""
    todo = products(lambda shape: np.ones(shape, np.float32), sizes, m)

    def run(steps: int) -> None:
        for _ in range(steps):
            for left, right, out in todo:
                np.matmul(left, right, out=out)

    return run


def floor_torch(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """On PyTorch."""
    import torch

    todo = products(torch.ones, sizes, m)

    def run(steps: int) -> None:
        for _ in range(steps):
            for left, right, out in todo:
                torch.matmul(left, right, out=out)

    return run


def floor_dpnp(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """On dpnp, which is waited for after every step, because it can hang with many of them under way."""
    backend = xpnet.get_backend("cpu", "dpnp")
    todo = products(lambda shape: backend.asarray(np.ones(shape, np.float32)), sizes, m)

    def run(steps: int) -> None:
        for _ in range(steps):
            for left, right, out in todo:
                backend.module.matmul(left, right, out=out)
            backend.synchronize({"out": out})

    return run


def floor_mlx(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """On MLX, which takes no memory for its results."""
    import mlx.core as mx

    def made(shape: tuple[int, ...]) -> mx.array:
        array = mx.ones(shape)
        mx.eval(array)
        return array

    mx.set_default_device(mx.cpu)
    todo = products(made, sizes, m)

    def run(steps: int) -> None:
        for _ in range(steps):
            mx.eval([mx.matmul(left, right) for left, right, _ in todo])

    return run


def floor_jax(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """On JAX, in one compiled loop.

    XLA would leave out a product that nobody asks for, and move one that never changes out of the loop. So
    each depends on the one before it, the first weights are what the last round made, and every dW is kept.
    """
    import jax
    import jax.numpy as jnp

    X0 = jnp.ones((m, sizes[0]), jnp.float32)
    W0 = [jnp.zeros(pair, jnp.float32) for pair in pairwise(sizes)]  # zeros stay zeros, round after round

    @jax.jit
    def loop(steps: int, X0: Array, W0: list[Array]) -> list[Array]:
        def body(_: int, carry: list[Array]) -> list[Array]:
            W, A = [carry[0], *W0[1:]], [X0]
            for w in W:
                A.append(A[-1] @ w)
            dZ, dW = A[-1], [A[-2].T @ A[-1]]
            for l in range(len(W) - 1, 0, -1):
                dZ = dZ @ W[l].T
                dW.insert(0, A[l - 1].T @ dZ)
            return dW

        made: list[Array] = jax.lax.fori_loop(0, steps, body, W0)
        return made

    def run(steps: int) -> None:
        jax.block_until_ready(loop(steps, X0, W0))

    return run
