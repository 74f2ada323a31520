"""Edit the expression of one person in a video: planned frame by frame, smoothed in time.

The video is read twice. The first pass tracks the face and reads its expression in every frame, which keeps 112 points
and a few numbers per frame in memory. Five times a second the edit is tried on a small picture of the face and read
back, and the change is adjusted until it reads as requested. Changes, lips and points are then smoothed in time,
symmetrically, so without lag, and in the second pass the frames are drawn and written one by one. The person's own
movements (talking, blinking, turning) are kept; a frame that already shows what is requested is not changed.

Facial actions are set in every frame against what is measured there, smoothed likewise.

Parted lips are filled with one mouth per shot, as another one in the next frame would flicker: the person's own from
the frame of the shot that shows their teeth best, else the example that fits where the lips part most.

Frames without a face, or with a head turned too far, are not edited; the edit fades over the frames before and after.
"""

from __future__ import annotations

import math
import tempfile
from collections import deque
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from mien.actions import ACTIONS
from mien.editing import lip_contour, mouth_interior
from mien.editing.corrector import _APART, OnnxCorrector, reach, window_matrix
from mien.editing.editor import parted
from mien.editing.geometry import ACTIVE, HIGH, LOW, FaceFrame, lip_gap
from mien.editing.head_turn import HeadPose, HeadTurn
from mien.editing.label import Label, visible_label
from mien.editing.mouth_interior import Example, SkinStatistics
from mien.editing.photo import Photo
from mien.editing.plan import Plan, plan
from mien.editing.render import mouth_for, render, skin_statistics
from mien.editing.results import MAX_YAW, MIN_FACE, Edit, EditRefused, FaceEdit
from mien.editing.target import MAX_INTENSITY, change_for, lips_for, smile_leaves
from mien.errors import ConfigError
from mien.faces import align
from mien.faces.landmarker import box_of_points
from mien.faces.pipeline import PRESENCE
from mien.io.video import VideoReader
from mien.landmarks import POINTS
from mien.types import Box
from mien.video.shot_detection import Shots
from mien.wording import several

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from mien.editing.action_basis import ActionBasis
    from mien.editing.editor import Editor
    from mien.editing.target import Mouth, Target

    Array = NDArray[np.float64]
    Pixels = NDArray[np.uint8]
    from mien.editing.shading import Shading

SUFFIXES: Final = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v")
"""Suffixes of video files."""
SEARCH: Final = 0.2
"""Seconds between two searches for a face that was lost."""
READ: Final = 0.2
"""Seconds between two readings of the expression."""
FADE: Final = 5
"""Frames over which an edit fades before and after frames that stay unedited."""
LIT: Final = 24
"""Frames over which skin statistics are averaged, as a blink hides the whites of the eyes."""
CLOSE: Final = 0.1
"""A strength that reads this close to the requested one is not changed; a higher one is lowered to this distance
only."""
TRIALS: Final = 4
"""Largest number of trials of an edit."""
CORRECTION: Final = 0.6
"""Largest correction of a strength's change by trials."""
NEAR: Final = 0.15
"""A frame counts as reached if it reads this close to the request."""
CHANGE_SPREAD: Final = 0.06
"""Standard deviation in seconds of the smoothing of changes."""
LIPS_SPREAD: Final = 0.2
"""Standard deviation in seconds of the smoothing of the lip gap on which changes are based; short, to keep speech."""
ACTIONS_SPREAD: Final = 0.2
"""The same of changes of facial actions, as their readings are noisier than those of expressions."""
PARTS: Final = 0.02
"""Opening of the lips by an edit, in eye distances, from which the mouth interior is filled, ..."""
PARTS_STILL: Final = 0.005
"""... and down to which it stays filled in the frames before and after."""
UNSEEN: Final = 0.02
"""Sum of changed strengths below which a frame is not edited."""
SHAPE_SPREAD: Final = 0.08
"""Standard deviation in seconds of the smoothing of a face's shape; half of it for its position."""
_WINDOW: Final = (np.array([-1.0, -0.6]), np.array([1.0, 1.8]))
_PATCH: Final = 128
_UNIT: Final = 48.0
"""Pixels per eye distance of the small picture that edits are tried on."""
_BLOCK: Final = 1024
"""Frames smoothed together in one block."""


