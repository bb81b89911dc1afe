"""The page: one HTML file without scripts and without anything to load, readable on screen and on paper."""

import base64
from collections.abc import Sequence
from html import escape

from medsegdiff_auto.reporting.figures import DOTS_PER_INCH
from medsegdiff_auto.reporting.page_style import STYLE

SCREEN_DOTS_PER_INCH = 100


def document(title: str, subtitle: str, contents: Sequence[tuple[str, str, str]]) -> str:
    """The whole page from sections ``(anchor, heading, html)``."""
    links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in contents)
    body = "\n".join(f'<section id="{anchor}"><h2>{escape(heading)}</h2>\n{html}\n</section>'
                     for anchor, heading, html in contents)
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
            f"<style>{STYLE}</style></head>\n<body><header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>\n"
            f"<nav>{links}</nav>\n<main>\n{body}\n</main></body></html>\n")


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


def missing(text: str) -> str:
    """A part of the report that cannot be drawn, and what would bring it."""
    return f'<p class="missing">{escape(text)}</p>'


def heading(text: str) -> str:
    """A heading within a section."""
    return f"<h3>{escape(text)}</h3>"


def picture(png: bytes, description: str, caption: str = "") -> str:
    """A PNG embedded in the page at its natural size; ``description`` is read out where it cannot be seen."""
    width = round(int.from_bytes(png[16:20], "big") * SCREEN_DOTS_PER_INCH / DOTS_PER_INCH)
    encoded = base64.b64encode(png).decode("ascii")
    caption = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    source = f"data:image/png;base64,{encoded}"
    return f'<figure><img width="{width}" alt="{escape(description)}" src="{source}">{caption}</figure>'


def panels(pictures: Sequence[str]) -> str:
    """Narrow pictures side by side, as many as the page is wide."""
    return f'<div class="panels">{"".join(pictures)}</div>'


def folded(title: str, html: str) -> str:
    """A part that opens when its title is touched."""
    return f"<details><summary>{escape(title)}</summary>{html}</details>"


def tiles(values: Sequence[tuple[str, str, str]]) -> str:
    """Headline numbers ``(value, name, explanation)`` side by side."""
    cells = "".join(f'<div class="tile"><div class="value">{escape(value)}</div><div class="name">{escape(name)}</div>'
                    f'<div class="note">{escape(note)}</div></div>' for value, name, note in values)
    return f'<div class="tiles">{cells}</div>'


def code_block(lines: Sequence[str]) -> str:
    """Commands or other text in a fixed-width font."""
    return f"<pre>{escape(chr(10).join(lines))}</pre>"
