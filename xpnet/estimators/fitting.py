"""The stochastic solvers: scikit-learn's policy of epochs around the steps of our engine.

The steps are those of `xpnet.train`, and so are the runs. What is scikit-learn's own stands here: in which
order it draws, when it stops, when it lowers the rate, which weights it keeps, and what it says.
"""

import sys
import warnings
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

from xpnet.errors import DivergedError
from xpnet.model import MLP
from xpnet.nn.losses import LOSSES, squared_error
from xpnet.nn.optimizers import SGD, Adam, Optimizer
from xpnet.nn.step import EvaluationStep, TrainingStep
from xpnet.nn.typing import Array, Namespace, State
from xpnet.training.evaluation import evaluate_parts
from xpnet.training.feed import Feed, Resident
from xpnet.training.identity import fingerprint, refuse_differences
from xpnet.training.inputs import Examples
from xpnet.training.run import Run
from xpnet.training.settings import Settings, dropout_rates

LEAST_RATE = 1e-6
"""A rate of this size or less is not lowered any more."""


def mean_squared_error(xp: Namespace, Z: Array, T: Array) -> tuple[Array, Array]:
    """The loss that scikit-learn reports: the mean over the numbers. It differentiates the sum, as we do."""
    losses, A = squared_error(xp, Z, T)
    return losses / Z.shape[1], A


REPORTED = LOSSES | {"squared-error": replace(LOSSES["squared-error"], forward=mean_squared_error)}
"""The losses, as scikit-learn reports them."""


def optimizer_of(estimator: Any) -> Optimizer:
    """The optimizer of the parameters of an estimator."""
    decay = float(estimator.weight_decay)
    if estimator.solver == "sgd":
        return SGD(float(estimator.momentum), bool(estimator.nesterovs_momentum), decay, decoupled=True)
    betas = float(estimator.beta_1), float(estimator.beta_2)
    # float32 has no smaller number, and a gradient of 0 must not be divided by 0
    epsilon = max(float(estimator.epsilon), float(np.finfo(estimator.model_.dtype).tiny))
    return Adam(*betas, epsilon, decay, decoupled=True, corrected_epsilon=False)


class Rows(Resident):
    """The rows of a fit, moved to the device at once: some to train on, some to validate with.

    Parameters
    ----------
    training, held
        The numbers of the rows.
    constants
        What a step needs in its data besides, on the host.
    """

    def __init__(
        self, model: MLP, examples: Examples, training: np.ndarray, held: np.ndarray, constants: State
    ) -> None:
        Feed.__init__(self, model, examples, {})
        self.training, self.held, self.dtype = training, held, model.dtype
        self.rows, self.held_rows = len(training), len(held)
        small = {"classes": np.arange(model.outputs, dtype=np.int32)} | constants | self.columns(slice(None))
        self.data = {name: model.backend.asarray(x) for name, x in small.items()} | {"X": examples.X}
        if isinstance(examples.X, np.ndarray) and model.backend.name != "numpy":
            self.data["X"] = model.backend.asarray(examples.X)


def fit_stochastic(est: Any, examples: Examples, validation: Examples | None, incremental: bool) -> None:
    """Train the network of an estimator in epochs. Call it within ``model_.backend.running``.

    Parameters
    ----------
    validation
        Rows to validate with, instead of some that are held back.
    incremental
        Take one epoch, and go on from the memory of the optimizer.
    """
    if not incremental or not hasattr(est, "_memory"):
        est._rate, est._memory = float(est.learning_rate_init), {}
    if est.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    model, rows, held = est.model_, np.arange(examples.rows, dtype=np.int32), np.arange(0)
    if est.early_stopping and validation is None:
        two = model.loss == "binary-cross-entropy" and model.outputs == 1
        how = {"random_state": est._random_state, "stratify": examples.y.astype(bool) if two else None}
        rows, held = train_test_split(rows, test_size=est.validation_fraction, **how)
        if len(held) < 2:
            said = "The validation set is too small. Increase 'validation_fraction' or the size of your"
            raise ValueError(f"{said} dataset.")
    weights = examples.weights
    for part in (rows, held):
        if weights is not None and len(part) and not weights[part].any():
            said = "Sample weights must contain at least one non-zero number"
            raise ValueError(f"{said}, among the rows that early_stopping holds back as well.")
    if est.batch_size != "auto" and est.batch_size > len(rows):
        said = "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped"
        warnings.warn(said, stacklevel=2)
    run = FitRun(est, examples, rows, held, validation)
    state = run.begin().state | est._memory
    if not est.t_:  # as in scikit-learn, a later fit that makes no progress ends with its last weights
        run.best = model.backend.copy(run.parameters(state))
    state = run.epochs(state, incremental)
    parameters = run.parameters(state)
    est._memory = {name: array for name, array in state.items() if name not in parameters}
    model.parameters = run.best if est.early_stopping and run.best else parameters


