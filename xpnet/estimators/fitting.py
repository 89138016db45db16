"""The stochastic solvers: scikit-learn's policy of epochs around the steps of our engine.

The steps are those of `xpnet.train`, and so are the runs. What is scikit-learn's own stands here: in which
order it draws, when it stops, when it lowers the rate, which weights it keeps, and what it says.
"""

import sys
import warnings
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

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
        return SGD(float(estimator.momentum), bool(estimator.nesterovs_momentum), decay, decoupled=True)
    betas = float(estimator.beta_1), float(estimator.beta_2)
    return Adam(*betas, float(estimator.epsilon), decay, decoupled=True, corrected_epsilon=False)


def feed_of(
    model: MLP, examples: Examples, rows: np.ndarray, held: np.ndarray, **constants: np.ndarray
) -> Feed:
    """The rows of a fit, which are on the device already, as a run takes them."""
    backend = model.backend
    constants |= {"classes": np.arange(model.outputs, dtype=np.int32)}
    data = {"X": examples.X} | {name: backend.asarray(array) for name, array in constants.items()}
    feed = Resident(model, examples, {}, rows, held, len(rows), len(held), model.dtype, data)
    data |= {name: backend.asarray(column) for name, column in feed.columns(slice(None)).items()}
    return feed


def make_run(
    estimator: "BaseMLP",
    loss: Loss,
    examples: Examples,
    rows: np.ndarray,
    held: np.ndarray,
    validation: Examples | None,
) -> Run:
    """The engine's run of a fit on some rows, which validates with `held` ones or with those of its own."""
    model, given = estimator.model_, estimator.dropout
    xp, network = model.backend.xp, model.network
    if estimator.batch_size != "auto" and estimator.batch_size > len(rows):
        said = "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
        warnings.warn(said, stacklevel=2)
    size = estimator._batch(len(rows))
    dropout = dropout_rates(tuple(given) if isinstance(given, list | tuple) else (given,), network.depth)
    constants = {"penalty": np.full(1, estimator.alpha, dtype=model.dtype)}
    if dropout:
        # drawn from a copy, so that nothing else is drawn differently
        seed = deepcopy(estimator._random_state).randint(2**31 - 1, size=1)
        places = np.arange(size * -(-max(network.sizes) // 4), dtype=np.int32)
        constants |= {"seed": seed.astype(np.int32), "places": places}
    feed, brought = feed_of(model, examples, rows, held, **constants), None
    if validation is not None:
        brought = feed_of(model, validation, np.arange(validation.rows, dtype=np.int32), held)
    optimizer, clip = optimizer_of(estimator), float(estimator.clip_norm or 0.0)
    weighted = examples.weights is not None
    step = TrainingStep(xp, network, loss, optimizer, 1.0, dropout, clip, mean_loss=weighted)
    judge = EvaluationStep(xp, network, loss)
    return Run(model, Settings(), feed, brought, size, -(-len(rows) // size), step, judge)


def hold_back(
    estimator: "BaseMLP", rows: np.ndarray, strata: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the rows to train on, and those that are held back for early stopping."""
    fraction, rng = estimator.validation_fraction, estimator._random_state
    training, held = train_test_split(rows, random_state=rng, test_size=fraction, stratify=strata)
    if len(held) < 2:
        said = "The validation set is too small. Increase 'validation_fraction' or the size of your"
        raise ValueError(f"{said} dataset.")
    return training, held


def fit_stochastic(
    estimator: "BaseMLP",
    loss: Loss,
    examples: Examples,
    strata: np.ndarray | None,
    validation: Examples | None,
    *,
    first: bool,
    incremental: bool,
) -> None:
    """Train the network of an estimator in epochs. Call it within ``model_.backend.running``.

    Parameters
    ----------
    strata
        What is to be held back in equal shares, for early stopping.
    validation
        Rows to validate with, instead of some that are held back.
    first
        Whether nothing was learned before.
    incremental
        Take one epoch, and go on from the memory of the optimizer.
    """
    if not incremental or not hasattr(estimator, "_optimizer"):
        estimator._optimizer = Solver(float(estimator.learning_rate_init))
    if estimator.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    rows = np.arange(examples.rows, dtype=np.int32)
    held = rows[:0]
    if estimator.early_stopping and validation is None:
        rows, held = hold_back(estimator, rows, strata)
    run = make_run(estimator, loss, examples, rows, held, validation)
    state = run.begin().state | estimator._optimizer.memory
    # as in scikit-learn, a later fit that makes no progress ends with its last weights
    epochs = Epochs(estimator, run, run.model.backend.copy(run.parameters(state)) if first else {})
    state = epochs.run_all(state, 1 if incremental else estimator.max_iter)
    parameters = run.parameters(state)
    estimator._optimizer.memory = {name: array for name, array in state.items() if name not in parameters}
    run.model.parameters = epochs.best if estimator.early_stopping and epochs.best else parameters


@dataclass
class Epochs:
    """scikit-learn's policy of epochs.

    Attributes
    ----------
    estimator, run
        Whose, and the run of the engine that takes the steps.
    best
        The parameters with the best score on the validation rows so far.
    """

    estimator: "BaseMLP"
    run: Run
    best: State

    def run_all(self, state: State, most: int) -> State:
        """Take epochs until the policy is to stop, and return the state after the last."""
        est, run = self.estimator, self.run
        order, done, est.n_iter_ = run.feed.training, state, 0
        try:
            for _ in range(most):
                # a copy, because an interrupt may come in the middle of a step
                done = run.model.backend.copy(state)
                if est.shuffle:
                    drawn = np.arange(len(order))
                    est._random_state.shuffle(drawn)
                    order = order[drawn]
                total = 0.0
                for chunk in run.chunks(order):
                    rates = np.full(len(chunk), est._optimizer.learning_rate)
                    state, loss = run.advance(state, chunk, rates, run.feed.data)
                    total += loss
                done = state
                if self.ends(state, total / len(order)):
                    break
                if est.n_iter_ == est.max_iter:
                    said = f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the"
                    said += " optimization hasn't converged yet."
                    warnings.warn(said, ConvergenceWarning, stacklevel=2)
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=2)
        if est.progress:
            print(file=sys.stderr)
        return done

    def ends(self, state: State, loss: float) -> bool:
        """Keep the books after an epoch, and find out whether it was the last."""
        est = self.estimator
        est.n_iter_ += 1
        est.t_ += self.run.feed.rows
        est.loss_ = loss
        est.loss_curve_.append(loss)
        if est.verbose:
            print(f"Iteration {est.n_iter_}, loss = {loss:.8f}")
        if est.progress:
            bar = "#" * (30 * est.n_iter_ // est.max_iter)
            print(f"\r{bar:-<30} {est.n_iter_}/{est.max_iter}, loss {loss:.5f}", end="", file=sys.stderr)
        score = self.validated(state)
        if est.early_stopping:
            better = self.scored(state, score)
        else:
            better = not loss > est.best_loss_ - est.tol
            est.best_loss_ = loss if loss < est.best_loss_ else est.best_loss_  # which NaN never is
        est._no_improvement_count = 0 if better else est._no_improvement_count + 1
        est._optimizer.epoch_ends(est)
        if est._no_improvement_count <= est.n_iter_no_change:
            return False
        what = "Validation score" if est.early_stopping else "Training loss"
        said = f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change} consecutive"
        if est._optimizer.stops(est, f"{said} epochs."):
            return True
        est._no_improvement_count = 0
        return False

    def scored(self, state: State, score: float) -> bool:
        """Keep the best weights, and tell whether the score has improved."""
        est = self.estimator
        est.validation_scores_.append(score)
        if est.verbose:
            print(f"Validation score: {score:f}")
        better = not score < est.best_validation_score_ + est.tol
        if score > est.best_validation_score_:
            est.best_validation_score_ = score
            self.best = self.run.model.backend.copy(self.run.parameters(state))
        return better

    def validated(self, state: State) -> float:
        """Score the validation rows, where there are any, and add their loss to its curve."""
        est, run = self.estimator, self.run
        feed = run.validation or run.feed
        rows = run.feed.held if run.validation is None else feed.training
        if not len(rows):
            return float("nan")
        try:
            found = evaluate_parts(run.model, run.evaluation_step, run.parameters(state), feed.parts(rows))
            loss, score = found.loss, est._score_of(found.totals, feed.examples, rows)
        except DivergedError:
            loss = score = float("nan")
        est.validation_loss_curve_ = [*(est.validation_loss_curve_ or []), loss]
        return score
