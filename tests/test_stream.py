"""Data larger than memory: every row is read, in another order every epoch, while memory stays small."""

import gc
import json
import os
import re
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.helpers import Interrupting, bits, losses, mapped, posix, refused, timeless
from tests.process import run, succeed, wait, write_idx
from xpnet import MLP, Checkpoint, History, Progress, evaluate, train
from xpnet.backends import Backend, get_backend
from xpnet.backends.base import State, Step
from xpnet.backends.numpy import NumPyBackend
from xpnet.data.blocks import Blocks
from xpnet.errors import UsageError
from xpnet.training.feed import Part, Resident, Streamed, make_feed
from xpnet.training.inputs import enter

FEATURES = 64
SIZES = (FEATURES, 6, 3)
BLOCK_ROWS = 10
"""Rows of bytes in a block, within these tests."""

LEAST = 16 * BLOCK_ROWS
"""Rows in the smallest chunk."""


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows, so that a few rows are many blocks."""
    monkeypatch.setattr("xpnet.data.blocks.BLOCK", FEATURES * BLOCK_ROWS)


def memory_for(rows: int, batch_size: int, row_bytes: int = FEATURES) -> int:
    """The memory with which a chunk has so many rows, besides those left over from the chunk before."""
    return 3 * (row_bytes + 16) * (rows + batch_size - 1)


def numbered(rows: int, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Rows of bytes whose first four are the number of the row, sorted by class."""
    X = np.zeros((rows, FEATURES), dtype=np.uint8)
    X[:, :4] = np.arange(rows, dtype="<u4").view(np.uint8).reshape(rows, 4)
    return X, labels_of(np.arange(rows), rows, classes)


def labels_of(numbers: np.ndarray, rows: int, classes: int = 3) -> np.ndarray:
    """The labels of numbered rows."""
    return numbers * classes // rows


def numbers_of(X: np.ndarray) -> np.ndarray:
    """The numbers of such rows."""
    return np.ascontiguousarray(X[:, :4]).view("<u4")[:, 0].astype(np.int64)


@cache
def learnable(rows: int = 1500) -> tuple[np.ndarray, np.ndarray]:
    """Rows of bytes, sorted by class, from which most labels can be learned. Not to be written."""
    rng = np.random.default_rng(5)
    y = labels_of(np.arange(rows), rows)
    X = (
        (128 + 60 * np.eye(3, FEATURES)[y] + 40 * rng.standard_normal((rows, FEATURES)))
        .clip(0, 255)
        .astype(np.uint8)
    )
    for array in (X, y):
        array.flags.writeable = False
    return X, y


# --- blocks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 9, 10, 11, 95])
@pytest.mark.usefixtures("small_blocks")
def test_blocks_read_every_row_once_in_any_order(tmp_path: Path, rng: np.random.Generator, rows: int) -> None:
    X, _ = numbered(rows)
    blocks = Blocks(mapped(tmp_path / "X.npy", X), "float32")
    assert blocks.rows == BLOCK_ROWS
    assert blocks.count == -(-rows // BLOCK_ROWS)
    order = rng.permutation(blocks.count)
    expected = np.concatenate([np.arange(rows)[i * BLOCK_ROWS : (i + 1) * BLOCK_ROWS] for i in order])
    into, middle = np.full((rows + 5, FEATURES), 7, dtype=np.uint8), 2 + blocks.size(order[:4])
    blocks.read(order[:4], into, 2)
    blocks.read(order[4:], into, middle)
    end = middle + blocks.size(order[4:])
    assert end == 2 + rows == 2 + blocks.size(order)
    assert numbers_of(into[2:end]).tolist() == expected.tolist() == blocks.row_numbers(order).tolist()
    for edge in (into[:2], into[end:]):  # nothing else is written
        assert (edge == 7).all()


@pytest.mark.usefixtures("small_blocks")
def test_a_row_larger_than_a_block_is_a_block(tmp_path: Path) -> None:
    X = np.arange(3000, dtype=np.uint16).reshape(3, 1000)
    blocks = Blocks(mapped(tmp_path / "X.npy", X), "float32")
    into = np.zeros((3, 1000), dtype=np.uint16)
    assert (blocks.rows, blocks.count) == (1, 3)
    blocks.read(np.array([2, 0, 1]), into, 0)
    assert into.tolist() == X[[2, 0, 1]].tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "stored", ["uint8", "int8", "uint16", ">i2", "bool", "float16", ">f2", "float32", ">f4", "float64", ">f8"]
)
def test_rows_are_read_as_they_would_be_moved_at_once(
    tmp_path: Path, rng: np.random.Generator, stored: str, dtype: str
) -> None:
    X = rng.integers(0, 2 if stored == "bool" else 100, (300, 5)).astype(stored)
    if X.dtype.kind == "f":
        X /= 7
    y = np.arange(300) % 3
    model, given = MLP((5, 3), dtype=dtype), mapped(tmp_path / "X.npy", X)
    blocks = Blocks(given, dtype)
    examples = enter(model, X, mapped(tmp_path / "y.npy", y.astype(">f4")))
    resident = Resident(model, examples, {}, 0.0, 0)
    assert blocks.dtype == (dtype if X.dtype.kind in "bf" else X.dtype.newbyteorder("="))
    assert resident.dtype == blocks.dtype.name
    into = np.zeros((300, 5), blocks.dtype)
    blocks.read(np.arange(blocks.count), into, 0)
    assert into.tolist() == np.asarray(resident.data["X"]).tolist()
    assert resident.data["y"].dtype == np.int32
    assert resident.data["y"].tolist() == y.tolist()


