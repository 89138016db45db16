"""Damaged files: thousands of them through every reader, each of which reads them or says in one line why not.

Whatever a file holds, a reader raises nothing but `XpnetError`, or `MemoryError` where a file is as large as it
says, within bounded time and memory. Every case can be made again from its number. To run more of them:
``XPNET_FUZZ=70000 pytest tests/test_fuzz.py``.
"""

import gzip
import io
import json
import os
import resource
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.process import PATIENCE, environment, idx, small_data
from xpnet import MLP, Checkpoint, load, load_data, train
from xpnet.cli.evaluate import _data_of_run
from xpnet.data.idx import NAMES
from xpnet.errors import UsageError, XpnetError

CASES = int(os.environ.get("XPNET_FUZZ", "4000"))
LONGEST_MESSAGE = 500
SLOWEST = 2.0
"""Seconds that a case may take."""

MEMORY = 2**29
"""Bytes that the readers may need, besides what the process needs to begin with."""

Rng = np.random.Generator
Read = Callable[[Path], object]

NUMBERS = [0, 1, -1, 2, 255, 2**31, 2**32 - 1, 2**63, -(2**63), 2**64, 10**400, 0.5, 1e308, -1e308, 5e-324]
NASTY: list[Any] = [*NUMBERS, float("nan"), float("inf"), None, True, "", "x" * 20_000, "a\0b", "\ud800", "\n" * 99]
NASTY += [[], {}, [[]], {"a": []}, [[1] * 9] * 9, [1] * 100_000, {str(n): n for n in range(5000)}]


# --- mutations ----------------------------------------------------------------------------------------------


