"""FER2013: 35,887 grey faces of 48x48 pixels from web search, seven classes, one (noisy) label each.

Source: Goodfellow et al., "Challenges in representation learning: a report on three machine learning contests",
ICONIP 2013; Kaggle, "Challenges in Representation Learning: Facial Expression Recognition Challenge". For better
labels of the same pictures see `mien.data.readers.ferplus`.

On disk, the csv form:

    fer2013.csv         emotion,pixels,Usage     2,304 grey values as text; Usage Training | PublicTest | PrivateTest
                        (or icml_face_data.csv, the same with the columns emotion, Usage, pixels)

from which the reader once writes `fer2013-pictures/<row>.png`; or the folder form of later copies:

    train/angry/Training_10118481.jpg ...    test/angry/PrivateTest_10131363.jpg, PublicTest_...jpg

where the file's name says which of the two test halves it is: `PublicTest` is "valid", `PrivateTest` is "test".
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from mien.data.label_codes import FER2013
from mien.data.readers.base import Reader, class_of, on_disk, pictures, rows, split_folders, whole
from mien.data.records import Record, Split
from mien.errors import DatasetDamaged, DatasetNotFound
from mien.io import atomic
from mien.labels import UnknownExpression, index_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 48
USAGES: dict[str, Split] = {"Training": "train", "PublicTest": "valid", "PrivateTest": "test"}
FILES = ("fer2013.csv", "icml_face_data.csv")
EXTRACTED = "fer2013-pictures"


class PixelRow(NamedTuple):
    """One row of the challenge's table: `line` of the file, class `code`, `pixels` uint8 [48, 48], `usage`."""

    line: int
    code: int
    pixels: NDArray[np.uint8]
    usage: str


def pixel_rows(path: Path, decode: bool = True) -> Iterator[PixelRow]:
    """Yield the rows of fer2013.csv in order; without `decode` the pixels are empty.

    Raises:
        DatasetDamaged: a row does not hold 48x48 values of 0 to 255, or names an unknown usage.
    """
    import numpy as np

    nothing = np.empty((0, 0), np.uint8)
    for line, row in rows(path):
        where = f"{path}:{line}"
        if not {"emotion", "pixels", "Usage"} <= row.keys():
            raise DatasetDamaged(
                f"{path} does not have all the columns emotion, pixels, Usage: download it again"
            )
        if row["Usage"] not in USAGES:
            raise DatasetDamaged(f"{where}: usage '{row['Usage']}': expected {', '.join(USAGES)}")
        pixels = nothing
        if decode:
            try:
                values = np.array(row["pixels"].split(), dtype=np.uint8)
            except (ValueError, OverflowError):
                raise DatasetDamaged(f"{where}: pixels that are not numbers from 0 to 255") from None
            if values.size != SIDE * SIDE:
                raise DatasetDamaged(
                    f"{where}: {values.size} pixels instead of {SIDE * SIDE}: download it again"
                )
            pixels = values.reshape(SIDE, SIDE)
        yield PixelRow(line, whole(row["emotion"], where), pixels, row["Usage"])


def variant(root: Path) -> str | None:
    """ "csv" or "folders", or None."""
    if any((root / name).is_file() for name in FILES):
        return "csv"
    if any(_is_class_folder(child) for folder in split_folders(root) for child in folder.iterdir()):
        return "folders" if _has_usage_names(root) else None
    return None


def _is_class_folder(path: Path) -> bool:
    try:
        index_of(path.name)
    except UnknownExpression:
        return False
    return path.is_dir()


def _has_usage_names(root: Path) -> bool:
    """Whether the pictures' names begin with the challenge's usages, which distinguishes this set from other class
    folders."""
    for folder in split_folders(root):
        for child in folder.iterdir():
            if child.is_dir():
                return any(path.name.startswith(tuple(USAGES)) for path in pictures(child)[:1])
    return False


def read(root: Path, variant: str, partial: bool) -> list[Record]:
    """Read every row or picture; `expression` is the challenge's label."""
    if variant == "folders":
        return _from_folders(root)
    path = next(root / name for name in FILES if (root / name).is_file())
    folder = root / EXTRACTED
    if not folder.is_dir():
        extract(path, folder)
    records = [
        Record(
            path=folder / f"{number:05d}.png",
            split=USAGES[row.usage],
            expression=class_of(FER2013, row.code, f"{path}:{row.line}"),
            name=f"{number:05d}.png",
            attributes={"usage": row.usage},
        )
        for number, row in enumerate(pixel_rows(path, decode=False))
    ]
    return on_disk(records, root, partial)


def _from_folders(root: Path) -> list[Record]:
    records: list[Record] = []
    for folder in split_folders(root):
        for child in sorted(folder.iterdir()):
            if not child.is_dir():
                continue
            if not _is_class_folder(child):
                raise DatasetDamaged(
                    f"{child} is not a class of FER2013: expected {', '.join(FER2013.classes)}"
                )
            for path in pictures(child):
                usage = path.name.split("_")[0]
                if usage not in USAGES:
                    raise DatasetDamaged(
                        f"{path}: expected a name that starts with one of {', '.join(USAGES)}"
                    )
                records.append(
                    Record(
                        path=path,
                        split=USAGES[usage],
                        expression=index_of(child.name),
                        name=path.relative_to(root).as_posix(),
                        attributes={"usage": usage},
                    )
                )
    return records


def extract(path: Path, folder: Path) -> None:
    """Write one PNG for each row of fer2013.csv, named by row; the folder appears only when complete.

    Raises:
        DatasetNotFound: the folder cannot be written.
    """
    from PIL import Image

    try:
        with atomic.folder(folder) as unfinished:
            for number, row in enumerate(pixel_rows(path)):
                Image.fromarray(row.pixels).save(unfinished / f"{number:05d}.png")
    except PermissionError:
        raise DatasetNotFound(
            f"cannot write beside {path}: pass a folder that you can write to with this file"
        ) from None


READER = Reader(
    name="fer2013",
    title="FER2013",
    schema=FER2013,
    description="48x48 grey web faces, seven classes, one label each (Goodfellow et al. 2013)",
    wants="the folder that holds fer2013.csv, or train/ and test/ with class folders of Training_*.jpg and such",
    terms="web pictures collected for the ICML 2013 challenge; research",
    variant=variant,
    read=read,
    official={"train": 28_709, "valid": 3_589, "test": 3_589},
    sizes=((48, 48),),
)
