"""How long until something happens: `xpnet --help`, `import xpnet`, the first training step on each library?

A first step is counted from the start of its process: importing, reading 64 rows from a file, compiling what
is compiled, and one step of SGD on those. Run:

    python bench/startup.py
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from learners import BATCH_SIZE, LEARNERS
from report import HERE, write_results
from workers import Answer, ask, contest, environment, spread

import xpnet
from xpnet.cli.tables import print_table

COMMANDS = {
    "python -c ''": ["-c", ""],
    "import numpy": ["-c", "import numpy"],
    "import xpnet": ["-c", "import xpnet"],
    "xpnet --help": ["-m", "xpnet", "--help"],
}
STEPS = [name for name in LEARNERS if name != "torch DataLoader"]


def main() -> None:
    """Start everything in several rounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--contestant", action="append", choices=STEPS, help="may be repeated")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        data = write_rows(Path(folder) / "rows.npz")
        names = [*COMMANDS, *(arguments.contestant or STEPS)]
        answers, errors = contest(names, arguments.rounds, lambda name: begun(name, data))
    results: list[dict[str, Any]] = [
        {"what": name, "step": name not in COMMANDS} | spread([answer["learnt"][0] for answer in given])
        for name, given in answers.items()
    ]
    results.sort(key=lambda row: row["seconds"])
    print_table([[row["what"], f"{row['seconds']:.3f} s"] for row in results], ["", "median"], right=1)
    write_results("startup", {"results": results, "errors": errors})


def begun(name: str, data: Path) -> Answer:
    """Seconds from the start of a process to the end of a command, or of a first step."""
    started = time.time()
    if name not in COMMANDS:
        task = {"contestant": name, "data": str(data), "seed": 0, "target": 1.0, "epochs": 1}
        return ask(HERE / "learners.py", **task, started=started)
    command = [sys.executable, *COMMANDS[name]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment())
    return {"learnt": [time.time() - started]}


def write_rows(path: Path) -> Path:
    """Write the first 64 rows of MNIST: an epoch of them is a step."""
    data = xpnet.load_data()
    X, y = data.X_train[:BATCH_SIZE], data.y_train[:BATCH_SIZE]
    np.savez(path, x_train=X, y_train=y, x_test=X, y_test=y)
    return path


if __name__ == "__main__":
    main()
