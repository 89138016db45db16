"""`xpnet evaluate`."""

import json
from pathlib import Path

import click

from xpnet.backends import get_backend
from xpnet.cli.options import data_option, place_options
from xpnet.cli.tables import print_facts, print_table
from xpnet.data import load_data
from xpnet.model import load
from xpnet.training import Evaluation
from xpnet.training import evaluate as evaluate_model


@click.command()
@click.argument("path", metavar="MODEL", type=click.Path(path_type=Path))
@data_option
@place_options
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for a program.")
def evaluate(
    path: Path, data: str, device: str | None, backend: str | None, threads: int | None, as_json: bool
) -> None:
    """Judge a trained network on test rows.

    MODEL is a model.safetensors, or the folder of a run that holds one.
    """
    chosen = get_backend(device, backend, threads=threads)
    model = load(path / "model.safetensors" if path.is_dir() else path, backend=chosen)
    rows = load_data(data)
    result = evaluate_model(model, rows.X_test, rows.y_test)
    if as_json:
        click.echo(json.dumps(_described(result), indent=2))
        return
    print_facts(
        {
            "accuracy": f"{result.accuracy:.2%}",
            "loss": f"{result.loss:.4f}",
            "rows": f"{result.rows:,}",
            "device": f"{chosen.device}, {model.dtype}",
            "library": f"{chosen.name} {chosen.version()}",
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


def _described(result: Evaluation) -> dict[str, object]:
    return {
        "accuracy": result.accuracy,
        "loss": result.loss,
        "rows": result.rows,
        "accuracy_by_class": result.accuracy_by_class,
        "confusion": result.confusion.tolist(),
    }
