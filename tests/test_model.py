"""The network as a user holds it: what it predicts, what it refuses, and its file on every library."""

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import xpnet
from xpnet import MLP
from xpnet.arrays import dtype_name
from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend, owner
from xpnet.errors import UsageError, XpnetError

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


def refused(call: Callable[[], object], kind: type[Exception] = XpnetError) -> str:
    """The message with which a call is refused, which is one line."""
    with pytest.raises(kind) as caught:
        call()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


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


def test_prediction_leaves_the_rows_as_they_were(backend: Backend) -> None:
    X = backend.asarray(np.full((3, 4), 200, dtype=np.uint8))
    MLP(SIZES, backend=backend, scale=255.0).predict_proba(X)
    assert backend.to_numpy(X).tolist() == [[200] * 4] * 3


def test_integers_are_divided_by_the_scale_and_floats_are_not(backend: Backend) -> None:
    model = by_hand(backend, scale=255.0)
    integers = np.array([[255, 0], [51, 102]], dtype=np.uint8)
    of_integers = backend.to_numpy(model.logits(backend.asarray(integers)))
    of_floats = backend.to_numpy(model.logits(backend.asarray(integers / 255.0)))
    np.testing.assert_allclose(of_integers, of_floats, rtol=1e-12)
    large = backend.to_numpy(model.logits(backend.asarray(integers.astype(np.float64))))
    assert large[0].tolist() == [255.5, 1.0]


@pytest.mark.parametrize(
    ("dtype", "said"),
    [("uint16", "integers up to 255"), ("int8", "integers up to 255"), ("int32", "uint8 or uint16")],
)
def test_integers_of_another_type_than_the_taught_ones_are_refused(
    backend: Backend, dtype: str, said: str
) -> None:
    model = MLP(SIZES, backend=backend, scale=255.0)
    message = refused(lambda: model.predict(backend.asarray(np.ones((2, 4), dtype=dtype))))
    assert dtype in message
    assert said in message


def test_integers_are_refused_by_a_network_that_was_taught_floats(backend: Backend) -> None:
    model = MLP(SIZES, backend=backend, scale=1.0)
    message = refused(lambda: model.predict(backend.asarray(np.ones((2, 4), dtype=np.uint8))))
    assert "trained on floating-point rows" in message


@pytest.mark.parametrize("shape", [(2, 3), (2, 5), (4,), (2, 4, 1), (0, 4), (2, 0)], ids=str)
def test_rows_of_another_shape_are_refused(backend: Backend, shape: tuple[int, ...]) -> None:
    model, X = MLP(SIZES, backend=backend), backend.asarray(np.zeros(shape))
    for call in (model.logits, model.predict, model.predict_proba):
        message = refused(lambda call=call: call(X))  # type: ignore[misc]
        assert message == f"X has shape {shape}: this network takes (rows, 4)"


@pytest.mark.parametrize("X", [[[1.0, 2.0, 3.0, 4.0]], None, "rows", 1.0], ids=lambda X: type(X).__name__)
def test_what_is_no_array_is_refused_and_an_array_asked_for(X: Any) -> None:
    message = refused(lambda: MLP(SIZES).predict(X))
    assert message == f"X is a {type(X).__name__}: give an array of numpy"


@pytest.mark.parametrize("dtype", ["U1", "complex128", "object", "M8[s]"])
def test_rows_of_no_real_numbers_are_refused(dtype: str) -> None:
    refused(lambda: MLP(SIZES).predict(np.zeros((2, 4), dtype=dtype)))


@pytest.mark.parametrize("mine", ON_CPU)
@pytest.mark.parametrize("other", ON_CPU)
def test_array_of_another_library_is_refused_and_both_are_named(mine: str, other: str) -> None:
    model, X = MLP(SIZES, backend=mine), get_backend("cpu", other).asarray(np.zeros((2, 4), dtype=np.float32))
    if mine == other:
        assert tuple(model.predict(X).shape) == (2,)
        return
    message = refused(lambda: model.predict(X))
    assert message.startswith(f"X belongs to {other}, the network to {mine} on cpu: ")
    assert f"model.to(backend={other!r})" in message


def test_tensor_that_requires_grad_is_taken_and_no_graph_is_made() -> None:
    X = torch.ones((2, 4), requires_grad=True)
    logits = MLP(SIZES, backend="torch").logits(X)
    assert not logits.requires_grad
    assert X.grad is None


