"""A proof that the proof works: each of the faults in `tests.faults` makes a named file of tests fail."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import FAULTS

pytestmark = pytest.mark.slow


def run(fault: str, library: str, *tests: str) -> tuple[int, str]:
    """Run files of tests with a planted fault, on one library, up to the first failure."""
    options = ["-qx", "-n", "0", "-p", "no:cacheprovider", "--tb=line", "-p", "tests.faults"]
    options += ["-m", "not slow", "--fault", fault, "--backend", library]
    files = [f"tests/test_{name}.py" for name in tests]
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *files],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.mark.parametrize("name", FAULTS)
def test_the_planted_fault_is_noticed(name: str, pytestconfig: pytest.Config) -> None:
    code, output = run(name, FAULTS[name].library, FAULTS[name].tests)
    missing = re.search(r"needs \w+, which is not installed", output)
    if code == 0 and missing and pytestconfig.getoption("backend"):  # a whole run needs every library
        pytest.skip(f"the tests that notice it are left out: {missing[0]}")
    assert (code, "1 failed" in output) == (1, True), output[-2000:]
    assert not re.search(r": (TypeError|NameError|AttributeError)", output), "the fault itself cannot run"


@pytest.mark.parametrize("library", sorted({fault.library for fault in FAULTS.values()}))
def test_planting_the_right_functions_is_not_noticed(library: str) -> None:
    tests = {fault.tests for fault in FAULTS.values() if fault.library == library}
    code, output = run("none", library, *tests)
    assert code == 0, output[-2000:]