@dataclass
class Track:
    """One face in a video of n frames: `points` [n, P, 2] in pixels, NaN where it must not be edited; `times` [n] in
    seconds; `shots` [n]; `strengths` [n, K] as read, NaN where there are no points; and `trials`: (frame, change of
    strengths [K] that reads as requested there). `actions` [n, 52] as read, if facial actions are to be edited, and
    `teeth` the person's own mouth in those shots that show it."""

    points: NDArray[np.float32]
    times: Array
    shots: NDArray[np.intp]
    strengths: NDArray[np.float32]
    trials: list[tuple[int, Array]]
    actions: NDArray[np.float32] | None = None
    teeth: dict[int, Example] = field(default_factory=dict)

    @property
    def known(self) -> NDArray[np.bool_]:
        """[n], True in frames with the face."""
        return np.asarray(np.isfinite(self.points[:, 0, 0]))


@dataclass(frozen=True)
class Order:
    """The options of an edit, as in `edit_video`."""

    target: Target
    intensity: float = 1.0
    mouth: Mouth = "auto"
    relative: bool = False
    seed: int = 0

    def aim(self, current: Array) -> Array:
        """Strengths [..., K] to aim for, given the `current` ones [..., K]."""
        if (
            not self.target.strengths and not self.target.is_neutral
        ):  # actions alone keep the rest of the face
            return current
        share = min(self.intensity, 1.0)
        if self.target.is_neutral:
            asked = current * (1 - share)
        else:
            wanted = self.intensity * np.array([self.target.strengths.get(name, 0.0) for name in ACTIVE])
            if self.relative:
                asked = current + wanted
            else:
                asked = np.where(wanted > 0, wanted, current * (1 - min(1.0, self.intensity / 0.3)))
        asked = np.minimum(asked, MAX_INTENSITY)
        # A sufficient strength is kept, and an excessive one is lowered no further than necessary.
        eased = np.where(asked > 0, asked + 0.5 * CLOSE, asked)
        aim = np.where(current > asked, eased, asked)
        return np.asarray(np.where(np.abs(asked - current) <= CLOSE, current, aim))

    def change(self, current: Array) -> Array:
        """First estimate of the change of strengths [K]: none if the face already shows what is requested."""
        guess = change_for(self.target, current, self.intensity, self.relative)
        missing = self.aim(current) - current
        # When a strength is lowered, the displacement grows faster than the reading.
        return np.where(np.abs(missing) < 1e-9, 0.0, np.where(missing < 0, np.maximum(guess, missing), guess))

    def actions(self, measured: Array) -> Array:
        """Change of the facial actions [52], given the measured ones [52], NaN where they are not."""
        known = {
            name: value for name, value in zip(ACTIONS, measured.tolist(), strict=True) if value == value
        }
        return min(self.intensity, 1.0) * self.target.action_changes(known, self.relative)

    def lips(self, current: Array, gap: float) -> tuple[float, float, bool]:
        """(keep, opening, refill): the lip gap becomes `gap * keep + opening`; `refill` replaces the mouth interior."""
        auto = self.mouth == "auto" and not self.relative
        leaving = smile_leaves(self.target, current, self.intensity) if auto else 0.0
        base = gap * (1 - leaving)
        wanted = lips_for(self.target, self.intensity, self.mouth, base)
        if self.mouth == "auto":  # in proportion to the change
            missing = float(np.abs(self.aim(current) - current).sum())
            need = min(1.0, missing / 0.3)
            wanted, base = gap + need * (wanted - gap), gap + need * (base - gap)
        keep = min(wanted, base) / gap if gap > 1e-6 else 1.0
        opening = max(wanted - base, 0.0)
        # Lips that the edit parts get a filled interior in all frames, or it would change with every word.
        return keep, opening, leaving > 0.5 or opening > PARTS


@dataclass(frozen=True)
class Decisions:
    """The edit of each of n frames: `change` [n, K] of strengths, the lip gap becomes `gap * keep + opening`, both
    [n], `refill` [n] in 0..1 is how much of the mouth interior is replaced, and `actions` [n, 52] the change of facial
    actions."""

    change: Array
    keep: Array
    opening: Array
    refill: Array
    actions: Array


@dataclass(frozen=True)
class Clipped:
    """A written video: `edit` as for photos (first frames of both), frames `edited` of `frames`, and `flicker`: the
    root mean square change from frame to frame of the aligned face, over that of the unedited video; `reached`: share
    of the frames read back that read within `NEAR` of the request."""

    edit: Edit
    frames: int
    edited: int
    flicker: float
    reached: float