def test_floats_of_half_size_are_left_alone() -> None:
    model = MLP(SIZES, backend="torch", scale=255.0)
    whole = torch.tensor([[1.0, 2.0, 0.5, -1.0]])
    for dtype in (torch.float16, torch.bfloat16):
        assert model.logits(whole.to(dtype)).tolist() == model.logits(whole).tolist()


def test_more_rows_than_go_at_once_give_the_same(backend: Backend, rng: np.random.Generator) -> None:
    model = MLP((3, 2, 2), dtype="float64", backend=backend)
    host = rng.standard_normal((2 * 8192 + 3, 3))
    whole = backend.to_numpy(model.logits(backend.asarray(host)))
    parts = [backend.to_numpy(model.logits(backend.asarray(part))) for part in np.array_split(host, 3)]
    assert whole.shape == (16387, 2)
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-12, atol=1e-14)


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


@pytest.mark.parametrize(
    "parameters",
    [
        {"W1": np.ones((3, 2)), "b1": np.ones(3)},
        {"W1": np.ones((2, 3)), "b1": np.ones((1, 3))},
        {"w1": np.ones((2, 3)), "b1": np.ones(3)},
        {"b1": np.ones(3)},
    ],
    ids=["turned", "bias of rank 2", "misspelt", "without its weights"],
)
def test_parameters_that_do_not_fit_the_sizes_are_refused(parameters: dict[str, np.ndarray]) -> None:
    refused(lambda: MLP((2, 3), parameters=parameters), ValueError)


@pytest.mark.parametrize(
    "options",
    [
        {"sizes": (4,)},
        {"sizes": ()},
        {"sizes": (4, 0, 3)},
        {"sizes": (4, -1)},
        {"sizes": (4.5, 3)},
        {"sizes": (4, 3), "activation": "gelu"},
        {"sizes": (4, 3), "dtype": "float16"},
        {"sizes": (4, 3), "backend": "tensorflow"},
        {"sizes": (4, 3), "device": "tpu"},
        {"sizes": (4, 3), "seed": -1},
    ],
    ids=str,
)
def test_values_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    refused(lambda: MLP(**options), ValueError)


def test_network_says_what_it_is(backend: Backend) -> None:
    model = MLP((4, 7, 6, 3), activation="tanh", dtype="float64", backend=backend)
    assert repr(model) == f"MLP(4-7-6-3, tanh, float64, {backend.name} on {backend.device})"
    assert model.classes == 3


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_file_of_every_library_has_the_same_bytes(backend: Backend, tmp_path: Path, dtype: str) -> None:
    for i, kind in enumerate((backend, get_backend("cpu", "numpy"), backend)):
        MLP(SIZES, seed=5, dtype=dtype, scale=255.0, backend=kind).save(tmp_path / f"{i}")
    contents = {path.read_bytes() for path in tmp_path.iterdir()}
    assert len(contents) == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_file_of_every_library_loads_on_every_other(
    backend: Backend, tmp_path: Path, rng: np.random.Generator
) -> None:
    written = {name: rng.standard_normal(shape) for name, shape in MLP(SIZES).network.shapes.items()}
    X = rng.standard_normal((5, 4))
    options = {"activation": "tanh", "dtype": "float64", "scale": 65535.0, "parameters": written}
    xpnet.save(MLP(SIZES, backend=backend, **options), tmp_path / "model")  # type: ignore[arg-type]
    expected = MLP(SIZES, **options).logits(X)  # type: ignore[arg-type]
    for kind in (backend, *(get_backend("cpu", name) for name in ON_CPU)):
        model = xpnet.load(tmp_path / "model", backend=kind)
        assert repr(model) == f"MLP(4-6-3, tanh, float64, {kind.name} on {kind.device})"
        assert model.scale == 65535.0
        for name, array in model.host_parameters().items():
            assert array.tobytes() == written[name].tobytes()
        with kind.running("float64"):
            logits = kind.to_numpy(model.logits(kind.asarray(X)))
        np.testing.assert_allclose(logits, expected, rtol=1e-12, atol=1e-12)


def test_file_loads_by_names_and_into_float32(tmp_path: Path) -> None:
    MLP(SIZES, seed=2).save(str(tmp_path / "model"))
    model = xpnet.load(str(tmp_path / "model"), device="cpu", backend="torch")
    assert (model.backend.name, model.dtype) == ("torch", "float32")
    assert model.host_parameters()["W1"].tolist() == MLP(SIZES, seed=2).parameters["W1"].tolist()


