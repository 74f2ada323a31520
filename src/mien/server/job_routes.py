"""The endpoints of jobs: send a batch or a video, follow it, fetch its files, cancel it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from importlib.util import find_spec
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool

from mien.config import explain
from mien.errors import ConfigError
from mien.io.columns import columns_of
from mien.server import openapi, schema
from mien.server.job_uploads import StoredUpload, receive_job
from mien.server.jobs import Jobs, ServerJob, video_lacking
from mien.server.limits import Refusal

Asked = TypeVar("Asked", bound=BaseModel)
Work = Callable[[ServerJob, StoredUpload, Asked], Coroutine[Any, Any, None]]

_SENDING: Final = (400, 401, 403, 408, 413, 415, 422, 429, 501, 503)
_MEDIA: Final = {**schema.TABLE_TYPES, ".html": "text/html; charset=utf-8"}
CHUNK: Final = 1 << 18
"""Bytes of a file sent at a time."""


def job_routes(jobs: Jobs, guards: Sequence[Any]) -> APIRouter:
    """The endpoints of jobs."""
    router = APIRouter(prefix="/v1", tags=["jobs"], dependencies=guards)
    _send(router, jobs)
    _follow(router, jobs)
    _fetch(router, jobs)
    return router


async def _find(job: str, request: Request) -> ServerJob:
    jobs: Jobs = request.app.state.service.jobs
    return jobs.find(job)


Found = Annotated[ServerJob, Depends(_find)]
"""The job with the id in the path."""


def _send(router: APIRouter, jobs: Jobs) -> None:
    @router.post(
        "/batches",
        operation_id="analyse_batch",
        summary="Describe every face in many pictures",
        status_code=202,
        responses={202: openapi.answer(openapi.JOB), **openapi.refusals(*_SENDING)},
        openapi_extra=openapi.batch_body(),
    )
    async def analyse_batch(request: Request, response: Response) -> schema.JobStatus:
        """Each picture is a form's field `file`. The answer is a job: follow its events, which bring each analysis as
        it is made, and then fetch its files. A picture that cannot be read has an `error` in place of faces, and the
        others are analysed. With a picture of the person's neutral face in field `baseline` each face has its `change`
        from it.
        """
        return await _sent(jobs, request, response, "batch", schema.BatchRequest, jobs.run_batch)

    @router.post(
        "/videos",
        operation_id="analyse_video",
        summary="Describe every face in every frame of a video",
        status_code=202,
        responses={202: openapi.answer(openapi.JOB | {"kind": "video"}), **openapi.refusals(*_SENDING)},
        openapi_extra=openapi.video_body(),
    )
    async def analyse_video(request: Request, response: Response) -> schema.JobStatus:
        """The video is a form's field `file`, or the body itself. The answer is a job: follow its events, then fetch
        its table and its summary page. `baseline` is a text, or a picture of the person's neutral face.
        """
        if lacking := video_lacking():
            raise Refusal(501, "no_video", f"this server cannot read videos: {lacking}")
        return await _sent(jobs, request, response, "video", schema.VideoRequest, jobs.run_video)


async def _sent(
    jobs: Jobs,
    request: Request,
    response: Response,
    kind: Literal["batch", "video"],
    model: type[Asked],
    work: Work[Asked],
) -> schema.JobStatus:
    """Receive the upload of a job, and start it."""
    job = jobs.begin(kind)
    try:
        upload = await receive_job(
            request, job.upload, jobs.limits, lambda size: jobs.count(job, size), kind == "video"
        )
        asked = _asked(model, upload.fields)
        _check(asked, upload, jobs.labels)
        jobs.start(job, work(job, upload, asked))
    except BaseException:  # whatever ends the request ends the job
        jobs.drop(job)
        raise
    response.headers["Location"] = f"{request.scope.get('root_path', '')}/v1/jobs/{job.id}"
    return job.describe()


def _asked(model: type[Asked], fields: dict[str, str]) -> Asked:
    try:
        return model.model_validate(fields)
    except ValidationError as problem:
        message = str(explain(problem, model, "job"))
        raise Refusal(422, "wrong_value", message.removeprefix("job: ")) from None


def _check(asked: BaseModel, upload: StoredUpload, labels: tuple[str, ...]) -> None:
    """Refuse options that contradict each other before anything is analysed."""
    assert isinstance(asked, schema.BatchRequest | schema.VideoRequest)
    within = getattr(asked, "baseline", None)
    if within is not None and upload.baseline is not None:
        raise Refusal(422, "wrong_value", "two baselines, a text and a picture: send one")
    if "table.parquet" in asked.files:
        check_parquet()
    try:
        changes = within is not None or upload.baseline is not None
        columns_of(
            asked.columns, video=isinstance(asked, schema.VideoRequest), labels=labels, changes=changes
        )
    except ConfigError as problem:
        raise Refusal(422, "wrong_value", str(problem)) from None


def writes_parquet() -> bool:
    """Whether this installation can write Parquet files."""
    return find_spec("pyarrow") is not None


def check_parquet() -> None:
    """Raise a `Refusal` of status 501 if this installation cannot write Parquet files."""
    if not writes_parquet():
        raise Refusal(
            501, "no_parquet", "this server cannot write table.parquet: pip install 'mien[parquet]'"
        )


def _follow(router: APIRouter, jobs: Jobs) -> None:
    @router.get(
        "/jobs/{job}",
        operation_id="get_job",
        summary="How far a job is",
        responses={200: openapi.answer(openapi.JOB), **openapi.refusals(401, 403, 404, 422)},
    )
    async def get_job(found: Found) -> schema.JobStatus:
        return found.describe()

    @router.get(
        "/jobs/{job}/events",
        operation_id="follow_job",
        summary="Follow a job by server-sent events",
        response_class=EventSourceResponse,
        responses={
            200: {"content": {"text/event-stream": {"example": openapi.EVENTS}}},
            **openapi.refusals(401, 403, 404, 422),
        },
    )
    async def follow_job(
        found: Found,
        last_event_id: Annotated[str | None, Header(description="go on after this `picture` event")] = None,
    ) -> AsyncIterator[ServerSentEvent]:
        """`progress` has the numbers of a job's `progress`; `picture` the `number` of a picture of a batch and its
        `analysis`, in order; and the last event is `done` with the names of the files, `failed` with `error` and
        `message`, or `cancelled`. A later follower gets every `picture` too. A batch without files is removed
        when `done` was sent.
        """
        after = int(last_event_id) if last_event_id and last_event_id.isdecimal() else 0
        async for event in found.events(after):
            yield event
        if found.state == "done" and not found.files:
            jobs.drop(found)


def _fetch(router: APIRouter, jobs: Jobs) -> None:
    @router.get(
        "/jobs/{job}/files/{name}",
        operation_id="get_job_file",
        summary="Fetch a file of a job that is done; it is then removed",
        response_class=Response,
        responses={
            200: {"content": {kind.partition(";")[0]: {} for kind in _MEDIA.values()}},
            **openapi.refusals(401, 403, 404, 409, 422),
        },
    )
    async def get_job_file(found: Found, name: str, request: Request) -> Response:
        """The job is removed with its last file."""
        if not found.ended:
            raise Refusal(409, "not_done", "the job is not done: follow its events, and fetch the file then")
        if name not in found.files:
            there = ", ".join(found.files) or "none"
            raise Refusal(404, "no_file", f"the job has no file '{name[:40]}' (any more): it has {there}")
        path = found.folder / name

        async def content() -> AsyncIterator[bytes]:
            with path.open("rb") as file:
                while chunk := await run_in_threadpool(file.read, CHUNK):
                    if await request.is_disconnected():  # the client may try again
                        return
                    yield chunk
            jobs.fetched(found, name)

        headers = {
            "Content-Length": str(path.stat().st_size),
            "Content-Disposition": f'attachment; filename="{name}"',
        }
        return StreamingResponse(content(), media_type=_MEDIA[path.suffix], headers=headers)

    @router.delete(
        "/jobs/{job}",
        operation_id="cancel_job",
        summary="Cancel a job, and remove its files",
        status_code=204,
        responses=openapi.refusals(401, 403, 404, 422),
    )
    async def cancel_job(found: Found) -> None:
        jobs.drop(found)
