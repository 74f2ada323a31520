"""Keys, hosts, other sites, headers, and what the server tells of itself."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from mien import __version__
from mien.faces.pipeline import Pipeline
from mien.labels import EXPRESSIONS
from mien.server.app import STATIC, create_app
from mien.server.middleware import SECURITY
from mien.types import Analysis

from .conftest import Serve
from .stand_ins import StandIn
from .test_analyses import picture, post, refused

KEY = "correct-horse-battery"


@pytest.mark.parametrize(
    "headers", [{"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {KEY}"}, {"x-api-key": KEY}]
)
def test_the_right_key_opens(serve: Serve, headers: dict[str, str]) -> None:
    client = serve(api_key=KEY)
    assert post(client, picture(), **headers).status_code == 200
    assert client.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": f"Bearer {KEY}x"},
        {"authorization": KEY},
        {"authorization": "Basic " + KEY},
        {"x-api-key": ""},
    ],
)
def test_any_other_does_not(serve: Serve, headers: dict[str, str]) -> None:
    client = serve(api_key=KEY)
    for answer in (post(client, picture(), **headers), client.get("/metrics", headers=headers)):
        refused(answer, 401, "wrong_key", "Bearer")
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text
    assert client.get("/v1/models", headers=headers).status_code == 401
    for path in ("/", "/health", "/v1/service", "/openapi.json"):
        assert client.get(path, headers=headers).status_code == 200
    assert client.get("/ready", headers=headers).status_code in (200, 503)


def outer(app: Any) -> TestClient:
    """Another application in which this one is mounted; nobody tells it when that starts."""
    whole = FastAPI()
    whole.mount("/mien", app)
    return TestClient(whole, raise_server_exceptions=False)


def proxied(app: Any) -> Any:
    """The application as uvicorn calls it with `--root-path /mien`."""

    async def called(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope = {**scope, "root_path": "/mien", "path": "/mien" + scope["path"].removeprefix("/mien")}
        await app(scope, receive, send)

    return TestClient(called, raise_server_exceptions=False)


@pytest.mark.parametrize("put", [outer, proxied])
def test_guards_hold_wherever_the_application_is_mounted(put: Any) -> None:
    app = create_app(StandIn(), api_key=KEY, hosts=("testserver",))  # type: ignore[arg-type]
    client = put(app)

    def send(path: str, **headers: str) -> Any:
        return client.post(path, content=picture(), headers={"content-type": "image/png", **headers})

    try:
        for path in ("/mien/v1/analyses", "/mien/v1/edits"):
            refused(send(path), 401, "wrong_key")
            refused(send(path, **{"x-api-key": KEY, "origin": "https://evil.example"}), 403, "cross_site")
            refused(send(path, **{"x-api-key": KEY, "host": "evil.example"}), 421, "wrong_host")
        for path in ("/mien/v1/models", "/mien/metrics"):
            assert client.get(path).status_code == 401
        answer = send("/mien/v1/analyses", **{"x-api-key": KEY})
        assert answer.status_code == 200, answer.text  # nobody said that it starts: the first request did
        assert client.get("/mien/ready").status_code == 200
        text = client.get("/mien/metrics", headers={"x-api-key": KEY}).text
        assert 'mien_requests_total{endpoint="/v1/analyses",status="200"} 1.0' in text
        page = client.get("/mien/")
        assert page.headers["content-type"].startswith("text/html")
        assert client.get("/mien/app.js").headers["content-security-policy"]
        assert client.get("/mien/examples/astronaut.jpg").status_code == 200
    finally:
        app.state.service.pool.close()


def test_every_endpoint_is_guarded_or_named_here_as_open(serve: Serve) -> None:
    """A new endpoint is guarded, or somebody decides that it need not be."""
    client = serve(StandIn(), api_key=KEY)
    unguarded, unprotected = set(), set()
    for path, operations in client.get("/openapi.json").json()["paths"].items():
        for method in operations:
            if client.request(method, path).status_code != 401:
                unguarded.add(path)
            headers = {"x-api-key": KEY, "origin": "https://evil.example"}
            if method != "get" and client.request(method, path, headers=headers).status_code != 403:
                unprotected.add(path)
    assert unguarded == {"/v1/service", "/health", "/ready"}
    assert unprotected == set()


def test_keys_are_compared_in_constant_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is sent, both sides of the comparison have one length and go through `hmac.compare_digest`."""
    import hmac

    compared: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def watched(a: Any, b: Any) -> bool:
        compared.append((len(a), len(b)))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    client = serve(api_key=KEY)
    for given in ("", "c", KEY[:-1], KEY * 50):
        client.get("/v1/models", headers={"x-api-key": given})
    assert compared == [(32, 32)] * 4


