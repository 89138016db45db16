"""`xpnet evaluate`."""

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from xpnet.backends import Backend, get_backend
from xpnet.cli.options import memory_option, place_options
from xpnet.cli.tables import computing, print_facts, print_table
from xpnet.data import load_data
from xpnet.errors import XpnetError
from xpnet.model import load
from xpnet.training import Evaluation
from xpnet.training import evaluate as evaluate_model


@click.command()
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="mnist|PATH",
    help="As for train. By default what the model was trained on, if its run's folder says; else mnist.",
)
@memory_option
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
def evaluate(path: Path, data: str | None, memory: int | None, as_json: bool, **place: Any) -> None:
    """Judge a trained network on test rows.

    MODEL is a model.safetensors, or the folder of a run that holds one.
    """
    chosen = get_backend(**place)
    if path.is_dir():
        path = path / "model.safetensors"
        if not path.exists() and path.with_name("checkpoint.safetensors").exists():
            again = f"xpnet train --resume --out {shlex.quote(str(path.parent))}"
            raise XpnetError(f"{path.parent}: this run has not ended; finish it with {again}")
    model = load(path, backend=chosen)
    if data is None:
        data, told_memory = _told(path.parent)
        memory = memory or told_memory
    rows = load_data(data, memory=memory)
    result = evaluate_model(model, rows.X_test, rows.y_test, memory=memory)
    if as_json:
        click.echo(json.dumps(_described(result, data, chosen), indent=2))
        return
    print_facts(
        {
            "accuracy": f"{result.accuracy:.2%}",
            "loss": f"{result.loss:.4f}",
            "rows": f"{result.rows:,} of {data}",
            "device": f"{chosen.device}, {model.dtype}",
            "library": f"{chosen.name} {chosen.version()}",
            **computing(chosen),
        }
    )
    click.echo("\nrows: the true class; columns: how many of its rows were taken for each class")
    print_table(
        [
            [str(label), "-" if share is None else f"{share:.1%}", *map(str, counts)]
            for label, (share, counts) in enumerate(
                zip(result.accuracy_by_class, result.confusion, strict=True)
            )
        ],
        ["class", "right", *map(str, range(len(result.confusion)))],
        right=0,
    )


def _told(folder: Path) -> tuple[str, int | None]:
    """The data that the run in a folder was trained on, and its memory; mnist where it does not say."""
    try:
        config = json.loads((folder / "config.json").read_text())
        source, memory = config["data"], config.get("memory")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return "mnist", None
    if not isinstance(source, str):
        return "mnist", None
    return source, memory if isinstance(memory, int) else None


def _described(result: Evaluation, data: str, backend: Backend) -> dict[str, object]:
    return {
        "data": data,
        "accuracy": result.accuracy,
        "loss": result.loss,
        "rows": result.rows,
        "accuracy_by_class": result.accuracy_by_class,
        "confusion": result.confusion.tolist(),
        "precision": backend.precision,
        "execution": asdict(backend.execution),
    }
