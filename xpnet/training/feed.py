"""The rows of a run: all of them on the device, or streamed to it chunk by chunk.

A feed hands out parts: the data of a step, on the device, the numbers of the rows to use, in the order in
which to use them, and the weights of all rows of the data on the host, if they have any.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from xpnet.arrays import dtype_name
from xpnet.backends import Group
from xpnet.data.blocks import Blocks
from xpnet.data.checks import check_rows, check_type
from xpnet.data.rows import batches, split, stream
from xpnet.errors import UsageError, XpnetError
from xpnet.model import MLP
from xpnet.nn.typing import State
from xpnet.training.inputs import Examples

COPIES = 3
"""Chunks in memory at the same time: one being read, one on the device, and one being moved."""

FEWEST = 16
"""The least number of blocks in a chunk: the rows of fewer blocks would hardly be mixed."""

NUMBER = 16
"""Bytes that a row needs besides its features, targets and weight: its row number, and some reserve."""


class Part(NamedTuple):
    """The data of a step, the numbers of its rows to use, and the weights of its rows on the host.

    Where several processes have different data, ``places`` has the place in the data here of every row that
    is this process's.
    """

    data: State
    order: np.ndarray
    weights: np.ndarray | None
    places: np.ndarray | None = None

    def here(self, rows: np.ndarray) -> np.ndarray:
        """The places in the data of this process's row numbers, of which -1 stays."""
        return rows if self.places is None else np.where(rows >= 0, self.places[rows], -1)


