"""Cut the bank of mouths that fill parted lips out of DiffusionFER, in a minute on one core.

    python -m mien.training.editor.mouth_bank --diffusionfer DIR --out src/mien/weights/editor

`mouth_contours.json` beside this file names the pictures (CC0) and outlines the inside of each mouth, in pixels: the
outlines of a landmark network, moved to the edges of the lips and looked at one by one. *Chosen*, by us: mouths that
look photographed and are sharp, of many shapes, with teeth (`bares`) and without; 128 pixels between the corners. The
generated faces have 224 pixels, their mouths 50 to 87, so the bank holds no more detail than that. What lies outside
the outline, and two pixels within it, is painted over from the inside, so that no lip of a fair face is drawn on a dark
one.

Tests: tests/training/editor/test_mouth_bank.py.
"""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import cv2
import numpy as np
import typer

from mien.editing.editor import Editor
from mien.editing.geometry import FaceFrame, covariates
from mien.editing.mouth_interior import Opening, row_of
from mien.editing.photo import open_photo
from mien.editing.render import skin_statistics
from mien.io import atomic, cards

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CONTOURS: Final = Path(__file__).with_name("mouth_contours.json")
WIDTH: Final = 128
"""Pixels between the corners of a mouth."""
QUALITY: Final = 90
"""Of the WebP picture of all mouths."""
_MARGIN: Final = 8
_RIM: Final = 2
"""Pixels within the outline that are painted over."""
_ROW: Final = 8
"""Mouths beside each other in the picture."""


def cut(rgb: NDArray[np.uint8], contour: Array) -> tuple[NDArray[np.uint8], Array]:
    """The inside of a mouth with the outline [20, 2] (corner, upper edge, corner, lower edge backwards), level and
    `WIDTH` wide, and its outline there; around it the colours of its rim."""
    right, left = contour[0], contour[10]
    across = (left - right) / np.linalg.norm(left - right)
    turn = WIDTH / float(np.linalg.norm(left - right)) * np.array([across, [-across[1], across[0]]])
    level = contour @ turn.T
    shift = _MARGIN - np.floor(level.min(axis=0))
    width, height = np.ceil(level.max(axis=0) + shift).astype(int) + _MARGIN
    matrix = np.concatenate([turn, shift[:, None]], axis=1)
    picture = cv2.warpAffine(rgb, matrix, (width, height), flags=cv2.INTER_LANCZOS4)
    outline = level + shift
    inside = cv2.fillPoly(
        np.zeros((height, width), np.uint8), [np.rint(outline * 16).astype(np.int32)], 1, shift=4
    )
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _RIM + 1, 2 * _RIM + 1))
    beyond = 1 - cv2.erode(inside, kernel)
    return np.asarray(cv2.inpaint(picture, beyond, 3, cv2.INPAINT_TELEA), np.uint8), outline


def packed(pictures: list[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """All pictures in one, in rows, and the place (left, top, width, height) [n, 4] of each."""
    places, top, rows = [], 0, []
    for start in range(0, len(pictures), _ROW):
        part, left = pictures[start : start + _ROW], 0
        for picture in part:
            places.append((left, top, picture.shape[1], picture.shape[0]))
            left += picture.shape[1]
        rows.append((part, left))
        top += max(picture.shape[0] for picture in part)
    sheet = np.zeros((top, max(width for _, width in rows), 3), np.uint8)
    for picture, (left, upper, width, height) in zip(pictures, places, strict=True):
        sheet[upper : upper + height, left : left + width] = picture
    return sheet, np.array(places, np.int32)


def bank(diffusionfer: Path, editor: Editor, contours: Path = CONTOURS) -> dict[str, Any]:
    """The arrays of `mien.editing.mouth_interior.examples`."""
    pictures, rows = [], []
    for mouth in json.loads(contours.read_text(encoding="utf-8")):
        photo = open_photo(diffusionfer / "images" / mouth["file"])
        face = editor.locate(photo)[0]
        frame = FaceFrame.of(face.points)
        around = skin_statistics(photo.rgb, frame, face.points)
        picture, outline = cut(photo.rgb, np.array(mouth["contour"], np.float64))
        pictures.append(picture)
        yaw, row = covariates(frame.to_canonical(face.points))[0], row_of(picture, Opening.of(outline))
        width = np.linalg.norm(np.array(mouth["contour"][10]) - mouth["contour"][0]) / frame.unit
        light = (around.white, around.side, yaw, row, width)
        rows.append((Path(mouth["file"]).stem, outline, around.skin, light, mouth["bares"]))
    sheet, places = packed(pictures)
    done, data = cv2.imencode(".webp", sheet[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    assert done, "this OpenCV writes no WebP"
    names, outlines, skins, lights, bares = zip(*rows, strict=True)
    return {
        "sheet": data.ravel(),
        "places": places,
        "names": np.array(names),
        "contours": np.array(outlines, np.float32),
        "skin": np.array(skins, np.float32),
        "light": np.array(lights, np.float32),
        "bares": np.array(bares),
    }


def main(
    diffusionfer: Annotated[Path, typer.Option(help="the set's folder, with images/")],
    out: Annotated[Path, typer.Option(help="folder for mouths.npz, in the package weights/editor")],
) -> None:
    """Write mouths.npz and bring its card up to date."""
    cv2.setNumThreads(1)
    arrays = bank(diffusionfer, Editor.load(threads=1, measure=False))
    stream = BytesIO()
    np.savez_compressed(stream, **arrays)
    path = out / "mouths.npz"
    atomic.write({path: stream.getvalue()})
    fields = cards.read(path.with_suffix(".json")).fields
    files = [mouth["file"] for mouth in json.loads(CONTOURS.read_text(encoding="utf-8"))]
    cards.write(
        path, fields | {"sha256": hashlib.sha256(stream.getvalue()).hexdigest(), "data": _stated(files)}
    )


def _stated(files: list[str]) -> list[str]:
    return [f"DiffusionFER (CC0 1.0): the inside of the mouths of {len(files)} generated faces", *files]


if __name__ == "__main__":
    typer.run(main)
