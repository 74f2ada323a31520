"""Rendered heads: pictures of known persons with exact labels, pose, landmarks and strengths.

    root/rendered.json         how it was made: seed, persons, pictures each, side, and the hash of the head model
    root/manifest.parquet      one row for each picture: split, expression, valence, arousal, subject and, as
                               attributes, person ("seen", "unseen"), intensity, yaw, pitch, roll, gaze_yaw,
                               gaze_pitch; of a set of single movements (`mien data render --actions`) there is a
                               column for each action of `mien.actions.ACTIONS`, and no expression, affect or intensity
    root/points.npz            its landmarks in pixels by name, for `data.points`
    root/pictures/00003/07.png person 3, picture 7

`write` makes it from a renderer (`mien data render`), `READER` reads it. The same head, seed and numbers give the same
pixels, and the split of a picture depends only on its person's number and its own, so a larger set contains a smaller
one.

*The split, chosen by us:* of every seven persons one is for testing, one for validation and five for training; of
a training person every fifth picture (of fewer than five, the last) is kept for the test. So the test has persons seen
in training and unseen ones, marked by the attribute `person`: a person-independent method must make the difference
between the two small.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mien.actions import ACTIONS
from mien.data.readers import manifest
from mien.data.readers.base import Reader
from mien.data.records import Record, Split
from mien.errors import ConfigError, DatasetDamaged
from mien.labels import UNLABELLED
from mien.types import CountProgress

if TYPE_CHECKING:
    from mien.data.synthetic.head import Renderer, Rendering

FILE = "rendered.json"
BEGUN = "rendered.json.begun"
KNOWN = "rendered.json.known"
"""A folder used while heads are rendered: it has the rows of each person with finished pictures."""

TABLE = "manifest.parquet"
POINTS = "points.npz"
VERSION = 1

TEST, VALID, OF = 0, 1, 7
"""A person is for testing if their number modulo 7 is 0, and for validation if it is 1."""

KEPT = 5
"""Every fifth picture of a training person is kept for the test."""


def part_of(identity: int, number: int, each: int) -> tuple[Split, str]:
    """The split of a picture, and whether training has "seen" its person or not ("unseen").

    Args:
        identity: the person's number, from 0.
        number: the picture's number for this person, from 0.
        each: pictures per person, at least 2.

    >>> part_of(0, 3, 10), part_of(1, 3, 10), part_of(2, 3, 10), part_of(2, 4, 10)
    (('test', 'unseen'), ('valid', 'unseen'), ('train', 'seen'), ('test', 'seen'))
    """
    if identity % OF == TEST:
        return "test", "unseen"
    if identity % OF == VALID:
        return "valid", "unseen"
    cycle = min(KEPT, each)
    return ("test" if number % cycle == cycle - 1 else "train"), "seen"


def renderer(head: Path, size: int = 112, movements: bool = False) -> tuple[Renderer, str]:
    """A renderer of `size` pixels for a head model's file, and the SHA-256 of that file.

    With `movements` faces show combinations of single movements, see `Renderer.move`.

    Raises:
        ConfigError: the size is below 32, or there is no such file or no head in it.
    """
    from zipfile import BadZipFile

    from mien.data.synthetic.head import Renderer, load_head

    if size < 32:
        raise ConfigError(f"size {size}: use 32 or more")
    if not head.is_file():
        raise ConfigError(f"{head}: no such file: pass ICT-FaceKit's head as one .npz")
    try:
        loaded = load_head(head)
    except (KeyError, ValueError, IndexError, EOFError, BadZipFile) as problem:
        raise ConfigError(
            f"{head}: not a head model ({problem}): pass ICT-FaceKit's head as one .npz"
        ) from None
    turn = (30.0, 20.0, 15.0) if movements else (40.0, 25.0, 20.0)
    drawer = Renderer(loaded, size=size, turn=turn, movements=movements)
    return drawer, hashlib.sha256(head.read_bytes()).hexdigest()


def write(
    renderer: Renderer,
    out: Path,
    identities: int,
    each: int,
    seed: int = 0,
    head: str = "",
    progress: CountProgress | None = None,
) -> list[Record]:
    """Render `identities` persons with `each` pictures per person into the folder `out`, and return its records.

    An unfinished folder with the same numbers is continued after the last person with all pictures; a finished one is
    written again. `rendered.json` is written last: a folder without it is not recognised as a set.

    Args:
        renderer: draws the pictures, in its own size and with its own range of poses.
        out: made if missing.
        identities: at least 3, so that every split has one.
        each: at least 2, so that a training person has one for the test.
        seed: determines all pictures.
        head: the identifier of the head model in `rendered.json`, such as its file's hash.
        progress: called with (done, total) after each picture.

    Raises:
        ConfigError: a number is too small, or `out` holds something else.
    """
    from mien.io import images

    for name, value, least in (("identities", identities, 3), ("images", each, 2)):
        if value < least:
            raise ConfigError(f"{name} {value}: use {least} or more")
    made = {
        "version": VERSION,
        "seed": seed,
        "identities": identities,
        "images": each,
        "size": renderer.size,
        "head": head,
        **({"shows": "movements"} if renderer.movements else {}),
    }
    _claim(out, made)
    records: list[Record] = []
    points: list[NDArray[np.float32]] = []
    (out / KNOWN).mkdir(exist_ok=True)
    for person in range(identities):
        known = out / KNOWN / f"{person:05d}.npz"
        if not known.is_file():
            _render(renderer, out, person, each, seed, known)
        with np.load(known) as stored:
            rows = json.loads(str(stored["records"]))
            points.append(stored["points"])
        records += [Record(path=out / "pictures" / row["name"], **row) for row in rows]
        if progress is not None:
            progress(len(records), identities * each)
    np.savez(out / POINTS, names=np.array([record.name for record in records]), points=np.concatenate(points))
    manifest.write(records, out / TABLE)
    images.replace(out / FILE, (json.dumps(made, indent=1) + "\n").encode())
    (out / BEGUN).unlink()
    shutil.rmtree(out / KNOWN)
    return records


def _render(renderer: Renderer, out: Path, person: int, each: int, seed: int, known: Path) -> None:
    """Write a person's pictures and then, atomically, their rows, so that an interrupted run continues with the next
    person."""
    from mien.io import images

    folder = out / "pictures" / f"{person:05d}"
    shutil.rmtree(folder, ignore_errors=True)  # remains of a killed process
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    points: list[Any] = []
    for number, rendering in enumerate(renderer.identities([person], each, seed)):
        path = folder / f"{number:02d}.png"
        images.write(path, rendering.image)
        rows.append(_row(f"{folder.name}/{path.name}", rendering, number, each, renderer.head.names))
        points.append(rendering.points)
    data = BytesIO()
    np.savez(data, records=np.array(json.dumps(rows)), points=np.stack(points))
    images.replace(known, data.getvalue())


def _claim(out: Path, made: dict[str, Any]) -> None:
    """Check that the folder is empty or was begun with the same numbers, and record these in it."""
    from mien.io import images

    begun = out / BEGUN
    out.mkdir(parents=True, exist_ok=True)
    for path in (out / FILE, begun):
        if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != made:
            raise ConfigError(
                f"{out} holds heads rendered with other numbers: choose another folder, or delete it"
            )
    if not begun.is_file() and not (out / FILE).is_file() and any(out.iterdir()):
        raise ConfigError(f"{out} is not empty: choose another folder")
    images.replace(begun, json.dumps(made).encode())


def _row(name: str, rendering: Rendering, number: int, each: int, shapes: tuple[str, ...]) -> dict[str, Any]:
    """The manifest row of a rendering, without its path; `shapes` are the names of the head's blendshapes."""
    from mien.data.synthetic.head import arkit

    split, person = part_of(rendering.identity, number, each)
    yaw, pitch, roll = (round(float(angle), 3) for angle in rendering.pose)
    row: dict[str, Any] = {"split": split, "subject": f"{rendering.identity:05d}", "name": name}
    gaze_yaw, gaze_pitch = (round(float(angle), 3) for angle in rendering.gaze)
    row["attributes"] = {"person": person, "yaw": yaw, "pitch": pitch, "roll": roll}
    row["attributes"] |= {"gaze_yaw": gaze_yaw, "gaze_pitch": gaze_pitch}
    if rendering.expression == UNLABELLED:
        values = zip(ACTIONS, arkit(shapes, rendering.coefficients).tolist(), strict=True)
        row["attributes"] |= {action: round(value, 4) for action, value in values if value == value}
    else:
        row |= {
            "expression": int(rendering.expression),
            "valence": float(rendering.affect[0]),
            "arousal": float(rendering.affect[1]),
        }
        row["attributes"]["intensity"] = float(rendering.intensity)
    return row


