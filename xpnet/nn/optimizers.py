"""Optimizers: how the gradient changes the parameters.

An optimizer is a frozen value with two methods. `memory` creates the arrays that it remembers between steps;
they go into the state under names of their own. `update` changes the parameters once. The step owns the
parameters and the memory, so `update` changes them in place where the library can.

Weight decay adds weight_decay * W to the gradient of every weight, as in torch.optim. This is the gradient of
(weight_decay / 2) |W|^2, a term that the reported loss does not include. Biases do not decay.
"""

from dataclasses import dataclass
from typing import TypeAlias

from xpnet.nn.network import is_weight
from xpnet.nn.typing import Array, Namespace, State


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: W <- W - lr dW.

    With momentum mu, the velocity v <- mu v + dW replaces dW (Polyak, 1964). Nesterov's momentum uses
    dW + mu v instead (Sutskever et al., "On the importance of initialization and momentum", 2013).
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def memory(self, xp: Namespace, parameters: State) -> State:
        """Create a velocity of zeros for each parameter, or nothing without momentum."""
        if not self.momentum:
            return {}
        return {f"velocity.{name}": xp.zeros_like(W) for name, W in parameters.items()}

    def update(self, xp: Namespace, state: State, gradients: State, lr: Array) -> State:
        """Change the parameters once, and return the new state. `lr` is an array of shape (1,)."""
        for name, dW in gradients.items():
            W = state[name]
            if self.weight_decay and is_weight(name):
                dW += self.weight_decay * W
            if self.momentum:
                v = state[f"velocity.{name}"]
                v *= self.momentum
                v += dW
                state[f"velocity.{name}"] = v
                W -= lr * (dW + self.momentum * v if self.nesterov else v)
            else:
                dW *= lr  # in place: lr * dW would be another array as large as W
                W -= dW
            state[name] = W
        return state


@dataclass(frozen=True)
class Adam:
    """Adam: W <- W - lr m / (sqrt(s) + epsilon), so that every weight has a step size of its own.

    m and s are running means of dW and of dW^2. Both start at zero, so each is too small at first and is
    divided by its correction c <- beta c + (1 - beta). In exact arithmetic c is 1 - beta^t, but float32 loses
    five digits of that expression. Kingma and Ba, "Adam", 2015, algorithm 1.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def memory(self, xp: Namespace, parameters: State) -> State:
        """Create both means of each parameter, and the two corrections (1,), all zero."""
        memory = {f"mean.{name}": xp.zeros_like(W) for name, W in parameters.items()}
        memory |= {f"square.{name}": xp.zeros_like(W) for name, W in parameters.items()}
        one = next(iter(parameters.values()))
        c = xp.zeros_like(xp.reshape(one, (-1,))[:1])
        return memory | {"mean.share": c, "square.share": xp.zeros_like(c)}

    def update(self, xp: Namespace, state: State, gradients: State, lr: Array) -> State:
        """Change the parameters once, and return the new state. `lr` is an array of shape (1,)."""
        c1 = state["mean.share"]
        c1 *= self.beta1
        c1 += 1.0 - self.beta1
        c2 = state["square.share"]
        c2 *= self.beta2
        c2 += 1.0 - self.beta2
        state |= {"mean.share": c1, "square.share": c2}
        for name, dW in gradients.items():
            W = state[name]
            if self.weight_decay and is_weight(name):
                dW += self.weight_decay * W
            m, s = state[f"mean.{name}"], state[f"square.{name}"]
            m *= self.beta1
            m += (1.0 - self.beta1) * dW
            s *= self.beta2
            s += (1.0 - self.beta2) * dW * dW
            W -= lr / c1 * m / (xp.sqrt(s / c2) + self.epsilon)
            state |= {name: W, f"mean.{name}": m, f"square.{name}": s}
        return state


Optimizer: TypeAlias = SGD | Adam

OPTIMIZERS: dict[str, type[SGD] | type[Adam]] = {"sgd": SGD, "adam": Adam}
