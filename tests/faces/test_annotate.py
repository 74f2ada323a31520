"""Annotated pictures: nothing leaves the picture or the neighbourhood of a face, and lettering can be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from mien.actions import ACTIONS
from mien.colours import COLOURS
from mien.errors import ImageError
from mien.faces import annotate
from mien.faces.annotate import draw
from mien.labels import EXPRESSIONS
from mien.types import Analysis, Box, Detection, Face, Landmarks, Pose, Reading


def face(box: Box, expression: str = "happiness", valence: float = 0.5, arousal: float = 0.5) -> Face:
    shares = {name: 0.72 if name == expression else 0.04 for name in EXPRESSIONS}
    reading = Reading(shares, valence, arousal, 0.5, uncertain=False)
    return Face(Detection(box, 0.9), Landmarks((), 1.0), Pose(0, 0, 0), reading, 0.9)


def blank(width: int, height: int, tone: int = 128) -> NDArray[np.uint8]:
    return np.full((height, width, 3), tone, np.uint8)


def analysed(image: NDArray[np.uint8], *faces: Face) -> Analysis:
    return Analysis("array", image.shape[1], image.shape[0], faces)


def test_without_faces_the_picture_comes_back_equal_and_fresh() -> None:
    image = blank(60, 40)
    out = draw(image, analysed(image))
    assert np.array_equal(out, image)
    assert not np.shares_memory(out, image)


def test_the_given_picture_is_not_changed_and_the_middle_of_the_face_is_not_covered() -> None:
    image = blank(640, 480)
    before = image.copy()
    out = draw(image, analysed(image, face(Box(250, 150, 140, 180))))
    assert np.array_equal(image, before)
    assert out.shape == image.shape
    assert np.array_equal(out[160:320, 260:380], image[160:320, 260:380])
    assert not np.array_equal(out, image)


def test_the_frame_has_the_expression_s_colour() -> None:
    image = blank(640, 480)
    for expression in EXPRESSIONS:
        out = draw(image, analysed(image, face(Box(250, 150, 140, 180), expression)))
        colour = np.array([int(COLOURS[expression][k : k + 2], 16) for k in (1, 3, 5)])
        edge = out[240, 242:256].astype(int)
        assert abs(edge - colour).sum(axis=1).min() <= 6, expression


@pytest.mark.parametrize("size", [(20, 20), (64, 48), (200, 200), (33, 900), (4000, 600)])
@pytest.mark.parametrize(
    "place",
    [
        (0.4, 0.4, 0.3, 0.3),
        (-0.2, -0.2, 0.5, 0.5),
        (0.8, 0.8, 0.5, 0.5),
        (0, 0, 1, 1),
        (0.95, 0.0, 0.05, 0.05),
    ],
)
def test_any_size_and_any_place_can_be_drawn(
    size: tuple[int, int], place: tuple[float, float, float, float]
) -> None:
    width, height = size
    image = blank(width, height)
    box = Box(place[0] * width, place[1] * height, place[2] * width, place[3] * height)
    out = draw(image, analysed(image, face(box)))
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert not np.array_equal(out, image)


@pytest.mark.parametrize("size", [(60, 60), (200, 200), (1000, 700), (4000, 3000)])
@pytest.mark.parametrize("corner", [(0.0, 0.0), (0.8, 0.0), (0.0, 0.8), (0.8, 0.8)])
def test_labels_stay_whole_inside_the_picture(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], corner: tuple[float, float]
) -> None:
    """Every stamp but the frame (which follows the face) lies within the picture."""
    width, height = size
    stamped: list[tuple[float, float, float, float]] = []
    original = annotate._stamp

    def watch(picture: NDArray[np.uint8], stamp: annotate._Stamp, spot: tuple[float, float]) -> None:
        stamped.append(annotate._extent(spot, stamp.size))
        original(picture, stamp, spot)

    monkeypatch.setattr(annotate, "_stamp", watch)
    image = blank(width, height)
    draw(
        image,
        analysed(
            image, face(Box(corner[0] * width, corner[1] * height, 0.2 * width, 0.25 * height), "happiness")
        ),
    )
    assert len(stamped) >= 2
    for left, top, right, bottom in stamped[1:]:
        assert left >= 0
        assert top >= 0
        assert right <= width
        assert bottom <= height


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_label_text_contrasts_with_its_chip(expression: str) -> None:
    """WCAG 2 asks 4.5 to 1 of text; the chip brings its own background, so the picture behind does not matter."""

    def luminance(rgb: tuple[int, ...]) -> float:
        linear = [c / 255 / 12.92 if c / 255 <= 0.04045 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    chip = tuple(int(COLOURS[expression][k : k + 2], 16) for k in (1, 3, 5))
    bright, dark = sorted((luminance(chip), luminance(annotate._on(chip))), reverse=True)  # type: ignore[arg-type]
    assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_chips_look_the_same_on_white_and_on_black() -> None:
    one = face(Box(250, 200, 140, 180), "sadness")
    chips = []
    for tone in (0, 255):
        image = blank(640, 480, tone)
        label = annotate._label(one, 16, 640, 480)
        annotate._stamp(image, label, (10, 10))
        chips.append(image[14 : 10 + label.size[1] - 4, 18 : 10 + label.size[0] - 8])
    assert np.array_equal(*chips)


def test_panels_cover_no_face_and_no_label(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [Box(100 + 260 * k, 200, 110, 140) for k in range(4)]
    placed: list[tuple[float, float, float, float]] = []
    original = annotate._free

    def watch(*arguments: object) -> tuple[float, float] | None:
        spot = original(*arguments)  # type: ignore[arg-type]
        if spot is not None:
            size, taken = arguments[0], arguments[3]
            extent = annotate._extent(spot, size)  # type: ignore[arg-type]
            assert all(annotate._common(extent, other) == 0 for other in taken)  # type: ignore[attr-defined]
            placed.append(extent)
        return spot

    monkeypatch.setattr(annotate, "_free", watch)
    image = blank(1200, 700)
    draw(image, analysed(image, *(face(box) for box in boxes)))
    assert len(placed) == 4


def test_several_faces_are_numbered_as_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 0, in the order of the analysis, whatever the sizes."""
    words: list[str] = []
    original = annotate._Canvas.text

    def watch(self: annotate._Canvas, x: float, y: float, said: str, *more: object, **other: object) -> None:
        words.append(said)
        original(self, x, y, said, *more, **other)  # type: ignore[arg-type]

    monkeypatch.setattr(annotate._Canvas, "text", watch)
    image = blank(1200, 700)
    small, large = face(Box(100, 200, 90, 110), "anger"), face(Box(600, 200, 180, 220), "fear")
    draw(image, analysed(image, small, large))
    assert {"0 anger", "1 fear"} <= set(words)
    words.clear()
    draw(image, analysed(image, small))
    assert "anger" in words  # nothing to tell apart
    assert "0 anger" not in words


