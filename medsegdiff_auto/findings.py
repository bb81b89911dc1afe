"""What a check of a dataset found: one record per fault, as a table, as JSON, and as a four-line error."""

import dataclasses
import logging
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.writing import write_json

ERROR = "error"
WARNING = "warning"

NAMED_FILES = 3

_log = logging.getLogger(__name__)
_COLUMN_WIDTHS = {"file": 36, "check": 30, "found": 30, "expected": 30, "fix": 40}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault of one file.

    ``check`` continues the sentence that the file name begins ("holds NaN or infinite values"). ``severity`` is "error"
    for what would stop or spoil a training, "warning" for what nnU-Net accepts.
    """

    file: str
    check: str
    found: str
    expected: str
    fix: str
    severity: str = ERROR

    def as_user_error(self) -> UserError:
        """The finding as the four-line error that a command prints."""
        return UserError(f"{self.file} {self.check}.", found=self.found, expected=self.expected, fix=self.fix)


def errors_among(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that have to be repaired."""
    return [finding for finding in findings if finding.severity == ERROR]


def raise_errors(findings: Sequence[Finding], subject: str, where: str) -> None:
    """Log the findings as a table, and raise the errors among them as one.

    ``subject`` names what was checked, ``where`` the place at which the findings can be read.

    Raises:
        UserError: the only error itself, or the number of errors.
    """
    errors = errors_among(findings)
    if errors and len(findings) == 1:
        raise errors[0].as_user_error()
    if findings:
        _log.info("%s\n", findings_table(findings))
    if len(errors) == 1:
        raise errors[0].as_user_error()
    if errors:
        files = list(dict.fromkeys(finding.file for finding in errors))
        names = ", ".join(files[:NAMED_FILES]) + (", ..." if len(files) > NAMED_FILES else "")
        check, count = Counter(finding.check for finding in errors).most_common(1)[0]
        raise UserError(f"{subject} is not intact.", expected="no error",
                        found=f"{len(errors)} errors in {names}; most often ({count}): a file {check}",
                        fix=f"repair the files listed in {where}")


def findings_table(findings: Sequence[Finding]) -> str:
    """The findings as an aligned text table, one block of lines per finding, warnings marked in the check column."""
    rows = [tuple(_COLUMN_WIDTHS)] + [_row(finding) for finding in findings]
    wrapped = [[textwrap.wrap(cell, width, break_on_hyphens=False) or [""]
                for cell, width in zip(row, _COLUMN_WIDTHS.values())] for row in rows]
    widths = [max(len(line) for row in wrapped for line in row[column]) for column in range(len(_COLUMN_WIDTHS))]
    blocks = [_block(row, widths) for row in wrapped]
    return "\n".join([blocks[0], "  ".join("-" * width for width in widths), *blocks[1:]])


def write_findings(findings: Sequence[Finding], path_json: str | Path) -> None:
    """Write the findings as JSON (``{"findings": [{file, check, found, expected, fix, severity}, ...]}``), atomically.
    """
    write_json({"findings": [dataclasses.asdict(finding) for finding in findings]}, path_json)


def list_values(values: Sequence[float]) -> str:
    """Numbers in a row, at most ten of them."""
    shown = [f"{float(value) + 0.0:.6g}" for value in values[:10]]
    return ", ".join(shown) + (f", ... ({len(values)} values)" if len(values) > 10 else "")


def list_extents(size: Sequence[int]) -> str:
    """``10 x 8 x 6``."""
    return " x ".join(str(extent) for extent in size)


def _row(finding: Finding) -> tuple[str, ...]:
    mark = "(warning) " if finding.severity == WARNING else ""
    return finding.file, mark + finding.check, finding.found, finding.expected, finding.fix


def _block(row: list[list[str]], widths: list[int]) -> str:
    height = max(len(cell) for cell in row)
    lines = []
    for index in range(height):
        cells = [cell[index] if index < len(cell) else "" for cell in row]
        lines.append("  ".join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())
    return "\n".join(lines)
