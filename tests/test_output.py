"""What is printed: on terminals of any width, in pipes, and into streams that are closed, full or limited."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import (
    Ended,
    command,
    on_terminal,
    run,
    small_data,
    start,
    succeed,
    wait,
    without,
    write_npz,
)
from xpnet.backends import LIBRARIES, backend_class
from xpnet.cli.tables import PIPE, shown

TRAIN = ("train", "--hidden", "16", "--threads", "1", "--epochs", "3")
FEW, MANY = 3, 40


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of a few classes and of many, named by their number."""
    folder = tmp_path_factory.mktemp("runs")
    for classes in (FEW, MANY):
        arrays = small_data(rows=4000, test_rows=200 * classes, classes=classes)
        data = write_npz(folder / f"{classes}.npz", arrays)
        succeed(folder, *TRAIN, "--quiet", "--data", str(data), "--out", str(classes))
    return folder


def numbers(text: str, columns: int) -> list[list[str]]:
    """The rows of a table of so many columns that begin with a class."""
    lines = [line.split() for line in text.splitlines()]
    return [line for line in lines if len(line) == columns and line[0].isdigit()]


@pytest.mark.parametrize(
    ("classes", "columns", "whole"),
    [
        (FEW, 20, False),
        (FEW, 90, True),
        (FEW, None, True),
        (MANY, 60, False),
        (MANY, 300, True),
        (MANY, None, False),
    ],
)
def test_a_confusion_table_is_printed_if_it_fits(
    runs: Path, classes: int, columns: int | None, whole: bool
) -> None:
    result = json.loads(succeed(runs, "evaluate", str(classes), "--json").out)
    confusion = result["confusion"]
    shares = [f"{share:.1%}" for share in result["accuracy_by_class"]]
    if columns is None:
        text = succeed(runs, "evaluate", str(classes)).out
    else:
        code, text = on_terminal(runs, "evaluate", str(classes), columns=columns)
        assert code == 0
    if whole:
        assert numbers(text, 2 + classes) == [
            [str(i), shares[i], *map(str, confusion[i])] for i in range(classes)
        ]
        assert max(map(len, text[text.index("class  right") :].splitlines())) <= (columns or PIPE)
        return
    by_class, largest = re.split(r"largest\s+confusions", text)
    assert numbers(by_class, 3) == [[str(i), shares[i], "200"] for i in range(classes)]
    found = [(int(count), int(i), int(j)) for i, j, count in numbers(largest, 3)]
    wrong = [
        (confusion[i][j], i, j) for i in range(classes) for j in range(classes) if i != j and confusion[i][j]
    ]
    assert sorted(count for count, _, _ in found) == sorted(count for count, _, _ in wrong)[-20:]
    assert set(found) <= set(wrong)
    assert all(len(line) <= 30 for line in largest.splitlines())
    title = text.partition("class  right")[0][text.index("accuracy by class") :]
    assert all(len(line) <= (columns or PIPE) for line in title.splitlines())


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("accuracy", 0.98765, "98.77%"),
        ("loss", 0.123456, "0.1235"),
        ("loss", 3.4e30, "3.4000e+30"),
        ("r2", -2.5e7, "-2.5000e+07"),
        ("rmse", 123456.0, "1.235e+05"),
    ],
)
def test_numbers_of_any_size_are_written_in_few_characters(metric: str, value: float, text: str) -> None:
    assert shown(metric, value) == text


def test_a_table_of_libraries_is_split_where_it_does_not_fit(tmp_path: Path) -> None:
    libraries = ("--backend", "numpy", "--backend", "array-api-strict")
    arguments = ("parity", *libraries, "--dtype", "float32", "--run-steps", "2")
    wide, narrow = (on_terminal(tmp_path, *arguments, columns=columns)[1] for columns in (100, 50))
    cells = [line.split() for line in narrow.splitlines() if line.startswith("loss ")]
    (both,) = (line.split() for line in wide.splitlines() if line.startswith("loss "))
    assert [line[-1] for line in cells] == both[-2:]
    assert narrow.count("verdict") == 2


def test_a_terminal_sees_a_bar_of_one_line(runs: Path) -> None:
    code, seen = on_terminal(
        runs, *TRAIN, "--data", f"{FEW}.npz", "--out", "bar", columns=60, stream="stderr"
    )
    assert code == 0
    parts = re.split(r"\r\x1b\[2K|\n", seen)
    assert all(len(part) < 60 for part in parts if "━" in part)
    assert any(re.fullmatch(r"epoch 1/3: ━+ +\d+ %  loss .*", part) for part in parts)
    assert (
        sum(bool(re.fullmatch(r"epoch ./3  loss [\d.]+  validation .* rows/s\r?", part)) for part in parts)
        == 3
    )


