"""The page of a run, in a real browser: it answers, computes what the package computes, and is safe."""

import json
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

import xpnet
from tests.helpers import refused
from tests.process import run, small_data, succeed, write_npz

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
DIGITS = 30


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. Where it is missing, a whole run fails; see `tests.conftest`."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise ModuleNotFoundError("install a browser: apt-get install chromium", name="chromium")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=[*ARGUMENTS, "--no-first-run"])
        yield started
        started.close()


class Opened:
    """A page that is open in a browser, and what it complains of or asks for."""

    def __init__(self, browser: Browser, path: Path, width: int = 1280, scheme: Any = "light") -> None:
        self.path, self.said = path, list[str]()
        self.page: Page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("dialog", lambda dialog: self.said.append(dialog.message))
        self.page.on("request", lambda request: self.said.append(request.url))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("html[data-ready]", timeout=20_000)

    def js(self, code: str, *arguments: Any) -> Any:
        return self.page.evaluate(code, *arguments)

    def text(self, selector: str) -> str:
        return self.page.locator(selector).first.text_content() or ""

    def frame(self) -> None:
        """Wait until the page has drawn."""
        self.js("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def close(self) -> None:
        """Check that nothing was said and nothing asked for but the file, and that nothing is too wide."""
        assert self.said == [self.path.as_uri()]
        assert self.js("document.documentElement.scrollWidth") <= self.js("innerWidth")
        self.page.close()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on MNIST, with its page."""
    folder = tmp_path_factory.mktemp("digits")
    ended = succeed(folder, "train", "--epochs", "3", "--quiet", "--report", "--out", "run")
    assert re.search(r"^report +run/report\.html$", ended.out, re.MULTILINE)
    return folder / "run"


def thinned(ink: np.ndarray) -> np.ndarray:
    """The skeleton of a drawing. Zhang and Suen, "A fast parallel algorithm for thinning", 1984."""
    ink = np.pad(ink, 2).astype(int)
    turn = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    while True:
        before = ink.copy()
        for first in (True, False):
            p = [np.roll(ink, (-dy, -dx), (0, 1)) for dy, dx in turn]
            rises = sum((a == 0) & (b == 1) for a, b in zip(p, [*p[1:], p[0]], strict=True))
            ends = (
                (p[0] * p[2] * p[4], p[2] * p[4] * p[6])
                if first
                else (p[0] * p[2] * p[6], p[0] * p[4] * p[6])
            )
            ink[
                (ink == 1) & (rises == 1) & np.isin(sum(p), range(2, 7)) & (ends[0] == 0) & (ends[1] == 0)
            ] = 0
        if (ink == before).all():
            return ink[2:-2, 2:-2]


def strokes(picture: np.ndarray) -> list[list[tuple[int, int]]]:
    """The lines, as points (x, y), that a hand would draw to write a digit."""
    left = {(int(x), int(y)) for y, x in np.argwhere(thinned(picture > 100))}
    done, found = set[tuple[int, int]](), list[list[tuple[int, int]]]()

    def near(at: tuple[int, int], points: set[tuple[int, int]]) -> list[tuple[int, int]]:
        return sorted(
            (p for p in points if max(abs(p[0] - at[0]), abs(p[1] - at[1])) == 1),
            key=lambda p: abs(p[0] - at[0]) + abs(p[1] - at[1]),
        )

    while left:
        at: Any = min(left, key=lambda p: (len(near(p, left)), p[1]))
        line = [*near(at, done)[:1], at]
        while at:
            left.discard(at)
            done.add(at)
            line.append(at)
            at = next(iter(near(at, left)), ())
        line += near(line[-1], done - set(line[-3:]))[:1]
        found.append(line)
    return found


def test_the_board_reads_digits_that_are_drawn_and_computes_what_the_package_computes(
    browser: Browser, digits: Path
) -> None:
    data, model = xpnet.load_data("mnist"), xpnet.load(digits / "model.safetensors")
    opened, right = Opened(browser, digits / "report.html"), 0
    page, mouse = opened.page, opened.page.mouse
    page.locator("#board").scroll_into_view_if_needed()
    box = page.locator("#board").bounding_box()
    assert box is not None
    for number in range(DIGITS):
        for line in strokes(data.X_test[number].reshape(28, 28)):
            points = [
                (box["x"] + (x + 0.5) * box["width"] / 28, box["y"] + (y + 0.5) * box["height"] / 28)
                for x, y in line[:1] + line[1:-1:3] + line[-1:]
            ]
            mouse.move(*points[0])
            mouse.down()
            for at in points[1:]:
                mouse.move(*at)
            mouse.up()
        opened.frame()
        bars = "[...document.querySelectorAll('#probabilities li')].map((li) => Number(li.dataset.value))"
        seen, shown = opened.js(f"() => [[...pixels(drawn, 0)], {bars}]")
        asked = np.rint(np.array(seen) * 255).astype(np.uint8)[np.newaxis]
        assert np.abs(np.array(shown) - model.predict_proba(asked)[0]).max() < 1e-5
        right += int(np.argmax(shown)) == data.y_test[number]
        page.locator("#clear").click()
    assert right >= DIGITS - 2
    answers = np.array(
        opened.js("() => { const A = forward(P, scaled(D['pool.X']), facts).A.at(-1); return [...A.v]; }")
    )
    rows = opened.js("() => [...D['pool.row'].v]")
    assert np.abs(answers.reshape(-1, 10) - model.predict_proba(data.X_test[rows])).max() < 1e-5
    opened.close()
    assert (digits / "report.html").stat().st_size < 1.2e6


def test_everything_answers_a_click_and_a_key(browser: Browser, digits: Path) -> None:
    data, model = xpnet.load_data("mnist"), xpnet.load(digits / "model.safetensors")
    confusion = xpnet.evaluate(model, data.X_test, data.y_test).confusion
    wrong = confusion * (1 - np.eye(10, dtype=int))
    i, j = divmod(int(wrong.argmax()), 10)
    opened = Opened(browser, digits / "report.html", 360, "dark")
    page = opened.page
    page.locator(f"#confusion [data-cell='{i},{j}']").click()
    assert page.locator("#behind .card").count() == min(60, wrong.max())
    page.locator("#behind .card").first.click()
    opened.frame()
    assert opened.text("#answer").startswith(f"{j}, ")
    assert page.locator("#mistakes .card").count() == 24
    page.locator("#units button").nth(7).click()
    assert (page.locator("#unit .card").count(), page.locator("#unit .bars li").count()) == (4, 10)
    most = "Math.max(...[...Array(A.m).keys()].map((i) => A.v[i * A.n + 7]))"
    unit = opened.js(f"() => {{ const A = forward(P, scaled(D['pool.X']), facts).A[1]; return {most}; }}")
    P = model.host_parameters()
    assert unit == pytest.approx((data.X_test / np.float32(255) @ P["W1"][:, 7] + P["b1"][7]).max(), rel=1e-4)
    page.locator("#board").focus()
    for key in ("Space", "ArrowDown", "ArrowDown", "ArrowRight", "Space"):
        page.keyboard.press(key)
    assert opened.js("() => strokes.length") == 1
    page.locator("#undo").click()
    assert opened.js("() => strokes.length") == 0
    page.locator("#curves svg").first.focus()
    page.keyboard.press("ArrowLeft")
    assert opened.text("#curves .readout").startswith("epoch 2")
    seen = []
    while page.locator("#next").is_enabled():
        page.locator("#next").click()
        seen.append(opened.text("#stage h3").partition(" ")[0])
        assert page.locator("#stage canvas").count()
    assert seen == ["Z1", "A1", "Z2", "A2", "loss", "dZ2", "dW2", "dA1", "dZ1", "dW1", "W"]
    opened.close()


@pytest.mark.parametrize(
    "options", ["", "--optimizer adam --loss cross-entropy --standardize --hidden 5,4 --activation tanh,relu"]
)
def test_the_lesson_is_the_first_step_of_the_run(browser: Browser, tmp_path: Path, options: str) -> None:
    data = write_npz(tmp_path / "data.npz", small_data(rows=50))
    line = [
        "--data",
        str(data),
        "--epochs",
        "1",
        "--batch-size",
        "64",
        "--validation",
        "0",
        "--hidden",
        "6",
        *options.split(),
    ]
    succeed(tmp_path, "train", *line, "--out", "run", "--dtype", "float64")
    history = (tmp_path / "run" / "history.csv").read_text().splitlines()
    loss = float(dict(zip(history[0].split(","), history[1].split(","), strict=True))["loss"])
    opened = Opened(browser, xpnet.report(tmp_path / "run"))
    step = "() => stages(start, scaled(D['lesson.X']), D['lesson.T'], D['lesson.shares'].v, 0)"
    assert opened.js(
        f"{step.replace('() => ', '() => (')}).find((s) => s.symbol === 'loss').M.v[0]"
    ) == pytest.approx(loss, rel=1e-4)
    opened.close()


def test_a_run_with_a_hostile_name_and_without_its_data_shows_the_rest(
    browser: Browser, tmp_path: Path
) -> None:
    data = write_npz(tmp_path / "data.npz", small_data(rows=50))
    name = "<img src=x onerror=alert(1)>\u2028&amp;{{facts}}"
    succeed(tmp_path, "train", "--data", str(data), "--epochs", "1", "--hidden", "6", "--out", name)
    data.unlink()
    opened = Opened(browser, xpnet.report(tmp_path / name, out=tmp_path / "page.html"), 360)
    assert opened.text("#name") == f"xpnet · {name}"
    assert opened.text("#notes").startswith("The data of the run cannot be read")
    assert opened.page.locator("#curves svg").count() == 2
    assert opened.page.locator("#mistakes").is_hidden()
    opened.close()


def test_hostile_names_and_values_are_text(browser: Browser, tmp_path: Path) -> None:
    bad = [
        "</script><script>alert(1)</script>",
        "<img src=x onerror=alert(2)>",
        "\u2028'\"&amp;\u202e" + "x" * 300,
    ]
    columns = [f"{name} {i}" for i in range(3) for name in ("</style><b>", "{{facts}}")]
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 6)), np.arange(90) % 3
    model = xpnet.MLP((6, 4, 3), class_names=bad, feature_names=columns)
    history = xpnet.train(model, X, y, epochs=2)
    object.__setattr__(history.epochs[0], "loss", float("nan"))
    object.__setattr__(history.epochs[1], "metrics", dict.fromkeys(history.epochs[1].metrics, float("inf")))
    opened = Opened(browser, xpnet.report(model, X, y, history=history, out=tmp_path / "a&b <i>.html"), 360)
    assert opened.js("() => [facts.classes, facts.features]") == [bad, columns]
    assert opened.js("() => document.querySelectorAll('script, img, style').length") == 4
    opened.page.locator("#units button").first.click()
    assert opened.text("#unit li")
    opened.close()


def test_the_command_on_the_page_makes_the_run_again(tmp_path: Path) -> None:
    data = write_npz(tmp_path / "it's data.npz", small_data(rows=200))
    options = "--epochs 2 --batch-size 50 --hidden 7,5 --activation tanh,relu --momentum 0.9 --nesterov"
    options += " --clip 1 --dropout 0.1,0.2"
    succeed(
        tmp_path,
        "train",
        "--data",
        str(data),
        *options.split(),
        "--class-weight",
        "0=1,2=3",
        "--seed",
        "0",
        "--out",
        "run",
    )
    text = xpnet.report(tmp_path / "run").read_text(encoding="utf-8")
    facts = json.loads(
        re.findall(r'<script type="application/json" id="facts">(.*?)</script>', text, re.DOTALL)[0]
    )
    succeed(tmp_path, *shlex.split(facts["command"])[1:], "--out", "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "run" / "model.safetensors"
    ).read_bytes()


def test_what_is_no_run_has_no_page(tmp_path: Path) -> None:
    assert "give the folder of a run" in refused(lambda: xpnet.report(tmp_path / "nowhere"))
    model = xpnet.MLP((4, 3))
    with pytest.raises(xpnet.UsageError, match="needs rows X, y and a file"):
        xpnet.report(model, out=tmp_path / "x.html")
    ended = run(tmp_path, "report", "nowhere")
    assert (ended.code, ended.err.count("\n")) == (1, 1)