class FitRun(Run):
    """The run of a fit, in scikit-learn's epochs.

    Attributes
    ----------
    estimator
        Whose fit it is.
    best
        The parameters with the best score on the validation rows so far.
    watched
        The feed whose held rows are for validation.
    """

    def __init__(
        self,
        est: Any,
        examples: Examples,
        rows: np.ndarray,
        held: np.ndarray,
        validation: Examples | None = None,
    ) -> None:
        self.best: State = {}
        self.estimator, self.model = est, est.model_
        model, xp, network = self.model, self.model.backend.xp, self.model.network
        loss = REPORTED[model.loss]
        self.batch_size = est._batch(len(rows))
        self.steps_per_epoch = -(-len(rows) // self.batch_size)
        dropout = dropout_rates(Settings(dropout=est.dropout).dropout, network.depth)
        constants = {"penalty": np.full(1, est.alpha, dtype=model.dtype)}
        if dropout:  # the seed comes from a copy, so that nothing else is drawn differently
            seed = deepcopy(est._random_state).randint(2**31 - 1, size=1)
            places = np.arange(self.batch_size * -(-max(network.sizes) // 4), dtype=np.int32)
            constants |= {"seed": seed.astype(np.int32), "places": places}
        self.feed = self.watched = Rows(model, examples, rows, held, constants)
        if validation is not None:
            self.watched = Rows(model, validation, rows[:0], np.arange(validation.rows, dtype=np.int32), {})
        optimizer, clip = optimizer_of(est), float(est.clip_norm or 0.0)
        weighted = examples.weights is not None
        total, group = model.backend.total(), model.backend.group
        if group.size > 1:
            refuse_differences(group.all({"rows": fingerprint(examples)}))
        self.step = TrainingStep(xp, network, loss, optimizer, 1.0, dropout, clip, weighted, total=total)
        self.evaluation_step = EvaluationStep(xp, network, loss)

    def epochs(self, state: State, incremental: bool) -> State:
        """Take epochs until the policy is to stop, and return the state after the last."""
        est, order, done = self.estimator, self.feed.training, state
        est.n_iter_ = 0
        try:
            for _ in range(est.max_iter):
                # a copy, because an interrupt may come in the middle of a step
                done = self.model.backend.copy(state)
                if est.shuffle:
                    drawn = np.arange(len(order))
                    est._random_state.shuffle(drawn)
                    order = order[drawn]
                total = 0.0
                part = self.feed.sample()
                for chunk in self.chunks(order):
                    rates = np.full(len(chunk), est._rate)
                    state, loss = self.advance(state, chunk, rates, part)
                    total += loss
                done = state
                if self.ends(state, total / len(order)) or incremental:
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
        est.t_ += self.feed.rows
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
        if (est.solver, est.learning_rate) == ("sgd", "invscaling"):
            est._rate = float(est.learning_rate_init) / (est.t_ + 1) ** est.power_t
        if est._no_improvement_count <= est.n_iter_no_change:
            return False
        what = "Validation score" if est.early_stopping else "Training loss"
        said = f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change} consecutive"
        return self.stops(f"{said} epochs.")

    def stops(self, said: str) -> bool:
        """Stop, or lower an adaptive rate and go on."""
        est = self.estimator
        adaptive = (est.solver, est.learning_rate) == ("sgd", "adaptive")
        stop = not adaptive or est._rate <= LEAST_RATE
        if stop:
            said += " Learning rate too small. Stopping." if adaptive else " Stopping."
        else:
            est._rate, est._no_improvement_count = est._rate / 5.0, 0
            said += f" Setting learning rate to {est._rate:f}"
        if est.verbose:
            print(said)
        return stop

    def scored(self, state: State, score: float) -> bool:
        """Keep the best weights, and tell whether the score has improved."""
        est = self.estimator
        est.validation_scores_.append(score)
        if est.verbose:
            print(f"Validation score: {score:f}")
        better = not score < est.best_validation_score_ + est.tol
        if score > est.best_validation_score_:
            est.best_validation_score_ = score
            self.best = self.model.backend.copy(self.parameters(state))
        return better

    def validated(self, state: State) -> float:
        """Score the validation rows, where there are any, and add their loss to its curve."""
        est, feed = self.estimator, self.watched
        if not feed.held_rows:
            return float("nan")
        parts = feed.parts(feed.held)
        try:
            found = evaluate_parts(self.model, self.evaluation_step, self.parameters(state), parts)
            loss, score = found.loss, float(est._score_of(found.totals, feed.examples, feed.held))
        except DivergedError:
            loss = score = float("nan")
        est.validation_loss_curve_ = [*(est.validation_loss_curve_ or []), loss]
        return score
