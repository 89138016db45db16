"""Distortion: the same pictures on every library, those of SciPy, in training alone."""

import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.random import Generator
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from tests.oracles import draw_step, network_by_torch, on, scanned
from tests.process import run, small_data, succeed, write_idx
from tests.states import assert_same
from tests.test_random import NUMPY, words
from xpnet import MLP, UsageError, XpnetError, evaluate, train
from xpnet.backends import Backend
from xpnet.cli.train import RECIPES
from xpnet.data import load_data
from xpnet.nn.distortion import MATRIX, STREAM, Distortion, distort
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD
from xpnet.nn.random import uniform16
from xpnet.nn.step import TrainingStep
from xpnet.page.story import of_folder
from xpnet.training.settings import Settings

ALL = {"shift": 2.0, "rotate": 15.0, "scale": 0.15, "shear": 0.2, "elastic": 8.0, "smooth": 4.0}
PLACES = np.arange(2**9, dtype=np.int32)


def distorted(xp: Any, distortion: Distortion, key: Any, data: Any, images: Any) -> Any:
    return distort(xp, distortion, data, key, images)


def pictures(
    backend: Backend, distortion: Distortion, images: np.ndarray, dtype: str = "float64", **key: int
) -> np.ndarray:
    tables = {name: table.astype(dtype) for name, table in distortion.constants(np).items()}
    given: Any = {"key": words(key.get("seed", 7), key.get("step", 1)), "data": tables | {"places": PLACES}}
    found: np.ndarray = on(backend, distorted, distortion, **given, images=images)
    return found


def by_scipy(d: Distortion, images: np.ndarray, *key: int) -> np.ndarray:
    """The distortion as its definition reads, by SciPy's filters."""
    (h, w), m, block, (seed, step) = d.shape[:2], len(images), round(d.smooth), words(*key)
    noise = (uniform16(np, (seed, step), STREAM, PLACES, (m, d.draws)) + 0.5) / 32768 - 1
    pixels, c = np.indices((h, w)), np.array([(h - 1) / 2, (w - 1) / 2])[:, None, None]
    found = []
    for u, image in zip(noise, images, strict=True):
        a = 2 * np.arctan(np.tan(np.radians(d.rotate) / 2) * u[0])
        rotation = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
        M = rotation @ np.array([[1 + d.scale * u[1], 0], [d.shear * u[3], 1 + d.scale * u[2]]])
        at = c + np.einsum("ij,jhw->ihw", M, pixels - c) + d.shift * u[4:6, None, None]
        if d.elastic:
            each = [np.kron(x, np.ones((block, block)))[:h, :w] for x in u[MATRIX:].reshape(2, *d.blocks)]
            at += [gaussian_filter(d.elastic * x, d.smooth, mode="constant") for x in each]
        colours = np.moveaxis(image.reshape(h, w, -1).astype(float), 2, 0)
        seen = [map_coordinates(colour, at, order=1, mode="nearest") for colour in colours]
        found.append(np.stack(seen, axis=2).reshape(-1))
    return np.array(found)


def test_pictures_are_those_of_scipy(backend: Backend, rng: Generator) -> None:
    shape = (9, 14, 3)
    images = rng.integers(0, 256, (3, prod(shape))).astype(np.uint8)
    expected = by_scipy(Distortion(shape, **ALL), images, 7, 1)
    assert np.abs(expected - images).max() > 100, "nothing was distorted"
    for dtype, tolerance in {"float64": 1e-12, "float32": 2e-5}.items():
        found = pictures(backend, Distortion(shape, **ALL), images, dtype)
        np.testing.assert_allclose(found / 255, expected / 255, rtol=0, atol=tolerance)
        assert found.dtype == dtype


def test_each_distortion_alone_is_that_of_scipy(rng: Generator) -> None:
    """Rows may be any numbers, and the noise has blocks of any size, which may not fill an image."""
    images = rng.standard_normal((4, 10 * 7))
    some = [{name: size} for name, size in ALL.items() if name != "smooth"]
    for sizes in [*some, {"elastic": 3.0, "smooth": 0.7}, {"elastic": 9.0, "smooth": 6.3}]:
        distortion = Distortion((10, 7), **sizes)
        found, expected = pictures(NUMPY, distortion, images), by_scipy(distortion, images, 7, 1)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=str(sizes))
        assert np.abs(found - images).max() > 0.1, sizes


def test_a_scan_of_steps_draws_its_pictures_by_seed_and_step(backend: Backend, rng: Generator) -> None:
    """Two chunks, between which `t` starts again and `step` goes on; each row is distorted by its place."""
    network, name, shape = Network((6, 5, 3), "tanh"), "squared-error", (2, 3)
    distortion = Distortion(shape, shift=1.0, elastic=2.0)
    data, state = draw_step(rng, name, network, SGD())
    given = data | {"seed": np.full(1, 99, np.int32), "places": PLACES} | distortion.constants(np)
    expected = {name: state[name] for name in network.shapes}
    step = TrainingStep(backend.xp, network, LOSSES[name], SGD(), distortion=distortion)
    for i, rows in enumerate(rng.integers(-1, 17, (2, 3, 6)).astype(np.int32)):
        state["t"] = np.zeros(1, np.int32)
        state = scanned(backend, step, state, rows, given)
        for j, batch in enumerate(rows):
            X = by_scipy(distortion, data["X"][np.maximum(batch, 0)], 99, 3 * i + j)
            shares = (batch >= 0) / np.sum(batch >= 0)
            taken = {"X": X, "T": data["y"][batch], "shares": shares, "masks": {}}
            _, slopes = network_by_torch(network, name, expected, **taken)
            expected = {name: W - 0.1 * slopes[name] for name, W in expected.items()}
    assert_same({name: state[name] for name in network.shapes}, expected, 1e-12)


