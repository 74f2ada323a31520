"""The page of `mien predict --report`: what was read in many pictures, in one file to look through or to send.

The page is a single file that loads nothing over the network; its small script only sorts and filters. It holds small
pictures of the people in the photographs, so it is as confidential as they are.

However many pictures there are, the page stays small: `FACES` faces by label and `UNCERTAIN` uncertain ones are shown,
with the counts of all. Those by label are drawn at random, with a fixed seed; of the uncertain ones the least probable
are taken. Only these are kept in memory and read again for their thumbnails.
"""

from __future__ import annotations

import base64
import heapq
import os
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from mien.colours import colour
from mien.errors import ConfigError, ExtraMissing, MienError
from mien.io import atomic, images, inputs, outputs, pages
from mien.io.images import describe
from mien.io.inputs import Source
from mien.types import Analysis, CountProgress, Face
from mien.video.summary_page import WORDING
from mien.wording import fixed, several, signed

FACES: Final = 384
"""Faces shown by label: each label has the same share of them, from 4 to 48."""

UNCERTAIN: Final = 48
"""Uncertain faces shown, at most."""

NAMES: Final = 200
"""Pictures without a face, and pictures with an error, that are named, at most of each."""

FILES: Final = 1000
"""Pictures in the list of all, at most."""

SIDE: Final = 128
"""Side of a thumbnail, pixels. Encoded it takes 4 to 6 kB, so a page has at most about 3 MB."""

MARGIN: Final = 1.4
"""Side of the square that is shown, as a multiple of the longer side of the face's box."""

BINS: Final = 20
"""Bars of each histogram."""

MARK: Final = '<meta name="generator" content="mien predict --report">'
"""The line by which a later run recognises its own page."""

_TEMPLATE: Final = Path(__file__).parent / "templates" / "pictures.html"
_RANGES: Final = {"valence": (-1.0, 1.0), "arousal": (-1.0, 1.0), "quality": (0.0, 1.0)}


