"""A server round the real pipeline with a recogniser of random weights, and a slow one whose time the test decides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from mien.editing.signing import Signer
from mien.faces.pipeline import Pipeline, load
from mien.server.app import create_app
from mien.server.limits import Limits

from .stand_ins import Slow

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def pipeline(recogniser_file: Path) -> Pipeline:
    return load(weights=recogniser_file, threads=1)


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.of_install(tmp_path_factory.mktemp("signing"))


@pytest.fixture(scope="session")
def plain(pipeline: Pipeline) -> Iterator[TestClient]:
    """The client of one application without options, for all tests."""
    with TestClient(create_app(pipeline, limits=Limits(running=1)), raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def serve(pipeline: Pipeline, plain: TestClient) -> Iterator[Serve]:
    """A function that starts an application and returns a client for it."""
    clients: list[TestClient] = []

    def start(given: Any = pipeline, **options: Any) -> TestClient:
        if given is pipeline and not options:
            return plain
        options.setdefault("limits", Limits(running=1))
        client = TestClient(create_app(given, **options), raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    stand_in = Slow(tmp_path)
    yield stand_in
    stand_in.go.set()
