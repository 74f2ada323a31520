"""Makes pictures of the documentation from the bundled photographs: those of its home page, docs/images/home/, and two
of the tutorials, docs/images/tutorials/group.jpg and edit.jpg.

    python scripts/home_pictures.py

`analysis.jpg` is three photographs as `mien predict --annotate` marks them, `edit.jpg` one portrait and four edits of
it, `video.jpg` five frames of a clip (an edit of the same portrait that comes and goes) as `mien video --annotate`
marks them, above the curves of two probabilities. `group.jpg` is group_1.jpg as `mien predict --annotate` marks it, the
tutorials' `edit.jpg` what `mien edit --to happiness --intensity 0.9` makes of the portrait.
Tests: tests/test_docs_home.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

import mien
from mien.colours import COLOURS
from mien.editing.grids import ramp
from mien.editing.photo import open_photo
from mien.faces import annotate
from mien.figures import palette
from mien.io import images
from mien.io.lettering import font
from mien.types import Frame
from mien.video import annotate as video_annotate
from mien.video.analyser import Analyser

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
PICTURES = ROOT / "docs" / "images" / "home"
TUTORIALS = ROOT / "docs" / "images" / "tutorials"
SIDE: Final = 400  # pixels of a photograph
GAP: Final = 8
RATE: Final = 20  # frames per second

Rgb = NDArray[np.uint8]


def beside(pictures: Sequence[Rgb], gap: int = GAP) -> Rgb:
    """Pictures of one height in a row, with white between."""
    blank = np.full((pictures[0].shape[0], gap, 3), 255, np.uint8)
    parts = [part for picture in pictures for part in (picture, blank)]
    return np.hstack(parts[:-1])


def square(rgb: Rgb, side: int = SIDE) -> Rgb:
    """A picture scaled to a square."""
    return np.asarray(cv2.resize(rgb, (side, side), interpolation=cv2.INTER_AREA), np.uint8)


def closer(rgb: Rgb) -> Rgb:
    """The middle of a portrait, scaled to a square: head and shoulders."""
    side = rgb.shape[0]
    return square(rgb[side // 20 : side * 15 // 20, side * 3 // 20 : side * 17 // 20], 280)


def titled(rgb: Rgb, title: str) -> Rgb:
    """A picture with a line of text below it."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (rgb.shape[1], rgb.shape[0] + 34), "white")
    page.paste(Image.fromarray(rgb))
    middle = rgb.shape[1] / 2, rgb.shape[0] + 18
    ImageDraw.Draw(page).text(middle, title, "#1B1C1E", font(20, title), anchor="mm")
    return np.asarray(page)


def analysis(pipeline: mien.Pipeline) -> Rgb:
    """Three annotated photographs."""
    names = ("astronaut.png", "portrait_neutral.jpg", "portrait_smiling.jpg")
    pictures = [images.read(EXAMPLES / name) for name in names]
    return beside([square(annotate.draw(rgb, pipeline(rgb))) for rgb in pictures])


def group(pipeline: mien.Pipeline) -> Rgb:
    """An annotated photograph of six people."""
    rgb = images.read(EXAMPLES / "group_1.jpg")
    drawn = annotate.draw(rgb, pipeline(rgb))
    size = 1000, round(1000 * rgb.shape[0] / rgb.shape[1])
    return np.asarray(cv2.resize(drawn, size, interpolation=cv2.INTER_AREA), np.uint8)


def smile(editor: mien.Editor) -> Rgb:
    """A portrait, and its edit into a smile."""
    edit = editor(EXAMPLES / "portrait_neutral.jpg", "happiness", 0.9)
    return beside([square(edit.original.rgb), square(edit.image)], 2 * GAP)


def edits(editor: mien.Editor) -> Rgb:
    """A portrait and four edits."""
    photo = open_photo(EXAMPLES / "portrait_neutral.jpg")
    located = editor.locate(photo)
    parts = [titled(closer(photo.rgb), "photograph")]
    for target in ("happiness", "sadness", "surprise", "anger"):
        edit = editor.apply(photo, located, target)
        parts.append(titled(closer(edit.image), f"edited: {target}"))
    return beside(parts)


def clip(editor: mien.Editor) -> list[Rgb]:
    """The frames of a smile that comes and goes."""
    photo = open_photo(EXAMPLES / "portrait_neutral.jpg")
    frames, _ = ramp(editor, photo, editor.locate(photo), "happiness", 1.0, frames=20, longest=512)
    return [frames[0]] * 10 + list(frames) + [frames[0]] * 10


def watched(pipeline: mien.Pipeline, frames: Sequence[Rgb]) -> Iterator[Frame]:
    """Each frame's analysis."""
    analyser = Analyser(pipeline, "clip.mp4", 0.25)
    for number, rgb in enumerate(frames):
        yield analyser(rgb, number, number / RATE)


def curves(frames: Sequence[Frame], width: int) -> Rgb:
    """The smoothed probabilities of neutral and happiness over time, `width` pixels wide."""
    figure, (axis,) = palette.canvas(width / palette.DPI, 1.5)
    times = [frame.time or 0.0 for frame in frames]
    for name in ("neutral", "happiness"):
        values = [frame.faces[0].smoothed.probabilities[name] for frame in frames]
        axis.plot(times, values, color=COLOURS[name], linewidth=2, label=name)
    axis.set(xlabel="time, s", ylabel="probability", ylim=(0, 1.02), xlim=(0, times[-1]))
    palette.legend(axis, loc="center left", bbox_to_anchor=(1.0, 0.5))
    with TemporaryDirectory() as folder:
        (path,) = palette.save(figure, Path(folder) / "curves", forms=("png",))
        return images.read(path)


def video(pipeline: mien.Pipeline, editor: mien.Editor) -> Rgb:
    """Five annotated frames above the curves."""
    pictures = clip(editor)
    frames = list(watched(pipeline, pictures))
    shown = np.linspace(4, len(pictures) // 2, 3).astype(int).tolist()
    shown += [len(pictures) - 1 - number for number in shown[-2::-1]]
    row = beside(
        [titled(closer(video_annotate.draw(pictures[n], frames[n])), f"{n / RATE:.1f} s") for n in shown]
    )
    below = curves(frames, row.shape[1])
    below = np.pad(below, ((0, 0), (0, row.shape[1] - below.shape[1]), (0, 0)), constant_values=255)
    return np.vstack([row, below])


def main() -> None:
    """Write the pictures."""
    pipeline = mien.load(threads=1)
    editor = mien.Editor.load(pipeline)
    PICTURES.mkdir(exist_ok=True)
    images.write(PICTURES / "analysis.jpg", analysis(pipeline), 88)
    images.write(TUTORIALS / "group.jpg", group(pipeline), 88)
    images.write(TUTORIALS / "edit.jpg", smile(editor), 88)
    images.write(PICTURES / "edit.jpg", edits(editor), 88)
    images.write(PICTURES / "video.jpg", video(pipeline, editor), 88)


if __name__ == "__main__":
    main()
