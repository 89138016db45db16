"""The network: its description, its first weights, and the names of its gradients."""

from itertools import pairwise

import numpy as np
import pytest

from xpnet import MLP
from xpnet.backends import Backend
from xpnet.nn.network import Network, initial_parameters

DEEP = Network(tuple(range(2, 15)))


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (0, 3), (3, -1, 2)])
def test_sizes_that_make_no_network_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        Network(sizes)


def test_shapes_come_in_the_order_of_the_layers() -> None:
    """Not in alphabetical order, which would put W10 before W2."""
    usual = {"W1": (784, 128), "b1": (128,), "W2": (128, 10), "b2": (10,)}
    assert (Network((784, 128, 10)).depth, Network((784, 128, 10)).shapes) == (2, usual)
    assert list(DEEP.shapes) == [f"{kind}{l}" for l in range(1, 13) for kind in "Wb"]
    assert (DEEP.depth, DEEP.shapes["W10"], DEEP.shapes["b12"]) == (12, (11, 12), (14,))


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "identity"])
def test_first_weights_have_the_spread_of_their_fans(activation: str, rng: np.random.Generator) -> None:
    """Two layers with different fans: 100,000 draws and more, whose spread is known to within 0.3 %."""
    weights = initial_parameters(np, Network((800, 400, 250), activation), rng)
    for name, (fan_in, fan_out) in {"W1": (800, 400), "W2": (400, 250)}.items():
        W, limit = weights[name], (6 / (fan_in + fan_out)) ** 0.5
        std = (2 / fan_in) ** 0.5 if activation == "relu" else limit / 3**0.5
        assert W.std() == pytest.approx(std, rel=0.01)
        assert abs(W.mean()) < 5 * std / W.size**0.5
        if activation == "relu":
            assert abs(W).max() > 3.5 * std, "a normal distribution has tails"
        else:
            assert 0.999 * limit < min(-W.min(), W.max()) <= abs(W).max() <= limit


def test_weights_are_drawn_layer_by_layer() -> None:
    weights = initial_parameters(np, DEEP, np.random.default_rng(7))
    again = np.random.default_rng(7)
    assert list(weights) == list(DEEP.shapes)
    for l, (fan_in, fan_out) in enumerate(pairwise(DEEP.sizes), start=1):
        expected = again.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)
        np.testing.assert_allclose(weights[f"W{l}"], expected)
        assert (weights[f"b{l}"] == np.zeros(fan_out)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_starts_from_the_same_weights(dtype: str, backend: Backend) -> None:
    def draw(seed: int, dtype: str, backend: Backend | str) -> dict[str, np.ndarray]:
        return MLP((5, 4, 3), seed=seed, dtype=dtype, backend=backend).host_parameters()

    found, reference = draw(3, dtype, backend), draw(3, "float64", "numpy")
    assert list(found) == ["W1", "b1", "W2", "b2"]
    for name, array in found.items():
        assert array.dtype == dtype
        assert (array == reference[name].astype(dtype)).all()
    assert (draw(4, "float64", "numpy")["W1"] != reference["W1"]).all()
