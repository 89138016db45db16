"""Damaged files, thousands of them, through every reader: it reads them, or says in one line why not.

Whatever a file holds, a reader raises nothing but `XpnetError`, or `MemoryError` where a file is as large as
it says, within bounded time and memory. Every case can be made again from its number. To run more of them:
``XPNET_FUZZ=70000 pytest tests/test_fuzz.py``.
"""

import gzip
import io
import json
import os
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

import xpnet
from tests.helpers import refused, sealed
from tests.process import environment, idx, small_data
from xpnet import MLP, Checkpoint, load_data, train
from xpnet.data import Form
from xpnet.data.idx import NAMES
from xpnet.errors import UsageError, XpnetError
from xpnet.runs import of_run

CASES = int(os.environ.get("XPNET_FUZZ", "4000"))
"""Of all twelve kinds of files together."""

LONGEST_MESSAGE = 500
SLOWEST = 2.0
"""Seconds that a case may take."""

MEMORY = 2**29
"""Bytes that the readers may need, besides what the process needs to begin with."""

Rng = np.random.Generator

NUMBERS = [0, 1, -1, 2, 255, 2**31, 2**63, -(2**63), 2**64, 10**400, 0.5, 1e308, -1e308, 5e-324]
NASTY: list[Any] = [*NUMBERS, float("nan"), float("inf"), True, None, [], {}, [[]], {"a": []}]
NASTY += ["", "x" * 20_000, "a\0b", "\ud800", "\n" * 99]
NASTY += [[[1] * 9] * 9, [1] * 100_000, {str(n): n for n in range(5000)}]
TEXTS = ["[" * 100_000, '{"a":' * 100_000, "[{}," * 50_000, "9" * 5000]
TEXTS += ["-", "1e999", "nul", '"\\ud800"', "null", ""]
MARKS = ['"', ",", ";", "\t", "\r", "\n", "\r\n\r\n", "\0", '""', "é", "nan", "1e999", "9" * 400]
MARKS += ["\ufeff", "-", "x,y\n"]
LITERALS = ["'", "(", ")", ",", "6", "L", "None", "-", "'|O'", "'|V3'", "'<M8[s]'", "[('a','u1')]"]
LITERALS += ["9" * 30, "(" * 300, "\\x", "\n", "é", "#", "0b1"]


# --- damage -------------------------------------------------------------------------------------------------


def one(values: Any, rng: Rng) -> Any:
    """One of some values."""
    return values[int(rng.integers(len(values)))]


def damaged(content: bytes, rng: Rng) -> bytes:
    """A copy with one to three injuries: bits flipped, bytes changed, cut off, put in, left out, moved."""
    injured = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, other = (int(rng.integers(len(injured) + 1)) for _ in range(2))
        length = int(rng.integers(1, 9))
        moved = injured[other : other + 100]
        flipped = bytes(byte ^ 1 << int(rng.integers(8)) for byte in injured[at : at + 1])
        same = one([b"\0", b"\xff", b"\x7f", b"9", b"("], rng) * length
        changes = [(flipped, 1), (rng.bytes(length), length), (same, length), (moved, 100)]
        changes += [(rng.bytes(length), 0), (moved, 0), (b"", length), (b"", len(injured))]
        put, left_out = one(changes, rng)
        injured[at : at + left_out] = put
    return bytes(injured)


def otherwise(value: Any, rng: Rng) -> Any:
    """A copy of what JSON holds, with something else in one place."""
    if isinstance(value, dict | list) and value and rng.random() < 0.85:
        changed = value.copy()
        place = one(list(value) if isinstance(value, dict) else range(len(value)), rng)
        kind = rng.integers(6)
        if kind == 0:
            del changed[place]
        elif kind == 1 and isinstance(changed, dict):
            changed[f"{place}x"] = changed.pop(place)
        elif isinstance(changed, list) and kind == 1:
            changed *= 2 if len(str(changed)) > 10_000 else 1000
        else:
            changed[place] = otherwise(changed[place], rng)
        return changed
    if isinstance(value, int | float) and rng.random() < 0.5:
        return one([-1, 0, 0.5, 1e300], rng) * min(value, 1e9)
    return one(NASTY, rng)


