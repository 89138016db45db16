"""Distortion: in training, every image is moved and bent a little, anew in every step.

So the network sees each image once, as if there were endlessly many of them. Simard, Steinkraus and Platt,
"Best practices for convolutional neural networks applied to visual document analysis", 2003; Ciresan, Meier,
Gambardella and Schmidhuber, "Deep, big, simple neural nets for handwritten digit recognition", 2010.

Pixel p of the new image shows the old image at the point c + M (p - c) + t + e(p), where

- c is the centre of the image;
- M is a rotation times a slant and two factors, one for each axis;
- t is a shift;
- e is the elastic field: uniform noise, one number for a block of pixels, smoothed by a Gaussian.

Between pixels the old image is interpolated linearly, and beyond its edge it goes on as its edge.
"""

from dataclasses import dataclass
from math import exp, pi, tan

from xpnet.nn.random import uniform16
from xpnet.nn.typing import Array, Namespace, State

STREAM = -1
"""The stream of random numbers; dropout has those from 0 on."""

MATRIX = 6
"""Draws for M and t: the angle, two factors, the slant, and two shifts."""

TRUNCATE = 4.0
"""The Gaussian is cut off after so many standard deviations."""


SIZES = {
    "shift": (1.0, 1000.0),
    "rotate": (8.0, 180.0),
    "scale": (0.08, 1.0),
    "shear": (0.08, 10.0),
    "elastic": (5.0, 1000.0),
    "smooth": (4.0, 1000.0),
}
"""For each field of `Distortion`, the usual size, which served best on MNIST, and a limit above it."""


