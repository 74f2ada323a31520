"""AFEW-VA: 600 clips from films, about 30,050 frames with valence, arousal and 68 landmarks each.

Source: Kossaifi, Tzimiropoulos, Todorovic and Pantic, "AFEW-VA database for valence and arousal estimation
in-the-wild", Image and Vision Computing 2017. Ask the owners (ibug.doc.ic.ac.uk/resources/afew-va-database).

On disk (the archive's twelve parts unpacked side by side, or each in a folder of its own):

    001/00000.png ...
    001/001.json      {"video_id": "001", "actor": "...", "frames": {"00000": {"landmarks": [[x, y], ... 68],
                       "valence": 3, "arousal": -2}, ...}}

Levels are integers from -10 to 10, divided by 10 here. The box is that of the landmarks. There are no official splits:
all records are "train" until the protocol makes five folds by actor.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mien.data.readers.base import Reader, affect, on_disk
from mien.data.records import Record
from mien.errors import DatasetDamaged

LEVELS = 10.0


def _clips(root: Path) -> list[Path]:
    """The clips' JSON files, straight below `root` or one folder further down."""
    found = [path for pattern in ("*/*.json", "*/*/*.json") for path in root.glob(pattern)]
    return sorted(
        (path for path in found if path.stem == path.parent.name and path.stem.isdigit()),
        key=lambda p: p.stem,
    )


def variant(root: Path) -> str | None:
    """ "clips", or None."""
    return "clips" if _clips(root) else None


def read(root: Path, variant: str, partial: bool) -> list[Record]:
    """Read every annotated frame; `subject` is the actor, `video` the clip."""
    records: list[Record] = []
    for path in _clips(root):
        try:
            clip = json.loads(path.read_text(encoding="utf-8"))
            actor, frames = str(clip["actor"]), dict(clip["frames"])
        except (ValueError, KeyError, TypeError) as problem:
            raise DatasetDamaged(
                f"{path}: expected video_id, actor and frames ({problem!r}): unpack it again"
            ) from None
        records += [_record(path, actor, number, frames[number]) for number in sorted(frames)]
    return on_disk(records, root, partial)


def _record(path: Path, actor: str, number: str, frame: Any) -> Record:
    try:
        valence, arousal = float(frame["valence"]), float(frame["arousal"])
        points = [(float(x), float(y)) for x, y in frame.get("landmarks", [])]
    except (KeyError, TypeError, ValueError) as problem:
        raise DatasetDamaged(
            f"{path}: frame {number}: expected valence, arousal and landmarks ({problem!r})"
        ) from None
    if affect(valence, LEVELS) is None or affect(arousal, LEVELS) is None:
        raise DatasetDamaged(
            f"{path}: frame {number}: valence {valence}, arousal {arousal}: expected -10 to 10"
        )
    x, y = [point[0] for point in points], [point[1] for point in points]
    return Record(
        path=path.with_name(f"{number}.png"),
        split="train",
        valence=affect(valence, LEVELS),
        arousal=affect(arousal, LEVELS),
        subject=actor,
        video=path.stem,
        frame=int(number),
        box=(min(x), min(y), max(x), max(y)) if points else None,
        name=f"{path.stem}/{number}.png",
    )


READER = Reader(
    name="afewva",
    title="AFEW-VA",
    schema=None,
    description="film clips with valence, arousal and landmarks for every frame (Kossaifi et al. 2017)",
    wants="the folder that holds the clips 001/ ... 600/, each with 001.json and its frames",
    terms="on request; research, not commercial; stills of films",
    variant=variant,
    read=read,
)
