"""Files that are whole or not there, and equal where their content is."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from xpnet.errors import XpnetError
from xpnet.files import read_tensors, write_atomically, write_json, write_tensors


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir())


def test_file_is_written_into_folders_that_are_made(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    write_atomically(path, b"content")
    assert path.read_bytes() == b"content"
    assert names(path.parent) == ["file"]


def test_file_is_replaced(tmp_path: Path) -> None:
    write_atomically(tmp_path / "file", b"a long old content")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_left_over_partial_file_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / ".file.partial").write_bytes(b"of a process that was killed")
    write_atomically(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def fill_the_disk(path: Path) -> None:
    """Let the next write beside `path` go to a device that is always full."""
    path.with_name(f".{path.name}.partial").symlink_to("/dev/full")


def test_full_disk_leaves_the_old_content_and_no_partial_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    fill_the_disk(path)
    with pytest.raises(XpnetError) as caught:
        write_atomically(path, b"new")
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_full_disk_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    fill_the_disk(tmp_path / "file")
    with pytest.raises(XpnetError, match="No space left"):
        write_atomically(tmp_path / "file", b"new")
    assert names(tmp_path) == []


def test_full_disk_leaves_the_old_tensors_readable(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_tensors(path, {"W1": np.ones(3)}, {"epoch": 1})
    fill_the_disk(path)
    with pytest.raises(XpnetError, match="No space left"):
        write_tensors(path, {"W1": np.zeros(3)}, {"epoch": 2})
    arrays, described = read_tensors(path)
    assert arrays["W1"].tolist() == [1.0, 1.0, 1.0]
    assert described == {"epoch": 1}


def test_folder_that_is_a_file_is_an_error_of_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(XpnetError) as caught:
        write_atomically(tmp_path / "file" / "below", b"new")
    assert str(caught.value).startswith(f"{tmp_path / 'file' / 'below'}: cannot be written: ")
    assert len(str(caught.value).splitlines()) == 1
    assert (tmp_path / "file").read_bytes() == b"old"


def test_file_that_is_a_folder_is_an_error_and_leaves_no_partial_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(XpnetError, match="cannot be written"):
        write_atomically(tmp_path / "folder", b"new")
    assert names(tmp_path) == ["folder"]


def test_json_reads_as_it_was_written(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"lr": 0.1, "sizes": [2, 3], "name": "…", "best": None})
    text = (tmp_path / "file").read_text(encoding="utf-8")
    assert json.loads(text) == {"lr": 0.1, "sizes": [2, 3], "name": "…", "best": None}
    assert text.endswith("}\n")


def test_number_that_json_cannot_hold_is_refused_before_the_old_file_goes(tmp_path: Path) -> None:
    write_json(tmp_path / "file", {"loss": 1.0})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "file", {"loss": float("nan")})
    assert json.loads((tmp_path / "file").read_text()) == {"loss": 1.0}


METADATA = {"format": 1, "sizes": [784, 128, 10], "scale": 255.0, "best": None, "name": "…", "deep": {"a": 1}}


def test_tensors_read_as_they_were_written(tmp_path: Path, rng: np.random.Generator) -> None:
    written: dict[str, np.ndarray] = {
        "W1": rng.standard_normal((3, 4)),
        "b1": rng.standard_normal(4).astype(np.float32),
        "t": np.array([7], dtype=np.int32),
        "X": rng.integers(0, 256, (2, 3), dtype=np.uint8),
        "none": np.zeros((0, 3)),
    }
    write_tensors(tmp_path / "file", written, METADATA)
    arrays, described = read_tensors(tmp_path / "file")
    assert described == METADATA
    assert set(arrays) == set(written)
    for name, array in written.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert arrays[name].tobytes() == array.tobytes()


def test_tensor_without_dimensions_keeps_its_shape(tmp_path: Path) -> None:
    write_tensors(tmp_path / "file", {"t": np.array(7.0)}, {})
    assert read_tensors(tmp_path / "file")[0]["t"].shape == ()


@pytest.mark.parametrize("view", [np.s_[:, ::2], np.s_[::-1], np.s_[:, 1]], ids=str)
def test_arrays_that_are_not_contiguous_come_back_right(tmp_path: Path, view: Any) -> None:
    whole = np.arange(12.0).reshape(3, 4)
    turned = {"transposed": whole.T, "fortran": np.asfortranarray(whole), "view": whole[view]}
    write_tensors(tmp_path / "file", turned, {})
    arrays, _ = read_tensors(tmp_path / "file")
    # read by the library's own reader too, which knows nothing of ours
    others = load_file(tmp_path / "file")
    for name, array in turned.items():
        assert arrays[name].tolist() == array.tolist()
        assert others[name].tolist() == array.tolist()


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    arrays = {"W1": np.arange(6.0).reshape(2, 3), "b1": np.zeros(3), "t": np.ones(1, dtype=np.int32)}
    seen = set()
    for i in range(8):
        # neither the order in which the names are given nor the layout in memory is part of the content
        turned = dict(sorted(METADATA.items(), reverse=bool(i % 2)))
        W1 = np.asfortranarray(arrays["W1"]) if i % 2 else arrays["W1"]
        write_tensors(tmp_path / f"{i}", arrays | {"W1": W1}, turned)
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
}


def test_file_written_by_hand_is_a_good_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(GOOD)
    arrays, described = read_tensors(tmp_path / "file")
    assert arrays["a"].tolist() == [0.0, 0.0]
    assert described == {}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD)
def test_bad_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(XpnetError) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: not a safetensors file, or cut off")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("folder", [False, True], ids=["missing", "a folder"])
def test_file_that_is_not_there_is_named(tmp_path: Path, folder: bool) -> None:
    path = tmp_path / "file"
    if folder:
        path.mkdir()
    with pytest.raises(XpnetError) as caught:
        read_tensors(path)
    assert str(caught.value) == f"{path}: no such file, or not readable"


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
    ],
    ids=["none", "foreign", "empty", "cut", "list", "null", "deep"],
)
def test_file_of_another_program_is_named(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    path = tmp_path / "file"
    save_file({"weight": np.ones(3)}, path, metadata=metadata)
    with pytest.raises(XpnetError) as caught:
        read_tensors(path)
    assert str(caught.value).startswith(f"{path}: not written by xpnet")
    assert len(str(caught.value).splitlines()) == 1
