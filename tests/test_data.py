"""Data sets: the embedded MNIST, a user's own files, and every way in which those can be wrong."""

import errno
import gc
import gzip
import hashlib
import io
import mmap
import os
import struct
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from xpnet.data import Dataset, load_data
from xpnet.data.dataset import MNIST
from xpnet.data.idx import read_idx
from xpnet.data.mapped import file_of as is_mapped
from xpnet.data.mapped import pieces
from xpnet.errors import UsageError, XpnetError

PUBLISHED = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NAMES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
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


def small() -> dict[str, np.ndarray]:
    """Six training rows of 2 x 2 pixels in three classes, and two test rows."""
    return {
        "x_train": np.arange(24, dtype=np.uint8).reshape(6, 2, 2),
        "y_train": np.array([0, 1, 2, 0, 1, 2], dtype=np.uint8),
        "x_test": np.arange(8, dtype=np.uint8).reshape(2, 2, 2),
        "y_test": np.array([2, 0], dtype=np.uint8),
    }


def write_folder(folder: Path, arrays: Mapping[str, np.ndarray], zipped: bool = False) -> Path:
    """Four IDX files."""
    folder.mkdir(exist_ok=True)
    for key, array in arrays.items():
        content = idx(array, array.dtype.name)
        name = NAMES[key] + (".gz" if zipped else "")
        (folder / name).write_bytes(gzip.compress(content, mtime=0) if zipped else content)
    return folder


def write_npz(path: Path, **changes: Any) -> Path:
    """The small data set as an archive, some arrays replaced, those given as None left out."""
    arrays = {key: array for key, array in (small() | changes).items() if array is not None}
    np.savez(path, **arrays)
    return path


def write_npy(folder: Path, **changes: Any) -> Path:
    """The small data set as a folder of ``.npy`` files, likewise."""
    folder.mkdir(exist_ok=True)
    for key, array in (small() | changes).items():
        if array is not None:
            np.save(folder / f"{key}.npy", array)
    return folder


def failure(read: Callable[[Path], object], path: Path) -> str:
    """The message with which reading fails: one line that begins with the file."""
    with pytest.raises(XpnetError) as caught:
        read(path)
    assert type(caught.value) is XpnetError
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert len(message.splitlines()) == 1
    return message


def assert_same(data: Dataset, expected: Mapping[str, np.ndarray]) -> None:
    """The rows made flat and of their own type, the labels int32."""
    for part in ("train", "test"):
        X, y = getattr(data, f"X_{part}"), getattr(data, f"y_{part}")
        images = expected[f"x_{part}"]
        assert X.dtype == images.dtype
        assert X.tolist() == images.reshape(len(images), -1).tolist()
        assert y.dtype == np.int32
        assert y.tolist() == expected[f"y_{part}"].tolist()


def test_embedded_mnist_is_the_published_one() -> None:
    unpacked = {name: gzip.decompress((MNIST / f"{name}.gz").read_bytes()) for name in PUBLISHED}
    assert {name: hashlib.sha256(content).hexdigest() for name, content in unpacked.items()} == PUBLISHED


