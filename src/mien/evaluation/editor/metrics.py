"""The metrics of `mien evaluate-edits`: each figure of one editor, from pictures and the judges' answers.

The definitions are ours, and versioned (`VERSION`); the numbers cannot be compared with those of papers. A refused edit
counts as the unedited picture, so that refusing hard faces improves no figure.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

import cv2
import numpy as np

from mien.editing import mouth_interior
from mien.editing.geometry import FaceFrame, lip_gap
from mien.editing.photo import Photo
from mien.editing.render import skin_statistics
from mien.editing.results import EditRefused
from mien.editing.target import Target
from mien.editing.warp import look_up
from mien.evaluation.editor.judges import JUDGED, grey_crop, square_of
from mien.evaluation.intervals import Interval, Resampling, interval, wilson
from mien.evaluation.metrics import frechet, spearman
from mien.faces import align
from mien.io.images import LUMA
from mien.landmarks import INNER_LIPS, JAW, LEFT_EYE, MIRROR, OUTER_LIPS, RIGHT_EYE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from mien.editing.editor import Editor
    from mien.editing.results import Located
    from mien.evaluation.editor.judges import MiniXception

    Array = NDArray[np.float64]
    Pixels = NDArray[np.uint8]

VERSION: Final = "3"
"""Version of these definitions, printed with every table. Changes in 2: motion and lips by dlib's points instead of
FaceMesh, strength against reading on 100 faces instead of 25. In 3: a mouth's error is that of an edit (`mouth_error`);
a second judge of expressions, background, mirrored faces, smiles taken away, and refused photos."""
POOLED: Final = ("happiness", "surprise", "sadness", "anger")
"""Expressions with enough held-out pictures of each for a Frechet distance."""
ASKED: Final = (*POOLED, "disgust", "fear")
GROUPED: Final = ("white", "black", "west_asian", "east_asian")
"""Self-reported ethnicities in the London set; figures are also given for each."""
STRENGTHS: Final = (0.25, 0.5, 0.75, 1.0)
SAME: Final = 0.6
"""dlib's distance under which two pictures show the same person."""
PLAIN: Final = 12
"""Largest difference of a channel, of 255, from the colour of the picture's upper corners within a plain background."""
CHANGED: Final = 6
"""Least difference of a channel, of 255, of a background pixel that has changed."""
WINDOW: Final = 256
"""Side of the aligned faces that are compared pixel by pixel."""


class EditFunction(Protocol):
    """An editor under test: returns the picture that shows `target` at `strength`, and the smallest Jacobian of its map
    (1 if it has none).

    Raises:
        EditRefused: the editor refuses the edit.
    """

    def __call__(
        self, photo: Photo, face: Located, target: str, strength: float, lips: float | None
    ) -> tuple[Pixels, float]:
        """`lips` is the lip gap to reach in eye distances, or None to leave it to the editor."""
        ...


def by_editor(editor: Editor, force: bool) -> EditFunction:
    """The editor as an `EditFunction`."""

    def draw(
        photo: Photo, face: Located, target: str, strength: float, lips: float | None
    ) -> tuple[Pixels, float]:
        done = editor.apply(
            photo, [face], target, strength, mouth="auto" if lips is None else lips, force=force
        )
        return done.image, done.faces[0].folding

    return draw


@dataclass
class LocatedFaces:
    """Located pictures of one set: `photos` and `faces`, one face each, and their `labels` as expressions."""

    photos: list[Photo] = field(default_factory=list)
    faces: list[Located] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.photos)

    def crop(self, n: int, rgb: Pixels | None = None, whole: bool = False) -> Pixels:
        """The judge's crop of picture `n`, or of an edit `rgb` of it, at the position of the unedited face."""
        shown = self.photos[n].rgb if rgb is None else rgb
        return grey_crop(shown, None if whole else square_of(self.faces[n].points))


@dataclass
class Edits:
    """Edits of `sources` (indices) towards `targets`: the judge's `shares` and `features`, which were `refused`, and
    the smallest Jacobian of each, `folding`."""

    sources: list[int]
    targets: list[str]
    shares: Array
    features: Array
    refused: NDArray[np.bool_]
    folding: Array


