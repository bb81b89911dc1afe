"""Finds the converters: every module beside ``core`` is one, and its name is the name that the user types."""

from __future__ import annotations

import importlib
import pkgutil

from medsegdiff_auto import dataset_conversion
from medsegdiff_auto.dataset_conversion.core.source import Converter


def converter_names() -> list[str]:
    """The names of all converters, sorted; none of them is imported."""
    return sorted(module.name for module in pkgutil.iter_modules(dataset_conversion.__path__) if not module.ispkg)


def load_converter(name: str) -> Converter:
    """The converter of the module ``name``."""
    return importlib.import_module(f"{dataset_conversion.__name__}.{name}").CONVERTER
