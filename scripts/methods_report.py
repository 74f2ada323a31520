"""Writes `docs/reports/methods-ferplus` from the folders of sweeps: each paper's method against its reference.

    python scripts/methods_report.py judge --runs runs    # kept weights on covered pictures and on LFW
    python scripts/methods_report.py write --runs runs    # figures, picture and page, from what is there
    python scripts/methods_report.py page                 # the page alone, after a change of its text

`--runs` is the folder with `sweep-ferplus-tenth` and so on (`out` in `configs/sweeps`). A sweep that has not begun has
no section, of an unfinished one only the seeds that every arm has finished count. The page's text is in
`methods_report.md`; its numbers come from the `<sweep>.json` that are written beside it, as `scripts/figures.py` fills
them in; `<sweep>.md` has all tables of `mien compare`.

Correctors guided by the networks of the sweep `meca` are trained into `correctors/bare-s0` and so on below `--runs`,
and judged together by `mien evaluate-edits --out RUNS/correctors`.

`judge` writes `covered.parquet` (a grey square over a quarter of each picture, at a place drawn by the picture's name
and the seed, the same for all arms) and `lfw.parquet` (muxspace's part of LFW) into the folders of runs that have their
weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from mien.colours import SERIES
from mien.data import cropping
from mien.data.config import SourceConfig
from mien.data.predictions import FILE, Predictions, pooled
from mien.data.transforms import MEAN
from mien.evaluation import compare, inference
from mien.evaluation.evaluate import plain
from mien.evaluation.intervals import Interval
from mien.figures import palette
from mien.io import atomic, pages
from mien.reports import comparison_report
from mien.training.config import RunConfig, load_config

sys.path.insert(0, str(Path(__file__).parent))
import figures

OUT = figures.ROOT / "docs" / "reports" / "methods-ferplus"
TEMPLATE = Path(__file__).parent / "methods_report.md"
DRAWS = 2000
TURNED = 15.0
"""Degrees of yaw from which a face is turned away."""
COVERED = 0.25
"""Share of the picture's area under the grey square."""
GREY = round(255 * sum(MEAN) / 3)
"""The mean colour, which networks see as 0."""
LFW = SourceConfig(reader="manifest", root=Path("cache/muxspace"), where=("part=lfw",))

SWEEPS: dict[str, str] = {
    "ferplus-tenth": "baseline",
    "ferplus-all": "baseline",
    "ferplus-flipped": "baseline",
    "ferplus-published": "clean",
    "ladder-ke2nt": "linear",
    "ladder-jadfer": "backbone",
    "ladder-cclls": "backbone",
    "ladder-meca": "bare",
    "cal-rendered": "regression",
    "meca": "bare",
}
"""Sweeps of the report, each with its reference."""


CONTROLS: dict[str, tuple[str, str]] = {
    "ferplus-tenth": ("linear", "ke2nt"),  # a free linear classifier with the same head
    "ferplus-all": ("linear", "ke2nt"),
    "ladder-ke2nt": ("random", "full"),  # random directions in the place of sentences
    "ladder-jadfer": ("undropped", "full"),  # without attention dropping
}
"""Arms of a sweep that are compared with each other too, the control first."""


class Run(NamedTuple):
    """A finished run of a sweep."""

    arm: str
    seed: int
    folder: Path

    def predictions(self, name: str = "") -> Predictions:
        """Its predictions on a set; "" is its own."""
        found = Predictions.load(self.folder / (f"{name}.parquet" if name else FILE))
        # One group for each arm, whatever options have been added to the configuration since.
        provenance = replace(
            found.provenance, model=f"{self.arm}-s{self.seed}", group=self.arm, seed=self.seed
        )
        return replace(found, provenance=provenance)

    @property
    def config(self) -> RunConfig:
        """The configuration that it was trained with."""
        return load_config(self.folder / "config.yaml")


def finished(folder: Path, name: str = "") -> list[Run]:
    """Runs with predictions on a set, of the seeds that all arms of the sweep have, arm by arm in the sweep's order."""
    arms = list(json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["arms"])
    file = f"{name}.parquet" if name else FILE
    runs = []
    for path in (folder / "runs").glob(f"*-s*/{file}"):
        arm, _, seed = path.parent.name.rpartition("-s")
        if arm in arms:
            runs.append(Run(arm, int(seed), path.parent))
    seeds = {arm: {run.seed for run in runs if run.arm == arm} for arm in arms}
    common = set.intersection(*seeds.values())
    kept = [run for run in runs if run.seed in common]
    return sorted(kept, key=lambda run: (arms.index(run.arm), run.seed))


