"""`xpnet predict`: a line for every row, from arrays, tables, images and standard input."""

import csv
import gzip
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from PIL import Image

from tests.process import command, environment, idx, on_terminal, run, succeed
from xpnet import MLP
from xpnet.backends import Backend
from xpnet.cli import predict as module
from xpnet.scaling import Columns

NAMES = ["cat", 'a "dog", %d', "été"]
HUNDRED = np.random.default_rng(3).normal(size=(100, 4)).astype(np.float32)


def saved(folder: Path, sizes: tuple[int, ...] = (4, 5, 3), **described: Any) -> MLP:
    model = MLP(sizes, **described)
    model.save(folder / "model.safetensors")
    return model


def rows_of(out: str) -> list[list[str]]:
    """The cells of CSV."""
    return list(csv.reader(io.StringIO(out)))


def piped(folder: Path, content: bytes, *arguments: str) -> str:
    """What `xpnet predict` prints about standard input."""
    ended = subprocess.run(
        command("predict", "model.safetensors", *arguments),
        cwd=folder,
        env=environment(),
        input=content,
        capture_output=True,
        check=False,
    )
    return ended.stdout.decode() + ended.stderr.decode()


# --- answers ------------------------------------------------------------------------------------------------


def test_classes_are_named_with_their_probabilities(tmp_path: Path) -> None:
    model = saved(tmp_path, class_names=NAMES)
    np.save(tmp_path / "a,%d.npy", HUNDRED)
    P, best = model.predict_proba(HUNDRED), model.predict(HUNDRED)
    order = np.argsort(-P, axis=1)
    asked = ("predict", "model.safetensors", "a,%d.npy")
    text = succeed(tmp_path, *asked).out.splitlines()
    assert text[:2] == [f"a,%d.npy:{i}  {NAMES[best[i]]} {P[i, best[i]]:.2%}" for i in range(2)]
    assert len(text) == 100
    two = succeed(tmp_path, *asked, "--top", "2").out.splitlines()[5]
    assert two == f"{text[5]}  {NAMES[order[5, 1]]} {P[5, order[5, 1]]:.2%}"

    header, *cells = rows_of(succeed(tmp_path, *asked, "--csv").out)
    assert header == ["input", "label", "probability"]
    assert [row[:2] for row in cells] == [[f"a,%d.npy:{i}", NAMES[best[i]]] for i in range(100)]
    np.testing.assert_allclose([float(row[2]) for row in cells], P.max(axis=1), rtol=1e-6)
    assert len(rows_of(succeed(tmp_path, *asked, "--csv", "--top", "3").out)[0]) == 7

    lines = [json.loads(line) for line in succeed(tmp_path, *asked, "--json", "--top", "3").out.splitlines()]
    for i, line in enumerate(lines):
        assert [line["input"], line["label"]] == [f"a,%d.npy:{i}", NAMES[best[i]]]
        assert [one["label"] for one in line["top"]] == [NAMES[j] for j in order[i]]
        assert line["probability"] == line["top"][0]["probability"]
        assert sum(one["probability"] for one in line["top"]) == pytest.approx(1, abs=1e-6)


def test_several_labels_are_those_that_hold(tmp_path: Path) -> None:
    model = saved(tmp_path, loss="binary-cross-entropy", class_names=NAMES)
    np.save(tmp_path / "x.npy", HUNDRED)
    P, held = model.predict_proba(HUNDRED), model.predict(HUNDRED)
    asked = ("predict", ".", "x.npy")
    header, *cells = rows_of(succeed(tmp_path, *asked, "--csv").out)
    assert header == ["input", *NAMES]
    np.testing.assert_allclose(np.array(cells)[:, 1:].astype(float), P, rtol=1e-6)
    lines = [json.loads(line) for line in succeed(tmp_path, *asked, "--json").out.splitlines()]
    text = succeed(tmp_path, *asked).out.splitlines()
    for i, line in enumerate(lines):
        labels = [NAMES[j] for j in np.flatnonzero(held[i])]
        assert line["labels"] == labels
        assert list(line["probabilities"]) == NAMES
        assert [name for name in NAMES if name in text[i]] == labels
    assert f"x.npy:{int(np.argmin(held.sum(axis=1)))}  -" in text


@pytest.mark.parametrize(("outputs", "dtype"), [(1, "float32"), (2, "float64")])
def test_numbers_are_in_the_units_of_the_targets(tmp_path: Path, outputs: int, dtype: str) -> None:
    targets = Columns(np.full(outputs, 1000.0), np.full(outputs, 50.0))
    model = saved(tmp_path, (4, outputs), loss="squared-error", targets=targets, dtype=dtype)
    np.save(tmp_path / "x.npy", HUNDRED)
    wanted = model.predict(HUNDRED).reshape(100, outputs)
    header, *cells = rows_of(succeed(tmp_path, "predict", ".", "x.npy", "--csv").out)
    assert header == ["input", *(["number"] if outputs == 1 else ["number0", "number1"])]
    np.testing.assert_allclose(np.array(cells)[:, 1:].astype(float), wanted, rtol=1e-6)
    line = json.loads(succeed(tmp_path, "predict", ".", "x.npy", "--json").out.splitlines()[9])
    np.testing.assert_allclose(line["numbers"], wanted[9], rtol=1e-6)
    ended = run(tmp_path, "predict", ".", "x.npy", "--top", "2")
    assert "--top 2: this network answers with numbers" in ended.err


