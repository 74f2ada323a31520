"""The expression of one person in a video: one decision a shot, smooth points, no flicker.

The clip is read twice. First a face is followed through every frame, which leaves 112 points a frame and nothing else
in memory. Then, for each shot, it is decided once what the expression loses and gains and how far the lips part; the
points are smoothed in time, forwards and backwards alike, so that nothing lags; and the frames are drawn and written
one by one. What a person does meanwhile (talk, blink, turn) stays on top of the edit.

Frames in which no face is found, or whose head is turned too far, stay as they are; the edit fades over the frames
before and after.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict, deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from mien import align
from mien.edit import MAX_YAW, MIN_FACE, PRESENCE, Edit, EditRefused, FaceEdit
from mien.editing import lips
from mien.editing.corrector import Held
from mien.editing.geometry import ACTIVE, Frame, lip_gap
from mien.editing.mouth import Around
from mien.editing.photo import Photo
from mien.editing.render import Plan, plan, render, surroundings
from mien.editing.target import change_for, lips_for, smile_leaves
from mien.landmarks import LEFT_EYE_CORNERS, NOSE_BOTTOM, POINTS, RIGHT_EYE_CORNERS, box_of_points
from mien.types import Box
from mien.video.clip import Clip
from mien.video.shots import Shots
from mien.wording import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mien.edit import Editor
    from mien.editing.target import Mouth, Target

    Array = NDArray[np.float64]
    Pixels = NDArray[np.uint8]

SUFFIXES: Final = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
"""Files that are taken for videos."""
SEARCH: Final = 0.2
"""Seconds between two searches for a face that was lost."""
READ: Final = 0.2
"""Seconds between two readings of the expression."""
FADE: Final = 5
"""Frames over which an edit fades before and after frames that stay unedited."""
LIT: Final = 24
"""Frames whose light on skin and eyes is taken together: a blink hides the whites."""
SHAPE_SPREAD: Final = 0.08
"""Standard deviation in seconds of the smoothing of a face's shape; of its place, half of it."""
_WINDOW: Final = (np.array([-1.0, -0.6]), np.array([1.0, 1.8]))
_PATCH: Final = 128


@dataclass
class Track:
    """One face through a clip of n frames: `points` [n, P, 2] in pixels, NaN where it is not to be edited; `times` [n]
    in seconds; `shots` [n]; and its readings, `seen`: (frame, network's points [P, 2], probabilities [K])."""

    points: Array
    times: Array
    shots: NDArray[np.intp]
    seen: list[tuple[int, Array, Array | None]]

    @property
    def known(self) -> NDArray[np.bool_]:
        """[n], where the face is."""
        return np.asarray(np.isfinite(self.points[:, 0, 0]))


@dataclass(frozen=True)
class Decision:
    """What is done throughout one shot: `change` [K] of strengths, the lip gap becomes `gap * keep + opening`,
    `refill` as in `mien.editing.render.Plan`."""

    change: Array
    keep: float
    opening: float
    refill: bool


@dataclass(frozen=True)
class Clipped:
    """A written video: `edit` as for photos (first frames of both), frames `edited` of `frames`, and `flicker`: the
    root mean square of what changes from frame to frame in the aligned face, over that of the unedited clip."""

    edit: Edit
    frames: int
    edited: int
    flicker: float


