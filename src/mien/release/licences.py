"""Under which terms everything stands that `mien` needs, ships or reads: code, weights, pictures and datasets.

Three questions, answered without a network: which packages are installed because of `mien`, and what licence their
own metadata states; what the cards of the shipped weights say of code, weights and training data; and on what terms
the owners of each dataset that `mien` can read hand it out. The last is a summary: the owner's own text counts.
"""

from __future__ import annotations

import json
import re
from collections import deque
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from mien.errors import ConfigError
from mien.io import cards

DATASETS: Final[dict[str, str]] = {
    "ferplus": "votes MIT (Microsoft); pixels of FER2013, see there",
    "fer2013": "web pictures collected for the ICML 2013 challenge; research",
    "rafdb": "on request from the authors; research, not commercial; pictures may not be passed on",
    "affectnet": "on request with a signed agreement; research, not commercial unless agreed",
    "sfew": "on request with a signed agreement; academic research; stills of films",
    "ckplus": "on request with a signed agreement; research, not commercial; few persons may be shown in print",
    "afewva": "on request; research, not commercial; stills of films",
    "affwild": "on request with a signed agreement; research, not commercial; videos of the web",
    "affwild2": "on request with a signed agreement; research, not commercial; videos of the web",
    "diffusionfer": "CC0-1.0; generated faces",
    "rendered": "rendered by `mien data render`; the head model ICT-FaceKit is MIT",
    "folder": "yours",
    "manifest": "yours",
}
"""By reader (`mien.data.readers.READERS`): the terms on which the dataset is handed out, in a line."""

WEIGHTS_NOTICE: Final = (
    "The weights are offered under Apache-2.0, but they learnt from the pixels of FER2013, web photographs that were "
    "given for research, and the recogniser started from a network trained on MS-Celeb-1M. Whether such weights may be "
    "used commercially is not settled: WEIGHTS-TERMS.md, among this package's licence files, says more."
)
"""What a card's terms alone would leave unsaid to whoever looks for a licence."""

NOT_STATED: Final = "not stated"


@dataclass(frozen=True, slots=True)
class Package:
    """An installed distribution. `wanted_by`: "core" or the extras of `mien` through which it came, sorted."""

    name: str
    version: str
    licence: str
    wanted_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shipped:
    """Something inside this package that is not code: its file, what it is, and its terms in a line."""

    file: str
    what: str
    terms: str


@dataclass(frozen=True, slots=True)
class Licences:
    """Everything: a notice on the weights, installed packages by name, shipped weights and pictures, datasets by
    reader."""

    packages: tuple[Package, ...]
    shipped: tuple[Shipped, ...]
    datasets: dict[str, str]
    notice: str = WEIGHTS_NOTICE


def report() -> Licences:
    """Gather all terms from what is installed.

    Raises:
        ConfigError: mien is not installed.
        WeightsError: a shipped card is not readable.
    """
    return Licences(packages(), shipped(), dict(DATASETS))


def packages(root: str = "mien") -> tuple[Package, ...]:
    """The installed distributions that `root` needs, directly or not, without its `dev` extra, by name.

    Raises:
        ConfigError: `root` itself is not installed, only lies somewhere on the path.
    """
    try:
        needed = metadata.requires(root) or []
    except metadata.PackageNotFoundError:
        raise ConfigError(
            f"{root} is not installed here, so nothing says what it needs: pip install it"
        ) from None
    reached: dict[str, set[str]] = {}
    todo: deque[tuple[str, str]] = deque()
    own = _normal(root)
    for line in needed:
        name, extras, marker = _requirement(line)
        wanted = _extras(marker) or {"core"}
        if name != own:  # `all` names mien's other extras
            wanted -= {"dev", "all"}
            todo.extend((name, way) for way in wanted)
            todo.extend((f"{name}[{extra}]", way) for extra in extras for way in wanted)
    while todo:
        wanted_name, way = todo.popleft()
        if way in reached.setdefault(wanted_name, set()):
            continue
        reached[wanted_name].add(way)
        base, _, extra = wanted_name.rstrip("]").partition("[")
        try:
            lines = metadata.requires(base) or []
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed, or for another system
        for line in lines:
            name, extras, marker = _requirement(line)
            asked = _extras(marker)
            if (extra in asked) if asked else not extra:
                todo.append((name, way))
                todo.extend((f"{name}[{other}]", way) for other in extras)
    found: dict[str, Package] = {}
    for wanted_name in sorted(reached):
        base = wanted_name.partition("[")[0]
        try:
            held = metadata.distribution(base)
        except metadata.PackageNotFoundError:
            continue
        ways = set(reached[wanted_name]) | set(found[base].wanted_by if base in found else ())
        found[base] = Package(
            held.metadata["Name"], held.version, licence_of(held.metadata), tuple(sorted(ways))
        )
    return tuple(found.values())


