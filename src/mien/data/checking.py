"""Check a dataset on disk: which set it is, whether it is complete and undamaged, and whether its splits share
pictures.

`examine` returns a `Diagnosis` and the usable records; written by `mien.data.readers.manifest`, these are one table
that training reads as fast as the originals. Training records with a copy or near copy in valid or test stay in that
table, marked by the attribute `copy_in`: the experiment decides whether to drop them, as part of its protocol.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mien.data.duplicates import NEAR, hash_of, leaks, near_pairs, perceptual_hash
from mien.data.readers import READERS
from mien.data.readers.base import PICTURES, Reader
from mien.data.records import Record, Split
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound, ImageError
from mien.labels import EXPRESSIONS, HOW_TO_OWN, OWN, UNLABELLED, in_order, label_set, listed
from mien.types import CountProgress
from mien.wording import several

EXAMPLES = 5
"""Number of file names that a finding shows."""

SHOWN = 4
"""Number of names that an example of a group of copies shows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One result of a check: `grave` findings mean damage, others need a decision. `examples` are file names."""

    kind: str
    count: int
    message: str
    grave: bool = False
    examples: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The result of examining a folder.

    Attributes:
        reader, title, variant: the dataset and its layout.
        counts: usable records by split; official: the published ones, where known.
        classes: by split, records of each expression; "unlabelled" for those without.
        rated: by split, records with valence and arousal.
        findings: in the order of the examination.
    """

    root: str
    reader: str
    title: str
    variant: str
    counts: dict[str, int]
    official: dict[str, int]
    classes: dict[str, dict[str, int]]
    rated: dict[str, int]
    findings: tuple[Finding, ...] = field(default=())

    @property
    def grave(self) -> bool:
        """Whether anything is damaged."""
        return any(finding.grave for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def identify(root: Path, name: str | None = None, labels: tuple[str, ...] = EXPRESSIONS) -> Reader:
    """The reader for a folder: the named one, or the first of `READERS` that recognises it, with own labels if given.

    Raises:
        ConfigError: no reader of that name.
        DatasetNotFound: none recognises it.
    """
    if name is not None:
        if name not in READERS:
            from mien.errors import nearest

            raise ConfigError(f"no reader '{name}': {nearest(name, list(READERS))}")
        return READERS[name]
    if not root.exists():
        raise DatasetNotFound(f"{root} does not exist: pass the dataset's folder")
    for reader in READERS.values():
        own = labels == EXPRESSIONS or reader.label_names is not None
        if own and (root.is_dir() or reader.takes_file) and reader.holds(root, labels):
            return reader
    names = READERS["folder"].label_names
    if names is not None and root.is_dir() and len(found := dict.fromkeys(names(root))) > 1:
        raise DatasetNotFound(
            f"{root}: its folders are called {listed(in_order(found))}, which are not expression labels: if they are "
            f"your own labels, add --labels {OWN}; {HOW_TO_OWN}"
        )
    raise DatasetNotFound(
        f"{root} is not laid out as one of {', '.join(READERS)}: 'mien data list' says which folder to pass for each"
    )


def labels_for(root: Path, reader: str | None, text: str | None) -> tuple[str, ...]:
    """The labels given by `--labels`: the eight for None, those of the data for "own", else a comma-separated list.

    Raises:
        ConfigError: the names are not a valid label set, or the reader has no own labels.
        DatasetNotFound, DatasetDamaged: raised by the reader.
    """
    if text is None:
        return EXPRESSIONS
    if text != OWN:
        return label_set(text.split(","), "--labels")
    name = (
        reader or ("manifest" if READERS["manifest"].variant(root) else "folder")
        if root.exists()
        else "folder"
    )
    names = READERS[name].label_names if name in READERS else None
    if names is None:
        raise ConfigError(f"--labels {OWN} takes the names of a folder or manifest, not of '{name}'")
    return label_set(in_order(dict.fromkeys(names(root))), f"labels of {root}")


@dataclass(frozen=True, slots=True)
class _Look:
    """The result of decoding one picture."""

    size: tuple[int, int]
    pixels: str
    perceptual: int


def examine(
    root: Path,
    reader: Reader | None = None,
    near: int = NEAR,
    faces: bool = False,
    options: dict[str, Any] | None = None,
    progress: CountProgress | None = None,
    labels: tuple[str, ...] = EXPRESSIONS,
) -> tuple[Diagnosis, list[Record]]:
    """Decode every picture once and look for problems; return the diagnosis and the usable records.

    Args:
        root: the dataset's folder, or a manifest.
        reader: the dataset's reader; None detects it.
        near: largest Hamming distance of near duplicates, 0 to 64.
        faces: also detect a face in every picture, with the shipped detector and landmarks (slow).
        options: passed to the reader, as required by a protocol.
        progress: called with (pictures read, total).
        labels: the label names of the set.

    Raises:
        DatasetNotFound: it is not a known dataset.
        DatasetDamaged: its label files cannot be read at all.
    """
    reader = reader or identify(root)
    variant = reader.recognise(root, labels)
    findings: list[Finding] = []
    try:
        records = reader(root, labels=labels, **(options or {}))
    except DatasetDamaged as problem:
        records = reader(
            root, partial=True, labels=labels, **(options or {})
        )  # damage to the label files themselves is raised again here
        findings.append(Finding("missing", 1, str(problem), grave=True))

    looks: dict[int, _Look] = {}
    usable: list[Record] = []
    unreadable: list[str] = []
    faceless: list[str] = []
    finder = _face_finder() if faces else None
    from mien.io import images

    for number, record in enumerate(records, start=1):
        if progress is not None:
            progress(number, len(records))
        if record.path.suffix.lower() not in PICTURES:
            usable.append(record)
            continue
        try:
            pixels = images.read(record.path)
        except ImageError as problem:
            unreadable.append(f"{record.name} ({problem})")
            continue
        looks[len(usable)] = _Look(
            (pixels.shape[1], pixels.shape[0]), hash_of(pixels), perceptual_hash(pixels)
        )
        usable.append(record)
        if finder is not None and not finder(pixels, record):
            faceless.append(record.name)
    if unreadable:
        findings.append(_finding("unreadable", unreadable, "pictures cannot be decoded", grave=True))
    if faceless:
        findings.append(_finding("no face", faceless, "pictures in which no face was found"))
    findings += _numbers(usable, reader)
    findings += _crops(usable, looks, reader)
    copied, marks = _copies(usable, looks, near, labels)
    findings += copied
    usable = [
        replace(record, attributes={**record.attributes, "copy_in": marks[index]})
        if index in marks
        else record
        for index, record in enumerate(usable)
    ]
    return (
        Diagnosis(
            root=str(root),
            reader=reader.name,
            title=reader.title,
            variant=variant,
            counts=_in_order(Counter(record.split for record in usable)),
            official=reader.official,
            classes=_classes(usable, labels),
            rated=_in_order(
                Counter(one.split for one in usable if one.valence is not None and one.arousal is not None)
            ),
            findings=tuple(findings),
        ),
        usable,
    )


def _in_order(counts: Counter[Split]) -> dict[str, int]:
    """Counts by split: train, valid, test."""
    return {split: counts[split] for split in get_args(Split) if counts[split]}


def _finding(kind: str, names: list[str], message: str, grave: bool = False) -> Finding:
    return Finding(kind, len(names), f"{len(names)} {message}", grave, tuple(names[:EXAMPLES]))


def _classes(records: list[Record], labels: tuple[str, ...]) -> dict[str, dict[str, int]]:
    tally: dict[str, Counter[int]] = defaultdict(Counter)
    for record in records:
        tally[record.split][record.expression] += 1
    return {
        split: {
            **{name: counts[index] for index, name in enumerate(labels) if counts[index]},
            **({"unlabelled": counts[UNLABELLED]} if counts[UNLABELLED] else {}),
        }
        for split, counts in tally.items()
    }


def _numbers(records: list[Record], reader: Reader) -> list[Finding]:
    counts: Counter[str] = Counter(record.split for record in records)
    findings = []
    for split, number in reader.official.items():
        if counts[split] != number:
            message = f"{split} has {counts[split]:,} records, officially {number:,}"
            findings.append(Finding("count", counts[split] - number, message))
    names = Counter((record.video, record.name) for record in records)
    double = [name for (_, name), times in names.items() if times > 1]
    if double:
        findings.append(_finding("name twice", double, "names occur on more than one record"))
    return findings


def _crops(records: list[Record], looks: dict[int, _Look], reader: Reader) -> list[Finding]:
    if not reader.sizes:
        return []
    wrong = [
        index for index, look in looks.items() if look.size not in reader.sizes and records[index].box is None
    ]
    if not wrong:
        return []
    sizes = Counter(looks[index].size for index in wrong).most_common(1)[0][0]
    official = " or ".join(f"{width}x{height}" for width, height in reader.sizes)
    message = f"pictures are not the official crop ({official}); most are {sizes[0]}x{sizes[1]}"
    return [_finding("crop", [records[index].name for index in wrong], message)]


Marks = dict[int, Literal["valid", "test"]]
"""The split that a training record leaks into, by the record's index."""


def _copies(
    records: list[Record], looks: dict[int, _Look], near: int, labels: tuple[str, ...]
) -> tuple[list[Finding], Marks]:
    """Findings on exact and near copies, and the training records that leak."""
    by_pixels: dict[str, list[int]] = defaultdict(list)
    for index, look in looks.items():
        by_pixels[look.pixels].append(index)
    groups = [group for group in by_pixels.values() if len(group) > 1]
    marks = _leaking(records, groups)
    findings = _copies_between(records, groups, marks)
    members = [[records[index] for index in group] for group in groups]
    within = sum(len(group) - 1 for group in members if len({one.split for one in group}) == 1)
    if within:
        message = f"{several(within, 'copy', 'copies')} of pictures of the same split"
        findings.append(Finding("copies within a split", within, message))
    named = [[one for one in group if one.expression != UNLABELLED] for group in members]
    opposed = [
        " / ".join(f"{one.name} {labels[one.expression]}" for one in group)
        for group in named
        if len({one.expression for one in group}) > 1
    ]
    if opposed:
        findings.append(
            _finding("labels disagree", opposed, "groups of identical pixels have more than one class")
        )
    return findings + _near_copies(records, looks, near, marks), marks


def _leaking(records: list[Record], groups: list[list[int]]) -> Marks:
    """The training records with pixels that are also in another split."""
    marks: Marks = {}
    for group in groups:
        members = tuple(records[index] for index in group)
        leaking = {id(record) for record in leaks(members)}
        split: Literal["valid", "test"] = (
            "test" if any(record.split == "test" for record in members) else "valid"
        )
        marks |= {index: split for index, record in zip(group, members, strict=True) if id(record) in leaking}
    return marks


def _copies_between(records: list[Record], groups: list[list[int]], marks: Marks) -> list[Finding]:
    """The finding on identical pixels in several splits, if there are any."""
    across = []
    for group in groups:
        if len({records[index].split for index in group}) > 1:
            listed = [f"{records[index].split}/{records[index].name}" for index in group]
            more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
            across.append(" = ".join(listed[:SHOWN]) + more)
    if not across:
        return []
    leaking = [index for group in groups if any(one in marks for one in group) for index in group]
    held = Counter(records[index].split for index in leaking if records[index].split != "train")
    detail = ", ".join(f"{number} {split}" for split, number in sorted(held.items()))
    message = f"groups of identical pixels occur in more than one split ({detail} pictures also in train)"
    return [_finding("copies across splits", across, message)]


def _near_copies(records: list[Record], looks: dict[int, _Look], near: int, marks: Marks) -> list[Finding]:
    """The finding on near copies of training pictures in other splits, if there are any; adds them to `marks`."""
    import numpy as np

    held_rows = [index for index in looks if records[index].split != "train"]
    train_rows = [index for index in looks if records[index].split == "train" and index not in marks]
    if not held_rows or not train_rows:
        return []
    held_hashes, train_hashes = (
        np.array([looks[index].perceptual for index in rows], np.uint64) for rows in (held_rows, train_rows)
    )
    names = []
    for row, column in near_pairs(held_hashes, train_hashes, near):
        held, train = held_rows[row], train_rows[column]
        if looks[held].pixels != looks[train].pixels:
            marks[train] = "test" if records[held].split == "test" else "valid"
            names.append(f"{records[held].split}/{records[held].name} ~ train/{records[train].name}")
    if not names:
        return []
    message = f"pairs of near copies (perceptual hash within {near} bits) between train and valid or test"
    return [_finding("near copies", names, message)]


def _face_finder() -> Callable[[Any, Record], bool]:
    """A function that tells whether a picture has a face: the landmark network accepts the detector's box or the whole
    crop."""
    import numpy as np

    from mien.faces import detect
    from mien.faces.landmarker import Landmarker
    from mien.faces.pipeline import PRESENCE

    detector, landmarker = detect.build("auto"), Landmarker.load()

    def found(pixels: Any, record: Record) -> bool:
        if record.box is not None:
            boxes = [record.box]
        else:
            boxes = [detection.box.corners for detection in detector(pixels)]
            height, width = pixels.shape[:2]
            boxes.append((0.0, 0.0, float(width), float(height)))
        presence = landmarker(pixels, np.array(boxes, np.float32))[1]
        return bool(presence.max() >= PRESENCE)

    return found
