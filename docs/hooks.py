"""Pages made while the site is built, from what the package itself states, so that they cannot disagree with it.

- `weights/<name>.md`: the card beside each weight file;
- `datasets/<reader>.md`: each reader's own description of the layout it reads, the terms, the protocols;
- the navigation: a page that `mkdocs.yml` does not place is added to the guides, the methods or the reports;
- the table of floors in `architecture.md`: the contract in `pyproject.toml`, each module in its own first words.
"""

from __future__ import annotations

import ast
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "mien"
FLOORS = "<!-- floors -->"

HEADINGS = {
    "terms": "Terms",
    "metrics": "Measured",
    "must_not": "What it must not be used for",
    "intended_use": "What it is for",
    "sha256": "SHA-256",
}
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Leave no page out of the navigation."""
    placed = set(_places(config.nav))
    for folder, section in (("", "Guides"), ("methods/", "Methods")):
        (pages,) = (entry[section] for entry in config.nav or [] if section in entry)
        for path in sorted((ROOT / "docs" / folder).glob("*.md")):
            if folder + path.name not in placed:
                pages.append(folder + path.name)
    reports = [path.relative_to(ROOT / "docs") for path in sorted((ROOT / "docs" / "reports").rglob("*.md"))]
    if reports and config.nav is not None:
        named = [{" ".join((*path.parts[1:-1], path.stem)): path.as_posix()} for path in reports]
        config.nav.append({"Reports": named})
    return config


def _places(nav: Any) -> list[str]:
    """The pages that a navigation names, however deep."""
    if isinstance(nav, str):
        return [nav]
    inner = nav.values() if isinstance(nav, dict) else nav or []
    return [place for entry in inner for place in _places(entry)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of weights and datasets, and give reports that are there as text and as a page two places.

    `mkdocs.yml` leaves their texts out, since they would be written over the pages.
    """
    docs = Path(config.docs_dir)
    for page in sorted((docs / "reports").rglob("*.html")):
        text = page.with_suffix(".md").relative_to(docs)
        if (docs / text).is_file():
            place = text.with_name(f"{text.stem}-text.html").as_posix()
            file = File(text.as_posix(), config.docs_dir, config.site_dir, False, dest_uri=place)
            file.inclusion = InclusionLevel.INCLUDED
            files.append(file)
    for path in sorted((PACKAGE / "weights").rglob("*.json")):
        files.append(File.generated(config, f"weights/{path.stem}.md", content=card_page(path)))
    from mien.data.readers import READERS

    for name in READERS:
        files.append(File.generated(config, f"datasets/{name}.md", content=dataset_page(name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the table of floors."""
    return markdown.replace(FLOORS, floors()) if FLOORS in markdown else markdown


def dataset_page(name: str) -> str:
    """One reader: what to pass, layout, terms, protocols."""
    from mien.data import protocols
    from mien.data.readers import READERS

    reader = READERS[name]
    module = import_module(reader.read.__module__)
    first, _, rest = (module.__doc__ or "").partition("\n\n")
    lines = [f"# Dataset: {reader.title}", "", _prose(" ".join(first.split())), ""]
    lines += [f"**Pass** {_text(reader.wants)}, to the reader `{name}`:", "", "```sh"]
    mine = [protocol for protocol in map(protocols.load, protocols.names()) if protocol.dataset == name]
    chosen = f" --protocol {mine[0].name}" if mine else ""
    lines += [f"mien data check FOLDER --reader {name}{chosen}"]
    lines += [f"mien evaluate shipped FOLDER{chosen or f' --reader {name}'}", "```", ""]
    lines += [f"**Terms** (the owner's own text counts): {_text(reader.terms)}.", ""]
    lines += ["## Layout and source", "", _prose(rest), ""]
    if reader.official:
        counts = ", ".join(f"{split} {number:,}" for split, number in reader.official.items())
        lines += [f"Published counts, before any filter: {counts}.", ""]
    if reader.schema is not None:
        codes = ", ".join(f"{code} {word or 'no expression'}" for code, word in reader.schema.codes.items())
        lines += [
            f"Its own codes: {codes}. Inside `mien` a class is always its place in `mien.EXPRESSIONS`.",
            "",
        ]
    if mine:
        lines += ["## Protocols", ""]
    for protocol in mine:
        lines += [f"### `{protocol.name}`", "", _prose(str(protocol.description)), ""]
        facts = {
            "crop": protocol.crop,
            "metric": protocol.metric,
            "selection": protocol.selection,
            "pictures an undamaged copy gives": ", ".join(
                f"{k} {v:,}" for k, v in (protocol.expected or {}).items()
            ),
            "notes": protocol.notes,
        }
        lines += [f"- {key}: {_prose(str(value))}" for key, value in facts.items() if value]
        lines += [""]
    return "\n".join(lines) + "\n"


def floors() -> str:
    """The layers contract as a table, from the top down."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'name = "floors".*?layers = \[(.*?)\]', text, re.DOTALL)
    layers = re.findall(r'"([^"]+)"', found.group(1)) if found else []
    rows = ["| floor | module | what it is |", "|---:|---|---|"]
    for number, layer in zip(range(len(layers), 0, -1), layers, strict=True):
        for place, module in enumerate(re.findall(r"mien\.\w+", layer)):
            rows.append(f"| {number if place == 0 else ''} | `{module}` | {_text(_first_words(module))} |")
    return "\n".join(rows)


def _first_words(module: str) -> str:
    """The first sentence of a module's docstring, read without importing it."""
    stem = PACKAGE / module.removeprefix("mien.")
    path = stem / "__init__.py" if stem.is_dir() else stem.with_suffix(".py")
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.is_file() else None
    sentence = " ".join((said or "").split("\n\n")[0].split())
    return re.split(r"(?<=[a-z`)])\.(?: |$)", sentence)[0]


def card_page(path: Path) -> str:
    """A card as Markdown: a heading for each of its fields, in the card's order, with everything it states."""
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    name = str(card.pop("name"))
    where = path.relative_to(PACKAGE.parent)
    lines = [
        f"# Weights: {name}",
        "",
        f"Everything below stands in the card beside the weights, `{where}`.",
        "",
    ]
    if "task" in card:
        lines += [f"**{_text(card.pop('task'))}**", ""]
    for key, value in card.items():
        lines += [f"## {HEADINGS.get(key, key.replace('_', ' ').capitalize())}", "", *_block(value), ""]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Three digits behind the point, or two significant ones of what would vanish."""
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def _is_interval(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {"value", "low", "high"} and None not in value.values()


def _block(value: Any) -> list[str]:
    """A value below a heading: a table for a mapping of plain values, bullets for what is nested, else a paragraph."""
    if isinstance(value, dict):
        if value and all(not isinstance(inner, dict | list) for inner in value.values()):
            rows = [f"| {_text(key)} | {_text(inner)} |" for key, inner in value.items()]
            return ["| what | stated |", "|---|---|", *rows]
        return _bullets(value, "")
    if isinstance(value, list):
        return _bullets(value, "")
    return [f"`{value}`" if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) else _text(value)]


def _bullets(value: Any, indent: str) -> list[str]:
    lines = []
    pairs = value.items() if isinstance(value, dict) else ((None, inner) for inner in value)
    for key, inner in pairs:
        name = "" if key is None else f"**{_text(str(key).replace('_', ' '))}**"
        if _is_interval(inner):
            low, high = (number(inner[end]) for end in ("low", "high"))
            lines.append(f"{indent}- {name}: {number(inner['value'])} \\[{low}, {high}\\]")
            continue
        few = key is not None and isinstance(inner, dict) and len(inner) <= 4
        if few and all(not isinstance(item, dict | list) for item in inner.values()):
            words = ", ".join(
                f"{_text(word.replace('_', ' '))} {_text(item)}" for word, item in inner.items()
            )
            lines.append(f"{indent}- {name + ': ' if name else ''}{words}")
            continue
        plain = isinstance(inner, list) and all(not isinstance(item, dict | list) for item in inner)
        if plain:
            lines.append(f"{indent}- {name + ': ' if name else ''}{', '.join(map(_text, inner))}")
        elif key is None and isinstance(inner, dict):
            words = (f"{_text(name)}: {_text(item)}" for name, item in inner.items())
            lines.append(f"{indent}- {'; '.join(words)}")
        elif isinstance(inner, dict | list):
            lines += [f"{indent}- {name}", *_bullets(inner, indent + "    ")]
        else:
            lines.append(f"{indent}- {name + ': ' if name else ''}{_text(inner)}")
    return lines


def _text(value: Any) -> str:
    """Plain words inside Markdown: nothing of them is markup."""
    if isinstance(value, float):
        return number(value)
    words = json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)
    words = "".join(ENTITIES.get(sign, sign) for sign in words)
    return re.sub(r"([\\`*_\[\]])", r"\\\1", words)


def _prose(text: str) -> str:
    """A docstring as Markdown: its indented blocks and backticks stay, angle brackets elsewhere are no tags."""
    kept = []
    for line in text.splitlines():
        code = line.startswith("    ")
        parts = [line] if code else re.split(r"(`[^`]*`)", line)
        kept.append("".join(p if code or p.startswith("`") else p.replace("<", "&lt;") for p in parts))
    return "\n".join(kept)
