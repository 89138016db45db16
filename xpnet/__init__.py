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
    from xpnet.backends import get_backend
    from xpnet.data import Dataset, load_data
    from xpnet.errors import DivergedError, UsageError, XpnetError
    from xpnet.exchange import export, import_model
    from xpnet.model import MLP, load, save
    from xpnet.training import Checkpoint, Evaluation, History, Progress, Settings, evaluate, train

_HOMES = {
    "backends": ["get_backend"],
    "data": ["Dataset", "load_data"],
    "errors": ["DivergedError", "UsageError", "XpnetError"],
    "exchange": ["export", "import_model"],
    "model": ["MLP", "load", "save"],
    "training": ["Checkpoint", "Evaluation", "History", "Progress", "Settings", "evaluate", "train"],
}

__all__ = [
    "MLP",
    "Checkpoint",
    "Dataset",
    "DivergedError",
    "Evaluation",
    "History",
    "Progress",
    "Settings",
    "UsageError",
    "XpnetError",
    "evaluate",
    "export",
    "get_backend",
    "import_model",
    "load",
    "load_data",
    "save",
    "train",
]


def __getattr__(name: str) -> object:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"xpnet.{home}"), name)
    raise AttributeError(f"module 'xpnet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
