"""nnU-Net's folders, empty."""

import pytest


@pytest.fixture
def nnunet_folders(tmp_path, monkeypatch):
    """Sets nnU-Net's three variables to an empty folder, here and in new processes."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path))