def json_damaged(content: Any, rng: Rng) -> str:
    """What JSON holds, changed in one to three places, or changed as text."""
    kind = rng.integers(10)
    if kind == 0:
        return str(one(TEXTS, rng))
    if kind < 4:
        return damaged(json.dumps(content).encode(), rng).decode(errors="replace")
    for _ in range(rng.integers(1, 4)):
        content = otherwise(content, rng)
    return json.dumps(content)


def tensors_damaged(whole: bytes, rng: Rng) -> bytes:
    """A file of tensors damaged as bytes, in its numbers, in its header, or in what describes it."""
    size = struct.unpack("<Q", whole[:8])[0]
    header, content = json.loads(whole[8 : 8 + size]), whole[8 + size :]
    kind = rng.integers(8)
    if kind == 0:
        return damaged(whole, rng)
    if kind == 1:
        content = damaged(content, rng)[: len(content)].ljust(len(content), b"\xff")
    described = json.loads(header["__metadata__"]["xpnet"])
    text = json.dumps(described)
    if kind > 2:
        text = json_damaged(described, rng).encode(errors="replace").decode()
    if kind > 4:  # with the checksum put right, so that the reader goes on
        arrays = load(struct.pack("<Q", size) + whole[8 : 8 + size] + content)
        if kind == 7:  # the numbers of one array are others
            name = one(sorted(arrays), rng)
            with np.errstate(over="ignore"):
                arrays[name] = np.asarray(one([0, 1, -1, 1e30], rng) * arrays[name], arrays[name].dtype)
        with suppress(ValueError, RecursionError):
            text = sealed(arrays, json.loads(text))
        return save(arrays, {"xpnet": text.encode(errors="replace").decode()})
    header["__metadata__"]["xpnet"] = text
    head = (json_damaged(header, rng) if kind == 2 else json.dumps(header)).encode(errors="replace")
    return struct.pack("<Q", len(head)) + head + content


def npy_damaged(whole: bytes, rng: Rng) -> bytes:
    """An .npy file damaged as bytes, or in the literal of its header alone."""
    if rng.random() < 0.5:
        return damaged(whole, rng)
    end = whole.index(b"\n") + 1
    header = whole[10:end].decode()
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(header)))
        header = header[:at] + one(LITERALS, rng) + header[at + int(rng.integers(8)) :]
    text = header.encode()
    return whole[:8] + struct.pack("<H", len(text) % 2**16) + text + whole[end:]


def zip_damaged(whole: bytes, rng: Rng) -> bytes:
    """An archive damaged as bytes, or a sound one of which a file is damaged."""
    if rng.random() < 0.5:
        return damaged(whole, rng)
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as before, zipfile.ZipFile(out, "w") as after:
        chosen, packed = one(before.namelist(), rng), one([0, 8, 12, 14], rng)
        for name in before.namelist():
            content = before.read(name)
            after.writestr(name, npy_damaged(content, rng) if name == chosen else content, packed)
    return out.getvalue()


def gzip_damaged(whole: bytes, rng: Rng) -> bytes:
    """A gzip file damaged as bytes, or a sound one of damaged content."""
    return damaged(whole, rng) if rng.random() < 0.5 else gzip.compress(damaged(gzip.decompress(whole), rng))


# --- readers ------------------------------------------------------------------------------------------------


