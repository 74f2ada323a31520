"""The OpenAPI document's request bodies, refusals and examples, with a command line for each operation.

The documents of requests are written here by hand, as forms are parsed by the server itself.
"""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel

from mien.labels import CIRCUMPLEX, EXPRESSIONS
from mien.server import schema
from mien.types import Analysis, Box, Detection, Face, Landmarks, Pose, Reading

_SHARES = (0.04, 0.83, 0.06, 0.01, 0.01, 0.01, 0.02, 0.02)
EXAMPLE = Analysis(
    source="portrait.jpg",
    width=512,
    height=512,
    faces=(
        Face(
            Detection(Box(152.0, 118.0, 208.0, 262.0), 0.98),
            Landmarks(((158.4, 246.1), (159.0, 264.7)), 1.0),
            Pose(-2.1, 3.4, 0.6),
            Reading(dict(zip(EXPRESSIONS, _SHARES, strict=True)), 0.71, 0.28, 0.96, False),
            0.87,
        ),
    ),
    model="recogniser",
).to_dict()
"""An answer of `/v1/analyses`, with two of the 112 points."""

JOB: Final[dict[str, Any]] = {
    "id": "Lq0yQxWqE8m4n2Yt5Z1fJr3sKd7uVb9c",
    "kind": "batch",
    "state": "running",
    "progress": {
        "done": 12, "total": 40, "faces": 19, "failed": 1, "time": None, "duration": None, "rate": None,
    },
    "files": [],
    "problem": None,
}  # fmt: skip

EVENTS: Final = """id: 1
event: picture
data: {"number": 0, "analysis": {"source": "portrait.jpg", "width": 512, "height": 512, "faces": [], "error": null}}

event: progress
data: {"done": 1, "total": 1, "faces": 0, "failed": 0}

event: done
data: {"files": ["table.csv"], "total": 1, "faces": 0, "failed": 0, "note": null}
"""

EDITED: Final[dict[str, Any]] = {
    "target": "happiness 1.00",
    "width": 512,
    "height": 512,
    "faces": [
        {
            "face": 0,
            "box": {"x": 152.0, "y": 118.0, "width": 208.0, "height": 262.0},
            "asked": {"happiness": 1.0},
            "intensity": 0.7,
            "applied": 0.7,
            "folding": 0.61,
            "gap_before": 0.0,
            "gap_after": 0.11,
            "flags": [],
            "before": None,
            "after": None,
        }
    ],
    "provenance": {"claim": "the expression was edited"},
    "media_type": "image/png",
    "image": "iVBORw0KGgo=",
}

SERVICE: Final[dict[str, Any]] = {
    "version": "0.1.0",
    "note": schema.NOTE,
    "expressions": list(EXPRESSIONS),
    "circumplex": {name: list(place) for name, place in CIRCUMPLEX.items()},
    "limits": {"bytes": 16777216, "pixels": 64000000, "faces": 100, "seconds": 30.0, "jobs": 8},
    "key_needed": False,
    "editor": True,
    "editor_lacking": "",
    "video": True,
    "video_lacking": "",
    "parquet": True,
}

CARDS: Final[dict[str, Any]] = {"models": [{"name": "recogniser", "task": "expression, valence and arousal"}]}

METRICS: Final = 'mien_requests_total{endpoint="/v1/analyses",status="200"} 12.0\n'

_CURL: Final = {
    "analyse_picture": "curl -F file=@portrait.jpg {address}/v1/analyses",
    "edit_picture": "curl -F file=@portrait.jpg -F target=happiness -F intensity=0.7 {address}/v1/edits -o edited.jpg",
    "analyse_batch": "curl -F file=@one.jpg -F file=@two.jpg -F files=table.csv {address}/v1/batches",
    "analyse_video": "curl -F file=@clip.mp4 -F files=table.csv,page.html {address}/v1/videos",
    "write_table": "curl -F file=@pictures.jsonl -F format=parquet {address}/v1/tables -o table.parquet",
    "get_job": "curl {address}/v1/jobs/JOB",
    "follow_job": "curl -N {address}/v1/jobs/JOB/events",
    "get_job_file": "curl {address}/v1/jobs/JOB/files/table.csv -o table.csv",
    "cancel_job": "curl -X DELETE {address}/v1/jobs/JOB",
    "list_models": "curl {address}/v1/models",
    "get_service": "curl {address}/v1/service",
    "get_health": "curl {address}/health",
    "get_ready": "curl {address}/ready",
    "get_metrics": "curl {address}/metrics",
}
"""A command line for each operation, by its identifier."""


def command(operation: str, address: str = "http://127.0.0.1:8000", keyed: bool = False) -> str:
    """The command line of an operation for the server at `address`; `keyed`: with its key."""
    line = _CURL[operation].format(address=address)
    return line.replace("curl", "curl -H 'Authorization: Bearer KEY'", 1) if keyed else line


def answer(example: Any, media: str = "application/json") -> dict[str, Any]:
    """The OpenAPI response with this example."""
    return {"content": {media: {"example": example}}}


PICTURE: Final[dict[str, Any]] = {"schema": {"type": "string", "format": "binary"}}
_FILE: Final = {"type": "string", "format": "binary"}
_FILES: Final = {"file": _FILE | {"description": "the picture"}}
_NEUTRAL: Final = {
    "baseline": _FILE | {"description": "a picture of the person's neutral face, to compare the faces with"}
}

