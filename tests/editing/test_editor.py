"""The editor end to end on bundled photographs: what changes, what does not, what is refused, and what files say."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.editing import provenance, signing
from mien.editing.editor import Editor
from mien.editing.geometry import HIGH, LOW, FaceFrame, lip_gap
from mien.editing.grids import STRENGTHS, grid, ramp
from mien.editing.photo import Photo, open_photo
from mien.editing.results import Edit, EditRefused, Located
from mien.editing.warp import FOLD_LIMIT, Region
from mien.errors import ConfigError, ExtraMissing, ImageError, NoFace, OutputExists
from mien.landmarks import JAW, LEFT_BROW, LEFT_MOUTH_CORNER, OUTER_LIPS, RIGHT_BROW, RIGHT_MOUTH_CORNER

c2pa = pytest.importorskip("c2pa")


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(measure=False, threads=1)


@pytest.fixture(scope="module")
def photo(examples: Path) -> Photo:
    return open_photo(examples / "portrait_neutral.jpg")


@pytest.fixture(scope="module")
def located(editor: Editor, photo: Photo) -> list[Located]:
    return editor.locate(photo)


@pytest.fixture(scope="module")
def smile(editor: Editor, photo: Photo, located: list[Located]) -> Edit:
    return editor.apply(photo, located, "happiness", 0.7)


@pytest.fixture(autouse=True)
def _own_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test touches the signing key of the person who runs it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


# Pixels


@pytest.mark.parametrize("given", [3, None, ["a.jpg"], {"a.jpg"}, range(3)])
def test_what_is_no_picture_is_refused_in_one_line(editor: Editor, given: object) -> None:
    with pytest.raises(
        ImageError, match=r"> is not a picture: pass a path, bytes, an open binary file, an array"
    ):
        editor(given, "happiness")  # type: ignore[arg-type]


def test_every_kind_of_bytes_is_the_same_photo(photo: Photo) -> None:
    for data in (photo.data, bytearray(photo.data), memoryview(photo.data)):
        other = open_photo(data)
        np.testing.assert_array_equal(other.colour, photo.colour)
        assert other.data == photo.data


def test_zero_intensity_returns_the_photo(editor: Editor, photo: Photo, located: list[Located]) -> None:
    for target in ("happiness", "neutral", "happiness:0.5,surprise:0.5"):
        for mouth in ("auto", "open", "keep"):
            edit = editor.apply(photo, located, target, 0.0, mouth=mouth)
            np.testing.assert_array_equal(edit.image, photo.rgb)
            assert edit.faces[0].folding == pytest.approx(1.0)


def test_pixels_outside_the_frame_are_the_same(smile: Edit, photo: Photo, located: list[Located]) -> None:
    frame = FaceFrame.of(located[0].points)
    corners = frame.to_picture(np.array([LOW, [HIGH[0], LOW[1]], HIGH, [LOW[0], HIGH[1]]]))
    outside = np.ones(photo.rgb.shape[:2], np.uint8)
    cv2.fillPoly(outside, [np.rint(corners).astype(np.int32)], 0)
    outside = cv2.erode(outside, np.ones((3, 3)))
    changed = (smile.image != photo.rgb).any(axis=2)
    assert outside.sum() > 1000
    assert not changed[outside > 0].any()
    assert changed.mean() > 0.02


def test_there_is_no_seam(smile: Edit, photo: Photo, located: list[Located]) -> None:
    """Just inside the rim of the region the edit differs from the photo by next to nothing."""
    frame = FaceFrame.of(located[0].points)
    height, width = photo.rgb.shape[:2]
    region = Region.of(frame, width, height)
    places = region.canonical((slice(0, region.height), slice(0, region.width)))
    near_rim = np.minimum(places - LOW, HIGH - places).min(axis=-1)
    band = (near_rim > 0) & (near_rim < 0.08)
    rows, columns = (
        slice(region.top, region.top + region.height),
        slice(region.left, region.left + region.width),
    )
    difference = np.abs(smile.image[rows, columns].astype(int) - photo.rgb[rows, columns]).max(axis=2)
    assert difference[band].mean() < 1.0


def test_edits_are_deterministic(editor: Editor, photo: Photo, located: list[Located]) -> None:
    first = editor.apply(photo, located, "surprise", 1.0, mouth="open", seed=3)
    second = editor.apply(photo, located, "surprise", 1.0, mouth="open", seed=3)
    np.testing.assert_array_equal(first.image, second.image)
    assert any("example" in flag for flag in first.flags)


def test_the_smile_is_seen_where_it_was_asked(editor: Editor, smile: Edit, located: list[Located]) -> None:
    """Located again in the edited picture, the mouth's corners are higher and wider apart."""
    before = FaceFrame.of(located[0].points).to_canonical(located[0].points)
    again = editor.locate(smile.photo)[0].points
    after = FaceFrame.of(again).to_canonical(again)
    corners = [RIGHT_MOUTH_CORNER, LEFT_MOUTH_CORNER]
    assert (after[corners, 1] < before[corners, 1] - 0.015).all()
    assert np.ptp(after[corners, 0]) > np.ptp(before[corners, 0]) + 0.02


