"""The benchmark of `mien evaluate-edits`: several editors, judged by networks that are not used in editing.

Sets of pictures that no part of the editor was fitted on:

- *FERPlus*, validation and test split by the majority rule: its neutral faces are edited, its emotional faces measure
  the judge on real expressions. Many pictures, small and grey: accuracy, Frechet distance, monotony.
- *London pairs* (Face Research Lab London Set): the same people neutral and smiling, in colour. Few, large: identity,
  motion, refusals, mouths, the comparison with a real smile, and with the real neutral face of a smile taken away.
- any folder of *photos*: how many of their frontal faces are refused.

Every stage is stored in the results' folder as soon as it is measured, and is not measured again unless the editor's
weights, its code or the counts change: an interrupted evaluation continues where it stopped.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from mien import editing
from mien.data.duplicates import hash_of
from mien.editing import eyes
from mien.editing.editor import Editor
from mien.editing.geometry import ACTIVE, FaceFrame, lip_gap
from mien.editing.photo import Photo
from mien.editing.provenance import weights_digest
from mien.editing.results import EditRefused, Located
from mien.editing.warp import FOLD_LIMIT
from mien.errors import DatasetNotFound, NoFace
from mien.evaluation.editor import metrics
from mien.evaluation.editor.editors import variants
from mien.evaluation.editor.irises import iris_ratios
from mien.evaluation.editor.judges import (
    JUDGED,
    SECOND_SIDE,
    FaceApi,
    Identity,
    MiniXception,
    Points,
    grey_crop,
)
from mien.evaluation.editor.metrics import ASKED, GROUPED, POOLED, EditFunction, LocatedFaces
from mien.evaluation.editor.table import StageCache, Table
from mien.evaluation.intervals import Interval, wilson
from mien.faces import align
from mien.io import atomic, images
from mien.types import LineProgress

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mien.evaluation.editor.table import Figures

    Array = NDArray[np.float64]
    Pixels = NDArray[np.uint8]
    Find = Callable[[Pixels, Located], Array]

ENLARGED: Final = 96
"""Side to which FERPlus pictures of 48 pixels are enlarged before they are edited."""
REAL: Final = 300
"""Largest number of real pictures per expression shown to the judge, unless more are needed for a distance."""
MONOTONE: Final = 100
"""Number of faces for each correlation of strength and reading."""
MOVING: Final = 25
"""Number of faces for each landmark response."""
IDENTIFIED: Final = ("happiness", "surprise", "anger")
SIDED: Final = ("sadness", "anger", "surprise")
"""Expressions of which edits of mirrored photos are compared."""
FRONTAL: Final = 25.0
"""Largest yaw, in degrees, of a face in `photos` that counts."""
LARGE: Final = 80
"""Least side of its box, in pixels."""


def ferplus(
    root: Path, editor: Editor, count: int, progress: LineProgress
) -> tuple[LocatedFaces, dict[str, Pixels]]:
    """Located neutral faces and, by expression, real pictures as the judge sees them, of validation and test together;
    "train/..." has `count` pictures of each pooled expression from the training split, for the floor."""
    from mien.data.protocols import load
    from mien.data.readers import READERS

    records = load("ferplus-majority").apply(READERS["ferplus"](root))
    random = np.random.default_rng(0)
    order = [records[n] for n in random.permutation(len(records))]
    neutral, real, train = LocatedFaces(), {name: [] for name in ASKED}, {name: [] for name in POOLED}  # type: ignore[var-annotated]
    from mien.labels import EXPRESSIONS

    for record in order:
        name = EXPRESSIONS[record.expression]
        if record.split == "train":
            if name in train and len(train[name]) < count:
                train[name].append(_enlarged(record.path))
            continue
        if name == "neutral" and len(neutral) < len(POOLED) * count:
            photo = Photo(_enlarged(record.path))
            try:
                face = editor.locate(photo)[0]
            except NoFace:
                continue
            neutral.photos.append(photo)
            neutral.faces.append(face)
            neutral.labels.append(name)
        elif name in real and len(real[name]) < max(count, REAL):
            real[name].append(_enlarged(record.path))
    progress(f"FERPlus: {len(neutral)} neutral faces located")
    crops = {name: np.stack([grey_crop(p) for p in pictures]) for name, pictures in real.items()}
    crops |= {f"train/{name}": np.stack([grey_crop(p) for p in train[name]]) for name in POOLED}
    return neutral, crops


def _enlarged(path: Path) -> Pixels:
    return metrics.small(images.read(path)[..., 0], ENLARGED)


def real_faces(
    judge: MiniXception, neutral: LocatedFaces, crops: dict[str, Pixels], count: int
) -> tuple[Figures, Array, Array]:
    """References from real pictures; and the features of real faces and of unedited sources, in the order of edits."""
    found: Figures = {}
    features, means = {}, []
    for name in ASKED:
        shares, features[name] = judge(crops[name])
        found[f"accuracy/{name}"] = metrics.accuracy(shares, [name] * len(shares), name)
        if name != "disgust":
            means.append(found[f"accuracy/{name}"].value)
    found["accuracy/mean"] = Interval(float(np.mean(means)))
    real = np.concatenate([features[name][:count] for name in POOLED])
    unedited = judge(np.stack([neutral.crop(n, whole=True) for n in range(len(neutral))]))[1]
    found["fed/floor"] = metrics.fed(
        real, judge(np.concatenate([crops[f"train/{name}"][:count] for name in POOLED]))[1]
    )
    found["fed/ceiling"] = metrics.fed(real, unedited)
    return found, real, unedited


def on_ferplus(
    draw: EditFunction, judge: MiniXception, neutral: LocatedFaces, real: Array, unedited: Array, count: int
) -> Figures:
    """Accuracy, Frechet distance and folding of edits at strength 1; every pooled expression on its own sources."""
    jobs = [(n, POOLED[n // count], 1.0) for n in range(len(POOLED) * count)]
    rare = [(n, name, 1.0) for name in ("disgust", "fear") for n in range(min(count, 100))]
    edits = metrics.edit_all(draw, judge, neutral, jobs + rare, whole=True)
    found = {f"accuracy/{name}": metrics.accuracy(edits.shares, edits.targets, name) for name in ASKED}
    found["accuracy/mean"] = Interval(
        float(np.mean([found[f"accuracy/{n}"].value for n in ASKED if n != "disgust"]))
    )
    pooled = edits.features[: len(jobs)]
    found["fed"] = metrics.fed(real, pooled)
    found["fed/share"] = metrics.fed_share(real, pooled, unedited)
    found["fold"] = wilson(int((edits.folding >= FOLD_LIMIT).sum()), len(edits.folding))
    return found


def monotony(draw: EditFunction, judge: MiniXception, neutral: LocatedFaces) -> Figures:
    """Spearman's correlation of strength and reading, by expression."""
    sources = list(range(min(MONOTONE, len(neutral))))
    return {
        f"spearman/{name}": metrics.monotony(draw, judge, neutral, sources, name, whole=True)
        for name in POOLED
    }


