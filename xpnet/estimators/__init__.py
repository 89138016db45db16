"""scikit-learn's multilayer perceptron, with its parameters and its results, on any array library."""

from xpnet.errors import XpnetError

try:
    from xpnet.estimators.classifier import MLPClassifier
    from xpnet.estimators.regressor import MLPRegressor
except ModuleNotFoundError as error:
    if error.name != "sklearn":
        raise
    raise XpnetError("the estimators need scikit-learn: pip install scikit-learn") from error

__all__ = ["MLPClassifier", "MLPRegressor"]
