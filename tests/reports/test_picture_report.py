"""The page of `mien predict --report`: counts against those of the analyses, its limits, and how it goes with other
options."""

from __future__ import annotations

import base64
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mien import errors
from mien.io import tables
from mien.labels import EXPRESSIONS
from mien.reports import picture_report
from mien.reports.picture_report import PictureReport

SETTINGS: dict[str, Any] = {
    "version": "1.0", "model": "net", "weights": "ab" * 32, "landmarks": "cd" * 32, "detector": "haar",
    "prior": {"neutral": 0.5}, "min_face": None, "tiled": True, "adapt": None,
}  # fmt: skip


class Parsed(HTMLParser):
    """A page's elements: the attributes of each tag, and the text of the headline figures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.key = dict(re.findall(r"<dt>([^<]+)</dt><dd>([\d,]+)<small>", text))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def rows(labels: list[str], source: str = "", **more: Any) -> Iterator[dict[str, Any]]:
    """Rows of a table: one picture for each label; "" is a picture without a face, "!" one with an error."""
    for number, label in enumerate(labels):
        row: dict[str, Any] = {"input": source or f"p{number}.jpg", "face": None, "error": None}
        if label == "!":
            row["error"] = f"{row['input']}: is damaged: convert it"
        elif label:
            row |= {
                "face": 0,
                "FaceRectX": 10.0,
                "FaceRectY": 20.0,
                "FaceRectWidth": 30.0,
                "FaceRectHeight": 40.0,
            }
            row |= {"expression": label, "probability": 0.9, "valence": 0.5, "arousal": -1.0, "quality": 1.0}
            row |= {"uncertain": False, "doubts": None, **more}
        yield row


def page_of(labels: list[str], **more: Any) -> tuple[PictureReport, str]:
    report = PictureReport(EXPRESSIONS)
    report.add_rows(rows(labels, **more), lambda name: None)
    return report, report.html("holiday", SETTINGS)


def test_it_counts_what_it_was_given() -> None:
    _, text = page_of(["happiness", "", "!", "happiness", "fear"])
    assert Parsed(text).key == {
        "Pictures": "5", "Faces": "3", "Uncertain": "0", "Without a face": "1", "Not analysed": "1",
    }  # fmt: skip
    assert "<h1>holiday</h1>" in text
    assert "not feelings" in text
    assert "is damaged: convert it" in text
    assert "<li>p1.jpg</li>" in text
    assert "ab" * 8 in text
    assert "searched in tiles" in text
    assert re.findall(r"(\w+)</th><td>(\d+)</td><td>(\d+)%", text) == [
        ("happiness", "2", "67"),
        ("fear", "1", "33"),
    ]


def test_values_fall_into_the_right_bars() -> None:
    report, text = page_of(["fear"] * 3)
    bars = {name: np.flatnonzero(counts).tolist() for name, counts in report._histograms.items()}
    assert bars == {"valence": [15], "arousal": [0], "quality": [19]}  # the ends of a range count as inside
    assert "Histogram of arousal of 3 faces, -1 to 1; mean -1.00." in text


def test_it_stays_small_and_says_how_many_there_are() -> None:
    report, text = page_of(["happiness"] * 500 + ["fear"] * 3, uncertain=True, doubts="small")
    assert len(report._samples["happiness"].kept) == picture_report.FACES // 8
    assert "48 of 500 faces, drawn at random" in text
    assert "The 48 least probable of 503" in text
    assert "small (503)" in text
    assert text.count("<figure class=") == 48 + 3 + 48


def test_a_long_list_of_names_is_cut_with_its_count() -> None:
    _, text = page_of(["!"] * 300 + [""] * 900)
    assert text.count("is damaged: convert it") == picture_report.NAMES
    assert "100 more are in the table" in text
    assert "700 more are not named here" in text
    assert "200 more are not listed here" in text


def test_every_face_is_as_likely_to_be_shown() -> None:
    """Reservoir sampling: first and last faces are equally often among the 48 of 480."""
    halves = Counter()
    for seed in range(40):
        report = PictureReport(EXPRESSIONS)
        report._draw.seed(seed)
        report.add_rows(rows(["fear"] * 480), lambda name: None)
        halves.update(int(face.name[1:-4]) < 240 for face in report._samples["fear"].kept)
    # Binomial with 1,920 draws: a standard deviation is 22.
    assert abs(halves[True] - 960) < 110


def test_the_least_probable_uncertain_faces_are_kept_first() -> None:
    report = PictureReport(EXPRESSIONS)
    for number in range(200):
        one = rows(
            ["fear"], source=f"{number}.jpg", probability=0.2 + (number * 37 % 200) / 500, uncertain=True
        )
        report.add_rows(one, lambda name: None)
    text = report.html("x", SETTINGS).partition("Faces by label")[0]
    shown = [float(value) for value in re.findall(r'data-probability="([\d.]+)"', text)]
    assert shown == sorted(shown)
    assert len(shown) == 48
    assert max(shown) == pytest.approx(0.2 + 47 / 500)


def test_names_and_errors_are_escaped() -> None:
    report = PictureReport(EXPRESSIONS)
    report.add_rows(rows(["fear", "!"], source='<script>alert("x")</script>.jpg'), lambda name: None)
    assert Parsed(report.html("<b>x", SETTINGS)).of("script") == [{}]  # its own


@pytest.mark.parametrize("box", [(10, 10, 20, 30), (-20, -20, 60, 60), (80, 30, 40, 40), (0, 0, 300, 300)])
def test_a_thumbnail_is_a_square_within_the_picture(box: tuple[float, float, float, float]) -> None:
    picture = np.zeros((60, 100, 3), np.uint8)
    picture[..., 0] = np.arange(100)  # red is the column
    crop = picture_report._crop(picture, box)
    assert crop.shape == (picture_report.SIDE, picture_report.SIDE, 3)
    side = min(1.4 * max(box[2:]), 60)
    left = min(max(0, box[0] + box[2] / 2 - side / 2), 100 - side)
    assert abs(float(crop[64, 64, 0]) - (left + side / 2)) < 2


# As an option of the command ----------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path: Path, examples: Path) -> Path:
    """Two photographs with seven faces, a picture without one, and a damaged file."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(examples / "portrait_smiling.jpg", folder / "a.jpg")
    shutil.copy(examples / "group_1.jpg", folder / "b.jpg")
    cv2.imwrite(str(folder / "c.png"), np.full((80, 80, 3), 99, np.uint8))
    (folder / "d.jpg").write_bytes(b"damaged")
    return folder


