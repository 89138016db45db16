"""How well does `xpnet train`, with its defaults, do on the test set?

Trains with seeds 0 to 4 and prints each test accuracy, their mean and the worst. Run:

    python bench/accuracy.py
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

from report import write_results

SEEDS = range(5)


def main() -> None:
    """Train with every seed, as a user would."""
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            out = Path(folder) / str(seed)
            command = [
                sys.executable,
                "-m",
                "xpnet",
                "train",
                "--quiet",
                "--seed",
                str(seed),
                "--out",
                str(out),
            ]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            runs.append(json.loads((out / "summary.json").read_text()))
            print(f"seed {seed}: {runs[-1]['test_accuracy']:.2%}", flush=True)
    scores = [run["test_accuracy"] for run in runs]
    print(f"mean {mean(scores):.2%}, worst {min(scores):.2%}")
    write_results("accuracy", {"mean": mean(scores), "worst": min(scores), "runs": runs})


if __name__ == "__main__":
    main()
