"""A user's own data: tables, folders of images, names of classes, and what a run says of itself."""

import csv
import json
import resource
import shlex
import struct
import tracemalloc
import warnings
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

import xpnet
from tests.helpers import mapped, refused
from tests.process import Ended, python, run, small_data, succeed, without, write_npz
from xpnet import MLP, History, Settings, load_data
from xpnet.data import Form, load_test
from xpnet.data.images import MOST_PIXELS, read_image
from xpnet.data.tables import BLOCK
from xpnet.errors import UsageError
from xpnet.scaling import Columns
from xpnet.training import diagnosis
from xpnet.training.history import Epoch
from xpnet.training.inputs import Examples

SHOP: list[list[Any]] = [
    ["age", "colour", "kind"],
    *([i, "red" if i % 2 else "blue", "no" if i % 3 else "yes, sir"] for i in range(60)),
]
COLOURED = Form(one_hot=("colour",))


def write_csv(
    path: Path, rows: Iterable[Iterable[Any]], delimiter: str = ",", encoding: str = "utf-8"
) -> Path:
    """Write a CSV file."""
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def write_parquet(path: Path, **columns: Any) -> Path:
    """Write a Parquet file."""
    pq.write_table(pa.table(columns), path)
    return path


def write_images(folder: Path, count: int = 6, classes: Iterable[str] = ("2", "10"), mode: str = "L") -> Path:
    """Write noisy images of 4 x 3 pixels, those of each class in a folder of its own."""
    rng = np.random.default_rng(3)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(120 * number, 120 * number + 100, (3, 4, len(mode)), dtype=np.uint8)
            pixels = pixels[:, :, 0] if len(mode) == 1 else pixels
            Image.fromarray(pixels, mode=None).save(folder / name / f"{i}.png")
    return folder


def fails(folder: Path, *arguments: str, code: int = 1, before: str = "") -> str:
    """The one line with which a command fails."""
    ended = run(folder, *arguments, before=before)
    assert (ended.code, ended.out) == (code, ""), ended
    (line,) = ended.err.splitlines()
    return line.removeprefix("xpnet: error: ")


# --- tables -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolons", "bom", "parquet"])
def test_a_table_is_read_with_its_names(tmp_path: Path, kind: str) -> None:
    if kind == "parquet":
        columns = dict(zip(SHOP[0], zip(*SHOP[1:], strict=True), strict=True))
        path = write_parquet(tmp_path / "shop.parquet", **{name: list(c) for name, c in columns.items()})
    else:
        name = "shop.tsv" if kind == "tsv" else "shop.csv"
        delimiter = {"tsv": "\t", "semicolons": ";"}.get(kind, ",")
        path = write_csv(tmp_path / name, SHOP, delimiter, "utf-8-sig" if kind == "bom" else "utf-8")
    data = load_data(path, form=COLOURED, test=0.25)
    assert data.class_names == ("no", "yes, sir")
    assert data.form.feature_names == ("age", "colour=blue", "colour=red")
    assert (len(data.X_train), len(data.X_test)) == (45, 15)
    assert (data.classes, data.features, str(data.X_train.dtype)) == (2, 3, "float64")
    assert [np.bincount(y).tolist() for y in (data.y_train, data.y_test)] == [[30, 15], [10, 5]]
    for X, y in ((data.X_train, data.y_train), (data.X_test, data.y_test)):
        age = X[:, 0].astype(int)
        np.testing.assert_array_equal(X[:, 1:], np.eye(2)[age % 2])
        np.testing.assert_array_equal(y, age % 3 == 0)
    assert sorted([*data.X_train[:, 0], *data.X_test[:, 0]]) == list(range(60))
    again, other = (
        load_data(path, form=COLOURED, test=0.25),
        load_data(path, form=COLOURED, test=0.25, seed=1),
    )
    np.testing.assert_array_equal(data.X_test, again.X_test)
    assert not np.array_equal(data.X_test, other.X_test)


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    train = write_csv(tmp_path / "train.csv", [["a", "b", "y"], [1, 2, "u"], [3, 4, "v"], [5, 6, "v"]])
    test = write_csv(tmp_path / "test.csv", [["y", "extra", "b", "a"], ["v", "?", 8, 7]])
    data = load_data(train, test=str(test), form=Form(label="y"))
    assert (data.X_test.tolist(), data.y_test.tolist()) == ([[7.0, 8.0]], [1])
    assert load_data(train, test=test, form=Form(label="y", drop=("a",))).X_test.tolist() == [[8.0]]
    known = Form(feature_names=("a", "b"))  # the label is the last column that is no feature
    table = write_csv(tmp_path / "more.csv", [["y", "b", "a"], ["v", 8, 7], ["u", 9, 9]])
    X, y = load_test(table, memory=None, targets="classes", form=known, class_names=("u", "v"))
    assert (X.tolist(), y.tolist()) == ([[7.0, 8.0], [9.0, 9.0]], [1, 0])