def damaged(content: bytes, rng: Rng) -> bytes:
    """A copy with one to three injuries: bits flipped, bytes changed, cut off, put in, left out, moved."""
    injured = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, length = int(rng.integers(len(injured) + 1)), int(rng.integers(1, 9))
        other = int(rng.integers(len(injured) + 1))
        kind = rng.integers(8)
        if kind == 0 and at < len(injured):
            injured[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            injured[at : at + length] = rng.bytes(min(length, len(injured) - at))
        elif kind == 2:
            injured[at : at + length] = rng.choice([b"\0", b"\xff", b"\x7f", b"9", b"("]) * length
        elif kind == 3:
            del injured[at:]
        elif kind == 4:
            injured[at:at] = rng.bytes(length)
        elif kind == 5:
            del injured[at : at + length]
        elif kind == 6:
            injured[at:at] = injured[other : other + 100]
        else:
            injured[at : at + 100] = injured[other : other + 100]
    return bytes(injured)


def otherwise(value: Any, rng: Rng) -> Any:
    """A copy of what JSON holds, with something else in one place."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        places = list(value) if isinstance(value, dict) else range(len(value))
        place = places[int(rng.integers(len(places)))]
        changed = value.copy()
        kind = rng.integers(6)
        if kind == 0:
            del changed[place]
        elif kind == 1 and isinstance(changed, dict):
            changed[f"{place}x"] = changed.pop(place)
        elif kind == 1:
            changed = changed * 2 if len(str(changed)) > 10_000 else changed * 1000
        else:
            changed[place] = otherwise(changed[place], rng)
        return changed
    if isinstance(value, int | float) and rng.random() < 0.5:
        return float(rng.choice([-1, 0, 0.5, 1e300])) * min(value, 1e9)
    return NASTY[int(rng.integers(len(NASTY)))]


def json_damaged(content: Any, rng: Rng) -> str:
    """What JSON holds, changed in one place or more, or changed as text, or nested without end."""
    kind = rng.integers(10)
    if kind == 0:
        deep = ["[" * 100_000, '{"a":' * 100_000, "[{}," * 50_000]
        return str(rng.choice([*deep, "-", "1e999", "9" * 5000, "nul", '"\\ud800"', "null", ""]))
    if kind < 4:
        return damaged(json.dumps(content).encode(), rng).decode(errors="replace")
    for _ in range(rng.integers(1, 4)):
        content = otherwise(content, rng)
    return json.dumps(content)


def safetensors(header: str | bytes, content: bytes) -> bytes:
    """A file of tensors: the length of its header, its header, and the numbers."""
    text = header.encode(errors="replace") if isinstance(header, str) else header
    return struct.pack("<Q", len(text)) + text + content


def tensors_damaged(whole: bytes, rng: Rng) -> bytes:
    """A file of tensors damaged as bytes, in its header, in its metadata, or in its numbers."""
    size = struct.unpack("<Q", whole[:8])[0]
    header, content = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    kind = rng.integers(6)
    if kind == 0:
        return damaged(whole, rng)
    if kind == 1:
        return safetensors(json_damaged(header, rng), content)
    if kind == 2:
        return safetensors(json.dumps(header), damaged(content, rng)[: len(content)].ljust(len(content), b"\xff"))
    described = json_damaged(json.loads(header["__metadata__"]["xpnet"]), rng)
    header["__metadata__"]["xpnet"] = described.encode(errors="replace").decode()
    return safetensors(json.dumps(header), content)


def zipped_damaged(whole: bytes, rng: Rng) -> bytes:
    """An archive damaged as bytes, or whole with a damaged file in it."""
    if rng.random() < 0.4:
        return damaged(whole, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as before, zipfile.ZipFile(out, "w") as after:
        chosen = before.namelist()[int(rng.integers(4))]
        packed = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2]))
        for name in before.namelist():
            content = npy_damaged(before.read(name), rng) if name == chosen else before.read(name)
            after.writestr(name, content, packed if name == chosen else zipfile.ZIP_DEFLATED)
    content = out.getvalue()
    return damaged(content, rng) if rng.random() < 0.2 else content


def npy_damaged(whole: bytes, rng: Rng) -> bytes:
    """An .npy file damaged as bytes, or in its header alone, which keeps its length."""
    if rng.random() < 0.5:
        return damaged(whole, rng)
    start, end = 10, whole.index(b"\n") + 1
    header = whole[start:end].decode()
    pieces = ["'", "(", ")", ",", "6", "L", "None", "-", "'|O'", "'|V3'", "'<M8[s]'", "[('a','u1')]", "#", "0b1"]
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(header)))
        put = str(rng.choice([*pieces, "9" * 30, "(" * 300, "\\x", "\n", "é"]))
        header = header[:at] + put + header[at + int(rng.integers(8)) :]
    text = header.encode()
    return whole[:8] + struct.pack("<H", len(text) % 2**16) + text + whole[end:]


def gzip_damaged(whole: bytes, rng: Rng) -> bytes:
    """A gzip file damaged as bytes, or of damaged content."""
    if rng.random() < 0.5:
        return damaged(whole, rng)
    return gzip.compress(damaged(gzip.decompress(whole), rng), mtime=0)


# --- readers ------------------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    """An array as an .npy file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def archive(save: Callable[..., None], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Arrays as an .npz file."""
    content = io.BytesIO()
    save(content, **arrays)
    return content.getvalue()


def run_files(folder: Path) -> dict[str, bytes]:
    """A model, and the checkpoint of a run with best weights."""
    data = small_data(rows=60, features=4)
    model = MLP((4, 3, 3))
    settings: dict[str, Any] = {"epochs": 3, "patience": 2, "momentum": 0.5}
    train(model, data["x_train"], data["y_train"], checkpoint=folder / "checkpoint", **settings)
    model.save(folder / "model")
    return {name: (folder / name).read_bytes() for name in ("model", "checkpoint")}


def read_checkpoint(path: Path) -> None:
    """All of it, then its settings."""
    Checkpoint(path).load()
    Checkpoint(path).load_config()


def readers(folder: Path) -> dict[str, tuple[dict[str, bytes], Callable[[bytes, Rng], bytes], Read]]:
    """For every kind of file: sound ones, how they are damaged, and how their folder is read."""
    arrays = small_data(rows=30, test_rows=9, features=4)
    floats = {name: array.astype("f8" if name[0] == "x" else "i8") for name, array in arrays.items()}
    plain = {NAMES[name]: idx(array) for name, array in arrays.items()}
    packed = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in plain.items()}
    files = {f"{name}.npy": npy(array) for name, array in floats.items()}
    config = {"xpnet": "0.1.0", "data": "mnist", "memory": 10**6, "sizes": [4, 3], "lr": 0.5, "rows": "(3, 4)"}
    streamed = partial(load_data, memory=1)
    run = run_files(folder)
    return {
        "idx": (plain, damaged, load_data),
        "idx, mapped": (plain, damaged, streamed),
        "idx.gz": (packed, gzip_damaged, load_data),
        "npy": (files, npy_damaged, load_data),
        "npy, mapped": (files, npy_damaged, streamed),
        "npz": ({"a.npz": archive(np.savez, arrays)}, zipped_damaged, lambda at: load_data(at / "a.npz")),
        "npz, compressed": (
            {"a.npz": archive(np.savez_compressed, floats)},
            zipped_damaged,
            lambda at: load_data(at / "a.npz"),
        ),
        "model": ({"model": run["model"]}, tensors_damaged, lambda at: load(at / "model")),
        "checkpoint": ({"c": run["checkpoint"]}, tensors_damaged, lambda at: read_checkpoint(at / "c")),
        "config.json": (
            {"config.json": json.dumps(config).encode()},
            lambda whole, rng: json_damaged(json.loads(whole), rng).encode(errors="replace"),
            _data_of_run,
        ),
    }


READERS = ("idx", "idx, mapped", "idx.gz", "npy", "npy, mapped", "npz", "npz, compressed")
READERS += ("model", "checkpoint", "config.json")


# --- the process --------------------------------------------------------------------------------------------


def complaint(read: Read, folder: Path) -> str:
    """What is wrong with how a folder is read, if anything."""
    started, said = time.monotonic(), ""
    try:
        read(folder)
    except MemoryError:
        pass
    except XpnetError as error:
        said = str(error).replace(str(folder), "")
        if isinstance(error, UsageError) or len(said) > LONGEST_MESSAGE or len(said.splitlines()) != 1:
            return f"{type(error).__name__}: {said}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    seconds = time.monotonic() - started
    return f"took {seconds:.1f} s" if seconds > SLOWEST else ""


@contextmanager
def limited_memory() -> Iterator[None]:
    """Let the process have so much memory more than it has, and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def main(folder: Path, name: str, first: int, end: int) -> None:
    """Read some cases of a kind of file, and print what is wrong."""
    (folder / "run").mkdir()
    sound, damage, read = readers(folder / "run")[name]
    at = folder / "files"
    at.mkdir()
    for file, content in sound.items():
        (at / file).write_bytes(content)
    assert complaint(read, at) == ""
    for case in range(first, end):
        rng = np.random.default_rng(case)
        file = list(sound)[int(rng.integers(len(sound)))]
        (at / file).write_bytes(damage(sound[file], rng))
        with limited_memory():
            wrong = complaint(read, at)
        if wrong:
            print(f"{name}, case {case}: {wrong[:1000]}")
        (at / file).write_bytes(sound[file])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited as Linux does it")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    cases = CASES // len(READERS)
    arguments = [str(tmp_path), name, "0", str(cases)]
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.test_fuzz", *arguments],
        env=environment(OPENBLAS_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=max(PATIENCE, cases * SLOWEST),
    )
    assert (ended.returncode, ended.stdout, ended.stderr[-2000:]) == (0, "", "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
