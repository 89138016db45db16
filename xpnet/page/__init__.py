"""The page that shows what a run learned: one HTML file that needs neither a network nor a server."""

import html
import json
import re
import zlib
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.arguments import brief, flag, instance
from xpnet.errors import UsageError
from xpnet.files import FilePath, write_atomically
from xpnet.model import MLP
from xpnet.page.story import Story, of_folder, of_model
from xpnet.training import History

HERE = Path(__file__).parent
SCRIPTS = ("network.js", "draw.js", "page.js", "board.js", "lesson.js")


def report(
    run: FilePath | MLP,
    X: Any = None,
    y: Any = None,
    *,
    history: History | None = None,
    out: FilePath | None = None,
    open: bool = False,
) -> Path:
    """Write one HTML file that shows what a network learned, and where it fails.

    Parameters
    ----------
    run
        The folder of a run of ``xpnet train``, or a trained network.
    X, y, history
        With a network: rows to test it with, their targets, and perhaps what `xpnet.train` returned.
    out
        The file. Default: ``report.html`` in the folder of the run.
    open
        Open the page in the browser.

    Returns
    -------
    path
        The file that was written.

    Raises
    ------
    UsageError
        The arguments do not belong together.
    XpnetError
        The run has not ended, its files are damaged, or the page cannot be written.
    """
    flag("open", open)
    instance("history", history, (History, type(None)), "an xpnet.History")
    if isinstance(run, MLP):
        if X is None or y is None or out is None:
            raise UsageError("a network needs rows X, y and a file: report(model, X, y, out='report.html')")
        story, path = of_model(run, X, y, history), Path(out)
    elif X is not None or y is not None or history is not None:
        raise UsageError(f"X, y and history belong to an xpnet.MLP, not to {brief(run)}, which has its own")
    else:
        story, path = of_folder(run), Path(run) / "report.html" if out is None else Path(out)
    write_atomically(path, page(story).encode())
    if open:
        import webbrowser  # which takes some time

        webbrowser.open(path.resolve().as_uri())
    return path


def page(story: Story) -> str:
    """Put the page together. Its security policy allows its own script and style, and nothing else."""
    text = {name: (HERE / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", *SCRIPTS)}
    parts = {"style": text["page.css"], "script": "".join(text[name] for name in SCRIPTS)}
    hashes = {name: b64encode(sha256(part.encode()).digest()).decode() for name, part in parts.items()}
    allowed = [f"{name}-src 'sha256-{digest}'" for name, digest in hashes.items()]
    arrays, places = packed(story.arrays)
    parts |= {"policy": "; ".join(["default-src 'none'", *allowed]), "arrays": arrays}
    parts |= {"title": html.escape(story.facts["title"]), "facts": embedded(story.facts | {"arrays": places})}
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], text["page.html"])


def embedded(facts: Mapping[str, Any]) -> str:
    """Write facts as JSON that ends no element of HTML. Numbers that JSON does not have become null."""
    finite = json.loads(json.dumps(facts), parse_constant=lambda _: None)
    return json.dumps(finite, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def packed(arrays: Mapping[str, np.ndarray]) -> tuple[str, dict[str, Any]]:
    """Compress arrays into one text; and tell the type and the shape of each, and where it begins."""
    content, places = bytearray(), {}
    for name, array in arrays.items():
        content += bytes(-len(content) % 8)  # a browser wants numbers at multiples of their size
        places[name] = {"type": array.dtype.name, "shape": array.shape, "at": len(content)}
        content += np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
    return b64encode(zlib.compress(content, 9)).decode(), places
