"""Write the figures of every script as JSON, and make the tables of both READMEs from them.

    python bench/report.py

replaces what stands between ``<!-- NAME -->`` and ``<!-- end -->`` in README.md and bench/README.md. The
environment variable XPNET_RESULTS names another folder than ``results/``.
"""

import fnmatch
import json
import os
import platform
import re
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from importlib import metadata
from itertools import product
from math import floor, log10
from pathlib import Path
from statistics import mean, quantiles
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = Path(os.environ.get("XPNET_RESULTS", HERE / "results"))
"""The folder of the figures."""

LIBRARIES = ("array-api-compat", "cu", "dpnp", "jax", "mlx", "numpy", "nv", "scikit-learn", "torch", "triton")
"""Every result names the versions of the packages whose names begin like this."""

NETWORKS = ["784-128-10", "784-512-512-10", "784-2048-2048-10"]
SMALL = NETWORKS[0]
RULES = tomllib.loads((HERE / "targets.toml").read_text(encoding="utf-8"))
SHORT = ("xpnet numpy", "xpnet jax", "jax scan", "torch eager", "scikit-learn", "numpy, a beginner's")
"""The lines of README.md's table of speeds."""

GROUPS = {"": "every operation alone", "forward": "forward pass and loss", "loss": "forward pass and loss"}
GROUPS |= {"gradient": "gradient", "single step": "single steps", "free run": "free run, parameters"}
GROUPS |= {"free run loss": "free run, mean loss", "free run accuracy": "free run, accuracy"}
"""The line of the parity table for quantities whose names begin like this. The longest match counts."""

FEW_GROUPS = {"": "operations, gradients, single steps", "free run": "free run, parameters"}
FEW_GROUPS |= dict.fromkeys(("free run loss", "free run accuracy"), "free run, mean loss and accuracy")
"""The same for the table of README.md."""

UNITS = {"ms": 1e3, "µs": 1e6, "MB": 1e-6}
"""Results hold seconds and bytes; a table or a column may begin with another unit."""

Results = Mapping[str, Any]
Rows = dict[tuple[str, str], Results]


def machine() -> dict[str, Any]:
    """The date, and the machine that the figures are measured on."""
    cpuinfo = Path("/proc/cpuinfo")  # only Linux has one
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    found = sorted((package.name, package.version) for package in metadata.distributions())
    libraries = {name: version for name, version in found if name.lower().startswith(LIBRARIES)}
    allowed = getattr(os, "sched_getaffinity", None)  # only Linux has it
    cores = len(allowed(0)) if allowed else os.cpu_count()
    about = {"date": date.today().isoformat(), "cores": cores}
    about |= {"processor": (names or [platform.processor() or platform.machine()])[0]}
    return about | {"python": platform.python_version(), "libraries": libraries}