def test_intensity_is_monotonous(editor: Editor, photo: Photo, located: list[Located]) -> None:
    """More anger, lower inner brows: by the landmark network on the edited pixels, in the photo's own frame."""
    brows = [RIGHT_BROW.start + 4, LEFT_BROW.start + 4]
    frame = FaceFrame.of(located[0].network_points)
    heights = []
    for intensity in (0.0, 0.5, 1.0):
        points = editor.locate(editor.apply(photo, located, "anger", intensity).photo)[0].network_points
        heights.append(frame.to_canonical(points)[brows, 1].mean())
    assert heights[0] < heights[1] < heights[2]


def test_there_and_back_is_close_to_the_photo(editor: Editor, photo: Photo, located: list[Located]) -> None:
    editor = editor.with_corrector(None)  # a correction of the way there is none of the way back
    there = editor.apply(photo, located, "anger", 0.6, relative=True)
    moved = [replace(located[0], points=there_points(editor, located[0]))]
    change = -editor.geometry.displacement(
        anger(0.6), lip_gap(FaceFrame.of(located[0].points).to_canonical(located[0].points))
    )
    assert np.abs(change).max() > 0.02
    back = editor.apply(there.photo, moved, "anger", 0.6, relative=True)  # further, not back: a control
    from mien.editing.plan import plan
    from mien.editing.render import render

    undone, _ = render(
        there.photo.colour, plan(editor.geometry, moved[0].points, anger(-0.6), 0.0), editor.shading, 0.0
    )
    error = np.abs(undone.astype(int) - photo.rgb).mean()
    assert error < 0.25 * np.abs(back.image.astype(int) - photo.rgb).mean()


def anger(strength: float) -> np.ndarray:
    from mien.editing.geometry import ACTIVE

    change = np.zeros(len(ACTIVE))
    change[ACTIVE.index("anger")] = strength
    return change


def there_points(editor: Editor, face: Located) -> np.ndarray:
    """Where the points of a face are after anger at 0.6."""
    frame = FaceFrame.of(face.points)
    shape = frame.to_canonical(face.points)
    return frame.to_picture(editor.geometry.move(shape, anger(0.6), lip_gap(shape)))


def test_a_smile_with_teeth_can_be_closed(editor: Editor, examples: Path) -> None:
    edit = editor(examples / "portrait_smiling.jpg", "neutral", 1.0)
    face = edit.faces[0]
    assert face.gap_before > 0.05
    assert face.gap_after < 0.4 * face.gap_before
    assert edit.faces[0].folding >= FOLD_LIMIT


def test_alpha_grey_and_sixteen_bits_are_edited_in_kind(
    editor: Editor, photo: Photo, located: list[Located], smile: Edit
) -> None:
    ramp_ = np.linspace(0, 255, photo.rgb.shape[1]).astype(np.uint8)
    alpha = np.repeat(ramp_[None], photo.rgb.shape[0], axis=0)
    with_alpha = editor.apply(replace(photo, alpha=alpha), located, "happiness", 0.7)
    np.testing.assert_array_equal(with_alpha.photo.alpha, alpha)
    np.testing.assert_array_equal(with_alpha.image, smile.image)

    deep = replace(photo, colour=photo.colour.astype(np.uint16) * 257)
    deep_smile = editor.apply(deep, located, "happiness", 0.7)
    assert deep_smile.photo.colour.dtype == np.uint16
    # A pixel at the edge of a lid is drawn either way.
    assert np.quantile(np.abs(deep_smile.image.astype(int) - smile.image), 0.9999) <= 1

    luma = cv2.cvtColor(photo.rgb, cv2.COLOR_RGB2GRAY)
    grey = replace(photo, colour=np.repeat(luma[..., None], 3, axis=2), grey=True)
    drawn = editor.apply(grey, located, "surprise", 1.0, mouth="open").image
    assert (drawn == drawn[..., :1]).all(), "a filled mouth must not bring colour into a grey photo"


def test_several_faces_are_edited_one_or_all(editor: Editor, examples: Path) -> None:
    group = open_photo(examples / "group_1.jpg")
    faces = editor.locate(group)
    assert len(faces) >= 5
    areas = [face.box.area for face in faces]
    assert areas == sorted(areas, reverse=True)
    second = editor.apply(group, faces, "happiness", 0.8, face=1, force=True)
    changed = (second.image != group.rgb).any(axis=2)
    box = faces[1].box
    assert changed[int(box.y) : int(box.bottom), int(box.x) : int(box.right)].any()
    far = faces[0].box
    assert not changed[
        int(far.y) : int(far.bottom), int(far.x + far.width / 3) : int(far.right - far.width / 3)
    ].any()
    every = editor.apply(group, faces, "happiness", 0.8, face="all", force=True)
    assert len(every.faces) == len(faces)
    with pytest.raises(NoFace, match="face 99"):
        editor.apply(group, faces, "happiness", face=99)


# Refusals


@pytest.mark.parametrize(
    ("side", "out", "refused"),
    [("bottom", 0.1, False), ("bottom", 0.2, True), ("left", 0.2, True), ("right", 0.2, True)],
)
def test_a_jaw_may_lie_as_far_outside_as_its_points_err(
    editor: Editor, photo: Photo, located: list[Located], out: float, refused: bool, side: str
) -> None:
    """Press photographs are often cut at the chin."""
    jaw, unit = located[0].points[JAW][5:16], FaceFrame.of(located[0].points).unit
    height, width = photo.rgb.shape[:2]
    by = {
        "bottom": [0, height - 1 + out * unit - jaw[:, 1].max()],
        "left": [-out * unit - jaw[:, 0].min(), 0],
        "right": [width - 1 + out * unit - jaw[:, 0].max(), 0],
    }[side]
    edit = editor.apply(
        photo, [replace(located[0], points=located[0].points + by)], "sadness", 0.1, force=True
    )
    assert any("outside" in flag for flag in edit.flags) == refused


def test_no_face_is_said(editor: Editor) -> None:
    with pytest.raises(NoFace, match="no face"):
        editor(np.full((200, 200, 3), 128, np.uint8), "happiness")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"yaw": 40.0}, "turned by 40"),
        ({"jitter": 0.05}, "uncertain"),
        ({"points": None}, "outside the photo"),
    ],
)
def test_poor_faces_are_refused_unless_forced(
    editor: Editor, photo: Photo, located: list[Located], change: dict, words: str
) -> None:
    if "points" in change:
        change = {"points": located[0].points + np.array([0, photo.rgb.shape[0] * 0.4])}
    poor = [replace(located[0], **change)]
    with pytest.raises(EditRefused, match=words):
        editor.apply(photo, poor, "happiness")
    forced = editor.apply(photo, poor, "happiness", force=True)
    assert any(words in flag for flag in forced.flags)


def test_small_faces_are_refused(editor: Editor, photo: Photo, located: list[Located]) -> None:
    small = replace(located[0], box=replace(located[0].box, width=40.0))
    with pytest.raises(EditRefused, match="40 pixels"):
        editor.apply(photo, [small], "happiness")


def test_a_face_that_only_folds_is_refused_even_if_forced(
    editor: Editor, photo: Photo, located: list[Located]
) -> None:
    # A basis that turns the face inside out, as no fitted one does: no share of it is a map.
    wild = replace(editor.geometry, basis=editor.geometry.basis * 60)
    broken = replace(editor, geometry=wild, corrector=None)
    with pytest.raises(EditRefused, match="fold"):
        broken.apply(photo, located, "surprise", 1.25, force=True)


def test_wrong_requests_are_refused_at_the_door(editor: Editor, photo: Photo, located: list[Located]) -> None:
    with pytest.raises(ConfigError, match="intensity"):
        editor.apply(photo, located, "happiness", 2.0)


# Sheets


def test_grid_and_ramp(editor: Editor, photo: Photo, located: list[Located]) -> None:
    sheet, record = grid(editor, photo, located, plane=False, width=64)
    assert sheet.shape[1] == 64 * len(STRENGTHS)
    assert record.faces
    frames, full = ramp(editor, photo, located, "happiness", 0.6, frames=3, longest=128)
    assert max(frames[0].shape) == 128
    assert np.abs(frames[3].astype(int) - frames[0]).mean() > np.abs(frames[1].astype(int) - frames[0]).mean()
    assert full.applied == 0.6


# Files


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_provenance_verifies_and_survives_a_copy(smile: Edit, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"smile{suffix}"
    provenance.write_edit(smile, path)
    copy = tmp_path / "elsewhere" / f"copy{suffix}"
    copy.parent.mkdir()
    shutil.copy(path, copy)
    found = provenance.verify(copy)
    assert found.manifest
    assert found.intact
    assert not found.trusted, "a key made here vouches for nobody"
    assert "self-made" in found.signer
    assert found.edited
    assert found.facts["target"] == "happiness"
    assert found.facts["faces"][0]["applied"] == 0.7
    assert found.source_type.endswith("compositeWithTrainedAlgorithmicMedia")
    assert found.sidecar == "none"
    assert provenance.verify(path).sidecar == "fits"


def test_tampering_is_noticed(smile: Edit, tmp_path: Path) -> None:
    path = tmp_path / "smile.png"
    provenance.write_edit(smile, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = provenance.verify(path)
    assert not found.intact
    assert found.problems
    assert found.sidecar == "does not fit"


def test_opting_out_is_recorded(smile: Edit, tmp_path: Path) -> None:
    path = tmp_path / "smile.jpg"
    record = json.loads(provenance.write_edit(smile, path, provenance=False).read_text())
    assert record["provenance_in_file"] is False
    assert record["original_sha256"] is not None
    found = provenance.verify(path)
    assert not found.manifest
    assert found.source_type == ""


def test_nothing_is_overwritten(smile: Edit, tmp_path: Path) -> None:
    path = tmp_path / "smile.png"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExists, match="pass --overwrite"):
        provenance.write_edit(smile, path)
    assert path.read_bytes() == b"mine"
    provenance.write_edit(smile, path, overwrite=True)
    assert provenance.verify(path).sidecar == "fits"
    (tmp_path / "b.png.mien.json").write_text("my own notes")
    with pytest.raises(OutputExists, match="not a record of an edit"):
        provenance.write_edit(smile, tmp_path / "b.png", overwrite=True)
    assert (tmp_path / "b.png.mien.json").read_text() == "my own notes"


def test_a_full_disk_leaves_nothing_in_the_way(
    smile: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, write_bytes = tmp_path / "smile.png", Path.write_bytes

    def full(self: Path, data: bytes) -> int:
        if len(data) > 10_000:
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ImageError, match="no space left"):
        provenance.write_edit(smile, path, provenance=False)
    assert not list(tmp_path.glob("*smile*"))
    assert not list(tmp_path.glob(".mien*"))
    monkeypatch.undo()
    provenance.write_edit(smile, path, provenance=False)


def test_missing_extra_says_how_to_install_it(
    smile: Edit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "c2pa", None)
    with pytest.raises(ExtraMissing, match=r"pip install 'mien\[edit\]'"):
        provenance.write_edit(smile, tmp_path / "smile.png")
    assert not (tmp_path / "smile.png").exists()


def test_the_private_key_is_private_and_made_once(tmp_path: Path) -> None:
    first = signing.Signer.of_install(tmp_path)
    assert (tmp_path / "key.pem").stat().st_mode & 0o077 == 0
    assert signing.Signer.of_install(tmp_path) == first


def test_own_teeth_are_drawn_as_they_are_between_the_same_lips(editor: Editor, examples: Path) -> None:
    """Between the lips of the very photo they are from, the person's teeth are that photo."""
    from mien.editing import mouth_interior
    from mien.editing.render import skin_statistics

    smiling = open_photo(examples / "portrait_smiling.jpg")
    face = editor.locate(smiling)[0]
    able = editor.with_teeth_of(smiling)
    assert able.teeth is not None
    assert able.teeth.own
    around = skin_statistics(smiling.rgb, FaceFrame.of(face.points), face.points)
    opening = mouth_interior.opening_of(face.points)
    t, share = np.meshgrid(np.linspace(0.25, 0.75, 30), np.linspace(0.2, 0.8, 9))
    places = opening.at(t, share * opening.height_at(t))
    drawn = mouth_interior.filled(able.teeth, opening, places, around, 0)
    real = smiling.rgb[tuple(np.rint(places[..., ::-1]).astype(int).transpose(2, 0, 1))]
    usual = mouth_interior.choose(opening, 1.0, 0.9, 0.0, around)
    bite = mouth_interior.filled(usual, opening, places, around, 0)
    error, others = (np.abs(shown - real).mean() for shown in (drawn, bite))
    assert error < 12
    assert error < 0.5 * others


def test_own_teeth_fill_the_lips_of_another_photo(
    editor: Editor, photo: Photo, located: list[Located], examples: Path
) -> None:
    able = editor.with_teeth_of(examples / "portrait_smiling.jpg")
    usual, own = (way.apply(photo, located, "happiness", 1.0) for way in (editor, able))
    assert any("filled from the example" in flag for flag in usual.flags)
    assert any("filled from '" in flag for flag in own.flags)
    lips = FaceFrame.of(located[0].points).to_canonical(located[0].points)[OUTER_LIPS]
    height, width = photo.rgb.shape[:2]
    places = FaceFrame.of(located[0].points).to_canonical(
        np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(float)
    )
    mouth = (np.abs(places - lips.mean(axis=0)) < [0.6, 0.35]).all(axis=2)
    changed = (usual.image != own.image).any(axis=2)
    assert changed[mouth].sum() > 50
    assert not changed[~mouth].any()
    # An expression that shows no teeth has its own mouth interior.
    surprised = [way.apply(photo, located, "surprise", 1.0).image for way in (editor, able)]
    np.testing.assert_array_equal(*surprised)


def test_a_person_has_one_mouth_at_every_intensity(
    editor: Editor, photo: Photo, located: list[Located]
) -> None:
    """A slider or an animation must not exchange the teeth."""
    for name in ("happiness", "surprise", "fear"):
        flags = [
            flag
            for intensity in (0.75, 0.85, 1.0, 1.2)
            for flag in editor.apply(photo, located, name, intensity).flags
            if "filled" in flag
        ]
        assert len(flags) == 4
        assert len(set(flags)) == 1


def test_closed_lips_have_no_teeth_to_take(editor: Editor, examples: Path) -> None:
    with pytest.raises(EditRefused, match="the lips are closed"):
        editor.with_teeth_of(examples / "portrait_neutral.jpg")