@dataclass(frozen=True)
class Pairs:
    """People of the London set: neutral and smiling, in the same order, and their self-reported ethnicity ("" if
    unknown)."""

    neutral: LocatedFaces
    smiling: LocatedFaces
    groups: list[str]


def london(root: Path, editor: Editor, every: int) -> Pairs:
    """Every `every`-th pair of the set, located.

    Raises:
        DatasetNotFound: the folder has no `neutral` and `smiling`.
    """
    if not (root / "neutral").is_dir() or not (root / "smiling").is_dir():
        raise DatasetNotFound(
            f"{root} does not hold the London set: pass the folder with neutral/ and smiling/"
        )
    pairs = Pairs(LocatedFaces(), LocatedFaces(), [])
    ethnicities = _ethnicities(root)
    for path in sorted((root / "neutral").glob("*_03.jpg"))[::every]:
        other = root / "smiling" / path.name.replace("_03", "_08")
        for side, faces in ((path, pairs.neutral), (other, pairs.smiling)):
            photo = Photo(images.read(side), source=str(side))
            faces.photos.append(photo)
            faces.faces.append(editor.locate(photo)[0])
            faces.labels.append(path.stem[:3])
        pairs.groups.append(ethnicities.get(path.stem[:3], ""))
    return pairs


def _ethnicities(root: Path) -> dict[str, str]:
    """The self-reported ethnicity of people of the London set, by number; empty without the set's table. The name of
    the table and the form of its numbers ("X001") differ between copies."""
    for name in ("london_info.csv", "london_faces_info.csv"):
        if (root / name).is_file():
            with (root / name).open(newline="", encoding="utf-8-sig") as table:
                rows = list(csv.DictReader(table))
            return {row["face_id"].strip().lstrip("Xx").zfill(3): row["face_eth"].strip() for row in rows}
    return {}


