"""A client of `mien serve` that answers as the package itself: the same results, and the same errors.

    with mien.Client("http://127.0.0.1:8000") as client:
        print(client.analyse("photo.jpg").faces[0].expression)

It needs httpx: `pip install 'mien[client]'`. Pictures that are not files are sent as PNG, which loses nothing.

Tests: tests/test_client.py.
"""

from __future__ import annotations

import base64
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast

from mien.errors import ConfigError, ExtraMissing, ImageError, MienError, NoFace, NotAPicture, TooLarge
from mien.types import Analysis, CountProgress, Frame

if TYPE_CHECKING:
    import httpx
    from typing_extensions import Self

    from mien.editing.results import Edit
    from mien.faces.pipeline import Picture

    Form = Callable[[ExitStack], list[tuple[str, tuple[str, Any]]]]
    """Opens the files of a request, each time that it is sent."""

Result = TypeVar("Result", bound=Analysis)
VideoProgress = Callable[[int, "int | None"], None]
"""Called with the number of frames done, and of all where the file states it."""

MANY: Final = 256
"""Pictures sent in one batch, at most."""
BYTES: Final = 64 * 2**20
"""Bytes of the pictures of one batch, at most, unless one alone is larger."""
LONGEST: Final = 60.0
"""Seconds to wait before a request is sent again, at most."""