def test_whole_numbers_are_classes_in_the_order_of_their_values(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [["x", "y"], [1, 10], [2, "9.0"], [3, " 10 "], [4, 9], [5, 9]])
    data = load_data(path, test=0.4)
    assert data.class_names == ("9", "10")


def test_numbers_are_read_as_targets(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", [["x", "price"], *([i, i / 4] for i in range(10))])
    data = load_data(path, targets="numbers")
    np.testing.assert_array_equal(data.y_train, data.X_train[:, 0] / 4)
    assert (len(data.y_test), data.class_names) == (2, None)
    assert "label 0.25 is no class; for numbers to predict give --loss squared-error" in refused(
        lambda: load_data(path)
    )


def test_types_of_parquet_that_are_numbers_are_taken(tmp_path: Path) -> None:
    path = write_parquet(
        tmp_path / "a.parquet",
        flag=[True, False, True, True],
        small=pa.array([1, 2, 3, 4], pa.int8()),
        money=pa.array([1, 2, 3, 4], pa.int64()).cast(pa.decimal128(21, 2)),
        text=pa.array(["0.5", "1e3", "-2", "7"]).dictionary_encode(),
        y=[True, False, True, False],
    )
    data = load_data(path, test=0.5)
    rows = np.concatenate([data.X_train, data.X_test])
    assert sorted(rows.tolist()) == [[0, 2, 2, 1000], [1, 1, 1, 0.5], [1, 3, 3, -2], [1, 4, 4, 7]]
    assert data.class_names == ("false", "true")


BAD_TABLES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the first line is empty"),
    "names alone": (b"a,b\n", "no rows behind the line of names"),
    "no names": (b"5.1,3.5,setosa\n4.9,3.0,setosa\n", "the first line must name the columns; it holds '5.1'"),
    "numbers that repeat": (b"0,0,1\n0,0,2\n", "column 2 is named '0'"),
    "column without a name": (b",a,y\n0,1,2\n", "column 1 is named ''"),
    "utf-16 without a mark": ("a,y\n1,u\n".encode("utf-16-le"), "not UTF-8 text"),
    "endless names": (b"ab," * BLOCK, "a row of more than 1,048,576 bytes"),
    "short row": (b"a,b,y\n1,2,u\n3,4\n", "Row #3: Expected 3 columns, got 2"),
    "long row": (b"a,b,y\n1,2,u\n3,4,u,5\n", "Row #3: Expected 3 columns, got 4"),
    "text": (
        b"a,b,y\n1,2,u\n3,red,v\n",
        "row 3, column 'b': 'red' where a number is expected; give --one-hot b or --drop b",
    ),
    "mixed types": (b"a,y\n" + b"1,u\n" * 500_000 + b"x,u\n", "row 500,002, column 'a': 'x'"),
    "missing": (
        b"a,b,y\n1,2,u\n3, ,v\n",
        "row 3, column 'b': a missing value, ' '; fill it in, or give --drop b",
    ),
    "NaN": (b"a,b,y\n1,nan,u\n3,4,v\n", "row 2, column 'b': a missing value, 'nan'"),
    "infinite": (b"a,b,y\n1,2,u\n1e999,4,v\n", "row 3, column 'a': '1e999'"),
    "missing label": (b"a,y\n1,u\n2,\n3,u\n", "row 3: a missing label"),
    "decimal commas": (b'a;y\n"1,5";u\n', "row 2, column 'a': '1,5' where a number is expected"),
    "latin-1": ("a,y\n1,é\n".encode("latin-1"), "not UTF-8 text"),
    "latin-1 below": (b"a,y\n" + b"1,u\n" * 9999 + "1,é\n".encode("latin-1"), "not UTF-8 text"),
    "utf-16": ("a,y\n1,u\n".encode("utf-16"), "not UTF-8 text"),
    "open quote": (b'a,y\n1,"u\n' + b"2,v\n" * BLOCK, "is a quote not closed?"),
    "one class": (b"a,y\n1,u\n2,u\n", "2 training rows of 1 classes"),
    "one column": (b"y\n1\n2\n", "no column besides the label"),
    "names as labels": (
        b"a,y\n" + b"".join(b"1,n%d\n" % i for i in range(50)),
        "50 different labels in 50 rows",
    ),
    "endless name": (b"a" * 200_000 + b",y\n1,u\n", "field larger than field limit"),
    "no text": (bytes(range(256)), ""),
}