def follow(editor: Editor, path: Path, face: int = 0, order: Order | None = None) -> Track:
    """Track the face that is number `face` by size at the start of each shot; with an `order`, also try edits."""
    points: list[NDArray[np.float32]] = []
    strengths: list[NDArray[np.float32]] = []
    times, shots = [], []
    trials: list[tuple[int, Array]] = []
    actions: list[NDArray[np.float32]] = []
    teeth: dict[int, tuple[float, Example]] = {}
    own = order is not None and editor.teeth is None and order.target.teeth >= 0.5
    gone = np.full((len(POINTS), 2), np.nan, np.float32)
    unread = np.full(len(ACTIVE), np.nan, np.float32)
    unmeasured = np.full(len(ACTIONS), np.nan, np.float32)
    counter = Shots()
    last: NDArray[np.float32] | None = None
    searched = tried = -np.inf
    offset, scene = np.zeros(len(ACTIVE)), 0
    with VideoReader(path) as clip:
        for picture in clip.pictures():
            counter(picture.rgb)
            if counter.scene != scene:  # also after black frames, which are not a cut
                scene, last, searched, tried = counter.scene, None, -np.inf, -np.inf
                offset = np.zeros(len(ACTIVE))
            times.append(picture.time)
            shots.append(counter.number)
            tracked, yaw = None, 0.0
            if last is not None:
                place, presence, pose = editor.landmarker.follow(picture.rgb, last[None])
                if presence[0] >= PRESENCE:
                    tracked, yaw = place[0], float(pose[0][0])
            if tracked is None and picture.time - searched >= SEARCH:
                searched = picture.time
                boxes = sorted(editor.detector(picture.rgb), key=lambda detection: -detection.box.area)
                if len(boxes) > face:
                    corners = np.array([boxes[face].box.corners], np.float64)
                    place, presence, pose = editor.landmarker(picture.rgb, corners)
                    if presence[0] >= PRESENCE:
                        tracked, yaw = place[0], float(pose[0][0])
            last = tracked
            if tracked is None or not _fit(tracked, yaw, picture.rgb):
                points.append(gone)
                strengths.append(unread)
                actions.append(unmeasured)
                continue
            place64 = tracked.astype(np.float64)
            refined, lips = lip_contour.refine(picture.rgb, place64)
            points.append(refined.astype(np.float32))
            current = read(editor, picture.rgb, place64)
            strengths.append(current.astype(np.float32))
            moved = order is not None and bool(order.target.actions)
            actions.append(_actions(editor, picture.rgb, place64) if moved else unmeasured)
            if own and lips == "open":  # seen in the photo, not by the network alone
                _keep_teeth(
                    teeth, counter.number, picture.rgb, refined, yaw, f"{path.name} at {picture.time:.2f} s"
                )
            if order is not None and picture.time - tried >= READ:
                tried = picture.time
                change = attempt(editor, picture.rgb, refined, current, order, offset)
                offset = change - order.change(current)
                trials.append((len(points) - 1, change))
    measured = np.stack(actions) if order is not None and order.target.actions else None
    shown = {shot: mouth for shot, (_, mouth) in teeth.items()}
    return Track(
        np.stack(points), np.array(times), np.array(shots), np.stack(strengths), trials, measured, shown
    )


def _actions(editor: Editor, rgb: Pixels, points: Array) -> NDArray[np.float32]:
    """The facial actions [52] of a face with the network's points [P, 2], NaN where they are not measured."""
    reader = editor.pipeline.actions
    if reader is None or not editor.measure:
        return np.full(len(ACTIONS), np.nan, np.float32)
    crop = align.face_crop(rgb, align.face_matrix(points), editor.pipeline.recogniser.size)
    return np.asarray(reader(crop[None], points[None])[0][0], np.float32)


def _keep_teeth(
    best: dict[int, tuple[float, Example]], shot: int, rgb: Pixels, points: Array, yaw: float, name: str
) -> None:
    """Keep the mouth of a frame in `best`, by shot, if it shows the person's teeth better than those before."""
    frame = FaceFrame.of(points)
    if lip_gap(frame.to_canonical(points)) < mouth_interior.PARTED:
        return
    mouth = mouth_interior.own_mouth(rgb, points, skin_statistics(rgb, frame, points), name)
    score = mouth_interior.legibility(mouth) * (1 - abs(yaw) / MAX_YAW)
    if score > best.get(shot, (0.0,))[0]:
        best[shot] = score, mouth


def read(editor: Editor, rgb: Pixels, points: Array) -> Array:
    """Strengths [K] that a face with the network's points [P, 2] shows."""
    return editor.geometry.strengths(FaceFrame.of(points).to_canonical(points), _shares(editor, rgb, points))


def settled(editor: Editor, rgb: Pixels, points: Array) -> tuple[Array, float]:
    """The points [P, 2] of a face after tracking it for some steps, and their presence.

    The points depend a little on the crop, which depends on the points before.
    """
    now, presence = points.astype(np.float32)[None], np.zeros(1)
    for _ in range(3):
        now, presence, _ = editor.landmarker.follow(rgb, now)
    return now[0].astype(np.float64), float(presence[0])


