"""A model of version 1 of the plans, trained and used by 0.1.0 before the plans had sections, goes on as it was.

``version_1`` holds its plans, a checkpoint of 20 iterations, an image, and what ``medsegdiff_predict --samples 3`` made
of it.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from medsegdiff_auto import Segmenter
from medsegdiff_auto.training.planned_training import initialized_trainer
from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration
from medsegdiff_auto.diffusion.plan_versions import reference_of_shift, upgraded
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.plans import read_section
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.training.run import require_same_plan
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

KEPT = Path(__file__).parent / "version_1"
PLANS = json.loads((KEPT / "plans.json").read_text(encoding="utf-8"))
SECTION = PLANS["configurations"]["2d"][PLANS_KEY]


def with_upgraded_plans(folder: Path) -> Path:
    """A copy of the model whose plans are written in the form of this version."""
    shutil.copytree(KEPT, folder)
    plans = json.loads(json.dumps(PLANS))
    plans["configurations"]["2d"][PLANS_KEY] = DiffusionConfiguration.from_plan(SECTION).to_plan()
    (folder / "plans.json").write_text(json.dumps(plans), encoding="utf-8")
    return folder


@pytest.mark.parametrize("upgrade", [False, True], ids=["as it was", "plans upgraded"])
def test_the_same_image_and_seed_give_the_voxels_of_then(upgrade, tmp_path):
    folder = with_upgraded_plans(tmp_path / "model") if upgrade else KEPT
    prediction = Segmenter(folder, device="cpu", samples=3).predict(KEPT / "phantom_005_0000.nii.gz")
    expected = np.load(KEPT / "expected.npz")
    np.testing.assert_array_equal(prediction.segmentation, expected["segmentation"])
    np.testing.assert_array_equal(prediction.samples, expected["samples"])
    np.testing.assert_allclose(prediction.probabilities, expected["probabilities"], atol=1e-6)
    assert (expected["samples"][0] != expected["samples"][1]).any()


def test_a_checkpoint_of_then_is_continued_with_its_weights_and_optimizers(tmp_path, monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, str(tmp_path))
    trainer = initialized_trainer(nnUNetTrainerMedSegDiff, json.loads(json.dumps(PLANS)), "2d",
                                  json.loads((KEPT / "dataset.json").read_text(encoding="utf-8")), torch.device("cpu"))
    trainer.load_checkpoint(str(KEPT / "fold_0" / "checkpoint_final.pth"))
    stored = load_safely(KEPT / "fold_0" / "checkpoint_final.pth")
    assert trainer.num_train_steps_done == stored["num_train_steps_done"] == 20
    assert all(
        torch.equal(value, stored["raw_weights"][key]) for key, value in trainer.bare_network.state_dict().items())
    assert trainer.denoiser_optimizer.state_dict()["state"].keys() == stored["denoiser_optimizer_state"]["state"].keys()


def test_every_value_of_then_stands_in_its_section():
    new = read_section(SECTION)
    assert new.noise.log_snr_shift == SECTION["log_snr_shift"] and new.noise.reference_vox == 5.0
    assert new.network.architecture == SECTION["network"] and new.loss.name == "cross_entropy"
    for section in (new.network, new.noise, new.loss, new.sampling):
        for name, value in vars(section).items():
            if name in SECTION:
                assert value == (tuple(SECTION[name]) if isinstance(SECTION[name], list) else SECTION[name]), name


@pytest.mark.parametrize("change, named", [({"state_guidance": 2.0}, "state_guidance is 2.0, which left"),
                                           ({"start_time": 0.6}, "start_time is 0.6"),
                                           ({"self_conditioning": True}, "self_conditioning is True"),
                                           ({"zero_terminal_snr": True}, "zero_terminal_snr is True"),
                                           ({"time_weighting": "min_snr"}, "time_weighting is 'min_snr'"),
                                           ({"dice_weight": 0.5}, "dice_weight is 0.5"),
                                           ({"cross_entropy_weight": 2.0}, "cross_entropy_weight is 2.0"),
                                           ({"log_snr_shift": -1.23456}, "log_snr_shift is -1.23456"),
                                           ({"solver": "heun"}, "sampling.solver is 'heun'"),
                                           ({"sovler": "ddim"}, "unknown keys ['sovler']")], ids=str)
def test_what_this_version_cannot_do_is_refused_by_name_in_four_lines(change, named):
    with pytest.raises(UserError) as raised:
        read_section(SECTION | change)
    assert named in raised.value.found and len(str(raised.value).splitlines()) == 4


def test_a_missing_key_is_named():
    with pytest.raises(UserError, match="missing keys \\['dropout'\\]"):
        read_section({key: value for key, value in SECTION.items() if key != "dropout"})


def test_an_upgraded_plan_is_the_plan_that_the_folds_were_trained_with(tmp_path):
    folder = with_upgraded_plans(tmp_path / "model")
    require_same_plan(folder, PLANS, "2d")
    other = json.loads(json.dumps(PLANS))
    other["configurations"]["2d"][PLANS_KEY]["num_steps"] += 1
    with pytest.raises(UserError, match="other values of diffusion"):
        require_same_plan(folder, other, "2d")


@pytest.mark.parametrize("diameters, reference", [((15.27, 22.61, 19.49), 5.0), ((30.5, 18.2), 5.0), ((8.0, 8.0), 64.0),
                                                  ((3.3, 7.7, 11.1), 4.25)])
def test_the_reference_is_read_off_a_stored_shift(diameters, reference):
    shift = round(float(np.sum(np.log(reference / np.array(diameters)))), 3)
    found = reference_of_shift(shift, list(diameters))
    assert found == pytest.approx(reference, rel=5e-4)
    assert round(float(np.sum(np.log(found / np.array(diameters)))), 3) == shift


def test_a_section_of_this_version_is_left_alone():
    section = DiffusionConfiguration.from_plan(SECTION).to_plan()
    assert upgraded(section) is section
