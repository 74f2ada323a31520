"""Faces of known shape, expression and pose: renderings of the ICT-FaceKit morphable head (MIT licence).

A head is a neutral mesh + identity modes + expression blendshapes. One rendering draws an identity, an expression at an
intensity, a pose, light, skin and background from a seed, and returns them with the picture. The mesh has more polygons
than a face crop has pixels, so the rasteriser is a depth-sorted cloud of surface samples: plain NumPy, about 20 ms per
picture, no graphics library.

*Chosen*, by us: the blendshape recipes of the expressions (after the action units in ICT-FaceKit's README), and
affect as the expression's position on the circumplex times the intensity. They are plausible, not measured on people.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS
from mien.labels import CIRCUMPLEX, EXPRESSIONS, UNLABELLED
from mien.landmarks import LEFT_IRIS, POINTS, RIGHT_IRIS

Floats = NDArray[Any]  # float32 or float64
Ints = NDArray[np.intp]
Pixels = NDArray[Any]  # uint8

# Blendshapes of each expression at full intensity; a name without _L or _R means both sides.
RECIPES: Final[dict[str, dict[str, float]]] = {
    "neutral": {},
    "happiness": {
        "mouthSmile": 0.9,
        "cheekSquint": 0.8,
        "eyeSquint": 0.35,
        "mouthUpperUp": 0.35,
        "jawOpen": 0.15,
    },
    "surprise": {"browInnerUp": 0.9, "browOuterUp": 0.9, "eyeWide": 0.8, "jawOpen": 0.5},
    "fear": {"browInnerUp": 0.9, "browDown": 0.3, "eyeWide": 0.9, "mouthStretch": 0.8, "jawOpen": 0.2},
    "anger": {"browDown": 1.0, "eyeWide": 0.2, "eyeSquint": 0.5, "mouthPress": 0.7, "noseSneer": 0.3},
    "disgust": {
        "noseSneer": 1.0,
        "mouthUpperUp": 0.6,
        "browDown": 0.5,
        "eyeSquint": 0.5,
        "mouthShrugLower": 0.4,
    },
    "sadness": {
        "browInnerUp": 0.9,
        "browDown": 0.2,
        "mouthFrown": 0.9,
        "mouthShrugLower": 0.5,
        "eyeBlink": 0.2,
    },
    "contempt": {"mouthSmile_L": 0.6, "mouthDimple_L": 0.9, "mouthPress": 0.3},
}

# Movements that are drawn singly and combined, without gaze; a name without _L or _R means both sides.
MOVEMENTS: Final = (
    "browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekSquint", "eyeBlink", "eyeSquint", "eyeWide",
    "jawForward", "jawLeft", "jawOpen", "jawRight", "mouthClose", "mouthDimple", "mouthFrown", "mouthFunnel",
    "mouthLeft", "mouthLowerDown", "mouthPress", "mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper",
    "mouthShrugLower", "mouthShrugUpper", "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer",
)  # fmt: skip
_TOGETHER: Final = ("browInnerUp", "cheekPuff")
"""Movements without sides in ARKit."""
_OPPOSITE: Final = (
    ("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"), ("eyeBlink_L", "eyeWide_L"), ("eyeBlink_R", "eyeWide_R"),
)  # fmt: skip

SKIN, HEAD, MOUTH, TEETH, EYE = range(5)

FULL_LOOK: Final = {"In": 30.0, "Out": 30.0, "Up": 25.0, "Down": 30.0}
"""Degrees by which an eyeball turns when a blendshape eyeLook... is 1. *Chosen*, by us: about the reach of glances
without turning the head; ARKit and ICT-FaceKit state no angle."""

_BEHIND_LIDS: Final = 0.4
"""Centimetres by which the eyeballs are drawn farther away, so that a closed lid covers the cornea."""

# ICT-FaceKit vertices of the 68 Multi-PIE points' brows and outer lips, from its README.
_ICT_BROWS = ((268, 493, 1914, 2044, 1401), (3615, 4240, 4114, 2734, 2509))
_ICT_LIPS = (5708, 5695, 2081, 0, 4275, 6200, 6213, 6346, 6461, 5518, 5957, 5841)
# Vertex of each of our points: the one nearest on average to the teacher's point on 200 near-frontal renderings of 50
# identities, made symmetric. The irises are on the eyeballs.
_ICT_POINTS = (
    239, 1218, 379, 374, 1719, 221, 227, 250, 799, 1498, 962, 3712, 3040, 2491, 2468, 2462, 3924, 2615, 2620, 3436,
    2480, 432, 1007, 480, 1418, 2050, 1947, 495, 1031, 1416, 2002, 2673, 3227, 2721, 3632, 4246, 4147, 2736, 3251,
    3630, 4202, 1546, 1543, 1990, 1534, 631, 1357, 663, 1511, 3760, 3757, 4190, 3748, 2872, 3573, 2904, 3725, -1,
    -1, 1358, 1307, 4527, 4948, 4839, 4857, 1136, 67, 2088, 4558, 4282, 2308, 3356, 5623, 5625, 5634, 5719, 2081, 0,
    4275, 6224, 6139, 6130, 6128, 6497, 6298, 6366, 6509, 5945, 6005, 5861, 5793, 5993, 5584, 5588, 5603, 5683,
    6025, 5527, 6529, 6188, 6108, 6093, 6089, 6073, 6353, 6470, 6513, 5517, 6009, 5966, 5848, 5568,
)  # fmt: skip


@dataclass(frozen=True)
class Head:
    """A morphable head; lengths in centimetres, x to the subject's left, y up, z forward.

    `neutral` [v, 3], `identity` [i, v, 3] (weights are standard normal), `expression` [e, v, 3] with `names`, `quads`
    [q, 4], `part` [v] (SKIN ...), `points` [P] vertex of each landmark (-1: none), `irises` vertices right and left,
    `brow`, `lip`, `hair` and `beard` [v] in 0..1: how a vertex is painted; `eyeballs` the vertices of the right and the
    left eyeball.
    """

    neutral: Floats
    identity: Floats
    expression: Floats
    names: tuple[str, ...]
    quads: Ints
    part: Ints
    points: Ints
    irises: tuple[Ints, Ints]
    brow: Floats
    lip: Floats
    hair: Floats
    beard: Floats
    eyeballs: tuple[Ints, Ints]


@dataclass(frozen=True)
class Rendering:
    """One picture [size, size, 3] RGB with its truth.

    `points` [P, 2] in pixels (NaN: the head has no such point), `pose` (yaw, pitch, roll) in degrees with the signs
    of `mien.landmarks`, `coefficients` [e] of the blendshapes, `expression` as an index of EXPRESSIONS, `affect`
    (valence, arousal), `intensity` 0..1, `identity` number. A combination of single movements is no expression: it is
    UNLABELLED, its affect and intensity NaN. `gaze` is the eyes' mean direction in the camera's frame, (yaw, pitch) in
    degrees with the signs of the pose; (0, 0) looks at the camera.
    """

    image: Pixels
    points: Floats
    pose: Floats
    coefficients: Floats
    expression: int
    affect: Floats
    intensity: float
    identity: int
    gaze: Floats


def load_head(path: Path) -> Head:
    """Read ICT-FaceKit packed as one .npz: neutral, faces, identity, expression, expression_names."""
    used, used_quads = 24591, 24691  # what follows are lashes and transparent shells
    with np.load(path) as file:
        neutral, quads = file["neutral"][:used].astype(np.float32), file["faces"][:used_quads].astype(np.intp)
        identity, expression = file["identity"].astype(np.float32), file["expression"].astype(np.float32)
        names = tuple(str(name) for name in file["expression_names"])
    quads[:, 3] = np.where(quads[:, 3] < 0, quads[:, 2], quads[:, 3])
    part = np.empty(used, np.intp)
    for end, kind in (
        (used, EYE),
        (21451, TEETH),
        (17039, MOUTH),
        (14062, HEAD),
        (13294, MOUTH),
        (11248, HEAD),
        (9409, SKIN),
    ):
        part[:end] = kind
    skin, (x, y, z) = part == SKIN, neutral.T
    distance = np.min([_distance(neutral, neutral[list(brow)]) for brow in _ICT_BROWS], axis=0)
    crown = np.clip(y - 10.0 + 0.03 * x * x, 0, 1)
    back = np.clip(0.5 - z, 0, 1) * (y > -5)
    return Head(
        neutral=neutral,
        identity=identity[:, :used],
        expression=expression[:, :used],
        names=names,
        quads=quads,
        part=part,
        points=np.array(_ICT_POINTS, np.intp),
        irises=(_iris(neutral, 23791, 24591), _iris(neutral, 22221, 23021)),
        brow=(skin * np.clip(1.4 - 2.2 * distance, 0, 1)).astype(np.float32),
        lip=(skin & (z > 7) & _inside(neutral[:, :2], neutral[list(_ICT_LIPS), :2])).astype(np.float32),
        hair=(np.isin(part, (SKIN, HEAD)) * np.maximum(crown, back)).astype(np.float32),
        beard=(skin * np.clip(0.5 - y, 0, 1) * np.clip(y + 9, 0, 1)).astype(np.float32),
        eyeballs=(np.arange(23021, used), np.arange(21451, 23021)),
    )


def arkit(names: Sequence[str], coefficients: Floats) -> Floats:
    """Coefficients [..., e] of blendshapes as values [..., 52] of `mien.actions.ACTIONS`; NaN where there is no shape.

    ICT-FaceKit's names end in _L and _R where ARKit's end in Left and Right; for the two movements that ARKit has only
    for both sides together (browInnerUp, cheekPuff) the mean of the sides is taken.
    """
    index = {name: number for number, name in enumerate(names)}
    values = np.full((*coefficients.shape[:-1], len(ACTIONS)), np.nan, np.float32)
    for place, action in enumerate(ACTIONS):
        alone = action.replace("Left", "_L").replace("Right", "_R")
        found = [index[name] for name in (action, alone, f"{action}_L", f"{action}_R") if name in index]
        if found:
            values[..., place] = coefficients[..., found].mean(axis=-1)
    return values


def _iris(neutral: Floats, first: int, last: int) -> Ints:
    """The vertices of an eyeball's front: those within 6 mm of its foremost point, the iris."""
    ball = neutral[first:last]
    return first + np.flatnonzero(np.linalg.norm(ball - ball[ball[:, 2].argmax()], axis=1) < 0.6)


