"""Results go where nothing is lost: inside their folder, over no input and over no file of somebody else."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from mien.errors import ConfigError, MienError, OutputExists
from mien.io import atomic, outputs
from mien.io import inputs as sources
from mien.io.locks import FileLocked
from mien.io.outputs import Outputs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A current folder, `here`, beside other folders."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def made(path: Path, text: str = "picture") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return str(path)


def done(plan: Outputs, *inputs: sources.Source) -> None:
    """Write a result for each input, as a command does."""
    held = plan.lock()
    for source in inputs:
        data = b"result of " + sources.name(source).encode()
        plan.write(source, data, lambda path, data=data: atomic.write({path: data}))  # type: ignore[misc]
    held.release()


def same(name: str) -> str:
    return name


def files(folder: Path) -> list[str]:
    found = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(name for name in found if name != outputs.RECORD)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["../shots/a.jpg", "b.jpg"], ["here/b.jpg", "shots/a.jpg"]),
        (["../shots/../shots/a.jpg", "../monday/a.jpg"], ["monday/a.jpg", "shots/a.jpg"]),
        (["{tmp}/monday/a.jpg", "../tuesday/a.jpg"], ["monday/a.jpg", "tuesday/a.jpg"]),
        (["../monday/a.jpg", "../monday/A.jpg"], ["A-2.jpg", "a.jpg"]),
        (["../monday/a.jpg", "../Monday/a.jpg"], ["Monday/a-2.jpg", "monday/a.jpg"]),
    ],
)
def test_names_stay_inside_and_apart(here: Path, inputs: list[str], expected: list[str]) -> None:
    given = [name.format(tmp=here) for name in inputs]
    for name in given:
        made(Path(name))
    out = here / "out"
    done(Outputs(out, given, same), *given)
    assert files(out) == expected


def test_other_suffixes_do_not_meet(here: Path) -> None:
    given = [made(here / "in" / name) for name in ("photo.heic", "photo.bmp", "photo.heic.png", "photo.png")]
    out = here / "out"
    plan = Outputs(out, given, lambda name: name if name.endswith(".png") else name + ".png")
    done(plan, *given)
    assert files(out) == ["photo.bmp.png", "photo.heic-2.png", "photo.heic.png", "photo.png"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_inputs_and_strangers_are_never_replaced(here: Path, overwrite: bool) -> None:
    inner = made(here / "pics" / "sub" / "x.jpg")
    original = made(here / "pics" / "x.jpg")
    with pytest.raises(OutputExists, match="mien did not write it"):  # somebody else's
        Outputs(here / "pics", [inner], same, overwrite=overwrite)
    with pytest.raises(OutputExists, match="overwrite an input"):
        Outputs(here / "pics", [inner, original], same, overwrite=overwrite)
    with pytest.raises(OutputExists, match="overwrite an input"):
        Outputs(here / "pics" / "sub", [inner], same, overwrite=overwrite)
    (here / "away").symlink_to(here / "pics")
    with pytest.raises(OutputExists, match="overwrite an input"):
        Outputs(here / "away", [original], same, overwrite=overwrite)
    (here / "out").mkdir()
    (here / "out" / "x.jpg").symlink_to(original)
    with pytest.raises(OutputExists):
        Outputs(here / "out", [original], same, overwrite=overwrite)
    assert (Path(original).read_text(), Path(inner).read_text()) == ("picture", "picture")


def test_a_link_inside_the_folder_leads_nowhere(here: Path) -> None:
    given = [made(here / "in" / "a.jpg"), made(here / "in" / "sub" / "b.jpg")]
    precious = here / "precious"
    precious.mkdir()
    (here / "out").mkdir()
    (here / "out" / "sub").symlink_to(precious)
    with pytest.raises(OutputExists, match="leads out of"):
        Outputs(here / "out", given, same)
    (here / "out" / "sub").unlink()
    plan = Outputs(here / "out", given, same)
    (here / "out" / "sub").symlink_to(precious)  # put there after the plan was made
    with pytest.raises(OutputExists, match="leads out of"):
        done(plan, *given)
    assert not list(precious.iterdir())


def test_a_file_put_there_meanwhile_is_kept(here: Path) -> None:
    given = made(here / "in" / "a.jpg")
    plan = pickle.loads(pickle.dumps(Outputs(here / "out", [given], same)))
    mine = made(here / "out" / "a.jpg", "mine")
    with pytest.raises(OutputExists, match="mien did not write it"):
        done(plan, given)
    assert Path(mine).read_text() == "mine"


def test_earlier_results_are_replaced_only_if_asked_and_only_untouched(here: Path) -> None:
    given = made(here / "in" / "a.jpg")
    out = here / "out"
    done(Outputs(out, [given], same), given)
    with pytest.raises(OutputExists, match="pass --overwrite to replace it, --resume to continue"):
        Outputs(out, [given], same)
    done(Outputs(out, [given], same, overwrite=True), given)
    (out / "a.jpg").write_text("retouched by hand")
    with pytest.raises(OutputExists, match="mien did not write it"):
        Outputs(out, [given], same, overwrite=True)


def test_going_on_notices_other_settings_and_other_content(here: Path) -> None:
    given = made(here / "in" / "a.jpg")
    out = here / "out"
    done(Outputs(out, [given], same, {"to": "anger"}), given)
    assert Outputs(out, [given], same, {"to": "anger"}, resume=True).is_done(given)
    with pytest.raises(ConfigError, match='begun with to "anger", not "fear"'):
        Outputs(out, [given], same, {"to": "fear"}, resume=True)
    os.utime(given, (1, 1))  # only its time
    assert Outputs(out, [given], same, {"to": "anger"}, resume=True).is_done(given)
    made(Path(given), "replaced")
    plan = Outputs(out, [given], same, {"to": "anger"}, resume=True)
    assert not plan.is_done(given)
    done(plan, given)
    assert files(out) == ["a.jpg"]


def test_names_stay_when_inputs_are_added_and_equal_names_come_later(here: Path) -> None:
    monday, tuesday = made(here / "monday" / "a.jpg"), made(here / "tuesday" / "a.jpg", "another")
    out = here / "out"
    done(Outputs(out, [monday], same), monday)
    plan = Outputs(out, [tuesday], same, resume=True)
    assert not plan.is_done(tuesday)
    done(plan, tuesday)
    assert files(out) == ["a-2.jpg", "a.jpg"]
    both = Outputs(out, [monday, tuesday], same, resume=True)
    assert both.is_done(monday)
    assert both.is_done(tuesday)


def test_a_kill_between_record_and_file_is_in_nobody_s_way(here: Path) -> None:
    given = made(here / "in" / "a.jpg")
    out = here / "out"
    done(Outputs(out, [given], same), given)

    def killed(path: Path) -> None:
        raise KeyboardInterrupt

    plan = Outputs(out, [given], same, overwrite=True)
    with pytest.raises(KeyboardInterrupt):
        plan.write(given, b"new", killed)
    with (out / outputs.RECORD).open("ab") as file:
        file.write(b'{"torn')
    done(Outputs(out, [given], same, overwrite=True), given)
    done(Outputs(out, [given], same, overwrite=True), given)
    assert files(out) == ["a.jpg"]


def test_a_project_can_be_moved(here: Path) -> None:
    given = made(here / "project" / "in" / "a.jpg")
    done(Outputs(here / "project" / "out", [given], same), given)
    (here / "project").rename(here / "moved")
    given = str(here / "moved" / "in" / "a.jpg")
    assert Outputs(here / "moved" / "out", [given], same, resume=True).is_done(given)


def test_one_command_at_a_time(here: Path) -> None:
    plan = Outputs(here / "out", [made(here / "in" / "a.jpg")], same)
    held = plan.lock()
    with pytest.raises(FileLocked, match="another process"):
        plan.lock()
    held.release()


def test_a_named_file(here: Path) -> None:
    source, target = made(here / "a.jpg"), here / "b.jpg"
    outputs.check(target, reads=[source])
    made(target)
    with pytest.raises(OutputExists, match="exists: pass --overwrite to replace it, or name another"):
        outputs.check(target, reads=[source])
    outputs.check(target, reads=[source], overwrite=True)
    (here / "link.jpg").symlink_to(source)
    for same_file in (here / "here" / ".." / "a.jpg", here / "link.jpg", source):
        with pytest.raises(OutputExists, match="is the same file as"):
            outputs.check(same_file, reads=[source], overwrite=True)
    with pytest.raises(ConfigError, match="is a folder"):
        outputs.check(here, overwrite=True)
    with pytest.raises(ConfigError, match="no such folder"):
        outputs.check(here / "none" / "a.jpg")


def test_a_folder_of_fixed_names(here: Path) -> None:
    outputs.check_folder(here / "none", ["a.md"])
    made(here / "report" / "a.md")
    outputs.check_folder(here / "report", ["b.md"])
    with pytest.raises(OutputExists, match=r"a\.md: exists: pass --overwrite to replace it, or name another"):
        outputs.check_folder(here / "report", ["b.md", "a.md"])
    outputs.check_folder(here / "report", ["a.md"], overwrite=True)


def test_files_written_together_leave_what_was_there_when_one_cannot_be(here: Path) -> None:
    first = here / "a.json"
    made(first, "old")
    with pytest.raises(OSError):  # noqa: PT011 - whatever the system calls a missing folder
        atomic.write({first: b"new", here / "none" / "b": b"b"})
    assert first.read_text() == "old"
    assert not list(here.glob(".mien-*"))


def test_what_cannot_be_written_is_refused_before_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "a.mp4"
    source.touch()
    (tmp_path / "link.mp4").symlink_to(source)
    (tmp_path / "hard.mp4").hardlink_to(source)
    (tmp_path / "folder.mp4").mkdir()
    for name, words in {
        "missing/x.mp4": "no such folder",
        "a.mp4": "same file",
        "link.mp4": "same file",
        "hard.mp4": "same file",
        "folder.mp4": "is a folder",
        "x.webm": "cannot write '.webm'",
        "x": "cannot write ''",
    }.items():
        with pytest.raises(MienError, match=words):
            outputs.check(tmp_path / name, reads=[source], suffixes=(".mp4",))
    outputs.check(tmp_path / "new.mp4", reads=[source], suffixes=(".mp4",))
    with pytest.raises(ConfigError, match="are free"):
        outputs.check(tmp_path / "new.mp4", reads=[source], room=1e18)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", read_only)
    with pytest.raises(ConfigError, match="read-only"):
        outputs.check(tmp_path / "new.mp4", reads=[source])
    assert not (tmp_path / "new.mp4").exists()
