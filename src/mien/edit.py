"""Change the expression of a face in a photo: detect, landmarks, plan, refuse or draw, without torch.

    >>> import mien
    >>> editor = mien.Editor.load()                             # doctest: +SKIP
    >>> edit = editor("portrait.jpg", "happiness", 0.7)         # doctest: +SKIP
    >>> edit.faces[0].applied, edit.faces[0].flags              # doctest: +SKIP
    (0.7, ())

What is changed is what a face *shows*; nothing is claimed about what a person feels. `Editor` returns pixels and never
writes a file; `mien.editing.provenance` writes files that say what was done to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from mien import align, images
from mien.editing import lips
from mien.editing.geometry import ACTIVE, Frame, Geometry, lip_gap
from mien.editing.photo import Photo, open_photo
from mien.editing.render import Plan, plan, render
from mien.editing.target import Mouth, Target, change_for, lips_for, smile_leaves
from mien.errors import ConfigError, MienError, NoFace
from mien.labels import EXPRESSIONS, listed
from mien.landmarks import JAW, LEFT_EYE_CORNERS, MIRROR, NOSE_BOTTOM, RIGHT_EYE_CORNERS, box_of_points
from mien.types import Box, Detection, Reading

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.detect import Detector
    from mien.editing.corrector import Corrector
    from mien.editing.shading import Shading
    from mien.landmarks import Landmarker
    from mien.recognise import Recogniser

    Array = NDArray[np.float64]

MAX_YAW: Final = 25.0
"""Degrees a head may be turned: beyond, half of the face is hidden and would be invented."""
MIN_FACE: Final = 48.0
"""Smallest height of a face's box, pixels."""
MAX_JITTER: Final = 0.02
"""Largest mean disagreement of the landmarks between two halves of the looks at a face, in eye distances."""
MIN_SHARE: Final = 0.2
"""Smallest share of the asked change that is worth drawing when the fold guard weakens it."""
MAX_INTENSITY: Final = 1.25
PRESENCE: Final = 0.5


class EditRefused(MienError):
    """The edit would not be credible or cannot be done; the message says why, and whether --force overrides it."""


@dataclass(frozen=True, slots=True)
class FaceEdit:
    """What was done to one face.

    Attributes:
        face: its number in the photo, from 0, largest first.
        box: where it is.
        asked: strength asked of each expression that was asked for.
        intensity: overall intensity asked for, 0 to 1.25.
        applied: the intensity actually applied: less than `intensity` where the fold guard weakened the edit.
        folding: smallest Jacobian determinant of the map; it is at least 0.15, and 1 where nothing moves.
        gap_before, gap_after: mean distance of the inner lips, in eye distances.
        flags: notes, such as quality problems that `force` overrode.
        before, after: the recogniser's reading of the face before and after; None without a recogniser.
    """

    face: int
    box: Box
    asked: dict[str, float]
    intensity: float
    applied: float
    folding: float
    gap_before: float
    gap_after: float
    flags: tuple[str, ...] = ()
    before: Reading | None = None
    after: Reading | None = None


@dataclass(frozen=True)
class Edit:
    """An edited photo: `photo` with everything its file carried, `original` as read, and what was done to each face."""

    photo: Photo
    original: Photo
    faces: tuple[FaceEdit, ...]
    target: str

    @property
    def image(self) -> images.Rgb:
        """The edited picture, RGB uint8."""
        return self.photo.rgb

    @property
    def applied(self) -> float:
        """The intensity applied to the first edited face."""
        return self.faces[0].applied

    @property
    def flags(self) -> tuple[str, ...]:
        """Notes on all faces, each once."""
        return tuple(dict.fromkeys(flag for face in self.faces for flag in face.flags))

    @property
    def before(self) -> Reading | None:
        """The first edited face's reading before the edit."""
        return self.faces[0].before

    @property
    def after(self) -> Reading | None:
        """The first edited face's reading after the edit."""
        return self.faces[0].after


@dataclass(frozen=True)
class Located:
    """A face ready to be edited.

    Attributes:
        box: where it is.
        points: landmarks [P, 2] in pixels, with the lips where the photo shows them (`mien.editing.lips`).
        network_points: [P, 2] as the landmark network gave them. The expression is read from these, since the reader
            was fitted on such.
        yaw: of the head, in degrees.
        jitter: how uncertain the points are, in eye distances.
        reading: the recogniser's, or None without one.
    """

    box: Box
    points: Array
    network_points: Array
    yaw: float
    jitter: float
    reading: Reading | None