def follow(editor: Editor, path: Path, face: int = 0) -> Track:
    """Follow the face that is number `face` by size where each shot begins."""
    points: list[Array | None] = []
    times, shots, seen = [], [], []
    counter = Shots()
    last: NDArray[np.float32] | None = None
    searched = read = -np.inf
    with Clip(path) as clip:
        for picture in clip.pictures():
            if counter(picture.rgb):
                last, searched, read = None, -np.inf, -np.inf
            times.append(picture.time)
            shots.append(counter.number)
            found, yaw = None, 0.0
            if last is not None:
                place, presence, pose = editor.landmarker.follow(picture.rgb, last[None])
                if presence[0] >= PRESENCE:
                    found, yaw = place[0], float(pose[0][0])
            if found is None and picture.time - searched >= SEARCH:
                searched = picture.time
                boxes = sorted(editor.detector(picture.rgb), key=lambda one: -one.box.area)
                if len(boxes) > face:
                    corners = np.array([boxes[face].box.corners], np.float64)
                    place, presence, pose = editor.landmarker(picture.rgb, corners)
                    if presence[0] >= PRESENCE:
                        found, yaw = place[0], float(pose[0][0])
            last = found
            if found is None or not _fit(found, yaw, picture.rgb):
                points.append(None)
                continue
            place64 = editor.looked_at(picture.rgb, found)[0]
            points.append(lips.refine(picture.rgb, place64)[0])
            if picture.time - read >= READ:
                read = picture.time
                seen.append((len(points) - 1, place64, _shares(editor, picture.rgb, found)))
    gone = np.full((len(POINTS), 2), np.nan)
    return Track(
        np.stack([gone if one is None else one for one in points]), np.array(times), np.array(shots), seen
    )


def _fit(points: Array, yaw: float, rgb: Pixels) -> bool:
    """Whether a face is large and straight enough to be edited, and inside the picture."""
    box = box_of_points(points)
    inside = (box[:2] >= 0).all() and (box[2:] <= [rgb.shape[1] - 1, rgb.shape[0] - 1]).all()
    return bool(abs(yaw) <= MAX_YAW and (box[2:] - box[:2]).min() >= MIN_FACE and inside)


def _shares(editor: Editor, rgb: Pixels, points: Array) -> Array | None:
    if editor.recogniser is None:
        return None
    anchors = align.anchors_from(points, RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS, NOSE_BOTTOM)
    crop = align.crop(rgb, align.fit(anchors)[0], editor.recogniser.size, grey=True)
    reading = editor.recogniser(crop[None])[0]
    return np.array([reading.probabilities[name] for name in ACTIVE])


def decide(
    editor: Editor, track: Track, target: Target, intensity: float, mouth: Mouth, relative: bool
) -> dict[int, Decision]:
    """One decision for each shot in which the face was read: against the median of what it shows there."""
    decisions = {}
    for shot in sorted({int(track.shots[frame]) for frame, _, _ in track.seen}):
        read = [(points, shares) for frame, points, shares in track.seen if track.shots[frame] == shot]
        shapes = [Frame.of(points).to_canonical(points) for points, _ in read]
        strengths = [
            editor.geometry.strengths(shape, shares) for shape, (_, shares) in zip(shapes, read, strict=True)
        ]
        current = np.median(strengths, axis=0)
        inside = track.points[(track.shots == shot) & track.known]
        now = float(np.median([lip_gap(Frame.of(one).to_canonical(one)) for one in inside]))
        change = change_for(target, current, intensity, relative)
        leaving = smile_leaves(target, current, intensity) if mouth == "auto" and not relative else 0.0
        base = now * (1 - leaving)
        wanted = lips_for(target, intensity, mouth, base)
        keep = (wanted / now if wanted < base else 1 - leaving) if now > 1e-6 else 1.0
        opening = max(wanted - base, 0.0)
        # Lips that part by themselves are filled in all frames, or their inside would change with every word.
        decisions[shot] = Decision(change, keep, opening, refill=leaving > 0.5 or opening > 0.02)
    return decisions


def smooth(track: Track, spread: float = SHAPE_SPREAD) -> Array:
    """The track's points [n, P, 2] smoothed in time by a Gaussian, shape and place apart, within runs of known frames.

    It looks ahead as far as back, so a movement is neither late nor, but for its fastest part, smaller.
    """
    out = track.points.copy()
    for run in _runs(track):
        frames = [Frame.of(one) for one in track.points[run]]
        shapes = np.stack(
            [frame.to_canonical(one) for frame, one in zip(frames, track.points[run], strict=True)]
        )
        places = np.array([[*frame.turn[:, 0], *frame.origin] for frame in frames])
        times = track.times[run]
        shapes = np.tensordot(_weights(times, spread), shapes, 1)
        places = _weights(times, spread / 2) @ places
        for n, (shape, (a, b, x, y)) in enumerate(zip(shapes, places, strict=True)):
            out[run.start + n] = Frame(np.array([[a, -b], [b, a]]), np.array([x, y])).to_picture(shape)
    return out


