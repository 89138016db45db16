"""How does the cost grow with the rows, with the width and with the depth, and how much memory does it take?

The rows are MNIST's, repeated, in files that are written to a temporary folder: more than 5 GB for
six million (TMPDIR=FOLDER puts it elsewhere). They are trained on from memory, and streamed from their file
within a limited memory. Widths and depths are compared with the floor of their network. Run:

    python bench/scaling.py                        # --rows 60000 600000 where the disk is small
"""

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from report import publish
from speed import LIMITS, race
from trainer import EPOCH, Answer
from workers import ask, measure, parse

import xpnet

WIDTHS = [f"784-{width}-{width}-10" for width in (128, 256, 512, 1024, 2048)]
DEPTHS = [f"784-{'512-' * depth}10" for depth in (1, 2, 3, 4, 5, 6)]
FEATURES, BATCH_SIZE = 784, 128

HELD = 1_000_000
"""With more rows than this, the rows are only streamed."""


def main() -> None:
    """Measure rows, widths and depths."""
    limits = LIMITS | {"rows": [BATCH_SIZE, 60_000, 600_000, 6_000_000], "memory": 2**28}
    options = parse(__doc__, backend="numpy", width=WIDTHS, depth=DEPTHS, **limits)
    with tempfile.TemporaryDirectory() as folder:
        publish("scaling-rows", growing_rows(Path(folder), options))
    options.rows = EPOCH
    for kind in ("width", "depth"):
        cells = {network: (network, BATCH_SIZE) for network in getattr(options, kind)}
        names = [f"xpnet {options.backend}", f"floor {options.backend}"]
        publish(f"scaling-{kind}", race(f"ms a step by {kind}", cells, names, options, per=BATCH_SIZE))


def growing_rows(folder: Path, options: Any) -> dict[str, Any]:
    """Measure seconds a row and peak memory, for more and more rows, held in memory and streamed."""
    needed, free = sum(options.rows) * (FEATURES + 4), shutil.disk_usage(folder).free
    if needed > free:
        raise SystemExit(f"{folder} has {free:,} bytes left and {needed:,} are needed: give less --rows")
    runs: dict[str, Answer] = {}
    for rows in options.rows:
        path = str(folder / str(rows))
        # written by another process: on Linux, the most memory of a parent counts as its children's
        wrote = ask("scaling.write", folder=path, rows=rows)
        if "error" in wrote:
            raise SystemExit(wrote["error"])
        if rows <= HELD:
            runs[f"xpnet {options.backend}, {rows:,} rows held"] = {"folder": path, "memory": None}
        if rows * FEATURES > options.memory:
            task = {"folder": path, "memory": options.memory}
            runs[f"xpnet {options.backend}, {rows:,} rows streamed"] = task

    def turn(contestant: str, **who: Any) -> Answer:
        return ask("scaling.train", backend=options.backend, **runs[contestant], **who)

    return {"memory": options.memory} | measure("rows held in memory or streamed", runs, turn, options)


def write(folder: str, rows: int) -> Answer:
    """Write MNIST's rows over and over."""
    data = xpnet.load_data()
    Path(folder).mkdir()
    X = np.lib.format.open_memmap(f"{folder}/x.npy", mode="w+", dtype=np.uint8, shape=(rows, FEATURES))
    for start in range(0, rows, EPOCH):
        X[start : start + EPOCH] = data.X_train[: rows - start]
    np.save(f"{folder}/y.npy", np.resize(data.y_train, rows))
    return {}


def train(seed: int, folder: str, memory: int | None, backend: str) -> Answer:
    """Train on the rows in a folder, and return the seconds a row of every epoch and the peak memory."""
    import resource  # not on Windows

    X, y = (np.load(Path(folder, f"{name}.npy"), mmap_mode="r") for name in "xy")
    if memory is None:
        X, y = np.array(X), np.array(y)
    epochs, model = min(5, max(1, 300_000 // len(X))), xpnet.MLP(seed=seed, device="cpu", backend=backend)
    history = xpnet.train(model, X, y, memory=memory, epochs=epochs, batch_size=BATCH_SIZE, validation=0.0)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    columns = {"µs a row": [epoch.seconds / len(X) for epoch in history.epochs], "MB at most": [most]}
    return {"seconds": columns}


if __name__ == "__main__":
    main()
