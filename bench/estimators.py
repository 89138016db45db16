"""How long do fit and predict of `xpnet.MLPClassifier` take, beside scikit-learn's class of that name?

Both have the same parameters and take the same float32 rows, in batches of 200, for the same epochs. The
first fit of a process includes what a library compiles, and the second does not. *24 fits* are a grid search
over small networks. What can be had is shown by the same training in hand-written JAX, all steps of an epoch
under `lax.scan`, and in hand-written NumPy, which writes to memory that is kept. Run:

    python bench/estimators.py                     # or some of it: --part "20,000 rows"
"""

import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from report import publish
from trainer import Answer, LeftOut, draw_batches, first_weights
from workers import ask, measure, parse

import xpnet

BY_HAND = ["jax by hand", "numpy by hand"]
NAMES = ["scikit-learn", *BY_HAND, *(f"xpnet.MLPClassifier {library}" for library in ("numpy", "jax"))]
ROWS = {"MNIST": 60_000, "20,000 rows": 20_000, "1,000,000 rows": 1_000_000, "24 fits": 2_000}
"""The parts, with their rows."""


def main() -> None:
    """Time every contestant on every table."""
    options = parse(__doc__, contestant=NAMES, part=[*ROWS], rounds=3, epochs=3)
    for part in options.part:
        turn = partial(ask, "estimators.timed", part=part, epochs=options.epochs)
        results = {"epochs": options.epochs} | measure(f"seconds: {part}", options.contestant, turn, options)
        publish(f"estimators-{part.replace(' ', '-')}", results)


def timed(contestant: str, seed: int, part: str, epochs: int) -> Answer:
    """Time two fits and a prediction, or a grid search."""
    from sklearn.model_selection import GridSearchCV

    X, y = table(part)
    warnings.simplefilter("ignore")  # a few epochs do not converge, as scikit-learn says
    if contestant in BY_HAND and part == "24 fits":
        raise LeftOut("it is no estimator")
    make = classifier(contestant)
    net = make(batch_size=200, max_iter=epochs, random_state=seed)
    if part == "24 fits":
        grid = {
            "hidden_layer_sizes": [(16,), (32,)],
            "alpha": [1e-4, 1e-2],
            "learning_rate_init": [1e-3, 1e-2],
        }
        search = GridSearchCV(net, grid, cv=3, refit=False)
        return {"seconds": {"search": [seconds(lambda: search.fit(X, y))]}}
    found = {f"{time} fit": [seconds(lambda: net.fit(X, y))] for time in ("first", "second")}
    return {"seconds": found | {"predict": [seconds(lambda: np.asarray(net.predict(X)))]}}


def classifier(contestant: str) -> Any:
    """The class of a contestant, on its library."""
    if contestant == "scikit-learn":
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier
    if contestant in BY_HAND:
        return JaxByHand if contestant == "jax by hand" else NumPyByHand
    ours: Any = xpnet.MLPClassifier
    return partial(ours, backend=contestant.split()[1])


class JaxByHand:
    """`MLPClassifier` with its defaults, and without its checks: Adam, and a penalty of 1e-4."""

    def __init__(self, batch_size: int, max_iter: int, random_state: int) -> None:
        import jax
        import jax.numpy as jnp

        self.m, self.epochs, self.rng = batch_size, max_iter, np.random.default_rng(random_state)
        self.numpy: Any = jnp

        def logits(P: Any, X: Any) -> Any:
            return jax.nn.relu(X @ P[0] + P[1]) @ P[2] + P[3]

        def loss(P: Any, X: Any, y: Any) -> Any:
            log_P = jax.nn.log_softmax(logits(P, X))
            penalty = 0.5e-4 / batch_size * (jnp.sum(P[0] ** 2) + jnp.sum(P[2] ** 2))
            return penalty - jnp.mean(jnp.take_along_axis(log_P, y[:, None], axis=1))

        def step(state: Any, rows: Any, X: Any, y: Any) -> Any:
            P, M, S, t = state
            batch = (jnp.take(table, rows, axis=0, mode="clip") for table in (X, y))
            value, G = jax.value_and_grad(loss)(P, *batch)
            M = [0.9 * m + 0.1 * g for m, g in zip(M, G, strict=True)]
            S = [0.999 * s + 0.001 * g * g for s, g in zip(S, G, strict=True)]
            lr = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            P = [p - lr * m / (jnp.sqrt(s) + 1e-8) for p, m, s in zip(P, M, S, strict=True)]
            return (P, M, S, t + 1), value

        def epoch(state: Any, batches: Any, X: Any, y: Any) -> Any:
            return jax.lax.scan(lambda now, rows: step(now, rows, X, y), state, batches)

        self.epoch = jax.jit(epoch, donate_argnums=0)
        self.classes = jax.jit(lambda P, X: jnp.argmax(logits(P, X), axis=1))

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        """Begin anew, and take all epochs. Rows that fill no batch are left out."""
        jnp, sizes = self.numpy, (X.shape[1], 100, int(y.max()) + 1)
        P = [jnp.asarray(array) for array in first_weights(sizes, int(self.rng.integers(9))).values()]
        state = (P, *([0 * p for p in P] for _ in range(2)), jnp.float32(1))
        rows = jnp.array(X), jnp.array(y.astype(np.int32))
        for _ in range(self.epochs):
            state, values = self.epoch(state, jnp.array(draw_batches(self.rng, len(X), self.m)), *rows)
            float(values.mean())
        self.P = state[0]

    def predict(self, X: np.ndarray) -> Any:
        """The most probable class of every row."""
        return self.classes(self.P, X)