def test_layers_past_the_ninth_keep_their_order(tmp_path: Path, rng: np.random.Generator) -> None:
    # W10 comes before W2 wherever names are sorted
    sizes = (2, *range(3, 14), 2)
    model = MLP(sizes, seed=1, dtype="float64")
    model.save(tmp_path / "model")
    loaded = xpnet.load(tmp_path / "model", backend="jax").to(backend="numpy")
    X = rng.standard_normal((3, 2))
    assert list(loaded.parameters) == [f"{kind}{layer}" for layer in range(1, 13) for kind in "Wb"]
    assert loaded.logits(X).tolist() == model.logits(X).tolist()


def test_network_moves_to_another_library_as_a_copy(backend: Backend) -> None:
    model = by_hand(scale=255.0)
    there = model.to(backend=backend)
    back = there.to(backend="numpy")
    for moved in (there, back):
        assert moved.network == model.network
        assert (moved.dtype, moved.scale) == ("float64", 255.0)
    for array in model.parameters.values():
        array += 1.0
    assert there.host_parameters()["W1"].tolist() == [[1.0, -1.0], [2.0, 1.0]]
    assert back.parameters["b2"].tolist() == [0.0, 1.0]


def test_copy_on_the_same_library_shares_nothing(backend: Backend) -> None:
    model = by_hand(backend)
    copy = model.to(backend=backend)
    model.parameters["W1"] += 1.0
    assert copy.host_parameters()["W1"].tolist() == [[1.0, -1.0], [2.0, 1.0]]


def saved(tmp_path: Path, **changes: Any) -> Path:
    """A model's file with some of its description changed, or taken out where the change is None."""
    path = tmp_path / "model.safetensors"
    model = MLP(SIZES, dtype=changes.get("arrays", "float32"))
    model.save(path)
    described = {
        "format": 1,
        "kind": "model",
        "sizes": [4, 6, 3],
        "activation": "relu",
        "dtype": "float32",
        "scale": 1.0,
    }
    described |= {name: value for name, value in changes.items() if name != "arrays"}
    text = json.dumps({name: value for name, value in described.items() if value is not None})
    save_file(load_file(path), path, metadata={"xpnet": text})
    return path


def test_description_written_by_hand_is_a_good_one(tmp_path: Path) -> None:
    assert xpnet.load(saved(tmp_path)).logits(np.ones((2, 4))).shape == (2, 3)


DAMAGED = {
    "another format": ({"format": 2}, "format 2; this xpnet reads format 1"),
    "no format": ({"format": None}, "this xpnet reads format 1"),
    "a checkpoint": ({"kind": "checkpoint"}, "not a model but a checkpoint; give model.safetensors"),
    "no kind": ({"kind": None}, "not a model"),
    "other sizes": ({"sizes": [4, 5, 3]}, "sizes (4, 5, 3) need"),
    "more layers": ({"sizes": [4, 6, 6, 3]}, "sizes (4, 6, 6, 3) need"),
    "one size": ({"sizes": [4]}, "its description is damaged"),
    "no sizes": ({"sizes": None}, "its description is damaged"),
    "sizes that are no list": ({"sizes": 4}, "its description is damaged"),
    "sizes that are words": ({"sizes": ["four", "six"]}, "its description is damaged"),
    "sizes without end": ({"sizes": [float("inf"), 3]}, "its description is damaged"),
    "an unknown activation": ({"activation": "gelu"}, "its description is damaged"),
    "an activation that is a list": ({"activation": ["relu"]}, "its description is damaged"),
    "no activation": ({"activation": None}, "its description is damaged"),
    "another dtype than its arrays": ({"dtype": "float64"}, "its arrays are not all float64"),
    "another dtype of its arrays": ({"arrays": "float64"}, "its arrays are not all float32"),
    "no dtype": ({"dtype": None}, "its description is damaged"),
    "no scale": ({"scale": None}, "its description is damaged"),
    "a scale that is a word": ({"scale": "pixels"}, "its description is damaged"),
    "a scale past every float": ({"scale": 10**400}, "its description is damaged"),
    "a scale of zero": ({"scale": 0.0}, "its description is damaged"),
    "a scale that is no number": ({"scale": float("nan")}, "its description is damaged"),
}


