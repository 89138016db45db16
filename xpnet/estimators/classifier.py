"""The classifier."""

from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from scipy.sparse import issparse
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from xpnet.estimators.base import BaseMLP, is_stochastic
from xpnet.estimators.places import on_host
from xpnet.nn.typing import Array, Namespace
from xpnet.training.inputs import Examples


class MLPClassifier(ClassifierMixin, BaseMLP):
    """A multilayer perceptron that tells classes apart, as scikit-learn's, on any array library.

    It has the parameters, the defaults, the attributes, the methods and the messages of
    ``sklearn.neural_network.MLPClassifier``, and its algorithm: in float64 the same data and `random_state`
    give the same weights. It takes arrays of any library: fit runs where X is, and an answer is of the
    library and on the device of its rows. Targets and weights may be anywhere.

    Parameters
    ----------
    hidden_layer_sizes
        The number of units in each hidden layer: (100,), or one number.
    activation
        "identity", "logistic", "tanh" or "relu"; or a list with one for each hidden layer.
    solver
        "adam", "sgd" or "lbfgs" (SciPy's, on the host, which takes all rows in every step).
    alpha
        The strength of the penalty alpha / (2 rows) |W|^2 of a batch, on weights and not on biases.
    batch_size
        Rows in a step of adam and sgd; "auto" is min(200, rows).
    learning_rate
        For sgd: "constant"; "invscaling", learning_rate_init / (rows seen + 1)^power_t; or "adaptive",
        divided by 5 whenever there was no progress.
    learning_rate_init
        The first learning rate of adam and sgd.
    power_t
        The exponent of "invscaling".
    max_iter
        The most epochs; for lbfgs, iterations.
    shuffle
        Whether adam and sgd draw the order of the rows for every epoch.
    random_state
        None, a seed, or a ``numpy.random.RandomState``: for the first weights, the rows to hold back, and the
        order of the rows.
    tol
        The least progress in `n_iter_no_change` epochs; for lbfgs, the largest gradient at the end.
    verbose
        Whether to print the loss of every epoch.
    warm_start
        Whether `fit` goes on from the weights of the fit before.
    momentum, nesterovs_momentum
        For sgd.
    early_stopping
        Whether to hold back rows, to watch the score on these, and to keep the weights with the best one.
    validation_fraction
        The fraction of the rows that `early_stopping` holds back.
    beta_1, beta_2, epsilon
        For adam.
    n_iter_no_change
        Stop after more epochs than so many in a row without progress.
    max_fun
        The most calls of the loss by lbfgs.
    class_weight
        "balanced", or the weight of each class by its label; they multiply those of the rows.
    dropout
        For adam and sgd, the probability that a unit is left out of a step: one for all hidden layers, two
        for the input and all hidden layers, or one for the input and for each hidden layer.
    clip_norm
        For adam and sgd, the largest norm of a gradient; a larger one is scaled down.
    weight_decay
        For adam and sgd, a decoupled decay of the weights: W <- W - lr weight_decay W.
    device, backend
        Where to fit rows that are on the host, as for `xpnet.get_backend`: device="cuda", backend="torch".
        Answers to host rows are on the host. Or backend is what that function returned; in a pickle of a
        fitted estimator, its names take its place.
    progress
        Whether to show the progress on standard error.

    Attributes
    ----------
    model_ : xpnet.MLP
        The network. It saves, evaluates and predicts as any other.
    coefs_, intercepts_ : list of arrays
        The weights (units in, units out) and biases of every layer, of the library and on the device of the
        fit. Pickles hold them as NumPy's.
    classes_ : numpy.ndarray
        The labels.
    loss_, best_loss_, loss_curve_
        The loss of the last epoch, the least one, and that of every epoch.
    validation_scores_, best_validation_score_
        With early stopping, the accuracy on the validation rows after every epoch, and the best one.
    validation_loss_curve_
        The loss of the validation rows after every epoch, if there are any; else None.
    n_iter_, t_
        Epochs of the last fit, and rows seen in all fits.
    n_features_in_, feature_names_in_, n_layers_, n_outputs_, out_activation_
        As scikit-learn's.

    Examples
    --------
    >>> from xpnet import MLPClassifier
    >>> clf = MLPClassifier(hidden_layer_sizes=(64,), random_state=0).fit(X, y)
    >>> clf.predict_proba(X)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
    }
    _metric = staticmethod(accuracy_score)
    score = BaseMLP.score  # which ClassifierMixin would hide
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

    @available_if(is_stochastic)
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Take one epoch of adam or sgd on some rows, and keep what the optimizer remembers; see `fit`.

        Parameters
        ----------
        classes : (k,)
            All labels that may ever come, needed in the first call.
        """
        y = on_host(y)
        if _check_partial_fit_first_call(self, classes):
            several = type_of_target(y).startswith("multilabel")
            self._y_type = LabelBinarizer().fit(y if several else classes).y_type_
        self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict(self, X: Any) -> Array:
        """Find the most probable label (n,) of every row, or for each of several labels 0 or 1 (n, labels).

        The answer is of the library and on the device of X; but labels that are strings are on the host.

        Raises
        ------
        ValueError
            X is not like the rows of the fit, or of another library or on another device.
        """
        numbers, host = self._answer(X, "predict", self._numbers)
        backend, classes = self.model_.backend, self.classes_
        if host:
            return numbers.astype(np.int64, copy=False) if self._several else classes.take(numbers)
        xp = backend.xp
        with backend.running("float64"):  # or JAX has no int64
            numbers = xp.astype(numbers, xp.int64, copy=False)
            if self._several:
                return numbers
            if classes.dtype.kind in "biuf":
                return xp.take(backend.asarray(classes), numbers, axis=0)
            return classes.take(backend.to_numpy(numbers))

    def _numbers(self, xp: Namespace, Z: Array) -> Array:
        """The numbers of the most probable classes; of two classes and of labels, whether it is so."""
        if self._y_type == "multiclass":
            return xp.argmax(Z, axis=1)
        labels = Z > 0
        if len(self.classes_) == 1:  # a class that was alone in the fit
            labels = xp.zeros_like(labels)
        return labels if self._several else labels[:, 0]

    def predict_proba(self, X: Any) -> Array:
        """Compute the probabilities (n, classes) of the labels, in the order of `classes_`; see `predict`."""
        return self._answer(X, "predict_proba", self._shares)[0]

    def predict_log_proba(self, X: Any) -> Array:
        """Compute the logarithms of `predict_proba`."""
        return self._answer(X, "predict_log_proba", lambda xp, Z: xp.log(self._shares(xp, Z)))[0]

    def _shares(self, xp: Namespace, Z: Array) -> Array:
        """The probabilities; those of two classes come from one output."""
        A = self._means(xp, Z)
        return xp.concat([1.0 - A, A], axis=1) if A.shape[1] == 1 else A

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
        classes, known = unique_labels(y), self.classes_
        if self.warm_start and set(classes) != set(known):
            said = "warm_start can only be used where `y` has the same classes as in the previous call"
            raise ValueError(f"{said} to fit. Previously got {known}, `y` has {classes}")
        if not self.warm_start and len(np.setdiff1d(classes, known, assume_unique=True)):
            said = f"`self.classes_` has {known}. 'y' has {classes}."
            raise ValueError(f"`y` has classes not in `self.classes_`. {said}")
        if self.class_weight is not None:
            self._weigh_classes(y, incremental)

    def _weigh_classes(self, y: np.ndarray, incremental: bool) -> None:
        """Find the weight of each class. Of a dict, not all classes need be among these rows."""
        given = self.class_weight
        if self._several:
            raise ValueError("class_weight is for one label a row; give sample_weight")
        if incremental and given == "balanced":
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' "
                "weights, pass dict(zip(classes, compute_class_weight('balanced', classes=classes, y=y))) as "
                "the class_weight parameter. In place of y you can use a large enough sample of the full "
                "training set target to properly estimate the class frequency distributions."
            )
        self._by_class = compute_class_weight(given, classes=self.classes_, y=y)
        if not (self._by_class >= 0).all():
            raise ValueError(f"class_weight must be 0 or more, not {given}")

    def _examples(self, X: Array, y: np.ndarray, sample_weight: Any = None) -> Examples:
        examples = super()._examples(X, y, sample_weight)
        if self.class_weight is None:
            return examples
        by_row = self._by_class[np.searchsorted(self.classes_, y)]
        return replace(examples, weights=by_row if sample_weight is None else by_row * examples.weights)

    def _targets(self, y: Any) -> np.ndarray:
        if type_of_target(y).startswith("multilabel") != self._several:
            raise ValueError("The object was not fitted with multilabel input.")
        if self._several:
            return np.asarray(y.toarray() if issparse(y) else y, bool).astype(np.float64)
        numbers = np.searchsorted(self.classes_, y).clip(max=len(self.classes_) - 1)
        if not (known := self.classes_[numbers] == y).all():
            raise ValueError(f"y holds {np.asarray(y)[~known][0]!r}, which is none of {self.classes_}")
        T: np.ndarray = numbers.astype(np.int32)
        return T if self._y_type == "multiclass" else T[:, np.newaxis].astype(np.float64)

    def _loss_name(self) -> str:
        return "cross-entropy" if self._y_type == "multiclass" else "binary-cross-entropy"

    def _score_of(self, totals: Any, examples: Examples, rows: np.ndarray) -> float:
        right = totals["exact"] if "exact" in totals else totals["right"]
        return float(right.sum() / totals["weight"][0])
