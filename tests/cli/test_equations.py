"""The table of equations names functions that there are, and each names its paper where it stands."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import medsegdiff_auto

TABLE = Path(medsegdiff_auto.__file__).with_name("EQUATIONS.md").read_text(encoding="utf-8")
ROWS = [line.strip("|").split(" | ") for line in TABLE.splitlines() if line.startswith("| ") and "`" in line]


@pytest.mark.parametrize("equation, paper, function", ROWS, ids=[row[2].strip(" `") for row in ROWS])
def test_every_equation_has_its_function_whose_text_names_the_paper(equation, paper, function):
    module_name, name = f"medsegdiff_auto.{function.strip(' `')}".rsplit(".", 1)
    module = importlib.import_module(module_name)
    text = " ".join(f"{inspect.getdoc(module)} {inspect.getdoc(getattr(module, name))}".split())
    papers = re.findall(r"arXiv [\d.]+\d|[A-Z]\w+(?: et al\.| and \w+)? \d{4}", paper)
    assert papers and any(one in text for one in papers)


def test_the_table_has_all_papers_of_the_method():
    assert len(ROWS) > 20 and all(len(row) == 3 for row in ROWS)