class NumPyByHand:
    """The same in NumPy, as fast as we can write it."""

    def __init__(self, batch_size: int, max_iter: int, random_state: int) -> None:
        self.m, self.epochs, self.rng = batch_size, max_iter, np.random.default_rng(random_state)

    def fit(self, X: np.ndarray, y: np.ndarray) -> None:
        """Begin anew, and take all epochs. Rows that fill no batch are left out."""
        sizes, m = (X.shape[1], 100, int(y.max()) + 1), self.m
        P = list(first_weights(sizes, int(self.rng.integers(9))).values())
        G, M, S, free = ([np.zeros_like(p) for p in P] for _ in range(4))
        A0, A1, dZ1, Z2, T = (np.empty((m, sizes[layer]), np.float32) for layer in (0, 1, 1, 2, 2))
        Y, ones = np.eye(sizes[2], dtype=np.float32)[y], np.ones(sizes[2], np.float32)
        alpha, t, self.P = np.float32(1e-4 / m), 0, P
        for _ in range(self.epochs):
            loss = 0.0
            for rows in draw_batches(self.rng, len(X), m):
                t += 1
                np.take(X, rows, axis=0, out=A0, mode="clip")
                np.take(Y, rows, axis=0, out=T, mode="clip")
                np.matmul(A0, P[0], out=A1)
                A1 += P[1]
                np.maximum(A1, 0, out=A1)
                np.matmul(A1, P[2], out=Z2)
                Z2 += P[3]
                top = Z2[:, 0].copy()
                for column in Z2.T[1:]:
                    np.maximum(top, column, out=top)
                Z2 -= top[:, None]
                E = np.exp(Z2)
                total = E @ ones
                loss += float(np.log(total).sum() - np.vdot(Z2, T)) / m
                loss += float(alpha) / 2 * float(np.vdot(P[0], P[0]) + np.vdot(P[2], P[2]))
                E /= total[:, None]
                E -= T
                E /= m
                np.matmul(A1.T, E, out=G[2])
                np.sum(E, axis=0, out=G[3])
                np.matmul(E, P[2].T, out=dZ1)
                dZ1 *= A1 > 0
                np.matmul(A0.T, dZ1, out=G[0])
                np.sum(dZ1, axis=0, out=G[1])
                lr = np.float32(1e-4 * ((1 - 0.999**t) / 0.001) ** 0.5 / (1 - 0.9**t))
                epsilon = np.float32(1e-8 / 0.001**0.5)
                for p, g, a, s, w in zip(P, G, M, S, free, strict=True):  # a and s are sums, not means
                    if p.ndim == 2:
                        g += np.multiply(p, alpha, out=w)
                    a *= np.float32(0.9)
                    a += g
                    s *= np.float32(0.999)
                    s += np.multiply(g, g, out=g)
                    np.sqrt(s, out=w)
                    w += epsilon
                    np.divide(a, w, out=w)
                    w *= lr
                    p -= w

    def predict(self, X: np.ndarray) -> Any:
        """The most probable class of every row."""
        A1 = np.maximum(X @ self.P[0] + self.P[1], 0)
        return np.argmax(A1 @ self.P[2] + self.P[3], axis=1)


def seconds(act: Callable[[], object]) -> float:
    """Time an act."""
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


def table(part: str) -> tuple[np.ndarray, np.ndarray]:
    """Load or make rows with their classes."""
    if part == "MNIST":
        data = xpnet.load_data()
        return data.X_train.astype(np.float32) / 255, data.y_train
    from sklearn.datasets import make_classification

    X, y = make_classification(ROWS[part], 30, n_informative=10, n_classes=5, random_state=0)
    return X.astype(np.float32), y


if __name__ == "__main__":
    main()
