"""BP4D: 41 people in eight tasks, with the action units of about 147,000 frames.

Source: Zhang et al., "BP4D-Spontaneous: a high-resolution spontaneous 3D dynamic facial expression database", Image and
Vision Computing 2014; intensities: Valstar et al., "FERA 2015", FG workshops 2015. Ask the owners (Binghamton
University).

On disk (the pictures at any depth):

    AUCoding/AU_OCC/F001_T1.csv             first line: 0, then the numbers of the units; then a line for each coded
                                            frame: its number, and for each unit 1, 0 or 9 (not known)
    AUCoding/AU_INT/AU12/F001_T1_AU12.csv   a line for each frame: its number, and 0 to 5, or 9 (not known)
    Sequences(2D+3D)/F001/T1/2440.jpg ...   frames by their numbers, with or without zeros before them

Attributes: `AU12` 1 or 0 and, for five units, `AU12_intensity` 0 to 5. There are no official splits of the whole set:
all is "test".
"""

from __future__ import annotations

import csv
from pathlib import Path

from mien.data.readers.base import Reader, pictures, whole
from mien.data.records import Record
from mien.errors import ConfigError, DatasetDamaged

OCCURRENCE, INTENSITY = ("AUCoding/AU_OCC", "AU_OCC"), ("AUCoding/AU_INT", "AU_INT")
UNKNOWN = 9


def _first(root: Path, names: tuple[str, ...]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def variant(root: Path) -> str | None:
    """ "coding", or None."""
    coding = _first(root, OCCURRENCE)
    return "coding" if coding is not None and any(coding.glob("[FM]*_T*.csv")) else None


def read(root: Path, variant: str, partial: bool, every: int = 1) -> list[Record]:
    """Read every `every`-th coded frame."""
    if every < 1:
        raise ConfigError(f"bp4d: every={every}: use 1 for all frames, 10 for each tenth")
    coding = _first(root, OCCURRENCE) or root
    folders = {
        f"{path.parent.name}_{path.name}": path for path in sorted(root.rglob("T[0-9]*")) if path.is_dir()
    }
    records: list[Record] = []
    for path in sorted(coding.glob("[FM]*_T*.csv")):
        coded = _occurrence(path)
        for name, levels in _intensities(root, path.stem).items():
            for frame, level in levels.items():
                coded.setdefault(frame, {})[name] = level
        there = {
            int(p.stem): p for p in pictures(folders.get(path.stem, root / path.stem)) if p.stem.isdecimal()
        }
        for frame in sorted(coded)[::every]:
            if frame not in there and partial:
                continue
            if frame not in there:
                raise DatasetDamaged(
                    f"{root}: no picture of frame {frame} of {path.stem}: restore it, or run "
                    "'mien data check --manifest FILE' for a table without it"
                )
            records.append(
                Record(
                    there[frame],
                    "test",
                    subject=path.stem.partition("_")[0],
                    video=path.stem,
                    frame=frame,
                    name=f"{path.stem}/{frame:04d}",
                    attributes=coded[frame],
                )
            )
    return records


def _table(path: Path) -> list[list[int]]:
    """The whole numbers of a CSV file, row by row."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.reader(file)
        try:
            return [
                [whole(cell, f"{path}:{table.line_num}") for cell in row]
                for row in table
                if any(cell.strip() for cell in row)
            ]
        except (UnicodeDecodeError, csv.Error) as problem:
            raise DatasetDamaged(f"{path} is not a CSV text: {problem}") from None


def _occurrence(path: Path) -> dict[int, dict[str, int]]:
    """By frame the units that are known to be there or not."""
    head, *rows = _table(path) or [[]]
    if head[:1] != [0] or any(len(row) != len(head) for row in rows):
        raise DatasetDamaged(
            f"{path}: expected a line of 0 and the units' numbers, then as many cells for each frame"
        )
    names = [f"AU{number:02}" for number in head[1:]]
    coded = {}
    for frame, *cells in rows:
        if not {*cells} <= {0, 1, UNKNOWN}:
            raise DatasetDamaged(f"{path}: frame {frame}: expected 0, 1 or {UNKNOWN} for each unit")
        coded[frame] = {name: cell for name, cell in zip(names, cells, strict=True) if cell != UNKNOWN}
    return coded


def _intensities(root: Path, clip: str) -> dict[str, dict[int, int]]:
    """The levels of each unit of a clip, by frame."""
    folder = _first(root, INTENSITY)
    found: dict[str, dict[int, int]] = {}
    for path in sorted(folder.glob(f"AU*/{clip}_AU*.csv")) if folder is not None else ():
        rows = _table(path)
        if any(len(row) != 2 or not (0 <= row[1] <= 5 or row[1] == UNKNOWN) for row in rows):
            raise DatasetDamaged(
                f"{path}: expected a frame and a level from 0 to 5, or {UNKNOWN}, in each line"
            )
        found[f"{path.parent.name}_intensity"] = {frame: level for frame, level in rows if level != UNKNOWN}
    return found


READER = Reader(
    name="bp4d",
    title="BP4D",
    schema=None,
    description="41 people in eight tasks with the action units of each frame (Zhang et al. 2014)",
    wants="the folder that holds AUCoding/AU_OCC/ and the pictures, such as Sequences(2D+3D)/F001/T1/2440.jpg",
    terms="on request with a signed agreement and a fee; research, not commercial",
    variant=variant,
    read=read,
)