def edit_all(
    draw: EditFunction,
    judge: MiniXception,
    faces: LocatedFaces,
    jobs: Sequence[tuple[int, str, float]],
    whole: bool,
    keep: Callable[[int, Pixels], None] | None = None,
) -> Edits:
    """Edit by (source, target, strength) jobs and judge the results; `keep` is called with each (job number,
    result)."""
    crops, refused, folding = [], [], []
    for number, (source, target, strength) in enumerate(jobs):
        try:
            rgb, jacobian = draw(faces.photos[source], faces.faces[source], target, strength, None)
            refused.append(False)
        except EditRefused:
            rgb, jacobian = faces.photos[source].rgb, 1.0
            refused.append(True)
        folding.append(jacobian)
        crops.append(faces.crop(source, rgb, whole))
        if keep is not None:
            keep(number, rgb)
    shares, features = judge(np.stack(crops))
    return Edits(
        [job[0] for job in jobs],
        [job[1] for job in jobs],
        shares,
        features,
        np.array(refused),
        np.array(folding),
    )


def accuracy(shares: Array, targets: Sequence[str], name: str) -> Interval:
    """Share of the pictures with target `name` that the judge reads as `name`, with its score interval."""
    rows = [row for row, target in enumerate(targets) if target == name]
    hits = int((shares[rows].argmax(axis=1) == JUDGED.index(name)).sum())
    return wilson(hits, len(rows))


def fed(real: Array, edited: Array, draws: int = 40, seed: int = 0) -> Interval:
    """Frechet Emotion Distance of two sets of features [n, d] with equal n, classes in equal numbers in both.

    FED falls with n towards the distance of the populations, so compare it only at equal n. The interval is about its
    mean over samples of this n, not about the limit, which it often misses. It is of half samples drawn without
    replacement: their spread about their own mean is that of whole samples, while a bootstrap's repeated rows would
    bias the distance upwards. `tests/test_coverage.py` simulates how often it contains that mean.
    """
    value = frechet(real, edited)
    random, half = np.random.default_rng(seed), len(real) // 2
    sample = np.array(
        [
            frechet(*(part[random.permutation(len(part))[:half]] for part in (real, edited)))
            for _ in range(draws)
        ]
    )
    spread = 1.96 * float(sample.std(ddof=1))
    return Interval(value, max(value - spread, 0.0), value + spread)


def fed_share(real: Array, edited: Array, unedited: Array, draws: int = 40, seed: int = 0) -> Interval:
    """FED of edits over FED of the unedited sources, on the same half samples; lower is better, 1 is no change."""
    value = frechet(real, edited) / frechet(real, unedited)
    random, half = np.random.default_rng(seed), len(real) // 2
    sample = []
    for _ in range(draws):
        # The same rows of both: the edits' sources are the unedited pictures.
        first, second = random.permutation(len(real))[:half], random.permutation(len(edited))[:half]
        sample.append(frechet(real[first], edited[second]) / frechet(real[first], unedited[second]))
    spread = 1.96 * float(np.std(sample, ddof=1))
    return Interval(value, max(value - spread, 0.0), value + spread)


def mean_by_source(values: Array, sources: Sequence[int], draws: int = 1000) -> Interval:
    """The mean of values [n] with an interval over resampled sources; undefined values are left out."""
    known = np.isfinite(values)
    kept = values[known]
    if not len(kept):
        return Interval(float("nan"))
    subjects = [str(source) for source, use in zip(sources, known, strict=True) if use]
    return interval(float(kept.mean()), Resampling(draws, subjects=subjects).means(kept))


def ratio_by_source(above: Array, below: Array, draws: int = 1000) -> Interval:
    """Mean of `above` [n] over mean of `below` [n], one pair per source, with an interval over resampled sources."""
    sample = np.concatenate(
        [(counts @ above) / (counts @ below) for counts in Resampling(draws).blocks(len(above))]
    )
    return interval(float(above.mean() / below.mean()), sample)


def monotony(
    draw: EditFunction,
    judge: MiniXception,
    faces: LocatedFaces,
    sources: Sequence[int],
    target: str,
    whole: bool,
) -> Interval:
    """Mean over faces of Spearman's correlation between strength and the judge's probability of the target.

    A face with the same reading at every strength counts as 0.
    """
    jobs = [(source, target, strength) for source in sources for strength in STRENGTHS]
    read = edit_all(draw, judge, faces, jobs, whole).shares[:, JUDGED.index(target)]
    each = np.array([spearman(STRENGTHS, row) for row in read.reshape(-1, len(STRENGTHS))])
    return mean_by_source(np.nan_to_num(each), list(sources))


