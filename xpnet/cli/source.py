"""The data of a command, as its options or the folder of a run name them."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from xpnet.cli.options import MEMORY, columns, option, picture
from xpnet.data import Dataset, Form, load_data
from xpnet.errors import XpnetError
from xpnet.files import read_json
from xpnet.schema import WHOLE, check

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

FIELDS = {
    "data": str,
    "test": (None, str),
    "label": (None, str),
    "one_hot": (None, [str]),
    "drop": (None, [str]),
    "size": (None, [range(1, 10**5)]),
}
"""What a run notes of its data."""

EARLIER = dict.fromkeys(("test", "label", "one_hot", "drop", "size", "memory"))
"""What runs of earlier versions may not have noted."""


def read(options: Mapping[str, Any], targets: str) -> Dataset:
    """Read the data that options name."""
    test = options["test"]
    with suppress(ValueError):
        test = None if test is None else float(test)
    form = Form(
        label=options["label"],
        one_hot=tuple(options["one_hot"] or ()),
        drop=tuple(options["drop"] or ()),
        size=options["size"] and tuple(options["size"]),
    )
    source, memory, seed = options["data"], options["memory"], options["seed"]
    return load_data(source, memory=memory, targets=targets, test=test, seed=seed, form=form)


def noted(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a run notes, so that it finds its data from another folder too."""
    notes = {name: options[name] for name in FIELDS}
    for name in ("one_hot", "drop", "size"):
        notes[name] = notes[name] and list(notes[name])
    for name in ("data", "test"):
        if notes[name] not in (None, "mnist") and Path(notes[name]).exists():
            notes[name] = str(Path(notes[name]).resolve())
    return notes


def of_run(folder: Path) -> dict[str, Any]:
    """The options that the run in a folder had for its data.

    Raises
    ------
    XpnetError
        The folder does not tell them.
    """
    path = folder / "config.json"
    try:
        config = EARLIER | {"seed": 0} | read_json(path)
        check(config, FIELDS | {"memory": (None, WHOLE), "seed": range(2**31)}, str(path))
    except XpnetError as error:
        raise XpnetError(f"{error}; name the data with --data mnist or --data PATH") from error
    return config
