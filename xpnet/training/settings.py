"""The settings of a training run, with their defaults and limits."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import partial
from math import inf
from typing import Any, TypeAlias

from xpnet.arguments import brief, choice, flag, instance, known_names, number, whole
from xpnet.errors import UsageError, XpnetError
from xpnet.nn.distortion import SIZES, Distortion
from xpnet.nn.losses import LOSSES
from xpnet.nn.optimizers import OPTIMIZERS, SGD, Adam, Optimizer
from xpnet.nn.schedules import SCHEDULES
from xpnet.training.history import Epoch, History

ADAM_LR = 0.001
"""The default learning rate of Adam, from its paper."""

ADAMS = ("beta1", "beta2", "epsilon")
"""Settings that only Adam has."""

ADAMW_DECAY = 0.01
"""The default weight decay of AdamW, from its paper."""

PLATEAU: dict[str, Any] = {"patience": 2, "factor": 0.5}
"""The schedule "plateau" halves the rate after more than two epochs without a better score."""

METRICS = ("loss", "accuracy", "f1", "rmse", "r2")

LOWER = ("loss", "rmse")
"""Metrics of which a lower value is better."""

FOREIGN = {
    "lr": "learning_rate learning_rate_init eta eta0 step_size",
    "epochs": "max_iter n_epochs num_epochs nb_epoch iterations",
    "optimizer": "solver",
    "nesterov": "nesterovs_momentum",
    "weight_decay": "alpha l2 l2_regularization reg_lambda",
    "schedule": "learning_rate_schedule lr_schedule lr_scheduler scheduler",
    "validation": "validation_fraction validation_split validation_size",
    "patience": "n_iter_no_change early_stopping",
    "seed": "random_state random_seed",
    "clip": "clip_norm max_grad_norm gradient_clipping grad_clip clipnorm",
    "beta1": "betas beta_1",
    "beta2": "beta_2",
    "epsilon": "eps",
    "progress": "verbose callback callbacks",
}
"""Our names of settings, and what other libraries call them."""

ANSWERS = {f"did you mean {ours}?": others for ours, others in FOREIGN.items()} | {
    "it belongs to xpnet.MLP": "sizes hidden hidden_layer_sizes layers activation loss dtype device backend",
    "give validation=(X, y)": "validation_data X_val",
    "give start=history.standing": "warm_start",
    "xpnet has none yet": "shuffle tol",
}
HINTS = {name: answer for answer, names in ANSWERS.items() for name in names.split()}
"""What to say to names that are none of our settings."""


def _positive(name: str, value: Any) -> float:
    return number(name, value, "greater than 0", lambda found: 0 < found < inf)


def _share(name: str, value: Any, meaning: str = "") -> float:
    return number(name, value, f"at least 0 and less than 1{meaning}", lambda found: 0 <= found < 1)


def _between(name: str, value: Any, most: float) -> float:
    return number(name, value, f"more than 0 and less than {most:g}", lambda found: 0 < found < most)


def _shares(name: str, value: Any) -> tuple[float, ...]:
    return tuple(_share(name, rate) for rate in (value if isinstance(value, list | tuple) else [value]))


def _distortions(name: str, value: Any) -> dict[str, float]:
    """Distortions by name with their sizes, from a text, some names or a mapping."""
    if isinstance(value, str):
        value = [part.strip() for part in value.split(",")]
    if isinstance(value, list | tuple):
        pairs = [part.partition("=") if isinstance(part, str) else (part, "", "") for part in value]
        value = {choice(f"{name}:", kind, SIZES): size if equals else None for kind, equals, size in pairs}
    instance(name, value, Mapping, "names of distortions, such as shift,rotate or shift=2, or a mapping")
    plain = {}
    for kind, size in value.items():
        usual, most = SIZES[choice(f"{name}:", kind, SIZES)]
        with suppress(ValueError):
            size = float(size) if isinstance(size, str) else size
        plain[kind] = _between(f"{name}: {kind}", usual if size is None else size, most)
    if not plain:
        raise UsageError(f"{name} {brief(value)}: choose some of {', '.join(SIZES)}")
    if "smooth" in plain and "elastic" not in plain:
        raise UsageError(f"{name}: smooth belongs to elastic")
    return plain


Check: TypeAlias = Callable[[str, Any], Any]

CHECKS: dict[str, Check] = {
    **dict.fromkeys(("epochs", "batch_size", "patience"), partial(whole, least=1)),
    **dict.fromkeys(("warmup", "seed"), partial(whole, least=0)),
    **dict.fromkeys(("lr", "clip", "epsilon"), _positive),
    **dict.fromkeys(("momentum", "beta1", "beta2"), _share),
    "validation": partial(_share, meaning=", the fraction of the rows to hold back"),
    "dropout": _shares,
    "augment": _distortions,
    "weight_decay": partial(number, said="0 or more", holds=lambda found: 0 <= found < inf),
    **dict.fromkeys(("nesterov", "training_metrics"), flag),
    "optimizer": partial(choice, known=OPTIMIZERS),
    "schedule": partial(choice, known=SCHEDULES),
    "monitor": partial(choice, known=METRICS),
}
"""Checks every value by itself, and makes it a plain one."""

UNSET = ("lr", "clip", "patience", "validation", "weight_decay", "monitor", "augment")
"""Settings that may be None."""


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
        The largest learning rate. Default: 0.001 for Adam and AdamW, and for SGD that of the loss in
        `nn.losses`, times (1 - momentum), because momentum adds up 1 / (1 - momentum) gradients.
    optimizer
        "sgd", "adam" or "adamw".
    momentum, nesterov
        For SGD.
    beta1, beta2, epsilon
        For Adam and AdamW.
    weight_decay
        How much every weight decays; biases do not. See ``nn.optimizers``. Default: 0.01 for AdamW, else 0.
    clip
        The largest norm of the gradient of a batch; a larger gradient is scaled down. None for no limit.
    dropout
        The probability that a unit is left out in training: one for all hidden layers, two for the input and
        all hidden layers, or one for the input and for each hidden layer.
    augment
        Distort every image anew in every step: names such as "shift,rotate,elastic", with sizes where they
        are others than usual, "shift=2,rotate=15", or a mapping. See `nn.distortion` for their units.
    schedule
        "constant"; "linear" or "cosine": the rate falls to 0 over the whole run; or "plateau": it is halved
        whenever the monitored metric has stopped to improve.
    warmup
        The number of first steps in which the rate climbs.
    validation
        The fraction of the rows that is held back to validate the network, the same fraction of every class.
        None where rows to validate with are given to `xpnet.train`.
    training_metrics
        Whether the metrics are measured on the training rows too, at the end of every epoch.
    monitor
        The metric on the validation rows that `patience` and "plateau" watch: "loss", "accuracy", "f1",
        "rmse" or "r2". Default: accuracy where the loss has one, else loss.
    patience
        Stop after so many epochs in a row without a better monitored metric, and keep the best weights.
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
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float | None = None
    clip: float | None = None
    dropout: tuple[float, ...] = ()
    augment: Mapping[str, float] | None = None
    schedule: str = "linear"
    warmup: int = 0
    validation: float | None = 0.1
    training_metrics: bool = False
    monitor: str | None = None
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        plain = {n: v if v is None and n in UNSET else CHECKS[n](n, v) for n, v in vars(self).items()}
        if self.weight_decay is None:
            plain["weight_decay"] = ADAMW_DECAY if self.optimizer == "adamw" else 0.0
        vars(self).update(plain)
        if self.optimizer != "sgd" and (self.momentum or self.nesterov):
            raise UsageError(f"momentum and nesterov belong to sgd, not to {self.optimizer}")
        if self.optimizer == "sgd" and any(vars(self)[name] != getattr(Settings, name) for name in ADAMS):
            raise UsageError(f"{', '.join(ADAMS)} belong to adam and adamw, not to sgd")
        if self.nesterov and not self.momentum:
            raise UsageError("nesterov needs momentum: give momentum more than 0")
        if self.patience is not None and self.validation == 0:
            raise UsageError("patience needs validation rows: give validation more than 0")
        if self.monitor not in (None, "loss") and self.validation == 0:
            raise UsageError("monitor needs validation rows: give validation more than 0")

    @property
    def rate(self) -> float:
        """`lr`, which is a number once the default is filled in."""
        assert self.lr is not None
        return self.lr

    def make_optimizer(self) -> Optimizer:
        """Make the optimizer of these settings."""
        decay = self.weight_decay or 0.0
        if self.optimizer == "sgd":
            return SGD(self.momentum, self.nesterov, decay)
        return Adam(self.beta1, self.beta2, self.epsilon, decay, decoupled=self.optimizer == "adamw")

    def score(self, epoch: Epoch) -> float:
        """The monitored metric of an epoch, with its sign changed where lower is better.

        Raises
        ------
        XpnetError
            The run does not measure it.
        """
        default = "accuracy" if "validation_accuracy" in epoch.metrics else "loss"
        name = self.monitor or default
        value = epoch.metrics.get(f"validation_{name}", epoch.loss if name == "loss" else None)
        if value is None:
            measured = [column.removeprefix("validation_") for column in epoch.metrics if column[0] == "v"]
            raise XpnetError(f"monitor {name}: the validation measures {', '.join(measured) or 'nothing'}")
        return -value if name in LOWER else value

    def factor(self, history: History) -> float:
        """What the schedule "plateau" multiplies the rate of the next epoch by; 1 for the others."""
        if self.schedule != "plateau":
            return 1.0
        return plateau([self.score(epoch) for epoch in history.epochs], **PLATEAU)


def plateau(scores: Sequence[float], *, patience: int, factor: float) -> float:
    """The factor of the rate after some epochs: it falls whenever the score has stopped growing.

    Parameters
    ----------
    scores
        One number for each epoch so far. Higher is better.
    patience
        The number of epochs in a row that may pass without a new best score. After one more the rate falls.
    factor
        What the rate is multiplied by each time it falls.
    """
    best, waited, falls = -inf, 0, 0
    for score in scores:
        waited = 0 if score > best else waited + 1
        best = max(best, score)
        if waited > patience:
            waited, falls = 0, falls + 1
    return factor**falls


def dropout_rates(given: tuple[float, ...], depth: int) -> tuple[float, ...]:
    """The rates of dropout of the input and of each hidden layer; empty where all are 0.

    Raises
    ------
    UsageError
        There are too many or too few.
    """
    if len(given) == 1:
        given = (0.0, *given)
    if len(given) == 2:
        given = (given[0], *given[1:] * (depth - 1))
    if given and len(given) != depth:
        raise UsageError(
            f"dropout {given}: give one rate, two, or {depth}: for the input and each hidden layer"
        )
    return given if any(given) else ()


def distortion_of(augment: Mapping[str, float] | None, shape: tuple[int, ...] | None) -> Distortion | None:
    """The distortions of images of a shape.

    Raises
    ------
    UsageError
        The rows are no images, or images of one line of pixels.
    """
    if not augment:
        return None
    if shape is None or min(shape[:2]) < 2:
        known = "rows whose height and width are known" if shape is None else "images of 2 x 2 pixels or more"
        raise UsageError(
            f"augment is for images, {known}: leave it out, or give images (in a program, image_shape of MLP)"
        )
    return Distortion(shape, **augment)


def settings_of(given: Mapping[str, Any], loss: str) -> Settings:
    """Make settings from keywords, with the default learning rate of the loss.

    Raises
    ------
    UsageError
        A keyword is unknown; the message says which one may be meant.
    """
    known_names(given, [field.name for field in fields(Settings)], HINTS)
    settings = Settings(**given)
    if settings.lr is not None:
        return settings
    return replace(settings, lr=default_rate(loss, settings.optimizer, settings.momentum))


def lower_rate(config: Mapping[str, Any]) -> float:
    """A learning rate to try after a run has diverged, from its settings and its loss."""
    usual = default_rate(config["loss"], config["optimizer"], config["momentum"])
    return min(float(config["lr"]) / 10, usual)


def default_rate(loss: str, optimizer: str, momentum: float) -> float:
    """The default learning rate."""
    return LOSSES[loss].lr * (1 - momentum) if optimizer == "sgd" else ADAM_LR
