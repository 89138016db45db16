"""`xpnet evaluate`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import numpy as np

from xpnet.backends import get_backend
from xpnet.cli.folder import CHECKPOINT, MODEL, resume_command
from xpnet.cli.options import JSON, MEMORY, PLACE, Command, option
from xpnet.cli.tables import columns, lay_out, place, print_table
from xpnet.data import load_data
from xpnet.errors import XpnetError
from xpnet.files import read_json
from xpnet.model import load
from xpnet.schema import WHOLE, check
from xpnet.training import Evaluation
from xpnet.training import evaluate as evaluate_model

MOST_CONFUSIONS = 20
"""Confusions that are printed if the confusion table does not fit."""

DATA = option("--data", "Test rows, as for train.  [default: the data of the run]", metavar="mnist|PATH")
GROUPS = {"Data": (DATA, MEMORY), "Where and how to compute": PLACE, "Output": (JSON,)}


@click.command(cls=Command, groups=GROUPS)
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
def evaluate(path: Path, data: str | None, memory: int | None, as_json: bool, **where: Any) -> None:
    """Evaluate a trained network on test rows.

    MODEL is a file model.safetensors, or the folder of a run.
    """
    backend = get_backend(**where)
    if path.is_dir():
        path = path / MODEL
        if not path.exists() and path.with_name(CHECKPOINT).exists():
            hint = f"finish it with {resume_command(path.parent)}, and a smaller --lr if it diverged"
            raise XpnetError(f"{path.parent}: this run has not ended; {hint}")
    model = load(path, backend=backend)
    if data is None:
        data, trained_with = _data_of_run(path.parent)
        memory = memory or trained_with
    rows = load_data(data, memory=memory)
    result = evaluate_model(model, rows.X_test, rows.y_test, memory=memory)
    if as_json:
        numbers = {name: getattr(result, name) for name in ("accuracy", "loss", "rows", "accuracy_by_class")}
        computed = {"precision": backend.precision, "execution": asdict(backend.execution)}
        described = {"data": data, **numbers, "confusion": result.confusion.tolist(), **computed}
        click.echo(json.dumps(described, indent=2))
        return
    accuracy, loss = ("accuracy", f"{result.accuracy:.2%}"), ("loss", f"{result.loss:.4f}")
    print_table([accuracy, loss, ("rows", f"{result.rows:,} of {data}"), *place(model)])
    _print_classes(result)


def _data_of_run(folder: Path) -> tuple[str, int | None]:
    """The data and the memory of the run in a folder.

    Raises
    ------
    XpnetError
        The folder does not tell them.
    """
    path = folder / "config.json"
    try:
        config = {"memory": None} | read_json(path)
        check(config, {"data": str, "memory": (None, WHOLE)}, str(path))
    except XpnetError as error:
        raise XpnetError(f"{error}; name the data with --data mnist or --data PATH") from error
    return config["data"], config["memory"]


def _print_classes(result: Evaluation) -> None:
    """Print the confusion table or, if it is wider than the terminal, its most telling parts."""
    confusion, width = result.confusion, columns(sys.stdout)
    classes = range(len(confusion))
    shares = ["-" if share is None else f"{share:.1%}" for share in result.accuracy_by_class]
    if 2 * len(classes) < width:
        cells = [[str(i), shares[i], *map(str, confusion[i])] for i in classes]
        lines = lay_out(cells, ["class", "right", *map(str, classes)], right=0)
        if len(lines[-1]) <= width:
            title = "rows: the true class; columns: how many of its rows were predicted as each class"
            click.echo("\n".join(["", title, *lines]))
            return
    click.echo("\naccuracy by class; --json prints the whole confusion table")
    print_table([[str(i), shares[i], str(sum(confusion[i]))] for i in classes], ["class", "right", "rows"], 0)
    wrong = confusion * (1 - np.eye(len(classes), dtype=confusion.dtype))
    largest = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSIONS].tolist()
    pairs = [divmod(where, len(classes)) for where in largest if wrong.flat[where]]
    click.echo("\nthe largest confusions" if pairs else "\nno confusions")
    print_table([[str(i), str(j), str(wrong[i, j])] for i, j in pairs], ["class", "predicted", "rows"], 0)