def variant(root: Path) -> str | None:
    """ "heads" for a finished folder of `write`, or None."""
    return "heads" if (root / FILE).is_file() else None


def read(root: Path, variant: str, partial: bool) -> list[Record]:
    """Read every row of the folder's table."""
    path = root / FILE
    try:
        made = json.loads(path.read_text(encoding="utf-8"))
        version = made["version"]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError):
        raise DatasetDamaged(f"{path} does not record how the heads were made: render them again") from None
    if version != VERSION:
        raise DatasetDamaged(f"{path}: version {version}, this mien reads {VERSION}: render them again")
    if not (root / TABLE).is_file():
        raise DatasetDamaged(f"{root} has no {TABLE}: render the heads again")
    records = manifest.READER.read(root / TABLE, "parquet", partial)
    if not partial and len(records) != made.get("identities", 0) * made.get("images", 0):
        raise DatasetDamaged(
            f"{root / TABLE} and {FILE} disagree on the number of pictures: render them again"
        )
    return records


READER = Reader(
    name="rendered",
    title="rendered heads",
    schema=None,
    description="faces rendered from a morphable head by 'mien data render', with known person, expression and V/A",
    wants="a folder that 'mien data render HEAD OUT' wrote, with rendered.json",
    terms="rendered by `mien data render`; the head model ICT-FaceKit is MIT",
    variant=variant,
    read=read,
)
