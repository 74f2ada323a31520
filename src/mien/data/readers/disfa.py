"""DISFA: videos of 27 people who watch a film, with the intensity of twelve action units in each of about 4,845 frames.

Source: Mavadati, Mahoor, Bartlett, Trinh and Cohn, "DISFA: a spontaneous facial action intensity database", IEEE
Transactions on Affective Computing 2013. Ask the owners (mohammadmahoor.com/disfa).

On disk:

    ActionUnit_Labels/SN001/SN001_au1.txt ... SN001_au26.txt      lines "1,0": the frame, from 1, and 0 to 5
    Videos_LeftCamera/LeftVideoSN001_comp.avi ...
    Videos_RightCamera/RightVideoSN001_Comp.avi ...               of the other camera, the same labels

Attributes: `AU12_intensity` 0 to 5, and `AU12` 1 from 2 on and 0 below, the usual choice. There are no official splits:
all is "test".
"""

from __future__ import annotations

import re
from pathlib import Path

from mien.data.readers.base import Reader, lines, whole
from mien.data.records import Record
from mien.errors import ConfigError, DatasetDamaged

LABELS = "ActionUnit_Labels"
LEFT, RIGHT = "Videos_LeftCamera", "Videos_RightCamera"
CAMERAS = {"left": (LEFT,), "right": (RIGHT,), "both": (LEFT, RIGHT)}
PRESENT = 2
"""Intensity from which a unit counts as present."""


def variant(root: Path) -> str | None:
    """ "videos", or None."""
    return "videos" if any((root / LABELS).glob("SN*/SN*_au*.txt")) else None


def read(root: Path, variant: str, partial: bool, camera: str = "left", every: int = 1) -> list[Record]:
    """Read every `every`-th frame of the videos of one camera ("left", "right") or of "both"."""
    if every < 1:
        raise ConfigError(f"disfa: every={every}: use 1 for all frames, 10 for each tenth")
    if camera not in CAMERAS:
        raise ConfigError(f"disfa: camera='{camera}': use left, right or both")
    records: list[Record] = []
    for folder in sorted(path for path in (root / LABELS).iterdir() if path.name.startswith("SN")):
        levels = _levels(folder)
        for place in CAMERAS[camera]:
            video = next((p for p in sorted((root / place).glob("*.avi")) if folder.name in p.stem), None)
            if video is None:
                if partial:
                    continue
                raise DatasetDamaged(
                    f"{root / place}: no video of {folder.name}: restore it, or run 'mien data check --manifest FILE' "
                    "for a table without it"
                )
            side = place.removeprefix("Videos_").removesuffix("Camera").lower()
            records += [
                Record(
                    video,
                    "test",
                    subject=folder.name,
                    video=video.stem,
                    frame=frame - 1,
                    name=f"{folder.name}/{side}/{frame:04d}",
                    attributes=_attributes(levels, frame),
                )
                for frame in range(1, 1 + min(map(len, levels.values())), every)
            ]
    return records


def _levels(folder: Path) -> dict[str, list[int]]:
    """The intensities of each unit of one person, by frame."""
    found: dict[str, list[int]] = {}
    for path in sorted(folder.glob("*_au*.txt")):
        number = re.search(r"_au(\d+)$", path.stem)
        if number is None:
            raise DatasetDamaged(f"{path}: expected a name such as SN001_au12.txt")
        levels: list[int] = []
        for line, text in lines(path):
            frame, _, level = text.partition(",")
            where = f"{path}:{line}"
            if whole(frame, where) != len(levels) + 1 or not 0 <= whole(level, where) <= 5:
                raise DatasetDamaged(
                    f"{where}: '{text}': expected frame {len(levels) + 1} and a level from 0 to 5"
                )
            levels.append(whole(level, where))
        found[f"AU{int(number[1]):02}"] = levels
    if not found:
        raise DatasetDamaged(f"{folder} holds no file such as {folder.name}_au12.txt: unpack it again")
    return found


def _attributes(levels: dict[str, list[int]], frame: int) -> dict[str, int]:
    now = {name: values[frame - 1] for name, values in levels.items()}
    return {name: int(level >= PRESENT) for name, level in now.items()} | {
        f"{name}_intensity": level for name, level in now.items()
    }


READER = Reader(
    name="disfa",
    title="DISFA",
    schema=None,
    description="videos of 27 people with the intensity of twelve action units in every frame (Mavadati et al. 2013)",
    wants="the folder that holds ActionUnit_Labels/SN001/ ... and Videos_LeftCamera/",
    terms="on request with a signed agreement; research, not commercial; some people may not be shown in print",
    variant=variant,
    read=read,
)
