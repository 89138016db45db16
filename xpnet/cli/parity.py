"""`xpnet parity`."""

import json
import sys
from dataclasses import asdict
from functools import partial

import click

from xpnet.backends import LIBRARIES, Backend, backend_class, get_backend
from xpnet.cli.options import device_option, execution_option, precision_option
from xpnet.cli.tables import print_table
from xpnet.errors import UsageError, XpnetError
from xpnet.model import DTYPES
from xpnet.parity import Reference, Report, compare


@click.command()
@device_option
@click.option(
    "--backend",
    "names",
    multiple=True,
    metavar="NAME",
    help="Compare this library; may be repeated. By default every installed one that drives the device.",
)
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(DTYPES), help="May be repeated. By default both."
)
@precision_option
@execution_option
@click.option(
    "--run-steps", type=int, default=1000, show_default=True, metavar="N", help="Steps of the free run."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
def parity(
    device: str | None,
    names: tuple[str, ...],
    dtypes: tuple[str, ...],
    precision: str,
    execution: str,
    run_steps: int,
    as_json: bool,
) -> None:
    """Compare libraries with NumPy in float64, number by number.

    Every operation, the whole forward pass and gradient, single training steps from the reference's own
    state, and a free run. Fails, and names the first quantity at fault, when an error is over its gate.
    With a reduced precision, which is of float32 alone, the reference rounds what it multiplies likewise.
    Fails, too, when steps fall back to eager execution unasked.
    """
    reduced = precision != "float32"
    if reduced and "float64" in dtypes:
        raise UsageError(f"precision {precision} belongs to float32, not to float64")
    backends = _chosen(device, names, precision=precision, execution=execution)
    _say(f"reference: numpy float64{f', factors rounded to {precision}' if reduced else ''}")
    reference = Reference.prepare(run_steps, precision=precision)
    reports = []
    for dtype in dtypes or (("float32",) if reduced else DTYPES[::-1]):
        for backend in backends:
            if not backend.supports(dtype):
                _say(f"{backend.name} on {backend.device} has no {dtype}: left out")
                continue
            title = f"{backend.name} on {backend.device}, {_arithmetic(dtype, precision)}"
            reports.append(compare(backend, dtype, reference, partial(_show, title)))
            _say(f"{title}: {_verdict(reports[-1])}, {reports[-1].seconds:.0f} s")

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
        raise XpnetError(
            "; ".join(f"{report.backend} {report.dtype}: {_verdict(report)}" for report in failed)
        )


def _chosen(device: str | None, names: tuple[str, ...], *, precision: str, execution: str) -> list[Backend]:
    """The libraries to compare: those named, or all that are installed and can do as told on the device."""
    if names:
        return [
            get_backend(device, name, precision=precision, execution=execution)
            for name in dict.fromkeys(names)
        ]
    device = device or "cpu"
    get_backend(device)  # an unknown or missing device is an error, not an empty list
    found = []
    for name in LIBRARIES:
        if device.partition(":")[0] in backend_class(name).kinds:
            try:
                found.append(get_backend(device, name, precision=precision, execution=execution))
            except XpnetError as error:
                _say(f"left out: {error}")
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
        return f"steps fell back to {ran}" if ran.fell_back else "pass"
    return f"{row.quantity} {row.note or f'is off by {row.error:.1e}'}, its gate is {row.gate:.0e}"


def _described(report: Report) -> dict[str, object]:
    first = report.first_failure
    return asdict(report) | {
        "rows": [
            asdict(row) | {"error": row.error if row.error < float("inf") else None, "passed": row.passed}
            for row in report.rows
        ],
        "passed": report.passed,
        "first_failure": first.quantity if first else None,
    }


def _print(reports: list[Report]) -> None:
    """One table for a dtype: a quantity a line, a library a column."""
    header = ["quantity", "gate", *(report.backend for report in reports)]
    lines = []
    for rows in zip(*(report.rows for report in reports), strict=True):
        gate = "-" if rows[0].gate is None else f"{rows[0].gate:.0e}"
        cells = [(f"{row.error:.1e}" if row.error else "0") + ("" if row.passed else " FAIL") for row in rows]
        lines.append([rows[0].quantity, gate, *cells])
    lines.append(["verdict", "", *("pass" if report.passed else "FAIL" for report in reports)])
    title = _arithmetic(reports[0].dtype, reports[0].precision)
    click.echo(f"\n{title}: largest error relative to numpy float64\n")
    for report in reports:
        about = f"{report.backend} {report.version} on {report.device}"
        click.echo(f"  {about}: {report.arithmetic} arithmetic, execution {report.execution}")
    print_table(lines, header, right=1)


def _say(line: str) -> None:
    """A line of progress that stays."""
    clear = "\r\x1b[2K" if sys.stderr.isatty() else ""
    click.echo(f"{clear}{line}", err=True)


def _show(title: str, text: str) -> None:
    """A line of progress that the next one replaces; nothing in a pipe."""
    if sys.stderr.isatty():
        click.echo(f"\r\x1b[2K{title}: {text}", err=True, nl=False)