def _distance(points: Floats, line: Floats) -> Floats:
    """Distance of each point to a polyline, both [n, 3]."""
    steps = np.linspace(0, len(line) - 1, 40)
    dense = np.stack([np.interp(steps, np.arange(len(line)), line[:, axis]) for axis in range(3)], axis=1)
    apart: Floats = np.min([np.linalg.norm(points - spot, axis=1) for spot in dense], axis=0)
    return apart


def _inside(points: Floats, polygon: Floats) -> NDArray[np.bool_]:
    """Which points [n, 2] lie inside a polygon [m, 2], to a fiftieth of the unit."""
    low = polygon.min(axis=0)
    mask = np.zeros(np.ceil((polygon.max(axis=0) - low) * 50).astype(int)[::-1] + 1, np.uint8)
    cv2.fillPoly(mask, [np.round((polygon - low) * 50).astype(np.int32)], 1)
    column, row = np.round((points - low) * 50).astype(int).T
    known = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
    inside: NDArray[np.bool_] = known & (mask[row * known, column * known] > 0)
    return inside


class Renderer:
    """Draws renderings of a head; `size` is the side of the picture in pixels.

    `fill` is the share of the side that the points span, `turn` the largest yaw, pitch and roll in degrees, `play` how
    far (0..1) blendshapes stray from the recipes. `backgrounds` are RGB pictures to put behind the head. With
    `movements` faces show combinations of the single `MOVEMENTS` instead of the eight expressions.
    """

    def __init__(
        self,
        head: Head,
        *,
        size: int = 112,
        fill: tuple[float, float] = (0.6, 0.85),
        turn: tuple[float, float, float] = (40.0, 25.0, 20.0),
        play: float = 0.3,
        backgrounds: Sequence[Pixels] = (),
        movements: bool = False,
    ) -> None:
        self.head, self.size, self.fill, self.turn, self.play, self.backgrounds = (
            head,
            size,
            fill,
            turn,
            play,
            backgrounds,
        )
        self.movements = movements
        self._canvas = size * 3 // 2  # drawn larger, then averaged
        self._corners, self._weights = _samples(head, spacing=18.0 / self._canvas)
        self._outer = np.isin(head.part[self._corners[0]], (SKIN, HEAD, EYE)).astype(np.float32)
        self._back = np.where(head.part[self._corners[0]] == EYE, np.float32(_BEHIND_LIDS), np.float32(0))
        self._index = {name: number for number, name in enumerate(head.names)}

    def shape(self, seed: int, identity: int) -> Floats:
        """The neutral mesh [v, 3] of an identity: standard normal weights on every mode."""
        weights = (
            np.random.default_rng([seed, identity]).normal(size=len(self.head.identity)).astype(np.float32)
        )
        return self.head.neutral + np.tensordot(np.clip(weights, -2.5, 2.5), self.head.identity, 1).astype(
            np.float32
        )

    def identities(self, numbers: Sequence[int], each: int, seed: int = 0) -> Iterator[Rendering]:
        """`each` renderings of every identity number. A rendering depends on (seed, identity, its number) only."""
        for identity in numbers:
            shape = self.shape(seed, identity)
            colours = paint(self.head, shape, np.random.default_rng([seed, identity, 1]))
            for number in range(each):
                yield self.draw(shape, colours, identity, np.random.default_rng([seed, identity, 2, number]))

    def express(self, random: np.random.Generator) -> tuple[int, float, Floats]:
        """An expression, its intensity and the blendshape coefficients [e]."""
        label = int(random.integers(len(EXPRESSIONS)))
        intensity = float(random.uniform(0.15, 1.0)) if EXPRESSIONS[label] != "neutral" else 0.0
        coefficients = np.zeros(len(self.head.names), np.float32)
        self._follow_recipe(coefficients, EXPRESSIONS[label], intensity, random)
        for number in random.choice(len(coefficients), size=min(4, len(coefficients)), replace=False):
            coefficients[number] += self.play * random.random()
        self._turn_eyes(coefficients, random)
        if random.random() < 0.15 * (self.play > 0):
            blink = float(random.uniform(0.3, 1.0))
            for side in self._present("eyeBlink_L", "eyeBlink_R"):
                coefficients[side] = blink
        return label, intensity, np.clip(coefficients, 0, 1)

    def move(self, random: np.random.Generator) -> Floats:
        """The blendshape coefficients [e] of a combination of single movements.

        *Chosen*, by us: a tenth of the faces are at rest; three tenths follow a recipe, since movements are correlated
        in real life, with one or two more; the others show two to six. A quarter of the movements that have sides are
        on one side only. Opposites are not combined, and `mouthClose` occurs only with an open jaw.
        """
        coefficients, kind = np.zeros(len(self.head.names), np.float32), random.random()
        count = 0 if kind < 0.1 else int(random.integers(2, 7))
        if 0.1 <= kind < 0.4:
            count = int(random.integers(1, 3))
            expression = EXPRESSIONS[int(random.integers(1, len(EXPRESSIONS)))]
            self._follow_recipe(coefficients, expression, float(random.uniform(0.2, 1.1)), random)
        for movement in random.choice(MOVEMENTS, size=count, replace=False):
            amount, one = float(random.uniform(0.05, 1.0)), random.random() < 0.25
            sides = [movement] if movement in self._index else [f"{movement}_L", f"{movement}_R"]
            if movement not in _TOGETHER and len(sides) == 2:
                sides = [sides[int(random.integers(2))]] if one else sides
                amounts = amount * random.normal(1, 0.15, len(sides))
            else:
                amounts = np.full(len(sides), amount)
            for side, part in zip(sides, amounts, strict=True):
                for index in self._present(side):
                    coefficients[index] = part
        for axis in (("In_L", "Out_R", "Out_L", "In_R"), ("Up_L", "Up_R", "Down_L", "Down_R")):
            glance = float(random.uniform(-1, 1)) if random.random() < 0.6 else 0.0
            for index in self._present(*(f"eyeLook{way}" for way in (axis[:2] if glance > 0 else axis[2:]))):
                coefficients[index] = abs(glance)
        for names in _OPPOSITE:
            pair = self._present(*names)
            if len(pair) == 2:
                coefficients[min(pair, key=coefficients.__getitem__)] = 0
        closed, jaw = self._present("mouthClose"), self._present("jawOpen")
        if closed and jaw:
            coefficients[jaw] = np.maximum(coefficients[jaw], coefficients[closed])
        return np.clip(coefficients, 0, 1)

    def _present(self, *names: str) -> list[int]:
        """The indices of those of the blendshapes that the head has."""
        return [self._index[name] for name in names if name in self._index]

    def _follow_recipe(
        self, coefficients: Floats, expression: str, intensity: float, random: np.random.Generator
    ) -> None:
        """Add the blendshapes of an expression to `coefficients`, each side by its own amount."""
        swap = random.random() < 0.5  # contempt may be on either side
        for name, amount in RECIPES[expression].items():
            amount *= intensity * random.normal(1, 0.15)
            if swap and name.endswith("_L"):
                name = name[:-1] + "R"
            sides = (name,) if name.endswith(("_L", "_R")) else (name, f"{name}_L", f"{name}_R")
            for side in self._present(*sides):
                coefficients[side] += amount * random.normal(1, 0.07)

    def _turn_eyes(self, coefficients: Floats, random: np.random.Generator) -> None:
        """Add a glance up, or one to the subject's right: the left eye turns in, the right one out."""
        up = random.random() < 0.5
        for pair in (("Up_L", "Up_R"),) if up else (("In_L",), ("Out_R",)):
            amount = float(random.uniform(0, 0.6))
            for side in self._present(*(f"eyeLook{turn}" for turn in pair)):
                coefficients[side] += amount

    def draw(self, shape: Floats, colours: Floats, identity: int, random: np.random.Generator) -> Rendering:
        """One picture of a neutral mesh with its colours, both [v, 3]; everything else is drawn from `random`."""
        label, intensity, coefficients = (
            (UNLABELLED, np.nan, self.move(random)) if self.movements else self.express(random)
        )
        active = np.flatnonzero(coefficients)
        vertices = shape + np.tensordot(coefficients[active], self.head.expression[active], 1).astype(
            np.float32
        )
        glance = self.glance(coefficients)
        for ball, angles in zip(self.head.eyeballs, glance, strict=True):
            if not len(ball):
                continue
            centre = vertices[ball].mean(axis=0)
            vertices[ball] = (vertices[ball] - centre) @ rotation(np.append(angles, 0)).T + centre
        pose = np.array([limit * random.triangular(-1, 0, 1) for limit in self.turn], np.float32)
        turned = (vertices - [0, 0, 3]) @ rotation(pose).T
        distance = float(random.uniform(45, 150))
        flat = np.array([1, -1], np.float32) * turned[:, :2] * (distance / (distance - turned[:, 2:]))

        marks = np.full((len(POINTS), 2), np.nan, np.float32)
        known = self.head.points >= 0
        marks[known] = flat[self.head.points[known]]
        for iris, ring in zip((RIGHT_IRIS, LEFT_IRIS), self.head.irises, strict=True):
            marks[iris] = flat[ring].mean(axis=0)
        low, high = np.nanmin(marks, axis=0), np.nanmax(marks, axis=0)
        scale = self._canvas * float(random.uniform(*self.fill)) / float((high - low).max())
        room = 0.5 * (self._canvas - scale * (high - low))
        shift = room * (1 + random.uniform(-0.5, 0.5, 2)) - scale * low

        canvas = self._rasterise(scale * flat + shift, turned[:, 2], self._light(turned, colours, random))
        image = self._compose(canvas, random)
        # On the canvas a pixel's centre is at .5, in a picture at .0.
        points = ((scale * marks + shift) * (self.size / self._canvas) - 0.5).astype(np.float32)
        place = (np.nan, np.nan) if label == UNLABELLED else CIRCUMPLEX[EXPRESSIONS[label]]
        affect = np.array(place, np.float32) * intensity
        ahead = rotation(np.append(glance.mean(axis=0), 0))[:, 2] @ rotation(pose).T
        gaze = np.degrees([np.arctan2(ahead[0], ahead[2]), np.arcsin(np.clip(ahead[1], -1, 1))])
        return Rendering(
            image, points, pose, coefficients, label, affect, intensity, identity, gaze.astype(np.float32)
        )

    def glance(self, coefficients: Floats) -> Floats:
        """How far the eyeballs are turned in the head [2, 2]: right and left eye, (yaw, pitch) in degrees, for
        blendshape coefficients [e]; yaw is positive to the subject's left, pitch upwards."""
        angles = np.zeros((2, 2), np.float32)
        for eye, (side, leftwards, rightwards) in enumerate((("R", "In", "Out"), ("L", "Out", "In"))):
            for axis, way, sign in ((0, leftwards, 1), (0, rightwards, -1), (1, "Up", 1), (1, "Down", -1)):
                for index in self._present(f"eyeLook{way}_{side}"):
                    angles[eye, axis] += sign * FULL_LOOK[way] * coefficients[index]
        return angles

    def _light(self, vertices: Floats, colours: Floats, random: np.random.Generator) -> Floats:
        """Colours [v, 4] under an ambient and two directed lights; the last column is how much a vertex faces us."""
        quads = self.head.quads
        faces = np.cross(
            vertices[quads[:, 2]] - vertices[quads[:, 0]], vertices[quads[:, 3]] - vertices[quads[:, 1]]
        )
        around = quads.ravel()
        normals = np.stack(
            [np.bincount(around, np.repeat(face, 4), minlength=len(vertices)) for face in faces.T], axis=1
        ).astype(np.float32)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True) + 1e-9
        light = np.full(len(vertices), random.uniform(0.25, 0.6), np.float32)
        shine = np.zeros(len(vertices), np.float32)
        for strength in (random.uniform(0.4, 0.9), random.uniform(0, 0.4)):
            source = random.normal(size=3) * [1, 0.7, 0.3] + [0, 0.4, 1]
            source /= np.linalg.norm(source)
            light += strength * np.clip(normals @ source, 0, 1).astype(np.float32)
            half = source + np.array([0, 0, 1])
            mirror = np.clip(normals @ (half / np.linalg.norm(half)), 0, 1).astype(np.float32)
            shine += strength * mirror**30
        light[self.head.part == MOUTH] *= 0.45
        light[self.head.part == TEETH] *= 0.75
        wet = np.where(self.head.part == EYE, 0.15, random.uniform(0, 0.25)).astype(np.float32)
        tint = 1 + random.normal(0, 0.05, 3)
        lit = colours * light[:, None] * tint + (255 * wet * shine)[:, None]
        return np.concatenate([lit, normals[:, 2:]], axis=1).astype(np.float32)

    def _rasterise(self, flat: Floats, depth: Floats, colours: Floats) -> Floats:
        """The head on an empty canvas [c, c, 4]: colour and cover."""
        where = np.concatenate([flat, depth[:, None], colours[:, 3:]], axis=1).astype(np.float32)
        facing = np.flatnonzero(colours[self._corners[0], 3] > -0.1)  # drop the back of the head early
        points = self._between(where, facing)
        side = self._canvas
        column, row = np.floor(points[:, 0]).astype(np.int32), np.floor(points[:, 1]).astype(np.int32)
        seen = np.flatnonzero(
            (points[:, 3] > 0) & (column >= 0) & (row >= 0) & (column < side) & (row < side)
        )
        place = row[seen] * side + column[seen]
        near = points[seen, 2] - self._back[facing[seen]]
        rank = ((near - near.min()) * (65000 / (np.ptp(near) + 1e-6))).astype(np.uint16)
        order = np.argsort(rank, kind="stable")  # far to near: the nearest sample is written last
        nearest = np.full(side * side, -1, np.intp)
        nearest[place[order]] = order
        hit = nearest >= 0
        canvas, outer = np.zeros((side * side, 4), np.float32), np.zeros(side * side, np.float32)
        shown = facing[seen[nearest[hit]]]
        canvas[hit, :3], canvas[hit, 3] = self._between(colours[:, :3].astype(np.float32), shown), 1
        outer[hit] = self._outer[shown]
        return _close(canvas.reshape(side, side, 4), outer.reshape(side, side))

    def _between(self, values: Floats, samples: Ints) -> Floats:
        """Values [v, k] of the vertices at some of the samples [n]: [n, k]."""
        mixed: Floats = values[self._corners[0][samples]] * self._weights[0, samples, None]
        for corner, weight in zip(self._corners[1:], self._weights[1:], strict=True):
            mixed += values[corner[samples]] * weight[samples, None]
        return mixed

    def _compose(self, canvas: Floats, random: np.random.Generator) -> Pixels:
        """Put the head on a background, average to the picture's size, add the camera's noise."""
        head = cv2.resize(canvas, (self.size, self.size), interpolation=cv2.INTER_AREA)
        cover = head[..., 3:]
        behind = background(random, self.size, self.backgrounds)
        image: Floats = head[..., :3] * random.uniform(0.8, 1.2) + behind * (1 - cover)
        if random.random() < 0.3:
            image = cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.4, 1.0)))
        return np.clip(image + random.normal(0, random.uniform(0, 5), image.shape), 0, 255).astype(np.uint8)