# Further sets ---------------------------------------------------------------------------------------------------------


def covered(crops: NDArray[np.uint8], names: Iterable[str], seed: int) -> NDArray[np.uint8]:
    """Crops [n, s, s] with a grey square over `COVERED` of each, at a place drawn by its name and the seed."""
    found = np.array(crops)
    side = round(math.sqrt(COVERED) * found.shape[1])
    free = found.shape[1] - side + 1
    for crop, name in zip(found, names, strict=True):
        drawn = int.from_bytes(hashlib.sha256(f"{name} {seed}".encode()).digest()[:8], "big")
        top, left = divmod(drawn % (free * free), free)
        crop[top : top + side, left : left + side] = GREY
    return found


def judge(run: Run) -> list[str]:
    """Predict with a run's kept weights what is not there yet; returns the sets that were."""
    weights = run.folder / "last.safetensors"
    missing = [name for name in ("covered", "lfw") if not (run.folder / f"{name}.parquet").is_file()]
    if not missing or not weights.is_file():
        return []
    config = run.config
    model = inference.open_weights(weights, threads=1)
    own = SourceConfig(**{key: getattr(config.data, key) for key in SourceConfig.model_fields})
    for name in missing:
        parts = []
        if name == "lfw":
            parts = [inference.predict(model, LFW, "test", cache=config.data.cache)]
        for split in ("valid", "test") if name == "covered" else ():
            order = iter([record.name for record in inference.records_of(own, split)])

            def read(crops: NDArray[np.uint8], order: Any = order) -> inference.Answers:
                return model.read(covered(crops, [next(order) for _ in crops], run.seed))

            parts.append(inference.predict(replace(model, read=read), own, split, cache=config.data.cache))
        pooled(parts).save(run.folder / f"{name}.parquet")
    return missing


# Figures --------------------------------------------------------------------------------------------------------------


def by_name(found: compare.Comparison) -> dict[str, Any]:
    """A comparison in plain types, by method and class instead of by place; single classes are in its tables."""
    tree: dict[str, Any] = {
        "images": found.images,
        "methods": {row.name: {"seeds": list(row.seeds), "figures": row.figures} for row in found.rows},
        "classes": {},
        "gaps": {gap.name: {"figures": gap.figures, "changes": gap.changes} for gap in found.gaps},
    }
    for pair in found.pairs:
        tree["methods"][pair.name] |= {
            "differences": pair.differences,
            "corrected": pair.corrected,
            "visible": pair.visible,
            "p": pair.p,
        }
    for row in found.classes:
        if row.label != compare.RARE:
            continue
        of_class = tree["classes"].setdefault(row.label, {"images": row.images, "methods": {}})
        of_class["methods"][row.name] = {
            "recall": row.recall,
            "difference": row.difference,
            "corrected": row.corrected,
            "p": row.p,
        }
    return _plain(tree)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, compare.Score):
        return {"mean": _plain(value.mean), "seed_sd": plain(value.seed_sd), "each": list(value.each)}
    if isinstance(value, Interval):
        return {"value": plain(value.value), "low": plain(value.low), "high": plain(value.high)}
    return plain(value)


def facts(config: RunConfig) -> dict[str, tuple[str, float]]:
    """The split of each judged picture, and its yaw by our landmark network in degrees (NaN: no face found)."""
    own = SourceConfig(**{key: getattr(config.data, key) for key in SourceConfig.model_fields})
    found = {}
    for split in ("valid", "test"):
        records = inference.records_of(own, split)
        crops = cropping.load_crops(
            records, config.data.size, config.data.colour, config.data.cache, own.points
        )
        yaws = np.where(crops.found, np.abs(crops.pose[:, 0]), np.nan)
        found |= {record.name: (split, float(yaw)) for record, yaw in zip(records, yaws, strict=True)}
    return found


