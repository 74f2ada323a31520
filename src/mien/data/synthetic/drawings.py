"""Drawn faces with exactly known expression, intensity, affect, subject and landmarks.

They are cartoons: a face is 112 points moved by a few named muscles and filled in with flat colours. A working network
learns them in seconds, as the tests need; they say nothing about accuracy on people.

The arguments determine everything: the same seed gives the same pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mien.data.records import Record, Split
from mien.labels import CIRCUMPLEX, EXPRESSIONS, NEUTRAL, canonical
from mien.landmarks import (
    GROUPS,
    INNER_LIPS,
    JAW,
    LEFT_BROW,
    LEFT_EYE,
    LEFT_IRIS,
    NOSE_BASE,
    NOSE_BRIDGE,
    OUTER_LIPS,
    RIGHT_BROW,
    RIGHT_EYE,
    RIGHT_IRIS,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Points = NDArray[np.float64]
    Colour = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Muscles:
    """The displacement of each part, in units of half the face's height (`eyes`: share of the opening; up is
    positive)."""

    brows: float = 0.0
    inner_brows: float = 0.0
    eyes: float = 0.0
    corners: float = 0.0
    sneer: float = 0.0
    upper_lip: float = 0.0
    jaw: float = 0.0
    width: float = 0.0

    def scaled(self, intensity: float) -> Muscles:
        """The same movement, weaker."""
        return Muscles(*(intensity * getattr(self, name) for name in self.__slots__))


MOVEMENTS: dict[str, Muscles] = {
    "neutral": Muscles(),
    "happiness": Muscles(eyes=-0.25, corners=0.12, jaw=0.06, width=0.08),
    "surprise": Muscles(brows=0.11, eyes=0.5, jaw=0.24, width=-0.07),
    "sadness": Muscles(inner_brows=0.10, eyes=-0.25, corners=-0.10),
    "anger": Muscles(brows=-0.05, inner_brows=-0.10, eyes=-0.1, corners=-0.05, width=-0.03),
    "disgust": Muscles(brows=-0.05, eyes=-0.45, corners=-0.05, upper_lip=0.09, jaw=0.03),
    "fear": Muscles(brows=0.07, inner_brows=0.06, eyes=0.45, corners=-0.05, jaw=0.10, width=0.06),
    "contempt": Muscles(eyes=-0.1, sneer=0.12),
}
"""The displacements of each expression at full intensity: our choice, loosely after the facial action units."""


@dataclass(frozen=True, slots=True)
class Sitter:
    """The drawn person: the parts of a face that an expression does not change. Colours are RGB."""

    width: float = 0.74
    chin: float = 0.95
    eye_distance: float = 0.30
    eye_size: float = 0.13
    brow_height: float = 0.20
    brow_thickness: float = 0.05
    nose: float = 0.34
    mouth: float = 0.28
    lips: float = 0.06
    skin: Colour = (214, 170, 140)
    hair: Colour = (60, 45, 35)
    iris: Colour = (70, 90, 60)

    @classmethod
    def of(cls, subject: int) -> Sitter:
        """The sitter of a subject number; always the same."""
        random = np.random.default_rng([7, subject])
        tone = random.uniform(0.35, 1.0)
        skin = np.array([236, 196, 170]) * tone + random.uniform(-8, 8, 3)
        hair = random.choice([[35, 28, 25], [90, 60, 35], [190, 150, 90], [130, 130, 130], [120, 50, 25]])
        return cls(
            width=random.uniform(0.64, 0.84),
            chin=random.uniform(0.88, 1.02),
            eye_distance=random.uniform(0.27, 0.34),
            eye_size=random.uniform(0.11, 0.15),
            brow_height=random.uniform(0.17, 0.23),
            brow_thickness=random.uniform(0.03, 0.07),
            nose=random.uniform(0.28, 0.38),
            mouth=random.uniform(0.24, 0.31),
            lips=random.uniform(0.04, 0.08),
            skin=_colour(skin),
            hair=_colour(hair),
            iris=_colour(random.choice([[60, 40, 25], [70, 95, 130], [75, 100, 65]])),
        )


@dataclass(frozen=True, slots=True)
class View:
    """The view of the face: `roll` in degrees, `zoom`, `shift` (x, y) as shares of the side, light."""

    roll: float = 0.0
    zoom: float = 1.0
    shift: tuple[float, float] = (0.0, 0.0)
    light: float = 1.0
    background: Colour = (120, 130, 140)
    noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Drawn:
    """A drawn face with its exact labels.

    Attributes:
        pixels: uint8 [size, size, 3], RGB; the three channels are equal for a grey drawing.
        landmarks: float64 [112, 2], pixels, in the order of `mien.landmarks.POINTS`.
        expression: index into `EXPRESSIONS`; intensity in [0, 1], 0 exactly for neutral.
        valence, arousal: `CIRCUMPLEX` of the expression times the intensity.
        votes: share of each of the eight classes: weak expressions are partly labelled neutral.
        subject: the sitter's number.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    landmarks: Points = field(repr=False)
    expression: int
    intensity: float
    valence: float
    arousal: float
    votes: tuple[float, ...]
    subject: int


