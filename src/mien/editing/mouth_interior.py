"""Draw the mouth interior: from the photo if it is visible there, else from an example.

The opening is described by two curves over `t`, from the right corner of the mouth (0) to the left one (1): the edge of
the upper lip and that of the lower lip. A place inside it has the coordinates (t, depth below the upper lip), by which
it is sampled from the photo or an example: upper teeth keep their position below the upper lip and their proportions,
and the lower lip covers the rest.

The shipped examples are mouths of generated faces (DiffusionFER, CC0), with teeth and without, each also mirrored
(`mien.training.editor.mouth_bank`). The one with the opening nearest to that of the lips is taken, of a head turned and
lit alike, and matched to the face in brightness, by the whites of its eyes, in tint and grain.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mien.editing.warp import look_up
from mien.io import cards, images
from mien.io.arrays import stored
from mien.io.images import LUMA
from mien.landmarks import INNER_LIPS, LEFT_EYE, RIGHT_EYE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.editing.warp import Region

    Array = NDArray[np.float64]
    Pixels = NDArray[Any]

SAMPLES = 33
"""Number of points of each curve of an opening."""
_TEETH = 25.0
"""Luma of teeth over the 0.4th power of that of the whites of the eyes (see `filled`): the mean of all mouths is 22, of
which many show no teeth."""
_BRIGHTEST = 1.6
"""Largest ratio of the luma of teeth to that of the whites of the eyes, in the dark."""
_OPEN_EYE = 0.12
"""Least height over width of an eye with a visible white."""
_ROW = 0.85
"""Share of an example's width that is mapped to a mouth's width, as its corners are darker and its row of teeth is
shorter than usual."""
_CORNER = 0.22
"""Share of the mouth's width at each corner over which an opening tapers to a point."""
_NEAR_SHAPE = 0.05
"""Difference of openings, in widths of the mouth, that weighs as much as `_NEAR_YAW` and `_NEAR_SIDE`. Our choice."""
_NEAR_WIDTH = 0.08
"""Difference of the widths of two mouths, in eye distances."""
_NEAR_YAW = 0.1
"""Difference of the turns of two heads, about ten degrees."""
_NEAR_SIDE = 0.4
"""Difference of the light from the side, as a logarithm."""
_NEAR_LEVEL = 0.6
"""Difference of the brightness of the skin, as a logarithm."""
_NEAR_ROW = 0.1
"""Share of an opening without teeth, of what they should fill, that weighs as much as these; and of a stretch."""
_TALLER = 1.4
"""Most that a mouth is stretched downwards before another one is preferred."""
_FILLS = 0.8
"""Share of an opening that teeth fill where it is no higher than `_ROW_HEIGHT`."""
_ROW_HEIGHT = 0.15
"""Mean height of a row of teeth, in widths of the mouth."""
_TONGUE = 0.65
"""Luma of a tongue, or of what is brightest in a mouth without teeth, over that of teeth. Our choice."""
_TEETH_HUE = np.array([1.03, 0.99, 0.965])
"""Mean colour of teeth over its luma, of the shipped examples; of 42 people of the London Set 1.04, 0.99, 0.95."""
_SKIN_HUE = np.array([1.23, 0.925, 0.79])
"""Mean colour of the skin over its luma, of the shipped examples."""
_HUES = 0.15
"""Difference of hues between people's skin, as a logarithm of channels."""
_RELIT = (0.5, 1.6)
"""Limits of the ratio by which the person's own mouth is made darker or lighter."""
_LEAST_WIDTH = 16.0
"""Least width in pixels of a mouth that teeth are taken from without being asked for."""
_LEAST_ROW = 0.4
"""Least share of its opening that teeth fill."""
_LIT = 0.75
"""Least luma of its teeth over that of the cheeks."""
PARTED = 0.045
"""Mean lip gap, in eye distances, from which a mouth shows teeth that can be taken."""
SHOWS = 0.022
"""Mean lip gap, in eye distances, from which a mouth counts as open."""