class Editor:
    """Detector, landmark network, geometry and, where present, a recogniser that measures. Make one with `load`."""

    def __init__(
        self,
        detector: Detector,
        landmarker: Landmarker,
        geometry: Geometry,
        shading: Shading | None = None,
        recogniser: Recogniser | None = None,
        interiors: bool = True,
        corrector: Corrector | None = None,
    ) -> None:
        """Put given parts together; see `load` for the usual way.

        Raises:
            ConfigError: the recogniser has own labels.
        """
        labels = getattr(recogniser, "labels", EXPRESSIONS)
        if labels != EXPRESSIONS:
            raise ConfigError(
                f"the editor judges its edits by the eight expressions, and these weights say {listed(labels)}: edit "
                "with the shipped weights"
            )
        self.detector = detector
        self.landmarker = landmarker
        self.geometry = geometry
        self.shading = shading
        self.recogniser = recogniser
        self.interiors = interiors
        self.corrector = corrector

    def with_corrector(self, corrector: Corrector | None) -> Editor:
        """This editor with another learned correction, or with none."""
        return Editor(
            self.detector,
            self.landmarker,
            self.geometry,
            self.shading,
            self.recogniser,
            self.interiors,
            corrector,
        )

    def without_pictures(self) -> Editor:
        """This editor with its flow alone: no shading, and nothing drawn between parting lips. For comparison."""
        return Editor(self.detector, self.landmarker, self.geometry, None, self.recogniser, interiors=False)

    @classmethod
    def load(
        cls,
        *,
        detector: str | Detector = "auto",
        measure: bool = True,
        correct: bool = True,
        threads: int | None = None,
    ) -> Editor:
        """Load what ships with the package.

        Args:
            detector: a name in `mien.detect`, or any object that follows its `Detector` protocol.
            measure: read faces before and after with the shipped recogniser, if it is installed. It also tells which
                expression the face shows now, which absolute edits start from.
            correct: let the learned correction (`mien.editing.corrector`) work on edits, if it ships.
            threads: for the networks; None takes all processors of the affinity mask.

        Raises:
            WeightsError: weights are missing, damaged or not those of their card.
        """
        from mien import detect
        from mien.editing import corrector
        from mien.editing.shading import Shading
        from mien.landmarks import Landmarker
        from mien.recognise import SHIPPED, OnnxRecogniser

        recogniser = OnnxRecogniser.load(threads=threads) if measure and SHIPPED.exists() else None
        found = detect.build(detector) if isinstance(detector, str) else detector
        learned = (
            corrector.Corrector.load(threads=threads) if correct and corrector.SHIPPED.exists() else None
        )
        landmarker = Landmarker.load(threads=threads)
        return cls(found, landmarker, Geometry.load(), Shading.load(), recogniser, corrector=learned)

    def __call__(
        self,
        picture: images.Source | NDArray[np.uint8] | Photo,
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
            picture: a path, bytes, an open binary file, an RGB uint8 array, or an opened `Photo`.
            target: an expression, "neutral", a blend such as "happiness:0.5,surprise:0.5", or a `Target`
                (`Target.of_affect` for valence and arousal).
            intensity: 0 to 1.25; 1 is a full expression. Measured from neutral: a face that already smiles fully
                does not change for ("happiness", 1). With "neutral" it is the share that is taken away.
            face: which face, 0 is the largest, or "all".
            mouth: "keep" the lips as they are, "close" or "open" them; "auto" keeps them, except that closed lips part
                above intensity 0.5 for happiness, 0.7 for surprise and fear, and that "neutral" closes them. A number
                is the lip gap to reach, in eye distances.
            relative: add to what the face shows instead of starting from neutral.
            force: edit even where the quality will be poor (turned head, small face, shaky landmarks, cut chin).
            seed: fixes the grain of a filled mouth; the result is deterministic anyway.

        Raises:
            ImageError: the picture cannot be read.
            NoFace: there is no face, or not that many.
            EditRefused: the edit would not be credible; the message says why.
            ConfigError: the target or intensity is wrong.
        """
        photo = picture if isinstance(picture, Photo) else open_photo(picture)
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
        """As `Editor.__call__`, for many edits of one photo whose faces are already located by `locate`."""
        wanted = Target.parse(target) if isinstance(target, str) else target
        wanted.check(intensity)
        if face != "all" and not 0 <= face < len(located):
            raise NoFace(f"{photo.source}: there is no face {face}, only 0 to {len(located) - 1}")
        chosen = range(len(located)) if face == "all" else [face]
        colour, done = photo.colour, []
        for number in chosen:
            flags = self._doubts(photo, located[number], force)
            drawn = self.plan(located[number], wanted, intensity, mouth, relative)
            if drawn.share < MIN_SHARE:
                raise EditRefused(
                    f"{photo.source}: face {number}: the skin would fold at any useful strength: "
                    "ask for less, or choose a photo with a clearer view of this face"
                )
            if self.corrector is not None:
                drawn = self.corrector(colour, drawn, self.shading, wanted.teeth, seed)
            colour, notes = render(colour, drawn, self.shading, wanted.teeth, seed, interiors=self.interiors)
            done.append(_record(number, located[number], wanted, intensity, drawn, (*flags, *notes)))
        edited = photo.with_colour(colour)
        return Edit(edited, photo, tuple(self._measured(edited, located, done)), str(wanted))

    def locate(self, photo: Photo) -> list[Located]:
        """Every face of a photo, largest first.

        Raises:
            NoFace: there is none.
        """
        rgb = photo.rgb
        found = sorted(self.detector(rgb), key=lambda detection: -detection.box.area)
        boxes = np.array([detection.box.corners for detection in found], dtype=np.float64).reshape(-1, 4)
        faces = []
        if len(boxes):
            points, presence, poses = self.landmarker(rgb, boxes)
            for n, detection in enumerate(found):
                if presence[n] >= PRESENCE:
                    faces.append(self._located(rgb, detection, points[n], float(poses[n][0])))
        if not faces:
            raise NoFace(f"{photo.source}: no face found: crop closer to the face, or try another detector")
        return faces

    def locate_in(self, rgb: images.Rgb, box: Box) -> Located:
        """One face whose box is known, such as that of the frame before."""
        points, _, poses = self.landmarker(rgb, np.array([box.corners], dtype=np.float64))
        return self._located(rgb, Detection(box, 1.0), points[0], float(poses[0][0]))

    def _located(self, rgb: images.Rgb, found: Detection, points: Array, yaw: float) -> Located:
        """Look at one face eight times, at shifted and scaled crops of it and of its mirror image, and average.

        A network that sees 96 pixels errs by a few pixels of a large photo, which on lips is visible; most of that
        error changes with the crop. The odd and even looks also tell how far the points can be trusted.
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
        halves = views[::2].mean(axis=0) - views[1::2].mean(axis=0)
        jitter = float(np.linalg.norm(halves, axis=1).mean()) / distance
        reading = self._read(rgb, mean)
        return Located(found.box, lips.refine(rgb, mean)[0], mean, yaw, jitter, reading)

    def _read(self, rgb: images.Rgb, points: Array) -> Reading | None:
        if self.recogniser is None:
            return None
        anchors = align.anchors_from(points, RIGHT_EYE_CORNERS, LEFT_EYE_CORNERS, NOSE_BOTTOM)
        crop = align.crop(rgb, align.fit(anchors)[0], self.recogniser.size, grey=True)
        return self.recogniser(crop[None])[0]

    def _doubts(self, photo: Photo, face: Located, force: bool) -> tuple[str, ...]:
        """Reasons not to edit this face: raised, or returned as flags when forced."""
        height, width = photo.colour.shape[:2]
        doubts = []
        if abs(face.yaw) > MAX_YAW:
            doubts.append(f"the head is turned by {abs(face.yaw):.0f} degrees, more than {MAX_YAW:.0f}")
        if min(face.box.width, face.box.height) < MIN_FACE:
            doubts.append(
                f"the face is {min(face.box.width, face.box.height):.0f} pixels, fewer than {MIN_FACE:.0f}"
            )
        if face.jitter > MAX_JITTER:
            doubts.append(f"its points are uncertain (they move by {face.jitter:.1%} of the eye distance)")
        inner = face.points[JAW.stop :]
        if (
            (face.points[JAW][5:16] > [width - 1, height - 1]).any()
            or (inner < 0).any()
            or (inner > [width - 1, height - 1]).any()
        ):
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
        """What an edit would move, before a pixel is touched; `mouth` may also be a lip gap in eye distances."""
        shape = Frame.of(face.points).to_canonical(face.points)
        seen = Frame.of(face.network_points).to_canonical(face.network_points)
        shares = (
            None if face.reading is None else np.array([face.reading.probabilities[name] for name in ACTIVE])
        )
        current = self.geometry.strengths(seen, shares)
        change = change_for(target, current, intensity, relative)
        if isinstance(mouth, int | float):
            return plan(self.geometry, face.points, change, float(mouth))
        leaving = smile_leaves(target, current, intensity) if mouth == "auto" and not relative else 0.0
        gap = lips_for(target, intensity, mouth, lip_gap(shape) * (1 - leaving))
        return plan(self.geometry, face.points, change, gap, refill=leaving > 0.5)

    def _measured(self, photo: Photo, located: Sequence[Located], done: Sequence[FaceEdit]) -> list[FaceEdit]:
        if self.recogniser is None:
            return list(done)
        rgb = photo.rgb
        return [replace(edit, after=self._read(rgb, located[edit.face].points)) for edit in done]


def _looks(box: Array) -> Array:
    """Four boxes [4, 4] about a box: shifted by 3 % and scaled by up to 6 %, on average the box itself."""
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
    return FaceEdit(
        face=number,
        box=face.box,
        asked=dict(target.strengths),
        intensity=intensity,
        applied=intensity * drawn.share,
        folding=drawn.warp.folding,
        gap_before=lip_gap(drawn.source),
        gap_after=lip_gap(drawn.target),
        flags=flags,
        before=face.reading,
    )
