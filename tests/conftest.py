"""One fixture for every library: `backend`, and `xp`, its namespace.

On a CPU the suite runs on every library of the list below, and a missing one is a failure. On a GPU,
``pytest --device cuda`` runs the same tests on the libraries that drive it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.variants import FakeDeviceStrict, ReadOnlyNumPy
from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend

VARIANTS = {"numpy-read-only": ReadOnlyNumPy, "array-api-strict-device1": FakeDeviceStrict}


def libraries(device: str) -> list[str]:
    """Every library that drives a kind of device and, on a CPU, the variants of two of them."""
    kind = device.partition(":")[0]
    found = [name for name in LIBRARIES if kind in backend_class(name).kinds]
    return [*found, *VARIANTS] if kind == "cpu" else found


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="run the suite on cpu, cuda or cuda:N")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        names = libraries(metafunc.config.getoption("device"))
        metafunc.parametrize("backend", names, indirect=True)


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """A library on a device, ready to compute in float64."""
    name = request.param
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
