"""`mien licences`: the terms of the code, the weights and the data."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer


def licences(as_json: bool = typer.Option(False, "--json", help="Print everything as JSON.")) -> None:
    """List the licences of the packages that are installed for mien, of what it ships, and of the datasets it reads."""
    from mien.release.licences import report

    found = report()
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False, indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    packages = Table("package", "version", "licence", "for", title="Packages", title_justify="left")
    for one in found.packages:
        packages.add_row(one.name, one.version, one.licence, ", ".join(one.wanted_by))
    weights = Table(
        "file", "what", "terms", title="Inside this package", title_justify="left", show_lines=True
    )
    for held in found.shipped:
        weights.add_row(held.file, held.what, held.terms)
    data = Table("reader", "terms", title="Datasets; the owner's own text counts", title_justify="left")
    for reader, terms in found.datasets.items():
        data.add_row(reader, terms)
    console = Console(highlight=False, markup=False)
    for part in (packages, weights, found.notice, data):
        console.print(part)
