"""The stochastic solvers: scikit-learn's policy of epochs around the steps of our engine.

The steps are those of `xpnet.train`, and so are the runs. What is scikit-learn's own stands here: in which
order it draws, when it stops, when it lowers the rate, which weights it keeps, and what it says.
"""

import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from xpnet.errors import DivergedError
from xpnet.model import MLP
from xpnet.nn.losses import Loss
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.step import EvaluationStep, TrainingStep
from xpnet.nn.typing import State
from xpnet.training.evaluation import evaluate_parts
from xpnet.training.feed import Feed, Resident
from xpnet.training.inputs import Examples
from xpnet.training.run import Run
from xpnet.training.settings import Settings, dropout_rates

if TYPE_CHECKING:
    from xpnet.estimators.base import BaseMLP

LEAST_RATE = 1e-6
"""A rate of this size or less is not lowered any more."""


@dataclass
class Solver:
    """What a fit leaves behind for `partial_fit` to go on from.

    Attributes
    ----------
    learning_rate
        The current one.
    memory
        What the optimizer remembers: arrays by name; empty before the first step.
    """

    learning_rate: float
    memory: State = field(default_factory=dict)

    def epoch_ends(self, estimator: "BaseMLP") -> None:
        """Lower the rate, where it falls with the number of the rows seen."""
        if (estimator.solver, estimator.learning_rate) == ("sgd", "invscaling"):
            rate = float(estimator.learning_rate_init)
            self.learning_rate = rate / (estimator.t_ + 1) ** estimator.power_t

    def stops(self, estimator: "BaseMLP", said: str) -> bool:
        """Stop, or lower an adaptive rate and go on."""
        adaptive = (estimator.solver, estimator.learning_rate) == ("sgd", "adaptive")
        stop = not adaptive or self.learning_rate <= LEAST_RATE
        if not stop:
            self.learning_rate /= 5.0
            said += f" Setting learning rate to {self.learning_rate:f}"
        else:
            said += " Learning rate too small. Stopping." if adaptive else " Stopping."
        if estimator.verbose:
            print(said)
        return stop


def optimizer_of(estimator: "BaseMLP") -> Optimizer:
    """The optimizer of the parameters of an estimator."""
    decay = float(estimator.weight_decay)
    if estimator.solver == "sgd":
        momentum = float(estimator.momentum)
        return SGD(momentum, bool(estimator.nesterovs_momentum and momentum), decay, decoupled=True)
    betas = float(estimator.beta_1), float(estimator.beta_2)
    return Adam(*betas, float(estimator.epsilon), decay, decoupled=True, corrected_epsilon=False)


def feed_of(model: MLP, examples: Examples, rows: np.ndarray, held: np.ndarray, constants: Any) -> Feed:
    """The rows of a fit, which are on the device already, as a run takes them."""
    backend = model.backend
    constants = {name: backend.asarray(array) for name, array in constants.items()}
    data = {"X": examples.X} | constants
    feed = Resident(model, examples, constants, rows, held, len(rows), len(held), model.dtype, data)
    data |= {name: backend.asarray(column) for name, column in feed.columns(slice(None)).items()}
    return feed


