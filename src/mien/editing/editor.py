"""Change the expression of a face in a photo, without torch.

    >>> import mien
    >>> editor = mien.Editor.load()                             # doctest: +SKIP
    >>> edit = editor("portrait.jpg", "happiness", 0.7)         # doctest: +SKIP
    >>> edit.faces[0].applied, edit.faces[0].flags              # doctest: +SKIP
    (0.7, ())

An edit changes what a face *shows*; it says nothing about what a person feels. `Editor` returns pixels and never writes
a file; `mien.editing.provenance` writes files that record the edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mien.editing import eyes, lip_contour, mouth_interior
from mien.editing.action_basis import ActionBasis
from mien.editing.foreground import Foreground
from mien.editing.geometry import ACTIVE, FaceFrame, Geometry, lip_gap
from mien.editing.head_turn import HeadTurn
from mien.editing.occlusion import covered, eyes_are_dark
from mien.editing.photo import Photo, open_photo
from mien.editing.plan import Plan, moves_eyes, plan
from mien.editing.render import render, skin_statistics
from mien.editing.results import (
    MAX_CUT,
    MAX_JITTER,
    MAX_YAW,
    MIN_FACE,
    MIN_SHARE,
    Edit,
    EditRefused,
    FaceEdit,
    Located,
)
from mien.editing.target import Mouth, Target, change_for, lips_for, smile_leaves
from mien.errors import ConfigError, NoFace, loading
from mien.faces.landmarker import box_of_points
from mien.io import images
from mien.labels import EXPRESSIONS, listed
from mien.landmarks import INNER_LIP_PAIRS, JAW, LEFT_EYE_CORNERS, MIRROR, RIGHT_EYE_CORNERS
from mien.types import Box, Detection, Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.editing.corrector import OnnxCorrector
    from mien.editing.shading import Shading
    from mien.faces.detect import Detector
    from mien.faces.landmarker import Landmarker
    from mien.faces.pipeline import MeasuredFace, Pipeline
    from mien.faces.recognise import Recogniser

    Array = NDArray[np.float64]


@dataclass(frozen=True)
class Editor:
    """A pipeline that locates and reads faces, and the models that edit them. Make one with `load`.

    Attributes:
        pipeline: locates faces and reads them before and after; as `mien.load()` returns it.
        geometry: displacement of the landmarks.
        shading: folds and furrows, or None.
        corrector: the learned correction, or None.
        actions: displacement of the landmarks by facial actions, or None.
        teeth: the mouth that fills parting lips, or None for one of the examples (`with_teeth_of`).
        interiors: draw the mouth interior between parting lips.
        measure: read faces before and after. Absolute edits start from the expression read before.

    Raises:
        ConfigError: `measure` is set and the pipeline has own labels.
    """

    pipeline: Pipeline
    geometry: Geometry
    shading: Shading | None = None
    corrector: OnnxCorrector | None = None
    actions: ActionBasis | None = None
    teeth: mouth_interior.Example | None = None
    interiors: bool = True
    measure: bool = True

    def __post_init__(self) -> None:
        """Refuse a recogniser with labels that do not fit the editor."""
        labels = getattr(self.recogniser, "labels", EXPRESSIONS)
        if labels != EXPRESSIONS:
            raise ConfigError(
                f"the editor measures its edits by the eight expressions, but these weights have {listed(labels)}: "
                "edit with the shipped weights"
            )

    @property
    def detector(self) -> Detector:
        """The pipeline's."""
        return self.pipeline.detector

    @property
    def landmarker(self) -> Landmarker:
        """The pipeline's."""
        return self.pipeline.landmarker

    @property
    def recogniser(self) -> Recogniser | None:
        """The pipeline's, or None without `measure`."""
        return self.pipeline.recogniser if self.measure else None

    def with_corrector(self, corrector: OnnxCorrector | None) -> Editor:
        """This editor with another learned correction, or with none."""
        return replace(self, corrector=corrector)

    def with_actions(self, basis: ActionBasis) -> Editor:
        """This editor with other displacements of facial actions."""
        return replace(self, actions=basis)

    def with_teeth_of(self, picture: images.Source | images.Pixels | Photo) -> Editor:
        """This editor with the teeth that the largest face of a picture shows: another photo of the person to edit.

        Raises:
            ImageError: the picture cannot be read.
            NoFace: there is no face.
            EditRefused: its lips are closed, or its mouth is covered or turned away.
        """
        photo = picture if isinstance(picture, Photo) else open_photo(picture, self.pipeline.max_pixels)
        face = self.locate(photo)[0]
        frame = FaceFrame.of(face.points)
        if lip_gap(frame.to_canonical(face.points)) < mouth_interior.PARTED:
            raise EditRefused(
                f"{photo.source}: the lips are closed: choose a photo on which the person shows the teeth"
            )
        self._doubts(photo, face, force=False, eyes=False)
        light = skin_statistics(photo.rgb, frame, face.points)
        name = PurePath(photo.source).name  # results record it
        return replace(self, teeth=mouth_interior.own_mouth(photo.rgb, face.points, light, name))

    def without_pictures(self) -> Editor:
        """This editor with its flow alone, without shading and mouth interiors. For comparison."""
        return replace(self, shading=None, corrector=None, interiors=False)

    @classmethod
    def load(
        cls, pipeline: Pipeline | None = None, *, measure: bool = True, correct: bool = True, **options: Any
    ) -> Editor:
        """Load the shipped models.

        Args:
            pipeline: locates and reads faces; None loads one with `options`.
            measure: read faces before and after. Absolute edits start from the expression read before.
            correct: apply the learned correction (`mien.editing.corrector`), if it ships.
            options: those of `mien.load`: detector, min_face, threads, ...

        Raises:
            WeightsError: weights are missing, damaged or not those of their card.
            ConfigError: an option is wrong, or both a pipeline and options for one are passed.
            LoadError: a library cannot be imported, or there is not enough memory.
        """
        from mien.editing import corrector
        from mien.editing.shading import Shading
        from mien.faces.pipeline import load

        if pipeline is None:
            pipeline = load(**options)
        elif options:
            raise ConfigError(f"{', '.join(options)}: pass options to mien.load, which makes the pipeline")
        with loading("the editor"):
            learned = corrector.OnnxCorrector.load() if correct and corrector.SHIPPED.exists() else None
            basis = ActionBasis.load()
            return cls(pipeline, Geometry.load(), Shading.load(), learned, basis, measure=measure)

    def __call__(
        self,
        picture: images.Source | images.Pixels | Photo,
        target: str | Target,
        intensity: float = 1.0,
        *,
        face: int | Literal["all"] = 0,
        mouth: Mouth | float = "auto",
        relative: bool = False,
        force: bool = False,
        seed: int = 0,
    ) -> Edit:
        """Edit one photo.

        Args:
            picture: a path, bytes, an open binary file, pixels (an RGB array, a Pillow picture, a torch tensor: see
                `mien.io.images.check`), or an opened `Photo`.
            target: an expression, "neutral", a blend such as "happiness:0.5,surprise:0.5", or a `Target`
                (`Target.of_affect` for valence and arousal, `Target.of_actions` for facial actions, `Target.of_face`
                for those of another face; `&` joins two).
            intensity: 0 to 1.25; 1 is a full expression. Measured from neutral: a face that already smiles fully
                does not change for ("happiness", 1). With "neutral" it is the share that is removed.
            face: which face, 0 is the largest, or "all".
            mouth: "keep" the lips as they are, "close" or "open" them; "auto" keeps them, except that closed lips part
                from about 0.3 for happiness, surprise and fear, and that "neutral" closes them. A number
                is the lip gap to aim for, in eye distances.
            relative: add to what the face shows instead of starting from neutral. force: edit even where the quality
            will be poor (turned head, small face, uncertain landmarks, covered eyes or mouth, cropped chin). seed:
            fixes the grain of a filled mouth; the result is deterministic anyway.

        Raises:
            ImageError: the picture cannot be read.
            NoFace: there is no face, or not that many.
            EditRefused: the edit would not be credible; the message says why.
            ConfigError: the target or intensity is wrong.
        """
        photo = picture if isinstance(picture, Photo) else open_photo(picture, self.pipeline.max_pixels)
        return self.apply(
            photo,
            self.locate(photo),
            target,
            intensity,
            face=face,
            mouth=mouth,
            relative=relative,
            force=force,
            seed=seed,
        )

    def apply(
        self,
        photo: Photo,
        located: Sequence[Located],
        target: str | Target,
        intensity: float = 1.0,
        *,
        face: int | Literal["all"] = 0,
        mouth: Mouth | float = "auto",
        relative: bool = False,
        force: bool = False,
        seed: int = 0,
    ) -> Edit:
        """As `Editor.__call__`, for several edits of one photo with faces from `locate`."""
        wanted = Target.parse(target) if isinstance(target, str) else target
        wanted.check(intensity)
        if face != "all" and not 0 <= face < len(located):
            raise NoFace(f"{photo.source}: there is no face {face}, only 0 to {len(located) - 1}")
        chosen = range(len(located)) if face == "all" else [face]
        colour, done = photo.colour, []
        for number in chosen:
            drawn = self.plan(located[number], wanted, intensity, mouth, relative)
            flags = self._doubts(photo, located[number], force, moves_eyes(drawn) or any(wanted.gaze))
            if any(wanted.gaze) and (why := eyes.unturnable(photo.colour, located[number].points)):
                raise EditRefused(
                    f"{photo.source}: face {number}: {why}: choose a photo with both eyes open, or leave out the gaze"
                )
            if drawn.share < MIN_SHARE:
                raise EditRefused(
                    f"{photo.source}: face {number}: the skin would fold at any useful strength: "
                    "ask for less, or choose a photo with a clearer view of this face"
                )
            rgb, points = photo.with_colour(colour).rgb, located[number].points
            front = Foreground.of(rgb, points, opaque=eyes_are_dark(rgb, points))
            bare = colour if front is None else front.removed(colour)
            if self.corrector is not None:
                drawn = self.corrector(bare, drawn, self.shading, wanted.teeth, seed)
            new, notes = render(
                bare,
                drawn,
                self.shading,
                wanted.teeth,
                seed,
                interiors=self.interiors,
                example=self.teeth if wanted.teeth >= 0.5 else None,
            )
            if front is not None:
                new = front.laid_over(new, bare, colour)
                notes = (*notes, f"{' and '.join(front.kinds)}: left where it is")
            colour = new
            done.append(_record(number, located[number], wanted, intensity, drawn, (*flags, *notes)))
        edited = photo.with_colour(colour)
        return Edit(edited, photo, tuple(self._measured(edited, done)), str(wanted))

    def locate(self, photo: Photo) -> list[Located]:
        """Locate the faces of a photo, largest first.

        Raises:
            NoFace: there is none.
        """
        measured = self.pipeline.find(photo.rgb)
        if not measured:
            raise NoFace(f"{photo.source}: no face found: crop closer to the face, or try another detector")
        readings = self.pipeline.read(measured) if self.measure else [None] * len(measured)
        return [
            self._located(photo.rgb, face, reading) for face, reading in zip(measured, readings, strict=True)
        ]

    def points_in(self, rgb: images.Rgb, box: Box) -> Array:
        """The points [P, 2] of one face with a known box, such as that of the frame before."""
        points, _, _ = self.landmarker(rgb, np.array([box.corners], dtype=np.float64))
        return self.looked_at(rgb, points[0])[0]

    def _located(self, rgb: images.Rgb, measured: MeasuredFace, reading: Reading | None) -> Located:
        detection, landmarks, pose, *_ = measured
        points, jitter = self.looked_at(rgb, np.array(landmarks.points, np.float32))
        refined = eyes.settled(rgb, lip_contour.refine(rgb, points)[0])
        return Located(detection.box, refined, points, pose.yaw, jitter, reading)

    def looked_at(self, rgb: images.Rgb, points: NDArray[np.float32]) -> tuple[Array, float]:
        """Locate the landmarks of one face by test-time augmentation: the mean points [P, 2] of eight shifted and
        scaled crops of it and of its mirror image, and their spread in eye distances.

        A network with an input of 96 pixels errs by a few pixels of a large photo, which is visible on lips; most of
        that error depends on the crop. The spread also measures how reliable the points are.
        """
        height, width = rgb.shape[:2]
        # Only the face is mirrored, not the whole photo.
        box = box_of_points(points)
        reach = 0.4 * (box[2:] - box[:2])
        left, top = np.floor((box[:2] - reach).clip(0, [width - 2, height - 2])).astype(int)
        right, bottom = np.ceil((box[2:] + reach).clip([left + 2, top + 2], [width, height])).astype(int)
        part = np.ascontiguousarray(rgb[top:bottom, left:right])
        boxes = _looks(box - [left, top, left, top])
        straight, _, _ = self.landmarker(part, boxes)
        last = part.shape[1] - 1
        flipped_boxes = np.stack([last - boxes[:, 2], boxes[:, 1], last - boxes[:, 0], boxes[:, 3]], axis=1)
        flipped, _, _ = self.landmarker(np.ascontiguousarray(part[:, ::-1]), flipped_boxes)
        unflipped = flipped[:, MIRROR] * [-1, 1] + [last, 0]
        views = np.concatenate([straight, unflipped]).astype(np.float64) + np.array([left, top])
        mean = views.mean(axis=0)
        eyes = [mean[list(corners)].mean(axis=0) for corners in (RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS)]
        distance = max(float(np.linalg.norm(eyes[0] - eyes[1])), 1e-6)
        spread = np.sqrt(((views - mean) ** 2).sum(axis=2).mean(axis=0))
        return mean, float(spread.mean()) / distance

    def _doubts(self, photo: Photo, face: Located, force: bool, eyes: bool = True) -> tuple[str, ...]:
        """Reasons not to edit this face: raised as an error, or with `force` returned as flags. `eyes`: the edit moves
        the eyes, so they must be seen."""
        height, width = photo.colour.shape[:2]
        doubts = []
        if abs(face.yaw) > MAX_YAW:
            doubts.append(f"the head is turned by {abs(face.yaw):.0f} degrees, more than {MAX_YAW:.0f}")
        if min(face.box.width, face.box.height) < MIN_FACE:
            doubts.append(
                f"the face is {min(face.box.width, face.box.height):.0f} pixels, fewer than {MIN_FACE:.0f}"
            )
        if face.jitter > MAX_JITTER:
            doubts.append(
                f"its points are uncertain (by {face.jitter:.1%} of the eye distance, {MAX_JITTER:.1%} at most): "
                "it may be covered, blurred or badly lit"
            )
        doubts += covered(photo.rgb, face.points, eyes)
        if _is_cut(face.points, width, height):
            doubts.append("part of the face lies outside the photo")
        if doubts and not force:
            raise EditRefused(
                f"{photo.source}: {'; '.join(doubts)}: choose another photo, or pass force (--force)"
            )
        return tuple(f"forced although {doubt}" for doubt in doubts)

    def plan(
        self,
        face: Located,
        target: Target,
        intensity: float,
        mouth: Mouth | float = "auto",
        relative: bool = False,
    ) -> Plan:
        """The plan of an edit, before any pixel changes; `mouth` may also be a lip gap in eye distances."""
        return asked_plan(self.geometry, face, target, intensity, mouth, relative, self.actions)

    def _measured(self, photo: Photo, done: Sequence[FaceEdit]) -> list[FaceEdit]:
        """Add each face's reading after the edit, located again from its box."""
        if not self.measure:
            return list(done)
        rgb, measured = photo.rgb, []
        for edit in done:
            readings = self.pipeline.read(self.pipeline.locate(rgb, [Detection(edit.box, 1.0)]))
            measured.append(replace(edit, after=readings[0] if readings else None))
        return measured


