"""A dataset that is trained and validated in five folds, without the training."""

import json
import multiprocessing
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import pytest
from cubes import DATASET, MODELS, PLANS, cube, save_labels, save_probabilities, write_model_files


@pytest.fixture
def threads_for_processes(monkeypatch):
    """nnU-Net's process pools as threads: each new process would import torch for seconds."""
    monkeypatch.setattr(multiprocessing, "get_context", lambda method=None: SimpleNamespace(Pool=ThreadPool))


@pytest.fixture
def trained(tmp_path, monkeypatch) -> Path:
    """``raw``, ``preprocessed`` and ``results`` with the validations of five folds of two configurations."""
    raw, preprocessed, results = (tmp_path / name for name in ("raw", "preprocessed", "results"))
    for variable, folder in (("nnUNet_raw", raw), ("nnUNet_preprocessed", preprocessed), ("nnUNet_results", results)):
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
    for fold in range(5):
        save_labels(preprocessed / DATASET / "gt_segmentations" / f"case_{fold}.nii.gz", cube())
    (preprocessed / DATASET / "MedSegDiffPlans.json").write_text(json.dumps(PLANS))
    for configuration, (labels, foreground) in MODELS.items():
        model = results / DATASET / f"nnUNetTrainerMedSegDiff__MedSegDiffPlans__{configuration}"
        write_model_files(model)
        for fold in range(5):
            validation = model / f"fold_{fold}" / "validation"
            save_labels(validation / f"case_{fold}.nii.gz", labels)
            save_probabilities(validation / f"case_{fold}", foreground)
            (validation / "summary.json").write_text("{}")
    return tmp_path
