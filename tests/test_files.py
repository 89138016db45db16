"""Files that are whole or not there, and equal where their content is."""

import json
import os
import stat
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.helpers import pipe, posix, refused
from xpnet.files import opened, read_json, read_tensors, write_atomically, write_json, write_tensors
from xpnet.schema import check


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


# --- writing ------------------------------------------------------------------------------------------------


def test_file_is_written_into_folders_that_are_made_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    for content in (b"a long old content", b"new"):
        write_atomically(path, content)
        assert path.read_bytes() == content
        assert names(path.parent) == ["file"]


@posix
def test_file_has_the_rights_that_the_user_gives_to_new_files(tmp_path: Path) -> None:
    before = os.umask(0o026)
    try:
        write_atomically(tmp_path / "file", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@posix
def test_file_of_the_longest_name_is_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 255), b"new")
    assert names(tmp_path) == ["x" * 255]


@posix
def test_what_others_prepared_is_neither_followed_nor_read_nor_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda size: "guessed")  # the worst case
    (tmp_path / "precious").write_bytes(b"old")
    for prepare in (lambda at: at.symlink_to("precious"), pipe, Path.touch):
        partial = tmp_path / ".guessed.partial"
        prepare(partial)
        assert refused(lambda: write_atomically(tmp_path / "file", b"new")).endswith("File exists")
        assert names(tmp_path) == [".guessed.partial", "precious"]
        partial.unlink()
    assert (tmp_path / "precious").read_bytes() == b"old"


@posix
@pytest.mark.parametrize(
    "prepare",
    [
        lambda at: at.symlink_to("elsewhere"),
        lambda at: at.symlink_to("/dev/null"),
        lambda at: at.symlink_to(at.name),
        pipe,
        Path.mkdir,
    ],
    ids=["link", "link to a device", "loop", "pipe", "folder"],
)
def test_only_regular_files_are_replaced(tmp_path: Path, prepare: Callable[[Path], None]) -> None:
    (tmp_path / "elsewhere").write_bytes(b"old")
    prepare(tmp_path / "file")
    before = (tmp_path / "file").lstat()
    message = refused(lambda: write_atomically(tmp_path / "file", b"new"))
    assert message.endswith("a link, folder, device or pipe, which is not replaced; give another path")
    assert (tmp_path / "file").lstat() == before
    assert (tmp_path / "elsewhere").read_bytes() == b"old"
    assert names(tmp_path) == ["elsewhere", "file"]


@posix
def test_a_device_is_not_replaced() -> None:
    refused(lambda: write_atomically(Path("/dev/null"), b"new"))
    assert Path("/dev/null").is_char_device()


@posix
@pytest.mark.parametrize("name", ["file/below", "a\0b", "\ud800", "x" * 256, "x" * 5000, "", ".."], ids=ascii)
def test_name_that_no_file_can_have_is_an_error_of_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"old")
    assert len(refused(lambda: write_atomically(tmp_path / name, b"new"))) < 500
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@posix
def test_writers_at_the_same_time_leave_the_file_of_one_of_them(tmp_path: Path) -> None:
    contents = [bytes([number]) * 300_000 for number in range(8)]
    seen: set[bytes] = set()
    write_atomically(tmp_path / "file", contents[0])
    with ThreadPoolExecutor(8) as pool:
        writing = [pool.submit(write_atomically, tmp_path / "file", content) for content in contents * 10]
        while not all(written.done() for written in writing):
            seen.add((tmp_path / "file").read_bytes())
    assert not any(written.exception() for written in writing)
    seen.add((tmp_path / "file").read_bytes())
    assert seen <= set(contents)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("old", [None, b"old"], ids=["nothing", "a file"])
def test_failing_write_leaves_what_was_there(tmp_path: Path, old: bytes | None) -> None:
    path = tmp_path / "file"
    if old:
        path.write_bytes(old)
    resource: Any = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**24, limits[1]))  # a file system that takes no more
    try:
        message = refused(lambda: write_atomically(path, bytes(2**24 + 1)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message == f"{path}: cannot be written: File too large"
    assert [file.read_bytes() for file in tmp_path.iterdir()] == ([old] if old else [])


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
def test_failure_after_writing_leaves_the_old_tensors_readable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    write_tensors(tmp_path / "file", {}, {"W1": np.ones(3)}, {"epoch": 1})
    monkeypatch.setattr(failing, fail)
    message = refused(lambda: write_tensors(tmp_path / "file", {}, {"W1": np.zeros(3)}, {"epoch": 2}))
    monkeypatch.undo()
    assert message == f"{tmp_path / 'file'}: cannot be written: No space left on device"
    arrays, described = read_tensors(tmp_path / "file", {})
    assert (arrays["W1"].tolist(), described["epoch"]) == ([1.0, 1.0, 1.0], 1)
    assert names(tmp_path) == ["file"]


@posix
def test_folder_is_synced_after_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, list[str]]] = []

    def note(handle: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(handle).st_mode), names(tmp_path)))
        if synced[-1][0]:
            raise OSError(22, "a file system that syncs no folders")

    monkeypatch.setattr("os.fsync", note)
    write_atomically(tmp_path / "file", b"new")
    (folder, before), (also, after) = synced
    assert (folder, also) == (False, True)
    assert "file" not in before
    assert after == ["file"]


