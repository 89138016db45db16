"""The fixtures `backend` and `xp`, which run a test on every library, and the rules for missing libraries.

A whole run, ``pytest`` without arguments, uses every library that runs on a CPU, and fails if one is missing.
``--backend NAME``, which may be repeated, runs the tests on the named libraries only. Such a run skips a test
that needs a module which is not installed, and names the module. ``--device cuda`` runs the tests that use
`backend` on a GPU. ``-m "not slow"`` leaves out what takes longest. The closing lines count the tests that
passed on each library.
"""

import gc
from collections import Counter
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import pytest

from tests.variants import FakeDeviceStrict, ReadOnlyNumPy
from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend

REQUIRED = ("numpy", "array-api-strict", "torch", "jax", "dpnp", "mlx")
"""The libraries on which a whole run on a CPU must pass tests."""

VARIANTS = {"numpy-read-only": ReadOnlyNumPy, "array-api-strict-device1": FakeDeviceStrict}


def libraries(config: pytest.Config) -> list[str]:
    """List the libraries to test: those named, or all that drive the device, with the variants on a CPU."""
    kind = config.getoption("device").partition(":")[0]
    found = [name for name in LIBRARIES if kind in backend_class(name).kinds]
    return config.getoption("backend") or ([*found, *VARIANTS] if kind == "cpu" else found)


def made(config: pytest.Config, name: str) -> Backend:
    """One of `libraries`, on the device to test."""
    return VARIANTS[name]("cpu") if name in VARIANTS else get_backend(config.getoption("device"), name)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="run on cpu, cuda, cuda:N, xpu or mps")
    parser.addoption("--backend", action="append", help="run on this library only; may be repeated")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", libraries(metafunc.config), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On a GPU, keep only the tests that run on it."""
    if config.getoption("device") != "cpu":
        items[:] = [item for item in items if "backend" in getattr(item, "fixturenames", ())]


def pytest_collection_finish() -> None:
    """Spare the garbage collector the libraries, which are imported now and stay."""
    gc.freeze()


def reason_to_skip(config: pytest.Config, error: BaseException | None) -> str | None:
    """Name the missing module that caused an error, if libraries were named; a whole run needs them all."""
    while error is not None and config.getoption("backend"):
        module = error.name if isinstance(error, ModuleNotFoundError) else None
        if module and module.partition(".")[0] not in ("tests", "xpnet"):
            return f"needs {module}, which is not installed"
        error = error.__cause__
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """Skip a file of tests that imports a missing module, where that is allowed."""
    report = yield
    excinfo = report.call.excinfo
    reason = reason_to_skip(collector.config, excinfo.value) if excinfo else None
    if reason:
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, f"Skipped: {reason}")
    return report


def skipping(item: pytest.Item) -> Generator[None, Any, Any]:
    """Skip a test that needs a missing module, where that is allowed."""
    try:
        return (yield)
    except Exception as error:  # a contestant that is left out wraps it as well
        if reason := reason_to_skip(item.config, error):
            pytest.skip(reason)
        raise


pytest_runtest_setup = pytest.hookimpl(wrapper=True)(skipping)
pytest_runtest_call = pytest.hookimpl(wrapper=True)(skipping)


def is_whole(config: pytest.Config) -> bool:
    """Whether every library must run: nothing was chosen but marks, and the device is a CPU."""
    chosen = any(config.getoption(option) for option in ("backend", "keyword", "collectonly"))
    without_paths = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    return without_paths and not chosen and config.getoption("device") == "cpu"


def passed_on(config: pytest.Config) -> Counter[str]:
    """Count the tests that passed on each library."""
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    passed = (report.user_properties for report in reporter.getreports("passed"))
    return Counter(value for properties in passed for key, value in properties if key == "library")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a whole run in which no test passed on a required library."""
    config = session.config
    if not hasattr(config, "workerinput") and is_whole(config) and set(REQUIRED) - set(passed_on(config)):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print how many tests passed on each library."""
    passed = passed_on(config)
    if passed or is_whole(config):
        terminalreporter.section(f"tests passed on each library, device {config.getoption('device')}")
        for name in libraries(config):
            missing = is_whole(config) and name in REQUIRED and not passed[name]
            terminalreporter.line(f"{name:<26}{passed[name]:>6}{'  a whole run needs it' if missing else ''}")


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A library on a device, ready to compute in float64."""
    request.node.user_properties.append(("library", request.param))
    found = made(request.config, request.param)
    with found.running("float64"):
        yield found


@pytest.fixture
def xp(backend: Backend) -> Any:
    """The namespace that `backend` hands to nn."""
    return backend.xp


@pytest.fixture
def rng() -> np.random.Generator:
    """A new generator with a fixed seed for every test."""
    return np.random.default_rng(20261122)
