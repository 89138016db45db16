"""What both estimators share: their parameters, how they learn, and what they have learned."""

from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import _fit_context
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from xpnet.backends import Backend
from xpnet.errors import UsageError
from xpnet.estimators.fitting import fit_stochastic
from xpnet.estimators.lbfgs import fit_lbfgs
from xpnet.estimators.moving import Movable
from xpnet.estimators.places import asked, on_host, opened, place
from xpnet.estimators.rows import check_rows, check_targets
from xpnet.estimators.threads import few_threads
from xpnet.model import MLP, in_parts
from xpnet.nn.losses import LOSSES
from xpnet.nn.network import forward
from xpnet.nn.typing import Array, Namespace, State
from xpnet.training.inputs import Examples

STOCHASTIC = ("sgd", "adam")

ACTIVATIONS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
"""Our names of the activations, by scikit-learn's."""

OUTPUTS = {
    "cross-entropy": "softmax",
    "binary-cross-entropy": "logistic",
    "squared-error": "identity",
    "poisson": "exp",
}
"""scikit-learn's name of the activation of the output, by our name of the loss."""


def is_stochastic(estimator: "BaseMLP") -> bool:
    """Whether the solver takes rows batch by batch, so that there is a `partial_fit`."""
    if estimator.solver not in STOCHASTIC:
        said = f"partial_fit is only available for stochastic optimizers. {estimator.solver} is not"
        raise AttributeError(f"{said} stochastic.")
    return True


