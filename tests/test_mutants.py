"""A proof that the proof works: faults planted in the mathematics, one by one, and the test that sees each.

=====================================  ===========================================================
fault                                  seen by
=====================================  ===========================================================
dZ = A + Y: a sign                     test_by_hand
dA = dZ W: a transpose                 test_by_hand
dW = A^T dZ without the transpose      test_by_hand
no 1/m in dZ                           test_by_hand
a bias not summed over the rows        test_by_hand
a bias not added                       test_by_hand
relu' = 1 at zero                      test_activations
relu's mask from the layer below       test_gradients
tanh' = 1 - A                          test_activations
sigmoid' = A (1 - Z)                   test_activations
softmax without its shift              test_loss
the loss sums the wrong log A          test_loss
He's variance by fan_out               test_network
Glorot's interval too short            test_network
weight decay on a bias                 test_optimizers
weight decay after the momentum        test_optimizers
momentum applied twice                 test_optimizers
Nesterov without looking ahead         test_optimizers
Adam's bias correction off by one      test_optimizers
Adam's epsilon under the root          test_optimizers
warm-up one step late                  test_schedules
a schedule over one step too many      test_schedules
a rate read one step late              test_step
steps counted twice                    test_step
rows that fill up count                test_step
integers not scaled                    test_step
float32 where float64 was asked for    test_step
a host read inside a step              test_step, on a fake device
an array made on the wrong device      test_step, on a fake device
the rows written to                    test_step, on read-only NumPy
evaluation counts what fills up        test_step
=====================================  ===========================================================

Each is planted in a copy of the package, and the named file of tests must fail there on one library; on a
copy without a fault it must pass.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FAKE = "array-api-strict-device1"


class Fault(NamedTuple):
    """A line of nn/, what it becomes, the tests that must see it, and the library that they run on."""

    name: str
    file: str
    line: str
    becomes: str
    tests: str
    library: str = "numpy"


FAULTS = [
    Fault("sign", "loss", "dZ -= Y", "dZ += Y", "by_hand"),
    Fault("transpose-W", "dense", "xp.matmul(dZ, xp.matrix_transpose(W))", "xp.matmul(dZ, W)", "by_hand"),
    Fault("transpose-A", "dense", "xp.matmul(xp.matrix_transpose(A), dZ)", "xp.matmul(A, dZ)", "by_hand"),
    Fault("no-1/m", "step", "weights / xp.sum(weights)", "weights", "by_hand"),
    Fault("bias-not-summed", "dense", "db = xp.sum(dZ, axis=0)", "db = dZ[0, :]", "by_hand"),
    Fault("bias-not-added", "dense", "    Z += b\n", "", "by_hand"),
    Fault("relu-at-zero", "activations", "astype(Z > 0", "astype(Z >= 0", "activations"),
    Fault("relu-mask", "network", "Z[l - 1], A[l - 1])\n    return", "Z[1], A[1])\n    return", "gradients"),
    Fault("tanh-slope", "activations", "1.0 - A * A", "1.0 - A", "activations"),
    Fault("sigmoid-slope", "activations", "dA * A * (1.0 - A)", "dA * A * (1.0 - Z)", "activations"),
    Fault("softmax-shift", "loss", "Z - xp.max(Z, axis=1, keepdims=True)", "Z + 0.0", "loss"),
    Fault("wrong-log", "loss", "-xp.sum(Y * log_A, axis=1)", "-xp.sum((1.0 - Y) * log_A, axis=1)", "loss"),
    Fault("he-fan-out", "initializers", "(2.0 / fan_in)", "(2.0 / fan_out)", "network"),
    Fault("glorot-short", "initializers", "(6.0 /", "(3.0 /", "network"),
    Fault("decay-on-bias", "optimizers", " and is_weight(name):\n                dW += self.weight_decay * W\n            if self", ":\n                dW += self.weight_decay * W\n            if self", "optimizers"),
    Fault("decay-late", "optimizers", "v += dW\n", "v += dW - self.weight_decay * W\n", "optimizers"),
    Fault("momentum-twice", "optimizers", "v *= self.momentum", "v *= self.momentum**2", "optimizers"),
    Fault("nesterov", "optimizers", "dW + self.momentum * v", "self.momentum * v", "optimizers"),
    Fault("adam-correction", "optimizers", "c1 *= self.beta1\n        c1 += 1.0 - self.beta1", "c1 += 1.0 - self.beta1\n        c1 *= self.beta1", "optimizers"),
    Fault("adam-epsilon", "optimizers", "(xp.sqrt(s / c2) + self.epsilon)", "xp.sqrt(s / c2 + self.epsilon)", "optimizers"),
    Fault("warm-up-late", "schedules", "(t + 1.0) / max", "t / max", "schedules"),
    Fault("schedule-long", "schedules", "/ (steps - warmup)", "/ (steps - warmup + 1)", "schedules"),
    Fault("rate-late", "step", 'state["rates"], state["t"]', 'state["rates"], xp.maximum(state["t"] - 1, 0)', "step"),
    Fault("counted-twice", "step", 'state["t"] += 1', 'state["t"] += 2', "step"),
    Fault("padding-counts", "step", "xp.astype(rows >= 0, dtype)", "xp.astype(rows >= -1, dtype)", "step"),
    Fault("not-scaled", "step", "X /= scale", "X /= 1.0", "step"),
    Fault("float32", "step", 'axis=0), dtype, copy=False)', 'axis=0), xp.float32, copy=False)', "step"),
    Fault("host-read", "step", '+= xp.sum(weights * losses)', '+= float(xp.sum(weights * losses))', "step", FAKE),
    Fault("wrong-device", "step", 'data["classes"], dtype', 'xp.arange(data["classes"].shape[0]), dtype', "step", FAKE),
    Fault("data-written", "step", "    X = xp.astype", '    data["X"] *= 1\n    X = xp.astype', "step", "numpy-read-only"),
    Fault("evaluation-padding", "step", "Y *= weights[:, None]", "Y *= 1.0", "step"),
]  # fmt: skip


def copied(folder: Path) -> Path:
    """A copy of the package and its tests; the images are linked, not copied."""
    leave = shutil.ignore_patterns("__pycache__", "mnist")
    shutil.copytree(ROOT / "xpnet", folder / "xpnet", ignore=leave)
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=leave)
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "xpnet" / "data" / "mnist").symlink_to(ROOT / "xpnet" / "data" / "mnist")
    return folder


def run(folder: Path, tests: str, library: str) -> subprocess.CompletedProcess[str]:
    """Run a file of tests in a copy, on one library, up to the first failure."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "no:cacheprovider"]
    return subprocess.run(
        [*command, "--backend", library, f"tests/test_{tests}.py"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_the_planted_fault_is_seen(fault: Fault, tmp_path: Path) -> None:
    copy = copied(tmp_path)
    source = copy / "xpnet" / "nn" / f"{fault.file}.py"
    text = source.read_text()
    assert text.count(fault.line) == 1, (
        f"{fault.line!r} stands {text.count(fault.line)} times in {source.name}"
    )
    source.write_text(text.replace(fault.line, fault.becomes))

    result = run(copy, fault.tests, fault.library)
    assert result.returncode == 1, result.stdout[-2000:] + result.stderr[-2000:]
    assert "1 failed" in result.stdout, result.stdout[-2000:]


@pytest.mark.parametrize(
    ("tests", "library"), sorted({(fault.tests, fault.library) for fault in FAULTS}), ids=str
)
def test_without_a_fault_the_same_tests_pass(tests: str, library: str, tmp_path: Path) -> None:
    result = run(copied(tmp_path), tests, library)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]


def test_the_list_is_the_one_that_is_published() -> None:
    assert __doc__ is not None
    table = __doc__.split("=\n")[2:3][0].splitlines()[:-1]
    assert len(table) == len(FAULTS)
    for line, fault in zip(table, FAULTS, strict=True):
        assert f"test_{fault.tests}" in line
