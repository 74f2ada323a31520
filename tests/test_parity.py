"""One photograph and one set of options, one answer: by command line, Python, HTTP, WebSocket, batch and video.

Over HTTP the photograph is sent alone, in a batch of pictures, and as a video.

Rows are compared as numbers, edits as pixels, with the weights that ship. An edited video is compared before its frame
is encoded.
"""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mien
from mien.editing.editor import Editor
from mien.editing.results import Edit
from mien.faces.operating_point import Adaptation
from mien.faces.pipeline import Pipeline
from mien.io import cards, images, tables
from mien.labels import EXPRESSIONS
from mien.types import Analysis, Face, Frame

READ = {
    "as it ships": {},
    "haar": {"detector": "haar"},
    "large faces": {"min_face": 110.0},
    "sure faces": {"min_confidence": 0.925},
    "tiled": {"tiled": True},
    "uniform prior": {"prior": "uniform"},
    "a correction": {"adapt": "studio.json"},
    "a correction for other labels": {"adapt": "own.json"},
}
"""Options of finding faces, as `mien.load` calls them; the command line's are the same with a hyphen."""

EDITS = {
    "anger": {"target": "anger", "intensity": 1.0},
    "a blend": {"target": "happiness:0.5,surprise:0.5", "intensity": 0.6, "mouth": "open"},
    "more of it": {"target": "sadness", "intensity": 0.4, "relative": True},
    "affect": {"valence": -0.5, "arousal": 0.4, "intensity": 1.0},
    "lips kept": {"target": "surprise", "intensity": 0.8, "mouth": "keep"},
}
"""Options of an edit, as HTTP calls them."""


def words(options: dict[str, Any]) -> list[str]:
    """Options as the command line writes them."""
    names = {"target": "to", "actions": "au"}
    written = []
    for name, value in options.items():
        written.append("--" + names.get(name, name).replace("_", "-"))
        written += [] if value is True else [str(value)]
    return written


@pytest.fixture(autouse=True)
def corrections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that `adapt` names above, in the working folder."""
    monkeypatch.chdir(tmp_path)
    _, card = cards.verified(cards.FOLDER / "recogniser.onnx")
    random, count = np.random.default_rng(0), len(EXPRESSIONS)
    own = ("calm", "lively")
    for name, labels, scale in (("studio", EXPRESSIONS, np.full(count, 0.8)), ("own", own, None)):
        Adaptation(
            labels,
            str(card.fields["sha256"]),
            shares=np.full(len(labels), 1 / len(labels)),
            bias=random.normal(size=len(labels)),
            scale=scale,
            head=2 * random.normal(size=(len(labels), 512)),
            centre=np.zeros(512),
        ).save(Path(f"{name}.json"))


@pytest.fixture(scope="module")
def group(examples: Path) -> Path:
    return examples / "group_1.jpg"


@pytest.fixture(scope="module")
def clip(group: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return one_frame(images.read(group), tmp_path_factory.mktemp("clip") / "group.mkv")


def one_frame(rgb: images.Rgb, path: Path) -> Path:
    """A video of one frame whose pixels are the picture's: FFV1 in RGB loses nothing."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = rgb.shape[1], rgb.shape[0], "bgr0"
        frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="bgr0")
        container.mux([*stream.encode(frame), *stream.encode()])
    return path


def faces_of(analysis: Analysis) -> list[tuple[Any, ...]]:
    """What is said of each face; a video's faces have more to them."""
    names = [field.name for field in fields(Face)]
    return [tuple(getattr(face, name) for name in names) for face in analysis.faces]


def by_jobs(client: Any, photo: Path, clip: Path) -> list[dict[str, Any]]:
    """The rows of a photograph that is sent in a batch; its faces are also those of the video of one frame."""
    read: list[list[tuple[Any, ...]]] = []
    rows: list[dict[str, Any]] = []
    for kind, path, name in (("batches", photo, "table.jsonl"), ("videos", clip, "frames.jsonl")):
        answer = client.post(
            f"/v1/{kind}", files={"file": (path.name, path.read_bytes())}, data={"files": name}
        )
        assert answer.status_code == 202, answer.text
        job = answer.headers["location"]
        events = client.get(f"{job}/events").text
        assert "event: done" in events, events
        lines = client.get(f"{job}/files/{name}").text.splitlines()
        if kind == "batches":
            data = next(line for line in events.splitlines() if '"analysis"' in line).partition(": ")[2]
            read.append(faces_of(Analysis.from_dict(json.loads(data)["analysis"])))
            rows = [json.loads(line) for line in lines]
        else:
            read.append(faces_of(Frame.from_json(lines[0])))
    assert read[0] == read[1]
    return rows


