"""The small part of Markdown in which plan.md is written: headings, lists, tables, paragraphs, bold and code."""

import re
from html import escape


def to_html(text: str) -> str:
    """Render headings (one level lower than the page's own), ``-`` lists, pipe tables, paragraphs, ``**bold**`` and ``
    `code` ``.
    """
    blocks, lines = [], text.splitlines()
    while lines:
        kind = _kind(lines[0])
        block = [lines.pop(0)]
        while lines and kind in ("item", "row", "text") and _kind(lines[0]) == kind:
            block.append(lines.pop(0))
        blocks.append(_RENDERERS[kind](block))
    return "\n".join(block for block in blocks if block)


def _kind(line: str) -> str:
    stripped = line.strip()
    if not stripped:
        return "blank"
    if stripped.startswith("#"):
        return "heading"
    if re.match(r"[-*] ", stripped):
        return "item"
    return "row" if stripped.startswith("|") else "text"


def _inline(text: str) -> str:
    text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
    return re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", text)


def _heading(block: list[str]) -> str:
    return f"<h3>{_inline(block[0].strip().lstrip('#').strip())}</h3>"


def _list(block: list[str]) -> str:
    return "<ul>" + "".join(f"<li>{_inline(line.strip()[2:])}</li>" for line in block) + "</ul>"


def _table(block: list[str]) -> str:
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in block]
    rows = [row for row in rows if not all(re.fullmatch(r":?-+:?", cell) for cell in row)]
    head = "".join(f"<th>{_inline(cell)}</th>" for cell in rows[0])
    body = "".join(
        "<tr>" + "".join(f'<td class="text">{_inline(cell)}</td>' for cell in row) + "</tr>" for row in rows[1:])
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _paragraph(block: list[str]) -> str:
    return f"<p>{_inline(' '.join(line.strip() for line in block))}</p>"


_RENDERERS = {"blank": lambda block: "", "heading": _heading, "item": _list, "row": _table, "text": _paragraph}
