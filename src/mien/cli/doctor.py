"""`mien doctor`: what is installed, what is missing and what would add it, and the fastest number of threads.

Exit code 0: pictures can be analysed. 1: weights are damaged, or the example cannot be analysed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli.plain_text import hanging, listed

if TYPE_CHECKING:
    from mien.reports.installation import Extra, Installation, Speed


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one line of JSON.")] = False,
) -> None:
    """Check this installation: versions, extras, weights, places, terminal, speed.

    Takes some seconds, because the fastest number of threads is measured. Nothing leaves this machine, and nothing is
    written. Exit code 1 if pictures cannot be analysed.
    """
    import json

    from mien.reports import installation

    found = installation.examine()
    if as_json:
        typer.echo(json.dumps(found.to_dict(), ensure_ascii=False))
    else:
        typer.echo("\n\n".join(_sections(found)))
    if found.problems:
        raise typer.Exit(1)


def _sections(found: Installation) -> list[str]:
    names = {name: number or "not installed" for name, number in found.versions.items()}
    sections = [
        _section("Versions", names),
        _section(
            "System", found.system | {"detector": f"{found.detector} (--detector auto)", "video": found.video}
        ),
        "\n".join(["Extras", *map(_extra, found.extras)]),
        _weights(found),
        _section("Places", found.places),
        _section("Terminal", found.terminal),
        hanging(f"Speed: {_speed(found.speed)}"),
    ]
    problems = [hanging(problem, first="  ") for problem in found.problems]
    return [*sections, "\n".join(["Problems", *problems]) if problems else "Pictures can be analysed."]


def _section(heading: str, values: dict[str, str]) -> str:
    return f"{heading}\n{listed([(f'  {name}', value) for name, value in values.items()])}"


def _extra(extra: Extra) -> str:
    if not extra.missing:
        return hanging(extra.serves, 19, f"  {extra.name:<9} ok     ")
    away = ", ".join(extra.missing)
    return "\n".join(
        [
            hanging(f"{extra.serves} (not installed: {away})", 19, f"  {extra.name:<9} not    "),
            f"{'':19}{extra.remedy}",
        ]
    )


def _weights(found: Installation) -> str:
    right = sum(not check.problem for check in found.weights)
    head = f"Weights: {right} of {len(found.weights)} files have the hash on their card"
    return "\n".join([head, *(f"  {check.file}: damaged" for check in found.weights if check.problem)])


def _speed(speed: Speed) -> str:
    if not speed.rates:
        return "not measured"
    rates = ", ".join(f"{threads}: {rate:.1f}" for threads, rate in speed.rates.items())
    other = max(speed.rates) if speed.fastest == 1 else 1
    ratio = speed.rates[speed.fastest] / speed.rates[other]
    than = f", {ratio:.2f} times --threads {other}" if len(speed.rates) > 1 else ""
    return f"--threads {speed.fastest} is fastest{than} (pictures/s {rates})"
