"""Where a run's rows come from: all of them on the device, or streamed to it chunk by chunk.

A feed hands out parts: the data of a step, on the device, and the numbers of the rows in it that come next.
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
from xpnet.training.inputs import check_shapes, class_numbers, move_data

Part: TypeAlias = tuple[State, np.ndarray]

COPIES = 3
"""Chunks in memory together: one that is being read, one on the device, and one on its way between them."""

FEWEST = 16
"""Blocks in a chunk at least: rows of fewer would hardly be mixed."""

LABEL = 16
"""Bytes that a row takes besides its features: its label, and its number."""


@dataclass(frozen=True)
class Resident:
    """Rows that are all on the device.

    Attributes
    ----------
    data
        Of the step.
    training, held
        Row numbers: to learn from, and held back.
    """

    data: State
    training: np.ndarray
    held: np.ndarray

    @classmethod
    def prepare(cls, model: MLP, X: Array, y: Array, validation: float, seed: int) -> "Resident":
        """Check and move the rows, and hold a fraction of every class back."""
        data = move_data(model, X, y)
        rows = np.arange(data["y"].shape[0], dtype=np.int32)
        if not validation:
            return cls(data, rows, rows[:0])
        return cls(data, *split(model.backend.to_numpy(data["y"]), validation, stream(seed, "validation")))

    @property
    def dtype(self) -> str:
        """What the rows are on the device: "uint8"."""
        return dtype_name(self.data["X"])

    @property
    def rows(self) -> int:
        """Rows to learn from."""
        return len(self.training)

    @property
    def held_rows(self) -> int:
        """Rows held back."""
        return len(self.held)

    @property
    def units(self) -> str:
        """What a fraction is held back of."""
        return f"{len(self.training) + len(self.held):,} rows"

    def sample(self) -> Part:
        """All there is."""
        return self.data, self.training

    def parts(self, rng: np.random.Generator | None) -> Iterator[Part]:
        """All training rows, in an order that `rng` draws, or as they come."""
        yield self.data, self.training if rng is None else rng.permutation(self.training)

    def held_parts(self) -> Iterator[Part]:
        """The rows held back, as they come."""
        yield self.data, self.held


@dataclass(frozen=True)
class Streamed:
    """Rows that stay in their file, and come to the device a chunk at a time.

    A chunk is many blocks from all over the file, drawn at random, and its rows are drawn at random again. So
    the rows of a batch come from many places, even where a file is sorted by class, while the disk reads
    long pieces (Xu et al., "In-database machine learning with CorgiPile", 2022). While the device computes
    on a chunk, a thread reads the next. What is held back is whole blocks.

    Every part lies where the one before lay, in whichever epoch, so only the latest may be used, and a step
    that was recorded for one goes on with all.

    Attributes
    ----------
    blocks
        The rows on the host.
    training, held
        Block numbers: to learn from, and held back.
    at_once
        Blocks in a chunk, at most.
    batch_size
        A chunk's rows that fill no batch of so many are left for the next chunk.
    data
        Of the step; empty before the first part or sample.
    """

    model: MLP
    blocks: Blocks
    training: np.ndarray
    held: np.ndarray
    at_once: int
    batch_size: int
    data: State = field(default_factory=dict, repr=False)

    @classmethod
    def prepare(
        cls, model: MLP, X: Array, y: Array, memory: int, batch_size: int, validation: float, seed: int
    ) -> "Streamed":
        """Check what can be without reading the rows, and hold a fraction of the blocks back.

        Raises
        ------
        XpnetError
            Too little memory for chunks of `FEWEST` blocks, or rows and labels that do not fit the network.
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
        held = min(round(validation * blocks.count), blocks.count - 1)
        return cls(model, blocks, np.sort(numbers[held:]), np.sort(numbers[:held]), at_once, batch_size)

    @property
    def dtype(self) -> str:
        """What the rows are on the device: "uint8"."""
        return self.blocks.dtype.name

    @property
    def rows(self) -> int:
        """Rows to learn from."""
        return self.blocks.size(self.training)

    @property
    def held_rows(self) -> int:
        """Rows held back."""
        return self.blocks.size(self.held)

    @property
    def units(self) -> str:
        """What a fraction is held back of."""
        return f"{self.blocks.count:,} blocks of {self.blocks.rows:,} rows"

    def sample(self) -> Part:
        """A few of the training rows, where every part will lie."""
        X, y = self._buffers()
        count = self.blocks.read(self.training[:FEWEST], X, y, 0)
        return self._moved(X, y), np.arange(count, dtype=np.int32)

    def parts(self, rng: np.random.Generator | None) -> Iterator[Part]:
        """All training rows, chunk by chunk, in an order that `rng` draws, or as they come.

        Every part but the last holds whole batches; a chunk's other rows wait for the next part.
        """
        numbers = self.training if rng is None else rng.permutation(self.training)
        return self._parts(numbers, self.batch_size, rng)

    def held_parts(self) -> Iterator[Part]:
        """The rows held back, as they come."""
        return self._parts(self.held, 1, None)

    def _parts(self, numbers: np.ndarray, batch_size: int, rng: np.random.Generator | None) -> Iterator[Part]:
        X, y = self._buffers()
        chunks = np.array_split(numbers, -(-len(numbers) // self.at_once))
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(self.blocks.read, chunks[0], X, y, 0)
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
        """Room for a chunk on the host, the same for every one, because a shape may be compiled for."""
        rows = min(self.at_once, self.blocks.count) * self.blocks.rows + self.batch_size - 1
        return np.zeros((rows, self.blocks.X.shape[1]), self.blocks.dtype), np.zeros(rows, np.int32)

    def _moved(self, X: np.ndarray, y: np.ndarray) -> State:
        """Move a chunk into the same arrays, where that may be, else into new ones that take their place."""
        backend, data = self.model.backend, self.data
        if data:
            data["X"] = backend.refill(data["X"], X)
            data["y"] = backend.refill(data["y"], y)
        else:
            data |= {"X": backend.asarray(X), "y": backend.asarray(y), "classes": class_numbers(self.model)}
        return data


Feed: TypeAlias = Resident | Streamed


def make_feed(
    model: MLP, X: Array, y: Array, *, memory: int | None, batch_size: int, validation: float, seed: int
) -> Feed:
    """Keep rows on the device where they fit into `memory` bytes, or where no such limit is given.

    Raises
    ------
    UsageError
        A memory for rows that are on a device already.
    XpnetError
        Rows and labels that do not fit the network.
    """
    if memory is not None:
        if not (isinstance(X, np.ndarray) and isinstance(y, np.ndarray)):
            raise UsageError("memory is for NumPy rows, which can be streamed: these are on a device already")
        if bytes_held(model, X) > memory:
            return Streamed.prepare(model, X, y, memory, batch_size, validation, seed)
    return Resident.prepare(model, X, y, validation, seed)


def bytes_held(model: MLP, X: np.ndarray) -> int:
    """Bytes of rows as they are held for training, which may be more or fewer than in their file.

    Raises
    ------
    XpnetError
        They are no numbers.
    """
    return X.size * check_type(X, "X", model.dtype).itemsize
