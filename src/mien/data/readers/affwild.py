"""Aff-Wild: 298 videos from the web with valence and arousal for every frame.

Source: Kollias et al., "Deep affect prediction in-the-wild: Aff-Wild database and challenge", IJCV 2019. Ask the
owners (ibug.doc.ic.ac.uk/resources/first-affect-wild-challenge). The labels of the 46 test videos are withheld.

On disk:

    videos/train/105.mp4 (or .avi) ...                      252 videos; videos/test/ has no labels and is not read
    annotations/train/valence/105.txt, arousal/105.txt      one number per line for every frame, from -1 to 1
    bboxes/train/105/1.pts ...                              the face's four corners in one frame; landmarks/ is not read

The three lengths of a video (frames, valence, arousal) often differ by a few: the shortest is used. A record's `path`
is the video and `frame` its number, from 0. There are about 1.2 million frames: `every=10` takes every tenth, as is
usual.

A frame without a box shows no face and is left out. The files of public copies are numbered from 1; if there is a
`0.pts` they are assumed to be numbered from 0. Without `bboxes/train/` every frame is used, with the whole frame as the
face, which only suits videos that are already cropped.
"""

from __future__ import annotations

from pathlib import Path

from mien.data.readers.base import Reader, affect, decimal, lines
from mien.data.records import Record
from mien.errors import ConfigError, DatasetDamaged

VIDEOS = (".mp4", ".avi")
KINDS = ("valence", "arousal")


def variant(root: Path) -> str | None:
    """ "videos", or None."""
    return "videos" if all((root / "annotations" / "train" / kind).is_dir() for kind in KINDS) else None


def read(root: Path, variant: str, partial: bool, every: int = 1) -> list[Record]:
    """Read every `every`-th labelled frame of the training videos; the video files' frame counts are looked up."""
    if every < 1:
        raise ConfigError(f"affwild: every={every}: use 1 for all frames, 10 for each tenth")
    records: list[Record] = []
    for path in sorted((root / "annotations" / "train" / "valence").glob("*.txt")):
        labels = [_numbers(path.parent.parent / kind / path.name) for kind in KINDS]
        video = next(
            (p for p in (root / "videos" / "train" / f"{path.stem}{end}" for end in VIDEOS) if p.is_file()),
            None,
        )
        count = _frames(video) if video else 0
        if video is None or count == 0:
            if partial:
                continue
            what = "is not a readable video" if video else "is missing"
            wrong = video or root / "videos" / "train" / f"{path.stem}.mp4"
            raise DatasetDamaged(
                f"{wrong} {what}: restore it, or run 'mien data check --manifest FILE' for a table without it"
            )
        boxes = _boxes(root, path.stem, partial)
        for frame, (valence, arousal) in enumerate(zip(*labels, strict=False)):
            if frame >= count:
                break
            if frame % every or affect(valence) is None or affect(arousal) is None:
                continue
            if boxes is not None and frame not in boxes:
                continue
            records.append(
                Record(
                    video,
                    "train",
                    valence=valence,
                    arousal=arousal,
                    video=path.stem,
                    frame=frame,
                    box=_box(boxes[frame]) if boxes is not None else None,
                    name=f"{path.stem}/{frame:06d}",
                )
            )
    return records


def _boxes(root: Path, video: str, partial: bool) -> dict[int, Path] | None:
    """The box files of a video by frame number, from 0; None if the copy has no boxes."""
    folder = root / "bboxes" / "train"
    if not folder.is_dir():
        return None
    if not (folder / video).is_dir() and not partial:
        raise DatasetDamaged(
            f"{folder / video} is missing: restore it, or run 'mien data check --manifest FILE' for a table without it"
        )
    numbered = {int(path.stem): path for path in (folder / video).glob("*.pts") if path.stem.isdecimal()}
    first = 0 if 0 in numbered else 1
    return {number - first: path for number, path in numbered.items()}


def _box(path: Path) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) around the points of a .pts file: a version, a number, and corners in braces."""
    content = [text.split() for _, text in lines(path)]
    corners = [cells for cells in content if len(cells) == 2 and not cells[0].endswith(":")]
    if len(corners) != 4:
        raise DatasetDamaged(f"{path}: {len(corners)} points instead of a box's 4: restore it")
    across, down = ([decimal(cell, str(path)) for cell in column] for column in zip(*corners, strict=True))
    return min(across), min(down), max(across), max(down)


def _numbers(path: Path) -> list[float]:
    if not path.is_file():
        raise DatasetDamaged(f"{path} is missing: each video has a valence and an arousal file")
    return [decimal(text, f"{path}:{line}") for line, text in lines(path)]


def _frames(video: Path) -> int:
    """The number of frames that the file's header states; 0 when it cannot be opened."""
    import cv2

    capture = cv2.VideoCapture(str(video))
    try:
        return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
    finally:
        capture.release()


READER = Reader(
    name="affwild",
    title="Aff-Wild",
    schema=None,
    description="web videos with valence and arousal for every frame (Kollias et al. 2019)",
    wants="the folder that holds videos/train/, bboxes/train/ and annotations/train/{valence,arousal}/",
    terms="on request with a signed agreement; research, not commercial; videos of the web",
    variant=variant,
    read=read,
)
