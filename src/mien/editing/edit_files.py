"""Edit photo files and videos: the request, the files that a command refers to, and the writing of results.

Several photos are written into a folder, one file each; a failure affects only its own photo, and an interrupted run
can be resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mien.editing import grids, provenance
from mien.editing.edit_video import SUFFIXES, edit_video
from mien.editing.label import Label, visible_label
from mien.editing.photo import WRITABLE, Photo, open_photo
from mien.editing.results import Edit
from mien.editing.target import Mouth, Target
from mien.errors import ConfigError, ImageError, MienError
from mien.faces.parallel import made_with
from mien.io import inputs, outputs
from mien.io.images import describe
from mien.io.outputs import SIDECAR, Outputs, Settings
from mien.wording import several

if TYPE_CHECKING:
    from mien.editing.editor import Editor
    from mien.editing.signing import Signer


@dataclass(frozen=True, kw_only=True)
class EditSettings:
    """The edit of every photo or video of one command, and what is recorded in its file.

    Attributes:
        target: the requested expression.
        teeth_from: hash of the photo that the editor's teeth are taken from, or "".
        intensity: 0 to 1.25; 1 is a full expression.
        face, mouth, relative, force: as of `mien.editing.editor.Editor`.
        grid: write a sheet of many edits instead: expressions by strengths, or the valence/arousal plane.
        label: draw a visible notice into the picture: text, or the icon "AI" with the word "modified".
        quality: quality of JPEG and WebP files, 1 to 100.
        smooth: for a video: smooth the face's points in time.
        sound: for a video: copy its sound.
        provenance, mark, signer, consent: as of `mien.editing.provenance.write_edit`.
    """

    target: Target
    teeth_from: str = ""
    intensity: float = 1.0
    face: int | Literal["all"] = 0
    mouth: Mouth = "auto"
    relative: bool = False
    force: bool = False
    grid: Literal["expressions", "affect"] | None = None
    label: Label | None = None
    quality: int = 95
    smooth: bool = True
    sound: bool = True
    provenance: bool = True
    mark: bool = True
    signer: Signer | None = None
    consent: bool = False

    @property
    def _options(self) -> dict[str, Any]:
        """Those of `Editor.apply`."""
        return {"face": self.face, "mouth": self.mouth, "relative": self.relative, "force": self.force}

    @property
    def _marking(self) -> dict[str, Any]:
        """Options of `provenance.write_file`."""
        return {"provenance": self.provenance, "signer": self.signer, "consent": self.consent}

    def settings(self, options: Settings) -> Settings:
        """Everything that determines the edited pixels, with `options` of the pipeline; compared by `edit_folder`."""
        names = ("intensity", "mouth", "relative", "grid", "label", "quality", "provenance", "mark")
        asked = {name: getattr(self, name) for name in names}
        asked |= {"target": str(self.target), "face": str(self.face)}
        if self.teeth_from:
            asked["teeth_from"] = self.teeth_from
        if self.target.actions:  # the words may name a photo, which says nothing of its content
            asked["target_actions"] = self.target.actions
        return {**made_with(options), "editor": provenance.weights_digest(), **asked}


@dataclass(frozen=True)
class EditJob:
    """The files of one command: several `photos` and the folder `out`, or one photo or a `video` and its results."""

    photos: Sequence[Path]
    video: Path | None
    out: Path | None
    animate: Path | None
    several: bool


def with_own_teeth(editor: Editor, request: EditSettings, path: Path) -> tuple[Editor, EditSettings]:
    """The editor with the teeth that a photo shows, and the request that records that photo; it is read once.

    Raises:
        ImageError, NoFace, EditRefused: as of `Editor.with_teeth_of`.
    """
    photo = open_photo(path, editor.pipeline.max_pixels)
    digest = hashlib.sha256(photo.data).hexdigest()
    return editor.with_teeth_of(photo), replace(request, teeth_from=digest)


def resolve(
    paths: Sequence[str],
    out: Path | None,
    animate: Path | None,
    request: EditSettings,
    *,
    overwrite: bool = False,
    note: Callable[[Path], None] | None = None,
) -> EditJob:
    """Resolve the files of a command, and refuse what cannot be written before anything is loaded.

    Args:
        paths: photos, folders of photos, or one video, as typed.
        out: the result; for several photos a folder.
        animate: also write the change here as a .gif or .mp4.
        request: the edit.
        overwrite: earlier results may be replaced.
        note: called with each link to a folder that was not followed.

    Raises:
        ConfigError: paths and options do not go together, or consent is missing.
        OutputExists: a result is there, or would replace an original.
        ImageError: a video's result is to be written in another format than .mp4, or an input cannot be read.
    """
    if out is None and animate is None:
        raise ConfigError("nothing to write: name the result with --out (or --animate)")
    if "-" in paths:
        raise ConfigError("- (standard input) cannot be edited: name a file")
    if out is not None and animate is not None and out.resolve() == animate.resolve():
        raise ConfigError("--out and --animate are the same file: name different ones")
    video = _video(paths, out, animate, request, overwrite)
    leave_out = outputs.written_in(out) if out is not None else set()
    photos = [Path(str(path)) for path in inputs.gather(paths, None, leave_out, note)]
    for photo in photos:
        if photo.is_dir():
            raise ImageError(f"{describe(photo)}: is a folder without a picture in it: name photos")
    if len(photos) > 1 or any(Path(path).is_dir() for path in paths):
        if not request.consent:
            raise ConfigError(
                f"{several(len(photos), 'photo')}: pass --i-have-consent if the people shown agreed to be edited"
            )
        if animate is not None or out is None:
            raise ConfigError("--animate takes one photo, and several photos need --out, a folder")
        return EditJob(photos, None, out, None, True)
    if out is not None and out.is_dir():  # as cp does
        out /= edited_name(photos[0].name)
    for destination in (out, animate):
        if destination is not None:
            provenance.free(destination, overwrite, photos)
    return EditJob(photos, video, out, animate, False)


def _video(
    paths: Sequence[str], out: Path | None, animate: Path | None, request: EditSettings, overwrite: bool
) -> Path | None:
    """The video if there is one among the paths, else None."""
    videos = [Path(path) for path in paths if Path(path).suffix.lower() in SUFFIXES]
    if not videos:
        return None
    alone = len(paths) == 1 and animate is None and request.grid is None and request.face != "all"
    if out is None or not alone:
        raise ConfigError(
            "a video is edited alone, one face at a time: name one video and --out, without --grid and --animate"
        )
    if out.suffix.lower() != ".mp4":
        raise ImageError(f"{out}: an edited video is written as .mp4, which can record that it was edited")
    room = videos[0].stat().st_size / 4 if videos[0].is_file() else 0
    outputs.check(out, overwrite=overwrite, reads=videos, room=max(room, 1_000_000))
    return videos[0]


def edited_name(name: str) -> str:
    """The name of a photo's edit: its own name if that format can be written, else with .png appended."""
    return name if Path(name).suffix.lower() in WRITABLE else name + ".png"


