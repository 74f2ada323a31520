"""`mien ablate`: every component of a method, switched on one after the other, in one table."""

from __future__ import annotations

from pathlib import Path

import typer

from mien.errors import ConfigError, ExtraMissing


def ablate(
    method: str = typer.Argument(help="A method with a ladder: ke2nt, jadfer, cclls, cal or meca."),
    config: Path | None = typer.Option(
        None, help="The full configuration; configs/METHOD-ferplus.yaml by default."
    ),
    seeds: str = typer.Option("0,1,2", help="Seeds, comma-separated."),
    rungs: str = typer.Option("", help="Only these rungs, comma-separated; the lowest is the reference."),
    assignments: list[str] = typer.Option([], "--set", help="Change a key of every run: --set epochs=4"),
    by: str = typer.Option("", help="Also compare within groups, e.g. person: seen and unseen ones."),
    out: Path | None = typer.Option(None, help="Folder for comparison.html, .md, .tex and .json."),
    draws: int = typer.Option(1000, min=10, help="Bootstrap resamples behind each interval."),
    plan: bool = typer.Option(False, "--plan", help="Print the runs and what each stands for, and stop."),
    as_json: bool = typer.Option(False, "--json", help="Print the comparison as JSON."),
    overwrite: bool = typer.Option(False, "--overwrite", help="Replace a comparison that is there."),
) -> None:
    """Train, judge and compare each rung of a method's ladder; what is finished is not done again."""
    from mien.training.config import load_config

    try:
        from mien.training import ablation, loop
    except ModuleNotFoundError as missing:
        raise ExtraMissing("train", missing.name or "torch") from None

    chosen = ablation.ladder(method, _words(rungs))
    base = load_config(config or Path("configs") / f"{method}-ferplus.yaml", assignments)
    if base.method.get("name") != method:
        raise ConfigError(f"{config}: configures '{base.method.get('name')}', not '{method}'")
    try:
        numbers = [int(word) for word in _words(seeds)]
    except ValueError:
        raise ConfigError(f"--seeds {seeds}: write whole numbers with commas, such as 0,1,2") from None
    steps = ablation.runs(base, chosen, numbers)
    if plan:
        for rung in chosen:
            typer.echo(f"{rung.name:<16}{rung.says}")
        for step in steps:
            typer.echo(f"{loop.folder_of(step)}{'  finished' if _finished(loop.folder_of(step)) else ''}")
        return
    from mien.evaluation import compare, evaluate
    from mien.evaluation.validation import validate
    from mien.io import outputs
    from mien.reports import comparison_report, evaluation_report

    if out is not None:
        outputs.check_folder(out, comparison_report.FILES, overwrite=overwrite)
    folders = []
    for number, step in enumerate(steps, start=1):
        folder = loop.folder_of(step)
        typer.echo(f"{number}/{len(steps)}  {folder}", err=True)
        loop.run(
            step, validate, resume=True
        )  # a finished one returns at once; one of other options is refused
        if not _judged(folder, by):
            data = step.data
            found, predictions = evaluate.run(
                folder,
                data.root,
                data.protocol,
                reader=data.reader,
                fold=data.fold,
                points=data.points,
                cache=data.cache,
                by=[by] if by else [],
            )
            evaluation_report.write(found, predictions, folder / "evaluation")
        folders.append(folder)
    found_all = compare.compare([compare.load(folder) for folder in folders], draws=draws, by=by)
    if out is not None:
        typer.echo(f"comparison: {comparison_report.write(found_all, out)}", err=True)
    typer.echo(found_all.to_json() if as_json else comparison_report.markdown(found_all))


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _judged(folder: Path, by: str) -> bool:
    """Whether a rung was evaluated, by the weights that it holds now and with the attribute asked for."""
    from mien.data.predictions import FILE, Predictions
    from mien.training import checkpoint

    path = folder / "evaluation" / FILE
    if not path.is_file():
        return False
    said = Predictions.load(path)
    same = said.provenance.weights_hash == checkpoint.digest(folder / "weights.safetensors")
    return same and (not by or by in said.attributes)


def _finished(folder: Path) -> bool:
    return (folder / "finished").is_file()
