"""The page: one HTML file with nothing to load, readable on screen and on paper, and without its scripts too."""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from medsegdiff_auto.reporting.figures import DOTS_PER_INCH

FILES = files("medsegdiff_auto.reporting") / "page_files"
SCREEN_DOTS_PER_INCH = 100
SORTING, VIEWING = "tables.js", "viewer.js"


def document(title: str, subtitle: str, contents: Sequence[tuple[str, str, str]], notes: Sequence[str] = (),
             scripts: Sequence[str] = ()) -> str:
    """The whole page from sections ``(anchor, heading, html)``; ``notes`` are what a reader must know first.

    Of a page with ``scripts``, browsers run only these, by the checksums that it names, and load nothing.
    """
    links = "".join(f'<a href="#{anchor}">{escape(heading)}</a>' for anchor, heading, _ in contents)
    body = "\n".join(f'<section id="{anchor}"><h2>{escape(heading)}</h2>\n{html}\n</section>'
                     for anchor, heading, html in contents)
    texts = [FILES.joinpath(name).read_text(encoding="utf-8") for name in scripts]
    allowed = " ".join(map(_checksum, [*(text.encode() for text in texts), *[library()] * (VIEWING in scripts)]))
    policy = ('<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
              f'style-src \'unsafe-inline\'; script-src {allowed}">') if texts else ""
    known = "".join(f"<li>{escape(note)}</li>" for note in notes)
    box = f'<aside class="notice"><strong>Know before you read on</strong><ul>{known}</ul></aside>\n' if notes else ""
    return (f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'{policy}<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{FILES.joinpath('report.css').read_text(encoding='utf-8')}</style></head>\n"
            f"<body><header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>\n"
            f"<nav>{links}</nav>\n<main>\n{box}{body}\n</main>\n"
            + "".join(f"<script>{text}</script>\n" for text in texts) + "</body></html>\n")


def library() -> bytes:
    """The vendored niivue, as npm has it; its checksum stands in ``SHA256SUMS`` beside it."""
    return FILES.joinpath("niivue", "niivue.umd.js").read_bytes()


def _checksum(script: bytes) -> str:
    """A script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode('ascii')}'"


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
