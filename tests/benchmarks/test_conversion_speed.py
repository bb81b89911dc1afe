"""The speed benchmark: its sources are what the converters read, and the copy holds the same voxels."""

import nibabel as nib
import numpy as np
import pytest

from medsegdiff_auto.benchmarks import conversion_speed
from medsegdiff_auto.benchmarks.conversion_speed import copy, measure, write_pictures, write_volumes


@pytest.mark.parametrize("converter, write, shape, megabytes",
                         [("drishti_gs", write_pictures, (50, 50), 5 * 50 * 50 * 4 / 1e6),
                          ("msd", write_volumes, (20, 20, 25), 5 * 20 * 20 * 25 * 9 / 1e6)])
def test_a_row_states_cases_uncompressed_megabytes_and_the_ratio_of_both_rates(monkeypatch, converter, write, shape,
                                                                               megabytes):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(conversion_speed, "seconds_of_copy", lambda *_: 0.5)
    monkeypatch.setattr(conversion_speed, "seconds_of_conversion", lambda *_: 0.25)
    row = measure(converter, lambda folder, count: write(folder, count, shape), 5, 1, 3)
    assert row == f"| {converter} | 5 | {megabytes:.0f} | {megabytes / 0.25:.1f} | {megabytes / 0.5:.1f} | 2.00 |"


@pytest.mark.parametrize("converter, write, shape", [("drishti_gs", write_pictures, (12, 10)),
                                                     ("msd", write_volumes, (8, 8, 6))])
def test_every_case_of_a_source_is_converted_and_nothing_is_left_behind(monkeypatch, tmp_path, converter, write, shape):
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(conversion_speed.tempfile, "tempdir", str(tmp_path))
    assert measure(converter, lambda folder, count: write(folder, count, shape), 6, 1,
                   2).startswith(f"| {converter} | 6 |")
    assert not list(tmp_path.iterdir())


def test_the_copy_of_a_volume_holds_every_sequence_voxel_for_voxel(tmp_path):
    write_volumes(tmp_path / "source", 1, (8, 8, 6))
    copy(tmp_path / "source" / "imagesTr" / "case_0000.nii.gz", tmp_path)
    voxels = np.asanyarray(nib.load(tmp_path / "source" / "imagesTr" / "case_0000.nii.gz").dataobj)
    for number in range(4):
        copied = nib.load(tmp_path / f"{number}_imagesTr_case_0000.nii.gz")
        np.testing.assert_array_equal(np.asanyarray(copied.dataobj), voxels[..., number])
        assert copied.get_data_dtype() == np.int16
