"""Models leave for other programs and come back: ONNX, PyTorch, NumPy."""

import json
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import xpnet
from tests.helpers import bits, refused
from tests.process import python, run, succeed, without
from xpnet import MLP
from xpnet.errors import UsageError
from xpnet.exchange.onnx import graph_of
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import forward
from xpnet.scaling import Columns

LAYERS = {"relu": torch.nn.ReLU, "tanh": torch.nn.Tanh, "sigmoid": torch.nn.Sigmoid}
SIZES = [(6, 3), (6, 5, 3), (6, 7, 5, 4, 3)]


def scaled(rng: np.random.Generator, k: int) -> Columns:
    return Columns(rng.normal(size=k), rng.uniform(0.5, 2, k))


def drawn(rng: np.random.Generator, sizes: tuple[int, ...] = (6, 5, 3), **described: Any) -> MLP:
    """A network whose biases are not zero."""
    model = MLP(sizes, **described)
    model.parameters = {
        name: array + rng.normal(size=array.shape).astype(array.dtype) / 9
        for name, array in model.host_parameters().items()
    }
    return model


def answers(made: onnx.ModelProto, X: np.ndarray) -> dict[str, np.ndarray]:
    """What onnxruntime answers."""
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def expected(model: MLP, X: np.ndarray) -> dict[str, np.ndarray]:
    """The same of xpnet."""
    found = np.asarray(model.predict(X))
    if model.kind == "numbers":
        return {"numbers": found.reshape(len(X), -1)}
    if model.kind == "classes" and model.class_names:
        found = np.asarray(model.class_names)[found]
    elif model.kind == "labels":
        found = found.reshape(len(X), -1)
    return {"label": found, "probabilities": model.predict_proba(X)}


def compare(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], error: float) -> None:
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        if name == "label":
            assert (found[name] == array).all()
        else:
            assert found[name].dtype == array.dtype
            assert np.max(abs(found[name] - array) / np.maximum(abs(array), 1)) <= error


# --- ONNX ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", SIZES, ids=len)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnx_answers_as_the_network_does(
    activation: str, loss: str, sizes: tuple[int, ...], rng: np.random.Generator
) -> None:
    for dtype, error in (("float32", 1e-6), ("float64", 1e-13)):
        numbers = LOSSES[loss].kind.name == "numbers"
        columns = {"inputs": scaled(rng, 6)} | ({"targets": scaled(rng, 3)} if numbers else {})
        for given in ({}, columns):
            model = drawn(rng, sizes, activation=activation, loss=loss, dtype=dtype, **given)
            X = rng.normal(size=(50, 6)).astype(dtype)
            for rows in (X, X[:1]):
                compare(answers(graph_of(model), rows), expected(model, rows), error)


@pytest.mark.parametrize("names", [None, ["a", "b", "é"], [3, 5, -7], [0.5, 1.5, 2.5]])
@pytest.mark.parametrize("pixels", ["uint8", "int8", "uint16", "int16"])
def test_onnx_divides_integers_and_names_classes(
    pixels: str, names: list[Any] | None, rng: np.random.Generator
) -> None:
    limits = np.iinfo(pixels)
    X = rng.integers(limits.min, limits.max, (40, 6), endpoint=True, dtype=pixels)
    activation = ("relu", "tanh") if names else "relu"
    sizes = (6, 5, 4, 3) if names else (6, 3)
    model = drawn(rng, sizes, activation=activation, scale=float(limits.max), class_names=names)
    compare(answers(graph_of(model), X), expected(model, X), 1e-6)


def test_onnx_equals_the_trace_of_the_mathematics(rng: np.random.Generator) -> None:
    ndx = pytest.importorskip("ndonnx")
    for loss in LOSSES:
        model = drawn(rng, (6, 5, 3), loss=loss)
        X = ndx.argument(shape=("rows", 6), dtype=ndx.float32)
        parameters = {name: ndx.asarray(array) for name, array in model.host_parameters().items()}
        Z = forward(ndx, model.network, parameters, X).Z[2]
        traced = ndx.build({"X": X}, {"A": LOSSES[loss].output(ndx, Z)})
        rows = rng.normal(size=(100, 6)).astype(np.float32)
        *_, ours = answers(graph_of(model), rows).values()
        np.testing.assert_allclose(ours, answers(traced, rows)["A"], rtol=2e-6, atol=1e-7)


