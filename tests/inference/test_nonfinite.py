"""A number that is not finite never becomes an answer: the case fails by name, and the others go on."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from medsegdiff_auto import Segmenter
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.scans import Scan
from medsegdiff_auto.checks.scan_findings import overflow_findings
from medsegdiff_auto.inference.export import Outputs
from medsegdiff_auto.inference.folder import predict_folder
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.prediction import prepare_case

KEPT = Path(__file__).parent / "version_1"
IMAGE = KEPT / "phantom_005_0000.nii.gz"


def extreme_image(file: Path) -> Path:
    """The image with intensities of +-3e38: finite, but not their variance."""
    image = sitk.ReadImage(str(IMAGE))
    values = np.where(np.indices(image.GetSize()[::-1]).sum(0) % 2 > 0, 3e38, -3e38).astype(np.float32)
    extreme = sitk.GetImageFromArray(values)
    extreme.CopyInformation(image)
    sitk.WriteImage(extreme, str(file))
    return file


@pytest.mark.parametrize("part", ["conditioner", "denoiser"])
def test_weights_whose_answer_overflows_fail_the_case_by_name(part):
    segmenter = Segmenter(KEPT, device="cpu", samples=1)
    for weights in segmenter.predictor.list_of_parameters:
        for name, value in weights.items():
            if name.startswith(part) and value.is_floating_point():
                value.fill_(1e30)
    with pytest.raises(UserError, match=r"answer to phantom_005 is not finite"):
        segmenter.predict(IMAGE)


def test_an_image_whose_normalisation_overflows_is_named_and_not_predicted(tmp_path):
    with pytest.raises(UserError, match=r"extreme_0000.nii.gz overflow when they are normalised"):
        prepare_case(load_model(KEPT), [extreme_image(tmp_path / "extreme_0000.nii.gz")])


def test_the_other_cases_of_a_folder_are_those_that_they_are_alone(tmp_path):
    fine, extreme = tmp_path / "fine_0000.nii.gz", extreme_image(tmp_path / "extreme_0000.nii.gz")
    shutil.copyfile(IMAGE, fine)
    predictor = Segmenter(KEPT, device="cpu", samples=1).predictor
    for folder, cases in (("both", {"extreme": [extreme], "fine": [fine]}), ("alone", {"fine": [fine]})):
        (tmp_path / folder).mkdir()
        predict_folder(predictor, cases, tmp_path / folder, Outputs())
    both, alone = (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / folder / "fine.nii.gz")))
                   for folder in ("both", "alone"))
    assert both.any() and np.array_equal(both, alone) and not (tmp_path / "both" / "extreme.nii.gz").exists()


@pytest.mark.parametrize("values, count", [([0, 1e15], 0), ([-3000, 30000], 0), ([0, 3e38], 1), ([-1e25, 1e25], 1)])
def test_intensities_are_refused_where_their_variance_is_no_number(values, count):
    voxels = np.resize(np.array(values, np.float32), (1, 4, 8, 8))
    findings = overflow_findings(Scan(voxels, None, 0), "image.nii.gz")
    assert len(findings) == count and all(finding.file == "image.nii.gz" for finding in findings)


@pytest.mark.parametrize("target", ["classes", "regions"])
@pytest.mark.parametrize("parameterisation", ["x_start", "noise", "v"])
def test_an_infinite_output_is_nan_in_x_0_where_sigmoid_and_clipping_would_make_it_sure(target, parameterisation):
    network = load_model(KEPT).network
    loss = "cross_entropy" if parameterisation == "x_start" else "mse"
    network.configuration = network.configuration.changed(target=target, parameterisation=parameterisation, name=loss)
    output, x_t = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    t = torch.tensor([0.5], dtype=torch.float64)
    finite = network.x_start_of(output, x_t, t)
    for value in (float("inf"), -float("inf"), float("nan")):
        broken = output.clone()
        broken[0, 1, 2, 2] = value
        found = network.x_start_of(broken, x_t, t)
        assert found[0, 1, 2, 2].isnan() and torch.equal(found[..., :2, :], finite[..., :2, :])
