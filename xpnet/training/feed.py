"""Where a run's rows come from: all of them on the device, or streamed to it chunk by chunk.

A feed hands out parts: the data of a step, on the device, and the numbers of the rows in it that come next.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from xpnet.arrays import dtype_name
from xpnet.data.blocks import Blocks
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

    def sample(self) -> State:
        """Data of the shapes that every part has."""
        return self.data

    def parts(self, batch_size: int, rng: np.random.Generator | None) -> Iterator[Part]:
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

    Attributes
    ----------
    blocks
        The rows on the host.
    training, held
        Block numbers: to learn from, and held back.
    at_once
        Blocks in a chunk, at most.
    spare
        Rows of a chunk that may be left for the next one, so that all its batches are full.
    """

    model: MLP
    blocks: Blocks
    training: np.ndarray
    held: np.ndarray
    at_once: int
    spare: int

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
            needed = min(COPIES * row * (FEWEST * blocks.rows + spare), X.nbytes)
            batch = f"batches of {batch_size} rows of {blocks.row_bytes:,} bytes"
            raise XpnetError(f"memory {memory:,} is too little for {batch}: give {needed:,} or more")
        numbers = stream(seed, "validation").permutation(blocks.count)
        held = min(round(validation * blocks.count), blocks.count - 1)
        return cls(model, blocks, np.sort(numbers[held:]), np.sort(numbers[:held]), at_once, spare)

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

    def sample(self) -> State:
        """Data of the shapes that every part has."""
        return self._moved(*self._buffers())

    def parts(self, batch_size: int, rng: np.random.Generator | None) -> Iterator[Part]:
        """All training rows, chunk by chunk, in an order that `rng` draws, or as they come.

        A part may lie where the one before lay, so only the latest may be used. Every part but the last holds
        whole batches; a chunk's other rows wait for the next part.
        """
        return self._parts(self.training if rng is None else rng.permutation(self.training), batch_size, rng)

    def held_parts(self) -> Iterator[Part]:
        """The rows held back, as they come."""
        return self._parts(self.held, 1, None)

    def _parts(self, numbers: np.ndarray, batch_size: int, rng: np.random.Generator | None) -> Iterator[Part]:
        X, y = self._buffers()
        data: State = {}
        chunks = np.array_split(numbers, -(-len(numbers) // self.at_once))
        with ThreadPoolExecutor(1) as reader:
            reading = reader.submit(self.blocks.read, chunks[0], X, y, 0)
            for i in range(len(chunks)):
                count = reading.result()
                order = np.arange(count, dtype=np.int32)
                if rng is not None:
                    order = rng.permutation(order)
                data = self._refilled(data, X, y) if data else self._moved(X, y)
                if i + 1 < len(chunks):
                    order, rest = np.split(order, [count - count % batch_size])
                    X[: len(rest)], y[: len(rest)] = X[rest], y[rest]
                    reading = reader.submit(self.blocks.read, chunks[i + 1], X, y, len(rest))
                if len(order):
                    yield data, order

    def _buffers(self) -> tuple[np.ndarray, np.ndarray]:
        """Room for a chunk on the host, the same for every one, because a shape may be compiled for."""
        rows = min(self.at_once, self.blocks.count) * self.blocks.rows + self.spare
        return np.zeros((rows, self.blocks.X.shape[1]), self.blocks.dtype), np.zeros(rows, np.int32)

    def _moved(self, X: np.ndarray, y: np.ndarray) -> State:
        backend = self.model.backend
        return {"X": backend.asarray(X), "y": backend.asarray(y), "classes": class_numbers(self.model)}

    def _refilled(self, data: State, X: np.ndarray, y: np.ndarray) -> State:
        """In the same arrays, where that may be: a step that was recorded for them goes on."""
        refill = self.model.backend.refill
        return data | {"X": refill(data["X"], X), "y": refill(data["y"], y)}


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
        if X.nbytes > memory:
            return Streamed.prepare(model, X, y, memory, batch_size, validation, seed)
    return Resident.prepare(model, X, y, validation, seed)