@pytest.mark.parametrize(("changes", "said"), DAMAGED.values(), ids=DAMAGED)
def test_file_that_is_no_sound_model_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = saved(tmp_path, **changes)
    message = refused(lambda: xpnet.load(path))
    assert message.startswith(f"{path}: ")
    assert said in message


def test_file_of_a_dtype_that_no_network_has_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    described = {
        "format": 1,
        "kind": "model",
        "sizes": [1, 1],
        "activation": "relu",
        "dtype": "int32",
        "scale": 1.0,
    }
    arrays = {"W1": np.ones((1, 1), dtype=np.int32), "b1": np.ones(1, dtype=np.int32)}
    save_file(arrays, path, metadata={"xpnet": json.dumps(described)})
    with pytest.raises(XpnetError) as caught:
        xpnet.load(path)
    assert not isinstance(caught.value, UsageError)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("content", [b"", b"text", None, "cut"], ids=["empty", "text", "missing", "cut off"])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | str | None) -> None:
    path = saved(tmp_path)
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else whole[:-3])
    assert refused(lambda: xpnet.load(path)).startswith(f"{path}: ")


def test_file_without_one_of_its_arrays_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path)
    arrays = load_file(path)
    described = {"format": 1, "kind": "model", "sizes": SIZES, "activation": "relu", "dtype": "float32"}
    del arrays["b2"]
    save_file(arrays, path, metadata={"xpnet": json.dumps(described | {"scale": 1.0})})
    assert "sizes (4, 6, 3) need" in refused(lambda: xpnet.load(path))


def test_network_is_not_saved_where_it_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    path = tmp_path / "file" / "model"
    assert refused(lambda: MLP(SIZES).save(path)).startswith(f"{path}: cannot be written")


def test_a_device_that_contradicts_the_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="device 'cuda', but the backend given is numpy on cpu"):
        MLP((3, 2), device="cuda", backend=get_backend("cpu", "numpy"))


def test_another_device_of_the_same_library_keeps_the_library() -> None:
    assert MLP((3, 2), backend="torch").to(device="cpu").backend.name == "torch"
    assert MLP((3, 2), backend="torch").to(backend="jax").backend.name == "jax"


@pytest.mark.parametrize("W1", [np.zeros((3, 2)), np.zeros((2, 3), dtype=np.float32)], ids=["dtype", "shape"])
def test_parameters_that_could_not_be_loaded_are_not_saved(tmp_path: Path, W1: np.ndarray) -> None:
    model = MLP((3, 2))
    model.parameters["W1"] = W1
    with pytest.raises(XpnetError, match="parameters are"):
        model.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_host_parameters_are_copies(backend: Backend) -> None:
    model = MLP((3, 2), dtype="float64", backend=backend)
    model.host_parameters()["W1"][:] = 7.0
    assert not (model.host_parameters()["W1"] == 7.0).any()


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


def test_a_network_that_moves_keeps_its_precision_within_its_library() -> None:
    model = MLP((3, 2), backend=get_backend("cpu", "jax", precision="bf16"))
    for same in (model.to(device="cpu"), model.to(backend="jax"), copy.deepcopy(model)):
        assert (same.backend.name, same.backend.precision) == ("jax", "bf16")
    other = model.to(backend="numpy")
    assert (other.backend.name, other.backend.precision) == ("numpy", "float32")
    assert other.to(backend="jax").backend.precision == "float32"


def test_a_network_that_moves_keeps_how_its_steps_run_within_its_library() -> None:
    model = MLP((3, 2), backend=get_backend("cpu", "numpy", execution="eager"))
    assert model.to(device="cpu").backend.execution.asked == "eager"
    assert model.to(backend="jax").backend.execution.asked == "auto"


def test_a_network_leaves_behind_what_the_other_device_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = get_backend("cpu", "jax", precision="bf16")
    monkeypatch.setattr(type(backend), "precisions", lambda self: ("float32",))
    assert MLP((3, 2), backend=backend).to(device="cpu").backend.precision == "float32"


def test_predictions_are_made_in_the_precision_of_the_backend() -> None:
    parameters = {"W1": np.array([[1.0, 1 + 2**-8]]), "b1": np.zeros(2)}
    model = MLP((1, 2), backend=get_backend("cpu", "jax", precision="bf16"), parameters=parameters)
    logits = model.backend.to_numpy(model.logits(model.backend.asarray(np.ones((1, 1), np.float32))))
    assert logits.tolist() == [[1.0, 1.0]]