def test_mnist_has_its_rows_and_labels() -> None:
    data = load_data("mnist")
    assert data.X_train.shape == (60_000, 784)
    assert data.X_test.shape == (10_000, 784)
    assert data.X_train.dtype == data.X_test.dtype == np.uint8
    assert data.X_train.min() == 0
    assert data.X_train.max() == 255
    assert (data.features, data.classes) == (784, 10)
    assert np.bincount(data.y_test).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.y_train[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.y_test[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


@pytest.mark.parametrize("zipped", [False, True])
def test_own_folder_reads_as_it_was_written(tmp_path: Path, zipped: bool) -> None:
    data = load_data(write_folder(tmp_path / "own", small(), zipped))
    assert_same(data, small())
    assert (data.features, data.classes) == (4, 3)


def test_folder_may_mix_plain_and_zipped_files_and_be_named_by_a_string(tmp_path: Path) -> None:
    write_folder(tmp_path, {key: small()[key] for key in ("x_train", "y_test")})
    write_folder(tmp_path, {key: small()[key] for key in ("y_train", "x_test")}, zipped=True)
    assert_same(load_data(str(tmp_path)), small())


@pytest.mark.parametrize("shape", [(3, 5), (7, 1), (4,), (4, 4, 3)], ids=str)
def test_images_of_any_shape_are_made_flat(tmp_path: Path, rng: np.random.Generator, shape: Any) -> None:
    rows = {"x_train": 6, "x_test": 2}
    images = {key: rng.integers(0, 256, (n, *shape), dtype=np.uint8) for key, n in rows.items()}
    data = load_data(write_folder(tmp_path, small() | images))
    assert data.features == prod(shape)
    assert_same(data, small() | images)


def test_300_classes_fit_into_int16_labels(tmp_path: Path) -> None:
    many: dict[str, np.ndarray] = {
        "x_train": np.zeros((300, 2, 2), dtype=np.uint8),
        "y_train": np.arange(300, dtype=np.int16)[::-1],
        "x_test": np.zeros((2, 2, 2), dtype=np.uint8),
        "y_test": np.array([299, 256], dtype=np.int16),
    }
    data = load_data(write_folder(tmp_path, many))
    assert data.classes == 300
    assert_same(data, many)


@pytest.mark.parametrize("dtype", IDX_TYPES)
@pytest.mark.parametrize("shape", [(4,), (2, 2), (1, 2, 1, 2)], ids=str)
def test_every_idx_type_reads_as_it_was_written(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    limits: Any = np.finfo(dtype) if dtype.startswith("float") else np.iinfo(dtype)
    values = np.array([limits.min, limits.max, 0, 1], dtype=dtype).reshape(shape)
    (tmp_path / "file").write_bytes(idx(values, dtype))
    read = read_idx(tmp_path / "file")
    assert read.dtype == np.dtype(dtype)
    assert read.dtype.isnative
    assert read.shape == shape
    assert read.tolist() == values.tolist()


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "float64"])
def test_images_keep_their_type(tmp_path: Path, dtype: str) -> None:
    images = {key: array.astype(dtype) for key, array in small().items() if key[0] == "x"}
    assert_same(load_data(write_folder(tmp_path, small() | images)), small() | images)


def test_missing_folder_is_named(tmp_path: Path) -> None:
    assert "no such file or folder" in failure(load_data, tmp_path / "nowhere")


def test_empty_folder_is_told_what_it_lacks(tmp_path: Path) -> None:
    message = failure(load_data, tmp_path)
    assert "train-images-idx3-ubyte and no train-images-idx3-ubyte.gz" in message


@pytest.mark.parametrize("key", NAMES)
def test_one_missing_file_is_named(tmp_path: Path, key: str) -> None:
    write_folder(tmp_path, small())
    (tmp_path / NAMES[key]).unlink()
    assert NAMES[key] in failure(load_data, tmp_path)


def test_file_of_no_known_kind_is_told_what_it_should_be(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("1,2,3\n")
    assert "folder of IDX or .npy files" in failure(load_data, tmp_path / "rows.csv")


@pytest.mark.parametrize("name", ["x" * 300, "a\0b.npz", "x" * 300 + ".npz"], ids=["long", "nul", "long npz"])
def test_name_that_no_file_can_have_is_an_error_of_one_line(name: str) -> None:
    with pytest.raises(XpnetError) as caught:
        load_data(name)
    assert str(caught.value).startswith((name, repr(name)))
    assert len(str(caught.value).splitlines()) == 1


IMAGES = idx(small()["x_train"])
BAD_IDX = {
    "empty": (b"", "not an IDX file"),
    "in the magic number": (IMAGES[:3], "not an IDX file"),
    "in the header": (IMAGES[:14], "cut off within the header"),
    "after the header": (IMAGES[:16], "promises 24 bytes, the file holds 0"),
    "in the content": (IMAGES[:-1], "promises 24 bytes, the file holds 23"),
    "more content than promised": (IMAGES + b"\0", "holds more"),
    "wrong magic": (b"\x01" + IMAGES[1:], "not an IDX file"),
    "text": (b"label,pixel\n0,12\n", "not an IDX file"),
    "unknown type": (b"\0\0\x0a" + IMAGES[3:], "unknown IDX type 0x0a"),
    "no dimensions": (b"\0\0\x08\0", "0 dimensions"),
    "too many dimensions": (b"\0\0\x08\xff" + bytes(4 * 255), "255 dimensions"),
    "2**40 bytes promised": (idx([1, 2, 3], shape=(2**20, 2**20)), "promises 1,099,511,627,776 bytes"),
}


@pytest.mark.parametrize("memory", [None, 1], ids=["read", "mapped"])
@pytest.mark.parametrize(("content", "said"), BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx_file_is_named(tmp_path: Path, content: bytes, said: str, memory: int | None) -> None:
    path = write_folder(tmp_path, small()) / NAMES["x_train"]
    path.write_bytes(content)
    with pytest.raises(XpnetError) as caught:
        load_data(tmp_path, memory=memory)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert said in message
    assert len(message.splitlines()) == 1


@pytest.mark.parametrize(("content", "said"), BAD_IDX.values(), ids=BAD_IDX)
def test_bad_idx_file_within_gzip_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(content))
    assert said in failure(read_idx, path)


def test_idx_file_of_nothing_in_a_shape_past_every_limit_is_refused(tmp_path: Path) -> None:
    path = write_folder(tmp_path, small()) / NAMES["x_train"]
    path.write_bytes(idx([], shape=(0, 2**32 - 1, 2**32 - 1)))
    with pytest.raises(XpnetError) as caught:
        load_data(tmp_path)
    assert str(caught.value).startswith(str(tmp_path))


@pytest.mark.parametrize("zipped", [False, True])
def test_memory_does_not_follow_what_a_header_promises(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / ("file.gz" if zipped else "file")
    content = idx([1, 2, 3], shape=(2**20, 2**20))
    path.write_bytes(gzip.compress(content) if zipped else content)
    tracemalloc.start()
    try:
        failure(read_idx, path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**25


@pytest.mark.parametrize("length", [5, 15, 25, -9, -1])
def test_gzip_that_is_cut_off_is_said_to_be(tmp_path: Path, length: int) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(IMAGES, mtime=0)[:length])
    assert "cut off" in failure(read_idx, path)


def test_gz_that_is_not_gzip_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "file.gz").write_bytes(IMAGES)
    assert "not a gzip file" in failure(read_idx, tmp_path / "file.gz")


@pytest.mark.parametrize("position", [12, -8, -4], ids=["stream", "checksum", "length"])
def test_damaged_gzip_is_said_to_be(tmp_path: Path, position: int) -> None:
    content = bytearray(gzip.compress(IMAGES, mtime=0))
    content[position] ^= 0xFF
    (tmp_path / "file.gz").write_bytes(content)
    assert "damaged" in failure(read_idx, tmp_path / "file.gz")


def test_idx_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = write_folder(tmp_path, small()) / NAMES["y_train"]
    path.unlink()
    path.mkdir()
    with pytest.raises(XpnetError, match="directory") as caught:
        load_data(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")


def zeros(*shape: int, dtype: str = "uint8") -> np.ndarray:
    """An array of zeros."""
    return np.zeros(shape, dtype=dtype)


WRONG: dict[str, tuple[dict[str, np.ndarray], str]] = {
    "labels of rank 2": ({"y_train": zeros(6, 1)}, "dimension"),
    "images of rank 1": ({"x_train": zeros(6)}, "dimension"),
    "fewer training labels than images": ({"y_train": zeros(5)}, "6 train images but 5 labels"),
    "more test labels than images": ({"y_test": zeros(3)}, "2 test images but 3 labels"),
    "test rows of another size": ({"x_test": zeros(2, 3, 3)}, "test rows 9 x uint8"),
    "test rows of another type": ({"x_test": zeros(2, 2, 2, dtype="float32")}, "test rows 4 x float32"),
    "pixels of four bytes": (
        {"x_train": zeros(6, 2, 2, dtype="int32"), "x_test": zeros(2, 2, 2, dtype="int32")},
        "int32 numbers; store pixels as uint8 or uint16",
    ),
    "negative labels": ({"y_train": np.array([0, 1, 2, -1, 1, 2], dtype=np.int16)}, "label -1 is outside"),
    "negative test labels": ({"y_test": np.array([0, -2], dtype=np.int16)}, "label -2 is outside"),
    "test labels that were never taught": ({"y_test": np.array([0, 3], dtype=np.uint8)}, "classes 0 … 2"),
    "labels too large to be meant": (
        {"y_train": np.array([0, 1, 2, 0, 1, 2**20], dtype=np.int32)},
        "1048576",
    ),
    "no training rows": ({"x_train": zeros(0, 2, 2), "y_train": zeros(0)}, "holds nothing"),
    "no test rows": ({"x_test": zeros(0, 2, 2), "y_test": zeros(0)}, "holds nothing"),
    "rows of nothing": ({"x_train": zeros(6, 0, 2), "x_test": zeros(2, 0, 2)}, "holds nothing"),
    "one training row": ({"x_train": zeros(1, 2, 2), "y_train": zeros(1)}, "only one training row"),
    "one class": ({"y_train": zeros(6), "y_test": zeros(2)}, "every training label is 0"),
    "a NaN among the rows": (
        {
            "x_train": np.full((6, 2), np.nan, dtype=np.float32),
            "x_test": zeros(2, 2, dtype="float32"),
        },
        "NaN or infinity",
    ),
    "an infinity among the rows": (
        {"x_train": np.full((6, 2), np.inf, dtype=np.float64), "x_test": zeros(2, 2, dtype="float64")},
        "NaN or infinity",
    ),
    "labels that are not whole": ({"y_train": np.full(6, 1.5, dtype=np.float32)}, "whole numbers"),
    "labels that are not numbers": ({"y_train": np.full(6, np.nan, dtype=np.float64)}, "whole numbers"),
    "labels past every integer": ({"y_train": np.array([0.0, 1, 2, 0, 1, 1e300])}, "outside the classes"),
}


@pytest.mark.parametrize("kind", ["idx", "npz", "npy", "npy, mapped"])
@pytest.mark.parametrize(("changes", "said"), WRONG.values(), ids=WRONG)
def test_data_that_do_not_fit_together_are_refused(
    tmp_path: Path, changes: dict[str, np.ndarray], said: str, kind: str
) -> None:
    path, memory = tmp_path / "own.npz", 1 if kind == "npy, mapped" else None
    if memory and said == "NaN or infinity":
        return  # which is found when the rows are read
    if kind == "idx":
        write_folder(path, small() | changes)
    elif kind == "npz":
        write_npz(path, **changes)
    else:
        write_npy(path, **changes)
    with pytest.raises(XpnetError) as caught:
        load_data(path, memory=memory)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert said in message
    assert len(message.splitlines()) == 1


def test_two_training_rows_and_one_test_row_are_enough(tmp_path: Path) -> None:
    fewest: dict[str, Any] = {
        "x_train": zeros(2, 3),
        "y_train": np.array([1, 0]),
        "x_test": zeros(1, 3),
        "y_test": zeros(1),
    }
    assert load_data(write_npz(tmp_path / "own.npz", **fewest)).classes == 2


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_reads_as_it_was_written(tmp_path: Path, save: Callable[..., None]) -> None:
    save(tmp_path / "own.npz", **small(), names=np.array(["not asked for"]))
    assert_same(load_data(tmp_path / "own.npz"), small())


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_npz_of_either_byte_order_becomes_native(
    tmp_path: Path, dtype: str, order: Literal["<", ">"]
) -> None:
    arrays = {
        key: array.astype(np.dtype(dtype if key[0] == "x" else "int64").newbyteorder(order))
        for key, array in small().items()
    }
    data = load_data(write_npz(tmp_path / "own.npz", **arrays))
    assert data.X_train.dtype.isnative
    assert data.y_train.dtype.isnative
    assert data.X_train.dtype == np.dtype(dtype)
    assert data.X_train.tolist() == small()["x_train"].reshape(6, 4).tolist()
    assert data.y_train.tolist() == [0, 1, 2, 0, 1, 2]


def test_npz_of_fortran_order_keeps_its_rows(tmp_path: Path) -> None:
    turned = {key: np.asfortranarray(array) for key, array in small().items()}
    data = load_data(write_npz(tmp_path / "own.npz", **turned))
    assert_same(data, small())
    assert data.X_train.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["bool", "float16"])
def test_small_types_become_float32(tmp_path: Path, dtype: str) -> None:
    images = {key: array.astype(dtype) for key, array in small().items() if key[0] == "x"}
    data = load_data(write_npz(tmp_path / "own.npz", **images))
    assert data.X_train.dtype == data.X_test.dtype == np.float32
    assert data.X_train.tolist() == images["x_train"].astype(float).reshape(6, 4).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "uint64", "int8"])
