"""Which settings read MNIST best? The search behind the recipes of `xpnet train`, on validation rows alone.

    python bench/recipes.py                        # every candidate that results/recipes.json lacks
    python bench/recipes.py --only NAME NAME       # some of them

A candidate is trained on 50,000 of the training rows, and judged on the other 10,000, as are the means of the
weights of its last epochs. The test rows are never looked at. Only a recipe that is settled is judged on
them:

    python bench/recipes.py --test mnist-short mnist-best --seeds 0 1 2

trains it on all training rows by the command that a user would type.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import product
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from typing import Any

from report import RESULTS, read_results, write_results

import xpnet
from xpnet.cli.train import RECIPES
from xpnet.data.rows import split, stream
from xpnet.nn.typing import State

VALIDATION = 1 / 6
AVERAGES = (3, 5, 10)
"""Lengths of the means of weights that are judged beside the last weights."""

ALL = "shift,rotate,scale,shear,elastic"
WIDE: dict[str, Any] = {
    "hidden": (800,),
    "optimizer": "adam",
    "batch_size": 128,
    "epochs": 20,
    "augment": ALL,
}
DEEP = WIDE | {"hidden": (1024, 1024)}


def sized(elastic: float = 8, **sizes: float) -> dict[str, Any]:
    """The distortions of most candidates, with some other sizes."""
    most = {"shift": 2, "rotate": 15, "scale": 0.15, "shear": 0.15, "elastic": elastic}
    return {"augment": {name: float(size) for name, size in (most | sizes).items() if size}}


WIDE = {"hidden": (800,), "optimizer": "adam", "batch_size": 128, "epochs": 20, **sized()}
DEEP = WIDE | {"hidden": (1024, 1024)}
LIGHT = sized(5, shift=1, rotate=8, scale=0.08, shear=0.08)
SHORT = DEEP | LIGHT | {"epochs": 15, "batch_size": 256}

CANDIDATES: dict[str, dict[str, Any]] = {
    "wide": WIDE,
    "wide elastic 5": WIDE | sized(5),
    "wide elastic 12": WIDE | sized(12),
    "deep": DEEP,
    "deep light": DEEP | LIGHT,
    "deep sgd": DEEP | {"optimizer": "sgd", "momentum": 0.9, "lr": 0.05},
    "deep 60": DEEP | {"epochs": 60, "batch_size": 256},
    "best": SHORT | {"epochs": 60},
    "short": SHORT,
    "short plain": SHORT | {"augment": None},
    "short no elastic": SHORT | sized(0, shift=1, rotate=8, scale=0.08, shear=0.08),
    "short elastic alone": SHORT | sized(5, shift=0, rotate=0, scale=0, shear=0),
    "short dropout": SHORT | {"dropout": (0.0, 0.2)},
    "short lr 0.002": SHORT | {"lr": 0.002},
    "short sgd": SHORT | {"optimizer": "sgd", "momentum": 0.9, "lr": 0.1},
    "short three": SHORT | {"hidden": (1024, 1024, 1024)},
    "short narrow": SHORT | {"hidden": (512, 512)},
}


class Averages(xpnet.Progress):
    """Keeps the weights of the last epochs."""

    def __init__(self, model: xpnet.MLP) -> None:
        self.model, self.kept = model, list[State]()

    def on_epoch(self, history: xpnet.History) -> None:
        """Keep the weights of this epoch."""
        self.kept = [*self.kept, self.model.host_parameters()][-max(AVERAGES) :]
        print(f"  {len(history.epochs)} {history.epochs[-1].validation_accuracy:.4f}", flush=True)


def judged(hidden: tuple[int, ...], seed: int = 0, **settings: Any) -> dict[str, Any]:
    """Train a candidate, and measure it on the validation rows."""
    data = xpnet.load_data()
    network: dict[str, Any] = {"image_shape": data.form.image_shape, "seed": seed}
    model = xpnet.MLP((data.features, *hidden, data.outputs), **network)
    averages, started = Averages(model), time.process_time()
    history = xpnet.train(
        model, data.X_train, data.y_train, validation=VALIDATION, seed=seed, progress=averages, **settings
    )
    found: dict[str, Any] = {"cpu seconds": time.process_time() - started, "seconds": history.train_seconds}
    found["curve"] = [round(epoch.validation_accuracy, 5) for epoch in history.epochs]
    found["loss"] = [round(epoch.validation_loss, 5) for epoch in history.epochs]
    X, y = held(data, seed)
    for n in AVERAGES:
        some = averages.kept[-n:]
        mean = {name: sum(state[name] for state in some) / len(some) for name in some[0]}
        again = xpnet.MLP(model.network.sizes, parameters=mean, **network)
        found[f"average {n}"] = xpnet.training.evaluate(again, X, y).accuracy
    return found


def held(data: Any, seed: int) -> tuple[Any, Any]:
    """The rows that `xpnet.train` holds back."""
    rows = split(data.y_train, VALIDATION, stream(seed, "validation"))[1]
    return data.X_train[rows], data.y_train[rows]


def tested(name: str, seed: int) -> dict[str, Any]:
    """Train a recipe by the command, and return the accuracy on the test rows, and the seconds."""
    before = getrusage(RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder, "run")
        words = ["-m", "xpnet", "train", "--recipe", name, "--seed", str(seed), "--quiet", "--out", str(at)]
        subprocess.run([sys.executable, "-P", *words], check=True, stdout=subprocess.DEVNULL)
        summary = json.loads((at / "summary.json").read_text(encoding="utf-8"))
        lines = (at / "history.csv").read_text(encoding="utf-8").splitlines()
    after = getrusage(RUSAGE_CHILDREN)
    epochs = sorted(float(line.rpartition(",")[2]) for line in lines[1:])
    found = {
        name: summary[name] for name in ("test_accuracy", "test_loss", "train_seconds", "threads", "epochs")
    }
    found |= {"fastest epoch": epochs[0], "median epoch": median(epochs)}
    return found | {"cpu seconds": sum(after[:2]) - sum(before[:2]), "options": RECIPES[name]}


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=CANDIDATES, default=[*CANDIDATES])
    parser.add_argument("--test", nargs="*", choices=RECIPES)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    options = parser.parse_args()
    file, names = ("recipes", options.only) if options.test is None else ("recipes-test", options.test)
    for name, seed in product(names, options.seeds):
        key = f"{name}, seed {seed}"
        if key in known(file):
            continue
        print(key, flush=True)
        found = judged(seed=seed, **CANDIDATES[name]) if options.test is None else tested(name, seed)
        settings = {} if options.test else {"settings": CANDIDATES[name]}
        write_results(file, {"found": known(file) | {key: settings | found}})


def known(file: str) -> dict[str, Any]:
    """What has been found already."""
    return read_results(file)["found"] if (RESULTS / f"{file}.json").exists() else {}


if __name__ == "__main__":
    main()
