"""How long until something happens: `xpnet --help`, `import xpnet`, the first training step on each library?

A first step is counted from the start of its process: importing, reading 64 rows from a file, compiling what
is compiled, and one step of SGD on those. Run:

    python bench/startup.py
"""

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from contestants import CPU
from report import publish
from trainer import Answer
from workers import ask, measure, parse, run

import xpnet

COMMANDS = {"python -c ''": ["-c", ""], "xpnet --help": ["-m", "xpnet", "--help"]}
COMMANDS |= {code: ["-c", code] for code in ("import numpy", "import xpnet")}
LEARNERS = (*(f"xpnet.train {library}" for library in CPU), "scikit-learn", "torch eager")
STEPS = {f"first step, {name}": name for name in LEARNERS}
COLUMN = "from process start"


def main() -> None:
    """Start everything in several rounds."""
    options = parse(__doc__, contestant=[*COMMANDS, *STEPS], rounds=7)
    with tempfile.TemporaryDirectory() as folder:
        path, data = Path(folder, "rows.npz"), xpnet.load_data()
        X, y = data.X_train[:64], data.y_train[:64]  # an epoch of them is a step
        np.savez(path, x_train=X, y_train=y, x_test=X, y_test=y)
        task: Answer = {"data": str(path), "target": 0.0, "epochs": 1}

        def turn(contestant: str, seed: int, **where: Any) -> Answer:
            started = time.time()
            if contestant in COMMANDS:
                _, error = run([sys.executable, "-P", *COMMANDS[contestant]], **where)
                return {"error": error} if error else {"seconds": {COLUMN: [time.time() - started]}}
            who: Answer = {"contestant": STEPS[contestant], "seed": seed, "started": started}
            answer = ask("measures.learned", **who, **task, **where)
            return answer | {"seconds": {COLUMN: answer.get("seconds", {}).get(COLUMN)}}

        publish("startup", measure("seconds", options.contestant, turn, options))


if __name__ == "__main__":
    main()