def test_every_answer_carries_the_security_headers(serve: Serve) -> None:
    client = serve(api_key=KEY)
    answers = [
        client.get(path)
        for path in ("/", "/app.js", "/health", "/v1/models", "/nothing/here", "/openapi.json")
    ]
    answers += [client.put("/health"), post(client, b"", "text/plain")]
    assert {answer.status_code for answer in answers} == {200, 401, 404, 405}
    for answer in answers:
        for name, value in SECURITY.items():
            assert answer.headers[name] == value
        assert not any(name.startswith("access-control") for name in answer.headers)
        assert answer.headers["cache-control"] in ("no-store", "no-cache")
    policy = SECURITY["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert not re.search(r"https?:|\*", policy)


def test_the_styles_of_a_summary_page_are_the_only_ones_that_a_frame_may_have() -> None:
    """It is shown in a frame without scripts that has the policy of the page around it."""
    pytest.importorskip("jinja2")
    import numpy as np

    from mien.types import Frame
    from mien.video import summary_page
    from mien.video.statistics import Tally

    tally = Tally()
    tally(Frame("clip.mp4", 64, 36, (), frame=0, time=0.0, lag=0.25), np.zeros((36, 64, 3), np.uint8))
    tally.finish()
    styles = re.findall("<style>(.*?)</style>", summary_page.html(tally, "clip.mp4", "weights", 0.25), re.S)
    hashes = [base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() for style in styles]
    allowed = re.findall("'sha256-([^']+)'", SECURITY["Content-Security-Policy"])
    assert sorted(hashes) == sorted(allowed)


def test_cors_is_closed(serve: Serve) -> None:
    headers = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = serve().options("/v1/analyses", headers=headers)
    assert answer.status_code == 405 or answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "http://testserver"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"origin": "http://testserver"}, 200),
        ({}, 200),
    ],
)
def test_other_sites_cannot_make_the_server_work(serve: Serve, headers: dict[str, str], status: int) -> None:
    answer = post(serve(), picture(), **headers)
    assert answer.status_code == status
    if status == 403:
        refused(answer, 403, "cross_site")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8000", 200),
        ("127.0.0.1", 200),
        ("[::1]:8000", 200),
        ("evil.example", 421),
        ("[", 421),
        ("", 421),
        ("localhost.evil.example", 421),
    ],
)
def test_a_local_server_answers_to_local_names_only(serve: Serve, host: str, status: int) -> None:
    client = serve(hosts=("localhost", "127.0.0.1", "::1"))
    assert client.get("/health", headers={"host": host}).status_code == status


def test_unknown_places_and_methods_answer_in_json(serve: Serve) -> None:
    client = serve()
    refused(client.get("/v2/analyses"), 404, "not_found", "/v2/analyses", "/docs")
    answer = client.get("/v1/analyses")
    refused(answer, 405, "not_found", "GET")
    assert answer.headers["allow"] == "POST"
    assert client.get("/../../etc/passwd").status_code == 404
    assert client.get("/%2e%2e/app.py").status_code == 404


