"""The settings of a training run, with their defaults and limits."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from math import inf
from typing import Any

from xpnet.arguments import choice, flag, number, whole
from xpnet.errors import UsageError
from xpnet.nn.optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from xpnet.nn.schedules import SCHEDULES

DEFAULT_LR = {"sgd": 0.5, "adam": 0.001}
"""SGD's was measured on the validation split of MNIST, by bench/defaults.py; Adam's is that of its paper."""

FOREIGN = {
    "did you mean lr?": "learning_rate learning_rate_init eta eta0 step_size",
    "did you mean epochs?": "max_iter n_epochs num_epochs nb_epoch iterations",
    "did you mean optimizer?": "solver",
    "did you mean nesterov?": "nesterovs_momentum",
    "did you mean weight_decay?": "alpha l2 l2_regularization reg_lambda",
    "did you mean schedule?": "learning_rate_schedule lr_schedule lr_scheduler scheduler",
    "did you mean validation?": "validation_fraction validation_split validation_size",
    "did you mean patience?": "n_iter_no_change early_stopping",
    "did you mean seed?": "random_state random_seed",
    "did you mean progress?": "verbose callback callbacks",
    "it belongs to xpnet.MLP": "sizes hidden hidden_layer_sizes layers activation dtype device backend scale",
    "xpnet has none yet": "sample_weight class_weight validation_data dropout loss shuffle tol warm_start",
}
"""What to say to names that other libraries use, or that stand elsewhere in this one."""


@dataclass(frozen=True)
class Settings:
    """The settings of a training run.

    Parameters
    ----------
    epochs
        Passes over the training rows.
    batch_size
        Rows in a step; all rows where there are fewer.
    lr
        The largest learning rate. Default: 0.001 for Adam, and 0.5 (1 - momentum) for SGD, because momentum
        adds up 1 / (1 - momentum) gradients.
    optimizer
        "sgd" or "adam".
    momentum, nesterov
        For SGD.
    weight_decay
        The gradient of every weight W gains weight_decay * W. Biases do not decay.
    schedule
        "constant", "linear" or "cosine": how the rate falls to 0 over the whole run.
    warmup
        The number of first steps in which the rate climbs.
    validation
        The fraction of the rows that is held back to validate the network, the same fraction of every class.
    patience
        Stop after so many epochs in a row without a better validation accuracy, and keep the best weights.
    seed
        Seed of the choice of the validation rows and of the order of the training rows.

    Raises
    ------
    UsageError
        A value is out of its range, or two values contradict each other.
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
        plain: dict[str, Any] = {}
        choice("optimizer", self.optimizer, OPTIMIZERS)
        choice("schedule", self.schedule, SCHEDULES)
        for name, least in {"epochs": 1, "batch_size": 1, "warmup": 0, "seed": 0}.items():
            plain[name] = whole(name, getattr(self, name), least)
        share = "at least 0 and less than 1"
        held = f"{share}, the fraction of the rows to hold back"
        plain["momentum"] = number("momentum", self.momentum, share, lambda value: 0 <= value < 1)
        plain["validation"] = number("validation", self.validation, held, lambda value: 0 <= value < 1)
        plain["nesterov"] = flag("nesterov", self.nesterov)
        plain["weight_decay"] = number(
            "weight_decay", self.weight_decay, "0 or more", lambda value: 0 <= value < inf
        )
        lr = DEFAULT_LR[self.optimizer] * (1 - plain["momentum"]) if self.lr is None else self.lr
        plain["lr"] = number("lr", lr, "greater than 0", lambda value: 0 < value < inf)
        if self.patience is not None:
            plain["patience"] = whole("patience", self.patience, 1)
            if plain["validation"] == 0:
                raise UsageError("patience needs validation rows: give validation more than 0")
        if self.optimizer != "sgd" and (plain["momentum"] or plain["nesterov"]):
            raise UsageError(f"momentum and nesterov belong to sgd, not to {self.optimizer}")
        if plain["nesterov"] and not plain["momentum"]:
            raise UsageError("nesterov needs momentum: give momentum more than 0")
        for name, value in plain.items():
            object.__setattr__(self, name, value)

    @property
    def rate(self) -> float:
        """`lr`, which is a number once the default is filled in."""
        assert self.lr is not None
        return self.lr

    @property
    def lower_rate(self) -> float:
        """A learning rate to try after the run has diverged."""
        return min(self.rate / 10, DEFAULT_LR[self.optimizer] * (1 - self.momentum))

    def make_optimizer(self) -> Optimizer:
        """Make the optimizer of these settings."""
        if self.optimizer == "adam":
            return Adam(weight_decay=self.weight_decay)
        return SGD(self.momentum, self.nesterov, self.weight_decay)


def settings_of(given: Mapping[str, Any]) -> Settings:
    """Make settings from keywords.

    Raises
    ------
    UsageError
        A keyword is unknown; the message says which one may be meant.
    """
    known = [field.name for field in fields(Settings)]
    for name in given:
        if name not in known:
            near = get_close_matches(name, known, 1, cutoff=0.4) or known
            hints = [hint for hint, names in FOREIGN.items() if name in names.split()]
            hint = hints[0] if hints else f"did you mean {', '.join(near)}?"
            raise UsageError(f"unknown setting {name!r}: {hint}")
    return Settings(**given)