def _colour(values: NDArray[np.float64] | NDArray[np.int_]) -> Colour:
    red, green, blue = (int(value) for value in np.clip(values, 0, 255))
    return red, green, blue


def _lid(centre: tuple[float, float], half: float, opening: float) -> Points:
    """Eight points around an eye: the corner at smaller x, the upper lid, the other corner, the lower lid back."""
    angles = np.deg2rad([180, 225, 270, 315, 0, 45, 90, 135])
    return np.stack([centre[0] + half * np.cos(angles), centre[1] + opening * np.sin(angles)], axis=1)


def _lips(sitter: Sitter, move: Muscles) -> tuple[Points, Points]:
    """Outer and inner lips, 20 points each, from the subject's right corner over the top and back below."""
    half = sitter.mouth + move.width
    across = np.concatenate([np.linspace(-1, 1, 11), np.linspace(1, -1, 11)[1:-1]])
    upper = np.arange(20) <= 10
    arch = 1 - across**2
    bend = -move.corners * across**2 - move.sneer * np.clip(across, 0, 1) ** 2
    middle = np.where(upper, -move.upper_lip, move.jaw) * arch
    thick = np.where(upper, -0.7, 1.0) * sitter.lips * arch
    y = 0.50 + 0.3 * sitter.lips + bend + middle
    return np.stack([half * across, y + thick], axis=1), np.stack([half * 0.9 * across, y], axis=1)


def _points(sitter: Sitter, move: Muscles) -> Points:
    """The 112 points of an upright face: x in about [-0.85, 0.85], y from brow -0.4 to chin about 1, y down."""
    points = np.zeros((sum(group.stop - group.start for group in GROUPS.values()), 2))
    angles = np.deg2rad(np.linspace(180, 0, 21))
    points[JAW] = np.stack(
        [sitter.width * np.cos(angles), (sitter.chin + 0.6 * move.jaw) * np.sin(angles)], axis=1
    )

    opening = 0.45 * sitter.eye_size * (1 + move.eyes)
    eye_y = -0.12
    outer_to_inner = np.linspace(0, 1, 5)
    brow_y = eye_y - sitter.brow_height - move.brows - move.inner_brows * (outer_to_inner - 0.3)
    brow_x = sitter.eye_distance + 1.4 * sitter.eye_size - outer_to_inner * 2.5 * sitter.eye_size
    bow = 0.03 * (1 - (2 * outer_to_inner - 1) ** 2)
    for side, brow, eye, iris in (
        (-1, RIGHT_BROW, RIGHT_EYE, RIGHT_IRIS),
        (1, LEFT_BROW, LEFT_EYE, LEFT_IRIS),
    ):
        upper = np.stack([side * brow_x, brow_y - bow], axis=1)
        points[brow] = np.concatenate([upper, upper + np.array([0, sitter.brow_thickness])])
        lid = _lid((-sitter.eye_distance, eye_y), sitter.eye_size, opening)
        points[eye] = lid * [-side, 1]  # computed for the right eye, where the outer corner has the smaller x
        points[iris] = (side * sitter.eye_distance, eye_y)

    lift = -0.4 * move.upper_lip
    points[NOSE_BRIDGE] = np.stack([np.zeros(6), np.linspace(eye_y, eye_y + sitter.nose + lift, 6)], axis=1)
    base = np.array([-0.12, -0.07, -0.03, 0, 0.03, 0.07, 0.12])
    points[NOSE_BASE] = np.stack([base, eye_y + sitter.nose + 0.07 + lift - 2.5 * base**2], axis=1)
    points[OUTER_LIPS], points[INNER_LIPS] = _lips(sitter, move)
    return points