class BaseMLP(Movable):
    """What both estimators share.

    A subclass says what its targets are: in ``_learn_targets``, what is to be learned of them, such as the
    classes; in ``_targets``, how they enter the engine; in ``_loss_name``, by which loss; and in
    ``_score_of`` and ``_metric``, how answers are scored.
    """

    _metric: ClassVar[Any]
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = Theirs._parameter_constraints | {
        "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "device": [str, None],
        "backend": [str, Backend, None],
        "progress": ["boolean"],
    }

    def _keep(self, given: dict[str, Any]) -> None:
        """Keep the parameters as they were given; `fit` checks them."""
        self.__dict__.update({name: value for name, value in given.items() if name != "self"})

    @property
    def coefs_(self) -> tuple[Array, ...]:
        """The weights of every layer, (units in, units out): the arrays of `model_`."""
        return self._layers("coefs_", "W")

    @property
    def intercepts_(self) -> tuple[Array, ...]:
        """The biases of every layer: the arrays of `model_`."""
        return self._layers("intercepts_", "b")

    def _layers(self, attribute: str, letter: str) -> tuple[Array, ...]:
        if not hasattr(self, "model_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {attribute!r}")
        return tuple(self.model_.parameters[f"{letter}{l}"] for l in range(1, self.n_layers_))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.array_api_support = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> Self:
        """Learn from rows and their targets.

        Parameters
        ----------
        X : (n, features)
            An array of any library, or a frame; on NumPy, sparse rows too. float32 stays float32, and all
            else becomes float64, where the device has it.
        y : (n,) or (n, k)
            Labels: numbers or strings; or for each of several labels 0 or 1. For a regressor, numbers.
        sample_weight : (n,)
            The weight of every row, 0 or more; default: 1.
        validation_data
            (X, y) or (X, y, sample_weight) to validate with after every epoch; with `early_stopping`, instead
            of rows that are held back.

        Raises
        ------
        ValueError
            A parameter, the rows or the labels make no sense, or the weights are no longer finite.
        XpnetError
            The library or the device that was asked for is not available.
        """
        self._fit(X, y, sample_weight, validation_data)
        return self

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take one epoch of adam or sgd on some rows, and keep what the optimizer remembers; see `fit`."""
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any = None, incremental: bool = False
    ) -> None:
        first = not hasattr(self, "model_") or not (self.warm_start or incremental)
        hidden, given = self._hidden(), validation_data is not None
        if self.solver not in STOCHASTIC and (given or self.dropout or self.clip_norm or self.weight_decay):
            raise UsageError("dropout, clip_norm, weight_decay and validation_data are for adam and sgd")
        rows = opened(X)
        backend = asked(self.device, self.backend, rows.home)
        X, dtype = check_rows(self, rows, backend, None, first)
        y = check_targets(self, X, y)
        self._learn_targets(y, incremental)
        examples = self._examples(X, y, sample_weight)
        self._random_state = backend.group.first(lambda: check_random_state(self.random_state))
        name = self._loss_name()
        outputs = len(self.classes_) if examples.y.ndim == 1 else examples.y.shape[1]
        sizes = (int(X.shape[1]), *hidden, outputs)
        if first:
            self._begin(sizes, name, backend, dtype)
        elif outputs != self.n_outputs_:
            wanted = "-".join(map(str, sizes))
            raise UsageError(f"y asks for a network of {wanted}, but this one is {self.model_.network}")
        else:
            self._settle(rows.home, backend, "partial_fit" if incremental else "fit")
            model, network = self.model_, self.model_.network
            if network.activations != replace(network, activation=self._activations()).activations:
                self._build(network.sizes, name, model.backend, model.dtype, model.host_parameters())
        self._places, model = {place(rows.home), place(backend)}, self.model_
        held = None if validation_data is None else self._brought(validation_data)
        with model.backend.running(model.dtype), few_threads(model.network.size * self._batch(examples.rows)):
            if self.solver in STOCHASTIC:
                fit_stochastic(self, examples, held, incremental)
            else:
                fit_lbfgs(self, examples)
        if not all(np.isfinite(array).all() for array in model.host_parameters().values()):
            said = "Solver produced non-finite parameter weights. The input data may contain large values and"
            raise ValueError(f"{said} need to be preprocessed.")

    def _hidden(self) -> list[int]:
        hidden: list[int] = np.atleast_1d(self.hidden_layer_sizes).tolist()
        if min(hidden, default=1) <= 0:
            raise ValueError(f"hidden_layer_sizes must be > 0, got {hidden}.")
        return hidden

    def _activations(self) -> str | tuple[str, ...]:
        given = self.activation
        return ACTIVATIONS[given] if isinstance(given, str) else tuple(ACTIVATIONS.get(f, f) for f in given)

    def _batch(self, rows: int) -> int:
        """The rows that are taken at once."""
        wanted = 200 if self.batch_size == "auto" else int(self.batch_size)
        return min(wanted, rows) if self.solver in STOCHASTIC else rows

    def _examples(self, X: Array, y: np.ndarray, sample_weight: Any = None) -> Examples:
        weights = None
        if sample_weight is not None:
            rows = np.broadcast_to(0.0, (X.shape[0], 1))
            weights = _check_sample_weight(on_host(sample_weight), rows, ensure_non_negative=True)
        return Examples(X, self._targets(y), weights)

    def _brought(self, data: Any) -> Examples:
        """The rows to validate with, which were given to `fit`."""
        if not isinstance(data, tuple | list) or len(data) not in (2, 3):
            raise UsageError("validation_data must be (X, y) or (X, y, sample_weight)")
        X, y, *weights = data
        try:
            X, _ = check_rows(self, opened(X), self.model_.backend, self.model_.dtype)
            return self._examples(X, check_targets(self, X, y), *weights)
        except ValueError as error:
            raise UsageError(f"validation_data: {error}") from error

    def _begin(self, sizes: tuple[int, ...], loss: str, backend: Backend, dtype: str) -> None:
        """Draw a network, and forget all that was before it."""
        given = [self.activation] if isinstance(self.activation, str) else self.activation
        drawn: State = {}
        for l in range(1, len(sizes)):  # Glorot and Bengio, 2010
            followed = given[min(l, len(given)) - 1] if given else ""
            fan_in, fan_out = sizes[l - 1 : l + 1]
            r = np.sqrt((2.0 if followed == "logistic" else 6.0) / (fan_in + fan_out))
            drawn[f"W{l}"] = self._random_state.uniform(-r, r, (fan_in, fan_out))
            drawn[f"b{l}"] = self._random_state.uniform(-r, r, fan_out)
        self._build(sizes, loss, backend, dtype, drawn)
        self.n_iter_ = self.t_ = 0
        if self.solver in STOCHASTIC:
            begun: Any = self
            begun.loss_curve_, begun.validation_loss_curve_, begun._no_improvement_count = [], None, 0
            begun.best_loss_, begun.validation_scores_, begun.best_validation_score_ = (
                (None, [], -np.inf) if self.early_stopping else (np.inf, None, None)
            )

    def _build(
        self, sizes: tuple[int, ...], loss: str, backend: Backend, dtype: str, parameters: State
    ) -> None:
        """Make the model of these parameters, which are on the host."""
        names = self.classes_ if loss == "cross-entropy" else None
        if names is not None and names.dtype.char in "gM":  # long floats and dates, which no model file has
            names = names.astype(str)
        self.n_layers_, self.n_outputs_, self.out_activation_ = len(sizes), sizes[-1], OUTPUTS[loss]
        self.model_ = MLP(
            sizes,
            activation=self._activations(),
            loss=loss,
            dtype=dtype,
            backend=backend,
            parameters=parameters,
            scale=1.0,
            class_names=None if names is None else names.tolist(),
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Score the answers to rows: accuracy for labels, where every label must be right, or R² for numbers.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.
        """
        weights = None if sample_weight is None else on_host(sample_weight)
        return float(self._metric(on_host(y), on_host(self.predict(X)), sample_weight=weights))

    def _answer(self, X: Any, method: str, output: Callable[[Namespace, Array], Array]) -> tuple[Array, bool]:
        """Answer for rows by the `output` of the last layer, and tell whether they came from the host."""
        check_is_fitted(self)
        rows = opened(X)
        self._settle(rows.home, rows.home or self.model_.backend, method)
        model, backend = self.model_, self.model_.backend
        network, xp, parameters = model.network, backend.xp, model.parameters
        X, _ = check_rows(self, rows, backend, model.dtype)
        host = rows.home is None
        moved = host and backend.name != "numpy"

        def answer(rows: Array) -> Array:
            rows = backend.asarray(rows) if moved else rows
            return output(xp, forward(xp, network, parameters, rows).Z[network.depth])

        with backend.running(model.dtype):
            A = in_parts(model, X, answer)
            return backend.to_numpy(A) if moved else A, host

    def _means(self, xp: Namespace, Z: Array) -> Array:
        return LOSSES[self.model_.loss].output(xp, Z)