@pytest.mark.parametrize("name", READ)
def test_faces_are_read_alike(
    name: str, group: Path, clip: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("pyarrow")
    from fastapi.testclient import TestClient
    from pyarrow import parquet

    from mien.batch import plan, worker
    from mien.server.app import create_app
    from mien.video import analyser

    options: dict[str, Any] = READ[name]
    pipeline = mien.load(**options, threads=1)
    expected = pipeline(group)
    assert expected.faces, "nothing to compare"
    assert 0 < len(expected.faces) <= 6
    assert all(face.actions["mouthSmileLeft"] is not None for face in expected.faces)

    ran = command("predict", group, "--json", *words(options))
    assert Analysis.from_json(ran.out) == expected

    with TestClient(create_app(pipeline)) as client:
        answer = client.post(
            "/v1/analyses", content=group.read_bytes(), headers={"content-type": "image/jpeg"}
        )
        with client.websocket_connect("/v1/live") as stream:
            columns = stream.receive_json()["columns"]
            stream.send_bytes(group.read_bytes())
            live = stream.receive_json()
        table = by_jobs(client, group, clip)
    assert Analysis.from_dict({**answer.json(), "source": str(group)}) == expected
    assert live["analysis"] == answer.json()
    posted = tables.rows(Analysis.from_dict(answer.json()), landmarks=False, labels=pipeline.labels)
    assert [dict(zip(columns, row, strict=True)) for row in live["rows"]] == posted
    rows = tables.rows(expected, labels=pipeline.labels)
    assert table == [{**row, "input": group.name} for row in rows]

    job = worker.Job(str(tmp_path / "table"), str(tmp_path), options, "mien", "row")
    store = worker.Store(job.out)
    store.make(plan.FOLDER)
    plan.claim(store, {})
    done = worker.Worker(job, worker.Ledger())(0, [str(group)])
    assert done["failure"] is None, done
    written = parquet.read_table(tmp_path / "table" / plan.Part(0, (str(group),)).name).to_pylist()
    assert written == tables.rows(expected, labels=pipeline.recogniser.labels)

    (frame,) = analyser.analyse(clip, pipeline)
    assert faces_of(frame) == faces_of(expected)


def test_faces_are_compared_alike(examples: Path, command: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("fastapi")
    pytest.importorskip("pyarrow")
    from fastapi.testclient import TestClient
    from pyarrow import parquet

    from mien.batch import plan, worker
    from mien.server.app import create_app
    from mien.video import analyser

    neutral, photo = (examples / f"portrait_{name}.jpg" for name in ("neutral", "smiling"))
    plain = mien.load(threads=1)
    expected = plain(photo).relative_to(plain.baseline(neutral))
    assert expected.faces[0].change is not None
    assert expected.faces[0].change.baseline == "portrait_neutral.jpg"
    pipeline = mien.load(baseline=neutral, threads=1)
    assert pipeline(photo) == pipeline([photo])[0] == expected

    ran = command("predict", photo, "--json", "--baseline", neutral)
    assert Analysis.from_json(ran.out) == expected

    with TestClient(create_app(plain)) as client:
        answer = client.post(
            "/v1/analyses",
            files={
                "file": ("p.jpg", photo.read_bytes(), "image/jpeg"),
                "baseline": (neutral.name, neutral.read_bytes(), "image/jpeg"),
            },
        )
    assert answer.status_code == 200, answer.text
    assert Analysis.from_dict({**answer.json(), "source": str(photo)}) == expected

    options = {"baseline": [str(neutral)]}
    job = worker.Job(str(tmp_path / "table"), str(tmp_path), options, "mien", "row")
    store = worker.Store(job.out)
    store.make(plan.FOLDER)
    plan.claim(store, {})
    done = worker.Worker(job, worker.Ledger())(0, [str(photo)])
    assert done["failure"] is None, done
    written = parquet.read_table(tmp_path / "table" / plan.Part(0, (str(photo),)).name).to_pylist()
    assert written == tables.rows(expected, changes=True)

    clip = one_frame(images.read(photo), tmp_path / "photo.mkv")
    (frame,) = analyser.analyse(clip, pipeline)
    assert faces_of(frame) == faces_of(expected)
    ran = command("video", clip, "--baseline", neutral, "--out", tmp_path / "film.parquet")
    assert ran.code == 0, ran.err
    (row,) = tables.load(tmp_path / "film.parquet")
    assert {name: row[name] for name in written[0] if name.endswith("_change")} == {
        name: value for name, value in written[0].items() if name.endswith("_change")
    }


@pytest.fixture(scope="module")
def portrait(examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo in a format that is written without loss; of an even number of pixels, as videos have."""
    path = tmp_path_factory.mktemp("photo") / "portrait.png"
    rgb = images.read(examples / "portrait_neutral.jpg")
    images.write(path, np.ascontiguousarray(rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]))
    return path


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return mien.load(threads=1)


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The application as `mien serve` starts it, with a signing key of its own."""
    pytest.importorskip("fastapi")
    pytest.importorskip("c2pa")
    from fastapi.testclient import TestClient

    from mien.server.app import create_app

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        with TestClient(create_app()) as client:
            while client.get("/ready").json().get("error") == "loading":
                time.sleep(0.05)
            yield client


def asked(editor: Editor, photo: Path, options: dict[str, Any]) -> Edit:
    from mien.editing.target import Target

    given = dict(options)
    target: Any = given.pop("target", None)
    if target is None:
        target = Target.of_affect(given.pop("valence"), given.pop("arousal"))
    return editor(photo, target, given.pop("intensity"), **given)


@pytest.mark.parametrize("name", EDITS)
def test_a_photo_is_edited_alike(
    name: str, portrait: Path, pipeline: Pipeline, client: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    options = EDITS[name]
    expected = asked(Editor.load(pipeline), portrait, options)
    assert (expected.image != images.read(portrait)).any()
    assert expected.before == pipeline(portrait).faces[0].reading, (
        "edit and predict read one face differently"
    )

    one = tmp_path / "one.png"
    ran = command("edit", portrait, "--no-provenance", "--no-mark", "--out", one, "--json", *words(options))
    assert ran.code == 0, ran.err
    np.testing.assert_array_equal(images.read(one), expected.image)
    record = json.loads(ran.out)["faces"][0]
    assert record["before"]["probabilities"] == expected.before.probabilities
    assert record["after"]["probabilities"] == expected.after.probabilities
    # What a file shows is read from it as it was said.
    shown = pipeline(one).faces[0].probabilities
    # Its box is found again, a few pixels off, and a blend shows two labels alike.
    assert shown[expected.after.expression] > max(shown.values()) - 0.05

    many = tmp_path / "many"
    ran = command(
        "edit",
        portrait,
        portrait.parent,
        "--i-have-consent",
        "--no-provenance",
        "--no-mark",
        "--out",
        many,
        *words(options),
    )
    np.testing.assert_array_equal(images.read(many / portrait.name), expected.image)

    form = {key: str(value).lower() if value is True else str(value) for key, value in options.items()}
    answer = client.post(
        "/v1/edits",
        files={"file": ("p.png", portrait.read_bytes(), "image/png")},
        data={**form, "format": "png", "mark": "false"},
    )
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected.image)


def test_any_face_of_a_group_is_edited_alike(
    group: Path, pipeline: Pipeline, client: Any, command: Callable[..., Any], tmp_path: Path
) -> None:
    expected = Editor.load(pipeline)(group, "anger", 0.9, face=2)
    assert expected.faces[0].box == pipeline(group).faces[2].box, (
        "face 2 is not the one that predict numbers 2"
    )
    one = tmp_path / "one.png"
    ran = command(
        "edit",
        group,
        "--no-provenance",
        "--no-mark",
        "--out",
        one,
        "--to",
        "anger",
        "--intensity",
        "0.9",
        "--face",
        "2",
    )
    assert ran.code == 0, ran.err
    np.testing.assert_array_equal(images.read(one), expected.image)
    answer = client.post(
        "/v1/edits",
        files={"file": ("p.jpg", group.read_bytes(), "image/jpeg")},
        data={"target": "anger", "intensity": "0.9", "face": "2", "format": "png", "mark": "false"},
    )
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected.image)


@pytest.mark.parametrize(
    ("asked", "options"),
    [
        ("actions", {"actions": "smile=0.6,jawOpen=0.2"}),
        ("gaze", {"gaze": "-0.6,0.3"}),
        ("all", {"target": "anger", "actions": "jawOpen=0.2", "gaze": "-0.6,0.3"}),
    ],
)
def test_marks_facial_actions_and_gaze_are_alike(
    portrait: Path,
    pipeline: Pipeline,
    client: Any,
    command: Callable[..., Any],
    tmp_path: Path,
    asked: str,
    options: dict[str, str],
) -> None:
    from mien.editing.provenance import write_edit
    from mien.editing.target import Target

    target = {
        "actions": Target.of_actions({"smile": 0.6, "jawOpen": 0.2}),
        "gaze": Target.of_gaze(-0.6, 0.3),
        "all": Target.parse("anger") & Target.of_actions({"jawOpen": 0.2}) & Target.of_gaze(-0.6, 0.3),
    }[asked]
    edit = Editor.load(pipeline)(portrait, target)
    plain, one, two = (tmp_path / name for name in ("plain.png", "one.png", "two.png"))
    write_edit(edit, plain, provenance=False)
    ran = command("edit", portrait, "--no-provenance", "--out", one, *words(options))
    assert ran.code == 0, ran.err
    answer = client.post(
        "/v1/edits",
        files={"file": ("p.png", portrait.read_bytes(), "image/png")},
        data={**options, "format": "png"},
    )
    two.write_bytes(answer.content)
    assert (images.read(plain) != edit.image).any(), "the mark is in the pixels"
    np.testing.assert_array_equal(images.read(one), images.read(plain))
    np.testing.assert_array_equal(images.read(two), images.read(plain))


def test_own_teeth_are_alike(
    portrait: Path,
    examples: Path,
    pipeline: Pipeline,
    client: Any,
    command: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    smiling = examples / "portrait_smiling.jpg"
    expected = Editor.load(pipeline).with_teeth_of(smiling)(portrait, "happiness", 1.0)
    assert "mouth interior filled from 'portrait_smiling.jpg'" in expected.flags

    one, many, read = tmp_path / "one.png", tmp_path / "many", Path.read_bytes
    times: list[str] = []

    def count(path: Path) -> bytes:
        times.append(path.name)
        return read(path)

    asked = ["--to", "happiness", "--teeth-from", smiling, "--no-provenance", "--no-mark"]
    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", count)
        ran = command("edit", portrait, *asked, "--out", one)
    assert ran.code == 0, ran.err
    assert times.count(smiling.name) == 1, "the photo of the teeth is read once"
    np.testing.assert_array_equal(images.read(one), expected.image)
    ran = command("edit", portrait, portrait.parent, "--i-have-consent", *asked, "--out", many)
    assert ran.code == 0, ran.err
    np.testing.assert_array_equal(images.read(many / portrait.name), expected.image)

    files = {
        "file": ("p.png", portrait.read_bytes(), "image/png"),
        "teeth_from": (smiling.name, smiling.read_bytes(), "image/jpeg"),
    }
    answer = client.post("/v1/edits", files=files, data={"target": "happiness", "mark": "false"})
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), expected.image)

    with mien.Client("http://testserver") as remote:
        remote._http = client
        sent = remote.edit(portrait, "happiness", teeth_from=smiling, mark=False)
        np.testing.assert_array_equal(sent.image, expected.image)
        assert sent.faces == expected.faces
        with pytest.raises(mien.MienError, match=r"^teeth_from: .*the lips are closed"):
            remote.edit(portrait, "happiness", teeth_from=portrait)
        with pytest.raises(mien.MienError, match=r"^teeth_from: .*no face found"):
            remote.edit(portrait, "happiness", teeth_from=np.full((90, 90, 3), 120, np.uint8))


def test_options_of_finding_faces_reach_the_editor(
    group: Path, command: Callable[..., Any], tmp_path: Path
) -> None:
    for name, options in READ.items():
        if name == "a correction for other labels":
            with pytest.raises(mien.errors.ConfigError, match="calm, lively"):
                Editor.load(**options, threads=1)
            continue
        expected = Editor.load(**options, threads=1)(group, "anger", 0.5, force=True)
        one = tmp_path / f"{name}.png"
        ran = command(
            "edit", group, "--no-provenance", "--no-mark", "--force", "--out", one, "--to", "anger",
            "--intensity", "0.5", *words(options),
        )  # fmt: skip
        assert ran.code == 0, ran.err
        np.testing.assert_array_equal(images.read(one), expected.image)


def test_a_pipeline_and_its_options_are_not_both_passed(pipeline: Pipeline) -> None:
    with pytest.raises(mien.errors.ConfigError, match="min_face"):
        Editor.load(pipeline, min_face=50)


@pytest.mark.parametrize("name", EDITS)
def test_a_video_of_one_frame_is_edited_as_the_photo(
    name: str, portrait: Path, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if EDITS[name].get("mouth") == "open":
        pytest.skip(
            "opened lips are filled in all frames of a video, and in a photo only where nothing shows"
        )
    from mien.editing import edit_video as film
    from mien.editing.target import Target
    from mien.io.video import VideoWriter

    clip = one_frame(images.read(portrait), tmp_path / "portrait.mkv")
    drawn: list[images.Rgb] = []
    add = VideoWriter.add

    def keep(made: VideoWriter, rgb: images.Rgb, at: float) -> None:
        drawn.append(rgb.copy())
        add(made, rgb, at)

    monkeypatch.setattr(VideoWriter, "add", keep)
    editor, options = Editor.load(pipeline), dict(EDITS[name])
    expected = asked(editor, portrait, options)
    target: Any = options.pop("target", None)
    if target is None:
        target = Target.of_affect(options.pop("valence"), options.pop("arousal"))
    else:
        target = Target.parse(target)
    film.edit_video(editor, clip, tmp_path / "edited.mp4", target, options.pop("intensity"), **options)
    np.testing.assert_array_equal(drawn[0], expected.image)