def licence_of(stated: Any) -> str:
    """The licence that a distribution's metadata states: as an SPDX expression, in classifiers, or in words.

    >>> licence_of({"License-Expression": "MIT"})
    'MIT'
    """
    expression = stated.get("License-Expression")
    if expression:
        return str(expression)
    classifiers = stated.get_all("Classifier") or [] if hasattr(stated, "get_all") else []
    named = [
        line.rpartition(" :: ")[2]
        for line in classifiers
        if line.startswith("License :: ") and line != "License :: OSI Approved"
    ]
    words = str(stated.get("License") or "").strip()
    if words.upper() == "UNKNOWN" or words.startswith((".", "/")):  # some put the path of the text there
        words = ""
    if words and "\n" not in words and len(words) <= 60:
        return words
    if named:
        return ", ".join(dict.fromkeys(named))
    # Some put the whole text there: its first line names it.
    return words.splitlines()[0].strip()[:60] if words else NOT_STATED


def shipped() -> tuple[Shipped, ...]:
    """The weights, text sets and pictures inside this package."""
    found = [
        Shipped(
            path.relative_to(cards.FOLDER).as_posix(),
            cards.read(path).task,
            terms_of(cards.read(path).fields),
        )
        for path in sorted(cards.FOLDER.rglob("*.json"))
    ]
    for path in sorted((Path(__file__).parent.parent / "methods" / "texts").glob("*.safetensors")):
        card = _header(path)
        found.append(
            Shipped(
                f"texts/{path.name}",
                f"sentence embeddings by {card.get('encoder', NOT_STATED)}",
                str(card.get("licence", NOT_STATED)),
            )
        )
    credits = Path(__file__).parent.parent / "server" / "static" / "examples" / "CREDITS.txt"
    if credits.is_file():
        found.append(
            Shipped(
                "server/static/examples",
                "the page's example pictures",
                " ".join(credits.read_text(encoding="utf-8").split()),
            )
        )
    return tuple(found)


def terms_of(fields: dict[str, Any]) -> str:
    """A card's terms in one line.

    >>> terms_of({"terms": {"weights": "Apache-2.0", "data": "CC0 1.0"}})
    'weights: Apache-2.0; data: CC0 1.0'
    """
    terms = fields["terms"]
    if isinstance(terms, dict):
        return "; ".join(f"{part}: {words}" for part, words in terms.items())
    return str(terms)


def _header(path: Path) -> dict[str, Any]:
    """The card in the head of a `.safetensors` file, which is JSON after eight bytes of length."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        card: dict[str, Any] = json.loads(
            json.loads(file.read(length)).get("__metadata__", {}).get("card", "{}")
        )
    return card


_REQUIREMENT: Final = re.compile(r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[([^\]]*)\])?")
_EXTRA: Final = re.compile(r"""extra\s*==\s*['"]([^'"]+)['"]""")


def _requirement(line: str) -> tuple[str, list[str], str]:
    """Name, extras and marker of a requirement such as `uvicorn[standard]>=0.3; extra == 'serve'`."""
    text, _, marker = line.partition(";")
    match = _REQUIREMENT.match(text)
    if match is None:
        return _normal(text), [], marker
    extras = [extra.strip() for extra in (match[2] or "").split(",") if extra.strip()]
    return _normal(match[1]), extras, marker


def _extras(marker: str) -> set[str]:
    return set(_EXTRA.findall(marker))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
