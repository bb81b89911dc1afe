"""Imports flow one way: a module imports its own room and lower ones."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, CONVERSION, TOP = "medsegdiff_auto", "dataset_conversion", "top"

LAYERS = [TOP, "diffusion", "networks", "nnunet", "files", "checks", "planning", "training", "sampling", "decision",
          "inference", "evaluation", "selection", "reporting", "explanation", "handover", "comparison", "crossval"]
MAY_IMPORT = {room: set(LAYERS[:height + 1]) for height, room in enumerate(LAYERS)} | {
    "phantoms": {*LAYERS[:LAYERS.index("checks")], "phantoms"},
    "explanation": {*LAYERS, "phantoms"},  # its notebook learns from them
    "chain": {*LAYERS, CONVERSION, "chain"},
    "ext_trainers": {*LAYERS, "ext_trainers"},
    "benchmarks": {*LAYERS, "phantoms", "benchmarks", CONVERSION, "cli"},
    "cli": {*LAYERS, "phantoms", "benchmarks", CONVERSION, "cli", "ext_trainers", "chain"},
    "plans": {TOP},
    CONVERSION: {TOP, "files", "checks", "nnunet", CONVERSION}}
WITHOUT_NNUNET = ("diffusion", "networks")
FROM_PYTHON = "medsegdiff_auto/__init__.py"  # hands out the Segmenter when asked for it

KNOWN_VIOLATIONS: dict[str, set[str]] = {}
"""``module: rooms that it may not import``, to be emptied."""


def sources() -> dict[str, Path]:
    """Every module by its name relative to the package, e.g.

    ``inference.predictor``; those of dataset_conversion too.
    """
    files = [*(ROOT / PACKAGE).rglob("*.py"), *(ROOT / CONVERSION).rglob("*.py"), *(ROOT / "plans").rglob("*.py")]
    modules = {}
    for file in files:
        parts = list(file.relative_to(ROOT).with_suffix("").parts)
        modules[".".join(parts[1:] if parts[0] == PACKAGE else parts)] = file
    return modules


def room_of(module: str) -> str:
    """The room of a module named relative to the package."""
    first = module.split(".")[0]
    return first if first in MAY_IMPORT else TOP


def imported_modules(source: str, module: str) -> set[str]:
    """Absolute names of all that a source imports, in functions and under TYPE_CHECKING as well."""
    package = f"{PACKAGE}.{module}".split(".")[:-1]
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[:len(package) - node.level + 1] if node.level else []
            origin = [*above, node.module] if node.module else above
            names |= {".".join([*origin, alias.name]) for alias in node.names}
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            names |= {text.value for text in node.args if isinstance(text, ast.Constant)}
    return names


def forbidden(source: str, module: str) -> set[str]:
    """What a module may not import and does: rooms of the package, or ``nnunetv2``."""
    room, names = room_of(module), imported_modules(source, module)
    ours = {room_of(name.removeprefix(f"{PACKAGE}.")) for name in names if name.startswith(f"{PACKAGE}.")}
    foreign = {name.split(".")[0] for name in names} & {"nnunetv2"} if room in WITHOUT_NNUNET else set()
    return (ours - MAY_IMPORT[room]) | foreign


def test_every_room_has_its_place():
    folders = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    assert folders <= set(MAY_IMPORT), "a new room stands in LAYERS"


def test_nothing_imports_upwards_but_what_is_known():
    found = {module: forbidden(file.read_text(encoding="utf-8"), module) for module, file in sources().items()
             if file != ROOT / FROM_PYTHON}
    assert {module: rooms for module, rooms in sorted(found.items()) if rooms} == KNOWN_VIOLATIONS


@pytest.mark.parametrize("source, module, expected", [
    ("from medsegdiff_auto.sampling import seeds", "sampling.tiling", set()),
    ("from medsegdiff_auto import sampling", "training.run", {"sampling"}),
    ("import medsegdiff_auto.cli.train", "training.run", {"cli"}),
    ("def f():\n    from medsegdiff_auto.inference.model import load", "evaluation.audit", set()),
    ("def f():\n    from medsegdiff_auto.evaluation.audit import run", "inference.model", {"evaluation"}),
    ("if TYPE_CHECKING:\n    from medsegdiff_auto.networks.build import build", "diffusion.state", {"networks"}),
    ("from ..planning import memory", "files.grid", {"planning"}),
    ("from . import grid", "files.image", set()),
    ("import_module('medsegdiff_auto.reporting.page')", "paths", {"reporting"}),
    ("from nnunetv2.utilities import x", "networks.build", {"nnunetv2"}),
    ("from nnunetv2.utilities import x", "training.trainer", set()),
    ("from medsegdiff_auto.paths import x\nfrom medsegdiff_auto.errors import y", "diffusion.state", set()),
    ("from medsegdiff_auto.planning import x", "dataset_conversion.core.folds", {"planning"})])
def test_an_import_upwards_is_found_wherever_it_stands(source, module, expected):
    assert forbidden(source, module) == expected
