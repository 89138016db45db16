"""Take the picture that README.md opens with: the page of a run, on whose board a digit is drawn.

    python bench/picture.py runs/001

writes ``.github/page.png``. It needs Chromium, playwright and pillow.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

import xpnet

OUT = Path(__file__).resolve().parent.parent / ".github" / "page.png"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH, HEIGHT = 1120, 790
STROKES = (
    [(0.36, 0.22), (0.34, 0.34), (0.30, 0.46), (0.28, 0.53), (0.40, 0.55), (0.54, 0.53), (0.68, 0.51)],
    [(0.62, 0.24), (0.61, 0.40), (0.58, 0.58), (0.56, 0.74), (0.55, 0.84)],
)
"""A 4, as shares of the board."""

COLOURS = 96


def picture(page_of_run: Path) -> bytes:
    """The upper part of a page, after a digit was drawn with the mouse, as PNG."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(page_of_run.resolve().as_uri())
        page.wait_for_selector("html[data-ready]")
        box = page.locator("#board").bounding_box()
        assert box is not None
        for stroke in STROKES:
            points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
            page.mouse.move(*points[0])
            page.mouse.down()
            for point in points:
                page.mouse.move(*point, steps=4)
            page.mouse.up()
        page.wait_for_timeout(500)
        taken = page.screenshot()
        browser.close()
    return taken


if __name__ == "__main__":
    with Image.open(io.BytesIO(picture(xpnet.report(sys.argv[1])))) as image:
        image.convert("RGB").quantize(COLOURS).save(OUT, optimize=True)
    print(f"{OUT}: {OUT.stat().st_size:,} bytes")
