"""Draw the README's sheet of distorted digits: `python bench/sheet.py` writes .github/distortions.png.

A row holds a digit of MNIST, and what a network sees in its place in the steps of a run with
``--augment shift=2,rotate=15,scale=0.15,shear=0.15,elastic=8``.
"""

from pathlib import Path

import numpy as np
from PIL import Image

import xpnet
from xpnet.nn.distortion import Distortion, distort

PATH = Path(__file__).resolve().parents[1] / ".github" / "distortions.png"
ROWS, STEPS = (1, 3, 5, 7), 11
"""Training rows that show 0, 1, 2 and 3, and the steps."""

EDGE, TIMES = 2, 2
"""Pixels between two digits, and the size of a pixel."""


def drawn(distortion: Distortion, images: np.ndarray) -> np.ndarray:
    """The images (m, h * w) as they are, and in some steps: (m, 1 + STEPS, h, w)."""
    places = np.arange(len(images) * distortion.draws, dtype=np.int32)
    data = distortion.constants(np) | {"places": places}
    seed = np.zeros(1, np.int32)
    seen = [distort(np, distortion, data, (seed, seed + step), images) for step in range(STEPS)]
    return np.stack([images, *seen], axis=1).reshape(len(images), 1 + STEPS, *distortion.shape)


def main() -> None:
    """Write the sheet."""
    data = xpnet.load_data()
    shape = data.form.image_shape or (28, 28)
    distortion = Distortion(shape, shift=2, rotate=15, scale=0.15, shear=0.15, elastic=8)
    digits = drawn(distortion, data.X_train[list(ROWS)])
    framed = np.pad(digits, ((0, 0), (0, 0), (EDGE, EDGE), (EDGE, EDGE)), constant_values=60)
    sheet = np.concatenate([np.concatenate(row, axis=1) for row in framed])
    image = Image.fromarray(np.round(sheet).astype(np.uint8)).quantize(16)
    image.resize((sheet.shape[1] * TIMES, sheet.shape[0] * TIMES), Image.Resampling.NEAREST).save(
        PATH, optimize=True
    )


if __name__ == "__main__":
    main()
