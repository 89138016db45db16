"""A proof that the proof works: each of the faults in `tests.faults` makes a named file of tests fail."""

import json
import re
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from tests.faults import FAULTS

pytestmark = pytest.mark.slow

HOMES = sorted({(fault.library, fault.tests) for fault in FAULTS.values()})
LIBRARIES = {library: [*homes] for library, homes in groupby(HOMES, lambda home: home[0])}


def run(faults: list[str], library: str, *tests: str) -> dict[str, tuple[int, str]]:
    """Run files of tests on one library, once with each planted fault, up to the first failure."""
    files = [f"tests/test_{name}.py" for name in tests]
    ended = subprocess.run(
        [sys.executable, "-c", "from tests.faults import main; main()", json.dumps([faults, library, files])],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found: dict[str, tuple[int, str]] = json.loads(ended.stdout)
    return found


@pytest.mark.parametrize(("library", "tests"), HOMES)
def test_the_planted_faults_are_noticed(library: str, tests: str, pytestconfig: pytest.Config) -> None:
    faults = [name for name, fault in FAULTS.items() if (fault.library, fault.tests) == (library, tests)]
    found = run(faults, library, tests)
    assert [*found] == faults
    for name, (code, output) in found.items():
        missing = re.search(r"needs \w+, which is not installed", output)
        if code == 0 and missing and pytestconfig.getoption("backend"):  # a whole run needs every library
            pytest.skip(f"the tests that notice it are left out: {missing[0]}")
        assert (name, code, "1 failed" in output) == (name, 1, True), output[-2000:]
        assert not re.search(r": (TypeError|NameError|AttributeError)", output), f"{name} cannot run"


@pytest.mark.parametrize("library", LIBRARIES)
def test_planting_the_right_functions_is_not_noticed(library: str) -> None:
    code, output = run(["none"], library, *(tests for _, tests in LIBRARIES[library]))["none"]
    assert code == 0, output[-2000:]