def real_people(judge: MiniXception, identity: Identity, pairs: Pairs) -> tuple[Figures, Array]:
    """References of the pairs: the judge on real smiles, dlib's distance within and between people."""
    smiles = judge(np.stack([pairs.smiling.crop(n) for n in range(len(pairs.smiling))]))[0]
    own, smiling = (
        np.stack(
            [identity(photo.rgb, face.points) for photo, face in zip(side.photos, side.faces, strict=True)]
        )
        for side in (pairs.neutral, pairs.smiling)
    )
    everyone = list(range(len(own)))
    genuine = np.linalg.norm(own - smiling, axis=1)
    impostor = np.linalg.norm(own - np.roll(smiling, 1, axis=0), axis=1)
    happy = metrics.accuracy(smiles, ["happiness"] * len(smiles), "happiness")
    return {
        "london/accuracy/happiness": happy,
        "london/pair/happy": happy,
        "london/identity": metrics.mean_by_source(genuine, everyone),
        "london/identity/others": metrics.mean_by_source(impostor, everyone),
    }, own


def on_people(
    draw: EditFunction,
    judge: MiniXception,
    identity: Identity,
    pairs: Pairs,
    own: Array,
    second: FaceApi | None = None,
) -> Figures:
    """Six expressions at strength 1 on the neutral photos: accuracy, refusals, identity, and changes of the
    background."""
    people = len(pairs.neutral)
    jobs = [(n, name, 1.0) for name in ASKED for n in range(people)]
    apart: list[float] = []
    behind: list[float] = []
    crops: list[Pixels] = []

    def embed(job: int, rgb: Pixels) -> None:
        source, target, _ = jobs[job]
        points = pairs.neutral.faces[source].points
        if target in IDENTIFIED:
            apart.append(float(np.linalg.norm(identity(rgb, points) - own[source])))
        behind.append(metrics.background_changed(pairs.neutral.photos[source].rgb, rgb))
        crops.append(align.crop(rgb, align.face_matrix(points), SECOND_SIDE, grey=True))

    edits = metrics.edit_all(draw, judge, pairs.neutral, jobs, whole=False, keep=embed)
    found = {f"london/accuracy/{n}": metrics.accuracy(edits.shares, edits.targets, n) for n in ASKED}
    found["london/refused"] = wilson(int(edits.refused.sum()), len(jobs))
    sources = [source for source, target, _ in jobs if target in IDENTIFIED]
    found["london/identity"] = metrics.mean_by_source(np.array(apart), sources)
    found["london/same"] = wilson(int((np.array(apart) < metrics.SAME).sum()), len(apart))
    found["london/background"] = metrics.mean_by_source(np.array(behind), edits.sources)
    wanted = [JUDGED.index(target) for target in edits.targets]
    hits = edits.shares.argmax(axis=1) == wanted
    found["london/accuracy/mean"] = metrics.mean_by_source(hits.astype(np.float64), edits.sources)
    if second is not None:
        shares = second(np.stack(crops))
        found |= {f"london/second/{n}": metrics.accuracy(shares, edits.targets, n) for n in ASKED}
        found["london/second/mean"] = metrics.mean_by_source(
            (shares.argmax(axis=1) == wanted).astype(np.float64), edits.sources
        )
    groups = np.array(pairs.groups)
    for group in GROUPED:
        if group in pairs.groups:
            for key, values, of in (("accuracy", hits, edits.sources), ("identity", apart, sources)):
                own = np.where(groups[of] == group, values, np.nan)
                found[f"london/group/{group}/{key}"] = metrics.mean_by_source(own, of)
    return found


