"""The application: `create_app` puts models, limits and routes together.

    >>> from mien.server.app import create_app
    >>> app = create_app()                        # doctest: +SKIP

Models are loaded once, in the background, while `/health` already answers and `/ready` does not yet. Pictures are
analysed and edited in a thread pool; the event loop only moves bytes.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from fastapi.staticfiles import StaticFiles
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from mien import __version__
from mien.config import explain
from mien.errors import ImageError, MienError, NoFace, NotAPicture, TooLarge
from mien.labels import CIRCUMPLEX, EXPRESSIONS
from mien.server import models, receive, schema
from mien.server.limits import Gate, Limits, Refusal, TooManyFaces
from mien.server.metrics import MEDIA_TYPE, Metrics
from mien.server.shell import SECURITY, Shell
from mien.types import Analysis

if TYPE_CHECKING:
    from mien.edit import Edit, Editor
    from mien.editing.provenance import Signer
    from mien.pipeline import Pipeline
    from mien.server.models import Models

STATIC = Path(__file__).parent / "static"
_COMMON: Final = (401, 403, 408, 413, 415, 422, 429, 503, 504)
_MAGIC: Final[dict[bytes, schema.Format]] = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png", b"RIFF": "webp"}


class Service:
    """The state of one application: its models once they are loaded, and what guards them."""

    def __init__(self, limits: Limits, given: Models | None) -> None:
        self.limits = limits
        self.gate = Gate(limits.running, limits.waiting, limits.seconds)
        self.metrics = Metrics(lambda: self.gate.taken)
        self.failure = ""
        self._models = None if given is None else models.bounded(given, limits)

    def start(self) -> None:
        """Load the models, unless they were given. A failure is kept and said to everybody who asks."""
        if self._models is None:
            try:
                self._models = models.load(self.limits)
            except MienError as problem:
                self.failure = str(problem)

    @property
    def models(self) -> Models:
        """The models.

        Raises:
            Refusal: 503 as long as there are none.
        """
        if self._models is not None:
            return self._models
        if self.failure:
            raise Refusal(503, "no_models", self.failure)
        raise Refusal(503, "loading", "the models are being loaded: try again in a few seconds", 2)

    @property
    def labels(self) -> tuple[str, ...]:
        """What faces are called here; the eight until the models are loaded."""
        return EXPRESSIONS if self._models is None else self._models.pipeline.labels

    @property
    def lacking(self) -> str:
        """Why there is no editor; "" where there is one or nothing is known yet."""
        return (
            ""
            if self._models is None or self._models.editor
            else self._models.lacking or "no editor is installed"
        )


def create_app(
    pipeline: Pipeline | None = None,
    editor: Editor | None = None,
    *,
    signer: Signer | None = None,
    limits: Limits | None = None,
    api_key: str | None = None,
    hosts: tuple[str, ...] | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        pipeline: what analyses pictures; None loads what ships with the package when the application starts.
        editor: what edits them; without one (and with a pipeline) edits are answered with 501.
        signer: signs the provenance of edits; None takes this installation's key.
        limits: what requests may ask for.
        api_key: asked for under /v1 and by /metrics; None asks nobody.
        hosts: names by which the server may be called; None allows any. Names keep other sites from reaching a server
            on the same machine by a name of theirs (DNS rebinding).
    """
    given = None if pipeline is None else models.Models(pipeline, editor, signer)
    service = Service(limits or Limits(), given)

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(asyncio.to_thread(service.start))
        yield
        await loading
        await asyncio.to_thread(service.gate.close)

    app = FastAPI(
        title="mien",
        version=__version__,
        summary="Expression labels, apparent valence and arousal of faces; and edits of expressions.",
        description=schema.NOTE,
        lifespan=life,
        docs_url=None,  # the usual pages load scripts from other servers
        redoc_url=None,
    )
    app.state.service = service
    app.include_router(_pictures(service, [Security(HTTPBearer(auto_error=False))] if api_key else []))
    app.include_router(_about(service, api_key is not None))
    app.include_router(_page())
    app.add_middleware(Shell, metrics=service.metrics, api_key=api_key, hosts=hosts)
    app.add_exception_handler(Refusal, _refused)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _defect)
    return app


