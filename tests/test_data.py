"""Data sets: the embedded MNIST, a user's own files, and every way in which those can be wrong."""

import errno
import gc
import gzip
import hashlib
import io
import os
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import pipe, posix, refused
from xpnet.arrays import host_array
from xpnet.data import Dataset, load_data
from xpnet.data.checks import check_labels, check_rows
from xpnet.data.dataset import MNIST
from xpnet.data.idx import NAMES, read_idx
from xpnet.data.mapped import file_of, read
from xpnet.errors import UsageError, XpnetError

PUBLISHED = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
# the code of a type in byte 2 of the magic number, and how struct writes one number of it
IDX_TYPES = {"uint8": (8, "B"), "int8": (9, "b"), "int16": (11, "h"), "int32": (12, "i")}
IDX_TYPES |= {"float32": (13, "f"), "float64": (14, "d")}


def idx(values: Any, dtype: str = "uint8", shape: tuple[int, ...] | None = None) -> bytes:
    """An IDX file, written number by number; `shape` is what its header says, right or not."""
    array = np.asarray(values)
    code, letter = IDX_TYPES[dtype]
    shape = array.shape if shape is None else shape
    header = struct.pack(f">4B{len(shape)}I", 0, 0, code, len(shape), *shape)
    return header + struct.pack(f">{array.size}{letter}", *array.ravel().tolist())


def npy(array: np.ndarray | tuple[int, ...]) -> bytes:
    """An .npy file of an array, or one whose header promises a shape, without numbers."""
    content = io.BytesIO()
    if isinstance(array, np.ndarray):
        np.save(content, array)
    else:
        header = {"descr": "|u1", "fortran_order": False, "shape": array}
        np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


def small(**changes: Any) -> dict[str, Any]:
    """Six training rows of 2 x 2 pixels, three classes, two test rows. A change to None leaves one out."""
    arrays: dict[str, Any] = {
        "x_train": np.arange(24, dtype=np.uint8).reshape(6, 2, 2),
        "y_train": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8),
        "x_test": np.arange(8, dtype=np.uint8).reshape(2, 2, 2),
        "y_test": np.array([2, 0], dtype=np.uint8),
    }
    return {key: array for key, array in (arrays | changes).items() if array is not None}


def images(dtype: str) -> dict[str, Any]:
    """The images of the small data set in another type."""
    return {key: array.astype(dtype) for key, array in small().items() if key[0] == "x"}


def write(path: Path, kind: str = "npz", **changes: Any) -> Path:
    """The small data set, changed, as files of a kind. What is changed to bytes is written as it is."""
    arrays = small(**changes)
    if kind == "npz":
        with zipfile.ZipFile(path, "w") as archive:
            for key, array in arrays.items():
                archive.writestr(f"{key}.npy", array if isinstance(array, bytes) else npy(array))
        return path
    path.mkdir(exist_ok=True)
    for key, array in arrays.items():
        name = f"{key}.npy" if kind == "npy" else NAMES[key] + (".gz" if kind == "gz" else "")
        make = npy if kind == "npy" else lambda array: idx(array, array.dtype.name)
        content = array if isinstance(array, bytes) else make(array)
        (path / name).write_bytes(gzip.compress(content, mtime=0) if kind == "gz" else content)
    return path


def failure(path: Path, memory: int | None = None, file: str = "") -> str:
    """The message with which reading a data set fails, which begins with its name or that of a file in it."""
    message = refused(lambda: load_data(path, memory=memory))
    assert message.startswith(str(path / file) if file else str(path))
    return message


def assert_same(data: Dataset, expected: Mapping[str, np.ndarray]) -> None:
    """The rows made flat and of their own type, the labels int32."""
    for part in ("train", "test"):
        X, y = getattr(data, f"X_{part}"), getattr(data, f"y_{part}")
        rows = expected[f"x_{part}"]
        assert X.dtype == rows.dtype.newbyteorder("=")
        assert X.dtype.isnative
        assert X.flags.c_contiguous
        assert X.tolist() == rows.reshape(len(rows), -1).tolist()
        assert y.dtype == np.int32
        assert y.tolist() == expected[f"y_{part}"].tolist()


# --- what is read -------------------------------------------------------------------------------------------