def check(path: Path, *, overwrite: bool, resume: bool, reads: Iterable[Path | str]) -> None:
    """Refuse a page that cannot be written, before any work is done; with `resume` an earlier page may be replaced.

    Raises:
        OutputExists: it exists, or is an input or another output.
        ConfigError: it is no .html, or cannot be written.
        ExtraMissing: Jinja2 is not installed.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(
            f"{describe(path)}: cannot write '{path.suffix}': --report is a page, such as report.html"
        )
    if find_spec("jinja2") is None:
        raise ExtraMissing("figures", "jinja2")
    outputs.check(path, overwrite=overwrite or (resume and _is_ours(path)), reads=reads)


def _is_ours(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            return MARK in file.read(2000)
    except OSError:
        return False


@dataclass(frozen=True)
class ShownFace:
    """What the page says of one face.

    Attributes:
        name: of the picture, as in the table.
        source: the picture itself; None if it is no longer known.
        number: of the face in the picture.
        box: (x, y, width, height) in pixels of the picture.
        label, probability, valence, arousal, quality, uncertain, doubts: as in `mien.types.Face`.
    """

    name: str
    source: Source | None
    number: int
    box: tuple[float, float, float, float]
    label: str
    probability: float
    valence: float | None
    arousal: float | None
    quality: float
    uncertain: bool
    doubts: tuple[str, ...]

    @classmethod
    def of(cls, face: Face, number: int, name: str, source: Source | None) -> ShownFace:
        """The face of an analysis."""
        box, reading = face.box, face.reading
        return cls(
            name, source, number, (box.x, box.y, box.width, box.height), face.expression, face.probability,
            face.valence, face.arousal, face.quality, reading.uncertain, reading.doubts,
        )  # fmt: skip

    @classmethod
    def of_row(cls, row: Mapping[str, Any], source: Source | None) -> ShownFace:
        """The face of a row of a table with the columns of `mien`."""
        sides = ("FaceRectX", "FaceRectY", "FaceRectWidth", "FaceRectHeight")
        x, y, width, height = (float(row[side]) for side in sides)
        return cls(
            row["input"], source, int(row["face"]), (x, y, width, height), row["expression"], row["probability"],
            row["valence"], row["arousal"], row["quality"], bool(row["uncertain"]),
            tuple(filter(None, (row["doubts"] or "").split("; "))),
        )  # fmt: skip


@dataclass
class _Sample:
    """At most `size` of the items that were added, each with the same probability (reservoir sampling)."""

    size: int
    seen: int = 0
    kept: list[ShownFace] = field(default_factory=list)

    def add(self, face: ShownFace, draw: random.Random) -> None:
        self.seen += 1
        if len(self.kept) < self.size:
            self.kept.append(face)
        elif (place := draw.randrange(self.seen)) < self.size:
            self.kept[place] = face


class PictureReport:
    """Collects analyses, and writes the page. Holds a bounded number of faces and names."""

    def __init__(self, labels: Sequence[str]) -> None:
        """A page about faces with these labels."""
        self.labels = tuple(labels)
        self.pictures = self.faces = self.failed = self.empty = self.uncertain = 0
        self._samples = {label: _Sample(max(4, min(48, FACES // len(labels)))) for label in labels}
        self._histograms = {name: np.zeros(BINS, np.int64) for name in _RANGES}
        self._sums = dict.fromkeys(_RANGES, 0.0)
        self._doubtful: list[tuple[float, int, ShownFace]] = []
        self._doubts: Counter[str] = Counter()
        self._errors: list[tuple[str, str]] = []
        self._without: list[str] = []
        self._files: list[tuple[str, int, str]] = []
        self._draw = random.Random(0)

    def add(self, analysis: Analysis, source: Source | None) -> None:
        """Count an analysis of the picture `source`."""
        faces = [
            ShownFace.of(face, number, analysis.source, source) for number, face in enumerate(analysis.faces)
        ]
        self._add(analysis.source, faces, analysis.error)

    def add_rows(self, rows: Iterable[Mapping[str, Any]], source_of: Callable[[str], Source | None]) -> None:
        """Count the rows of a table with the columns of `mien`, in which those of a picture follow one another.

        Args:
            rows: as `mien.io.tables.load` gives them.
            source_of: gives the picture of a name in the table, for thumbnails; None if it is not known.
        """
        name, error = "", None
        faces: list[ShownFace] = []
        for row in rows:
            if row["input"] != name:
                if name:
                    self._add(name, faces, error)
                name, faces = row["input"], []
            error = row["error"]
            if row["face"] is not None:
                faces.append(ShownFace.of_row(row, source_of(name)))
        if name:
            self._add(name, faces, error)

    def _add(self, name: str, faces: Sequence[ShownFace], error: str | None) -> None:
        self.pictures += 1
        self.failed += error is not None
        self.empty += error is None and not faces
        if error is not None and len(self._errors) < NAMES:
            self._errors.append((describe(name), error.removeprefix(f"{name}: ")))
        elif not faces and len(self._without) < NAMES:
            self._without.append(describe(name))
        if len(self._files) < FILES:
            counts = Counter(face.label for face in faces)
            words = ", ".join(f"{number} {label}" for label, number in counts.most_common())
            self._files.append((describe(name), len(faces), words or ("error" if error else "no face")))
        for face in faces:
            self._add_face(face)

    def _add_face(self, face: ShownFace) -> None:
        self.faces += 1
        self._samples[face.label].add(face, self._draw)
        for name, (low, high) in _RANGES.items():
            value = getattr(face, name)
            if value is not None:
                place = int((value - low) / (high - low) * BINS)
                self._histograms[name][min(BINS - 1, max(0, place))] += 1
                self._sums[name] += value
        if face.uncertain:
            self.uncertain += 1
            self._doubts.update(face.doubts)
            # The least probable ones stay; the count decides between equal ones.
            entry = (-face.probability, -self.uncertain, face)
            if len(self._doubtful) < UNCERTAIN:
                heapq.heappush(self._doubtful, entry)
            else:
                heapq.heappushpop(self._doubtful, entry)

    def write(
        self,
        path: Path,
        title: str,
        settings: Mapping[str, Any],
        notes: Sequence[str] = (),
        progress: CountProgress | None = None,
    ) -> None:
        """Read the thumbnails and write the page.

        Args:
            path: the file, written atomically.
            title: of what the pictures are, such as their folder.
            settings: how they were analysed, from `mien.faces.parallel.made_with`.
            notes: sentences to read first, such as that the run was interrupted.
            progress: called with the number of thumbnails' pictures that are read, and their total.

        Raises:
            ExtraMissing: Jinja2 is not installed.
            OSError: it cannot be written.
        """
        atomic.write({path: self.html(title, settings, notes, progress).encode()})

    def html(
        self,
        title: str,
        settings: Mapping[str, Any],
        notes: Sequence[str] = (),
        progress: CountProgress | None = None,
    ) -> str:
        """The page as text; see `write`."""
        doubtful = [face for *_, face in sorted(self._doubtful, key=lambda entry: (-entry[0], -entry[1]))]
        sheets = {label: sample.kept for label, sample in self._samples.items() if sample.kept}
        shown = _thumbnails([*doubtful, *(face for kept in sheets.values() for face in kept)], progress)
        order = sorted(sheets, key=lambda label: -self._samples[label].seen)
        return pages.render(
            _TEMPLATE,
            "figures",
            title=f"{title}: expression labels",
            mark=MARK,
            name=title,
            date=f"{datetime.now().astimezone():%d %B %Y, %H:%M %Z}".lstrip("0"),
            notes=notes,
            wording=WORDING,
            counts=self._counts(),
            doubtful=[_tile(face, shown, self.labels) for face in doubtful],
            doubtful_count=self.uncertain,
            doubts=[f"{reason} ({number:,})" for reason, number in self._doubts.most_common(8)],
            shares=self._shares(order),
            histograms=[self._histogram(name) for name in _RANGES if self._histograms[name].any()],
            sheets=[self._sheet(label, shown) for label in order],
            errors=self._errors,
            errors_more=self.failed - len(self._errors),
            without=self._without,
            without_more=self.empty - len(self._without),
            files=self._files,
            files_more=self.pictures - len(self._files),
            facts=_facts(settings),
        )

    def _counts(self) -> list[tuple[str, str, str]]:
        share = f"{self.uncertain / self.faces:.0%} of the faces" if self.faces else "of the faces"
        return [
            ("Pictures", f"{self.pictures:,}", "given"),
            ("Faces", f"{self.faces:,}", "found in them"),
            ("Uncertain", f"{self.uncertain:,}", share),
            ("Without a face", f"{self.empty:,}", several(self.empty, "picture").split(" ")[1]),
            (
                "Not analysed",
                f"{self.failed:,}",
                f"{several(self.failed, 'picture').split(' ')[1]} with an error",
            ),
        ]

    def _shares(self, order: Sequence[str]) -> list[dict[str, Any]]:
        most = max((self._samples[label].seen for label in order), default=1)
        return [
            {
                "label": label,
                "colour": colour(label, self.labels),
                "count": f"{self._samples[label].seen:,}",
                "share": f"{self._samples[label].seen / self.faces:.0%}",
                "width": round(100 * self._samples[label].seen / most, 2),
            }
            for label in order
        ]

    def _histogram(self, name: str) -> dict[str, Any]:
        low, high = _RANGES[name]
        counts: list[int] = self._histograms[name].tolist()
        mean, most = self._sums[name] / sum(counts), max(counts)
        text = fixed(mean) if low >= 0 else signed(mean)
        return {
            "name": name,
            "title": name.capitalize() if low >= 0 else f"Apparent {name}",
            "bars": [(place, round(100 * count / most, 2), count) for place, count in enumerate(counts)],
            "mean": text,
            "mean_at": round(100 * (mean - low) / (high - low), 1),
            "low": f"{low:g}",
            "high": f"+{high:g}" if low < 0 else f"{high:g}",
            "most": several(most, "face"),
            "label": f"Histogram of {name} of {several(sum(counts), 'face')}, {low:g} to {high:g}; mean {text}.",
        }

    def _sheet(self, label: str, shown: Mapping[ShownFace, str]) -> dict[str, Any]:
        sample = self._samples[label]
        tiles = [
            _tile(face, shown, self.labels)
            for face in sorted(sample.kept, key=lambda face: -face.probability)
        ]
        more = f"{len(tiles):,} of {sample.seen:,} faces, drawn at random" if sample.seen > len(tiles) else ""
        return {
            "label": label,
            "colour": colour(label, self.labels),
            "count": more or several(sample.seen, "face"),
            "tiles": tiles,
        }


def _tile(face: ShownFace, shown: Mapping[ShownFace, str], labels: Sequence[str]) -> dict[str, Any]:
    name = describe(face.name)
    numbers = {
        "probability": face.probability,
        "valence": face.valence,
        "arousal": face.arousal,
        "quality": face.quality,
    }
    return {
        "image": shown.get(face, ""),
        "alt": f"Face {face.number} of {name}: {face.label} {fixed(face.probability)}",
        "file": Path(name).name,
        "name": name,
        "number": face.number,
        "label": face.label,
        "uncertain": face.uncertain,
        "colour": colour(face.label, labels),
        "probability": fixed(face.probability),
        "affect": "" if face.valence is None else f"v {signed(face.valence)}, a {signed(face.arousal)}",
        "doubts": "; ".join(face.doubts),
        "data": {key: round(value, 4) for key, value in numbers.items() if value is not None},
    }


def _thumbnails(faces: Iterable[ShownFace], progress: CountProgress | None) -> dict[ShownFace, str]:
    """The faces as data addresses; without those of pictures that can no longer be read."""
    by_picture: defaultdict[str, list[ShownFace]] = defaultdict(list)
    for face in dict.fromkeys(faces):
        if face.source is not None:
            by_picture[inputs.place(face.source)].append(face)
    found: dict[ShownFace, str] = {}
    for number, wanted in enumerate(by_picture.values(), start=1):
        source = wanted[0].source
        assert source is not None  # only such are in the list
        try:
            if not isinstance(source, str):
                source.seek(0)
            picture = images.read(source)
        except (MienError, OSError):  # removed or replaced meanwhile; the page says so in its place
            continue
        found |= {face: _address(_crop(picture, face.box)) for face in wanted}
        if progress is not None:
            progress(number, len(by_picture))
    return found


def _crop(picture: NDArray[np.uint8], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
    """The square around a face, moved to lie within the picture where it can; RGB [SIDE, SIDE, 3]."""
    x, y, width, height = box
    high, wide = picture.shape[:2]
    side = min(max(width, height) * MARGIN, wide, high)
    left = min(max(0.0, x + width / 2 - side / 2), wide - side)
    top = min(max(0.0, y + height / 2 - side / 2), high - side)
    size = max(1, round(side))
    part = picture[round(top) : round(top) + size, round(left) : round(left) + size]
    method = cv2.INTER_AREA if size >= SIDE else cv2.INTER_CUBIC
    scaled: NDArray[np.uint8] = cv2.resize(part, (SIDE, SIDE), interpolation=method).astype(np.uint8)
    return scaled


def _address(rgb: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 78])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _facts(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How the pictures were analysed, as names and values; what was not set is left out."""
    facts = [
        ("mien", str(settings["version"])),
        ("weights", f"{settings['model']} (SHA-256 {str(settings['weights'])[:16]})"),
        ("landmarks", f"SHA-256 {str(settings['landmarks'])[:16]}"),
        ("detector", str(settings["detector"])),
    ]
    prior = settings.get("prior")
    if isinstance(prior, Mapping):
        prior = ", ".join(f"{label} {fixed(share)}" for label, share in prior.items())
    further = {
        "expected label shares": prior,
        "smallest face": settings.get("min_face") and f"{settings['min_face']:g} px",
        "lowest detector score": settings.get("min_confidence"),
        "searched in tiles": "yes" if settings.get("tiled") else None,
        "correction": settings.get("adapt") and f"SHA-256 {settings['adapt'][:16]}",
        "baseline": "neutral faces were given; see the table for the changes"
        if settings.get("baseline")
        else None,
    }
    return [*facts, *((name, str(value)) for name, value in further.items() if value)]


def title_of(given: Sequence[str], sources: Sequence[Source]) -> str:
    """A title for the pictures: what was given if that is one path, else their deepest common folder."""
    if len(given) == 1 and not given[0].startswith(("@", "-")):
        unnamed = not given[0].strip("./\\")  # such as the current folder
        return describe(Path(given[0]).resolve().name if unnamed else given[0]).rstrip("/\\") or given[0]
    files = [str(Path(source).absolute().parent) for source in sources if isinstance(source, str)]
    return (describe(Path(os.path.commonpath(files)).name) if files else "") or several(
        len(sources), "picture"
    )
