"""Draw a planned edit on a photo.

Everything works on a rectangle of the photo (`Region`). Pixels that move by less than 1/64 pixel and that no other step
changes are copied, not resampled, so the unedited part stays bit for bit the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mien.editing import eyes, mouth_interior
from mien.editing.face_mask import FaceMask
from mien.editing.geometry import FaceFrame, covariates, lip_gap
from mien.editing.plan import REFILL, Plan
from mien.editing.warp import Region, mouth_line, pixel_map, pull
from mien.io.images import LUMA
from mien.landmarks import INNER_LIPS, LEFT_EYE, OUTER_LIPS, RIGHT_EYE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mien.editing.shading import Shading

    Array = NDArray[np.float64]
    Pixels = NDArray[Any]

TOUCHED = 1 / 64
"""Smallest displacement in pixels that counts as a change."""
_SEAM = 0.014
"""Half width of the shadow between closed lips, in eye distances."""
_BAND = 64
"""Rows processed together."""
_DEEPENS = 0.6
"""How much the saturation of skin grows in a fold, as a share of its distance from grey."""
_SHINE = 0.2
"""A pixel this share lighter than the cheeks is entirely a highlight, and a fold with this log gain removes it
entirely."""
_WHITE = 1.6
"""Pixels more than this many times lighter than the cheeks are hair, cloth or background, not highlights."""
_LENS = 0.7
"""Least ratio of the luma of the whites of the eyes to that of the cheeks."""
_CHEEKS = np.array([[-0.72, 0.85], [0.72, 0.85]])


def render(
    colour: Pixels,
    plan_: Plan,
    shading: Shading | None,
    teeth: float,
    seed: int = 0,
    interiors: bool = True,
    around: mouth_interior.SkinStatistics | None = None,
    masked: bool = True,
    example: mouth_interior.Example | None = None,
) -> tuple[Pixels, tuple[str, ...]]:
    """Draw a plan on a photo [h, w, 3] (RGB, uint8 or uint16); returns a new array and notes on what was done.

    `teeth` in 0..1 selects the kind of mouth interior; `seed` fixes the noise of a filled mouth. Without `interiors`
    only the flow changes the mouth interior. `around` are skin statistics from several frames, if known
    (`skin_statistics`). Without `masked` also background and hair change (`mien.editing.face_mask`). `example` is the
    mouth to fill an interior from; None chooses one.
    """
    height, width = colour.shape[:2]
    region = Region.of(plan_.frame, width, height)
    where, moved = pixel_map(plan_.warp, region)
    new = np.empty((region.height, region.width, 3), np.float32)
    touched = moved > TOUCHED
    notes: list[str] = []
    mask = FaceMask.of(colour, plan_.source, region) if masked else None
    skin = None if mask is None else mask.lit(where, plan_.target, region)
    gain = None if shading is None else shading.gain(plan_, region, skin)
    if around is None:
        around = skin_statistics(colour, plan_.frame, plan_.frame.to_picture(plan_.source))

    def move(rows: slice) -> None:
        new[rows] = pull(colour, where[rows])
        if gain is not None:
            new[rows] *= gain[rows, :, None]
            touched[rows] |= np.abs(gain[rows] - 1) > 1e-3

    _in_bands(move, region.height)
    if interiors and masked:
        eyes.draw(colour, plan_, region, new, touched)
    if interiors:
        notes += _mouth(colour, plan_, region, new, touched, around, teeth, seed, example)
    lit = None
    if plan_.gain is not None:
        share = region.fade if skin is None else region.fade * skin
        logs = (region.coarse(plan_.gain) * share)[..., None] * _tint(around.skin)
        lit = region.enlarge(np.exp(logs)), _skin(plan_, region)
    mixed = None if mask is None else mask.mixed(where, region)
    top = np.iinfo(colour.dtype).max
    out = colour.copy()
    inside = out[
        region.top : region.top + region.height,
        region.left : region.left + region.width,
    ]

    def finish(rows: slice) -> None:
        if lit is not None:
            light, skin = lit[0][rows], lit[1][rows]
            new[rows] *= light
            _remove_highlights(new[rows], light, around.skin * (top / 255), skin)
            touched[rows] |= np.abs(light[..., 1] - 1) > 1e-3  # the channels differ by less than a fifth
        if mixed is not None:
            new[rows] = inside[rows] + mixed[rows, :, None] * (new[rows] - inside[rows])
            touched[rows] &= mixed[rows] > 0
        drawn = np.clip(np.rint(new[rows]), 0, top).astype(colour.dtype)
        np.copyto(inside[rows], drawn, where=touched[rows, :, None])

    _in_bands(finish, region.height)
    return out, tuple(notes)


def _tint(skin: Array) -> Array:
    """Weight of each channel [3] in a correction's gain on skin of a colour [3]: saturation grows in folds, by
    interreflection, and falls on raised parts. Equal on grey skin; the effect on luma does not depend on the hue."""
    share = skin / float(skin @ LUMA) if skin @ LUMA >= 1 else np.ones(3)
    tint = 1 + _DEEPENS * (1 - share)
    return np.asarray(tint / float(tint * share @ LUMA))


def _remove_highlights(
    drawn: NDArray[np.float32], light: NDArray[np.float32], hue: Array, skin: NDArray[np.bool_]
) -> None:
    """Tint darkened specular highlights of `drawn` [h, w, 3] with the skin colour `hue` [3], in place.

    `light` [h, w, 3] is the gain that was applied, `skin` [h, w] where skin may be. A fold reflects no lamp, and a
    darkened white highlight would look grey.
    """
    deep = (light[..., 1] < 0.97) & skin
    if not deep.any():
        return
    colour, depth = drawn[deep], light[..., 1][deep]
    luma = colour @ LUMA
    base = max(float(hue @ LUMA), 1.0)
    lighter = luma / (depth * base)
    gleam = np.clip((lighter - 1) / _SHINE, 0, 1) * np.clip((_WHITE - lighter) / _SHINE, 0, 1)
    share = gleam * np.clip(-np.log(depth) / _SHINE, 0, 1)
    matt = luma[:, None] * (hue / base).astype(np.float32)
    drawn[deep] = colour + share[:, None] * (matt - colour)


def _skin(plan_: Plan, region: Region) -> NDArray[np.bool_]:
    """A mask [h, w] of the region without the eyes and the mouth interior."""
    free = np.ones((region.height, region.width), np.uint8)
    points = plan_.frame.to_picture(plan_.target) - [region.left, region.top]
    for group in (RIGHT_EYE, LEFT_EYE, INNER_LIPS):
        cv2.fillPoly(free, [np.rint(points[group]).astype(np.int32)], 0)
    return free > 0


def _in_bands(work: Callable[[slice], None], height: int) -> None:
    """Run `work` on bands of rows that fit the processor's cache, on as many threads as OpenCV may use."""
    bands = [slice(start, min(start + _BAND, height)) for start in range(0, height, _BAND)]
    threads = min(cv2.getNumThreads(), len(bands))
    if threads < 2:
        for band in bands:
            work(band)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, bands))