def edit_one(editor: Editor, job: EditJob, request: EditSettings, overwrite: bool = False) -> Edit:
    """Edit the photo or video of a job and write the results.

    Raises:
        NoFace, EditRefused: there is no face, or its edit would not be credible.
        MienError: a file cannot be read or written.
    """
    if job.video is None:
        return edit_photo(editor, job.photos[0], request, job.out, job.animate, overwrite)
    assert job.out is not None  # `resolve` saw to it
    data, clipped = edit_video(
        editor,
        job.video,
        job.out,
        request.target,
        request.intensity,
        face=0 if request.face == "all" else request.face,
        mouth=request.mouth,
        relative=request.relative,
        smoothed=request.smooth,
        label=request.label,
        sound=request.sound,
    )
    provenance.write_file(data, job.out, clipped.edit, overwrite=overwrite, **request._marking)
    return clipped.edit


def edit_photo(
    editor: Editor,
    path: Path,
    request: EditSettings,
    out: Path | None,
    animate: Path | None = None,
    overwrite: bool = False,
) -> Edit:
    """Edit one photo; write the result to `out` and an animation of the change to `animate`, where given.

    Raises:
        NoFace, EditRefused: there is no face, or its edit would not be credible.
        MienError: a file cannot be read or written.
    """
    photo = open_photo(path)
    located = editor.locate(photo)
    if request.grid is not None:
        plane = request.grid == "affect"
        sheet, done = grids.grid(editor, photo, located, plane=plane, **request._options)
        words = "a sheet of valence and arousal" if plane else "a sheet of expressions and strengths"
        done = replace(done, photo=Photo(sheet), target=words)
    else:
        done = editor.apply(photo, located, request.target, request.intensity, **request._options)
    if request.label:
        done = replace(done, photo=_labelled(done.photo, request.label))
    if out is not None:
        provenance.write_edit(
            done,
            out,
            mark=request.mark,
            kind="photo" if request.grid is None else "sheet",
            quality=request.quality,
            overwrite=overwrite,
            **request._marking,
        )
    if animate is not None:
        frames, full = grids.ramp(
            editor, photo, located, request.target, request.intensity, **request._options
        )
        if request.label:
            frames = [visible_label(frame, request.label) for frame in frames]
        data = grids.animation(frames, animate.suffix)
        provenance.write_file(data, animate, full, overwrite=overwrite, **request._marking)
    return done