def response(
    draw: EditFunction,
    editor: Editor,
    find: Callable[[Pixels, Located], Array],
    faces: LocatedFaces,
    sources: Sequence[int],
    target: str,
    strength: float = 0.8,
) -> Array:
    """Landmark response [n]: the motion that `find` measures in the edit, projected on the requested motion, over the
    latter's length.

    <L(edit) - L(photo), d> / <d, d> in canonical coordinates over the points that `find` returns (nan for those it does
    not have), d the editor's requested displacement with lips kept; 1 is exactly the request, nan if it was refused.
    """
    found = []
    for source in sources:
        photo, face = faces.photos[source], faces.faces[source]
        frame = FaceFrame.of(face.points)
        gap = lip_gap(frame.to_canonical(face.points))
        asked = editor.plan(face, Target.parse(target), strength, gap)
        d = asked.target - asked.source
        try:
            rgb, _ = draw(photo, face, target, strength, gap)
        except EditRefused:
            found.append(float("nan"))
            continue
        moved = frame.to_canonical(find(rgb, face)) - frame.to_canonical(find(photo.rgb, face))
        seen = np.isfinite(moved)
        found.append(float(moved[seen] @ d[seen] / (d[seen] @ d[seen])))
    return np.array(found)


def lips_error(find: Callable[[Pixels, Located], Array], rgb: Pixels, face: Located, real: Array) -> float:
    """Mean distance of the lips' points in a picture to those of a real smile (canonical [P, 2]), in eye distances;
    over the points that `find` returns."""
    seen = FaceFrame.of(face.points).to_canonical(find(rgb, face))
    lips = [*range(OUTER_LIPS.start, OUTER_LIPS.stop), *range(INNER_LIPS.start, INNER_LIPS.stop)]
    return float(np.nanmean(np.linalg.norm(seen[lips] - real[lips], axis=1)))


def psnr(first: Pixels, second: Pixels) -> float:
    """Peak signal-to-noise ratio of two pictures in decibels; infinite for equal ones."""
    error = float(((first.astype(np.float64) - second.astype(np.float64)) ** 2).mean())
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))


def mouth_error(
    editor: Editor, neutral: Photo, face: Located, smiling: Photo, smile: Located, own: bool = False
) -> tuple[float, float] | None:
    """Error of the mouth interior of an edit against the same person's real smile, and the error of one flat tone.

    The neutral photo is edited to happiness at 1 with the lip gap of the smile; the teeth come from an example, or from
    the photo of the smile itself if `own`, so that then the error is that of transfer alone. Both interiors are sampled
    at the same shares of the width and height between their inner lips, without the outermost 5 and 10 %, where the
    points are inexact. The first error is the mean absolute difference of luma, the second that of the real interior
    from its own mean; their ratio is 1 for a flat tone of the right brightness. None where the smile shows no teeth
    (lips apart by less than `mouth_interior.PARTED`, or less than 40 % of the interior nearly as light as the cheeks),
    or where the edit is refused.
    """
    frame = FaceFrame.of(smile.points)
    gap = lip_gap(frame.to_canonical(smile.points))
    truth = _between_lips(smiling.rgb, smile.points)
    cheeks = float(skin_statistics(smiling.rgb, frame, smile.points).skin @ LUMA)
    if gap < mouth_interior.PARTED or np.percentile(truth, 60) < 0.95 * cheeks:
        return None
    try:
        able = replace(editor.with_teeth_of(smiling) if own else editor, measure=False)
        drawn = able.plan(face, Target.parse("happiness"), 1.0, gap)
        shown = able.apply(neutral, [face], "happiness", 1.0, mouth=gap).image
    except EditRefused:
        return None
    if able.corrector is not None:
        drawn = able.corrector(neutral.colour, drawn, able.shading, 1.0, 0)
    found = _between_lips(shown, drawn.frame.to_picture(drawn.target))
    return float(np.abs(found - truth).mean()), float(np.abs(truth - truth.mean()).mean())


def _between_lips(rgb: Pixels, points: Array) -> Array:
    """Luma [17, 46] between the inner lips of landmarks [P, 2], by height and width."""
    t, share = np.meshgrid(np.linspace(0.05, 0.95, 46), np.linspace(0.1, 0.9, 17))
    opening = mouth_interior.opening_of(points)
    places = opening.at(t, share * opening.height_at(t)).astype(np.float32)
    return np.asarray(look_up(rgb.astype(np.float32), places) @ LUMA, np.float64)


