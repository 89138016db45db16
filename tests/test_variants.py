"""The two strict variants really raise: a guard that guards nothing would let every test pass."""

from collections.abc import Callable
from typing import Any

import array_api_strict as strict
import numpy as np
import pytest

from tests.states import move
from tests.variants import FakeDeviceStrict
from xpnet.backends import Backend


def scan(backend: Backend, step: Callable[[Any, Any, Any], Any]) -> dict[str, Any]:
    """Take one step with the state W1 = [1]."""
    given = move(backend, {"W1": np.ones(1), "X": np.ones((2, 2)), "rows": np.zeros((1, 2), dtype=np.int32)})
    return backend.scan(step, {"W1": given["W1"]}, given["rows"], {"X": given["X"]})


READS: dict[str, Callable[[Any], object]] = {
    "float": float,
    "int": lambda x: int(strict.astype(x, strict.int64)),
    "bool": lambda x: bool(x > 0),
    "complex": lambda x: complex(strict.astype(x, strict.complex128)),
    "index": lambda x: [7, 8, 9][strict.astype(x, strict.int64)],
    "iterate": lambda x: list(strict.reshape(x, (1,))),
    "np.asarray": np.asarray,
    "np.from_dlpack": np.from_dlpack,
    "print": str,
    "repr": repr,
    "move": lambda x: x.to_device(strict.Device("CPU_DEVICE")),
}


@pytest.mark.parametrize("how", READS)
def test_a_host_read_inside_a_step_raises_on_the_fake_device_only(how: str) -> None:
    backend = FakeDeviceStrict("cpu")

    def step(state: Any, rows: Any, data: Any) -> Any:
        READS[how](strict.sum(state["W1"]))
        return state

    with backend.running("float64"):
        with pytest.raises(AssertionError, match=r"hidden read|moved to"):
            scan(backend, step)
        READS[how](strict.asarray(1.0, dtype=strict.float64))  # of the CPU
    assert float(strict.asarray(2.5, device=backend.device_object)) == 2.5  # the guards are gone
