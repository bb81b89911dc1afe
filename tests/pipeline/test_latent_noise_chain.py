"""A plan with latent noise from planning to a calibrated prediction, and what the audit says of its noise."""

import json

import numpy as np
import pytest
import SimpleITK as sitk
from chain import command
from chain import threads_for_processes
from test_upgrade_and_audit import audit_rows, values

from medsegdiff_auto.training.checkpoints import load_safely

PLANS = "LatentPlans"


@pytest.fixture(scope="module")
def latent_model(chain_2d, folders):
    """The model folder of two trained folds."""
    folders(chain_2d.root)
    with pytest.MonkeyPatch.context() as patch:
        threads_for_processes(patch)
        assert command(f"plan_and_preprocess -d 902 -c 2d --resources tiny "
                       f"-overwrite_plans_name {PLANS} -np 1") == 0
        for fold in (0, 1):
            assert command(f"train 902 2d {fold} -p {PLANS} --iterations 4 -device cpu --seed 0") == 0
        assert command(f"train 902 2d 0 -p {PLANS} -tr nnUNetTrainerMedSegDiffTwin --iterations 4 -device cpu --seed 0"
                       ) == 0
    return chain_2d.model.parent / f"nnUNetTrainerMedSegDiff__{PLANS}__2d"


def test_the_audit_shows_what_the_latent_noise_is_worth(latent_model, chain_2d, folders, capsys):
    folders(chain_2d.root)
    assert command(f"audit -d 902 -c 2d -p {PLANS} -f 0 --samples 4 -device cpu") == 0
    shown = audit_rows(latent_model, 0)
    assert list(shown) == ["its own", "another sample's latent noise", "one latent noise for all", "no latent noise",
                           "no-diffusion twin"]
    own, others, one, none, twin = shown.values()
    for rows in (one, none, twin):
        assert values(rows, "expected_dice_between_samples") == pytest.approx([1] * len(rows))
    assert min(values(own, "expected_dice_between_samples")) < 1
    assert values(own, "dice_to_own") == pytest.approx([1] * len(own))
    for rows in (others, none):
        assert min(values(rows, "dice_to_own")) < 1
    # the expected mask knows of no sample: it is the same whatever noise each of them gets
    assert values(others, "dice") == values(own, "dice") == values(one, "dice")
    assert "one latent noise for all, minus the first row (95 %): energy score" in capsys.readouterr().out


def test_the_twin_has_neither_noise_nor_a_score_of_distributions(latent_model):
    twin = latent_model.with_name(latent_model.name.replace("MedSegDiff__", "MedSegDiffTwin__"))
    weights = load_safely(twin / "fold_0" / "checkpoint_final.pth")["network_weights"]
    assert not [name for name in weights if "latent" in name]


def test_a_calibrated_prediction_scales_the_noise_and_its_map_does_not_depend_on_the_samples(
        latent_model, chain_2d, folders, tmp_path):
    folders(chain_2d.root)
    assert command(f"calibrate -d 902 -c 2d -p {PLANS} -f 0 1 -device cpu --samples 4") == 0
    fitted = json.loads((latent_model / "sampling.json").read_text(encoding="utf-8"))
    assert fitted["dispersion"] > 0  # 0 would be no noise at all
    maps = []
    for number in (2, 5):
        folder = tmp_path / str(number)
        assert command("predict -i {0} -o {1} -m {2} -f 0 1 -device cpu --save_samples --save_probabilities "
                       f"--samples {number}", chain_2d.raw / "imagesTs", folder, latent_model) == 0
        case = chain_2d.cases[0]
        maps.append(np.load(folder / f"{case}.npz")["probabilities"])
        sampled = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{case}_samples.nii.gz")))
        assert sampled.reshape(2 * number, -1).std(0).any()
    np.testing.assert_allclose(*maps, atol=1e-6)
