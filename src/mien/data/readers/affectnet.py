"""AffectNet: web faces with eight classes, valence and arousal, each labelled by one annotator.

Source: Mollahosseini, Hasani and Mahoor, "AffectNet: a database for facial expression, valence, and arousal computing
in the wild", IEEE Trans. Affective Computing 2017. Ask the owners (mohammadmahoor.com/affectnet). There are two
distributions with different files.

"lists", the full one:

    Manually_Annotated/Manually_Annotated_Images/<n>/<hash>.jpg
    Manually_Annotated_file_lists/training.csv, validation.csv
        subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,valence,arousal
        (some copies of validation.csv have no header; the 68 landmarks are not read)

"arrays", the reduced one of 291,651 faces at 224x224:

    train_set/images/0.jpg    train_set/annotations/0_exp.npy, 0_val.npy, 0_aro.npy (0_lnd.npy is not read)
    val_set/...

Codes 0 to 7 are classes; 8 none, 9 uncertain and 10 no face become unlabelled. Valence and arousal of -2 mean "no
label": values outside [-1, 1] become None. There is no public test set: the protocols use the validation set as "test".
Reading "arrays" opens about 900,000 small files: let `mien data check --manifest FILE` write a table once and train on
that.
"""

from __future__ import annotations

from pathlib import Path

from mien.data.label_codes import AFFECTNET
from mien.data.readers.base import Reader, affect, class_of, decimal, on_disk, pictures, rows, whole
from mien.data.records import Record, Split
from mien.errors import DatasetDamaged, DatasetNotFound

COLUMNS = (
    "subDirectory_filePath",
    "face_x",
    "face_y",
    "face_width",
    "face_height",
    "facial_landmarks",
    "expression",
    "valence",
    "arousal",
)
LISTS = "Manually_Annotated_file_lists"
FILES: dict[str, Split] = {"training.csv": "train", "validation.csv": "valid"}
FOLDERS = ("Manually_Annotated/Manually_Annotated_Images", "Manually_Annotated_Images", "Manually_Annotated")
SETS: dict[str, Split] = {"train_set": "train", "val_set": "valid"}


def variant(root: Path) -> str | None:
    """ "lists" or "arrays", or None."""
    if _lists(root):
        return "lists"
    return "arrays" if any((root / name / "annotations").is_dir() for name in SETS) else None


def _lists(root: Path) -> dict[Path, Split]:
    """The label files, in their own folder or straight in `root`."""
    for folder in (root / LISTS, root):
        found = {folder / name: split for name, split in FILES.items() if (folder / name).is_file()}
        if found:
            return found
    return {}


def read(root: Path, variant: str, partial: bool) -> list[Record]:
    """Read every row; for "lists" with the face's box in the picture."""
    records = _from_lists(root) if variant == "lists" else _from_arrays(root, partial)
    return on_disk(records, root, partial)


def _from_lists(root: Path) -> list[Record]:
    folder = next((root / name for name in FOLDERS if (root / name).is_dir()), None)
    if folder is None:
        raise DatasetNotFound(f"{root} has no {FOLDERS[0]}: unpack the pictures beside {LISTS}")
    records = []
    for path, split in _lists(root).items():
        for line, row in rows(path, COLUMNS):
            where = f"{path}:{line}"
            left, top, width, height = (decimal(row[name], where) for name in COLUMNS[1:5])
            name = row[COLUMNS[0]].strip()
            records.append(
                Record(
                    path=folder / name,
                    split=split,
                    expression=class_of(AFFECTNET, whole(row["expression"], where), where),
                    valence=affect(decimal(row["valence"], where)),
                    arousal=affect(decimal(row["arousal"], where)),
                    box=(left, top, left + width, top + height) if width > 0 and height > 0 else None,
                    name=name,
                    attributes={"code": whole(row["expression"], where)},
                )
            )
    return records


def _from_arrays(root: Path, partial: bool) -> list[Record]:
    records = []
    for name, split in SETS.items():
        notes = root / name / "annotations"
        for path in sorted(pictures(root / name / "images"), key=lambda path: (len(path.stem), path.stem)):
            values = {key: _value(notes / f"{path.stem}_{key}.npy", partial) for key in ("exp", "val", "aro")}
            code, valence, arousal = values["exp"], values["val"], values["aro"]
            if code is None or valence is None or arousal is None:
                continue
            records.append(
                Record(
                    path=path,
                    split=split,
                    expression=class_of(AFFECTNET, round(code), str(notes / f"{path.stem}_exp.npy")),
                    valence=affect(valence),
                    arousal=affect(arousal),
                    name=path.relative_to(root).as_posix(),
                    attributes={"code": round(code)},
                )
            )
    return records


def _value(path: Path, partial: bool) -> float | None:
    """The one number in a .npy file, which holds a float, an int or its text."""
    import numpy as np

    try:
        return float(np.load(path, allow_pickle=False).item())
    except FileNotFoundError:
        if partial:
            return None
        raise DatasetDamaged(
            f"{path} is missing: restore it, or run 'mien data check --manifest FILE' for a table"
        ) from None
    except (ValueError, EOFError, OSError) as problem:
        raise DatasetDamaged(f"{path} does not hold one number: {problem}") from None


READER = Reader(
    name="affectnet",
    title="AffectNet",
    schema=AFFECTNET,
    description="web faces with eight classes, valence and arousal by one annotator each (Mollahosseini et al. 2017)",
    wants=f"the folder that holds {LISTS}/ and Manually_Annotated/, or train_set/ and val_set/",
    terms="on request with a signed agreement; research, not commercial unless agreed",
    variant=variant,
    read=read,
    sizes=((224, 224),),
)
