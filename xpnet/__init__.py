"""A neural network written from its mathematics, once, and run on any array library.

>>> import xpnet
>>> data = xpnet.load_data("mnist")
>>> model = xpnet.MLP((784, 128, 10), device="cpu")
>>> history = xpnet.train(model, data.X_train, data.y_train, epochs=10)
>>> xpnet.evaluate(model, data.X_test, data.y_test).accuracy

`import xpnet` imports no array library. Each name below is imported when it is first used.
"""

import importlib

TYPE_CHECKING = False  # as in typing, whose import would take longer than all the rest of this file

__version__ = "0.1.0"

if TYPE_CHECKING:
    from xpnet.backends import get_backend as get_backend
    from xpnet.data import Dataset as Dataset
    from xpnet.data import load_data as load_data
    from xpnet.errors import DivergedError as DivergedError
    from xpnet.errors import UsageError as UsageError
    from xpnet.errors import XpnetError as XpnetError
    from xpnet.estimators import MLPClassifier as MLPClassifier
    from xpnet.estimators import MLPRegressor as MLPRegressor
    from xpnet.exchange import export as export
    from xpnet.exchange import import_model as import_model
    from xpnet.model import MLP as MLP
    from xpnet.model import load as load
    from xpnet.model import save as save
    from xpnet.page import report as report
    from xpnet.training import Checkpoint as Checkpoint
    from xpnet.training import Evaluation as Evaluation
    from xpnet.training import History as History
    from xpnet.training import Progress as Progress
    from xpnet.training import Settings as Settings
    from xpnet.training import evaluate as evaluate
    from xpnet.training import train as train

_HOMES = {
    "backends": ["get_backend"],
    "data": ["Dataset", "load_data"],
    "errors": ["DivergedError", "UsageError", "XpnetError"],
    "estimators": ["MLPClassifier", "MLPRegressor"],
    "exchange": ["export", "import_model"],
    "model": ["MLP", "load", "save"],
    "page": ["report"],
    "training": ["Checkpoint", "Evaluation", "History", "Progress", "Settings", "evaluate", "train"],
}

__all__ = [name for names in _HOMES.values() for name in names]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"xpnet.{home}"), name)
    raise AttributeError(f"module 'xpnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
