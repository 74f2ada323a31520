"""Cut records into aligned crops in one memory-mapped file, and join crops with the targets of training.

Pictures are read, aligned and cut once; training then reads only a uint8 array on disk, which the system caches in
memory while there is room. The file's name is a hash of everything that determines its content, including the pictures'
bytes: two sets with equal names, or one set before and after its pictures changed, never share crops.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mien.data import protocols
from mien.data.config import DataConfig, SourceConfig
from mien.data.duplicates import without_copies
from mien.data.label_noise import with_wrong_labels
from mien.data.readers import READERS
from mien.data.records import Record, Split
from mien.errors import ConfigError, DatasetDamaged, MienError
from mien.faces import align, detect, landmarker
from mien.faces.pipeline import PRESENCE
from mien.io import atomic, cards, images
from mien.io.video import Frames
from mien.labels import (
    CIRCUMPLEX,
    EXPRESSIONS,
    OWN,
    UNLABELLED,
    UnknownExpression,
    in_order,
    index_of,
    label_set,
    listed,
)
from mien.types import CountProgress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mien.data.protocols import Protocol

VERSION = "crops-2"
"""Version of the cropping code; increased by every change that alters a crop."""

FULL_FACE = np.array([[0.32, 0.37], [0.68, 0.37], [0.50, 0.62]])
"""Eye centres and nose base in a tight face picture, as shares of its sides; used if no landmarks are accepted."""


@dataclass(frozen=True, slots=True)
class Crops:
    """Aligned crops of a list of records.

    Attributes:
        images: uint8 [n, s, s] luma or [n, s, s, 3] RGB, memory-mapped.
        found: bool [n], False where no landmarks were accepted and the whole picture was used as the face.
        pose: float32 [n, 3] yaw, pitch, roll in degrees; NaN where unknown.
    """

    images: NDArray[np.uint8]
    found: NDArray[np.bool_]
    pose: NDArray[np.float32]


def label_names(labels: Sequence[str] | None, data: DataConfig) -> tuple[str, ...]:
    """The labels of a run: the eight, the names it lists, or, for `own`, those found in its data.

    Raises:
        ConfigError: the data have no own labels, or their names are not a valid label set.
        DatasetNotFound, DatasetDamaged: raised by the reader.
    """
    if labels is None or tuple(labels) != (OWN,):
        return tuple(labels or EXPRESSIONS)
    names: dict[str, None] = {}
    for source in (data, *data.also):
        reader = READERS.get(source.reader)
        if reader is None or reader.label_names is None:
            raise ConfigError(
                f"labels: '{OWN}' takes the names of a folder or manifest, and data.reader is '{source.reader}': list "
                "the labels by name"
            )
        names |= dict.fromkeys(reader.label_names(source.root))
    return label_set(in_order(names), f"labels of {data.root}")


def finds_faces(source: SourceConfig, labels: tuple[str, ...]) -> bool:
    """Whether the faces of a source are detected before they are cut, see `SourceConfig.faces`."""
    if source.faces is not None:
        return source.faces == "find"
    return labels != EXPRESSIONS and READERS[source.reader].label_names is not None


def _translated(records: list[Record], labels: tuple[str, ...], source: SourceConfig) -> list[Record]:
    """Convert records of the eight expressions to own labels with the same meaning; others are left out.

    Raises:
        ConfigError: none of the labels names one of the eight.
    """
    eight = np.full(len(labels), UNLABELLED)
    for place, name in enumerate(labels):
        with contextlib.suppress(UnknownExpression):
            eight[place] = index_of(name)
    if (eight == UNLABELLED).all():
        raise ConfigError(
            f"{source.root}: the reader '{source.reader}' knows the eight expressions and none of the labels "
            f"{listed(labels)}: own labels are read by the readers folder and manifest"
        )
    places = {int(index): place for place, index in enumerate(eight) if index != UNLABELLED}
    found = []
    for record in records:
        if record.expression != UNLABELLED and record.expression not in places:
            continue
        votes = tuple(record.votes[i] if i != UNLABELLED else 0.0 for i in eight) if record.votes else ()
        expression = places.get(record.expression, UNLABELLED)
        found.append(replace(record, expression=expression, votes=votes if sum(votes) > 0 else ()))
    return found


def source_records(config: SourceConfig, labels: tuple[str, ...] = EXPRESSIONS) -> list[Record]:
    """Read a source, apply its protocol, if it names one, and keep the pictures that its `where` describes; expressions
    and votes are those of `labels`.

    Raises:
        ConfigError: no such reader, protocol or fold, a source that cannot have these labels, or no picture with the
            attributes of `where`.
        DatasetNotFound, DatasetDamaged: raised by the reader.
    """
    if config.reader not in READERS:
        from mien.errors import nearest

        raise ConfigError(f"data.reader: '{config.reader}': {nearest(config.reader, list(READERS))}")
    reader = READERS[config.reader]
    protocol = protocol_of(config.protocol, config.reader, config.root) if config.protocol else None
    own = labels if reader.label_names is not None else EXPRESSIONS
    records = reader(config.root, labels=own, **(protocol.options if protocol else {}))
    if protocol is not None:
        records = protocol.apply(records, config.fold, own)
    records = _matching(records, config)
    return records if own == labels else _translated(records, labels, config)


def _matching(records: list[Record], config: SourceConfig) -> list[Record]:
    for key, _, value in (one.partition("=") for one in config.where):
        known = {str(record.attributes[key]) for record in records if key in record.attributes}
        if value not in known:
            there = sorted(known) or sorted({name for record in records for name in record.attributes})
            what = (
                f"{key} is {listed(there[:10])}" if known else f"its attributes are {listed(there) or 'none'}"
            )
            raise ConfigError(f"{config.root}: where: no picture has {key} '{value}': {what}")
        records = [record for record in records if str(record.attributes.get(key)) == value]
    return records


def protocol_of(name: str, reader: str, root: Path) -> Protocol:
    """The protocol of that name, if it belongs to the reader's dataset or to the one that a manifest was made from.

    Raises:
        ConfigError: no such protocol, or it belongs to another dataset.
    """
    from mien.data.readers import manifest

    protocol = protocols.load(name)
    if reader == protocol.dataset or (reader == "manifest" and manifest.made_of(root) == protocol.dataset):
        return protocol
    fitting = [one for one in protocols.names() if protocols.load(one).dataset == reader]
    instead = f"use {', '.join(fitting)}, or none" if fitting else "use none"
    raise ConfigError(
        f"protocol {name} belongs to '{protocol.dataset}', not to '{reader}': leave out the reader, or {instead}"
    )


def load_crops(
    records: Sequence[Record],
    size: int,
    colour: bool,
    cache: Path,
    points: Path | None = None,
    progress: CountProgress | None = None,
    find: bool = False,
) -> Crops:
    """Cut each record's face, or load the crops from the cache.

    Args:
        records: in the order of the rows.
        size: side of the crops, pixels.
        colour: keep RGB; else luma.
        cache: folder of the cache; made if missing. A killed run leaves no incomplete file under the final name.
        points: landmarks by record name, see `SourceConfig.points`.
        progress: called with (done, total) after each picture.
        find: detect the largest face in pictures without a box, see `SourceConfig.faces`.

    Raises:
        DatasetDamaged: a picture cannot be read; the message names the file.
    """
    key = _key(records, size, colour, points, find)
    cache.mkdir(parents=True, exist_ok=True)
    pixels, facts = cache / f"{key}.npy", cache / f"{key}.facts.npz"
    if not (pixels.is_file() and facts.is_file()):
        _cut(records, size, colour, points, pixels, facts, progress, find)
    with np.load(facts) as stored:
        found, pose = stored["found"], stored["pose"]
    return Crops(np.load(pixels, mmap_mode="r"), found, pose)


def content_hashes(paths: Iterable[Path]) -> dict[Path, str]:
    """The hash of each file's bytes; a file is read once, even if several records (frames) name it.

    The bytes are hashed because a picture can be replaced by another of equal name, size and time. It takes little time
    compared with decoding: half a second against six for FERPlus's 35,710 pictures on one core.

    Raises:
        DatasetDamaged: a file cannot be read; the message names it.
    """
    found: dict[Path, str] = {}
    for path in dict.fromkeys(paths):
        hashed = hashlib.blake2b(digest_size=16)
        try:
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    hashed.update(block)
        except OSError as problem:
            raise DatasetDamaged(
                f"{path}: cannot be read ({problem.strerror}): run `mien data check` to list every damaged picture"
            ) from None
        found[path] = hashed.hexdigest()
    return found


def _key(records: Sequence[Record], size: int, colour: bool, points: Path | None, find: bool = False) -> str:
    """The hash of everything that determines the crops: the content of the files, how they are read, aligned and
    cut."""
    import cv2

    network = points if points is not None else cards.FOLDER / "landmarks.onnx"
    content = content_hashes([network, *(record.path for record in records)])
    rows = [
        # A name only selects the stored landmarks.
        [content[one.path], one.name if points else "", one.frame, is_frame(one), one.box]
        for one in records
    ]
    how = [VERSION, size, colour, points is not None, content[network], cv2.__version__]
    if find:
        how.append(detect.named("auto"))
    shape = [FULL_FACE.tolist(), PRESENCE, align.TEMPLATE.tolist()]
    return hashlib.sha256(json.dumps([how, shape, rows]).encode()).hexdigest()[:24]


def _cut(
    records: Sequence[Record],
    size: int,
    colour: bool,
    points: Path | None,
    pixels: Path,
    facts: Path,
    progress: CountProgress | None,
    find: bool = False,
) -> None:
    locate = _stored(points) if points is not None else _network(find)
    shape = (len(records), size, size, 3) if colour else (len(records), size, size)
    found = np.zeros(len(records), dtype=bool)
    pose = np.full((len(records), 3), np.nan, dtype=np.float32)
    frames = Frames()
    with atomic.writing(pixels) as temporary:
        out = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        for place, record in enumerate(records):
            try:
                image = (
                    frames.read(record.path, record.frame or 0)
                    if is_frame(record)
                    else images.read(record.path)
                )
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
        with atomic.writing(facts) as file:
            np.savez(file, found=found, pose=pose)


VIDEOS = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v"})


def is_frame(record: Record) -> bool:
    """Whether a record is one frame of a video file."""
    return record.frame is not None and record.path.suffix.lower() in VIDEOS


Locate = Callable[
    [Record, "NDArray[np.uint8]", tuple[float, float, float, float]],
    "tuple[NDArray[np.float64] | None, NDArray[np.float32]]",
]


def _network(find: bool = False) -> Locate:
    """Landmarks by the shipped network, on the face that the default detector finds."""
    network = landmarker.Landmarker.load()
    detector = detect.build("auto") if find else None

    def locate(
        record: Record, image: NDArray[np.uint8], box: tuple[float, float, float, float]
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float32]]:
        if detector is not None and record.box is None and (faces := detector(image)):
            box = faces[0].box.corners  # the largest
        points, presence, pose = network(image, np.array([box], dtype=np.float32))
        return (align.face_anchors(points[0]) if presence[0] >= PRESENCE else None), pose[0]

    return locate


def _stored(path: Path) -> Locate:
    """Look up points by record name."""
    with np.load(path) as stored:
        if not {"names", "points"} <= set(stored.files):
            raise ConfigError(f"{path}: no landmarks: an .npz with `names` and `points` is needed")
        table = dict(zip(stored["names"].tolist(), stored["points"], strict=True))
    unknown = np.full(3, np.nan, dtype=np.float32)

    def locate(
        record: Record, image: NDArray[np.uint8], box: tuple[float, float, float, float]
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.float32]]:
        points = table.get(record.name)
        return (
            None if points is None or not np.isfinite(points).all() else align.face_anchors(points)
        ), unknown

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
    """Crops with their targets, row by row: a split in the form that training uses.

    `images` as in `Crops`; `expression` int64 [n] with `UNLABELLED` for none; `votes` float32 [n, k] shares or NaN;
    `affect` float32 [n, 2] or NaN; `subject` int64 [n], -1 unknown; `names` the records' names; `repeat` how often each
    is drawn per epoch; `weight` the weights of their expression loss.
    """

    images: NDArray[np.uint8]
    found: NDArray[np.bool_]
    expression: NDArray[np.int64]
    votes: NDArray[np.float32]
    affect: NDArray[np.float32]
    subject: NDArray[np.int64]
    names: tuple[str, ...]
    repeat: float = 1.0
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.images)

    def log_prior(self) -> NDArray[np.float32]:
        """Log of the mean share of each class [k] among these pictures, with a minimum of 1e-4 per class."""
        known = self.expression >= 0
        classes = self.votes.shape[1]
        hard = np.eye(classes, dtype=np.float32)[np.maximum(self.expression, 0)]
        shares = np.where(np.isfinite(self.votes), self.votes, hard)[
            known | np.isfinite(self.votes).all(axis=1)
        ]
        mean = shares.mean(axis=0) if len(shares) else np.ones(classes)
        logarithm: NDArray[np.float32] = np.log(np.maximum(mean / mean.sum(), 1e-4)).astype(np.float32)
        return logarithm


def graded(expression: int, intensity: float) -> NDArray[np.float32]:
    """Class shares [8] of an expression shown at a known strength 0..1; the rest is neutral.

    From half of the full strength on, the expression's share is 1 (our choice: observers recognise a posed expression
    at half strength as reliably as a full one).
    """
    shares = np.zeros(len(EXPRESSIONS), dtype=np.float32)
    shares[EXPRESSIONS.index("neutral")] = 1 - min(1.0, 2 * intensity)
    shares[expression] += min(1.0, 2 * intensity)
    return shares


def to_samples(
    records: Sequence[Record],
    crops: Crops,
    derive_affect: bool,
    soft_votes: bool = True,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> Samples:
    """Join crops and targets. Affect and shares are derived from votes and from `intensity` only for the eight
    expressions."""
    counts = np.array(
        [record.votes or [np.nan] * len(labels) for record in records], dtype=np.float32
    ).reshape(-1, len(labels))
    total = counts.sum(axis=1, keepdims=True)
    shares = (counts / np.where(total > 0, total, np.nan)).astype(np.float32)
    for row, record in enumerate(records if labels == EXPRESSIONS else ()):
        if not record.votes and "intensity" in record.attributes and record.expression != UNLABELLED:
            shares[row] = graded(record.expression, float(record.attributes["intensity"]))
    affect = np.array(
        [
            (np.nan, np.nan)
            if record.valence is None or record.arousal is None
            else (record.valence, record.arousal)
            for record in records
        ],
        dtype=np.float32,
    ).reshape(-1, 2)
    if derive_affect and labels == EXPRESSIONS:
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


def _limited(records: list[Record], crops: Crops, limit: int) -> tuple[list[Record], Crops]:
    """At most `limit` rows, evenly picked; the pixels stay on disk."""
    step = max(1, len(records) // limit)
    rows = slice(None, step * limit, step)
    return records[rows], Crops(crops.images[rows], crops.found[rows], crops.pose[rows])


def load_split(
    config: DataConfig,
    splits: tuple[Split, ...],
    progress: CountProgress | None = None,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> dict[Split, list[Samples]]:
    """Samples of the given splits of a configuration's sets; further sets only add to "train".

    Training copies of validation and test pictures are left out if the configuration says so.
    """
    records = source_records(config, labels)
    if config.drop_duplicates and "train" in splits:
        records, _ = without_copies(records)
    loaded: dict[Split, list[Samples]] = {split: [] for split in splits}
    sources: list[tuple[SourceConfig, list[Record]]] = [(config, records)]
    if "train" in splits:
        sources += [(also, source_records(also, labels)) for also in config.also]
    for source, found in sources:
        for split in splits if source is config else ("train",):
            chosen = [record for record in found if record.split == split]
            if not chosen:
                if source is config and split == "train":
                    raise DatasetDamaged(f"{config.root} has no training pictures under this protocol")
                continue
            crops = load_crops(
                chosen,
                config.size,
                config.colour,
                config.cache,
                source.points,
                progress,
                finds_faces(source, labels),
            )
            if split == "train" and config.label_noise:
                chosen = with_wrong_labels(chosen, config.label_noise, len(labels))
            if split == "train" and config.limit is not None:
                chosen, crops = _limited(chosen, crops, config.limit)
            loaded[split].append(
                replace(
                    to_samples(chosen, crops, config.vote_affect, config.soft_votes, labels),
                    repeat=source.repeat,
                    weight=source.weight,
                )
            )
    return loaded
