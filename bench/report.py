"""What every script here does with its figures: results as JSON, and the tables of the README made from them.

    python bench/report.py

rewrites each part of README.md between ``<!-- NAME -->`` and ``<!-- end -->`` from ``results/NAME.json``.
"""

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.nn.activations import ACTIVATIONS

HERE = Path(__file__).parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
    }


def write_results(name: str, results: Mapping[str, Any]) -> Path:
    """Write ``results/NAME.json``, with the machine."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine()} | dict(results), indent=1) + "\n")
    return path


def read_results(name: str) -> dict[str, Any]:
    """Read ``results/NAME.json``."""
    results: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return results


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, its first column set left and the others right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


GROUPS = {
    "every operation alone": ("dense", *ACTIVATIONS, "softmax", "cross-entropy", "sgd", "adam"),
    "forward pass and loss": ("forward", "loss"),
    "gradient": ("gradient",),
    "single steps": ("single step",),
    "free run, parameters": ("free run W", "free run b"),
    "free run, mean loss": ("free run loss",),
    "free run, accuracy": ("free run accuracy",),
}
"""The lines of the parity table, and how the names of their quantities begin."""


def accuracy() -> str:
    """One sentence."""
    results = read_results("accuracy")
    runs = results["runs"]
    scores = [run["test_accuracy"] for run in runs]
    seeds = f"seeds {runs[0]['seed']} to {runs[-1]['seed']}"
    each = ", ".join(f"{score:.2%}" for score in scores)
    return (
        f"a mean test accuracy of **{results['mean']:.2%}**, the worst {results['worst']:.2%}\n"
        f"({seeds}: {each}; `python bench/accuracy.py`)."
    )


def parity() -> str:
    """A table for each dtype: the largest error of each group of quantities."""
    reports = read_results("parity-cpu")["reports"]
    parts = []
    for dtype in dict.fromkeys(report["dtype"] for report in reports):
        chosen = [report for report in reports if report["dtype"] == dtype]
        rows = []
        for title, starts in GROUPS.items():
            members = [
                [row for row in report["rows"] if row["quantity"].startswith(starts)] for report in chosen
            ]
            gate = members[0][0]["gate"]
            rows.append(
                [
                    title,
                    "-" if gate is None else f"{gate:.0e}",
                    *(f"{max(row['error'] for row in group):.1e}" for group in members),
                ]
            )
        header = [dtype, "gate", *(f"{report['backend']} {report['version']}" for report in chosen)]
        parts.append(markdown(header, rows))
    return "\n\n".join(parts)


def speed() -> str:
    """A table: seconds an epoch, a contestant a line, a batch size a column."""
    results = read_results("speed-784-128-10")["results"]
    batches = sorted({row["batch_size"] for row in results})
    seconds = {(row["contestant"], row["batch_size"]): row["seconds"] for row in results}
    names = sorted({name for name, _ in seconds}, key=lambda name: seconds[name, 128])
    rows = [[name, *(f"{seconds[name, m]:.3f}" for m in batches)] for name in names]
    return markdown(["seconds an epoch", *(f"batch {m}" for m in batches)], rows)


PARTS: dict[str, Callable[[], str]] = {"accuracy": accuracy, "parity": parity, "speed": speed}


def main() -> None:
    """Rewrite the README."""
    text = README.read_text()
    for name, make in PARTS.items():
        before, found, rest = text.partition(f"<!-- {name} -->\n")
        _, ended, after = rest.partition("<!-- end -->\n")
        if not (found and ended):
            raise SystemExit(f"README.md: no part from <!-- {name} --> to <!-- end -->")
        text = f"{before}{found}{make()}\n{ended}{after}"
    README.write_text(text)


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
