"""Schemas of the API: requests and answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from mien.config import Frozen
from mien.types import Box, Reading

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
    actions: str | None = Field(
        None,
        description="facial actions to set, alone or with a target",
        examples=["smile=0.6,browInnerUp=0.4"],
    )
    gaze: str | None = Field(
        None,
        description="how far to turn the eyes to the right of the picture and up, each in -1 to 1, 1 is 15 degrees; "
        "alone or with the others",
        examples=["0.5,0"],
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
        given = (self.target is not None) + (affect == 2)
        if affect == 1 or given > 1 or (given == 0 and self.actions is None and self.gaze is None):
            raise ValueError("pass either target, or both valence and arousal, or actions or gaze")
        return self


class EditedFace(BaseModel):
    """What was done to one face; see `mien.editing.results.FaceEdit`."""

    face: int
    box: Box
    asked: dict[str, float]
    intensity: float
    applied: float = Field(description="less than intensity if the skin would have folded")
    folding: float = Field(description="smallest Jacobian determinant of the map; 1 where nothing moves")
    gap_before: float = Field(description="mean distance of the inner lips, in eye distances")
    gap_after: float
    gaze: tuple[float, float] = Field(
        (0.0, 0.0), description="how far the eyes were turned, in units of 15 degrees"
    )
    flags: list[str]
    before: Reading | None = None
    after: Reading | None = None


class Edited(BaseModel):
    """An edited picture and what was done, for `Accept: application/json`."""

    target: str
    width: int
    height: int
    faces: list[EditedFace]
    provenance: dict[str, Any] = Field(description="what the picture's C2PA manifest and XMP state")
    media_type: str
    image: str = Field(description="the picture's file, base64")


PICTURES = "pictures.jsonl"
FRAMES = "frames.jsonl"
PAGE = "page.html"
TABLES = ("table.csv", "table.parquet", "table.jsonl")

TABLE_TYPES: dict[str, str] = {
    ".csv": "text/csv; charset=utf-8",
    ".jsonl": "application/jsonl",
    ".parquet": "application/vnd.apache.parquet",
}
"""The media type of a table by its file's suffix."""

Table = Literal["table.csv", "table.parquet", "table.jsonl"]
Layout = Literal["mien", "pyfeat", "openface", "deepface"]


def _listed(text: object) -> object:
    """A text with commas as a list, each word once."""
    if not isinstance(text, str):
        return text
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


class BatchRequest(Frozen):
    """The options of a batch; form fields beside the pictures."""

    files: Annotated[tuple[Table | Literal["pictures.jsonl"], ...], BeforeValidator(_listed)] = Field(
        ("table.csv",),
        description="files to make, with commas: table.csv, table.parquet, table.jsonl (one row for each face), "
        "pictures.jsonl (one analysis for each picture); empty for none",
        examples=["table.csv,table.parquet"],
    )
    columns: Layout = Field("mien", description="names of the tables' columns")


class TableRequest(Frozen):
    """The options of a table; form fields beside `file`, or query parameters if the body is the analyses."""

    format: Literal["csv", "parquet", "jsonl"] = "csv"
    columns: Layout = Field("mien", description="names of the table's columns")
    landmarks: bool = Field(True, description="with the columns of the facial points")


class VideoRequest(Frozen):
    """The options of a video; form fields beside `file`, or query parameters if the body is the video."""

    files: Annotated[
        tuple[Table | Literal["frames.jsonl", "page.html"], ...],
        BeforeValidator(_listed),
        Field(min_length=1),
    ] = Field(
        ("table.csv", "page.html"),
        description="files to make, with commas: table.csv, table.parquet, table.jsonl (one row for each face), "
        "frames.jsonl (one line for each frame), page.html (the summary page)",
        examples=["table.parquet,page.html"],
    )
    columns: Layout = Field("mien", description="names of the tables' columns")
    every: int = Field(1, ge=1, description="analyse every Nth frame")
    smooth: float = Field(0.25, ge=0, le=60, description="lag of the smoothed values, seconds")
    baseline: str | None = Field(
        None,
        description="neutral faces within the video: calmest, or a span such as 0:02-0:04; or a picture of one, as a "
        "file",
        examples=["calmest"],
    )


class JobProgress(BaseModel):
    """How far a job is."""

    done: int = Field(description="pictures or frames analysed")
    total: int | None = Field(description="of all; null while it is not known, for some videos to the end")
    faces: int
    failed: int = Field(0, description="pictures that could not be analysed")
    time: float | None = Field(None, description="of the last frame, seconds")
    duration: float | None = Field(None, description="of the video, seconds, where its file states it")
    rate: float | None = Field(None, description="frames per second")


class JobStatus(BaseModel):
    """A batch or video, and how far it is."""

    id: str = Field(description="names the job in /v1/jobs/{job}; nobody can guess it")
    kind: Literal["batch", "video"]
    state: Literal["arriving", "waiting", "running", "done", "failed", "cancelled"]
    progress: JobProgress
    files: list[str] = Field(description="results to fetch, at /v1/jobs/{job}/files/{name}, when it is done")
    problem: Problem | None = Field(
        None, description="why it failed; or of a damaged video that is done: what was read"
    )


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
    video: bool
    video_lacking: str
    parquet: bool = Field(description="whether tables can be Parquet files")
