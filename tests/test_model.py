"""The network as a user holds it: what it predicts, what it refuses, and where it goes."""

import copy
import pickle
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.helpers import refused
from xpnet import MLP
from xpnet.arrays import dtype_name
from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend, owner
from xpnet.backends.numpy import NumPyBackend
from xpnet.errors import UsageError
from xpnet.scaling import Columns

SIZES = (4, 6, 3)
ON_CPU = [name for name in LIBRARIES if "cpu" in backend_class(name).kinds]


def by_hand(backend: Backend | None = None, **options: Any) -> MLP:
    """A network small enough to work out: two inputs, a hidden layer of two, two classes."""
    parameters = {
        "W1": np.array([[1.0, -1.0], [2.0, 1.0]]),
        "b1": np.array([0.5, 0.0]),
        "W2": np.array([[1.0, 0.0], [0.0, 2.0]]),
        "b2": np.array([0.0, 1.0]),
    }
    options = {"dtype": "float64", "backend": backend or "numpy"} | options
    return MLP((2, 2, 2), parameters=parameters, **options)


def test_predictions_by_hand(backend: Backend) -> None:
    model = by_hand(backend)
    X = backend.asarray(np.array([[1.0, 1.0], [-3.0, 1.0], [0.0, 0.0]]))
    # hidden: [3.5, 0], [0 (from -0.5), 4], [0.5, 0]
    assert backend.to_numpy(model.logits(X)).tolist() == [[3.5, 1.0], [0.0, 9.0], [0.5, 1.0]]
    assert backend.to_numpy(model.predict(X)).tolist() == [0, 1, 1]
    first = 1 / (1 + np.exp([-2.5, 9.0, 0.5]))
    expected = np.stack([first, 1 - first], axis=1)
    np.testing.assert_allclose(backend.to_numpy(model.predict_proba(X)), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", ["uint8", "float32", "float64"])
def test_what_comes_out_is_of_the_library_and_dtype_of_the_network(
    backend: Backend, rng: np.random.Generator, dtype: str, given: str
) -> None:
    model = MLP(SIZES, dtype=dtype, backend=backend)
    X = backend.asarray(rng.integers(0, 3, (5, 4)).astype(given))
    logits, A, y = model.logits(X), model.predict_proba(X), model.predict(X)
    for array in (logits, A, y):
        assert owner(array) == backend.name
        assert backend.device_of(array) == backend.device
    assert dtype_name(logits) == dtype_name(A) == dtype
    assert dtype_name(y).startswith(("int", "uint"))
    assert tuple(logits.shape) == tuple(A.shape) == (5, 3)
    assert tuple(y.shape) == (5,)
    host = backend.to_numpy(A)
    np.testing.assert_allclose(host.sum(axis=1), 1.0, rtol=1e-6)
    assert (host > 0).all()
    assert backend.to_numpy(y).tolist() == host.argmax(axis=1).tolist()


def test_integers_are_divided_by_the_scale_and_floats_are_not(backend: Backend) -> None:
    model = by_hand(backend, scale=255.0)
    integers = np.array([[255, 0], [51, 102]], dtype=np.uint8)
    of_integers = backend.to_numpy(model.logits(backend.asarray(integers)))
    of_floats = backend.to_numpy(model.logits(backend.asarray(integers / 255.0)))
    np.testing.assert_allclose(of_integers, of_floats, rtol=1e-12)
    # a network that was not trained on integers takes floats of any size
    large = backend.asarray(integers.astype(np.float64))
    assert backend.to_numpy(by_hand(backend).logits(large))[0].tolist() == [255.5, 1.0]
    for call in (model.logits, model.predict, model.predict_proba):
        message = refused(partial(call, large))
        assert message.startswith(
            "X: floats up to 255, but the network was trained on integers divided by 255"
        )


@pytest.mark.parametrize("value", [np.nan, 1e39])
def test_rows_without_a_class_are_refused_and_have_no_probabilities(backend: Backend, value: float) -> None:
    model = MLP((2, 3, 2), seed=4, backend=backend)
    host = np.ones((9000, 2))
    host[8500, 1] = value
    X = backend.asarray(host)
    said = "X, or the weights: row 8,500, counted from 0: NaN, infinity or a number too large for"
    assert refused(lambda: model.predict(X)).startswith(said)
    A = backend.to_numpy(model.predict_proba(X))
    if np.isnan(value):
        assert np.isnan(A[8500]).all()
    assert np.isfinite(np.delete(A, 8500, axis=0)).all()
    assert tuple(model.predict(X[:8500, :]).shape) == (8500,)


def test_logits_whose_sum_overflows_have_classes() -> None:
    model = MLP((1, 2), parameters={"W1": np.array([[1e38, 2e38]]), "b1": np.zeros(2)})
    assert model.predict(np.ones((9, 1), np.float32)).tolist() == [1] * 9


@pytest.mark.parametrize(
    ("scale", "dtype", "said"),
    [
        (255.0, "uint16", "integers up to 255"),
        (255.0, "int32", "uint8 or uint16"),
        (1.0, "uint8", "trained on floating-point rows"),
    ],
)
def test_integers_of_another_type_than_the_taught_ones_are_refused(
    backend: Backend, scale: float, dtype: str, said: str
) -> None:
    model = MLP(SIZES, backend=backend, scale=scale)
    message = refused(lambda: model.predict(backend.asarray(np.ones((2, 4), dtype=dtype))))
    assert dtype in message
    assert said in message


@pytest.mark.parametrize("shape", [(2, 3), (2, 5), (4,), (2, 4, 1), (0, 4), (2, 0)], ids=str)
def test_rows_of_another_shape_are_refused(backend: Backend, shape: tuple[int, ...]) -> None:
    model, X = MLP(SIZES, backend=backend), backend.asarray(np.zeros(shape))
    for call in (model.logits, model.predict, model.predict_proba):
        message = refused(partial(call, X))
        assert message == f"X has shape {shape}: this network takes (rows, 4)"


@pytest.mark.parametrize("X", [None, "rows", 1.0], ids=lambda X: type(X).__name__)
def test_what_is_no_array_is_refused(X: Any) -> None:
    for call in (MLP(SIZES).logits, MLP(SIZES).predict, MLP(SIZES).predict_proba):
        assert refused(partial(call, X), UsageError) == f"X must be an array, not {X!r}"


def test_tensor_that_requires_grad_is_taken_and_floats_of_half_size_are_left_alone() -> None:
    torch = pytest.importorskip("torch")
    model = MLP(SIZES, backend="torch", scale=255.0)
    X = torch.tensor([[1.0, 2.0, 0.5, -1.0]], requires_grad=True)
    logits = model.logits(X)
    assert not logits.requires_grad
    assert X.grad is None
    for dtype in (torch.float16, torch.bfloat16):
        assert model.logits(X.detach().to(dtype)).tolist() == logits.tolist()


@pytest.mark.parametrize(("width", "count"), [(2, 2 * 8192 + 3), (2**20, 19)], ids=["rows", "units"])
def test_more_rows_or_units_than_go_at_once_give_the_same(
    backend: Backend, rng: np.random.Generator, width: int, count: int
) -> None:
    model = MLP((3, width, 2), dtype="float64", backend=backend)
    host = rng.standard_normal((count, 3))
    whole = backend.to_numpy(model.logits(backend.asarray(host)))
    parts = [backend.to_numpy(model.logits(backend.asarray(part))) for part in np.array_split(host, 3)]
    assert whole.shape == (count, 2)
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equal_seeds_give_equal_weights_on_every_library(
    backend: Backend, dtype: str, activation: str
) -> None:
    made = MLP(SIZES, seed=3, dtype=dtype, activation=activation, backend=backend)
    expected = MLP(SIZES, seed=3, dtype=dtype, activation=activation).parameters
    other = MLP(SIZES, seed=4, dtype=dtype, activation=activation).parameters
    host = made.host_parameters()
    assert list(made.parameters) == ["W1", "b1", "W2", "b2"]
    for name, array in host.items():
        assert array.dtype == dtype
        assert array.tobytes() == expected[name].tobytes()
        assert dtype_name(made.parameters[name]) == dtype
    assert host["W1"].tolist() != other["W1"].tolist()


def test_weights_of_a_seed_stay_and_biases_start_at_zero() -> None:
    parameters = MLP((2, 2, 2), dtype="float64").parameters
    # He: N(0, 2 / 2), so the draws of the stream themselves
    np.testing.assert_allclose(parameters["W1"], [[-0.80254589, 0.45751928], [-0.31455874, 0.72645595]], 1e-7)
    assert parameters["b1"].tolist() == parameters["b2"].tolist() == [0.0, 0.0]


def test_given_parameters_are_copied(backend: Backend) -> None:
    W1 = np.ones((2, 2))
    model = MLP((2, 2), dtype="float64", backend=backend, parameters={"W1": W1, "b1": np.zeros(2)})
    W1 += 1.0
    host = model.host_parameters()
    assert host["W1"].tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert host["b1"].tolist() == [0.0, 0.0]


WRONG: dict[str, list[Any]] = {
    "sizes": [(4,), (4, 0), (4, -1), (4.5, 3), (4, True), "784", ["4", "3"], 3, None, {}, np.ones((2, 2))],
    "activation": ["gelu", ["relu"], ["relu", "tanh"], ["gelu"], None, np.tanh],
    "loss": ["hinge", None, 3, ["cross-entropy"]],
    "class_names": ["abc", ["a", "b"], ["a", "b", "b"], [1, 2, 1.0], [1, 2, float("nan")], 3, [[1, 2, 3]]],
    "inputs": [3, (np.zeros(4), np.ones(4)), Columns(np.zeros(3), np.ones(3))],
    "targets": [3, Columns(np.zeros(3), np.ones(3))],
    "dtype": ["float16", np.float32, None, ["float32"]],
    "seed": [-1, None, 0.5, "0", 10**5000],
    "scale": [0.0, -1.0, 100.0, float("nan"), float("inf"), "255", True, 10**400, np.ones(2)],
    "parameters": [3, [np.ones((4, 3))], {}, {"W1": np.ones((3, 4)), "b1": np.ones(3)}, {"b1": np.ones(3)}],
}
WRONG["parameters"] += [{"w1": np.ones((4, 3)), "b1": np.ones(3)}, {"W1": [[1.0], []], "b1": np.ones(3)}]
MASKED = np.ma.array(np.zeros(3), mask=True)
BIASES = (np.ones((1, 3)), "b", [10**5000, 1, 2], np.full(3, np.nan), np.zeros(3, complex), MASKED)
WRONG["parameters"] += [{"W1": np.ones((4, 3)), "b1": b1} for b1 in BIASES]
WRONG["inputs"] += [Columns(np.zeros(4), np.zeros(4)), Columns(np.full(4, np.inf), np.ones(4))]
WRONG["sizes"] += [(2**31, 3), (2**31 - 1, 2**31 - 1), (10**30, 3)]


@pytest.mark.parametrize("name", WRONG)
def test_argument_that_makes_no_sense_is_named(name: str) -> None:
    for value in WRONG[name]:
        message = refused(partial(MLP, **{"sizes": (4, 3), name: value}), UsageError)
        assert message.startswith(name)
        assert len(message) < 250
    for options in ({"backend": "tensorflow"}, {"backend": 3}, {"device": "tpu"}, {"device": 0}):
        for call in (MLP, MLP(SIZES).to):
            refused(partial(call, **options), UsageError)


class Mute:
    """An object that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize("value", [Mute(), [Mute()]], ids=["alone", "in a list"])
def test_argument_that_cannot_be_shown_is_an_error_of_one_line(value: Any) -> None:
    for name in ("sizes", "activation", "loss", "seed", "dtype", "device", "backend", "scale", "class_names"):
        assert name in refused(partial(MLP, **{name: value}), UsageError)
    for name in ("threads", "precision", "execution"):
        assert name in refused(partial(get_backend, **{name: value}), UsageError)


def test_sizes_that_are_too_few_are_said_once() -> None:
    said = "sizes (784,): give at least two, input and output, each 1 or more"
    assert refused(lambda: MLP((784,)), UsageError) == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("acivation", "unknown argument 'acivation': did you mean activation?"),
        ("size", "unknown argument 'size': did you mean sizes?"),
        ("xyz", "unknown argument 'xyz': did you mean sizes, activation, loss, seed,"),
    ],
)
def test_unknown_argument_is_answered_with_a_hint(name: str, said: str) -> None:
    given: dict[str, Any] = {name: 1}
    assert refused(partial(MLP, **given), UsageError).startswith(said)


@pytest.mark.parametrize("wrong", [{}, {"W1": np.ones((4, 3))}, {"W1": np.eye(3), "b1": np.ones(3)}, None])
def test_parameters_of_another_network_cannot_be_assigned(wrong: Any) -> None:
    model = MLP((4, 3))
    with pytest.raises(UsageError, match="parameters "):
        model.parameters = wrong
    model.parameters = {"W1": np.ones((4, 3), np.float32), "b1": np.array([1, 3, 2], np.float32)}
    assert model.predict(np.zeros((2, 4))).tolist() == [1, 1]


def test_rows_in_another_byte_order_are_taken_and_named_as_usual() -> None:
    model, X = MLP((4, 3), seed=3), np.eye(4, dtype=np.float32)
    for dtype in (">f4", ">f8", ">u2"):
        assert model.predict(X.astype(dtype)).tolist() == model.predict(X).tolist()
    said = "X: complex64 where there must be numbers, such as float32"
    assert refused(lambda: model.predict(X.astype(">c8"))) == said


@pytest.mark.parametrize("sizes", [[4, 3], np.array([4, 3]), range(4, 2, -1), (np.int64(4), 3)], ids=repr)
def test_sizes_may_be_any_row_of_whole_numbers(sizes: Any) -> None:
    assert MLP(sizes).network.sizes == (4, 3)
    assert {type(size) for size in MLP(sizes).network.sizes} == {int}


def test_network_says_what_it_is(backend: Backend) -> None:
    model = MLP((4, 7, 6, 3), activation="tanh", dtype="float64", backend=backend)
    place = f"{backend.name} on {backend.device}"
    assert repr(model) == f"MLP(4-7-6-3 tanh, cross-entropy, float64, {place})"
    assert (model.outputs, model.kind, model.class_names) == (3, "classes", None)
    model = MLP((4, 7, 6, 3), activation=("tanh", "relu"), loss="squared_error", backend=backend)
    assert repr(model) == f"MLP(4-7-6-3 tanh relu, squared-error, float32, {place})"
    assert model.kind == "numbers"


def test_network_moves_to_another_library_as_a_copy(backend: Backend) -> None:
    model = by_hand(scale=255.0)
    there = model.to(backend=backend)
    back, same = there.to(backend="numpy"), model.to()
    for moved in (there, back, same):
        assert moved.network == model.network
        assert (moved.dtype, moved.scale) == ("float64", 255.0)
    for array in model.parameters.values():
        array += 1.0
    there.host_parameters()["W1"][:] = 7.0  # a copy too
    for moved in (there, back, same):
        assert moved.host_parameters()["W1"].tolist() == [[1.0, -1.0], [2.0, 1.0]]


def test_a_device_that_contradicts_the_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="device 'cuda', but the backend given is numpy on cpu"):
        MLP((3, 2), device="cuda", backend=get_backend("cpu", "numpy"))


def test_network_moves_no_further_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoDevices(NumPyBackend):
        kinds: ClassVar[Any] = ("cpu", "xpu")

        @classmethod
        def devices(cls) -> list[str]:
            return ["cpu", "xpu:0", "xpu:1"]

    monkeypatch.setattr("tests.variants.TwoDevices", TwoDevices, raising=False)
    monkeypatch.setitem(LIBRARIES, "numpy", "tests.variants:TwoDevices")
    model = MLP((3, 2), device="xpu:1", backend="numpy")
    assert model.backend.device == "xpu:1"
    for same in (
        model.to(),
        model.to(backend="numpy"),
        model.to(device="xpu:1"),
        model.to(backend=model.backend),
    ):
        assert (same.backend.name, same.backend.device) == ("numpy", "xpu:1")
    assert model.to(device="xpu").backend.device == "xpu:0"
    assert model.to(device="cpu").backend.device == "cpu"
    assert model.to(backend="array-api-strict").backend.device == "cpu"
    assert MLP((3, 2), backend="array-api-strict").to(device="cpu").backend.name == "array-api-strict"


def test_a_network_can_be_copied_and_pickled(backend: Backend) -> None:
    model = MLP((3, 2), dtype="float64", backend=get_backend("cpu", backend.name))
    for again in (copy.deepcopy(model.backend), pickle.loads(pickle.dumps(model.backend))):
        assert (again.name, again.device) == (model.backend.name, "cpu")
    assert copy.deepcopy(MLP((3, 2))).host_parameters()["W1"].shape == (3, 2)


def test_reduced_products_are_of_float32_alone() -> None:
    backend = get_backend("cpu", "jax", precision="bf16")
    message = refused(lambda: MLP((3, 2), dtype="float64", backend=backend), UsageError)
    assert message == "precision bf16 belongs to float32, not to float64"
    assert MLP((3, 2), backend=backend).backend.precision == "bf16"


def test_a_network_that_moves_keeps_how_it_computes_within_its_library() -> None:
    model = MLP((3, 2), backend=get_backend("cpu", "jax", precision="bf16"))
    for same in (model.to(device="cpu"), model.to(backend="jax"), copy.deepcopy(model)):
        assert (same.backend.name, same.backend.precision) == ("jax", "bf16")
    other = model.to(backend="numpy")
    assert (other.backend.name, other.backend.precision) == ("numpy", "float32")
    assert other.to(backend="jax").backend.precision == "float32"
    eager = MLP((3, 2), backend=get_backend("cpu", "numpy", execution="eager"))
    assert eager.to(device="cpu").backend.execution.asked == "eager"
    assert eager.to(backend="jax").backend.execution.asked == "auto"


def test_a_network_leaves_behind_what_the_other_device_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_backend("cpu", "jax", precision="bf16")
    monkeypatch.setattr(type(backend), "precisions", lambda self: ("float32",))
    assert MLP((3, 2), backend=backend).to(device="cpu").backend.precision == "float32"


def test_predictions_are_made_in_the_precision_of_the_backend() -> None:
    parameters = {"W1": np.array([[1.0, 1 + 2**-8]]), "b1": np.zeros(2)}
    model = MLP((1, 2), backend=get_backend("cpu", "jax", precision="bf16"), parameters=parameters)
    logits = model.backend.to_numpy(model.logits(model.backend.asarray(np.ones((1, 1), np.float32))))
    assert logits.tolist() == [[1.0, 1.0]]
