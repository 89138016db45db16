"""What NumPy's backend does to be fast, and must not show: memory that is used again, and shorter ways."""

import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.process import environment
from xpnet.backends.products import LARGE, Products, _references

SIDE = int((LARGE / 4) ** 0.5) + 1
"""Of a square of float32 that is large enough to be kept."""


@pytest.fixture
def xp() -> Any:
    return xpnet.get_backend("cpu", "numpy").xp


def square(value: float, side: int = SIDE) -> np.ndarray:
    return np.full((side, side), value, np.float32)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_a_result_that_nobody_refers_to_leaves_its_memory_to_the_next() -> None:
    products = Products()
    first = products.matmul(square(1), square(1))
    where = address(first)
    del first
    second = products.matmul(square(1), square(2))
    assert address(second) == where
    assert (second == 2 * SIDE).all()


@pytest.mark.parametrize(
    "hold", [lambda C: C, lambda C: C[:2], lambda C: C.T, lambda C: C.reshape(-1), memoryview]
)
def test_a_result_stays_as_it_is_while_anything_refers_to_it(hold: Any) -> None:
    products = Products()
    held = hold(products.matmul(square(1), square(1)))
    for value in (2, 3):
        products.matmul(square(1), square(value))
    assert (np.asarray(held) == SIDE).all()


def test_the_products_of_a_step_do_not_share_memory(rng: np.random.Generator) -> None:
    products = Products()
    A = rng.standard_normal((SIDE, SIDE), np.float32)
    results = [products.matmul(A, A) for _ in range(5)]
    assert len({address(C) for C in results}) == 5


def test_no_more_than_so_much_unused_memory_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xpnet.backends.products.SPARE", 5 * LARGE)
    products = Products()
    thin = np.ones((1, 1), np.float32)
    held = products.matmul(np.ones((LARGE // 4, 1), np.float32), thin)
    for rows in range(LARGE // 4 + 1, LARGE // 4 + 20):
        products.matmul(np.ones((rows, 1), np.float32), thin)
    unused = [buffer for buffer in products.buffers if buffer is not held]
    assert len(unused) in (4, 5)  # before the last was made they were within the limit
    assert unused[-1].shape == (LARGE // 4 + 19, 1)
    assert any(buffer is held for buffer in products.buffers)


def test_memory_that_was_made_read_only_is_not_used_again() -> None:
    products = Products()
    first = products.matmul(square(1), square(1))
    first.flags.writeable = False
    del first
    assert (products.matmul(square(1), square(2)) == 2 * SIDE).all()


def test_threads_never_get_the_same_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(arrays: list[np.ndarray], i: int) -> int:
        found = _references(arrays, i)
        time.sleep(1e-4)  # another thread would find the same now, were it not for the lock
        return found

    monkeypatch.setattr("xpnet.backends.products._references", slowly)
    products = Products()

    def work(value: int) -> bool:
        right = True
        for _ in range(20):
            C = products.matmul(square(1), square(value))
            right = right and bool((value * SIDE == C).all())
        return right

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(1, 5)))


def test_other_products_are_numpys_own(rng: np.random.Generator) -> None:
    products = Products()
    stack, vector = rng.standard_normal((2, 3, 3)), rng.standard_normal(3)
    assert (products.matmul(stack, stack) == stack @ stack).all()
    assert (products.matmul(stack[0], vector) == stack[0] @ vector).all()
    mixed = products.matmul(square(1), square(1).astype(np.float64))
    assert mixed.dtype == np.float64
    assert products.buffers == []


def test_a_prediction_is_the_callers_to_keep() -> None:
    model = xpnet.MLP((20, 200))
    rng = np.random.default_rng(0)
    X = rng.standard_normal((2000, 20), np.float32)  # logits of 1.6 MB
    before = model.logits(X)
    copy = before.copy()
    for _ in range(3):
        model.logits(X + 1)
    assert (before == copy).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_shorter_ways_lead_to_the_same(xp: Any, dtype: str, rng: np.random.Generator) -> None:
    x = rng.standard_normal((6, 5)).astype(dtype)
    wide = rng.standard_normal((3, 40)).astype(dtype)
    y = rng.integers(0, 5, 6).astype(np.int32)
    pairs = [
        (xp.astype(x, np.float32), np.astype(x, np.float32)),
        (xp.matrix_transpose(x), np.matrix_transpose(x)),
        (xp.max(x, axis=1, keepdims=True), np.max(x, axis=1, keepdims=True)),
        (xp.max(x, axis=1), np.max(x, axis=1)),
        (xp.max(wide, axis=1, keepdims=True), np.max(wide, axis=1, keepdims=True)),
        (xp.max(x), np.max(x)),
        (xp.maximum(x, 0.0), np.maximum(x, 0.0)),
        (xp.maximum(y, 2), np.maximum(y, 2)),
        (xp.maximum(x, -x), np.maximum(x, -x)),
        (xp.sum(x, axis=0), np.sum(x, axis=0)),
        (xp.sum(x, axis=1, keepdims=True), np.sum(x, axis=1, keepdims=True)),
        (xp.sum(x, axis=1), np.sum(x, axis=1)),
        (xp.sum(wide, axis=1), np.sum(wide, axis=1)),
        (xp.sum(x, axis=1, dtype=np.float64), np.sum(x, axis=1, dtype=np.float64)),
        (xp.sum(x > 0, axis=1), np.sum(x > 0, axis=1)),
        (xp.sum(y), np.sum(y)),
        (xp.sum(x > 0, axis=0), np.sum(x > 0, axis=0)),
        (xp.sum(x, dtype=np.float64), np.sum(x, dtype=np.float64)),
        (xp.take(x, y, axis=0), np.take(x, y, axis=0)),
        (xp.take(y, y), np.take(y, y)),
    ]
    for ours, numpys in pairs:
        assert ours.dtype == numpys.dtype
        assert ours.shape == numpys.shape
        np.testing.assert_allclose(ours, numpys, rtol=1e-6 if numpys.dtype == np.float32 else 1e-14)
    assert xp.astype(x, x.dtype, copy=False) is x
    assert not np.shares_memory(xp.astype(x, x.dtype), x)
    with pytest.raises(IndexError):
        xp.take(x, np.asarray([6]), axis=0)


FAULTS = """
import resource
import sys
import numpy as np
from xpnet import MLP, train

np.save(sys.argv[1], np.zeros((60000, 784), np.uint8))
X, y = np.array(np.load(sys.argv[1], mmap_mode="r")), np.arange(60000, dtype=np.int32) % 10
model = MLP()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
train(model, X, y, epochs=2, batch_size=128, validation=0.0)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before - 2 * X.nbytes / 4096
print(faults / (2 * 469))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the C library of most Linux systems")
def test_a_step_takes_its_memory_from_the_one_before(tmp_path: Path) -> None:
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "2")  # with one it was so before
    ended = subprocess.run(
        [sys.executable, "-c", FAULTS, str(tmp_path / "X.npy")],
        env=environment(None, **threads),
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(ended.stdout) < 50  # page faults a step; over 200 where the memory goes back in between
