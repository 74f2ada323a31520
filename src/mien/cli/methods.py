"""`mien methods`: what this installation can run, and the cards of its weights. `mien columns`: the columns of
tables."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from mien.cli import plain_text
from mien.cli.options import Layout
from mien.errors import ConfigError


def methods(
    name: Annotated[str | None, typer.Argument(help="Only these weights.")] = None,
    card: Annotated[
        bool, typer.Option("--card", help="Print whole cards: data, terms, metrics, limits.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the cards as one line of JSON each.")
    ] = False,
) -> None:
    """List the weights inside this package; with --card their purpose, data, metrics and limits."""
    import json

    from mien.io.cards import shipped

    cards = shipped()
    if name is not None:
        from mien.errors import nearest

        known = [one.name for one in cards]
        cards = [one for one in cards if name in (one.name, one.path.stem)]
        if not cards:
            raise ConfigError(f"no weights '{name}': {nearest(name, known)}")
    if as_json:
        for one in cards:
            typer.echo(json.dumps(one.fields, ensure_ascii=False))
    elif card:
        typer.echo("\n\n".join(one.text() for one in cards))
    else:
        typer.echo(plain_text.listed([(one.name, one.task) for one in cards]))
        if name is None:
            _tell_methods()


def _tell_methods() -> None:
    """Print the methods of `mien train`."""
    from importlib.util import find_spec

    typer.echo("\nmethods that `mien train` can train:")
    if find_spec("torch") is None:
        typer.echo("  install them with  pip install 'mien[train]'")
        return
    from mien.methods import METHODS

    rows = [(f"  {name}", (kind.__doc__ or "").strip().splitlines()[0]) for name, kind in METHODS.items()]
    typer.echo(plain_text.listed(rows))


def columns(
    scheme: Annotated[Layout, typer.Argument(help="The program with these column names.")] = "mien",
    video: Annotated[
        bool, typer.Option("--video", help="Also the columns that only tables of videos have.")
    ] = False,
) -> None:
    """Explain every column of a table: its meaning, unit and range."""
    from mien.io import tables

    rows = [
        (
            column.name,
            f"{column.meaning} ({', '.join(filter(None, [column.kind.__name__, column.unit, column.range]))})",
        )
        for column in tables.columns(scheme, video)
    ]
    typer.echo(plain_text.listed(rows))
    if scheme == "mien":
        typer.echo(plain_text.hanging(_CHANGES, 0, "\n"))
    typer.echo(plain_text.hanging(_RECORD, 0, "\n"))


_CHANGES: Final = (
    "With --baseline there are also a column 'baseline' and, behind the names of probabilities, valence, arousal, "
    "actions and units, columns ending in '_change': the change from the person's neutral face."
)
_RECORD: Final = (
    "How a table was made (version, weights by their hash, detector, options, content of the pictures) is not in "
    "columns: it is in the metadata of a .parquet file (key 'mien'), and beside .csv and .jsonl in NAME.mien.json."
)
