"""`mien edit` and `mien verify`: what is written, what is refused, and what continues where it stopped."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mien.cli.main import _with_values, app
from mien.editing.editor import Editor
from mien.editing.photo import Photo
from mien.editing.results import Edit, EditRefused
from mien.errors import ConfigError, OutputExists
from mien.io import images

if TYPE_CHECKING:
    from numpy.typing import NDArray

pytest.importorskip("c2pa")


@pytest.fixture(autouse=True)
def _own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the signing key of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_edit_and_verify_commands(examples: Path, tmp_path: Path) -> None:
    run, out = CliRunner(), tmp_path / "out.png"
    source = examples / "portrait_neutral.jpg"
    before = source.read_bytes()
    done = run.invoke(
        app, ["edit", str(source), "--to", "happiness", "--intensity", "0.6", "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert source.read_bytes() == before
    assert images.read(out).shape == images.read(source).shape
    said = run.invoke(app, ["verify", str(out)])
    assert said.exit_code == 0
    assert "intact" in said.output
    assert "expression changed; asked for: happiness" in said.output
    assert re.search(r"face 0: intensity [\d.]+(?:; |\n)", said.output), "the notes follow a semicolon"
    again = run.invoke(app, ["edit", str(source), "--to", "anger", "--out", str(out)])
    assert isinstance(again.exception, OutputExists)
    itself = run.invoke(app, ["edit", str(source), "--to", "anger", "--out", str(source), "--overwrite"])
    assert isinstance(itself.exception, OutputExists)
    assert source.read_bytes() == before
    plain = run.invoke(app, ["verify", str(source)])
    assert plain.exit_code == 1


def test_a_folder_takes_the_edit_under_its_own_name(examples: Path, tmp_path: Path) -> None:
    asked = ["edit", str(examples / "portrait_neutral.jpg"), "--to", "happiness", "--out", str(tmp_path)]
    asked += ["--no-provenance"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 0, done.output
    assert f" s: {tmp_path / 'portrait_neutral.jpg'}\n" in done.output
    assert isinstance(CliRunner().invoke(app, asked).exception, OutputExists)
    copy = tmp_path / "copy.jpg"
    copy.write_bytes((examples / "portrait_neutral.jpg").read_bytes())
    asked[1] = str(copy)
    assert isinstance(CliRunner().invoke(app, asked).exception, OutputExists)  # never the photo itself


def test_batches_ask_for_consent(examples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.open(examples / "portrait_neutral.jpg")
    picture.save(folder / "face.png")
    Image.new("RGB", (64, 64)).save(folder / "nobody.png")
    arguments = [
        "edit",
        str(folder),
        "--to",
        "happiness",
        "--intensity",
        "0.5",
        "--out",
        str(tmp_path / "done"),
    ]
    assert isinstance(CliRunner().invoke(app, arguments).exception, ConfigError)
    done = CliRunner().invoke(app, [*arguments, "--i-have-consent"])
    assert done.exit_code == 1, "one of the two has no face"
    assert sorted(path.name for path in (tmp_path / "done").glob("[!.]*")) == [
        "face.png",
        "face.png.mien.json",
    ]
    assert json.loads((tmp_path / "done" / "face.png.mien.json").read_text())["consent_stated"] is True


def test_a_folder_of_edits_goes_on_rightly(
    examples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal names are kept apart; other options are refused; replaced photos are done again; the rest is not."""
    made = []

    def apply(
        self: Editor, photo: Photo, located: object, target: object, intensity: float, **_: object
    ) -> Edit:
        made.append(Path(photo.source).relative_to(tmp_path).as_posix())
        return Edit(photo, photo, (), str(target))

    monkeypatch.setattr(Editor, "apply", apply)
    monkeypatch.setattr(Editor, "locate", lambda self, photo: [])
    small = Image.open(examples / "portrait_neutral.jpg").resize((64, 64))
    for name in ("monday/a.jpg", "tuesday/a.jpg", "tuesday/b.bmp", "tuesday/b.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        small.save(tmp_path / name)
    out = tmp_path / "out"
    base = ["edit", str(tmp_path / "monday"), str(tmp_path / "tuesday"), "--out", str(out), "--to", "anger"]
    base += ["--i-have-consent", "--no-provenance", "--threads", "1"]

    def invoke(*more: str) -> tuple[int, str, str, list[str]]:
        made.clear()
        ran = CliRunner().invoke(app, [*base, *more])
        return ran.exit_code, ran.output, str(ran.exception or ""), list(made)

    everything = ["monday/a.jpg", "tuesday/a.jpg", "tuesday/b.bmp", "tuesday/b.gif"]
    code, told, _, did = invoke("--resume")
    assert (code, did) == (0, everything), told
    assert "4 photos edited; " in told
    names = ["monday/a.jpg", "tuesday/a.jpg", "tuesday/b.bmp.png", "tuesday/b.gif.png"]
    assert (
        sorted(p.relative_to(out).as_posix() for p in out.rglob("*") if p.suffix in (".jpg", ".png")) == names
    )
    assert "pass --overwrite to replace it, --resume to continue" in invoke()[2]
    for more in (["--intensity", "0.5"], ["--mouth", "open"], ["--detector", "whole"]):
        code, _, refused, did = invoke("--resume", *more)
        assert (code, did) == (1, [])
        assert f"was begun with {more[0][2:]} " in refused
    small.rotate(90).save(tmp_path / "tuesday" / "a.jpg")
    (out / "tuesday" / "b.bmp.png").unlink()  # its record stays
    code, told, _, did = invoke("--resume")
    assert (code, did) == (0, ["tuesday/a.jpg", "tuesday/b.bmp"]), told
    assert "2 photos edited, 2 done before; " in told
    (out / "monday" / "a.jpg").write_bytes(b"retouched by hand")
    assert "mien did not write it" in invoke("--overwrite")[2]
    assert (out / "monday" / "a.jpg").read_bytes() == b"retouched by hand"


@pytest.mark.parametrize(
    "arguments",
    [[], ["--to", "happiness", "--valence", "0.5"], ["--to", "glee"], ["--to", ""], ["--to", " "]],
)
def test_unclear_commands_are_refused(examples: Path, tmp_path: Path, arguments: list[str]) -> None:
    command = ["edit", str(examples / "portrait_neutral.jpg"), "--out", str(tmp_path / "x.png"), *arguments]
    assert CliRunner().invoke(app, command).exit_code != 0
    assert not (tmp_path / "x.png").exists()


def test_facial_actions_are_set_alone_and_after_another_face(examples: Path, tmp_path: Path) -> None:
    neutral, smiling = (str(examples / f"portrait_{name}.jpg") for name in ("neutral", "smiling"))
    for number, asked in enumerate((["--au", "smile=0.6"], ["--like", smiling, "--au", "jawOpen=0.1"])):
        out = tmp_path / f"{number}.png"
        done = CliRunner().invoke(
            app, ["edit", neutral, *asked, "--out", str(out), "--no-provenance", "--no-mark"]
        )
        assert done.exit_code == 0, done.output
        said = re.search(r"mouthSmileLeft (\S+) to (\S+?)[,;\n]", done.output)
        assert said, done.output
        assert float(said[2]) > float(said[1]) + 0.15
    target = json.loads((tmp_path / "1.png.mien.json").read_text())["target"]
    assert target == "like portrait_smiling.jpg and jawOpen=0.1"


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        (["--au", "smlie=1"], "smlie"),
        (["--au", "smile=1", "--grid", "expressions"], "--grid"),
        ([], "--au or --like"),
    ],
)
def test_unclear_actions_are_refused(
    examples: Path, tmp_path: Path, asked: list[str], complaint: str
) -> None:
    command = ["edit", str(examples / "portrait_neutral.jpg"), *asked, "--out", str(tmp_path / "a.png")]
    problem = CliRunner().invoke(app, command).exception
    assert isinstance(problem, ConfigError)
    assert complaint in str(problem)


