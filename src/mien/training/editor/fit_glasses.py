"""Fit the reader of glasses in front of the eyes, in ten minutes on one core.

    python -m mien.training.editor.fit_glasses --muxspace DIR --diffusionfer DIR --out DIR

Logistic regression on histograms of gradients (`mien.editing.foreground`). *Seen*: `glasses_seen.json` beside this file
names which of `LOOKED_AT` press photographs (muxspace, grey, 128 px), drawn with seed 0, show a person with glasses,
as we saw them at full size; those of which we were not sure and sunglasses are left out. *Drawn*: frames of six
colours and two forms over every second face of both sets. *Generated*: the faces of DiffusionFER, of which two wear
glasses, with and without drawn hair. *Chosen*, by us: the weights of these sets and the penalty; the bias, with which
one in a hundred press photographs without glasses is taken for one with them, when its person was not in the fit.

Tests: tests/training/editor/test_fit_glasses.py.
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import cv2
import numpy as np
import typer

from mien.editing.editor import Editor
from mien.editing.foreground import features, strip
from mien.editing.geometry import FaceFrame
from mien.editing.photo import open_photo
from mien.errors import MienError
from mien.io import atomic, cards
from mien.landmarks import LEFT_EYE, RIGHT_EYE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.io.images import Rgb, Source

    Array = NDArray[np.float64]
    Face = tuple[Rgb, Array]

SEEN: Final = Path(__file__).with_name("glasses_seen.json")
LOOKED_AT: Final = 700
MISTAKES: Final = 0.01
"""Share of faces without glasses that are taken for some."""
FOLDS: Final = 5
_PENALTY: Final = 0.3
_LOOKS: Final = 4
"""Shifted and mirrored looks at each press photograph."""
_FINE: Final = 4
"""Oversampling of drawn frames and hair."""
COLOURS: Final = (
    ((20, 18, 18), 0.05), ((70, 40, 25), 0.06), ((130, 125, 120), 0.018),
    ((15, 15, 40), 0.035), ((150, 110, 60), 0.025), ((200, 195, 190), 0.02),
)  # fmt: skip
"""Colour of a frame and thickness of its rims, in eye distances."""


def with_frame(rgb: Rgb, points: Array, number: int) -> tuple[Rgb, NDArray[np.float32]]:
    """A face [H, W, 3] with landmarks [P, 2] that wears glasses, drawn with the seed `number`, and the frame's share
    [H, W] of each pixel."""
    draws = np.random.default_rng(number)
    frame = FaceFrame.of(points)
    shape = frame.to_canonical(points)
    colour, thick = COLOURS[number % len(COLOURS)]
    wide, high, low = draws.uniform(0.33, 0.42), draws.uniform(0.2, 0.3), draws.uniform(0.02, 0.1)
    power = 2 / (2, 3.5)[number // len(COLOURS) % 2]
    turn = np.linspace(0, 2 * np.pi, 80)
    ring = np.stack([wide * _power(np.cos(turn), power), high * _power(np.sin(turn), power)], axis=1)
    lines: list[Array] = []
    inner, height = [], 0.0
    for eye, side in ((RIGHT_EYE, -1), (LEFT_EYE, 1)):
        middle = shape[eye].mean(axis=0) + np.array([0.02 * side, low])
        lines += [
            middle + ring,
            middle + np.array([[side * wide, -0.06], [side * (1.15 - abs(middle[0])), -0.1]]),
        ]
        inner.append(middle[0] - side * wide)
        height += (middle[1] - 0.05) / 2
    along = np.linspace(0, 1, 20)
    bridge = np.stack(
        [inner[0] + along * (inner[1] - inner[0]), height - 0.04 * np.sin(np.pi * along)], axis=1
    )
    return _drawn(rgb, frame, [(line, thick) for line in (*lines, bridge)], colour)


def with_hair(rgb: Rgb, points: Array, number: int) -> tuple[Rgb, NDArray[np.float32]]:
    """A face with strands of hair over one eye, as `with_frame`."""
    draws = np.random.default_rng(number)
    colour = ((25, 20, 18), (60, 38, 25), (105, 75, 45), (165, 130, 85), (190, 185, 180))[number % 5]
    side, strands = (1 if number % 2 else -1), (3, 8, 20)[number // 2 % 3]
    t: Array = np.linspace(0, 1, 25)[:, None]
    lines: list[tuple[Array, float]] = []
    for _ in range(strands):
        start = np.array([side * draws.uniform(0.15, 0.55), -1.15])
        end = np.array([side * draws.uniform(0.35, 0.75), draws.uniform(-0.05, 0.35)])
        bend = np.array([start[0] + side * draws.uniform(-0.1, 0.1), -0.5])
        path = (1 - t) ** 2 * start + 2 * t * (1 - t) * bend + t**2 * end
        lines.append((path, draws.uniform(0.012, 0.03 if strands == 20 else 0.05)))
    return _drawn(rgb, FaceFrame.of(points), lines, colour)


def _power(values: Array, power: float) -> Array:
    return np.asarray(np.sign(values) * np.abs(values) ** power)


def _drawn(
    rgb: Rgb, frame: FaceFrame, lines: list[tuple[Array, float]], colour: tuple[int, int, int]
) -> tuple[Rgb, NDArray[np.float32]]:
    """Lines [N, 2] of the canonical frame, with their widths in eye distances, over a face, and their share."""
    height, width = rgb.shape[:2]
    fine = np.zeros((height * _FINE, width * _FINE), np.uint8)
    for line, thick in lines:
        places = np.rint(((frame.to_picture(line) + 0.5) * _FINE - 0.5) * 16).astype(np.int32)
        cv2.polylines(fine, [places], False, 255, max(1, round(thick * frame.unit * _FINE)), cv2.LINE_AA, 4)
    small = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    share = cv2.GaussianBlur(small, (0, 0), 0.6)
    return (rgb + share[..., None] * (np.array(colour) - rgb)).astype(np.uint8), np.asarray(share, np.float32)


def looks(rgb: Rgb, points: Array, count: int, draws: np.random.Generator) -> NDArray[np.float32]:
    """The features [count, F] of a face: as it is, then mirrored and moved by turns."""
    unit, rows = FaceFrame.of(points).unit, []
    for number in range(count):
        moved = points
        if number:
            middle = points.mean(axis=0)
            moved = (
                middle + draws.uniform(0.95, 1.05) * (points - middle) + 0.03 * unit * draws.normal(size=2)
            )
        picture = strip(rgb, moved)
        rows.append(features(np.ascontiguousarray(picture[:, ::-1]) if number % 2 else picture))
    return np.stack(rows)


def press(folder: Path) -> Iterator[tuple[str, BytesIO]]:
    """The press photographs that were looked at, by name."""
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    random.Random(0).shuffle(rows)
    chosen = {row["image"] for row in rows[:LOOKED_AT]}
    with tarfile.open(folder / "images128_gray.tar") as archive:
        for member in archive:
            name = Path(member.name).name
            if name in chosen and (file_ := archive.extractfile(member)) is not None:
                yield name, BytesIO(file_.read())


def located(editor: Editor, pictures: Iterator[tuple[str, Source]]) -> dict[str, Face]:
    """The largest face of each picture that has one: its pixels and landmarks."""
    found: dict[str, Face] = {}
    for name, source in pictures:
        try:
            photo = open_photo(source)
            found[name] = photo.rgb, editor.locate(photo)[0].points
        except MienError:
            continue
    return found


def fitted(features_: Array, glasses: Array, weights: Array) -> tuple[Array, float]:
    """Weights [F] and bias of a logistic regression of `glasses` [n] on features [n, F]."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=_PENALTY, max_iter=3000).fit(features_, glasses, sample_weight=weights)
    return np.asarray(model.coef_[0]), float(model.intercept_[0])