@pytest.mark.parametrize("wrong", BAD_TABLES)
def test_a_bad_table_is_refused_by_row_and_column(tmp_path: Path, wrong: str) -> None:
    content, said = BAD_TABLES[wrong]
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    message = refused(lambda: load_data(path))
    assert message.startswith(f"{path}: ")
    assert said in message
    assert len(message) < 400 + len(str(path))


def test_the_advice_of_a_refused_text_column_is_right(tmp_path: Path) -> None:
    write_csv(tmp_path / "shop.csv", [["age", "its colour", "kind"], *SHOP[1:]])
    said = fails(tmp_path, "train", "--data", "shop.csv").partition("give ")[2].split(" or ")
    assert said == ["--one-hot 'its colour'", "--drop 'its colour'"]
    for advice in map(shlex.split, said):
        succeed(tmp_path, "train", "--data", "shop.csv", *advice, "--epochs", "1")


@pytest.mark.parametrize(
    ("column", "said"),
    [
        (pa.array([[1.0], [2.0], [3.0]]), "column 'a' holds 'list<"),
        (pa.array([{"b": 1}] * 3), "column 'a' holds 'struct<"),
        (pa.array([0, 1, 2]).cast(pa.timestamp("s")), "column 'a' holds 'timestamp[ms]', not numbers"),
        (pa.array([1, None, 3]), "row 3, column 'a': a missing value, None"),
        (pa.array(["1", "red", "3"]), "row 3, column 'a': 'red' where a number is expected"),
        (pa.array([b"1", b"?", b"3"]), "row 3, column 'a': b'?' is no finite number"),
        (pa.array([1.0, np.inf, 3.0]), "row 3, column 'a': inf is no finite number"),
    ],
    ids=["list", "struct", "time", "missing", "text", "bytes", "infinite"],
)
def test_a_bad_column_of_parquet_is_named(tmp_path: Path, column: Any, said: str) -> None:
    path = write_parquet(tmp_path / "a.parquet", a=column, y=["u", "v", "v"])
    assert said in refused(lambda: load_data(path))


def test_labels_that_are_lists_and_tables_of_nothing_are_refused(tmp_path: Path) -> None:
    assert "no columns" in refused(lambda: load_data(write_parquet(tmp_path / "a.parquet")))
    path = write_parquet(tmp_path / "a.parquet", a=[1, 2], y=[[1], [2]])
    assert "column 'y' holds 'list<" in refused(lambda: load_data(path))


def test_ten_thousand_columns_are_read(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(10_000)]
    path = write_csv(tmp_path / "wide.csv", [[*names, "y"], *([*range(10_000), i % 2] for i in range(8))])
    data = load_data(path, test=0.5)
    assert data.X_train.shape == (4, 10_000)
    np.testing.assert_array_equal(data.X_train[0], np.arange(10_000))


def test_unknown_columns_values_and_labels_are_named(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "shop.csv", SHOP)
    assert "no column 'size'; it has ['age', 'colour', 'kind']" in refused(
        lambda: load_data(path, form=Form(label="size"))
    )
    cases: list[tuple[str, list[list[Any]], str]] = [
        ("value", [["age", "colour", "kind"], [1, "violet", "no"]], "column 'colour': 'violet' is none of"),
        (
            "label",
            [["age", "colour", "kind"], [1, "red", "maybe"]],
            "row 2: label 'maybe' is none of the classes",
        ),
        ("column", [["colour", "kind"], ["red", "no"]], "no column 'age'"),
        ("text", [["age", "colour", "kind"], ["old", "red", "no"]], "'old' where a number is expected"),
    ]
    for name, rows, said in cases:
        test = write_csv(tmp_path / f"{name}.csv", rows)
        message = refused(lambda test=test: load_data(path, form=COLOURED, test=test))  # type: ignore[misc]
        assert message.startswith(str(test))
        assert said in message
        assert "--" not in message  # the columns are those of the training rows


@pytest.mark.parametrize("kind", ["csv", "parquet", "images"])
def test_rows_larger_than_the_memory_are_streamed_from_a_temporary_file(tmp_path: Path, kind: str) -> None:
    options: dict[str, Any] = {"form": COLOURED, "test": 0.25}
    if kind == "csv":
        path = write_csv(tmp_path / "shop.csv", SHOP)
    elif kind == "parquet":
        table = pa.table(
            {name: list(column) for name, column in zip(SHOP[0], zip(*SHOP[1:], strict=True), strict=True)}
        )
        pq.write_table(table, path := tmp_path / "shop.parquet", row_group_size=7)
    else:
        path, options = write_images(tmp_path / "data", 20), {}
    whole, mapped = (load_data(path, memory=memory, **options) for memory in (None, 1))
    for name in ("X_train", "y_train", "X_test", "y_test", "class_names", "form"):
        np.testing.assert_equal(getattr(mapped, name), getattr(whole, name))
    assert isinstance(mapped.X_train, np.memmap)
    assert isinstance(mapped.X_test, np.memmap)