# --- inputs -------------------------------------------------------------------------------------------------


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz(**arrays: Any) -> bytes:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    return content.getvalue()


PIXELS = np.random.default_rng(4).integers(0, 256, (100, 2, 2), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.npy", npy(PIXELS)),
        ("a.npy", npy(np.asfortranarray(PIXELS))),
        ("a.npz", npz(X=PIXELS, other=PIXELS[:3])),
        ("a.npz", npz(anything=PIXELS)),
        ("images", idx(PIXELS)),
        ("images.gz", gzip.compress(idx(PIXELS))),
    ],
)
def test_arrays_of_every_form_are_read_also_from_standard_input(
    tmp_path: Path, name: str, content: bytes
) -> None:
    best = saved(tmp_path, scale=255.0).predict(PIXELS.reshape(100, 4))
    (tmp_path / name).write_bytes(content)
    out = succeed(tmp_path, "predict", ".", name, "--csv").out
    assert rows_of(out)[1:] == rows_of(piped(tmp_path, content, "-", "--csv").replace("-:", f"{name}:"))[1:]
    assert [row[1] for row in rows_of(out)[1:]] == [str(one) for one in best]


def test_an_array_of_one_row_is_a_row(tmp_path: Path) -> None:
    saved(tmp_path)
    for array in (HUNDRED[0], HUNDRED[0].reshape(2, 2), HUNDRED[:1]):
        np.save(tmp_path / "x.npy", array)
        assert succeed(tmp_path, "predict", ".", "x.npy").out.count("\n") == 1


def test_tables_are_read_by_the_names_of_their_columns(tmp_path: Path) -> None:
    features = ["a", "b", "c", "d e"]
    best = saved(tmp_path, class_names=NAMES, feature_names=features).predict(HUNDRED)
    table = pa.table({name: HUNDRED[:, i].astype(float) for i, name in reversed([*enumerate(features)])})
    pyarrow.csv.write_csv(table.append_column("text", pa.array(["?"] * 100)), tmp_path / "x.csv")
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    for name in ("x.csv", "x.parquet"):
        content = (tmp_path / name).read_bytes()
        out = succeed(tmp_path, "predict", ".", name, "--csv").out
        assert rows_of(out)[1:] == [
            [f"{name}:{i + 2}", NAMES[best[i]], rows_of(out)[i + 1][2]] for i in range(100)
        ]
        assert piped(tmp_path, content, "-", "--csv").replace("-:", f"{name}:") == out
    (tmp_path / "x.csv").write_text("a,b,c\n1,2,3\n", encoding="utf-8")
    assert "no column 'd e'" in run(tmp_path, "predict", ".", "x.csv").err


