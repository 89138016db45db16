"""What a step does with each loss: weights, padding, penalty, scaling, clipping, and shapes of targets."""

from typing import Any

import numpy as np
import pytest
from numpy.random import Generator

from tests.oracles import assert_close, differences, draw_step, each_loss, exact_losses, scanned
from tests.states import Host, assert_same
from xpnet.backends import Backend
from xpnet.nn.initializers import glorot_uniform, he_normal
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network, forward, initial_parameters
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.step import EvaluationStep, TrainingStep

NETWORK = Network((4, 5, 3), "tanh")


def batch(name: str, state: Host, rows: Any, data: Host, scale: float = 1.0, **options: Any) -> Host:
    """The gradient of a batch, and the running sum of losses, on NumPy."""
    network = Network((4, 5, len(state["b2"])), "tanh")
    state = {key: array.copy() for key, array in state.items()}
    step = TrainingStep(np, network, LOSSES[name], SGD(), scale, **options)
    found = step.gradients(state, np.array(rows), data)
    return found | {"loss": state["loss"]}


@each_loss
def test_a_weight_is_a_number_of_copies(name: str, rng: Generator) -> None:
    """And padding counts nothing."""
    data, state = draw_step(rng, name, NETWORK, SGD())
    data["penalty"] = np.full(1, 0.3)
    copies = batch(name, state, [0, 0, 1, 3, 3, 3], data)
    data["weights"] = np.array([2.0, 1.0, 0.0, 3.0] + [5.0] * 13)
    assert_same(batch(name, state, [-1, 1, 0, 2, 3, -1], data), copies, 1e-14)


@each_loss
def test_a_batch_of_weight_zero_has_no_gradient(name: str, rng: Generator) -> None:
    """Nor has the penalty, because there is no mean loss that it could be added to."""
    data, state = draw_step(rng, name, NETWORK, SGD())
    data |= {"weights": np.zeros(17), "penalty": np.full(1, 0.3)}
    found = batch(name, state, [0, 1, 2, 3, -1, -1], data)
    assert np.isfinite(found.pop("loss"))
    assert not any(array.any() for array in found.values())


@each_loss
def test_a_mean_loss_counts_every_row_the_same(name: str, rng: Generator) -> None:
    """The mean loss of the batch, penalty included, times its rows; its gradient is the same."""
    data, state = draw_step(rng, name, NETWORK, SGD())
    data |= {"weights": rng.uniform(0, 2, 17), "penalty": np.full(1, 0.3)}
    plain, mean = (batch(name, state, [3, 11, 5, -1], data, mean_loss=mean) for mean in (False, True))
    found, expected = (each.pop("loss") - state["loss"] for each in (mean, plain))
    assert_close(found, expected * 3 / data["weights"][[3, 11, 5]].sum(), 1e-14)
    assert_same(mean, plain, 1e-15)


@each_loss
def test_the_penalty_is_part_of_the_reported_loss(name: str, rng: Generator) -> None:
    """The gradient of the mean loss plus alpha / (2 sum of weights) |W|^2, of a batch that is filled up."""
    data, state = draw_step(rng, name, NETWORK, SGD())
    data |= {"weights": rng.uniform(0, 2, 17), "penalty": np.full(1, 0.3)}
    X, y, w = (data[key][[3, 11, 5, 0]] for key in ("X", "y", "weights"))
    T = np.eye(3)[y] if name == "cross-entropy" else y
    found = batch(name, state, [3, 11, 5, 0, -1, -1], data)

    def mean() -> float:
        losses = exact_losses(name, forward(np, NETWORK, state, X).Z[2], T)
        squares = sum(np.sum(state[key].astype(np.longdouble) ** 2) for key in ("W1", "W2"))
        return float((w @ losses + 0.3 / 2 * squares) / w.sum())

    assert found["loss"] / w.sum() == pytest.approx(mean(), rel=1e-12)
    for key in NETWORK.shapes:
        assert_close(found[key], differences(mean, state[key]), 1e-7)


def test_columns_are_standardised_after_scaling(rng: Generator) -> None:
    data, state = draw_step(rng, "squared-error", NETWORK, SGD())
    X, mean, std = rng.integers(0, 256, (17, 4)).astype(np.uint8), rng.random(4), 0.1 + rng.random(4)
    raw, ready = data | {"X": X, "mean": mean, "std": std}, data | {"X": (X / 255.0 - mean) / std}
    found = batch("squared-error", state, [4, 1, -1, 9], raw, 255.0)
    assert_same(found, batch("squared-error", state, [4, 1, -1, 9], ready), 1e-13)


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"cross-entropy"}))
def test_one_target_a_row_may_be_a_vector(name: str, rng: Generator) -> None:
    data, state = draw_step(rng, name, Network((4, 5, 1)), SGD())
    column = batch(name, state, [4, 1, 16, 9], data)
    assert_same(batch(name, state, [4, 1, 16, 9], data | {"y": data["y"][:, 0]}), column)


