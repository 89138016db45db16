"""How long do fit and predict of `xpnet.MLPClassifier` take, beside scikit-learn's class of that name?

Both have the same parameters and take the same float32 rows, in batches of 200, for the same epochs. The
first fit of a process includes what a library compiles, and the second does not. *24 fits* are a grid search
over small networks. Run:

    python bench/estimators.py                     # or some of it: --part "20,000 rows"
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from report import publish
from trainer import Answer
from workers import ask, measure, parse

import xpnet

NAMES = ["scikit-learn", *(f"xpnet.MLPClassifier {library}" for library in ("numpy", "jax"))]
ROWS = {"MNIST": 60_000, "20,000 rows": 20_000, "1,000,000 rows": 1_000_000, "24 fits": 2_000}
"""The parts, with their rows."""


def main() -> None:
    """Time every contestant on every table."""
    options = parse(__doc__, contestant=NAMES, part=[*ROWS], rounds=3, epochs=3)
    for part in options.part:
        turn = partial(ask, "estimators.timed", part=part, epochs=options.epochs)
        results = {"epochs": options.epochs} | measure(f"seconds: {part}", options.contestant, turn, options)
        publish(f"estimators-{part.replace(' ', '-')}", results)


def timed(contestant: str, seed: int, part: str, epochs: int) -> Answer:
    """Time two fits and a prediction, or a grid search."""
    from sklearn.model_selection import GridSearchCV

    X, y = table(part)
    warnings.simplefilter("ignore")  # a few epochs do not converge, as scikit-learn says
    make = classifier(contestant)
    net = make(batch_size=200, max_iter=epochs, random_state=seed)
    if part == "24 fits":
        grid = {
            "hidden_layer_sizes": [(16,), (32,)],
            "alpha": [1e-4, 1e-2],
            "learning_rate_init": [1e-3, 1e-2],
        }
        search = GridSearchCV(net, grid, cv=3, refit=False)
        return {"seconds": {"search": [seconds(lambda: search.fit(X, y))]}}
    found = {f"{time} fit": [seconds(lambda: net.fit(X, y))] for time in ("first", "second")}
    return {"seconds": found | {"predict": [seconds(lambda: np.asarray(net.predict(X)))]}}


def classifier(contestant: str) -> Any:
    """The class of a contestant, on its library."""
    if contestant == "scikit-learn":
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier
    ours: Any = xpnet.MLPClassifier
    return partial(ours, backend=contestant.split()[1])


def seconds(act: Callable[[], object]) -> float:
    """Time an act."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def table(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Load or make rows with their classes."""
    if part == "MNIST":
        data = xpnet.load_data()
        return data.X_train.astype(np.float32) / 255, data.y_train
    from sklearn.datasets import make_classification

    X, y = make_classification(ROWS[part], 30, n_informative=10, n_classes=5, random_state=0)
    return X.astype(np.float32), y


if __name__ == "__main__":
    main()
