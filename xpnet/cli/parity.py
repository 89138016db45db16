"""`xpnet parity`."""

import json
import sys
from dataclasses import asdict
from functools import partial
from math import isfinite
from typing import Any

import click

from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend
from xpnet.cli.options import DEVICE, EXECUTION, JSON, PRECISION, Command, option
from xpnet.cli.progress import say, show
from xpnet.cli.tables import columns, lay_out, print_title
from xpnet.errors import UsageError, XpnetError
from xpnet.model import DTYPES
from xpnet.parity import Reference, Report, compare

GROUPS = {
    "What to compare": (
        DEVICE,
        option("--backend names", "May be repeated.  [default: all found]", metavar="NAME", multiple=True),
        option("--dtype dtypes", "May be repeated.  [default: both]", DTYPES, multiple=True),
        option("--run-steps", "Steps of the free run.", click.IntRange(1, 100_000), 1000),
        PRECISION,
        EXECUTION,
    ),
    "Output": (JSON,),
}


@click.command(cls=Command, groups=GROUPS)
def parity(
    names: tuple[str, ...], dtypes: tuple[str, ...], run_steps: int, as_json: bool, **place: Any
) -> None:
    """Compare libraries with NumPy in float64, number by number.

    This compares every operation, the whole forward pass and gradient, single training steps from the
    reference's own state, and a free run. If an error is above its gate, the command fails and names the
    first such quantity. With a reduced precision, which exists for float32 only, the reference rounds the
    factors of its products in the same way. The command also fails if steps fall back to eager execution.
    """
    precision = place["precision"]
    reduced = precision != "float32"
    if reduced and "float64" in dtypes:
        raise UsageError(f"precision {precision} belongs to float32, not to float64")
    backends = _chosen(names, **place)
    say(f"reference: numpy float64{f', factors rounded to {precision}' if reduced else ''}")
    reference = Reference.prepare(run_steps, precision=precision)
    reports = []
    for dtype in dtypes or (("float32",) if reduced else DTYPES[::-1]):
        for backend in backends:
            if not backend.supports(dtype):
                say(f"{backend.name} on {backend.device} has no {dtype}: left out")
                continue
            title = f"{backend.name} on {backend.device}, {_arithmetic(dtype, precision)}"
            title += f", {backend.group.size} processes" if backend.group.size > 1 else ""
            reports.append(compare(backend, dtype, reference, partial(show, title)))
            say(f"{title}: {_verdict(reports[-1])}, {reports[-1].seconds:.0f} s")

    if not reports:
        raise XpnetError(f"nothing to compare: no {' or '.join(dtypes)} on these devices")
    if as_json:
        described = [_described(report) for report in reports]
        click.echo(json.dumps({"run_steps": run_steps, "reports": described}, indent=2))
    else:
        for dtype in dict.fromkeys(report.dtype for report in reports):
            _print([report for report in reports if report.dtype == dtype])
    failed = [report for report in reports if not report.passed]
    if failed:
        raise XpnetError("; ".join(f"{r.backend} {r.dtype}: {_verdict(r)}" for r in failed))


def _chosen(names: tuple[str, ...], device: str | None, precision: str, execution: str) -> list[Backend]:
    """The libraries that are named, or all installed ones that can compute in this way on the device."""
    if not names:
        device = device or "cpu"
        get_backend(device)  # an unknown or missing device is an error, not an empty list
    kind = str(device).partition(":")[0]
    found = []
    for name in dict.fromkeys(names or (name for name in LIBRARIES if kind in backend_class(name).kinds)):
        try:
            made = get_backend(device, name, precision=precision, execution=execution)
            made.total()  # several processes need a sum
            found.append(made)
        except XpnetError as error:
            if names:
                raise
            say(f"left out: {error}")
    if not found:
        how = precision if execution == "auto" else f"{precision} with {execution} execution"
        raise XpnetError(f"nothing to compare: no library has {how} on {device}")
    return found


def _arithmetic(dtype: str, precision: str) -> str:
    return dtype if precision == "float32" else f"{dtype} with {precision} matrix products"


def _verdict(report: Report) -> str:
    row = report.first_failure
    if row is None:
        ran = report.execution
        return f"steps fell back to {ran}" if ran.reason else "pass"
    return f"{row.quantity} {row.note or f'is off by {row.error:.1e}'}, its gate is {row.gate:.0e}"


def _described(report: Report) -> dict[str, object]:
    rows = [asdict(row) | {"passed": row.passed} for row in report.rows]
    for row in rows:
        row["error"] = row["error"] if isfinite(row["error"]) else None
    first = report.first_failure
    return asdict(report) | {"rows": rows, "passed": report.passed, "first_failure": first and first.quantity}


def _print(reports: list[Report]) -> None:
    """Print the table of a dtype: a line for each quantity, a column for each library that fits."""
    cells = []
    for rows in zip(*(report.rows for report in reports), strict=True):
        gate = "-" if rows[0].gate is None else f"{rows[0].gate:.0e}"
        errors = [f"{row.error:.1e}{'' if row.passed else ' FAIL'}" if row.error else "0" for row in rows]
        cells.append([rows[0].quantity, gate, *errors])
    cells.append(["verdict", "", *("pass" if report.passed else "FAIL" for report in reports)])
    lines = lay_out(cells, ["quantity", "gate", *(report.backend for report in reports)], right=1)
    if len(reports) > 1 and max(map(len, lines)) > columns(sys.stdout):
        for report in reports:
            _print([report])
        return
    title = _arithmetic(reports[0].dtype, reports[0].precision)
    print_title(f"{title}: largest error relative to numpy float64")
    click.echo()
    for report in reports:
        about = f"{report.backend} {report.version} on {report.device}"
        click.echo(f"  {about}: {report.arithmetic} arithmetic, execution {report.execution}")
    click.echo("\n".join(["", *lines]))
