"""The README says what is true: its programs run, and the functions that it names exist."""

import importlib
import re
from pathlib import Path

import pytest

README = (Path(__file__).parent.parent / "README.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
FUNCTIONS = sorted(set(re.findall(r"`((?:nn|backends)\.[a-z_]+\.[A-Za-z_.]+)`", README)))
OPTIONS = sorted(
    set(re.findall(r"--[a-z-]+[a-z]", "\n".join(re.findall(r"^xpnet .*$", README, re.MULTILINE))))
)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_of_the_readme_exists(name: str) -> None:
    package, module, *attributes = name.split(".")
    found = importlib.import_module(f"xpnet.{package}.{module}")
    for attribute in attributes:
        found = getattr(found, attribute)
    assert callable(found)


def test_the_mathematics_is_explained_with_its_functions() -> None:
    # an empty list would make the test above pass by saying nothing
    for name in ("dense", "relu", "softmax", "cross_entropy", "dense_backward", "relu_backward", "SGD"):
        assert any(name in function for function in FUNCTIONS)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_the_programs_of_the_readme_learn(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(PROGRAMS[number], f"README.md, program {number + 1}", "exec"), {})
    said = capsys.readouterr().out
    shares = [float(n) for n in re.findall(r"\b0\.\d+", said)] + [
        float(n) / 100 for n in re.findall(r"([\d.]+)%", said)
    ]
    assert max(shares) > 0.96


def test_the_whole_training_is_short() -> None:
    assert len(PROGRAMS) == 2
    assert len(PROGRAMS[0].splitlines()) <= 20
    assert len(PROGRAMS[1].splitlines()) < 50


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_of_the_readme_exists(option: str) -> None:
    from xpnet.cli.commands import cli

    known = {opt for command in cli.commands.values() for param in command.params for opt in param.opts}
    assert option in known | {"--help"}


def test_there_are_two_commands() -> None:
    commands = re.findall(r"^python3 -m venv .*$", README, re.MULTILINE)
    assert [command.rpartition("/")[2] for command in commands] == ["xpnet train", "pytest"]