def test_onnx_describes_itself_and_opens_without_xpnet(tmp_path: Path) -> None:
    model = MLP((4, 3), class_names=["x", "y", "z"])
    xpnet.export(model, tmp_path / "a.onnx")
    made = onnx.load(tmp_path / "a.onnx")
    assert json.loads(made.metadata_props[0].value)["class_names"] == ["x", "y", "z"]
    xpnet.export(model, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    code = f"""
import sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession({str(tmp_path / "a.onnx")!r})
print(session.run(["label"], {{"X": np.zeros((2, 4), np.float32)}})[0].tolist(), "xpnet" in sys.modules)
"""
    assert python(code) == "['x', 'x'] False\n"


@pytest.mark.slow
def test_onnx_of_mnist_and_of_a_table(rng: np.random.Generator) -> None:
    data = xpnet.load_data("mnist")
    digits = MLP((784, 128, 10))
    xpnet.train(digits, data.X_train, data.y_train, epochs=3)
    centres = rng.normal(size=(3, 30)) / 2
    y = np.arange(20_000) % 3
    table = 50 + 20 * (rng.normal(size=(20_000, 30)) + centres[y]).astype(np.float32)
    rows = MLP((30, 64, 3), class_names=["low", "middle", "high"])
    xpnet.train(rows, table, y, epochs=3, standardize=True)
    for model, X in ((digits, data.X_test), (rows, table)):
        wanted, found = expected(model, X), answers(graph_of(model), X)
        assert (found["label"] == wanted["label"]).all()
        exact = MLP(
            **model.description | model.columns | {"dtype": "float64"}, parameters=model.host_parameters()
        )
        P = exact.predict_proba(X)
        compare(
            answers(graph_of(exact), X.astype(np.float64) if X.dtype == np.float32 else X),
            expected(exact, X),
            1e-6,
        )
        # one rounding of a logit of 30 is worth 1e-6: float32 itself is no nearer to the exact probabilities
        ours, theirs = (abs(A - P) for A in (wanted["probabilities"], found["probabilities"]))
        assert theirs.max() < max(1e-6, 2 * ours.max()) < 4e-6
        assert np.mean(abs(found["probabilities"] - wanted["probabilities"]) > 1e-6) < 5e-4


def test_onnx_says_what_is_missing_and_what_is_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    MLP((4, 3)).save(tmp_path / "model.safetensors")
    ended = run(tmp_path, "export", ".", "--to", "onnx", before=without("onnx"))
    assert (ended.code, ended.err) == (1, "xpnet: error: ONNX files need onnx: pip install onnx\n")
    monkeypatch.setattr("xpnet.exchange.onnx.LARGEST", 59)
    assert "60 bytes of weights are too many" in refused(partial(graph_of, MLP((4, 3))))


# --- weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", LOSSES)
def test_weights_come_back_as_they_left(
    tmp_path: Path, loss: str, dtype: str, suffix: str, rng: np.random.Generator
) -> None:
    numbers = LOSSES[loss].kind.name == "numbers"
    described: dict[str, Any] = {"activation": ("tanh", "identity"), "loss": loss, "dtype": dtype}
    described |= {"targets": scaled(rng, 3)} if numbers else {"class_names": ["a", "b%", '"']}
    model = drawn(rng, (4, 6, 5, 3), scale=255.0, inputs=scaled(rng, 4), **described)
    xpnet.export(model, tmp_path / f"away{suffix}")
    again = xpnet.import_model(tmp_path / f"away{suffix}")
    for name, file in (("before", model), ("after", again)):
        file.save(tmp_path / name)
    assert (tmp_path / "before").read_bytes() == (tmp_path / "after").read_bytes()


@pytest.mark.parametrize("activation", LAYERS)
def test_torch_reads_and_writes_the_same_weights(
    tmp_path: Path, activation: str, rng: np.random.Generator
) -> None:
    model, path = drawn(rng, (4, 6, 5, 3), activation=activation), tmp_path / "net.safetensors"
    xpnet.export(model, path)
    f, linear = LAYERS[activation], torch.nn.Linear
    net = torch.nn.Sequential(linear(4, 6), f(), linear(6, 5), f(), linear(5, 3))
    net.load_state_dict(safetensors.torch.load_file(path))
    X = rng.normal(size=(20, 4)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(net(torch.asarray(X)).numpy(), model.logits(X), rtol=1e-5, atol=1e-6)
    # torch writes no description, so activation and loss are told
    safetensors.torch.save_file(net.state_dict(), path)
    again = xpnet.import_model(path, activation=activation, loss="squared-error")
    assert (bits(again), again.network, again.loss) == (bits(model), model.network, "squared-error")


def test_names_of_modules_are_sorted_by_their_numbers(tmp_path: Path, rng: np.random.Generator) -> None:
    model = drawn(rng, (2, *range(3, 14), 2))
    names = [f"net.layer{l}" for l in range(1, 13)]
    host = model.host_parameters()
    arrays = {f"{name}.weight": host[f"W{l}"].T.copy() for l, name in enumerate(names, 1)}
    arrays |= {f"{name}.bias": host[f"b{l}"] for l, name in enumerate(names, 1)}
    safetensors.numpy.save_file(arrays, tmp_path / "net.safetensors")
    assert bits(xpnet.import_model(tmp_path / "net.safetensors")) == bits(model)


def test_the_program_in_the_readme_takes_a_network_to_other_programs_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    monkeypatch.chdir(tmp_path)
    model = drawn(rng, (784, 512, 512, 10), scale=255.0)
    model.save("runs/wide/model.safetensors")
    xpnet.export(model, "runs/wide/model.onnx")
    set_again: list[np.ndarray] = []
    keras = SimpleNamespace(get_weights=model.host_parameters().values, set_weights=set_again.extend)
    pictures = rng.integers(0, 256, (5, 784), dtype=np.uint8)
    names: dict[str, Any] = {"keras_model": keras, "pictures": pictures}
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    exec(readme.split("```py\n")[1].partition("```")[0], names)
    compare({n: names[n] for n in ("label", "probabilities")}, expected(model, pictures), 1e-5)
    assert bits(names["model"]) == bits(model) == bits(xpnet.load("digits.safetensors"))
    assert [a.tobytes() for a in set_again] == [*bits(model).values()]


def test_commands_export_and_import(tmp_path: Path, rng: np.random.Generator) -> None:
    model = drawn(rng, (4, 5, 3), class_names=["a", "b", "c"])
    (tmp_path / "run").mkdir()
    model.save(tmp_path / "run" / "model.safetensors")
    for to, file in (("onnx", "model.onnx"), ("torch", "model.torch.safetensors"), ("npz", "model.npz")):
        assert f"run/{file}\n" in succeed(tmp_path, "export", "run", "--to", to).out
    succeed(tmp_path, "export", "run/model.safetensors", "--to", "npz", "--out", "deep/a.npz")
    for file in ("run/model.torch.safetensors", "run/model.npz", "deep/a.npz"):
        succeed(tmp_path, "import", file, "--out", "again.safetensors")
        assert (tmp_path / "again.safetensors").read_bytes() == (
            tmp_path / "run" / "model.safetensors"
        ).read_bytes()
    host: dict[str, Any] = model.host_parameters()
    np.savez(tmp_path / "plain.npz", **host)
    succeed(tmp_path, "import", "plain.npz", "--out", "m", "--activation", "sigmoid", "--loss", "poisson")
    again = xpnet.load(tmp_path / "m")
    assert (again.network.activation, again.loss) == ("sigmoid", "poisson")


W, B = np.zeros((4, 3), np.float32), np.zeros(3, np.float32)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({}, "dense layers"),
        ({"W1": W}, "dense layers"),
        ({"W1": W, "b1": B, "W2": W, "b2": B}, "the network needs"),
        ({"W1": W, "b1": W}, "the network needs"),
        ({"W1": W * np.nan, "b1": B}, "finite"),
        ({"W1": W[:0], "b1": B}, "1 or more"),
        ({"W1": W, "b1": B, "xpnet": "{}"}, "has no sizes"),
        ({"W1": W, "b1": B, "xpnet": "["}, "no JSON"),
        ({"W1": W.astype(object), "b1": B}, "Python objects"),
        ({"W1": W.astype(str), "b1": B}, "numbers"),
    ],
)
def test_archives_that_hold_no_network_are_refused(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    message = refused(lambda: xpnet.import_model(tmp_path / "a.npz"))
    assert said in message
    assert str(tmp_path / "a.npz") in message


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"0.weight": W.T, "0.bias": B, "1.running_mean": B}, "1.running_mean is no weight or bias"),
        ({"W1": W, "b1": B}, "W1 is no weight"),
        ({"0.weight": W.T}, "the network needs"),
        ({"weight": B}, "dense layers"),
        ({}, "dense layers"),
    ],
)
def test_state_dicts_of_other_modules_are_refused(
    tmp_path: Path, arrays: dict[str, np.ndarray], said: str
) -> None:
    whole = {name: array.copy() for name, array in arrays.items()}
    safetensors.numpy.save_file(whole, tmp_path / "a.safetensors")
    assert said in refused(lambda: xpnet.import_model(tmp_path / "a.safetensors"))


def test_files_that_cannot_be_imported_are_refused_with_the_forms_that_can(tmp_path: Path) -> None:
    MLP((4, 3)).save(tmp_path / "model.safetensors")
    ended = run(tmp_path, "export", ".", "--to", "torch", "--out", "model.safetensors")
    assert (ended.code, "the model itself" in ended.err) == (1, True)
    for name in ("net.pt", "net.onnx", "net"):
        (tmp_path / name).write_bytes(b"PK")
        ended = run(tmp_path, "import", name, "--out", "a")
        assert (ended.code, ended.err.count("\n")) == (1, 1)
        assert "safetensors.torch.save_file" in ended.err
    with pytest.raises(UsageError, match="choose one of onnx, torch, npz"):
        xpnet.export(MLP((4, 3)), tmp_path / "model.h5")
    with pytest.raises(UsageError, match="must be an xpnet"):
        xpnet.export(cast(Any, {}), tmp_path / "model.npz")
