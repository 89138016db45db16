"""One fixture for every library: `backend`, and `xp`, its namespace.

On a CPU the suite runs on every library, and a missing one is a failure, not a skip. On a GPU,
``pytest --device cuda`` runs the same tests on the libraries that drive it; ``--backend NAME``, which may be
repeated, runs on those alone. The closing lines tell how many tests ran on each.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.variants import FakeDeviceStrict, ReadOnlyNumPy
from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend

REQUIRED = ("numpy", "array-api-strict", "torch", "jax", "dpnp", "mlx")
"""What a whole run on a CPU must have run on."""

VARIANTS = {"numpy-read-only": ReadOnlyNumPy, "array-api-strict-device1": FakeDeviceStrict}


def libraries(config: pytest.Config) -> list[str]:
    """The libraries asked for; otherwise all that drive the device and, on a CPU, the variants of two."""
    kind = config.getoption("device").partition(":")[0]
    found = [name for name in LIBRARIES if kind in backend_class(name).kinds]
    return config.getoption("backend") or ([*found, *VARIANTS] if kind == "cpu" else found)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="run on cpu, cuda, cuda:N, xpu or mps")
    parser.addoption("--backend", action="append", help="run on this library alone; may be repeated")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", libraries(metafunc.config), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a GPU, leave out what does not run on it."""
    if config.getoption("device") != "cpu":
        items[:] = [item for item in items if "backend" in getattr(item, "fixturenames", ())]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A whole run in which a library ran no test is a failure, whatever else passed."""
    config = session.config
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not config.getoption("keyword")
    if hasattr(config, "workerinput") or not whole or config.getoption("device") != "cpu":
        return
    ran = passed_on(config)
    if not config.getoption("backend") and any(not ran[name] for name in REQUIRED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def passed_on(config: pytest.Config) -> Counter[str]:
    """How many tests passed on each library."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    return Counter(
        value
        for report in reporter.getreports("passed")
        for key, value in report.user_properties
        if key == "library"
    )


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Tell how many tests passed on each library."""
    passed = passed_on(config)
    if passed:
        terminalreporter.section(f"tests passed on each library, device {config.getoption('device')}")
        for name in libraries(config):
            terminalreporter.line(f"{name:<26}{passed[name]:>6}")
        for name in set(REQUIRED) - set(passed):
            terminalreporter.line(f"{name}: required, and ran no test")


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A library on a device, ready to compute in float64."""
    name = request.param
    request.node.user_properties.append(("library", name))
    if name in VARIANTS:
        made: Backend = VARIANTS[name]("cpu")
    else:
        made = get_backend(request.config.getoption("device"), name)
    with made.running("float64"):
        yield made


@pytest.fixture
def xp(backend: Backend) -> Any:
    """The namespace that `backend` hands to nn."""
    return backend.xp


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator of its own for every test."""
    return np.random.default_rng(20261122)
