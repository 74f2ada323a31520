"""RAF-DB, basic expressions: 12,271 training and 3,068 test faces from the web, seven classes, about 40 votes each.

Source: Li, Deng and Du, "Reliable crowdsourcing and deep locality-preserving learning for expression recognition in
the wild", CVPR 2017. Ask the owners for it (whdeng.cn/RAF); it may not be passed on.

On disk, as distributed (pass `basic`):

    EmoLabel/list_patition_label.txt                        (that spelling) lines "train_00001.jpg 5", codes 1 to 7
    Image/aligned/train_00001_aligned.jpg                   100x100; some archives nest aligned/aligned
    Image/original/train_00001.jpg
    Annotation/manual/train_00001_manu_attri.txt            five lines "x y", then gender, race and age codes
    Annotation/boundingbox/train_00001_boundingbox.txt      left top right bottom, in the original picture
    Annotation/auto/train_00001_auto_attri.txt              37 points; not read

and common copies:

    {train,valid,test}/{1..7}/*.jpg                         "numbers"
    DATASET/{train,test}/{1..7}/*.jpg, train_labels.csv     "tables" (image,label); folders of numbers also count
    train_label.txt, test_label.txt                         "lists": lines "train_00001.jpg 5" beside the pictures

There is no official validation split: the protocol holds one out. Gender, race and age, if annotated, become words in
`attributes`; the subject is unknown.
"""

from __future__ import annotations

from pathlib import Path

from mien.data.label_codes import RAFDB
from mien.data.readers.base import (
    Reader,
    class_of,
    decimal,
    lines,
    on_disk,
    pictures,
    rows,
    split_folders,
    whole,
)
from mien.data.records import Record, Split
from mien.errors import ConfigError, DatasetDamaged

LISTS = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt")
GENDERS = ("male", "female", "unsure")
RACES = ("Caucasian", "African-American", "Asian")
AGES = ("0-3", "4-19", "20-39", "40-69", "70+")
CODES = tuple(str(code) for code in sorted(RAFDB.codes))


def variant(root: Path) -> str | None:
    """ "official", "tables", "numbers" or "lists", or None."""
    if any((root / name).is_file() for name in LISTS):
        return "official"
    if (root / "train_labels.csv").is_file() and (root / "DATASET").is_dir():
        return "tables"
    if any((folder / code).is_dir() for folder in split_folders(root) for code in CODES):
        return "numbers"
    if (root / "DATASET").is_dir() and variant(root / "DATASET") == "numbers":
        return "tables"
    if (root / "train_label.txt").is_file() or (root / "test_label.txt").is_file():
        return "lists"
    return None


def read(root: Path, variant: str, partial: bool, crop: str = "aligned") -> list[Record]:
    """Read every labelled picture; `crop` is "aligned" or, only for the official layout, "original" (then with its
    box)."""
    if crop not in ("aligned", "original"):
        raise ConfigError(f"rafdb: crop='{crop}': use 'aligned' or 'original'")
    if variant == "official":
        records = _official(root, crop)
    elif crop == "original":
        raise ConfigError(f"rafdb: {root} is a copy without the original pictures: use crop='aligned'")
    elif variant == "numbers":
        records = _numbers(root, root)
    elif variant == "tables":
        records = _tables(root)
    else:
        records = _lists(root)
    return on_disk(records, root, partial)


def _official(root: Path, crop: str) -> list[Record]:
    path = next(root / name for name in LISTS if (root / name).is_file())
    folder = root / "Image" / crop
    if (folder / crop).is_dir():
        folder = folder / crop
    manual, boxes = root / "Annotation" / "manual", root / "Annotation" / "boundingbox"
    has_manual, has_boxes = manual.is_dir(), boxes.is_dir() and crop == "original"
    records = []
    for line, text in lines(path):
        name, code = _pair(text, f"{path}:{line}")
        stem = Path(name).stem
        records.append(
            Record(
                path=folder / (name if crop == "original" else f"{stem}_aligned.jpg"),
                split=_split(name, f"{path}:{line}"),
                expression=class_of(RAFDB, code, f"{path}:{line}"),
                box=_box(boxes / f"{stem}_boundingbox.txt") if has_boxes else None,
                name=name,
                attributes=_attributes(manual / f"{stem}_manu_attri.txt") if has_manual else {},
            )
        )
    return records


