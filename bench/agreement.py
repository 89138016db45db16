"""Do losses, metrics and weights mean what they mean in scikit-learn?

For every loss a network is trained on weighted rows and judged on weighted rows, in float64, by xpnet and by
the metrics of scikit-learn. Then a network trained on rows that weigh 0 to 3 is compared with one trained on
each row so many times; and one trained with balanced classes with one whose rows have the weights that
scikit-learn computes. The figures are relative differences; that of networks is of their parameters. Run:

    python bench/agreement.py
"""

from functools import partial
from typing import Any

import numpy as np
from accuracy import table
from report import publish
from trainer import Answer
from workers import ask, measure, parse

import xpnet
from xpnet.nn.losses import LOSSES


def main() -> None:
    """Compare for every loss."""
    options = parse(__doc__, loss=[*LOSSES], rounds=1)
    publish(
        "agreement", measure("relative difference", options.loss, partial(ask, "agreement.compared"), options)
    )


def compared(contestant: str, seed: int) -> Answer:
    """Compare one loss with scikit-learn."""
    kind, rng = LOSSES[contestant].kind.name, np.random.default_rng(seed)
    if kind == "classes":
        data = xpnet.load_data()
        X, y = data.X_train[:500] / 255, data.y_train[:500]
    else:
        X, y = table("labels" if kind == "labels" else "diabetes")
    fit, weights, times = partial(trained, contestant), rng.uniform(0, 2, len(X)), rng.integers(0, 4, len(X))
    found = differences(fit(X, y, sample_weight=weights), X, y, sample_weight=weights)
    repeated = fit(X.repeat(times, axis=0), y.repeat(times, axis=0))
    found["repeated rows"] = distance(fit(X, y, sample_weight=times), repeated)
    if kind == "classes":
        from sklearn.utils.class_weight import compute_sample_weight

        weighted = fit(X, y, sample_weight=compute_sample_weight("balanced", y))
        found["balanced classes"] = distance(fit(X, y, class_weight="balanced"), weighted)
    return {"seconds": {name: [float(figure)] for name, figure in found.items()}}


def trained(loss: str, X: np.ndarray, y: np.ndarray, **weights: Any) -> xpnet.MLP:
    """Train for ten steps, each on all rows."""
    outputs = 10 if y.ndim == 1 else y.shape[1]
    model = xpnet.MLP((X.shape[1], 32, outputs), loss=loss, dtype="float64")
    settings: Any = {"epochs": 10, "batch_size": len(X), "validation": 0.0, "standardize": y.ndim == 2}
    xpnet.train(model, X, y, **settings, **weights)
    return model


def distance(ours: xpnet.MLP, theirs: xpnet.MLP) -> float:
    """The largest difference of two parameters, relative to the largest of their array."""
    first, second = ours.host_parameters(), theirs.host_parameters()
    return max(float(np.abs(first[key] - array).max() / np.abs(array).max()) for key, array in second.items())


def differences(model: xpnet.MLP, X: np.ndarray, y: np.ndarray, **weights: Any) -> dict[str, float]:
    """How far the results of `xpnet.evaluate` are from those of scikit-learn."""
    from sklearn import metrics

    result, answers = xpnet.evaluate(model, X, y, **weights), model.predict(X)
    if model.targets is not None:
        scale = float(model.targets.std[0])
        expected = {"r2": metrics.r2_score(y, answers, **weights)}
        expected["rmse"] = metrics.root_mean_squared_error(y, answers, **weights)
        deviance = partial(metrics.mean_tweedie_deviance, y, answers, **weights)
        expected["loss"] = (
            (deviance(power=1) if model.loss == "poisson" else deviance(power=0) / scale) / scale / 2
        )
    else:
        A = model.predict_proba(X)
        pairs = zip(y.T, A.T, strict=True) if model.kind == "labels" else [(y, A)]
        expected = {"loss": sum(metrics.log_loss(*pair, **weights) for pair in pairs)}
        expected["accuracy"] = metrics.accuracy_score(y, answers, **weights)
        if model.kind == "labels":
            expected["f1"] = metrics.f1_score(y, answers, average="micro", **weights)
    return {name: abs(getattr(result, name) / value - 1) for name, value in expected.items()}


if __name__ == "__main__":
    main()
