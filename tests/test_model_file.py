"""The file of a network: the same from every library and for every library, and refused if damaged."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from tests.helpers import refused, tensors, write_tensors
from xpnet import MLP
from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend
from xpnet.errors import UsageError
from xpnet.scaling import Columns

SIZES = (4, 6, 3)
ON_CPU = [name for name in LIBRARIES if "cpu" in backend_class(name).kinds]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_file_of_every_library_has_the_same_bytes(backend: Backend, tmp_path: Path, dtype: str) -> None:
    for i, kind in enumerate((backend, get_backend("cpu", "numpy"), backend)):
        MLP(SIZES, seed=5, dtype=dtype, scale=255.0, backend=kind).save(tmp_path / f"{i}")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
    assert len(list(tmp_path.iterdir())) == 3


def test_file_of_every_library_loads_on_every_other(
    backend: Backend, tmp_path: Path, rng: np.random.Generator
) -> None:
    written = {name: rng.standard_normal(shape) for name, shape in MLP(SIZES).network.shapes.items()}
    X = rng.standard_normal((5, 4))
    options: dict[str, Any] = {"activation": "tanh", "dtype": "float64", "parameters": written}
    xpnet.save(MLP(SIZES, backend=backend, scale=65535.0, **options), tmp_path / "model")
    expected = MLP(SIZES, **options).logits(X)
    for kind in (backend, *(get_backend("cpu", name) for name in ON_CPU)):
        model = xpnet.load(tmp_path / "model", backend=kind)
        assert repr(model) == f"MLP(4-6-3 tanh, cross-entropy, float64, {kind.name} on {kind.device})"
        assert model.scale == 65535.0
        for name, array in model.host_parameters().items():
            assert array.tobytes() == written[name].tobytes()
        with kind.running("float64"):
            logits = kind.to_numpy(model.logits(kind.asarray(X)))
        np.testing.assert_allclose(logits, expected, rtol=1e-12, atol=1e-12)


def test_layers_past_the_ninth_keep_their_order(tmp_path: Path, rng: np.random.Generator) -> None:
    # W10 comes before W2 wherever names are sorted
    sizes = (2, *range(3, 14), 2)
    model = MLP(sizes, seed=1, dtype="float64")
    model.save(tmp_path / "model")
    loaded = xpnet.load(tmp_path / "model", backend="jax").to(backend="numpy")
    X = rng.standard_normal((3, 2))
    assert list(loaded.parameters) == [f"{kind}{layer}" for layer in range(1, 13) for kind in "Wb"]
    assert loaded.logits(X).tolist() == model.logits(X).tolist()


FORMAT_1: dict[str, Any] = {
    "format": 1,
    "kind": "model",
    "sizes": [4, 6, 3],
    "activation": "relu",
    "dtype": "float32",
    "scale": 1.0,
}
FORMAT_2 = FORMAT_1 | {"format": 2, "loss": "cross-entropy", "class_names": None, "checksum": 0}
SOUND = FORMAT_2 | {"format": 3, "feature_names": None, "image_shape": None}
"""The checksum is put right when the file is written."""


def saved(
    tmp_path: Path,
    changes: dict[str, Any],
    dtype: str = "float32",
    sound: dict[str, Any] = SOUND,
    arrays: dict[str, np.ndarray] | None = None,
) -> Path:
    """A model's file with some of its description changed, or taken out where the change is `...`."""
    MLP(SIZES, dtype=dtype).save(tmp_path / "model.safetensors")
    described = {name: value for name, value in (sound | changes).items() if value is not ...}
    held = tensors(tmp_path / "model.safetensors")[0] | (arrays or {})
    return write_tensors(tmp_path / "model.safetensors", held, described)


def test_description_is_as_written_by_hand(tmp_path: Path) -> None:
    path = saved(tmp_path, {})
    assert xpnet.load(path).logits(np.ones((2, 4))).shape == (2, 3)
    by_hand = path.read_bytes()
    MLP(SIZES, scale=1.0).save(path)
    assert path.read_bytes() == by_hand  # to the checksum
    MLP(SIZES).save(path)
    assert tensors(path)[1] == SOUND | {"scale": None, "checksum": tensors(path)[1]["checksum"]}
    assert xpnet.load(path).scale is None