def test_no_room_for_a_temporary_file_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_csv(tmp_path / "shop.csv", SHOP)
    monkeypatch.setattr("tempfile.TemporaryFile", partial(open, "/dev/full", "r+b"))
    said = "because memory is limited: No space left on device; name another folder in TMPDIR"
    assert said in refused(lambda: load_data(path, form=COLOURED, memory=1))


def test_rows_that_no_memory_holds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small Parquet file may promise billions of equal rows. The advice is true."""
    path, sizes = write_csv(tmp_path / "shop.csv", SHOP), {"SC_PAGE_SIZE": 16, "SC_PHYS_PAGES": 2}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)
    assert "the rows need more memory than this machine has" in refused(
        lambda: load_data(path, form=COLOURED)
    )
    assert isinstance(load_data(path, form=COLOURED, memory=2**20).X_train, np.memmap)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_is_read_in_little_memory(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"long.{kind}"
    if kind == "csv":
        path.write_bytes(b"a,b,y\n" + b"1.25,2.5,1\n" * 4_000_000)
    else:
        column = np.random.default_rng(0).normal(size=100_000)
        table = pa.table(dict.fromkeys("aby", column))
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(40):
                writer.write_table(table)
    code = f"""
import resource
from xpnet.data.tables import Table
table = Table({str(path)!r})
used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
rows, pieces = 0, table.pieces(("a", "b"), "y")
for X, y in pieces:
    rows += len(X)
    if rows - len(X) < 200_000 <= rows:
        before = used()
print(rows > 3_500_000, used() - before < 20)
"""
    assert python(code) == "True True\n"


# --- images -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_folder_of_images_is_read(tmp_path: Path, mode: str) -> None:
    data = load_data(write_images(tmp_path / "data", mode=mode))
    assert data.class_names == ("2", "10")
    assert data.form.image_shape == ((3, 4) if mode == "L" else (3, 4, 3))
    assert (str(data.X_train.dtype), data.X_train.shape[1]) == ("uint8", 12 * len(mode))
    assert [len(data.X_train), len(data.X_test), data.split] == [
        10,
        2,
        f"20% of {tmp_path / 'data'}, by seed 0",
    ]
    np.testing.assert_array_equal(data.X_train.min(axis=1) >= 120, data.y_train == 1)


def test_train_and_test_may_be_folders_and_images_are_resized(tmp_path: Path) -> None:
    write_images(tmp_path / "data" / "train", 5)
    write_images(tmp_path / "data" / "test", 3)
    data = load_data(tmp_path / "data", form=Form(size=(2, 5)))
    assert (data.X_train.shape, data.X_test.shape) == ((10, 10), (6, 10))
    assert (data.form.image_shape, data.split) == ((5, 2), str(tmp_path / "data" / "test"))
    apart = load_data(tmp_path / "data" / "train", test=tmp_path / "data", form=Form(size=(2, 5)))
    np.testing.assert_array_equal(apart.X_test, data.X_test)


def test_images_of_every_kind_become_bytes(tmp_path: Path) -> None:
    deep = np.array([[0, 256, 65535]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    Image.fromarray(np.array([[[9, 9, 9, 255], [9, 9, 9, 0]]], np.uint8)).save(tmp_path / "clear.png")
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "bits.png")
    assert read_image(tmp_path / "deep.png", Form()).tolist() == [[0, 1, 255]]
    assert read_image(tmp_path / "clear.png", Form()).tolist() == [[[9, 9, 9], [255, 255, 255]]]
    assert read_image(tmp_path / "clear.png", Form(image_shape=(1, 2))).tolist() == [[9, 255]]
    assert read_image(tmp_path / "bits.png", Form()).tolist() == [[255, 0]]


@pytest.mark.parametrize("coloured", ["2/0.png", "10/5.png"])
def test_images_are_coloured_if_any_is(tmp_path: Path, coloured: str) -> None:
    path = write_images(tmp_path / "data") / coloured
    whole = load_data(tmp_path / "data", test=0.5)
    Image.new("RGB", (4, 3), "red").save(path)
    mixed = load_data(tmp_path / "data", test=0.5)
    assert mixed.form.image_shape == (3, 4, 3)
    red = np.array([255, 0, 0] * 12)
    for ours, grey in ((mixed.X_train, whole.X_train), (mixed.X_test, whole.X_test)):
        for row, before in zip(ours, grey, strict=True):
            assert (row == red).all() or (row == np.repeat(before, 3)).all()
    known = load_test(
        tmp_path / "data", form=Form(image_shape=(3, 4)), memory=None, targets="classes", class_names=None
    )
    assert known[0].shape == (12, 12)


def bomb(width: int, height: int) -> bytes:
    """A small PNG file that promises many pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        checked = name + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def folder_instead(path: Path) -> None:
    """Put a folder in the place of a file."""
    path.unlink()
    path.mkdir()