def attempt(editor: Editor, rgb: Pixels, points: Array, current: Array, order: Order, offset: Array) -> Array:
    """The change of strengths [K] with which a face reads as requested, found by trials on a small picture of it.

    `offset` [K] is what was added to the first estimate in an earlier frame.
    """
    frame = FaceFrame.of(points)
    side = round(_UNIT * float(HIGH[0] - LOW[0]))
    small = align.crop(rgb, window_matrix(frame, LOW, side / _UNIT), side)
    inside = FaceFrame(_UNIT * np.eye(2), -LOW * _UNIT - 0.5)
    shape = frame.to_canonical(points)
    place = inside.to_picture(shape)
    gap, pose = lip_gap(shape), HeadTurn.load().pose(shape)
    aim, guess = order.aim(current), order.change(current)
    keep, opening, refill = order.lips(current, gap)
    if not guess.any() and abs(keep - 1) * gap + opening < 1e-6:
        return guess
    change = guess + offset
    teeth = order.target.teeth
    best, least = change, np.inf
    for _ in range(TRIALS):
        drawn = plan(editor.geometry, place, change, gap * keep + opening, refill, pose=pose)
        if editor.corrector is not None:
            drawn = editor.corrector(small, drawn, editor.shading, teeth, order.seed)
        shown, _ = render(small, drawn, editor.shading, teeth, order.seed, interiors=editor.interiors)
        seen, _ = settled(editor, shown, inside.to_picture(drawn.target))
        missing = aim - read(editor, shown, seen)
        wrong = float(np.abs(missing).max())
        if wrong < least:
            best, least = change, wrong
        if wrong < 0.05 or drawn.share < 1:
            break
        change = guess + np.clip(change + 0.8 * missing - guess, -CORRECTION, CORRECTION)
    return best


def _fit(points: Array, yaw: float, rgb: Pixels) -> bool:
    """Whether a face is large and straight enough to be edited, and inside the picture."""
    box = box_of_points(points)
    inside = (box[:2] >= 0).all() and (box[2:] <= [rgb.shape[1] - 1, rgb.shape[0] - 1]).all()
    return bool(abs(yaw) <= MAX_YAW and (box[2:] - box[:2]).min() >= MIN_FACE and inside)


def _shares(editor: Editor, rgb: Pixels, points: Array) -> Array | None:
    if editor.recogniser is None:
        return None
    crop = align.face_crop(rgb, align.face_matrix(points), editor.recogniser.size)
    reading = editor.recogniser(crop[None])[0]
    return np.array([reading.probabilities[name] for name in ACTIVE])


def decide(track: Track, order: Order, basis: ActionBasis | None = None) -> Decisions:
    """The edit of each frame: the first estimate plus what the nearest trials added, and the changes of facial actions,
    which also part the lips, by a `basis` of actions."""
    count = len(track.points)
    change, keep, opening = np.zeros((count, len(ACTIVE))), np.ones(count), np.zeros(count)
    refill, actions = np.zeros(count), np.zeros((count, len(ACTIONS)))
    for run in _runs(track):
        times = track.times[run]
        current = track.strengths[run].astype(np.float64)
        shapes = [FaceFrame.of(points).to_canonical(points) for points in track.points[run]]
        gaps = np.array([lip_gap(shape) for shape in shapes])
        steady = _averaged(times, gaps[:, None], LIPS_SPREAD)[:, 0]
        guess = np.stack([order.change(strengths) for strengths in current])
        trials = [(frame, tried) for frame, tried in track.trials if run.start <= frame < run.stop]
        if trials:
            at = track.times[[frame for frame, _ in trials]]
            added = np.stack([tried - guess[frame - run.start] for frame, tried in trials])
            guess += np.stack([np.interp(times, at, column) for column in added.T], axis=1)
        lip_rows = [order.lips(strengths, gap) for strengths, gap in zip(current, steady, strict=True)]
        lips_ = np.array(lip_rows, np.float64).reshape(-1, 3)
        if track.actions is not None and basis is not None:
            asked = np.stack([order.actions(row) for row in track.actions[run].astype(np.float64)])
            actions[run] = _averaged(times, asked, ACTIONS_SPREAD)
            if order.mouth == "auto":
                turn = HeadTurn.load()
                opened = [
                    parted(shape + basis.seen(changes, turn.pose(shape))) - parted(shape)
                    for shape, changes in zip(shapes, actions[run], strict=True)
                ]
                lips_[:, 1] += opened
                lips_[:, 2] = np.maximum(lips_[:, 2], np.array(opened) > PARTS)
        lips_[:, 2] = _joined(lips_[:, 2] > 0, lips_[:, 1] > PARTS_STILL)
        change[run] = _averaged(times, guess, CHANGE_SPREAD)
        smoothed = _averaged(times, lips_, CHANGE_SPREAD)
        keep[run], opening[run], refill[run] = smoothed.T
    refill[refill < 0.02] = 0
    refill[refill > 0.98] = 1
    return Decisions(change, keep, opening, refill, actions)