def _placed(points: Points, view: View, size: int) -> Points:
    """Unit coordinates to pixels of a square picture."""
    angle = np.deg2rad(view.roll)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    centre = (size - 1) * (0.5 + np.array(view.shift))
    placed: Points = (points - [0, 0.12]) @ turn.T * (0.44 * size * view.zoom) + centre
    return placed


FINE = 16
"""OpenCV draws at 1/16 pixel: `shift=4`."""


def draw(
    expression: str | int,
    intensity: float = 1.0,
    subject: int = 0,
    size: int = 96,
    view: View | None = None,
    colour: bool = True,
    seed: int = 0,
) -> Drawn:
    """Draw one face.

    Args:
        expression: word or index in `EXPRESSIONS`.
        intensity: 0 to 1; for a neutral face always 0.
        subject: any non-negative number; see `Sitter.of`.
        size: side of the square picture in pixels.
        view: pose and light; upright and plain when left out.
        colour: False draws luma in all three channels.
        seed: determines only the noise of `view.noise`.
    """
    import cv2

    name = EXPRESSIONS[expression] if isinstance(expression, int) else canonical(expression)
    index = EXPRESSIONS.index(name)
    intensity = 0.0 if index == NEUTRAL else float(np.clip(intensity, 0, 1))
    sitter, view = Sitter.of(subject), view or View()
    unit = _points(sitter, MOVEMENTS[name].scaled(intensity))
    landmarks = _placed(unit, view, size)

    # Drawn twice as large and averaged down: smooth edges, and landmark (x, y) lies at (2x + 0.5, 2y + 0.5).
    canvas = np.full((2 * size, 2 * size, 3), view.background, np.uint8)

    def polygon(points: Points, fill: Colour) -> None:
        cv2.fillPoly(canvas, [_fine(points)], fill, cv2.LINE_AA, 4)

    def line(points: Points, stroke: Colour, width: float) -> None:
        thickness = max(1, round(width * size * view.zoom))
        cv2.polylines(canvas, [_fine(points)], False, stroke, thickness, cv2.LINE_AA, 4)

    skull = np.deg2rad(np.linspace(0, 360, 48))
    hair = np.stack([1.08 * sitter.width * np.cos(skull), -0.15 + 0.92 * np.sin(skull)], axis=1)
    brow_line = np.deg2rad(np.linspace(0, -180, 24))
    forehead = np.stack([sitter.width * np.cos(brow_line), 0.72 * np.sin(brow_line)], axis=1)
    shade = _colour(np.array(sitter.skin) * 0.72)
    lip = _colour(np.array(sitter.skin) * [0.78, 0.5, 0.52])
    polygon(_placed(hair[hair[:, 1] < 0.45], view, size), sitter.hair)
    polygon(np.concatenate([landmarks[JAW], _placed(forehead, view, size)]), sitter.skin)
    for brow, eye, iris in ((RIGHT_BROW, RIGHT_EYE, RIGHT_IRIS), (LEFT_BROW, LEFT_EYE, LEFT_IRIS)):
        polygon(landmarks[eye], (245, 245, 242))
        mask = np.zeros(canvas.shape[:2], np.uint8)
        cv2.fillPoly(mask, [_fine(landmarks[eye])], 255, cv2.LINE_8, 4)
        disc = canvas.copy()
        centre = _fine(landmarks[iris][None])[0]
        radius = 0.44 * size * view.zoom * sitter.eye_size * 2
        cv2.circle(disc, centre.tolist(), round(0.48 * radius * FINE), sitter.iris, -1, cv2.LINE_AA, 4)
        cv2.circle(disc, centre.tolist(), round(0.22 * radius * FINE), (15, 12, 12), -1, cv2.LINE_AA, 4)
        canvas[mask > 0] = disc[mask > 0]
        line(landmarks[eye][:5], _colour(np.array(sitter.skin) * 0.35), 0.012)
        polygon(np.concatenate([landmarks[brow][:5], landmarks[brow][5:][::-1]]), sitter.hair)
    line(landmarks[NOSE_BRIDGE][2:], shade, 0.012)
    line(landmarks[NOSE_BASE], shade, 0.018)
    polygon(landmarks[OUTER_LIPS], lip)
    polygon(landmarks[INNER_LIPS], (70, 25, 30))
    line(landmarks[INNER_LIPS][:11], _colour(np.array(lip) * 0.6), 0.012)

    pixels = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float64) * view.light
    if view.noise:
        pixels += np.random.default_rng([3, seed]).normal(0, view.noise, pixels.shape)
    picture = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    if not colour:
        picture = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    valence, arousal = (intensity * value for value in CIRCUMPLEX[name])
    votes = [0.0] * len(EXPRESSIONS)
    votes[NEUTRAL] = 0.6 * (1 - intensity)
    votes[index] += 1 - votes[NEUTRAL]
    return Drawn(picture, landmarks, index, intensity, valence, arousal, tuple(votes), subject)