BAD_IMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:50]), "cut off or damaged"),
    "empty": (lambda path: path.write_bytes(b""), "not an image that Pillow reads"),
    "text": (lambda path: path.write_text("no image"), "not an image that Pillow reads"),
    "bomb": (lambda path: path.write_bytes(bomb(2**16, 2**15)), "has too many pixels"),
    "large bomb": (lambda path: path.write_bytes(bomb(2**30, 2**30)), "has too many pixels"),
    "postscript": (
        lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        "not an image",
    ),
    "other size": (
        lambda path: Image.new("L", (9, 9)).save(path),
        "9 x 9 pixels, the others 4 x 3 pixels; give --size 4x3",
    ),
    "32 bits": (
        lambda path: Image.new("F", (4, 3)).save(path, "TIFF"),
        "pixels of 32 bits; save it with 8 or 16",
    ),
    "a folder": (folder_instead, "a folder, device or pipe"),
}


@pytest.mark.parametrize("wrong", BAD_IMAGES)
def test_a_bad_image_is_named(tmp_path: Path, wrong: str) -> None:
    path = write_images(tmp_path / "data") / "10" / "3.png"
    spoil, said = BAD_IMAGES[wrong]
    spoil(path)
    message = refused(lambda: load_data(tmp_path / "data"))
    assert message.startswith(f"{path}: ")
    assert said in message