def test_json_reads_as_it_was_written(tmp_path: Path) -> None:
    content = {"lr": 0.1, "sizes": [2, 3], "name": "…", "best": None}
    write_json(tmp_path / "file", content)
    assert read_json(tmp_path / "file") == content
    assert (tmp_path / "file").read_text(encoding="utf-8").endswith("}\n")
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", {"loss": float("nan")})
    assert read_json(tmp_path / "file") == content


# --- tensors ------------------------------------------------------------------------------------------------

DESCRIBED = {"sizes": [784, 128, 10], "format": 1, "lr": 0.1, "best": None, "name": "…", "deep": {"a": 1}}


def test_tensors_read_as_they_were_written(tmp_path: Path, rng: np.random.Generator) -> None:
    written: dict[str, np.ndarray] = {
        "W1": rng.standard_normal((3, 4)),
        "b1": rng.standard_normal(4).astype(np.float32),
        "t": np.array([7], dtype=np.int32),
        "X": rng.integers(0, 256, (2, 3), dtype=np.uint8),
        "none": np.zeros((0, 3)),
        "number": np.array(7.0),
    }
    write_tensors(tmp_path / "file", {"format": 1}, written, DESCRIBED)
    arrays, described = read_tensors(tmp_path / "file", {"format": 1})
    checksum = {"checksum": described["checksum"]}
    assert described == DESCRIBED | checksum
    assert set(arrays) == set(written)
    for name, array in written.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


def test_the_checksum_is_that_of_files_in_the_world(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {}, {"W1": np.ones((2, 1)), "b1": np.zeros(1, np.float32)}, {"lr": 0.1})
    description = crc32(b'{"lr": 0.1}')
    weights = crc32(np.ones(2).tobytes(), crc32(b"W1 <f8 (2, 1)", description))
    expected = crc32(bytes(4), crc32(b"b1 <f4 (1,)", weights))
    assert read_tensors(tmp_path / "file", {})[1] == {"lr": 0.1, "checksum": expected}


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[::-1], np.s_[:, 1]], ids=str)
def test_arrays_that_are_not_contiguous_come_back_right(tmp_path: Path, view: Any) -> None:
    whole = np.arange(12.0).reshape(3, 4)
    turned = {"transposed": whole.T, "fortran": np.asfortranarray(whole), "view": whole[view]}
    write_tensors(tmp_path / "file", {}, turned, {})
    arrays, _ = read_tensors(tmp_path / "file", {})
    # read by the library's own reader too, which knows nothing of ours
    others = load_file(tmp_path / "file")
    for name, array in turned.items():
        assert arrays[name].tolist() == others[name].tolist() == array.tolist()


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    arrays = {"W1": np.arange(6.0).reshape(2, 3), "b1": np.zeros(3), "t": np.ones(1, dtype=np.int32)}
    seen = set()
    for i in range(8):
        # neither the order in which the names are given nor the layout in memory is part of the content
        turned = dict(sorted(DESCRIBED.items(), reverse=bool(i % 2)))
        W1 = np.asfortranarray(arrays["W1"]) if i % 2 else arrays["W1"]
        write_tensors(tmp_path / f"{i}", {}, arrays | {"W1": W1}, turned)
        seen.add((tmp_path / f"{i}").read_bytes())
    assert len(seen) == 1


def tensors(*entries: tuple[str, str, int]) -> bytes:
    """A safetensors file by hand: names, types and bytes of one-dimensional tensors, and our metadata."""
    header: dict[str, Any] = {"__metadata__": {"xpnet": "{}"}}
    start = 0
    for name, dtype, size in entries:
        header[name] = {"dtype": dtype, "shape": [2], "data_offsets": [start, start + size]}
        start += size
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(start)


