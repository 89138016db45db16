"""The network: its description, its first weights, and its layers in a row."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from xpnet import MLP
from xpnet.backends import Backend
from xpnet.nn.network import Network, backward, forward, initial_parameters


@pytest.mark.parametrize("sizes", [(), (3,), (3, 0), (0, 3), (3, -1, 2)])
def test_sizes_that_make_no_network_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="at least two"):
        Network(sizes)


def test_an_unknown_activation_is_named() -> None:
    with pytest.raises(ValueError, match="'rleu': choose one of relu, tanh, sigmoid, identity"):
        Network((3, 2), "rleu")


def test_shapes_of_the_usual_network() -> None:
    network = Network((784, 128, 10))
    assert network.depth == 2
    assert network.shapes == {"W1": (784, 128), "b1": (128,), "W2": (128, 10), "b2": (10,)}


def test_shapes_come_in_the_order_of_the_layers() -> None:
    """Not in the alphabet's, which would put W10 before W2."""
    sizes = tuple(range(2, 15))
    network = Network(sizes)
    assert network.depth == 12
    assert list(network.shapes) == [f"{kind}{l}" for l in range(1, 13) for kind in "Wb"]
    assert network.shapes["W10"] == (11, 12)
    assert network.shapes["b12"] == (14,)


def test_equal_descriptions_are_equal() -> None:
    assert Network((4, 3, 2), "tanh") == Network((4, 3, 2), "tanh")
    assert hash(Network((4, 3, 2), "tanh")) == hash(Network((4, 3, 2), "tanh"))
    assert Network((4, 3, 2), "tanh") != Network((4, 3, 2), "relu")


def test_he_weights_have_the_spread_of_their_fan_in(rng: np.random.Generator) -> None:
    """Two layers with different fans: 100,000 draws and more, whose spread is known to within 0.3 %."""
    weights = initial_parameters(np, Network((800, 400, 250), "relu"), rng)
    for name, fan_in in {"W1": 800, "W2": 400}.items():
        W, std = weights[name], (2 / fan_in) ** 0.5
        assert W.std() == pytest.approx(std, rel=0.01)
        assert abs(W.mean()) < 5 * std / W.size**0.5
        assert abs(W).max() > 3.5 * std, "drawn from a normal distribution, which has tails"


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "identity"])
def test_glorot_weights_fill_their_interval(activation: str, rng: np.random.Generator) -> None:
    weights = initial_parameters(np, Network((800, 400, 250), activation), rng)
    for name, fans in {"W1": 1200, "W2": 650}.items():
        W, r = weights[name], (6 / fans) ** 0.5
        assert -r <= W.min() < -0.999 * r
        assert 0.999 * r < W.max() <= r
        assert W.std() == pytest.approx(r / 3**0.5, rel=0.01)
        assert abs(W.mean()) < 5 * r / W.size**0.5


def test_weights_are_drawn_layer_by_layer() -> None:
    sizes = tuple(range(2, 15))
    weights = initial_parameters(np, Network(sizes), np.random.default_rng(7))
    again = np.random.default_rng(7)
    assert list(weights) == [name for l in range(1, 13) for name in (f"W{l}", f"b{l}")]
    for l, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        W = weights[f"W{l}"]
        assert (weights[f"b{l}"] == np.zeros(fan_out)).all()
        np.testing.assert_allclose(W, again.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_equal_seeds_give_equal_weights(activation: str) -> None:
    def draw(seed: int) -> dict[str, Any]:
        return initial_parameters(np, Network((5, 4, 3), activation), np.random.default_rng(seed))

    one, same, other = draw(1), draw(1), draw(2)
    for name in ("W1", "W2"):
        assert (one[name] == same[name]).all()
        assert (one[name] != other[name]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_library_starts_from_the_same_weights(dtype: str, backend: Backend) -> None:
    found = MLP((5, 4, 3), seed=3, dtype=dtype, backend=backend).host_parameters()
    reference = MLP((5, 4, 3), seed=3, dtype="float64", device="cpu", backend="numpy").host_parameters()

    assert list(found) == ["W1", "b1", "W2", "b2"]
    for name, array in found.items():
        assert array.dtype == dtype
        assert (array == reference[name].astype(dtype)).all()
    assert found["W1"].any()
    assert not found["b1"].any()
    assert not found["b2"].any()


def test_another_seed_gives_other_weights() -> None:
    one, other = (MLP((5, 4), seed=seed, backend="numpy").host_parameters() for seed in (0, 1))
    assert (one["W1"] != other["W1"]).all()


def test_forward_by_hand(backend: Backend, xp: Any) -> None:
    """The middle row is cut off by relu in both units; the logits are not cut off at all."""
    host = {
        "W1": [[1.0, -1.0], [2.0, 0.5]],
        "b1": [0.0, 1.0],
        "W2": [[1.0, -2.0, 0.0], [4.0, 1.0, 0.5]],
        "b2": [0.25, 0.0, -1.0],
    }
    parameters = {name: backend.asarray(np.array(array)) for name, array in host.items()}
    X = backend.asarray(np.array([[1.0, 1.0], [1.0, -4.0], [-2.0, 1.0]]))

    Z, A = forward(xp, Network((2, 2, 3)), parameters | {"t": X}, X)

    assert (list(Z), list(A)) == ([1, 2], [0, 1])
    assert backend.to_numpy(A[0]).tolist() == [[1.0, 1.0], [1.0, -4.0], [-2.0, 1.0]]
    assert backend.to_numpy(Z[1]).tolist() == [[3.0, 0.5], [-7.0, -2.0], [0.0, 3.5]]
    assert backend.to_numpy(A[1]).tolist() == [[3.0, 0.5], [0.0, 0.0], [0.0, 3.5]]
    assert backend.to_numpy(Z[2]).tolist() == [[5.25, -5.5, -0.75], [0.25, 0.0, -1.0], [14.25, 3.5, 0.75]]


def test_gradients_mirror_the_parameters(backend: Backend, xp: Any, rng: np.random.Generator) -> None:
    network = Network((2, 3, 4, 3, 2), "tanh")
    host = {name: rng.standard_normal(shape) for name, shape in network.shapes.items()}
    parameters = {name: backend.asarray(array) for name, array in host.items()}
    X, dZ = backend.asarray(rng.standard_normal((6, 2))), backend.asarray(rng.standard_normal((6, 2)))

    Z, A = forward(xp, network, parameters, X)
    gradients = backward(xp, network, parameters, Z, A, dZ)

    assert {name: tuple(array.shape) for name, array in gradients.items()} == network.shapes
    for name, array in host.items():
        assert (backend.to_numpy(parameters[name]) == array).all()
