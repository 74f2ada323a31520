"""`mien ablate`: train and compare the rungs of a method's ablation ladder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mien.cli import options, plain_text
from mien.cli.terminal import tell_end
from mien.errors import ConfigError, ExtraMissing
from mien.wording import several

if TYPE_CHECKING:
    from mien.training.config import RunConfig


def ablate(
    method: Annotated[str, typer.Argument(help="A method with a ladder: ke2nt, jadfer, cclls, cal or meca.")],
    config: Annotated[
        Path | None, typer.Option(help="The full configuration; configs/METHOD-ferplus.yaml by default.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, comma-separated.")] = "0,1,2",
    rungs: Annotated[
        str, typer.Option(help="Only these rungs, comma-separated; the lowest is the reference.")
    ] = "",
    assignments: options.Assignments = None,
    by: Annotated[
        str, typer.Option(help="Also compare within groups, e.g. person: seen and unseen ones.")
    ] = "",
    out: options.ComparisonFolder = None,
    draws: options.Draws = 1000,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print the runs with a description of each, and stop.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the comparison as JSON.")] = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Train, evaluate and compare each rung of a method's ablation ladder; finished runs are kept."""
    try:
        from mien.evaluation import ablate
        from mien.training import ablation, loop
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None
    from mien.evaluation import compare
    from mien.io import outputs
    from mien.reports import comparison_report, evaluation_report

    begun = time.monotonic()
    chosen = ablation.ladder(method, options.words(rungs))
    base = _configured(method, config or Path("configs") / f"{method}-ferplus.yaml", assignments or [])
    steps = ablation.runs(base, chosen, _numbers(seeds))
    if plan:
        for rung in chosen:
            typer.echo(plain_text.hanging(rung.says, 18, f"{rung.name:<16}  "))
        for folder in map(loop.folder_of, steps):
            typer.echo(f"{folder}{'  finished' if ablate.is_finished(folder) else ''}")
        return
    if out is not None:
        outputs.check_folder(out, comparison_report.FILES, overwrite=overwrite)
    folders = []
    for number, step in enumerate(steps, start=1):
        typer.echo(f"{number}/{len(steps)}  {loop.folder_of(step)}", err=True)
        folders.append(ablate.train_and_judge(step, by, evaluation_report.write))
    comparison = compare.compare([compare.load(folder) for folder in folders], draws=draws, by=by)
    where = comparison_report.write(comparison, out) if out is not None else folders[0].parent
    typer.echo(
        comparison.to_json() if as_json else plain_text.of_markdown(comparison_report.markdown(comparison))
    )
    tell_end(several(len(folders), "run"), begun, where)


def _configured(method: str, config: Path, assignments: list[str]) -> RunConfig:
    from mien.training.config import load_config

    base = load_config(config, assignments)
    if base.method.get("name") != method:
        raise ConfigError(f"{config}: configures '{base.method.get('name')}', not '{method}'")
    return base


def _numbers(seeds: str) -> list[int]:
    try:
        return [int(word) for word in options.words(seeds)]
    except ValueError:
        raise ConfigError(f"--seeds {seeds}: write whole numbers with commas, such as 0,1,2") from None