def asked_plan(
    geometry: Geometry,
    face: Located,
    target: Target,
    intensity: float,
    mouth: Mouth | float = "auto",
    relative: bool = False,
    basis: ActionBasis | None = None,
) -> Plan:
    """The plan of an edit of a located face by `geometry` and the `basis` of actions, without a correction; see
    `Editor.plan`.
    """
    shape = FaceFrame.of(face.points).to_canonical(face.points)
    current = _current(geometry, face)
    turn = HeadTurn.load()
    pose = turn.pose(shape)

    def asked(intensity: float) -> tuple[Array, float, Array, bool]:
        """Change of strengths, lip gap, further displacement, and whether the mouth interior is replaced."""
        change = change_for(target, current, intensity, relative)
        further, opened = np.zeros_like(shape), 0.0
        if target.actions and basis is not None:
            measured = {} if face.reading is None else face.reading.actions
            further = min(intensity, 1.0) * basis.seen(target.action_changes(measured, relative), pose)
            opened = parted(shape + further) - parted(shape)
        if isinstance(mouth, int | float):
            return change, pose.upright * mouth, further, False
        leaving = smile_leaves(target, current, intensity) if mouth == "auto" and not relative else 0.0
        gap = pose.upright * lips_for(target, intensity, mouth, lip_gap(shape) / pose.upright * (1 - leaving))
        return change, max(0.0, gap + opened) if mouth == "auto" else gap, further, leaving > 0.5

    part = min(1.0, intensity / 0.3)  # so that intensity is a smooth control from 0
    gaze = eyes.reachable((target.gaze[0] * part, target.gaze[1] * part), shape, pose)
    change, gap, further, refill = asked(intensity)
    whole, widest, furthest, _ = asked(1.0)
    full = turn.seen(geometry, pose).move(shape, whole, widest, furthest)
    further = further + eyes.followed(gaze, pose)
    drawn = plan(geometry, face.points, change, gap, refill=refill, further=further, pose=pose)
    looking = (gaze[0] * drawn.share, gaze[1] * drawn.share) if any(gaze) else drawn.gaze
    return replace(drawn, full=full, gaze=looking)


