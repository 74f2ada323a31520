"""What `/v1/edits` answers: an edited picture that says so itself, or why not."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from mien.editing.editor import Editor
from mien.editing.mark import Mark
from mien.editing.provenance import SOURCE_TYPE, verify
from mien.editing.signing import Signer
from mien.faces.pipeline import Pipeline
from mien.server import answers
from mien.server.app import create_app
from mien.server.limits import Limits
from mien.server.models import Models

from .conftest import Serve
from .test_analyses import bomb, picture, refused


@pytest.fixture(scope="module")
def editor(pipeline: Pipeline) -> Editor:
    return Editor.load(pipeline)


@pytest.fixture(scope="module")
def client(pipeline: Pipeline, editor: Editor, signer: Signer) -> Any:
    with TestClient(create_app(pipeline, editor, signer=signer)) as client:
        yield client


@pytest.fixture(scope="module")
def portrait(examples: Path) -> bytes:
    return (examples / "portrait_neutral.jpg").read_bytes()


def ask(client: TestClient, data: bytes, accept: str = "image/*", **fields: Any) -> Any:
    files = {"file": ("portrait.jpg", data, "image/jpeg")}
    return client.post("/v1/edits", files=files, data=fields, headers={"accept": accept})


def decoded(data: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_an_edit_is_the_editors_and_says_of_itself_what_it_is(
    client: TestClient, editor: Editor, portrait: bytes, tmp_path: Path
) -> None:
    pytest.importorskip("c2pa")
    answer = ask(client, portrait, target="surprise", intensity="0.9", format="png", consent="true")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    expected = editor(portrait, "surprise", 0.9)
    unmarked = ask(client, portrait, target="surprise", intensity="0.9", format="png", mark="false")
    assert (decoded(unmarked.content) == expected.image).all()
    assert np.abs(decoded(answer.content) - expected.image).max() <= 8
    assert float(answer.headers["mien-applied"]) == pytest.approx(expected.applied, abs=1e-3)
    assert np.abs(decoded(answer.content) - decoded(portrait)).max() > 30
    file = tmp_path / "edited.png"
    file.write_bytes(answer.content)
    verdict = verify(file)
    assert (verdict.manifest, verdict.intact, verdict.edited) == (True, True, True)
    assert verdict.source_type == SOURCE_TYPE
    assert verdict.facts["target"] == "surprise"
    assert verdict.facts["consent_stated"] is True
    assert verdict.mark == Mark()
    file.write_bytes(unmarked.content)
    assert verify(file).mark is None
    assert verify(file).facts["invisible_mark"] == {"left_out": "not wanted"}


def test_faces_of_the_same_photo_are_located_once(
    pipeline: Pipeline, editor: Editor, signer: Signer, portrait: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("c2pa")
    located: list[str] = []
    locate = Editor.locate
    monkeypatch.setattr(
        Editor, "locate", lambda self, photo: located.append(photo.source) or locate(self, photo)
    )
    worker = answers.given(Models(pipeline, editor, signer), Limits())

    def edited(data: bytes, intensity: float) -> Any:
        asked = {"target": "happiness", "intensity": intensity, "format": "png", "mark": False}
        _, body = worker({"edit": asked, "as_json": False}, data, lambda done: None)
        return decoded(body)

    first = edited(portrait, 0.4)
    assert (edited(portrait, 0.8) == editor(portrait, "happiness", 0.8).image).all()
    located.remove(located[-1])  # by the line above
    assert len(located) == 1
    assert (edited(portrait, 0.4) == first).all()
    other = io.BytesIO()
    Image.open(io.BytesIO(portrait)).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other, "PNG")
    assert (edited(other.getvalue(), 0.4) != first).any()
    assert len(located) == 2


def test_json_holds_the_same_file_and_both_readings(client: TestClient, portrait: bytes) -> None:
    answer = ask(client, portrait, "application/json", valence="0.6", arousal="0.3")
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert decoded(base64.b64decode(told["image"])).shape == (told["height"], told["width"], 3)
    assert told["media_type"] == "image/jpeg"
    assert told["provenance"]["consent_stated"] is False
    (face,) = told["faces"]
    assert face["asked"].keys() <= {"happiness", "surprise"}
    assert face["before"]["probabilities"] != face["after"]["probabilities"]


def test_the_body_may_be_the_picture(client: TestClient, portrait: bytes) -> None:
    address = "/v1/edits?target=happiness&intensity=0.5&format=webp"
    answer = client.post(address, content=portrait, headers={"content-type": "image/jpeg"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/webp"
    assert Image.open(io.BytesIO(answer.content)).format == "WEBP"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "target"),
        ({"target": "joyfulness"}, "joyfulness"),
        ({"target": "happiness", "valence": "0"}, "either"),
        ({"valence": "0.5"}, "both"),
        ({"valence": "2", "arousal": "0"}, "valence"),
        ({"target": "happiness", "intensity": "1.3"}, "intensity"),
        ({"target": "happiness", "intensity": "strong"}, "intensity"),
        ({"target": "happiness", "intensity": "nan"}, "intensity"),
        ({"valence": "nan", "arousal": "0"}, "valence"),
        ({"target": ""}, "not an expression"),
        ({"target": "happiness:-1"}, "0 to 1"),
        ({"target": "happiness", "intensty": "1"}, "did you mean 'intensity'"),
        ({"target": "happiness", "format": "gif"}, "format"),
        ({"target": "happiness", "face": "left"}, "face"),
    ],
)
def test_wrong_values_are_named(client: TestClient, fields: dict[str, str], words: str) -> None:
    refused(ask(client, picture(), **fields), 422, "wrong_value", words)


def test_what_cannot_be_edited(client: TestClient, portrait: bytes) -> None:
    refused(ask(client, picture(300, 300), target="happiness"), 422, "no_face")
    refused(ask(client, portrait, target="happiness", face="3"), 422, "no_face", "face 3")
    small = io.BytesIO()
    Image.open(io.BytesIO(portrait)).resize((72, 72)).save(small, "PNG")
    refused(ask(client, small.getvalue(), target="happiness"), 422, "edit_refused", "pixels")
    forced = ask(client, small.getvalue(), target="happiness", force="true")
    assert forced.status_code == 200
    assert "forced although" in forced.headers["mien-flags"]


def test_limits_hold_for_edits_too(
    pipeline: Pipeline, editor: Editor, signer: Signer, examples: Path
) -> None:
    app = create_app(pipeline, editor, signer=signer, limits=Limits(pixels=300_000, faces=5))
    with TestClient(app) as client:
        refused(ask(client, bomb(9_000), target="happiness"), 413, "too_many_pixels", "9,000", "--max-pixels")
        refused(ask(client, b"text", target="happiness"), 415, "not_a_picture")
        group = io.BytesIO()
        Image.open(examples / "group_1.jpg").resize((720, 405)).save(group, "PNG")
        refused(ask(client, group.getvalue(), target="happiness"), 422, "too_many_faces", "6 faces")


def test_without_an_editor_edits_answer_501(serve: Serve) -> None:
    client = serve()
    refused(ask(client, picture(), target="happiness"), 501, "no_editor", "no editor is installed")
    told = client.get("/v1/service").json()
    assert (told["editor"], told["editor_lacking"]) == (False, "no editor is installed")


def test_with_an_editor_the_service_says_so(client: TestClient) -> None:
    told = client.get("/v1/service").json()
    assert (told["editor"], told["editor_lacking"]) == (True, "")


def test_own_teeth_are_taken_from_a_second_picture(
    client: TestClient, editor: Editor, portrait: bytes, examples: Path
) -> None:
    pytest.importorskip("c2pa")
    smiling = (examples / "portrait_smiling.jpg").read_bytes()
    fields = {"target": "happiness", "format": "png", "mark": "false"}
    files = {"file": ("a.jpg", portrait, "image/jpeg"), "teeth_from": ("b.jpg", smiling, "image/jpeg")}
    answer = client.post("/v1/edits", files=files, data=fields, headers={"accept": "image/*"})
    assert answer.status_code == 200, answer.text
    expected = editor.with_teeth_of(smiling)(portrait, "happiness", 1.0)
    np.testing.assert_array_equal(decoded(answer.content), expected.image)
    assert "b.jpg" in answer.headers["mien-flags"]
    files["teeth_from"] = ("b.jpg", portrait, "image/jpeg")
    answer = client.post("/v1/edits", files=files, data=fields)
    assert answer.status_code == 422, answer.text
    assert "teeth_from" in answer.text
    assert "the lips are closed" in answer.text


def test_an_analysis_takes_no_teeth(client: TestClient, portrait: bytes) -> None:
    files = {"file": ("a.jpg", portrait, "image/jpeg"), "teeth_from": ("b.jpg", portrait, "image/jpeg")}
    answer = client.post("/v1/analyses", files=files)
    assert answer.status_code == 422
    assert "teeth_from" in answer.text