_TEETH: Final = {
    "teeth_from": _FILE | {"description": "another picture of the person, to take their own teeth from"}
}


def _fields(fields: type[BaseModel]) -> dict[str, Any]:
    """The properties of a form's fields; those that are lists are sent as one text with commas."""
    properties = fields.model_json_schema()["properties"]
    for field in properties.values():
        if "array" in str(field.get("type")):
            for name in ("items", "minItems", "uniqueItems"):
                field.pop(name, None)
            field |= {"type": "string", "default": ",".join(field["default"])}
    return dict(properties)


def _queries(properties: dict[str, Any], what: str) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": f"where the body is the {what} itself: {field.get('description', name)}",
            "schema": {key: value for key, value in field.items() if key not in ("description", "title")},
        }
        for name, field in properties.items()
    ]


def _form(properties: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    schema = {"type": "object", "required": ["file"], "properties": properties}
    return {"multipart/form-data": {"schema": schema, "example": example}}


def body(
    fields: type[BaseModel] | None = None, baseline: bool = False, teeth_from: bool = False
) -> dict[str, Any]:
    """The OpenAPI request body of an endpoint that takes a picture, optionally with a second one and further fields."""
    properties = {} if fields is None else _fields(fields)
    example = {"file": "portrait.jpg"} | ({} if fields is None else {"target": "happiness", "intensity": 0.7})
    second = (_NEUTRAL if baseline else {}) | (_TEETH if teeth_from else {})
    content = _form(_FILES | second | properties, example)
    content |= dict.fromkeys((*schema.MEDIA_TYPES.values(), "application/octet-stream"), PICTURE)
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if fields is not None:
        extra["parameters"] = _queries(properties, "picture")
    return extra


def batch_body() -> dict[str, Any]:
    """The OpenAPI request body of a batch."""
    many = {"type": "array", "items": _FILE, "minItems": 1, "description": "the pictures"}
    example = {"file": ["one.jpg", "two.jpg"], "files": "table.csv"}
    content = _form({"file": many, **_NEUTRAL, **_fields(schema.BatchRequest)}, example)
    return {"requestBody": {"required": True, "content": content}}


def video_body() -> dict[str, Any]:
    """The OpenAPI request body of a video."""
    properties = _fields(schema.VideoRequest)
    example = {"file": "clip.mp4", "files": "table.csv,page.html", "every": 2}
    content = _form({"file": _FILE | {"description": "the video"}, **properties}, example)
    content |= dict.fromkeys(("video/mp4", "video/webm", "application/octet-stream"), PICTURE)
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": _queries(properties, "video"),
    }


def table_body() -> dict[str, Any]:
    """The OpenAPI request body of a table."""
    properties = _fields(schema.TableRequest)
    example = {"file": "pictures.jsonl", "format": "parquet"}
    content = _form(
        {"file": _FILE | {"description": "analyses, one line of JSON each"}, **properties}, example
    )
    content["application/jsonl"] = PICTURE
    return {
        "requestBody": {"required": True, "content": content},
        "parameters": _queries(properties, "analyses"),
    }


_REFUSALS: Final = {
    400: (
        "the connection was closed during the upload",
        "gone",
        "the connection was closed during the upload",
    ),
    401: (
        "the key is missing or wrong",
        "wrong_key",
        "this server requires a key: send it as 'Authorization: Bearer KEY'",
    ),
    403: (
        "another web site sent the request",
        "cross_site",
        "another web site sent this request: use the server's own page",
    ),
    404: (
        "there is no such job or file (any more)",
        "no_job",
        "there is no such job: it was fetched or cancelled, or ended over 600 seconds ago: send it again",
    ),
    408: (
        "the upload did not arrive in time",
        "upload_too_slow",
        "the upload took longer than 30 seconds, or stood still: send a smaller file",
    ),
    409: (
        "the job is not done yet",
        "not_done",
        "the job is not done: follow its events, and fetch the file then",
    ),
    413: (
        "too many bytes, pixels or pictures",
        "too_many_pixels",
        "9,000 x 9,000 pixels are more than 64,000,000: scale it down, or start the server with a higher --max-pixels",
    ),
    415: (
        "not a picture or video, or a media type that is not accepted",
        "not_a_picture",
        "not a picture: send JPEG, PNG or WebP",
    ),
    422: (
        "the request is understood and cannot be done: a damaged file, too many faces, a wrong value",
        "too_many_faces",
        "the picture holds 120 faces, the limit is 100: send it in parts, or start the server with a higher "
        "--max-faces",
    ),
    429: (
        "too many requests or jobs at once, or no disk for them; Retry-After states when to try again",
        "busy",
        "10 requests are being answered, the most at once: try again in a moment",
    ),
    501: (
        "this server cannot do it: what is missing is named",
        "no_editor",
        "this server cannot edit: this needs 'c2pa': install it with  pip install 'mien[edit]'",
    ),
    503: (
        "the models are not loaded (yet)",
        "loading",
        "the models are being loaded: try again in a few seconds",
    ),
    504: (
        "the answer took too long",
        "too_slow",
        "this took longer than 30 seconds: send a smaller picture, or start the server with a higher --max-seconds",
    ),
}
"""By status: its description, and an example's code and message."""


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of these statuses."""
    responses: dict[int | str, dict[str, Any]] = {}
    for status in statuses:
        description, code, message = _REFUSALS[status]
        responses[status] = {
            "model": schema.Problem,
            "description": description,
            **answer({"error": code, "message": message}),
        }
    return responses
