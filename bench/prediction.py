"""How fast does a trained network answer, asked for one row or for 10,000?

Every contestant has float32 rows, scaled and on its device, and answers with the class of each. Run:

    python bench/prediction.py
"""

from functools import partial

from report import publish
from workers import ask, measure, parse

NAMES = [f"xpnet {library}" for library in ("numpy", "torch", "jax", "mlx")]
NAMES += ["numpy, a beginner's", "torch eager", "jax jit", "scikit-learn"]


def main() -> None:
    """Time every contestant."""
    options = parse(__doc__, contestant=NAMES, rows=[1, 10_000], rounds=3, seconds=0.5)
    task = {"sizes": (784, 128, 10), "counts": options.rows, "seconds": options.seconds}
    turn = partial(ask, "measures.predictions", **task)
    publish("prediction", task | measure("µs a call", options.contestant, turn, options))


if __name__ == "__main__":
    main()