@dataclass(frozen=True)
class Opening:
    """An opening between the lips in some plane. `right`, `left` [2] are its corners; `upper`, `lower` [SAMPLES]
    the distances of the lips from the line between the corners, in widths of the mouth, positive downwards."""

    right: Array
    left: Array
    upper: Array
    lower: Array

    @classmethod
    def of(cls, contour: Array) -> Opening:
        """From the inner lips [20, 2]: corner, upper edge, corner, lower edge backwards (`mien.landmarks`)."""
        right, left = contour[0], contour[10]
        t, height = _along(right, left, contour)
        grid = np.linspace(0, 1, SAMPLES)
        upper, lower = ([*range(11)], [0, *range(19, 9, -1)])
        curves = []
        for edge in (upper, lower):
            # Points must not change their order: np.interp needs rising t, and the corners are exactly 0 and 1.
            places = np.maximum.accumulate(t[edge].clip(0, 1) + 1e-9 * np.arange(11))
            curves.append(np.interp(grid, places, height[edge]))
        middle = (curves[0] + curves[1]) / 2
        return cls(right, left, np.minimum(curves[0], middle), np.maximum(curves[1], middle))

    @property
    def ratio(self) -> float:
        """Mean height over width."""
        return float((self.lower - self.upper).mean())

    def locate(self, places: Array) -> tuple[Array, Array, Array]:
        """(t, depth below the upper lip, height of the opening there) of `places` [..., 2], the last two in widths."""
        t, height = _along(self.right, self.left, places)
        grid = np.linspace(0, 1, SAMPLES)
        upper, lower = np.interp(t, grid, self.upper), np.interp(t, grid, self.lower)
        return t, height - upper, lower - upper

    def at(self, t: Array, depth: Array) -> Array:
        """The inverse of `locate`: the places [..., 2] at `t` and a depth in widths."""
        height = np.interp(t, np.linspace(0, 1, SAMPLES), self.upper) + depth
        across = self.left - self.right
        down = np.array([-across[1], across[0]])
        return np.asarray(self.right + t[..., None] * across + height[..., None] * down)

    def height_at(self, t: Array) -> Array:
        """Height of the opening at `t`, in widths."""
        return np.asarray(np.interp(t, np.linspace(0, 1, SAMPLES), self.lower - self.upper))


def _along(right: Array, left: Array, places: Array) -> tuple[Array, Array]:
    across = left - right
    width = float(across @ across)
    offset = places - right
    return offset @ across / width, offset @ np.array([-across[1], across[0]]) / width


@dataclass(frozen=True)
class SkinStatistics:
    """Light and noise of a face: mean colour `skin` [3] of the cheeks, standard deviation `grain` of their noise, and
    luma `white` of the whites of the eyes, all in 0..255; `side` is the logarithm of the luma of the cheek on the right
    of the picture over that on the left."""

    skin: Array
    grain: float
    white: float
    side: float = 0.0


@dataclass(frozen=True)
class Example:
    """An example of a mouth: its picture [h, w, 3] (RGB, uint8), its opening, and the light on its face. `own`: it is
    the person's own, from another photo (`own_mouth`). `bares`: it shows teeth rather than the mouth's cavity; `row`:
    share of the opening that they fill. `yaw`: how far its head is turned (`mien.editing.geometry.covariates`).
    `width`: of the mouth, in eye distances."""

    name: str
    picture: NDArray[np.uint8]
    opening: Opening
    light: SkinStatistics
    own: bool = False
    bares: bool = True
    row: float = 1.0
    yaw: float = 0.0
    width: float = 0.9

    @cached_property
    def teeth(self) -> Array:
        """Colour [3] of its teeth, or of what is brightest in it: the mean of its brightest tenth."""
        t, share = np.meshgrid(np.linspace(0.05, 0.95, 40), np.linspace(0.05, 0.95, 20))
        places = self.opening.at(t, share * self.opening.height_at(t)).astype(np.float32)
        seen = look_up(self.picture.astype(np.float32), places).reshape(-1, 3)
        luma = seen @ LUMA
        return np.asarray(seen[luma >= np.percentile(luma, 90)].mean(axis=0), np.float64)

    def mirrored(self) -> Example:
        """The same mouth on the other side of the mirror."""
        last = np.array([self.picture.shape[1] - 1, 0.0])
        opening = replace(
            self.opening,
            right=self.opening.left * [-1, 1] + last,
            left=self.opening.right * [-1, 1] + last,
            upper=self.opening.upper[::-1],
            lower=self.opening.lower[::-1],
        )
        return replace(
            self,
            name=f"{self.name} mirrored",
            picture=np.ascontiguousarray(self.picture[:, ::-1]),
            opening=opening,
            light=replace(self.light, side=-self.light.side),
            yaw=-self.yaw,
        )