def test_info_tells_what_is_there_and_how_to_get_the_rest(tmp_path: Path) -> None:
    missing = [name for name in LIBRARIES if name not in ("numpy", "array-api-strict")]
    modules = [backend_class(name).library.partition(".")[0] for name in missing]
    ended = run(tmp_path, "info", before=without(*modules))
    assert (ended.code, ended.err) == (0, "")
    for name in LIBRARIES:
        library = backend_class(name)
        (line,) = [line for line in ended.out.splitlines() if line.split()[:1] == [name]]
        expected = ["-", library.install] if name in missing else [library.version(), "cpu"]
        assert re.split(r"\s+", line.strip(), maxsplit=2)[1:] == expected


def test_info_survives_a_library_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_bytes(b"raise ImportError('libcudart.so: cannot open\\nthe file')")
    others = {backend_class(name).library.partition(".")[0] for name in LIBRARIES} - {"torch", "numpy"}
    ended = run(tmp_path, "info", before=without(*others), path=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^torch +-.* libcudart\.so: cannot open the file", ended.out, re.MULTILINE)
    assert max(map(len, ended.out.splitlines())) < PIPE


def shell(folder: Path, redirection: str, *arguments: str, settings: str = "") -> Ended:
    """Run `xpnet` by a shell, one of its streams redirected, under some settings of the environment."""
    return wait(["sh", "-c", f"{settings} {shlex.join(command(*arguments))} {redirection}"], folder)


OUTPUTS = pytest.mark.parametrize(
    "arguments",
    [("evaluate", str(FEW)), ("evaluate", str(FEW), "--json"), ("--help",)],
    ids=["table", "json", "help"],
)
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


@POSIX
@OUTPUTS
def test_standard_output_that_takes_nothing(runs: Path, arguments: tuple[str, ...]) -> None:
    assert shell(runs, ">&-", *arguments) == Ended(0, "", "")
    full = shell(runs, ">/dev/full", *arguments)
    assert full == Ended(1, "", "xpnet: error: standard output: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    with start(runs, *arguments, stdout=writer, stderr=subprocess.PIPE) as process:
        os.close(writer)
        _, err = process.communicate(timeout=120)
    assert err == b""  # the reader has gone, which is no error


@POSIX
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- 2>&-"])
def test_standard_error_that_takes_nothing_ends_the_progress_and_not_the_run(
    runs: Path, tmp_path: Path, redirection: str
) -> None:
    arguments = (*TRAIN, "--data", str(runs / f"{FEW}.npz"), "--out", str(tmp_path / "run"))
    ended = shell(tmp_path, redirection, *arguments)
    assert (ended.code, ended.err) == (0, "")
    models = [(folder / "model.safetensors").read_bytes() for folder in (tmp_path / "run", runs / str(FEW))]
    assert models[0] == models[1]
    assert shell(tmp_path, redirection, *arguments).code == 1  # the folder is in use, and nobody hears it


@POSIX
@pytest.mark.parametrize("letters", ["LC_ALL=C PYTHONIOENCODING=ascii", "PYTHONIOENCODING=latin-1"])
def test_a_name_that_cannot_be_written_in_the_letters_of_the_output(
    runs: Path, tmp_path: Path, letters: str
) -> None:
    name = "日" + os.fsdecode(b"\xff")
    settings = f"PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {letters}"
    arguments = (*TRAIN, "--data", str(runs / f"{FEW}.npz"), "--out", name)
    ended = shell(tmp_path, "", *arguments, settings=settings)
    assert ended.code == 0, ended.err
    assert re.search(r"folder +\S*\\udcff", ended.out)
    assert (tmp_path / name / "model.safetensors").exists()
    assert shell(tmp_path, "", "evaluate", name, settings=settings).code == 0
    again = shell(tmp_path, "", *arguments, settings=settings)
    assert again.code == 1
    assert re.match(r"xpnet: error: \S*\\udcff: the folder is in use; [^\n]*\n$", again.err)


def test_a_pipe_gets_no_control_characters(runs: Path) -> None:
    ended = succeed(runs, *TRAIN, "--data", f"{FEW}.npz", "--out", "a\x1b[2Jb")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ended.out + ended.err)
    assert r"a\x1b[2Jb" in ended.out
