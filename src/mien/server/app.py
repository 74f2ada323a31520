"""The web application: `create_app` connects models, limits and routes.

    >>> from mien.server.app import create_app
    >>> app = create_app()                        # doctest: +SKIP

Models are loaded in worker processes (`mien.server.pool`); meanwhile `/health` answers and `/ready` does not. Pictures
are decoded, analysed and edited there; this process only moves bytes. Access is checked by dependencies of the routes,
so it also holds if the application is mounted in another one:

- `/v1/analyses`, `/v1/edits`, `/v1/tables`, `/v1/live` (a WebSocket), jobs: the key, and no other web site;
- `/v1/models`, `/metrics`: the key;
- `/v1/service`, `/health`, `/ready`, `/openapi.json`, `/docs` and the page's files: open, as they reveal nothing of
  pictures or use.
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
from mien.server import answers, live, models, openapi, schema, uploads
from mien.server.docs_page import docs_routes
from mien.server.job_routes import Asked, check_parquet, job_routes, writes_parquet
from mien.server.jobs import Jobs, video_lacking
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
        self.jobs = Jobs(limits, pool, labels, self._count_faces)

    def _count_faces(self, kind: str, faces: int) -> None:
        self.metrics.faces.labels(f"/v1/{'batches' if kind == 'batch' else 'videos'}").inc(faces)

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


class DocumentedApp(FastAPI):
    """An application with a command line for each operation in its OpenAPI document, which keeps to version 3.1."""

    def openapi(self) -> dict[str, Any]:
        """The document; made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            for path in document["paths"].values():
                for operation in path.values():
                    line = openapi.command(operation["operationId"], keyed="security" in operation)
                    operation["x-codeSamples"] = [{"lang": "Shell", "source": line}]
                    _correct(operation["responses"])
        return self.openapi_schema or {}


