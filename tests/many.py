"""What several processes do together, compared with what one does alone. `test_many` starts it by a launcher.

Every process trains alone, then with the others, and the first prints, as JSON, how far the two are apart.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

import xpnet
from tests.test_graph import Failing
from xpnet.backends import Backend, get_backend, joined
from xpnet.data import blocks
from xpnet.estimators import MLPClassifier, MLPRegressor

blocks.BLOCK = 240
"""So that small files have many blocks."""

GROUP = joined()
ROWS, FEATURES = 430, 12
RNG = np.random.default_rng(1)
X = RNG.integers(0, 256, (ROWS, FEATURES)).astype(np.uint8)
Y = (X[:, :3] + RNG.normal(0, 30, (ROWS, 3))).argmax(axis=1)
NUMBERS = (X[:, :2] @ RNG.normal(size=(2, 2))) / 255
WIDE = np.tile(X, 10)
WEIGHTS = np.arange(ROWS) % 4.0

STEPS = 200
SETTINGS: dict[str, dict[str, Any]] = {
    "sgd": {},
    "momentum, weight decay": {"momentum": 0.9, "weight_decay": 0.01, "lr": 0.05},
    "nesterov, clip": {"momentum": 0.9, "nesterov": True, "clip": 0.3},
    "adam, dropout": {"optimizer": "adam", "lr": 0.01, "dropout": (0.1, 0.3)},
    "adamw, weights of classes": {"optimizer": "adamw", "lr": 0.01, "class_weight": "balanced"},
    "weights, some 0": {"sample_weight": WEIGHTS, "dropout": 0.2, "schedule": "plateau"},
    "batches of 2": {"batch_size": 2, "lr": 0.01},
    "batches of 7": {"batch_size": 7, "lr": 0.05, "training_metrics": True, "patience": 50},
    "numbers": {"loss": "squared-error", "lr": 0.05, "standardize": True},
    "distorted": {"augment": {"shift": 1.0, "rotate": 10.0, "elastic": 2.0}, "dropout": 0.2},
}
"""Settings of runs. The last batch of an epoch is short in all of them."""


def network(
    backend: Backend, features: int = FEATURES, loss: str = "cross-entropy", dtype: str = "float64"
) -> xpnet.MLP:
    """A small network; every process makes the same one."""
    sizes = (features, 16, 2 if loss == "squared-error" else 3)
    shape = (features // 4, 4)
    return xpnet.MLP(sizes, loss=loss, dtype=dtype, backend=backend, image_shape=shape)


def run(backend: Backend, rows: Any = X, dtype: str = "float64", **settings: Any) -> dict[str, np.ndarray]:
    """Train for some `STEPS`, and evaluate. Returns all numbers that come of it."""
    model = network(backend, rows.shape[1], settings.pop("loss", "cross-entropy"), dtype)
    targets, memory = Y if model.kind == "classes" else NUMBERS, settings.pop("memory", None)
    settings = {"batch_size": 50, "validation": 0.2} | settings
    steps = -(-round(ROWS * (1 - settings["validation"])) // settings["batch_size"])
    settings["epochs"] = max(2, -(-STEPS // steps))
    history = xpnet.train(model, rows, targets, memory=memory, **settings)
    result = xpnet.evaluate(model, rows, targets, memory=memory)
    found = model.host_parameters() | {"evaluated": np.array([result.loss, result.rows])}
    return found | {"history": history.table()[:, :-1]}


def apart(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    """The largest difference between two results."""
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def same_bits(found: dict[str, np.ndarray]) -> bool:
    """Whether all processes have found the same, to the bit."""
    return len(set(GROUP.all(crc32(b"".join(array.tobytes() for array in found.values()))))) == 1


def held(alone: Backend, together: Backend) -> dict[str, float]:
    """Runs with all rows in memory."""
    errors = {}
    for name, settings in list(SETTINGS.items())[:: GROUP.size - 1]:
        found = run(together, **settings)
        assert same_bits(found), name
        errors[name] = apart(run(alone, **settings), found)
    return errors


def streamed(alone: Backend, together: Backend, folder: Path) -> dict[str, float]:
    """Runs that read their rows from a file."""
    path = folder / "rows.npy"
    GROUP.first(lambda: np.save(path, WIDE))
    rows, errors = np.load(path, mmap_mode="r"), {}
    for name in ("distorted", "adam, dropout", "weights, some 0", "batches of 7")[: 5 - GROUP.size]:
        settings = {"batch_size": 20} | SETTINGS[name] | {"memory": 30_000}
        found = run(together, rows, **settings)
        assert same_bits(found), name
        errors[f"{name}, streamed"] = apart(run(alone, rows, **settings), found)
    return errors


def single_precision(alone: Backend, together: Backend) -> dict[str, float]:
    """How many times as far several processes are from float64 in float32 as one process is."""
    right, settings = run(alone), {"dtype": "float32"}
    return {"float32": apart(run(together, **settings), right) / apart(run(alone, **settings), right)}


def libraries(alone: Backend) -> dict[str, float]:
    """Runs on other libraries, compared with NumPy alone; JAX without random numbers, slow to compile."""
    errors = {}
    for name, kind in (("torch", "adam, dropout"), ("jax", "momentum, weight decay")):
        found = run(get_backend("cpu", name), **SETTINGS[kind])
        assert same_bits(found), name
        errors[name] = apart(run(alone, **SETTINGS[kind]), found)
    return errors


def fits() -> dict[str, float]:
    """Fits of estimators."""
    known: dict[str, Any] = {"hidden_layer_sizes": (9,), "max_iter": 12, "random_state": 3, "batch_size": 32}
    rows = X / 255
    ways: dict[str, Callable[[Any], Any]] = {
        "classifier": lambda place: MLPClassifier(**known, early_stopping=True, backend=place).fit(rows, Y),
        "weighted classifier": lambda place: MLPClassifier(**known, dropout=0.2, backend=place).fit(
            rows, Y, sample_weight=WEIGHTS
        ),
        "regressor": lambda place: MLPRegressor(**known, solver="sgd", backend=place).fit(rows, NUMBERS),
    }
    errors = {}
    for name, fit in ways.items():
        one, several = (fit(get_backend("cpu", "numpy", alone=alone)) for alone in (True, False))
        pairs = [*zip(one.coefs_, several.coefs_, strict=True), (one.loss_curve_, several.loss_curve_)]
        errors[name] = max(float(np.abs(np.subtract(*pair)).max()) for pair in pairs)
    return errors


def resumed(alone: Backend, together: Backend, folder: Path) -> dict[str, float]:
    """A run that all processes begin, and the first goes on with alone; and another the other way round."""
    settings: dict[str, Any] = {"batch_size": 50, "schedule": "constant", "momentum": 0.9, "lr": 0.05}

    def trained(
        backend: Backend, epochs: int, checkpoint: Path | None, resume: bool = False
    ) -> dict[str, Any]:
        model = network(backend)
        xpnet.train(model, X, Y, epochs=epochs, checkpoint=checkpoint, resume=resume, **settings)
        return model.host_parameters()

    unbroken = trained(alone, 6, None)
    mine = [folder / f"{name} {GROUP.rank}.safetensors" for name in ("together", "alone")]
    trained(together, 3, mine[0])
    assert mine[0].exists() == (GROUP.rank == 0), "the first process alone writes"
    narrowed = GROUP.first(lambda: trained(alone, 6, mine[0], resume=True))
    trained(alone, 3, mine[1])
    widened = trained(together, 6, mine[1], resume=True)
    return {"on by one": apart(unbroken, narrowed), "on by several": apart(unbroken, widened)}


def refusals(together: Backend) -> dict[str, str]:
    """What processes are told that do not fit together, which is the same for all."""
    told = {}

    def refused(name: str, call: Callable[[], object]) -> None:
        try:
            call()
            found = ""
        except xpnet.XpnetError as error:
            found = str(error)
        assert len(set(GROUP.all(found))) == 1
        told[name] = found

    odd = GROUP.rank == GROUP.size - 1
    rows = X[::-1] if odd else X
    refused("rows", lambda: xpnet.train(network(together), rows, Y, epochs=1))
    refused("lr", lambda: xpnet.train(network(together), X, Y, epochs=1, lr=0.25 if odd else 0.5))
    refused("library", lambda: run(get_backend("cpu", "array-api-strict")))
    diverges: dict[str, Any] = {"lr": 1e200, "batch_size": 50}
    refused("diverged", lambda: xpnet.train(network(together), X, Y, epochs=1, **diverges))
    return told


def recorded(together: Backend) -> dict[str, Any]:
    """How steps run if the last process can never record them, or only the second time."""
    found: dict[str, Any] = {}
    for times in ((1, 2), (1,)):
        backend = Failing("cpu")
        backend.failing = times if GROUP.rank == GROUP.size - 1 else ()
        error = apart(run(together), run(backend))
        found[f"fails {len(times)}"] = [GROUP.all(backend.execution.actual), backend.execution.reason, error]
    return found


def progress(together: Backend) -> int:
    """How many epochs a run takes that the first process ends after two: it alone is asked."""

    class Ends(xpnet.Progress):
        def on_epoch(self, history: xpnet.History) -> bool:
            assert GROUP.rank == 0
            return len(history.epochs) == 2

    return len(xpnet.train(network(together), X, Y, epochs=5, progress=Ends()).epochs)


def main(folder: Path) -> None:
    """Do it all, and print what has come of it."""
    warnings.simplefilter("ignore")  # estimators warn that they are not finished
    get_backend("cpu", "jax")  # before JAX is asked for anything else
    alone, together = (get_backend("cpu", "numpy", alone=alone) for alone in (True, False))
    errors = held(alone, together) | streamed(alone, together, folder) | fits()
    errors |= libraries(alone) if GROUP.size == 2 else {}
    errors |= resumed(alone, together, folder)
    errors = {name: max(GROUP.all(error)) for name, error in errors.items()}
    ways = recorded(together) if GROUP.size == 2 else {}
    told, epochs, ratio = refusals(together), progress(together), single_precision(alone, together)
    if GROUP.rank == 0:
        time.sleep(0.6)  # long enough to be reported
    GROUP.all(0)
    if GROUP.rank == 0:
        found = {"errors": errors, "told": told, "epochs": epochs, "ways": ways}
        print(json.dumps(found | ratio))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