def saved(save: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    """What a function of NumPy writes."""
    content = io.BytesIO()
    save(content, *arrays, **named)
    return content.getvalue()


def run_files(folder: Path) -> dict[str, bytes]:
    """The model and the checkpoint of a run with best weights, on scaled columns."""
    data = small_data(rows=60, features=4)
    model = MLP((4, 3, 2, 3), activation=("relu", "tanh"), class_names=("a", "b", "…"))
    settings: dict[str, Any] = {"epochs": 3, "patience": 2, "momentum": 0.5, "dropout": 0.1}
    settings |= {"standardize": True, "checkpoint": folder / "checkpoint"}
    train(model, data["x_train"], data["y_train"], **settings)
    model.save(folder / "model")
    for name in ("a.npz", "a.safetensors"):
        xpnet.export(model, folder / name)
    return {name: (folder / name).read_bytes() for name in ("model", "checkpoint", "a.npz", "a.safetensors")}


def weights_damaged(whole: bytes, rng: Rng) -> bytes:
    """An archive of weights, damaged as an archive or in its description."""
    if rng.random() < 0.5:
        return zip_damaged(whole, rng)
    arrays = dict(np.load(io.BytesIO(whole)))
    text = json_damaged(json.loads(str(arrays["xpnet"])), rng).encode(errors="replace")
    return saved(np.savez, **arrays | {"xpnet": np.asarray(text.decode())})


def read_weights(folder: Path) -> None:
    xpnet.import_model(folder / "a.npz")


def read_state_dict(folder: Path) -> None:
    xpnet.import_model(folder / "a.safetensors")


def read_npz(folder: Path) -> None:
    load_data(folder / "a.npz")


def read_table(name: str, folder: Path) -> None:
    load_data(folder / name, form=Form(one_hot=("b",)))


def table_csv() -> bytes:
    """A table of numbers, texts and labels."""
    rows = "".join(
        f'{i / 4},{"red" if i % 3 else "blue"},"{i}","{"yes, sir" if i % 2 else "no"}"\r\n' for i in range(30)
    )
    return f"\ufeffa,b,c,y\r\n{rows}".encode()


def table_parquet() -> bytes:
    """The same table as a Parquet file, with two row groups."""
    import pyarrow
    from pyarrow import parquet

    i = np.arange(30)
    columns = {"a": i / 4, "b": np.where(i % 3, "red", "blue"), "c": i, "y": np.where(i % 2, "yes", "no")}
    content = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), content, row_group_size=20)
    return content.getvalue()


def images() -> dict[str, bytes]:
    """Images of two classes, in several formats."""
    from PIL import Image

    files, pixels = {}, np.random.default_rng(0).integers(0, 255, (6, 5), np.uint8)
    for kind in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm", "ico"):
        for name in "ab":
            content = io.BytesIO()
            sizes = {"sizes": [(5, 6)]} if kind == "ico" else {}
            Image.fromarray(pixels).convert("RGB").save(content, kind, **sizes)
            files[f"{name}/{kind}.{kind}"] = content.getvalue()
    return files


def csv_damaged(whole: bytes, rng: Rng) -> bytes:
    """A CSV file damaged as bytes, or with other marks, lines or encodings in it."""
    if rng.random() < 0.5:
        return damaged(whole, rng)
    text = whole.decode()
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(text) + 1))
        text = text[:at] + one(MARKS, rng) + text[at + int(rng.integers(4)) :]
    return text.encode(one(["utf-8", "utf-8", "utf-16", "cp1252", "utf-32"], rng), errors="replace")


def read_model(folder: Path) -> None:
    xpnet.load(folder / "model")


def read_checkpoint(folder: Path) -> None:
    Checkpoint(folder / "checkpoint").load()


def read_settings(folder: Path) -> None:
    Checkpoint(folder / "checkpoint").load_config()


Reader = tuple[dict[str, bytes], Callable[[bytes, Rng], bytes], list[Callable[[Path], object]]]


