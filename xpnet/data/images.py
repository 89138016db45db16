"""Folders of images, with a subfolder for each class, read by Pillow."""

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from xpnet.data.form import Form, Rows, library
from xpnet.errors import XpnetError
from xpnet.files import opened

MOST_PIXELS = 2**25
"""An image of more is refused before it is unpacked."""

GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L")
"""Pillow's modes of images without colours. The first image of a folder decides for all."""

RUN = {"EPS", "WMF", "MPEG", "FPX", "MIC", "HDF5", "BUFR", "GRIB"}
"""Formats that Pillow hands to other programs, or cannot unpack."""

DAMAGE = (
    *(OSError, ValueError, TypeError, KeyError, IndexError, OverflowError, ArithmeticError),
    *(SyntaxError, EOFError, RuntimeError, NotImplementedError, AttributeError, struct.error),
)
"""The exceptions of Pillow's decoders for damaged files."""

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs of damage is in the error

IGNORED = ("thumbs.db", "desktop.ini")


def class_folders(folder: Path) -> list[Path]:
    """The subfolders of a folder, one for each class; whole numbers in the order of their values."""
    try:
        found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise XpnetError(f"{folder}: {error.strerror or error}") from error
    return sorted(found, key=lambda path: (int(path.name) if path.name.isdecimal() else 0, path.name))


def read_image(path: Path, form: Form) -> tuple[np.ndarray, tuple[int, ...]]:
    """Read an image as a row of bytes.

    Transparent pixels become white, and 16 bits become 8.

    Parameters
    ----------
    form
        To which size the image is brought, and which shape it must then have, if that is known.

    Returns
    -------
    row, shape
        (height * width,) or, for colours, (height * width * 3,) uint8; and the shape before it was made flat.

    Raises
    ------
    XpnetError
        Pillow is not installed, the file is no image or a damaged one, or has another shape.
    """
    pillow, ops = (library(name, "images") for name in ("PIL.Image", "PIL.ImageOps"))
    pillow.init()
    kinds = [kind for kind in pillow.OPEN if kind not in RUN]
    bomb = pillow.DecompressionBombError
    with opened(path) as file, _decoding(path, bomb), pillow.open(file, formats=kinds) as image:
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise bomb
        image = ops.exif_transpose(image)
        shape, size = form.image_shape, form.size
        grey = image.mode in GREY if shape is None else len(shape) == 2
        if image.mode.startswith("I;16"):
            image = pillow.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            paper = pillow.new("RGBA", image.size, "white")
            image = pillow.alpha_composite(paper, image.convert("RGBA"))
        image = image.convert("L" if grey else "RGB")
        pixels = np.asarray(image.resize(size) if size else image)
    if shape is not None and pixels.shape != tuple(shape):
        have, want = (f"{s[1]} x {s[0]} pixels" for s in (pixels.shape, shape))
        raise XpnetError(f"{path}: {have}, the others {want}; give --size {shape[1]}x{shape[0]}")
    return pixels.reshape(-1), pixels.shape


def read_images(folder: Path, form: Form, targets: str, memory: int | None) -> Rows:
    """Read the images of a folder, whose subfolders are the classes.

    Parameters
    ----------
    targets
        As for `load_data`: only "classes".
    memory
        The most bytes that the rows may need.

    Raises
    ------
    XpnetError
        As for `read_image`, the targets are others, a class is empty, or the rows need more than the memory.
    """
    if targets != "classes":
        raise XpnetError(f"{folder}: subfolders of images are classes; train with --loss cross-entropy")
    folders = class_folders(folder)
    rows, labels, size = list[np.ndarray](), list[int](), 0
    for number, name in enumerate(folders):
        files = sorted(path for path in name.iterdir() if path.name.lower() not in IGNORED)
        files = [path for path in files if not path.name.startswith(".")]
        if not files:
            raise XpnetError(f"{name}: no images in this folder")
        for path in files:
            row, shape = read_image(path, form)
            form, size = replace(form, image_shape=shape), size + row.nbytes
            if memory is not None and size > memory:
                raise XpnetError(f"{folder}: more than the memory of {memory:,} bytes; give a smaller --size")
            rows.append(row)
            labels.append(number)
    return Rows(np.array(rows), np.array(labels), tuple(path.name for path in folders), form)


@contextmanager
def _decoding(path: Path, bomb: type[Exception]) -> Iterator[None]:
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except XpnetError:
        raise
    except (bomb, MemoryError) as error:
        raise XpnetError(f"{path}: has too many pixels") from error
    except DAMAGE as error:
        raise XpnetError(f"{path}: not an image that Pillow reads, or cut off or damaged") from error