def test_the_page_has_the_rows_of_the_table_and_the_pixels_of_the_pictures(
    photos: Path, command: Callable, tmp_path: Path, recogniser_file: Path
) -> None:
    page, table = tmp_path / "r.html", tmp_path / "t.csv"
    ran = command("predict", photos, "--weights", recogniser_file, "--report", page, "--out", table)
    assert ran.code == 1
    assert ran.out.endswith(f"s: {table}, page {page}\n")
    parsed = Parsed(page.read_text(encoding="utf-8"))
    assert (parsed.key["Pictures"], parsed.key["Faces"], parsed.key["Not analysed"]) == ("4", "7", "1")
    labels = Counter(row["expression"] for row in tables.load(table) if row["face"] is not None)
    written = re.findall(r"(\w+)</th><td>(\d+)</td><td>\d+%", page.read_text(encoding="utf-8"))
    assert {label: int(number) for label, number in written} == labels
    for attributes in parsed.of("img"):
        kind, _, data = (attributes["src"] or "").partition(",")
        assert kind == "data:image/jpeg;base64"
        assert attributes["alt"]
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert picture.shape == (128, 128, 3)
        assert picture.std() > 10
    # Nothing is loaded from elsewhere.
    addresses = [value for _, found in parsed.tags for key, value in found.items() if key in ("src", "href")]
    assert [address for address in addresses if not (address or "").startswith("data:")] == []


