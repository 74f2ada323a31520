"""Records to aligned crops in one memory-mapped file, and crops to the batches of a training step.

Pictures are read, aligned and cut once; training then touches only a uint8 array on disk, whose pages the system
keeps in memory while there is room. The file's name is a hash of everything that went into it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien import align, cards, images, landmarks
from mien.config import DataConfig, SourceConfig
from mien.data import READERS, protocols
from mien.data.copies import without_copies
from mien.data.records import Batch, Record, Split
from mien.errors import ConfigError, DatasetDamaged, MienError
from mien.labels import CIRCUMPLEX, EXPRESSIONS, UNLABELLED

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

VERSION = "crops-1"
FULL_FACE = np.array([[0.32, 0.37], [0.68, 0.37], [0.50, 0.62]])
"""Eye centres and nose base in a tight face picture, in shares of its sides; used where no landmarks are accepted."""

PRESENCE = 0.5
"""Landmarks whose presence score is lower are not trusted with the alignment."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Crops:
    """Aligned crops of a list of records.

    Attributes:
        images: uint8 [n, s, s] luma or [n, s, s, 3] RGB, memory-mapped.
        found: bool [n], False where no landmarks were accepted and the whole picture was taken as the face.
        pose: float32 [n, 3] yaw, pitch, roll in degrees; NaN where unknown.
    """

    images: NDArray[np.uint8]
    found: NDArray[np.bool_]
    pose: NDArray[np.float32]


def source_records(config: SourceConfig) -> list[Record]:
    """Read a source and apply its protocol, if it names one.

    Raises:
        ConfigError: no such reader, protocol or fold.
        DatasetNotFound, DatasetDamaged: as the reader says.
    """
    if config.reader not in READERS:
        from mien.config import nearest

        raise ConfigError(f"data.reader: '{config.reader}': {nearest(config.reader, list(READERS))}")
    if config.protocol is None:
        return READERS[config.reader](config.root)
    protocol = protocols.load(config.protocol)
    return protocol.apply(READERS[config.reader](config.root, **protocol.options), config.fold)


def load_crops(
    records: Sequence[Record],
    size: int,
    colour: bool,
    cache: Path,
    points: Path | None = None,
    progress: Progress | None = None,
) -> Crops:
    """Cut each record's face, from the cache if these were cut before.

    Args:
        records: in the order of the rows.
        size: side of the crops, pixels.
        colour: keep RGB; else luma.
        cache: folder of the cache; made if absent. A killed run leaves no half-written file under the final name.
        points: landmarks by record name, see `SourceConfig.points`.
        progress: told (done, total) after each picture.

    Raises:
        DatasetDamaged: a picture cannot be read; the message names the file.
    """
    version = hashlib.sha256((points or cards.FOLDER / "landmarks.onnx").read_bytes()).hexdigest()
    key = hashlib.sha256(
        json.dumps(
            [
                VERSION,
                size,
                colour,
                version,
                [[record.name or record.path.name, record.frame, record.box] for record in records],
            ]
        ).encode()
    ).hexdigest()[:24]
    cache.mkdir(parents=True, exist_ok=True)
    pixels, facts = cache / f"{key}.npy", cache / f"{key}.facts.npz"
    if not (pixels.is_file() and facts.is_file()):
        _cut(records, size, colour, points, pixels, facts, progress)
    with np.load(facts) as stored:
        found, pose = stored["found"], stored["pose"]
    return Crops(np.load(pixels, mmap_mode="r"), found, pose)


def _cut(
    records: Sequence[Record],
    size: int,
    colour: bool,
    points: Path | None,
    pixels: Path,
    facts: Path,
    progress: Progress | None,
) -> None:
    locate = _stored(points) if points is not None else _network()
    part = pixels.with_name(f"{pixels.stem}.{os.getpid()}.part.npy")
    shape = (len(records), size, size, 3) if colour else (len(records), size, size)
    out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    found = np.zeros(len(records), dtype=bool)
    pose = np.full((len(records), 3), np.nan, dtype=np.float32)
    frames = Frames()
    try:
        for place, record in enumerate(records):
            try:
                image = frames.read(record) if is_frame(record) else images.read(record.path)
            except MienError as problem:
                raise DatasetDamaged(
                    f"{problem} (or run `mien data check` to list every damaged picture)"
                ) from None
            left, top, right, bottom = record.box or (0, 0, image.shape[1], image.shape[0])
            face, pose[place] = locate(record, image, (left, top, right, bottom))
            found[place] = face is not None
            anchors = face if face is not None else FULL_FACE * (right - left, bottom - top) + (left, top)
            out[place] = align.crop(image, align.fit(anchors[None])[0], size, grey=not colour)
            if progress is not None:
                progress(place + 1, len(records))
        out.flush()
        del out
        with facts.with_suffix(f".{os.getpid()}.part").open("wb") as file:
            np.savez(file, found=found, pose=pose)
        facts.with_suffix(f".{os.getpid()}.part").replace(facts)
        part.replace(pixels)
    finally:
        part.unlink(missing_ok=True)


VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})


def is_frame(record: Record) -> bool:
    """Whether a record is one frame of a video file."""
    return record.frame is not None and record.path.suffix.lower() in VIDEOS


class Frames:
    """Frames of videos by number, upright; going forward through one video decodes each frame once."""

    def __init__(self) -> None:
        self._path: Path | None = None
        self._clip: Any = None
        self._last = -1

    def read(self, record: Record) -> NDArray[np.uint8]:
        """The record's frame as RGB.

        Raises:
            DatasetDamaged: the video cannot be opened or has no such frame.
            ExtraMissing: the `video` extra is not installed.
        """
        from mien.video.clip import Clip, VideoError

        number = record.frame or 0
        try:
            if self._path != record.path or number < self._last:
                if self._clip is not None:
                    self._clip.close()
                self._path = None
                self._clip = Clip(record.path)
                self._path = record.path
            self._last = number
            picture = self._clip.picture(number)
        except VideoError as problem:
            raise DatasetDamaged(str(problem)) from None
        if picture is None:
            raise DatasetDamaged(
                f"{record.path}: no frame {number}: the video is shorter than its labels, or damaged"
            )
        frame: NDArray[np.uint8] = picture.rgb
        return frame


Locate = Callable[
    [Record, "NDArray[np.uint8]", tuple[float, float, float, float]],
    "tuple[NDArray[np.float64] | None, NDArray[np.float32]]",
]


def _anchors(points: NDArray[Any]) -> NDArray[np.float64]:
    anchors: NDArray[np.float64] = align.anchors_from(
        points, landmarks.RIGHT_EYE_CORNERS, landmarks.LEFT_EYE_CORNERS, landmarks.NOSE_BOTTOM
    )[0]
    return anchors


def _network() -> Locate:
    """Ask the shipped landmark network."""
    network = landmarks.Landmarker.load()

    def locate(
        record: Record, image: NDArray[np.uint8], box: tuple[float, float, float, float]
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float32]]:
        points, presence, pose = network(image, np.array([box], dtype=np.float32))
        return (_anchors(points[0]) if presence[0] >= PRESENCE else None), pose[0]

    return locate


def _stored(path: Path) -> Locate:
    """Look points up by record name."""
    with np.load(path) as stored:
        if not {"names", "points"} <= set(stored.files):
            raise ConfigError(f"{path}: no landmarks: an .npz with `names` and `points` is needed")
        table = dict(zip(stored["names"].tolist(), stored["points"], strict=True))
    unknown = np.full(3, np.nan, dtype=np.float32)

    def locate(
        record: Record, image: NDArray[np.uint8], box: tuple[float, float, float, float]
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float32]]:
        points = table.get(record.name)
        return (None if points is None or not np.isfinite(points).all() else _anchors(points)), unknown

    return locate


def vote_affect(votes: NDArray[Any]) -> NDArray[np.float32]:
    """Vote-derived affect [n, 2]: the mean circumplex prototype under each image's vote shares; NaN without votes."""
    prototypes = np.array([CIRCUMPLEX[name] for name in EXPRESSIONS], dtype=np.float32)
    total = votes.sum(axis=1, keepdims=True)
    derived: NDArray[np.float32] = (votes @ prototypes / np.where(total > 0, total, np.nan)).astype(
        np.float32
    )
    return derived


@dataclass(frozen=True, slots=True)
class Samples:
    """Crops with their targets, row by row; what a split becomes for training.

    `images` as in `Crops`; `expression` int64 [n] with `UNLABELLED` for none; `votes` float32 [n, 8] shares or NaN;
    `affect` float32 [n, 2] or NaN; `subject` int64 [n], -1 unknown; `names` the records' names.
    """

    images: NDArray[np.uint8]
    found: NDArray[np.bool_]
    expression: NDArray[np.int64]
    votes: NDArray[np.float32]
    affect: NDArray[np.float32]
    subject: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def to_samples(
    records: Sequence[Record], crops: Crops, derive_affect: bool, soft_votes: bool = True
) -> Samples:
    """Join crops and targets."""
    counts = np.array(
        [record.votes or [np.nan] * len(EXPRESSIONS) for record in records], dtype=np.float32
    ).reshape(-1, len(EXPRESSIONS))
    total = counts.sum(axis=1, keepdims=True)
    shares = (counts / np.where(total > 0, total, np.nan)).astype(np.float32)
    affect = np.array(
        [
            (np.nan, np.nan)
            if record.valence is None or record.arousal is None
            else (record.valence, record.arousal)
            for record in records
        ],
        dtype=np.float32,
    ).reshape(-1, 2)
    if derive_affect:
        affect = np.where(np.isnan(affect), vote_affect(shares), affect)
    people = {
        name: place
        for place, name in enumerate(sorted({record.subject for record in records if record.subject}))
    }
    return Samples(
        crops.images,
        crops.found,
        np.array([record.expression for record in records], dtype=np.int64),
        shares if soft_votes else np.full_like(shares, np.nan),
        affect,
        np.array([people.get(record.subject or "", -1) for record in records], dtype=np.int64),
        tuple(record.name or record.path.name for record in records),
    )


