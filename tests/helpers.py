"""What several test files share: catching an error, comparing two runs, and writing damaged files."""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from tests.process import environment
from xpnet import MLP, History, Progress
from xpnet.errors import XpnetError
from xpnet.files import CHECKSUM, checksum_of

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other devices, links and locks")


def pipe(path: Path) -> None:
    """Make a named pipe."""
    os.mkfifo(path)


def refused(call: Callable[[], object], kind: type[Exception] = XpnetError) -> str:
    """Call what must raise an error, an `XpnetError` and no `UsageError`, and return its one line."""
    with pytest.raises(kind) as caught:
        call()
    assert kind is not XpnetError or caught.type is XpnetError
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def bits(model: MLP) -> dict[str, bytes]:
    """The parameters, to be compared exactly."""
    return {name: array.tobytes() for name, array in model.host_parameters().items()}


def timeless(history: History) -> History:
    """A history without its seconds, which differ from run to run."""
    return History([replace(row, seconds=0.0) for row in history.epochs], history.best)


def losses(history: History) -> list[float]:
    """The training losses, then the validation losses."""
    validation = [row.validation_loss for row in history.epochs if "validation_loss" in row.metrics]
    return [row.loss for row in history.epochs] + validation


def isolated(code: str, **extra: str) -> str:
    """What a fresh Python prints."""
    command, known = [sys.executable, "-c", code], environment(None, **extra)
    return subprocess.check_output(command, env=known, text=True, timeout=60).strip()


def answered(what: str, limit: float = 0.0, root: Path | None = None, **task: Any) -> dict[str, Any]:
    """What ``ask`` of bench/workers.py does, without a process of its own."""
    module, _, function = what.partition(".")
    try:
        answer = getattr(importlib.import_module(module), function)(**json.loads(json.dumps(task)))
    except importlib.import_module("trainer").LeftOut as reason:
        answer = {"left_out": str(reason)}
    found: dict[str, Any] = json.loads(json.dumps(answer))
    return found


class Interrupting(Progress):
    """Ctrl-C at a chunk of an epoch. A chunk of 0 means before the first step of the run."""

    def __init__(self, epoch: int, chunk: int) -> None:
        self.at = (epoch, chunk)
        self.seen: dict[int, int] = {}

    def on_start(self, history: History, rows: int, epochs: int) -> None:
        if self.at[1] == 0:
            raise KeyboardInterrupt

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        self.seen[epoch] = self.seen.get(epoch, 0) + 1
        if (epoch, self.seen[epoch]) == self.at:
            raise KeyboardInterrupt


def mapped(path: Path, array: np.ndarray) -> np.ndarray:
    """An array in a file of its own, mapped into memory."""
    np.save(path, array)
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found


def tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays of a file of ours and what describes them, as another program would."""
    with safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["xpnet"])  # noqa: SIM118


def sealed(arrays: dict[str, np.ndarray], described: object) -> str:
    """What describes arrays, as text; with the right checksum, if it has one."""
    if isinstance(described, dict) and CHECKSUM in described:
        described = described | {CHECKSUM: checksum_of(arrays, described)}
    return json.dumps(described, sort_keys=True)


def write_tensors(path: Path, arrays: dict[str, np.ndarray], described: object) -> Path:
    """Write such a file, whatever it holds, with the right checksum if it has one."""
    save_file(arrays, path, metadata={"xpnet": sealed(arrays, described)})
    return path
