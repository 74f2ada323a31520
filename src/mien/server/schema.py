"""Schemas of the API: requests, answers, and the examples in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from mien.config import Frozen
from mien.labels import EXPRESSIONS
from mien.types import Analysis, Box, Detection, Face, Landmarks, Pose, Reading

NOTE = "An expression label describes what a face shows to an observer, not what the person feels."

Format = Literal["jpg", "png", "webp"]
MEDIA_TYPES: dict[str, str] = {"jpg": "image/jpeg", "png": "image/png", "webp": "image/webp"}


class Problem(BaseModel):
    """Every answer with an error status."""

    error: str = Field(description="a code for programs", examples=["too_many_bytes"])
    message: str = Field(
        description="one line: what is wrong, and what to do",
        examples=[
            "the upload holds 21.3 MB, the limit is 16.0 MB: scale the picture down, or start the server with ..."
        ],
    )


class EditRequest(Frozen):
    """The requested edit; form fields beside `file`, or query parameters if the body is the picture."""

    target: str | None = Field(
        None,
        description="an expression, 'neutral', or a blend",
        examples=["happiness", "happiness:0.5,surprise:0.5"],
    )
    valence: float | None = Field(None, ge=-1, le=1, description="with arousal, instead of target")
    arousal: float | None = Field(None, ge=-1, le=1, description="with valence, instead of target")
    intensity: float = Field(1.0, ge=0, le=1.25, description="1 is a full expression")
    face: int | Literal["all"] = Field(0, description="0 is the largest")
    mouth: Literal["auto", "keep", "open", "close"] = "auto"
    relative: bool = Field(
        False, description="add to the current expression, instead of starting from neutral"
    )
    force: bool = Field(False, description="edit even if the result will be poor")
    consent: bool = Field(False, description="the person agreed; recorded in the picture's provenance")
    mark: bool = Field(True, description="put the invisible mark into the pixels of the whole picture")
    format: Format | None = Field(
        None, description="format of the answer; by default that of the upload, or PNG"
    )

    @model_validator(mode="after")
    def _one_target(self) -> EditRequest:
        affect = (self.valence is not None) + (self.arousal is not None)
        if (self.target is None) == (affect == 0) or affect == 1:
            raise ValueError("pass either target, or both valence and arousal")
        return self


class EditedFace(BaseModel):
    """What was done to one face; see `mien.editing.results.FaceEdit`."""

    face: int
    box: Box
    asked: dict[str, float]
    intensity: float
    applied: float = Field(description="less than intensity if the skin would have folded")
    flags: list[str]
    before: Reading | None
    after: Reading | None


class Edited(BaseModel):
    """An edited picture and what was done, for `Accept: application/json`."""

    target: str
    width: int
    height: int
    faces: list[EditedFace]
    provenance: dict[str, Any] = Field(description="what the picture's C2PA manifest and XMP state")
    media_type: str
    image: str = Field(description="the picture's file, base64")


class Cards(BaseModel):
    """The card of each set of weights: task, data, terms, metrics, intended use, limits."""

    models: list[dict[str, Any]]


class Status(BaseModel):
    """Whether the server is running, or ready."""

    status: str


class Service(BaseModel):
    """What the page needs to know before a key is given."""

    version: str
    note: str
    expressions: list[str]
    circumplex: dict[str, list[float]] = Field(
        description="valence and arousal of each expression at full intensity"
    )
    limits: dict[str, float]
    key_needed: bool
    editor: bool
    editor_lacking: str


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

PICTURE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_FILE = {"file": {"type": "string", "format": "binary", "description": "the picture"}}


_BASELINE = {
    "baseline": {
        "type": "string",
        "format": "binary",
        "description": "a picture of the person's neutral face, to compare the faces with",
    }
}


def body(fields: type[BaseModel] | None = None, baseline: bool = False) -> dict[str, Any]:
    """The OpenAPI request body of an endpoint that takes a picture, optionally with a baseline and further fields."""
    properties = {} if fields is None else fields.model_json_schema()["properties"]
    pictures = _FILE | (_BASELINE if baseline else {})
    form = {"type": "object", "required": ["file"], "properties": pictures | properties}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    content |= dict.fromkeys((*MEDIA_TYPES.values(), "application/octet-stream"), PICTURE)
    extra: dict[str, Any] = {"requestBody": {"required": True, "content": content}}
    if fields is not None:
        extra["parameters"] = [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": f"where the body is the picture itself: {schema.get('description', name)}",
                "schema": {
                    key: value for key, value in schema.items() if key not in ("description", "title")
                },
            }
            for name, schema in properties.items()
        ]
    return extra


_REFUSALS = {
    400: "the connection was closed during the upload",
    401: "the key is missing or wrong",
    403: "another web site sent the request",
    408: "the upload did not arrive in time",
    413: "too many bytes or pixels",
    415: "not a picture, or a media type that is not accepted",
    422: "the request is understood and cannot be done: damaged picture, too many faces, a wrong value",
    429: "too many requests at once; Retry-After states when to try again",
    501: "this installation has no editor",
    503: "the models are not loaded (yet)",
    504: "the answer took too long",
}


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of these statuses."""
    return {status: {"model": Problem, "description": _REFUSALS[status]} for status in statuses}