def test_the_label_has_two_forms_and_text_is_the_one_without_a_word(examples: Path, tmp_path: Path) -> None:
    def edited(*label: str) -> NDArray[np.int64]:
        out = tmp_path / "out.png"
        command = ["edit", *label, str(examples / "portrait_neutral.jpg"), "--to", "happiness", "--no-mark"]
        done = CliRunner().invoke(app, [*command, "--out", str(out), "--overwrite"])
        assert done.exit_code == 0, done.output
        return images.read(out).astype(int)

    plain = edited()
    alone, text, icon = (edited(*label) for label in (["--label"], ["--label", "text"], ["--label=icon"]))
    np.testing.assert_array_equal(alone, text)
    height = plain.shape[0]
    assert (text[: height // 2] == plain[: height // 2]).all()
    assert (text != plain).any()
    assert (icon[height // 2 :] == plain[height // 2 :]).all()
    assert (icon != plain).any()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["edit", "--label", "a.jpg"], ["edit", "--label=text", "a.jpg"]),
        (["edit", "a.jpg", "--label"], ["edit", "a.jpg", "--label=text"]),
        (["edit", "--label", "icon", "a.jpg"], ["edit", "--label", "icon", "a.jpg"]),
        (["edit", "--", "--label"], ["edit", "--", "--label"]),
        (["adapt", "--label"], ["adapt", "--label"]),
    ],
)
def test_an_option_with_an_optional_value(given: list[str], meant: list[str]) -> None:
    assert _with_values(given) == meant


def test_verify_finds_the_mark_in_a_stripped_file(examples: Path, tmp_path: Path) -> None:
    out, stripped = tmp_path / "out.jpg", tmp_path / "stripped.jpg"
    command = ["edit", str(examples / "portrait_neutral.jpg"), "--to", "happiness", "--out", str(out)]
    assert CliRunner().invoke(app, command).exit_code == 0
    Image.fromarray(images.read(out)).save(stripped, quality=70)
    told = CliRunner().invoke(app, ["verify", str(stripped)])
    assert told.exit_code == 1
    assert "content credentials: none" in told.output
    assert "invisible mark: found, version 1, photo edited by mien" in told.output
    as_json = json.loads(CliRunner().invoke(app, ["verify", str(stripped), "--json"]).output)
    assert as_json["mark"] == {"edited": True, "kind": "photo", "generation": 1, "version": 1}
    assert as_json["mark_score"] > 7.5
    plain = CliRunner().invoke(app, ["verify", str(examples / "portrait_neutral.jpg")])
    assert "invisible mark: none found; this does not show that the picture is unedited" in plain.output


def test_own_teeth_come_from_another_photo(examples: Path, tmp_path: Path) -> None:
    smiling, neutral = examples / "portrait_smiling.jpg", examples / "portrait_neutral.jpg"
    asked = ["edit", str(neutral), "--to", "happiness", "--no-provenance", "--no-mark"]
    run = CliRunner()
    own = run.invoke(app, [*asked, "--teeth-from", str(smiling), "--out", str(tmp_path / "own.png")])
    assert own.exit_code == 0, own.output
    assert "portrait_smiling.jpg" in own.output
    usual = run.invoke(app, [*asked, "--out", str(tmp_path / "usual.png")])
    assert usual.exit_code == 0, usual.output
    assert (images.read(tmp_path / "own.png") != images.read(tmp_path / "usual.png")).any()
    closed = run.invoke(app, [*asked, "--teeth-from", str(neutral), "--out", str(tmp_path / "no.png")])
    assert isinstance(closed.exception, EditRefused)
    missing = run.invoke(
        app, [*asked, "--teeth-from", str(tmp_path / "x.jpg"), "--out", str(tmp_path / "x.png")]
    )
    assert "x.jpg" in str(missing.exception)


def test_another_photo_of_teeth_is_another_request(examples: Path, tmp_path: Path) -> None:
    """`--resume` refuses results with other teeth."""
    from mien.editing.edit_files import EditSettings, with_own_teeth
    from mien.editing.editor import Editor
    from mien.editing.target import Target

    smiling = images.read(examples / "portrait_smiling.jpg")
    images.write(tmp_path / "first.png", smiling)
    images.write(tmp_path / "second.png", smiling // 2)
    request, editor = EditSettings(target=Target.parse("happiness")), Editor.load(threads=1)
    stated = [request] + [
        with_own_teeth(editor, request, tmp_path / name)[1] for name in ("first.png", "second.png")
    ]
    assert len({json.dumps(asked.settings({}), sort_keys=True) for asked in stated}) == 3
