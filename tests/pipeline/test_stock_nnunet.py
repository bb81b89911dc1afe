"""nnU-Net's own functions on our models, with the shim folder as nnUNet_extTrainer."""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from chain import threads_for_processes
from torch import nn

import medsegdiff_auto.ext_trainers
from medsegdiff_auto.networks.cpu_speed import InstanceNorm2d, InstanceNorm3d


@pytest.fixture
def stock(chain, monkeypatch):
    """A chain whose trainer nnU-Net finds by itself."""
    monkeypatch.setenv("nnUNet_extTrainer", str(Path(medsegdiff_auto.ext_trainers.__file__).parent))
    threads_for_processes(monkeypatch)
    return chain


def test_nnunets_predictor_segments_with_our_model_as_our_network_says(stock, tmp_path):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(stock.model), (0,), "checkpoint_final.pth")
    images = str(stock.raw / "imagesTs")
    predictor.predict_from_files_sequential(images, str(_made(tmp_path / "a")), save_probabilities=True)
    predictor.predict_from_files_sequential(images, str(_made(tmp_path / "b")))
    for case in stock.cases:
        first, second = (sitk.ReadImage(str(tmp_path / run / f"{case}.nii.gz")) for run in "ab")
        image = sitk.ReadImage(str(stock.raw / "imagesTs" / f"{case}_0000.nii.gz"))
        np.testing.assert_allclose(first.GetDirection(), image.GetDirection(), atol=1e-6)
        np.testing.assert_allclose(first.GetOrigin(), image.GetOrigin(), rtol=1e-6)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(first), sitk.GetArrayFromImage(second))
        probabilities = np.load(tmp_path / "a" / f"{case}.npz")["probabilities"]
        assert 0 <= probabilities.min() and probabilities.max() <= 1 and probabilities.std() > 0


def test_nnunet_exports_our_model_as_a_zip_with_its_checkpoints(stock, tmp_path):
    from nnunetv2.model_sharing.model_export import export_pretrained_model

    file = tmp_path / "model.zip"
    export_pretrained_model(int(stock.dataset[7:10]), str(file), (stock.configuration,), "nnUNetTrainerMedSegDiff",
                            "MedSegDiffPlans", (0, 1), strict=False)
    names = zipfile.ZipFile(file).namelist()
    assert sum(name.endswith("checkpoint_final.pth") for name in names) == 2


def test_nnunet_finds_the_best_configuration_among_our_models(stock):
    from nnunetv2.evaluation.find_best_configuration import find_best_configuration

    result = find_best_configuration(
        stock.dataset,
        ({"plans": "MedSegDiffPlans", "configuration": stock.configuration, "trainer": "nnUNetTrainerMedSegDiff"}, ),
        folds=(0, 1), num_processes=1)
    assert list(result["all_results"]) == [f"nnUNetTrainerMedSegDiff__MedSegDiffPlans__{stock.configuration}"]


def test_nnunet_trains_our_trainer_and_a_stop_file_ends_it(chain_2d, folders, monkeypatch):
    from nnunetv2.run.run_training import run_training
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    folders(chain_2d.root)
    monkeypatch.setenv("nnUNet_extTrainer", str(Path(medsegdiff_auto.ext_trainers.__file__).parent))
    threads_for_processes(monkeypatch)
    fold = chain_2d.model / "fold_2"
    fold.mkdir()
    (fold / "STOP").touch()
    original = nnUNetTrainer.__init__

    def short(self, *args, **kwargs):
        original(self, *args, **kwargs)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 2, 1

    monkeypatch.setattr(nnUNetTrainer, "__init__", short)
    run_training(chain_2d.dataset, "2d", 2, "nnUNetTrainerMedSegDiff", "MedSegDiffPlans", device=torch.device("cpu"))
    assert (fold / "checkpoint_final.pth").is_file() and (fold / "validation" / "summary.json").is_file()
    assert not (fold / "STOP").exists()


def test_a_checkpoint_of_plain_nnunet_loads_into_the_conditioner(stock):
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from medsegdiff_auto.inference.model import load_model

    model = load_model(stock.model, [0])
    plain = nnUNetTrainer.build_network_architecture(
        model.plans_manager, model.configuration_manager, 2 if stock.configuration == "2d" else 1,
        model.plans_manager.get_label_manager(model.dataset_json).num_segmentation_heads, True)
    result = model.network.conditioner.unet.load_state_dict(plain.state_dict(), strict=True)
    assert not result.missing_keys and not result.unexpected_keys
    norms = [module for module in model.network.modules() if isinstance(module, (nn.InstanceNorm2d, nn.InstanceNorm3d))]
    assert norms and all(isinstance(norm, (InstanceNorm2d, InstanceNorm3d)) for norm in norms)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder
