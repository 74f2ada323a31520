"""Editing a video: decisions frame by frame, smooth points, fades, and what stays as it was."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien.actions import ACTIONS
from mien.cli.main import app
from mien.editing import edit_video as film
from mien.editing.action_basis import ActionBasis
from mien.editing.edit_video import FADE, Flicker, Track, edit_video, presence, smooth, typical
from mien.editing.editor import Editor
from mien.editing.geometry import ACTIVE
from mien.editing.mouth_interior import SkinStatistics
from mien.editing.photo import open_photo
from mien.editing.results import EditRefused
from mien.editing.target import Target
from mien.io import images
from mien.landmarks import POINTS

pytest.importorskip("av")

SIZE = (288, 216)
DARK = range(9, 12)


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.load(measure=False, threads=1)


def _drift(path: Path, examples: Path, count: int, dark: range = range(0)) -> Path:
    """A portrait that drifts and turns a little before a noisy camera."""
    from mien.io.video import VideoWriter

    picture = images.read(examples / "portrait_neutral.jpg")
    scale = SIZE[1] / picture.shape[0]
    random = np.random.default_rng(0)
    made = VideoWriter(path, *SIZE, 25.0)
    for n in range(count):
        turn = cv2.getRotationMatrix2D((picture.shape[1] / 2, picture.shape[0] / 2), 0.3 * n, scale)
        turn[:, 2] += np.array(SIZE) / 2 - [picture.shape[1] / 2, picture.shape[0] / 2] + [0.7 * n, 0]
        frame = cv2.warpAffine(picture, turn, SIZE, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
        noisy = frame + random.normal(0, 3, frame.shape)
        made.add(np.zeros_like(frame) if n in dark else noisy.clip(0, 255).astype(np.uint8), n / 25)
    made.finish()
    return path


@pytest.fixture(scope="module")
def clip(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 frames, three of them dark."""
    return _drift(tmp_path_factory.mktemp("clip") / "drift.mp4", examples, 24, DARK)


def _track(count: int = 40, jitter: float = 0.0) -> Track:
    """A face that moves steadily, its points shaken by `jitter` pixels."""
    random = np.random.default_rng(0)
    shape = np.random.default_rng(1).uniform(40, 160, (len(POINTS), 2))
    from mien.landmarks import LEFT_EYE_CORNERS, NOSE_BOTTOM, RIGHT_EYE_CORNERS

    shape[list(RIGHT_EYE_CORNERS)] = [[60, 80], [80, 80]]
    shape[list(LEFT_EYE_CORNERS)] = [[140, 80], [120, 80]]
    shape[NOSE_BOTTOM] = [100, 120]
    points = shape + np.arange(count)[:, None, None] * [1.5, 0.5]
    return Track(
        (points + random.normal(0, jitter, points.shape)).astype(np.float32),
        np.arange(count) / 25,
        np.zeros(count, int),
        np.zeros((count, len(ACTIVE)), np.float32),
        [],
    )


def test_smoothing_keeps_steady_motion_and_removes_shaking() -> None:
    steady = _track()
    np.testing.assert_allclose(smooth(steady), steady.points, atol=1e-4)
    shaken = _track(jitter=1.0)
    middle = slice(8, -8)
    before = (shaken.points - steady.points)[middle].std()
    after = (smooth(shaken) - steady.points)[middle].std()
    assert after < 0.5 * before
    np.testing.assert_allclose(smooth(shaken, 0.0), shaken.points, atol=1e-4)


def test_nothing_is_smoothed_across_a_cut_or_a_gap() -> None:
    track = _track()
    track.points[20:] += 50
    track.shots[20:] = 1
    np.testing.assert_allclose(smooth(track), track.points, atol=1e-4)
    track.points[30] = np.nan
    out = smooth(track)
    assert np.isnan(out[30]).all()
    np.testing.assert_allclose(out[31:], track.points[31:], atol=1e-4)


def test_an_edit_fades_beside_frames_without_a_face_but_not_at_cuts() -> None:
    track = _track()
    track.shots[20:] = 1
    track.points[10:13] = np.nan
    share = presence(track)
    assert (share[10:13] == 0).all()
    np.testing.assert_allclose(share[5:10], np.arange(FADE, 0, -1) / (FADE + 1))
    np.testing.assert_allclose(share[13:18], np.arange(1, FADE + 1) / (FADE + 1))
    assert share[0] == share[19] == share[20] == share[-1] == 1


def test_flicker_is_one_for_the_clip_itself_and_sees_noise() -> None:
    track = _track(4)
    random = np.random.default_rng(0)
    same, noisy = Flicker(), Flicker()
    for n in range(4):
        frame = random.integers(100, 130, (220, 240, 3), dtype=np.uint8)
        same.add(0, track.points[n], frame, frame)
        loud = (frame + random.normal(0, 30, frame.shape)).clip(0, 255).astype(np.uint8)
        noisy.add(0, track.points[n], frame, loud)
    assert same.ratio == 1
    assert noisy.ratio > 2
    cut = Flicker()
    for shot in range(2):
        cut.add(shot, track.points[0], frame, frame)
    assert np.isnan(cut.ratio), "what changes at a cut is no flicker"


def test_a_clip_is_edited_steadily_and_dark_frames_stay(editor: Editor, clip: Path, tmp_path: Path) -> None:
    from mien.io.video import VideoReader

    data, done = edit_video(editor, clip, tmp_path / "o.mp4", Target.parse("happiness"), 0.7)
    assert done.frames == 24
    assert done.edited == 24 - len(DARK)
    assert done.flicker < 1.15
    assert done.edit.faces[0].folding >= 0.15
    (tmp_path / "o.mp4").write_bytes(data)
    with VideoReader(clip) as one, VideoReader(tmp_path / "o.mp4") as two:
        before, after = list(one.pictures()), list(two.pictures())
    assert [round(p.time, 3) for p in before] == [round(p.time, 3) for p in after]
    change = [np.abs(a.rgb.astype(int) - b.rgb).mean() for a, b in zip(before, after, strict=True)]
    assert max(change[n] for n in DARK) < 0.5, "a frame without a face is only encoded anew"
    assert change[4] > 2 * change[DARK[-1]]


def test_lips_part_by_themselves_and_are_kept_when_asked(editor: Editor, clip: Path) -> None:
    track = film.follow(editor, clip)
    assert (~track.known).nonzero()[0].tolist() == list(DARK)
    decided = film.decide(track, film.Order(Target.parse("surprise")))
    assert (decided.opening[track.known] > 0.02).all()
    assert (decided.refill[track.known] == 1).all()
    kept = film.decide(track, film.Order(Target.parse("surprise"), mouth="keep"))
    assert kept.keep == pytest.approx(1)
    assert not kept.opening.any()


def test_what_shows_what_is_asked_is_left_and_the_rest_is_changed() -> None:
    """A face that is neutral for a second and then grins, asked for a smile of 0.8."""
    track = _track(50)
    track.strengths[:] = 0
    track.strengths[25:, ACTIVE.index("happiness")] = 0.82
    decided = film.decide(track, film.Order(Target.parse("happiness"), 0.8))
    change = decided.change[:, ACTIVE.index("happiness")]
    assert (change[:18] > 0.7).all()
    assert np.abs(decided.change[32:]).max() < 1e-6
    assert np.abs(np.diff(change)).max() < 0.4, "it does not jump"
    # What shows too much is eased no further than to where it reads as asked.
    track.strengths[25:, ACTIVE.index("happiness")] = 1.25
    order = film.Order(Target.parse("happiness"), 1.0)
    assert order.aim(track.strengths[-1])[ACTIVE.index("happiness")] == pytest.approx(1.05)
    assert -0.25 < film.decide(track, order).change[-1, ACTIVE.index("happiness")] < 0
    relative = film.Order(Target.parse("happiness"), 0.5, relative=True)
    assert relative.aim(np.zeros(len(ACTIVE)))[ACTIVE.index("happiness")] == 0.5
    assert not film.Order(Target.parse("neutral")).aim(track.strengths[-1].astype(float)).any()


def test_the_mouth_interior_is_not_exchanged_where_lips_part_by_about_the_limit() -> None:
    """Filled or not, a mouth must not change with every word; but a grin keeps its own teeth."""

    class Speaking(film.Order):
        openings = iter([0.021, 0.018] * 10 + [0.0] * 20 + [0.019] * 20)

        def lips(self, current: np.ndarray, gap: float) -> tuple[float, float, bool]:
            opening = next(self.openings)
            return 1.0, opening, opening > film.PARTS

    decided = film.decide(_track(60), Speaking(Target.parse("happiness")))
    assert (decided.refill[:15] == 1).all()
    assert not decided.refill[25:].any()


