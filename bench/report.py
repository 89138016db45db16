"""What every script here does with its figures: results as JSON, and the tables of the README made from them.

    python bench/report.py

rewrites each part of README.md between ``<!-- NAME -->`` and ``<!-- end -->`` from the results, and tells
which have no part there. The environment variable XPNET_RESULTS names another folder than ``results/``.
"""

import argparse
import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from xpnet.nn.activations import ACTIVATIONS

HERE = Path(__file__).parent
RESULTS = Path(os.environ.get("XPNET_RESULTS", HERE / "results"))
"""Where the figures are; trying a script out should put them elsewhere."""

README = HERE.parent / "README.md"


LIBRARIES = ("numpy", "torch", "jax", "mlx", "dpnp", "cupy-cuda12x", "cupy-cuda13x", "scikit-learn")
"""Whose versions are written down with every result."""


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    names = [line for line in _cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "libraries": dict(filter(all, ((name, _version(name)) for name in LIBRARIES))),
    }


def write_results(name: str, results: Mapping[str, Any]) -> Path:
    """Write ``results/NAME.json``, with the machine."""
    RESULTS.mkdir(parents=True, exist_ok=True)
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


NETWORKS = ("784-128-10", "784-512-512-10", "784-2048-2048-10")
TARGETS: dict[tuple[str, str], dict[int, float]] = {
    ("numpy", "floor numpy"): {128: 1.8, 1024: 1.4},
    ("numpy", "jax scan"): {128: 1.2},
    ("numpy", "torch eager"): {128: 0.75},
    ("numpy", "torch DataLoader"): {128: 0.45},
    ("numpy", "scikit-learn"): {128: 0.4},
    ("torch", "floor torch"): {},
    ("torch", "torch by hand"): dict.fromkeys((32, 128, 1024), 1.05),
    ("torch", "torch eager"): dict.fromkeys((32, 128, 1024), 0.9),
    ("jax", "floor jax"): {},
    ("jax", "jax scan"): dict.fromkeys((32, 128, 1024), 1.05),
    ("jax", "torch eager"): dict.fromkeys((32, 128, 1024), 0.9),
    ("mlx", "floor mlx"): {},
    ("mlx", "torch eager"): dict.fromkeys((32, 128, 1024), 0.9),
    ("dpnp", "floor dpnp"): {},
    ("dpnp", "torch eager"): dict.fromkeys((32, 128, 1024), 0.9),
}
"""Whom we are measured by on each library, and how many of its times we may take on the first network."""

FLOOR_TARGET = 1.15
"""How many times the seconds of its matrix products a step may take on the larger networks."""

START_TARGET = 0.5
"""The share of the others' time to accuracy that NumPy may take."""


