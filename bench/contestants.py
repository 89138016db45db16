"""The runners of `speed.py`: us, and what a user would pick instead, each as its own documentation teaches.

A contestant takes the network's sizes, the batch size m, rows and labels, and returns a function that runs so
many steps of an epoch, on whole batches of newly mixed rows, and waits for their end. Each computes the loss
of every batch. What compiles, compiles in the first call with a number of steps.
"""

from collections.abc import Callable, Iterator
from itertools import islice, pairwise
from typing import Any

import numpy as np
from floors import floor_dpnp, floor_jax, floor_mlx, floor_numpy, floor_torch
from workers import Run

LR = 0.1
Make = Callable[[tuple[int, ...], int, np.ndarray, np.ndarray], Run]


def xpnet_on(library: str) -> Make:
    """Our own step, by the library's backend."""

    def make(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
        import xpnet
        from xpnet.data.rows import batches
        from xpnet.nn.optimizers import SGD
        from xpnet.nn.step import TrainingStep

        backend = xpnet.get_backend("cpu", library)
        model = xpnet.MLP(sizes, backend=backend)
        step = TrainingStep(backend.xp, model.network, SGD(), 255.0)
        rng = np.random.default_rng(0)

        state = backend.copy(model.parameters)

        def run(steps: int) -> None:
            nonlocal state
            with backend.running("float32"):
                order = rng.permutation(len(X))[: steps * m].astype(np.int32)
                fresh = {
                    "t": np.zeros(1, np.int32),
                    "loss": np.zeros(1, np.float32),
                    "rates": np.full(steps, LR, np.float32),
                }
                start = {name: backend.asarray(array) for name, array in fresh.items()}
                state = backend.scan(step, state | start, backend.asarray(batches(order, m)), data)
                backend.synchronize(state)

        with backend.running("float32"):
            host = {"X": X, "y": y, "classes": np.arange(sizes[-1], dtype=np.int32)}
            data = {name: backend.asarray(array) for name, array in host.items()}
        return run

    return make


def order_of(n: int, m: int, steps: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The rows of each batch of the first steps of an epoch."""
    order = rng.permutation(n)
    for start in range(0, steps * m, m):
        yield order[start : start + m]


def initial(sizes: tuple[int, ...]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """He's weights, and biases of zero, in float32."""
    rng = np.random.default_rng(0)
    pairs = list(pairwise(sizes))
    W = [(rng.standard_normal(pair) * np.sqrt(2 / pair[0])).astype(np.float32) for pair in pairs]
    return W, [np.zeros(pair[1], np.float32) for pair in pairs]


def beginner(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """The formulae in NumPy, as a textbook writes them."""
    W, b = initial(sizes)
    X = X.astype(np.float32) / 255
    Y = np.eye(sizes[-1], dtype=np.float32)[y]
    rng = np.random.default_rng(0)

    def run(steps: int) -> None:
        for rows in order_of(len(X), m, steps, rng):
            A, Z = [X[rows]], []
            for layer in range(len(W)):
                Z.append(A[-1] @ W[layer] + b[layer])
                A.append(np.maximum(Z[-1], 0))
            E = np.exp(Z[-1] - Z[-1].max(axis=1, keepdims=True))
            P = E / E.sum(axis=1, keepdims=True)
            float(-np.mean(np.sum(Y[rows] * np.log(P), axis=1)))
            dZ = P - Y[rows]
            for layer in reversed(range(len(W))):
                dW, db = A[layer].T @ dZ / len(rows), dZ.sum(axis=0) / len(rows)
                if layer:
                    dZ = (dZ @ W[layer].T) * (Z[layer - 1] > 0)
                W[layer] = W[layer] - np.float32(LR) * dW
                b[layer] = b[layer] - np.float32(LR) * db

    return run


def scikit_learn(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """MLPClassifier by plain SGD, an epoch at a time."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(
        sizes[1:-1], solver="sgd", batch_size=m, learning_rate_init=LR, momentum=0.0, alpha=0.0
    )
    X = X.astype(np.float32) / 255
    classes = np.arange(sizes[-1])

    def run(steps: int) -> None:
        net.partial_fit(X[: steps * m], y[: steps * m], classes=classes)

    return run


def torch_network(sizes: tuple[int, ...]) -> Any:
    """Linear and ReLU in a row."""
    from torch import nn

    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def torch_eager(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """Autograd and torch.optim, on tensors that are in place and scaled."""
    net = torch_network(sizes)
    return torch_run(net, net, m, X, y)


def torch_compiled(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """The same, with the network compiled."""
    import torch

    torch.compiler.reset()  # or a second batch size would be taken for one that keeps changing
    net = torch_network(sizes)
    return torch_run(net, torch.compile(net), m, X, y)


def torch_run(net: Any, forward: Any, m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """The training loop of PyTorch's tutorials."""
    import torch

    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    rows, labels = torch.from_numpy(X).float() / 255, torch.from_numpy(y).long()

    def run(steps: int) -> None:
        order = torch.randperm(len(rows))
        for start in range(0, steps * m, m):
            chosen = order[start : start + m]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(forward(rows[chosen]), labels[chosen]).backward()
            optimizer.step()

    return run


def torch_loader(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """The same, fed by a DataLoader."""
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    net = torch_network(sizes)
    optimizer = torch.optim.SGD(net.parameters(), lr=LR)
    loader = DataLoader(
        TensorDataset(torch.from_numpy(X).float() / 255, torch.from_numpy(y).long()),
        batch_size=m,
        shuffle=True,
    )

    def run(steps: int) -> None:
        for rows, labels in islice(loader, steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(rows), labels).backward()
            optimizer.step()

    return run


def torch_by_hand(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """The formulae without autograd, in place where that is possible: the best code for this library."""
    import torch

    host_W, host_b = initial(sizes)
    W, b = [torch.from_numpy(w) for w in host_W], [torch.from_numpy(v) for v in host_b]
    pixels, labels = torch.from_numpy(X), torch.from_numpy(y).long()

    @torch.no_grad()
    def run(steps: int) -> None:
        order = torch.randperm(len(pixels))
        total = torch.zeros(())
        for start in range(0, steps * m, m):
            chosen = order[start : start + m]
            A = [pixels[chosen].to(torch.float32).div_(255)]
            for layer in range(len(W)):
                A.append(torch.addmm(b[layer], A[-1], W[layer]))
                if layer < len(W) - 1:
                    A[-1].relu_()
            log_P = torch.log_softmax(A[-1], 1)
            truth = labels[chosen].unsqueeze(1)
            total -= log_P.gather(1, truth).sum()
            dZ = log_P.exp_()
            dZ.scatter_add_(1, truth, torch.full(truth.shape, -1.0)).mul_(1 / len(chosen))
            for layer in reversed(range(len(W))):
                dA = (dZ @ W[layer].T).mul_(A[layer] > 0) if layer else dZ
                W[layer].addmm_(A[layer].T, dZ, alpha=-LR)
                b[layer].sub_(dZ.sum(0), alpha=LR)
                dZ = dA

    return run


def jax_step(sizes: tuple[int, ...]) -> tuple[Any, Any]:
    """A step by JAX's own differentiation, and the parameters."""
    import jax
    import jax.numpy as jnp

    W, b = initial(sizes)
    parameters = [(jnp.asarray(w), jnp.asarray(v)) for w, v in zip(W, b, strict=True)]

    def loss(parameters: Any, X: Any, y: Any) -> Any:
        for w, v in parameters[:-1]:
            X = jax.nn.relu(X @ w + v)
        log_P = jax.nn.log_softmax(X @ parameters[-1][0] + parameters[-1][1])
        return -jnp.mean(jnp.take_along_axis(log_P, y[:, None], axis=1))

    def step(parameters: Any, pixels: Any, labels: Any, rows: Any) -> tuple[Any, Any]:
        X = jnp.take(pixels, rows, axis=0, mode="clip").astype(jnp.float32) / 255
        value, gradients = jax.value_and_grad(loss)(parameters, X, labels[rows])
        return jax.tree.map(lambda p, g: p - LR * g, parameters, gradients), value

    return step, parameters


def jax_scan(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """All steps of a call under `jit` and `lax.scan`."""
    import jax
    import jax.numpy as jnp

    step, parameters = jax_step(sizes)
    pixels, labels = jnp.asarray(X), jnp.asarray(y)
    rng = np.random.default_rng(0)

    @jax.jit
    def scan(parameters: Any, pixels: Any, labels: Any, order: Any) -> Any:
        return jax.lax.scan(lambda p, rows: step(p, pixels, labels, rows), parameters, order)

    def run(steps: int) -> None:
        nonlocal parameters
        order = jnp.asarray(rng.permutation(len(X))[: steps * m].reshape(steps, m))
        parameters, _ = jax.block_until_ready(scan(parameters, pixels, labels, order))

    return run


def jax_jit(sizes: tuple[int, ...], m: int, X: np.ndarray, y: np.ndarray) -> Run:
    """The same, a jitted call a step."""
    import jax
    import jax.numpy as jnp

    step, parameters = jax_step(sizes)
    pixels, labels = jnp.asarray(X), jnp.asarray(y)
    rng = np.random.default_rng(0)
    jitted = jax.jit(step)

    def run(steps: int) -> None:
        nonlocal parameters
        for rows in order_of(len(X), m, steps, rng):
            parameters, _ = jitted(parameters, pixels, labels, rows)
        jax.block_until_ready(parameters)

    return run


CONTESTANTS: dict[str, Make] = {
    **{f"xpnet {library}": xpnet_on(library) for library in ("numpy", "torch", "jax", "mlx", "dpnp")},
    "floor numpy": floor_numpy,
    "floor torch": floor_torch,
    "floor jax": floor_jax,
    "floor mlx": floor_mlx,
    "floor dpnp": floor_dpnp,
    "torch eager": torch_eager,
    "torch by hand": torch_by_hand,
    "torch compile": torch_compiled,
    "torch DataLoader": torch_loader,
    "jax jit": jax_jit,
    "jax scan": jax_scan,
    "scikit-learn": scikit_learn,
    "numpy, a beginner's": beginner,
}
