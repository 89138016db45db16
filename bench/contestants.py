"""Contestants: xpnet, the floor of each library, and what a user would pick, as its documentation teaches."""

from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any

import numpy as np
import ours
from trainer import Setting, Trainer, Weights, classes_of


class Beginner(Trainer):
    """The formulae in NumPy, as a textbook writes them."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.X = setting.X.astype(np.float32) / 255
        self.Y = np.eye(setting.sizes[-1], dtype=np.float32)[setting.y]

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        W, b = self.parameters[::2], self.parameters[1::2]
        for rows, lr in zip(batches, rates, strict=True):
            A, Z = [self.X[rows]], []
            for layer in range(len(W)):
                Z.append(A[-1] @ W[layer] + b[layer])
                A.append(np.maximum(Z[-1], 0))
            E = np.exp(Z[-1] - Z[-1].max(axis=1, keepdims=True))
            P = E / E.sum(axis=1, keepdims=True)
            float(-np.mean(np.sum(self.Y[rows] * np.log(P), axis=1)))
            dZ = P - self.Y[rows]
            for layer in reversed(range(len(W))):
                dW, db = A[layer].T @ dZ / len(rows), dZ.sum(axis=0) / len(rows)
                if layer:
                    dZ = (dZ @ W[layer].T) * (Z[layer - 1] > 0)
                W[layer] = W[layer] - lr * dW
                b[layer] = b[layer] - lr * db
        self.parameters[::2], self.parameters[1::2] = W, b

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        weights = self.weights()
        return lambda: classes_of(weights, X)


class ScikitLearn(Trainer):
    """MLPClassifier by plain SGD. It draws its own batches, and its learning rate is constant."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.X = setting.X.astype(np.float32) / 255

    def begin(self, weights: Weights) -> None:
        from sklearn.neural_network import MLPClassifier

        setting = self.setting
        options = {"solver": "sgd", "momentum": 0.0, "alpha": 0.0, "learning_rate_init": setting.lr}
        self.net = MLPClassifier(setting.sizes[1:-1], batch_size=setting.m, **options)
        self.epoch(np.empty((1, setting.m)), np.empty(1))  # makes the arrays
        super().begin(weights)
        self.net.coefs_, self.net.intercepts_ = self.parameters[::2], self.parameters[1::2]

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        X, y = self.X[: batches.size], self.setting.y[: batches.size]
        self.net.partial_fit(X, y, classes=np.arange(self.setting.sizes[-1]))  # updates the arrays in place

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        return lambda: self.net.predict(X)


class TorchEager(Trainer):
    """Autograd and torch.optim on tensors that are on the device and scaled, as PyTorch's tutorials teach."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        import torch

        torch.set_float32_matmul_precision("highest")
        self.torch: Any = torch
        self.device = setting.device
        self.X = torch.from_numpy(setting.X).to(self.device).float() / 255
        self.y = torch.from_numpy(setting.y).to(self.device).long()
        layers: list[Any] = []
        for fan_in, fan_out in pairwise(setting.sizes):
            layers += [torch.nn.Linear(fan_in, fan_out), torch.nn.ReLU()]
        self.net: Any = torch.nn.Sequential(*layers[:-1]).to(self.device)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=setting.lr)

    def begin(self, weights: Weights) -> None:
        with self.torch.no_grad():
            for parameter, name in zip(self.net.parameters(), self.names, strict=True):
                parameter.copy_(self.torch.from_numpy(weights[name].T))  # a Linear holds W transposed

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        before = np.nan
        for (X, y), lr in zip(self.drawn(batches), rates.tolist(), strict=True):
            if lr != before:
                self.set_rate(lr)
                before = lr
            self.train(X, y)
        if self.device != "cpu":
            self.torch.cuda.synchronize()

    def drawn(self, batches: np.ndarray) -> Any:
        """The rows and labels of each batch."""
        order = self.torch.from_numpy(batches).to(self.device).long()
        return ((self.X[rows], self.y[rows]) for rows in order)

    def set_rate(self, lr: float) -> None:
        self.optimizer.param_groups[0]["lr"] = lr

    def train(self, X: Any, y: Any) -> None:
        self.optimizer.zero_grad()
        self.torch.nn.functional.cross_entropy(self.net(X), y).backward()
        self.optimizer.step()

    def weights(self) -> Weights:
        tensors = self.parameters or [parameter.detach().t() for parameter in self.net.parameters()]
        return {name: tensor.cpu().numpy().copy() for name, tensor in zip(self.names, tensors, strict=True)}

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        """Predict under inference mode."""
        rows = self.torch.from_numpy(X)
        predict: Callable[[], Any] = self.torch.inference_mode()(lambda: self.net(rows).argmax(1))
        return predict


class TorchLoader(TorchEager):
    """The same, fed by a DataLoader, which draws its own batches."""

    def drawn(self, batches: np.ndarray) -> Any:
        from torch.utils.data import DataLoader, TensorDataset

        loader = DataLoader(TensorDataset(self.X, self.y), batch_size=self.setting.m, shuffle=True)
        return islice(loader, len(batches))


class TorchCompiled(TorchEager):
    """The same with the network under torch.compile. Its mode for small batches captures graphs on a GPU."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.torch.compiler.reset()  # or a second batch size would be taken for one that keeps changing
        self.net = self.torch.compile(self.net, mode=None if self.device == "cpu" else "reduce-overhead")


