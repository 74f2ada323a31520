"""A server round the real pipeline with a recogniser of random weights, and a slow one whose time the test decides."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from mien.editing.provenance import Signer
from mien.pipeline import Pipeline, load
from mien.server.app import create_app
from mien.types import Analysis

Serve = Callable[..., TestClient]


@pytest.fixture(scope="session")
def pipeline(recogniser_file: Path) -> Pipeline:
    return load(weights=recogniser_file, threads=1)


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Signer:
    return Signer.of_install(tmp_path_factory.mktemp("signing"))


@pytest.fixture
def serve(pipeline: Pipeline) -> Iterator[Serve]:
    """A function that starts an application and returns a client for it."""
    clients: list[TestClient] = []

    def start(given: Any = pipeline, **options: Any) -> TestClient:
        client = TestClient(create_app(given, **options), raise_server_exceptions=False)
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


class Slow:
    """Stands in for a pipeline: finds nobody, and takes until it is let go. Only the HTTP layer is tested with it."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = threading.Semaphore(0)
        self.detector: Any = None
        self.recogniser: Any = None
        self.max_pixels = 0

    def __call__(self, picture: bytes) -> Analysis:
        self.begun.release()
        assert self.go.wait(20), "the test forgot to let the pipeline go"
        return Analysis("bytes", 1, 1)


@pytest.fixture
def slow() -> Iterator[Slow]:
    stand_in = Slow()
    yield stand_in
    stand_in.go.set()
