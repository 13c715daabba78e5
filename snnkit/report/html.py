"""One self-contained HTML page: styles and pictures inside, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Sequence

from ..files import PathLike, atomic

_STYLE = """
:root { --ink: #1b2430; --soft: #5a6675; --line: #dde3ea; --ground: #f5f7fa; --accent: #2a6fbb; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink);
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
header { background: #fff; border-bottom: 1px solid var(--line); padding: 28px 0 20px; }
header div, main { max-width: 1128px; margin: 0 auto; padding: 0 24px; }
main { padding: 8px 24px 48px; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 19px; margin: 36px 0 8px; }
p { margin: 6px 0 12px; max-width: 78ch; }
.soft { color: var(--soft); }
.card { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 16px; margin: 12px 0;
        overflow-x: auto; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px;
         margin: 16px 0; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: 8px; padding: 12px 14px; }
.tile b { display: block; font-size: 21px; font-weight: 600; }
.tile span { color: var(--soft); font-size: 13px; }
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 12px; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { color: var(--soft); font-size: 13px; margin-top: 8px; }
figure { margin: 0; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
th { text-align: left; color: var(--soft); font-weight: 600; border-bottom: 2px solid var(--line); }
th, td { padding: 5px 10px 5px 0; vertical-align: top; }
td { border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: 8px 0; } summary { cursor: pointer; color: var(--accent); }
.mark { display: inline-block; border-radius: 4px; padding: 0 7px; font-size: 12px; background: #e8eef5;
        white-space: nowrap; }
.mark.estimate { background: #fbe7c8; } .mark.fitted, .mark.measured { background: #d9efdc; }
@media print { body { background: #fff; } .card, .tile { break-inside: avoid; } }
"""


def escape(text: object) -> str:
    """Text that is safe inside HTML."""
    return html.escape(str(text), quote=True)


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    numbers: Sequence[int] = (),
    raw: Sequence[int] = (),
) -> str:
    """An HTML table; `numbers` are the columns set flush right, `raw` those that hold HTML already."""

    def cell(tag: str, i: int, value: object) -> str:
        text = str(value) if i in raw and tag == "td" else escape(value)
        return f'<{tag} class="n">{text}</{tag}>' if i in numbers else f"<{tag}>{text}</{tag}>"

    head = "".join(cell("th", i, c) for i, c in enumerate(columns))
    body = "".join("<tr>" + "".join(cell("td", i, v) for i, v in enumerate(row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def picture(svg: str, alt: str, caption: str = "") -> str:
    """An SVG inside the page, on a card, with a caption."""
    data = base64.b64encode(svg.encode()).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    image = f'<img alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'
    return f'<figure class="card">{image}{below}</figure>'


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Large figures with what they are: (value, label)."""
    inner = "".join(f'<div class="tile"><b>{escape(v)}</b><span>{escape(n)}</span></div>' for v, n in values)
    return f'<div class="tiles">{inner}</div>'


def details(summary: str, inner: str) -> str:
    """A part that is folded away until it is clicked."""
    return f"<details><summary>{escape(summary)}</summary>{inner}</details>"


def write(path: PathLike, title: str, subtitle: str, parts: Iterable[str]) -> None:
    """Write the page; the file appears whole or not at all."""
    page = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
        f'<header><div><h1>{escape(title)}</h1><p class="soft">{escape(subtitle)}</p></div></header>'
        f"<main>{''.join(parts)}</main></body></html>\n"
    )
    with atomic(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
