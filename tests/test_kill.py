"""A run that is killed, however often and whenever, ends as one that is not."""

import csv
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from tests.process import small_data, start, succeed, wait_for, write_npz

KILLS = 10
EPOCHS = 350
RUN_FILES = {"model.safetensors", "history.csv", "config.json", "summary.json", "checkpoint.safetensors"}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Enough rows that an epoch takes about as long as the writing of its checkpoint."""
    arrays = small_data(rows=2000, test_rows=100, features=16)
    return write_npz(tmp_path_factory.mktemp("data") / "rows.npz", arrays)


def begin(data: Path, epochs: int, out: str) -> tuple[str, ...]:
    options = ("--threads", "1", "--hidden", "32", "--momentum", "0.9", "--patience", str(epochs), "--quiet")
    return ("train", "--data", str(data), "--epochs", str(epochs), *options, "--out", out)


def history(folder: Path) -> list[dict[str, str]]:
    """history.csv without its times, which no two runs share."""
    with (folder / "history.csv").open() as file:
        return [{key: row[key] for key in row if key != "seconds"} for row in csv.DictReader(file)]


def test_a_run_killed_ten_times_ends_as_an_unbroken_one(
    data: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    checkpoint = broken / "checkpoint.safetensors"

    def written() -> tuple[int, int] | None:
        """Tells one checkpoint from the next."""
        found = checkpoint.stat() if checkpoint.exists() else None
        return (found.st_ino, found.st_mtime_ns) if found else None

    began = time.monotonic()
    succeed(tmp_path, *begin(data, EPOCHS, "unbroken"))
    epoch = (time.monotonic() - began) / EPOCHS

    # spread over the first epochs of a life: at once, within an epoch, and while its files are written
    moments = rng.permutation((np.arange(KILLS) + rng.random(KILLS)) / KILLS) * 8 * epoch
    for number, moment in enumerate(moments):
        before = written()
        again = ("train", "--resume", "--out", "broken", "--quiet")
        with start(tmp_path, *(again if number else begin(data, EPOCHS, "broken"))) as process:
            wait_for(lambda before=before: written() != before, process)  # type: ignore[misc]
            time.sleep(moment)
            assert process.poll() is None, "it ended before it could be killed: give it more epochs"
            process.kill()
        assert not (broken / "model.safetensors").exists()
    succeed(tmp_path, "train", "--resume", "--out", "broken", "--quiet")

    assert (broken / "model.safetensors").read_bytes() == (unbroken / "model.safetensors").read_bytes()
    assert [int(row["epoch"]) for row in history(broken)] == list(range(1, EPOCHS + 1))
    assert history(broken) == history(unbroken)
    assert {path.name for path in broken.iterdir()} == RUN_FILES


def test_half_written_files_of_a_killed_run_are_swept_away(data: Path, tmp_path: Path) -> None:
    succeed(tmp_path, *begin(data, 2, "whole"))
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    for name in RUN_FILES:
        (tmp_path / "killed" / f".{name}.partial").write_bytes(b"cut o")
    for name in RUN_FILES - {"checkpoint.safetensors"}:
        (tmp_path / "killed" / name).unlink()

    succeed(tmp_path, "train", "--resume", "--out", "killed", "--quiet")

    assert {path.name for path in (tmp_path / "killed").iterdir()} == RUN_FILES
    model = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (tmp_path / "killed" / "model.safetensors").read_bytes() == model