def _runs(track: Track) -> list[slice]:
    """Uninterrupted stretches of known frames of one shot."""
    runs, start = [], None
    for n, known in enumerate(track.known):
        if start is not None and (not known or track.shots[n] != track.shots[start]):
            runs.append(slice(start, n))
            start = None
        if known and start is None:
            start = n
    return [*runs, slice(start, len(track.points))] if start is not None else runs


def _weights(times: Array, spread: float) -> Array:
    """Rows of Gaussian weights over times [n], each summing to 1; the identity for no spread."""
    if spread <= 0:
        return np.eye(len(times))
    # Near the ends the window is kept symmetric: a one-sided mean would pull the ends inwards.
    reach = np.minimum(times - times[0], times[-1] - times)[:, None] + 1e-9
    apart = np.abs(times[:, None] - times[None])
    rows = np.exp(-0.5 * (apart / spread) ** 2) * (apart <= np.minimum(reach, 3 * spread) + 1e-9)
    return np.asarray(rows / rows.sum(axis=1, keepdims=True))


def presence(track: Track) -> Array:
    """How much of the edit each frame gets, [n] in 0..1: 0 where there is no face, rising over `FADE` frames beside
    such frames of the same shot; at a cut or an end of the clip it does not fade."""
    share = np.zeros(len(track.points))
    for run in _runs(track):
        index = np.arange(run.start, run.stop)
        before = run.start > 0 and track.shots[run.start - 1] == track.shots[run.start]
        after = run.stop < len(share) and track.shots[run.stop] == track.shots[run.start]
        rise = (index - run.start + 1) / (FADE + 1) if before else np.ones(len(index))
        fall = (run.stop - index) / (FADE + 1) if after else np.ones(len(index))
        share[run] = np.minimum(1, np.minimum(rise, fall))
    return share


class Flicker:
    """Sums what changes from frame to frame in the aligned face, in the clip and in its edit."""

    def __init__(self) -> None:
        self._before: tuple[int, NDArray[np.float32], NDArray[np.float32]] | None = None
        self._sums = np.zeros(2)

    def add(self, shot: int, points: Array, original: Pixels, edited: Pixels) -> None:
        """One frame of both, with the face's points [P, 2]."""
        patches = [self._patch(points, rgb) for rgb in (original, edited)]
        if self._before is not None and self._before[0] == shot:
            for n, patch in enumerate(patches):
                self._sums[n] += float(((patch - self._before[1 + n]) ** 2).mean())
        self._before = shot, patches[0], patches[1]

    @staticmethod
    def _patch(points: Array, rgb: Pixels) -> NDArray[np.float32]:
        frame = Frame.of(points)
        low, high = _WINDOW
        scale = (high - low) / (_PATCH - 1)
        linear = frame.turn * scale
        matrix = np.concatenate([linear, frame.to_picture(low)[:, None]], axis=1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cut = cv2.warpAffine(rgb, matrix, (_PATCH, _PATCH), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY), np.float32)

    @property
    def ratio(self) -> float:
        """Root mean square change of the edit over that of the clip; nan without two neighbouring frames."""
        return float(np.sqrt(self._sums[1] / self._sums[0])) if self._sums[0] > 0 else float("nan")


def typical(seen: Sequence[Around]) -> Around:
    """What a face tells of its mouth over frames: the median of each."""
    return Around(
        np.median([one.skin for one in seen], axis=0),
        float(np.median([one.grain for one in seen])),
        float(np.median([one.white for one in seen])),
    )


