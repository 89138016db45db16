"""The regressor."""

from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils._param_validation import StrOptions

from xpnet.estimators.base import BaseMLP
from xpnet.nn.typing import Array
from xpnet.training.inputs import Examples


class MLPRegressor(RegressorMixin, BaseMLP):
    """A multilayer perceptron that tells numbers, as scikit-learn's, on any array library.

    See `MLPClassifier`. In float64 the same data and `random_state` give the same weights as
    ``sklearn.neural_network.MLPRegressor``.

    Parameters
    ----------
    loss
        "squared_error", or "poisson" for counts and rates, which are 0 or more.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t
        As for `MLPClassifier`; so are all others.

    Attributes
    ----------
    model_ : xpnet.MLP
        The network. It saves, evaluates and predicts as any other.
    validation_scores_, best_validation_score_
        With early stopping, R² on the validation rows after every epoch, and the best one.
    coefs_, intercepts_, loss_, loss_curve_, validation_loss_curve_, n_iter_
        As for `MLPClassifier`; so are all others, except ``classes_``.

    Examples
    --------
    >>> from xpnet import MLPRegressor
    >>> reg = MLPRegressor(early_stopping=True, random_state=0).fit(X, y)
    >>> reg.score(X, y)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson"})],
    }
    _metric = staticmethod(r2_score)
    score = BaseMLP.score  # which RegressorMixin would hide
    loss: str

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        device: str | None = None,
        backend: Any = None,
        progress: bool = False,
    ) -> None:
        self._keep(locals())

    def predict(self, X: Any) -> Array:
        """Compute the numbers (n,) or (n, k) of rows, in the library and on the device of X.

        Raises
        ------
        ValueError
            X is not like the rows of the fit, or of another library or on another device.
        """
        A, _ = self._answer(X, "predict", self._means)
        return A[:, 0] if A.shape[1] == 1 else A

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if y.dtype.kind in "mM":
            raise ValueError(f"y holds {y.dtype}, but a regressor learns numbers")
        T = y.astype(np.float64)
        if self.loss == "poisson" and T.min() < 0:
            raise ValueError(f"y holds {T.min():g}, but loss='poisson' needs 0 or more")
        return T if T.ndim == 2 else T[:, np.newaxis]

    def _loss_name(self) -> str:
        return self.loss.replace("_", "-")

    def _learn_targets(self, y: np.ndarray, incremental: bool) -> None:
        """Numbers have nothing to be learned of."""

    def _score_of(self, totals: Any, examples: Examples, rows: np.ndarray) -> float:
        """R², whose sum of squares around the mean is known on the host."""
        T = examples.y[rows]
        w = np.ones(len(rows)) if examples.weights is None else examples.weights[rows]
        spread = w @ (T - np.average(T, axis=0, weights=w)) ** 2
        left = totals["squares"]
        share = np.where(spread > 0, left / np.where(spread > 0, spread, 1.0), left > 0)
        return float(np.mean(1.0 - share))
