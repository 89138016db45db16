"""L-BFGS: SciPy's optimizer on the host, with the loss and the gradient of all rows from our step."""

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize
from sklearn.utils.optimize import _check_optimize_result

from xpnet.estimators.fitting import FitRun
from xpnet.nn.network import is_weight
from xpnet.nn.typing import State
from xpnet.training.inputs import Examples


def fit_lbfgs(estimator: Any, examples: Examples) -> None:
    """Train the network of an estimator on all rows at once. Call it within ``model_.backend.running``."""
    model = estimator.model_
    backend, shapes = model.backend, model.network.shapes
    rows = np.arange(examples.rows, dtype=np.int32)
    run = FitRun(estimator, examples, rows, rows[:0])
    step = replace(run.step, total=None)  # several processes all do the same
    batch, zero = backend.asarray(rows), np.zeros(1, dtype=model.dtype)
    # the weights of all layers, then the biases, one after another
    names = sorted(shapes, key=lambda name: not is_weight(name))
    ends = np.cumsum([np.prod(shapes[name]) for name in names])[:-1]

    def unpacked(flat: np.ndarray) -> State:
        parts = zip(names, np.split(flat.astype(model.dtype), ends), strict=True)
        found = {name: backend.asarray(part.reshape(shapes[name])) for name, part in parts}
        return {name: found[name] for name in shapes}

    def packed(arrays: State) -> np.ndarray:
        return np.concatenate([np.ravel(backend.to_numpy(arrays[name])) for name in names]).astype(float)

    def loss_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        state = unpacked(flat) | {"loss": backend.asarray(zero)}
        gradients = step.gradients(state, batch, run.feed.data)
        return float(backend.to_numpy(state["loss"])[0] / examples.rows), packed(gradients)

    options = {"maxfun": estimator.max_fun, "maxiter": estimator.max_iter, "gtol": estimator.tol}
    found = minimize(
        loss_and_gradient, packed(model.parameters), method="L-BFGS-B", jac=True, options=options
    )
    estimator.n_iter_ = _check_optimize_result("lbfgs", found, estimator.max_iter)
    estimator.loss_ = found.fun
    model.parameters = unpacked(found.x)