def write_results(name: str, results: Results) -> None:
    """Write ``results/NAME.json``, with the machine."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"machine": machine()} | dict(results), indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def read_results(name: str) -> dict[str, Any]:
    """Read ``results/NAME.json``."""
    return dict(json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8")))


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, with its first column flush left and the others flush right."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def quartiles(found: Sequence[float]) -> list[float]:
    """The lower quartile, the median and the upper quartile."""
    return quantiles(found, n=4, method="inclusive") if len(found) > 1 else [*found] * 3


def number(value: float) -> str:
    """Format a number with three digits, or with all digits before the point."""
    if value and not 1e-5 < abs(value) < 1e9:
        return f"{value:.1e}"
    digits = 2 - floor(log10(abs(value))) if value else 0
    return f"{value:,.{max(digits, 0)}f}"


def spread(row: Results | None, scale: float = 1.0) -> str:
    """Format a median and its quartiles: 0.245 (0.241 to 0.250)."""
    if row is None:
        return "-"
    middle, low, high = (number(value * scale) for value in (row["median"], *row["quartiles"]))
    return middle if low == middle == high else f"{middle} ({low} to {high})"


def ratio(ours: Results | None, theirs: Results | None, cell: str = "") -> str:
    """Format a ratio, its spread and the verdict of its target: 0.52 (0.48 to 0.55) ≤ 0.75.

    The spread begins at our lower quartile over their upper one, and ends at our upper one over their lower.
    """
    if ours is None or theirs is None:
        return "-"
    (low, high), (least, most) = ours["quartiles"], theirs["quartiles"]
    value = ours["median"] / theirs["median"]
    return f"{value:.2f} ({low / most:.2f} to {high / least:.2f}){verdict(value, cell)}"


def verdict(value: float, cell: str, scale: float = 1.0) -> str:
    """Format whether a number meets its target, " ≤ 0.75" or " > 0.75"; "" where there is none."""
    limits = [limit for pattern, limit in RULES["targets"].items() if fnmatch.fnmatchcase(cell, pattern)]
    return f" {'≤' if value <= limits[0] else '>'} {limits[0] * scale:.2f}" if limits else ""


def grid(results: Results) -> tuple[Rows, list[str], list[str]]:
    """The rows of a table by contestant and column; the contestants, the fastest first; and the columns."""
    rows = {(row["contestant"], row["column"]): row for row in results["results"]}
    columns = list(dict.fromkeys(column for _, column in rows))
    middle = columns[len(columns) // 2] if columns else ""
    names = dict.fromkeys(name for name, _ in rows)
    return rows, sorted(names, key=lambda name: rows.get((name, middle), {}).get("median", 0.0)), columns


def table(results: Results) -> str:
    """A line for each contestant, and a column for each thing that was measured."""
    (rows, names, columns), title = grid(results), results["title"]
    lines = []
    for name in names:
        line = [name]
        for column in columns:
            row, units = rows.get((name, column)), {*UNITS} & {column.split()[0], title.split()[0]}
            scale = UNITS[units.pop()] if units else 1.0
            judged = verdict(row["median"], f"{title}, {column}: {name}", scale) if row else ""
            line.append(spread(row, scale) + judged)
        lines.append(line)
    failed = [[f"{name}: {error[:80]}", *["-"] * len(columns)] for name, error in results["errors"].items()]
    return markdown([title, *columns], lines + failed)


def ratios(results: Results) -> str:
    """The ratio of two contestants, with a line for each pair that `targets.toml` names."""
    (rows, names, columns), title = grid(results), results["title"]
    lines = []
    for ours, others in RULES["pairs"].items():
        for pattern in others:
            for name, other in product(fnmatch.filter(names, ours), fnmatch.filter(names, pattern)):
                line = [f"{name} / {other}"]
                for column in columns:
                    cell = f"{title}, {column}: {line[0]}"
                    line.append(ratio(rows.get((name, column)), rows.get((other, column)), cell))
                if name != other:
                    lines.append(line)
    return markdown(["ratio", *columns], lines) if lines else ""


def both(*found: Results) -> str:
    """The table of each result, its ratios, and where it was measured."""
    parts = [part for results in found for part in (table(results), ratios(results), measured(results))]
    return "\n\n".join(filter(None, parts)) or "Nothing has been measured yet."


def measured(results: Results) -> str:
    """When and where the figures were measured."""
    if "machine" not in results:
        return ""
    found = results["machine"]
    return f"Measured on {found['date']}: {found['processor']}, {found['cores']} cores."


def accuracy(results: Results) -> str:
    """The sentence about the test accuracy."""
    found = results["results"][0]["rounds"]
    scores = f"**{mean(found):.2%}**, the worst {min(found):.2%}"
    each = ", ".join(f"{score:.2%}" for score in found)
    seeds = f"seeds 0 to {len(found) - 1}"
    return f"a mean test accuracy of {scores}\n({seeds}: {each}; `python bench/accuracy.py`)."


def defaults(results: Results) -> str:
    """The ten best settings."""
    lines = []
    for row in results["results"][:10]:
        settings = f"{row['batch_size']}, {row['lr']:g}, {row['schedule']}"
        lines.append([settings, f"{row['mean']:.2%}", f"{row['worst']:.2%}"])
    return markdown(["batch size, learning rate, schedule", "mean validation accuracy", "worst seed"], lines)


def parity(results: Results, groups: Mapping[str, str] = GROUPS) -> str:
    """The largest error of each library in each group of quantities."""
    lines, names = [], []
    for dtype, title in product(("float64", "float32"), dict.fromkeys(groups.values())):
        line = [f"{dtype}: {title}", ""]
        for report in results["reports"]:
            names.append(report["backend"] + ("" if groups is FEW_GROUPS else f" {report['version']}"))
            rows = [row for row in report["rows"] if title == groups[start_of(row["quantity"], groups)]]
            if report["dtype"] == dtype:
                line[1] = "-" if rows[0]["gate"] is None else f"{rows[0]['gate']:.0e}"
                line.append(f"{max(row['error'] for row in rows):.1e}")
        lines.append(line)
    return markdown(["largest relative error", "gate", *dict.fromkeys(names)], lines)


def start_of(quantity: str, groups: Mapping[str, str]) -> str:
    """The key of the group that a quantity belongs to."""
    return max(filter(quantity.startswith, groups), key=len)


def speed_short(results: Results) -> str:
    """Some contestants at batches of 128, and xpnet on NumPy against each."""
    rows, _, _ = grid(results)
    found = {name: rows.get((name, "batch 128")) for name in SHORT}
    ours = found[SHORT[0]]
    lines = [[name, spread(row), "1" if row is ours else ratio(ours, row)] for name, row in found.items()]
    header = [f"{results['title']}, batch 128", "median (quartiles)", f"{SHORT[0]} / it"]
    return f"{markdown(header, lines)}\n\n{measured(results)}"


def about(results: Results) -> str:
    """The versions that the speed was measured with, and NumPy's kernels."""
    found, (note, *_) = results["machine"], results["notes"]["xpnet numpy"]
    versions = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    return f"Python {found['python']}, {versions}; {'; '.join(note['kernels'])}."