def _labelled(photo: Photo, label: Label) -> Photo:
    """The photo with the visible notice, colour and alpha with 8 bits."""
    shown = replace(photo, colour=visible_label(photo.rgb, label))
    if photo.alpha is not None and photo.colour.dtype != shown.colour.dtype:
        shown = replace(shown, alpha=(photo.alpha >> 8).astype("uint8"))
    return shown


@dataclass(frozen=True)
class FileOutcome:
    """The outcome for one of several photos: an `edit` in the file `out`, a `problem`, or neither if done before."""

    photo: str
    edit: Edit | None = None
    out: Path | None = None
    problem: MienError | OSError | None = None


def edit_folder(
    editor: Editor,
    job: EditJob,
    request: EditSettings,
    settings: Settings,
    *,
    resume: bool = False,
    overwrite: bool = False,
) -> Generator[FileOutcome]:
    """Edit several photos into the folder `job.out`; yields one outcome per photo, in order.

    Args:
        editor: the editor.
        job: the photos.
        request: the edit.
        settings: `request.settings`; a folder with results of other settings is refused.
        resume: keep results of earlier runs that are still valid.
        overwrite: replace results of earlier runs.

    Raises:
        OutputExists: a result is there, or would replace an original.
        ConfigError: the folder cannot be written, or was begun with other settings.
        FileLocked: another process writes there.
    """
    assert job.out is not None  # `resolve` saw to it
    photos = [str(photo) for photo in job.photos]
    results = Outputs(
        job.out, photos, edited_name, settings, overwrite=overwrite, resume=resume, beside=[SIDECAR]
    )
    claim = results.lock()
    try:
        for photo in photos:
            done_before = resume and results.is_done(photo)
            yield FileOutcome(photo) if done_before else _outcome(editor, photo, request, results)
    finally:
        claim.release()


def _outcome(editor: Editor, photo: str, request: EditSettings, results: Outputs) -> FileOutcome:
    done: list[Edit] = []

    def put(path: Path) -> None:
        done.append(edit_photo(editor, Path(photo), request, path, overwrite=True))

    try:
        return FileOutcome(photo, out=results.write(photo, b"", put), edit=done[0])
    except (MienError, OSError) as problem:
        return FileOutcome(photo, problem=problem)
