"""Tables as HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote


@dataclass(frozen=True)
class Column:
    """A column of a table: its key in the rows, its heading, and the decimals of its numbers.

    ``marks`` are the classes of cells with these texts, ``good`` or ``alert``; ``meaning`` is shown where the pointer
    rests on the heading.
    """

    key: str
    heading: str
    decimals: int = 3
    marks: Mapping[str, str] = field(default_factory=dict)
    meaning: str = ""

    def text(self, value) -> str:
        """The cell's text: a dash where there is no number, yes or no for a truth value."""
        if value is None or value != value:
            return "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        return f"{value:.{self.decimals}f}" if isinstance(value, float) else str(value)


def table(columns: Sequence[Column], rows: Sequence[Mapping], source: str | None = None) -> str:
    """A table with the columns that have a value in at least one row; numbers are set flush right.

    What follows a line break in a cell is a note to it. ``source`` is the address of the file with all digits. The
    script of the page lets readers sort and filter.
    """
    columns = [column for column in columns if any(row.get(column.key) is not None for row in rows)]
    numeric = [any(isinstance(row.get(column.key), (int, float)) for row in rows) for column in columns]
    head = "".join(f'<th scope="col"{_class(number)}{_title(column)}>{escape(column.heading)}</th>'
                   for column, number in zip(columns, numeric))
    body = "\n".join(
        "<tr>" + "".join(_cell(column, row.get(column.key), number)
                         for column, number in zip(columns, numeric)) + "</tr>" for row in rows)
    link = f'<a href="{escape(quote(source))}">{escape(source.rpartition("/")[2])}</a>' if source else ""
    return (f'<div class="table"><div class="tools">{link}</div><div class="scroll"><table class="sortable"><thead>'
            f"<tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div></div>")


def key_value_table(values: Mapping[str, object]) -> str:
    """Two columns: a name and its value; see :func:`plain`."""
    rows = "\n".join(
        f"<tr><td>{escape(str(key))}</td><td>{escape(plain(value))}</td></tr>" for key, value in values.items())
    return f'<div class="scroll names"><table><tbody>{rows}</tbody></table></div>'


def plain(value) -> str:
    """A value of a plan as text: short numbers, lists with commas, lists in a list as extents (``3 x 3``), nothing as a
    dash.
    """
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):
        return ", ".join(
            " x ".join(map(plain, item)) if isinstance(item, (list, tuple)) else plain(item) for item in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def _title(column: Column) -> str:
    return f' title="{escape(column.meaning)}"' if column.meaning else ""


def _cell(column: Column, value, number: bool) -> str:
    text, *notes = column.text(value).split("\n")
    mark = "alert" if value is False else column.marks.get(text, "")
    note = "".join(f'<br><span class="note">{escape(line)}</span>' for line in notes)
    return f"<td{_class(number, mark)}>{escape(text)}{note}</td>"


def _class(number: bool, mark: str = "") -> str:
    names = " ".join(name for name in ("number" * number, mark) if name)
    return f' class="{names}"' if names else ""