def against(results: Results) -> str:
    """The ratio of this checkout to the other, from the medians of the same rounds."""
    (rows, names, columns), lines = grid(results), []
    for name, column in product(names, columns):
        if other := rows.get((f"{name} (other)", column)):
            shares = [a / b for a, b in zip(rows[name, column]["rounds"], other["rounds"], strict=False)]
            low, middle, high = quartiles(shares)
            lines.append([f"{name}, {column}", f"{middle:.3f} ({low:.3f} to {high:.3f})", str(len(shares))])
    return markdown(["this checkout / the other", "median of the rounds (quartiles)", "rounds"], lines)


def publish(name: str, results: Results) -> None:
    """Write results and print their table. Results of two checkouts get a file and a table of their own."""
    two = any(row["contestant"].endswith(" (other)") for row in results["results"])
    write_results(f"against-{name}" if two else name, results)
    print(f"\n{table(results)}\n\n{against(results) if two else ratios(results)}")


def gpu(*found: Results) -> str:
    """The results of `gpu.py`: a line for each question, and the tables."""
    lines = []
    for results in found:
        device = [*results.get("device", {}).values(), measured(results)]
        lines.append(", ".join(filter(None, device)) + "\n")
        for part in [part for part in results if part not in ("device", "libraries", "machine")]:
            for key, found_out in results[part].items():
                answer = found_out | {"said": "", "kernels": ""}
                line = "; ".join(f"{name} {value}" for name, value in answer.items() if value != "")
                said = found_out.get("said") or [""]
                if "title" in answer:
                    lines.append(f"\n{both(answer)}\n")
                elif isinstance(said, dict):
                    lines.append(f"- {part}, {key}: {line}\n\n{parity(said)}\n")
                else:
                    lines.append(f"- {part}, {key}: {line} {said[-1]}".rstrip())
    return "\n".join(lines) or "Nothing has been measured on a GPU yet."