def _close(canvas: Floats, outer: Floats) -> Floats:
    """Close the gaps between samples, to the background and to the inside of the mouth; `outer` is 1 on the surface."""
    for _ in range(2):
        skin, share = cv2.blur(canvas * outer[..., None], (3, 3)), cv2.blur(outer, (3, 3))
        gap = (outer == 0) & (share > np.where(canvas[..., 3] > 0, 0.7, 0.45))
        canvas[gap], outer[gap] = skin[gap] / share[gap][:, None], 1
    return canvas


def paint(head: Head, shape: Floats, random: np.random.Generator) -> Floats:
    """The colours [v, 3] of one person in even light, 0..255."""
    tone = random.random()
    skin = (1 - tone) * np.array([242, 205, 180]) + tone * np.array([92, 60, 44]) + random.normal(0, 7, 3)
    hairs = np.array([[35, 26, 22], [70, 48, 34], [120, 88, 55], [190, 160, 110], [150, 148, 145]])
    hair = hairs[random.integers(5 if tone < 0.5 else 2)] * random.uniform(0.7, 1.1)
    iris = np.array([[70, 45, 25], [100, 70, 40], [90, 120, 140], [80, 110, 70]])[random.integers(4)]
    waves = random.normal(size=(6, 3)) * random.uniform(0.2, 3.0, (6, 1))
    texture = 1 + np.sin(shape @ waves.T + random.uniform(0, 6.3, 6)) @ random.uniform(0, 0.04, 6)
    texture += random.uniform(0, 0.06) * random.normal(size=len(shape))
    colours = skin * texture[:, None]
    strands = hair * random.uniform(0.7, 1.2, (len(shape), 1))
    lips = skin * random.uniform([0.75, 0.5, 0.5], [1.0, 0.75, 0.8])
    shave = random.uniform(0, 0.4) * (random.random() < 0.3) * head.beard
    for amount, colour in (
        (shave, hair),
        (head.lip * 0.8, lips),
        (head.brow * random.uniform(0.4, 1.0), strands),
        (head.hair * (random.random() < 0.8), strands),
    ):
        colours += amount[:, None] * (colour - colours)
    for part, colour in ((MOUTH, (150, 70, 70)), (TEETH, (225, 218, 205)), (EYE, (228, 222, 218))):
        colours[head.part == part] = colour
    for ring in head.irises:
        radius = np.linalg.norm(head.neutral - head.neutral[ring].mean(axis=0), axis=1)
        colours[(head.part == EYE) & (radius < 0.62)] = iris
        colours[(head.part == EYE) & (radius < 0.28)] = 15
    return colours.astype(np.float32)