def speed() -> str:
    """A table: seconds an epoch of the first network, a contestant a line, a batch size a column."""
    results = read_results(f"speed-{NETWORKS[0]}")
    seconds = _seconds(results)
    batches = sorted({m for _, m in seconds})
    names = [name for name in dict.fromkeys(name for name, _ in seconds) if not name.startswith("floor")]
    middle = batches[len(batches) // 2]
    names.sort(key=lambda name: seconds[name, middle])
    rows = [[name, *(f"{seconds[name, m]:.3f}" for m in batches)] for name in names]
    rows += [[name, *["-"] * len(batches)] for name in results["errors"] if not name.startswith("floor")]
    return markdown(["seconds an epoch", *(f"batch {m}" for m in batches)], rows)


def ratios() -> str:
    """A table: how many times a yardstick's seconds we take, for every network and batch size."""
    found = {network: _seconds(read_results(f"speed-{network}")) for network in NETWORKS}
    columns = [(network, m) for network in NETWORKS for m in sorted({m for _, m in found[network]})]
    rows = []
    for (library, other), targets in TARGETS.items():
        line = [f"{library} / {other}"]
        for network, m in columns:
            ours, theirs = (found[network].get((name, m)) for name in (f"xpnet {library}", other))
            target = targets.get(m) if network == NETWORKS[0] else None
            if network != NETWORKS[0] and other.startswith("floor"):
                target = FLOOR_TARGET
            line.append(ratio(ours, theirs, target))
        rows.append(line)
    return markdown(["xpnet on / other", *(f"{network}, {m}" for network, m in columns)], rows)


def ratio(ours: float | None, theirs: float | None, target: float | None) -> str:
    """How many times theirs ours is, and whether that is within the target, where there is one."""
    if ours is None or theirs is None:
        return "-"
    if target is None:
        return f"{ours / theirs:.2f}"
    return f"{ours / theirs:.2f} {'≤' if ours / theirs <= target else '>'} {target:.2f}"


def time_to_accuracy() -> str:
    """A table: seconds until the target, a contestant a line."""
    results = read_results("time_to_accuracy")
    found = {row["contestant"]: row for row in results["results"]}
    start = {name: row["start"]["seconds"] for name, row in found.items() if "start" in row}
    rows = []
    for name in [*found, *results["errors"]]:
        if name not in start:
            rows.append([name, "-", "-", "-", "-"])
            continue
        row = found[name]
        share = ratio(start.get("xpnet numpy"), start[name], None if "xpnet" in name else START_TARGET)
        rows.append(
            [name, f"{start[name]:.2f}", f"{row['first_step']['seconds']:.2f}", f"{row['epochs']:g}", share]
        )
    header = [f"seconds to {results['target']:.1%}", "from process start", "from first step", "epochs"]
    return markdown([*header, "xpnet numpy / it"], rows)


def prediction() -> str:
    """A table: a contestant a line, a number of rows a column."""
    results = read_results("prediction")
    seconds = {(row["contestant"], row["rows"]): row["seconds"] for row in results["results"]}
    counts = sorted({rows for _, rows in seconds})
    lines = [
        [name, *(f"{seconds[name, n] * 1e6:,.1f} µs, {n / seconds[name, n]:,.0f} rows/s" for n in counts)]
        for name in sorted({name for name, _ in seconds}, key=lambda name: seconds[name, counts[-1]])
    ]
    lines += [[name, *["-"] * len(counts)] for name in results["errors"]]
    return markdown(["a call", *(f"{n:,} row{'s' if n > 1 else ''}" for n in counts)], lines)


def scaling() -> str:
    """A table of more and more rows, and a sentence about wider and deeper networks."""
    results = read_results("scaling")
    found = {(row["rows"], row["streamed"]): row for row in results["rows"]}
    least = min(found)
    lines = []
    for count in sorted({rows for rows, _ in found}):
        line = [f"{count:,}"]
        for streamed in (False, True):
            row = found.get((count, streamed))
            if row is None:
                line += ["-", "-", "-"]
                continue
            growth = ratio(row["seconds"], found[least]["seconds"], 1.1 if count > least[0] else None)
            line += [f"{row['seconds'] * 1e6:.2f}", growth, f"{row['peak'] / 1e6:,.0f}"]
        lines.append(line)
    measures = ["µs a row", "/ the first", "peak MB"]
    table = markdown(["rows", *measures, *(f"streamed: {what}" for what in measures)], lines)
    shapes = ", ".join(
        f"{row['network']} {row['step']['seconds'] / row['floor']['seconds']:.2f}"
        for row in results["shapes"]
    )
    failed = "".join(f"; {name} -" for name in results["errors"] | results["shape_errors"])
    return (
        f"{table}\n\nStreamed within {results['memory'] / 1e6:,.0f} MB; without rows the process takes "
        f"{results['nothing'] / 1e6:,.0f} MB.\nA step, in times of its matrix products: {shapes}{failed}."
    )


def startup() -> str:
    """Two sentences."""
    results = read_results("startup")
    rows = results["results"]
    commands = [f"`{row['what']}` {row['seconds']:.2f} s" for row in rows if not row["step"]]
    steps = [f"{row['what']} {row['seconds']:.2f} s" for row in rows if row["step"]]
    steps += [f"{name} -" for name in results["errors"]]
    began = "From the start of\nthe process to the end of the first step"
    return f"{', '.join(commands)}. {began}: {', '.join(steps)}."


PARTS: dict[str, Callable[[], str]] = {
    "accuracy": accuracy,
    "parity": parity,
    "speed": speed,
    "ratios": ratios,
    "time_to_accuracy": time_to_accuracy,
    "prediction": prediction,
    "scaling": scaling,
    "startup": startup,
}


def main() -> None:
    """Rewrite the README, or another file with such parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("readme", type=Path, nargs="?", default=README)
    path = parser.parse_args().readme
    text = path.read_text()
    for name, make in PARTS.items():
        before, found, rest = text.partition(f"<!-- {name} -->\n")
        _, ended, after = rest.partition("<!-- end -->\n")
        try:
            made = make()
        except FileNotFoundError as error:
            if found:
                raise SystemExit(f"{path}: has a part {name}, but there is no {error.filename}") from None
            print(f"{name}: neither measured nor in {path}")
            continue
        if found and not ended:
            raise SystemExit(f"{path}: the part {name} has no end")
        if not found:
            print(f"{name}: measured, but {path} has no <!-- {name} -->")
            continue
        text = f"{before}{found}{made}\n{ended}{after}"
    path.write_text(text)


def _seconds(results: Mapping[str, Any]) -> dict[tuple[str, int], float]:
    return {(row["contestant"], row["batch_size"]): row["seconds"] for row in results["results"]}


def _version(name: str) -> str:
    """The version of an installed package; nothing where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
