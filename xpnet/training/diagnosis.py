"""What a practised eye sees in the columns of rows and in the history of a run, in one line."""

from math import log

import numpy as np

from xpnet.data.mapped import read
from xpnet.model import MLP
from xpnet.scaling import Columns
from xpnet.training.history import History
from xpnet.training.settings import Settings, lower_rate

SOME_ROWS = 1000
"""Rows, evenly spaced, of which the columns are compared."""

MANY_TIMES = 100.0
"""Columns of very different sizes: one is so many times as large as another."""

GUESSING = 0.97
"""A loss above this part of that of guessing shows that nothing was learned."""

GREW = 1.25
"""A loss that is so many times as large as the best one has grown."""

GAP = 0.25
"""Rows are learned by heart if the validation loss exceeds the training loss by this part of guessing's."""


def of_columns(X: np.ndarray, names: tuple[str, ...] | None = None) -> str | None:
    """See whether columns of floating-point rows have very different sizes.

    Parameters
    ----------
    X : (n, features)
        Rows that are not standardized, on the host.
    names
        The names of the columns.
    """
    if X.dtype.kind != "f" or len(X) < 2:
        return None
    some = read(X[:: -(-len(X) // SOME_ROWS)]).astype(np.float64)
    columns = Columns.of(some)
    sizes = np.hypot(columns.mean, np.where(np.ptp(some, axis=0) > 0, columns.std, 0.0))
    large, small = int(np.argmax(sizes)), int(np.argmin(np.where(sizes > 0, sizes, np.inf)))
    if not 0 < sizes[small] * MANY_TIMES < sizes[large]:
        return None
    named = [f"{names[i]!r}" if names else f"{i}" for i in (large, small)]
    times = sizes[large] / sizes[small]
    return f"column {named[0]} is {times:,.0f} times as large as column {named[1]}: give --standardize"


def of_history(model: MLP, settings: Settings, history: History) -> str | None:
    """See whether a run that has ended learned nothing, or its loss grew, or it learned its rows by heart.

    Only the first of these that holds is told.
    """
    epochs = history.epochs[: history.best]
    if not epochs:
        return None
    loss, best = epochs[-1].loss, min(epoch.loss for epoch in epochs)
    k = model.outputs
    guess = log(k) if model.kind == "classes" else log(2) * k if model.kind == "labels" else 0.5 * k
    lower = f"--lr {lower_rate(vars(settings) | {'loss': model.loss}):g}"
    if model.loss == "cross-entropy" and loss > GUESSING * guess:
        said = f"the loss, {loss:.3f}, is no better than ln({k}) = {guess:.3f}, that of guessing"
        return f"{said}: try {lower}, or --standardize, or more --epochs; or the rows do not tell the classes"
    if loss > GREW * best and loss - best > GUESSING * guess / 100:
        at = next(epoch.epoch for epoch in epochs if epoch.loss == best)
        return f"the loss was {best:.3g} in epoch {at} and grew to {loss:.3g}: try {lower}, or --clip 1"
    held = [epoch.metrics["validation_loss"] for epoch in epochs if "validation_loss" in epoch.metrics]
    if len(held) < len(epochs):
        return None
    lowest, last = min(held), held[-1]
    grew = last > GREW * max(lowest, loss) and last - lowest > GAP * guess / 5
    if last - loss > GAP * guess or grew:
        said = f"the validation loss is {last:.3g} (its lowest: {lowest:.3g}), the training loss {loss:.2g}"
        return f"{said}: the network learns its rows by heart: try --patience 5, --dropout 0.2 or more rows"
    return None