def on_pairs(draw: EditFunction, editor: Editor, judge: MiniXception, find: Find, pairs: Pairs) -> Figures:
    """Edits of a neutral photo to happiness with the lips of the person's real smile, and to neutral."""
    crops, before, after, same = [], [], [], []
    for n, (photo, face) in enumerate(zip(pairs.neutral.photos, pairs.neutral.faces, strict=True)):
        smile = pairs.smiling.faces[n]
        gap = lip_gap(FaceFrame.of(smile.points).to_canonical(smile.points))
        real = FaceFrame.of(smile.points).to_canonical(find(pairs.smiling.photos[n].rgb, smile))
        # As strong as the real smile, by the editor's own reader, without a recogniser.
        shape = FaceFrame.of(smile.network_points).to_canonical(smile.network_points)
        strength = float(editor.geometry.strengths(shape, np.ones(len(ACTIVE)))[ACTIVE.index("happiness")])
        try:
            rgb, _ = draw(photo, face, "happiness", max(strength, 0.05), gap)
        except EditRefused:
            rgb = photo.rgb
        crops.append(pairs.neutral.crop(n, rgb))
        before.append(metrics.lips_error(find, photo.rgb, face, real))
        after.append(metrics.lips_error(find, rgb, face, real))
        unchanged, _ = draw(photo, face, "neutral", 1.0, None)
        same.append(min(metrics.psnr(photo.rgb, unchanged), 99.0))
    everyone = list(range(len(after)))
    shares = judge(np.stack(crops))[0]
    return {
        "london/pair/happy": metrics.accuracy(shares, ["happiness"] * len(shares), "happiness"),
        "london/pair/lips": metrics.ratio_by_source(np.array(after), np.array(before)),
        "london/self": metrics.mean_by_source(np.array(same), everyone),
        **mouths(editor, pairs),
    }


def on_mirrored(draw: EditFunction, pairs: Pairs) -> Figures:
    """How much edits prefer a side of the face, over `SIDED`."""
    sources = list(range(min(MOVING, len(pairs.neutral))))
    each = [
        metrics.sidedness(draw, pairs.neutral.photos[n], pairs.neutral.faces[n], name)
        for n in sources
        for name in SIDED
    ]
    return {"london/side": metrics.mean_by_source(np.array(each), np.repeat(sources, len(SIDED)).tolist())}


def on_smiles(draw: EditFunction, judge: MiniXception, pairs: Pairs) -> Figures:
    """Edits of the smiling photos to neutral, against the person's real neutral face, and to anger."""
    crops: dict[str, list[Pixels]] = {"neutral": [], "anger": []}
    after, before = [], []
    for n, (photo, face) in enumerate(zip(pairs.smiling.photos, pairs.smiling.faces, strict=True)):
        for name, shown in crops.items():
            try:
                rgb, _ = draw(photo, face, name, 1.0, None)
            except EditRefused:
                rgb = photo.rgb
            shown.append(pairs.smiling.crop(n, rgb))
            if name == "neutral":
                real = pairs.neutral.faces[n].points
                left = metrics.smile_left(photo.rgb, face.points, rgb, pairs.neutral.photos[n].rgb, real)
                after.append(left[0])
                before.append(left[1])
    found = {
        f"london/smile/{name}": metrics.accuracy(judge(np.stack(shown))[0], [name] * len(shown), name)
        for name, shown in crops.items()
    }
    return found | {"london/smile/left": metrics.ratio_by_source(np.array(after), np.array(before))}


def refused_photos(editor: Editor, folder: Path) -> Figures:
    """Share of the frontal, large faces in a folder of photos that are refused for happiness at 1.

    Raises:
        DatasetNotFound: there is no such face.
    """
    refused, total = 0, 0
    for path in sorted(path for path in folder.iterdir() if path.suffix.lower() in images.SUFFIXES):
        photo = Photo(images.read(path), source=str(path))
        try:
            faces = editor.locate(photo)
        except NoFace:
            continue
        for number, face in enumerate(faces):
            if abs(face.yaw) > FRONTAL or min(face.box.width, face.box.height) < LARGE:
                continue
            total += 1
            try:
                editor.apply(photo, faces, "happiness", 1.0, face=number)
            except EditRefused:
                refused += 1
    if not total:
        raise DatasetNotFound(f"{folder}: no frontal face of {LARGE} pixels or more in its photos")
    return {"photos/refused": wilson(refused, total)}


