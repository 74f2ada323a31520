"""Fits `src/mien/weights/visibility.onnx`, the small network that tells whether a face can be seen at all.

    python scripts/fit_visibility.py --ferplus DIR --muxspace DIR --diffusionfer DIR [--out src/mien/weights]

DIR are the folders of `docs/datasets.md` (FERPlus: the folder form; muxspace: `labels.csv` beside the pictures). It
takes about fifteen minutes on two cores and needs the `train` extra. Faces are taken as they are (target 1) and spoilt
in one of the ways of `SPOIL`. The target of a spoilt face is, our choice:

- for what hides: 1 less five quarters of how far the share of its inner points (brows, eyes, nose, lips) that cannot be
  seen goes beyond 5 %, to 0 at a quarter;
- for what fades (blur, noise, darkness, JPEG): 1 less the total variation distance between the recogniser's readings
  of the spoilt and the unspoilt crop;
- for what is no photograph of an upright face (negatives, edges, pieces, wrong turns): 0.

People are held out: a tenth of muxspace's identities, FERPlus' Valid folder, a tenth of DiffusionFER's prompts.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import itertools
import json
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from mien.faces import align
from mien.faces.landmarker import Landmarker, square_of
from mien.faces.pipeline import load
from mien.faces.visibility import SIZE
from mien.io import images
from mien.io.onnx import session
from mien.labels import EXPRESSIONS
from mien.landmarks import JAW
from mien.release.export import without_traces

Array = np.ndarray[Any, Any]
INNER = slice(JAW.stop, None)
STORED = 80


class Spoiler:
    """Ways to spoil a photograph [h, w, 3] of a face with known points; each returns (picture, target, shift)."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    # What hides.
    def block(self, rgb: Array, points: Array) -> tuple[Array, Array]:
        """A rectangle or ellipse of some filling anywhere on the face; the mask of what it hides."""
        rng, (low, high) = self.rng, (points.min(axis=0), points.max(axis=0))
        extent = high - low
        centre, half = low + extent * rng.uniform(-0.1, 1.1, 2), extent * rng.uniform(0.12, 0.6, 2)
        mask = np.zeros(rgb.shape[:2], np.uint8)
        if rng.random() < 0.5:
            box = cv2.boxPoints(
                (tuple(centre.tolist()), tuple((2 * half).tolist()), float(rng.uniform(-30, 30)))
            )
            cv2.fillConvexPoly(mask, np.rint(box).astype(np.int32), 255)
        else:
            cv2.ellipse(
                mask,
                (tuple(centre.tolist()), tuple((2 * half).tolist()), float(rng.uniform(0, 180))),
                255,
                -1,
            )
        return self._filled(rgb, mask, points)

    def mouth_and_nose(self, rgb: Array, points: Array) -> tuple[Array, Array]:
        """A mask as it is worn, or a plain rectangle over the lower half."""
        rng = self.rng
        mask = np.zeros(rgb.shape[:2], np.uint8)
        if rng.random() < 0.5:
            top = points[59 + 2 + rng.integers(0, 3)] if rng.random() < 0.7 else points[JAW].mean(axis=0)
            shape = np.vstack([points[JAW][2:19], top])
            shape = shape.mean(axis=0) + (shape - shape.mean(axis=0)) * rng.uniform(0.9, 1.15)
            cv2.fillConvexPoly(mask, cv2.convexHull(np.rint(shape).astype(np.int32)), 255)
        else:
            lower = np.vstack([points[65:72], points[72:]])  # nose base and lips
            low, high = lower.min(axis=0), lower.max(axis=0)
            grow = (high - low) * rng.uniform(0.0, 0.6, 2)
            low, high = np.rint(low - grow).astype(int), np.rint(high + grow).astype(int)
            mask[max(0, low[1]) : max(0, high[1]), max(0, low[0]) : max(0, high[0])] = 255
        return self._filled(rgb, mask, points)

    def eyes(self, rgb: Array, points: Array) -> tuple[Array, Array]:
        """A bar, or two dark glasses."""
        rng, mask = self.rng, np.zeros(rgb.shape[:2], np.uint8)
        right, left = points[41:49], points[49:57]
        width = float(np.linalg.norm(left.mean(axis=0) - right.mean(axis=0)))
        if rng.random() < 0.6:
            for eye in (right, left):
                centre = eye.mean(axis=0) + np.array([0, 0.05 * width])
                axes = width * rng.uniform([0.3, 0.2], [0.48, 0.4])
                cv2.ellipse(mask, (tuple(centre.tolist()), tuple((2 * axes).tolist()), 0.0), 255, -1)
        else:
            ends = np.vstack([right, left])
            low = ends.min(axis=0) - width * rng.uniform(0.1, 0.4, 2)
            high = ends.max(axis=0) + width * rng.uniform(0.1, 0.4, 2)
            low, high = np.rint(low).astype(int), np.rint(high).astype(int)
            mask[max(0, low[1]) : max(0, high[1]), max(0, low[0]) : max(0, high[0])] = 255
        return self._filled(rgb, mask, points, dark=rng.random() < 0.6)

    def half(self, rgb: Array, points: Array) -> tuple[Array, Array]:
        """One half, or the upper or lower one, behind something flat."""
        rng, mask = self.rng, np.zeros(rgb.shape[:2], np.uint8)
        angle = rng.choice([0, 90, 180, 270]) + rng.uniform(-15, 15)
        normal = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
        along = points @ normal
        limit = np.quantile(along, rng.uniform(0.25, 0.85))
        rows, columns = np.mgrid[: rgb.shape[0], : rgb.shape[1]]
        mask[columns * normal[0] + rows * normal[1] > limit] = 255
        return self._filled(rgb, mask, points)

    def _filled(self, rgb: Array, mask: Array, points: Array, dark: bool = False) -> tuple[Array, Array]:
        rng, out = self.rng, rgb.copy()
        shape = (*rgb.shape[:2], 1)
        way = rng.integers(6)
        if dark:
            fill = np.full(shape, rng.uniform(0, 50))
        elif way == 0:
            fill = np.full(shape, rng.uniform(0, 256))
        elif way == 1:  # the skin's own grey, shaded
            skin = float(np.median(rgb[mask > 0])) if mask.any() else 128.0
            slope = cv2.resize(rng.uniform(-40, 40, (2, 2)), rgb.shape[1::-1])[..., None]
            fill = skin + slope
        elif way == 2:  # cloth: a coarse pattern
            cells = int(rng.integers(3, 24))
            fill = cv2.resize(rng.uniform(0, 255, (cells, cells)), rgb.shape[1::-1])[..., None]
        elif way == 3:  # noise
            fill = rng.normal(rng.uniform(40, 210), rng.uniform(5, 60), shape)
        elif way == 4:  # another part of the picture
            fill = np.roll(rgb, rng.integers(rgb.shape[0] // 4, rgb.shape[0] * 3 // 4, 2), axis=(0, 1))
        else:  # a hand: skin with finger shadows
            skin = float(np.median(rgb))
            stripes = np.sin(np.arange(rgb.shape[1]) / rgb.shape[1] * rng.uniform(15, 60) + rng.uniform(0, 6))
            fill = skin + rng.uniform(10, 30) * stripes[None, :, None] + np.zeros(shape)
        fill = np.broadcast_to(np.clip(fill, 0, 255), rgb.shape)
        soft = cv2.GaussianBlur(mask, (0, 0), max(0.3, rgb.shape[0] * rng.uniform(0, 0.01)))[..., None] / 255
        out = np.rint(rgb * (1 - soft) + fill * soft).astype(np.uint8)
        return out, mask

    # What fades.
    def fade(self, rgb: Array, points: Array) -> Array:
        """Blur, coarse pixels, noise, darkness, glare, JPEG, of any strength."""
        rng = self.rng
        eyes = float(np.linalg.norm(points[49:57].mean(axis=0) - points[41:49].mean(axis=0)))
        way, strong = rng.integers(7), float(rng.uniform())
        if way == 0:
            return cv2.GaussianBlur(rgb, (0, 0), max(0.3, eyes * (0.03 + 0.4 * strong)))
        if way == 1:
            length = max(3, int(eyes * (0.1 + strong)))
            kernel = np.zeros((length, length), np.float32)
            turn = rng.uniform(0, np.pi)
            step = np.array([np.cos(turn), np.sin(turn)]) * length / 2
            middle = (length - 1) / 2
            ends = [tuple(np.rint(middle + way_ * step).astype(int).tolist()) for way_ in (-1, 1)]
            cv2.line(kernel, ends[0], ends[1], 1.0)
            return cv2.filter2D(rgb, -1, kernel / max(kernel.sum(), 1e-6))
        if way == 2:
            side = max(2, round(max(rgb.shape[:2]) / (eyes / rng.uniform(1.5, 10))))
            small = cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA)
            how = int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR]))
            return cv2.resize(small, rgb.shape[1::-1], interpolation=how)
        if way == 3:
            noisy = rgb + rng.normal(0, 10 + 110 * strong, (*rgb.shape[:2], 1))
            return np.clip(noisy, 0, 255).astype(np.uint8)
        if way == 4:
            dark = rgb * (0.02 + 0.4 * (1 - strong)) + rng.normal(0, 1.5, (*rgb.shape[:2], 1))
            return np.clip(dark, 0, 255).astype(np.uint8)
        if way == 5:
            return np.clip(rgb.astype(np.float32) * (1 + 5 * strong) + 60 * strong, 0, 255).astype(np.uint8)
        _, coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, int(1 + 20 * (1 - strong))])
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), np.uint8)

    # What is no photograph of a face.
    def unreal(self, rgb: Array, points: Array) -> Array:
        """Negatives, edge maps, two tones, embossed."""
        rng, grey = self.rng, cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        way = rng.integers(7)
        if way in (0, 1):
            out = 255 - grey
            if rng.random() < 0.3:
                out = np.clip(128 + (out.astype(float) - 128) * rng.uniform(0.5, 1.2), 0, 255).astype(
                    np.uint8
                )
        elif way == 2:
            low = float(rng.uniform(15, 100))
            out = cv2.Canny(cv2.GaussianBlur(grey, (0, 0), float(rng.uniform(0.3, 2))), low, 2.5 * low)
        elif way == 3:
            soft = cv2.GaussianBlur(grey, (0, 0), float(rng.uniform(0.3, 2))).astype(np.float32)
            out = np.hypot(cv2.Sobel(soft, cv2.CV_32F, 1, 0), cv2.Sobel(soft, cv2.CV_32F, 0, 1))
            out = np.clip(out * rng.uniform(0.5, 3), 0, 255).astype(np.uint8)
        elif way == 4:
            laplacian = cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1), cv2.CV_32F, ksize=3)
            out = np.clip(laplacian * rng.uniform(1, 6) + rng.choice([0, 128]), 0, 255).astype(np.uint8)
        elif way == 5:
            limit = np.quantile(grey, rng.uniform(0.25, 0.75))
            out = np.where(grey > limit, 255, 0).astype(np.uint8)
        else:
            out = np.clip(128 + (grey.astype(float) - np.roll(grey, 2, (0, 1))) * 2, 0, 255).astype(np.uint8)
        if way in (2, 3) and rng.random() < 0.4:
            out = 255 - out
        return np.repeat(out[..., None], 3, axis=2)


