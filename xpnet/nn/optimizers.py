"""Optimizers: how the gradient changes the parameters.

An optimizer is a frozen value with two methods. `memory` creates the arrays that it remembers between steps;
they go into the state under names of their own. `update` changes the parameters once. The step owns the
parameters and the memory, so `update` changes them in place where the library can. An update of SGD is linear
in the gradient; so it has `descend` besides, which takes lr dW and need not make the gradients of weights.

Weight decay pulls every weight towards zero; biases do not decay. SGD and Adam add weight_decay * W to the
gradient of a weight, as in torch.optim. This is the gradient of (weight_decay / 2) |W|^2, a term that the
reported loss does not include (for one that it does include, see `TrainingStep`). A decoupled decay,
W <- W - lr weight_decay W, changes the weight directly, so it never enters the optimizer's memory.
"""

from dataclasses import dataclass
from typing import TypeAlias

from xpnet.nn.dense import Product
from xpnet.nn.network import is_weight
from xpnet.nn.typing import Array, Namespace, State


def subtract(xp: Namespace, W: Array, dW: Array, kept: Array | None = None) -> Array:
    """W <- kept W - dW, where None keeps W whole.

    A library that can add a product straight to a matrix never makes dW: the namespace of its backend has a
    ``subtract_product`` of its own. This function is the definition, and the way of all others.

    Parameters
    ----------
    W
        Weights or a velocity; it is changed in place where the library can.
    dW
        An array, or a `Product`.
    kept : (1,)
        The part of W that is kept: an array, or a number.
    """
    if isinstance(dW, Product):
        if hasattr(xp, "subtract_product"):
            return xp.subtract_product(W, dW.A, dW.B, kept)
        dW = xp.matmul(xp.matrix_transpose(dW.A), dW.B)
    if kept is not None:
        W *= kept
    W -= dW
    return W


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: W <- W - lr dW.

    With momentum mu there is a velocity v <- mu v - lr dW, and W <- W + v (Polyak, 1964). Nesterov's momentum
    looks ahead: W <- W + mu v - lr dW (Sutskever et al., "On the importance of initialization and momentum",
    2013), computed as W + (1 + mu) v less mu times the velocity before, which is the same and needs dW once.
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    decoupled: bool = False

    def memory(self, xp: Namespace, parameters: State) -> State:
        """Create a velocity of zeros for each parameter, or nothing without momentum."""
        return {f"velocity.{name}": xp.zeros_like(W) for name, W in parameters.items() if self.momentum}

    def update(self, xp: Namespace, state: State, gradients: State, lr: Array) -> State:
        """Change the parameters once, and return the new state. `lr` is an array of shape (1,)."""
        return self.descend(xp, state, {name: lr * dW for name, dW in gradients.items()}, lr)

    def descend(self, xp: Namespace, state: State, steps: State, lr: Array) -> State:
        """The same for gradients times `lr`, where those of weights may be products."""
        for name, dW in steps.items():
            W = state[name]
            pull = lr * self.weight_decay if self.weight_decay and is_weight(name) else None
            if self.momentum:
                v = state[f"velocity.{name}"]
                before = v * self.momentum if self.nesterov else None
                v = subtract(xp, v, dW, self.momentum)
                if pull is not None and self.decoupled:
                    W *= 1.0 - pull
                elif pull is not None:
                    v -= pull * W
                W += v if before is None else (1.0 + self.momentum) * v - before
                state |= {name: W, f"velocity.{name}": v}
            else:
                state[name] = subtract(xp, W, dW, None if pull is None else 1.0 - pull)
        return state


@dataclass(frozen=True)
class Adam:
    """Adam: W <- W - lr m / (sqrt(s) + epsilon), so that every weight has a step size of its own.

    m and s are running sums of dW and of dW^2, in which every step counts beta times as much as the next.
    Divided by the running count c <- beta c + 1, they are the corrected means of Kingma and Ba, "Adam", 2015,
    algorithm 1. In exact arithmetic c is (1 - beta^t) / (1 - beta), but float32 loses five digits of that
    expression.

    Parameters
    ----------
    decoupled
        Whether the weight decay is decoupled. This is AdamW: Loshchilov and Hutter, "Decoupled weight decay
        regularization", 2019.
    corrected_epsilon
        Whether epsilon is added to the corrected root, sqrt(s / c), as in algorithm 1. Otherwise it is added
        to sqrt(s) before the correction, as at the end of section 2 of the paper and in scikit-learn.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    decoupled: bool = False
    corrected_epsilon: bool = True

    def memory(self, xp: Namespace, parameters: State) -> State:
        """Create both sums of each parameter, and their counts (1,), all zero."""
        memory = {
            f"{kind}.{name}": xp.zeros_like(W)
            for kind in ("sum", "squares")
            for name, W in parameters.items()
        }
        one = next(iter(parameters.values()))
        c = xp.zeros_like(xp.reshape(one, (-1,))[:1])
        return memory | {"sum.count": c, "squares.count": xp.zeros_like(c)}

    def update(self, xp: Namespace, state: State, gradients: State, lr: Array) -> State:
        """Change the parameters once, and return the new state. `lr` is an array of shape (1,)."""
        c1 = self.beta1 * state["sum.count"] + 1.0
        c2 = self.beta2 * state["squares.count"] + 1.0
        state |= {"sum.count": c1, "squares.count": c2}
        root = xp.sqrt(c2)
        epsilon = self.epsilon * root if self.corrected_epsilon else self.epsilon / (1.0 - self.beta2) ** 0.5
        for name, dW in gradients.items():
            W = state[name]
            if self.weight_decay and is_weight(name):
                if self.decoupled:
                    W -= lr * self.weight_decay * W
                else:
                    dW += self.weight_decay * W
            m, s = state[f"sum.{name}"], state[f"squares.{name}"]
            m *= self.beta1
            m += dW
            s *= self.beta2
            dW *= dW
            s += dW
            # lr (m / c1) / (sqrt(s / c2) + epsilon), but the large arrays are divided only once
            W -= lr * root / c1 * (m / (xp.sqrt(s) + epsilon))
            state |= {name: W, f"sum.{name}": m, f"squares.{name}": s}
        return state


Optimizer: TypeAlias = SGD | Adam


def clip_by_norm(xp: Namespace, gradients: State, largest: float) -> State:
    """Scale all gradients by one factor, so that their norm together is at most `largest`.

    Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks", 2013, algorithm 1.
    """
    # by columns first: one long sum of float32 loses digits where a library adds up number by number
    squares = [xp.reshape(xp.sum(dW * dW, axis=0), (-1,)) for dW in gradients.values()]
    norm = xp.sqrt(xp.sum(xp.concat(squares), axis=0, keepdims=True))
    factor = largest / xp.maximum(norm, largest)
    return {name: dW * factor for name, dW in gradients.items()}


OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam, "adamw": Adam}