def _pair(text: str, where: str) -> tuple[str, int]:
    parts = text.rsplit(maxsplit=1)
    if len(parts) != 2:
        raise DatasetDamaged(f"{where}: expected 'train_00001.jpg 5', found '{text}'")
    return parts[0], whole(parts[1], where)


def _split(name: str, where: str) -> Split:
    start = Path(name).name.split("_")[0]
    if start == "train":
        return "train"
    if start == "test":
        return "test"
    raise DatasetDamaged(f"{where}: '{name}' starts with neither train_ nor test_")


def _attributes(path: Path) -> dict[str, object]:
    """Gender, race and age as words, and the five hand-marked points of the original picture."""
    if not path.is_file():
        return {}
    values = [text for _, text in lines(path)]
    if len(values) != 8:
        raise DatasetDamaged(f"{path}: {len(values)} lines instead of five points, gender, race and age")
    points = tuple(tuple(decimal(cell, str(path)) for cell in text.split()) for text in values[:5])
    words = {}
    for key, known, text in zip(("gender", "race", "age"), (GENDERS, RACES, AGES), values[5:], strict=True):
        code = whole(text, str(path))
        if not 0 <= code < len(known):
            raise DatasetDamaged(f"{path}: {key} code {code}: expected 0 to {len(known) - 1}")
        words[key] = known[code]
    return {**words, "points": points}


def _box(path: Path) -> tuple[float, float, float, float] | None:
    if not path.is_file():
        return None
    numbers = [decimal(cell, str(path)) for _, text in lines(path) for cell in text.split()]
    if len(numbers) != 4:
        raise DatasetDamaged(f"{path}: {len(numbers)} numbers instead of left, top, right, bottom")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _numbers(root: Path, base: Path) -> list[Record]:
    records = []
    for folder, split in split_folders(root).items():
        for child in sorted(path for path in folder.iterdir() if path.is_dir()):
            code = whole(child.name, str(child))
            expression = class_of(RAFDB, code, str(child))
            records += [
                Record(path, split, expression, name=path.relative_to(base).as_posix())
                for path in pictures(child)
            ]
    return records


def _tables(root: Path) -> list[Record]:
    """The copy with one CSV for each split; if a table is missing, the folder's number is the label."""
    records = {record.path: record for record in _numbers(root / "DATASET", root)}
    for split in ("train", "test"):
        path = root / f"{split}_labels.csv"
        if not path.is_file():
            continue
        for line, row in rows(path, ("image", "label")):
            code = whole(row["label"], f"{path}:{line}")
            expression = class_of(RAFDB, code, f"{path}:{line}")
            picture = root / "DATASET" / split / str(code) / row["image"].strip()
            name = picture.relative_to(root).as_posix()
            records[picture] = Record(picture, "train" if split == "train" else "test", expression, name=name)
    return list(records.values())


def _lists(root: Path) -> list[Record]:
    """The copy with one text list for each split; the pictures are beside it or in a usual folder."""
    records = []
    for split in ("train", "test"):
        path = root / f"{split}_label.txt"
        if not path.is_file():
            continue
        folders = (root, root / split, root / "aligned", root / "Image" / "aligned")
        folder: Path | None = None
        for line, text in lines(path):
            name, code = _pair(text, f"{path}:{line}")
            tries = (name, f"{Path(name).stem}_aligned.jpg")
            if folder is None:
                folder = next(
                    (f for f in folders if any((f / candidate).is_file() for candidate in tries)), root
                )
            file = next((candidate for candidate in tries if (folder / candidate).is_file()), name)
            expression = class_of(RAFDB, code, f"{path}:{line}")
            records.append(
                Record(folder / file, "train" if split == "train" else "test", expression, name=name)
            )
    return records


READER = Reader(
    name="rafdb",
    title="RAF-DB (basic)",
    schema=RAFDB,
    description="aligned 100x100 web faces, seven classes by about 40 annotators (Li et al. 2017)",
    wants="RAF-DB's 'basic' folder, which holds EmoLabel/list_patition_label.txt, or a copy with train/1 ... test/7",
    terms="on request from the authors; research, not commercial; pictures may not be passed on",
    variant=variant,
    read=read,
    official={"train": 12_271, "test": 3_068},
    sizes=((100, 100),),
)