def _pictures(service: Service, guards: list[Any]) -> APIRouter:
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
        openapi_extra=schema.body(),
    )
    async def analyses(request: Request) -> Response:
        """The picture is a form's field `file`, or the body itself. A picture without a face has an empty `faces`."""
        loaded = service.models
        with service.gate.place():
            upload = await receive.receive(request, service.limits)
            if upload.fields:
                raise Refusal(
                    422,
                    "wrong_value",
                    f"no field '{next(iter(upload.fields))}': an analysis takes a file only",
                )
            analysis = await service.gate.run(lambda: _analyse(loaded, upload))
        service.metrics.faces.labels("/v1/analyses").inc(len(analysis.faces))
        return Response(analysis.to_json(), media_type="application/json")

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
        """The file says of itself that it was edited (C2PA manifest and XMP). Headers: `Mien-Applied`, `Mien-Flags`."""
        loaded = service.models
        if loaded.editor is None:
            raise Refusal(501, "no_editor", f"this server cannot edit: {service.lacking}")
        with service.gate.place():
            upload = await receive.receive(request, service.limits)
            asked = _asked(upload.fields)
            as_json = "application/json" in request.headers.get("accept", "")
            answer, faces = await service.gate.run(
                lambda: _edit(loaded, upload, asked, service.limits, as_json)
            )
        service.metrics.faces.labels("/v1/edits").inc(faces)
        return answer

    return router


def _about(service: Service, key_needed: bool) -> APIRouter:
    """The endpoints that say what there is."""
    router = APIRouter(tags=["service"])

    @router.get("/v1/models", summary="The card of each set of weights", responses=schema.refusals(401, 503))
    def cards() -> schema.Cards:
        return schema.Cards(models=service.models.cards)

    @router.get("/v1/service", summary="Limits, labels and what is installed; asks for no key")
    def about() -> schema.Service:
        return schema.Service(
            version=__version__,
            note=schema.NOTE,
            expressions=list(service.labels),
            circumplex={name: list(place) for name, place in CIRCUMPLEX.items()},
            limits=asdict(service.limits),
            key_needed=key_needed,
            editor=not service.lacking,
            editor_lacking=service.lacking,
        )

    @router.get("/health", summary="Whether the server lives")
    def health() -> schema.Status:
        return schema.Status(status="ok")

    @router.get("/ready", summary="Whether the models are loaded", responses=schema.refusals(503))
    def ready() -> schema.Status:
        _ = service.models
        return schema.Status(status="ready")

    @router.get("/metrics", summary="Counts and times for Prometheus", response_class=Response)
    def metrics() -> Response:
        return Response(service.metrics.text(), media_type=MEDIA_TYPE)

    return router


def _page() -> APIRouter:
    """The page's own files: those of the folder and of its examples, and no catch-all that would hide a 405."""
    router = APIRouter(include_in_schema=False)
    files = StaticFiles(directory=STATIC, html=True)

    @router.get("/")
    @router.get("/{name}")
    @router.get("/examples/{name}")
    async def file(request: Request) -> Response:
        return await files.get_response(request.url.path.strip("/") or ".", request.scope)

    return router


def _analyse(loaded: Models, upload: receive.Upload) -> Analysis:
    try:
        analysis = loaded.pipeline(upload.data)
    except MienError as problem:
        raise _refusal(problem, upload.data) from None
    return replace(analysis, source=upload.name or analysis.source)


def _asked(fields: dict[str, str]) -> schema.EditRequest:
    try:
        return schema.EditRequest.model_validate(fields)
    except ValidationError as problem:
        said = str(explain(problem, schema.EditRequest, "edit"))
        raise Refusal(
            422, "wrong_value", said.removeprefix("edit: ").removeprefix("'': value error, ")
        ) from None


