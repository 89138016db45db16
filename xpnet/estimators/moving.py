"""How a fitted network moves: to other libraries, through pickles, and from and to scikit-learn."""

from typing import Any

import numpy as np
import sklearn.neural_network
from sklearn.base import BaseEstimator
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.validation import check_is_fitted

from xpnet.backends import Backend
from xpnet.errors import UsageError
from xpnet.estimators.places import asked, place
from xpnet.model import MLP
from xpnet.nn.typing import State

OURS = {"model_", "validation_loss_curve_", "coefs_", "intercepts_"}
"""What scikit-learn's fitted estimators do not have, or have as attributes of another kind."""


def _copy(one: Any, other: Any) -> None:
    """Copy what an estimator has learned, besides the weights."""
    learned = {name for name in vars(one) if name.endswith("_")} | {"_no_improvement_count"}
    other.__dict__.update({name: getattr(one, name) for name in learned - OURS if hasattr(one, name)})


class Movable(BaseEstimator):
    """The methods of an estimator that move its network, or convert it."""

    model_: MLP
    _memory: State
    _places: set[str]
    """Where rows may come from."""

    def to(self, device: str | None = None, backend: str | Backend | None = None) -> Any:
        """Move the fitted network to another device or library, as `xpnet.MLP.to` does.

        Rows are then taken from there, and still from the host if the fit took them from there.

        Returns
        -------
        self
        """
        check_is_fitted(self)
        self._move(asked(None, self.model_.to(device, backend).backend))
        self._places = self._places & {place(None)} | {place(self.model_.backend)}
        return self

    def _settle(self, there: Backend | None, backend: Backend, method: str) -> None:
        """Go where a method is to compute, if rows may come from where they are.

        They must be where those of the fit were. But a network that comes out of a pickle is on the host,
        and goes back to where it was fitted when it meets rows from there.
        """
        ours = self.model_.backend
        if place(there) not in self._places:
            raise ValueError(
                f"Inputs passed to {type(self).__name__}.{method}() must use the same namespace and the same "
                f"device as those passed to fit(). The network is on {place(ours)}, X is on {place(there)}: "
                "bring X there, or move the network with .to(device=..., backend=...)."
            )
        if place(backend) != place(ours):
            self._move(backend)

    def _move(self, backend: Backend) -> None:
        """Move all that `fit` left behind."""
        ours, self.model_ = self.model_.backend, self.model_.to(backend=backend)
        if hasattr(self, "_memory"):
            with ours.running(self.model_.dtype), backend.running(self.model_.dtype):
                host = {name: ours.to_numpy(array) for name, array in self._memory.items()}
                self._memory = {name: backend.asarray(array) for name, array in host.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Pickle host arrays and the name of the library, which every machine can load."""
        state = dict(super().__getstate__())
        if not hasattr(self, "model_"):
            return state
        moved = object.__new__(type(self))
        moved.__dict__.update(state, _places=self._places | {place(None)})
        if isinstance(given := state["backend"], Backend):
            moved.__dict__.update(device=given.device, backend=given.name)
        if self.model_.backend.name != "numpy":
            moved._move(asked(None, None))
        return moved.__dict__

    @classmethod
    def from_sklearn(cls, fitted: Any, **parameters: Any) -> Any:
        """Take over a fitted estimator of scikit-learn's class of the same name.

        The memory of its optimizer stays behind, so a `partial_fit` begins with a new one.

        Parameters
        ----------
        fitted
            A fitted ``sklearn.neural_network.MLPClassifier`` or ``MLPRegressor``.
        **parameters
            Parameters of the new estimator, such as `device`. The others are those of `fitted`.

        Raises
        ------
        UsageError
            `fitted` is of another class.
        NotFittedError
            It is not fitted.
        """
        theirs = getattr(sklearn.neural_network, cls.__name__)
        if not isinstance(fitted, theirs):
            raise UsageError(f"from_sklearn takes a fitted sklearn.neural_network.{cls.__name__}")
        check_is_fitted(fitted)
        self: Any = cls(**fitted.get_params(deep=False) | parameters)
        _copy(fitted, self)
        self.validation_loss_curve_ = None  # which scikit-learn's does not have
        if hasattr(fitted, "_label_binarizer"):
            self._y_type = fitted._label_binarizer.y_type_
        weights = {f"W{l}": W for l, W in enumerate(fitted.coefs_, 1)}
        weights |= {f"b{l}": b for l, b in enumerate(fitted.intercepts_, 1)}
        sizes = (fitted.n_features_in_, *(len(b) for b in fitted.intercepts_))
        backend = asked(self.device, self.backend)
        self._build(sizes, self._loss_name(), backend, weights["W1"].dtype.name, weights)
        self._places = {place(None), place(backend)}
        return self

    def to_sklearn(self) -> Any:
        """Make a fitted estimator of scikit-learn's class of the same name, with the same answers.

        It has the parameters that it knows of; dropout, say, plays no part in answers.

        Raises
        ------
        UsageError
            The layers have different activations, which scikit-learn's cannot have.
        NotFittedError
            There is nothing to convert.
        """
        check_is_fitted(self)
        if not isinstance(self.activation, str):
            raise UsageError("to_sklearn: scikit-learn has one activation for all layers; give one name")
        theirs = getattr(sklearn.neural_network, type(self).__name__)
        known = theirs().get_params()
        made: Any = theirs(**{name: value for name, value in self.get_params().items() if name in known})
        _copy(self, made)
        host = self.model_.host_parameters()
        made.coefs_ = [host[f"W{l}"] for l in range(1, self.n_layers_)]
        made.intercepts_ = [host[f"b{l}"] for l in range(1, self.n_layers_)]
        if hasattr(self, "classes_"):
            several = self._y_type.startswith("multilabel")
            labels = np.eye(len(self.classes_), dtype=int) if several else self.classes_
            made._label_binarizer = LabelBinarizer().fit(labels)
        made._best_coefs, made._best_intercepts = list(made.coefs_), list(made.intercepts_)
        return made
