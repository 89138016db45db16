"""The README is true: its programs and commands run, and everything that it names exists."""

import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xpnet
from tests.process import run, small_data, write_npz
from xpnet.backends import LIBRARIES, backend_class
from xpnet.cli.commands import cli
from xpnet.errors import XpnetError
from xpnet.nn.distortion import Distortion
from xpnet.nn.network import Network

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
PROGRAMS = [block for language, block in BLOCKS if language == "python"]
COMMANDS = [block for language, block in BLOCKS if language == "sh" and "\nxpnet " in f"\n{block}"]
CHANGES = [block for language, block in BLOCKS if language == "diff"]
OUTPUT = next(block for _, block in BLOCKS if "test accuracy" in block)
CODE = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))
FUNCTIONS = sorted(set(re.findall(r"^(?:nn|backends)\.[a-z_]+\.[A-Za-z_.]+$", "\n".join(CODE), re.MULTILINE)))
SHORTER = {"train": ["--epochs", "1"], "parity": ["--run-steps", "2", "--dtype", "float32"]}
"""Options that are added to a command so that it takes seconds, unless its comment promises an accuracy."""


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_exists(name: str) -> None:
    package, module, *attributes = name.split(".")
    found = importlib.import_module(f"xpnet.{package}.{module}")
    for attribute in attributes:
        found = getattr(found, attribute)
    assert callable(found)


def test_the_mathematics_is_explained_with_its_functions() -> None:
    # the test above passes for an empty list too
    for name in ("dense", "relu", "softmax", "cross_entropy", "dense_backward", "relu_backward", "SGD"):
        assert any(name in function for function in FUNCTIONS)
    assert f"{Network((784, 128, 10)).size:,} numbers" in README


@pytest.mark.parametrize(("number", "library"), [(0, "numpy"), (0, "torch"), (1, "numpy"), (2, "numpy")])
def test_the_programs_learn(
    number: int,
    library: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    program = PROGRAMS[number].replace("array_api_compat import numpy", f"array_api_compat import {library}")
    exec(compile(program, f"README.md, program {number + 1}", "exec"), {})
    said = capsys.readouterr().out
    shares = [float(n) for n in re.findall(r"\b0\.\d+", said)]
    shares += [float(n) / 100 for n in re.findall(r"([\d.]+)%", said)]
    assert max(shares) > 0.96
    assert number > 0 or len(re.findall(r"^step .* loss [\d.]+$", said, re.MULTILINE)) > 3


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("library", ["sklearn", "torch"])
def test_programs_of_other_libraries_do_the_same_with_ours(
    library: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change = next(block for block in CHANGES if f" {library}" in block.splitlines()[0])
    said = []
    for dropped in "+-":
        importlib.import_module(library).__dict__.get("manual_seed", id)(0)
        lines = [line[1:] for line in change.splitlines() if not line.startswith(dropped)]
        exec("\n".join(lines), {})
        said.append(float(capsys.readouterr().out))
    assert said[0] == said[1] if library == "sklearn" else abs(said[0] - said[1]) < 0.02
    assert min(said) > 0.95


@pytest.mark.parametrize("change", CHANGES)
def test_changes_are_short_and_programs_before_and_after(change: str) -> None:
    for dropped in "+-":
        program = "\n".join(line[1:] for line in change.splitlines() if not line.startswith(dropped))
        compile(program, "README.md", "exec")
        assert len(program.splitlines()) <= (10 if dropped == "-" else 14)


def test_the_whole_training_is_short() -> None:
    whole, *library = (len(program.splitlines()) for program in PROGRAMS)
    assert whole < 50
    assert len(library) == 2
    assert max(library) < 20


@pytest.mark.parametrize("block", COMMANDS, ids=lambda block: block.splitlines()[-1].partition("  ")[0])
def test_the_commands_do_what_they_say(block: str, tmp_path: Path) -> None:
    arrays = small_data(features=784, classes=10)
    write_npz(tmp_path / "digits.npz", arrays)
    prices = {name: array.astype(float) for name, array in small_data().items()}
    write_npz(
        tmp_path / "prices.npz", {name: array + name.startswith("y") / 2 for name, array in prices.items()}
    )
    rows = [f"{i},{'rose' if i % 2 else 'tulip'}" for i in range(50)]
    (tmp_path / "flowers.csv").write_text("\n".join(["height,name", *rows]), encoding="utf-8")
    for number in range(20):
        (tmp_path / "pictures" / str(number % 2)).mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 9), number).save(tmp_path / "pictures" / str(number % 2) / f"{number}.png")
    (tmp_path / "folder").mkdir()
    for name, array in arrays.items():
        np.save(tmp_path / "folder" / f"{name}.npy", array)
    for line in re.findall(r"^xpnet .*$", block, re.MULTILINE):
        command, _, comment = line.partition("#")
        _, name, *options = shlex.split(command)
        promised = re.match(r" (\d+) %", comment)
        ended = run(tmp_path, name, *options, *([] if promised else SHORTER.get(name, [])))
        if "--backend" in options:
            xpnet.get_backend(backend=options[options.index("--backend") + 1])  # fails where it is missing
        if "--device" in options and not _is_there(options[options.index("--device") + 1]):
            assert (ended.code, ended.err.count("\n")) == (1, 1)
            assert ended.err.startswith("xpnet: error: ")
            continue
        assert ended.code == 0, ended.err
        assert not promised or abs(_accuracy(ended.out) - float(promised[1])) < 1.5