def mouths(editor: Editor, pairs: Pairs) -> Figures:
    """Error of the mouth interior of smiles over that of one flat tone, with an example's teeth and with the person's
    own (`metrics.mouth_error`)."""
    found = {}
    sides = (pairs.neutral.photos, pairs.neutral.faces, pairs.smiling.photos, pairs.smiling.faces)
    for name, own in (("london/mouth", False), ("london/mouth/own", True)):
        errors = [metrics.mouth_error(editor, *pair, own) for pair in zip(*sides, strict=True)]
        known = [error for error in errors if error is not None]
        if known:
            found[name] = metrics.ratio_by_source(*np.array(known).T)
    return found


def motion(draw: EditFunction, editor: Editor, find: Find, pairs: Pairs) -> Figures:
    """Landmark response at full resolution, by expression."""
    sources = list(range(min(MOVING, len(pairs.neutral))))
    return {
        f"london/response/{name}": metrics.mean_by_source(
            metrics.response(draw, editor, find, pairs.neutral, sources, name), sources
        )
        for name in POOLED
    }


def round_irises(draw: EditFunction, editor: Editor, pairs: Pairs) -> Figures:
    """Height over width of the irises in edits at 1, relative to the photo, by expression: the median, and the 5th and
    95th percentiles as bounds."""
    found: Figures = {}
    for name in ASKED:
        ratios: list[float] = []
        for photo, face in zip(pairs.neutral.photos, pairs.neutral.faces, strict=True):
            try:
                rgb, _ = draw(photo, face, name, 1.0, None)
            except EditRefused:
                continue
            points, _ = editor.looked_at(rgb, face.points.astype(np.float32))
            ratios += iris_ratios(photo.rgb, rgb, face.points, eyes.settled(rgb, points))
        low, middle, high = (
            np.nanpercentile(ratios, (5, 50, 95)) if np.isfinite(ratios).any() else [np.nan] * 3
        )
        found[f"london/iris/{name}"] = Interval(float(middle), float(low), float(high))
    return found


def seconds(editor: Editor, photo: Path) -> Figures:
    """Wall time of one edit of a photo enlarged to 12 megapixels, located and drawn; the middle of three."""
    rgb = images.read(photo)
    scale = (12e6 / (rgb.shape[0] * rgb.shape[1])) ** 0.5
    large = Photo(
        np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.uint8)
    )
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        editor(large, "happiness", 1.0)
        taken.append(time.perf_counter() - start)
    return {"seconds": Interval(float(np.median(taken)), min(taken), max(taken))}


def judge_finder(path: Path) -> Find:
    """Landmarks by the judge of motion, for a face that is already located."""
    points = Points(path)

    def find(rgb: Pixels, face: Located) -> Array:
        return points(rgb, face.points)

    return find


def own_finder(editor: Editor) -> Find:
    """Landmarks by the editor's own network: not independent, which the facts state."""

    def find(rgb: Pixels, face: Located) -> Array:
        return editor.points_in(rgb, face.box)

    return find


def _content(*sets: Iterable[Pixels]) -> str:
    """A hash of the pixels that figures are measured on, since a stage with other pictures is another stage."""
    found = hashlib.blake2b(digest_size=16)
    for picture in itertools.chain(*sets):
        found.update(hash_of(picture).encode())
    return found.hexdigest()


def _code() -> list[Path]:
    """The files of the code that edits and measures."""
    folders = (Path(__file__).parent, Path(editing.__file__).parent)
    return [path for folder in folders for path in sorted(folder.glob("*.py"))]


