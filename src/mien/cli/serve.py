"""`mien serve`: serve the HTTP API and the web page, by default only on this machine.

Pictures are held in memory until they are answered. Written to disk are batches and videos, in a temporary folder that
is removed at the end (see `mien.server.jobs`), and with several workers request counts. SIGTERM or Ctrl-C gives
requests in flight three seconds to finish.
"""

from __future__ import annotations

import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mien.cli import options
from mien.errors import ConfigError, ExtraMissing, MienError

if TYPE_CHECKING:
    from fastapi import FastAPI

KEY_VARIABLE: Final = "MIEN_API_KEY"
SETTINGS: Final = "MIEN_SERVE"
"""Environment variable with the limits and hosts for the worker processes of `mien serve`, as JSON."""


GRACE: Final = 3
"""Seconds that requests in flight get to finish after SIGTERM; with the end of the processes less than 5 in total."""


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but loopback needs a key.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of servers that share the port, each with its own limits.")
    ] = 1,
    api_key_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the key that clients must send; or set the variable {KEY_VARIABLE}."),
    ] = None,
    without_key: Annotated[
        bool,
        typer.Option(
            "--without-key",
            help="Listen beyond this machine without a key, behind a proxy that requires one.",
        ),
    ] = False,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host",
            help="Accepted host name; may be repeated. On loopback: localhost.",
        ),
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="Largest upload, bytes.")] = 16 * 2**20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Largest picture, pixels.")] = 64_000_000,
    max_faces: Annotated[int, typer.Option(min=1, help="Largest number of faces in a picture.")] = 100,
    max_seconds: Annotated[
        float, typer.Option(min=0.001, help="Time limit in seconds for an upload, and for an answer.")
    ] = 30.0,
    running: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Requests processed at once, each in its own process (about 140 MB); by default one per processor, "
            "at most 8.",
        ),
    ] = None,
    waiting: Annotated[
        int, typer.Option(min=0, help="Requests that may wait; further ones get status 429.")
    ] = 8,
    jobs: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Batches and videos kept at once, 0 for none; by default 8, and none with several --workers.",
        ),
    ] = None,
    max_job_pictures: Annotated[int, typer.Option(min=1, help="Most pictures in one batch.")] = 1000,
    max_job_bytes: Annotated[int, typer.Option(min=1, help="Largest upload of a job, bytes.")] = 512 * 2**20,
    max_job_seconds: Annotated[
        float, typer.Option(min=0.001, help="Time limit in seconds for a job's upload, and for its work.")
    ] = 600.0,
    keep_seconds: Annotated[
        float, typer.Option(min=0.001, help="Seconds that a job's results are kept if nobody fetches them.")
    ] = 600.0,
    max_disk: Annotated[
        int, typer.Option(min=1, help="Most bytes of all jobs' files, in the folder for temporary files.")
    ] = 2 * 2**30,
    tiled: options.Tiled = False,
    detector: options.Detector = "auto",
    model: options.DetectorModel = None,
    weights: options.Weights = None,
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    min_face: options.MinFace = None,
    min_confidence: options.MinConfidence = None,
) -> None:
    """Serve the HTTP API and the web page."""
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "wsproto", "jinja2"):
        if find_spec(module) is None:
            raise ExtraMissing("serve", module)
    from mien.io.onnx import available
    from mien.server.middleware import LOOPBACK

    key = read_key(api_key_file)
    local = host in LOOPBACK
    if not local and key is None and not without_key:
        raise ConfigError(
            f"listening on {host} without a key lets anyone on the network in: set {KEY_VARIABLE} or pass "
            "--api-key-file, or --without-key behind a proxy that requires one"
        )
    finding = options.pipeline_options(
        detector, model, weights, min_face, min_confidence, tiled, prior, adapt
    )
    finding = {name: str(value) if isinstance(value, Path) else value for name, value in finding.items()}
    _check(finding)
    limits = {
        "bytes": max_bytes,
        "pixels": max_pixels,
        "faces": max_faces,
        "seconds": max_seconds,
        "running": running or max(1, min(8, available() // workers)),
        "waiting": waiting,
        "jobs": _jobs(jobs, workers),
        "job_pictures": max_job_pictures,
        "job_bytes": max_job_bytes,
        "job_seconds": max_job_seconds,
        "kept": keep_seconds,
        "disk": max_disk,
    }
    hosts = [*LOOPBACK, *(allow_host or [])] if local else allow_host or None
    _free(host, port)
    _tell_workers({"hosts": hosts, "limits": limits, "options": finding}, key)
    if local and port:
        typer.echo(f"mien: open http://{host}:{port} in a browser; Ctrl-C stops the server", err=True)
    _run(host, port, workers, max_bytes)


def _jobs(jobs: int | None, workers: int) -> int:
    """How many jobs a server keeps; several servers on one port keep none, as a job is known to one of them only.

    Raises:
        ConfigError: jobs are asked for with several servers.
    """
    if workers > 1 and jobs:
        raise ConfigError("--jobs needs one server: leave out --workers, and raise --running instead")
    return 0 if workers > 1 else 8 if jobs is None else jobs


def _run(host: str, port: int, workers: int, largest: int) -> None:
    """Serve until stopped; several servers count their requests in a temporary folder that they share. `largest`:
    bytes of a WebSocket's message.
    """
    import uvicorn

    from mien.server.metrics import SHARED

    serving = partial(
        uvicorn.run,
        "mien.cli.serve:application",
        factory=True,
        host=host,
        port=port,
        log_level="info",
        server_header=False,
        timeout_graceful_shutdown=GRACE,
        http="mien.server.protocol:BoundedProtocol",
        ws="wsproto",
        ws_max_size=largest,
        ws_per_message_deflate=False,  # pictures are compressed already
    )
    if workers == 1:
        serving()
        return
    with TemporaryDirectory(prefix="mien-metrics-") as folder:
        os.environ[SHARED] = folder
        serving(workers=workers)


def application() -> FastAPI:
    """The application of one worker process, with the options that `mien serve` stored in the environment."""
    import json

    from mien.server.app import create_app
    from mien.server.limits import Limits

    settings = json.loads(os.environ[SETTINGS])
    hosts = settings["hosts"]
    return create_app(
        limits=Limits(**settings["limits"]),
        api_key=os.environ.get(KEY_VARIABLE) or None,
        hosts=None if hosts is None else tuple(hosts),
        options=settings["options"],
    )


def read_key(file: Path | None) -> str | None:
    """The key to ask for: from the file if one is named, else from the environment; None for no key.

    Raises:
        ConfigError: the file cannot be read or holds no key of at least 16 characters.
    """
    if file is None:
        key, source = os.environ.get(KEY_VARIABLE, ""), KEY_VARIABLE
        if not key:
            return None
    else:
        source = str(file)
        try:
            key = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as problem:
            raise ConfigError(f"{source}: the key cannot be read: {problem}") from None
    if len(key) < 16 or not key.isascii() or not key.isprintable():
        raise ConfigError(
            f"{source}: a key has at least 16 letters and digits: make one with  "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return key


def _free(host: str, port: int) -> None:
    """Check that the port is free, for one clear error instead of one in every process.

    Raises:
        ConfigError: another program listens there, it is not allowed, or the address is not one of this machine.
    """
    import errno
    import socket

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            if (
                os.name == "posix"
            ):  # reuses the port of a server that has just ended; on Windows the option would allow more
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} is in use: stop the program that listens there, or take another with --port (0 takes a "
                "free one)"
            ) from None
        if problem.errno == errno.EACCES:
            raise ConfigError(f"port {port} is reserved: take one from 1024 on with --port") from None
        reason = (problem.strerror or str(problem)).lower()
        raise ConfigError(
            f"--host {host}: cannot listen there ({reason}): pass an address of this machine"
        ) from None


def _tell_workers(settings: dict[str, Any], key: str | None) -> None:
    import json

    os.environ[SETTINGS] = json.dumps(settings)
    if key is not None:
        os.environ[KEY_VARIABLE] = key


def _check(options: dict[str, Any]) -> None:
    """Fail here, with one line, instead of in every process; also make the signing key once, not in every process."""
    from mien.editing.signing import Signer
    from mien.faces import detect
    from mien.faces.recognise import SHIPPED
    from mien.io import cards

    cards.verified(options["weights"] or SHIPPED)
    for name in ("landmarks", "actions"):
        cards.verified(cards.FOLDER / f"{name}.onnx")
    given = {
        "model_path": options["detector_model"],
        "minimum": options["min_face"],
        "confidence": options["min_confidence"],
        "tiled": options["tiled"] or None,
    }
    detect.build(options["detector"], **{name: value for name, value in given.items() if value is not None})
    try:
        Signer.of_install()
    except ExtraMissing:
        pass  # an installation without the editor
    except MienError as problem:  # analyses do not need the signing key
        typer.echo(f"mien: edits will be refused: {problem}", err=True)
