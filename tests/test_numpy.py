"""What NumPy's backend does to be fast, and must not show: memory that is used again, and shorter ways."""

import platform
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import isolated
from xpnet.backends.products import LARGE, Products, _references

SIDE = int((LARGE / 4) ** 0.5) + 1
"""Of a square of float32 that is large enough to be kept."""


def square(value: float, side: int = SIDE) -> np.ndarray:
    return np.full((side, side), value, np.float32)


def address(array: np.ndarray) -> int:
    return int(array.ctypes.data)


def test_a_result_that_nobody_refers_to_leaves_its_memory_to_the_next() -> None:
    products = Products()
    held = [products.matmul(square(1), square(1)) for _ in range(5)]
    addresses = [address(C) for C in held]
    assert len(set(addresses)) == 5
    held.pop(1)
    second = products.matmul(square(1), square(2))
    assert address(second) == addresses[1]
    assert (second == 2 * SIDE).all()
    second.flags.writeable = False
    del second
    assert (products.matmul(square(1), square(3)) == 3 * SIDE).all()


@pytest.mark.parametrize(
    "hold", [lambda C: C, lambda C: C[:2], lambda C: C.T, lambda C: C.reshape(-1), memoryview]
)
def test_a_result_stays_as_it_is_while_anything_refers_to_it(hold: Any) -> None:
    products = Products()
    held = hold(products.matmul(square(1), square(1)))
    for value in (2, 3):
        products.matmul(square(1), square(value))
    assert (np.asarray(held) == SIDE).all()


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


FAULTS = """
import resource
import numpy as np
from xpnet import MLP, train

np.save({path!r}, np.zeros((60000, 784), np.uint8))
X, y = np.array(np.load({path!r}, mmap_mode="r")), np.arange(60000, dtype=np.int32) % 10
model = MLP()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
train(model, X, y, epochs=2, batch_size=128, validation=0.0)
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before - 2 * X.nbytes / 4096
print(faults / (2 * 469))
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="about the C library of most Linux systems")
def test_a_step_takes_its_memory_from_the_one_before(tmp_path: Path) -> None:
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"), "2")  # with one it was so before
    faults = float(isolated(FAULTS.format(path=str(tmp_path / "X.npy")), **threads))
    assert faults < 50  # page faults a step; over 200 where the memory goes back in between
