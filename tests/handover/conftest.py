"""A small model, and its file."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
from small_model import TERMS, write_model_folder

from medsegdiff_auto.handover.exporting import export_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """To be read only."""
    return write_model_folder(tmp_path_factory.mktemp("handover") / "model")


@pytest.fixture(scope="session")
def exported(model_folder, tmp_path_factory) -> Path:
    """The file of the model; to be read only."""
    file = tmp_path_factory.mktemp("exported") / "model.zip"
    manifest = export_model(model_folder, file, terms=TERMS)
    assert asdict(manifest.terms) == {"weights_licence": "CC-BY-4.0", "data_licence": "CC0-1.0",
                                      "citation": "Somebody, 2026"}
    return file


@pytest.fixture
def model_file(exported, tmp_path) -> Path:
    """A copy of the file."""
    return Path(shutil.copy(exported, tmp_path / "model.zip"))
