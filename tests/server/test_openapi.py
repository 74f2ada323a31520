"""The OpenAPI document: names, examples and errors of every operation, and the page that lists them."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

pytest.importorskip("fastapi")

from pydantic import TypeAdapter

from mien.server import openapi, schema
from mien.server.app import create_app

from .conftest import Serve
from .stand_ins import StandIn

OPERATIONS = {
    "analyse_picture": "post /v1/analyses",
    "edit_picture": "post /v1/edits",
    "analyse_batch": "post /v1/batches",
    "analyse_video": "post /v1/videos",
    "write_table": "post /v1/tables",
    "get_job": "get /v1/jobs/{job}",
    "follow_job": "get /v1/jobs/{job}/events",
    "get_job_file": "get /v1/jobs/{job}/files/{name}",
    "cancel_job": "delete /v1/jobs/{job}",
    "list_models": "get /v1/models",
    "get_service": "get /v1/service",
    "get_health": "get /health",
    "get_ready": "get /ready",
    "get_metrics": "get /metrics",
}
"""Clients that are generated from the document call them by these names, so they stay."""


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    found: dict[str, Any] = create_app(StandIn(), api_key="correct-horse-battery").openapi()  # type: ignore[arg-type]
    return json.loads(json.dumps(found))


@pytest.fixture(scope="module")
def operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        operation["operationId"]: {**operation, "place": f"{method} {path}"}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_operations_have_stable_names(operations: dict[str, dict[str, Any]]) -> None:
    assert {name: operation["place"] for name, operation in operations.items()} == OPERATIONS


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_answer_has_an_example_of_its_schema(
    name: str, operations: dict[str, dict[str, Any]], document: dict[str, Any]
) -> None:
    for status, answer in operations[name]["responses"].items():
        for media, content in answer.get("content", {}).items():
            if media in ("application/json", "text/plain", "text/event-stream"):
                assert "example" in content, (status, media)
            if int(status) >= 400:
                problem = schema.Problem.model_validate(content["example"])
                assert problem.error
                assert answer["description"]
            elif media == "application/json":
                model = content["schema"].get("$ref", "").rsplit("/", 1)[-1]
                known = {kind.__name__: kind for kind in vars(schema).values() if isinstance(kind, type)}
                if model in known:
                    TypeAdapter(known[model]).validate_python(content["example"])


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_request_has_an_example_and_a_command_line(
    name: str, operations: dict[str, dict[str, Any]]
) -> None:
    operation = operations[name]
    line = operation["x-codeSamples"][0]["source"]
    assert ("Bearer" in line) == ("security" in operation)
    words = shlex.split(line)
    method, path = operation["place"].split(" ")
    assert words[0] == "curl"
    (address,) = [word for word in words if word.startswith("http://")]
    assert address == "http://127.0.0.1:8000" + path.replace("{job}", "JOB").replace("{name}", "table.csv")
    assert ("-F" in words) == (method == "post")
    assert ("DELETE" in words) == (method == "delete")
    if method == "post":
        form = operation["requestBody"]["content"]["multipart/form-data"]
        assert form["example"].keys() <= form["schema"]["properties"].keys()
        sent = {words[place + 1].partition("=")[0] for place, word in enumerate(words) if word == "-F"}
        assert sent <= form["schema"]["properties"].keys()


def test_the_examples_of_events_are_events_of_a_job() -> None:
    for block in openapi.EVENTS.strip().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        assert lines["event"] in ("picture", "progress", "done")
        json.loads(lines["data"])


def test_the_document_keeps_to_its_version(serve: Serve, document: dict[str, Any]) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document)
    assert document["openapi"].startswith("3.1")
    assert "itemSchema" not in json.dumps(document)


def test_the_page_lists_every_operation_and_its_fields(serve: Serve) -> None:
    from html.parser import HTMLParser

    from mien.server.middleware import SECURITY

    answer = serve(hosts=("testserver",)).get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == SECURITY["Content-Security-Policy"]
    for name, place in OPERATIONS.items():
        method, path = place.split(" ")
        assert f'<section id="{name}"' in answer.text
        assert f"{method.upper()} {path}" in answer.text
    assert "curl -F file=@portrait.jpg http://testserver/v1/analyses" in answer.text
    for field in ("intensity", "baseline", "columns", "every"):
        assert f"<code>{field}</code>" in answer.text
    assert "too_many_faces" in answer.text
    loaded: list[str | None] = []
    inline: list[str] = []

    class Seen(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            known = dict(attrs)
            loaded.extend(known[name] for name in ("src", "href") if name in known)
            inline.extend(name for name in known if name == "style" or name.startswith("on"))
            inline.extend([tag] if tag in ("style", "script") else [])

    Seen().feed(answer.text)
    assert inline == [], "the policy forbids it"
    assert not [link for link in loaded if link and "//" in link]
    style = serve().get("/docs.css")
    assert style.headers["content-type"].startswith("text/css")
    assert "//" not in style.text


def test_a_host_cannot_write_into_the_page(serve: Serve) -> None:
    for host in ("<script>x", '"onload="x'):
        assert host not in serve().get("/docs", headers={"host": host}).text