def test_the_advice_of_an_image_of_another_size_is_right(tmp_path: Path) -> None:
    path = write_images(tmp_path / "data") / "10" / "3.png"
    Image.new("L", (9, 9)).save(path)
    assert load_data(tmp_path / "data", form=Form(size=(4, 3))).features == 12


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    (write_images(tmp_path / "data") / "2" / "0.png").write_bytes(bomb(2**15, MOST_PIXELS // 2**15 + 1))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "has too many pixels" in refused(lambda: load_data(tmp_path / "data"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_a_folder_of_nothing_known_is_answered_with_what_is_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere", write_csv(tmp_path / "a.xlsx", [[1]])):
        message = refused(lambda path=path: load_data(path))  # type: ignore[misc]
        assert "a table (.csv, .tsv, .parquet), a folder with a subfolder of images for each class" in message
    (tmp_path / "data" / "empty").mkdir(parents=True)
    assert "no images in this folder" in refused(lambda: load_data(tmp_path / "data"))


# --- names of classes in arrays -----------------------------------------------------------------------------


def named(kind: type = str) -> dict[str, np.ndarray]:
    """Small data whose labels are names."""
    arrays = small_data()
    names = np.array(["gamma", "alpha", "beta"]).astype(np.dtype(kind))
    return arrays | {key: names[arrays[key]] for key in ("y_train", "y_test")}


@pytest.mark.parametrize("kind", [str, bytes])
def test_labels_of_arrays_may_be_names(tmp_path: Path, kind: type) -> None:
    arrays, plain = named(kind), small_data()
    (tmp_path / "npy").mkdir()
    for key, array in arrays.items():
        np.save(tmp_path / "npy" / f"{key}.npy", array)
    for path, memory in ((write_npz(tmp_path / "a.npz", arrays), None), (tmp_path / "npy", 1)):
        data = load_data(path, memory=memory)
        assert data.class_names == ("alpha", "beta", "gamma")
        np.testing.assert_array_equal(data.y_train, (plain["y_train"] + 2) % 3)


def test_a_test_label_that_nobody_was_taught_is_named(tmp_path: Path) -> None:
    arrays = named()
    arrays["y_test"][7] = "delta"
    message = refused(lambda: load_data(write_npz(tmp_path / "a.npz", arrays)))
    assert "y_test: row 7: label 'delta' is none of the classes ['alpha', 'beta', 'gamma']" in message


# --- at the terminal ----------------------------------------------------------------------------------------


def test_a_table_is_trained_on_and_evaluated_by_commands_alone(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "shop.csv", SHOP)
    options = ("--data", "shop.csv", "--one-hot", "colour", "--test", "0.25", "--quiet", "--out", "run")
    trained = succeed(tmp_path, "train", *options)
    assert f"test rows      15: 25% of {path.name}, by seed 0\n" in trained.out
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    expected = {"standardize": True, "optimizer": "adam", "lr": 0.003, "batch_size": 16, "epochs": 667}
    assert {name: config[name] for name in expected} == expected
    model = xpnet.load(tmp_path / "run" / "model.safetensors")
    assert (model.class_names, model.feature_names) == (
        ("no", "yes, sir"),
        ("age", "colour=blue", "colour=red"),
    )
    assert model.inputs is not None
    (tmp_path / "elsewhere").mkdir()
    own = succeed(tmp_path / "elsewhere", "evaluate", "../run")  # the same rows, split off again
    assert "yes, sir" in own.out
    assert [line.split()[1] for line in trained.out.splitlines()[:1]] == ["accuracy"]
    assert own.out.splitlines()[0].split()[-1] == trained.out.splitlines()[0].split()[-1]
    other = succeed(tmp_path, "evaluate", "run", "--data", "shop.csv", "--json")
    assert json.loads(other.out)["rows"] == 60
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    succeed(tmp_path / "elsewhere", "train", "--resume", "--out", "../run")
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_images_are_trained_on_and_evaluated_by_commands_alone(tmp_path: Path) -> None:
    write_images(tmp_path / "data", 20)
    trained = succeed(tmp_path, "train", "--data", "data", "--size", "8x8", "--epochs", "20", "--out", "run")
    assert "test accuracy  100.00%" in trained.out
    model = xpnet.load(tmp_path / "run" / "model.safetensors")
    assert (model.image_shape, model.class_names, model.inputs) == ((8, 8), ("2", "10"), None)
    assert json.loads(succeed(tmp_path, "evaluate", "run", "--data", "data", "--json").out)["accuracy"] == 1


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        ("--data a.npz --test 0.5", 2, "a.npz has rows to test with"),
        ("--data a.npz --one-hot b", 2, "a.npz has rows to test with"),
        ("--data shop.csv --drop colour --test 2", 2, "test must be a fraction between 0 and 1, not 2.0"),
        ("--data shop.csv --drop colour --test none.csv", 1, "none.csv: no such file or folder"),
        ("--data shop.csv --drop colour --test a.npz", 1, "a.npz: rows to test with must have the same form"),
        ("--data shop.csv --size 3:4", 2, "'3:4' is not a size such as 28x28"),
        ("--data images --loss squared-error", 1, "subfolders of images are classes"),
    ],
)
def test_options_of_other_data_are_refused(tmp_path: Path, options: str, code: int, said: str) -> None:
    write_csv(tmp_path / "shop.csv", SHOP)
    write_npz(tmp_path / "a.npz", small_data())
    write_images(tmp_path / "images")
    assert said in fails(tmp_path, "train", *options.split(), code=code)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("module", "data", "said"),
    [
        ("PIL", "images", "images need pillow: pip install pillow"),
        ("pyarrow", "shop.csv", "tables need pyarrow: pip install pyarrow"),
    ],
)
def test_a_missing_library_is_an_error_that_says_what_to_install(
    tmp_path: Path, module: str, data: str, said: str
) -> None:
    write_csv(tmp_path / "shop.csv", SHOP)
    write_images(tmp_path / "images")
    assert fails(tmp_path, "train", "--data", data, before=without(module)) == said


def test_no_reader_is_imported_before_it_is_used(tmp_path: Path) -> None:
    report = "print(sorted({'PIL', 'pyarrow'} & sys.modules.keys()), file=sys.stderr)"
    before = f"import atexit, sys; atexit.register(lambda: {report})"
    for arguments in (("--help",), ("train", "--help"), ("info",)):
        ended: Ended = run(tmp_path, *arguments, before=before)
        assert (ended.code, ended.err) == (0, "[]\n")


@pytest.mark.parametrize(
    ("rows", "given", "epochs"),
    [(160, (), 223), (60, ("--epochs", "3"), 3), (3000, (), 47), (60, ("--batch-size", "6"), 223)],
)
def test_small_data_are_trained_on_for_two_thousand_steps(
    tmp_path: Path, rows: int, given: tuple[str, ...], epochs: int
) -> None:
    data = write_npz(tmp_path / "a.npz", small_data(rows=rows))
    ended = succeed(tmp_path, "train", "--data", str(data), "--hidden", "4", *given, "--out", "run")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["epochs"] == epochs
    assert sum(line.startswith("epoch") for line in ended.err.splitlines()) <= 41