def test_a_crowd_gets_frames_and_labels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotate, "_panel", lambda *_: pytest.fail("a panel in a crowd"))
    image = blank(1600, 1000)
    draw(
        image,
        analysed(image, *(face(Box(20 + 150 * (k % 10), 60 + 400 * (k // 10), 90, 120)) for k in range(20))),
    )


def test_the_dial_puts_pleasure_right_and_activation_up() -> None:
    def dot(valence: float, arousal: float) -> NDArray[np.float64]:
        canvas = annotate._Canvas(100, 100)
        annotate._dial(canvas, 50, 50, 45, face(Box(0, 0, 9, 9), "anger", valence, arousal))
        pixels = canvas.done().pixels.astype(int)
        colour = np.array([int(COLOURS["anger"][k : k + 2], 16) for k in (1, 3, 5)])
        rows, columns = np.nonzero((abs(pixels[..., :3] - colour).sum(axis=2) < 20) & (pixels[..., 3] > 200))
        return np.array([columns.mean() - 49.5, 49.5 - rows.mean()])

    assert dot(0, 0) == pytest.approx([0, 0], abs=1)
    right, up = dot(0.8, 0.4)
    assert right == pytest.approx(2 * up, rel=0.1)
    assert right > 20
    assert dot(-1, -1)[0] < -20
    assert np.hypot(*dot(-1, -1)) < 45  # the corner of the square stays in the circle


def test_bars_are_as_long_as_their_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotate, "_dial", lambda *_: None)
    shares = dict.fromkeys(EXPRESSIONS, 0.0) | {"happiness": 0.6, "surprise": 0.3, "fear": 0.1}
    one = Face(
        Detection(Box(0, 0, 9, 9), 1), Landmarks((), 1), Pose(0, 0, 0), Reading(shares, 0, 0, 0, False), 1
    )  # fmt: skip
    pixels = annotate._panel(one, 60).pixels.astype(int)
    lengths = []
    for name in ("happiness", "surprise", "fear"):
        colour = np.array([int(COLOURS[name][k : k + 2], 16) for k in (1, 3, 5)])
        lengths.append((abs(pixels[..., :3] - colour).sum(axis=2) < 20).any(axis=0).sum())
    assert lengths[0] / lengths[1] == pytest.approx(2, rel=0.06)
    assert lengths[1] > lengths[2]


def moving(box: Box, **actions: float) -> Face:
    """A face with these actions and no others."""
    still = face(box)
    return replace(still, reading=replace(still.reading, actions=dict.fromkeys(ACTIONS) | actions))


def test_a_strip_has_the_largest_actions_with_both_sides() -> None:
    one = moving(
        Box(0, 0, 9, 9), mouthSmileLeft=0.9, mouthSmileRight=0.45, jawOpen=0.3, jawLeft=0.2, cheekPuff=0.05,
        eyeLookDownLeft=0.8, eyeLookDownRight=0.8,
    )  # fmt: skip
    moved = annotate._largest(one)
    assert moved == [("mouthSmile", [0.9, 0.45]), ("jawOpen", [0.3]), ("jawLeft", [0.2])]
    pixels = annotate._strip(moved[:1], 60).pixels.astype(int)
    bar = abs(pixels[..., :3] - annotate._MOVED).sum(axis=2) < 20
    rows = np.flatnonzero(bar.any(axis=1))
    upper, lower = bar[rows[0] : rows.mean().astype(int)], bar[rows.mean().astype(int) : rows[-1] + 1]
    assert upper.any(axis=0).sum() / lower.any(axis=0).sum() == pytest.approx(2, rel=0.05)
    assert annotate._largest(moving(Box(0, 0, 9, 9), jawOpen=0.09)) == []


def test_actions_are_drawn_where_asked_for_and_take_no_labels_place(monkeypatch: pytest.MonkeyPatch) -> None:
    image = blank(1280, 720)
    faces = [moving(Box(120 + 420 * k, 200, 130, 160), jawOpen=0.6, browInnerUp=0.4) for k in range(3)]
    plain, strips = draw(image, analysed(image, *faces)), draw(image, analysed(image, *faces), "actions")
    assert (plain != strips).any()
    assert (draw(image, analysed(image, *faces), "labels") == plain).all()
    placed: list[str] = []
    original = annotate._stamp
    monkeypatch.setattr(annotate, "_panel", lambda *_: annotate._Stamp(np.full((80, 200, 4), 1, np.uint8)))
    monkeypatch.setattr(annotate, "_strip", lambda *_: annotate._Stamp(np.full((90, 180, 4), 2, np.uint8)))

    def watch(picture: NDArray[np.uint8], stamp: annotate._Stamp, spot: tuple[float, float]) -> None:
        placed.append({1: "panel", 2: "strip"}.get(int(stamp.pixels[0, 0, 3]), ""))
        original(picture, stamp, spot)

    monkeypatch.setattr(annotate, "_stamp", watch)
    draw(image, analysed(image, *faces), "actions")
    assert [name for name in placed if name] == ["panel"] * 3 + ["strip"] * 3


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_a_full_bar_is_told_from_its_empty_track(monkeypatch: pytest.MonkeyPatch, expression: str) -> None:
    monkeypatch.setattr(annotate, "_dial", lambda *_: None)
    shares = dict.fromkeys(EXPRESSIONS, 0.0) | {expression: 1.0}
    one = Face(
        Detection(Box(0, 0, 9, 9), 1), Landmarks((), 1), Pose(0, 0, 0), Reading(shares, 0, 0, 0, False), 1
    )  # fmt: skip
    pixels = annotate._panel(one, 60).pixels.astype(int)
    row, column = int(pixels.shape[0] * 0.25), int(pixels.shape[1] * 0.62)  # within the first bar
    full = pixels[row, column, :3]
    track = pixels[int(pixels.shape[0] * 0.5), column, :3]  # the second bar's, of a share of 0
    assert abs(full - track).max() > 60


def test_an_array_that_is_no_picture_is_refused() -> None:
    with pytest.raises(ImageError, match="is not a picture"):
        draw(np.zeros((4, 4, 5), np.uint8), Analysis("array", 4, 4))