GOOD = tensors(("a", "F64", 16))
BAD = {
    "empty": b"",
    "text": b"not tensors at all, but some lines of text\n" * 4,
    "zeros": bytes(64),
    "cut off in its length": GOOD[:5],
    "cut off in its header": GOOD[:40],
    "cut off in its content": GOOD[:-1],
    "with more than its header says": GOOD + b"\0",
    "with a header that promises 2**40 bytes": struct.pack("<Q", 2**40) + GOOD[8:],
    "of a type that NumPy has not": tensors(("a", "F8_E4M3", 2)),
    "of an unknown type": tensors(("a", "\n" * 500, 2)),
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_bad_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert refused(lambda: read_tensors(path, {})) == f"{path}: not a safetensors file, or cut off"


@posix
@pytest.mark.parametrize(
    "prepare",
    [None, Path.mkdir, pipe, lambda path: path.symlink_to("/dev/zero")],
    ids=["missing", "a folder", "a pipe", "a device"],
)
def test_what_is_no_file_is_named_and_not_read(
    tmp_path: Path, prepare: Callable[[Path], None] | None
) -> None:
    path = tmp_path / "file"
    if prepare:
        prepare(path)
    for read in (lambda: read_tensors(path, {}), lambda: read_json(path)):
        said = "a folder, device or pipe where there must be a file" if prepare else "no such file"
        assert refused(read) == f"{path}: {said}"


def test_error_of_the_system_while_a_file_is_read_names_it(tmp_path: Path) -> None:
    def read() -> None:
        with opened(tmp_path / "file"):
            raise OSError(5, "Input/output error")

    (tmp_path / "file").touch()
    assert refused(read) == f"{tmp_path / 'file'}: Input/output error"


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {"format": "pt"},
        {"xpnet": ""},
        {"xpnet": "{cut"},
        {"xpnet": "[1]"},
        {"xpnet": "null"},
        {"xpnet": "[" * 100_000},
        {"xpnet": "9" * 5000},
        {"xpnet": " " * 2**22 + "{}"},
    ],
    ids=["none", "foreign", "empty", "cut", "list", "null", "deep", "a number of 5,000 digits", "too long"],
)
def test_file_of_another_program_is_named(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "file"
    save_file({"weight": np.ones(3)}, path, metadata=metadata)
    message = refused(lambda: read_tensors(path, {}))
    assert message.startswith((f"{path}: damaged, or not written by xpnet", f"{path}: its description "))
    assert len(message) < len(str(path)) + 100


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_neither_written_nor_read(tmp_path: Path, value: float) -> None:
    path = tmp_path / "file"
    arrays: dict[str, Any] = {"b1": np.ones(2), "W1": np.array([[1.0, value]], dtype=np.float32)}
    said = f"{path}: 'W1' holds NaN or infinity"
    assert refused(lambda: write_tensors(path, {}, arrays, {})) == said
    save_file(arrays, path, metadata={"xpnet": "{}"})
    assert refused(lambda: read_tensors(path, {})) == said


# --- descriptions -------------------------------------------------------------------------------------------

# every field: its kind, what it may be, and what it may not be
FIELDS: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "kind": ("model", ["model"], [None, "checkpoint", ["model"], "model\0"]),
    "format": (1, [1], [2, "1", True, 1.0, [1]]),
    "sizes": (
        [range(1, 100)],
        [[4, 3], []],
        [4, "43", [4, 0], [4, 100], [4.0], ["4"], [True], [None], [[4]], {"4": 3}, [10**400]],
    ),
    "activation": (("relu", "tanh"), ["relu", "tanh"], [None, "gelu", ["relu"], 0]),
    "scale": (
        float | None,
        [255, 0.5, -1e300, None],
        ["200", True, float("nan"), float("inf"), 10**400, -(10**400), [1.0]],
    ),
    "best": ((None, range(1, 5)), [None, 1, 4], [0, 5, 1.0, True, "1"]),
    "flag": (bool, [True, False], [None, 1, "true"]),
    "notes": (dict, [{}, {"a": 1}], [None, [], "{}"]),
}
KINDS = {name: kind for name, (kind, _, _) in FIELDS.items()}
SOUND = {name: good[0] for name, (_, good, _) in FIELDS.items()} | {"more": "is no harm"}


@pytest.mark.parametrize("name", FIELDS)
def test_description_must_have_every_field_of_its_kind(name: str) -> None:
    _, good, bad = FIELDS[name]
    for value in good:
        check(SOUND | {name: value}, KINDS, "file")
    described = {key: value for key, value in SOUND.items() if key != name}
    assert refused(lambda: check(described, KINDS, "file")) == f"file: its description has no {name}"
    for value in bad:
        message = refused(partial(check, SOUND | {name: value}, KINDS, "file"))
        assert message.startswith(f"file: its description has an unexpected {name}: ")
        assert len(message) < 150


@pytest.mark.parametrize("described", [None, [], "model", [[[[]]]] * 10_000], ids=lambda x: str(x)[:9])
def test_description_that_is_no_object_is_refused(described: object) -> None:
    assert len(refused(lambda: check(described, {}, "file"))) < 150