@pytest.mark.slow
def test_a_table_is_learned_as_well_as_by_scikit_learn(tmp_path: Path) -> None:
    neural = pytest.importorskip("sklearn.neural_network")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    mnist = load_data("mnist")
    ink = mnist.X_train[:10_000].reshape(-1, 7, 4, 7, 4).mean(axis=(2, 4)).reshape(-1, 49).round(2)
    pens = ["blue", "black, thick", "été"]
    rows = [
        [*row, pens[i % 3], f"a {digit}"]
        for i, (row, digit) in enumerate(zip(ink.tolist(), mnist.y_train, strict=False))
    ]
    write_csv(tmp_path / "digits.csv", [[*(f"ink {i}" for i in range(49)), "pen", "digit"], *rows])
    succeed(tmp_path, "train", "--data", "digits.csv", "--one-hot", "pen", "--quiet", "--out", "run")
    ours = json.loads((tmp_path / "run" / "summary.json").read_text())["test_accuracy"]
    data = load_data(tmp_path / "digits.csv", form=Form(one_hot=("pen",)))
    scaler = preprocessing.StandardScaler().fit(data.X_train)
    with warnings.catch_warnings(action="ignore"):  # it has not converged after 200 epochs
        theirs = neural.MLPClassifier(random_state=0).fit(scaler.transform(data.X_train), data.y_train)
    assert len(data.X_test) == 2000
    assert ours > theirs.score(scaler.transform(data.X_test), data.y_test) - 0.02


# --- the file of a model ------------------------------------------------------------------------------------


def test_the_form_of_rows_is_kept_in_the_file(tmp_path: Path) -> None:
    for described in (
        {"feature_names": ["a", "b=…", "c", "d"]},
        {"image_shape": (2, 2)},
        {"image_shape": (2, 1, 2)},
    ):
        model = MLP((4, 3, 2), **described)
        model.save(tmp_path / "m")
        again = xpnet.load(tmp_path / "m")
        assert (again.feature_names, again.image_shape) == (model.feature_names, model.image_shape)
        assert (again.to("cpu").feature_names, again.to("cpu").image_shape) == (
            again.feature_names,
            again.image_shape,
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"feature_names": ["a", "b"]},
        {"feature_names": ["a", "b", "c", "c"]},
        {"feature_names": "abcd"},
        {"feature_names": [1, 2, 3, 4]},
        {"image_shape": (3, 3)},
        {"image_shape": (4,)},
        {"image_shape": 4},
        {"image_shape": (-2, -2)},
    ],
)
def test_a_form_that_does_not_fit_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        MLP((4, 3, 2), **wrong)


# --- what a run says of itself ------------------------------------------------------------------------------


def history(losses: list[float], validation: list[float] | None = None, best: int | None = None) -> History:
    """A history of these losses."""
    held = validation or []
    rows = [
        Epoch(i + 1, 0.5, loss, {"validation_loss": held[i]} if held else {}, 1.0)
        for i, loss in enumerate(losses)
    ]
    return History(rows, best)


NOTES: dict[str, tuple[History, str | None]] = {
    "learned": (history([0.3, 0.1, 0.05], [0.2, 0.12, 0.1]), None),
    "mnist": (history([0.26, 0.05, 0.018], [0.134, 0.075, 0.073]), None),
    "no epochs": (history([]), None),
    "guessing": (
        history([2.31, 2.303, 2.302]),
        "no better than guessing by the classes' shares, 2.303: try --lr 0.05, --standardize or",
    ),
    "more than guessing": (
        history([30.0, 9.0, 2.303]),
        "no better than guessing by the classes' shares, 2.303: try --lr 0.05, --standardize or",
    ),
    "little learned": (history([2.3, 2.25, 2.2]), None),
    "grew": (history([0.5, 0.2, 0.4]), "the loss was 0.2 in epoch 2 and grew to 0.4: try --lr 0.05"),
    "grew a little": (history([0.5, 0.2, 0.21]), None),
    "grew from nothing": (history([0.5, 1e-6, 1e-4]), None),
    "by heart": (history([0.5, 0.1, 0.001], [0.6, 0.7, 0.9]), "learns its rows by heart"),
    "validation is uneven": (history([0.5, 0.4, 0.36], [0.276, 0.3, 0.345]), None),
    "validation grew": (history([0.5, 0.4, 0.39], [0.5, 0.6, 0.65]), "its lowest: 0.5"),
    "best was kept": (history([0.5, 0.4, 0.1], [0.5, 0.45, 0.9], best=2), None),
    "no validation": (history([0.5, 0.1, 0.001]), None),
}