@lru_cache(maxsize=1)
def examples() -> tuple[Example, ...]:
    """The shipped examples; after each its mirror image.

    Raises:
        WeightsError: the file is missing, damaged or does not match its card.
    """
    arrays, found = stored(cards.FOLDER / "editor" / "mouths.npz"), []
    sheet = images.read(arrays["sheet"].tobytes())
    skins, lights = arrays["skin"].astype(np.float64), arrays["light"].astype(np.float64)
    for n, (left, top, width, height) in enumerate(arrays["places"]):
        white, side, yaw, row, width_ = lights[n]
        example = Example(
            str(arrays["names"][n]),
            np.ascontiguousarray(sheet[top : top + height, left : left + width]),
            Opening.of(arrays["contours"][n].astype(np.float64)),
            SkinStatistics(skins[n], 0.0, white, side),
            bares=bool(arrays["bares"][n]),
            row=row,
            yaw=yaw,
            width=width_,
        )
        found += [example, example.mirrored()]
    return tuple(found)


@lru_cache(maxsize=1)
def _features() -> Array:
    """What `choose` compares [n, F], of each of `examples`."""
    return np.stack(
        [_features_of(mouth.opening, mouth.width, mouth.yaw, mouth.light) for mouth in examples()]
    )


def _features_of(opening: Opening, width: float, yaw: float, light: SkinStatistics) -> Array:
    places = slice(4, -4, 3)
    height, middle = opening.lower - opening.upper, (opening.lower + opening.upper) / 2
    count = len(height[places])
    shape = np.concatenate([height[places], 0.5 * (middle[places] - middle.mean())])
    level = np.log(max(float(light.skin @ LUMA), 1.0))
    lit = light.side / _NEAR_SIDE, level / _NEAR_LEVEL
    return np.array([*shape / (_NEAR_SHAPE * np.sqrt(count)), width / _NEAR_WIDTH, yaw / _NEAR_YAW, *lit])


def own_mouth(rgb: Pixels, points: Array, light: SkinStatistics, name: str) -> Example:
    """The mouth between the inner lips of landmarks [P, 2] in a photo [h, w, 3] (uint8), and the light there."""
    contour = points[INNER_LIPS]
    size = np.array(rgb.shape[1::-1])
    margin = 0.1 * float(np.linalg.norm(contour[10] - contour[0]))
    low = np.floor(contour.min(axis=0) - margin).astype(int).clip(0, size - 1)
    high = (np.ceil(contour.max(axis=0) + margin).astype(int) + 1).clip(low + 1, size)
    picture = np.ascontiguousarray(rgb[low[1] : high[1], low[0] : high[0]])
    opening = Opening.of(contour - low)
    return Example(name, picture, opening, light, own=True, row=row_of(picture, opening))


def row_of(picture: Pixels, opening: Opening) -> float:
    """Share of the middle of an opening in a picture that shows teeth: nearly as light as its lightest tenth, and
    nearly grey."""
    t, share = np.meshgrid(np.linspace(0.2, 0.8, 40), np.linspace(0.04, 0.96, 24))
    places = opening.at(t, share * opening.height_at(t)).astype(np.float32)
    colour = look_up(picture.astype(np.float32), places)
    luma = colour @ LUMA
    light = luma[luma >= np.percentile(luma, 90)].mean()
    return float(((luma > 0.6 * light) & (np.ptp(colour, axis=2) < 70)).mean())


def legibility(mouth: Example) -> float:
    """How well a person's own mouth shows their teeth, to compare several pictures of them: the share of the opening
    that teeth fill, times how sharp they are; 0 where it is narrow or dark, or where little of it is teeth."""
    across = float(np.linalg.norm(mouth.opening.left - mouth.opening.right))
    light = float(mouth.teeth @ LUMA)
    if across < _LEAST_WIDTH or mouth.row < _LEAST_ROW or light < _LIT * float(mouth.light.skin @ LUMA):
        return 0.0
    t, share = np.meshgrid(np.linspace(0.2, 0.8, 48), np.linspace(0.1, 0.9, 12))
    places = mouth.opening.at(t, share * mouth.opening.height_at(t)).astype(np.float32)
    luma = look_up(mouth.picture.astype(np.float32), places) @ LUMA
    return mouth.row * float(np.abs(np.diff(luma, axis=1)).mean()) / light


