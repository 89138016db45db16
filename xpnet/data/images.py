"""Folders of images, with a subfolder for each class, read by Pillow."""

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data.form import Form, Rows, library
from xpnet.data.mapped import gathered
from xpnet.errors import XpnetError
from xpnet.files import opened

MOST_PIXELS = 2**25
"""An image of more is refused before it is unpacked."""

GREY = ("1", "L", "LA", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of images without colours."""

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


def files_in(folder: Path) -> list[Path]:
    """The files of a folder of images, in order, but for hidden ones.

    Raises
    ------
    XpnetError
        There are none.
    """
    found = [path for path in folder.iterdir() if path.name[0] != "." and path.name.lower() not in IGNORED]
    if not found:
        raise XpnetError(f"{folder}: no images in this folder")
    return sorted(found)


def read_image(path: Path, form: Form) -> np.ndarray:
    """Read an image as bytes.

    Transparent pixels become white, and 16 bits become 8.

    Parameters
    ----------
    form
        To which size the image is brought, and which shape it must then have, if that is known.

    Returns
    -------
    pixels : (height, width) or (height, width, 3) uint8
        Without colours if the shape says so or, if it is unknown, if the file has none.

    Raises
    ------
    XpnetError
        Pillow is not installed, the file is no image or a damaged one, or has another shape.
    """
    shape, size = form.image_shape, form.size
    with _image(path) as (image, pillow):
        image = library("PIL.ImageOps", "images").exif_transpose(image)
        grey = image.mode in GREY if shape is None else len(shape) == 2
        if image.mode in ("I", "F"):
            raise XpnetError(f"{path}: pixels of 32 bits; save it with 8 or 16 bits")
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
    return pixels


def read_images(folder: Path, form: Form, targets: str, memory: int | None) -> Rows:
    """Read the images of a folder, whose subfolders are the classes.

    If their shape is unknown, it is that of the first one, with colours if any image has them.

    Parameters
    ----------
    targets
        As for `load_data`: only "classes".
    memory
        None to keep the rows in memory; see `gathered`.

    Raises
    ------
    XpnetError
        As for `read_image` and `gathered`, the targets are others, or a class is empty.
    """
    if targets != "classes":
        raise XpnetError(f"{folder}: subfolders of images are classes; train with --loss cross-entropy")
    folders, files, labels = class_folders(folder), list[Path](), list[int]()
    for number, name in enumerate(folders):
        found = files_in(name)
        files += found
        labels += [number] * len(found)
    if form.image_shape is None:
        shape = read_image(files[0], form).shape
        coloured = any(map(_is_coloured, files))
        form = replace(form, image_shape=(*shape[:2], 3) if coloured else shape)
    X = gathered((read_image(path, form).reshape(1, -1) for path in files), memory)
    return Rows(X, np.array(labels), tuple(path.name for path in folders), form)


def _is_coloured(path: Path) -> bool:
    with _image(path) as (image, _):
        return image.mode not in GREY


@contextmanager
def _image(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open an image, of which only the header is read, and hand out Pillow too."""
    pillow = library("PIL.Image", "images")
    pillow.init()
    kinds = [kind for kind in pillow.OPEN if kind not in RUN]
    with opened(path) as file, warnings.catch_warnings(action="ignore"):
        try:
            with pillow.open(file, formats=kinds) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise pillow.DecompressionBombError
                yield image, pillow
        except (pillow.DecompressionBombError, MemoryError) as error:
            raise XpnetError(f"{path}: has too many pixels") from error
        except DAMAGE as error:
            raise XpnetError(f"{path}: not an image that Pillow reads, or cut off or damaged") from error