def rotation(pose: Floats) -> Floats:
    """The rotation [3, 3] of (yaw, pitch, roll) in degrees, for axes x right, y up, z to the viewer."""
    yaw, pitch, roll = np.radians(np.asarray(pose, np.float64))
    nod = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    shake = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    tilt = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    turn: Floats = (tilt @ shake @ nod).astype(np.float32)
    return turn


def pose_of(turn: Floats) -> Floats:
    """(yaw, pitch, roll) in degrees of rotations [..., 3, 3]: the inverse of :func:`rotation`."""
    roll = np.arctan2(-turn[..., 1, 0], turn[..., 0, 0])
    # Undo the roll; the forward axis then shows yaw and pitch.
    x, y, z = turn[..., 0, 2], turn[..., 1, 2], turn[..., 2, 2]
    x, y = np.cos(roll) * x - np.sin(roll) * y, np.sin(roll) * x + np.cos(roll) * y
    pose: Floats = np.stack([np.arctan2(x, z), np.arcsin(np.clip(y, -1, 1)), roll], axis=-1)
    return np.degrees(pose).astype(np.float32)


def background(random: np.random.Generator, size: int, pictures: Sequence[Pixels] = ()) -> Floats:
    """Something without a face [size, size, 3]: a part of a picture, or a gradient with shapes and noise."""
    if len(pictures) and random.random() < 0.6:
        picture = pictures[int(random.integers(len(pictures)))]
        side = int(random.uniform(0.3, 1) * min(picture.shape[:2]))
        top, left = (int(random.integers(room - side + 1)) for room in picture.shape[:2])
        part: Floats = cv2.resize(picture[top : top + side, left : left + side], (size, size)).astype(
            np.float32
        )
        return part
    image: Floats = cv2.resize(random.uniform(0, 255, (2, 2, 3)).astype(np.float32), (size, size))
    for _ in range(random.integers(6)):
        corners = (random.uniform(-0.2, 1.2, (random.integers(3, 6), 2)) * size).astype(np.int32)
        cv2.fillPoly(image, [corners], random.uniform(0, 255, 3).tolist())
    cells = int(random.integers(2, 40))
    coarse = random.normal(0, random.uniform(0, 40), (cells, cells, 3)).astype(np.float32)
    image += cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.clip(cv2.GaussianBlur(image, (0, 0), float(random.uniform(0.3, 4))), 0, 255)