def test_metrics_count_requests_faces_and_time(serve: Serve, examples: Any) -> None:
    client = serve(hosts=("testserver",))  # one of its own
    post(client, (examples / "group_1.jpg").read_bytes(), "image/jpeg")
    post(client, b"nonsense")
    client.get("/some/page/that/does/not/exist")
    text = client.get("/metrics").text
    for line in (
        'mien_requests_total{endpoint="/v1/analyses",status="200"} 1.0',
        'mien_requests_total{endpoint="/v1/analyses",status="415"} 1.0',
        'mien_requests_total{endpoint="page",status="404"} 1.0',
        'mien_faces_total{endpoint="/v1/analyses"} 6.0',
        'mien_request_seconds_count{endpoint="/v1/analyses"} 2.0',
        "mien_places_taken 0.0",
    ):
        assert line in text


def test_models_are_the_cards(serve: Serve, pipeline: Pipeline) -> None:
    from mien.io import cards

    told = serve().get("/v1/models").json()["models"]
    assert pipeline.recogniser.card.fields in told  # type: ignore[attr-defined]
    for card in cards.shipped():
        assert card.fields in told


def test_service_says_what_the_page_needs(serve: Serve) -> None:
    told = serve(api_key=KEY).get("/v1/service").json()
    assert told["version"] == __version__
    assert told["expressions"] == list(EXPRESSIONS)
    assert told["key_needed"] is True
    assert told["limits"]["bytes"] == 16 * 2**20
    assert "not what the person feels" in told["note"]


def test_openapi_is_valid_and_its_examples_are_true(serve: Serve) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    document = serve(api_key=KEY).get("/openapi.json").json()
    validator.validate(document)
    posts = document["paths"]["/v1/analyses"]["post"], document["paths"]["/v1/edits"]["post"]
    example = posts[0]["responses"]["200"]["content"]["application/json"]["example"]
    assert len(Analysis.from_dict(example).faces) == 1
    for operation in posts:
        assert {"401", "403", "408", "413", "415", "422", "429", "503", "504"} <= set(operation["responses"])
        assert {"multipart/form-data", "image/jpeg"} <= set(operation["requestBody"]["content"])
        assert operation["security"]
    assert "501" in posts[1]["responses"]
    form = posts[1]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert {"file", "target", "valence", "arousal", "intensity"} <= set(form["properties"])


def test_the_page_asks_nobody_else_for_anything(serve: Serve) -> None:
    """Every address in the page's files is its own, a name space, or a link that a person would have to click."""
    allowed = {"http://www.w3.org/2000/svg"}
    for file in sorted(STATIC.rglob("*")):
        if file.suffix in (".html", ".css", ".js", ".svg"):
            found = set(re.findall(r"https?://[^\s\"'`)<]+", file.read_text()))
            assert found <= allowed, file.name
            assert "innerHTML" not in file.read_text()


def test_every_file_the_page_names_is_served(serve: Serve) -> None:
    client = serve()
    page = client.get("/")
    assert page.headers["content-type"].startswith("text/html")
    shown = re.sub(r"<!--.*?-->", "", page.text, flags=re.DOTALL)
    named = set(re.findall(r'(?:href|src)="([^"#]+)"', shown))
    for script in STATIC.glob("*.js"):
        named |= set(re.findall(r'from "\./([^"]+)"', script.read_text()))
        named |= set(re.findall(r'request\("([^"]+)", *\)', script.read_text()))
        named |= {f"examples/{name}" for name in re.findall(r'"(\w+\.jpg)", "', script.read_text())}
    assert {"app.js", "style.css", "read.js", "examples/astronaut.jpg"} <= named
    assert not [name for name in named if name.startswith("/")]  # the page works wherever it is mounted
    for path in sorted(named):
        answer = client.get(f"/{path}")
        assert answer.status_code == 200, path
        assert path.endswith((".json", ".txt")) or "json" not in answer.headers["content-type"]


def test_sessions_do_not_share_anything(pipeline: Pipeline) -> None:
    """Two applications in one process count for themselves."""
    with TestClient(create_app(pipeline)) as one, TestClient(create_app(pipeline)) as other:
        post(one, picture())
        assert 'endpoint="/v1/analyses"' in one.get("/metrics").text
        assert 'endpoint="/v1/analyses"' not in other.get("/metrics").text
