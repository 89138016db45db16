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


SOUND: dict[str, Any] = {
    "format": 1,
    "kind": "model",
    "sizes": [4, 6, 3],
    "activation": "relu",
    "dtype": "float32",
    "scale": 1.0,
}


def saved(tmp_path: Path, changes: dict[str, Any], dtype: str = "float32") -> Path:
    """A model's file with some of its description changed, or taken out where the change is `...`."""
    MLP(SIZES, dtype=dtype).save(tmp_path / "model.safetensors")
    described = {name: value for name, value in (SOUND | changes).items() if value is not ...}
    return write_tensors(
        tmp_path / "model.safetensors", tensors(tmp_path / "model.safetensors")[0], described
    )


def test_description_is_as_written_by_hand(tmp_path: Path) -> None:
    assert xpnet.load(saved(tmp_path, {})).logits(np.ones((2, 4))).shape == (2, 3)
    MLP(SIZES).save(tmp_path / "model.safetensors")
    assert tensors(tmp_path / "model.safetensors")[1] == SOUND | {"scale": None}
    assert xpnet.load(tmp_path / "model.safetensors").scale is None


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "another format": ({"format": 2}, "unexpected format: 2, not 1"),
    "a checkpoint": ({"kind": "checkpoint"}, "unexpected kind: 'checkpoint', not 'model'"),
    **{f"no {name}": ({name: ...}, f"has no {name}") for name in SOUND},
    "other sizes": ({"sizes": [4, 5, 3]}, "its sizes [4, 5, 3]"),
    "more layers": ({"sizes": [4, 6, 6, 3]}, "its sizes [4, 6, 6, 3]"),
    "one size": ({"sizes": [4]}, "its sizes [4]"),
    "sizes of nothing": ({"sizes": []}, "its sizes []"),
    "a million sizes": ({"sizes": [1] * 1_000_000}, "its sizes [1, 1, 1, 1, 1, 1, ...]"),
    "ten million sizes": ({"sizes": [1] * 10_000_000}, "its description has more than"),
    "sizes that are no list": ({"sizes": 4}, "unexpected sizes: 4"),
    "sizes that are words": ({"sizes": ["four", "six"]}, "unexpected sizes"),
    "sizes without end": ({"sizes": [float("inf"), 3]}, "unexpected sizes"),
    "sizes of zero": ({"sizes": [4, 0, 3]}, "unexpected sizes"),
    "an unknown activation": ({"activation": "gelu"}, "unexpected activation: 'gelu'"),
    "an activation that is a list": ({"activation": ["relu"]}, "unexpected activation: ['relu']"),
    "another dtype than its arrays": ({"dtype": "float64"}, "its arrays are"),
    "a dtype that no network has": ({"dtype": "int32"}, "unexpected dtype: 'int32'"),
    "a scale that is a word": ({"scale": "200"}, "unexpected scale: '200'"),
    "a scale past every float": ({"scale": 10**400}, "unexpected scale"),
    "a scale of no type": ({"scale": 200.0}, "unexpected scale: 200.0"),
    "a scale that is no number": ({"scale": float("nan")}, "unexpected scale: nan"),
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
