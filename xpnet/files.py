"""Files that are either whole or not there, and never executed when read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import XpnetError

METADATA = "xpnet"
"""The one metadata key of our safetensors files: several would come out in random order."""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file under another name, then rename it into place: a reader sees the old or the new one.

    Raises
    ------
    XpnetError
        The folder cannot be made or written, or the disk is full. What stood at `path` still stands.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise XpnetError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, atomically; a number that is not finite is an error."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def write_tensors(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write arrays and what describes them as one safetensors file, atomically, equal bytes for equal input.

    Parameters
    ----------
    metadata
        Whatever JSON can hold.

    Raises
    ------
    XpnetError
        As `write_atomically`.
    """
    from safetensors.numpy import save

    # safetensors 0.8 writes an array that is not C-contiguous wrongly, and says nothing
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = json.dumps(metadata, sort_keys=True)
    write_atomically(path, save(whole, metadata={METADATA: text}))


def read_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `write_tensors` wrote.

    Raises
    ------
    XpnetError
        The file is missing, cut off, not safetensors, or not ours.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            metadata = (file.metadata() or {}).get(METADATA)
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, TypeError, AttributeError) as error:
        raise XpnetError(f"{path}: not a safetensors file, or cut off ({error})") from error
    except OSError as error:
        # safetensors raises some of these itself, without an errno
        raise XpnetError(f"{path}: {error.strerror or 'no such file, or not readable'}") from error
    try:
        described = json.loads(metadata or "")
    except (ValueError, RecursionError) as error:
        raise XpnetError(f"{path}: not written by xpnet (no metadata {METADATA!r})") from error
    if not isinstance(described, dict):
        raise XpnetError(f"{path}: not written by xpnet (metadata {METADATA!r} is not an object)")
    return arrays, described


def append_line(path: Path, line: str) -> None:
    """Append a line to a file that is there: all of it or, if the disk is full, nothing.

    Raises
    ------
    XpnetError
        The file is not there, or cannot be written.
    """
    content = line.encode()
    try:
        with path.open("r+b", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if file.write(content) < len(content):
                file.truncate(end)
                raise OSError("the disk is full")
    except OSError as error:
        raise XpnetError(f"{path}: cannot be written: {error.strerror or error}") from error
