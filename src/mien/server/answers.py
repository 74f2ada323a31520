"""The work of a worker process: from a picture to the body of an HTTP answer.

This half of the server decodes pictures. It imports no web framework and exchanges only bytes and JSON with the other
half, so that a malicious picture cannot reach the process that all clients are connected to.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any, Final

from mien.errors import ConfigError, ExtraMissing, ImageError, MienError, NoFace, NotAPicture, TooLarge
from mien.io import images, tables
from mien.labels import EXPRESSIONS
from mien.server import job_files, models, schema
from mien.server.limits import Limits, Refusal, TooManyFaces
from mien.types import Analysis, NeutralFace

if TYPE_CHECKING:
    from mien.editing.editor import Editor
    from mien.editing.photo import Photo
    from mien.editing.results import Edit, Located

Answer = tuple[dict[str, Any], bytes]
"""The metadata of an answer (`media_type`, `headers`, `faces`; or `refusal`) as JSON types, and its body."""

_FORMATS: Final[dict[str, schema.Format]] = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}


class Answers:
    """Answers requests with the models of one process."""

    def __init__(self, loaded: models.Models, limits: Limits) -> None:
        self._models = models.bounded(loaded, limits)
        self._limits = limits
        self._last: tuple[bytes, list[Located]] | None = None

    def describe(self) -> dict[str, Any]:
        """The description of the models, as JSON types."""
        lacking = "" if self._models.editor else self._models.lacking or "no editor is installed"
        return {"cards": self._models.cards, "lacking": lacking}

    def __call__(
        self, request: dict[str, Any], data: bytes, progress: Callable[[dict[str, Any]], None]
    ) -> Answer:
        """Answer one request about the picture in `data`: an edit, a neutral face, or an analysis; or one about files
        of a job, which reports its `progress`."""
        try:
            if "edit" in request:
                return self._edit(request, data)
            if "video" in request:
                return job_files.analyse_video(
                    self._models.pipeline, self._limits, request["video"], progress
                ), b""
            if "table" in request:
                return self._table(schema.TableRequest.model_validate(request["table"]), data)
            if "tables" in request:
                job_files.write_tables(self._models.pipeline, request["tables"], progress)
                return {}, b""
            if "neutral_of" in request:
                neutral = self._neutral(data, request["neutral_of"])
                return {}, json.dumps(asdict(neutral)).encode()
            analysis = self._analysis(request, data)
        except Refusal as refusal:
            return _refused(refusal)
        except MienError as problem:
            return _refused(_refusal(problem, data, request.get("video", {}).get("path", "")))
        except MemoryError:
            message = "the picture does not fit into the memory of a worker: scale it down"
            return _refused(Refusal(413, "too_costly", message))
        text = replace(analysis, source=request["name"] or analysis.source).to_json()
        if request.get("rows"):
            text = f'{{"analysis": {text}, "rows": {json.dumps(self._rows(analysis))}}}'
        return {"media_type": "application/json", "faces": len(analysis.faces)}, text.encode()

    def _rows(self, analysis: Analysis) -> list[list[Any]]:
        """The values of the table's rows, without facial points."""
        labels = getattr(self._models.pipeline, "labels", EXPRESSIONS)
        return [list(row.values()) for row in tables.rows(analysis, landmarks=False, labels=labels)]

    def _analysis(self, request: dict[str, Any], data: bytes) -> Analysis:
        pipeline = self._models.pipeline
        if "neutral" in request:
            return pipeline(data).relative_to(NeutralFace(**request["neutral"]))
        if "baseline" not in request:
            return pipeline(data)
        at, name = request["baseline"]["at"], request["baseline"]["name"]
        baseline = self._neutral(data[at:], name)
        return pipeline(data[:at]).relative_to(baseline)

    def _table(self, asked: schema.TableRequest, data: bytes) -> Answer:
        labels = getattr(self._models.pipeline, "labels", EXPRESSIONS)
        suffix = f".{asked.format}"
        table = tables.encode(_analyses(data), suffix, asked.columns, asked.landmarks, labels)
        headers = {"Content-Disposition": f'attachment; filename="table{suffix}"'}
        return {"media_type": schema.TABLE_TYPES[suffix], "headers": headers, "faces": 0}, table

    def _neutral(self, data: bytes, name: str) -> NeutralFace:
        try:
            return self._models.pipeline.baseline(data, name or "baseline")
        except MienError as problem:
            refusal = _refusal(problem, data)
            raise Refusal(refusal.status, refusal.code, f"baseline: {refusal.message}") from None

    def _editor(self, request: dict[str, Any], data: bytes) -> tuple[Editor, bytes]:
        """The editor for a request, with the teeth of its second picture if there is one, and the first picture."""
        editor = self._models.editor
        if editor is None:
            raise Refusal(501, "no_editor", f"this server cannot edit: {self.describe()['lacking']}")
        if "teeth_from" not in request:
            return editor, data
        at, name = request["teeth_from"]["at"], request["teeth_from"]["name"] or "teeth_from"
        from mien.editing.photo import open_photo

        try:
            photo = replace(open_photo(data[at:], self._limits.pixels), source=name)
            return editor.with_teeth_of(photo), data[:at]
        except MienError as problem:
            refusal = _refusal(problem, data[at:])
            raise Refusal(refusal.status, refusal.code, f"teeth_from: {refusal.message}") from None

    def _edit(self, request: dict[str, Any], data: bytes) -> Answer:
        from mien.editing import provenance, signing
        from mien.editing.photo import encode, open_photo
        from mien.editing.target import Target

        asked = schema.EditRequest.model_validate(request["edit"])
        editor, data = self._editor(request, data)
        wanted = [Target.parse(asked.target)] if asked.target is not None else []
        if asked.valence is not None and asked.arousal is not None:
            wanted.append(Target.of_affect(asked.valence, asked.arousal))
        if asked.actions is not None:
            wanted.append(Target.parse_actions(asked.actions))
        if asked.gaze is not None:
            wanted.append(Target.parse_gaze(asked.gaze))
        target = reduce(and_, wanted)
        photo = open_photo(data, self._limits.pixels)
        edit = editor.apply(
            photo,
            self._located(editor, photo, data),
            target,
            asked.intensity,
            face=asked.face,
            mouth=asked.mouth,
            relative=asked.relative,
            force=asked.force,
        )
        form = asked.format or _format_of(data)
        photo, mark = provenance.marked(edit, asked.mark)
        stated = provenance.facts(edit, asked.consent, mark)
        plain = encode(photo, f".{form}", provenance.xmp(mark, edit.original.data))
        signer = self._models.signer or signing.Signer.of_install()
        signed = provenance.sign(plain, f".{form}", stated, edit, signer)
        media = schema.MEDIA_TYPES[form]
        if request["as_json"]:
            body = _edit_as_json(edit, stated, media, signed)
            return {"media_type": "application/json", "faces": len(edit.faces)}, body
        headers = {
            "Mien-Applied": f"{edit.applied:.3f}",
            "Mien-Flags": "; ".join(edit.flags).encode("ascii", "replace").decode(),
        }
        return {"media_type": media, "headers": headers, "faces": len(edit.faces)}, signed

    def _located(self, editor: Editor, photo: Photo, data: bytes) -> list[Located]:
        """The faces of a photo. Those of the last one are kept, without its pixels: a moving slider sends it again and
        again, and locating takes a quarter of the time of an edit."""
        digest = hashlib.sha256(data).digest()
        if self._last is None or self._last[0] != digest:
            self._last = digest, editor.locate(photo)
        return self._last[1]


