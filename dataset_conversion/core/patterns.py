"""Patterns like ``images/{patient}/{case}_{channel}.png``: which files of a folder they name, and what the braces stand
for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PLACEHOLDER = re.compile(r"\{(\w+)\}|(\*)")


@dataclass(frozen=True)
class Match:
    """A file that a pattern names, with the words that its braces stand for."""

    path: Path
    fields: dict[str, str]

    @property
    def case(self) -> str:
        """The name of the case, headed by the patient's where the pattern has both and the case does not begin with it.
        """
        case, patient = self.fields["case"], self.fields.get("patient")
        return case if patient is None or case.startswith(patient) else f"{patient}_{case}"


def fields_of(pattern: str) -> list[str]:
    """The words in braces."""
    return [name for name, _ in _PLACEHOLDER.findall(pattern) if name]


def compiled(pattern: str, choices: Mapping[str, Sequence[str]]) -> re.Pattern:
    """The regular expression of a pattern. ``choices`` are all words of a field, where they are known.

    Braces and ``*`` stand for any text within one name of a file or folder; of two in a row the first takes as much as
    it can.
    """
    expression, end, seen = "", 0, set()
    for placeholder in _PLACEHOLDER.finditer(pattern):
        expression += re.escape(pattern[end:placeholder.start()])
        name, end = placeholder.group(1), placeholder.end()
        if name is None:
            expression += "[^/]*?"
        elif name in seen:
            expression += f"(?P={name})"
        else:
            among = "|".join(map(re.escape, sorted(choices.get(name, ()), key=len, reverse=True))) or "[^/]+"
            expression += f"(?P<{name}>{among})"
            seen.add(name)
    return re.compile(expression + re.escape(pattern[end:]))


def matches(pattern: str, source: Path, entries: Iterable[Path], endings: Sequence[str],
            choices: Mapping[str, Sequence[str]]) -> list[Match]:
    """Those of ``entries`` that the pattern names, in their order; without an ending of its own it takes any of
    ``endings``. Endings may be written in capitals.
    """
    stem = without_ending(pattern, endings)
    expression, has_ending = compiled(stem + pattern[len(stem):].lower(), choices), stem != pattern
    found = []
    for entry in entries:
        name = entry.relative_to(source).as_posix()
        stem = name if entry.is_dir() else without_ending(name, endings)
        match = expression.fullmatch(stem + name[len(stem):].lower() if has_ending else stem)
        if match:
            found.append(Match(entry, match.groupdict()))
    return found


def without_ending(name: str, endings: Sequence[str]) -> str:
    """The name without the longest ending that it has, whatever its case."""
    ending = max((ending for ending in endings if name.lower().endswith(ending)), key=len, default="")
    return name[:len(name) - len(ending)]


def num_literal(pattern: str) -> int:
    """How many characters of a pattern are themselves: of two patterns that name a file, the one with more means it."""
    return len(_PLACEHOLDER.sub("", pattern))
