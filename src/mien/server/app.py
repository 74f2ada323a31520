"""The web application: `create_app` connects models, limits and routes.

    >>> from mien.server.app import create_app
    >>> app = create_app()                        # doctest: +SKIP

Models are loaded in worker processes (`mien.server.pool`); meanwhile `/health` answers and `/ready` does not. Pictures
are decoded, analysed and edited there; this process only moves bytes. Access is checked by dependencies of the routes,
so it also holds if the application is mounted in another one:

- `/v1/analyses`, `/v1/edits`, `/v1/live` (a WebSocket): the key, and no other web site;
- `/v1/models`, `/metrics`: the key;
- `/v1/service`, `/health`, `/ready`, `/openapi.json` and the page's files: open, as they reveal nothing of pictures or
  use. There is no `/docs`, as its scripts come from other servers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from mien import __version__
from mien.config import explain
from mien.errors import ConfigError, WeightsError
from mien.labels import CIRCUMPLEX, EXPRESSIONS
from mien.server import answers, live, models, schema, uploads
from mien.server.limits import Limits, Refusal
from mien.server.metrics import MEDIA_TYPE, Metrics
from mien.server.middleware import SECURITY, KeyGuard, SecurityMiddleware, same_site
from mien.server.pool import Pool
from mien.types import Analysis

if TYPE_CHECKING:
    from mien.editing.editor import Editor
    from mien.editing.signing import Signer
    from mien.faces.pipeline import Pipeline

STATIC = Path(__file__).parent / "static"
_COMMON: Final = (401, 403, 408, 413, 415, 422, 429, 503, 504)


class ServerState:
    """The state of one application: worker processes, uploads in progress, and metrics. `labels` are those of the
    recogniser.
    """

    def __init__(self, limits: Limits, pool: Pool, labels: tuple[str, ...] = EXPRESSIONS) -> None:
        self.labels = labels
        self.limits = limits
        self.pool = pool
        self.uploads = uploads.Uploads(limits)
        self.metrics = Metrics(lambda: pool.taken)

    @property
    def lacking(self) -> str:
        """Why there is no editor; "" if there is one or it is not known yet."""
        described = self.pool.description
        return "" if described is None else described["lacking"]

    async def answer(self, request: Request, upload: uploads.Upload, asked: dict[str, Any]) -> Response:
        """Process an upload in a worker and return its answer."""
        with self.pool.place():
            header, body = await self.pool.run(asked, upload.data)
        self.metrics.faces.labels(request.scope["route"].path).inc(header["faces"])
        return Response(body, media_type=header["media_type"], headers=header.get("headers"))


def create_app(
    pipeline: Pipeline | None = None,
    editor: Editor | None = None,
    *,
    signer: Signer | None = None,
    limits: Limits | None = None,
    api_key: str | None = None,
    hosts: tuple[str, ...] | None = None,
    options: dict[str, Any] | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        pipeline: analyses pictures; None loads the shipped models when the application starts. It is pickled to the
            worker processes, so your own detector must be picklable, and a script that runs the server itself must do
            so below `if __name__ == "__main__":`. editor: edits pictures; without one (and with a pipeline) edits are
            answered with 501. signer: signs the provenance of edits; None uses this installation's key. limits: on
            requests. api_key: required under /v1 and by /metrics; None requires none. hosts: accepted host names; None
            accepts any. They prevent DNS rebinding, by which other sites reach a server on the same machine under their
            own name. options: of `mien.load`, for the shipped models: `{"tiled": True}`.

    Raises:
        ConfigError: `options` are given together with a pipeline.
    """
    limits = limits or Limits()
    if pipeline is None:
        pool = Pool(limits, answers.shipped, (limits, options or {}))
        labels = _labels((options or {}).get("weights"), (options or {}).get("adapt"))
    elif options:
        raise ConfigError("options are for the pipeline that ships: pass them to mien.load, or no pipeline")
    else:
        pool = Pool(limits, answers.given, (models.Models(pipeline, editor, signer), limits))
        labels = getattr(pipeline, "labels", EXPRESSIONS)
    service = ServerState(limits, pool, labels)
    guard = None if api_key is None else KeyGuard(api_key)
    keyed = [] if guard is None else [Depends(guard)]

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        pool.start()
        yield
        pool.close()

    app = FastAPI(
        title="mien",
        version=__version__,
        summary="Expression labels, apparent valence and arousal of faces; and edits of expressions.",
        description=schema.NOTE,
        lifespan=life,
        docs_url=None,  # the default pages load scripts from other servers
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(_pictures(service, [Depends(same_site), *keyed]))
    app.include_router(live.router(service, guard))
    app.include_router(_about(service, keyed))
    app.include_router(_page())
    app.add_middleware(SecurityMiddleware, metrics=service.metrics, hosts=hosts)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _defect)
    return app


def _labels(weights: Path | str | None, adapt: Path | str | None) -> tuple[str, ...]:
    """The labels of weights from their card; the eight if it cannot be read, as the workers report that error."""
    from mien.faces.recognise import labels_of

    try:
        return labels_of(weights, adapt)
    except WeightsError:
        return EXPRESSIONS