def make_run(
    estimator: "BaseMLP",
    model: MLP,
    loss: Loss,
    examples: Examples,
    split: tuple[np.ndarray, np.ndarray],
    validation: Examples | None = None,
) -> Run:
    """The engine's run of a fit.

    Parameters
    ----------
    split
        The numbers of the rows to train on, and of those to validate with.
    validation
        Rows to validate with instead.
    """
    rows, held = split
    if not isinstance(estimator.batch_size, str) and estimator.batch_size > len(rows):
        said = "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
        warnings.warn(said, stacklevel=2)
    size = estimator._batch(len(rows))
    given = estimator.dropout
    dropout = dropout_rates(
        tuple(given) if isinstance(given, list | tuple) else (float(given),), model.network.depth
    )
    constants: dict[str, Any] = {"classes": np.arange(model.outputs, dtype=np.int32)}
    constants["penalty"] = np.full(1, estimator.alpha, dtype=model.dtype)
    if any(dropout):
        places = size * -(-max(model.network.sizes) // 4)
        seed = _mask_seed(estimator)
        constants |= {"seed": np.full(1, seed, np.int32), "places": np.arange(places, dtype=np.int32)}
    feed = feed_of(model, examples, rows, held, constants)
    brought = None
    if validation is not None:
        whole = np.arange(validation.rows, dtype=np.int32)
        brought = feed_of(model, validation, whole, whole[:0], {"classes": constants["classes"]})
    step = TrainingStep(
        model.backend.xp,
        model.network,
        loss,
        optimizer_of(estimator),
        dropout=dropout,
        clip=float(estimator.clip_norm or 0.0),
        mean_loss=examples.weights is not None,
    )
    judge = EvaluationStep(model.backend.xp, model.network, loss)
    return Run(model, Settings(), feed, brought, size, -(-len(rows) // size), step, judge)


def _mask_seed(estimator: "BaseMLP") -> int:
    """The seed of the masks of dropout, drawn so that nothing else is drawn differently."""
    kept = estimator._random_state.get_state()
    seed = int(estimator._random_state.randint(2**31 - 1))
    estimator._random_state.set_state(kept)
    return seed


def hold_back(estimator: "BaseMLP", examples: Examples, stratify: np.ndarray | None) -> tuple[Any, Any]:
    """The numbers of the rows to train on, and of those held back for early stopping."""
    numbers = np.arange(examples.rows, dtype=np.int32)
    rows, held = train_test_split(
        numbers,
        random_state=estimator._random_state,
        test_size=estimator.validation_fraction,
        stratify=stratify,
    )
    if len(held) < 2:
        raise ValueError(
            "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
        )
    return rows, held


def fit_stochastic(
    estimator: "BaseMLP",
    model: MLP,
    loss: Loss,
    examples: Examples,
    incremental: bool,
    stratify: np.ndarray | None,
    validation: Examples | None,
) -> None:
    """Train the network of an estimator in epochs. Call it within ``model.backend.running``.

    Parameters
    ----------
    incremental
        Take one epoch, and go on from the memory of the solver.
    stratify
        What is to be held back in equal shares, for early stopping.
    validation
        Rows to validate with, instead of some that are held back.
    """
    if not incremental or not hasattr(estimator, "_optimizer"):
        estimator._optimizer = Solver(float(estimator.learning_rate_init))
    if estimator.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    whole = np.arange(examples.rows, dtype=np.int32)
    split = (whole, whole[:0])
    if estimator.early_stopping and validation is None:
        split = hold_back(estimator, examples, stratify)
    run = make_run(estimator, model, loss, examples, split, validation)
    state = _epochs(estimator, run, run.begin().state | estimator._optimizer.memory, incremental)
    parameters = run.parameters(state)
    estimator._optimizer.memory = {name: array for name, array in state.items() if name not in parameters}
    model.parameters = parameters
    if estimator.early_stopping:
        # as in scikit-learn, a warm start that finds no better ones ends with its last ones
        model.parameters, estimator._best = estimator._best or parameters, {}


def _epochs(estimator: "BaseMLP", run: Run, state: State, incremental: bool) -> State:
    """Take epochs until the policy of the estimator is to stop, and return the state after the last."""
    rows, order, done = run.feed.rows, run.feed.training, state
    estimator.n_iter_ = 0
    try:
        for _ in range(estimator.max_iter):
            # a copy, because an interrupt may come in the middle of a step
            done = run.model.backend.copy(state)
            if estimator.shuffle:
                drawn = np.arange(rows)
                estimator._random_state.shuffle(drawn)
                order = order[drawn]
            total = 0.0
            for chunk in run.chunks(order):
                rates = np.full(len(chunk), estimator._optimizer.learning_rate)
                state, part = run.advance(state, chunk, rates, run.feed.data)
                total += part
            done = state
            if _stops(estimator, run, state, total / rows) or incremental:
                break
            if estimator.n_iter_ == estimator.max_iter:
                said = f"Stochastic Optimizer: Maximum iterations ({estimator.max_iter}) reached and the"
                warnings.warn(f"{said} optimization hasn't converged yet.", ConvergenceWarning, stacklevel=2)
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=2)
    return done


def _stops(estimator: "BaseMLP", run: Run, state: State, loss: float) -> bool:
    """Keep the books at the end of an epoch, and find out whether it was the last."""
    estimator.n_iter_ += 1
    estimator.t_ += run.feed.rows
    estimator.loss_ = loss
    estimator.loss_curve_.append(loss)
    if estimator.verbose:
        print(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
    if estimator.progress:
        print(f"\repoch {estimator.n_iter_}/{estimator.max_iter}  loss {loss:.5f} ", end="", file=sys.stderr)
    score = _validated(estimator, run, state)
    if estimator.early_stopping:
        better = _scored(estimator, run, state, score)
    else:
        assert estimator.best_loss_ is not None
        better = not loss > estimator.best_loss_ - estimator.tol
        if loss < estimator.best_loss_:  # which NaN is not
            estimator.best_loss_ = loss
    estimator._no_improvement_count = 0 if better else estimator._no_improvement_count + 1
    estimator._optimizer.epoch_ends(estimator)
    if estimator._no_improvement_count <= estimator.n_iter_no_change:
        return False
    what = "Validation score" if estimator.early_stopping else "Training loss"
    said = f"{what} did not improve more than tol={estimator.tol:f} for {estimator.n_iter_no_change:d}"
    if estimator._optimizer.stops(estimator, f"{said} consecutive epochs."):
        return True
    estimator._no_improvement_count = 0
    return False


def _scored(estimator: "BaseMLP", run: Run, state: State, score: float) -> bool:
    """Keep the best weights, and tell whether the score has improved."""
    assert estimator.validation_scores_ is not None
    assert estimator.best_validation_score_ is not None
    estimator.validation_scores_.append(score)
    if estimator.verbose:
        print(f"Validation score: {score:f}")
    best = estimator.best_validation_score_
    if score > best:
        estimator.best_validation_score_ = score
        estimator._best = run.model.backend.copy(run.parameters(state))
    return not score < best + estimator.tol


def _validated(estimator: "BaseMLP", run: Run, state: State) -> float:
    """Score the rows to validate with, if there are any, and add their loss to its curve."""
    feed = run.validation or run.feed
    rows = feed.held if run.validation is None else feed.training
    if not len(rows):
        return float("nan")
    try:
        found = evaluate_parts(run.model, run.evaluation_step, run.parameters(state), feed.parts(rows))
    except DivergedError:
        loss = score = float("nan")
    else:
        loss, score = found.loss, estimator._score_of(found.totals, feed.examples, rows)
    estimator.validation_loss_curve_ = [*(estimator.validation_loss_curve_ or []), loss]
    return score
