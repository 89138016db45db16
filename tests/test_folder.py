"""The folder of a run: never written over, and nothing removed that was not made."""

from pathlib import Path

import pytest

from xpnet.cli.folder import claimed, refuse_used
from xpnet.errors import XpnetError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_folders_made_for_nothing_are_removed_with_their_parents(tmp_path: Path) -> None:
    for out in (None, Path("a/b/c")):
        with claimed(out, resume=False) as folder:
            assert folder.is_dir()
        assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "mine").mkdir()
    with claimed(Path("elsewhere"), resume=False), claimed(Path("mine"), resume=False):
        pass
    with claimed(None, resume=False):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "runs"]


def test_a_link_serves_as_the_folder_of_runs(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "runs").symlink_to("scratch")
    with claimed(None, resume=False) as folder:
        (folder / "model").touch()
    assert (tmp_path / "scratch" / "001" / "model").exists()


def test_runs_are_numbered(tmp_path: Path) -> None:
    for number in ("001", "002"):
        with claimed(None, resume=False) as folder:
            (folder / "model").touch()
        assert folder == Path("runs") / number


def test_a_run_that_ended_between_check_and_claim_is_not_written_over() -> None:
    refuse_used(Path("out"))  # free, says the first look
    with claimed(Path("out"), resume=False) as folder:
        (folder / "model").touch()
    with pytest.raises(XpnetError, match="in use"), claimed(Path("out"), resume=False):
        pass
    assert (Path("out") / "model").exists()
    with claimed(Path("out"), resume=True) as folder:
        assert folder == Path("out")


def test_a_folder_is_held_by_one_run() -> None:
    with (
        claimed(Path("out"), resume=False),
        pytest.raises(XpnetError, match="another run is going on"),
        claimed(Path("out"), resume=True),
    ):
        pass


def test_a_folder_that_may_not_be_looked_into_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(XpnetError, match="locked: cannot be read: Permission denied"):
        refuse_used(Path("locked"))