def test_only_training_is_distorted_and_a_resumed_run_goes_on_with_the_same_pictures(
    tmp_path: Any, rng: Generator
) -> None:
    X, y = rng.integers(0, 256, (90, 5 * 4)).astype(np.uint8), np.arange(90) % 3
    options: dict[str, Any] = {"batch_size": 16, "schedule": "constant", "augment": "shift=1,elastic"}

    def trained(epochs: int, start: MLP | None = None, **more: Any) -> MLP:
        model = start or MLP((20, 8, 3), image_shape=(5, 4))
        train(model, X, y, epochs=epochs, **options | more)
        return model

    whole, half = trained(4), trained(2, checkpoint=tmp_path / "run")
    again = trained(4, half, checkpoint=tmp_path / "run", resume=True)
    assert_same(again.host_parameters(), whole.host_parameters(), 0.0)
    other = trained(4, augment={"shift": 1.0}).host_parameters()
    assert np.abs(other["W1"] - whole.host_parameters()["W1"]).max() > 1e-3
    with pytest.raises(XpnetError, match=r"augment was .*'shift': 1.0.*, not None"):
        trained(4, half, checkpoint=tmp_path / "run", resume=True, augment=None)
    logits = whole.logits(X)
    picked = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert evaluate(whole, X, y).loss == pytest.approx(-picked[np.arange(90), y].mean(), rel=1e-5)


def given(augment: Any) -> Any:
    """Distortions as a run has them."""
    return Settings(augment=augment).augment


def test_settings() -> None:
    assert given("shift, rotate=20,elastic") == {"shift": 1.0, "rotate": 20.0, "elastic": 5.0}
    assert (
        given(["elastic", "smooth"]) == given({"elastic": 5, "smooth": 4}) == {"elastic": 5.0, "smooth": 4.0}
    )
    assert given(given("scale=0.1")) == {"scale": 0.1}
    for wrong, said in {
        "twist": "augment: 'twist': choose one of shift, rotate, scale, shear, elastic, smooth",
        "shift=far": "augment: shift must be more than 0 and less than 1000, not 'far'",
        "rotate=180": "augment: rotate must be more than 0 and less than 180",
        "": "augment: '': choose one of",
        "smooth": "smooth belongs to elastic",
        "shift,smooth": "smooth belongs to elastic",
    }.items():
        with pytest.raises(UsageError, match=said):
            given(wrong)
    for unlike in (3, {}, [], [3], [[3]], {"shift": 0}, {"shift": True}):
        with pytest.raises(UsageError, match="augment"):
            given(unlike)
    with pytest.raises(UsageError, match="augment is for images"):
        train(MLP((4, 2)), np.zeros((9, 4)), np.arange(9) % 2, augment="shift")
    with pytest.raises(UsageError, match="images of 2 x 2 pixels or more"):
        train(MLP((4, 2), image_shape=(1, 4)), np.zeros((9, 4)), np.arange(9) % 2, augment="shift")


def test_a_folder_of_images_in_colour(tmp_path: Path, rng: Generator) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for i, pixels in enumerate(rng.integers(0, 256, (9, 6, 5, 3)).astype(np.uint8)):
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    data, weights = load_data(tmp_path), []
    assert data.form.image_shape == (6, 5, 3)
    for augment in (None, "shift,elastic"):
        model = MLP((90, 4, 2), image_shape=data.form.image_shape)
        train(model, data.X_train, data.y_train, epochs=1, augment=augment)
        weights.append(model.host_parameters()["W1"])
    assert np.abs(weights[0] - weights[1]).max() > 1e-3


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four IDX files of images of 5 x 4 pixels."""
    rows = small_data(rows=60, test_rows=9, features=20)
    return write_idx(
        tmp_path / "data", {key: a.reshape(-1, 5, 4) if key[0] == "x" else a for key, a in rows.items()}
    )


def test_a_recipe_is_a_set_of_options(images: Path) -> None:
    """What is given beside it wins; config.json has all of it, and a run is resumed as it was."""
    at = images.parent
    shown = " ".join(succeed(at, "train", "--help").out.split())
    for name, recipe in RECIPES.items():
        options = [f"--{option.replace('_', '-')} {value}" for option, value in recipe.items()]
        assert f"{name}: {' '.join(options)}" in shown
    words = (
        "train",
        "--data",
        "data",
        "--recipe",
        "mnist-short",
        "--hidden",
        "8",
        "--epochs",
        "2",
        "--out",
        "run",
    )
    succeed(at, *words, "--schedule", "constant")
    first, config = (
        (at / "run" / "model.safetensors").read_bytes(),
        json.loads((at / "run" / "config.json").read_bytes()),
    )
    recipe = RECIPES["mnist-short"]
    expected = {"recipe": "mnist-short", "sizes": [20, 8, 3], "epochs": 2, "schedule": "constant"}
    expected |= {"augment": given(recipe["augment"]), "optimizer": recipe["optimizer"]}
    assert {name: config[name] for name in expected} == expected
    (at / "run" / "model.safetensors").unlink()
    succeed(at, "train", "--resume", "--out", "run")
    assert (at / "run" / "model.safetensors").read_bytes() == first
    refused = run(at, "train", "--resume", "--out", "run", "--recipe", "mnist-best")
    assert (refused.code, "recipe was mnist-short, not mnist-best" in refused.err) == (1, True)
    sheet = of_folder(at / "run").arrays["sheet"].reshape(4, 8, 20)
    rows = small_data(rows=60, test_rows=9, features=20)["x_train"]
    for seen in sheet:
        assert (rows == seen[0]).all(axis=1).any(), "a row as it was, and then distorted in each step"
        assert (seen[1:] != seen[0]).any(axis=1).all()
