"""`xpnet evaluate`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from xpnet.cli.options import JSON, MEMORY, PLACE, Command, backend_of, option
from xpnet.cli.source import LABEL
from xpnet.cli.tables import columns, lay_out, place, print_table, print_title, shown
from xpnet.data import Form, load_test
from xpnet.model import load
from xpnet.runs import model_of, of_run, read
from xpnet.training import Evaluation
from xpnet.training import evaluate as evaluate_model

MOST_CONFUSIONS = 20
"""Confusions that are printed if the confusion table does not fit."""

DATA = option("--data", "Test rows, as for train.  [default: the data of the run]", metavar="mnist|PATH")
GROUPS = {"Data": (DATA, LABEL, MEMORY), "Where and how to compute": PLACE, "Output": (JSON,)}


@click.command(cls=Command, groups=GROUPS)
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
def evaluate(
    path: Path, data: str | None, label: str | None, memory: int | None, as_json: bool, **where: Any
) -> None:
    """Evaluate a trained network on test rows.

    MODEL is a file model.safetensors, or the folder of a run.
    """
    backend = backend_of(**where)
    path = model_of(path)
    model = load(path, backend=backend)
    if data is None:
        options = of_run(path.parent)
        data, memory = options["data"], memory or options["memory"]
        rows = read(options | {"memory": memory}, model.kind)
        X, y = rows.X_test, rows.y_test
    else:
        names, shape = model.feature_names, model.image_shape
        form = Form(
            label=label, size=(shape[1], shape[0]) if shape else None, feature_names=names, image_shape=shape
        )
        X, y = load_test(data, memory=memory, targets=model.kind, form=form, class_names=model.class_names)
    result = evaluate_model(model, X, y, memory=memory)
    if as_json:
        numbers = {"data": data, **result.metrics, "loss": result.loss, "rows": result.rows}
        computed = {"precision": backend.precision, "execution": asdict(backend.execution)}
        by_class: dict[str, Any] = {}
        if model.kind == "classes":
            table = result.confusion.tolist() if "confusion" in result.totals else None
            by_class = {"accuracy_by_class": result.accuracy_by_class, "confusion": table}
            by_class |= {"class_names": list(model.class_names)} if model.class_names else {}
        click.echo(json.dumps(numbers | by_class | computed, indent=2))
        return
    metrics = [(name, shown(name, value)) for name, value in (*result.metrics.items(), ("loss", result.loss))]
    print_table([*metrics, ("rows", f"{result.rows:,} of {data}"), *place(model)])
    if model.kind == "classes":
        _print_classes(result, [str(name) for name in model.class_names or range(model.outputs)])


def _print_classes(result: Evaluation, names: list[str]) -> None:
    """Print the confusion table or, if it is wider than the terminal, its most telling parts."""
    width, classes = columns(sys.stdout), range(len(names))
    shares = ["-" if share is None else f"{share:.1%}" for share in result.accuracy_by_class]
    if 2 * len(classes) < width:
        confusion = result.confusion
        cells = [[names[i], shares[i], *map(str, confusion[i])] for i in classes]
        lines = lay_out(cells, ["class", "right", *names], right=0)
        if len(lines[-1]) <= width:
            print_title("rows: the true class; columns: how many of its rows were predicted as each class")
            click.echo("\n".join(lines))
            return
    tabled = "confusion" in result.totals
    print_title(f"accuracy by class{'; --json prints the whole confusion table' if tabled else ''}")
    counts = [f"{rows:g}" for rows in result.totals["by_class"].tolist()]
    print_table([[names[i], shares[i], counts[i]] for i in classes], ["class", "right", "rows"], 0)
    if not tabled:
        return
    confusion = result.confusion
    wrong = confusion * (1 - np.eye(len(classes), dtype=confusion.dtype))
    largest = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS].tolist()
    pairs = [divmod(where, len(classes)) for where in largest if wrong.flat[where]]
    print_title("the largest confusions" if pairs else "no confusions")
    print_table([[names[i], names[j], str(wrong[i, j])] for i, j in pairs], ["class", "predicted", "rows"], 0)