@pytest.mark.parametrize("in_file", [True, False], ids=["in a file", "in memory"])
@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e39], ids=str)
@pytest.mark.usefixtures("small_blocks")
def test_a_number_that_is_not_finite_is_found_and_named_when_its_block_is_read(
    tmp_path: Path, value: float, in_file: bool
) -> None:
    X = np.zeros((40, FEATURES))
    X[25, 3] = value
    given = mapped(tmp_path / "X.npy", X)[:] if in_file else X
    blocks = Blocks(given, "float32")  # two rows each
    into = np.zeros((40, FEATURES), np.float32)
    blocks.read(np.delete(np.arange(blocks.count), 12), into, 0)
    message = refused(lambda: blocks.read(np.array([3, 12]), into, 0))
    where = tmp_path / "X.npy" if in_file else "X"
    said = "NaN, infinity or a number too large for float32; clean the rows first"
    assert message == f"{where}: row 25, counted from 0: {said}"


def test_labels_outside_the_classes_are_found_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xpnet.data.checks.AT_ONCE", 32)
    y = np.zeros(100)
    for wrong, said in ((3, "label 3 is outside the classes 0 … 2"), (np.nan, "float64 labels; they must")):
        y[57] = wrong
        given = mapped(tmp_path / "y.npy", y)
        message = refused(partial(enter, MLP((8, 3)), np.zeros((100, 8), np.uint8), given))
        assert message.startswith(f"y: {said}")


# --- files that change while they are read ------------------------------------------------------------------


def cut_off(path: Path) -> None:
    """End a file in the middle."""
    os.truncate(path, path.stat().st_size // 2)


def written_over(path: Path) -> None:
    """Put other numbers into a file, of which the size stays."""
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # where the clock of the file system is coarse


def written_over_in_secret(path: Path) -> None:
    """Put other numbers into a file, and give it its time of before."""
    found = path.stat()
    written_over(path)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def replaced(path: Path) -> None:
    """Put another file into the place of a file."""
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)


