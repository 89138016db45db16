"""What a practised eye sees in the columns of rows and in the history of a run, in one line."""

from math import log

import numpy as np

from xpnet.data.mapped import read
from xpnet.model import MLP
from xpnet.training.history import History
from xpnet.training.inputs import Examples
from xpnet.training.settings import Settings, default_rate, lower_rate

SOME_ROWS = 1000
"""Rows, evenly spaced, of which the columns are compared."""

MANY_TIMES = 100.0
"""Columns of very different sizes: one is so many times as large as another."""

FEW = 0.05
"""This part of the columns may be smaller than that: pixels at the edge of pictures, say."""

GUESSING = 0.97
"""A loss above this part of that of guessing classes by their shares shows that nothing was learned."""

GREW = 1.25
"""A loss that is so many times as large as the best one has grown."""

GAP = 0.25
"""Rows are learned by heart if the validation loss exceeds the training loss by this part of ln(classes)."""


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
    some = np.array([read(X[i]) for i in range(0, len(X), -(-len(X) // SOME_ROWS))], np.float64)
    with np.errstate(over="ignore"):  # where it is not 0: how rare a mark is says nothing of its size
        sizes = np.sqrt((some**2).sum(axis=0) / np.maximum((some != 0).sum(axis=0), 1))
    varied = np.flatnonzero(np.ptp(some, axis=0) > 0)
    varied = varied[np.argsort(sizes[varied])]
    if not len(varied):
        return None
    large, small = int(np.argmax(sizes)), int(varied[int(FEW * len(varied))])
    if sizes[large] < sizes[small] * MANY_TIMES:
        return None
    named = [f"{names[i]!r}" if names else f"{i}" for i in (large, small)]
    times = sizes[large] / sizes[small]
    return f"column {named[0]} is {times:,.0f} times as large as column {named[1]}: give --standardize"


def of_history(model: MLP, settings: Settings, history: History, taught: Examples) -> str | None:
    """See whether a run that has ended learned nothing, or its loss grew, or it learned its rows by heart.

    Only the first of these that holds is told.

    Parameters
    ----------
    taught
        What the network was trained on.
    """
    epochs = history.epochs[: history.best]
    if not epochs:
        return None
    loss, best, k = epochs[-1].loss, min(epoch.loss for epoch in epochs), model.outputs
    usual = default_rate(model.loss, settings.optimizer, settings.momentum)
    lower = lower_rate(vars(settings) | {"loss": model.loss})
    if model.kind == "classes":
        shares = np.bincount(taught.y, taught.weights)
        shares = shares[shares > 0] / shares.sum()
        guess = float(-(shares * np.log(shares)).sum())
        if loss > GUESSING * guess > 0:
            said = f"the loss, {loss:.3f}, is no better than guessing by the classes' shares, {guess:.3f}"
            rate = usual if settings.rate < usual / 2 else lower
            scaling = ", --standardize" if model.inputs is None else ""
            return f"{said}: try --lr {rate:g}{scaling} or more --epochs; or the rows do not tell the classes"
    scale = log(k) if model.kind == "classes" else log(2) * k if model.kind == "labels" else 0.5 * k
    if loss > GREW * best and loss - best > scale / 100:
        at = next(epoch.epoch for epoch in epochs if epoch.loss == best)
        clip = ", or --clip 1" if settings.clip is None else ""
        return f"the loss was {best:.3g} in epoch {at} and grew to {loss:.3g}: try --lr {lower:g}{clip}"
    held = [epoch.metrics["validation_loss"] for epoch in epochs if "validation_loss" in epoch.metrics]
    if len(held) < len(epochs):
        return None
    lowest, last = min(held), held[-1]
    grew = last > GREW * max(lowest, loss) and last - lowest > GAP * scale / 5
    if last - loss > GAP * scale or grew:
        said = f"the validation loss is {last:.3g} (its lowest: {lowest:.3g}), the training loss {loss:.2g}"
        tries = ["--patience 5"] * (settings.patience is None) + ["--dropout 0.2"] * (not settings.dropout)
        return f"{said}: the network learns its rows by heart: try {' or '.join([*tries, 'more rows'])}"
    return None
