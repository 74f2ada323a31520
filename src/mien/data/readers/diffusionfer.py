"""DiffusionFER: 1,285 labelled synthetic faces, 224x224 RGB, with seven classes, valence and arousal.

Source: Kim et al., "DiffusionFER", the set "DiffusionEmotion_S, cropped", CC0 1.0, listed at
github.com/kdhht2334/Facial-Expression-Recognition-Zoo. The pictures were made by Stable Diffusion: suitable for
training and tests, but no evidence of accuracy on real people. Whether two show the same person is unknown: no split by
subject.

On disk, either the authors' layout

    dataset_sheet.csv           subDirectory_filePath,valence,arousal,expression
    cropped/<class>/<name>.png

or a flat copy

    labels.csv                  image,folder,valence,arousal,expression
    images/<class>/<name>.jpg

The class *folder* is that of the text prompt; the annotated class is the `expression` column (AffectNet's codes 0 to
6), which often differs. This reader uses the column.
"""

from __future__ import annotations

from pathlib import Path

from mien.data.label_codes import AFFECTNET, LabelSchema
from mien.data.readers.base import Reader, affect, class_of, decimal, on_disk, rows, whole
from mien.data.records import Record
from mien.errors import DatasetDamaged

SCHEMA = LabelSchema("DiffusionFER", {code: AFFECTNET.codes[code] for code in range(7)})
SHEETS = {"labels.csv": "image", "dataset_sheet.csv": "subDirectory_filePath"}
"""Label files by the column that names the picture."""
FOLDERS = ("images", "cropped", "DiffusionEmotion_S/cropped", ".")


def variant(root: Path) -> str | None:
    """The name of the label file, or None."""
    for sheet in SHEETS:
        path = root / sheet
        if path.is_file():
            with path.open(encoding="utf-8-sig", errors="replace") as file:
                header = {cell.strip(' "\r\n').lower() for cell in file.readline().split(",")}
            if {"valence", "arousal", "expression"} <= header and "face_x" not in header:
                return sheet
    return None


def read(root: Path, variant: str, partial: bool) -> list[Record]:
    """Read every row; all are "train" until a protocol makes folds. `attributes["prompt"]` is the class folder."""
    sheet = root / variant
    folder = next(
        (root / name for name in FOLDERS if any(child.is_dir() for child in (root / name).glob("[ahdfns]*"))),
        root,
    )
    records = []
    for line, raw in rows(sheet):
        row = {key.lower(): value for key, value in raw.items()}
        where = f"{sheet}:{line}"
        column = next((name for name in (SHEETS[variant].lower(), "path", "image") if name in row), None)
        if column is None:
            raise DatasetDamaged(f"{sheet} has no column '{SHEETS[variant]}', which names the picture")
        name = "/".join(Path(row[column].strip().replace("\\", "/")).parts[-2:])
        valence, arousal = decimal(row["valence"], where), decimal(row["arousal"], where)
        if affect(valence) is None or affect(arousal) is None:
            raise DatasetDamaged(
                f"{where}: valence {valence}, arousal {arousal}: expected numbers from -1 to 1"
            )
        records.append(
            Record(
                path=folder / name,
                split="train",
                expression=class_of(SCHEMA, whole(row["expression"], where), where),
                valence=valence,
                arousal=arousal,
                name=name,
                attributes={"prompt": name.split("/")[0]},
            )
        )
    return on_disk(records, root, partial)


READER = Reader(
    name="diffusionfer",
    title="DiffusionFER",
    schema=SCHEMA,
    description="synthetic faces with seven classes, valence and arousal (Kim et al., CC0)",
    wants="the folder that holds labels.csv and images/, or dataset_sheet.csv and cropped/",
    terms="CC0-1.0; generated faces",
    variant=variant,
    read=read,
    official={"train": 1_285},
    sizes=((224, 224),),
)
