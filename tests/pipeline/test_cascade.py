"""A cascade is trained on the label maps of its first stage, predicts from them, and refuses to run without."""

import copy
import json

import numpy as np
import pytest
import SimpleITK as sitk
from chain import command

from medsegdiff_auto import Segmenter
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.paths import OUR_TRAINER, model_name

COARSER = 1.6
PLANS = "Cascade"


def cascade_plans(chain) -> dict:
    """The plans of the chain with a coarser first stage, as nnU-Net plans them for large images."""
    plans = json.loads((chain.preprocessed / "MedSegDiffPlans.json").read_text(encoding="utf-8"))
    lowres = copy.deepcopy(plans["configurations"]["3d_fullres"])
    lowres["spacing"] = [COARSER * s for s in lowres["spacing"]]
    lowres["median_image_size_in_voxels"] = [n / COARSER for n in lowres["median_image_size_in_voxels"]]
    lowres["data_identifier"] = lowres["data_identifier"].replace("3d_fullres", "3d_lowres")
    lowres["next_stage"] = "3d_cascade_fullres"
    plans["configurations"] |= {
        "3d_lowres": lowres, "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}}
    return plans


@pytest.fixture(scope="module")
def cascade(chain_3d, folders, tmp_path_factory):
    """Both stages trained; the folder of the first stage's predictions of the test images."""
    folders(chain_3d.root)
    folder = tmp_path_factory.mktemp("cascade")
    (folder / "plans.json").write_text(json.dumps(cascade_plans(chain_3d)))
    for line in (
            f"plan_and_preprocess -d 903 --plans {{0}} -overwrite_plans_name {PLANS} -c 3d_lowres 3d_fullres -np 1 "
            "--no_integrity_check", f"train 903 3d_lowres all -p {PLANS} --iterations 4 -device cpu --seed 0",
            f"train 903 3d_cascade_fullres 0 -p {PLANS} --iterations 4 -device cpu --seed 0",
            f"predict -i {{1}} -o {{2}} -d 903 -c 3d_lowres -p {PLANS} -f all -device cpu --samples 2 --steps 1"):
        assert command(line, folder / "plans.json", chain_3d.raw / "imagesTs", folder / "first_stage") == 0, line
    return folder


def predict(chain, first_stage, output) -> np.ndarray:
    """Foreground probability of the first test case by the second stage."""
    assert command(
        f"predict -i {{0}} -o {{1}} -d 903 -c 3d_cascade_fullres -p {PLANS} -f 0 -device cpu --samples 2 --steps 1 "
        "--save_probabilities -prev_stage_predictions {2}", chain.raw / "imagesTs", output, first_stage) == 0
    return np.load(output / f"{chain.cases[0]}.npz")["probabilities"]


def test_the_second_stage_follows_the_label_maps_of_the_first(chain_3d, cascade, tmp_path):
    first = predict(chain_3d, cascade / "first_stage", tmp_path / "first")
    other = tmp_path / "other"
    other.mkdir()
    for file in (cascade / "first_stage").glob("*.nii.gz"):
        image = sitk.ReadImage(str(file))
        labels = sitk.GetArrayFromImage(image)
        changed = sitk.GetImageFromArray(np.where(labels == 1, 0, 1).astype(labels.dtype))
        changed.CopyInformation(image)
        sitk.WriteImage(changed, str(other / file.name))
    second = predict(chain_3d, other, tmp_path / "second")
    assert first.shape == second.shape and np.abs(first - second).max() > 1e-3
    np.testing.assert_allclose(first.sum(0), 1, atol=1e-3)


def test_the_explanation_of_a_cascade_sees_its_first_stage(chain_3d, cascade, tmp_path):
    assert command(f"explain -d 903 -c 3d_cascade_fullres -p {PLANS} -f 0 --samples 1 --steps 1 -device cpu -o {{0}}",
                   tmp_path / "out") == 0
    assert (tmp_path / "out" / "explained.html").is_file()


def test_a_prediction_without_the_first_stage_is_refused(chain_3d, cascade, tmp_path, capsys):
    capsys.readouterr()
    assert command(f"predict -i {{0}} -o {{1}} -d 903 -c 3d_cascade_fullres -p {PLANS} -f 0 -device cpu",
                   chain_3d.raw / "imagesTs", tmp_path / "out") == 2
    assert "-prev_stage_predictions" in capsys.readouterr().err


def test_from_python_the_second_stage_takes_the_first_as_a_file_or_an_image_and_gives_what_the_command_writes(
        chain_3d, cascade, tmp_path):
    case = chain_3d.cases[0]
    expected = predict(chain_3d, cascade / "first_stage", tmp_path / "command")
    segmenter = Segmenter(chain_3d.model.parent / model_name(OUR_TRAINER, PLANS, "3d_cascade_fullres"), folds=0,
                          device="cpu", samples=2, steps=1)
    image, first_stage = chain_3d.raw / "imagesTs" / f"{case}_0000.nii.gz", cascade / "first_stage" / f"{case}.nii.gz"
    for label_map in (first_stage, sitk.ReadImage(str(first_stage))):
        np.testing.assert_array_equal(segmenter.predict(image, previous_stage=label_map).probabilities, expected)
    with pytest.raises(UserError, match="needs the prediction of its first stage"):
        segmenter.predict(image)
