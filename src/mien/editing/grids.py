"""Several edits of one photo: a grid of expressions and strengths, the valence/arousal plane, an animation."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from mien.editing.geometry import FaceFrame
from mien.editing.target import Target
from mien.errors import ExtraMissing, ImageError
from mien.io.lettering import font
from mien.wording import signed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mien.editing.editor import Editor
    from mien.editing.photo import Photo
    from mien.editing.results import Edit, Located
    from mien.io.images import Rgb

STRENGTHS = (0.4, 0.7, 1.0)
EXPRESSIONS = ("happiness", "surprise", "sadness", "anger", "disgust", "fear")
PLANE = (-0.7, -0.35, 0.0, 0.35, 0.7)


def face_crop(rgb: Rgb, located: Located, width: int) -> Rgb:
    """The face with its hair and neck, `width` pixels wide and 1.2 times as high."""
    frame = FaceFrame.of(located.points)
    centre, unit = frame.to_picture(np.array([0.0, 0.65])), frame.unit
    half = np.array([1.42, 1.704]) * unit
    scale = width / (2 * half[0])
    shift = np.array([width / 2, 0.6 * width]) - scale * centre
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    height = round(1.2 * width)
    if scale < 0.5:  # low-pass before downsampling
        rgb = cv2.GaussianBlur(rgb, (0, 0), 0.35 / scale).astype(np.uint8)
    drawn = cv2.warpAffine(
        rgb, matrix, (width, height), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(drawn, np.uint8)


def labelled(rgb: Rgb, text: str) -> Rgb:
    """The picture with a caption on a dark bar along its lower edge, small enough to be whole."""
    from PIL import Image, ImageDraw

    height, width = rgb.shape[:2]
    bar = max(16, width // 11)
    size = next(
        size for size in range(round(0.75 * bar), 0, -1) if font(size, text).getlength(text) <= width - 8
    )
    out = Image.fromarray(np.concatenate([rgb, np.full((bar, width, 3), 28, np.uint8)]))
    place = (4, height + bar / 2)
    ImageDraw.Draw(out).text(place, text, (235, 235, 235), font(size, text), anchor="lm")
    return np.asarray(out)


def grid(
    editor: Editor, photo: Photo, located: Sequence[Located], *, plane: bool, width: int = 240, **options: Any
) -> tuple[Rgb, Edit]:
    """A sheet of one face: expressions by strengths, or the valence/arousal plane; and its last edit, as a record.

    If the fold guard refuses an edit, its cell shows the unedited face with a note.
    """
    from mien.editing.results import EditRefused

    face = options.get("face", 0)
    number = face if isinstance(face, int) else 0
    if plane:
        jobs = [
            [(Target.of_affect(v, a), 1.0, f"v {signed(v)} a {signed(a)}") for v in PLANE]
            for a in reversed(PLANE)
        ]
    else:
        jobs = [[(Target.parse(name), s, f"{name} {s:.1f}") for s in STRENGTHS] for name in EXPRESSIONS]
    rows, last = [], None
    for job in jobs:
        cells = []
        for target, intensity, caption in job:
            try:
                last = editor.apply(photo, located, target, intensity, **options)
                cells.append(labelled(face_crop(last.image, located[number], width), caption))
            except EditRefused:
                cells.append(labelled(face_crop(photo.rgb, located[number], width), f"{caption}: refused"))
        rows.append(np.concatenate(cells, axis=1))
    if last is None:
        raise EditRefused(f"{photo.source}: every edit of the grid was refused: choose another photo")
    return np.concatenate(rows), last


def ramp(
    editor: Editor,
    photo: Photo,
    located: Sequence[Located],
    target: str | Target,
    intensity: float,
    *,
    frames: int = 24,
    longest: int = 720,
    **options: Any,
) -> tuple[list[Rgb], Edit]:
    """Frames from the unedited face to the edited one and back, at most `longest` pixels per side, and the full
    edit."""
    scale = min(1.0, longest / max(photo.colour.shape[:2]))

    def small(rgb: Rgb) -> Rgb:
        return np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)

    full = editor.apply(photo, located, target, intensity, **options)
    rising = [small(photo.rgb)]
    for step in range(1, frames):
        t = step / frames
        eased = t * t * (3 - 2 * t)
        rising.append(small(editor.apply(photo, located, target, intensity * eased, **options).image))
    rising.append(small(full.image))
    return rising + [rising[-1]] * 6 + rising[-2:0:-1], full


def animation(frames: Sequence[Rgb], suffix: str, rate: int = 20) -> bytes:
    """Frames as the bytes of a looping GIF or an MP4.

    Raises:
        ImageError: another suffix, or this OpenCV cannot write MP4.
    """
    if suffix.lower() == ".gif":
        from PIL import Image

        stream = BytesIO()
        pictures = [Image.fromarray(frame) for frame in frames]
        pictures[0].save(
            stream, "GIF", save_all=True, append_images=pictures[1:], duration=1000 // rate, loop=0
        )
        return stream.getvalue()
    from mien.io.video import VideoWriter

    if suffix.lower() != ".mp4":
        raise ImageError(f"cannot animate into '{suffix}': use .gif or .mp4")
    height, width = (side // 2 * 2 for side in frames[0].shape[:2])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ramp.mp4"
        try:
            film = VideoWriter(path, width, height, rate)
        except ExtraMissing:
            # Without PyAV: OpenCV's MPEG-4 Part 2, which players show but most browsers do not.
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
            if not writer.isOpened():
                raise ImageError("this OpenCV cannot write MP4: animate into .gif") from None
            for frame in frames:
                writer.write(np.ascontiguousarray(frame[:height, :width, ::-1]))
            writer.release()
        else:
            for number, frame in enumerate(frames):
                film.add(frame[:height, :width], number / rate)
            film.finish()
        return path.read_bytes()