def test_labels_of_any_type_that_are_whole_numbers_are_taken(tmp_path: Path, dtype: str) -> None:
    labels = {"y_train": np.array([0, 1, 1, 0, 1, 0]).astype(dtype), "y_test": np.array([1, 0]).astype(dtype)}
    data = load_data(write_npz(tmp_path / "own.npz", **labels))
    assert data.y_train.dtype == np.int32
    assert data.y_train.tolist() == [0, 1, 1, 0, 1, 0]


@pytest.mark.parametrize("key", NAMES)
def test_npz_without_a_key_is_told_what_it_holds(tmp_path: Path, key: str) -> None:
    message = failure(load_data, write_npz(tmp_path / "own.npz", **{key: None}))
    assert f"no array {key} " in message
    assert all(other in message for other in NAMES)


@pytest.mark.parametrize("dtype", ["int64", "uint32", "complex128", "U1", "M8[s]"])
def test_npz_of_types_that_are_no_pixels_is_refused(tmp_path: Path, dtype: str) -> None:
    path = write_npz(tmp_path / "own.npz", x_train=np.zeros((6, 4), dtype), x_test=np.zeros((2, 4), dtype))
    assert "x_train" in failure(load_data, path)


def test_npz_that_is_missing_is_named(tmp_path: Path) -> None:
    assert "no such file" in failure(load_data, tmp_path / "own.npz")


