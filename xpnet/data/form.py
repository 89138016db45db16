"""What is known of the rows in a user's own files, and the numbers of their classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from xpnet.arguments import brief
from xpnet.data.checks import FEW_CLASSES, MOST_CLASSES
from xpnet.errors import XpnetError

FEWEST_ROWS = 20
"""More classes than this need two rows each on average; otherwise their labels are taken for numbers."""


@dataclass(frozen=True)
class Form:
    """How rows are read from tables and images.

    Attributes
    ----------
    label
        The name of the column with the label; None for the last column.
    one_hot
        Columns of which each value becomes a column of 0 and 1.
    drop
        Columns that are left out.
    size
        Width and height to which images are resized.
    feature_names
        The columns of the rows in order, where they are known: "age", or "colour=red" for a value.
    image_shape
        Height and width of images, and 3 for colours, where they are known.
    """

    label: str | None = None
    one_hot: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    size: tuple[int, int] | None = None
    feature_names: tuple[str, ...] | None = None
    image_shape: tuple[int, ...] | None = None


UNKNOWN = Form()


@dataclass(frozen=True)
class Rows:
    """Rows that were read: numbers (n, features), and labels by number and name, or targets in `y`.

    `first` is the number of the first row, as messages count them.
    """

    X: np.ndarray
    y: np.ndarray
    names: tuple[str, ...]
    form: Form
    first: int = 0


def library(module: str, what: str) -> Any:
    """Import a module of a library that only some kinds of files need.

    Raises
    ------
    XpnetError
        It is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        name = {"PIL": "pillow"}.get(module.partition(".")[0], module.partition(".")[0])
        raise XpnetError(f"{what} need {name}: pip install {name}") from error


def class_numbers(
    codes: np.ndarray,
    texts: Sequence[str],
    known: Sequence[str] | None,
    what: str,
    *,
    first: int = 0,
    folders: bool = False,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Number classes by their names, in the order of the names, whole numbers in that of their values.

    Parameters
    ----------
    codes : (n,)
        The place of the name of each row in `texts`.
    known
        The names of the classes; None to find them.
    what
        The name of the labels, with which the message begins.
    first
        The number of the first row in messages.
    folders
        Whether the names are those of folders, and stay what they are.

    Returns
    -------
    numbers, names
        int32, and the names of the classes.

    Raises
    ------
    XpnetError
        A name is empty, is none of the known ones, or has digits behind a decimal point; or there are too
        many classes.
    """

    def row(text: str) -> str:
        return f"{what}: row {first + int(np.argmax(codes == texts.index(text))):,}"

    texts = [text.strip() for text in texts]
    values = [_number(text) for text in texts]
    if None not in values and not folders:
        for text, value in zip(texts, values, strict=True):
            if value is None or not value.is_integer():
                said = f"label {text} is no class; for numbers to predict give --loss squared-error"
                raise XpnetError(f"{row(text)}: {said}")
        texts = [f"{value:.0f}" for value in values]
    for text in texts:
        if not text or (known is not None and text not in known):
            said = f"label {brief(text)} is none of the classes {brief(list(known or ()))}"
            raise XpnetError(f"{row(text)}: {said if text else 'a missing label'}")
    names = tuple(known or sorted(set(texts), key=lambda text: (_number(text) or 0.0, text)))
    many = len(names) > min(FEW_CLASSES, max(FEWEST_ROWS, len(codes) // 2))
    if len(names) > MOST_CLASSES or (known is None and many and not folders):
        said = "for numbers to predict give --loss squared-error"
        raise XpnetError(f"{what}: {len(names):,} different labels in {len(codes):,} rows; {said}")
    numbers = {name: number for number, name in enumerate(names)}
    return np.array([numbers[text] for text in texts], np.int32)[codes], names


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
