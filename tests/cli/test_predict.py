"""`mien predict` finds what it was told to analyse, prints and writes it, and loses nothing when it is stopped."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mien.errors import MienError
from mien.faces.parallel import analyse
from mien.faces.recognise import SHIPPED
from mien.io import images, inputs, tables
from mien.types import Analysis


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Path:
    """A hundred pictures in two folders: most with a face, some without, one damaged."""
    root = tmp_path_factory.mktemp("folder")
    (root / "sub").mkdir()
    portraits = [
        images.read(examples / f"portrait_{name}.jpg")[60:460, 60:460] for name in ("smiling", "neutral")
    ]
    for number in range(60):
        picture = np.roll(portraits[number % 2], number % 7, axis=1)
        if number % 20 == 7:
            picture = np.full_like(picture, number)
        images.write(root / ("sub" if number > 40 else "") / f"{number:02}.jpg", picture)
    (root / "33.jpg").write_bytes(b"damaged")
    # Enough of them that no run is over before it can be disturbed.
    for number in range(40):
        (root / "sub" / f"again{number:02}.jpg").symlink_to(root / f"{number % 30:02}.jpg")
    return root


@pytest.fixture(scope="module")
def undisturbed(folder: Path, recogniser_file: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The table of a run in one process that nothing disturbed."""
    table = tmp_path_factory.mktemp("table") / "table.csv"
    ran = subprocess.run(
        arguments(folder, table, recogniser_file, 1), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1, ran.stderr
    return table.read_bytes()


def arguments(folder: Path, table: Path, weights: Path, workers: int, *more: str) -> list[str]:
    base = [sys.executable, "-m", "mien", "predict", folder, "--out", table, "--weights", weights]
    return [str(part) for part in (*base, "--workers", workers, *more)]


def children(process: int) -> list[int]:
    """Process ids of the direct children, from the kernel."""
    tasks = Path(f"/proc/{process}/task")
    return [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]


def workers_of(process: int) -> list[int]:
    return [
        child for child in children(process) if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(") ", 1)[1][0] != "Z"
    except OSError:
        return False


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.01)


def gone(processes: list[int]) -> bool:
    return not any(alive(process) for process in processes)


@contextmanager
def started(command: list[str], lines: int, table: Path) -> Iterator[subprocess.Popen[str]]:
    """The command, running, once its part file holds so many lines."""
    part = table.with_name(table.name + ".part")
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        until(
            lambda: process.poll() is not None or (part.exists() and part.read_bytes().count(b"\n") > lines)
        )
        yield process


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads /proc")


def test_processes_give_the_same_table_as_one(
    folder: Path, undisturbed: bytes, recogniser_file: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    ran = subprocess.run(
        arguments(folder, table, recogniser_file, 2), capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert "33.jpg" in ran.stderr
    assert table.read_bytes() == undisturbed
    rows = list(tables.load(table))
    assert [row["input"] for row in rows] == [str(path) for path in inputs.find([folder])]
    assert sum(row["faces"] or 0 for row in rows) == 93


@linux
@pytest.mark.parametrize("workers", [1, 2])
def test_kill_9_then_resume_gives_the_table_of_an_undisturbed_run(
    workers: int, folder: Path, undisturbed: bytes, recogniser_file: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    command = arguments(folder, table, recogniser_file, workers)
    with started(command, 3, table) as process:
        offspring = children(process.pid)
        process.kill()
        process.wait()
        until(lambda: gone(offspring))  # no orphan
    assert not table.exists()
    assert len(tables.done(table)) >= 3
    assert "--resume" in subprocess.run(command, capture_output=True, text=True, check=False).stderr
    resumed = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=False)
    assert "Traceback" not in resumed.stderr
    assert table.read_bytes() == undisturbed


@linux
def test_ctrl_c_leaves_a_resumable_run_and_no_process(
    folder: Path, undisturbed: bytes, recogniser_file: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    command = arguments(folder, table, recogniser_file, 2)
    with started(command, 3, table) as process:
        offspring = children(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the whole group
        _, errors = process.communicate()
        assert process.returncode == 130
        assert errors.splitlines()[-1] == f"mien: interrupted: continue with  --resume --out {table}"
        assert "Traceback" not in errors
        until(lambda: gone(offspring))
    subprocess.run([*command, "--resume"], capture_output=True, check=False)
    assert table.read_bytes() == undisturbed


@linux
def test_a_killed_worker_loses_nothing(
    folder: Path, undisturbed: bytes, recogniser_file: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    with started(arguments(folder, table, recogniser_file, 2), 3, table) as process:
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode == 1
        assert errors.count("\n") == 1  # the damaged picture, as ever
    assert table.read_bytes() == undisturbed


def deadly(paths: list[str]) -> Iterator[Analysis]:
    """Work whose process dies on some pictures, as a fault in a decoder would do."""
    for path in paths:
        if "deadly" in path:
            os.kill(os.getpid(), signal.SIGKILL)
        yield Analysis(path, 1, 1)


def make_deadly() -> Callable[[list[str]], Iterator[Analysis]]:
    return deadly


def make_nothing() -> Callable[[list[str]], Iterator[Analysis]]:
    raise MienError("no weights: reinstall")


def test_the_picture_that_kills_its_worker_is_found_and_the_others_are_kept() -> None:
    paths = [f"{number}.jpg" for number in range(40)]
    paths[11] = "deadly.jpg"
    answers = list(analyse(paths, make_deadly, {}, workers=2))
    assert [answer.source for answer in answers] == paths
    assert [answer.source for answer in answers if answer.error] == ["deadly.jpg"]
    assert "died on this picture" in str(answers[11].error)


def test_workers_that_cannot_start_say_why() -> None:
    with pytest.raises(MienError, match="no weights: reinstall"):
        list(analyse(["a.jpg"], make_nothing, {}, workers=1))


def test_paths_are_read_only_a_bounded_number_ahead() -> None:
    pulled = 0

    def endless() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield f"{pulled}.jpg"

    answers = analyse(endless(), make_deadly, {}, workers=1)
    assert [next(answers).source for _ in range(20)] == [f"{number}.jpg" for number in range(1, 21)]
    answers.close()  # type: ignore[attr-defined]
    assert pulled <= 64


def test_one_photograph_prints_a_line_for_each_face(
    command: Callable, examples: Path, recogniser_file: Path
) -> None:
    ran = command("predict", examples / "group_1.jpg", "--weights", recogniser_file)
    assert ran.code == 0
    header, *lines = ran.out.splitlines()
    assert " ".join(header.split()) == ("picture face label prob valence arousal quality")
    assert len(lines) == 6
    assert [line.split()[1] for line in lines] == ["0", "1", "2", "3", "4", "5"]


@pytest.mark.skipif(not SHIPPED.exists(), reason="the recogniser's weights are not in this package")
def test_the_question_mark_of_an_uncertain_label_is_explained_below(
    command: Callable, examples: Path
) -> None:
    pictures = {True: examples / "group_1.jpg", False: examples / "portrait_smiling.jpg"}
    for uncertain, picture in pictures.items():
        ran = command("predict", picture)
        assert ("?" in ran.out) == uncertain
        assert ran.err.startswith("? behind a label: uncertain") == uncertain


def test_json_lines_read_back_as_analyses(command: Callable, examples: Path, recogniser_file: Path) -> None:
    ran = command("predict", examples, "missing.jpg", "--json", "--embeddings", "--weights", recogniser_file)
    assert ran.code == 1
    analyses = [Analysis.from_json(line) for line in ran.out.splitlines()]
    assert [analysis.source for analysis in analyses][-1] == "missing.jpg"
    assert len(analyses) == 6
    assert {len(face.reading.embedding) for analysis in analyses for face in analysis.faces} == {16}


def test_the_three_formats_hold_the_same_rows(
    command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path
) -> None:
    found = []
    for suffix in tables.FORMATS:
        ran = command("predict", examples, "--out", tmp_path / f"table{suffix}", "--weights", recogniser_file)
        assert (ran.code, ran.err) == (0, "")  # nothing here is a terminal
        assert re.fullmatch(r"5 pictures, 16 faces; \d+\.\d s: .*table\S+\n", ran.out)
        found.append(list(tables.load(tmp_path / f"table{suffix}")))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 16


@pytest.mark.parametrize("scheme", ["mien", "pyfeat", "openface", "deepface"])
def test_every_column_of_a_table_is_explained(
    scheme: str, command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path
) -> None:
    table = tmp_path / "table.jsonl"
    photograph = examples / "portrait_smiling.jpg"
    command("predict", photograph, "--out", table, "--columns", scheme, "--weights", recogniser_file)
    told = command("columns", scheme).out
    assert "NAME.mien.json" in told
    explained = {line.split()[0] for line in told.splitlines() if line}
    names = set(json.loads(table.read_text()))
    assert {name for name in names if name.split("_")[0] not in ("x", "y")} <= explained
    assert ("x_111" in names) == (scheme in ("mien", "deepface"))
    assert "x_67" in names


@pytest.mark.parametrize("scheme", ["mien", "pyfeat"])
def test_a_table_without_landmarks(
    scheme: str, command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path
) -> None:
    table = tmp_path / "table.csv"
    given = ("predict", examples / "portrait_smiling.jpg", "--columns", scheme, "--weights", recogniser_file)
    assert command(*given, "--no-landmarks").err.count("of the table: name one with --out") == 1
    assert command(*given, "--no-landmarks", "--out", table).code == 0
    (row,) = tables.load(table)
    assert list(row) == [column.name for column in tables.columns_of(scheme, landmarks=False)]
    resumed = command(*given, "--resume", "--out", table)
    assert (resumed.code, "--no-landmarks" in resumed.err) == (2, True)


def test_on_no_face(command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path) -> None:
    blank, photograph = tmp_path / "blank.png", examples / "portrait_smiling.jpg"
    images.write(blank, np.zeros((100, 100, 3), np.uint8))
    counts = {}
    for choice in ("row", "skip", "error"):
        table = tmp_path / f"{choice}.csv"
        ran = command(
            "predict", blank, photograph, "--out", table, "--on-no-face", choice, "--weights", recogniser_file
        )
        counts[choice] = (ran.code, len(list(tables.load(table))), ran.err.count("no face found"))
    assert counts == {"row": (0, 2, 0), "skip": (0, 1, 0), "error": (1, 2, 1)}


def test_annotated_pictures_mirror_the_folders(
    command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path
) -> None:
    pictures = tmp_path / "pictures"
    (pictures / "sub").mkdir(parents=True)
    shutil.copy(examples / "portrait_smiling.jpg", pictures / "a.jpg")
    shutil.copy(examples / "portrait_neutral.jpg", pictures / "sub" / "a.jpg")
    for more in ([], ["--overwrite"]):  # the second time annotated pictures lie in the searched folder
        given = (
            "predict",
            pictures,
            "--annotate",
            pictures / "marked",
            "--weights",
            recogniser_file,
            "--json",
        )
        ran = command(*given, *more)
        assert (ran.code, ran.out.count("\n")) == (0, 2)
        assert ran.err.startswith("2 pictures, 2 faces; ")
    again = command(*given)
    assert again.code == 2
    assert "a.jpg: exists: pass --overwrite" in again.err
    for name in ("a.jpg", "sub/a.jpg"):
        before, after = images.read(pictures / name), images.read(pictures / "marked" / name)
        assert np.abs(before.astype(int) - after).max() > 50
    refused = command("predict", pictures, "--annotate", pictures, "--weights", recogniser_file)
    assert refused.code == 2
    assert "overwrite an input" in refused.err


def test_gather_expands_folders_patterns_lists_and_drops_repeats(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert len(inputs.gather(["."])) == 100
    assert len(inputs.gather(["0?.jpg", "00.jpg", "0*.jpg"])) == 10
    lines, nulls = tmp_path / "list", tmp_path / "nulls"
    lines.write_text(f"{folder}/00.jpg\n\n{folder}/sub\n")
    nulls.write_bytes(b"%s/00.jpg\0%s/01.jpg\0" % (os.fsencode(folder), os.fsencode(folder)))
    assert len(inputs.gather([f"@{lines}"])) == 60
    assert inputs.gather([], str(nulls)) == [f"{folder}/00.jpg", f"{folder}/01.jpg"]
    (folder / "@here.jpg").symlink_to(folder / "00.jpg")
    assert inputs.gather(["@here.jpg"]) == ["@here.jpg"]  # a file of this name comes first
    (folder / "@here.jpg").unlink()


def test_methods_prints_cards(
    command: Callable, monkeypatch: pytest.MonkeyPatch, recogniser_file: Path
) -> None:
    from mien.io import cards

    monkeypatch.setattr(cards, "FOLDER", recogniser_file.parent)
    assert "random" in command("methods").out
    card = command("methods", "random", "--card").out
    for word in ("must_not", "be used for anything else", "temperature", "contempt"):
        assert word in card
    assert json.loads(command("methods", "--json").out)["name"] == "random"
    wrong = command("methods", "rondom")
    assert wrong.code == 2
    assert "did you mean 'random'" in wrong.err


def test_every_command_listed_can_be_called(command: Callable) -> None:
    from mien.cli.main import COMMANDS

    listed = command("--help").out
    for name in COMMANDS:
        assert f"\n  {name} " in listed
        ran = command(name, "--help")
        assert ran.code == 0
        assert f"Usage: mien {name} " in ran.out
    wrong = command("predcit")
    assert wrong.code == 2
    assert "Did you mean 'predict'" in wrong.err


def test_help_imports_nothing_heavy() -> None:
    script = """
import sys
from mien.cli import main
sys.argv = ["mien", "--help"]
try:
    main.main()
except SystemExit:
    pass
print(sorted({"torch", "numpy", "cv2", "onnxruntime", "rich", "pydantic", "PIL"} & set(sys.modules)), file=sys.stderr)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "predict" in ran.stdout
    assert ran.stderr.strip() == "[]"


def test_an_existing_table_is_kept_unless_told(
    command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("my own notes\n")
    given = (
        "predict", examples / "portrait_smiling.jpg", "--out", table, "--weights", recogniser_file, "--threads", "1",
    )  # fmt: skip
    ran = command(*given)
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "exists: pass --overwrite to replace it, --resume to continue" in ran.err
    assert table.read_text() == "my own notes\n"
    assert command(*given, "--overwrite").code == 0
    assert len(list(tables.load(table))) == 1
    assert command(*given, "--overwrite", "--resume").code == 2


def test_going_on_with_other_options_is_refused_and_names_the_difference(
    command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path, write_recogniser: Callable
) -> None:
    table = tmp_path / "t.jsonl"
    other = tmp_path / "other"
    other.mkdir()
    base = ["predict", examples / "portrait_smiling.jpg", "--out", table, "--threads", "1"]
    assert command(*base, "--weights", recogniser_file).code == 0
    before = table.read_bytes()
    for more, word in (
        (["--weights", write_recogniser(other, seed=1)], "weights"),
        (["--weights", recogniser_file, "--min-face", "60"], "min_face"),
        (["--weights", recogniser_file, "--detector", "whole"], "detector"),
        (["--weights", recogniser_file, "--on-no-face", "skip"], "on_no_face"),
    ):
        ran = command(*base, *more, "--resume")
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert f"was begun with {word} " in ran.err
        assert table.read_bytes() == before
        assert not table.with_name("t.jsonl.part").exists()
    assert command(*base, "--weights", recogniser_file, "--resume").code == 0
    made = tables.made_of(table)["made_with"]
    assert made["detector"] == "mien"
    assert made["weights"] == json.loads(recogniser_file.with_suffix(".json").read_text())["sha256"]


def test_replaced_mended_and_renamed_pictures_are_noticed(
    command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("a.jpg", "b.jpg"):
        shutil.copy(examples / "portrait_smiling.jpg", pictures / name)
    (pictures / "c.jpg").write_bytes(b"damaged")
    base = ["--out", tmp_path / "t.csv", "--weights", recogniser_file, "--threads", "1"]
    assert command("predict", "pictures", *base).code == 1
    first = list(tables.load("t.csv"))
    shutil.copy(examples / "group_1.jpg", pictures / "b.jpg")
    shutil.copy(examples / "portrait_smiling.jpg", pictures / "c.jpg")
    # By another way, so that all names are other strings.
    ran = command("predict", tmp_path / "pictures", *base, "--resume")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("2 pictures, 7 faces, 1 done before; ")
    rows = list(tables.load("t.csv"))
    assert [row["input"] for row in rows] == ["pictures/a.jpg"] + 6 * ["pictures/b.jpg"] + ["pictures/c.jpg"]
    assert rows[0] == first[0]
    assert [row["error"] for row in rows] == [None] * 8
    # The same name in another folder is another picture.
    (tmp_path / "else" / "pictures").mkdir(parents=True)
    shutil.copy(examples / "group_1.jpg", tmp_path / "else" / "pictures" / "a.jpg")
    monkeypatch.chdir(tmp_path / "else")
    ran = command("predict", "pictures/a.jpg", *base, "--resume")
    assert (ran.code, ran.err.count("\n")) == (2, 1)
    assert "another picture of this name" in ran.err
    monkeypatch.chdir(tmp_path)
    assert list(tables.load("t.csv")) == rows


def test_annotate_overwrites_nothing_of_yours(
    command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("shots", "cwd", "pics/sub"):
        (tmp_path / folder).mkdir(parents=True)
        shutil.copy(examples / "portrait_smiling.jpg", tmp_path / folder / "a.jpg")
    shutil.copy(examples / "portrait_neutral.jpg", tmp_path / "pics" / "a.jpg")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.jpg")}
    monkeypatch.chdir(tmp_path / "cwd")
    base = ("--weights", recogniser_file, "--threads", "1")
    assert command("predict", "../shots", ".", "--annotate", "../marked", *base).code == 0
    marked = sorted(
        path.relative_to(tmp_path / "marked").as_posix() for path in (tmp_path / "marked").rglob("*.jpg")
    )
    assert marked == ["cwd/a.jpg", "shots/a.jpg"]
    for more in ([], ["--overwrite"]):
        ran = command("predict", "../pics/sub", "--annotate", "../pics", *base, *more)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "mien did not write it" in ran.err
    # An output folder inside the input folder, and gone on with: annotated pictures are not taken for pictures.
    for more in ([], ["--resume"], ["--overwrite"]):
        table = ("--out", tmp_path / "t.csv")
        ran = command("predict", "../shots", "--annotate", "../shots/marked", *table, *base, *more)
        assert ran.code == 0, ran.err
        assert len(list(tables.load(tmp_path / "t.csv"))) == 1
    assert {path: path.read_bytes() for path in before} == before


def test_linked_folders_and_empty_names_are_said(
    command: Callable, examples: Path, tmp_path: Path, recogniser_file: Path
) -> None:
    (tmp_path / "album").symlink_to(examples)
    shutil.copy(examples / "portrait_smiling.jpg", tmp_path / "a.jpg")
    ran = command("predict", tmp_path, "--json", "--weights", recogniser_file)
    assert ran.out.count("\n") == 1
    assert (
        ran.err
        == f"mien: note: a linked folder was not searched: name it to have it searched too: {tmp_path}/album\n"
    )
    for arguments in (["predict", ""], ["predict", "a.jpg", "--weights="], ["edit", "a.jpg", "--to", ""]):
        ran = command(*arguments)
        assert (ran.code, ran.err.count("\n")) == (2, 1)
        assert "empty" in ran.err


def test_annotated_pictures_show_actions_where_asked_for(
    examples: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    photo = examples / "portrait_smiling.jpg"
    for name, more in (("labels", ()), ("actions", ("--show", "actions")), ("many", ("--show", "actions"))):
        workers = ("--workers", "2") if name == "many" else ()
        assert command("predict", photo, "--annotate", tmp_path / name, *more, *workers).code == 0
    labels, actions, many = (
        images.read(tmp_path / name / photo.name) for name in ("labels", "actions", "many")
    )
    assert (labels != actions).any()
    assert (actions == many).all()
    ran = command("predict", photo, "--show", "actions")
    assert (ran.code, "name their folder with --annotate" in ran.err) == (2, True)