def _pictures(service: ServerState, guards: Sequence[Any]) -> APIRouter:
    """The endpoints that take a picture."""
    router = APIRouter(prefix="/v1", tags=["pictures"], dependencies=guards)

    @router.post(
        "/analyses",
        summary="Describe every face in a picture",
        responses={
            200: {"model": Analysis, "content": {"application/json": {"example": schema.EXAMPLE}}},
            **schema.refusals(*_COMMON),
        },
        response_model=None,
        openapi_extra=schema.body(baseline=True),
    )
    async def analyses(request: Request) -> Response:
        """The picture is a form's field `file`, or the body itself. A picture without a face has an empty `faces`.

        With a picture of the person's neutral face in field `baseline` each face has its `change` from it.
        """
        service.pool.check()
        upload = await uploads.receive(request, service.uploads)
        if upload.fields:
            raise Refusal(
                422,
                "wrong_value",
                f"no field '{next(iter(upload.fields))}': an analysis takes a file only",
            )
        asked: dict[str, Any] = {"name": upload.name}
        if upload.baseline is not None:
            data, name = upload.baseline
            asked["baseline"] = {"name": name, "at": len(upload.data)}
            upload = replace(upload, data=upload.data + data)
        return await service.answer(request, upload, asked)

    @router.post(
        "/edits",
        summary="Change the expression of a face",
        responses={
            200: {
                "description": "The picture, with its provenance inside; or JSON with `Accept: application/json`.",
                "model": schema.Edited,
                "content": dict.fromkeys(schema.MEDIA_TYPES.values(), schema.PICTURE),
            },
            **schema.refusals(*_COMMON, 501),
        },
        response_model=None,
        openapi_extra=schema.body(schema.EditRequest),
    )
    async def edits(request: Request) -> Response:
        """The file records that it was edited (C2PA manifest and XMP). Headers: `Mien-Applied`, `Mien-Flags`."""
        service.pool.check()
        if service.lacking:
            raise Refusal(501, "no_editor", f"this server cannot edit: {service.lacking}")
        upload = await uploads.receive(request, service.uploads)
        if upload.baseline is not None:
            raise Refusal(
                422, "wrong_form", "no field 'baseline': an edit compares with nothing, leave it out"
            )
        asked = _asked(upload.fields).model_dump()
        as_json = "application/json" in request.headers.get("accept", "")
        return await service.answer(request, upload, {"edit": asked, "as_json": as_json})

    return router


def _about(service: ServerState, keyed: Sequence[Any]) -> APIRouter:
    """The endpoints that describe the service."""
    router = APIRouter(tags=["service"])

    @router.get(
        "/v1/models",
        summary="The card of each set of weights",
        responses=schema.refusals(401, 503),
        dependencies=keyed,
    )
    async def cards() -> schema.Cards:
        return schema.Cards(models=service.pool.describe()["cards"])

    @router.get("/v1/service", summary="Limits, labels and what is installed; needs no key")
    async def about() -> schema.Service:
        return schema.Service(
            version=__version__,
            note=schema.NOTE,
            expressions=list(service.labels),
            circumplex={name: list(place) for name, place in CIRCUMPLEX.items()},
            limits=asdict(service.limits),
            key_needed=bool(keyed),
            editor=not service.lacking,
            editor_lacking=service.lacking,
        )

    @router.get("/health", summary="Whether the server is running")
    async def health() -> schema.Status:
        return schema.Status(status="ok")

    @router.get("/ready", summary="Whether the models are loaded", responses=schema.refusals(503))
    async def ready() -> schema.Status:
        service.pool.describe()
        return schema.Status(status="ready")

    @router.get(
        "/metrics",
        summary="Counts and times for Prometheus",
        response_class=Response,
        responses=schema.refusals(401),
        dependencies=keyed,
    )
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=MEDIA_TYPE)

    return router


def _page() -> APIRouter:
    """The page's static files, one route each, as a catch-all would hide a 405."""
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=STATIC, html=True)

    @router.get("/")
    @router.get("/{name}")
    async def file(request: Request, name: str = ".") -> Response:
        return await files.get_response(name, request.scope)

    @router.get("/examples/{name}")
    async def example(request: Request, name: str) -> Response:
        return await files.get_response(f"examples/{name}", request.scope)

    return router


def _asked(fields: dict[str, str]) -> schema.EditRequest:
    try:
        return schema.EditRequest.model_validate(fields)
    except ValidationError as problem:
        message = str(explain(problem, schema.EditRequest, "edit"))
        raise Refusal(
            422, "wrong_value", message.removeprefix("edit: ").removeprefix("'': value error, ")
        ) from None


def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def _http(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    if problem.status_code == 405:
        message = f"{request.url.path} does not accept {request.method}: see /openapi.json"
    else:
        message = f"there is nothing at {request.url.path[:80]}: see /openapi.json"
    return JSONResponse({"error": "not_found", "message": message}, problem.status_code, problem.headers)


def _invalid(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    message = f"'{'.'.join(str(part) for part in first['loc'][1:])}': {first['msg'].lower()}"
    return JSONResponse({"error": "wrong_value", "message": message}, 422)


def _defect(_: Request, problem: Exception) -> Response:
    """This handler is outside of the middleware, so it adds the headers itself. The server's log has the traceback."""
    message = f"a defect of mien ({type(problem).__name__}): please report it with the server's log"
    return JSONResponse(
        {"error": "defect", "message": message}, 500, {**SECURITY, "Cache-Control": "no-store"}
    )
