"""FERPlus: the FER2013 pictures (48x48 grey faces from web search) with ten crowd votes each.

Source: Barsoum, Zhang, Canton Ferrer and Zhang, "Training deep networks for facial expression recognition with
crowd-sourced label distribution", ICMI 2016; votes at github.com/microsoft/FERPlus (MIT). The pixels are FER2013's
and come from the Kaggle challenge of ICML 2013; they are not in that repository.

On disk, the folder form (what the authors' script writes):

    fer2013new.csv      Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF
    FER2013Train/       fer0000000.png ... and label.csv: name,"(0, 0, 48, 48)",10 votes, without a header
    FER2013Valid/       (the `PublicTest` rows)
    FER2013Test/        (the `PrivateTest` rows)

or the csv form, `fer2013.csv` (emotion,pixels,Usage) beside `fer2013new.csv`: both have the same 35,887 rows in the
same order, and are joined by row. The reader then writes the folder form once, beside them.

Pitfalls that this reader handles: the number in a picture's name is *not* its csv row; 173 rows have no name (no face)
and are left out; a name on two rows keeps the later one, unless the two disagree (fer0033120), then it is left out. The
folders' `label.csv` hold slightly older votes (1,602 rows differ): ask for them with `votes="label"`.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path

from mien.data.label_codes import FERPLUS
from mien.data.readers.base import Reader, on_disk, rows, whole
from mien.data.readers.fer2013 import pixel_rows
from mien.data.records import Record, Split
from mien.errors import ConfigError, DatasetDamaged, DatasetNotFound
from mien.io import atomic
from mien.labels import EXPRESSIONS, UNLABELLED

FOLDERS: dict[str, Split] = {"FER2013Train": "train", "FER2013Valid": "valid", "FER2013Test": "test"}
USAGES: dict[str, str] = {
    "Training": "FER2013Train",
    "PublicTest": "FER2013Valid",
    "PrivateTest": "FER2013Test",
}
VOTES = (*EXPRESSIONS, "unknown", "NF")
VOTE_FILE = ("Usage", "Image name", *VOTES)
LABEL_FILE = ("Image name", "box", *VOTES)
DISPUTED = frozenset({"fer0033120.png"})
"""Names with two different rows in the published vote file."""


def variant(root: Path) -> str | None:
    """ "folders", "csv" or "label.csv" (folders without the vote file), or None."""
    votes = (root / "fer2013new.csv").is_file()
    folders = [name for name in FOLDERS if (root / name).is_dir()]
    if votes and folders:
        return "folders"
    if votes and (root / "fer2013.csv").is_file():
        return "csv"
    if any((root / name / "label.csv").is_file() for name in folders):
        return "label.csv"
    return None


def read(root: Path, variant: str, partial: bool, votes: str = "fer2013new") -> list[Record]:
    """Read every named row; `votes` is "fer2013new" (the released file) or "label" (the older, per-folder files).

    `Record.votes` are the raw counts of the eight classes and `attributes` the counts of "unknown" and "NF" with the
    "usage". `expression` is the class with the most votes among the eight, the first of `EXPRESSIONS` on a tie; a
    protocol replaces it by its own rule.
    """
    if votes not in ("fer2013new", "label"):
        raise ConfigError(f"ferplus: votes='{votes}': use 'fer2013new' or 'label'")
    if variant == "csv":
        extract(root, root)
    older = votes == "label" or variant == "label.csv"
    records = _from_label_files(root) if older else _from_vote_file(root)
    return on_disk(records, root, partial)


def _from_vote_file(root: Path) -> list[Record]:
    path = root / "fer2013new.csv"
    named: list[Record] = []
    for line, row in rows(path, VOTE_FILE):
        if row["Usage"] not in USAGES:
            raise DatasetDamaged(f"{path}:{line}: usage '{row['Usage']}': expected {', '.join(USAGES)}")
        name = row["Image name"].strip()
        if name:
            named.append(_record(root, USAGES[row["Usage"]], name, row, f"{path}:{line}"))
    return [record for record in _once(named) if record.path.parent.is_dir()]


def _from_label_files(root: Path) -> list[Record]:
    named: list[Record] = []
    for folder in FOLDERS:
        path = root / folder / "label.csv"
        if path.is_file():
            for line, row in rows(path, LABEL_FILE):
                named.append(_record(root, folder, row["Image name"].strip(), row, f"{path}:{line}"))
        elif (root / folder).is_dir():
            raise DatasetNotFound(
                f"{path} is missing: it comes with the FERPlus repository, in data/{folder}/"
            )
    return _once(named)


def _once(named: list[Record]) -> list[Record]:
    """One record for each name: the later row, or none when two rows disagree."""
    found: dict[str, Record] = {}
    disputed = set(DISPUTED)
    for record in named:
        if record.name in found and _counts(found[record.name]) != _counts(record):
            disputed.add(record.name)
        found[record.name] = record
    return [record for name, record in found.items() if name not in disputed]


def _record(root: Path, folder: str, name: str, row: dict[str, str], where: str) -> Record:
    counts = [whole(row[column], where) for column in VOTES]
    if min(counts) < 0:
        raise DatasetDamaged(f"{where}: a negative number of votes")
    eight = tuple(float(count) for count in counts[: len(EXPRESSIONS)])
    usage = next(usage for usage, candidate in USAGES.items() if candidate == folder)
    return Record(
        path=root / folder / name,
        split=FOLDERS[folder],
        expression=eight.index(max(eight)) if any(eight) else UNLABELLED,
        votes=eight,
        name=name,
        attributes={"unknown": counts[-2], "NF": counts[-1], "usage": usage},
    )


def _counts(record: Record) -> tuple[float, ...]:
    return (*record.votes, record.attributes["unknown"], record.attributes["NF"])


def extract(source: Path, target: Path) -> None:
    """Write the folder form from `source`/fer2013.csv and fer2013new.csv into `target`; folders appear only when
    complete.

    Raises:
        DatasetDamaged: the two files have different rows, or a row does not hold 48x48 values.
        DatasetNotFound: `target` cannot be written to.
    """
    from PIL import Image

    pixel_file, vote_file = source / "fer2013.csv", source / "fer2013new.csv"
    try:
        with ExitStack() as stack:
            folders = {name: stack.enter_context(atomic.folder(target / name)) for name in FOLDERS}
            for faces, votes in zip_longest(pixel_rows(pixel_file), rows(vote_file, VOTE_FILE)):
                if faces is None or votes is None:
                    raise DatasetDamaged(
                        f"{pixel_file} and {vote_file.name} differ in length: download both again"
                    )
                line, row = votes
                if row["Usage"] != faces.usage or row["Usage"] not in USAGES:
                    raise DatasetDamaged(
                        f"{vote_file}:{line}: usage '{row['Usage']}', but '{faces.usage}' in {pixel_file.name}"
                    )
                name = row["Image name"].strip()
                if name:
                    Image.fromarray(faces.pixels).save(folders[USAGES[row["Usage"]]] / name)
    except PermissionError:
        raise DatasetNotFound(
            f"cannot write beside {pixel_file}: pass a folder that you can write to with both csv files"
        ) from None


READER = Reader(
    name="ferplus",
    title="FERPlus",
    schema=FERPLUS,
    description="FER2013's 48x48 grey web faces with ten crowd votes over eight classes (Barsoum et al. 2016)",
    wants="the folder that holds FER2013Train/, FER2013Valid/, FER2013Test/ and fer2013new.csv, or the two csv files",
    terms="votes MIT (Microsoft); pixels of FER2013, see there",
    variant=variant,
    read=read,
    official={"train": 28_558, "valid": 3_579, "test": 3_572},  # 3,573 test names, one of them disputed
    sizes=((48, 48),),
)