def fit(people: dict[str, Face], generated: dict[str, Face], seen: dict[str, list[str]]) -> dict[str, Any]:
    """The reader and its figures, from press photographs and generated faces by name."""
    from sklearn.model_selection import StratifiedGroupKFold

    draws = np.random.default_rng(0)
    names = [name for name in people if name not in seen["unsure"]]
    worn = np.array([name in seen["glasses"] for name in names])
    own = np.stack([looks(*people[name], _LOOKS, draws) for name in names])
    bare = [face for name, face in generated.items() if name not in seen["generated"]]
    fixed = [
        (np.concatenate([looks(*face, 2, draws) for face in bare]), 0.0, 0.25),
        (
            np.stack([features(strip(with_frame(*face, n)[0], face[1])) for n, face in enumerate(bare[::2])]),
            1.0,
            0.35,
        ),
        (
            np.stack([features(strip(with_hair(*face, n)[0], face[1])) for n, face in enumerate(bare[::6])]),
            0.0,
            0.3,
        ),
    ]
    framed = {
        n: features(strip(with_frame(*people[name], n)[0], people[name][1]))
        for n, name in enumerate(names)
        if n % 2 == 0 and not worn[n]
    }

    def train(rows: NDArray[np.intp]) -> tuple[Array, float]:
        drawn = [framed[n] for n in rows.tolist() if n in framed]
        sets: list[tuple[Any, Any, Any]] = [
            (
                own[rows].reshape(-1, own.shape[-1]),
                np.repeat(worn[rows], _LOOKS),
                np.repeat(0.5 + worn[rows], _LOOKS),
            ),
            *fixed,
            *([(np.stack(drawn), 1.0, 0.35)] if drawn else []),
        ]
        counts = [len(part[0]) for part in sets]
        labels, weights = (
            np.concatenate(
                [np.broadcast_to(part[k], count) for part, count in zip(sets, counts, strict=True)]
            )
            for k in (1, 2)
        )
        return fitted(np.concatenate([part[0] for part in sets]), labels.astype(float), weights.astype(float))

    scores = np.zeros(len(names))
    who = [name.rsplit("_", 1)[0] for name in names]
    for rows, others in StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(own, worn, who):
        weights, bias = train(rows)
        scores[others] = own[others, 0] @ weights + bias
    limit = float(np.quantile(scores[~worn], 1 - MISTAKES))
    weights, bias = train(np.arange(len(names)))
    return {
        "weights": weights.astype(np.float32),
        "bias": np.float32(bias - limit),
        "metrics": {
            "set": "muxspace, people who were not in the fit",
            "with glasses": int(worn.sum()),
            "found": round(float((scores[worn] > limit).mean()), 3),
            "without glasses": int((~worn).sum()),
            "mistaken": round(float((scores[~worn] > limit).mean()), 3),
        },
    }


def main(
    muxspace: Annotated[Path, typer.Option(help="its folder")],
    diffusionfer: Annotated[Path, typer.Option(help="its folder")],
    out: Annotated[Path, typer.Option(help="folder for glasses.npz, in the package weights/editor")],
) -> None:
    """Write glasses.npz and bring its card up to date."""
    cv2.setNumThreads(1)
    editor = Editor.load(threads=1, measure=False)
    people = located(editor, iter(press(muxspace)))
    files = sorted((diffusionfer / "images").glob("*/*.jpg"))
    generated = located(editor, ((f"{file.parent.name}/{file.name}", file) for file in files))
    found = fit(people, generated, json.loads(SEEN.read_text(encoding="utf-8")))
    buffer = BytesIO()
    np.savez_compressed(buffer, weights=found["weights"], bias=found["bias"])
    path = out / "glasses.npz"
    card = cards.read(path.with_suffix(".json")).fields
    atomic.write({path: buffer.getvalue()})
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    cards.write(path, card | {"sha256": digest, "metrics": found["metrics"]})
    typer.echo(json.dumps(found["metrics"], indent=1))


if __name__ == "__main__":
    typer.run(main)