@posix
@pytest.mark.parametrize("change", [cut_off, written_over, written_over_in_secret, replaced, Path.unlink])
@pytest.mark.usefixtures("small_blocks")
def test_a_file_that_changes_while_it_is_streamed_ends_the_run(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    class Changing(Progress):
        def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
            for file in ("X.npy", "y.npy"):  # labels are in memory, and may change
                if epoch == 2 and (tmp_path / file).exists():
                    change(tmp_path / file)

    X, y = learnable()
    given = mapped(tmp_path / "X.npy", X), mapped(tmp_path / "y.npy", y)
    options: dict[str, Any] = {"batch_size": 16, "memory": memory_for(LEAST, 16), "epochs": 9}
    checkpoint = tmp_path / "checkpoint"
    message = refused(
        lambda: train(MLP(SIZES), *given, checkpoint=checkpoint, progress=Changing(), **options)
    )
    assert message.startswith(str(tmp_path / "X.npy"))
    told = "cut off since it was opened", "changed while it was read; begin again", "no such file"
    assert message.endswith(told)
    assert len(Checkpoint(tmp_path / "checkpoint").load().history.epochs) == 1


@posix
def test_a_file_that_was_cut_off_before_it_is_moved_at_once_is_an_error(tmp_path: Path) -> None:
    X, y = np.ones((2000, FEATURES), np.uint8), np.arange(2000) % 3
    for file in ("X.npy", "y.npy"):
        given = mapped(tmp_path / "X.npy", X), mapped(tmp_path / "y.npy", y)
        cut_off(tmp_path / file)
        calls = [partial(call, MLP(SIZES), *given) for call in (train, evaluate)]
        calls += [partial(MLP(SIZES).predict, given[0])] if file == "X.npy" else []
        for call in calls:
            assert refused(call) == f"{tmp_path / file}: cut off since it was opened"


# --- the feed -----------------------------------------------------------------------------------------------


def feed_of(
    rows: int, chunk: int, batch_size: int, validation: float = 0.0, seed: int = 0, classes: int = 3
) -> Streamed:
    """A feed of numbered rows, in chunks of so many."""
    memory = memory_for(chunk, batch_size)
    X, y = numbered(rows, classes)
    options: dict[str, Any] = {"batch_size": batch_size, "validation": validation, "seed": seed}
    model = MLP((FEATURES, classes))
    feed = make_feed(model, enter(model, X, y), memory=memory, **options)
    assert isinstance(feed, Streamed)
    return feed


def handed_out(parts: Iterator[Part], rows: int) -> list[np.ndarray]:
    """The numbers of the rows of every part, after a look at their labels."""
    found = []
    for data, order, *_ in parts:
        assert order.dtype == np.int32
        numbers = numbers_of(data["X"][order])
        classes = len(data["classes"])
        assert data["y"][order].tolist() == labels_of(numbers, rows, classes).tolist()
        found.append(numbers)
    return found


@pytest.mark.parametrize("validation", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("batch_size", [1, 7, 32, 500])  # the last is more than a chunk
@pytest.mark.parametrize("rows", [2999, 3000])
@pytest.mark.usefixtures("small_blocks")
def test_epoch_has_every_training_row_once_and_none_that_is_held_back(
    rows: int, batch_size: int, validation: float
) -> None:
    feed = feed_of(rows, LEAST, batch_size, validation)
    held = handed_out(feed.parts(feed.held), rows) if validation else []
    kept = [number for part in held for number in part.tolist()]
    assert len(kept) == len(set(kept)) == feed.held_rows
    assert abs(feed.held_rows - validation * rows) <= BLOCK_ROWS
    for epoch in range(2):
        parts = handed_out(feed.parts(feed.training, np.random.default_rng(epoch)), rows)
        seen = np.concatenate(parts).tolist()
        assert len(seen) == feed.rows == rows - feed.held_rows
        assert sorted(seen + kept) == list(range(rows))
        assert len(parts) > 1
        assert all(len(part) % batch_size == 0 for part in parts[:-1])
        assert all(0 < len(part) <= max(LEAST + batch_size - 1, batch_size) for part in parts)


class Noted(Progress):
    """Keeps the rows and the losses of every epoch."""

    def __init__(self) -> None:
        self.rows: dict[int, int] = {1: 0, 2: 0}
        self.losses: dict[int, list[float]] = {1: [], 2: []}

    def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
        self.rows[epoch] += rows
        self.losses[epoch].append(loss)


@pytest.mark.parametrize(("rows", "batch_size"), [(2999, 7), (3000, 32), (3001, 500), (3001, 1)])
@pytest.mark.usefixtures("small_blocks")
def test_steps_and_reported_rows_are_those_of_a_run_in_memory(rows: int, batch_size: int) -> None:
    rates = []
    for memory in (None, memory_for(LEAST, batch_size)):
        noted = Noted()
        # the rate falls with every step, so that of the last one tells how many there were
        options: dict[str, Any] = {"batch_size": batch_size, "epochs": 2, "validation": 0}
        history = train(MLP((FEATURES, 3)), *numbered(rows), memory=memory, progress=noted, **options)
        rates.append([row.lr for row in history.epochs])
        assert noted.rows == {1: rows, 2: rows}
    assert rates[0] == rates[1]


@pytest.mark.usefixtures("small_blocks")
def test_run_draws_another_order_in_every_epoch() -> None:
    noted = [Noted() for _ in range(3)]
    for progress, seed in zip(noted, (0, 0, 1), strict=True):
        # at such a rate the weights stay as they are, and a loss depends on the rows alone
        options: dict[str, Any] = {"epochs": 2, "lr": 1e-30, "batch_size": 16, "seed": seed}
        memory = memory_for(LEAST, 16)
        train(MLP(SIZES, dtype="float64"), *learnable(), memory=memory, progress=progress, **options)
    losses = [progress.losses for progress in noted]
    assert len(losses[0][1]) == len(losses[0][2]) > 5
    assert losses[0] == losses[1] != losses[2]
    assert set(losses[0][1]).isdisjoint(losses[0][2])


@pytest.mark.usefixtures("small_blocks")
def test_held_back_blocks_depend_on_the_seed_and_nothing_else() -> None:
    held = [
        feed_of(3000, chunk, 32, 0.2, seed).held.tolist() for chunk, seed in ((200, 1), (500, 1), (500, 2))
    ]
    assert held[0] == held[1] != held[2]
    assert len(held[0]) == 60


@pytest.mark.usefixtures("small_blocks")
def test_every_part_of_a_sorted_file_has_all_classes_in_about_their_shares() -> None:
    rows, classes, chunk = 12_000, 10, 1000
    feed = feed_of(rows, chunk, 50, classes=classes)
    parts = handed_out(feed.parts(feed.training, np.random.default_rng(3)), rows)
    assert len(parts) == 12
    surprises = []
    for numbers in parts:
        counts = np.bincount(labels_of(numbers, rows, classes), minlength=classes) / BLOCK_ROWS
        expected = counts.sum() / classes
        surprises.append(((counts - expected) ** 2 / expected).sum())
        batches = labels_of(numbers, rows, classes)[: len(numbers) // 50 * 50].reshape(-1, 50)
        assert min(len(set(batch)) for batch in batches.tolist()) >= 6
    # a chunk is a draw of blocks without putting back: chi-square of nine degrees of freedom, a little less
    assert max(surprises) < 27.9  # passed by one in a thousand
    assert np.mean(surprises) < 15


# --- training and evaluation --------------------------------------------------------------------------------


def rows_of(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """The learnable rows as bytes, or as floating-point numbers."""
    X, y = learnable()
    return (X, y) if kind == "bytes" else ((X / 255.0), y)


def run_of(backend: Backend, kind: str) -> tuple[MLP, History]:
    """Two streamed epochs, of the floating-point numbers with weights."""
    X, y = rows_of(kind)
    model = MLP(SIZES, dtype="float64", backend=backend)
    memory = memory_for(LEAST, 16, row_bytes=X.nbytes // len(X))
    options: dict[str, Any] = {"batch_size": 16, "momentum": 0.5, "lr": 0.3}
    if kind == "floats":
        options["sample_weight"] = np.arange(len(y)) % 3
    return model, train(model, X, y, epochs=2, memory=memory, **options)


@cache
def reference(kind: str) -> tuple[MLP, History]:
    """The same on NumPy."""
    return run_of(get_backend("cpu", "numpy"), kind)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
@pytest.mark.usefixtures("small_blocks")
def test_every_library_trains_streamed_to_the_same_numbers(backend: Backend, kind: str) -> None:
    expected_model, expected = reference(kind)
    model, history = run_of(backend, kind)
    np.testing.assert_allclose(losses(history), losses(expected), rtol=1e-9)
    assert history.epochs[1].validation_accuracy == expected.epochs[1].validation_accuracy
    for name, array in model.host_parameters().items():
        np.testing.assert_allclose(array, expected_model.parameters[name], rtol=1e-9, atol=1e-12)
    assert model.scale == (255.0 if kind == "bytes" else 1.0)


@pytest.mark.parametrize("kind", ["bytes", "floats"])
@pytest.mark.usefixtures("small_blocks")
def test_evaluation_streamed_is_that_of_the_rows_in_memory(backend: Backend, kind: str) -> None:
    X, y = rows_of(kind)
    model = MLP(SIZES, dtype="float64", backend=backend)
    whole = evaluate(model, X, y)
    streamed = evaluate(model, X, y, memory=memory_for(LEAST, 1, row_bytes=X.nbytes // len(X)))
    assert streamed.confusion.tolist() == whole.confusion.tolist()
    assert streamed.loss == pytest.approx(whole.loss, rel=1e-12)


@pytest.mark.parametrize("memory", [96_000, 10**12], ids=["just enough", "plenty"])
def test_run_whose_rows_fit_into_memory_is_one_without_the_limit(tmp_path: Path, memory: int) -> None:
    X, y = learnable()
    assert X.nbytes == 96_000
    models = [MLP(SIZES, dtype="float64") for _ in range(2)]
    train(models[0], X, y, epochs=1)
    train(models[1], mapped(tmp_path / "X.npy", X), mapped(tmp_path / "y.npy", y), epochs=1, memory=memory)
    assert bits(models[0]) == bits(models[1])


@pytest.mark.parametrize(("epoch", "look"), [(1, 1), (2, 3), (3, 7)], ids=str)
@pytest.mark.usefixtures("small_blocks")
def test_resumed_run_equals_an_unbroken_one_bit_for_bit(tmp_path: Path, epoch: int, look: int) -> None:
    options: dict[str, Any] = {"epochs": 3, "batch_size": 16, "memory": memory_for(LEAST, 16), "patience": 5}
    X, y = learnable()
    files = mapped(tmp_path / "X.npy", X), mapped(tmp_path / "y.npy", y)
    whole, resumed = MLP(SIZES), MLP(SIZES, seed=9)
    expected = train(whole, X, y, **options)
    checkpoint = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        train(MLP(SIZES), *files, checkpoint=checkpoint, progress=Interrupting(epoch, look), **options)
    history = train(resumed, *files, checkpoint=checkpoint, resume=True, **options)
    assert bits(resumed) == bits(whole)
    assert timeless(history) == timeless(expected)


@pytest.mark.usefixtures("small_blocks")
def test_resuming_with_another_memory_is_refused(tmp_path: Path) -> None:
    checkpoint, memory = tmp_path / "checkpoint", memory_for(LEAST, 16)
    options: dict[str, Any] = {"batch_size": 16, "schedule": "constant", "checkpoint": checkpoint}
    number: Any = np.int64(memory)  # is kept as a plain one
    train(MLP(SIZES), *learnable(), epochs=1, memory=number, **options)
    for other in (None, memory + 1):
        again = partial(train, MLP(SIZES), *learnable(), epochs=2, memory=other, resume=True, **options)
        message = refused(again)
        assert message == f"{checkpoint}: memory was {memory}, not {other}: resume with the same"
    history = train(MLP(SIZES), *learnable(), epochs=2, memory=memory, resume=True, **options)
    assert len(history.epochs) == 2


@pytest.mark.usefixtures("small_blocks")
def test_every_part_of_a_run_lies_where_the_first_lay_and_has_batches_of_its_size() -> None:
    found: list[State] = []
    shapes: list[int] = []

    class Watched(NumPyBackend):
        exchange = Backend.exchange  # as on a device

        def scan(self, step: Step, state: State, batches: np.ndarray, data: State) -> State:
            found.append(dict(data))
            return super().scan(step, state, batches, data)

        def warm_up(self, step: Step, state: State, batches: np.ndarray, data: State) -> None:
            assert not found  # before the first
            found.append(dict(data))
            shapes.append(batches.shape[1])

    options: dict[str, Any] = {"batch_size": 16, "validation": 0.3, "memory": memory_for(LEAST, 16)}
    train(MLP(SIZES, backend=Watched("cpu")), *learnable(), epochs=3, **options)
    assert shapes == [16]
    assert len(found) > 3 * (7 + 3)  # chunks to learn from, and chunks that are held back
    for name in ("X", "y", "classes"):
        assert len({id(data[name]) for data in found}) == 1


@pytest.mark.usefixtures("small_blocks")
def test_where_no_array_can_be_refilled_only_two_are_on_the_device() -> None:
    made: list[weakref.ref[np.ndarray]] = []
    alive: list[int] = []

    class Replacing(NumPyBackend):
        exchange = Backend.exchange

        def asarray(self, x: np.ndarray) -> np.ndarray:
            array: np.ndarray = super().asarray(x)
            if array.ndim == 2 and array.dtype == np.uint8:
                made.append(weakref.ref(array))
                alive.append(sum(kept() is not None for kept in made))
            return array

        def refill(self, array: np.ndarray, x: np.ndarray) -> np.ndarray:
            return self.asarray(x)

    options: dict[str, Any] = {"batch_size": 16, "validation": 0.3, "memory": memory_for(LEAST, 16)}
    train(MLP(SIZES, backend=Replacing("cpu")), *learnable(), epochs=3, **options)
    assert len(alive) > 3 * (7 + 3)
    assert max(alive) == 2  # one, and the next as it takes its place


# --- how much is too much -----------------------------------------------------------------------------------

HELD: dict[str, tuple[str, str, int]] = {
    "as they are": ("uint8", "float32", 1),
    "bool as float32": ("bool", "float32", 4),
    "float16 as float32": ("float16", "float32", 4),
    "float64 as float32": ("float64", "float32", 4),
    "float32 as float64": ("float32", "float64", 8),
}


@pytest.mark.parametrize(("stored", "dtype", "size"), HELD.values(), ids=HELD)
@pytest.mark.usefixtures("small_blocks")
def test_rows_are_as_large_as_they_will_be_held(tmp_path: Path, stored: str, dtype: str, size: int) -> None:
    X, y = (learnable()[0] > 128).astype(stored), learnable()[1]
    model, held = MLP(SIZES, dtype=dtype), 96_000 * size
    for given in (X, mapped(tmp_path / "X.npy", X)):
        for memory, kind in ((held, Resident), (held - 1, Streamed)):
            examples = enter(model, given, y)
            feed = make_feed(model, examples, memory=memory, batch_size=1, validation=0.0, seed=0)
            assert type(feed) is kind


def test_rows_of_a_file_that_fit_are_moved_without_a_copy_on_the_way(tmp_path: Path) -> None:
    X = mapped(tmp_path / "X.npy", np.ones((20_000, 100), dtype=np.float32))
    y = mapped(tmp_path / "y.npy", np.arange(20_000) % 3)
    model = MLP((100, 3))
    tracemalloc.start()
    try:
        feed = make_feed(model, enter(model, X, y), memory=X.nbytes, batch_size=1, validation=0.0, seed=0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(feed, Resident)
    assert X.nbytes < peak < 1.7 * X.nbytes  # the rows on the device, here the CPU, and a look at a few


# --- what is refused ----------------------------------------------------------------------------------------


def test_memory_for_rows_on_a_device_is_refused(backend: Backend) -> None:
    if backend.name == "numpy":
        pytest.skip("NumPy's rows are the host's")
    X, y = (backend.asarray(array) for array in learnable())
    model = MLP(SIZES, dtype="float64", backend=backend)
    for call in (train, evaluate):
        said = refused(partial(call, model, X, y, memory=1000), UsageError)
        assert "these are on a device already" in said


@pytest.mark.parametrize("batch_size", [1, 100])
@pytest.mark.usefixtures("small_blocks")
def test_too_little_memory_is_told_how_much_is_enough(batch_size: int) -> None:
    def attempt(memory: int) -> History:
        return train(MLP(SIZES), *numbered(9000), epochs=1, batch_size=batch_size, memory=memory)

    found = re.search(r"give ([\d,]+) or more", refused(lambda: attempt(1000)))
    assert found
    enough = int(found[1].replace(",", ""))
    assert enough == memory_for(LEAST, batch_size)
    assert f"give {enough:,} or more" in refused(lambda: attempt(enough - 1))
    assert attempt(enough).epochs


@pytest.mark.usefixtures("small_blocks")
def test_a_number_that_is_not_finite_ends_the_run_when_it_is_read(tmp_path: Path) -> None:
    X, y = learnable()
    model, given = MLP(SIZES), mapped(tmp_path / "X.npy", np.where(np.eye(1500, FEATURES) > 0, np.nan, X))
    before = bits(model)
    for call in (train, evaluate):
        assert "NaN, infinity or a number too" in refused(partial(call, model, given, y, memory=90_000))
    assert bits(model) == before
    assert readers() == []


@pytest.mark.usefixtures("small_blocks")
def test_labels_to_learn_that_leave_most_classes_out_are_refused() -> None:
    X, y = learnable()[0], np.where(learnable()[1] == 2, 9999, learnable()[1])
    model = MLP((FEATURES, 10_000))
    said = "y: labels 0, 1 and 9999 leave 9,997 of 10,000 classes without a row: is 9999 a missing value? "
    for memory in (None, 90_000):
        assert refused(partial(train, model, X, y, memory=memory)).startswith(said)
    assert evaluate(model, X[:2], y[:2]).rows == 2


@pytest.mark.usefixtures("small_blocks")
def test_validation_that_holds_no_block_back_is_refused() -> None:
    options: dict[str, Any] = {"memory": memory_for(LEAST, 16), "batch_size": 16}
    said = refused(lambda: train(MLP(SIZES), *learnable(), validation=0.003, **options))
    assert "validation 0.003 of 150 blocks of 10 rows holds none back: give more, or 0" in said


# --- reading ahead ------------------------------------------------------------------------------------------


def readers() -> list[str]:
    """The threads that read, and have not ended; but give them a moment."""
    gc.collect()
    deadline = time.monotonic() + 10
    while True:
        left = [thread.name for thread in threading.enumerate() if "ThreadPoolExecutor" in thread.name]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


@pytest.mark.usefixtures("small_blocks")
def test_next_chunk_is_read_while_the_steps_of_this_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = learnable()
    options: dict[str, Any] = {"batch_size": 16, "validation": 0, "memory": memory_for(LEAST, 16)}
    chunks = -(-len(X) // LEAST)
    before: list[threading.Thread] = []
    begun: list[threading.Thread] = []
    looks: list[int] = []
    read = Blocks.read

    def patiently(happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not happened():
            assert time.monotonic() < deadline, "one waits for the other"
            time.sleep(0.001)

    def noted(self: Blocks, *arguments: Any) -> None:
        """Does not end before there was a look at the steps of the chunk before."""
        if before:
            begun.append(threading.current_thread())
            number = len(begun)
            patiently(lambda: len(looks) >= number - 1)
        else:  # the rows to warm up with
            before.append(threading.current_thread())
        read(self, *arguments)

    class Looking(Progress):
        """Does not let them end before the next chunk is being read."""

        def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
            looks.append(rows)
            patiently(lambda: len(begun) >= min(len(looks) + 1, chunks))

    monkeypatch.setattr(Blocks, "read", noted)
    train(MLP(SIZES), X, y, epochs=1, progress=Looking(), **options)
    assert len(looks) == len(begun) == chunks
    assert threading.main_thread() not in begun
    assert before == [threading.main_thread()]
    assert readers() == []


@pytest.mark.usefixtures("small_blocks")
def test_interrupted_run_ends_although_a_chunk_is_being_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[bool] = []
    read = Blocks.read

    def slow(self: Blocks, *arguments: Any) -> None:
        time.sleep(0.1)
        read(self, *arguments)
        ended.append(True)

    monkeypatch.setattr(Blocks, "read", slow)
    model, checkpoint = MLP(SIZES), Checkpoint(tmp_path / "checkpoint")
    before = bits(model)
    options: dict[str, Any] = {"batch_size": 16, "memory": memory_for(LEAST, 16), "checkpoint": checkpoint}
    with pytest.raises(KeyboardInterrupt):
        train(model, *learnable(), progress=Interrupting(1, 2), **options)
    assert readers() == []
    assert len(ended) == 4  # the first to warm up with
    assert bits(model) == before


# --- memory -------------------------------------------------------------------------------------------------

ROWS, MEMORY = 40_000, 26_000_000

MEASURE = """
import sys
from xpnet import MLP, evaluate, get_backend, load_data, train

def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

memory = int(sys.argv[2]) or None
model = MLP((784, 8, 10), backend=get_backend("cpu", "numpy", threads=1))
before = peak()
data = load_data(sys.argv[1], memory=memory)
train(model, data.X_train, data.y_train, epochs=1, memory=memory, batch_size=200)
evaluate(model, data.X_train, data.y_train, memory=memory)
print(peak() - before)
"""
"""What a process needs at most, beyond what it needs to begin with."""


def write_rows(folder: Path, rows: int) -> Path:
    """A data set of bytes, written in pieces."""
    folder.mkdir()
    piece = np.random.default_rng(0).integers(0, 256, (10_000, 784), dtype=np.uint8)
    for part, count in (("train", rows), ("test", 1000)):
        np.save(folder / f"y_{part}.npy", np.arange(count) % 10)
        with (folder / f"x_{part}.npy").open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (count, 784)}
            np.lib.format.write_array_header_1_0(file, header)
            for begin in range(0, count, len(piece)):
                file.write(piece[: count - begin].tobytes())
    return folder


def needed(folder: Path, memory: int) -> int:
    """The bytes that a process needs to train on the rows in a folder; a memory of 0 is none."""
    ended = wait([sys.executable, "-c", MEASURE, str(folder), str(memory)])
    assert ended.code == 0, ended.err
    return int(ended.out)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_memory_that_is_needed_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    few, many = write_rows(tmp_path / "few", ROWS), write_rows(tmp_path / "many", 4 * ROWS)
    streamed = [needed(folder, MEMORY) for folder in (few, many)]
    assert streamed[1] - streamed[0] < 20e6
    assert max(streamed) < 2 * MEMORY
    # and it is not that all rows would have fitted into as little
    assert needed(many, 0) > 0.9 * 4 * ROWS * 784


# --- the command line ---------------------------------------------------------------------------------------

SETTINGS = ("--hidden", "8", "--lr", "0.05", "--schedule", "constant", "--threads", "1", "--quiet")
TRAIN = ("train", "--memory", "13MB", *SETTINGS)


def read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def test_files_larger_than_memory_are_trained_on_evaluated_and_resumed(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    arrays: dict[str, np.ndarray] = {}  # sorted by class; each part has 15 MB
    for part in ("train", "test"):
        y = labels_of(np.arange(20_000), 20_000).astype(np.uint8)
        X = rng.integers(0, 200, (20_000, 784), dtype=np.uint8)
        for label in range(3):
            X[y == label, 100 * label : 100 * (label + 1)] += 55
        arrays |= {f"x_{part}": X, f"y_{part}": y}
    arguments = (*TRAIN, "--data", str(write_idx(tmp_path / "idx", arrays)))
    succeed(tmp_path, *arguments, "--epochs", "2", "--out", "unbroken")
    succeed(tmp_path, *arguments, "--epochs", "1", "--out", "out")
    assert read_json(tmp_path / "out" / "config.json")["memory"] == 13 * 2**20
    succeed(tmp_path, "train", "--resume", "--epochs", "2", "--quiet", "--out", "out")
    model = (tmp_path / "out" / "model.safetensors").read_bytes()
    assert model == (tmp_path / "unbroken" / "model.safetensors").read_bytes()

    summary = read_json(tmp_path / "out" / "summary.json")
    for memory in (("--memory", "13MB"), ()):
        result = json.loads(succeed(tmp_path, "evaluate", "out", *memory, "--json").out)
        assert result["rows"] == 20_000
        assert result["accuracy"] == pytest.approx(summary["test_accuracy"], abs=1e-3)
        assert result["loss"] == pytest.approx(summary["test_loss"], rel=1e-5)
    assert summary["test_accuracy"] > 0.9

    # without --memory it is the run's own that counts: one that is too little is refused
    config = tmp_path / "out" / "config.json"
    config.write_text(json.dumps(read_json(config) | {"memory": 1000}))
    refused_to = run(tmp_path, "evaluate", "out")
    assert refused_to.code == 1
    assert "memory 1,000 is too little" in refused_to.err


def float_rows(folder: Path, rows: int, test_rows: int) -> Path:
    """Floating-point rows of 3,136 bytes, few to learn from and many to be judged by."""
    folder.mkdir()
    for part, count in (("train", rows), ("test", test_rows)):
        np.save(folder / f"x_{part}.npy", np.zeros((count, 784), dtype=np.float32))
        np.save(folder / f"y_{part}.npy", np.arange(count) % 3)
    return folder


def test_test_rows_that_cannot_be_judged_cost_no_training(tmp_path: Path) -> None:
    data = float_rows(tmp_path / "data", 300, 5000)
    test_rows = np.load(data / "x_test.npy", mmap_mode="r+")
    test_rows[4321, 5] = np.nan
    test_rows.flush()
    arguments = ("--epochs", "1", *SETTINGS, "--out", "out")
    ended = run(tmp_path, "train", "--data", str(data), "--memory", "14MB", *arguments)
    assert ended.code == 1
    assert len(ended.err.splitlines()) == 1
    assert f"the test rows: {data / 'x_test.npy'}: row 4,321, counted from 0: NaN" in ended.err
    assert "kept in out/model.safetensors" in ended.err
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"model.safetensors", "history.csv"} <= written
    assert "summary.json" not in written
    model = (tmp_path / "out" / "model.safetensors").read_bytes()
    test_rows[4321, 5] = 0
    test_rows.flush()
    succeed(tmp_path, "train", "--resume", "--out", "out", "--quiet")
    assert read_json(tmp_path / "out" / "summary.json")["epochs"] == 1
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == model


def test_too_little_memory_for_the_test_rows_is_told_before_training(tmp_path: Path) -> None:
    data = float_rows(tmp_path / "data", 300, 5000)
    arguments = ("--memory", "1MB", "--epochs", "1", *SETTINGS, "--out", "out")
    ended = run(tmp_path, "train", "--data", str(data), *arguments)
    assert ended.code == 1
    said = r"the test rows: memory 1,048,576 is too little for rows of 3,136 bytes: give [\d,]+ or more"
    assert re.search(said, ended.err)
    assert not (tmp_path / "out").exists()