_ONLY_TOGETHER: Final = ("mouthClose",)
"""Blendshapes that occur only on top of another one (an open jaw), and stretch nothing then."""


def _lengths(at: Floats, quads: Ints, ends: Ints) -> Floats:
    """Lengths [len(ends), q] of the quads' edges between the corners `ends` [n, 2], for vertices [v, 3]."""
    lengths: Floats = np.stack([np.linalg.norm(at[quads[:, a]] - at[quads[:, b]], axis=1) for a, b in ends])
    return lengths


def _samples(head: Head, spacing: float) -> tuple[Ints, Floats]:
    """Surface samples as quad corners [4, n] and their weights [4, n], no two farther apart than `spacing` (cm), also
    where a blendshape stretches the skin most."""
    quads, at = head.quads, head.neutral
    coarse = (
        np.array([0.85, 2.0, 2.0, 0.9, 1.0])[head.part[quads[:, 0]]] * spacing
    )  # skin, teeth and eyes matter most
    ends = np.array([[0, 1], [2, 3], [1, 2], [3, 0]])
    lengths = _lengths(at, quads, ends)
    for number, name in enumerate(head.names):
        if name not in _ONLY_TOGETHER:
            lengths = np.maximum(lengths, _lengths(at + head.expression[number], quads, ends))
    steps = np.clip(np.ceil(lengths.reshape(2, 2, -1).max(axis=1) / coarse), 1, 12).astype(int)
    corners, weights = [], []
    for columns, rows in np.unique(steps, axis=1).T:
        u, v = (axis.ravel() for axis in np.meshgrid(*((np.arange(n) + 0.5) / n for n in (columns, rows))))
        chosen = quads[(steps[0] == columns) & (steps[1] == rows)]
        corners.append(np.repeat(chosen, len(u), axis=0).T)
        weights.append(np.tile([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v], len(chosen)))
    return np.concatenate(corners, axis=1), np.concatenate(weights, axis=1).astype(np.float32)