def recipes(results: Results) -> str:
    """The recipes on the test rows: the mean and the worst of the seeds, and the time of one."""
    by_name: dict[str, list[Any]] = {}
    for key, found in results["found"].items():
        by_name.setdefault(key.partition(",")[0], []).append(found)
    lines = []
    for name, seeds in by_name.items():
        right, first = [found["test_accuracy"] for found in seeds], seeds[0]
        each = ", ".join(f"{share:.2%}" for share in right)
        minutes = [f"{found['cpu seconds'] / 60:.0f}" for found in seeds]
        figures = [f"{mean(right):.2%}", f"{min(right):.2%}", each, f"{first['epochs']}", ", ".join(minutes)]
        lines.append([f"`--recipe {name}`", *figures])
    header = ["recipe", "mean test accuracy", "worst", "seeds", "epochs", "minutes of CPU time a seed"]
    return markdown(header, lines)


def searched(results: Results) -> str:
    """The candidates of the search, by their accuracy on the validation rows."""
    lines = []
    for key, found in results["found"].items():
        given, rest = found["settings"], {"lr": "lr {:g}", "dropout": "dropout {1:g}"}
        how = [
            "-".join(map(str, (784, *given["hidden"], 10))),
            given["optimizer"],
            f"batches of {given['batch_size']}",
        ]
        for name in rest.keys() & given.keys():
            values = given[name] if isinstance(given[name], list) else [given[name]]
            how.append(rest[name].format(*values))
        sizes = " ".join(f"{name}={size:g}" for name, size in (given["augment"] or {}).items())
        means = ", ".join(f"{found[name]:.2%}" for name in found if name.startswith("average"))
        curve, minutes = found["curve"], found["cpu seconds"] / 60
        figures = [f"{curve[-1]:.2%}", f"{found['loss'][-1]:.4f}", means, f"{minutes:.1f}"]
        lines.append([key.partition(",")[0], ", ".join(how), sizes, f"{len(curve)}", *figures])
    header = ["candidate", "network", "distortions", "epochs", "validation accuracy", "loss"]
    last = ["means of 3, 5, 10 epochs' weights", "minutes of CPU time"]
    return markdown([*header, *last], sorted(lines, key=lambda line: line[4], reverse=True))


SPEEDS = [f"speed-{network}" for network in NETWORKS]

PARTS: dict[str, tuple[Callable[..., str], list[str]]] = {
    "about": (about, SPEEDS[:1]),
    "speed": (both, SPEEDS),
    "speed-short": (speed_short, SPEEDS[:1]),
    "time_to_accuracy": (both, ["time_to_accuracy"]),
    "prediction": (both, ["prediction", "prediction-tables"]),
    "scaling": (both, ["scaling-rows", "scaling-width", "scaling-depth"]),
    "startup": (both, ["startup"]),
    "accuracy": (accuracy, ["accuracy-mnist"]),
    "tables": (both, [f"accuracy-{part}" for part in ("diabetes", "friedman", "labels", "dropout")]),
    "agreement": (both, ["agreement"]),
    "estimators": (both, sorted(path.stem for path in RESULTS.glob("estimators-*.json"))),
    "defaults": (defaults, ["defaults"]),
    "recipes": (recipes, ["recipes-test"]),
    "recipes-short": (recipes, ["recipes-test"]),
    "searched": (searched, ["recipes"]),
    "rates": (both, sorted(path.stem for path in RESULTS.glob("defaults-*.json"))),
    "parity": (parity, ["parity-cpu"]),
    "parity-short": (lambda results: parity(results, FEW_GROUPS), ["parity-cpu"]),
    "gpu": (gpu, sorted(path.stem for path in RESULTS.glob("gpu-*.json"))),
}
"""The function that makes each part, and the results that it needs."""


def main() -> None:
    """Fill the parts of both READMEs, or of other files."""
    for path in map(Path, sys.argv[1:] or (HERE.parent / "README.md", HERE / "README.md")):
        text = path.read_text(encoding="utf-8")
        for name, (make, files) in PARTS.items():
            if part := re.search(f"<!-- {name} -->\n(.*?)<!-- end -->", text, re.DOTALL):
                text = f"{text[: part.start(1)]}{make(*map(read_results, files))}\n{text[part.end(1) :]}"
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
