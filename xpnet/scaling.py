"""Columns of numbers scaled to mean 0 and standard deviation 1, and back."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xpnet.data.mapped import pieces, read
from xpnet.nn.typing import Array


@dataclass(frozen=True, eq=False)
class Columns:
    """The mean and the standard deviation of columns, on the host, float64.

    Attributes
    ----------
    mean, std : (k,)
        A column x becomes (x - mean) / std.
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, X: np.ndarray, weights: np.ndarray | None = None, *, centred: bool = True) -> "Columns":
        """Compute them for the columns of a host array (n, k), a piece of its rows at a time.

        The standard deviation of a constant column counts as 1. Where a number is NaN or too large to be
        squared, so are the results.

        Parameters
        ----------
        weights : (n,)
            The weight of every row; None for 1.
        centred
            Subtract the mean. Otherwise columns are only divided, by their mean: that of a rate, which must
            stay positive.
        """
        rows = max(1, 2**20 // X.shape[1])
        w = np.ones((len(X), 1)) if weights is None else weights[:, np.newaxis]

        def mean_of(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            pairs = zip(pieces(X, rows), pieces(w, rows), strict=True)
            total: np.ndarray = sum((function(piece) * share).sum(axis=0) for piece, share in pairs) / w.sum()
            return total

        # less a row, so that nothing is left of a constant column, not even rounding
        first = np.argmax(w > 0)
        row = read(X[first : first + 1])[0].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            mean = row + mean_of(lambda piece: piece - row)
            if not centred:
                return cls(np.zeros_like(mean), np.where(mean > 0, mean, 1.0))
            std = np.sqrt(mean_of(lambda piece: (piece - mean) ** 2))
        return cls(mean, np.where(std == 0, 1.0, std))

    def matches(self, k: int) -> bool:
        """Whether these are the finite mean and the positive standard deviation of k columns."""
        forms = {(part.shape, part.dtype) for part in (self.mean, self.std)}
        sound = forms == {((k,), np.dtype(np.float64))}
        return sound and bool(np.isfinite([self.mean, self.std]).all() and (self.std > 0).all())

    def scaled(self, X: Array, place: Callable[[np.ndarray], Array] = np.asarray) -> Array:
        """Scale columns; `place` brings the mean and the standard deviation to where X is."""
        return (X - place(self.mean)) / place(self.std)

    def restored(self, X: Array, place: Callable[[np.ndarray], Array] = np.asarray) -> Array:
        """Undo `scaled`."""
        return X * place(self.std) + place(self.mean)