def test_embedded_mnist_is_the_published_one() -> None:
    unpacked = {name: gzip.decompress((MNIST / f"{name}.gz").read_bytes()) for name in PUBLISHED}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in unpacked.items()} == PUBLISHED
    data = load_data("mnist")
    assert (data.X_train.shape, data.X_test.shape) == ((60_000, 784), (10_000, 784))
    assert data.X_train.dtype == data.X_test.dtype == np.uint8
    assert (data.X_train.min(), data.X_train.max(), data.features, data.classes) == (0, 255, 784, 10)
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


@pytest.mark.parametrize("kind", ["idx", "gz", "npz", "npy"])
def test_own_files_read_as_they_were_written(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "own.npz", kind)
    data = load_data(str(path))
    assert_same(data, small())
    assert (data.features, data.classes) == (4, 3)
    for array in (data.X_train, data.y_train, data.X_test, data.y_test):
        assert not file_of(array)
        array[0] = 0  # one's own, to be changed
    assert_same(load_data(path), small())


def test_folder_may_mix_plain_and_zipped_files(tmp_path: Path) -> None:
    write(tmp_path, "idx", y_train=None, x_test=None)
    write(tmp_path, "gz", x_train=None, y_test=None)
    assert_same(load_data(tmp_path), small())


@pytest.mark.parametrize("dtype", IDX_TYPES)
@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 2, 1, 2)], ids=str)
def test_every_idx_type_reads_as_it_was_written(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    limits: Any = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    values = np.array([limits.min, limits.max, 0, 1], dtype=dtype).reshape(shape)
    (tmp_path / "file").write_bytes(idx(values, dtype))
    (tmp_path / "file.gz").write_bytes(gzip.compress(idx(values, dtype)))
    for name in ("file", "file.gz"):
        array = read_idx(tmp_path / name)
        assert array.dtype == np.dtype(dtype).newbyteorder(">")
        assert array.tolist() == values.tolist()


@pytest.mark.parametrize("kind", ["npz", "npy"])
@pytest.mark.parametrize("dtype", ["int8", "uint16", ">u2", ">i2", ">f4", "<f8"])
def test_images_keep_their_type_in_the_byte_order_of_the_machine(
    tmp_path: Path, kind: str, dtype: str
) -> None:
    assert_same(load_data(write(tmp_path / "own.npz", kind, **images(dtype))), small(**images(dtype)))


@pytest.mark.parametrize("dtype", ["bool", "float16"])
def test_small_types_become_float32_and_need_its_memory(tmp_path: Path, dtype: str) -> None:
    path = write(tmp_path / "own.npz", **images(dtype))
    data = load_data(path, memory=96)
    assert data.X_train.dtype == data.X_test.dtype == np.float32
    assert data.X_train.tolist() == images(dtype)["x_train"].astype(float).reshape(6, 4).tolist()
    assert "96 bytes, more than the memory of 95" in failure(path, memory=95)


@pytest.mark.parametrize("dtype", ["float32", ">f8", "bool", "uint64", "int8", ">i8"])
def test_labels_of_any_type_that_are_whole_numbers_are_taken(tmp_path: Path, dtype: str) -> None:
    y = np.array([0, 1, 1, 0, 1, 0], dtype)
    data = load_data(write(tmp_path / "own.npz", y_train=y, y_test=y[:2]))
    assert data.y_train.dtype == np.int32
    assert data.y_train.tolist() == [0, 1, 1, 0, 1, 0]


# --- what is refused ----------------------------------------------------------------------------------------


@posix
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "no such file or folder"),
        ("own.npz", "no such file or folder"),
        ("x" * 300, "File name too long"),
        ("x" * 100_000 + ".npz", "File name too long"),
        ("a\0b.npz", "null"),
        ("\ud800", "surrogates"),
        ("rows.csv", "column 3 is named '1'"),
        ("pipe.npz", "a folder, device or pipe where there must be a file"),
        ("folder.npz", "none of the forms of data that are read; give a table"),
        ("loop.npz", "Too many levels of symbolic links"),
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_name_that_is_no_data_set_is_an_error_of_one_line(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "rows.csv").write_text("1,2,1\n")
    pipe(tmp_path / "pipe.npz")
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    message = refused(lambda: load_data(tmp_path / name))
    assert said in message
    assert len(message.replace(str(tmp_path), "")) < 500