def readers(folder: Path) -> dict[str, Reader]:
    """For every kind of file: sound ones, how they are damaged, and how their folder is read."""
    arrays = small_data(rows=30, test_rows=9, features=4)
    floats = {name: array.astype("f8" if name[0] == "x" else "i8") for name, array in arrays.items()}
    plain = {NAMES[name]: idx(array) for name, array in arrays.items()}
    run = run_files(folder)
    folders: list[Callable[[Path], object]] = [load_data, partial(load_data, memory=1)]
    config = {"xpnet": "0.1.0", "data": "mnist", "memory": 10**6, "sizes": [4, 3], "lr": 0.5}

    def config_damaged(whole: bytes, rng: Rng) -> bytes:
        return json_damaged(json.loads(whole), rng).encode(errors="replace")

    return {
        "idx": (plain, damaged, folders),
        "idx.gz": ({f"{name}.gz": gzip.compress(x) for name, x in plain.items()}, gzip_damaged, folders),
        "npy": ({f"{name}.npy": saved(np.save, x) for name, x in floats.items()}, npy_damaged, folders),
        "npz": ({"a.npz": saved(np.savez_compressed, **floats)}, zip_damaged, [read_npz]),
        "model": ({"model": run["model"]}, tensors_damaged, [read_model]),
        "checkpoint": ({"checkpoint": run["checkpoint"]}, tensors_damaged, [read_checkpoint, read_settings]),
        "weights": ({"a.npz": run["a.npz"]}, weights_damaged, [read_weights]),
        "state_dict": ({"a.safetensors": run["a.safetensors"]}, tensors_damaged, [read_state_dict]),
        "config.json": ({"config.json": json.dumps(config).encode()}, config_damaged, [of_run]),
        "csv": ({"a.csv": table_csv()}, csv_damaged, [partial(read_table, "a.csv")]),
        "parquet": ({"a.parquet": table_parquet()}, damaged, [partial(read_table, "a.parquet")]),
        "images": (images(), damaged, [load_data]),
    }


# --- the process --------------------------------------------------------------------------------------------


def complaint(read: Callable[[Path], object], folder: Path) -> str:
    """What is wrong with how a folder is read, if anything, with little memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    import resource  # which Windows does not have

    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, limits[1]))
    started = time.monotonic()
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
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
    seconds = time.monotonic() - started
    return f"took {seconds:.1f} s" if seconds > SLOWEST else ""


def main(folder: Path, end: int) -> None:
    """Read so many cases of every kind of file, and print what is wrong."""
    for name, reader in readers(folder).items():
        read_cases(folder / f"{name} files", name, reader, end)


def read_cases(at: Path, name: str, reader: Reader, end: int) -> None:
    """Read some cases of a kind of file."""
    sound, damage, reads = reader
    at.mkdir()
    for file, content in sound.items():
        (at / file).parent.mkdir(exist_ok=True)
        (at / file).write_bytes(content)
    assert [complaint(read, at) for read in reads] == [""] * len(reads)
    for case in range(end):
        rng = np.random.default_rng(case)
        file = one(list(sound), rng)
        (at / file).write_bytes(damage(sound[file], rng))
        for wrong in filter(None, (complaint(read, at) for read in reads)):
            print(f"{name}, case {case}: {wrong[:1000]}")
        (at / file).write_bytes(sound[file])


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is limited as Linux does it")
def test_damaged_files_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.test_fuzz", str(tmp_path), str(CASES // 12)],
        env=environment(OPENBLAS_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr[-2000:]) == (0, "", "")


def regression_files(folder: Path) -> dict[str, bytes]:
    """The smallest model that has all there is in a file, and its checkpoint."""
    X = np.arange(4.0)[:, np.newaxis]
    model = MLP((1, 1), loss="squared-error", class_names=[0.1 + 0.2])
    train(model, X, X / 3, epochs=1, validation=0, standardize=True, checkpoint=folder / "checkpoint")
    model.save(folder / "model")
    return {name: (folder / name).read_bytes() for name in ("model", "checkpoint")}


@pytest.mark.parametrize(("name", "read"), [("model", read_model), ("checkpoint", read_checkpoint)])
def test_every_flipped_bit_is_refused(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    whole = regression_files(tmp_path)[name]
    read(tmp_path)
    with (tmp_path / name).open("r+b", buffering=0) as file:
        for bit in range(8 * len(whole)):
            file.seek(bit // 8)
            file.write(bytes([whole[bit // 8] ^ 1 << bit % 8]))
            refused(partial(read, tmp_path))
            file.seek(bit // 8)
            file.write(whole[bit // 8 : bit // 8 + 1])
    read(tmp_path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
