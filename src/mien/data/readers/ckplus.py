"""CK+: posed sequences from neutral to the peak of an expression, 123 subjects; 327 of 593 sequences have a class.

Source: Lucey et al., "The extended Cohn-Kanade dataset (CK+)", CVPR workshops 2010. Ask the owners
(jeffcohn.net/resources).

On disk, "sequences":

    cohn-kanade-images/S005/001/S005_001_00000001.png ...    (or extended-cohn-kanade-images/cohn-kanade-images)
    Emotion/S005/001/S005_001_00000011_emotion.txt           (or Emotion_labels/Emotion)
        one number: 0 neutral 1 anger 2 contempt 3 disgust 4 fear 5 happy 6 sadness 7 surprise; no file, no class
    FACS/S005/001/S005_001_00000011_facs.txt                 (or FACS_labels/FACS)
        a line for each action unit at the peak: its number, and its intensity 1 to 5, or 0 where none was coded

or "ck48", the common copy of the last three frames as 48x48 faces:

    anger/S010_004_00000017.png ... contempt/ disgust/ fear/ happy/ sadness/ surprise/          981 pictures

Of each labelled sequence the last three frames take the class and the first is neutral, the usual choice. There are
no official splits: all records are "train" until the protocol makes ten folds by subject.

With `units=True` the action units are read in place of the classes: of each of the 593 sequences the last frame, with
the units of its file, and the first, with none. Attributes: `AU12` 1 or 0, `AU12_intensity` 0 to 5 where it was coded.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from mien.data.label_codes import CKPLUS
from mien.data.readers.base import Reader, class_of, decimal, lines, pictures
from mien.data.records import Record
from mien.errors import DatasetDamaged, DatasetNotFound
from mien.labels import NEUTRAL, UNLABELLED, UnknownExpression, index_of

IMAGES = ("cohn-kanade-images", "extended-cohn-kanade-images/cohn-kanade-images")
LABELS = ("Emotion", "Emotion_labels/Emotion", "Emotion_labels")
UNITS = ("FACS", "FACS_labels/FACS", "FACS_labels")
NAME = re.compile(r"(?P<subject>S\d+)_(?P<sequence>\d+)_(?P<frame>\d+)$")


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def variant(root: Path) -> str | None:
    """ "sequences" or "ck48", or None."""
    if _first(root, IMAGES) and _first(root, (*LABELS, *UNITS)):
        return "sequences"
    for name in ("anger", "happy", "surprise"):
        if any(NAME.match(path.stem) for path in pictures(root / name)[:1]):
            return "ck48"
    return None


def read(
    root: Path, variant: str, partial: bool, last: int = 3, neutral: bool = True, units: bool = False
) -> list[Record]:
    """Read the `last` frames of each labelled sequence and, if `neutral`, its first; or `units` in place of classes."""
    if units:
        return _units(root, partial)
    return _sequences(root, partial, last, neutral) if variant == "sequences" else _ck48(root)


def _sequences(root: Path, partial: bool, last: int, neutral: bool) -> list[Record]:
    images, labels = _first(root, IMAGES), _first(root, LABELS)
    records: list[Record] = []
    if images is None or labels is None:
        return records
    for path in sorted(labels.glob("S*/*/*_emotion.txt")):
        subject, sequence = path.parts[-3:-1]
        text = path.read_text(encoding="utf-8", errors="replace")
        expression = class_of(CKPLUS, round(decimal(text, str(path))), str(path))
        frames = pictures(images / subject / sequence)
        if len(frames) <= last:
            if partial:
                continue
            raise DatasetDamaged(
                f"{images / subject / sequence}: {len(frames)} frames, expected more than {last}: unpack the pictures"
            )
        chosen = [(frames[0], NEUTRAL)] if neutral else []
        chosen += [(frame, expression) for frame in frames[-last:]]
        records += [_record(frame, label) for frame, label in chosen]
    return records


def _units(root: Path, partial: bool) -> list[Record]:
    """The first and the last frame of each sequence with its action units."""
    images, labels = _first(root, IMAGES), _first(root, UNITS)
    if images is None or labels is None:
        raise DatasetNotFound(f"{root} has no {UNITS[0]}/: unpack the action units beside the pictures")
    coded = {path: _coded(path) for path in sorted(labels.glob("S*/*/*_facs.txt"))}
    names = sorted({name for found in coded.values() for name in found})
    records = []
    for path, found in coded.items():
        frames = pictures(images / path.parts[-3] / path.parts[-2])
        peak = next((frame for frame in frames if frame.stem == path.stem.removesuffix("_facs")), None)
        if peak is None or len(frames) < 2:
            if partial:
                continue
            raise DatasetDamaged(f"{path}: no pictures of this sequence in {images}: unpack them")
        for frame, levels in ((frames[0], {}), (peak, found)):
            attributes: dict[str, float] = {}
            for name in names:
                attributes[name] = int(name in levels)
                if name not in levels or levels[name]:
                    attributes[f"{name}_intensity"] = levels.get(name, 0.0)
            records.append(replace(_record(frame, UNLABELLED), attributes=attributes))
    return records


def _coded(path: Path) -> dict[str, float]:
    """The intensity of each unit in a file; 0 where none was coded."""
    levels = {}
    for number, line in lines(path):
        cells = [decimal(cell, f"{path}:{number}") for cell in line.split()]
        if len(cells) != 2 or not 1 <= cells[0] <= 99 or not 0 <= cells[1] <= 5:
            raise DatasetDamaged(f"{path}:{number}: '{line}' is no action unit and its intensity from 0 to 5")
        levels[f"AU{round(cells[0]):02}"] = cells[1]
    return levels


def _ck48(root: Path) -> list[Record]:
    records = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            expression = index_of(folder.name)
        except UnknownExpression:
            raise DatasetDamaged(
                f"{folder} is not a class of CK+: expected {', '.join(CKPLUS.classes)}"
            ) from None
        records += [_record(path, expression) for path in pictures(folder)]
    return records


def _record(path: Path, expression: int) -> Record:
    parts = NAME.match(path.stem)
    if parts is None:
        raise DatasetDamaged(f"{path}: expected a name such as S005_001_00000011.png")
    subject, sequence = parts["subject"], parts["sequence"]
    return Record(
        path=path,
        split="train",
        expression=expression,
        subject=subject,
        video=f"{subject}_{sequence}",
        frame=int(parts["frame"]) - 1,
        name=path.name,
    )


READER = Reader(
    name="ckplus",
    title="CK+",
    schema=CKPLUS,
    description="posed sequences from neutral to peak, 123 subjects, eight classes (Lucey et al. 2010)",
    wants="the folder that holds cohn-kanade-images/ and Emotion/, or CK+48 with anger/S010_004_00000017.png",
    terms="on request with a signed agreement; research, not commercial; few persons may be shown in print",
    variant=variant,
    read=read,
    official={"train": 981 + 327},
    sizes=((640, 490), (640, 480), (48, 48)),
)