def _correct(responses: dict[str, Any]) -> None:
    """Document refusals as JSON, also of an endpoint that sends events, and leave out what is of OpenAPI 3.2."""
    for status, response in responses.items():
        content = response.get("content", {})
        if "text/event-stream" in content:
            content["text/event-stream"].pop("itemSchema", None)
            if int(status) >= 400:
                content["application/json"] |= content.pop("text/event-stream")


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
        service.jobs.close()
        pool.close()

    app = DocumentedApp(
        title="mien",
        version=__version__,
        summary="Expression labels, apparent valence and arousal of faces; and edits of expressions.",
        description=schema.NOTE,
        lifespan=life,
        docs_url=None,  # the default pages load scripts from other servers; see `mien.server.docs_page`
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(_pictures(service, [Depends(same_site), *keyed]))
    app.include_router(_tables(service, [Depends(same_site), *keyed]))
    app.include_router(job_routes(service.jobs, [Depends(same_site), *keyed]))
    app.include_router(live.router(service, guard))
    app.include_router(_about(service, keyed))
    app.include_router(docs_routes())
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
        operation_id="analyse_picture",
        summary="Describe every face in a picture",
        responses={
            200: {"model": Analysis, "content": {"application/json": {"example": openapi.EXAMPLE}}},
            **openapi.refusals(*_COMMON),
        },
        response_model=None,
        openapi_extra=openapi.body(baseline=True),
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
        if upload.teeth_from is not None:
            raise Refusal(422, "wrong_form", "no field 'teeth_from': an analysis draws nothing, leave it out")
        if upload.baseline is not None:
            upload = _joined(upload, "baseline", upload.baseline, asked)
        return await service.answer(request, upload, asked)

    @router.post(
        "/edits",
        operation_id="edit_picture",
        summary="Change the expression of a face",
        responses={
            200: {
                "description": "The picture, with its provenance inside; or JSON with `Accept: application/json`.",
                "model": schema.Edited,
                "content": {"application/json": {"example": openapi.EDITED}}
                | dict.fromkeys(schema.MEDIA_TYPES.values(), openapi.PICTURE),
            },
            **openapi.refusals(*_COMMON, 501),
        },
        response_model=None,
        openapi_extra=openapi.body(schema.EditRequest, teeth_from=True),
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
        as_json = "application/json" in request.headers.get("accept", "")
        edit = _asked(schema.EditRequest, upload.fields, "edit").model_dump()
        asked: dict[str, Any] = {"edit": edit, "as_json": as_json}
        if upload.teeth_from is not None:
            upload = _joined(upload, "teeth_from", upload.teeth_from, asked)
        return await service.answer(request, upload, asked)

    return router


def _tables(service: ServerState, guards: Sequence[Any]) -> APIRouter:
    """The endpoint that makes tables of analyses."""
    router = APIRouter(prefix="/v1", tags=["tables"], dependencies=guards)

    @router.post(
        "/tables",
        operation_id="write_table",
        summary="Make a table of analyses, with one row for each face",
        responses={
            200: {
                "description": "The table, as `mien predict` writes it.",
                "content": dict.fromkeys(
                    (media.partition(";")[0] for media in schema.TABLE_TYPES.values()), openapi.PICTURE
                ),
            },
            **openapi.refusals(*_COMMON, 501),
        },
        response_class=Response,
        openapi_extra=openapi.table_body(),
    )
    async def tables(request: Request) -> Response:
        """`file`, or the body itself, is one line of JSON for each picture: an answer of `/v1/analyses`, or the file
        `pictures.jsonl` of a batch.
        """
        service.pool.check()
        upload = await uploads.receive(request, service.uploads, uploads.LINES, "send fewer pictures")
        asked = _asked(schema.TableRequest, upload.fields, "table")
        if asked.format == "parquet":
            check_parquet()
        return await service.answer(request, upload, {"table": asked.model_dump()})

    return router


def _about(service: ServerState, keyed: Sequence[Any]) -> APIRouter:
    """The endpoints that describe the service."""
    router = APIRouter(tags=["service"])

    @router.get(
        "/v1/models",
        operation_id="list_models",
        summary="The card of each set of weights",
        responses={200: openapi.answer(openapi.CARDS), **openapi.refusals(401, 503)},
        dependencies=keyed,
    )
    async def cards() -> schema.Cards:
        return schema.Cards(models=service.pool.describe()["cards"])

    @router.get(
        "/v1/service",
        operation_id="get_service",
        summary="Limits, labels and what is installed; needs no key",
        responses={200: openapi.answer(openapi.SERVICE)},
    )
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
            video=not video_lacking(),
            video_lacking=video_lacking(),
            parquet=writes_parquet(),
        )

    @router.get(
        "/health",
        operation_id="get_health",
        summary="Whether the server is running",
        responses={200: openapi.answer({"status": "ok"})},
    )
    async def health() -> schema.Status:
        return schema.Status(status="ok")

    @router.get(
        "/ready",
        operation_id="get_ready",
        summary="Whether the models are loaded",
        responses={200: openapi.answer({"status": "ready"}), **openapi.refusals(503)},
    )
    async def ready() -> schema.Status:
        service.pool.describe()
        return schema.Status(status="ready")

    @router.get(
        "/metrics",
        operation_id="get_metrics",
        summary="Counts and times for Prometheus",
        response_class=Response,
        responses={200: openapi.answer(openapi.METRICS, "text/plain"), **openapi.refusals(401)},
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


def _joined(
    upload: uploads.Upload, field: str, second: tuple[bytes, str], asked: dict[str, Any]
) -> uploads.Upload:
    """The upload with its second picture behind the first; `asked` gets that one's name, and where it begins."""
    data, name = second
    asked[field] = {"name": name, "at": len(upload.data)}
    return replace(upload, data=upload.data + data)


def _asked(model: type[Asked], fields: dict[str, str], name: str) -> Asked:
    try:
        return model.model_validate(fields)
    except ValidationError as problem:
        message = str(explain(problem, model, name))
        raise Refusal(
            422, "wrong_value", message.removeprefix(f"{name}: ").removeprefix("'': value error, ")
        ) from None


def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def _http(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    if problem.status_code == 405:
        message = f"{request.url.path} does not accept {request.method}: see /docs"
    else:
        message = f"there is nothing at {request.url.path[:80]}: see /docs"
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
