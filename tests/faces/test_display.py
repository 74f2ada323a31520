"""What notebooks and picture viewers show of an analysis: true, bounded, and readable without seeing the picture."""

from __future__ import annotations

import base64
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageShow

from mien.errors import ConfigError, LoadError
from mien.faces.pipeline import load
from mien.io import images
from mien.labels import EXPRESSIONS
from mien.types import Analyses, Analysis, Box, Detection, Face, Landmarks, Pose, Reading


def face(label: str = "happiness", box: Box | None = None) -> Face:
    shares = {name: 0.72 if name == label else 0.04 for name in EXPRESSIONS}
    reading = Reading(shares, 0.5, -0.25, 0.5, uncertain=False)
    return Face(Detection(box or Box(60, 40, 80, 100), 0.9), Landmarks((), 1.0), Pose(0, 0, 0), reading, 0.9)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).integers(0, 255, (400, 640, 3), dtype=np.uint8)
    path = tmp_path / "pict<u>re.png"
    images.write(path, noise)
    return path


def analysis(source: Path | str, *faces: Face) -> Analysis:
    return Analysis(str(source), 640, 400, faces)


class Reader(HTMLParser):
    """The text, the tags and the pictures of a fragment; fails where tags do not match."""

    def __init__(self, fragment: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.pictures: list[dict[str, str | None]] = []
        self.feed(fragment)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attributes))
        else:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


def shown(one: dict[str, str | None]) -> np.ndarray:
    head, _, data = str(one["src"]).partition(",")
    assert head == "data:image/jpeg;base64"
    return images.read(base64.b64decode(data))


def test_a_notebook_shows_the_picture_and_each_face_in_words(picture: Path) -> None:
    page = Reader(analysis(picture, face(), face("anger", Box(300, 40, 80, 100)))._repr_html_())
    (one,) = page.pictures
    assert one["alt"] == "pict<u>re.png: happiness 72%, anger 72%"
    small = shown(one)
    assert small.shape == (200, 320, 3)
    assert "u" not in page.tags, "a file's name is text, not markup"
    for words in (
        "face 0: happiness",
        "face 1: anger",
        "72%",
        "valence +0.50",
        "arousal -0.25",
        "quality 0.90",
    ):
        assert words in page.text
    plain = Reader(analysis(picture)._repr_html_())
    assert "no face" in plain.text
    assert not np.array_equal(shown(plain.pictures[0]), small), "faces have frames"


def test_ipython_takes_the_html(picture: Path) -> None:
    formatters = pytest.importorskip("IPython.core.formatters")
    one = analysis(picture, face())
    form = formatters.HTMLFormatter()
    assert form(one) == one._repr_html_()
    assert form(Analyses([one, one])) == Analyses([one, one])._repr_html_()


def test_pixels_and_frames_of_videos_have_no_picture_but_all_words(picture: Path) -> None:
    for one in (analysis("array", face()), replace(analysis(picture, face()), frame=3, time=0.1)):
        page = Reader(one._repr_html_())
        assert page.pictures == []
        assert "happiness" in page.text


def test_a_file_that_was_replaced_is_not_shown(picture: Path) -> None:
    before = analysis(picture, face())
    images.write(picture, np.zeros((30, 20, 3), np.uint8))
    assert Reader(before._repr_html_()).pictures == []
    with pytest.raises(ConfigError, match="20 x 30 pixels, the one that was analysed 640 x 400"):
        before.show()


def test_an_error_is_shown_as_text() -> None:
    page = Reader(Analysis("a<b.jpg", 0, 0, error="a<b.jpg: no such file")._repr_html_())
    assert "a<b.jpg: no such file" in page.text


def test_own_labels_unknown_affect_and_doubts() -> None:
    reading = Reading({"<bored>": 0.6, "x" * 500: 0.4}, None, None, None, True, doubts=("covered",))
    page = Reader(analysis("array", replace(face(), reading=reading))._repr_html_())
    assert "<bored> (uncertain)" in page.text
    assert "covered" in page.text
    assert "valence" not in page.text
    assert "x" * 60 not in page.text


def test_the_size_is_bounded(picture: Path) -> None:
    crowd = analysis(picture, *[face() for _ in range(300)])
    assert "and 294 more faces" in Reader(crowd._repr_html_()).text
    assert len(crowd._repr_html_()) < 120_000
    page = Analyses([crowd] * 500)._repr_html_()
    assert "and 488 more pictures" in Reader(page).text
    assert len(page) < 500_000
    assert "no pictures" in Reader(Analyses()._repr_html_()).text


def test_outside_a_notebook_a_viewer_shows_the_annotated_picture(
    picture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Image.Image] = []

    def viewer(image: Image.Image, title: str | None = None) -> bool:
        opened.append(image)
        return len(opened) < 3

    monkeypatch.setattr(ImageShow, "show", viewer)
    rgb = images.read(picture)
    analysis(picture, face()).show()
    analysis("array", face()).show(rgb)
    assert opened[0].size == (640, 400)
    assert np.array_equal(np.asarray(opened[0]), np.asarray(opened[1]))
    assert not np.array_equal(np.asarray(opened[0]), rgb)
    with pytest.raises(LoadError, match="no picture viewer"):
        analysis(picture, face()).show()
    with pytest.raises(ConfigError, match=r"show\(picture\)"):
        analysis("array", face()).show()


def test_in_a_notebook_the_picture_is_below_the_cell(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below: list[Any] = []
    monkeypatch.setitem(
        sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    )
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=below.append))
    analysis(picture, face()).show()
    assert [one.size for one in below] == [(640, 400)]


def test_the_shipped_pipeline_answers_a_list_with_a_gallery_and_a_table(
    examples: Path,
) -> None:
    pandas = pytest.importorskip("pandas")
    pictures = [examples / "portrait_neutral.jpg", examples / "no.jpg"]
    analyses = load(threads=1)(pictures)
    assert isinstance(analyses, list)
    page = Reader(analyses._repr_html_())
    assert len(page.pictures) == 1
    assert "no such file" in page.text
    frame = analyses.to_frame(landmarks=False)
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.input) == [str(path) for path in pictures]
    assert analyses[0].to_frame(landmarks=False).equals(frame[:1])
