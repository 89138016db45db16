"""What both estimators share: their parameters, what they have learned, and the way of rows through them."""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state, check_X_y
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, column_or_1d

from xpnet.arguments import brief
from xpnet.backends import Backend
from xpnet.errors import UsageError
from xpnet.estimators.fitting import Solver, fit_stochastic
from xpnet.estimators.lbfgs import fit_lbfgs
from xpnet.estimators.places import asked, home, on_host, place, same
from xpnet.estimators.rows import fit_rows, predict_rows, rows_for
from xpnet.estimators.threads import few_threads
from xpnet.model import MLP, rows_at_once
from xpnet.nn.losses import Loss
from xpnet.nn.network import forward
from xpnet.nn.typing import Array, State
from xpnet.training.inputs import Examples

STOCHASTIC = ("sgd", "adam")

ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
"""scikit-learn's names of the activations, and ours."""

OUTPUTS = {
    "cross-entropy": "softmax",
    "binary-cross-entropy": "logistic",
    "squared-error": "identity",
    "poisson": "exp",
}
"""scikit-learn's names of the activation of the output, by our names of the loss."""

ROWS_AT_ONCE = 8192
"""Rows that go through the network together when it predicts, where its layers are not too wide for that."""


def is_stochastic(estimator: "BaseMLP") -> bool:
    """Whether the solver takes rows batch by batch, so that there is a `partial_fit`."""
    if estimator.solver not in STOCHASTIC:
        raise AttributeError(
            f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not stochastic."
        )
    return True