def shipped(limits: Limits, options: dict[str, Any]) -> Answers:
    """Answers with the shipped models; `options` are those of `mien.load`."""
    return Answers(models.load(options), limits)


def given(loaded: models.Models, limits: Limits) -> Answers:
    """Answers with the caller's models, which are pickled to this process."""
    return Answers(loaded, limits)


def _analyses(data: bytes) -> list[Analysis]:
    """The analyses in lines of JSON; empty lines are skipped.

    Raises:
        ConfigError: a line is no analysis, or there is none.
    """
    try:
        lines = data.decode("utf-8").split("\n")
    except UnicodeDecodeError:
        raise ConfigError("the lines are not UTF-8: send the JSON that an analysis answers with") from None
    analyses = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                analyses.append(Analysis.from_json(line))
            except ConfigError as problem:
                raise ConfigError(f"line {number}: {problem}") from None
    if not analyses:
        raise ConfigError("no analysis: send at least one line of JSON")
    return analyses


def _format_of(data: bytes) -> schema.Format:
    """The format of an upload if edits can be written in it, else PNG, which is lossless."""
    return _FORMATS.get(images.file_type(data) or "", "png")


def _edit_as_json(edit: Edit, stated: dict[str, Any], media: str, data: bytes) -> bytes:
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
    return answer.model_dump_json().encode()


def _refused(refusal: Refusal) -> Answer:
    return {"refusal": [refusal.status, refusal.code, refusal.message]}, b""


def _refusal(problem: MienError, data: bytes, path: str = "") -> Refusal:
    """Convert an error of the analysis, the editor or a job to a refusal."""
    from mien.editing.results import EditRefused
    from mien.editing.signing import ProvenanceError
    from mien.io.video import VideoError

    # The name of a picture in memory, or of a stored upload, is meaningless to the client.
    message = str(problem).removeprefix(f"{path or images.describe(data)}: ")
    if isinstance(problem, ProvenanceError):
        return Refusal(503, "no_provenance", message)
    if isinstance(problem, ImageError):
        return _image_refusal(problem, message)
    if isinstance(problem, VideoError):
        return Refusal(422, "damaged_video", message)
    if isinstance(problem, ExtraMissing):
        return Refusal(501, "no_video", message)
    codes = {TooManyFaces: "too_many_faces", NoFace: "no_face", EditRefused: "edit_refused"}
    return Refusal(
        422, next((code for kind, code in codes.items() if isinstance(problem, kind)), "wrong_value"), message
    )


def _image_refusal(problem: ImageError, message: str) -> Refusal:
    if isinstance(problem, images.TooCostly):
        return Refusal(413, "too_costly", message)
    if isinstance(problem, TooLarge):
        message = message.replace(
            "raise max_pixels if you trust it", "start the server with a higher --max-pixels"
        )
        return Refusal(413, "too_many_pixels", message)
    if isinstance(problem, NotAPicture):
        return Refusal(415, "not_a_picture", message)
    return Refusal(422, "damaged_picture", message)
