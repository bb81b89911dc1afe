"""Docstrings begin with what the thing does or is, for a reader who does not know the one before."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
HANGING = ("Of ", "The same")


def docstrings(source: str):
    """Name and docstring of the module and of everything defined in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node,
                      (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and ast.get_docstring(node):
            yield getattr(node, "name", "module"), ast.get_docstring(node)


def test_no_docstring_hangs_on_the_one_before():
    found = [f"{file.relative_to(ROOT)}: {name}" for folder in ("medsegdiff_auto", "dataset_conversion", "tests")
             for file in (ROOT / folder).rglob("*.py") for name, text in docstrings(file.read_text(encoding="utf-8"))
             if text.startswith(HANGING)]
    assert found == []
