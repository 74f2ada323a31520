"""SFEW 2.0: 1,766 still frames from films, seven classes.

Source: Dhall et al., "Video and image based emotion recognition challenges in the wild: EmotiW 2015", ICMI 2015. Ask
the owners (cs.anu.edu.au/few). The labels of the test frames are withheld, so accuracy is reported on the validation
frames.

On disk:

    Train/<Class>/<Movie>_<timestamp>_<frame>.png         958; Angry, Disgust, Fear, Happy, Neutral, Sad, Surprise
    Val/<Class>/...                                       436
    Test/...                                              372, without labels
    Train_Aligned_Faces/, Val_Aligned_Faces/, Test_...    143x181 faces; a few are missing, where no face was found
"""

from __future__ import annotations

import re
from pathlib import Path

from mien.data.label_codes import SFEW
from mien.data.readers.base import Reader, pictures
from mien.data.records import Record, Split
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound
from mien.labels import UNLABELLED, UnknownExpression, index_of

FOLDERS: dict[str, Split] = {"Train": "train", "Val": "valid", "Test": "test"}
ALIGNED = "_Aligned_Faces"
NAME = re.compile(r"(?P<movie>.+)_(?P<time>\d+)_(?P<frame>\d+)$")


def variant(root: Path) -> str | None:
    """ "aligned" or "frames" (only whole frames), or None."""
    for kind, ending in (("aligned", ALIGNED), ("frames", "")):
        if any((root / f"Train{ending}" / name).is_dir() for name in ("Angry", "Happy", "Neutral")):
            return kind
        if any((root / f"Val{ending}" / name).is_dir() for name in ("Angry", "Happy", "Neutral")):
            return kind
    return None


def read(root: Path, variant: str, partial: bool, crop: str = "aligned") -> list[Record]:
    """Read every frame; `crop` is "aligned" or "frames" (the whole frames). `video` is the film's name."""
    if crop not in ("aligned", "frames"):
        raise ConfigError(f"sfew: crop='{crop}': use 'aligned' or 'frames'")
    if crop == "aligned" and variant == "frames":
        raise DatasetNotFound(
            f"{root} has no Train{ALIGNED}/: unpack the aligned faces, or pass crop='frames'"
        )
    records: list[Record] = []
    for name, split in FOLDERS.items():
        folder = root / (name + (ALIGNED if crop == "aligned" else ""))
        if split == "test":
            found = [*pictures(folder), *(path for child in _folders(folder) for path in pictures(child))]
            records += [_record(path, root, split, UNLABELLED) for path in found]
            continue
        for child in _folders(folder):
            try:
                expression = index_of(child.name)
            except UnknownExpression:
                raise DatasetDamaged(
                    f"{child} is not a class of SFEW: expected Angry, Disgust, Fear, ..."
                ) from None
            records += [_record(path, root, split, expression) for path in pictures(child)]
    return records


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _record(path: Path, root: Path, split: Split, expression: int) -> Record:
    parts = NAME.match(path.stem)
    if parts is None:
        raise DatasetDamaged(f"{path}: expected a name such as Airheads_000519240_00000005.png")
    movie, frame = parts["movie"], int(parts["frame"])
    return Record(path, split, expression, video=movie, frame=frame, name=path.relative_to(root).as_posix())


READER = Reader(
    name="sfew",
    title="SFEW 2.0",
    schema=SFEW,
    description="still frames from films, seven classes (Dhall et al. 2015)",
    wants="the folder that holds Train_Aligned_Faces/ and Val_Aligned_Faces/, or Train/ and Val/, with class folders",
    terms="on request with a signed agreement; academic research; stills of films",
    variant=variant,
    read=read,
    official={"train": 958, "valid": 436, "test": 372},
    sizes=((143, 181),),
)