def choose(opening: Opening, teeth: float, width: float, yaw: float, light: SkinStatistics) -> Example:
    """The example with the nearest opening, width, turn of the head and light; of those with teeth if `teeth`, in
    0..1, is at least 0.5, else of those without. `width`, `yaw` and `light` are those of `Example`.

    A mouth that is stretched shows the gaps between its teeth. In a smile the lower lip lies at the upper teeth, so
    where the lips part by no more than the height of a row of teeth, that row fills the opening.
    """
    apart = np.linalg.norm(_features() - _features_of(opening, width, yaw, light), axis=1)
    taller = np.array([opening.ratio / mouth.opening.ratio for mouth in examples()])
    apart = np.hypot(apart, np.maximum(taller - _TALLER, 0) / _NEAR_ROW)
    bares = teeth >= 0.5
    if bares:
        row = np.array([mouth.row for mouth in examples()])
        least = _FILLS * min(1.0, _ROW_HEIGHT / max(opening.ratio, 1e-3))
        apart = np.hypot(apart, np.maximum(least - row, 0) / _NEAR_ROW)
    apart[[mouth.bares != bares for mouth in examples()]] = np.inf
    return examples()[int(apart.argmin())]


def _depth_in(example: Opening, t: Array, depth: Array, height: Array) -> Array:
    """Depth to sample at: midway between keeping the example's proportions and scaling it to the opening."""
    whole = example.height_at(t)
    share = np.clip(depth / np.maximum(height, 1e-6), 0, 1)
    kept = np.minimum(depth, whole)
    return np.asarray(0.5 * kept + 0.5 * share * whole)


def mask_of(opening: Opening, places: Array, feather: float) -> Array:
    """A mask: 1 inside the opening, 0 outside, with a soft edge of `feather` mouth widths; `places` [..., 2]."""
    t, depth, height = opening.locate(places)
    # Landmarks make the corners blunt, but lips meet in a point.
    narrow = np.sin(np.pi / 2 * np.clip(np.minimum(t, 1 - t) / _CORNER, 0, 1)) ** 0.8
    edge = narrow * height / 2 - np.abs(depth - height / 2)
    soft = (
        np.clip(edge / feather + 0.5, 0, 1)
        * ((t > 0) & (t < 1))
        * np.clip(narrow * height / (2 * feather), 0, 1)
    )
    return np.asarray(soft * soft * (3 - 2 * soft))


def window_of(opening: Opening, region: Region) -> tuple[slice, slice]:
    """Rows and columns of the region that hold the opening (given in pixels of the picture), with a margin."""
    grid = np.linspace(0, 1, SAMPLES)
    outline = np.concatenate([opening.at(grid, 0 * grid), opening.at(grid, opening.lower - opening.upper)])
    margin = 0.06 * float(np.linalg.norm(opening.left - opening.right)) + 2
    low = np.floor(outline.min(axis=0) - margin - [region.left, region.top]).astype(int)
    high = np.ceil(outline.max(axis=0) + margin - [region.left, region.top]).astype(int) + 1
    low, high = low.clip(0), np.minimum(high, [region.width, region.height])
    return slice(low[1], max(high[1], low[1])), slice(low[0], max(high[0], low[0]))


def carried(photo: Pixels, source: Opening, target: Opening, places: Array) -> Pixels:
    """The photo's own mouth interior, drawn at `places` [h, w, 2] (picture pixels) inside the target opening."""
    t, depth, height = target.locate(places)
    share = np.clip(depth / np.maximum(height, 1e-6), 0, 1)
    where = source.at(t, share * source.height_at(t)).astype(np.float32)
    return look_up(photo, where)


