"""Model cards: what a weight file is for, what it was trained on, how good it is, and the hash that identifies it.

A card is a JSON file beside the weights, with the same name: `recogniser.onnx` and `recogniser.json`. Weights are
opened only when their SHA-256 is the one on their card, so a truncated download or a replaced file is an error rather
than wrong results.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mien.errors import WeightsError
from mien.io import atomic

FOLDER = Path(__file__).parent.parent / "weights"
"""The folder of the weights that ship inside the package."""

REQUIRED = (
    "name",
    "task",
    "input",
    "sha256",
    "data",
    "terms",
    "recipe",
    "metrics",
    "intended_use",
    "limits",
    "must_not",
)
"""The fields that every card has."""


@dataclass(frozen=True, slots=True)
class Card:
    """One card. `fields` holds its content as read; `path` is the card's own file."""

    path: Path
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the weights, as listed by `mien methods`."""
        return str(self.fields["name"])

    @property
    def task(self) -> str:
        """What the weights do, in a few words."""
        return str(self.fields["task"])

    def number(self, key: str, default: float) -> float:
        """A numeric field, such as the temperature.

        Raises:
            WeightsError: the card's value is not a number.
        """
        value = self.fields.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise WeightsError(f"{self.path}: '{key}' is {value!r}, not a number: {_REMEDY}")
        return float(value)

    def text(self) -> str:
        """The card as indented plain text, in the card's own order, for a terminal."""
        return "\n".join(_lines(self.fields, ""))


_REMEDY = "export the weights again, or reinstall mien if they came with it"


def read(path: Path | str) -> Card:
    """Read and check a card.

    Raises:
        WeightsError: the file is missing, is not JSON, or misses a required field.
    """
    path = Path(path)
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        weights = path.with_suffix(".onnx")
        if not weights.exists():
            raise WeightsError(f"{weights}: no such file: name weights with their card; {_REMEDY}") from None
        raise WeightsError(f"{path}: no such card: weights need their card beside them; {_REMEDY}") from None
    except (OSError, ValueError, RecursionError) as problem:  # ValueError also for numbers of 5,000 digits
        raise WeightsError(f"{path}: not a readable card ({problem}): {_REMEDY}") from None
    if not isinstance(fields, dict):
        raise WeightsError(f"{path}: a card is a JSON object: {_REMEDY}")
    missing = [key for key in REQUIRED if key not in fields]
    if missing:
        raise WeightsError(f"{path}: the card does not state {', '.join(missing)}: {_REMEDY}")
    return Card(path, fields)


def write(weights: Path, fields: dict[str, Any]) -> None:
    """Write the card of a weight file beside it; dates and paths become text.

    Raises:
        OSError: it cannot be written; an older card stays.
    """
    text = json.dumps(fields, indent=1, default=str, ensure_ascii=False) + "\n"
    atomic.write({weights.with_suffix(".json"): text.encode()})


def weights_file(path: Path | str) -> Path:
    """The .onnx file that `path` means: itself, or the one in a folder that `mien release` wrote.

    Raises:
        WeightsError: a folder without one or with several, or a training run that was not released.
    """
    path = Path(path)
    if path.suffix == ".safetensors" or (path / "weights.safetensors").is_file():
        run = path.parent if path.suffix == ".safetensors" else path
        raise WeightsError(
            f"{path}: is from a training run, which only `mien evaluate` reads: make weights for prediction with  mien "
            f"release {run} --out my-model"
        )
    if not path.is_dir():
        return path
    files = sorted(file for file in path.glob("*.onnx") if file.with_suffix(".json").is_file())
    if len(files) != 1:
        there = "none" if not files else ", ".join(file.name for file in files)
        raise WeightsError(
            f"{path}: a folder of weights holds one .onnx file with its card (.json); here: {there}: name the file"
        )
    return files[0]


def verified(weights: Path | str) -> tuple[bytes, Card]:
    """Read a weight file and its card, check the hash, and return both; see `weights_file` for folders.

    Raises:
        WeightsError: either file is missing or unreadable, or the weights are not those the card describes.
    """
    weights = weights_file(weights)
    card = read(weights.with_suffix(".json"))
    try:
        content = weights.read_bytes()
    except FileNotFoundError:
        raise WeightsError(f"{weights}: no such weights: {_REMEDY}") from None
    except OSError as problem:
        raise WeightsError(f"{weights}: {problem.strerror or problem}: {_REMEDY}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.fields["sha256"]:
        raise WeightsError(
            f"{weights}: these are not the weights of the card {card.path.name} (SHA-256 {digest[:12]}, "
            f"expected {str(card.fields['sha256'])[:12]}): {_REMEDY}"
        )
    return content, card


def shipped() -> list[Card]:
    """The cards of all weights inside the package, those of the editor first."""
    return [read(path) for path in sorted(FOLDER.rglob("*.json"))]


@dataclass(frozen=True, slots=True)
class Terms:
    """A data file of this package with terms of its own: its `file`, `what` it is, and its `terms` in a line."""

    file: str
    what: str
    terms: str


def terms() -> list[Terms]:
    """The terms of the weights, text sets and pictures inside this package, as their cards and credits state them.

    Raises:
        WeightsError: a card is not readable.
    """
    found = []
    for card in shipped():
        stated = card.fields["terms"]
        if isinstance(stated, dict):
            stated = "; ".join(f"{part}: {words}" for part, words in stated.items())
        found.append(Terms(card.path.relative_to(FOLDER).as_posix(), card.task, str(stated)))
    for path in sorted((FOLDER.parent / "methods" / "texts").glob("*.safetensors")):
        fields = _header(path)
        what = f"sentence embeddings by {fields['encoder']}"
        found.append(Terms(f"texts/{path.name}", what, str(fields["licence"])))
    credits = FOLDER.parent / "server" / "static" / "examples" / "CREDITS.txt"
    words = " ".join(credits.read_text(encoding="utf-8").split())
    return [*found, Terms("server/static/examples", "the page's example pictures", words)]


def _header(path: Path) -> dict[str, Any]:
    """The card in the header of a `.safetensors` file, which is JSON after eight bytes that give its length."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    fields: dict[str, Any] = json.loads(header["__metadata__"]["card"])
    return fields


def _lines(value: Any, indent: str) -> list[str]:
    if isinstance(value, dict):
        lines = []
        for key, inner in value.items():
            if isinstance(inner, dict | list) and inner:
                lines += [f"{indent}{key}:", *_lines(inner, indent + "  ")]
            else:
                lines.append(f"{indent}{key}: {inner}")
        return lines
    if isinstance(value, list):
        return [
            f"{indent}- {item}" if not isinstance(item, dict) else f"{indent}- {json.dumps(item)}"
            for item in value
        ]
    return [f"{indent}{value}"]
