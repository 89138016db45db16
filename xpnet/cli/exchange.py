"""`xpnet export` and `xpnet import`."""

from pathlib import Path
from typing import Any

import click

from xpnet.cli.options import Command, names, option
from xpnet.cli.tables import print_table
from xpnet.errors import XpnetError
from xpnet.exchange import SUFFIXES, export, import_model
from xpnet.model import MLP, load
from xpnet.nn.activations import ACTIVATIONS
from xpnet.nn.losses import LOSSES
from xpnet.runs import model_of

PATH = click.Path(path_type=Path)
TO = option("--to", "The format of the file.", tuple(SUFFIXES), required=True)
OUT = option("--out", "The file.  [default: beside the model]", PATH, metavar="FILE")
MODEL_OUT = option("--out", "The model to write.", PATH, metavar="FILE", required=True)
FOREIGN = (
    option("--activation", f"Of the hidden layers: {', '.join(ACTIVATIONS)}; or relu,tanh.", names),
    option("--loss", "What the network was trained for.", LOSSES),
)


@click.command("export", cls=Command, groups={"Output": (TO, OUT)})
@click.argument("path", metavar="MODEL", type=PATH)
def export_command(path: Path, to: str, out: Path | None) -> None:
    """Write a trained network for another program.

    MODEL is a file model.safetensors, or the folder of a run.

    onnx: a graph from rows to labels and probabilities, or numbers. torch: the state_dict of
    nn.Sequential(Linear, activation, Linear, …), as safetensors. npz: W1, b1, … for NumPy.
    """
    path = model_of(path)
    model = load(path)
    suffix = SUFFIXES[to] if SUFFIXES[to] != path.suffix else f".{to}{SUFFIXES[to]}"
    out = out or path.with_suffix(suffix)
    if out.exists() and out.samefile(path):
        raise XpnetError(f"{out}: the model itself, which is not replaced; give another --out")
    export(model, out, to)
    _print(model, out)


@click.command("import", cls=Command, groups={"What the file does not say": FOREIGN, "Output": (MODEL_OUT,)})
@click.argument("path", metavar="FILE", type=PATH)
def import_command(path: Path, out: Path, **described: Any) -> None:
    """Make a model of a file that another program wrote.

    FILE is .safetensors with the state_dict of Linear layers, or .npz with W1, b1, … A file that xpnet
    exported says what the network is; another one is taken for relu and cross-entropy.
    """
    model = import_model(path, **{name: value for name, value in described.items() if value is not None})
    model.save(out)
    _print(model, out)


def _print(model: MLP, out: Path) -> None:
    facts = [("network", str(model.network)), ("loss", model.loss), ("dtype", model.dtype)]
    print_table([*facts, ("file", str(out))])