def _mouth(
    colour: Pixels,
    plan_: Plan,
    region: Region,
    new: NDArray[np.float32],
    touched: NDArray[np.bool_],
    around: mouth_interior.SkinStatistics,
    teeth: float,
    seed: int,
    example: mouth_interior.Example | None,
) -> list[str]:
    """Draw the mouth interior into `new`, in place; `around` is from `skin_statistics`."""
    now, gap = lip_gap(plan_.source), lip_gap(plan_.target)
    if max(abs(gap - now), float(np.abs(plan_.target - plan_.source).max())) < 1e-3:
        return []
    if gap < mouth_interior.SHOWS / 2:
        if now > mouth_interior.SHOWS:
            _close(plan_, region, new, touched)
        return []
    picture = plan_.frame.to_picture
    source, target = (
        mouth_interior.opening_of(picture(plan_.source)),
        mouth_interior.opening_of(picture(plan_.target)),
    )
    window = mouth_interior.window_of(target, region)
    rows, columns = (np.arange(s.start, s.stop) for s in window)
    if not len(rows) or not len(columns):
        return []
    places = np.stack(np.meshgrid(columns + region.left, rows + region.top), axis=-1).astype(np.float64)
    span = float(np.linalg.norm(target.left - target.right))
    mask = mouth_interior.mask_of(target, places, feather=max(1.5 / span, 0.018))[..., None]
    if gap < mouth_interior.SHOWS:
        mask *= np.clip(gap / mouth_interior.SHOWS * 2 - 1, 0, 1)
    if now > mouth_interior.SHOWS and gap <= REFILL * now and not plan_.refill:
        inner: Pixels = mouth_interior.carried(colour, source, target, places).astype(np.float32)
        note = []
    else:
        scale = np.iinfo(colour.dtype).max / 255
        look = example or mouth_for(plan_, teeth, around)
        inner = mouth_interior.filled(look, target, places, around, seed) * scale
        note = [f"mouth interior filled from {'' if look.own else 'the example '}'{look.name}'"]
    new[window] = mask * inner + (1 - mask) * new[window]
    touched[window] |= mask[..., 0] > 0
    return note


