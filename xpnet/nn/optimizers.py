"""How a gradient becomes a step.

An optimizer is a value: its numbers, and two functions. `memory` makes what it remembers between steps, as
arrays under names of their own in the flat state; `update` takes one step. Parameters and memory belong to
the step, so they are updated in place where the library can.

Weight decay adds weight_decay * W to the gradient of a weight: the gradient of (weight_decay / 2) |W|^2, as
in torch.optim. It is the optimizer's own, so the loss that is reported does not hold it. Biases do not decay.
"""

from dataclasses import dataclass
from typing import TypeAlias

from xpnet.nn.network import is_weight
from xpnet.nn.typing import Array, Namespace, State


@dataclass(frozen=True)
class SGD:
    """Stochastic gradient descent: W <- W - lr dW.

    With momentum mu, a velocity v <- mu v + dW takes the place of dW (Polyak, 1964); Nesterov's form looks
    ahead with dW + mu v (Sutskever et al., "On the importance of initialization and momentum", 2013).
    """

    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def memory(self, xp: Namespace, parameters: State) -> State:
        """One velocity for each parameter, zero at first; nothing without momentum."""
        if not self.momentum:
            return {}
        return {f"velocity.{name}": xp.zeros_like(W) for name, W in parameters.items()}

    def update(self, xp: Namespace, state: State, gradients: State, lr: Array) -> State:
        """Take one step; `lr` is an array (1,). Returns the new state."""
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
                dW *= lr  # in place, because lr * dW would be as large as W once more
                W -= dW
            state[name] = W
        return state


@dataclass(frozen=True)
class Adam:
    """A step of its own size for every weight: W <- W - lr m / (sqrt(s) + epsilon).

    m and s are running means of dW and dW^2. Both start at zero, so each is divided by the share c of real
    gradients in it, c <- beta c + (1 - beta); written so, and not as 1 - beta^t, because float32 would lose
    five digits of the latter. Kingma and Ba, "Adam", 2015, algorithm 1.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0

    def memory(self, xp: Namespace, parameters: State) -> State:
        """Both means for each parameter, and the two shares (1,) that correct them."""
        memory = {f"mean.{name}": xp.zeros_like(W) for name, W in parameters.items()}
        memory |= {f"square.{name}": xp.zeros_like(W) for name, W in parameters.items()}
        one = next(iter(parameters.values()))
        c = xp.zeros_like(xp.reshape(one, (-1,))[:1])
        return memory | {"mean.share": c, "square.share": xp.zeros_like(c)}

    def update(self, xp: Namespace, state: State, gradients: State, lr: Array) -> State:
        """Take one step; `lr` is an array (1,). Returns the new state."""
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
