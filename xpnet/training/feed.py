"""The rows of a run: all of them on the device, or streamed to it chunk by chunk.

A feed hands out parts. A part is the data of a step, on the device, and the numbers of the rows to use, in
the order in which to use them.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from xpnet.arrays import dtype_name
from xpnet.data.blocks import Blocks
from xpnet.data.checks import check_type
from xpnet.data.rows import split, stream
from xpnet.errors import UsageError, XpnetError
from xpnet.model import MLP
from xpnet.nn.typing import Array, State
from xpnet.training.inputs import check_shapes, host_labels, move_rows

Part: TypeAlias = tuple[State, np.ndarray]

COPIES = 3
"""Chunks in memory at the same time: one being read, one on the device, and one being moved."""

FEWEST = 16
"""The least number of blocks in a chunk: the rows of fewer blocks would hardly be mixed."""

LABEL = 16
"""Bytes that a row needs besides its features: for its label and its number."""


@dataclass(frozen=True)
class Feed:
    """Rows to train on, and rows held back.

    Attributes
    ----------
    training, held
        The numbers of the rows to train on, and of those held back; or of blocks of rows.
    rows, held_rows
        How many rows these are.
    dtype
        The dtype of the rows on the device: "uint8".
    data
        The data of a step.
    """

    training: np.ndarray
    held: np.ndarray
    rows: int
    held_rows: int
    dtype: str
    data: State = field(repr=False)

    def sample(self) -> Part:
        """Some of the rows to train on, as one part."""
        raise NotImplementedError

    def parts(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Iterator[Part]:
        """All rows of some numbers, in an order that `rng` draws, or in their own."""
        raise NotImplementedError


class Resident(Feed):
    """Rows that are all on the device."""

    @classmethod
    def prepare(cls, model: MLP, X: Array, y: Array, validation: float, seed: int) -> "Resident":
        """Check and move the rows, and hold back a fraction of every class."""
        check_shapes(model, X, y)
        labels = host_labels(model, y)
        data = step_data(model, move_rows(model, X), labels)
        training, held = split(labels, validation, stream(seed, "validation"))
        _check_held(validation, held, f"{len(labels):,} rows")
        return cls(training, held, len(training), len(held), dtype_name(data["X"]), data)

    def sample(self) -> Part:
        """All rows to train on."""
        return self.data, self.training

    def parts(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Iterator[Part]:
        """All of them in one part."""
        yield self.data, numbers if rng is None else rng.permutation(numbers)


@dataclass(frozen=True)
class Streamed(Feed):
    """Rows that stay in their file, and are moved to the device a chunk at a time.

    A chunk is made of many blocks from all over the file, drawn at random, and its rows are shuffled again.
    So the rows of a batch come from many places, even where a file is sorted by class, while the disk reads
    long pieces (Xu et al., "In-database machine learning with CorgiPile", 2022). A thread reads the next
    chunk while the device computes on this one. Whole blocks are held back.

    Every part is moved into the same arrays on the device. So only the latest part may be used, and a step
    that was recorded for one part works for all of them.

    Attributes
    ----------
    blocks
        The rows on the host.
    at_once
        The most blocks in a chunk.
    batch_size
        The rows of a chunk that fill no batch of this size are left for the next chunk.
    """

    model: MLP
    blocks: Blocks
    at_once: int
    batch_size: int

    @classmethod
    def prepare(
        cls, model: MLP, X: Array, y: Array, memory: int, batch_size: int, validation: float, seed: int
    ) -> "Streamed":
        """Check what can be checked without reading the rows, and hold back a fraction of the blocks.

        Raises
        ------
        XpnetError
            The memory is too little for chunks of `FEWEST` blocks, or rows and labels do not fit the network.
        """
        check_shapes(model, X, y)
        blocks = Blocks(X, y, model.classes, model.dtype)
        row, spare = blocks.row_bytes + LABEL, batch_size - 1
        at_once = (memory // (COPIES * row) - spare) // blocks.rows
        if at_once < FEWEST:
            needed = min(COPIES * row * (FEWEST * blocks.rows + spare), bytes_held(model, X))
            batches = f"batches of {batch_size} " if batch_size > 1 else ""
            what = f"{batches}rows of {blocks.row_bytes:,} bytes"
            raise XpnetError(f"memory {memory:,} is too little for {what}: give {needed:,} or more")
        numbers = stream(seed, "validation").permutation(blocks.count)
        count = min(round(validation * blocks.count), blocks.count - 1)
        training, held = np.sort(numbers[count:]), np.sort(numbers[:count])
        _check_held(validation, held, f"{blocks.count:,} blocks of {blocks.rows:,} rows")
        sizes = blocks.size(training), blocks.size(held)
        # the data of a step are empty before the first part or sample
        return cls(training, held, *sizes, blocks.dtype.name, {}, model, blocks, at_once, batch_size)

    def sample(self) -> Part:
        """A few of the rows to train on, in the arrays of every part."""
        X, y = self._buffers()
        count = self.blocks.read(self.training[:FEWEST], X, y, 0)
        return self._moved(X, y), np.arange(count, dtype=np.int32)

    def parts(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Iterator[Part]:
        """The rows of some blocks, chunk by chunk.

        Where `rng` draws their order, every part but the last holds whole batches; the other rows of a chunk
        are left for the next part.
        """
        batch_size = 1
        if rng is not None:
            numbers, batch_size = rng.permutation(numbers), self.batch_size
        X, y = self._buffers()
        chunks = np.array_split(numbers, -(-len(numbers) // self.at_once))
        with ThreadPoolExecutor(1) as reader:
            try:
                reading = reader.submit(self.blocks.read, chunks[0], X, y, 0)
            except RuntimeError as error:  # the system allows no further thread
                raise XpnetError(f"rows cannot be read ahead: {error}") from error
            for i in range(len(chunks)):
                count = reading.result()
                order = np.arange(count, dtype=np.int32)
                if rng is not None:
                    order = rng.permutation(order)
                data = self._moved(X, y)
                if i + 1 < len(chunks):
                    order, rest = np.split(order, [count - count % batch_size])
                    X[: len(rest)], y[: len(rest)] = X[rest], y[rest]
                    reading = reader.submit(self.blocks.read, chunks[i + 1], X, y, len(rest))
                if len(order):
                    yield data, order

    def _buffers(self) -> tuple[np.ndarray, np.ndarray]:
        """Make room for a chunk on the host, of one shape for all chunks, because it may be compiled for."""
        rows = min(self.at_once, self.blocks.count) * self.blocks.rows + self.batch_size - 1
        return np.zeros((rows, self.blocks.X.shape[1]), self.blocks.dtype), np.zeros(rows, np.int32)

    def _moved(self, X: np.ndarray, y: np.ndarray) -> State:
        """Move a chunk into the same arrays where the library can, otherwise into new ones in their place."""
        backend, data = self.model.backend, self.data
        if data:
            data["X"] = backend.refill(data["X"], X)
            data["y"] = backend.refill(data["y"], y)
        else:
            data |= step_data(self.model, backend.asarray(X), y)
        return data


def make_feed(
    model: MLP, X: Array, y: Array, memory: int | None, batch_size: int, validation: float, seed: int
) -> Feed:
    """Keep rows on the device if they fit into `memory` bytes or no limit is given; otherwise stream them.

    Raises
    ------
    UsageError
        `memory` is given for rows that are on a device already.
    XpnetError
        Rows and labels do not fit the network.
    """
    if memory is not None:
        if not (isinstance(X, np.ndarray) and isinstance(y, np.ndarray)):
            raise UsageError("memory is for NumPy rows, which can be streamed: these are on a device already")
        if bytes_held(model, X) > memory:
            return Streamed.prepare(model, X, y, memory, batch_size, validation, seed)
    return Resident.prepare(model, X, y, validation, seed)


def step_data(model: MLP, X: Array, y: np.ndarray) -> State:
    """Make the data of a step from rows on the device and labels on the host."""
    backend = model.backend
    classes = np.arange(model.classes, dtype=np.int32)
    return {"X": X, "y": backend.asarray(y), "classes": backend.asarray(classes)}


def _check_held(validation: float, held: np.ndarray, units: str) -> None:
    if validation and not len(held):
        raise XpnetError(f"validation {validation} of {units} holds none back: give more, or 0")


def bytes_held(model: MLP, X: np.ndarray) -> int:
    """The bytes of rows as they are held for training, which may be more or fewer than in their file.

    Raises
    ------
    XpnetError
        They are no numbers.
    """
    return X.size * check_type(X, "X", model.dtype).itemsize