def _joined(sure: NDArray[np.bool_], likely: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The frames [n] that are `sure`, and those that are `likely` and joined to one by others, so that values about a
    limit do not switch."""
    either = sure | likely
    ends = np.flatnonzero(np.diff(np.concatenate([[0], either.astype(int), [0]])))
    out = np.zeros_like(sure)
    for start, stop in ends.reshape(-1, 2):
        out[start:stop] = sure[start:stop].any()
    return out


def smooth(track: Track, spread: float = SHAPE_SPREAD) -> NDArray[np.float32]:
    """The track's points [n, P, 2] smoothed in time by a Gaussian, shape and position separately, within runs of known
    frames.

    The window is symmetric, so movements are not delayed, and only the fastest are damped.
    """
    out = track.points.copy()
    for run in _runs(track):
        times = track.times[run]
        for start in range(0, len(times), _BLOCK):
            rows = slice(start, min(start + _BLOCK, len(times)))
            # The window of these rows extends to both sides.
            low = int(np.searchsorted(times, times[rows.start] - 3 * spread - 1e-6))
            high = int(np.searchsorted(times, times[rows.stop - 1] + 3 * spread + 1e-6))
            points = track.points[run.start + low : run.start + high].astype(np.float64)
            frames = [FaceFrame.of(shape) for shape in points]
            shapes = np.stack(
                [frame.to_canonical(shape) for frame, shape in zip(frames, points, strict=True)]
            )
            places = np.array([[*frame.turn[:, 0], *frame.origin] for frame in frames])
            ends = times[0], times[-1]
            shapes = _averaged(times[low:high], shapes, spread, ends)
            places = _averaged(times[low:high], places, spread / 2, ends)
            for n in range(rows.start, rows.stop):
                a, b, x, y = places[n - low]
                frame = FaceFrame(np.array([[a, -b], [b, a]]), np.array([x, y]))
                out[run.start + n] = frame.to_picture(shapes[n - low])
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


def _averaged(times: Array, values: Array, spread: float, ends: tuple[float, float] | None = None) -> Array:
    """`values` [n, ...] averaged with Gaussian weights over `times` [n]; memory grows with n alone.

    `ends`: first and last time of the run. Near them the window is kept symmetric, as a one-sided mean would pull the
    ends inwards.
    """
    if spread <= 0:
        return values
    first, last = ends or (times[0], times[-1])
    reach = np.minimum(np.minimum(times - first, last - times), 3 * spread) + 2e-9
    count = len(times)
    most = int(np.max(np.searchsorted(times, times + 3 * spread) - np.arange(count)))
    total, out = np.zeros(count), np.zeros(values.shape)
    for step in range(-most, most + 1):
        here = slice(max(0, -step), count - max(0, step))
        there = slice(max(0, step), count - max(0, -step))
        if here.stop <= here.start:
            continue
        apart = np.abs(times[there] - times[here])
        weight = np.exp(-0.5 * (apart / spread) ** 2) * (apart <= reach[here])
        total[here] += weight
        out[here] += weight.reshape(-1, *[1] * (values.ndim - 1)) * values[there]
    return np.asarray(out / total.reshape(-1, *[1] * (values.ndim - 1)))


def presence(track: Track) -> Array:
    """Weight of the edit in each frame, [n] in 0..1: 0 without a face, rising over `FADE` frames next to such frames of
    the same shot; it does not fade at a cut or an end of the video."""
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
    """Measures the change from frame to frame of the aligned face, in the original and in the edit."""

    def __init__(self) -> None:
        self._before: tuple[int, NDArray[np.float32], NDArray[np.float32]] | None = None
        self._sums = np.zeros(2)

    def add(self, shot: int, points: Array, original: Pixels, edited: Pixels) -> None:
        """Add one frame of both, with the face's points [P, 2]."""
        patches = [self._patch(points, rgb) for rgb in (original, edited)]
        if self._before is not None and self._before[0] == shot:
            for n, patch in enumerate(patches):
                self._sums[n] += float(((patch - self._before[1 + n]) ** 2).mean())
        self._before = shot, patches[0], patches[1]

    @staticmethod
    def _patch(points: Array, rgb: Pixels) -> NDArray[np.float32]:
        frame = FaceFrame.of(points)
        low, high = _WINDOW
        scale = (high - low) / (_PATCH - 1)
        linear = frame.turn * scale
        matrix = np.concatenate([linear, frame.to_picture(low)[:, None]], axis=1)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        cut = cv2.warpAffine(rgb, matrix, (_PATCH, _PATCH), flags=flags, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(cv2.cvtColor(cut, cv2.COLOR_RGB2GRAY), np.float32)

    @property
    def ratio(self) -> float:
        """Root mean square change of the edit over that of the original; nan without two neighbouring frames."""
        return float(np.sqrt(self._sums[1] / self._sums[0])) if self._sums[0] > 0 else float("nan")


def typical(seen: Sequence[SkinStatistics]) -> SkinStatistics:
    """The medians of a face's skin statistics over frames."""
    return SkinStatistics(
        np.median([frame.skin for frame in seen], axis=0),
        float(np.median([frame.grain for frame in seen])),
        float(np.median([frame.white for frame in seen])),
        float(np.median([frame.side for frame in seen])),
    )


class ReadBack:
    """Compares how edited frames read with what was requested."""

    def __init__(self, order: Order) -> None:
        self._order, self._time = order, -np.inf
        self.missing: list[float] = []
        self.shown: list[float] = []
        wanted = [order.target.strengths.get(name, 0.0) > 0 for name in ACTIVE]
        self._asked = np.array(wanted) if any(wanted) else np.ones(len(ACTIVE), bool)

    def add(self, editor: Editor, rgb: Pixels, points: Array, current: Array, time: float) -> None:
        """Read an edited frame, ten times a second; its face is at `points` [P, 2] and showed `current` [K] before."""
        if time - self._time < READ / 2:
            return
        self._time = time
        seen, presence = settled(editor, rgb, points)
        if presence < PRESENCE:
            return
        shown = read(editor, rgb, seen)
        self.missing.append(float(np.abs(self._order.aim(current) - shown)[self._asked].max()))
        self.shown.append(float(shown[self._asked].max()))

    @property
    def reached(self) -> float:
        """Share of the frames read that show what was requested."""
        return float(np.mean(np.array(self.missing) <= NEAR)) if self.missing else float("nan")

    def __str__(self) -> str:
        return (
            f"strength read back: median {np.median(self.shown):.2f}, within {NEAR} of the request in "
            f"{self.reached:.0%} of {len(self.shown)} frames"
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
    label: Label | None = None,
    sound: bool = True,
    seed: int = 0,
) -> tuple[bytes, Clipped]:
    """Edit one person in a video; returns the encoded video, for `mien.editing.provenance.write_file`, and its record.

    Args:
        path: the video.
        out: path of the result; its suffix gives the format, .mp4. Nothing is left there.
        face: which face, by size at the start of a shot.
        target: expressions, facial actions, or both; the actions are set against those measured in each frame.
        smoothed: smooth the points in time; otherwise every frame is drawn at its own points.
        label: draw this visible notice into every frame.
        sound: copy the sound.

    Raises:
        VideoError: the video cannot be read, or the result not written. EditRefused: fewer than half of the frames have
            a face that can be edited, or all already show what is requested. ConfigError: the intensity is wrong, or
            `out` cannot be written.
    """
    from mien.io import outputs
    from mien.io.video import VideoWriter

    target.check(intensity)
    if any(target.gaze):
        raise ConfigError(
            f"{path}: gaze is edited in photos, not in videos: choose an expression or facial actions"
        )
    outputs.check(out, overwrite=True, reads=[path], suffixes=(".mp4",))
    order = Order(target, intensity, mouth, relative, seed)
    track = follow(editor, path, face, order)
    count, usable = len(track.points), int(track.known.sum())
    if count == 1:
        return _still(editor, path, out, order, face, label, sound)
    if 2 * usable < count:
        raise EditRefused(
            f"{path}: only {usable} of {several(count, 'frame')} show face {face} large, straight and whole "
            "enough: cut the clip, or choose another"
        )
    decided = decide(track, order, editor.actions)
    points = smooth(track, SHAPE_SPREAD if smoothed else 0.0)
    shares = presence(track)
    flicker, back, lowest, folding, edited, kept = Flicker(), ReadBack(order), 1.0, 1.0, 0, 0
    first: tuple[Pixels, Pixels, Plan] | None = None
    held = None if editor.corrector is None else TemporalCorrector(editor.corrector)
    lights: dict[int, deque[SkinStatistics]] = {}
    mouths = ShotMouths(editor, track, points, decided, order)
    # In the folder of the result, so that a full disk is noticed there.
    with (
        tempfile.TemporaryDirectory(prefix=".mien-", dir=out.absolute().parent) as folder,
        VideoReader(path) as clip,
    ):
        film = VideoWriter(Path(folder) / "edited.mp4", clip.width, clip.height, clip.rate, clip, sound)
        try:
            for n, picture in enumerate(clip.pictures()):
                rgb, shot = picture.rgb, int(track.shots[n])
                if shares[n] > 0:
                    place = points[n].astype(np.float64)
                    change = shares[n] * decided.change[n]
                    shape = FaceFrame.of(place).to_canonical(place)
                    now = lip_gap(shape)
                    gap = now + shares[n] * (now * decided.keep[n] + decided.opening[n] - now)
                    gap, moved = max(gap, 0.0), shares[n] * decided.actions[n]
                    pose = HeadTurn.load().pose(shape)
                    further = editor.actions.seen(moved, pose) if editor.actions and moved.any() else 0.0
                    still = np.abs(change).sum() < UNSEEN and np.abs(moved).max() < UNSEEN
                    if still and abs(gap - now) < UNSEEN / 10:
                        kept += 1
                    else:
                        lights = lights if shot in lights else {shot: deque(maxlen=LIT)}
                        rgb, drawn = _drawn(
                            editor,
                            rgb,
                            place,
                            change,
                            gap,
                            float(shares[n] * decided.refill[n]),
                            further,
                            pose,
                            order,
                            held,
                            shot,
                            lights[shot],
                            mouths,
                        )
                        edited += 1
                        lowest, folding = min(lowest, drawn.share), min(folding, drawn.warp.folding)
                        first = first or (picture.rgb, rgb, drawn)
                        if shares[n] == 1 and (target.strengths or target.is_neutral):
                            shown = drawn.frame.to_picture(drawn.target)
                            back.add(editor, rgb, shown, track.strengths[n].astype(np.float64), picture.time)
                    flicker.add(shot, place, picture.rgb, rgb)
                film.add(visible_label(rgb, label) if label else rgb, picture.time)
            film.finish()
        finally:
            film.drop()
        data = film.path.read_bytes()
        notes = [*clip.notes, *film.notes]
    if first is None:
        raise EditRefused(
            f"{path}: every frame shows {target} at {intensity:g} already: request another expression or strength"
        )
    flags = [
        f"{edited:,} of {several(count, 'frame')} edited",
        f"flicker {flicker.ratio:.2f} times that of the unedited clip",
        *notes,
    ]
    if kept:
        flags.insert(1, f"{kept} left, which show it already")
    if back.missing:
        flags.insert(1, str(back))
    flags += [f"mouth interior filled from '{name}'" for name in mouths.used]
    if lowest < 1:
        flags.append(f"in some frames weakened to {lowest:.0%} so that the skin does not fold")
    box = box_of_points(points[int(np.argmax(track.known))])
    record = FaceEdit(
        face=face,
        box=Box(float(box[0]), float(box[1]), float(box[2] - box[0]), float(box[3] - box[1])),
        asked=target.strengths | target.actions,
        intensity=intensity,
        applied=intensity * lowest,
        folding=folding,
        gap_before=lip_gap(first[2].source),
        gap_after=lip_gap(first[2].target),
        flags=tuple(flags),
    )
    original = Photo(first[0], source=str(path))
    whole = Edit(Photo(first[1]), replace(original, data=path.read_bytes()), (record,), str(target))
    return data, Clipped(whole, count, edited, flicker.ratio, back.reached)


def _still(
    editor: Editor, path: Path, out: Path, order: Order, face: int, label: Label | None, sound: bool
) -> tuple[bytes, Clipped]:
    """`edit_video` of a video of one frame, which is edited as a photo."""
    from mien.io.video import VideoWriter

    with (
        tempfile.TemporaryDirectory(prefix=".mien-", dir=out.absolute().parent) as folder,
        VideoReader(path) as clip,
    ):
        picture = next(iter(clip.pictures()))
        done = editor(
            picture.rgb,
            order.target,
            order.intensity,
            face=face,
            mouth=order.mouth,
            relative=order.relative,
            seed=order.seed,
        )
        film = VideoWriter(Path(folder) / "edited.mp4", clip.width, clip.height, clip.rate, clip, sound)
        try:
            film.add(visible_label(done.image, label) if label else done.image, picture.time)
            film.finish()
        finally:
            film.drop()
        data = film.path.read_bytes()
    original = replace(Photo(picture.rgb, source=str(path)), data=path.read_bytes())
    whole = Edit(Photo(done.image), original, done.faces, str(order.target))
    return data, Clipped(whole, 1, 1, math.nan, math.nan)


def _drawn(
    editor: Editor,
    rgb: Pixels,
    points: Array,
    change: Array,
    gap: float,
    refill: float,
    further: Array | float,
    pose: HeadPose,
    order: Order,
    held: TemporalCorrector | None,
    shot: int,
    lights: deque[SkinStatistics],
    mouths: ShotMouths,
) -> tuple[Pixels, Plan]:
    """One edited frame; while the mouth interior is partly replaced, both versions are drawn and blended."""
    teeth = order.target.teeth
    drawn = plan(editor.geometry, points, change, gap, refill > 0, further, pose)
    lights.append(skin_statistics(rgb, drawn.frame, points))
    around = typical(lights)
    drawn = replace(drawn, full=mouths.widest(shot))
    if held is not None:
        drawn = held(shot, rgb, drawn, editor.shading, teeth, order.seed)
    example = mouths(shot, drawn, around)
    ways = []
    for replaced in (True,) if refill == 1 else (False,) if refill == 0 else (True, False):
        way = replace(drawn, refill=replaced)
        ways.append(
            render(
                rgb,
                way,
                editor.shading,
                teeth,
                order.seed,
                interiors=editor.interiors,
                around=around,
                example=example,
            )[0]
        )
    if len(ways) == 2:
        return np.asarray(cv2.addWeighted(ways[0], refill, ways[1], 1 - refill, 0), np.uint8), drawn
    return ways[0], drawn


class ShotMouths:
    """The mouth that fills parted lips, one for each shot; `used` names those that were drawn."""

    def __init__(
        self, editor: Editor, track: Track, points: NDArray[np.float32], decided: Decisions, order: Order
    ) -> None:
        self._editor, self._track, self._points = editor, track, points
        self._decided, self._bares = decided, order.target.teeth >= 0.5
        self._widest: dict[int, Array] = {}
        self._chosen: dict[int, Example] = {}
        self.used: dict[str, None] = {}

    def widest(self, shot: int) -> Array:
        """The canonical points [P, 2] after the edit of the frame of a shot in which the lips part most."""
        if shot not in self._widest:
            frames = np.flatnonzero(self._track.known & (self._track.shots == shot))
            shapes = [
                FaceFrame.of(place).to_canonical(place) for place in self._points[frames].astype(np.float64)
            ]
            decided = self._decided
            gaps = [
                lip_gap(shape) * decided.keep[n] + decided.opening[n]
                for n, shape in zip(frames, shapes, strict=True)
            ]
            most = int(np.argmax(gaps))
            shape = np.median(shapes, axis=0)
            self._widest[shot] = self._editor.geometry.move(shape, decided.change[frames[most]], gaps[most])
        return self._widest[shot]

    def __call__(self, shot: int, drawn: Plan, around: SkinStatistics) -> Example:
        """The mouth of a shot, in the light of its first edited frames."""
        if shot not in self._chosen:
            own = self._editor.teeth or self._track.teeth.get(shot) if self._bares else None
            self._chosen[shot] = own or mouth_for(drawn, float(self._bares), around)
        if drawn.refill:
            self.used[self._chosen[shot].name] = None
        return self._chosen[shot]


class TemporalCorrector:
    """Averages the correction over `frames` of a shot, to avoid flicker, and over fewer while the requested change
    varies."""

    def __init__(self, corrector: OnnxCorrector, frames: int = 24) -> None:
        self.corrector, self.frames = corrector, frames
        self._shot, self._count = -1, 0
        self._mean: tuple[Array, NDArray[np.float32], NDArray[np.float32]] | None = None

    def __call__(
        self, shot: int, colour: Pixels, plan: Plan, shading: Shading | None, teeth: float, seed: int = 0
    ) -> Plan:
        """As `OnnxCorrector`, for the next frame; `shot` is the number of its shot."""
        if reach(plan.change) == 0:
            return plan
        flow, gain = self.corrector.answer(colour, plan, shading, teeth, seed)
        if self._mean is None or shot != self._shot:
            self._shot, self._count, self._mean = shot, 0, (plan.change, flow, gain)
        self._count = min(self._count + 1, self.frames)
        change, old_flow, old_gain = self._mean
        # Corrections for other changes have less weight: raising a smile needs another one than lowering it.
        apart = float(np.abs(plan.change - change).sum()) / _APART
        self._count = max(1, min(self._count, round(1 / max(apart, 1e-3))))
        share = np.float32(1 / self._count)
        self._mean = (
            change + share * (plan.change - change),
            old_flow + share * (flow - old_flow),
            old_gain + share * (gain - old_gain),
        )
        return self.corrector.taken(plan, self._mean[1:])