def test_facial_actions_are_set_against_what_each_frame_shows() -> None:
    """A face that begins to smile by itself after a second, asked for a smile of 0.5."""
    from mien.actions import ACTIONS

    track, smile, jaw = _track(50), ACTIONS.index("mouthSmileLeft"), ACTIONS.index("jawOpen")
    track.actions = np.zeros((50, len(ACTIONS)), np.float32)
    track.actions[:, jaw] = np.nan
    track.actions[25:, smile] = 0.5
    track.strengths[25:, ACTIVE.index("happiness")] = 0.6
    order = film.Order(Target.parse_actions("smile=0.5"))
    basis = ActionBasis.load()
    decided = film.decide(track, order, basis)
    assert (decided.actions[:10, smile] > 0.49).all()
    assert np.abs(decided.actions[-8:, smile]).max() < 0.01
    assert np.abs(np.diff(decided.actions[:, smile])).max() < 0.1, "it does not jump"
    assert not decided.change.any(), "the rest of the face is kept"
    assert not decided.actions[:, jaw].any()
    relative = film.decide(track, film.Order(Target.parse_actions("smile=0.3"), 0.5, relative=True), basis)
    np.testing.assert_allclose(relative.actions[:, smile], 0.15)


def test_a_clip_is_edited_by_facial_actions(editor: Editor, examples: Path, tmp_path: Path) -> None:
    steady = _drift(tmp_path / "steady.mp4", examples, 10)
    target = Target.parse_actions("smile=0.5,jawOpen=0.1")
    _, done = edit_video(editor, steady, tmp_path / "o.mp4", target)
    face = done.edit.faces[0]
    assert done.edited == 10
    assert done.flicker < 1.1
    assert face.asked == target.actions
    assert face.gap_after > face.gap_before + 0.03
    assert not any("reads" in flag for flag in face.flags)


