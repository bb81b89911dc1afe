"""The command on a case that it is told not to hold in memory: what it says beforehand, and what it takes."""

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.benchmarks.prediction_memory import CASE, predict_measured, write_ct


def test_a_case_on_disk_takes_what_was_stated_and_gives_the_labels_of_one_in_memory(chain_3d, folders, tmp_path):
    folders(chain_3d.root)
    (tmp_path / "images").mkdir()
    write_ct(tmp_path / "images" / f"{CASE}_0000.nii.gz", (64, 64, 96), 1.0)
    options = "--samples 2 --mirrors 1 -step_size 1 -f 0 --save_samples --max_memory".split()
    maps = []
    for where, max_memory in (("on disk", "0.1"), ("in memory", "16")):
        output = tmp_path / where.replace(" ", "_")
        found = predict_measured(chain_3d.model, tmp_path / "images", output, [*options, max_memory])
        assert f"{CASE}: 64 x 64 x 96, 2 samples" in found.statement and f"states {where}" in found.statement
        assert abs(found.stated_gb / found.measured_gb - 1) < 0.2, found
        maps.append(
            [sitk.GetArrayFromImage(sitk.ReadImage(str(output / f"{CASE}{name}.nii.gz"))) for name in ("", "_samples")])
        assert sorted(path.name for path in output.iterdir()) == [
            "cases.csv", "dataset.json", f"{CASE}.nii.gz", f"{CASE}_samples.nii.gz", "plans.json", "run.json"]
    for on_disk, in_memory in zip(*maps):
        np.testing.assert_array_equal(on_disk, in_memory)
        assert len(np.unique(on_disk)) > 1