class ServerError(MienError):
    """The server refused a request for a reason of its own, or cannot be reached.

    Attributes:
        status: of the answer; 0 if there was none.
        code: what `docs/serving.md` calls it: "busy", "wrong_key", ...
    """

    def __init__(self, message: str, status: int = 0, code: str = "unreachable") -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Client:
    """Analyses and edits pictures and videos on a server; see `mien serve`.

    A context manager; `close` ends it otherwise. It may be used by several threads.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        retries: int = 5,
    ) -> None:
        """Nothing is sent yet.

        Args:
            url: of the server, with the path under which it is mounted.
            api_key: the server's key, if it has one.
            timeout: seconds to connect, and without a byte received or sent.
            retries: how often a request that was refused for a while (status 429 or 503 with `Retry-After`) is sent
                again, and an interrupted stream of events is followed again.

        Raises:
            ExtraMissing: httpx is not installed.
            ConfigError: the address is none, or a number is out of range.
        """
        try:
            import httpx
        except ModuleNotFoundError:
            raise ExtraMissing("client", "httpx") from None
        if not url.startswith(("http://", "https://")):
            raise ConfigError(f"the server's address is '{url}': pass one such as http://127.0.0.1:8000")
        if timeout <= 0 or retries < 0:
            raise ConfigError(f"timeout is {timeout}, retries {retries}: pass positive numbers")
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self.url = url.rstrip("/")
        self._retries = retries
        self._errors = httpx.HTTPError
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> bool:
        """Whether the server can be reached and its models are loaded."""
        try:
            return bool(self._http.get("/ready").status_code == 200)
        except self._errors:
            return False

    def analyse(self, picture: Picture, *, baseline: Picture | None = None) -> Analysis:
        """Analyse one picture, as `Pipeline.__call__`.

        Args:
            picture: a path, a file's bytes, an open binary file, or pixels.
            baseline: of the person's neutral face; each face then has its `change` from it.

        Raises:
            ImageError: it cannot be read, or is too large for the server.
            NoFace: the baseline has no face.
            ConfigError: the baseline has several faces.
            ServerError: the server cannot be reached, or refuses for a reason of its own.
        """
        name, data = _sendable(picture)
        files = [("file", (_base(name), data)), *_second("baseline", baseline)]
        return self._analysis(name, files)

    def _analysis(self, name: str, files: list[tuple[str, tuple[str, bytes]]]) -> Analysis:
        answer = self._send("POST", "/v1/analyses", name, lambda _: files)
        return replace(Analysis.from_json(answer.text), source=name)

    def edit(
        self,
        picture: Picture,
        target: str | tuple[float, float] | None,
        intensity: float = 1.0,
        *,
        actions: Mapping[str, float] | None = None,
        gaze: tuple[float, float] | None = None,
        teeth_from: Picture | None = None,
        face: int | Literal["all"] = 0,
        mouth: Literal["auto", "keep", "open", "close"] = "auto",
        relative: bool = False,
        force: bool = False,
        consent: bool = False,
        mark: bool = True,
        format: Literal["png", "jpg", "webp"] = "png",
    ) -> Edit:
        """Edit the expression of a face, as `Editor.__call__`.

        Args:
            picture: as for `analyse`. target: an expression, "neutral", a blend, or (valence, arousal); None with
                `actions` or `gaze` alone.
            actions: facial actions to set, as of `Target.of_actions`.
            gaze: (across, up) to turn the eyes by, as of `Target.of_gaze`.
            teeth_from: another picture of the person, to take their own teeth from (`Editor.with_teeth_of`).
            mark: put the invisible mark into the pixels (`mien.editing.mark`).
            intensity: as of `Editor.__call__`, and so are face, mouth, relative and force.
            consent: the person agreed; recorded in the provenance.
            format: of the answer; "png" keeps every pixel.

        Returns:
            The edit. Its `photo.data` is the file as the server signed it.

        Raises:
            ImageError: a picture cannot be read, or is too large for the server.
            NoFace: there is no face, or not that many.
            EditRefused: the edit would not be credible, or `teeth_from` shows no teeth.
            ConfigError: the target or another value is wrong.
            ServerError: as of `analyse`.
        """
        from pydantic import TypeAdapter

        from mien.editing.photo import encode, open_photo
        from mien.editing.results import Edit, FaceEdit
        from mien.faces.pipeline import name_of

        name = name_of(picture)
        original = open_photo(picture)
        data = original.data or encode(original, ".png")
        towards: dict[str, Any] = {}
        if target is not None:
            towards = (
                {"target": target}
                if isinstance(target, str)
                else {"valence": target[0], "arousal": target[1]}
            )
        if actions:
            towards["actions"] = ",".join(f"{action}={value}" for action, value in actions.items())
        if gaze is not None:
            towards["gaze"] = f"{gaze[0]},{gaze[1]}"
        fields = {
            **towards, "intensity": intensity, "face": face, "mouth": mouth, "relative": relative, "force": force,
            "consent": consent, "mark": mark, "format": format,
        }  # fmt: skip
        files = [("file", (_base(name), data)), *_second("teeth_from", teeth_from)]
        answer = self._send("POST", "/v1/edits", name, lambda _: files, fields).json()
        edited = base64.b64decode(answer["image"])
        known = FaceEdit.__dataclass_fields__.keys()
        faces = [{key: face[key] for key in known} for face in answer["faces"]]
        return Edit(
            open_photo(edited),
            original,
            TypeAdapter(tuple[FaceEdit, ...]).validate_python(faces),
            answer["target"],
        )

    def analyse_many(
        self,
        pictures: Iterable[Picture],
        *,
        baseline: Picture | None = None,
        progress: CountProgress | None = None,
    ) -> list[Analysis]:
        """Analyse any number of pictures in batches, as a `Pipeline` does with a list.

        Args:
            pictures: each as for `analyse`. baseline: of the one person in all of them. progress: called with (done,
                total) after each.

        Returns:
            One analysis for each, in order, with `error` set where a picture could not be analysed.

        Raises:
            NoFace, ConfigError, ServerError: as of `analyse`, for the baseline and the server.
        """
        listed = list(pictures)
        neutral = _second("baseline", baseline)
        limits = self._send("GET", "/v1/service").json()["limits"]
        most = min(MANY, int(limits["job_pictures"]))
        size = min(BYTES, int(limits["job_bytes"]) // 2)
        analyses: list[Analysis] = []

        def tell(analysis: Analysis) -> None:
            analyses.append(analysis)
            if progress is not None:
                progress(len(analyses), len(listed))

        for part in _parts(listed, most, size):
            sound = [(name, data) for name, data in part if not isinstance(data, MienError)]
            answers = self._batch(sound, neutral) if limits["jobs"] else self._one_by_one(sound, neutral)
            for name, data in part:
                if isinstance(data, MienError):
                    tell(Analysis(name, 0, 0, error=str(data)))
                else:
                    tell(next(answers))
            for _ in answers:  # to the end of its events
                pass
        return analyses

    def video(
        self,
        path: str | os.PathLike[str],
        *,
        every: int = 1,
        smooth: float = 0.25,
        baseline: str | Picture | None = None,
        table: str | os.PathLike[str] | None = None,
        page: str | os.PathLike[str] | None = None,
        overwrite: bool = False,
        progress: VideoProgress | None = None,
    ) -> list[Frame]:
        """Analyse a video, as `mien.video.analyse`.

        Args:
            path: any video file that FFmpeg reads.
            every: analyse every Nth frame. smooth: lag of the smoothed values, seconds.
            baseline: "calmest" or a span such as "0:02-0:04" within the video, or a picture of the neutral face.
            table: a file to write, .csv, .parquet or .jsonl. page: the same for the summary page, .html. overwrite:
                replace them.
            progress: called with the frames done, and of all if known.

        Raises:
            VideoError: it cannot be read.
            OutputExists: a file to write exists.
            ConfigError, NoFace, ServerError: as of `analyse`, and for the options.
        """
        from mien.faces.pipeline import name_of
        from mien.io import atomic, outputs
        from mien.io.video import VideoError
        from mien.video.baseline import parsed

        name, suffix = name_of(os.fspath(path)), "" if table is None else Path(table).suffix.lower()
        wanted = {"frames.jsonl": None, f"table{suffix}": table, "page.html": page}
        places = {file: Path(place) for file, place in wanted.items() if place is not None}
        for place in places.values():
            outputs.check(place, overwrite=overwrite, reads=[os.fspath(path)])
        fields: dict[str, Any] = {
            "files": ",".join(["frames.jsonl", *places]), "every": every, "smooth": smooth,
        }  # fmt: skip
        within = isinstance(baseline, str) and not Path(baseline).exists() and parsed(baseline) is not None
        neutral = [] if within else _second("baseline", baseline)
        fields |= {"baseline": baseline} if within else {}

        def form(stack: ExitStack) -> list[tuple[str, tuple[str, Any]]]:
            try:
                file = stack.enter_context(Path(path).open("rb"))  # noqa: SIM115
            except OSError as problem:
                reason = (problem.strerror or str(problem)).lower()
                raise VideoError(f"{name}: {reason}: name a video file") from None
            return [*neutral, ("file", (_base(name), file))]

        with self._job("/v1/videos", name, form, fields) as job:
            for event, data in self._events(job, name):
                if event == "progress" and progress is not None:
                    progress(data["done"], data["total"])
            for file, place in places.items():
                answer = self._send("GET", f"{job}/files/{file}", name)
                atomic.write({place: answer.content})
            lines = self._send("GET", f"{job}/files/frames.jsonl", name).text.split("\n")[:-1]
        return [replace(Frame.from_json(line), source=name) for line in lines]

    # Jobs -------------------------------------------------------------------------------------------------------------

    def _batch(
        self, pictures: Sequence[tuple[str, bytes]], neutral: list[tuple[str, tuple[str, bytes]]]
    ) -> Iterator[Analysis]:
        """The analyses of pictures in one batch, as they come."""
        if not pictures:
            return
        files = [("file", (f"{number}", data)) for number, (_, data) in enumerate(pictures)]
        with self._job("/v1/batches", "", lambda _: [*neutral, *files], {"files": ""}) as job:
            for event, data in self._events(job, ""):
                if event == "picture":
                    number = data["number"]
                    yield _renamed(Analysis.from_dict(data["analysis"]), f"{number}", pictures[number][0])

    def _one_by_one(
        self, pictures: Sequence[tuple[str, bytes]], neutral: list[tuple[str, tuple[str, bytes]]]
    ) -> Iterator[Analysis]:
        """The same from a server that takes no jobs."""
        for name, data in pictures:
            files = [("file", (_base(name), data)), *neutral]
            try:
                yield self._analysis(name, files)
            except ServerError:
                raise
            except MienError as problem:
                yield Analysis(name, 0, 0, error=str(problem))

    @contextmanager
    def _job(self, path: str, name: str, form: Form, fields: Mapping[str, Any]) -> Iterator[str]:
        """Send a job, and give its path; it is cancelled if the block is left early."""
        job = f"/v1/jobs/{self._send('POST', path, name, form, fields).json()['id']}"
        try:
            yield job
        except BaseException:
            with suppress(self._errors):
                self._http.delete(job)
            raise

    def _events(self, job: str, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The events of a job until it is done.

        Raises:
            MienError: it failed.
        """
        last, left = "", self._retries
        while True:
            try:
                headers = {"Last-Event-ID": last} if last else {}
                with self._http.stream("GET", f"{job}/events", headers=headers) as answer:
                    if answer.status_code != 200:
                        answer.read()
                        raise _error(answer.status_code, _problem(answer), name)
                    for event, data, number in _parsed(answer.iter_lines()):
                        last = number or last
                        if event == "failed":
                            raise _error(0, data, name)
                        if event == "cancelled":
                            raise ServerError("the job was cancelled: send it again", 0, "cancelled")
                        yield event, data
                        if event == "done":
                            return
            except self._errors as problem:
                if not left:
                    raise self._unreachable(problem) from None
            if not left:
                raise ServerError("the server ended the events of a job: send it again", 0, "interrupted")
            left -= 1
            time.sleep(1)

    def _send(
        self,
        method: str,
        path: str,
        name: str = "",
        form: Form | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> httpx.Response:
        """Send a request, again if the server asks for that.

        Raises:
            MienError: the server refuses it, or cannot be reached.
        """
        data = {
            key: str(value).lower() if isinstance(value, bool) else str(value)
            for key, value in (fields or {}).items()
        }
        for left in reversed(range(self._retries + 1)):
            with ExitStack() as stack:
                files = None if form is None else form(stack)
                try:
                    answer = self._http.request(
                        method, path, files=files, data=data, headers={"Accept": "application/json, */*"}
                    )
                except self._errors as problem:
                    raise self._unreachable(problem) from None
            if answer.status_code < 400:
                return answer
            wait = answer.headers.get("retry-after", "")
            if not (left and answer.status_code in (429, 503) and wait.isdecimal()):
                break
            time.sleep(min(LONGEST, float(wait)))
        raise _error(answer.status_code, _problem(answer), name)

    def _unreachable(self, problem: Exception) -> ServerError:
        reason = str(problem) or type(problem).__name__
        return ServerError(
            f"{self.url} does not answer ({reason}): start the server with  mien serve, or check address and timeout"
        )


def _parsed(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Server-sent events as (event, data, id)."""
    fields: dict[str, str] = {}
    for line in lines:
        if not line:
            if "data" in fields:
                yield fields.get("event", ""), json.loads(fields["data"]), fields.get("id", "")
            fields = {}
        elif not line.startswith(":"):
            key, _, value = line.partition(":")
            fields[key] = value.removeprefix(" ")


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """The JSON of a refusal; of a proxy's, which has none, what is known."""
    try:
        body = answer.json()
    except ValueError:
        body = None
    if isinstance(body, dict) and {"error", "message"} <= body.keys():
        return body
    return {"error": "unknown", "message": f"status {answer.status_code}: is this the address of mien serve?"}


def _error(status: int, problem: Mapping[str, Any], name: str) -> MienError:
    """The error of a refusal, of the class that the package itself raises."""
    from mien.editing.results import EditRefused
    from mien.editing.signing import ProvenanceError
    from mien.io.images import TooCostly, describe
    from mien.io.video import VideoError

    classes: dict[str, type[MienError]] = {
        "not_a_picture": NotAPicture,
        "damaged_picture": ImageError,
        "no_picture": ImageError,
        "too_many_bytes": TooLarge,
        "too_many_pixels": TooLarge,
        "too_costly": TooCostly,
        "no_face": NoFace,
        "edit_refused": EditRefused,
        "wrong_value": ConfigError,
        "wrong_form": ConfigError,
        "no_provenance": ProvenanceError,
        "damaged_video": VideoError,
    }
    code, message = str(problem["error"]), str(problem["message"])
    kind = classes.get(code)
    if kind is None:
        return ServerError(message, status, code)
    second = message.startswith(("baseline", "teeth_from"))
    named = issubclass(kind, ImageError | VideoError | NoFace) and name and not second
    return kind(f"{describe(name)}: {message}" if named else message)


def _renamed(analysis: Analysis, sent: str, name: str) -> Analysis:
    """An analysis under the picture's own name, in place of that under which it was sent."""
    from mien.io.images import describe

    error = analysis.error
    if error is not None:
        error = f"{describe(name)}: {error.removeprefix(f'{sent}: ')}"
    return replace(analysis, source=name, error=error)


def _base(name: str) -> str:
    """The file name that is sent, which says nothing of folders."""
    return Path(name).name or "file"


def _sendable(picture: Picture) -> tuple[str, bytes]:
    """The name of a picture in its analysis, and the bytes of its file.

    Raises:
        ImageError: it cannot be read.
    """
    from mien.faces.pipeline import name_of
    from mien.io import images

    name = name_of(picture)
    if images.is_pixels(picture):
        return name, images.encode(Path("picture.png"), images.check(picture))
    if isinstance(picture, bytes | bytearray | memoryview):
        return name, bytes(picture)
    if isinstance(picture, str | os.PathLike):
        try:
            return name, Path(os.fsdecode(picture)).read_bytes()
        except OSError:
            images.read(picture)  # names the reason and the remedy
            raise
    return name, cast("BytesIO", picture).read()


def _second(field: str, picture: Picture | None) -> list[tuple[str, tuple[str, bytes]]]:
    """The field of a form with a second picture, if there is one."""
    if picture is None:
        return []
    name, data = _sendable(picture)
    return [(field, (_base(name), data))]


def _parts(
    pictures: Sequence[Picture], most: int, size: int
) -> Iterator[list[tuple[str, bytes | MienError]]]:
    """The pictures in parts of at most `most` and, if there are several, `size` bytes; or the error of one."""
    from mien.faces.pipeline import name_of

    part: list[tuple[str, bytes | MienError]] = []
    taken = 0
    for picture in pictures:
        try:
            name, data = _sendable(picture)
        except MienError as problem:
            part.append((name_of(picture), problem))
            continue
        if part and (len(part) >= most or taken + len(data) > size):
            yield part
            part, taken = [], 0
        part.append((name, data))
        taken += len(data)
    if part:
        yield part
