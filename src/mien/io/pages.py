"""Building blocks of self-contained HTML pages: headings, tables and figures, with styles for light, dark and paper.

A page loads nothing over the network: styles and pictures are inside it. Tables have captions and header cells,
pictures have a text description, and colour never carries information alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --paper: #fefefd; --ink: #1b1c1e; --soft: #5a5e66; --line: #d9dbdf; --wash: #f3f4f6;
  --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --paper: #17181b; --ink: #e8e9eb; --soft: #a6abb4; --line: #3a3d43;
  --wash: #212328; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2.5rem 1.5rem 4rem; max-width: 62rem; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--line); }
p, li { max-width: 46rem; }
.lead { color: var(--soft); margin: 0 0 1.6rem; }
.key { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .8rem; margin: 0; }
.key div { background: var(--wash); border-radius: 8px; padding: .8rem 1rem; }
.key dt { color: var(--soft); font-size: .85rem; }
.key dd { margin: 0; font-size: 1.65rem; font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.key dd small { display: block; font-size: .8rem; color: var(--soft); letter-spacing: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; margin: .4rem 0 1rem; }
caption { text-align: left; color: var(--soft); padding: 0 0 .5rem; max-width: 46rem; }
th, td { padding: .28rem .8rem .28rem 0; text-align: right; vertical-align: baseline;
  border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; border-bottom: 1.5px solid var(--soft); vertical-align: bottom; }
th[scope=row], th:first-child, td.text { text-align: left; font-weight: 400; }
td.text { max-width: 26rem; min-width: 7rem; overflow-wrap: break-word; }
th.text { text-align: left; }
.n { white-space: nowrap; }
td.apart, th.apart { min-width: 13rem; font-size: .95em; border-left: 1.5px dotted var(--soft);
  padding-left: .8rem; color: var(--soft); }
td small { color: var(--soft); }
td b { font-weight: 650; }
.meter { display: inline-block; width: 5rem; height: .55rem; background: var(--wash); border-radius: 2px;
  margin-left: .5rem; }
.meter i { display: block; height: 100%; background: var(--accent); border-radius: 2px; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1.5rem; align-items: start; }
figure { margin: .5rem 0 1rem; }
figure svg { max-width: 100%; height: auto; display: block; }
figure.wide svg { width: 100%; max-width: 40rem; }
figcaption { color: var(--soft); font-size: .88rem; max-width: 42rem; margin-top: .3rem; }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1.2rem; font-size: .9rem; margin: 0; }
dl.facts dt { color: var(--soft); } dl.facts dd { margin: 0; overflow-wrap: anywhere; }
code { font: .92em ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
footer { margin-top: 3rem; color: var(--soft); font-size: .88rem; border-top: 1px solid var(--line);
  padding-top: 1rem; }
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #bbb; --wash: #f1f1f1; --accent: #0072b2; }
  @page { size: A4; margin: 16mm 15mm; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  h2 { break-after: avoid; margin-top: 1.4rem; padding-top: .5rem; } footer { margin-top: 1.2rem; break-before: avoid; }
  .key { grid-template-columns: repeat(auto-fit, minmax(8rem, 1fr)); }
  figure, table, .key div { break-inside: avoid; } tr { break-inside: avoid; }
  .scroll { overflow: visible; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""
"""The style sheet of reports and comparisons."""

WIDE = """
body { max-width: 92rem; }
table { font-size: .84rem; }
@media print { @page { size: A4 landscape; } table { font-size: 7.5pt; } td.text { min-width: 0; } }
"""
"""Added for pages with wide tables."""


def document(title: str, body: Sequence[str], wide: bool = False) -> str:
    """A complete HTML page; `body` is trusted markup. A wide page is printed in landscape."""
    style = STYLE + (WIDE if wide else "")
    return (
        '<!doctype html>\n<html lang="en-GB">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def table(
    caption: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    text: Sequence[int] = (),
    apart: Sequence[int] = (),
) -> str:
    """A table; the first column holds the row headers.

    Args:
        caption: plain text.
        header: plain text.
        rows: cells of trusted markup; escape plain text with `html.escape`.
        text: indices of columns aligned left, as prose.
        apart: indices of columns set off by a dotted line: not to be compared with the others.
    """

    def mark(index: int) -> str:
        names = [name for name, columns in (("text", text), ("apart", apart)) if index in columns]
        return f' class="{" ".join(names)}"' if names else ""

    head = "".join(f'<th scope="col"{mark(i)}>{escape(name)}</th>' for i, name in enumerate(header))
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td{mark(i)}>{cell}</td>" for i, cell in enumerate(rest, start=1))
        lines.append(f'<tr><th scope="row">{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def interval(cell: str) -> str:
    """Markup of a cell's plain text; "79.4 ± 1.8 (76.7 to 81.8)" is set on two lines with a small interval."""
    match = re.fullmatch(r"(.+?) \((\S+ to \S+)\)", cell)
    if match is None:
        return escape(cell)
    return f'<span class="n">{escape(match[1])}</span><br><small class="n">{escape(match[2])}</small>'


def figure(svg: str, caption: str, wide: bool = False) -> str:
    """A picture with its caption; `svg` comes from `mien.figures.palette.markup` and has a text description."""
    return f"<figure{' class=wide' if wide else ''}>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A list of names and values; values are trusted markup."""
    return (
        '<dl class="facts">'
        + "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in pairs)
        + "</dl>"
    )


def meter(share: float) -> str:
    """A small bar for a share in [0, 1]; screen readers skip it, as the number is beside it."""
    return f'<span class="meter" aria-hidden="true"><i style="width:{100 * share:.1f}%"></i></span>'


FAINT = "#8A8D93"
"""Colour of grids, reference lines and secondary text; readable on light and dark backgrounds."""