class Trap:
    """Unpickling one makes a folder."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("key", NAMES)
def test_objects_in_an_npz_are_never_unpickled(tmp_path: Path, key: str) -> None:
    mark = tmp_path / "mark"
    shape = small()[key].shape
    path = write_npz(tmp_path / "own.npz", **{key: np.full(shape, Trap(mark), dtype=object)})
    assert f"{key} holds Python objects" in failure(load_data, path)
    assert not mark.exists()

    # the trap is a good one: whoever unpickles it is caught
    with np.load(path, allow_pickle=True) as archive:
        assert archive[key].shape == shape
    assert mark.exists()


def archive_of(x_train: bytes, name: str = "x_train.npy") -> bytes:
    """A zip whose x_train is `x_train`, whatever that is."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for key, array in small().items():
            member = io.BytesIO()
            np.save(member, array)
            if key == "x_train":
                archive.writestr(name, x_train)
            else:
                archive.writestr(f"{key}.npy", member.getvalue())
    return content.getvalue()


def npy(shape: tuple[int, ...]) -> bytes:
    """An .npy file whose header promises a shape, without content."""
    content = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


BAD_NPZ = {
    "empty": b"",
    "text": b"x_train, y_train\n",
    "an npy": npy((6, 4)) + bytes(24),
    "a member without content": archive_of(b""),
    "a member that is no npy": archive_of(b"6 rows of 4"),
    "a member without its suffix": archive_of(b"6 rows of 4", "x_train"),
    "a member cut off in its header": archive_of(npy((6, 4))[:20]),
    "a member cut off in its content": archive_of(npy((6, 4)) + bytes(23)),
    "a member that promises 2**42 bytes": archive_of(npy((2**40, 4))),
    "a member that promises more than fits a size": archive_of(npy((2**70, 4))),
    "a member of a negative size": archive_of(npy((-1, 4))),
    "a member of nothing, past every limit": archive_of(npy((0, 2**40, 2**40))),
}


