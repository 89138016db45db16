"""What NumPy's backend does to be fast: a step finds its memory where the one before has left it."""

import platform
from pathlib import Path

import pytest

from tests.helpers import isolated

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