def mouth_for(plan_: Plan, teeth: float, around: mouth_interior.SkinStatistics) -> mouth_interior.Example:
    """The example of a mouth that fits a plan best, in the light of `around`."""
    opening = mouth_interior.opening_of(plan_.target if plan_.full is None else plan_.full)
    width = float(np.linalg.norm(opening.left - opening.right))
    return mouth_interior.choose(opening, teeth, width, float(covariates(plan_.source)[0]), around)


def _close(plan_: Plan, region: Region, new: NDArray[np.float32], touched: NDArray[np.bool_]) -> None:
    """Draw the shadow between closed lips, in place; it also covers a remaining rim of teeth."""
    line = mouth_line(plan_.target)
    window = region.window(line.min(axis=0) - 0.1, line.max(axis=0) + 0.1)
    places = region.canonical(window)
    if not places.size:
        return
    along = (places[..., 0] - line[0, 0]) / max(line[-1, 0] - line[0, 0], 1e-6)
    away = np.abs(places[..., 1] - np.interp(places[..., 0], line[:, 0], line[:, 1]))
    # At least 1.5 pixels, and narrower towards the corners.
    width = max(_SEAM, 1.5 / region.frame.unit) * np.clip(4 * along * (1 - along), 0.3, 1) ** 0.5
    share = 0.92 * np.exp(-((away / width) ** 2)) * (along > 0) * (along < 1)
    lips = plan_.frame.to_picture((plan_.target[OUTER_LIPS.start + 15] + line[5]) / 2)
    column, row = np.rint(lips - [region.left, region.top]).astype(int)
    reach = max(1, int(0.02 * region.frame.unit))
    skin = new[max(row - reach, 0) : row + reach + 1, max(column - reach, 0) : column + reach + 1]
    if not skin.size:
        return
    shadow = np.median(skin.reshape(-1, 3), axis=0) * [0.45, 0.36, 0.36]
    new[window] = share[..., None] * shadow + (1 - share[..., None]) * new[window]
    touched[window] |= share > 1 / 255


def skin_statistics(colour: Pixels, frame: FaceFrame, points: Array) -> mouth_interior.SkinStatistics:
    """Skin colour, noise and eye whites of the face with landmarks [P, 2] in pixels."""
    half = max(2, int(0.09 * frame.unit))
    scale = np.iinfo(colour.dtype).max / 255
    height, width = colour.shape[:2]
    means, grains = [], []
    for x, y in frame.to_picture(_CHEEKS).astype(int):
        rows, columns = (slice(max(c - half, 0), max(c + half, 0)) for c in (y, x))
        patch = colour[rows, columns].astype(np.float32) / scale
        if patch.shape[0] > 3 and patch.shape[1] > 3 and x < width and y < height:
            means.append(patch.reshape(-1, 3).mean(axis=0))
            luma = patch @ LUMA
            # Immerkaer's noise estimate: its mask cancels flat and linearly shaded skin.
            edges = cv2.filter2D(
                luma, cv2.CV_32F, np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
            )
            grains.append(np.sqrt(np.pi / 2) / 6 * np.abs(edges[1:-1, 1:-1]).mean())
    skin, grain, side = np.array([180.0, 140.0, 120.0]), 1.5, 0.0
    if len(means) == 2:
        side = float(np.log(max(means[1] @ LUMA, 1.0) / max(means[0] @ LUMA, 1.0)))
    if means:
        skin, grain = np.mean(means, axis=0).astype(np.float64), float(np.mean(grains))
    white, light = mouth_interior.white_of(colour, points), float(skin @ LUMA)
    # If darker than the skin, it is a lens, a shadow or a lid.
    return mouth_interior.SkinStatistics(
        skin, grain, light if white is None or white < _LENS * light else white, side
    )
