"""What `/v1/analyses` answers: the pipeline's own JSON, or one line that says what is wrong and what to do."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mien.faces.pipeline import Pipeline
from mien.server.limits import Limits
from mien.types import Analysis

from .conftest import Serve
from .stand_ins import Whimsical


@pytest.fixture(scope="module")
def portrait(examples: Path) -> bytes:
    return (examples / "portrait_smiling.jpg").read_bytes()


def picture(width: int = 40, height: int = 30, form: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (120, 130, 140)).save(stream, form, **options)
    return stream.getvalue()


def bomb(side: int) -> bytes:
    """A PNG whose header promises `side` x `side` pixels."""
    small = picture()
    header = b"IHDR" + side.to_bytes(4, "big") * 2 + small[24:29]
    return small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]


def refused(answer: Any, status: int, code: str, *words: str) -> dict[str, str]:
    """Check that an answer is a refusal of the documented form, and return it."""
    assert answer.status_code == status, answer.text
    body: dict[str, str] = answer.json()
    assert set(body) == {"error", "message"}
    assert body["error"] == code
    assert "\n" not in body["message"]
    for word in words:
        assert word in body["message"]
    return body


def post(client: TestClient, data: bytes, kind: str = "image/png", **headers: str) -> Any:
    return client.post("/v1/analyses", content=data, headers={"content-type": kind, **headers})


def test_form_and_body_answer_with_the_pipelines_own_json(
    serve: Serve, pipeline: Pipeline, portrait: bytes
) -> None:
    client = serve()
    expected = pipeline(portrait)
    assert len(expected.faces) == 1
    plain = post(client, portrait, "image/jpeg")
    form = client.post("/v1/analyses", files={"file": ("../holiday/me.jpg", portrait, "image/jpeg")})
    assert plain.status_code == form.status_code == 200
    assert plain.text == expected.to_json()
    assert Analysis.from_json(form.text).faces == expected.faces
    assert form.json()["source"] == "me.jpg"


def test_a_second_picture_is_what_faces_are_compared_with(
    serve: Serve, pipeline: Pipeline, portrait: bytes, examples: Path
) -> None:
    client, form = serve(), ("file", ("me.jpg", portrait, "image/jpeg"))
    neutral = (examples / "portrait_neutral.jpg").read_bytes()
    answer = client.post("/v1/analyses", files=[form, ("baseline", ("../rest.jpg", neutral, "image/jpeg"))])
    expected = pipeline(portrait).relative_to(pipeline.baseline(neutral, "rest.jpg"))
    assert Analysis.from_json(answer.text).faces == expected.faces
    for data, status, code, words in (
        (picture(), 422, "no_face", ("baseline: ", "neutral face")),
        (
            (examples / "group_1.jpg").read_bytes(),
            422,
            "wrong_value",
            ("baseline: ", "6 faces", "one person"),
        ),
        (b"no picture", 415, "not_a_picture", ("baseline: ",)),
        (b"", 422, "damaged_picture", ("baseline: ", "empty")),
    ):
        answer = client.post("/v1/analyses", files=[form, ("baseline", ("rest.jpg", data, "image/jpeg"))])
        refused(answer, status, code, *words)
    only = client.post("/v1/analyses", files={"baseline": ("rest.jpg", neutral, "image/jpeg")})
    refused(only, 422, "no_picture")
    both = [form, ("baseline", ("rest.jpg", neutral, "image/jpeg"))]
    edit = client.post("/v1/edits", files=both, data={"target": "anger"})
    assert edit.status_code in (422, 501)
    assert "baseline" in edit.text or "cannot edit" in edit.text


def test_a_photo_lying_on_its_side_is_read_upright(serve: Serve, pipeline: Pipeline, portrait: bytes) -> None:
    upright = Image.open(io.BytesIO(portrait)).convert("RGB").crop((0, 0, 512, 480))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    stream = io.BytesIO()
    upright.transpose(Image.Transpose.ROTATE_90).save(stream, "PNG", exif=exif)
    turned = Analysis.from_json(post(serve(), stream.getvalue()).text)
    assert (turned.width, turned.height) == (512, 480)
    assert turned.faces == pipeline(np.asarray(upright)).faces != ()


def test_no_face_is_an_answer_not_an_error(serve: Serve) -> None:
    answer = post(serve(), picture(300, 200))
    assert answer.status_code == 200
    assert answer.json()["faces"] == []


def test_too_many_bytes_with_and_without_a_stated_length(serve: Serve) -> None:
    client = serve(limits=Limits(bytes=5000))
    noise = np.random.default_rng(0).integers(0, 256, 9000, np.uint8).tobytes()
    refused(post(client, noise), 413, "too_many_bytes", "0.0 MB", "--max-bytes")
    chunks = (noise[start : start + 1000] for start in range(0, 9000, 1000))
    streamed = client.post("/v1/analyses", content=chunks, headers={"content-type": "image/png"})
    refused(streamed, 413, "too_many_bytes", "more than")
    assert post(client, picture()).status_code == 200


def test_too_many_pixels_are_refused_before_decoding(serve: Serve) -> None:
    client = serve(limits=Limits(pixels=10_000))
    # Bombs: thousands of pixels a side in the header, nothing behind it that could be decoded.
    refused(post(client, bomb(9_000)), 413, "too_many_pixels", "9,000 x 9,000", "10,000", "--max-pixels")
    refused(post(client, bomb(20_000)), 413, "too_many_pixels", "scale it down")
    refused(post(client, picture(101, 100)), 413, "too_many_pixels")
    assert post(client, picture(100, 100)).status_code == 200


def test_too_many_faces(serve: Serve, examples: Path) -> None:
    group = (examples / "group_1.jpg").read_bytes()
    refused(post(serve(limits=Limits(faces=5)), group, "image/jpeg"), 422, "too_many_faces", "6 faces", "5")
    assert len(post(serve(limits=Limits(faces=6)), group, "image/jpeg").json()["faces"]) == 6


def test_the_callers_pipeline_stays_as_it_was(serve: Serve, pipeline: Pipeline) -> None:
    before = (pipeline.detector, pipeline.max_pixels)
    serve(limits=Limits(faces=1, pixels=10))
    assert (pipeline.detector, pipeline.max_pixels) == before


@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        (b"hello, I am a text", "image/jpeg", 415, "not_a_picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image/svg+xml", 415, "not_a_picture"),
        (b"", "image/jpeg", 422, "no_picture"),
        (b"{}", "application/json", 415, "wrong_media_type"),
        (b"file=abc", "application/x-www-form-urlencoded", 415, "wrong_media_type"),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 422, "no_picture"),
        (
            b"--x\r\nContent-Disposition: none\r\n\r\nabc\r\n--x--\r\n",
            "multipart/form-data; boundary=x",
            422,
            "wrong_form",
        ),
        (b"whatever", "multipart/form-data", 422, "wrong_form"),
    ],
)
def test_what_is_no_picture(serve: Serve, data: bytes, kind: str, status: int, code: str) -> None:
    refused(post(serve(), data, kind), status, code)


def test_a_missing_media_type_is_named(serve: Serve) -> None:
    refused(serve().post("/v1/analyses", content=b"abc"), 415, "wrong_media_type", "missing", "image/jpeg")


def test_a_picture_that_is_cut_off_is_damaged(serve: Serve, examples: Path) -> None:
    data = (examples / "astronaut.png").read_bytes()
    body = refused(post(serve(), data[: len(data) // 2]), 422, "damaged_picture", "damaged PNG")
    assert "bytes>" not in body["message"]


def test_forms_are_read_strictly(serve: Serve) -> None:
    client = serve()
    files = {"photo": ("a.png", picture(), "image/png")}
    refused(client.post("/v1/analyses", files=files), 422, "wrong_form", "'photo'", "'file'")
    two = [("file", ("a.png", picture(), "image/png")), ("file", ("b.png", picture(), "image/png"))]
    refused(client.post("/v1/analyses", files=two), 422, "wrong_form")
    one = {"file": ("a.png", picture(), "image/png")}
    refused(client.post("/v1/analyses", files=one, data={"threshold": "1"}), 422, "wrong_value", "threshold")


def test_names_cannot_carry_paths_or_control_characters(serve: Serve) -> None:
    client = serve()
    for given, shown in (("..\\..\\x.png", "x.png"), ("/etc/passwd", "passwd"), ("a\tb.png", "ab.png")):
        answer = client.post("/v1/analyses", files={"file": (given, picture(), "image/png")})
        assert answer.json()["source"] in (shown, shown.replace("ab", "a%09b"))
    long = client.post("/v1/analyses", files={"file": ("x" * 500 + ".png", picture(), "image/png")})
    assert len(long.json()["source"]) == 200


def test_no_picture_touches_the_disk(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, portrait: bytes
) -> None:
    """An audit hook sees every file that Python opens, temporary ones included."""
    import sys
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    client = serve()
    written: list[object] = []
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event == "open" and isinstance(arguments[2], int) and arguments[2] & 0o3:
            written.append(arguments[0])

    sys.addaudithook(hook)
    large = picture(1500, 1500, "BMP")
    assert len(large) > 6 * 2**20  # beyond what form parsers keep in memory by themselves
    try:
        assert client.post("/v1/analyses", files={"file": ("a.bmp", large, "image/bmp")}).status_code == 200
        assert post(client, portrait, "image/jpeg").status_code == 200
    finally:
        watching = False
    assert written == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_a_picture_is_logged(
    serve: Serve, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], portrait: bytes
) -> None:
    with caplog.at_level("DEBUG"):
        serve().post("/v1/analyses", files={"file": ("secret-name.jpg", portrait, "image/jpeg")})
    said = caplog.text + "".join(capfd.readouterr())
    assert "secret-name" not in said
    assert "JFIF" not in said


def test_a_defect_is_answered_without_a_traceback_and_with_the_headers(serve: Serve) -> None:
    answer = post(serve(Whimsical()), picture() + b"defect")
    refused(answer, 500, "defect", "ZeroDivisionError")
    assert "private detail" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_answer_is_one_line_of_json(serve: Serve) -> None:
    text = post(serve(), picture()).text
    assert "\n" not in text
    assert json.loads(text)["error"] is None