def test_clipping_scales_the_whole_gradient(rng: Generator) -> None:
    """To the norm 0.01, at a rate of 0.1."""
    data, state = draw_step(rng, "poisson", NETWORK, SGD())
    slopes = batch("poisson", state, range(6), data)
    norm = np.sqrt(sum(np.sum(slopes[key] ** 2) for key in NETWORK.shapes))
    step = TrainingStep(np, NETWORK, LOSSES["poisson"], SGD(), clip=0.01)
    after = step({key: array.copy() for key, array in state.items()}, np.arange(6), data)
    for key in NETWORK.shapes:
        np.testing.assert_allclose(state[key] - after[key], 1e-3 * slopes[key] / norm, rtol=0, atol=1e-15)


@each_loss
def test_everything_at_once_equals_numpy(name: str, backend: Backend, rng: Generator) -> None:
    """There by `gradients` and `apply`, here in a scan of whole steps."""
    optimizer = Adam(weight_decay=0.1, decoupled=True)
    options: Any = (NETWORK, LOSSES[name], optimizer, 2.0, (0.1, 0.5), 0.5)
    data, expected = draw_step(rng, name, NETWORK, optimizer)
    data |= {"weights": rng.uniform(0, 2, 17), "penalty": np.full(1, 0.3)}
    data |= {"mean": rng.random(4), "std": 0.5 + rng.random(4)}
    data |= {"seed": np.full(1, 5, np.int32), "places": np.arange(12, dtype=np.int32)}
    batches = rng.integers(-1, 17, (5, 6)).astype(np.int32)
    found = scanned(backend, TrainingStep(backend.xp, *options), expected, batches, data)
    step = TrainingStep(np, *options)
    for lr, rows in zip(expected["rates"][:, None], batches, strict=False):
        expected = step.apply(expected, step.gradients(expected, rows, data), lr)
        expected |= {name: expected[name] + 1 for name in ("t", "step")}
    assert_same(found, expected, 1e-11)


@pytest.mark.parametrize("more", [{}, {"weights": np.arange(17) / 9.0}, {"penalty": np.full(1, 0.3)}])
@pytest.mark.parametrize("optimizer", [SGD(0.9), Adam()], ids=["sgd", "adam"])
def test_a_step_without_padding_need_not_look_for_it(
    optimizer: Optimizer, more: Any, backend: Backend, rng: Generator
) -> None:
    data, start = draw_step(rng, "cross-entropy", NETWORK, optimizer)
    batches, found = rng.integers(0, 17, (3, 6)).astype(np.int32), []
    for padded in (True, False):
        step = TrainingStep(backend.xp, NETWORK, LOSSES["cross-entropy"], optimizer, 2.0, padded=padded)
        found.append(scanned(backend, step, start, batches, data | more))
    assert_same(found[0], found[1], 1e-13)
    assert abs(found[0]["W1"] - start["W1"]).max() > 1e-3


@each_loss
def test_evaluation_adds_up_its_sums(name: str, backend: Backend, rng: Generator) -> None:
    """Three batches with weights and a row of padding, against all rows at once."""
    loss, (data, state) = LOSSES[name], draw_step(rng, name, NETWORK, SGD())
    data["weights"] = w = rng.uniform(0, 2, 17)
    state |= loss.kind.zeros(np, 3)
    batches = np.append(np.arange(17), -1).reshape(3, 6)
    found = scanned(backend, EvaluationStep(backend.xp, NETWORK, loss), state, batches, data)

    T = np.eye(3)[data["y"]] if name == "cross-entropy" else data["y"]
    Z = forward(np, NETWORK, state, data["X"]).Z[2]
    sums = loss.kind.sums(np, Z, loss.output(np, Z), T, w, data["classes"])
    sums["loss"] = np.array([w @ exact_losses(name, Z, T)], float)
    assert_same(found, state | sums, 1e-13)


@pytest.mark.parametrize("wrong", [("relu",), ("relu", "tanh", "relu"), ("relu", "rleu"), ()])
def test_activations_that_do_not_fit_the_layers_are_refused(wrong: tuple[str, ...]) -> None:
    """The gradient of a network with different ones is tested with dropout."""
    with pytest.raises(
        ValueError, match="'rleu': choose" if "rleu" in wrong else "give one name, or 2: one for"
    ):
        Network((4, 5, 6, 3), wrong)


def test_biases_are_drawn_like_the_weights_of_their_layer() -> None:
    """relu follows the first layer, tanh the second; the last is drawn like the second."""
    network, again = Network((3, 4, 5, 2), ("relu", "tanh")), np.random.default_rng(1)
    found = initial_parameters(np, network, np.random.default_rng(1), biases=True)
    assert list(found) == list(network.shapes)
    fans = {"1": (3, 4), "2": (4, 5), "3": (5, 2)}
    for key, array in found.items():
        rule = he_normal if key in ("W1", "b1") else glorot_uniform
        np.testing.assert_array_equal(array, rule(again, *fans[key[1]], array.shape))
