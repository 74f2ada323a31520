"""`mien video` writes a table that nothing can spoil, and a film and a page beside it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mien.video
from mien.faces.pipeline import Pipeline
from mien.io import tables
from mien.types import Frame
from mien.video import VideoReader


def arguments(clip: Path, table: Path, weights: Path, *more: str | Path) -> list[str]:
    base = [
        sys.executable,
        "-m",
        "mien",
        "video",
        clip,
        "--out",
        table,
        "--weights",
        weights,
        "--threads",
        "1",
    ]
    return [str(part) for part in (*base, *more)]


@contextmanager
def started(command: list[str], frames: int, table: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, running, once so many frames stand in its part file."""
    part = table.with_name(table.name + ".part")
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        end = time.monotonic() + 120
        while process.poll() is None and not (part.exists() and part.read_bytes().count(b"\n") > frames):
            assert time.monotonic() < end, "it took too long"
            time.sleep(0.005)
        yield process


@pytest.fixture(scope="module")
def undisturbed(clip: Path, recogniser_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    more = ("--annotate", folder / "film.mp4", "--page", folder / "page.html")
    ran = subprocess.run(
        arguments(clip, folder / "t.csv", recogniser_file, *more), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "130 frames" in ran.stdout
    return folder


def test_there_is_a_row_for_every_frame(undisturbed: Path, clip: Path) -> None:
    rows = list(tables.load(undisturbed / "t.csv"))
    assert [row["frame"] for row in rows] == list(range(130))
    assert [row["person"] for row in rows] == [0] * 40 + [1] * 30 + [None] * 20 + [0] * 40
    assert [row["shot"] for row in rows] == [0] * 40 + [1] * 30 + [2] * 20 + [3] * 40
    assert [row["faces"] for row in rows] == [1] * 70 + [0] * 20 + [1] * 40
    with VideoReader(clip) as opened:
        assert [row["approx_time"] for row in rows] == [picture.time for picture in opened.pictures()]
    assert {row["smooth_lag"] for row in rows} == {0.25}
    seen = [row for row in rows if row["faces"]]
    assert any(not row["searched"] for row in seen)
    assert all(row["valence_smooth"] is not None for row in seen)
    assert np.std(np.diff([row["valence_smooth"] for row in seen[:40]])) < np.std(
        np.diff([row["valence"] for row in seen[:40]])
    )


def test_the_film_keeps_times_and_is_marked(undisturbed: Path, clip: Path) -> None:
    with VideoReader(clip) as before, VideoReader(undisturbed / "film.mp4") as after:
        assert (after.width, after.height) == (before.width, before.height)
        pairs = list(zip(before.pictures(), after.pictures(), strict=True))
    assert [new.time for _, new in pairs] == pytest.approx([old.time for old, _ in pairs], abs=1e-4)
    change = [np.abs(old.rgb.astype(int) - new.rgb).max() for old, new in pairs]
    assert min(change[:70]) > 100  # frames are drawn round faces
    assert max(change[72:90]) < 60  # and nothing on the wall


@pytest.mark.parametrize("disturbance", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_goes_on_to_the_same_table_film_and_page(
    disturbance: signal.Signals, clip: Path, undisturbed: Path, recogniser_file: Path, tmp_path: Path
) -> None:
    table = tmp_path / "t.csv"
    more = ("--annotate", tmp_path / "film.mp4", "--page", tmp_path / "page.html")
    command = arguments(clip, table, recogniser_file, *more)
    with started(command, 50, table) as process:
        process.send_signal(disturbance)
        _, errors = process.communicate()
    if disturbance == signal.SIGINT:
        assert process.returncode == 130
        assert errors == f"mien: interrupted: {table} holds the frames so far, continue with --resume\n"
        kept = list(tables.load(table))
        assert kept == list(tables.load(undisturbed / "t.csv"))[: len(kept)]
        with VideoReader(tmp_path / "film.mp4") as film:
            assert sum(1 for _ in film.pictures()) == len(kept) >= 50
    else:
        assert not table.exists()
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert table.read_bytes() == (undisturbed / "t.csv").read_bytes()
    assert (tmp_path / "page.html").read_text() == (undisturbed / "page.html").read_text()
    with VideoReader(tmp_path / "film.mp4") as film:
        assert sum(1 for _ in film.pictures()) == 130
    left = {file.name for file in tmp_path.iterdir()}
    assert left == {"t.csv", "t.csv.mien.json", "film.mp4", "page.html"}


@pytest.mark.parametrize("form", [".jsonl", ".parquet"])
def test_other_formats_can_be_continued_too(
    form: str, clip: Path, pipeline: Pipeline, tmp_path: Path
) -> None:
    """A table of the first forty frames, written by hand, is completed to what a whole run writes."""
    from mien.video.process import Orders, run

    if form == ".parquet":
        pytest.importorskip("pyarrow", reason="needs the extra 'parquet'")
    whole, part = tmp_path / f"whole{form}", tmp_path / f"part{form}"
    run(Orders(clip, whole), lambda: pipeline)
    frames = list(mien.video.analyse(clip, pipeline))
    with tables.Writer(part, video=True) as table:
        for frame in frames[:40]:
            table.write(frame)
    asked = []
    run(
        Orders(clip, part, resume=True),
        lambda: pipeline,
        lambda _, frame, recalled: asked.append((frame.frame, recalled)),
    )
    assert asked == [(number, number < 40) for number in range(130)]
    assert list(tables.load(part)) == list(tables.load(whole))


def test_a_finished_table_is_complete(clip: Path, pipeline: Pipeline, tmp_path: Path) -> None:
    from mien.video.process import Orders, run

    run(Orders(clip, tmp_path / "t.csv"), lambda: pipeline)
    before = (tmp_path / "t.csv").read_bytes()
    run(Orders(clip, tmp_path / "t.csv", resume=True), lambda: pipeline)
    assert (tmp_path / "t.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--every", "2"), "was begun with every 40, not 2"),
        (("--smooth", "1"), "was begun with smooth 0.25, not 1.0"),
        (("--min-face", "50"), "was begun with min_face null, not 50.0"),
        (("--detector", "whole"), "was begun with detector "),
        (("--columns", "openface"), "--resume needs --columns mien"),
    ],
)
def test_going_on_otherwise_is_refused(
    more: tuple[str, str], said: str, clip: Path, recogniser_file: Path, tmp_path: Path,
    command: Callable[..., Any],
) -> None:  # fmt: skip
    table = tmp_path / "t.csv"
    base = ("video", clip, "--out", table, "--weights", recogniser_file, "--every", "40")
    assert command(*base).code == 0
    before = table.read_bytes()
    ran = command(*base, "--resume", *more)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert said in ran.err
    assert table.read_bytes() == before
    assert not table.with_name("t.csv.part").exists()
    assert command(*base, "--resume").code == 0  # nothing is in the way of the mended command
    assert table.read_bytes() == before


