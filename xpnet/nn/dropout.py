"""Dropout: in training, each unit is left out of a row with a given probability.

So no unit can rely on another one, and the network learns features that are useful on their own.
Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov, "Dropout", 2014. The units that stay are
divided by the probability to stay. So the input of the next layer keeps its expectation, and for prediction
the network is used as it is.
"""

from xpnet.nn.random import uniform16
from xpnet.nn.typing import Array, Namespace

VALUES = 2**16
"""The number of values that a draw can take. So the probability to stay is a multiple of 1 / VALUES."""


def dropout_masks(
    xp: Namespace,
    rates: tuple[float, ...],
    sizes: tuple[int, ...],
    key: tuple[Array, ...],
    places: Array,
    m: int,
    dtype: object,
) -> dict[int, Array]:
    """Draw the masks of one step.

    Parameters
    ----------
    rates
        For the input and each hidden layer, the probability that a unit is left out.
    sizes
        Units of the input and of each hidden layer; the sizes of a network will do.
    key
        As for `uniform16`.
    places
        As for `uniform16`.
    m
        Rows of the batch.
    dtype
        A dtype of `xp`.

    Returns
    -------
    masks : {l: M_l}
        For each layer with a rate, an array (m, sizes[l]) that is 0 where a unit is left out, and elsewhere 1
        divided by the probability to stay.
    """
    masks = {}
    for l, rate in enumerate(rates):
        if rate:
            kept = max(round((1.0 - rate) * VALUES), 1)
            draws = uniform16(xp, key, l, places, (m, sizes[l]))
            masks[l] = xp.astype(draws < kept, dtype)
            masks[l] *= VALUES / kept
    return masks
