"""Preset plan fragments and finished plans: readable JSON in ``plans/``, installed as ``medsegdiff_auto.plans``."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from medsegdiff_auto.errors import UserError

FRAGMENTS, READY = "medsegdiff_auto.plans", "medsegdiff_auto.plans.ready"


def available_presets() -> list[str]:
    """Names of the preset fragments that are installed."""
    return _names(FRAGMENTS)


def available_ready_plans() -> list[str]:
    """Names of the finished plans that are installed."""
    return _names(READY)


def load_preset(name: str) -> dict:
    """The fragment of this name.

    Raises:
        UserError: no preset has this name.
    """
    if name not in available_presets():
        raise UserError("The preset does not exist.", found=name, expected=" or ".join(available_presets()),
                        fix="choose one of these with --preset")
    return json.loads(resources.files(FRAGMENTS).joinpath(f"{name}.json").read_text(encoding="utf-8"))


def finished_plans(file_or_name: str) -> Path:
    """The file of finished plans, given as a file or by the name of installed ones.

    Raises:
        UserError: neither exists.
    """
    if file_or_name in available_ready_plans():
        return Path(str(resources.files(READY).joinpath(f"{file_or_name}.json")))
    if not Path(file_or_name).is_file():
        raise UserError("The finished plans do not exist.", found=file_or_name,
                        expected=f"a file, or one of {', '.join(available_ready_plans())}",
                        fix="correct --plans, or leave it out to plan anew")
    return Path(file_or_name)


def _names(package: str) -> list[str]:
    names = (file.name for file in resources.files(package).iterdir())
    return sorted(name.removesuffix(".json") for name in names if name.endswith(".json"))
