"""How fast does a trained network answer, asked for one row or for 10,000?

Everybody is given rows of float32, scaled and in place already, and answers with the class of each. Run:

    python bench/prediction.py
"""

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from contestants import initial, torch_network
from report import write_results
from workers import Answer, ask, contest, reply, spread, step_seconds

import xpnet
from xpnet.cli.tables import print_table

SIZES = (784, 128, 10)
MOST_CALLS = 100_000
Predict = Callable[[np.ndarray], Callable[[], object]]


def xpnet_on(library: str) -> Predict:
    """Us."""

    def make(X: np.ndarray) -> Callable[[], object]:
        model = xpnet.MLP(SIZES, device="cpu", backend=library)
        backend = model.backend
        with backend.running("float32"):
            rows = backend.asarray(X)
        return lambda: backend.synchronize({"classes": model.predict(rows)})

    return make


def scikit_learn(X: np.ndarray) -> Callable[[], object]:
    """MLPClassifier."""
    from sklearn.neural_network import MLPClassifier

    net = MLPClassifier(SIZES[1:-1], solver="sgd")
    labels = np.arange(100) % SIZES[-1]
    net.partial_fit(np.resize(X, (100, SIZES[0])), labels, classes=np.arange(SIZES[-1]))
    return lambda: net.predict(X)


def torch_eager(X: np.ndarray) -> Callable[[], object]:
    """Under inference mode."""
    import torch

    net, rows = torch_network(SIZES), torch.from_numpy(X)

    @torch.inference_mode()
    def predict() -> object:
        return net(rows).argmax(1)

    return predict


def jax_jit(X: np.ndarray) -> Callable[[], object]:
    """Compiled, for a shape."""
    import jax
    import jax.numpy as jnp

    parameters = [(jnp.asarray(w), jnp.asarray(b)) for w, b in zip(*initial(SIZES), strict=True)]
    rows = jnp.asarray(X)

    @jax.jit
    def predict(parameters: Any, X: Any) -> Any:
        for w, b in parameters[:-1]:
            X = jax.nn.relu(X @ w + b)
        w, b = parameters[-1]
        return jnp.argmax(X @ w + b, axis=1)

    return lambda: jax.block_until_ready(predict(parameters, rows))


def beginner(X: np.ndarray) -> Callable[[], object]:
    """The formulae in NumPy, as a textbook writes them."""
    W, b = initial(SIZES)

    def predict() -> object:
        A = X
        for layer in range(len(W) - 1):
            A = np.maximum(A @ W[layer] + b[layer], 0)
        return np.argmax(A @ W[-1] + b[-1], axis=1)

    return predict


CONTESTANTS: dict[str, Predict] = {
    **{f"xpnet {library}": xpnet_on(library) for library in ("numpy", "torch", "jax", "mlx")},
    "numpy, a beginner's": beginner,
    "torch eager": torch_eager,
    "jax jit": jax_jit,
    "scikit-learn": scikit_learn,
}


def main() -> None:
    """Run the rounds, or, as a worker, one contestant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--contestant", action="append", choices=list(CONTESTANTS), help="may be repeated")
    parser.add_argument("--rows", type=int, action="append", help="may be repeated")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=0.5, help="timed of each number of rows in each round"
    )
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        reply(measured(**arguments.worker))
        return

    names, counts = arguments.contestant or list(CONTESTANTS), arguments.rows or [1, 10_000]

    def act(name: str) -> Answer:
        return ask(__file__, contestant=name, counts=counts, seconds=arguments.seconds)

    answers, errors = contest(names, arguments.rounds, act)
    results: list[dict[str, Any]] = [
        {"contestant": name, "rows": rows} | spread([t for answer in given for t in answer["seconds"][i]])
        for i, rows in enumerate(counts)
        for name, given in answers.items()
    ]
    show(results)
    kernels = {name: given[-1]["kernels"] for name, given in answers.items()}
    found = {"results": results, "errors": errors, "kernels": kernels}
    write_results("prediction", {"sizes": SIZES} | found)


def measured(contestant: str, counts: list[int], seconds: float) -> Answer:
    """Seconds of a call, as several series of calls have them, for every number of rows."""
    X = xpnet.load_data().X_train[: max(counts)].astype(np.float32) / 255
    answers = []
    for rows in counts:
        predict = CONTESTANTS[contestant](X[:rows])

        def run(calls: int, predict: Callable[[], object] = predict) -> None:
            for _ in range(calls):
                predict()

        answers.append(step_seconds(run, MOST_CALLS, seconds))
    return {"seconds": answers}


def show(results: list[dict[str, Any]]) -> None:
    """Print a table, the fastest first."""
    rows = sorted(results, key=lambda row: (row["rows"], row["seconds"]))
    lines = [
        [
            f"{row['rows']:,}",
            row["contestant"],
            f"{row['seconds'] * 1e6:,.1f}",
            f"{row['rows'] / row['seconds']:,.0f}",
        ]
        for row in rows
    ]
    print_table(lines, ["rows", "", "µs a call", "rows/s"], right=2)


if __name__ == "__main__":
    main()