def subsets(runs: list[Run]) -> dict[str, Callable[[Predictions], NDArray[np.bool_]]]:
    """Parts of the judged pictures that are compared apart, by name."""
    known = facts(runs[0].config)

    def mask(keep: Callable[[str, float], bool]) -> Callable[[Predictions], NDArray[np.bool_]]:
        return lambda found: np.array([keep(*known[name]) for name in found.names])

    return {
        "valid": mask(lambda split, yaw: split == "valid"),
        "test": mask(lambda split, yaw: split == "test"),
        "turned": mask(lambda split, yaw: yaw > TURNED),
        "frontal": mask(lambda split, yaw: yaw <= TURNED),
    }


def compared(runs: list[Run], reference: str, name: str = "", by: str = "") -> compare.Comparison:
    """The runs on one set."""
    return compare.compare([run.predictions(name) for run in runs], reference, draws=DRAWS, by=by)


def measured(sweep: str, folder: Path) -> tuple[dict[str, Any], str] | None:
    """All figures of a sweep in plain types, and the tables of the comparison; None without a seed of every arm."""
    runs, reference = finished(folder), SWEEPS[sweep]
    if not runs:
        return None
    whole = compared(runs, reference, by="person" if sweep == "cal-rendered" else "")
    sets = {"all": by_name(whole)}
    if sweep in ("ferplus-tenth", "ferplus-all"):
        predictions = [run.predictions() for run in runs]
        for name, mask in subsets(runs).items():
            part = [one.rows(mask(one)) for one in predictions]
            sets[name] = by_name(compare.compare(part, reference, draws=DRAWS))
    if sweep == "cal-rendered":
        predictions = [run.predictions() for run in runs]
        for name in ("seen", "unseen"):
            part = [one.rows(one.attributes["person"] == name) for one in predictions]
            sets[name] = by_name(compare.compare(part, reference, draws=DRAWS))
    for name in ("covered", "lfw"):
        further = finished(folder, name)
        if further:
            sets[name] = by_name(compared(further, reference, name))
    if sweep in CONTROLS:
        for name in ("", "covered") if "covered" in sets else ("",):
            pair = [run for run in finished(folder, name) if run.arm in CONTROLS[sweep]]
            words = f"{name} control".strip()
            sets[words] = by_name(compared(pair, CONTROLS[sweep][0], name))
    found = {
        "reference": reference,
        "seeds": len({run.seed for run in runs}),
        "minutes": minutes(runs),
        "epochs": runs[0].config.epochs,
        "commit": ", ".join(sorted({run.predictions().provenance.commit for run in runs})),
        "sets": sets,
    }
    if sweep == "ferplus-published":
        found["selection"] = selection(runs)
    return found, comparison_report.markdown(whole)


def minutes(runs: list[Run]) -> dict[str, float]:
    """The median minutes of a run of each arm."""
    each: dict[str, list[float]] = {}
    for run in runs:
        seconds = json.loads((run.folder / "finished").read_text(encoding="utf-8"))["seconds"]
        each.setdefault(run.arm, []).append(seconds / 60)
    return {arm: float(np.median(values)) for arm, values in each.items()}