def _edit(
    loaded: Models, upload: receive.Upload, asked: schema.EditRequest, limits: Limits, as_json: bool
) -> tuple[Response, int]:
    """The answer, and how many faces were edited."""
    from mien.editing import provenance
    from mien.editing.photo import encode, open_photo
    from mien.editing.target import Target

    assert loaded.editor is not None
    try:
        target = (
            Target.parse(asked.target)
            if asked.target is not None
            else Target.of_affect(asked.valence or 0.0, asked.arousal or 0.0)
        )
        edit = loaded.editor(
            open_photo(upload.data, limits.pixels),
            target,
            asked.intensity,
            face=asked.face,
            mouth=asked.mouth,
            relative=asked.relative,
            force=asked.force,
        )
        form = asked.format or _format_of(upload.data)
        stated = provenance.facts(edit, asked.consent)
        plain = encode(edit.photo, f".{form}", provenance.xmp())
        signer = loaded.signer or provenance.Signer.of_install()
        data = provenance.sign(plain, f".{form}", stated, edit, signer)
    except MienError as problem:
        raise _refusal(problem, upload.data) from None
    media = schema.MEDIA_TYPES[form]
    if as_json:
        return _edit_as_json(edit, stated, media, data), len(edit.faces)
    headers = {
        "Mien-Applied": f"{edit.applied:.3f}",
        "Mien-Flags": "; ".join(edit.flags).encode("ascii", "replace").decode(),
    }
    return Response(data, media_type=media, headers=headers), len(edit.faces)


def _format_of(data: bytes) -> schema.Format:
    """The format of an upload where edits can be written in it, else PNG, which loses nothing."""
    return next((name for magic, name in _MAGIC.items() if data.startswith(magic)), "png")


def _edit_as_json(edit: Edit, stated: dict[str, Any], media: str, data: bytes) -> Response:
    height, width = edit.image.shape[:2]
    answer = schema.Edited(
        target=edit.target,
        width=width,
        height=height,
        faces=[schema.EditedFace.model_validate(asdict(face)) for face in edit.faces],
        provenance=stated,
        media_type=media,
        image=base64.b64encode(data).decode(),
    )
    return Response(answer.model_dump_json(), media_type="application/json")


def _refusal(problem: MienError, data: bytes) -> Refusal:
    """Say an error of the analysis or the editor as an answer."""
    from mien.edit import EditRefused
    from mien.editing.provenance import ProvenanceError

    said = receive.plain(problem, data)
    if isinstance(problem, ProvenanceError):
        return Refusal(503, "no_provenance", said)
    if isinstance(problem, ImageError):
        return _image_refusal(problem, said)
    codes = {TooManyFaces: "too_many_faces", NoFace: "no_face", EditRefused: "edit_refused"}
    return Refusal(
        422, next((code for kind, code in codes.items() if isinstance(problem, kind)), "wrong_value"), said
    )


def _image_refusal(problem: ImageError, said: str) -> Refusal:
    if isinstance(problem, TooLarge):
        said = said.replace("raise max_pixels if you trust it", "start the server with a higher --max-pixels")
        return Refusal(413, "too_many_pixels", said)
    if isinstance(problem, NotAPicture):
        return Refusal(415, "not_a_picture", said)
    return Refusal(422, "damaged_picture", said)


def _refused(_: Request, refusal: Exception) -> Response:
    assert isinstance(refusal, Refusal)
    return JSONResponse(refusal.body, refusal.status, refusal.headers)


def _http(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, HTTPException)
    if problem.status_code == 405:
        said = f"{request.url.path} does not answer to {request.method}: see /openapi.json"
    else:
        said = f"there is nothing at {request.url.path[:80]}: see /openapi.json"
    return JSONResponse({"error": "not_found", "message": said}, problem.status_code, problem.headers)


def _invalid(_: Request, problem: Exception) -> Response:
    assert isinstance(problem, RequestValidationError)
    first = problem.errors()[0]
    said = f"'{'.'.join(str(part) for part in first['loc'][1:])}': {first['msg'].lower()}"
    return JSONResponse({"error": "wrong_value", "message": said}, 422)


def _defect(_: Request, problem: Exception) -> Response:
    """Outermost, outside of the middleware, so it dresses its own answer. The server's log has the traceback."""
    said = f"a defect of mien ({type(problem).__name__}): please report it with the server's log"
    return JSONResponse({"error": "defect", "message": said}, 500, {**SECURITY, "Cache-Control": "no-store"})
