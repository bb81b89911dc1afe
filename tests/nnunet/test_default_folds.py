"""Whether a dataset has folds to train: five cases, or a split of its own."""

import pytest

from medsegdiff_auto.nnunet.dataset_files import is_divisible


@pytest.mark.parametrize("num_cases, has_split, expected", [(1, False, False), (4, False, False), (5, False, True),
                                                            (2, True, True)])
def test_folds(tmp_path, num_cases, has_split, expected):
    (tmp_path / "gt_segmentations").mkdir()
    for number in range(num_cases):
        (tmp_path / "gt_segmentations" / f"case_{number}.nii.gz").touch()
    if has_split:
        (tmp_path / "splits_final.json").write_text('[{"train": ["case_0"], "val": ["case_1"]}]')
    assert is_divisible(tmp_path) is expected