@posix
@pytest.mark.parametrize("kind", ["idx", "gz", "npy"])
@pytest.mark.parametrize("memory", [None, 1])
@pytest.mark.parametrize("endless", [Path.mkdir, pipe, lambda path: path.symlink_to("/dev/zero")])
def test_file_of_a_folder_that_is_none_is_named_and_not_read(
    tmp_path: Path, kind: str, memory: int | None, endless: Callable[[Path], None]
) -> None:
    write(tmp_path, kind)
    file = next(path for path in tmp_path.iterdir() if path.name.startswith(("train-labels", "y_train")))
    file.unlink()
    endless(file)
    assert "a folder, device or pipe where there must be a file" in failure(tmp_path, memory, file.name)


@pytest.mark.parametrize("key", NAMES)
def test_one_missing_file_or_array_is_named(tmp_path: Path, key: str) -> None:
    gone: dict[str, Any] = {key: None}
    for kind in ("idx", "npy"):
        said = f"none of {key}.npy, {NAMES[key]}, {NAMES[key]}.gz in this folder"
        assert failure(write(tmp_path / kind, kind, **gone)).endswith(said)
    message = failure(write(tmp_path / "own.npz", **gone))
    assert f"no array {key} " in message
    assert all(other in message for other in NAMES)


IMAGES = idx(small()["x_train"])
BAD_IDX = {
    "empty": (b"", "not an IDX file"),
    "cut in the magic number": (IMAGES[:3], "not an IDX file"),
    "cut in the header": (IMAGES[:14], "cut off within the header"),
    "cut after the header": (IMAGES[:16], "promises 24 bytes, the file holds 0"),
    "cut in the content": (IMAGES[:-1], "promises 24 bytes, the file holds 23"),
    "more content than promised": (IMAGES + b"\0", "holds more"),
    "text": (b"label,pixel\n0,12\n", "not an IDX file of numbers (its magic number is 0x6c616265)"),
    "unknown type": (b"\0\0\x0a" + IMAGES[3:], "its magic number is 0x00000a03"),
    "no dimensions": (b"\0\0\x08\0", "not an IDX file"),
    "too many dimensions": (b"\0\0\x08\xff" + bytes(4 * 255), "not an IDX file"),
    "2**40 bytes promised": (idx([1, 2, 3], shape=(2**20, 2**20)), "promises 1,099,511,627,776 bytes"),
    "nothing, past every limit": (idx([], shape=(0, 2**32 - 1, 2**32 - 1)), "holds nothing"),
}


