"""Do losses, metrics and weights mean what they mean in scikit-learn?

For every loss a network is trained on weighted rows, and judged on weighted rows by xpnet and by the metrics
of scikit-learn. A network trained with balanced classes is compared with one whose rows have the weights that
scikit-learn computes, and a network trained on weighted rows with one trained on repeated rows. Run:

    python bench/agreement.py
"""

from functools import partial
from itertools import product
from typing import Any

import numpy as np
from accuracy import DIABETES, LABELS, table
from report import agreement, write_results

import xpnet
from xpnet.nn.losses import LOSSES

DTYPES = ("float32", "float64")


def main() -> None:
    """Compare in both dtypes."""
    found = [
        {"loss": loss, "dtype": dtype, "differences": judged(loss, dtype) | weighted(loss, dtype)}
        for loss, dtype in product(LOSSES, DTYPES)
    ]
    write_results("agreement", {"results": found})
    print(agreement({"results": found}))


def rows(loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Load rows and targets that fit a loss."""
    if LOSSES[loss].kind.name == "classes":
        data = xpnet.load_data()
        return data.X_train[:500], data.y_train[:500]
    return table(LABELS if LOSSES[loss].kind.name == "labels" else DIABETES)


def trained(loss: str, dtype: str, X: np.ndarray, y: np.ndarray, **weights: Any) -> xpnet.MLP:
    """Train for ten steps, each on all rows."""
    outputs = int(y.max()) + 1 if y.dtype.kind == "i" else y[0].size
    model = xpnet.MLP((X.shape[1], 32, outputs), loss=loss, dtype=dtype)
    settings: Any = {
        "epochs": 10,
        "batch_size": len(X),
        "validation": 0.0,
        "standardize": X.dtype.kind == "f",
    }
    xpnet.train(model, X, y, **settings, **weights)
    return model


def judged(loss: str, dtype: str) -> dict[str, float]:
    """Judge a network on weighted rows, and return how far each result is from scikit-learn's."""
    from sklearn import metrics

    (X, y), rng = rows(loss), np.random.default_rng(0)
    w = rng.uniform(0, 2, len(X))
    model = trained(loss, dtype, X, y, sample_weight=w)
    result, weights = xpnet.evaluate(model, X, y, sample_weight=w), {"sample_weight": w}
    if model.kind == "numbers":
        A, scale = np.asarray(model.predict(X), float), model.targets.std[0]
        expected = {"r2": metrics.r2_score(y, A, **weights)}
        expected["rmse"] = metrics.root_mean_squared_error(y, A, **weights)
        deviance = (
            metrics.mean_poisson_deviance(y, A, **weights)
            if loss == "poisson"
            else expected["rmse"] ** 2 / scale
        )
        expected["loss"] = deviance / scale / 2
    else:
        A, classes = np.asarray(model.predict_proba(X), float), np.asarray(model.predict(X))
        several = zip(y.T, A.T, strict=True) if model.kind == "labels" else [(y, A)]
        expected = {"loss": sum(metrics.log_loss(*pair, **weights) for pair in several)}
        expected["accuracy"] = metrics.accuracy_score(y, classes, **weights)
        if model.kind == "labels":
            expected["f1"] = metrics.f1_score(y, classes, average="micro", **weights)
    return {name: abs(getattr(result, name) / value - 1) for name, value in expected.items()}


def weighted(loss: str, dtype: str) -> dict[str, float]:
    """The largest difference of two trained networks, relative to the largest parameter of the same name."""
    from sklearn.utils.class_weight import compute_sample_weight

    (X, y), rng = rows(loss), np.random.default_rng(0)
    fit, times = partial(trained, loss, dtype), rng.integers(0, 4, len(X))
    pairs = {"repeated rows": (fit(X, y, sample_weight=times), fit(X.repeat(times, 0), y.repeat(times, 0)))}
    if LOSSES[loss].kind.name == "classes":
        balanced = compute_sample_weight("balanced", y)
        pairs["balanced classes"] = (fit(X, y, class_weight="balanced"), fit(X, y, sample_weight=balanced))
    found = {}
    for name, models in pairs.items():
        ours, theirs = (model.host_parameters() for model in models)
        found[name] = max(abs(ours[key] - array).max() / abs(array).max() for key, array in theirs.items())
    return {name: float(value) for name, value in found.items()}


if __name__ == "__main__":
    main()
