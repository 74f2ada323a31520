"""`mien data`: list the supported datasets, check one on disk, show its pictures, render a synthetic one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mien.cli import options, plain_text
from mien.cli.terminal import counted, tell_end
from mien.wording import several

if TYPE_CHECKING:
    from mien.data.checking import Diagnosis

app = typer.Typer(name="data", help="List, check and show datasets.", no_args_is_help=True)


@app.command("list")
def listing(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the datasets, what folder to pass, and protocols."""
    from mien.data import protocols
    from mien.data.readers import READERS

    known = [protocols.load(name) for name in protocols.names()]
    if as_json:
        table = {
            name: {
                "title": reader.title,
                "description": reader.description,
                "pass": reader.wants,
                "official": reader.official,
                "protocols": [protocol.name for protocol in known if protocol.dataset == name],
            }
            for name, reader in READERS.items()
        }
        typer.echo(json.dumps(table))
        return
    for name, reader in READERS.items():
        typer.echo(plain_text.hanging(f"{name}: {reader.title}, {reader.description}"))
        typer.echo(plain_text.hanging(reader.wants, 6, "    pass "))
        mine = [protocol.name for protocol in known if protocol.dataset == name]
        if mine:
            typer.echo(plain_text.hanging(", ".join(mine), 6, "    protocols: "))


@app.command()
def check(
    root: options.Root,
    reader: options.DatasetName = None,
    protocol: Annotated[str | None, typer.Option(help="Read with the options of this protocol.")] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(help="Write the table of usable pictures here; otherwise nothing is written."),
    ] = None,
    near: Annotated[
        int, typer.Option(min=0, max=64, help="Largest number of different bits, of 64, between near copies.")
    ] = 4,
    faces: Annotated[
        bool, typer.Option("--faces", help="Also detect a face in every picture (slow).")
    ] = False,
    labels: options.OwnLabels = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Check a dataset for missing or damaged files and leaks.

    Says which dataset it is, what is missing or damaged, and which pictures are in two splits. Exit code 1 if it is
    damaged.
    """
    from mien.data import checking, protocols
    from mien.data.readers.manifest import READER_KEY, made_of, write
    from mien.io import outputs

    begun = time.monotonic()
    rule = protocols.load(protocol) if protocol else None
    names = checking.labels_for(root, reader, labels)
    chosen = checking.identify(root, reader or (rule.dataset if rule else None), names)
    options = rule.options if rule else {}
    if manifest is not None:
        outputs.check(manifest, overwrite=overwrite, reads=[root])
    with counted("reading pictures") as progress:
        diagnosis, usable = checking.examine(root, chosen, near, faces, options, progress, names)
    if manifest is not None:
        source = (made_of(root) if chosen.name == "manifest" else None) or chosen.name
        write(usable, manifest, {**options, READER_KEY: source}, names)
    if as_json:
        written = None if manifest is None else str(manifest)
        typer.echo(json.dumps({**diagnosis.to_dict(), "manifest": written}))
    else:
        _print(diagnosis)
        if manifest is None:
            typer.echo(f"{several(len(usable), 'usable record')}; write them as a table with --manifest FILE")
    if manifest is not None:
        tell_end(several(len(usable), "usable record"), begun, manifest, err=as_json)
    raise typer.Exit(1 if diagnosis.grave else 0)


def _print(diagnosis: Diagnosis) -> None:
    typer.echo(f"{diagnosis.root}: {diagnosis.title}, variant '{diagnosis.variant}'")
    for split, number in diagnosis.counts.items():
        official = diagnosis.official.get(split)
        against = f" (official {official:,})" if official else ""
        classes = diagnosis.classes[split]
        parts = [f"{name} {count:,}" for name, count in classes.items() if classes.keys() != {"unlabelled"}]
        if rated := diagnosis.rated.get(split):
            parts.append(f"{rated:,} with valence and arousal")
        counts = f"{split}: {number:,}{against}: {', '.join(parts) or 'unlabelled'}"
        typer.echo(plain_text.hanging(counts, first="  "))
    for finding in diagnosis.findings:
        typer.echo(plain_text.hanging(f"{'DAMAGE' if finding.grave else 'note'}: {finding.message}"))
        for example in finding.examples:
            typer.echo(f"    {example}")
    if not diagnosis.findings:
        typer.echo("nothing to note")


@app.command()
def show(
    root: options.Root,
    out: Annotated[Path, typer.Option(help="The picture to write, .png or .jpg.")],
    reader: options.DatasetName = None,
    protocol: Annotated[
        str | None, typer.Option(help="Show the pictures that this protocol keeps, with its labels.")
    ] = None,
    split: Annotated[
        Literal["train", "valid", "test"] | None, typer.Option(help="Only train, valid or test.")
    ] = None,
    columns: Annotated[int, typer.Option(min=1, max=100, help="Pictures per class.")] = 12,
    labels: options.OwnLabels = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Write a contact sheet with some pictures of each class."""
    from mien.data import checking, protocols
    from mien.data.contact_sheet import contact_sheet
    from mien.errors import ConfigError
    from mien.io import images, outputs

    begun = time.monotonic()
    names = checking.labels_for(root, reader, labels)
    outputs.check(out, overwrite=overwrite)
    if protocol is None:
        records = checking.identify(root, reader, names)(root, partial=True, labels=names)
    else:
        rule = protocols.load(protocol)
        records = rule.apply(
            checking.identify(root, reader or rule.dataset)(root, partial=True, **rule.options)
        )
    if split is not None:
        records = [record for record in records if record.split == split]
        if not records:
            raise ConfigError(f"--split {split}: no record there: leave it out, or name another")
    images.write(out, contact_sheet(records, columns, labels=names))
    tell_end(f"sheet of {several(len(records), 'picture')}, up to {columns} per class", begun, out, err=False)


@app.command()
def render(
    head: Annotated[Path, typer.Argument(help="The head model: ICT-FaceKit packed as one .npz.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; read it with data.reader=rendered.")],
    identities: Annotated[int, typer.Option(min=3, help="Number of persons.")] = 2000,
    images: Annotated[int, typer.Option(min=2, max=100, help="Pictures per person.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pixels.")] = 0,
    size: Annotated[int, typer.Option(min=32, max=512, help="Side of the pictures, pixels.")] = 112,
    actions: Annotated[
        bool,
        typer.Option("--actions", help="Combine single movements of known size, not the eight expressions."),
    ] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Render a dataset of synthetic heads.

    It has the splits train and valid, and a test of seen and of unseen persons.
    """
    from collections import Counter

    from mien.data.readers import rendered
    from mien.io import outputs

    begun = time.monotonic()
    if not (out / rendered.BEGUN).is_file():  # else it continues
        outputs.check_folder(out, [rendered.FILE], overwrite=overwrite)
    renderer, digest = rendered.renderer(head, size, movements=actions)
    with counted("rendering") as progress:
        records = rendered.write(renderer, out, identities, images, seed, digest, progress)
    counts = Counter((record.split, record.attributes["person"]) for record in records)
    parts = ", ".join(f"{split} ({person}) {count:,}" for (split, person), count in sorted(counts.items()))
    drawn = f"{several(len(records), 'picture')} of {several(identities, 'person', 'people')}: {parts}"
    tell_end(drawn, begun, out, err=False)