@dataclass(frozen=True)
class Distortion:
    """How images are distorted; every number is the largest that is drawn, with either sign.

    Parameters
    ----------
    shape
        Height and width of an image, 2 or more, and its colours, if it has any.
    shift
        Pixels.
    rotate
        Degrees, less than 180. The tangent of half the angle is uniform.
    scale, shear
        What is added to the factors 1 and to the slant 0.
    elastic
        What the noise in -1 … 1 is multiplied by, in pixels, before it is smoothed.
    smooth
        The standard deviation of the Gaussian, in pixels, and the side of the blocks of the noise.
    """

    shape: tuple[int, ...]
    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    smooth: float = 4.0

    @property
    def blocks(self) -> tuple[int, int]:
        """The number of blocks of the noise along each axis; none without an elastic field."""
        block = max(round(self.smooth), 1)
        return (-(-self.shape[0] // block), -(-self.shape[1] // block)) if self.elastic else (0, 0)

    @property
    def draws(self) -> int:
        """The number of random numbers for an image."""
        return MATRIX + 2 * self.blocks[0] * self.blocks[1]

    def constants(self, xp: Namespace) -> State:
        """What a step needs in its data, besides ``seed`` and ``places``: host arrays, float64.

        ``down`` (h, rows of blocks) makes smooth columns from noise. ``across`` makes a row of coordinates
        from noise, a constant and a slope: (columns of blocks + 2, w).
        """
        (h, w), (rows, columns) = self.shape[:2], self.blocks
        slope = [j - (w - 1) / 2 for j in range(w)]
        across = [self._bump(w, k) for k in range(columns)]
        down = [self._bump(h, k, self.elastic) for k in range(rows)] or [[0.0] * h]
        tables = {"across": [*across, [1.0] * w, slope], "down": list(zip(*down, strict=True))}
        tables["lines"] = [i - (h - 1) / 2 for i in range(h)]
        return {name: xp.asarray(table, dtype=xp.float64) for name, table in tables.items()}

    def _bump(self, n: int, k: int, times: float = 1.0) -> list[float]:
        """What block number k of the noise adds to each of n pixels: the sum of its pixels' Gaussians."""
        block, reach = max(round(self.smooth), 1), int(TRUNCATE * self.smooth + 0.5)
        bell = [exp(-0.5 * (d / self.smooth) ** 2) for d in range(-reach, reach + 1)]
        pixels = range(k * block, min((k + 1) * block, n))
        near = [[bell[i - j + reach] for j in pixels if abs(i - j) <= reach] for i in range(n)]
        return [times * sum(some) / sum(bell) for some in near]


def points(
    xp: Namespace, distortion: Distortion, data: State, key: tuple[Array, ...], m: int
) -> tuple[Array, Array]:
    """Draw the points of the old image that the pixels of m new images show.

    Parameters
    ----------
    data
        ``places``, as for `uniform16`, and `Distortion.constants`.
    key
        As for `uniform16`.

    Returns
    -------
    y, x : (m * h * w,)
        Row and column of every point; they may lie beyond the edge.
    """
    (h, w), (rows, columns), d = distortion.shape[:2], distortion.blocks, distortion
    lines, across = data["lines"], data["across"]
    draws = uniform16(xp, key, STREAM, data["places"], (m, d.draws))
    noise = (xp.astype(draws, lines.dtype) + 0.5) / 32768.0 - 1.0

    u = tan(d.rotate * pi / 360.0) * noise[:, 0]
    cos, sin = (1.0 - u * u) / (1.0 + u * u), 2.0 * u / (1.0 + u * u)
    factor_y, factor_x = 1.0 + d.scale * noise[:, 1], 1.0 + d.scale * noise[:, 2]
    slant = d.shear * noise[:, 3]
    # M = (cos, -sin; sin, cos) (factor_y, 0; slant, factor_x)
    by_line = xp.stack([cos * factor_y - sin * slant, sin * factor_y + cos * slant])[:, :, None]
    slope = xp.stack([-sin * factor_x, cos * factor_x])[:, :, None]
    centre = xp.stack([d.shift * noise[:, 4] + (h - 1) / 2, d.shift * noise[:, 5] + (w - 1) / 2])
    start = by_line * lines + centre[:, :, None]
    terms = xp.stack([start, slope + xp.zeros_like(start)], axis=3)
    if rows:
        field = xp.reshape(noise[:, MATRIX:], (m, 2, rows, columns))
        field = xp.reshape(xp.permute_dims(field, (2, 1, 0, 3)), (rows, 2 * m * columns))
        field = xp.reshape(xp.matmul(data["down"], field), (h, 2, m, columns))
        terms = xp.concat([xp.permute_dims(field, (1, 2, 0, 3)), terms], axis=3)
    found = xp.matmul(xp.reshape(terms, (2 * m * h, columns + 2)), across)
    found = xp.reshape(found, (2, m * h * w))
    return found[0, :], found[1, :]


def sample(xp: Namespace, images: Array, shape: tuple[int, ...], y: Array, x: Array, places: Array) -> Array:
    """Look at images between their pixels, by bilinear interpolation.

    Parameters
    ----------
    images : (m, h * w) or (m, h * w * 3)
        Any integers or floats.
    shape
        (h, w) or (h, w, 3).
    y, x : (m * h * w,)
        The points to look at, of one image after the other.
    places
        0, 1, …, m - 1, or more of them.

    Returns
    -------
    found
        As the images, in the dtype of the points.
    """
    (m, size), (h, w, *colours), dtype = images.shape, shape, y.dtype
    k = colours[0] if colours else 1
    top, left = xp.astype(xp.clip(y, 0.0, h - 2.0), xp.int32), xp.astype(xp.clip(x, 0.0, w - 2.0), xp.int32)
    y, x = xp.clip(y, 0.0, h - 1.0), xp.clip(x, 0.0, w - 1.0)
    y -= xp.astype(top, dtype)
    x -= xp.astype(left, dtype)
    top *= w
    top += left
    first = places[:m] * (h * w)
    place = xp.reshape(xp.reshape(top, (m, h * w)) + first[:, None], (m * h * w,)) * k
    flat = xp.astype(xp.reshape(images, (m * size,)), dtype, copy=False)
    found = []
    for colour in range(k):
        corners = (colour, colour + k, colour + w * k, colour + (w + 1) * k)
        above, right, below, last = (xp.take(flat, place + corner, axis=0) for corner in corners)
        right -= above
        right *= x
        above += right
        last -= below
        last *= x
        below += last
        below -= above
        below *= y
        above += below
        found.append(above)
    return xp.reshape(xp.stack(found, axis=1) if k > 1 else found[0], (m, size))


def distort(
    xp: Namespace, distortion: Distortion, data: State, key: tuple[Array, ...], images: Array
) -> Array:
    """Distort images (m, h * w), each by its own draws; see `points` and `sample`."""
    y, x = points(xp, distortion, data, key, images.shape[0])
    return sample(xp, images, distortion.shape, y, x, data["places"])
