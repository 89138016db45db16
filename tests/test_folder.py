"""The folder of a run: never written over, and nothing removed that was not made."""

from pathlib import Path

import pytest

from xpnet.cli.folder import claimed
from xpnet.errors import XpnetError
from xpnet.files import append_line


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("out", [None, Path("a/b/c")])
def test_folders_made_for_nothing_are_removed_with_their_parents(tmp_path: Path, out: Path | None) -> None:
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


def test_runs_are_numbered_and_a_link_serves_as_their_folder(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "runs").symlink_to("scratch")
    for number in ("001", "002"):
        with claimed(None, resume=False) as folder:
            (folder / "model").touch()
        assert folder == Path("runs") / number
    with claimed(None, resume=False) as first, claimed(None, resume=False) as second:
        assert [first.name, second.name] == ["003", "004"]
    assert sorted(path.name for path in (tmp_path / "scratch").iterdir()) == ["001", "002"]


def test_a_folder_that_is_in_use_is_held_for_a_resumption_alone() -> None:
    with claimed(Path("out"), resume=False) as folder:
        (folder / "model").touch()
    with pytest.raises(XpnetError, match="in use"), claimed(Path("out"), resume=False):
        pass
    assert (Path("out") / "model").exists()
    pytest.importorskip("fcntl")
    with (
        claimed(Path("out"), resume=True),
        pytest.raises(XpnetError, match="another run is going on"),
        claimed(Path("out"), resume=True),
    ):
        pass


def test_what_was_being_written_is_removed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in (".1234.partial", "mine.partial"):
        (tmp_path / "out" / name).touch()
    with pytest.raises(XpnetError, match="in use"), claimed(Path("out"), resume=False):
        pass
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.partial"]


def test_a_line_is_appended_whole_or_not_at_all(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "history.csv"
    with pytest.raises(XpnetError, match=r"history\.csv: cannot be written: No such file"):
        append_line(path, "1,0.5\n")
    path.write_bytes(b"epoch,loss\n")
    append_line(path, "1,0.5\n")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for room, reason in ((3, "the disk is full"), (0, "File too large")):
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + room, limits[1]))
        try:
            with pytest.raises(XpnetError, match=f"history.csv: cannot be written: {reason}"):
                append_line(path, "2,0.25\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == b"epoch,loss\n1,0.5\n"
