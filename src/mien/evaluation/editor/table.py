"""The figures of edits as a table, and the store of finished stages for resuming an evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from mien.evaluation.editor.metrics import ASKED, GROUPED, POOLED
from mien.evaluation.intervals import Interval
from mien.io import atomic

Figures = dict[str, Interval]

LINES: Final[dict[str, tuple[str, str]]] = {
    **{f"accuracy/{name}": (f"judged {name}, at 1", "85 to 110 % of real") for name in ASKED},
    "accuracy/mean": ("mean of happiness, surprise, sadness, anger, fear", "85 to 110 % of real"),
    "fed": ("FED to real faces, four expressions", "below geometry"),
    "fed/share": ("FED over that of unedited faces", "<= 0.65"),
    **{f"spearman/{name}": (f"strength against reading, {name}", ">= 0.9 / 0.8") for name in POOLED},
    "fold": ("maps that do not fold", "1"),
    **{f"london/accuracy/{name}": (f"London: judged {name}, at 1", "") for name in ASKED},
    "london/accuracy/mean": ("London: judged as asked, mean of the six", ""),
    **{f"london/second/{name}": (f"London: by the second judge {name}, at 1", "") for name in ASKED},
    "london/second/mean": ("London: by the second judge as asked, mean of the six", ""),
    "london/background": ("London: background pixels changed", "0"),
    "london/side": ("London: edit of the mirrored photo against the mirrored edit", "<= 0.02"),
    "london/refused": ("London: refused, six expressions at 1", "<= 0.03"),
    "london/identity": ("London: identity distance to the photo", "<= 0.40"),
    "london/same": ("London: same person by dlib (< 0.6)", ">= 0.99"),
    **{f"london/response/{name}": (f"London: motion found over asked, {name} 0.8", "0.8 to 1.15") for name in POOLED},
    **{f"london/iris/{name}": (f"London: iris height by width, {name} [5, 95 %]", "0.93 to 1.07") for name in ASKED},
    **{
        f"london/group/{group}/{key}": (f"London: {words}, {group.replace('_', ' ')} people", "")
        for key, words in (("accuracy", "six expressions judged as asked"), ("identity", "identity distance"))
        for group in GROUPED
    },
    "london/pair/happy": ("London: judged happy with the real smile's lips", "real - 0.05"),
    "london/pair/lips": ("London: lips' error to the real smile over unedited", "<= 0.8"),
    "london/self": ("London: PSNR of neutral asked of neutral, dB", ">= 38"),
    "london/smile/left": ("London: smile to neutral, error to the real neutral face over that of the smile", "<= 0.6"),
    "london/smile/neutral": ("London: smile to neutral, judged neutral", ""),
    "london/smile/anger": ("London: smile to anger, judged anger", ">= 0.6"),
    "london/mouth": ("London: error of a filled mouth over that of one flat tone", "< 1"),
    "london/mouth/own": ("London: the same with the person's own teeth", "< 0.6"),
    "photos/refused": ("photos: frontal faces of 80 px or more refused", "<= 0.15"),
    "seconds": ("12 megapixels, one face, s on two threads", "<= 2"),
}  # fmt: skip
"""Each figure of the table: its title, and the requirement for the full editor (`docs/editing.md`)."""


_REFERENCES: Final = {"": "", "/floor": "floor ", "/ceiling": "unedited ", "/others": "other people "}


@dataclass(frozen=True)
class Table:
    """Figures by editor; `references` has those of real and of unedited pictures. `facts` describe the data and
    judges."""

    figures: dict[str, Figures]
    references: Figures
    facts: dict[str, Any]

    def markdown(self) -> str:
        """The table as Markdown, with references first and 95 % intervals in brackets."""
        names = list(self.figures)
        lines = [
            f"| figure | required | reference | {' | '.join(names)} |",
            "| --- | --- | --- |" + " --- |" * len(names),
        ]
        for key, (words, required) in LINES.items():
            cells = [_cell(self.figures[name].get(key)) for name in names]
            if any(cells):
                intervals = [
                    f"{word}{_cell(self.references[key + end])}"
                    for end, word in _REFERENCES.items()
                    if key + end in self.references
                ]
                lines.append(f"| {words} | {required} | {'; '.join(intervals)} | {' | '.join(cells)} |")
        stated = "; ".join(f"{word} {value}" for word, value in self.facts.items())
        return "\n".join([*lines, "", f"95 % intervals in brackets, by source. {stated}.", ""])

    def json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(
            {
                "facts": self.facts,
                "references": {key: asdict(value) for key, value in self.references.items()},
                "figures": {
                    name: {key: asdict(value) for key, value in figures.items()}
                    for name, figures in self.figures.items()
                },
            },
            indent=1,
        )


def _cell(value: Interval | None) -> str:
    if value is None or not value.known:
        return ""
    digits = 1 if abs(value.value) >= 10 else 2
    bounds = f" [{value.low:.{digits}f}, {value.high:.{digits}f}]" if np.isfinite(value.low) else ""
    return f"{value.value:.{digits}f}{bounds}"


class StageCache:
    """Figures of finished stages, in one JSON file; a stage is identified by its name and what it depends on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}

    def get(self, stage: str, depends: dict[str, Any], measure: Callable[[], Figures]) -> Figures:
        """The stage's figures, measured if they are not stored."""
        key = hashlib.sha256(json.dumps([stage, depends], sort_keys=True).encode()).hexdigest()[:16]
        if key not in self._known:
            found = measure()
            self._known[key] = {"stage": stage, "figures": {k: asdict(v) for k, v in found.items()}}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write({self.path: json.dumps(self._known, indent=1).encode()})
        return {k: Interval(**v) for k, v in self._known[key]["figures"].items()}