class BaseMLP(BaseEstimator):  # type: ignore[misc]
    """The parameters and the methods that both estimators have."""

    hidden_layer_sizes: Any
    activation: str | Sequence[str]
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: Any
    tol: float
    verbose: bool | int
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    dropout: float | Sequence[float]
    clip_norm: float | None
    weight_decay: float
    device: str | None
    backend: str | Backend | None
    progress: bool

    model_: MLP
    n_features_in_: int
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None
    best_validation_score_: float | None

    _optimizer: Solver
    _no_improvement_count: int
    _best: State
    _home: str = ""
    _host_rows: bool

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "hidden_layer_sizes": ["array-like", Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
        "solver": [StrOptions({"lbfgs", *STOCHASTIC})],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"})],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "power_t": [Interval(Real, 0, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "shuffle": ["boolean"],
        "random_state": ["random_state"],
        "tol": [Interval(Real, 0, None, closed="left")],
        "verbose": ["verbose"],
        "warm_start": ["boolean"],
        "momentum": [Interval(Real, 0, 1, closed="both")],
        "nesterovs_momentum": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="left")],
        "beta_1": [Interval(Real, 0, 1, closed="left")],
        "beta_2": [Interval(Real, 0, 1, closed="left")],
        "epsilon": [Interval(Real, 0, None, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left"), Options(Real, {np.inf})],
        "max_fun": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "device": [str, None],
        "backend": [str, Backend, None],
        "progress": ["boolean"],
    }

    _numeric: ClassVar[bool]
    """Whether targets are numbers."""

    def _keep(self, given: dict[str, Any]) -> None:
        """Keep the parameters as they were given; `fit` checks them."""
        vars(self).update({name: value for name, value in given.items() if name != "self"})

    # what a subclass says of its targets

    def _learn_targets(self, y: np.ndarray, incremental: bool) -> None:
        """Learn from targets on the host what they are, or check that they are as before."""

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Targets as the field `y` of `Examples`."""
        raise NotImplementedError

    def _loss(self, T: np.ndarray) -> tuple[str, Loss, int]:
        """The name of the model's loss, the loss, and the number of outputs."""
        raise NotImplementedError

    def _score_of(self, totals: Any, examples: Examples, rows: np.ndarray) -> float:
        """The score of some rows, from the totals of their evaluation."""
        raise NotImplementedError

    def _row_weights(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
        """The weights of the rows, from those that were given."""
        return weights

    def _stratified(self, T: np.ndarray) -> np.ndarray | None:
        """What is held back in equal shares."""
        return None

    # what a network has learned

    @property
    def coefs_(self) -> list[Array]:
        """The weights of every layer, (units in, units out): the arrays of `model_`."""
        return [self.model_.parameters[f"W{l}"] for l in range(1, self.model_.network.depth + 1)]

    @property
    def intercepts_(self) -> list[Array]:
        """The biases of every layer: the arrays of `model_`."""
        return [self.model_.parameters[f"b{l}"] for l in range(1, self.model_.network.depth + 1)]

    @property
    def n_layers_(self) -> int:
        """The number of layers, with the input."""
        return len(self.model_.network.sizes)

    @property
    def n_outputs_(self) -> int:
        """The number of outputs."""
        return self.model_.outputs

    @property
    def out_activation_(self) -> str:
        """The activation of the output."""
        return OUTPUTS[self.model_.loss]

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    # learning

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any = None, incremental: bool = False
    ) -> Any:
        hidden = self._hidden()
        first = not hasattr(self, "model_") or not (self.warm_start or incremental)
        there = home(X)
        X, y, backend, dtype = fit_rows(self, X, y, first, self._numeric)
        y = _column(y)
        self._learn_targets(y, incremental)
        examples = self._examples(X, y, sample_weight)
        self._random_state = check_random_state(self.random_state)
        name, loss, outputs = self._loss(examples.y)
        sizes = (int(X.shape[1]), *hidden, outputs)
        if first:
            self._begin(sizes, name, backend, dtype)
        else:
            self._settle(there, backend, "partial_fit" if incremental else "fit")
            self._check_sizes(sizes)
        self._host_rows, model = there is None, self.model_
        held = None if validation_data is None else self._brought(validation_data)
        with model.backend.running(model.dtype), few_threads(model.network.size * self._batch(examples.rows)):
            if self.solver == "lbfgs":
                fit_lbfgs(self, model, loss, examples)
            else:
                stratify = self._stratified(examples.y)
                fit_stochastic(self, model, loss, examples, incremental, stratify, held)
        if not all(np.isfinite(array).all() for array in model.host_parameters().values()):
            raise ValueError(
                "Solver produced non-finite parameter weights. The input data may contain large values and "
                "need to be preprocessed."
            )
        return self

    def _hidden(self) -> list[int]:
        given = self.hidden_layer_sizes
        hidden = list(given) if hasattr(given, "__iter__") else [given]
        if np.any(np.array(hidden) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        return hidden

    def _batch(self, rows: int) -> int:
        """The rows of a batch, as far as they are there."""
        if self.solver == "lbfgs":
            return rows
        return min(200 if isinstance(self.batch_size, str) else int(self.batch_size), rows)

    def _examples(self, X: Array, y: np.ndarray, sample_weight: Any) -> Examples:
        weights = None
        if sample_weight is not None:
            rows = np.broadcast_to(0.0, (X.shape[0], 1))
            weights = _check_sample_weight(on_host(sample_weight), rows, ensure_non_negative=True)
        return Examples(X, self._targets(y), self._row_weights(y, weights))

    def _brought(self, data: Any) -> Examples:
        """The rows to validate with, which the user gives to `fit`."""
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise UsageError("validation_data must be (X, y) or (X, y, sample_weight)")
        X, y, *weights = data
        X = rows_for(self, X, self.model_.backend, self.model_.dtype)
        y = check_X_y(np.zeros((X.shape[0], 1)), on_host(y), multi_output=True, y_numeric=self._numeric)[1]
        examples = self._examples(X, _column(y), *(weights or [None]))
        self._check_sizes((*self.model_.network.sizes[:-1], self._loss(examples.y)[2]))
        return examples

    def _check_sizes(self, sizes: tuple[int, ...]) -> None:
        """Check that the network has the layers that its parameters and new targets ask for."""
        if sizes != self.model_.network.sizes:
            here, asked_for = ("-".join(map(str, given)) for given in (self.model_.network.sizes, sizes))
            raise UsageError(
                f"hidden_layer_sizes and y ask for a network {asked_for}, but this one is fitted and has "
                f"{here}: call fit without warm_start to begin anew"
            )

    def _begin(self, sizes: tuple[int, ...], loss: str, backend: Backend, dtype: str) -> None:
        """Draw a network, and forget all that was before it."""
        self.model_ = MLP(
            sizes,
            activation=self._activation(len(sizes) - 2),
            loss=loss,
            dtype=dtype,
            backend=backend,
            parameters=self._drawn(sizes),
            scale=1.0,
            class_names=self._class_names(),
        )
        with backend.running(dtype):
            self._best = backend.copy(self.model_.parameters)
        self.n_iter_ = self.t_ = 0
        if self.solver in STOCHASTIC:
            self.loss_curve_, self.validation_loss_curve_, self._no_improvement_count = [], None, 0
            self.validation_scores_ = [] if self.early_stopping else None
            self.best_validation_score_ = -np.inf if self.early_stopping else None
            self.best_loss_ = None if self.early_stopping else np.inf

    def _activation(self, hidden: int) -> str | list[str]:
        """Our name of the activation, or a name for each hidden layer."""
        given = self.activation
        if isinstance(given, str):
            return ACTIVATIONS[given]
        if len(given) != hidden or any(name not in [*ACTIVATIONS] for name in given):
            raise UsageError(
                f"activation {brief(given)}: give one of {', '.join(ACTIVATIONS)}, or a list of {hidden}, "
                "one for each hidden layer"
            )
        return [ACTIVATIONS[name] for name in given]

    def _class_names(self) -> list[Any] | None:
        """The names of the classes, for a model that has one output for each."""
        return None

    def _drawn(self, sizes: tuple[int, ...]) -> State:
        """The initial weights and biases, layer by layer (Glorot and Bengio, 2010)."""
        hidden = len(sizes) - 2
        given = [self.activation] * hidden if isinstance(self.activation, str) else list(self.activation)
        names = [*given, given[-1]] if given else [self.activation]
        drawn: State = {}
        for l, name in enumerate(names, 1):
            fan_in, fan_out = sizes[l - 1], sizes[l]
            r = np.sqrt((2.0 if name == "logistic" else 6.0) / (fan_in + fan_out))
            drawn[f"W{l}"] = self._random_state.uniform(-r, r, (fan_in, fan_out))
            drawn[f"b{l}"] = self._random_state.uniform(-r, r, fan_out)
        return drawn

    # where the network is

    def _settle(self, there: Backend | None, backend: Backend, method: str) -> None:
        """Go where a method is to compute, if rows from there may come in.

        Rows must come from where those of the fit came from. A network that was pickled is on the host; it
        goes back to where it was fitted when it meets rows from there.
        """
        ours = self.model_.backend
        known = self._host_rows if there is None else same(there, ours) or place(there) == self._home
        if not known:
            fitted = f"{place(ours)}, but X is an array of {place(there)}"
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same "
                f"device as those passed to fit(). The network is fitted with {fitted}: give rows of the same "
                "kind, or move the network with .to(device=..., backend=...)."
            )
        if not same(backend, ours):
            self._move(backend)

    def _move(self, backend: Backend) -> None:
        """Move all that `fit` left behind."""
        ours, self.model_ = self.model_.backend, self.model_.to(backend=backend)
        memory = getattr(self, "_optimizer", Solver(0.0)).memory

        def moved(arrays: State) -> State:
            return {name: backend.asarray(ours.to_numpy(array)) for name, array in arrays.items()}

        with ours.running(self.model_.dtype), backend.running(self.model_.dtype):
            self._best, memory = moved(self._best), moved(memory)
        if hasattr(self, "_optimizer"):
            self._optimizer = replace(self._optimizer, memory=memory)

    def to(self, device: str | None = None, backend: str | Backend | None = None) -> Any:
        """Move a fitted network to another device or library, as `xpnet.MLP.to` does, and return it.

        Rows are then taken from there, and from the host if the fit took them from the host.
        """
        check_is_fitted(self)
        there = self.model_.to(device, backend).backend
        self._host_rows = self._host_rows or there.name == "numpy"
        self._move(asked(None, there))
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Pickle host arrays, which every machine can load."""
        if not hasattr(self, "model_") or self.model_.backend.name == "numpy":
            return dict(super().__getstate__())
        here = copy(self)
        here._move(asked(None, None))
        here._home, here._host_rows = place(self.model_.backend), True
        return dict(super(BaseMLP, here).__getstate__())

    # answering

    def _logits(self, X: Any, method: str) -> tuple[Array, Any]:
        """The output of the last layer for rows, and the function that brings an answer where it belongs."""
        check_is_fitted(self)
        X, host = predict_rows(self, X, method)
        model = self.model_
        backend, xp, network = model.backend, model.backend.xp, model.network
        size = rows_at_once(network, ROWS_AT_ONCE)
        with backend.running(model.dtype):
            parts = [
                forward(xp, network, model.parameters, X[start : min(start + size, X.shape[0]), :]).Z[
                    network.depth
                ]
                for start in range(0, X.shape[0], size)
            ]
            Z = xp.concat(parts, axis=0) if len(parts) > 1 else parts[0]
        return Z, backend.to_numpy if host else _as_it_is


def _as_it_is(array: Array) -> Array:
    return array


def _column(y: np.ndarray) -> np.ndarray:
    """Targets of one column, as scikit-learn warns of them."""
    if y.ndim == 2 and y.shape[1] == 1:
        return np.asarray(column_or_1d(y, warn=True))
    return y
