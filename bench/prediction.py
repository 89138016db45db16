"""How fast does a trained network answer, asked for one row or for 10,000? And `xpnet predict`, for a table?

For the first question every contestant has float32 rows, scaled and on its device, and answers with the class
of each. For the second a table of 30 columns is read from a file and answered as CSV. Run:

    python bench/prediction.py                     # --part rows, or --part tables
"""

import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from report import publish
from trainer import Answer
from workers import ask, measure, parse

import xpnet

NAMES = [f"xpnet {library}" for library in ("numpy", "torch", "jax", "mlx")]
NAMES += ["numpy, a beginner's", "torch eager", "jax jit", "scikit-learn"]


COLUMNS, GROUP = 30, 100_000
"""Columns of a table, and the rows of a group of Parquet."""


def main() -> None:
    """Time every contestant."""
    more: dict[str, Any] = {"table": [100_000, 1_000_000], "part": ["rows", "tables"]}
    options = parse(__doc__, contestant=NAMES, rows=[1, 10_000], rounds=3, seconds=0.5, **more)
    if "rows" in options.part:
        task = {"sizes": (784, 128, 10), "counts": options.rows, "seconds": options.seconds}
        turn = partial(ask, "measures.predictions", **task)
        publish("prediction", task | measure("µs a call", options.contestant, turn, options))
    if "tables" in options.part:
        with tempfile.TemporaryDirectory() as folder:
            publish("prediction-tables", tables(Path(folder), options))


def tables(folder: Path, options: Any) -> dict[str, Any]:
    """Answer tables of different lengths, in both forms."""
    files = {}
    for rows, form in ((rows, form) for form in ("csv", "parquet") for rows in options.table):
        path = files[f"{rows:,} rows of {form}"] = str(folder / f"{rows}.{form}")
        # written by another process: on Linux, the most memory of a parent counts as its children's
        wrote = ask("prediction.write", path=path, rows=rows)
        if "error" in wrote:
            raise SystemExit(wrote["error"])

    def turn(contestant: str, **who: Any) -> Answer:
        return ask("prediction.answered", path=files[contestant], **who)

    return measure("one answer", files, turn, options)


def write(path: str, rows: int) -> Answer:
    """Write a table."""
    import pyarrow
    from pyarrow import csv, parquet

    numbers = np.random.default_rng(0).normal(size=(COLUMNS, rows)).round(4)
    table = pyarrow.table({f"column {i}": column for i, column in enumerate(numbers)})
    if path.endswith(".csv"):
        csv.write_csv(table, path)
    else:
        parquet.write_table(table, path, row_group_size=GROUP)
    return {}


def answered(path: str, seed: int) -> Answer:
    """Answer every row of a table as `xpnet predict --csv` does."""
    import resource  # which Windows does not have

    from xpnet.cli.predict import Answers
    from xpnet.data.tables import FIRST, Table

    model = xpnet.MLP((COLUMNS, 64, 3), class_names=["low", "middle", "high"], seed=seed)
    answers, start, spent, began = Answers(model, 1, "csv"), 0, 0.0, time.perf_counter()
    name = f"{path}:%d"
    with tempfile.TemporaryFile("w", encoding="utf-8") as out:
        for X, _ in Table(path).pieces(tuple(f"column {i}" for i in range(COLUMNS))):
            asked = time.perf_counter()
            names = map(name.__mod__, range(start + FIRST, start + FIRST + len(X)))
            out.write(answers.lines(names, X, path, start))
            start, spent = start + len(X), spent + time.perf_counter() - asked
    seconds = {"µs a row": [spent / start], "µs a row, with reading": [(time.perf_counter() - began) / start]}
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": seconds | {"MB at most": [float(most)]}}


if __name__ == "__main__":
    main()
