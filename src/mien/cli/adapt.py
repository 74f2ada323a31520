"""`mien adapt`: fit a correction of the recogniser to a few labelled pictures."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli import options, plain_text
from mien.cli.terminal import counted, tell, tell_end
from mien.wording import several, signed

if TYPE_CHECKING:
    from mien.faces.adapt import FittedCorrection, Labelled


def adapt(
    pictures: Annotated[
        Path, typer.Argument(help="A folder of class folders, or a table with path, expression and subject.")
    ],
    out: Annotated[Path, typer.Option(help="Write the correction here, for  mien predict --adapt FILE.")],
    detector: options.Detector = "auto",
    model: options.DetectorModel = None,
    weights: options.Weights = None,
    min_face: options.MinFace = None,
    min_confidence: options.MinConfidence = None,
    tiled: options.Tiled = False,
    seed: Annotated[int, typer.Option(help="Seed of the cross-validation's parts.")] = 0,
    threads: options.Threads = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Fit the smallest correction of the recogniser that your labelled pictures support, and print what it gains."""
    from mien.data.labelled import examples
    from mien.faces import adapt
    from mien.faces.pipeline import load
    from mien.faces.recognise import SHIPPED
    from mien.io import cards, outputs

    begun = time.monotonic()
    outputs.check(out, overwrite=overwrite, reads=[pictures], suffixes=(".json",))
    finding = options.pipeline_options(detector, model, weights, min_face, min_confidence, tiled, "trained")
    pipeline = load(**finding, embeddings=True, actions=False, threads=threads)
    labels, given = examples(pictures, pipeline.labels)
    with counted("faces", unit="faces") as progress:
        faces = adapt.read(given, labels, pipeline, progress, lambda line: tell(f"mien: {line}"))
    with counted("cross-validation", unit="folds") as progress:
        card = cards.read(cards.weights_file(weights or SHIPPED).with_suffix(".json"))
        outcome = adapt.fit(faces, card.fields["sha256"], seed, progress)
    typer.echo(
        "\n".join(plain_text.hanging(line) if "  " not in line else line for line in _lines(faces, outcome))
    )
    if outcome.adaptation is not None:
        outcome.adaptation.save(out)
        typer.echo(f"use it with  mien predict PHOTOS --adapt {out}", err=True)
        tell_end(f"learnt from {several(len(faces.truth), 'face')}", begun, out)
    else:
        typer.echo(f"mien: no correction improves on these pictures: {out} is not written", err=True)
        raise typer.Exit(1)


_KINDS = {
    "none": "none",
    "bias": "an offset for each label",
    "scale": "an offset and a factor for each label",
    "head": "a linear head on the embedding",
}


def _lines(faces: Labelled, outcome: FittedCorrection) -> list[str]:
    """The printed lines: faces learnt from, figures before and after, and whether more pictures would help."""
    import numpy as np

    people = len(np.unique(faces.persons))
    counts = np.bincount(faces.truth, minlength=len(faces.labels))
    listed = ", ".join(f"{name} {count}" for name, count in zip(faces.labels, counts, strict=True) if count)
    lines = [
        f"{several(len(faces.truth), 'face')} of {several(people, 'person', 'people')}: {listed}",
        f"correction: {_KINDS[outcome.kind]}",
        "on people that it was not fitted to:",
        f"{'':14} before  after  difference [95 %]",
    ]
    for name, (before, after, low, high) in outcome.figures.items():
        if np.isnan(before):
            lines.append(f"{name:14}      -  {100 * after:5.1f}")
        else:
            gain, lowest, highest = (signed(100 * value, 1) for value in (after - before, low, high))
            change = f"{gain} [{lowest}, {highest}]"
            lines.append(f"{name:14}  {100 * before:5.1f}  {100 * after:5.1f}  {change}")
    lines.append(_advice(faces, outcome))
    return lines


def _advice(faces: Labelled, outcome: FittedCorrection) -> str:
    import numpy as np

    counts = np.bincount(faces.truth, minlength=len(faces.labels))
    absent = [name for name, count in zip(faces.labels, counts, strict=True) if not count]
    if absent and not faces.own:
        return f"no picture of {', '.join(absent)}: label a few of each, or they will be predicted less often"
    after = outcome.figures["accuracy"][1]
    if np.isnan(outcome.half):
        return "too few people to estimate the gain from more pictures: label at least four"
    gain = after - outcome.half
    if gain >= 0.01:
        return (
            f"with half of the people accuracy is {100 * outcome.half:.1f} %: about {len(faces.truth)} more pictures "
            f"may bring up to {100 * gain:.0f} more points"
        )
    return f"with half of the people accuracy is {100 * outcome.half:.1f} %: more pictures would bring little"
