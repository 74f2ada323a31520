"""`mien licences`: the terms of the weights, pictures and data."""

from __future__ import annotations

from typing import Annotated, Final

import typer

NOTICE: Final = (
    "The weights are offered under Apache-2.0, but they were trained on pixels of FER2013, web photographs that were "
    "given for research, and the recogniser started from a network trained on MS-Celeb-1M. Whether such weights may be "
    "used commercially is not settled: WEIGHTS-TERMS.md, among this package's licence files, says more."
)
"""Important remarks on licences beyond the terms in the cards."""

PACKAGES: Final = (
    "The code is under Apache-2.0. For the licences of the packages it depends on:  pip install cyclonedx-bom && "
    "cyclonedx-py environment"
)


def licences(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """List the terms of the weights, pictures and data in this package, and of the datasets that it reads."""
    from mien.data.readers import READERS
    from mien.io import cards

    shipped, datasets = cards.terms(), {name: reader.terms for name, reader in READERS.items()}
    if as_json:
        import json
        from dataclasses import asdict

        held = [asdict(terms) for terms in shipped]
        typer.echo(
            json.dumps(
                {"shipped": held, "datasets": datasets, "notice": NOTICE}, ensure_ascii=False, indent=1
            )
        )
        return
    from rich.console import Console
    from rich.table import Table

    weights = Table(
        "file", "what", "terms", title="Inside this package", title_justify="left", show_lines=True
    )
    for terms in shipped:
        weights.add_row(terms.file, terms.what, terms.terms)
    data = Table("reader", "terms", title="Datasets; the owner's own text is binding", title_justify="left")
    for item in datasets.items():
        data.add_row(*item)
    console = Console(highlight=False, markup=False)
    for part in (weights, NOTICE, data, PACKAGES):
        console.print(part)