class TorchByHand(TorchEager):
    """The formulae without autograd, in place where that is possible: the best code for this library."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.X = self.torch.from_numpy(setting.X).to(self.device)  # bytes: less to gather
        self.total = self.torch.zeros((), device=self.device)

    def begin(self, weights: Weights) -> None:
        self.parameters = [self.torch.tensor(weights[name], device=self.device) for name in self.names]

    def set_rate(self, lr: float) -> None:
        self.lr = lr

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        with self.torch.no_grad():
            super().epoch(batches, rates)

    def train(self, X: Any, y: Any) -> None:
        torch, lr, W, b = self.torch, self.lr, self.parameters[::2], self.parameters[1::2]
        A = [X.to(torch.float32).div_(255)]
        for layer in range(len(W)):
            A.append(torch.addmm(b[layer], A[-1], W[layer]))
            if layer < len(W) - 1:
                A[-1].relu_()
        log_P = torch.log_softmax(A[-1], 1)
        truth = y.unsqueeze(1)
        self.total -= log_P.gather(1, truth).sum()
        dZ = log_P.exp_()
        dZ.scatter_add_(1, truth, torch.full(truth.shape, -1.0, device=self.device)).mul_(1 / len(y))
        for layer in reversed(range(len(W))):
            dA = (dZ @ W[layer].T).mul_(A[layer] > 0) if layer else dZ
            W[layer].addmm_(A[layer].T, dZ, alpha=-lr)
            b[layer].sub_(dZ.sum(0), alpha=lr)
            dZ = dA


class JaxScan(Trainer):
    """All steps of a call under `jit` and `lax.scan`, differentiated by JAX: its best code."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        import jax
        import jax.numpy as jnp

        self.jax, self.device = jax, jax.devices(setting.device)[0]
        jax.config.update("jax_default_matmul_precision", "highest")
        self.data = jax.device_put((setting.X, setting.y.astype(np.int32)), self.device)

        def logits(parameters: Any, X: Any) -> Any:
            for W, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
                X = jax.nn.relu(X @ W + b)
            return X @ parameters[-2] + parameters[-1]

        def loss(parameters: Any, X: Any, y: Any) -> Any:
            log_P = jax.nn.log_softmax(logits(parameters, X))
            return -jnp.mean(jnp.take_along_axis(log_P, y[:, None], axis=1))

        def step(parameters: Any, data: Any, rows: Any, lr: Any) -> Any:
            X = jnp.take(data[0], rows, axis=0, mode="clip").astype(jnp.float32) / 255
            y = jnp.take(data[1], rows, mode="clip")
            value, gradients = jax.value_and_grad(loss)(parameters, X, y)
            return jax.tree.map(lambda p, g: p - lr * g, parameters, gradients), value

        def scan(parameters: Any, data: Any, batches: Any, rates: Any) -> Any:
            return jax.lax.scan(lambda p, now: step(p, data, *now), parameters, (batches, rates))

        self.step, self.scan = (jax.jit(function, donate_argnums=0) for function in (step, scan))
        self.classes = jax.jit(lambda parameters, X: jnp.argmax(logits(parameters, X), axis=1))

    def place(self, array: np.ndarray) -> Any:
        return self.jax.device_put(array, self.device)

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        moved = self.jax.device_put((batches, rates), self.device)
        self.parameters, _ = self.jax.block_until_ready(self.scan(self.parameters, self.data, *moved))

    def predictor(self, X: np.ndarray) -> Callable[[], Any]:
        """Compile for this number of rows."""
        rows = self.jax.device_put(X, self.device)
        return lambda: self.jax.block_until_ready(self.classes(self.parameters, rows))