def weights_of(rows: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """The weights of some row numbers: 1 where there are none, and 0 for -1."""
    return np.where(rows >= 0, 1.0 if weights is None else weights[rows], 0.0)


class Feed:
    """Rows to train on, and rows held back.

    Attributes
    ----------
    model, examples
        The network, and all rows.
    constants
        What a step needs in its data besides the rows.
    data
        The data of a step.
    training, held
        The numbers of the rows to train on, and of those held back; or of blocks of rows.
    rows, held_rows
        How many rows these are.
    dtype
        The dtype of the rows on the device: "uint8".
    """

    rows: int
    held_rows: int
    dtype: str

    def __init__(self, model: MLP, examples: Examples, constants: State) -> None:
        self.model, self.examples, self.constants = model, examples, constants
        self.data: State = {}

    def hold_back(self, strata: np.ndarray, validation: float, seed: int, units: str) -> None:
        """Hold back a fraction of some units, which are rows or blocks; see `split`."""
        self.training, self.held = split(strata, validation, stream(seed, "validation"))
        if validation and not len(self.held):
            some, classes = f"{len(strata):,} {units}", len(np.unique(strata))
            numbers = f"; if the {classes:,} classes are numbers, choose their loss" if classes > 99 else ""
            raise XpnetError(f"validation {validation} of {some} holds none back: give more, or 0{numbers}")

    def sample(self) -> Part:
        """Some of the rows to train on, as one part."""
        raise NotImplementedError

    def parts(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Iterator[Part]:
        """All rows of some numbers, in an order that `rng` draws.

        Or, without `rng`, those of this process: several processes share them out.
        """
        raise NotImplementedError

    def columns(self, rows: np.ndarray | slice) -> dict[str, np.ndarray]:
        """The targets and the weights of some rows, as a step takes them."""
        model, examples = self.model, self.examples
        y = examples.y[rows] if model.targets is None else model.targets.scaled(examples.y[rows])
        found = {"y": y.astype(model.dtype) if y.dtype.kind == "f" else y}
        if examples.weights is not None:
            found["weights"] = examples.weights[rows].astype(model.dtype)
        return found


class Resident(Feed):
    """Rows that are all on the device; the fraction `validation` of them is held back."""

    def __init__(
        self, model: MLP, examples: Examples, constants: State, validation: float, seed: int
    ) -> None:
        super().__init__(model, examples, constants)
        X, backend = examples.X, model.backend
        if isinstance(X, np.ndarray):
            X = backend.asarray(check_rows(X, examples.what, model.dtype))
        strata = examples.y if examples.y.ndim == 1 else np.zeros(examples.rows)
        self.hold_back(strata, validation, seed, "rows")
        self.rows, self.held_rows, self.dtype = len(self.training), len(self.held), dtype_name(X)
        columns = {name: backend.asarray(column) for name, column in self.columns(slice(None)).items()}
        self.data = {"X": X} | constants | columns

    def sample(self) -> Part:
        """All rows to train on."""
        return Part(self.data, self.training, self.examples.weights)

    def parts(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Iterator[Part]:
        """All of them in one part."""
        group = self.model.backend.group
        order = numbers[group.rank :: group.size] if rng is None else rng.permutation(numbers)
        if len(order):
            yield Part(self.data, order, self.examples.weights)


class Streamed(Feed):
    """Rows that stay in their file, and are moved to the device a chunk at a time.

    A chunk is made of many blocks from all over the file, drawn at random, and its rows are shuffled again.
    So the rows of a batch come from many places, even where a file is sorted by class, while the disk reads
    long pieces (Xu et al., "In-database machine learning with CorgiPile", 2022). A thread reads the next
    chunk while the device computes on this one. Whole blocks are held back.

    Every part is moved into the same arrays on a device. So only the latest part may be used, and a step
    that was recorded for one part works for all of them. On the host, two arrays change places.

    Attributes
    ----------
    blocks
        The rows on the host.
    at_once
        The most blocks in a chunk.
    batch_size
        The rows of a chunk that fill no batch of this size are left for the next chunk.
    at_most
        The most rows in a chunk, of all processes together.
    room
        The most of them in one process.
    spare
        A host array for the next chunk.

    Raises
    ------
    XpnetError
        The memory is too little for chunks of `FEWEST` blocks.
    """

    def __init__(
        self,
        model: MLP,
        examples: Examples,
        constants: State,
        validation: float,
        seed: int,
        memory: int,
        batch_size: int,
    ) -> None:
        super().__init__(model, examples, constants)
        self.batch_size = batch_size
        self.blocks = blocks = Blocks(examples.X, model.dtype, examples.what)
        self.dtype = blocks.dtype.name
        row, spare = blocks.row_bytes + NUMBER, batch_size - 1
        self.at_once = (memory // (COPIES * row) - spare) // blocks.rows
        if self.at_once < FEWEST:
            needed = min(COPIES * row * (FEWEST * blocks.rows + spare), bytes_held(model, examples.X))
            of_batches = f"batches of {batch_size} " if batch_size > 1 else ""
            what = f"{of_batches}rows of {blocks.row_bytes:,} bytes"
            raise XpnetError(f"memory {memory:,} is too little for {what}: give {needed:,} or more")
        self.hold_back(np.zeros(blocks.count), validation, seed, f"blocks of {blocks.rows:,} rows")
        self.rows, self.held_rows = blocks.size(self.training), blocks.size(self.held)
        self.group, at_once = model.backend.group, min(self.at_once, blocks.count)
        size, m = self.group.size, min(batch_size, self.rows)
        self.at_most = at_once * blocks.rows + spare
        # blocks that were dealt out, with what was left before; or parts of batches
        self.room = max(-(-at_once // size) * blocks.rows + spare, -(-self.at_most // m) * -(-m // size))
        if size == 1:
            self.room = self.at_most

    def sample(self) -> Part:
        """A few of the rows to train on, in the arrays of every part."""
        X, rows = self._buffer(), np.zeros(self.room, np.int64)
        some = self.training[: FEWEST // self.group.size or 1]
        chosen = self.blocks.row_numbers(some)
        self.blocks.read(some, X, 0)
        rows[: len(chosen)] = chosen
        order = np.arange(len(chosen), dtype=np.int32)
        return self._moved(X, rows, order, rows)._replace(places=order)

    def parts(self, numbers: np.ndarray, rng: np.random.Generator | None = None) -> Iterator[Part]:
        """The rows of some blocks, chunk by chunk.

        Where `rng` draws their order, every part but the last holds whole batches; the other rows of a chunk
        are left for the next part. Several processes deal out the blocks of a chunk, read them, and exchange
        rows, so that each has its part of every batch: the batches are those of one process.
        """
        group, batch_size, at_once = self.group, self.batch_size, self.at_once
        if rng is None:
            numbers, batch_size, at_once = numbers[group.rank :: group.size], 1, -(-at_once // group.size)
            group = Group()
        else:
            numbers = rng.permutation(numbers)
        if not len(numbers):
            return
        chunks = np.array_split(numbers, -(-len(numbers) // at_once) or 1)
        rows = np.zeros(max(self.at_most, self.room), np.int64)
        owners, places = np.zeros((2, len(rows)), np.int32)  # the process that has a row, and where
        X, filled, held = self._buffer(), 0, 0
        with ThreadPoolExecutor(1) as reader:
            try:
                reading = reader.submit(self.blocks.read, chunks[0][group.rank :: group.size], X, 0)
            except RuntimeError as error:  # the system allows no further thread
                raise XpnetError(f"rows cannot be read ahead: {error}") from error
            for i, chunk in enumerate(chunks):
                reading.result()
                count = filled + self.blocks.size(chunk)
                sizes = [self.blocks.size(chunk[n : n + 1]) for n in range(len(chunk))]
                owners[filled:count] = np.repeat(np.arange(len(chunk)) % group.size, sizes)
                rows[filled:count] = self.blocks.row_numbers(chunk)
                here = np.flatnonzero(owners[:count] == group.rank)
                places[here] = np.arange(len(here))
                order = np.arange(count, dtype=np.int32)
                order, rest = order if rng is None else rng.permutation(order), order[:0]
                if i + 1 < len(chunks):
                    order, rest = np.split(order, [count - count % batch_size])
                if group.size == 1:
                    part = self._moved(X, rows, order, rows)
                else:
                    part = self._exchanged(X, rows, owners, places, order)
                full, X = X, self.spare
                if i + 1 < len(chunks):
                    filled, mine = len(rest), rest[owners[rest] == group.rank]
                    held = len(mine)
                    X[:held] = full[places[mine]]
                    rows[:filled], owners[:filled] = rows[rest], owners[rest]
                    reading = reader.submit(
                        self.blocks.read, chunks[i + 1][group.rank :: group.size], X, held
                    )
                if len(order):
                    yield part

    def _exchanged(
        self, X: np.ndarray, rows: np.ndarray, owners: np.ndarray, places: np.ndarray, order: np.ndarray
    ) -> Part:
        """Get this process's part of every batch, in the order of the steps, from all who have read them."""
        group, found, numbers = self.group, self._buffer(), np.zeros(self.room, np.int64)
        index = batches(order, min(self.batch_size, self.rows))
        wanted = [group.part(index, rank).ravel() for rank in range(group.size)]
        sent = [X[places[some[(some >= 0) & (owners[some] == group.rank)]]] for some in wanted]
        at = np.flatnonzero(wanted[group.rank] >= 0)
        mine = wanted[group.rank][at]
        sources = owners[mine]
        received = group.exchange(sent, np.bincount(sources, minlength=group.size).tolist())
        for source, some in enumerate(received):
            found[at[sources == source]] = some
        numbers[at] = rows[mine]
        here = np.zeros(len(rows), np.int32)
        here[mine] = at
        part, self.spare = self._moved(found, numbers, order, rows)._replace(places=here), X
        return part

    def _buffer(self) -> np.ndarray:
        """Make room for a chunk on the host, of one shape for all chunks, because it may be compiled for."""
        return np.zeros((self.room, self.blocks.X.shape[1]), self.blocks.dtype)

    def _moved(self, X: np.ndarray, numbers: np.ndarray, order: np.ndarray, rows: np.ndarray) -> Part:
        """Move a chunk into the same arrays where the library can, otherwise into new ones in their place.

        Parameters
        ----------
        numbers
            The number in the whole file of every row of X.
        rows
            The number in the whole file of every row that `order` may name.
        """
        backend, data = self.model.backend, self.data
        if "X" in data:
            data["X"], self.spare = backend.exchange(data["X"], X)
        else:
            data["X"], self.spare = backend.asarray(X), X
        for name, column in self.columns(numbers[: self.room]).items():
            data[name] = backend.refill(data[name], column) if name in data else backend.asarray(column)
        data |= self.constants
        weights = self.examples.weights
        return Part(data, order, None if weights is None else weights[rows])


def make_feed(
    model: MLP,
    examples: Examples,
    memory: int | None,
    *,
    batch_size: int = 1,
    validation: float = 0.0,
    seed: int = 0,
    constants: State | None = None,
) -> Feed:
    """Keep rows on the device if they fit into `memory` bytes or no limit is given; otherwise stream them.

    Parameters
    ----------
    batch_size
        Parts that are shuffled hold whole batches of this size. Any memory that is enough for training is
        enough for parts of any length.
    validation, seed
        The fraction that is held back, and the seed of the choice.
    constants
        What a step needs in its data besides rows, classes and the scale of columns.

    Raises
    ------
    UsageError
        `memory` is given for rows that are on a device already.
    XpnetError
        A number is not finite, or the memory is too little.
    """
    backend = model.backend
    classes = backend.asarray(np.arange(model.outputs, dtype=np.int32))
    constants = {"classes": classes} | (constants or {})
    if model.inputs is not None:
        columns = {"mean": model.inputs.mean, "std": model.inputs.std}
        constants |= {name: backend.asarray(column.astype(model.dtype)) for name, column in columns.items()}
    if memory is not None:
        if not isinstance(examples.X, np.ndarray):
            raise UsageError("memory is for NumPy rows, which can be streamed: these are on a device already")
        if bytes_held(model, examples.X) > memory:
            return Streamed(model, examples, constants, validation, seed, memory, batch_size)
    return Resident(model, examples, constants, validation, seed)


def bytes_held(model: MLP, X: np.ndarray) -> int:
    """The bytes of rows as they are held for training, which may be more or fewer than in their file.

    Raises
    ------
    XpnetError
        They are no numbers.
    """
    return X.size * check_type(X, "X", model.dtype).itemsize
