"""What is checked and set up before a training."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from tiny_plan import DATASET_JSON, plans_of, tiny_trainer

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training.checkpoint_content import content_of
from medsegdiff_auto.training import run
from medsegdiff_auto.training.run import TrainingRequest, require_same_seed, train


@pytest.mark.parametrize("device, searches", [("cuda", True), ("mps", False)])
def test_on_a_gpu_cudnn_searches_the_fastest_convolutions_as_with_nnunet(tmp_path, monkeypatch, device, searches):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    request = TrainingRequest("Dataset900_Tiny", "2d", 0, "MedSegDiffPlans", "nnUNetTrainerMedSegDiff", device)
    with pytest.raises(UserError, match="no plans of this name"):
        train(request, tmp_path / "Dataset900_Tiny", tmp_path)
    assert torch.backends.cudnn.benchmark is searches


class MakesFolder:
    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def dataset(folder: Path, plans: dict) -> Path:
    """A preprocessed dataset without a case."""
    preprocessed = folder / "Dataset900_Tiny"
    (preprocessed / "MedSegDiffPlans_2d").mkdir(parents=True)
    (preprocessed / "gt_segmentations").mkdir()
    (preprocessed / "MedSegDiffPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    (preprocessed / "dataset.json").write_text(json.dumps(DATASET_JSON), encoding="utf-8")
    return preprocessed


@pytest.mark.parametrize("trainer", ["nnUNetTrainerMedSegDiff", "nnUNetTrainer"])
@pytest.mark.parametrize("place", ["MedSegDiffPlans_2d/case.pkl", "MedSegDiffPlans_2d_raters/anna/case.pkl"])
def test_properties_that_would_run_code_are_refused_before_a_training_loads_them(
        nnunet_folders, tmp_path, trainer, place):
    preprocessed = dataset(tmp_path, plans_of("auto"))
    file = preprocessed / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(pickle.dumps(MakesFolder(tmp_path / "made")))
    request = TrainingRequest("Dataset900_Tiny", "2d", "all", "MedSegDiffPlans", trainer, "cpu")
    with pytest.raises(UserError, match=r"case.pkl cannot be read"):
        train(request, preprocessed, tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("trainer", ["nnUNetTrainerMedSegDiff", "nnUNetTrainer"])
def test_plans_that_name_other_code_are_refused_before_a_training_builds_its_network(
        nnunet_folders, tmp_path, trainer):
    plans = json.loads(json.dumps(plans_of("auto")))
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"] |= {
        "nonlin": "os.mkdir", "nonlin_kwargs": {"path": str(tmp_path / "made")}}
    request = TrainingRequest("Dataset900_Tiny", "2d", "all", "MedSegDiffPlans", trainer, "cpu")
    with pytest.raises(UserError, match=r"nonlin: 'os.mkdir'"):
        train(request, dataset(tmp_path, plans), tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("change", [lambda c: c.clear(), lambda c: c.update(raw_weights={}),
                                    lambda c: c.update(random_states=None), lambda c: c.update(optimizer_state=[])])
def test_a_checkpoint_that_does_not_fit_is_named_when_a_training_goes_on(nnunet_folders, tmp_path, change):
    trainer, file = tiny_trainer(), tmp_path / "checkpoint_latest.pth"
    content = content_of(trainer)
    change(content)
    torch.save(content, file)
    with pytest.raises(UserError, match=r"checkpoint_latest.pth does not fit this training"):
        trainer.load_checkpoint(str(file))


@pytest.mark.parametrize("begun_with, seed, is_refused", [(3, 4, True), (3, 3, False), (3, None, False),
                                                          (None, 4, False)])
def test_a_fold_goes_on_and_counts_with_the_seed_that_it_was_begun_with(tmp_path, begun_with, seed, is_refused):
    file = tmp_path / "checkpoint_latest.pth"
    content = {"network_weights": {}, "current_epoch": 1}
    torch.save(content if begun_with is None else content | {"seed": begun_with}, file)
    if not is_refused:
        require_same_seed(file, seed)
        return
    with pytest.raises(UserError, match="another seed") as refused:
        require_same_seed(file, seed)
    assert "--seed 4, and 3" in refused.value.found and "--overwrite" in refused.value.fix


@pytest.mark.parametrize("how", [{"continue_training": True}, {"is_automatic": True}], ids=str)
def test_a_training_asks_for_the_seed_before_it_loads_anything(tmp_path, monkeypatch, how):
    request = TrainingRequest("Dataset900_Tiny", "2d", 0, "MedSegDiffPlans", "nnUNetTrainerMedSegDiff", "cpu", seed=4,
                              **how)
    monkeypatch.setattr(run, "num_validation_cases", lambda *_: 1)
    folder = request.fold_folder(tmp_path)
    folder.mkdir(parents=True)
    torch.save({"network_weights": {}, "current_epoch": 1, "seed": 3}, folder / "checkpoint_latest.pth")
    with pytest.raises(UserError, match="another seed"):
        train(request, tmp_path / "preprocessed", tmp_path)