class JaxJit(JaxScan):
    """The same, with one jitted call for each step."""

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        for rows, lr in zip(batches, rates, strict=True):
            self.parameters, _ = self.step(self.parameters, self.data, rows, lr)
        self.jax.block_until_ready(self.parameters)


class Floor(Trainer):
    """The matrix products of a step alone, dW included, which a step that never stores dW can be faster than.

    Their results go into memory that is kept, where the library allows that, so that nothing else is timed.
    """

    def __init__(self, setting: Setting, library: str) -> None:
        super().__init__(setting)
        self.backend = ours.get_backend(setting.device, library, [])
        A, dZ = ([self.ones(setting.m, size) for size in setting.sizes] for _ in range(2))
        W, dW = ([self.ones(*pair) for pair in pairwise(setting.sizes)] for _ in range(2))
        layers = range(len(W))
        self.products = [(A[l], W[l], A[l + 1]) for l in layers]
        self.products += [(A[l].T, dZ[l + 1], dW[l]) for l in layers]
        self.products += [(dZ[l + 1], W[l].T, dZ[l]) for l in layers[1:]]

    def ones(self, *shape: int) -> Any:
        """Make an array and write to it: pages that nobody has written to never leave the cache."""
        return self.backend.asarray(np.ones(shape, np.float32))

    def begin(self, weights: Weights) -> None:
        """Nothing to do."""

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        backend, matmul = self.backend, self.backend.module.matmul
        mlx = backend.name == "mlx"  # it takes no memory for its results, and computes when it is told to
        with backend.running("float32"):
            for _ in batches:
                made = [matmul(a, b) if mlx else matmul(a, b, out=out) for a, b, out in self.products]
                if mlx or backend.name == "dpnp":  # which can hang with many operations under way
                    backend.synchronize(dict(enumerate(made)))
            backend.synchronize({"last": made[-1]})

    def weights(self) -> Weights:
        return {}


class JaxFloor(Floor):
    """On JAX, in one compiled loop.

    XLA would leave out a product that nobody asks for, and move one that never changes out of the loop. So
    each depends on the one before it, the first weights are what the last round made, and every dW is kept.
    """

    def begin(self, weights: Weights) -> None:
        import jax

        def loop(steps: int, X: Any, W0: list[Any]) -> Any:
            def body(_: int, found: list[Any]) -> list[Any]:
                W, A = [found[0], *W0[1:]], [X]
                for w in W:
                    A.append(A[-1] @ w)
                dZ, dW = A[-1], [A[-2].T @ A[-1]]
                for l in range(len(W) - 1, 0, -1):
                    dZ = dZ @ W[l].T
                    dW.insert(0, A[l - 1].T @ dZ)
                return dW

            return jax.lax.fori_loop(0, steps, body, W0)

        self.loop = jax.jit(loop)
        self.X = self.products[0][0]
        self.W = [0 * W for _, W, _ in self.products[: len(self.setting.sizes) - 1]]  # zeros stay zeros

    def epoch(self, batches: np.ndarray, rates: np.ndarray) -> None:
        with self.backend.running("float32"):
            self.backend.module.block_until_ready(self.loop(len(batches), self.X, self.W))


CPU = ("numpy", "torch", "jax", "mlx", "dpnp")
"""Libraries that xpnet is measured on without a GPU."""

OTHERS: dict[str, Callable[[Setting], Trainer]] = {
    "torch eager": TorchEager,
    "torch by hand": TorchByHand,
    "torch compile": TorchCompiled,
    "torch DataLoader": TorchLoader,
    "jax jit": JaxJit,
    "jax scan": JaxScan,
    "scikit-learn": ScikitLearn,
    "numpy, a beginner's": Beginner,
}


def make(name: str, setting: Setting) -> Trainer:
    """Make a contestant by its name: "torch eager", "floor jax", "xpnet.train numpy", "xpnet torch bf16"."""
    if name in OTHERS:
        return OTHERS[name](setting)
    whose, library, *options = name.split()
    if whose == "floor":
        return JaxFloor(setting, library) if library == "jax" else Floor(setting, library)
    return (ours.Train if whose == "xpnet.train" else ours.Ours)(setting, library, options)
