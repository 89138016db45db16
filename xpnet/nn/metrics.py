"""Metrics: how good the outputs of a network are, from sums that a step adds up on the device.

A metric of all rows is often not the mean of the metrics of their batches; r2 is an example. But every metric
follows from sums over the rows. So every kind of targets has two functions: ``sums`` turns the outputs of a
batch into a few small arrays, inside a step, and ``metrics`` turns their totals over all rows into numbers,
at the end.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from xpnet.nn.typing import Array, Namespace, State

MOST_TABULATED = 2896
"""The largest number of classes with a confusion table. Such a table takes 64 MB in float64."""


def one_hot(xp: Namespace, y: Array, classes: Array, dtype: object) -> Array:
    """T[i, j] = 1 where y[i] is classes[j], else 0.

    Parameters
    ----------
    y : (m,) integer
        Class numbers.
    classes : (k,) integer
        0, 1, …, k - 1, on the device of `y`.
    dtype
        A dtype of `xp`.

    Returns
    -------
    T : (m, k)
    """
    return xp.astype(y[:, None] == classes, dtype)


def class_sums(xp: Namespace, Z: Array, A: Array, T: Array, weights: Array, classes: Array) -> State:
    """Add up, for each class, the weights of its rows, and of those of its rows that are predicted right.

    The predicted class is that of the largest Z, because two probabilities may be rounded to the same number.
    With up to `MOST_TABULATED` classes, confusion[i, j] is the weight of the rows of class i that are
    predicted as class j.
    """
    predicted = one_hot(xp, xp.argmax(Z, axis=1), classes, T.dtype)
    weighted = T * weights[:, None]
    sums = {"by_class": xp.sum(weighted, axis=0), "right": xp.sum(weighted * predicted, axis=0)}
    if T.shape[1] <= MOST_TABULATED:
        sums["confusion"] = xp.matmul(xp.matrix_transpose(weighted), predicted)
    return sums


def class_metrics(xp: Namespace, totals: State) -> dict[str, float]:
    """accuracy: the weight of the rows that are predicted right, divided by the weight of all rows."""
    return {"accuracy": float(xp.sum(totals["right"]) / totals["weight"][0])}


def label_sums(xp: Namespace, Z: Array, A: Array, T: Array, weights: Array, classes: Array) -> State:
    """Add up, for each label, the weights of the rows where it is true, where it is predicted, and both.

    A label is predicted where Z > 0, which means A > 1/2. "exact" is the weight of the rows that have every
    label right.
    """
    w = weights[:, None]
    predicted = xp.astype(Z > 0, T.dtype)
    wrong = xp.max(xp.abs(predicted - T), axis=1)  # 1 where any label of the row is wrong
    return {
        "true": xp.sum(w * T, axis=0),
        "predicted": xp.sum(w * predicted, axis=0),
        "both": xp.sum(w * T * predicted, axis=0),
        "exact": xp.reshape(xp.sum(weights * (1.0 - wrong)), (1,)),
    }


def label_metrics(xp: Namespace, totals: State) -> dict[str, float]:
    """accuracy: the fraction of rows, by weight, with every label right.

    f1: 2 both / (true + predicted), each added up over all labels.
    """
    found = xp.sum(totals["true"]) + xp.sum(totals["predicted"])
    f1 = 2.0 * xp.sum(totals["both"]) / found if found > 0 else 0.0
    return {"accuracy": float(totals["exact"][0] / totals["weight"][0]), "f1": float(f1)}


def number_sums(
    xp: Namespace, Z: Array, A: Array, T: Array, weights: Array, classes: Array, *, centre: float = 0.0
) -> State:
    """Add up, for each of the k numbers, (A - T)^2, T - centre and (T - centre)^2, times the row's weight.

    Training scales targets to a mean of `centre`. With another mean, float32 loses r2.
    """
    w, D = weights[:, None], A - T
    T = T - centre
    return {
        "squares": xp.sum(w * D * D, axis=0),
        "targets": xp.sum(w * T, axis=0),
        "target_squares": xp.sum(w * T * T, axis=0),
    }


def number_metrics(xp: Namespace, totals: State) -> dict[str, float]:
    """rmse: the root of the mean of (A - T)^2.

    r2: 1 - the sum of (A - T)^2 / the sum of (T - mean of T)^2, averaged over the k numbers.
    """
    weight = totals["weight"][0]
    spread = totals["target_squares"] - totals["targets"] ** 2 / weight
    # a constant target has no variance: r2 is 1 where it is met, otherwise 0
    share = totals["squares"] / xp.where(spread > 0, spread, 1.0)
    unexplained = xp.where(spread > 0, share, xp.sign(totals["squares"]))
    rmse = xp.mean(totals["squares"] / weight) ** 0.5
    return {"rmse": float(rmse), "r2": float(xp.mean(1.0 - unexplained))}


@dataclass(frozen=True)
class Kind:
    """What targets are, and how outputs are judged by them.

    Attributes
    ----------
    name
        "classes": a class number for each row. "labels": k numbers 0 or 1. "numbers": k numbers.
    sums
        ``sums(xp, Z, A, T, weights, classes)``: arrays by name, from Z_L, the outputs A and the targets T
        (m, k) of a batch, and the weights (m,) of its rows.
    metrics
        ``metrics(xp, totals)``: numbers by name, on the host, from the totals of these arrays and "weight",
        (1,), the weight of all rows.
    """

    name: str
    sums: Callable[[Namespace, Array, Array, Array, Array, Array], State]
    metrics: Callable[[Namespace, State], dict[str, float]]

    def zeros(self, xp: Namespace, k: int) -> State:
        """The sums of no rows, for k outputs, in float64: where adding up begins."""
        none = xp.zeros((1, k), dtype=xp.float64)
        return self.sums(xp, none, none, none, none[:, 0], xp.arange(k))


CLASSES = Kind("classes", class_sums, class_metrics)
LABELS = Kind("labels", label_sums, label_metrics)
NUMBERS = Kind("numbers", number_sums, number_metrics)
RATES = replace(NUMBERS, sums=partial(number_sums, centre=1.0))