def gone(share: float) -> float:
    """Target of a face with this share of its inner points out of sight."""
    return float(np.clip(1 - (share - 0.05) * 5, 0, 1))


class Cutter:
    """From a picture and a box to the aligned crop, as `mien.faces.pipeline` makes it."""

    def __init__(self) -> None:
        self.landmarker = Landmarker.load(threads=1)

    def __call__(self, rgb: Array, box: Array, turn: float = 0.0) -> tuple[Array | None, Array]:
        points, _, _ = self.landmarker.look_at(rgb, [(*square_of(np.asarray(box, np.float32)), turn)])
        from mien.faces.landmarker import upright_square

        points, _, _ = self.landmarker.look_at(rgb, [upright_square(points[0])])
        try:
            matrix = align.face_matrix(points[0])
        except align.DegenerateFace:
            return None, points[0]
        return align.crop(rgb, matrix, STORED, grey=True), points[0]


def sources(arguments: argparse.Namespace) -> Iterator[tuple[Array, str, bool]]:
    """(picture, set, held out) of every face taken, in a fixed order."""
    rng = np.random.default_rng(0)

    def held(name: str) -> bool:
        return zlib.crc32(name.encode()) % 10 == 0

    with (arguments.muxspace / "labels.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["lfw_identity"]]
    for row in rng.permutation(np.array(table, dtype=object))[:2500]:
        yield images.read(arguments.muxspace / row["image"]), "muxspace", held(row["lfw_identity"])
    with (arguments.diffusionfer / "labels.csv").open() as file:
        names = [row["image"] for row in csv.DictReader(file)]
    for name in names:
        yield images.read(arguments.diffusionfer / "images" / name), "diffusionfer", held(name)
    with (arguments.ferplus / "fer2013new.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["Image name"]]
    rows = [row for row in rows if max(int(row[name]) for name in EXPRESSIONS) >= 5]
    folders = {"Training": ("FER2013Train", 4500), "PublicTest": ("FER2013Valid", 600)}
    for usage, (folder, count) in folders.items():
        some = [row for row in rows if row["Usage"] == usage]
        for row in rng.permutation(np.array(some, dtype=object))[:count]:
            yield (
                images.read(arguments.ferplus / folder / row["Image name"]),
                "ferplus",
                folder != "FER2013Train",
            )


def make(arguments: argparse.Namespace) -> dict[str, Array]:
    """Crops, targets and what each is."""
    rng = np.random.default_rng(1)
    pipeline, spoil, cutter = load(threads=1), Spoiler(rng), Cutter()
    crops, targets, kinds, sets, helds, pairs = [], [], [], [], [], []

    def keep(crop: Array | None, target: float, kind: str, pair: int = -1) -> None:
        if crop is not None:
            crops.append(crop)
            targets.append(target)
            kinds.append(kind)
            sets.append(name)
            helds.append(held)
            pairs.append(pair)

    for number, (rgb, name, held) in enumerate(sources(arguments)):  # noqa: B007
        found = pipeline.detector(rgb)
        if not found:
            continue
        box = np.array(found[0].box.corners)

        def moved(box: Array = box) -> Array:
            size = np.tile(box[2:] - box[:2], 2)
            return box + size * rng.normal(0, 0.03, 4)

        crop, points = cutter(rgb, box)
        if crop is None:
            continue
        keep(crop, 1.0, "as it is")
        first = len(crops) - 1
        for way in ("block", "mouth_and_nose", "eyes", "half"):
            if rng.random() < 0.35:
                picture, mask = getattr(spoil, way)(rgb, points)
                at = np.clip(np.rint(points[INNER]).astype(int), 0, np.array(rgb.shape[1::-1]) - 1)
                keep(cutter(picture, moved())[0], gone((mask[at[:, 1], at[:, 0]] > 0).mean()), way)
        if rng.random() < 0.7:  # beyond the border
            share = rng.uniform(0.15, 0.75)
            side = int(rng.integers(4))
            axis, order = side % 2, 1 if side < 2 else -1
            limit = round(float(np.quantile(points[INNER][:, axis] * order, share)) * order)
            part, new, gone_by = rgb, moved(), 0
            if order > 0:  # what lies before the limit is cut away
                gone_by = max(0, limit)
                part = rgb[:, gone_by:] if axis == 0 else rgb[gone_by:]
                new[[axis, axis + 2]] -= gone_by
            else:
                part = rgb[:, : max(1, limit)] if axis == 0 else rgb[: max(1, limit)]
            height, width = part.shape[:2]
            if min(height, width) >= 12:
                new = np.clip(new, 0, [width, height, width, height])
                if min(new[2:] - new[:2]) > 6:
                    outside = ((points[INNER][:, axis] - limit) * order < 0).mean()
                    keep(cutter(np.ascontiguousarray(part), new)[0], gone(float(outside)), "border")
        if rng.random() < 0.8:
            keep(cutter(spoil.fade(rgb, points), moved())[0], -1.0, "faded", first)
        if rng.random() < 0.6:
            keep(cutter(spoil.unreal(rgb, points), moved())[0], 0.0, "unreal")
        if rng.random() < 0.4:
            keep(
                cutter(rgb, moved(), float(rng.choice([90, 180, 270]) + rng.uniform(-20, 20)))[0],
                0.0,
                "turned",
            )
        if rng.random() < 0.1:
            edge = STORED // int(rng.choice([4, 5]))
            tiles = (
                crop.reshape(STORED // edge, edge, STORED // edge, edge)
                .transpose(0, 2, 1, 3)
                .reshape(-1, edge, edge)
            )
            tiles = rng.permutation(tiles).reshape(STORED // edge, STORED // edge, edge, edge)
            keep(tiles.transpose(0, 2, 1, 3).reshape(STORED, STORED), 0.0, "pieces")
        if rng.random() < 0.5:  # ordinary light is no fault
            light = np.clip(255 * (rgb / 255) ** np.exp(rng.normal(0, 0.35)) * rng.uniform(0.7, 1.15), 0, 255)
            keep(cutter(light.astype(np.uint8), moved())[0], 1.0, "light")
        if number % 500 == 0:
            print(number, name, len(crops), flush=True)
    every = np.stack(crops)
    compared = np.flatnonzero(np.array(pairs) >= 0)
    compared = np.union1d(compared, np.array(pairs)[compared])
    readings = np.zeros((len(every), len(EXPRESSIONS)))
    readings[compared] = np.array(
        [
            list(one.probabilities.values())
            for at in range(0, len(compared), 256)
            for one in pipeline.recogniser(every[compared[at : at + 256]])
        ]
    )
    for at, pair in enumerate(pairs):
        if pair >= 0:
            targets[at] = 1 - 0.5 * float(np.abs(readings[at] - readings[pair]).sum())
    return {
        "crops": every,
        "targets": np.array(targets, np.float32),
        "kinds": np.array(kinds),
        "sets": np.array(sets),
        "held": np.array(helds),
    }


class Visibility(nn.Module):
    """Grey crops uint8 [n, s, s] of any size to the share [n] in 0..1 that can be seen."""

    def __init__(self, mean: float = 110.0, spread: float = 60.0) -> None:
        super().__init__()
        self.mean, self.spread = mean, spread
        widths = (1, 12, 24, 32, 48)
        layers: list[nn.Module] = []
        for inner, outer in itertools.pairwise(widths):
            layers += [nn.Conv2d(inner, outer, 3, stride=2, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(48 * 9, 24), nn.ReLU(), nn.Linear(24, 1)
        )

    def logits(self, crops: torch.Tensor) -> torch.Tensor:
        """Crops [n, 48, 48]."""
        values = (crops.float()[:, None] - self.mean) / self.spread
        return self.head(self.body(values))[:, 0]

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.logits(crops))


def fit(
    data: dict[str, Array], epochs: int = 20, seed: int = 0, say: Callable[[str], None] = print
) -> Visibility:
    """Train on the faces that are not held out; the last weights are taken, nothing is chosen."""
    torch.manual_seed(seed)
    crops = torch.from_numpy(shrunk(data["crops"]))
    targets = torch.from_numpy(data["targets"])
    train = torch.from_numpy(np.flatnonzero(~data["held"]))
    network = Visibility()
    # A normal face flagged costs more than a spoilt one overlooked.
    weights = torch.where(targets > 0.9, 1.5, 1.0)
    optimiser = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=0.02)
    batch = 256
    steps = epochs * (len(train) // batch)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        network.train()
        order, total = train[torch.randperm(len(train), generator=generator)], 0.0
        for start in range(0, len(order) - batch + 1, batch):
            some = order[start : start + batch]
            images_, wanted = crops[some].float(), targets[some]
            if torch.rand((), generator=generator) < 0.5:
                images_ = images_.flip(2)
            move = torch.randint(-2, 3, (2,), generator=generator).tolist()
            images_ = torch.roll(images_, move, (1, 2))
            loss = nn.functional.binary_cross_entropy_with_logits(
                network.logits(images_), wanted, weights[some]
            )
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            rates.step()
            total += loss.item()
        say(f"epoch {epoch + 1}: loss {total / (len(train) // batch):.3f}")
    network.eval()
    return network


def shrunk(crops: Array) -> Array:
    """As `mien.faces.visibility` shrinks them."""
    return np.stack([cv2.resize(crop, (SIZE, SIZE), interpolation=cv2.INTER_AREA) for crop in crops])


def release(network: Visibility, data: dict[str, Array], out: Path) -> Array:
    """Write the network and its card; return what the written network says of all crops."""
    path = out / "visibility.onnx"
    small = shrunk(data["crops"])
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            network,
            (torch.from_numpy(small[:2]),),
            input_names=["crops"],
            output_names=["visible"],
            dynamic_shapes=({0: torch.export.Dim("n", min=1, max=4096)},),
            dynamo=True,
            verbose=False,
        )
        program.save(str(path), external_data=False)
        without_traces(path)
        expected = network(torch.from_numpy(small[:256])).numpy()
    answers = np.concatenate(
        [
            session(path.read_bytes()).run(None, {"crops": small[at : at + 1024]})[0]
            for at in range(0, len(small), 1024)
        ]
    )
    if np.abs(answers[:256] - expected).max() > 1e-4:
        raise SystemExit(f"{path}: the written network says something else than the fitted one")
    figures = judge(data, answers)
    card = {
        "name": "visibility",
        "task": "how much of one aligned face crop can be seen",
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "parameters": sum(part.numel() for part in network.parameters()),
        "architecture": "4 convolutions (3x3, stride 2, ReLU, 12 to 48 channels), two linear layers",
        "input": {
            "name": "crops",
            "type": "uint8 [n, 48, 48]",
            "content": "luma of faces aligned by mien.faces.align",
        },
        "output": {"visible": "float32 [n], 0..1"},
        "data": [
            "muxspace facial_expressions: 2,500 LFW crops, nine tenths of the identities",
            "DiffusionFER: 1,285 generated faces, nine tenths",
            "FERPlus: 4,500 faces of its Training folder",
            "each as it is and spoilt: hidden, cut by the border, faded, negatives, edge maps, wrong turns, pieces",
        ],
        "initialisation": "random",
        "terms": "Weights: Apache-2.0 with mien. FERPlus labels MIT, its pixels are web images given for research. "
        "muxspace: LFW press photographs, research use. DiffusionFER: CC0 1.0. "
        "No picture is contained in the weights file.",
        "recipe": "scripts/fit_visibility.py",
        "metrics": {
            "held out": "people it was not fitted to: a tenth of muxspace and DiffusionFER, FERPlus' Valid folder",
            "answers": figures,
        },
        "intended_use": ["lowering `quality` and marking readings uncertain where a face cannot be seen"],
        "limits": [
            "spoilt by program, not by life: real masks, hands and hair were only looked at in examples",
            "FERPlus and muxspace hold faces behind hands and microphones that were taken as plain",
            "figures by age, skin tone or gender were not measured",
        ],
        "must_not": ["judging people by how well their face is seen"],
    }
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return answers


def judge(data: dict[str, Array], answers: Array) -> dict[str, str]:
    """Median answer and share under one half of the held-out crops, by kind."""
    out = {}

    def add(name: str, part: Array) -> None:
        if part.sum() >= 20:
            low = (answers[part] < 0.5).mean()
            out[f"{name}, n={part.sum()}"] = f"median {np.median(answers[part]):.2f}, under .5: {low:.1%}"

    for kind in dict.fromkeys(data["kinds"].tolist()):
        there = data["held"] & (data["kinds"] == kind)
        if kind in ("as it is", "light"):
            for name in ("muxspace", "diffusionfer", "ferplus"):
                add(f"{kind}, {name}", there & (data["sets"] == name))
            continue
        add(f"{kind}, target under .3", there & (data["targets"] < 0.3))
        add(f"{kind}, target above .7", there & (data["targets"] > 0.7))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("ferplus", "muxspace", "diffusionfer"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("src/mien/weights"))
    parser.add_argument("--crops", type=Path, help="Keep the made crops here (.npz), or take them from here.")
    arguments = parser.parse_args()
    if arguments.crops is not None and arguments.crops.exists():
        data = dict(np.load(arguments.crops))
    else:
        data = make(arguments)
        if arguments.crops is not None:
            np.savez(arguments.crops, **data)
    torch.set_num_threads(1)
    network = fit(data)
    answers = release(network, data, arguments.out)
    for key, value in judge(data, answers).items():
        print(f"{key}: {value}")


if __name__ == "__main__":
    main()