def load_split(
    config: DataConfig, splits: tuple[Split, ...], progress: Progress | None = None
) -> dict[Split, list[Samples]]:
    """Samples of the wanted splits of a configuration's sets; further sets join only "train".

    Training copies of validation and test pictures are left out when the configuration says so.
    """
    records = source_records(config)
    if config.drop_duplicates and "train" in splits:
        records, _ = without_copies(records)
    loaded: dict[Split, list[Samples]] = {split: [] for split in splits}
    sources: list[tuple[SourceConfig, list[Record]]] = [(config, records)]
    if "train" in splits:
        sources += [(also, source_records(also)) for also in config.also]
    for source, found in sources:
        for split in splits if source is config else ("train",):
            chosen = [record for record in found if record.split == split]
            if split == "train" and config.limit is not None:
                chosen = chosen[:: max(1, len(chosen) // config.limit)][: config.limit]
            if not chosen:
                if source is config and split == "train":
                    raise DatasetDamaged(f"{config.root} has no training pictures under this protocol")
                continue
            crops = load_crops(chosen, config.size, config.colour, config.cache, source.points, progress)
            loaded[split].append(to_samples(chosen, crops, config.vote_affect, config.soft_votes))
    return loaded


class Feed:
    """Training batches in an order that depends only on the seed, the epoch and the step.

    Args:
        samples: the sets to draw from.
        batch: rows a step over all processes.
        balance: 0 draws each picture once an epoch; towards 1, classes equally often (with repetition).
        seed: of the order.
        rank, world: this process and how many there are; each takes its contiguous share of every step's rows.
    """

    def __init__(
        self, samples: list[Samples], batch: int, balance: float, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.samples = samples
        self.batch = batch
        self.balance = balance
        self.seed = seed
        self.rank, self.world = rank, world
        self._ends = np.cumsum([len(one) for one in samples])
        self._expression = np.concatenate([one.expression for one in samples])
        if batch > len(self):
            raise ConfigError(f"batch {batch} is larger than the {len(self)} training pictures: lower it")
        if batch % world:
            raise ConfigError(f"batch {batch} does not divide over {world} processes")

    def __len__(self) -> int:
        return int(self._ends[-1])

    @property
    def steps(self) -> int:
        """Steps an epoch; an incomplete last batch is dropped."""
        return len(self) // self.batch

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The rows of an epoch, in order."""
        random = np.random.default_rng((self.seed, epoch))
        if self.balance == 0:
            return random.permutation(len(self)).astype(np.int64)
        counts = np.bincount(self._expression[self._expression >= 0], minlength=len(EXPRESSIONS))
        weight = np.where(
            self._expression >= 0, np.maximum(counts, 1)[self._expression].astype(float) ** -self.balance, 0.0
        )
        weight[self._expression == UNLABELLED] = weight[weight > 0].mean() if (weight > 0).any() else 1.0
        return random.choice(len(self), size=len(self), p=weight / weight.sum()).astype(np.int64)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[int, Batch, torch.Tensor]]:
        """Yield (step in the epoch, targets, crops) from step `start` on.

        The batch's `image` holds this process's raw uint8 crops as they are; the third value holds the whole step's
        crops, from which `mien.data.transforms.augment` takes the process's part.
        """
        import torch

        order = self.order(epoch)
        share = self.batch // self.world
        for step in range(start, self.steps):
            rows = order[step * self.batch : (step + 1) * self.batch]
            crops = torch.from_numpy(self._gather(rows, "images"))
            mine = rows[self.rank * share : (self.rank + 1) * share]
            yield (
                step,
                Batch(
                    crops[self.rank * share : (self.rank + 1) * share],
                    torch.from_numpy(self._gather(mine, "expression")),
                    torch.from_numpy(self._gather(mine, "affect")),
                    torch.from_numpy(self._gather(mine, "votes")),
                    torch.from_numpy(self._gather(mine, "subject")),
                    {},
                ),
                crops,
            )

    def _gather(self, rows: NDArray[np.int64], field: str) -> NDArray[Any]:
        owner = np.searchsorted(self._ends, rows, side="right")
        starts = np.concatenate(([0], self._ends[:-1]))
        first = getattr(self.samples[0], field)
        out = np.empty((len(rows), *first.shape[1:]), dtype=first.dtype)
        for place, one in enumerate(self.samples):
            here = owner == place
            if here.any():
                out[here] = getattr(one, field)[rows[here] - starts[place]]
        return out
