"""A scored folder, made once."""

import pytest
from scored_folder import score_folder


@pytest.fixture(scope="session")
def scored(tmp_path_factory):
    """Two cases with all that can lie beside a prediction: their folders and what evaluate_folder returned."""
    root = tmp_path_factory.mktemp("folder")
    return root, score_folder(root)