def test_images_are_read_in_the_size_of_the_network(tmp_path: Path) -> None:
    names = [f"{i} ü.png" for i in range(5)] + ["more/5.png", "more/deep/6.png"]
    (tmp_path / "more" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(5)
    shades = rng.integers(0, 256, 7, dtype=np.uint8)
    for name, shade in zip(names, shades, strict=True):
        Image.new("L", (9, 9), int(shade)).save(tmp_path / name)
    model = saved(tmp_path, (16, 3), scale=255.0)  # of an unknown shape, which is taken for a square
    best = model.predict(np.repeat(shades, 16).reshape(7, 16))
    out = succeed(tmp_path, "predict", ".", *names, "--csv").out
    assert [row[:2] for row in rows_of(out)[1:]] == [[n, str(b)] for n, b in zip(names, best, strict=True)]
    assert succeed(tmp_path, "predict", ".", *names[:5], "more", "--csv").out == out
    assert piped(tmp_path, (tmp_path / names[3]).read_bytes(), "-").startswith(f"-  {best[3]} ")
    np.save(tmp_path / "x.npy", np.zeros((2, 16), np.uint8))
    mixed = succeed(tmp_path, "predict", ".", names[0], "x.npy", names[1]).out.splitlines()
    assert [line.split("  ")[0] for line in mixed] == [names[0], "x.npy:0", "x.npy:1", names[1]]
    saved(tmp_path, (27, 3), image_shape=(3, 3, 3), scale=255.0)
    assert succeed(tmp_path, "predict", ".", names[0]).out
    saved(tmp_path, (15, 3))
    assert "was not trained on images" in run(tmp_path, "predict", ".", names[0]).err


def test_the_backend_computes(tmp_path: Path, backend: Backend) -> None:
    # what is made of the answers of any library
    model = MLP((4, 5, 3), class_names=NAMES, backend=backend)
    answers = module.Answers(model, 2, "csv")
    host = module.Answers(MLP((4, 5, 3), class_names=NAMES), 2, "csv")
    found, wanted = (a.lines(map(str, range(100)), HUNDRED, "X", 0) for a in (answers, host))
    for ours, theirs in zip(rows_of(found), rows_of(wanted), strict=True):
        assert [ours[i] for i in (0, 1, 3)] == [theirs[i] for i in (0, 1, 3)]
        assert float(ours[2]) == pytest.approx(float(theirs[2]), rel=1e-5)


# --- trouble ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ("nothing.npy", 1, "nothing.npy: no such file"),
        ("empty", 1, "empty: no images in this folder"),
        ("wide.npy", 1, "wide.npy: X has shape (2, 5): this network takes (rows, 4)"),
        ("nan.npy", 1, "nan.npy: row 70, counted from 0: NaN, infinity"),
        ("two.npz", 1, "two.npz: must hold one array, or X or x_test; it holds a, b"),
        ("text.npy", 1, "text.npy: cut off, damaged"),
        ("objects.npy", 1, "objects.npy: cut off, damaged, or no numbers"),
        ("strings.npy", 1, "strings.npy: X: str_ where there must be numbers"),
        ("nan.npy --top 4", 1, "--top 4: this network answers with 3 classes"),
        ("nan.npy --top 0", 2, "--top"),
        ("nan.npy --csv --json", 2, "--json and --csv: choose one"),
        ("", 2, "Missing argument 'INPUT…'"),
    ],
)
def test_trouble_is_one_line(
    tmp_path: Path, arguments: str, code: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path)
    nan = HUNDRED.copy()
    nan[70, 2] = np.nan
    for name, array in (("wide", np.zeros((2, 5))), ("nan", nan), ("strings", np.array([["a"] * 4]))):
        np.save(tmp_path / f"{name}.npy", array)
    np.save(tmp_path / "objects.npy", np.array([[{}] * 4]), allow_pickle=True)
    np.savez(tmp_path / "two.npz", a=nan, b=nan)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.npy").write_text("a,b\n1,2\n", encoding="utf-8")
    ended = run(tmp_path, "predict", ".", *arguments.split())
    assert (ended.code, ended.err.count("\n")) == (code, 1), ended.err
    assert said in ended.err


def test_a_run_that_has_not_ended_says_how_to_end_it(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert "not a safetensors file" in run(tmp_path, "predict", ".", "x").err
    assert "no such file" in run(tmp_path, "predict", "nowhere", "x").err


def test_a_row_that_overflows_has_no_answer_although_its_probability_is_1(tmp_path: Path) -> None:
    saved(tmp_path, (1, 1), loss="binary-cross-entropy")
    np.save(tmp_path / "x.npy", np.array([[1.0], [1e300]]))
    assert "x.npy: row 1, counted from 0: NaN, infinity" in run(tmp_path, "predict", ".", "x.npy").err


def test_a_standard_input_that_is_closed_is_said(tmp_path: Path) -> None:
    saved(tmp_path)
    before = "import sys\nsys.stdin = None"  # as Python has it after <&-
    ended = run(tmp_path, "predict", ".", "-", before=before)
    assert (ended.code, ended.err) == (1, "xpnet: error: -: standard input is closed\n")


def test_control_characters_do_not_reach_a_terminal(tmp_path: Path) -> None:
    saved(tmp_path, class_names=["\x1b[31mred", "b", "c"])
    np.save(tmp_path / "x.npy", HUNDRED)
    code, seen = on_terminal(tmp_path, "predict", ".", "x.npy", columns=80)
    assert (code, "\x1b[31m" in seen, r"\x1b[31mred" in seen) == (0, False, True)


def test_reading_stops_when_nobody_reads_the_answers(tmp_path: Path) -> None:
    saved(tmp_path)
    np.save(tmp_path / "x.npy", np.zeros((3_000_000, 4), np.float16))
    line = subprocess.list2cmdline(command("predict", ".", "x.npy", "nowhere.npy"))
    ended = subprocess.run(
        f"{line} | head -1", shell=True, cwd=tmp_path, env=environment(), capture_output=True, check=False
    )
    assert ended.stdout.count(b"\n") == 1
    assert ended.stderr == b""


@pytest.mark.slow
def test_any_number_of_rows_needs_the_same_memory(tmp_path: Path) -> None:
    saved(tmp_path, (30, 16, 3))
    peaks = []
    for rows in (200_000, 1_600_000):
        np.save(tmp_path / "x.npy", np.zeros((rows, 30), np.float32))
        line = command("predict", ".", "x.npy", "--csv")
        code = (
            "import resource, subprocess, sys\n"
            f"subprocess.run({line!r}, stdout=subprocess.DEVNULL, check=True)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        ended = subprocess.run(
            [line[0], "-c", code], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
        )
        peaks.append(int(ended.stdout))
    assert peaks[1] < 1.15 * peaks[0]