def _fine(points: Points) -> NDArray[np.int32]:
    return np.rint((2 * points + 0.5) * FINE).astype(np.int32)


def faces(
    count: int,
    seed: int = 0,
    size: int = 96,
    subjects: int = 10,
    classes: tuple[str, ...] = EXPRESSIONS,
    colour: bool = True,
) -> list[Drawn]:
    """Draw `count` faces: classes and sitters alternate, the rest (intensity 0.4 to 1, pose, light, noise) is random by
    `seed`."""
    random = np.random.default_rng([11, seed])
    drawn = []
    for number in range(count):
        view = View(
            roll=random.uniform(-8, 8),
            zoom=random.uniform(0.92, 1.08),
            shift=(random.uniform(-0.03, 0.03), random.uniform(-0.03, 0.03)),
            light=random.uniform(0.75, 1.15),
            background=_colour(random.uniform(40, 220, 3)),
            noise=4.0,
        )
        drawn.append(
            draw(
                classes[number % len(classes)],
                intensity=random.uniform(0.4, 1.0),
                subject=(number // len(classes)) % subjects,
                size=size,
                view=view,
                colour=colour,
                seed=seed * 1_000_003 + number,
            )
        )
    return drawn


class Arrays(NamedTuple):
    """Drawn faces as arrays: `images` is [n, size, size, 3], `affect` [n, 2] (valence, arousal), `votes` [n, 8],
    `landmarks` [n, 112, 2] in pixels, the others [n]."""

    images: NDArray[np.uint8]
    expression: NDArray[np.int64]
    affect: NDArray[np.float32]
    votes: NDArray[np.float32]
    intensity: NDArray[np.float32]
    subject: NDArray[np.int64]
    landmarks: NDArray[np.float32]


def arrays(drawn: list[Drawn]) -> Arrays:
    """Stack drawn faces of one size."""
    return Arrays(
        images=np.stack([face.pixels for face in drawn]),
        expression=np.array([face.expression for face in drawn], np.int64),
        affect=np.array([(face.valence, face.arousal) for face in drawn], np.float32),
        votes=np.array([face.votes for face in drawn], np.float32),
        intensity=np.array([face.intensity for face in drawn], np.float32),
        subject=np.array([face.subject for face in drawn], np.int64),
        landmarks=np.stack([face.landmarks for face in drawn]).astype(np.float32),
    )


def records(
    folder: Path | str,
    count: int = 160,
    seed: int = 0,
    size: int = 96,
    subjects: int = 10,
    classes: tuple[str, ...] = EXPRESSIONS,
    colour: bool = True,
) -> list[Record]:
    """Draw faces, write them as PNG into `folder`, and return their records.

    Splits are disjoint by subject: of every five sitters three are "train", one "valid", one "test" (so all three need
    at least five). `attributes["intensity"]` is the drawn intensity.
    """
    from PIL import Image

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    part: tuple[Split, ...] = ("train", "train", "train", "valid", "test")
    listed = []
    for number, face in enumerate(faces(count, seed, size, subjects, classes, colour)):
        path = folder / f"{number:05d}.png"
        picture = Image.fromarray(face.pixels if colour else face.pixels[..., 0])
        picture.save(path)
        listed.append(
            Record(
                path=path,
                split=part[face.subject % len(part)],
                expression=face.expression,
                valence=face.valence,
                arousal=face.arousal,
                votes=face.votes,
                subject=f"sitter{face.subject}",
                name=path.name,
                attributes={"intensity": face.intensity},
            )
        )
    return listed
