"""Prometheus metrics: counts and times, and of pictures only the number of faces."""

from __future__ import annotations

import os
from collections.abc import Callable

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

MEDIA_TYPE = CONTENT_TYPE_LATEST
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable of the folder in which several processes share counts; `mien serve --workers` sets it."""


class Metrics:
    """The metrics of one application; those of several processes are summed when read."""

    def __init__(self, taken: Callable[[], int]) -> None:
        """`taken` returns how many requests are processed or waiting."""
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "mien_requests", "Requests answered.", ["endpoint", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "mien_request_seconds",
            "Time from a request's arrival to the end of its answer.",
            ["endpoint"],
            buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=self.registry,
        )
        self.faces = Counter("mien_faces", "Faces analysed or edited.", ["endpoint"], registry=self.registry)
        self.taken = Gauge(
            "mien_places_taken",
            "Requests being answered or waiting.",
            multiprocess_mode="livesum",
            registry=self.registry,
        )
        self._taken = taken

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        self.taken.set(self._taken())
        registry = self.registry
        if SHARED in os.environ:
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