def selection(runs: list[Run]) -> dict[str, Any]:
    """Accuracy on the test pictures after the last epoch and at the best one, with and without training copies, and
    what copies, choice and both add; intervals are Student's t over seeds."""
    table: dict[str, list[tuple[float, float]]] = {}
    for run in runs:
        lines = (run.folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        accuracy = [event["accuracy"] for event in map(json.loads, lines) if "accuracy" in event]
        table.setdefault(run.arm, []).append((accuracy[-1], max(accuracy)))
    clean, copies = np.array(table["clean"]), np.array(table["copies"])
    return {
        "clean last": _over_seeds(clean[:, 0]),
        "clean best": _over_seeds(clean[:, 1]),
        "copies last": _over_seeds(copies[:, 0]),
        "copies best": _over_seeds(copies[:, 1]),
        "by choice": _over_seeds(clean[:, 1] - clean[:, 0]),
        "by copies": _over_seeds(copies[:, 0] - clean[:, 0]),
        "by both": _over_seeds(copies[:, 1] - clean[:, 0]),
    }


JUDGED: dict[str, str] = {"accuracy": "accuracy/mean", "fed": "fed", "fed_share": "fed/share"}
"""What is shown of edits, by its key in the table of `mien evaluate-edits`."""


def correctors(table: Path) -> dict[str, Any]:
    """Edits by correctors that MECA's two arms guided, over their seeds, and full - bare seed by seed."""
    figures_of = json.loads(table.read_text(encoding="utf-8"))["figures"]
    each: dict[str, dict[int, dict[str, float]]] = {"bare": {}, "full": {}}
    for name, values in figures_of.items():
        match = re.search(r"(bare|full)-s(\d+)", name)
        if match:
            each[match[1]][int(match[2])] = {key: values[long]["value"] for key, long in JUDGED.items()}
    seeds = sorted(each["bare"].keys() & each["full"].keys())
    found: dict[str, Any] = {"seeds": len(seeds)}
    for key in JUDGED:
        bare, full = (np.array([each[arm][seed][key] for seed in seeds]) for arm in ("bare", "full"))
        for name, values in (("bare", bare), ("full", full), ("difference", full - bare)):
            found.setdefault(name, {})[key] = _over_seeds(values)
    return found


def _over_seeds(values: NDArray[np.float64]) -> dict[str, Any]:
    mean, low, high = float(values.mean()), None, None
    if len(values) > 1:
        half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
        low, high = mean - half, mean + half
    spread = float(values.std(ddof=1)) if len(values) > 1 else None
    return {"mean": {"value": mean, "low": low, "high": high}, "seed_sd": spread}


# The page -------------------------------------------------------------------------------------------------------------

ROWS: tuple[tuple[str, str, str, str], ...] = (
    ("ferplus-tenth", "all", "accuracy", "accuracy"),
    ("ferplus-tenth", "all", "macro_accuracy", "macro accuracy"),
    ("ferplus-tenth", "turned", "accuracy", "turned over 15°"),
    ("ferplus-tenth", "covered", "accuracy", "a quarter covered"),
    ("ferplus-tenth", "lfw", "accuracy", "LFW"),
    ("ferplus-flipped", "all", "accuracy", "20 % wrong labels"),
    ("ferplus-all", "all", "accuracy", "accuracy, all faces"),
    ("ferplus-all", "all", "macro_accuracy", "macro accuracy, all faces"),
    ("ferplus-all", "covered", "accuracy", "a quarter covered, all faces"),
)
"""Rows of the picture, where they have been measured: sweep, set, figure, and the words beside it."""


def draw(found: dict[str, Any]) -> Any:
    """A forest plot of the differences to the baseline: a panel for each method, corrected intervals behind the plain
    ones."""
    rows = [row for row in ROWS if row[1] in found.get(row[0], {"sets": {}})["sets"]]
    names = [name for name in found["ferplus-tenth"]["sets"]["all"]["methods"] if name != "baseline"]
    figure, axes = palette.canvas(9.0, 1.0 + 0.32 * len(rows), columns=len(names))
    for place, (axis, name) in enumerate(zip(axes, names, strict=True)):
        axis.axvline(0, color=pages.FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        for row, (sweep, part, key, _) in enumerate(rows):
            method = found[sweep]["sets"][part]["methods"][name]
            plain_one, wide = method["differences"][key], method["corrected"][key]
            for interval, width, alpha in ((wide, 1.2, 0.6), (plain_one, 3.0, 1.0)):
                ends = [100 * interval["low"], 100 * interval["high"]]
                axis.plot(ends, [row, row], color=SERIES[0], linewidth=width, alpha=alpha, zorder=2)
            axis.plot(100 * plain_one["value"], row, "o", color=SERIES[0], markersize=5, zorder=3)
        axis.set_yticks(range(len(rows)), [words for *_, words in rows] if place == 0 else [""] * len(rows))
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.set_title(name, fontsize=10)
        axis.set_xlabel("difference, points")
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", color=pages.FAINT, alpha=0.25, linewidth=0.6)
    widest = max(abs(limit) for axis in axes for limit in axis.get_xlim())
    for axis in axes:
        axis.set_xlim(-widest, widest)
    return figure


def mark(path: str, way: str) -> str:
    """A number of `<sweep>.json`, as `scripts/figures.py` fills it in."""
    sweep, _, keys = path.partition(":")
    return f"<!-- reports/methods-ferplus/{sweep}:{keys} = {way} --><!-- -->"


def verdict(method: dict[str, Any], key: str = "accuracy") -> str:
    """What the corrected interval of a difference says: that of a figure, or that of a class."""
    interval = method["corrected"].get(key, method["corrected"])
    if interval["low"] > 0:
        return "higher"
    return "lower" if interval["high"] < 0 else "no difference seen"


def differing_from(methods: dict[str, Any], key: str) -> str:
    """The methods with a difference that is seen, in words; "" for none."""
    seen = {name: verdict(one, key) for name, one in methods.items() if "corrected" in one}
    return ", ".join(
        f"`{name}` is {word} than the baseline" for name, word in seen.items() if "no" not in word
    )


def evidence(found: dict[str, Any], name: str, word: str) -> str:
    """The tests of a method with this verdict, in words with their corrected intervals; "none" without any."""
    tests = []
    for sweep, part, key, words in ROWS:
        sets = found.get(sweep, {"sets": {}})["sets"]
        if part in sets and verdict(sets[part]["methods"][name], key) == word:
            keys = f"{sweep}:sets/{part}/methods/{name}/corrected/{key}"
            tests.append(f"{words} {mark(keys, 'gain interval')}")
    for sweep, words in (("ferplus-tenth", "rare classes"), ("ferplus-all", "rare classes, all faces")):
        known = found.get(sweep, {"sets": {"all": {"classes": {}}}})["sets"]["all"]["classes"]
        if compare.RARE in known and verdict(known[compare.RARE]["methods"][name]) == word:
            keys = f"{sweep}:sets/all/classes/{compare.RARE}/methods/{name}/corrected"
            tests.append(f"{words} {mark(keys, 'gain interval')}")
    return "; ".join(tests) or "no test"


def page(found: dict[str, Any]) -> str:
    """The page in Markdown with its numbers, from the figures of all sweeps."""
    text = pages.render(
        TEMPLATE,
        "figures",
        found=found,
        mark=mark,
        verdict=verdict,
        differing_from=differing_from,
        evidence=evidence,
        turned=TURNED,
        draws=f"{DRAWS:,}",
    )
    figures.stated.cache_clear()
    tidy = re.sub(r"[ \t]+$", "", re.sub(r"\n{3,}", "\n\n", text), flags=re.MULTILINE)
    filled: str = figures.filled(tidy)
    return filled


def stored() -> dict[str, Any]:
    """The figures of the report as they were written."""
    paths = [OUT / f"{name}.json" for name in (*SWEEPS, "correctors")]
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths if path.is_file()}


def write(root: Path) -> None:
    """Measure every sweep that is there, and write figures, tables, picture and page."""
    OUT.mkdir(parents=True, exist_ok=True)
    for sweep in SWEEPS:
        folder = root / f"sweep-{sweep}"
        result = measured(sweep, folder) if (folder / "sweep.json").is_file() else None
        if result is not None:
            tree, tables = result
            text = json.dumps(_rounded(tree), indent=1, ensure_ascii=False) + "\n"
            atomic.write({OUT / f"{sweep}.json": text.encode(), OUT / f"{sweep}.md": tables.encode()})
            print(f"{sweep}: {tree['seeds']} seeds of {len(tree['sets']['all']['methods'])} arms", flush=True)
        elif folder.is_dir():
            print(f"{sweep}: no seed that every arm has finished", flush=True)
    table = root / "correctors" / "table.json"
    if table.is_file():
        text = json.dumps(_rounded(correctors(table)), indent=1) + "\n"
        atomic.write({OUT / "correctors.json": text.encode()})
    found = stored()
    palette.save(draw(found), OUT / "forest", forms=("png",))
    atomic.write({OUT / "README.md": page(found).encode()})


def _rounded(value: Any) -> Any:
    """Six digits, which keeps the files small and the same on other processors."""
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


def main() -> None:
    """Do what the command line says."""
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    options.add_argument("verb", choices=("judge", "write", "page"))
    options.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the sweeps")
    given = options.parse_args()
    if given.verb == "page":
        atomic.write({OUT / "README.md": page(stored()).encode()})
    elif given.verb == "write":
        write(given.runs)
    else:
        for sweep in ("ferplus-tenth", "ferplus-all", "ladder-jadfer"):
            folder = given.runs / f"sweep-{sweep}"
            for run in finished(folder) if (folder / "sweep.json").is_file() else []:
                sets = judge(run)
                if sets:
                    print(f"{sweep}, {run.folder.name}: {', '.join(sets)}", flush=True)


if __name__ == "__main__":
    main()