@pytest.fixture(scope="module")
def grin(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A grin that becomes sharp after four frames."""
    from mien.io.video import VideoWriter

    path = tmp_path_factory.mktemp("grin") / "grin.mp4"
    picture = images.read(examples / "portrait_smiling.jpg")
    height, width = (size // 2 * 2 for size in picture.shape[:2])
    made = VideoWriter(path, width, height, 25.0)
    for n in range(8):
        frame = picture[:height, :width]
        frame = frame if n >= 4 else cv2.GaussianBlur(frame, (0, 0), 2.5)
        made.add(np.ascontiguousarray(frame), n / 25)
    made.finish()
    return path


def test_a_person_keeps_the_teeth_that_the_clip_shows(
    editor: Editor, grin: Path, clip: Path, examples: Path
) -> None:
    order = film.Order(Target.parse("happiness"))
    track = film.follow(editor, grin, order=order)
    (mouth,) = track.teeth.values()
    assert mouth.own
    assert float(mouth.name.removeprefix("grin.mp4 at ").removesuffix(" s")) >= 0.15, "where they are sharp"
    assert not film.follow(editor, clip, order=order).teeth, "closed lips show none"
    assert not film.follow(editor, grin, order=film.Order(Target.parse("surprise"))).teeth
    given = editor.with_teeth_of(examples / "portrait_smiling.jpg")
    assert not film.follow(given, grin, order=order).teeth, "a named photo comes first"


def test_each_shot_has_one_mouth(editor: Editor, clip: Path, grin: Path) -> None:
    order = film.Order(Target.parse("happiness"))
    for path, own in ((clip, False), (grin, True)):
        track = film.follow(editor, path, order=order)
        points = smooth(track)
        mouths = film.ShotMouths(editor, track, points, film.decide(track, order), order)
        place = points[0].astype(float)
        drawn = film.plan(editor.geometry, place, np.zeros(len(ACTIVE)), 0.1, True)
        around = SkinStatistics(np.array([200.0, 150.0, 120.0]), 1.0, 180.0)
        first = mouths(0, drawn, around)
        other = SkinStatistics(around.skin / 2, 1.0, 60.0, 0.8)
        assert mouths(0, drawn, other) is first
        assert first.own == own
        assert list(mouths.used) == [first.name]


def test_trials_move_the_frames_about_them() -> None:
    track = _track(50)
    order = film.Order(Target.parse("happiness"), 0.8)
    guess = film.decide(track, order).change[:, 0]
    track.trials.extend(
        (n, np.eye(len(ACTIVE))[0] * (guess[0] + added)) for n, added in ((0, 0.0), (49, 0.2))
    )
    moved = film.decide(track, order).change[:, 0] - guess
    assert moved[0] == pytest.approx(0, abs=0.02)
    assert moved[-1] == pytest.approx(0.2, abs=0.02)
    assert (np.diff(moved) >= -1e-9).all()


def test_an_edit_is_tried_until_it_reads_as_asked(examples: Path) -> None:
    editor = Editor.load(threads=1)
    photo = open_photo(examples / "portrait_neutral.jpg")
    rgb, located = photo.rgb, editor.locate(photo)[0]
    order = film.Order(Target.parse("happiness"), 0.7)
    current = film.read(editor, rgb, film.settled(editor, rgb, located.points)[0])
    change = film.attempt(editor, rgb, located.points, current, order, np.full(len(ACTIVE), -0.3))
    assert change[ACTIVE.index("happiness")] > order.change(current)[ACTIVE.index("happiness")] - 0.25


def test_smoothing_needs_memory_for_the_frames_alone() -> None:
    """An average over all pairs of 20,000 frames would take 3 GB."""
    times = np.cumsum(np.random.default_rng(0).uniform(0.02, 0.06, 20_000))
    tracemalloc.start()
    found = film._averaged(times, np.sin(times)[:, None], 0.08)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6
    np.testing.assert_allclose(
        found[100:-100, 0], np.sin(times)[100:-100] * np.exp(-(0.08**2) / 2), atol=0.04
    )


def test_blocks_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    track = _track(60, jitter=1.0)
    whole = smooth(track)
    monkeypatch.setattr(film, "_BLOCK", 7)
    np.testing.assert_allclose(smooth(track), whole, atol=1e-4)


def test_a_clip_without_a_usable_face_is_refused(editor: Editor, tmp_path: Path) -> None:
    from mien.io.video import VideoWriter

    path = tmp_path / "grey.mp4"
    made = VideoWriter(path, 64, 64, 25.0)
    for n in range(4):
        made.add(np.full((64, 64, 3), 128, np.uint8), n / 25)
    made.finish()
    with pytest.raises(EditRefused, match="0 of 4 frames"):
        edit_video(editor, path, tmp_path / "o.mp4", Target.parse("happiness"))


def test_the_command_writes_a_video_that_says_so(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    out = tmp_path / "out.mp4"
    runner = CliRunner()
    done = runner.invoke(
        app, ["edit", str(clip), "--to", "anger", "--intensity", "0.5", "--out", str(out), "--label"]
    )
    assert done.exit_code == 0, done.output
    assert "frames edited" in done.output
    verdict = runner.invoke(app, ["verify", str(out), "--json"])
    assert verdict.exit_code == 0
    found = json.loads(verdict.output)
    assert found["intact"]
    assert found["facts"]["target"] == "anger"
    again = runner.invoke(app, ["edit", str(clip), "--to", "anger", "--out", str(out)])
    assert "pass --overwrite" in str(again.exception)
    sheet = runner.invoke(app, ["edit", str(clip), "--to", "anger", "--out", str(out), "--grid", "affect"])
    assert "video" in str(sheet.exception)


def test_a_blink_does_not_dim_the_teeth_of_a_shot() -> None:
    skin = np.array([200.0, 150.0, 120.0])
    seen = [SkinStatistics(skin + n, 1.0, 60.0 if n in (3, 4, 5) else 180.0) for n in range(11)]
    found = typical(seen)
    assert found.white == 180
    np.testing.assert_allclose(found.skin, skin + 5)


def test_frames_are_read_as_photos_are(examples: Path) -> None:
    """In the same crop, whose place is rounded, so that readings do not depend on the processor."""
    editor = Editor.load(threads=1)
    rgb = images.read(examples / "portrait_smiling.jpg")
    (face,) = located = editor.pipeline.find(rgb)
    (reading,) = editor.pipeline.read(located)
    points = np.array(face[1].points)
    shares = film._shares(editor, rgb, points)
    assert shares is not None
    assert shares.tolist() == [reading.probabilities[name] for name in ACTIVE]
    known = {name: value for name, value in reading.actions.items() if value is not None}
    actions = dict(zip(ACTIONS, film._actions(editor, rgb, points).tolist(), strict=True))
    assert {name: actions[name] for name in known} == known
