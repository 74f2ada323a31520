"""`mien edit` and `mien verify`: change the expression shown in a photo, and check a file's record of such a change.

Exit code 0: everything was written. 1: of several pictures some were refused or failed, one line each on standard
error. 2: the command itself was wrong, or the one picture was refused.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, replace
from functools import reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from mien.cli import options
from mien.cli.terminal import interruptible, tell, tell_end, tell_links
from mien.errors import ConfigError, NoFace
from mien.wording import fixed, several

if TYPE_CHECKING:
    from mien.editing.edit_files import EditJob, EditSettings, FileOutcome
    from mien.editing.editor import Editor
    from mien.editing.provenance import Verification
    from mien.editing.results import Edit, FaceEdit
    from mien.editing.signing import Signer
    from mien.editing.target import Target
    from mien.types import Reading


def edit(
    paths: Annotated[
        list[str], typer.Argument(metavar="PHOTO...", help="Photos, folders of photos, or one video.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Write the edited picture here; for several photos a folder.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(help="An expression, neutral, or a blend: happiness:0.5,surprise:0.5")
    ] = None,
    valence: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Instead of --to: apparent valence, with --arousal."),
    ] = None,
    arousal: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Instead of --to: apparent arousal, with --valence."),
    ] = None,
    au: Annotated[
        str | None,
        typer.Option(
            metavar="ACTIONS", help="Facial actions to set, alone or with --to: smile=0.6,browInnerUp=0.4"
        ),
    ] = None,
    gaze: Annotated[
        str | None,
        typer.Option(
            metavar="ACROSS,UP",
            help="Turn the eyes, alone or with the others: -1 to 1 each, 1 is 15 degrees.",
        ),
    ] = None,
    like: Annotated[
        Path | None, typer.Option(help="Set the facial actions of the largest face in this photo.")
    ] = None,
    teeth_from: Annotated[
        Path | None, typer.Option(help="Take the person's own teeth from this photo, where lips part.")
    ] = None,
    intensity: Annotated[
        float, typer.Option(min=0, max=1.25, help="0 to 1.25; 1 is a full expression.")
    ] = 1.0,
    relative: Annotated[
        bool, typer.Option("--relative", help="Add to the current expression instead of replacing it.")
    ] = False,
    face: Annotated[str, typer.Option(help="Number of the face, 0 is the largest; or all.")] = "0",
    mouth: Annotated[
        Literal["auto", "keep", "open", "close"],
        typer.Option(help="How to set the lips: auto, keep, close or open."),
    ] = "auto",
    grid: Annotated[
        Literal["expressions", "affect"] | None,
        typer.Option(help="Write a sheet of many edits to --out."),
    ] = None,
    animate: Annotated[Path | None, typer.Option(help="Also write the change as a .gif or .mp4.")] = None,
    smooth: Annotated[
        bool,
        typer.Option("--smooth/--no-smooth", help="For a video: smooth the face's points in time."),
    ] = True,
    sound: Annotated[bool, typer.Option("--sound/--no-sound", help="For a video: copy its sound.")] = True,
    label: Annotated[
        Literal["text", "icon"] | None,
        typer.Option(help="Draw a visible notice: text (also --label alone), or icon: AI with 'modified'."),
    ] = None,
    provenance: Annotated[
        bool,
        typer.Option(
            "--provenance/--no-provenance", help="Record in the file that it was edited (C2PA, XMP)."
        ),
    ] = True,
    mark: Annotated[
        bool,
        typer.Option("--mark/--no-mark", help="Put an invisible mark into the pixels of the whole picture."),
    ] = True,
    certificate: Annotated[
        Path | None, typer.Option(help="Sign with this certificate chain (PEM, ES256), with --key.")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The private key of --certificate (PEM).")] = None,
    i_have_consent: Annotated[
        bool,
        typer.Option(
            "--i-have-consent",
            help="The people shown have agreed; required for several photos, and recorded.",
        ),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Edit even if the quality will be poor.")] = False,
    quality: Annotated[int, typer.Option(min=1, max=100, help="Quality of JPEG and WebP files.")] = 95,
    detector: options.Detector = "auto",
    model: options.DetectorModel = None,
    weights: options.Weights = None,
    prior: options.Prior = None,
    adapt: options.Adapt = None,
    min_face: options.MinFace = None,
    min_confidence: options.MinConfidence = None,
    tiled: options.Tiled = False,
    threads: options.Threads = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the results as JSON, one line per photo.")
    ] = False,
) -> None:
    """Change the expression that a face shows in a photo or video, and record that in the file.

    Edit pictures of yourself or of people who agreed. The result shows an expression; it is not evidence of a feeling.
    """
    begun = time.monotonic()
    target = _target(to, valence, arousal, grid, au, like, gaze)
    options.check_resume(resume, overwrite)
    from mien.editing import edit_files
    from mien.editing.editor import Editor

    request = edit_files.EditSettings(
        target=target,
        intensity=intensity,
        face=_face(face),
        mouth=mouth,
        relative=relative,
        force=force,
        grid=grid,
        label=label,
        quality=quality,
        smooth=smooth,
        sound=sound,
        provenance=provenance,
        mark=mark,
        signer=_signer(certificate, key),
        consent=i_have_consent,
    )
    linked: list[Path] = []
    job = edit_files.resolve(paths, out, animate, request, overwrite=overwrite, note=linked.append)
    tell_links(linked)
    finding = options.pipeline_options(
        detector, model, weights, min_face, min_confidence, tiled, prior, adapt
    )
    editor = Editor.load(**finding, threads=threads)
    editor, request = _with_other_photos(editor, request, like, teeth_from)
    if job.several:
        outcomes = edit_files.edit_folder(
            editor, job, request, request.settings(finding), resume=resume, overwrite=overwrite
        )
        with interruptible(f": continue with  --resume --out {out}"), closing(outcomes):
            _report_all(outcomes, out, as_json)
    else:
        _report_one(edit_files.edit_one(editor, job, request, overwrite), job, begun, as_json)


def _target(
    to: str | None,
    valence: float | None,
    arousal: float | None,
    grid: str | None,
    au: str | None,
    like: Path | None,
    gaze: str | None,
) -> Target:
    """The target of the options; the actions of --like are added when the photo is read."""
    from mien.editing.target import Target

    affect = valence is not None or arousal is not None
    moved = au is not None or like is not None or gaze is not None
    if to is not None and not to.strip():
        raise ConfigError("--to is empty: name an expression, neutral, or a blend")
    if (to is not None and affect) or (to is None and not affect and grid is None and not moved):
        raise ConfigError(
            "choose an expression with --to, or --valence and --arousal, or facial actions with --au or --like, "
            "or a direction of the eyes with --gaze"
        )
    if grid is not None and moved:
        raise ConfigError("--grid is a sheet of expressions: leave out --au, --like and --gaze")
    wanted = []
    if affect:
        wanted.append(Target.of_affect(valence or 0.0, arousal or 0.0))
    elif to is not None or not moved:
        wanted.append(Target.parse(to or "neutral"))
    if au is not None:
        wanted.append(Target.parse_actions(au))
    if gaze is not None:
        wanted.append(Target.parse_gaze(gaze))
    return reduce(and_, wanted) if wanted else Target({}, "")


def _with_other_photos(
    editor: Editor, request: EditSettings, like: Path | None, teeth_from: Path | None
) -> tuple[Editor, EditSettings]:
    """The editor and the request with what they take from other photos: facial actions and teeth."""
    from mien.editing.edit_files import with_own_teeth

    request = replace(request, target=_liked(editor, like, request.target))
    return (editor, request) if teeth_from is None else with_own_teeth(editor, request, teeth_from)


def _liked(editor: Editor, like: Path | None, target: Target) -> Target:
    """The actions of the largest face of a photo, if there is one, and the rest of the target, which comes first."""
    from mien.editing.target import Target

    if like is None:
        return target
    analysis = editor.pipeline(like)
    if not analysis.faces:
        raise NoFace(f"{like}: no face found: choose a photo with a clear view of the face to follow")
    measured = Target.of_face(analysis.faces[0].reading, like.name)
    return measured & target if target.text else measured


def _face(face: str) -> int | Literal["all"]:
    if face == "all":
        return "all"
    if not face.isdigit():
        raise ConfigError(f"--face {face}: pass a number, 0 is the largest face, or all")
    return int(face)


def _signer(certificate: Path | None, key: Path | None) -> Signer | None:
    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise ConfigError("--certificate and --key belong together: pass both")
    from mien.editing.signing import Signer

    return Signer.of_files(certificate, key)


def _report_all(outcomes: Iterable[FileOutcome], out: Path | None, as_json: bool) -> None:
    """Print the outcome for each of several photos, and counts at the end; exit with 1 if one failed."""
    begun, edited, failed, before = time.monotonic(), 0, 0, 0
    for outcome in outcomes:
        if outcome.problem is not None:
            failed += 1
            tell(f"mien: {outcome.problem}")
        elif outcome.edit is None:
            before += 1
        else:
            edited += 1
            _report(outcome.edit, Path(outcome.photo), outcome.out, as_json)
            if not as_json:
                typer.echo(f"wrote {outcome.out}")
    words = [several(edited, "photo") + " edited"]
    words += [f"{failed:,} not edited"] if failed else []
    words += [f"{before:,} done before"] if before else []
    tell_end(", ".join(words), begun, out, err=as_json)
    if failed:
        raise typer.Exit(1)


def _report_one(done: Edit, job: EditJob, begun: float, as_json: bool) -> None:
    """Print what was done to one photo or video, and where the results are."""
    _report(done, job.photos[0], job.out or job.animate, as_json)
    places = " and ".join(str(path) for path in (job.out, job.animate) if path is not None)
    tell_end(f"{several(len(done.faces), 'face')} edited", begun, places, err=as_json)


def _report(done: Edit, photo: Path, out: Path | None, as_json: bool) -> None:
    if as_json:
        faces = [asdict(face) for face in done.faces]
        typer.echo(json.dumps({"source": str(photo), "out": str(out), "target": done.target, "faces": faces}))
        return
    for face in done.faces:
        parts = [f"face {face.face}: {done.target} at {fixed(face.applied)}"]
        if face.before is not None and face.after is not None:
            asked = [name for name in face.asked if name in face.after.probabilities]
            asked = asked if asked or face.asked else ["neutral"]
            parts.append(f"read before as {_read(face.before, asked)}, after as {_read(face.after, asked)}")
            parts += _moved(face)
            if asked and face.after.expression not in asked:
                parts.append(f"that is not yet {' or '.join(asked)}: {_more(face.intensity)}")
        elif face.before is not None:
            parts.append("no face is found there afterwards")
        typer.echo("; ".join([*parts, *face.flags]))


def _moved(face: FaceEdit) -> list[str]:
    """The requested facial actions, as read before and after, those that were to move most first."""
    before, after = (reading.actions if reading else {} for reading in (face.before, face.after))
    known = [
        (name, start, end)
        for name in face.asked
        if (start := before.get(name)) is not None and (end := after.get(name)) is not None
    ]
    known.sort(key=lambda entry: -abs(face.asked[entry[0]] - entry[1]))
    told = [f"{name} {fixed(start)} to {fixed(end)}" for name, start, end in known[:_NAMED]]
    more = [f"and {several(len(known) - _NAMED, 'action')} more"] if len(known) > _NAMED else []
    return [", ".join([*told, *more])] if told else []


_NAMED: Final = 6
"""Facial actions that a line names."""


def _read(reading: Reading, asked: list[str]) -> str:
    """The most probable label, and the probabilities of the requested expressions."""
    names = dict.fromkeys([reading.expression, *asked])
    return " and ".join(f"{name} {fixed(reading.probabilities[name])}" for name in names)


def _more(intensity: float) -> str:
    from mien.editing.target import MAX_INTENSITY

    if intensity < 1:
        return f"asked at {intensity:g}, full is --intensity 1"
    if intensity < MAX_INTENSITY:
        return f"--intensity goes up to {MAX_INTENSITY:g}"
    return "more is not possible on this face"


def verify(
    path: Annotated[Path, typer.Argument(help="A picture, GIF or MP4.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Read a file's record of how it was edited, check that it is valid, and look for the invisible mark.

    Nothing is fetched. Exit code 0: its provenance is valid, and so was that of the files it was made from. 1: it has
    none, only a reference to a remote one, or it is not valid; a mark alone does not change that. 2: it cannot be read.
    """
    from mien.editing import provenance

    verdict = provenance.verify(path)
    if as_json:
        typer.echo(json.dumps(asdict(verdict), ensure_ascii=False))
    else:
        for line in [*_credentials(verdict), *_edits(verdict), _pixels(verdict)]:
            typer.echo(line)
    if not verdict.holds:
        raise typer.Exit(1)