def filled(
    example: Example, target: Opening, places: Array, around: SkinStatistics, seed: int
) -> NDArray[np.float32]:
    """An example's interior at `places` [h, w, 2], as RGB float in 0..255; `seed` fixes the noise.

    Teeth are lit like the whites of the eyes, independent of the skin: of 657 mouths of DiffusionFER and of web photos
    their luma rises with the 0.4th power of the eyes', and hardly with that of the cheeks. The person's own mouth is
    only made lighter or darker, as their skin is in this photo.
    """
    t, depth, height = target.locate(places)
    if example.own:
        places = example.opening.at(np.clip(t, 0, 1), _depth_in(example.opening, t, depth, height))
        light = float(around.skin @ LUMA) / max(float(example.light.skin @ LUMA), 1.0)
        own = look_up(example.picture.astype(np.float32), places.astype(np.float32), cv2.INTER_CUBIC)
        return np.asarray(own * np.float32(np.clip(light, *_RELIT)), np.float32)
    inside = np.clip(t, 0, 1)
    across = 0.5 + _ROW * (inside - 0.5)
    where = example.opening.at(across, _depth_in(example.opening, across, depth, height)).astype(np.float32)
    look = look_up(example.picture.astype(np.float32), where)
    teeth = min(_TEETH * around.white**0.4, _BRIGHTEST * around.white)
    level = teeth if example.bares else _TONGUE * teeth
    gain = min(level / max(float(example.teeth @ LUMA), 1.0), 1.15) * _tint(example, around)
    # Lips and cheeks shade the interior, most under the upper lip and towards the corners.
    width = np.maximum(height, 1e-3)
    under = np.exp(-np.clip(depth, 0, None) / (0.10 * width + 0.012))
    over = np.exp(-np.clip(height - depth, 0, None) / (0.10 * width + 0.01))
    shade = (1 - 0.25 * under - 0.1 * over) * (1 - 0.6 * np.abs(2 * inside - 1) ** 4)
    noise = np.random.default_rng(seed).normal(0, around.grain, look.shape[:2])
    soft = np.asarray(cv2.GaussianBlur(noise, (0, 0), 0.7)) * 1.7
    # The darkest part of a mouth is its lining, a dark red that scales with the skin's brightness.
    lining = around.skin * [0.26, 0.13, 0.13]
    drawn = np.maximum(look * gain * np.clip(shade, 0.2, 1)[..., None], lining)
    return np.asarray(drawn + soft[..., None], np.float32)


def _tint(example: Example, around: SkinStatistics) -> Array:
    """The gain of each channel [3], 1 in luma, that gives an example the hue of teeth in the light of a face.

    Teeth are warm (`_TEETH_HUE`), hardly depending on the skin. Hues of skin differ by some 15 % between people; what
    is beyond that comes from the light, and falls on the teeth too.
    """
    hue = around.skin / max(float(around.skin @ LUMA), 1.0)
    apart = np.log(np.clip(hue, 0.05, None) / _SKIN_HUE)
    usual = np.clip(apart, -_HUES, _HUES)
    wanted = _TEETH_HUE * np.exp(0.1 * usual + 0.8 * (apart - usual))
    own = example.teeth / max(float(example.teeth @ LUMA), 1.0) if example.bares else _TEETH_HUE
    tint = wanted / np.maximum(own, 0.05)
    return np.asarray(tint / float(tint @ LUMA))


def white_of(colour: Pixels, points: Array) -> float | None:
    """Luma, 0..255, of the whites of the eyes with landmarks [P, 2]: the 90th percentile within the lids, mean of both;
    None if both are closed, too small or outside the photo."""
    levels = []
    for group in (RIGHT_EYE, LEFT_EYE):
        outline = points[group]
        width, height = np.ptp(outline, axis=0)
        if height < _OPEN_EYE * width:
            continue
        low = np.floor(outline.min(axis=0)).astype(int).clip(0)
        high = (np.ceil(outline.max(axis=0)).astype(int) + 1).clip(0)
        part = colour[low[1] : high[1], low[0] : high[0]]
        if part.shape[0] < 3 or part.shape[1] < 3:
            continue
        mask = np.zeros(part.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.rint(outline - low).astype(np.int32)], 1)
        if mask.sum() >= 6:
            levels.append(float(np.percentile(part[mask > 0] @ LUMA, 90)))
    return float(np.mean(levels)) * 255 / np.iinfo(colour.dtype).max if levels else None


def opening_of(points: Array) -> Opening:
    """The opening between the inner lips of landmarks [P, 2]."""
    return Opening.of(points[INNER_LIPS])