@pytest.mark.parametrize("sound", [FORMAT_1, FORMAT_2], ids=["1", "2"])
@pytest.mark.parametrize("scale", [None, 1.0, 255.0])
def test_a_file_of_an_earlier_format_loads_as_the_classifier_that_it_was(
    tmp_path: Path, scale: float | None, sound: dict[str, Any]
) -> None:
    path = saved(tmp_path, {"scale": scale, "activation": "tanh"}, sound=sound)
    model = xpnet.load(path)
    same = MLP(SIZES, activation="tanh", scale=scale, parameters=MLP(SIZES).parameters)
    assert model.description == same.description
    assert (model.kind, model.class_names, model.columns) == ("classes", None, {})
    assert model.logits(np.eye(4)).tolist() == same.logits(np.eye(4)).tolist()
    model.save(path)
    assert tensors(path)[1]["format"] == 3
    assert xpnet.load(path).description == same.description


@pytest.mark.parametrize(
    "options",
    [
        {"class_names": ["setosa", "…", ""], "activation": ("tanh", "relu")},
        {"class_names": [1, -5, 2**40], "loss": "binary-cross-entropy"},
        {"class_names": np.array([0.5, 1.0, 2.5])},
        {"class_names": [True, False], "sizes": (4, 2)},
        {"loss": "poisson", "targets": Columns(np.zeros(3), np.array([0.5, 2.0, 1e-9]))},
        {
            "loss": "squared_error",
            "inputs": Columns(np.arange(4.0), np.arange(1.0, 5.0)),
            "targets": Columns(np.array([1e9, 0.1, -3.0]), np.full(3, 0.1)),
        },
    ],
    ids=["strings", "numbers", "floats", "truth", "rates", "scaled"],
)
def test_loss_names_and_scaling_are_in_the_file(backend: Backend, tmp_path: Path, options: Any) -> None:
    options = {"sizes": (4, 6, 5, 3) if isinstance(options.get("activation"), tuple) else SIZES} | options
    model = MLP(**options, backend=backend)
    model.save(tmp_path / "model")
    for again in (xpnet.load(tmp_path / "model"), model.to(backend="numpy")):
        assert repr(again.description) == repr(model.description)  # True is not 1, and 1 is not 1.0
        assert again.class_names == model.class_names
        assert again.columns.keys() == model.columns.keys() == {"inputs", "targets"} & options.keys()
        for name, columns in again.columns.items():
            for part in ("mean", "std"):
                assert getattr(columns, part).tobytes() == getattr(options[name], part).tobytes()
        X = np.arange(8.0).reshape(2, 4)
        found, expected = again.predict(X), backend.to_numpy(model.predict(X))
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def columns_of(std: list[float], dtype: str = "float64", name: str = "inputs") -> dict[str, np.ndarray]:
    """The arrays of a scaling, as a file holds them."""
    return {f"{name}.mean": np.zeros(len(std), dtype), f"{name}.std": np.array(std, dtype)}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (columns_of([1.0, 1.0, 0.0, 1.0]), "inputs must have a finite mean"),
        (columns_of([1.0, 1.0, 1.0]), "inputs must have a finite mean"),
        (columns_of([1.0] * 4, "float32"), "inputs must have a finite mean"),
        ({"inputs.std": np.ones(4)}, "its arrays are"),
        (columns_of([1.0, 1.0, 1.0, np.inf]), "'inputs.std' holds NaN or infinity"),
        (columns_of([1.0] * 4, name="inpots"), "its arrays are"),
        (columns_of([1.0] * 3, name="targets"), "targets must have a finite mean"),
    ],
)
def test_a_damaged_scaling_is_named(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    path = saved(tmp_path, {}, arrays=arrays)
    assert f"{path}: {said}" in refused(lambda: xpnet.load(path))


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "another format": ({"format": 4}, "unexpected format: 4"),
    "an unknown loss": ({"loss": "hinge"}, "unexpected loss: 'hinge'"),
    "a loss that is a list": ({"loss": ["poisson"]}, "unexpected loss"),
    "names that are no list": ({"class_names": "abc"}, "unexpected class_names: 'abc'"),
    "names that are no numbers": ({"class_names": [1, 2, float("nan")]}, "unexpected class_names"),
    "names that are lists": ({"class_names": [["a"], ["b"], ["c"]]}, "unexpected class_names"),
    "two names alike": ({"class_names": ["a", "b", "a"]}, "give 3 different strings or numbers"),
    "fewer names": ({"class_names": ["a", "b"]}, "give 3 different strings or numbers"),
    "fewer activations": ({"activation": []}, "activation (): give one name, or 1"),
    "fewer columns": ({"feature_names": ["a", "b", "c"]}, "give 4 different strings, one a column"),
    "two columns alike": ({"feature_names": ["a", "b", "c", "c"]}, "give 4 different strings, one a column"),
    "columns that are numbers": ({"feature_names": [1, 2, 3, 4]}, "unexpected feature_names"),
    "an image of another size": ({"image_shape": [3, 3]}, "give height, width and, for colours, 3: 4 in all"),
    "an image of four sizes": ({"image_shape": [1, 2, 2, 1]}, "give height, width and, for colours, 3"),
    "an image of nothing": ({"image_shape": [0, 4]}, "unexpected image_shape"),
    "a checkpoint": ({"kind": "checkpoint"}, "unexpected kind: 'checkpoint', not 'model'"),
    **{f"no {name}": ({name: ...}, f"has no {name}") for name in SOUND},
    "other sizes": ({"sizes": [4, 5, 3]}, "its sizes [4, 5, 3]"),
    "one size": ({"sizes": [4]}, "its sizes [4]"),
    "many sizes": ({"sizes": [1] * 100_000}, "its sizes [1, 1, 1, 1, 1, 1, ...]"),
    "ten million sizes": ({"sizes": [1] * 10_000_000}, "its description has more than"),
    "sizes that are no list": ({"sizes": 4}, "unexpected sizes: 4"),
    "sizes that are words": ({"sizes": ["four", "six"]}, "unexpected sizes"),
    "sizes without end": ({"sizes": [float("inf"), 3]}, "unexpected sizes"),
    "an unknown activation": ({"activation": "gelu"}, "unexpected activation: 'gelu'"),
    "a list of an unknown one": ({"activation": ["gelu"]}, "unexpected activation: ['gelu']"),
    "another dtype than its arrays": ({"dtype": "float64"}, "its arrays are"),
    "a dtype that no network has": ({"dtype": "int32"}, "unexpected dtype: 'int32'"),
    "a scale that is a word": ({"scale": "200"}, "unexpected scale: '200'"),
    "a scale past every float": ({"scale": 10**400}, "unexpected scale"),
    "a scale of no type": ({"scale": 200.0}, "unexpected scale: 200.0"),
}


