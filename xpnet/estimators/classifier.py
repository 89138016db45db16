"""The classifier."""

from typing import Any, ClassVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from xpnet.estimators.base import BaseMLP, is_stochastic
from xpnet.estimators.places import on_host
from xpnet.nn.losses import LOSSES, Loss
from xpnet.nn.typing import Array
from xpnet.training.inputs import Examples


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]
    """A"""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    _numeric = False
    class_weight: Any
    classes_: np.ndarray
    _y_type: str

    def __init__(
        self,
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
        class_weight: Any = None,
        dropout: Any = 0.0,
        clip_norm: float | None = None,
        weight_decay: float = 0.0,
        device: str | None = None,
        backend: Any = None,
        progress: bool = False,
    ) -> None:
        self._keep(locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, validation_data: Any = None) -> "MLPClassifier":
        return self._fit(X, y, sample_weight, validation_data)

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> "MLPClassifier":
        y = on_host(y)
        if _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._y_type = LabelBinarizer().fit(y if several else classes).y_type_
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        Z, answer = self._logits(X, "predict")
        backend = self.model_.backend
        xp = backend.xp
        with backend.running(self.model_.dtype):
            if self.out_activation_ == "softmax":
                numbers = xp.argmax(Z, axis=1)
            else:
                numbers = xp.astype(Z > 0, xp.int64)
                if self._several:
                    return answer(numbers)
                numbers = numbers[:, 0]
                if len(self.classes_) == 1:
                    numbers = numbers * 0
            if answer == backend.to_numpy:
                return self.classes_[backend.to_numpy(numbers)]
            if self.classes_.dtype.kind not in "biuf":
                return self.classes_[backend.to_numpy(numbers)]
            return xp.take(backend.asarray(self.classes_), numbers, axis=0)

    def predict_proba(self, X: Any) -> Array:
        return self._proba(X, "predict_proba")

    def predict_log_proba(self, X: Any) -> Array:
        return self._proba(X, "predict_log_proba")

    def _proba(self, X: Any, method: str) -> Array:
        Z, answer = self._logits(X, method)
        backend = self.model_.backend
        xp = backend.xp
        with backend.running(self.model_.dtype):
            A = LOSSES[self.model_.loss].output(xp, Z)
            if A.shape[1] == 1:
                A = xp.concat([1.0 - A, A], axis=1)
            return answer(xp.log(A) if method == "predict_log_proba" else A)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        weights = None if sample_weight is None else on_host(sample_weight)
        return float(accuracy_score(on_host(y), on_host(self.predict(X)), sample_weight=weights))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @property
    def _several(self) -> bool:
        return self._y_type.startswith("multilabel")

    def _learn_targets(self, y: np.ndarray, incremental: bool) -> None:
        if not hasattr(self, "classes_") or not (self.warm_start or incremental):
            binarizer = LabelBinarizer().fit(y)
            self.classes_, self._y_type = binarizer.classes_, binarizer.y_type_
            return
        classes = unique_labels(y)
        if self.warm_start:
            if set(classes) != set(self.classes_):
                raise ValueError(
                    "warm_start can only be used where `y` has the same classes as in the previous call to "
                    f"fit. Previously got {self.classes_}, `y` has {classes}"
                )
        elif len(np.setdiff1d(classes, self.classes_, assume_unique=True)):
            raise ValueError(
                f"`y` has classes not in `self.classes_`. `self.classes_` has {self.classes_}. 'y' has "
                f"{classes}."
            )

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if type_of_target(y).startswith("multilabel") != self._several:
            raise ValueError("The object was not fitted with multilabel input.")
        if self._several:
            return (y.toarray() if issparse(y) else np.asarray(y)).astype(bool).astype(np.float64)
        numbers = np.searchsorted(self.classes_, y).astype(np.int32)
        return numbers if self._y_type == "multiclass" else (numbers[:, np.newaxis] > 0).astype(np.float64)

    def _loss_of(self) -> tuple[str, Loss]:
        name = "cross-entropy" if self._y_type == "multiclass" else "binary-cross-entropy"
        return name, LOSSES[name]

    def _class_names(self) -> list[Any] | None:
        return self.classes_.tolist() if self._y_type == "multiclass" else None

    def _row_weights(self, y: np.ndarray, weights: np.ndarray | None) -> np.ndarray | None:
        if self.class_weight is None:
            return weights
        by_class = compute_sample_weight(self.class_weight, y)
        return by_class if weights is None else weights * by_class

    def _stratified(self, T: np.ndarray) -> np.ndarray | None:
        return T.astype(bool) if T.ndim == 2 and T.shape[1] == 1 else None

    def _score_of(self, totals: Any, examples: Examples, rows: np.ndarray) -> float:
        right = totals["exact"] if "exact" in totals else totals["right"]
        return float(right.sum() / totals["weight"][0])