def _drawing() -> str:
    """A short hash of that code: a change of it invalidates stored stages."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in _code())).hexdigest()[:12]


FILES: Final = ("table.md", "table.json")
"""The files of a table."""


def run(
    judge_file: Path,
    identity_file: Path,
    ferplus_root: Path | None,
    london_root: Path | None,
    out: Path,
    *,
    names: list[str],
    points_file: Path | None = None,
    second_file: Path | None = None,
    photos: Path | None = None,
    large: Path | None = None,
    count: int = 550,
    every: int = 1,
    threads: int | None = None,
    progress: LineProgress = lambda line: None,
) -> Table:
    """Measure, and write `table.md`, `table.json` and the stages' store into `out`.

    Args:
        judge_file, identity_file, points_file: the judges, see `mien.evaluation.editor.judges`; without `points_file`
        the editor's own network finds the landmarks.
        second_file: the second judge of expressions; None leaves out its figures.
        ferplus_root, london_root, photos, large: FERPlus in its official layout, the London set, a folder of photos to
            count refusals on, and one photo to time on; the figures of a set that is not given are left out.
        names: the editors, see `mien.evaluation.editor.editors.variants`.
        count: sources of each pooled expression; the Frechet distance is taken on four times as many.
        every: take each `every`-th London pair.
        threads: for the editor's networks.
    """
    import torch

    from mien.training.checkpoint import commit, digest

    torch.set_num_threads(threads or torch.get_num_threads())
    judge, identity = MiniXception(judge_file), Identity(identity_file)
    second = None if second_file is None else FaceApi(second_file)
    store = StageCache(out / "stages.json")
    references: Figures = {}
    facts: dict[str, Any] = {
        "definitions": metrics.VERSION,
        "commit": commit(),
        "editor": weights_digest()[:12],
        "judge": digest(judge_file)[:12],
        "drawing": _drawing(),
        "landmarks": "dlib's" if points_file is not None else "the editor's own network",
        "count": count,
    }
    depends = {key: value for key, value in facts.items() if key != "commit"} | {
        "every": every,
        "identity": digest(identity_file)[:12],
        "points": digest(points_file)[:12] if points_file is not None else "",
        "second": digest(second_file)[:12] if second_file is not None else "",
    }
    figures: dict[str, Figures] = {}
    if ferplus_root is not None:
        small = Editor.load(detector="whole", threads=threads)
        neutral, crops = ferplus(ferplus_root, small, count, progress)
        count = min(count, len(neutral) // len(POOLED), *(len(crops[name]) for name in POOLED))
        progress(f"{count} sources of each of {', '.join(POOLED)}")
        facts["FED"] = f"N = {count * len(POOLED)} per side"
        kept = slice(count * len(POOLED))
        neutral = LocatedFaces(neutral.photos[kept], neutral.faces[kept], neutral.labels[kept])
        found, real, unedited = real_faces(judge, neutral, crops, count)
        references |= found
        depends["FERPlus"] = _content([photo.rgb for photo in neutral.photos], *crops.values())
        for name, way in variants(small, names).items():
            progress(f"FERPlus, {name}")
            draw = way.draw(True)
            figures.setdefault(name, {})
            figures[name] |= store.get(
                f"ferplus/{name}",
                depends | way.depends,
                partial(on_ferplus, draw, judge, neutral, real, unedited, count),
            )
            figures[name] |= store.get(
                f"monotony/{name}", depends | way.depends, partial(monotony, draw, judge, neutral)
            )
    if london_root is not None:
        large_editor = Editor.load(threads=threads)
        pairs = london(london_root, large_editor, every)
        named = sum(group in GROUPED for group in pairs.groups)
        progress(f"London: {len(pairs.neutral)} people, {named} of a named ethnicity")
        facts["London"] = f"{len(pairs.neutral)} people"
        found, own = real_people(judge, identity, pairs)
        references |= found
        sides = [[photo.rgb for photo in side.photos] for side in (pairs.neutral, pairs.smiling)]
        depends["London"] = [*(_content(side) for side in sides), pairs.groups]
        find = judge_finder(points_file) if points_file is not None else own_finder(large_editor)
        for name, way in variants(large_editor, names).items():
            progress(f"London, {name}")
            draw = way.draw(False)
            figures.setdefault(name, {})
            for stage, measure in {
                "people": partial(on_people, draw, judge, identity, pairs, own, second),
                "pairs": partial(on_pairs, draw, way.editor, judge, find, pairs),
                "motion": partial(motion, draw, way.editor, find, pairs),
                "irises": partial(round_irises, draw, way.editor, pairs),
                "mirrored": partial(on_mirrored, draw, pairs),
                "smiles": partial(on_smiles, draw, judge, pairs),
            }.items():
                figures[name] |= store.get(f"{stage}/{name}", depends | way.depends, measure)
    if photos is not None:
        for name, way in variants(Editor.load(threads=threads), names).items():
            figures[name] = figures.get(name, {}) | refused_photos(way.editor, photos)
    if large is not None:
        for name, way in variants(Editor.load(measure=False, threads=threads), names).items():
            figures[name] = figures.get(name, {}) | seconds(way.editor, large)
    table = Table(figures, references, facts)
    out.mkdir(parents=True, exist_ok=True)
    texts = (table.markdown(), table.json())
    atomic.write({out / name: text.encode() for name, text in zip(FILES, texts, strict=True)})
    return table