@pytest.mark.parametrize(("kind", "memory"), [("idx", None), ("idx", 1), ("gz", None)])
@pytest.mark.parametrize(("content", "said"), BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx_file_is_named(
    tmp_path: Path, content: bytes, said: str, kind: str, memory: int | None
) -> None:
    write(tmp_path, kind, x_train=content)
    tracemalloc.start()
    try:
        assert said in failure(tmp_path, memory, NAMES["x_train"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**25  # whatever the header promises


@pytest.mark.parametrize("position", [0, 12, -8, -4], ids=["magic", "stream", "checksum", "length"])
def test_damaged_gzip_is_said_to_be(tmp_path: Path, position: int) -> None:
    path = write(tmp_path, "gz") / f"{NAMES['x_train']}.gz"
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    for damaged in (content, content[:position] or b"\x1f"):
        path.write_bytes(damaged)
        assert "damaged" in failure(tmp_path, file=path.name)


BAD_NPY = {
    "empty": b"",
    "text": b"x_train, y_train, x_test, y_test\n",
    "cut off in its header": npy((6, 4))[:20],
    "cut off in its content": npy((6, 4)) + bytes(23),
    "more promised than fits a size": npy((2**70, 4)),
    "a negative size": npy((-1, 4)) + bytes(24),
    "nothing, past every limit": npy((0, 2**40, 2**40)),
    "a statement without an end": npy((6, 4))[:10] + b"(" + npy((6, 4))[11:] + bytes(24),
    "an archive": b"PK\3\4",
}


@pytest.mark.parametrize(("kind", "memory"), [("npz", None), ("npy", None), ("npy", 1)])
@pytest.mark.parametrize("content", BAD_NPY.values(), ids=BAD_NPY)
def test_bad_npy_file_is_named(tmp_path: Path, content: bytes, kind: str, memory: int | None) -> None:
    path = write(tmp_path / "own.npz", kind, x_train=content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        message = failure(path, memory, "x_train.npy: " if kind == "npy" else "")
        gc.collect()
    assert "x_train" in message
    assert caught == []  # no file was left open


@pytest.mark.parametrize("content", [b"", b"x_train, y_train\n", b"PK\3\4", npy(np.ones((6, 4)))], ids=len)
def test_what_is_no_archive_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    assert "cut off, damaged" in failure(tmp_path / "own.npz")


@pytest.mark.parametrize("packed", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_archive_packed_in_another_way_is_refused(tmp_path: Path, packed: int) -> None:
    path = write(tmp_path / "own.npz", x_train=None)
    with zipfile.ZipFile(path, "a", packed) as archive:
        archive.writestr("x_train.npy", npy(small()["x_train"]))
    assert "write it with numpy.savez" in failure(path)


class Trap:
    """Unpickling one makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("kind", ["npz", "npy"])
@pytest.mark.parametrize("key", NAMES)
def test_objects_are_never_unpickled(tmp_path: Path, key: str, kind: str) -> None:
    mark, trapped = tmp_path / "mark", tmp_path / "trap.npy"
    np.save(trapped, np.full(small()[key].shape, Trap(mark), dtype=object))
    message = failure(write(tmp_path / "own.npz", kind, **{key: trapped.read_bytes()}))
    assert key in message
    assert message.endswith("(Python objects are not read)")
    assert not mark.exists()
    np.load(trapped, allow_pickle=True)  # the trap is a good one: whoever unpickles it is caught
    assert mark.exists()


def outcome(path: Path) -> str:
    """What comes of reading a damaged copy of the small data set."""
    try:
        data = load_data(path)
    except XpnetError:
        return "refused"
    same = data.X_train.tolist() == small()["x_train"].reshape(6, 4).tolist()
    return "as it was" if same and data.y_train.tolist() == small()["y_train"].tolist() else "something else"


def test_npz_damaged_anywhere_reads_as_it_was_or_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **small(), more=np.array(["not asked for"]))
    whole = path.read_bytes()
    outcomes: dict[str, list[int]] = {}
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        outcomes.setdefault(outcome(path), []).append(position)
    assert set(outcomes) == {"as it was", "refused"}, outcomes


def zeros(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """An array of zeros."""
    return np.zeros(shape, dtype=dtype)


NOTHING = "they must be (n, …) and (n,), and hold a number"
WRONG: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "labels of rank 2": ({"y_train": zeros(6, 1)}, f"labels of shape (6, 1); {NOTHING}"),
    "images of rank 1": ({"x_train": zeros(6)}, f"images of shape (6,) and labels of shape (6,); {NOTHING}"),
    "fewer training labels than images": ({"y_train": zeros(5)}, NOTHING),
    "more test labels than images": (
        {"y_test": zeros(3)},
        "images of shape (2, 2, 2) and labels of shape (3,)",
    ),
    "test rows of another size": ({"x_test": zeros(2, 3, 3)}, "test rows 9 x uint8"),
    "test rows of another type": ({"x_test": zeros(2, 2, 2, dtype="float32")}, "test rows 4 x float32"),
    "pixels of four bytes": (images("int32"), "int32 numbers; store pixels as uint8 or uint16"),
    "negative labels": (
        {"y_train": np.array([0, 1, 2, -1, 1, 2], dtype=np.int16)},
        "label -1: classes are numbered 0, 1, 2, …, up to 32767; is it a missing",
    ),
    "test labels that were never taught": ({"y_test": np.array([0, 3], dtype=np.uint8)}, "classes 0 … 2"),
    "labels too large": ({"y_train": np.array([0, 1, 2, 0, 1, 2**20], dtype=np.int32)}, "label 1048576: "),
    "labels that mean none": (
        {"y_train": np.array([0, 1, 2, 9999, 2, 9999], dtype=np.int16)},
        "labels 0, 1, 2 and 9999 leave 9,996 of 10,000 classes without a row: is 9999 a missing value?",
    ),
    "no training rows": ({"x_train": zeros(0, 2, 2), "y_train": zeros(0)}, "(0, 2, 2)"),
    "rows of nothing": ({"x_train": zeros(6, 0, 2), "x_test": zeros(2, 0, 2)}, "(6, 0, 2)"),
    "one training row": ({"x_train": zeros(1, 2, 2), "y_train": zeros(1)}, "1 training rows"),
    "one class": (
        {"y_train": zeros(6), "y_test": zeros(2)},
        "6 training rows of 1 classes; give 2 or more of each",
    ),
    "a NaN among the rows": (
        images("float32") | {"x_train": np.where(np.eye(6, 4), np.nan, 1).astype("f4")},
        "row 0, counted from 0: NaN",
    ),
    "an infinity among the rows": (
        images("float64") | {"x_test": np.array([[1.0] * 4, [np.inf] * 4])},
        "row 1, ",
    ),
    "labels that are not whole": ({"y_train": np.full(6, 1.5, dtype=np.float32)}, "whole numbers"),
    "labels past every integer": ({"y_train": np.array([0.0, 1, 2, 0, 1, 1e300])}, "label 1e+300: "),
}
NOT_IN_IDX = {
    "words": ({"x_train": np.full((6, 4), "a")}, "str_ where there must be numbers"),
    "records": (
        {"x_train": np.zeros((6, 4), [(f"a{i}", "u1") for i in range(99)])},
        "void where there must be",
    ),
    "the largest integer as a label": (
        {"y_train": np.array([0, 1, 2, 0, 1, 2**63 - 1])},
        "label 9223372036854775807: ",
    ),
    "integers of eight bytes": ({"x_train": zeros(6, 4, dtype="int64")}, "int64 numbers; store pixels as"),
}


@pytest.mark.parametrize("kind", ["idx", "npz", "npy", "npy, mapped"])
@pytest.mark.parametrize("wrong", [*WRONG, *NOT_IN_IDX])
def test_data_that_do_not_fit_together_are_refused(tmp_path: Path, wrong: str, kind: str) -> None:
    changes, said = (WRONG | NOT_IN_IDX)[wrong]
    if (kind == "npy, mapped" and "among the rows" in wrong) or (kind == "idx" and wrong in NOT_IN_IDX):
        return  # found when the rows are read, or not to be written
    path = write(tmp_path / "own.npz", kind.partition(",")[0], **changes)
    message = failure(path, memory=1 if "mapped" in kind else None)
    assert said in message or (kind == "idx" and "holds nothing" in message)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [(np.arange(0, 1000, 250), 751), (np.arange(0, 3000, 2), 2999), (np.arange(1500), 1500)],
)
def test_classes_may_have_gaps_if_they_are_few_or_half_of_them_have_rows(
    labels: np.ndarray, classes: int
) -> None:
    assert check_labels(labels, None, "y", taught=True) == classes
    assert check_labels(np.array([classes - 1]), classes, "y") == classes  # a test set may lack most classes


def test_masked_numbers_are_refused_where_any_is_masked() -> None:
    X, y = np.ma.masked_equal(np.arange(12.0).reshape(6, 2), 5), np.ma.masked_equal([0, 1, 2], 2)
    assert refused(lambda: host_array(X, "X")) == "X: masked numbers; fill them, or leave their rows out"
    assert refused(lambda: host_array(y, "y")) == "y: masked numbers; fill them, or leave their rows out"
    assert type(check_rows(X.filled(0), "X")) is np.ndarray  # the advice
    assert type(check_rows(X[3:], "X")) is np.ndarray


# --- rows that stay in their files --------------------------------------------------------------------------


@pytest.mark.parametrize("memory", [23, 24], ids=["too little", "enough"])
@pytest.mark.parametrize("kind", ["npy", "idx"])
def test_rows_stay_in_their_file_where_memory_is_limited(tmp_path: Path, kind: str, memory: int) -> None:
    data = load_data(write(tmp_path, kind), memory=memory)  # of 24 bytes of training images, and 8 of others
    for array in (data.X_train, data.y_train, data.X_test, data.y_test):
        assert file_of(array)
    for part, rows in (("train", 6), ("test", 2)):
        X, y = getattr(data, f"X_{part}"), getattr(data, f"y_{part}")
        assert X.tolist() == small()[f"x_{part}"].reshape(rows, 4).tolist()
        assert y.tolist() == small()[f"y_{part}"].tolist()


@pytest.mark.parametrize("part", ["train", "test"])
def test_rows_that_fit_but_stay_in_their_file_are_checked_at_once(tmp_path: Path, part: str) -> None:
    arrays = images("float32")
    arrays[f"x_{part}"][1] = np.nan
    said = failure(
        write(tmp_path, "npy", **arrays), memory=96, file=f"x_{part}.npy: row 1, counted from 0: NaN"
    )
    assert said.endswith("clean the rows first")


@pytest.mark.parametrize("kind", ["idx", "npy"])
def test_a_file_that_cannot_be_mapped_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def refusing(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    monkeypatch.setattr("mmap.mmap", refusing)
    assert failure(write(tmp_path, kind), memory=1).endswith(os.strerror(errno.ENODEV))


def test_mapped_idx_files_go_with_test_images_that_were_read(tmp_path: Path) -> None:
    write(tmp_path, "idx", **(images("int16") | {"x_test": None}))
    write(tmp_path, "gz", x_test=images("int16")["x_test"], x_train=None, y_train=None, y_test=None)
    data = load_data(tmp_path, memory=20)
    assert file_of(data.X_train)
    assert not file_of(data.X_test)
    assert data.X_train.tolist() == small()["x_train"].reshape(6, 4).tolist()


@pytest.mark.parametrize("shape", [(2, 2), (4,)], ids=str)
def test_npy_of_fortran_order_is_read_but_not_streamed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    turned = {key: np.asfortranarray(small()[key].reshape(-1, *shape)) for key in ("x_train", "x_test")}
    write(tmp_path, "npy", **turned)
    assert_same(load_data(tmp_path), small())
    assert failure(tmp_path, memory=20, file="x_train.npy").endswith("save them as .npy files in C order")


@pytest.mark.parametrize("kind", ["gz", "npz"])
def test_images_larger_than_memory_that_cannot_be_streamed_are_refused(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "own.npz", kind)
    assert load_data(path, memory=24).classes == 3
    assert "24 bytes, more than the memory of 23, and neither compressed files nor" in failure(
        path, memory=23
    )


VIEWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "all": lambda array: array,
    "rows": lambda array: array[3:7],
    "columns": lambda array: array[:, 1:3],
    "backwards": lambda array: array[::-2, ::-1],
    "turned": lambda array: array.T,
    "one row": lambda array: array[4],
    "one number": lambda array: array[4, 2:3],
    "no rows": lambda array: array[4:4],
    "no memmap": lambda array: np.asarray(array)[2:],
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_any_view_of_a_mapped_file_is_read_from_it(
    tmp_path: Path, view: Callable[[np.ndarray], np.ndarray], order: Any, mode: Any
) -> None:
    whole = np.array(np.arange(40, dtype=">i2").reshape(10, 4), order=order)
    np.save(tmp_path / "array.npy", whole)
    array = np.load(tmp_path / "array.npy", mmap_mode=mode)
    if mode != "r":
        whole[5] = array[5] = 99  # seen at once, in the file or in the pages of mode "c"
    copy = read(view(array))
    assert copy.tolist() == view(whole).tolist()
    assert copy.dtype == whole.dtype
    assert not file_of(copy)
    assert bool(file_of(view(array))) == (mode != "c")


@posix
def test_a_mapped_file_that_has_lost_its_name_is_read_through_its_pages(tmp_path: Path) -> None:
    np.save(tmp_path / "array.npy", np.arange(8))
    array = np.load(tmp_path / "array.npy", mmap_mode="r")
    (tmp_path / "array.npy").unlink()
    assert file_of(array) is None
    assert read(array[2:]).tolist() == [2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("memory", [0, -1, 1.5, "4GB", True, 10**30], ids=repr)
def test_memory_that_is_no_number_of_bytes_is_refused(memory: Any) -> None:
    message = refused(lambda: load_data(memory=memory), UsageError)
    assert message.startswith(("memory must be a whole number, 1 or more, not", "memory 10000"))


@pytest.mark.parametrize("source", [None, 0, b"mnist", ["mnist"]], ids=repr)
def test_source_that_is_no_path_is_refused(source: Any) -> None:
    assert refused(lambda: load_data(source), UsageError).startswith("source must be mnist or a path, not ")