@pytest.mark.parametrize(("changes", "said"), DAMAGED.values(), ids=DAMAGED)
def test_file_that_is_no_sound_model_is_named(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = saved(tmp_path, changes)
    tracemalloc.start()
    try:
        message = refused(lambda: xpnet.load(path))
        assert tracemalloc.get_traced_memory()[1] < 10**8
    finally:
        tracemalloc.stop()
    assert message.startswith(f"{path}: ")
    assert said in message
    assert len(message) - len(str(path)) < 300


def test_file_whose_arrays_are_others_is_named(tmp_path: Path) -> None:
    path = saved(tmp_path, {}, dtype="float64")
    assert "'float64'" in refused(lambda: xpnet.load(path))
    arrays, described = tensors(path)
    for other in ({"b2": np.ones(4)}, {"b3": np.ones(3)}):
        write_tensors(path, arrays | other, described)
        assert "its sizes [4, 6, 3]" in refused(lambda: xpnet.load(path))


@pytest.mark.parametrize(
    ("W1", "said"),
    [
        (np.zeros((3, 2), dtype=np.float32), "its arrays are {'W1': ((3, 2), 'float32'), "),
        (np.zeros((2, 3)), "its arrays are {'W1': ((2, 3), 'float64'), "),
        (np.full((2, 3), np.nan, dtype=np.float32), "'W1' holds NaN or infinity"),
    ],
    ids=["shape", "dtype", "NaN"],
)
def test_parameters_that_could_not_be_loaded_are_not_saved(tmp_path: Path, W1: np.ndarray, said: str) -> None:
    model = MLP((2, 3))
    model.parameters["W1"] = W1
    assert said in refused(lambda: model.save(tmp_path / "model.safetensors"))
    model.parameters["W1"], model.scale = np.zeros((2, 3), dtype=np.float32), 3.0
    assert "unexpected scale: 3.0" in refused(lambda: model.save(tmp_path / "model.safetensors"))
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_path_or_no_model_is_refused() -> None:
    path: Any = None
    for call in (lambda: xpnet.load(path), lambda: MLP(SIZES).save(path), lambda: xpnet.save(path, "model")):
        assert "must be a" in refused(call, UsageError)
