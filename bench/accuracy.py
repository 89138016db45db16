"""How accurate is it by its defaults, beside what a user would pick instead?

- mnist: the test accuracy of the README's network, for seeds 0 to 4;
- dropout: the validation loss of 784-512-512-10 on MNIST, with dropout and without;
- tables: numbers and labels on tables. Everyone gets the same columns and the same test rows, a quarter that
  the seed draws, and scikit-learn's metrics judge them.

Every round is a seed. Run:

    python bench/accuracy.py                       # or some of it: --part tables
"""

import importlib
import time
from collections.abc import Callable
from functools import partial
from statistics import mean
from typing import Any

import numpy as np
from report import accuracy, publish, write_results
from trainer import Answer
from workers import ask, measure, parse

import xpnet

OURS = "xpnet.train numpy"
LARGE, DROPOUT = (784, 512, 512, 10), 0.2
THEIRS = {"MLPRegressor": "neural_network", "HistGradientBoostingRegressor": "ensemble"}
THEIRS |= {"Ridge": "linear_model", "MLPClassifier": "neural_network"}
"""Estimators of scikit-learn, with their modules."""

DIABETES, FRIEDMAN, LABELS = "diabetes, 442 rows", "Friedman 1, 100,000 rows", "5 labels, 5,000 rows"


def main() -> None:
    """Measure part by part."""
    options = parse(__doc__, part=[*PARTS], rounds=3)
    for part in options.part:
        PARTS[part](options)


def mnist(options: Any) -> None:
    """Train the network of the README with every seed, as `xpnet train` does."""
    data, scores = xpnet.load_data(), []
    for seed in range(5):
        model = xpnet.MLP(seed=seed)
        xpnet.train(model, data.X_train, data.y_train, seed=seed)
        scores.append(xpnet.evaluate(model, data.X_test, data.y_test).accuracy)
    runs = [{"seed": seed, "test_accuracy": score} for seed, score in enumerate(scores)]
    results = {"mean": mean(scores), "worst": min(scores), "runs": runs}
    write_results("accuracy", results)
    print(accuracy(results))


def dropout(options: Any) -> None:
    """Train with dropout and without."""
    names, title = [OURS, f"{OURS}, dropout {DROPOUT}"], "-".join(map(str, LARGE))
    publish("accuracy-dropout", measure(title, names, partial(ask, "accuracy.validated"), options))


def validated(contestant: str, seed: int) -> Answer:
    """Train on MNIST, and return the results on the validation rows."""
    data, model = xpnet.load_data(), xpnet.MLP(LARGE, seed=seed)
    rate = DROPOUT if "dropout" in contestant else 0.0
    history = xpnet.train(model, data.X_train, data.y_train, seed=seed, dropout=rate)
    losses = [epoch.validation_loss for epoch in history.epochs]
    found = {"best accuracy": [max(epoch.validation_accuracy for epoch in history.epochs)]}
    found |= {"best validation loss": [min(losses)], "last validation loss": losses[-1:]}
    found |= {"fit seconds": [sum(epoch.seconds for epoch in history.epochs)]}
    return {"seconds": found, "losses": losses}


def tables(options: Any) -> None:
    """Let everyone learn every table."""
    *regressors, classifier = THEIRS
    for title in (DIABETES, FRIEDMAN, LABELS):
        names = [OURS, classifier] if title == LABELS else [OURS, *regressors]
        results = measure(title, names, partial(ask, "accuracy.judged", title=title), options)
        publish(f"accuracy-{title.split()[0].strip(',').lower()}", results)


def judged(contestant: str, seed: int, title: str) -> Answer:
    """Let one learn a table, and judge what it says about the test rows."""
    from sklearn import metrics
    from sklearn.model_selection import train_test_split

    X, X_test, y, y_test = train_test_split(*table(title), random_state=seed)
    fit, started = learner(contestant, seed, y.ndim == 1), time.perf_counter()
    predict = fit(X, y)
    seconds, A = time.perf_counter() - started, np.reshape(predict(X_test), y_test.shape)
    if y.ndim == 1:
        found = {"r2": metrics.r2_score(y_test, A), "rmse": metrics.root_mean_squared_error(y_test, A)}
    else:
        found = {"f1": metrics.f1_score(y_test, A > 0.5, average="micro")}
        found |= {"log loss": sum(map(metrics.log_loss, y_test.T, A.T))}
    return {"seconds": {name: [float(figure)] for name, figure in (found | {"fit seconds": seconds}).items()}}


def table(title: str) -> tuple[np.ndarray, np.ndarray]:
    """Load or make rows X (n, features) with numbers y (n,) or labels y (n, 5), the same ones every time."""
    from sklearn import datasets

    if title == DIABETES:
        return datasets.load_diabetes(return_X_y=True)
    if title == FRIEDMAN:
        return datasets.make_friedman1(100_000, n_features=30, noise=1.0, random_state=0)
    X, y = datasets.make_multilabel_classification(5_000, random_state=0)
    return X, y.astype(float)


def learner(name: str, seed: int, numbers: bool) -> Callable[..., Any]:
    """Make a function that learns X and y by the defaults, and returns a function that predicts.

    Columns and numbers are standardised.
    """
    if name == OURS:
        loss = "squared-error" if numbers else "binary-cross-entropy"

        def fit(X: np.ndarray, y: np.ndarray) -> Callable[..., Any]:
            model = xpnet.MLP((X.shape[1], 128, y[0].size), loss=loss, seed=seed)
            xpnet.train(model, X, y, standardize=True, seed=seed)
            return model.predict if numbers else model.predict_proba

        return fit
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    made = getattr(importlib.import_module(f"sklearn.{THEIRS[name]}"), name)(random_state=seed)
    net: Any = make_pipeline(StandardScaler(), made)
    if numbers:
        net = TransformedTargetRegressor(net, transformer=StandardScaler())
    return lambda X, y: getattr(net.fit(X, y), "predict" if numbers else "predict_proba")


PARTS = {part.__name__: part for part in (mnist, dropout, tables)}

if __name__ == "__main__":
    main()
