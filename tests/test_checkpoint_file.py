"""The file of a checkpoint: whole or as it was before, and refused where it is damaged."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.helpers import bits, refused, tensors, timeless, write_tensors
from tests.test_checkpoint import Counting, interrupted, new_model, rows
from xpnet import Checkpoint, Progress, train

SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 20, "lr": 0.1, "momentum": 0.5, "patience": 3}


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The checkpoint of a run that was interrupted in its third epoch."""
    return interrupted(tmp_path_factory.mktemp("run") / "checkpoint", 3, 1, **SETTINGS).path.read_bytes()


@pytest.fixture
def path(content: bytes, tmp_path: Path) -> Path:
    """A copy of it."""
    (tmp_path / "checkpoint").write_bytes(content)
    return tmp_path / "checkpoint"


def resume(path: Path) -> None:
    """Resume the run of a file."""
    train(new_model(), *rows(), checkpoint=Checkpoint(path), resume=True, **SETTINGS)


def refusal(path: Path) -> str:
    """The message with which a file is refused, by everything that reads it, and left as it is."""
    content = path.read_bytes()
    message = refused(lambda: resume(path))
    assert message.startswith(f"{path}: ")
    assert len(message) - len(str(path)) < 300
    assert refused(Checkpoint(path).load) == message
    assert path.read_bytes() == content
    return message


def test_missing_checkpoint_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "checkpoint"
    assert refused(lambda: resume(path)).startswith(f"{path}: no such file")
    assert not path.parent.exists()


def test_truncated_checkpoint_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(path) == f"{path}: not a safetensors file, or cut off"


def test_file_of_another_kind_is_named(path: Path) -> None:
    new_model().save(path)
    assert refusal(path).endswith("unexpected kind: 'model', not 'checkpoint'")
    save_file({"W1": np.ones((4, 5))}, path, metadata={"format": "np"})
    assert "not written by xpnet" in refusal(path)


Change = Callable[[dict[str, Any], dict[str, Any]], None]


def array(name: str, change: Callable[[np.ndarray], np.ndarray] | None = None) -> Change:
    """Change an array, or take it out."""

    def apply(arrays: dict[str, Any], described: dict[str, Any]) -> None:
        arrays[name] = change(arrays[name]) if change else arrays.pop(name)
        if not change:
            del arrays[name]

    return apply


def says(**values: Any) -> Change:
    """Describe the file otherwise."""
    return lambda arrays, described: described.update(values)


def told(**values: Any) -> Change:
    """Change the settings of the run."""
    return lambda arrays, described: described["config"].update(values)


def not_finite(array: np.ndarray) -> np.ndarray:
    """The same with a NaN in it."""
    array.flat[-1] = np.nan
    return array


def halved(array: np.ndarray) -> np.ndarray:
    """The same in half the bytes."""
    return array.astype(np.float32)


OTHERS, UNFIT = "arrays are not those of this network", ": its arrays are {'"
DAMAGES: dict[str, tuple[Change, str]] = {
    "another format": (says(format=2), "unexpected format: 2, not 3"),
    "settings that are none": (says(config=None), "unexpected config: None"),
    "settings of nothing": (says(config={}), "has no "),
    "notes that are a list": (says(notes=[]), "unexpected notes: []"),
    "no weights": (array("W1"), UNFIT),
    "no velocity": (array("velocity.b2"), OTHERS),
    "weights of another shape": (array("W1", lambda W: W.T.copy()), UNFIT),
    "weights of another type": (array("W1", halved), UNFIT),
    "weights that are no numbers": (array("W1", not_finite), "'W1' holds NaN or infinity"),
    "no best weights": (array("best.W1"), OTHERS),
    "best weights of another shape": (array("best.W1", lambda W: W.T.copy()), OTHERS),
    "best weights of another type": (array("best.W1", halved), OTHERS),
    "best weights that are no numbers": (array("best.b1", not_finite), "'best.b1' holds NaN or infinity"),
    "best weights of no epoch": (says(best=None), OTHERS),
    "a best epoch still to come": (says(best=3), "the best of them is missing"),
    "a best epoch before the first": (says(best=0), "unexpected best: 0"),
    "a best epoch that is a list": (says(best=[1]), "unexpected best: [1]"),
    "no history": (array("history"), "its history is damaged"),
    "a history of other columns": (array("history", lambda table: table[:, :3].copy()), "history is damaged"),
    "a history without a rate": (says(columns=["epoch", "x", "loss", "y", "z", "seconds"]), "is damaged"),
    "columns that are none": (says(columns="epoch"), "unexpected columns: 'epoch'"),
    "passes below zero": (says(passes=-1), "unexpected passes: -1"),
    "a history without its first epoch": (array("history", lambda table: table[1:].copy()), "not in order"),
    "a history that is no number": (array("history", not_finite), "'history' holds NaN or infinity"),
    "sizes past every limit": (told(sizes=[1] * 100_000 + [0]), "unexpected sizes"),
    "a rate that is a word": (told(lr="fast"), "unexpected lr: 'fast'"),
    "a rate past every float": (told(lr=10**400), "unexpected lr: "),
    "a rate below zero": (told(lr=-1), "its settings are damaged: lr must be "),
    "an unknown optimizer": (told(optimizer="x" * 9999), "its settings are damaged: optimizer 'xxx"),
    "a batch of nothing": (told(batch_size=0), "its settings are damaged: batch_size must be"),
    "a memory below zero": (told(memory=-5), "unexpected memory: -5"),
    "a device that is a number": (told(device=0), "unexpected device: 0"),
}


@pytest.mark.parametrize(("change", "said"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_checkpoint_is_named(path: Path, change: Change, said: str) -> None:
    arrays, described = tensors(path)
    change(arrays, described)
    write_tensors(path, arrays, described)
    message = refused(lambda: resume(path))
    assert message.startswith(f"{path}: ")
    assert said in message
    assert len(message) - len(str(path)) < 300


def test_settings_are_read_and_checked(path: Path) -> None:
    config = Checkpoint(path).load_config()
    assert {name: config[name] for name in SETTINGS} == SETTINGS
    arrays, described = tensors(path)
    write_tensors(path, arrays, described | {"config": described["config"] | {"lr": "fast"}})
    assert "unexpected lr: 'fast'" in refused(Checkpoint(path).load_config)


def test_checkpoint_that_cannot_be_written_ends_the_run_before_its_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    checkpoint, model, counting = Checkpoint(tmp_path / "file" / "checkpoint"), new_model(), Counting()
    before = bits(model)
    message = refused(lambda: train(model, *rows(), checkpoint=checkpoint, progress=counting))
    assert message.endswith("Not a directory")
    assert counting.epochs == []
    assert bits(model) == before


def test_full_disk_in_the_middle_leaves_the_epoch_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, model = Checkpoint(tmp_path / "checkpoint"), new_model()
    before = bits(model)

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    class Filling(Progress):
        def on_chunk(self, epoch: int, rows: int, loss: float) -> None:
            if epoch == 2:
                monkeypatch.setattr("os.fsync", fail)

    message = refused(lambda: train(model, *rows(), checkpoint=checkpoint, progress=Filling(), **SETTINGS))
    monkeypatch.undo()
    assert "No space left" in message
    assert bits(model) == before
    resumed, whole = new_model(), new_model()
    history = train(resumed, *rows(), checkpoint=checkpoint, resume=True, **SETTINGS)
    assert timeless(history) == timeless(train(whole, *rows(), **SETTINGS))
    assert bits(resumed) == bits(whole)
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]