def _accuracy(out: str) -> float:
    found = re.search(r"^test accuracy +([\d.]+)%", out, re.MULTILINE)
    assert found is not None
    return float(found[1])


def _is_there(device: str) -> bool:
    try:
        xpnet.get_backend(device)
    except XpnetError:
        return False
    return True


def test_training_prints_the_output_shown(tmp_path: Path) -> None:
    ended = run(tmp_path, "train")
    shown, printed = OUTPUT.splitlines(), (ended.err + ended.out).splitlines()
    assert [re.sub(r"[\d.,]+", "", line) for line in shown if line != "…"] == [
        re.sub(r"[\d.,]+", "", line) for line in [printed[0], *printed[9:]]
    ]
    assert abs(_accuracy(ended.out) - _accuracy(OUTPUT)) < 0.5


def test_there_are_two_commands() -> None:
    # .ci/run runs them, in another environment
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert [command.rpartition("/")[2] for command in commands] == ["xpnet train", "pytest"]


@pytest.mark.skipif(sys.platform != "linux", reason=".ci/run is for Linux")
def test_ci_leaves_the_environment_of_a_contributor_alone(tmp_path: Path) -> None:
    for name in (".ci", ".venv", ".venv-ci"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    command = "python3 -m venv --help && false\n"  # fails, so the rest is not run
    (tmp_path / "README.md").write_text(2 * command, encoding="utf-8")
    ended = subprocess.run([tmp_path / ".ci" / "run"], capture_output=True, encoding="utf-8", check=False)
    assert ended.returncode != 0
    assert ended.stdout.startswith("== .venv-ci is removed and made anew\n")
    assert (tmp_path / ".venv" / "mine").exists()
    assert not (tmp_path / ".venv-ci").exists()


def test_every_option_exists() -> None:
    params = [param for command in cli.commands.values() for param in command.params]
    known = {option for param in params for option in (*param.opts, *param.secondary_opts)}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) - {"--steps"} <= known | {"--help"}


def test_every_keyword_and_public_name_exists() -> None:
    functions: list[Any] = [xpnet.train, xpnet.Settings, xpnet.MLP, xpnet.MLP.to, xpnet.get_backend]
    functions += [xpnet.load, xpnet.report, np.unique]
    functions += [xpnet.MLPClassifier, Distortion]
    known = {name for function in functions for name in inspect.signature(function).parameters}
    code = "\n".join(CODE)
    assert set(re.findall(r"\b([a-z_]+)=", code)) - {"steps"} <= known
    assert set(re.findall(r"\bxpnet\.([A-Za-z_]+)", code)) <= set(xpnet.__all__)


def test_every_path_and_link_exists() -> None:
    tree = next(block for _, block in BLOCKS if block.startswith("xpnet/\n"))
    named = re.findall(r"^((?:  )?)([a-z_]+(?:/|\.py))", tree, re.MULTILINE)
    paths = [f"xpnet/{name}" if inside else name for inside, name in named]
    paths += [path for code in CODE for path in re.findall(r"(?:xpnet|bench)/[\w/-]+(?:\.py|\.gz|/)?", code)]
    links = re.findall(r"\]\(([^)]+)\)", README)
    paths += [link for link in links if not link.startswith(("http", "#"))]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    headings = re.findall(r"^(##+) (.*)$", README, re.MULTILINE)
    anchors = {
        "#" + re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-"): hashes for hashes, text in headings
    }
    inside = [link for link in links if link.startswith("#")]
    chapters = [anchor for anchor, hashes in anchors.items() if hashes == "##"]
    assert inside[: len(chapters)] == chapters
    assert set(inside) <= set(anchors)


def test_the_table_of_devices_is_that_of_the_backends() -> None:
    for kind in ("cpu", "cuda", "xpu", "mps"):
        row = re.search(rf"^\| `{kind}`.*? \| (.*?) \|", README, re.MULTILINE)
        assert row is not None
        drives = [name for name in LIBRARIES if kind in backend_class(name).kinds]
        assert re.findall(r"`(.*?)`", row[1]) == drives


def test_every_extra_exists() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = ",".join(re.findall(r"(?<!\w)\.\[([a-z0-9,]+)\]", README)).split(",")
    assert set(extras) <= set(project["optional-dependencies"])
