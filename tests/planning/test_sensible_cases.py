"""What resampling would make of a case is counted before a worker tries."""

import json

import pytest

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.planning.prepare import require_sensible_cases

PLANS = {"transpose_forward": [0, 1, 2], "transpose_backward": [0, 1, 2], "label_manager": "LabelManager",
         "configurations": {"3d_fullres": {"spacing": [2.0, 1.0, 1.0], "architecture": {}},
                            "2d": {"spacing": [1.0, 1.0], "architecture": {}}}}


@pytest.mark.parametrize("spacing_mm, configuration, is_sensible", [
    ([3.0, 0.5, 0.5], "3d_fullres", True), ([100.0, 1.0, 1.0], "3d_fullres", True), ([100.0] * 3, "3d_fullres", False),
    ([2.0, 1e-6, 1.0], "3d_fullres", False), ([1e6, 1.0, 1.0], "2d", True), ([1.0, 1e6, 1.0], "2d", False)])
def test_a_case_whose_spacing_cannot_be_true_is_refused_by_name(tmp_path, spacing_mm, configuration, is_sensible):
    raw, preprocessed = tmp_path / "Dataset001_Tiny", tmp_path / "preprocessed"
    (raw / "imagesTr").mkdir(parents=True)
    preprocessed.mkdir()
    for case in "ab":
        (raw / "imagesTr" / f"{case}_0000.nii.gz").touch()
    fingerprint = {"shapes_after_crop": [[20, 30, 30]] * 2, "spacings": [[2.0, 1.0, 1.0], spacing_mm]}
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    arguments = raw, {"file_ending": ".nii.gz"}, preprocessed, PLANS, [configuration]
    if is_sensible:
        require_sensible_cases(*arguments)
    else:
        with pytest.raises(UserError, match="spacing of b cannot be true"):
            require_sensible_cases(*arguments)