def test_a_resumed_run_has_the_rows_of_the_earlier_one(
    photos: Path, command: Callable, tmp_path: Path, recogniser_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    common = ("--weights", recogniser_file, "--out", "t.csv", "--report", "r.html")
    assert command("predict", "photos/a.jpg", *common).code == 0
    assert command("predict", "photos", *common).code == 2  # nothing is replaced unasked
    assert command("predict", "photos", *common, "--resume").code == 1
    parsed = Parsed((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert (parsed.key["Pictures"], parsed.key["Faces"]) == ("4", "7")
    assert len(parsed.of("img")) >= 7
    assert any("photos/a.jpg" in (image["alt"] or "") for image in parsed.of("img"))


def test_only_an_own_page_is_replaced_when_resuming(
    photos: Path, command: Callable, tmp_path: Path, recogniser_file: Path
) -> None:
    page = tmp_path / "mine.html"
    page.write_text("my own page")
    common = ("--weights", recogniser_file, "--out", tmp_path / "t.csv", "--report", page)
    ran = command("predict", photos, *common, "--resume")
    assert (ran.code, page.read_text()) == (2, "my own page")
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--report", "r.txt"), "--report is a page"),
        (("--report", "none/r.html"), "no such folder"),
        (
            ("--report", "r.html", "--out", "t.csv", "--columns", "pyfeat", "--resume"),
            "leave out --resume or --report",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_before_any_work(
    options: tuple[str, ...], said: str, photos: Path, command: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    ran = command("predict", "photos", *options)
    assert ran.code == 2
    assert said in ran.err
    assert sorted(path.name for path in photos.parent.iterdir()) == ["photos"]


def test_without_jinja2_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_report, "find_spec", lambda name: None)
    with pytest.raises(errors.ExtraMissing, match=r"mien\[figures\]"):
        picture_report.check(tmp_path / "r.html", overwrite=False, resume=False, reads=[])


def test_a_picture_that_is_gone_has_its_place(photos: Path) -> None:
    report = PictureReport(EXPRESSIONS)
    report.add_rows(rows(["fear"]), lambda name: str(photos / "gone.jpg"))
    assert "the picture is no longer there" in report.html("x", SETTINGS)


def test_ctrl_c_leaves_a_page_of_what_was_done(tmp_path: Path, examples: Path, recogniser_file: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(400):
        shutil.copy(examples / "portrait_smiling.jpg", photos / f"{number}.jpg")
    table, page = tmp_path / "t.csv", tmp_path / "r.html"
    words = (
        "predict",
        photos,
        "--weights",
        recogniser_file,
        "--out",
        table,
        "--report",
        page,
        "--workers",
        "1",
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "mien", *map(str, words)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    part = tmp_path / "t.csv.part"
    end = time.monotonic() + 120
    while not (part.exists() and part.read_bytes().count(b"\n") > 3):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    text = page.read_text(encoding="utf-8")
    found = re.search(r"The run was interrupted: this page has (\d+) of 400 pictures", text)
    assert found is not None
    assert Parsed(text).key["Pictures"] == found[1]
    assert 0 < int(found[1]) < 400


def test_a_title_is_what_was_given_or_the_common_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [str(tmp_path / "trip" / "a" / "1.jpg"), str(tmp_path / "trip" / "b" / "2.jpg")]
    assert picture_report.title_of(["trip/"], sources) == "trip"
    assert picture_report.title_of(["x/1.jpg", "y/2.jpg"], sources) == "trip"
    assert picture_report.title_of(["@list.txt"], sources) == "trip"
    assert picture_report.title_of(["-"], []) == "0 pictures"
    (tmp_path / "trip" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "trip" / "a")
    assert [picture_report.title_of([here], sources) for here in (".", "./", "..")] == ["a", "a", "trip"]