def note_on(found: History, model: MLP | None = None, y: Any = (), weights: Any = None, **given: Any) -> str:
    """The note on a history, by default of ten classes that are equally frequent; empty if there is none."""
    model, y = model or MLP((4, 10)), np.array(y or range(10))
    taught = Examples(np.zeros((len(y), 4)), y, weights)
    return diagnosis.of_history(model, Settings(**{"lr": 0.5} | given), found, taught) or ""


@pytest.mark.parametrize("case", NOTES)
def test_a_note_on_a_history_speaks_when_it_must(case: str) -> None:
    found, said = NOTES[case]
    note = note_on(found)
    assert note == "" if said is None else said in note


def test_guessing_is_by_the_shares_of_the_classes_as_they_weigh() -> None:
    two, rare = MLP((4, 2)), [0] * 9 + [1]
    assert "shares, 0.325" in note_on(history([0.9, 0.323]), two, rare)
    assert note_on(history([0.9, 0.2]), two, rare) == ""
    assert "shares, 0.693" in note_on(history([0.9, 0.69]), two, rare, np.array([1.0] * 9 + [9.0]))
    assert note_on(history([0.9, 0.6]), two, rare, np.array([1.0] * 9 + [9.0])) == ""
    assert note_on(history([0.5, 0.5]), MLP((4, 1), loss="squared-error")) == ""


def test_a_note_advises_nothing_that_was_done() -> None:
    guessing, heart = history([2.303]), history([0.1, 0.001], [0.7, 0.9])
    scaled = MLP((4, 10), inputs=Columns(np.zeros(4), np.ones(4)))
    assert "--standardize" not in note_on(guessing, scaled)
    assert "--lr 0.5," in note_on(guessing, lr=1e-5)  # a rate that is too small is not made smaller
    assert note_on(history([0.2, 0.4]), clip=1.0).endswith("try --lr 0.05")
    assert note_on(heart).endswith("try --patience 5 or --dropout 0.2 or more rows")
    assert note_on(heart, patience=9).endswith("try --dropout 0.2 or more rows")
    assert note_on(heart, dropout=0.5, patience=9).endswith("try more rows")


@pytest.mark.parametrize(
    ("X", "said"),
    [
        ([[1000.0, 1.0], [3000.0, 2.0]], "column 'income' is 1,414 times as large as column 'age'"),
        ([[50.0, 1.0], [90.0, 2.0]], None),
        ([[0.0, 1.0], [0.0, 2.0]], None),
        (np.array([[255, 1], [200, 0]], np.uint8), None),
        ([[1e9, 1.0]], None),
        (np.tile([[0.0, 1.0]], (99, 1)) * np.eye(99, 1), None),
        ([[1e6, 1.0], [1e6, 3.0]], "column 'income' is 447,214 times"),
        ([[1e-6, 1.0], [1e-6, 3.0]], None),
    ],
    ids=["differ", "alike", "a column of zeros", "pixels", "one row", "rare", "constant and large", "tiny"],
)
def test_a_note_on_columns_speaks_when_they_differ(X: Any, said: str | None) -> None:
    note = diagnosis.of_columns(np.asarray(X), ("income", "age"))
    assert note is None if said is None else note is not None and said in note and "--standardize" in note


def test_notes_are_said_once_and_their_advice_helps(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    X = np.stack([y + rng.normal(0, 0.1, 400), rng.normal(0, 1e4, 400)], axis=1)
    arrays = {"x_train": X[:300], "y_train": y[:300], "x_test": X[300:], "y_test": y[300:]}
    data = str(write_npz(tmp_path / "a.npz", arrays))
    said = run(tmp_path, "train", "--data", data, "--epochs", "2", "--quiet").err
    assert said.startswith("xpnet: note: column 1 is ")
    helped = succeed(tmp_path, "train", "--data", data, "--epochs", "40", "--quiet", "--standardize")
    assert helped.err == ""
    assert "test accuracy  100.00%" in helped.out
    nothing = {**arrays, "y_train": rng.integers(0, 2, 300), "x_train": X[:300] * 0}
    line = succeed(tmp_path, "train", "--data", str(write_npz(tmp_path / "b.npz", nothing)), "--quiet").err
    assert "is no better than guessing by the classes' shares, 0.689" in line
    # floats that are pixels: those at the edge of the pictures are hardly ever inked
    assert diagnosis.of_columns(load_data("mnist").X_train[::60] / np.float32(255)) is None


def test_a_note_on_mapped_columns_reads_few_rows(tmp_path: Path) -> None:
    X = mapped(tmp_path / "X.npy", np.random.default_rng(0).normal(size=(200_000, 20)))
    tracemalloc.start()
    assert diagnosis.of_columns(X) is None
    assert tracemalloc.get_traced_memory()[1] < X.nbytes / 20
    tracemalloc.stop()