def _current(geometry: Geometry, face: Located) -> Array:
    """The strengths [K] that a face shows."""
    seen = FaceFrame.of(face.network_points).to_canonical(face.network_points)
    shares = None if face.reading is None else np.array([face.reading.probabilities[name] for name in ACTIVE])
    return geometry.strengths(seen, shares)


def parted(shape: Array) -> float:
    """The signed mean distance of the inner lips of a canonical shape, negative where they overlap."""
    upper, lower = np.array(INNER_LIP_PAIRS).T
    return float((shape[lower, 1] - shape[upper, 1]).mean())


def _is_cut(points: Array, width: int, height: int) -> bool:
    """Whether part of the face lies outside a photo of that size."""

    def outside(part: Array) -> float:
        return float(max((part - [width - 1, height - 1]).max(), (-part).max()))

    jaw, inner = points[JAW][5:16], points[JAW.stop :]
    return outside(jaw) > MAX_CUT * FaceFrame.of(points).unit or outside(inner) > 0


def _looks(box: Array) -> Array:
    """Four boxes [4, 4] around a box: shifted by 3 % and scaled by up to 6 %, on average the box itself."""
    size = np.tile(box[2:] - box[:2], 2)
    looks = []
    for x, y, scale in ((0.03, 0.02, 0.06), (-0.03, -0.02, -0.02), (0.02, -0.03, -0.06), (-0.02, 0.03, 0.02)):
        grow = scale / 2 * size * [-1, -1, 1, 1]
        looks.append(box + size * [x, y, x, y] + grow)
    return np.stack(looks)


def _record(
    number: int, face: Located, target: Target, intensity: float, drawn: Plan, flags: tuple[str, ...]
) -> FaceEdit:
    if drawn.share < 1:
        flags = (*flags, f"weakened to {drawn.share:.0%} so that the skin does not fold")
    if any(target.gaze) and intensity >= 0.3 and drawn.share == 1 and drawn.gaze != target.gaze:
        flags = (
            *flags,
            f"the eyes turned by {drawn.gaze[0]:.2f},{drawn.gaze[1]:.2f}, so that the irises stay in them",
        )
    return FaceEdit(
        face=number,
        box=face.box,
        asked=target.strengths | target.actions,
        intensity=intensity,
        applied=intensity * drawn.share,
        folding=drawn.warp.folding,
        gap_before=lip_gap(drawn.source),
        gap_after=lip_gap(drawn.target),
        gaze=drawn.gaze,
        flags=flags,
        before=face.reading,
    )