@pytest.mark.parametrize("content", BAD_NPZ.values(), ids=BAD_NPZ)
def test_bad_npz_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "own.npz").write_bytes(content)
    failure(load_data, tmp_path / "own.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_cut_off_anywhere_is_named(tmp_path: Path, save: Callable[..., None]) -> None:
    path = tmp_path / "own.npz"
    save(path, **small())
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        failure(load_data, path)


def outcome(path: Path) -> str:
    """What comes of reading a damaged copy of the small data set."""
    try:
        data = load_data(path)
    except XpnetError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    same = data.X_train.tolist() == small()["x_train"].reshape(6, 4).tolist()
    return "as it was" if same and data.y_train.tolist() == small()["y_train"].tolist() else "something else"


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_with_one_byte_damaged_reads_as_it_was_or_is_refused(
    tmp_path: Path, save: Callable[..., None]
) -> None:
    path = tmp_path / "own.npz"
    save(path, **small())
    whole = path.read_bytes()
    outcomes: dict[str, list[int]] = {}
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        outcomes.setdefault(outcome(path), []).append(position)
    assert set(outcomes) <= {"as it was", "refused"}, outcomes


def test_refusing_a_damaged_npz_leaves_no_file_open(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "own.npz")
    damaged = bytearray(path.read_bytes())
    damaged[damaged.rindex(b"PK\x01\x02")] ^= 0xFF  # in the table of contents, which is read on opening
    path.write_bytes(damaged)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        failure(load_data, path)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("kind", ["npy", "idx"])
def test_rows_are_read_where_memory_has_no_limit(tmp_path: Path, kind: str) -> None:
    path = write_npy(tmp_path) if kind == "npy" else write_folder(tmp_path, small())
    data = load_data(path)
    assert_same(data, small())
    for array in (data.X_train, data.y_train, data.X_test, data.y_test):
        assert not is_mapped(array)
        array[0] = 0  # one's own, to be changed
    assert_same(load_data(path), small())


@pytest.mark.parametrize("memory", [23, 24], ids=["too little", "enough"])
@pytest.mark.parametrize("kind", ["npy", "idx"])
def test_rows_stay_in_their_file_where_memory_is_limited(tmp_path: Path, kind: str, memory: int) -> None:
    path = write_npy(tmp_path) if kind == "npy" else write_folder(tmp_path, small())
    data = load_data(path, memory=memory)  # 24 bytes of training images, and 8 of test images
    for array in (data.X_train, data.y_train, data.X_test, data.y_test):
        assert is_mapped(array)
    assert data.X_train.tolist() == small()["x_train"].reshape(6, 4).tolist()
    assert data.y_train.tolist() == small()["y_train"].tolist()
    assert data.X_test.tolist() == small()["x_test"].reshape(2, 4).tolist()
    assert (data.features, data.classes) == (4, 3)


@pytest.mark.parametrize("part", ["train", "test"])
def test_rows_that_fit_but_stay_in_their_file_are_checked_at_once(tmp_path: Path, part: str) -> None:
    images = {key: array.astype(np.float32) for key, array in small().items() if key[0] == "x"}
    images[f"x_{part}"][1] = np.nan
    path = write_npy(tmp_path, **images)
    assert failure(lambda path: load_data(path, memory=96), path).startswith(f"{path}: x_{part}: NaN or inf")


@pytest.mark.parametrize("dtype", ["bool", "float16"])
def test_rows_need_the_memory_that_they_will_be_held_in(tmp_path: Path, dtype: str) -> None:
    images = {key: array.astype(dtype) for key, array in small().items() if key[0] == "x"}
    path = write_npz(tmp_path / "own.npz", **images)
    assert load_data(path, memory=96).X_train.nbytes == 96
    said = failure(lambda path: load_data(path, memory=95), path)
    assert "its train images need 96 bytes, memory is 95" in said


def test_a_file_that_cannot_be_mapped_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    path = write_folder(tmp_path, small())
    monkeypatch.setattr("numpy.memmap", refusing)
    with pytest.raises(XpnetError) as caught:
        load_data(path, memory=1)
    assert str(caught.value) == f"{path / 'train-images-idx3-ubyte'}: {os.strerror(errno.ENODEV)}"


def test_advice_that_is_not_taken_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Deaf(mmap.mmap):
        def madvise(self, option: int, *place: int) -> None:
            asked.append(option)
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr("mmap.mmap", Deaf)
    np.save(tmp_path / "X.npy", np.arange(8))
    array = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert np.concatenate(list(pieces(array, 3))).tolist() == list(range(8))
    assert len(asked) == 3


@pytest.mark.parametrize("memory", [None, 40], ids=["read", "mapped"])
@pytest.mark.parametrize("dtype", ["bool", ">i2", ">f4", "<f8", "float16"])
def test_npy_files_of_any_type_and_byte_order_are_taken(
    tmp_path: Path, dtype: str, memory: int | None
) -> None:
    images = {key: array.astype(dtype) for key, array in small().items() if key[0] == "x"}
    labels = {key: array.astype(">i8") for key, array in small().items() if key[0] == "y"}
    data = load_data(write_npy(tmp_path, **images, **labels), memory=memory)
    assert data.X_train.tolist() == images["x_train"].reshape(6, 4).tolist()
    assert data.X_test.dtype.isnative or is_mapped(data.X_test)
    assert is_mapped(data.X_test) == (memory is not None)
    assert data.X_test.tolist() == images["x_test"].reshape(2, 4).tolist()
    assert data.y_train.tolist() == small()["y_train"].tolist()


def test_mapped_idx_files_of_two_bytes_go_with_test_images_that_were_read(tmp_path: Path) -> None:
    images = {key: array.astype(np.int16) for key, array in small().items() if key[0] == "x"}
    path = write_folder(tmp_path, small() | images)
    plain = path / "t10k-images-idx3-ubyte"
    plain.with_name(f"{plain.name}.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    data = load_data(path, memory=20)
    assert is_mapped(data.X_train)
    assert not is_mapped(data.X_test)
    assert data.X_train.tolist() == small()["x_train"].reshape(6, 4).tolist()


@pytest.mark.parametrize("shape", [(2, 2), (4,)], ids=str)
def test_npy_of_fortran_order_is_read_but_not_streamed(tmp_path: Path, shape: tuple[int, ...]) -> None:
    images = {
        key: np.asfortranarray(small()[key].reshape(-1, *shape)) for key in small() if key.startswith("x")
    }
    write_npy(tmp_path, **images)
    assert_same(load_data(tmp_path), small())
    with pytest.raises(XpnetError, match=r"Fortran order.*save them in C order") as caught:
        load_data(tmp_path, memory=20)
    assert str(caught.value).startswith(f"{tmp_path}: ")


@pytest.mark.parametrize("key", NAMES)
def test_one_missing_npy_file_is_named(tmp_path: Path, key: str) -> None:
    assert f"no {key}.npy in this folder" in failure(load_data, write_npy(tmp_path, **{key: None}))


def test_images_larger_than_memory_that_cannot_be_streamed_are_refused(tmp_path: Path) -> None:
    zipped = write_folder(tmp_path / "zipped", small(), zipped=True)
    for path in (zipped, write_npz(tmp_path / "own.npz")):
        assert load_data(path, memory=24).classes == 3
        with pytest.raises(XpnetError) as caught:
            load_data(path, memory=23)
        assert str(caught.value) == (
            f"{path}: its train images need 24 bytes, memory is 23, and compressed files cannot be streamed: "
            "unpack them, or save the arrays as .npy files"
        )


BAD_NPY = {
    "empty": b"",
    "text": b"x_train, y_train, x_test, y_test\n",
    "cut off in its header": npy((6, 4))[:20],
    "cut off in its content": npy((6, 4)) + bytes(23),
    "2**42 bytes promised": npy((2**40, 4)),
    "more promised than fits a size": npy((2**70, 4)),
    "a negative size": npy((-1, 4)) + bytes(24),
    "nothing, past every limit": npy((0, 2**40, 2**40)),
}


@pytest.mark.parametrize("memory", [None, 1], ids=["read", "mapped"])
@pytest.mark.parametrize("content", BAD_NPY.values(), ids=BAD_NPY)
def test_bad_npy_file_is_named(tmp_path: Path, content: bytes, memory: int | None) -> None:
    path = write_npy(tmp_path) / "x_train.npy"
    path.write_bytes(content)
    with pytest.raises(XpnetError) as caught:
        load_data(tmp_path, memory=memory)
    assert str(caught.value) == f"{path}: cut off, damaged, or not an .npy file of numbers"


def test_archive_under_the_name_of_an_npy_file_is_told_its_right_name(tmp_path: Path) -> None:
    path = write_npz(write_npy(tmp_path) / "own.npz").rename(tmp_path / "x_train.npy")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(XpnetError, match=r"call it \.npz") as refusal:
            load_data(tmp_path)
        gc.collect()
    assert str(refusal.value).startswith(f"{path}: ")
    assert caught == []  # it was not left open


@pytest.mark.parametrize("key", NAMES)
def test_objects_in_an_npy_file_are_never_unpickled(tmp_path: Path, key: str) -> None:
    mark = tmp_path / "mark"
    write_npy(tmp_path / "own", **{key: np.full(small()[key].shape, Trap(mark), dtype=object)})
    with pytest.raises(XpnetError, match=r"not an \.npy file of numbers"):
        load_data(tmp_path / "own")
    assert not mark.exists()


@pytest.mark.parametrize("byte", [b"\0", b"\xff", b"(", b"'", b"9", b"-", b"\n", b"{", b"#"], ids=repr)
def test_npy_with_a_damaged_header_is_refused_or_makes_sense(tmp_path: Path, byte: bytes) -> None:
    path = write_npy(tmp_path) / "x_train.npy"
    whole = path.read_bytes()
    outcomes = set()
    for position in range(len(whole) - 24):
        path.write_bytes(whole[:position] + byte + whole[position + 1 :])
        outcomes.add(outcome(tmp_path))
    assert "refused" in outcomes
    assert outcomes <= {"as it was", "something else", "refused"}


@pytest.mark.parametrize("memory", [0, -1, 1.5, "4GB", True], ids=repr)
def test_memory_that_is_no_number_of_bytes_is_refused(memory: Any) -> None:
    with pytest.raises(UsageError, match="memory must be a whole number of bytes, 1 or more"):
        load_data(memory=memory)
