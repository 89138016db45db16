"""The data of a command, as its options name them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnet.cli.options import MEMORY, columns, option, picture
from xpnet.runs import FIELDS

LABEL = option("--label", "Column of the targets of a table.  [default: the last]", metavar="NAME")
OPTIONS = (
    option(
        "--data",
        "MNIST, a .csv or .parquet table, a folder of images, an .npz, or a folder of .npy or IDX files.",
        default="mnist",
        metavar="mnist|PATH",
    ),
    option(
        "--test",
        "Rows of a table or of images to test with: a path, or a fraction.  [default: 0.2]",
        metavar="PATH|FRACTION",
    ),
    LABEL,
    option("--one-hot", "Columns of a table of which each value becomes one.", columns, metavar="NAME,…"),
    option("--drop", "Columns of a table to leave out.", columns, metavar="NAME,…"),
    option("--size", "Resize images to this width and height.", picture, metavar="WxH"),
    MEMORY,
)


def noted(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run notes, so that it finds its data from another folder too."""
    notes = {name: options[name] for name in FIELDS}
    for name in ("one_hot", "drop", "size"):
        notes[name] = notes[name] and list(notes[name])
    for name in ("data", "test"):
        if notes[name] not in (None, "mnist") and Path(notes[name]).exists():
            notes[name] = str(Path(notes[name]).resolve())
    return notes
