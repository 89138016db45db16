"""The two strict variants of the suite really raise: a guard that guards nothing would pass every test."""

from collections.abc import Callable
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

from tests.variants import FakeDeviceStrict, ReadOnlyNumPy
from xpnet.backends import Backend

CPU = strict.Device("CPU_DEVICE")


def scan(backend: Backend, step: Callable[[Any, Any, Any], Any]) -> dict[str, Any]:
    state = {"W1": backend.asarray(np.ones(1))}
    data = {"X": backend.asarray(np.ones((2, 2)))}
    return backend.scan(step, state, backend.asarray(np.zeros((1, 2), dtype=np.int32)), data)


READS: dict[str, Callable[[Any], object]] = {
    "float": float,
    "int": lambda x: int(strict.astype(x, strict.int64)),
    "bool": lambda x: bool(x > 0),
    "complex": lambda x: complex(strict.astype(x, strict.complex128)),
    "index": lambda x: [7, 8, 9][strict.astype(x, strict.int64)],
    "if": lambda x: 1 if x > 0 else 2,
    "iterate": lambda x: list(strict.reshape(x, (1,))),
    "np.asarray": np.asarray,
    "np.from_dlpack": np.from_dlpack,
    "print": str,
    "repr": repr,
    "move": lambda x: x.to_device(CPU),
}


@pytest.mark.parametrize("how", READS)
def test_a_host_read_inside_a_step_raises_on_the_fake_device(how: str) -> None:
    backend = FakeDeviceStrict("cpu")

    def step(state: Any, rows: Any, data: Any) -> Any:
        READS[how](strict.sum(state["W1"]))
        return state

    with backend.running("float64"), pytest.raises(AssertionError, match=r"hidden read|moved to"):
        scan(backend, step)


@pytest.mark.parametrize("how", sorted(set(READS) - {"move"}))
def test_the_same_reads_work_on_its_cpu(how: str) -> None:
    """So it is the device that the guard minds, as a GPU's would be, and not the array."""
    with FakeDeviceStrict("cpu").running("float64"):
        READS[how](strict.asarray(1.0, dtype=strict.float64))


def test_the_fake_device_refuses_arrays_of_the_cpu() -> None:
    backend = FakeDeviceStrict("cpu")
    with backend.running("float64"), pytest.raises(ValueError, match="device"):
        backend.asarray(np.ones(2)) + strict.asarray([1.0, 2.0], dtype=strict.float64)


def test_the_host_reads_the_fake_device_after_the_steps() -> None:
    backend = FakeDeviceStrict("cpu")
    with backend.running("float64"):
        state = scan(backend, lambda state, rows, data: {"W1": state["W1"] + 1.0})
        assert backend.to_numpy(state["W1"]).tolist() == [2.0]


def test_the_guards_are_gone_afterwards() -> None:
    with FakeDeviceStrict("cpu").running("float64"):
        pass
    assert float(strict.asarray(2.5, device=strict.Device("device1"))) == 2.5


@pytest.mark.parametrize("what", ["data", "rows"])
def test_a_step_that_writes_what_it_was_lent_raises_on_read_only_numpy(what: str) -> None:
    def step(state: Any, rows: Any, data: Any) -> Any:
        lent = data["X"] if what == "data" else rows
        lent += 1
        return state

    with pytest.raises(ValueError, match="read-only"):
        scan(ReadOnlyNumPy("cpu"), step)


def test_a_step_may_write_its_state_on_read_only_numpy() -> None:
    def step(state: Any, rows: Any, data: Any) -> Any:
        state["W1"] += 1.0
        return state

    assert scan(ReadOnlyNumPy("cpu"), step)["W1"].tolist() == [2.0]
