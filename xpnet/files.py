"""Reads files with care, and writes them so that they are either whole or not there."""

import json
import os
import secrets
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from stat import S_ISREG
from typing import Any, TypeAlias

import numpy as np

from xpnet.arguments import brief, instance
from xpnet.errors import XpnetError
from xpnet.schema import Kind, check

FilePath: TypeAlias = str | os.PathLike[str]

METADATA = "xpnet"
"""The one metadata key of our safetensors files: several keys would come out in random order."""

CHECKSUM = "checksum"
CHECKED = {CHECKSUM: range(2**32)}
"""The field that holds the checksum of a file: CRC-32 of its other fields and of its arrays."""

LONGEST_JSON = 2**22
"""The most characters of JSON that are read or written."""


def status(path: FilePath, *, follow: bool = True) -> os.stat_result | None:
    """Ask the system about a path. The answer is None if there is nothing of that name.

    Parameters
    ----------
    follow
        Look at what a symbolic link points to, rather than at the link.

    Raises
    ------
    UsageError
        It is no path.
    XpnetError
        The system refuses, or no file can have such a name.
    """
    instance("path", path, (str, os.PathLike), "a path")
    try:
        return os.stat(path, follow_symlinks=follow)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # ValueError: a null character, or a lone surrogate
        said = getattr(error, "strerror", None) or error
        raise XpnetError(f"{str(path)[:300]!r}: {said}") from error


@contextmanager
def opened(path: FilePath) -> Iterator[BufferedReader]:
    """Open a regular file for reading. An error of the system while it is read becomes one that names it.

    Raises
    ------
    XpnetError
        The file is missing or cannot be read, or is a folder, or a device or pipe, which might never end.
    """
    found = status(path)
    if found is None:
        raise XpnetError(f"{path}: no such file")
    if not S_ISREG(found.st_mode):
        raise XpnetError(f"{path}: a folder, device or pipe where there must be a file")
    try:
        with open(os.fspath(path), "rb") as file:  # a string, because NumPy takes the name from it
            yield file
    except OSError as error:
        raise XpnetError(f"{path}: {error.strerror or error}") from error


def write_atomically(path: FilePath, content: bytes, *, parents: bool = True) -> None:
    """Write a file under another name, then rename it into place: a reader sees the old or the new one.

    Several processes may write the same file: the last one to finish wins.

    Parameters
    ----------
    parents
        Make the folder if it is missing.

    Raises
    ------
    XpnetError
        The folder cannot be made or written, the disk is full, or something stands at `path` that is no
        regular file, such as a symbolic link, a folder or a device. What stood at `path` still stands.
    """
    found, path = status(path, follow=False), Path(path)
    if found is not None and not S_ISREG(found.st_mode):
        raise XpnetError(f"{path}: a link, folder, device or pipe, which is not replaced; give another path")
    if not path.name:
        raise XpnetError(f"{str(path)!r} names no file; give the path of one")
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("xb")  # "x" opens no file that is there, and follows no link
        try:
            with file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise XpnetError(f"{path}: cannot be written: {error.strerror or error}") from error
    with suppress(OSError):  # Windows opens no folder, and some file systems sync none
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: FilePath, content: Mapping[str, Any]) -> None:
    """Write a mapping as JSON, atomically. A number that is not finite raises a ValueError."""
    write_atomically(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def read_json(path: FilePath) -> dict[str, Any]:
    """Read a JSON object.

    Raises
    ------
    XpnetError
        The file cannot be read, or is damaged.
    """
    with opened(path) as file:
        return parse_json(file.read(LONGEST_JSON + 1), path)


def write_tensors(
    path: FilePath,
    fields: Mapping[str, Kind],
    arrays: Mapping[str, np.ndarray],
    described: Mapping[str, Any],
    *,
    parents: bool = True,
) -> None:
    """Write arrays and their description as one safetensors file, atomically, equal bytes for equal input.

    Parameters
    ----------
    fields
        The fields that the description must have; see `xpnet.schema`.
    described
        The description: the fields, and whatever else JSON can hold.
    parents
        Make the folder if it is missing.

    Raises
    ------
    XpnetError
        The file cannot be written, or `read_tensors` would refuse it.
    """
    from safetensors.numpy import save

    _check_finite(arrays, path)
    # safetensors 0.8 writes an array that is not C-contiguous wrongly, and says nothing
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    text = _text({**described, CHECKSUM: checksum_of(whole, described)})
    check(parse_json(text, path), fields, str(path))
    write_atomically(path, save(whole, metadata={METADATA: text}), parents=parents)


def read_tensors(path: FilePath, fields: Mapping[str, Kind]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the arrays and the description that `write_tensors` wrote.

    Raises
    ------
    XpnetError
        The file is missing, cut off, damaged, not safetensors, not ours, its description lacks a field, its
        checksum is wrong, or an array holds NaN or infinity.
    """
    arrays, text = read_safetensors(path)
    described = parse_json(text, path)
    check(described, fields, str(path))
    if CHECKSUM in described:
        same = text == _text(described)  # a digit that makes no difference to a number is damage too
        if not same or described[CHECKSUM] != checksum_of(arrays, described):
            raise XpnetError(f"{path}: damaged: its checksum is not that of its content")
    _check_finite(arrays, path)
    return arrays, described


def read_safetensors(path: FilePath) -> tuple[dict[str, np.ndarray], str]:
    """Read the arrays of any safetensors file, and the text that describes them: empty if it is not ours.

    Raises
    ------
    XpnetError
        The file is missing, cut off, damaged or not safetensors, or NumPy does not have the type of an array.
    """
    from safetensors import SafetensorError, safe_open

    with opened(path):  # which checks the path, and names it where the system refuses
        try:
            with safe_open(path, framework="numpy") as file:
                text = (file.metadata() or {}).get(METADATA, "")
                names = file.keys()
                return {name: file.get_tensor(name) for name in names}, text
        except (SafetensorError, TypeError, AttributeError, KeyError) as error:
            raise XpnetError(f"{path}: not a safetensors file, or cut off") from error


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


def parse_json(text: str | bytes, path: FilePath) -> dict[str, Any]:
    """Parse the JSON object in a file; an `XpnetError` names the file where there is none."""
    if len(text) > LONGEST_JSON:
        raise XpnetError(f"{path}: its description has more than {LONGEST_JSON:,} characters")
    try:
        found: dict[str, Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise XpnetError(f"{path}: damaged, or not written by xpnet: no JSON describes it") from error
    check(found, {}, str(path))
    return found


def _text(described: Mapping[str, Any]) -> str:
    return json.dumps(described, sort_keys=True)


def checksum_of(arrays: Mapping[str, np.ndarray], described: Mapping[str, Any]) -> int:
    """Compute the checksum of a file."""
    fields = {name: value for name, value in described.items() if name != CHECKSUM}
    checksum = zlib.crc32(_text(fields).encode())
    for name in sorted(arrays):
        form = f"{name} {arrays[name].dtype.str} {arrays[name].shape}"
        checksum = zlib.crc32(arrays[name].data, zlib.crc32(form.encode(), checksum))
    return checksum


def _check_finite(arrays: Mapping[str, np.ndarray], path: FilePath) -> None:
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise XpnetError(f"{path}: {brief(name)} holds NaN or infinity")