def test_a_table_of_another_video_is_refused(
    clip: Path, pipeline: Pipeline, recogniser_file: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    table = tmp_path / "t.csv"
    another = tmp_path / "another.mp4"
    shutil.copy(clip, another)
    base = ("--out", table, "--weights", recogniser_file, "--every", "40")
    assert command("video", another, *base).code == 0
    before = table.read_bytes()
    ran = command("video", clip, *base, "--resume")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "another.mp4" in ran.err
    assert not table.with_name("t.csv.part").exists()
    with another.open("ab") as file:
        file.write(b"more")  # another content under the same name
    ran = command("video", another, *base, "--resume")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "has changed since" in ran.err
    assert table.read_bytes() == before


def test_nothing_is_replaced_unless_told(
    clip: Path, recogniser_file: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    base = ("video", clip, "--out", tmp_path / "t.csv", "--weights", recogniser_file, "--every", "60")
    film, page = tmp_path / "film.mp4", tmp_path / "page.html"
    more = ("--annotate", film, "--page", page)
    film.write_text("mine")
    for ending in ((), ("--resume",)):  # also on going on: that run has written no film
        ran = command(*base, *more, *ending)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "film.mp4: exists: pass --overwrite" in ran.err
        assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    assert film.read_text() == "mine"
    assert command(*base, *more, "--overwrite").code == 0
    assert command(*base, *more, "--resume").code == 0
    assert "t.csv: exists: pass --overwrite to replace it, --resume to continue" in command(*base, *more).err


def test_damage_keeps_the_frames_before_it(
    shots: Callable[..., Any], write_clip: Callable[..., Path], recogniser_file: Path, tmp_path: Path,
    command: Callable[..., Any],
) -> None:  # fmt: skip
    whole = write_clip(tmp_path / "a.mp4", shots((["one"], 40)), movflags="faststart").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 6 // 10])
    table = tmp_path / "t.csv"
    ran = command("video", tmp_path / "cut.mp4", "--out", table, "--weights", recogniser_file)
    assert ran.code == 2
    assert ran.err.count("\n") == 1
    assert 10 <= len(list(tables.load(table))) < 30


def test_every_and_json(clip: Path, recogniser_file: Path, command: Callable[..., Any]) -> None:
    ran = command("video", clip, "--every", "7", "--json", "--weights", recogniser_file, "--smooth", "0")
    assert ran.code == 0
    frames = [Frame.from_json(line) for line in ran.out.splitlines()]
    assert [frame.frame for frame in frames] == list(range(0, 130, 7))
    for frame in frames:
        for face in frame.faces:
            assert face.smoothed.valence == face.valence
    assert [json.loads(line)["source"] for line in ran.out.splitlines()] == [str(clip)] * 19


@pytest.mark.parametrize("layout", ["openface", "deepface"])
def test_other_layouts_have_the_video_columns(
    layout: str, clip: Path, recogniser_file: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    table = tmp_path / "t.csv"
    more = ("--columns", layout, "--every", "20", "--weights", recogniser_file)
    assert command("video", clip, "--out", table, *more).code == 0
    rows = list(tables.load(table))
    assert [row["person"] for row in rows] == [0, 0, 1, 1, None, 0, 0]
    assert list(rows[0]) == [column.name for column in tables.columns_of(layout, video=True)]
    assert command("video", clip, "--out", table, *more, "--no-landmarks", "--overwrite").code == 0
    few = list(tables.load(table))
    assert list(few[0]) == [column.name for column in tables.columns_of(layout, False, video=True)]
    assert few == [{name: row[name] for name in few[0]} for row in rows]


@pytest.mark.parametrize(
    "more",
    [
        ("--resume",),
        ("--no-landmarks",),
        ("--out", "{tmp}/t.csv", "--no-landmarks", "--resume"),
        ("--out", "{clip}"),
        ("--out", "{tmp}/t.xlsx"),
        ("--annotate", "{tmp}/film.avi"),
        ("--annotate", "{tmp}/none/film.mp4"),
        ("--out", "{tmp}/t.csv", "--page", "{tmp}/t.csv"),
        ("--smooth", "nan"),
    ],
)
def test_wrong_orders_are_refused_at_the_door(
    more: tuple[str, ...], clip: Path, recogniser_file: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    before = clip.read_bytes()
    given = [part.format(clip=clip, tmp=tmp_path) for part in more]
    ran = command("video", clip, "--weights", recogniser_file, *given)
    assert (ran.code, ran.err.count("\n")) == (2, 1), ran.err
    assert list(tmp_path.iterdir()) == []
    assert clip.read_bytes() == before


def test_the_bar_tells_rate_and_time_left(clip: Path, pipeline: Pipeline) -> None:
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    from mien.cli.video import Bar, bar_columns

    assert any(isinstance(column, TimeRemainingColumn) for column in bar_columns())
    text = StringIO()
    console = Console(file=text, force_terminal=True, width=100)
    with VideoReader(clip) as opened, Progress(*bar_columns(), console=console) as progress:
        bar = Bar(progress, progress.add_task("opening", total=None, rate=""))
        for number in range(10):
            time.sleep(0.01)
            bar(opened, Frame("a", 1, 1, frame=number, time=opened.duration * number / 20), number < 3)
        progress.refresh()
    assert "frames/s" in text.getvalue()
    assert "analysing" in text.getvalue()
    assert "45%" in text.getvalue()