def _credentials(verdict: Verification) -> list[str]:
    """The content of the signed manifest, if there is one."""
    if not verdict.manifest:
        elsewhere = verdict.elsewhere and f"names a manifest elsewhere, not fetched: {verdict.elsewhere}"
        return [f"content credentials: {elsewhere or 'none'}"]
    state = "intact" if verdict.intact else f"BROKEN ({', '.join(verdict.problems)})"
    trust = "" if verdict.trusted else "; not on a trust list"
    lines = [f"content credentials: {state}; signed by {verdict.signer}{trust}"]
    if verdict.history:
        problems = ", ".join(verdict.history)
        lines.append(
            f"an original had been changed after it was signed, or its credentials were broken: {problems}"
        )
    if verdict.unread:
        lines.append("an original names a manifest elsewhere, not fetched")
    return lines


def _edits(verdict: Verification) -> list[str]:
    """The record of the edit in the file and in the JSON beside it."""
    lines = [
        f"XMP digital source type: {verdict.source_type.rsplit('/', 1)[-1] or 'none'}",
        f"JSON beside the file: {verdict.sidecar}",
    ]
    if verdict.edited:
        facts = verdict.facts
        lines.append(f"edited by {facts.get('tool')}: expression changed; asked for: {facts.get('target')}")
        lines += [
            "; ".join([f"  face {face.get('face')}: intensity {face.get('applied')}", *face.get("flags", [])])
            for face in facts.get("faces", [])
        ]
    return lines


def _pixels(verdict: Verification) -> str:
    """What the pixels say."""
    if verdict.mark is not None:
        return f"invisible mark: found, {verdict.mark.describe()}"
    if verdict.mark_score is None:
        return "invisible mark: not looked for, as this is not a picture"
    return "invisible mark: none found; this does not show that the picture is unedited"
