"""Preset plan fragments: readable JSON files in ``plans/``, installed as ``medsegdiff_auto.plans``."""

from __future__ import annotations

import json
from importlib import resources

from medsegdiff_auto.errors import UserError


def available_presets() -> list[str]:
    """Names of the preset fragments that are installed."""
    files = resources.files("medsegdiff_auto.plans").iterdir()
    return sorted(file.name.removesuffix(".json") for file in files if file.name.endswith(".json"))


def load_preset(name: str) -> dict:
    """The fragment of this name.

    Raises:
        UserError: no preset has this name.
    """
    if name not in available_presets():
        raise UserError("The preset does not exist.", found=name, expected=" or ".join(available_presets()),
                        fix="choose one of these with --preset")
    return json.loads(resources.files("medsegdiff_auto.plans").joinpath(f"{name}.json").read_text(encoding="utf-8"))
