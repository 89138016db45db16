"""Everything that a training run can be told, with its defaults and its limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from operator import index

from xpnet.errors import UsageError
from xpnet.nn.optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from xpnet.nn.schedules import SCHEDULES

DEFAULT_LR = {"sgd": 0.5, "adam": 0.001}
"""SGD's was measured on the validation split of MNIST, by bench/defaults.py; Adam's is its paper's."""


MOST = 2**31 - 1
"""The largest whole number that a setting may be."""


@dataclass(frozen=True)
class Settings:
    """The settings of a training run.

    Parameters
    ----------
    epochs
        Passes over the training rows.
    batch_size
        Rows in a step; all of them where there are fewer.
    lr
        The largest learning rate. By default 0.001 for Adam, and 0.5 (1 - momentum) for SGD, because
        momentum adds up 1 / (1 - momentum) gradients.
    optimizer
        "sgd" or "adam".
    momentum, nesterov
        For SGD.
    weight_decay
        Times W, added to the gradient of every weight (not of biases).
    schedule
        "constant", "linear" or "cosine": how the rate falls to 0 over the whole run.
    warmup
        Steps in which the rate first climbs.
    validation
        Fraction of the training rows held back to watch the network by, drawn class by class.
    patience
        Stop after so many epochs in a row without a better validation accuracy, and keep the best weights.
    seed
        Of the rows held back and of their order.

    Raises
    ------
    UsageError
        A value out of its range, or two that do not go together.
    """

    epochs: int = 10
    batch_size: int = 64
    lr: float | None = None
    optimizer: str = "sgd"
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: str = "linear"
    warmup: int = 0
    validation: float = 0.1
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _choice("optimizer", self.optimizer, OPTIMIZERS)
        _choice("schedule", self.schedule, SCHEDULES)
        for name, least in {"epochs": 1, "batch_size": 1, "warmup": 0, "seed": 0}.items():
            object.__setattr__(self, name, _whole(name, getattr(self, name), least))
        for name in ("momentum", "weight_decay", "validation"):  # NumPy's numbers could not be kept as JSON
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        if self.nesterov not in (True, False):
            raise UsageError(f"nesterov must be True or False, not {self.nesterov!r}")
        object.__setattr__(self, "nesterov", bool(self.nesterov))
        _fraction("momentum", self.momentum)
        _fraction("validation", self.validation)
        if not (isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UsageError(f"weight_decay must be 0 or more, not {self.weight_decay}")
        if self.lr is None:
            object.__setattr__(self, "lr", DEFAULT_LR[self.optimizer] * (1 - self.momentum))
        object.__setattr__(self, "lr", _number("lr", self.lr))
        if not (isfinite(self.rate) and self.rate > 0):
            raise UsageError(f"lr must be greater than 0, not {self.lr}")
        if self.patience is not None:
            object.__setattr__(self, "patience", _whole("patience", self.patience, 1))
            if self.validation == 0:
                raise UsageError("patience needs validation rows: give validation more than 0")
        if self.optimizer != "sgd" and (self.momentum or self.nesterov):
            raise UsageError(f"momentum and nesterov belong to sgd, not to {self.optimizer}")
        if self.nesterov and not self.momentum:
            raise UsageError("nesterov needs momentum: give momentum more than 0")

    @property
    def rate(self) -> float:
        """`lr`, which is a number once the defaults are filled in."""
        assert self.lr is not None
        return self.lr

    def make_optimizer(self) -> Optimizer:
        """The optimizer that these settings describe."""
        if self.optimizer == "adam":
            return Adam(weight_decay=self.weight_decay)
        return SGD(self.momentum, self.nesterov, self.weight_decay)


def _choice(name: str, value: str, known: Mapping[str, object]) -> None:
    if not isinstance(value, str) or value not in known:
        raise UsageError(f"{name} {value!r}: choose one of {', '.join(known)}")


def _number(name: str, value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name} must be a number, not {value!r}") from error


def _whole(name: str, value: int, least: int) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value < least:
        raise UsageError(f"{name} must be a whole number, {least} or more, not {value}")
    if value > MOST:
        raise UsageError(f"{name} {value} is too large: {MOST} is the most")
    return index(value)


def _fraction(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UsageError(f"{name} must be at least 0 and less than 1, not {value}")
