"""One comparison of made-up methods, made once."""

import json

import pytest
from compared_folders import DATASET, build

from medsegdiff_auto.comparison import compare


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Folders of eight patients with two cases each, not yet compared."""
    root = tmp_path_factory.mktemp("comparison")
    build(root, 16)
    return root


@pytest.fixture(scope="session")
def compared(built):
    """The folder of the comparison, and the content of its summary.json."""
    folder = built / "Dataset901_Balls" / "comparison"
    compare(folder, built / "labels", DATASET, built / "preprocessed")
    return folder, json.loads((folder / "summary.json").read_text(encoding="utf-8"))
