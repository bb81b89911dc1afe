"""Content of JSON files against a schema: pydantic's findings in one line. Free of torch."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

Schema = TypeVar("Schema")
NUM_NAMED = 3
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
"""Configuration of a dataclass that has no other keys than its own and only finite numbers."""


def validated(schema: type[Schema], content: Any) -> Schema:
    """The content as an instance of a dataclass, whose types and limits it keeps.

    Raises:
        ValueError: it does not; the first places that do not, and what stands there, in one line.
    """
    try:
        return TypeAdapter(schema).validate_python(content)
    except ValidationError as failure:
        raise ValueError(in_one_line(failure)) from failure


def in_one_line(failure: ValidationError) -> str:
    """``labels.organ is -1: Input should be greater than or equal to 0; ...``."""
    errors = failure.errors(include_url=False, include_context=False)
    told = [_told(error) for error in errors[:NUM_NAMED]]
    return "; ".join(told) + (f"; ... ({len(errors)})" if len(errors) > NUM_NAMED else "")


def _told(error) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "the content"
    if error["type"] == "missing":
        return f"{place} is missing"
    shown = repr(error["input"])
    return f"{place} is {shown if len(shown) <= 60 else shown[:57] + '...'}: {error['msg']}"
