"""Schemathesis asks the API for everything its own OpenAPI document allows, and for what it does not.

Every answer has a status that the document names for that endpoint, the media type and the schema it states, and never
500. In half of the requests a sound small picture stands where Schemathesis invents bytes, so that fields and queries
are reached too. `MIEN_FUZZ_EXAMPLES` says how many requests each endpoint gets.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

schemathesis = pytest.importorskip("schemathesis")
pytest.importorskip("fastapi")

from hypothesis import HealthCheck, Phase, given, settings  # noqa: E402
from schemathesis import checks  # noqa: E402

from mien.editing.editor import Editor  # noqa: E402
from mien.faces.pipeline import load  # noqa: E402
from mien.server.app import create_app  # noqa: E402
from mien.server.limits import Limits  # noqa: E402

from .targets import pictures  # noqa: E402

EXAMPLES = max(5, int(os.environ.get("MIEN_FUZZ_EXAMPLES", "30")) // 2)
KEY = "correct-horse-battery"


@pytest.fixture(scope="module")
def document() -> Any:
    pipeline = load(threads=1)
    app = create_app(pipeline, Editor.load(pipeline), limits=Limits(pixels=1_000_000), api_key=KEY)
    return schemathesis.openapi.from_asgi("/openapi.json", app)


checks.load_all_checks()
CHECKS = checks.CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    ]
)


OPERATIONS = (
    "POST /v1/analyses",
    "POST /v1/edits",
    "POST /v1/batches",
    "POST /v1/videos",
    "GET /v1/jobs/{job}",
    "GET /v1/jobs/{job}/events",
    "GET /v1/jobs/{job}/files/{name}",
    "DELETE /v1/jobs/{job}",
    "POST /v1/tables",
    "GET /v1/models",
    "GET /v1/service",
    "GET /health",
    "GET /ready",
    "GET /metrics",
)


def test_every_endpoint_is_asked(document: Any) -> None:
    assert {found.ok().label for found in document.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("label", OPERATIONS)
def test_the_api_keeps_to_its_document(document: Any, label: str, mode: str) -> None:
    operation = next(found.ok() for found in document.get_all_operations() if found.ok().label == label)
    if mode == "negative" and not operation.body and not operation.query:
        pytest.skip("nothing can be sent there")

    @settings(
        max_examples=EXAMPLES if "POST" in label else 2,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode)))
    def asked(case: Any) -> None:
        choice = sum(repr((case.body, case.query)).encode("utf-8", "replace"))
        if choice % 2 and isinstance(case.body, dict):
            case.body["file"] = pictures()[choice % len(pictures())]
        elif choice % 2 and isinstance(case.body, bytes):
            case.body = pictures()[choice % len(pictures())]
        case.call_and_validate(headers={"authorization": f"Bearer {KEY}"}, checks=CHECKS)

    asked()
