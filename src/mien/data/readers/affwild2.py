"""Aff-Wild2: web videos as cropped frames, with valence and arousal (VA) or eight codes of expression (EXPR) each.

Source: Kollias and Zafeiriou, "Expression, affect, action unit recognition: Aff-Wild2, multi-task learning and
ArcFace", BMVC 2019, and the ABAW challenges. Ask the owners (ibug.doc.ic.ac.uk/resources/aff-wild2).

On disk (annotation folders in `root` or one folder down, such as "annotations"):

    VA_Estimation_Challenge/Train_Set/<video>.txt                   header, then "valence,arousal"; -5 is invalid
    VA_Estimation_Challenge/Validation_Set/...
    EXPR_Classification_Challenge/... (later EXPR_Recognition_...)  header, then a code 0 to 7; -1 is invalid
    cropped_aligned/<video>/00001.jpg                               line k after the header is frame k

<video> ends in `_left` or `_right` for the second person of a scene: `subject` is the whole name, `video` the scene.
Frames in which no face was found have a label but no picture: they are left out, as is usual. EXPR code 7, "Other", is
not one of our expressions: it is unlabelled, with its code in `attributes`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mien.data.label_codes import AFFWILD2
from mien.data.readers.base import Reader, affect, class_of, decimal, lines, whole
from mien.data.records import Record, Split
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound

TASKS = {"va": "VA_Estimation_*", "expr": "EXPR_*"}
SETS: dict[str, Split] = {"Train_Set": "train", "Validation_Set": "valid"}
FRAMES = ("cropped_aligned", "cropped_aligned_images/cropped_aligned")
INVALID = -1


def _annotations(root: Path, task: str) -> Path | None:
    found = sorted(path for start in ("", "*/") for path in root.glob(start + TASKS[task]) if path.is_dir())
    return found[0] if found else None


def variant(root: Path) -> str | None:
    """ "va", "expr", "va+expr", or None."""
    return "+".join(task for task in TASKS if _annotations(root, task)) or None


def read(root: Path, variant: str, partial: bool, task: str = "", every: int = 1) -> list[Record]:
    """Read every `every`-th labelled frame of `task`, "va" or "expr"; by default the one that exists, "va" first."""
    task = task or variant.split("+")[0]
    if task not in TASKS:
        raise ConfigError(f"affwild2: task='{task}': use 'va' or 'expr'")
    if every < 1:
        raise ConfigError(f"affwild2: every={every}: use 1 for all frames, 10 for each tenth")
    labels = _annotations(root, task)
    if labels is None:
        raise DatasetNotFound(f"{root} has no {TASKS[task]}/: unpack the annotations of that challenge there")
    frames = next((root / name for name in FRAMES if (root / name).is_dir()), None)
    if frames is None:
        raise DatasetNotFound(f"{root} has no {FRAMES[0]}/: unpack the cropped and aligned frames there")
    records: list[Record] = []
    for name, split in SETS.items():
        for path in sorted((labels / name).glob("*.txt")):
            folder = frames / path.stem
            if not folder.is_dir():
                if partial:
                    continue
                raise DatasetDamaged(
                    f"{folder} is missing: restore it, or run 'mien data check --manifest FILE' for a table without it"
                )
            listed = frozenset(picture.name for picture in folder.iterdir())
            records += _frames(path, folder, listed, split, task, every)
    return records


def _frames(
    path: Path, folder: Path, listed: frozenset[str], split: Split, task: str, every: int
) -> list[Record]:
    base = path.stem.removesuffix("_left").removesuffix("_right")
    records = []
    content = list(lines(path))[1:]
    for number, (line, text) in enumerate(content, start=1):
        file = f"{number:05d}.jpg"
        if file not in listed or (number - 1) % every:
            continue
        where = f"{path}:{line}"
        record = Record(
            folder / file, split, subject=path.stem, video=base, frame=number - 1, name=f"{path.stem}/{file}"
        )
        if task == "va":
            cells = text.split(",")
            if len(cells) != 2:
                raise DatasetDamaged(f"{where}: expected 'valence,arousal', found '{text}'")
            valence, arousal = (affect(decimal(cell, where)) for cell in cells)
            if valence is not None and arousal is not None:
                records.append(replace(record, valence=valence, arousal=arousal))
        else:
            code = whole(text, where)
            expression = class_of(AFFWILD2, code, where)
            if code != INVALID:
                records.append(replace(record, expression=expression, attributes={"code": code}))
    return records


READER = Reader(
    name="affwild2",
    title="Aff-Wild2",
    schema=AFFWILD2,
    description="cropped frames of web videos with valence and arousal, or expression codes (Kollias et al. 2019)",
    wants="the folder that holds VA_Estimation_Challenge/ or EXPR_Classification_Challenge/, and cropped_aligned/",
    terms="on request with a signed agreement; research, not commercial; videos of the web",
    variant=variant,
    read=read,
    sizes=((112, 112),),
)
