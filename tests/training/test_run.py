"""How torch is set up for a training."""

import pytest
import torch

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training.run import TrainingRequest, train


@pytest.mark.parametrize("device, searches", [("cuda", True), ("mps", False)])
def test_on_a_gpu_cudnn_searches_the_fastest_convolutions_as_with_nnunet(tmp_path, monkeypatch, device, searches):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    request = TrainingRequest("Dataset900_Tiny", "2d", 0, "MedSegDiffPlans", "nnUNetTrainerMedSegDiff", device)
    with pytest.raises(UserError, match="no plans of this name"):
        train(request, tmp_path / "Dataset900_Tiny", tmp_path)
    assert torch.backends.cudnn.benchmark is searches