def edit_video(
    editor: Editor,
    path: Path,
    out: Path,
    target: Target,
    intensity: float = 1.0,
    *,
    face: int = 0,
    mouth: Mouth = "auto",
    relative: bool = False,
    smoothed: bool = True,
    label: bool = False,
    seed: int = 0,
) -> tuple[bytes, Clipped]:
    """Edit one person in a video; returns the encoded video, for `mien.editing.provenance.write_file`, and its record.

    Args:
        path: the clip; its sound is not copied.
        out: what the result will be called; its suffix says the format, .mp4.
        face: which face, by size where a shot begins.
        smoothed: smooth the points in time; without, every frame is drawn at the points found in it.
        label: print the visible notice into every frame.

    Raises:
        VideoError: the clip cannot be read or the result not be written.
        EditRefused: in fewer than half of the frames is there a face that can be edited.
        ConfigError: the intensity is wrong.
    """
    from mien.editing import sheets
    from mien.video.overlay import Film

    target.check(intensity)
    track = follow(editor, path, face)
    count, usable = len(track.points), int(track.known.sum())
    if 2 * usable < count:
        raise EditRefused(
            f"{path}: only {usable} of {several(count, 'frame')} show face {face} large, straight and whole "
            "enough: cut the clip, or choose another"
        )
    decisions = decide(editor, track, target, intensity, mouth, relative)
    points = smooth(track, SHAPE_SPREAD if smoothed else 0.0)
    shares = presence(track)
    flicker, lowest, folding, edited = Flicker(), 1.0, 1.0, 0
    first: tuple[Pixels, Pixels, Plan] | None = None
    held = None if editor.corrector is None else Held(editor.corrector)
    lights: defaultdict[int, deque[Around]] = defaultdict(lambda: deque(maxlen=LIT))
    with tempfile.TemporaryDirectory() as folder, Clip(path) as clip:
        made = Path(folder) / f"edited{out.suffix.lower()}"
        film = Film(made, clip.width, clip.height, clip.rate)
        try:
            for n, picture in enumerate(clip.pictures()):
                rgb = picture.rgb
                decision = decisions.get(int(track.shots[n]))
                if decision is not None and shares[n] > 0:
                    now = lip_gap(Frame.of(points[n]).to_canonical(points[n]))
                    gap = now + shares[n] * (now * decision.keep + decision.opening - now)
                    drawn = plan(
                        editor.geometry, points[n], shares[n] * decision.change, gap, decision.refill
                    )
                    shot = int(track.shots[n])
                    if held is not None:
                        drawn = held(shot, rgb, drawn, editor.shading, target.teeth, seed)
                    lights[shot].append(surroundings(rgb, drawn.frame, points[n]))
                    rgb, _ = render(
                        rgb,
                        drawn,
                        editor.shading,
                        target.teeth,
                        seed,
                        interiors=editor.interiors,
                        around=typical(lights[shot]),
                    )
                    edited += 1
                    lowest, folding = min(lowest, drawn.share), min(folding, drawn.warp.folding)
                    flicker.add(int(track.shots[n]), points[n], picture.rgb, rgb)
                    first = first or (picture.rgb, rgb, drawn)
                film.add(sheets.corner_label(rgb) if label else rgb, picture.time)
            film.finish()
        finally:
            film.drop()
        data = made.read_bytes()
    if first is None:
        raise EditRefused(f"{path}: in no shot was face {face} read: try another face, or a longer clip")
    flags = [
        f"{edited:,} of {several(count, 'frame')} edited",
        f"flicker {flicker.ratio:.2f} of the unedited clip",
    ]
    if lowest < 1:
        flags.append(f"in some frames weakened to {lowest:.0%} so that the skin does not fold")
    box = box_of_points(points[int(np.argmax(track.known))])
    record = FaceEdit(
        face=face,
        box=Box(float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])),
        asked=dict(target.strengths),
        intensity=intensity,
        applied=intensity * lowest,
        folding=folding,
        gap_before=lip_gap(first[2].source),
        gap_after=lip_gap(first[2].target),
        flags=tuple(flags),
    )
    original = Photo(first[0], source=str(path))
    whole = Edit(Photo(first[1]), replace(original, data=path.read_bytes()), (record,), str(target))
    return data, Clipped(whole, count, edited, flicker.ratio)