def small(picture: Pixels, side: int) -> Pixels:
    """A grey picture [s, s] enlarged to RGB [side, side, 3], as faces of 48 pixels are shown to an editor."""
    large = cv2.resize(picture, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.repeat(large[..., None], 3, axis=2)


def background_changed(before: Pixels, after: Pixels) -> float:
    """Share of the pixels of a plain background that an edit changed visibly; nan if the background is not plain.

    The background are the pixels with the colour of the upper corners that are connected to them. At least a tenth of
    the picture must be background.
    """
    corner = max(2, before.shape[0] // 20)
    corners = np.concatenate([before[:corner, :corner], before[:corner, -corner:]]).reshape(-1, 3)
    colour = np.median(corners.astype(np.float64), axis=0)
    near = (np.abs(before - colour).max(axis=2) <= PLAIN).astype(np.uint8)
    _, parts = cv2.connectedComponents(near)
    kept = np.unique(np.concatenate([parts[:corner, :corner].ravel(), parts[:corner, -corner:].ravel()]))
    background = np.isin(parts, kept[kept > 0])
    if background.mean() < 0.1:
        return float("nan")
    moved = np.abs(before.astype(np.int16) - after).max(axis=2) >= CHANGED
    return float(moved[background].mean())


def mirrored(photo: Photo, face: Located) -> tuple[Photo, Located]:
    """The mirror image of a photo, with the same face located in it."""
    last = photo.rgb.shape[1] - 1

    def turned(points: Array) -> Array:
        return np.asarray(points[MIRROR] * [-1, 1] + [last, 0])

    box = replace(face.box, x=last + 1 - face.box.right)
    other = replace(
        face,
        box=box,
        points=turned(face.points),
        network_points=turned(face.network_points),
        yaw=-face.yaw,
    )
    return Photo(np.ascontiguousarray(photo.rgb[:, ::-1])), other


def sidedness(draw: EditFunction, photo: Photo, face: Located, target: str) -> float:
    """How much an edit of the mirrored photo differs from the mirrored edit, over the size of the edit; the lips keep
    their gap, as an example of a mouth is not symmetric. 0 prefers no side."""
    gap = lip_gap(FaceFrame.of(face.points).to_canonical(face.points))
    try:
        straight, _ = draw(photo, face, target, 1.0, gap)
        there, _ = draw(*mirrored(photo, face), target, 1.0, gap)
    except EditRefused:
        return float("nan")
    size = np.abs(straight.astype(np.int16) - photo.rgb).sum(dtype=np.float64)
    apart = np.abs(straight.astype(np.int16) - there[:, ::-1]).sum(dtype=np.float64)
    return float(apart / size) if size else float("nan")


def _aligned(rgb: Pixels, points: Array) -> Array:
    window = align.crop(rgb, align.face_matrix(points), WINDOW).astype(np.float64)
    return np.asarray(window - window.mean(axis=(0, 1)))  # the light of two photos differs


def cheeks_and_mouth(points: Array) -> NDArray[np.bool_]:
    """The part [WINDOW, WINDOW] of an aligned face with landmarks [P, 2] below the eyes, within the jaw."""
    shape = align.apply(align.face_matrix(points), points) * WINDOW
    mask = np.zeros((WINDOW, WINDOW), np.uint8)
    cv2.fillPoly(mask, [np.rint(shape[JAW]).astype(np.int32)], 1)
    low = float(np.concatenate([shape[RIGHT_EYE], shape[LEFT_EYE]])[:, 1].max())
    mask[: int(low) + WINDOW // 25] = 0
    return mask > 0


def smile_left(
    smiling: Pixels, points: Array, edit: Pixels, neutral: Pixels, real: Array
) -> tuple[float, float]:
    """Mean absolute difference of cheeks and mouth from the person's real neutral face, landmarks `real` [P, 2]: of an
    edit of their smile, at the smile's landmarks `points` [P, 2], and of the smile itself."""
    part = cheeks_and_mouth(real)
    truth = _aligned(neutral, real)[part]
    after, before = (float(np.abs(_aligned(rgb, points)[part] - truth).mean()) for rgb in (edit, smiling))
    return after, before
