"""How accurate is it by its defaults, beside what a user would pick instead? Every round is a seed.

- mnist: the test accuracy of the README's network;
- dropout: 784-512-512-10 on the validation rows of MNIST, with dropout and without;
- diabetes, friedman: numbers, on a table of scikit-learn and on Friedman's first function with noise;
- labels: five labels at once.

On a table, everyone gets the same standardised columns and is judged on the same quarter of the rows, which
the seed draws, by the metrics of scikit-learn. Run:

    python bench/accuracy.py                       # or some of it: --part diabetes labels
"""

import time
from functools import partial
from typing import Any

import numpy as np
from report import publish
from trainer import Answer
from workers import ask, measure, parse

import xpnet

OURS = "xpnet.train numpy"
SETTINGS: dict[str, dict[str, Any]] = {
    OURS: {},
    f"{OURS}, adam": {"optimizer": "adam"},
    f"{OURS}, dropout 0.2": {"dropout": 0.2},
}
PLAIN, ADAM, DROPOUT = SETTINGS
REGRESSORS = ["MLPRegressor", "HistGradientBoostingRegressor", "Ridge"]
PARTS = {
    "mnist": ("784-128-10 on MNIST", [PLAIN]),
    "dropout": ("784-512-512-10 on MNIST", [PLAIN, DROPOUT]),
    "diabetes": ("diabetes, 442 rows", [PLAIN, *REGRESSORS]),
    "friedman": ("Friedman 1, 100,000 rows", [PLAIN, ADAM, *REGRESSORS]),
    "labels": ("5 labels, 5,000 rows", [PLAIN, "MLPClassifier"]),
}
"""The title of each part, and who is compared."""


def main() -> None:
    """Measure part by part."""
    options = parse(__doc__, part=[*PARTS], rounds=5, patience=1200.0)
    for part in options.part:
        title, names = PARTS[part]
        turn = partial(ask, "accuracy.judged", part=part)
        publish(f"accuracy-{part}", measure(title, names, turn, options))


def judged(contestant: str, seed: int, part: str) -> Answer:
    """Train a contestant, and return how good it is."""
    found = (digits if part in ("mnist", "dropout") else predictions)(contestant, seed, part)
    return {"seconds": {name: [float(figure)] for name, figure in found.items()}}


def digits(contestant: str, seed: int, part: str) -> dict[str, float]:
    """Train on MNIST, and judge on the test rows, or on the validation rows after every epoch."""
    data, sizes = xpnet.load_data(), tuple(map(int, PARTS[part][0].split()[0].split("-")))
    model = xpnet.MLP(sizes, seed=seed)
    history = xpnet.train(model, data.X_train, data.y_train, seed=seed, **SETTINGS[contestant])
    if part == "mnist":
        return {"test accuracy": xpnet.evaluate(model, data.X_test, data.y_test).accuracy}
    losses = [epoch.validation_loss for epoch in history.epochs]
    found = {"best accuracy": max(epoch.validation_accuracy for epoch in history.epochs)}
    found |= {"best validation loss": min(losses), "last validation loss": losses[-1]}
    return found | {"fit seconds": sum(epoch.seconds for epoch in history.epochs)}


def predictions(contestant: str, seed: int, part: str) -> dict[str, float]:
    """Learn a table, and judge the predictions for the test rows."""
    from sklearn import ensemble, linear_model, metrics, neural_network
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    X, X_test, y, y_test = train_test_split(*table(part), random_state=seed)
    columns, numbers = StandardScaler().fit(X), StandardScaler().fit(y)
    X, T, labels = columns.transform(X), numbers.transform(y), part == "labels"
    started = time.perf_counter()
    if contestant in SETTINGS:
        loss = "binary-cross-entropy" if labels else "squared-error"
        model: Any = xpnet.MLP((X.shape[1], 128, y.shape[1]), loss=loss, seed=seed)
        xpnet.train(model, X, y if labels else T, seed=seed, **SETTINGS[contestant])
    else:
        known = vars(ensemble) | vars(linear_model) | vars(neural_network)
        model = known[contestant](random_state=seed).fit(X, y if labels else T[:, 0])
    found, X_test = {"fit seconds": time.perf_counter() - started}, columns.transform(X_test)
    if labels:
        A = model.predict_proba(X_test)
        loss = sum(map(metrics.log_loss, y_test.T, A.T))
        return {"f1": metrics.f1_score(y_test, A > 0.5, average="micro"), "log loss": loss} | found
    A = numbers.inverse_transform(model.predict(X_test)[:, np.newaxis])
    rmse = metrics.root_mean_squared_error(y_test, A)
    return {"r2": metrics.r2_score(y_test, A), "rmse": rmse} | found


def table(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Load or make rows X (n, features) and targets y (n, k), the same ones every time."""
    from sklearn import datasets

    if part == "diabetes":
        X, y = datasets.load_diabetes(return_X_y=True)
    elif part == "friedman":
        X, y = datasets.make_friedman1(100_000, n_features=30, noise=1.0, random_state=0)
    else:
        X, y = datasets.make_multilabel_classification(5_000, random_state=0)
    return X, y.reshape(len(y), -1).astype(np.float64)


if __name__ == "__main__":
    main()
