"""A container for a model of two channels, and for one of regions: within the limits, right, and twice the same."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from limited_program import BASE, run_limited
from other_models import regions, two_channels, write_other_model

from medsegdiff_auto import Segmenter
from medsegdiff_auto.handover.challenge_folder import write_challenge_folder

T1, FLAIR, MASK = ({"slug": slug, "relative_path": f"images/{slug}"} for slug in ("t1", "flair", "mask"))


def probability(structure: str) -> dict:
    return {"slug": structure, "relative_path": f"images/{structure}", "kind": "probability", "structure": structure}


def voxels(folder: Path, name: str) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "images" / name / "output.mha")))


@pytest.mark.parametrize("change, inputs, structures", [(two_channels, [T1, FLAIR], ["organ"]),
                                                        (regions, [T1], ["whole", "lesion"])])
def test_the_program_gives_the_models_mask_within_the_limits_again(change, inputs, structures, tmp_path):
    outputs = [MASK, *map(probability, structures)]
    (tmp_path / "sockets.json").write_text(json.dumps({"interfaces": [{"inputs": inputs, "outputs": outputs}]}))
    folder, home = tmp_path / "container", tmp_path / "home"
    home.mkdir()
    model = write_other_model(tmp_path / "model", change)
    measured = write_challenge_folder(model, folder, tmp_path / "sockets.json", BASE)
    case, expected = folder / "test" / "input" / "interf0", folder / "test" / "expected_output" / "interf0"
    done = run_limited(folder, case, tmp_path / "out", home, "sockets.json")
    assert done.returncode == 0 and "said: []" in done.stderr, done.stderr[-2000:]
    for one in outputs:
        np.testing.assert_array_equal(voxels(tmp_path / "out", one["slug"]), voxels(expected, one["slug"]))
    mask = voxels(tmp_path / "out", "mask")
    assert set(np.unique(mask)) == {0, 1, 2}
    if change is regions:
        whole, lesion = (voxels(tmp_path / "out", name) > 0.5 for name in structures)
        np.testing.assert_array_equal(mask, np.where(lesion, 2, np.where(whole, 1, 0)))
    else:
        images = [sitk.ReadImage(str(next((case / one["relative_path"]).iterdir()))) for one in inputs]
        segmenter = Segmenter(folder / "model", device="cpu")
        right, swapped = (segmenter.predict(channels, case="case").segmentation.squeeze()
                          for channels in (images, images[::-1]))
        np.testing.assert_array_equal(mask, right)
        assert (right != swapped).any(), "the order of the channels counts"
    took = re.search(r"took [\d.]+ s and ([\d.]+) GB", done.stdout)
    resident = float(re.search(r"resident: ([\d.]+) GB", done.stderr)[1])
    assert resident - 0.01 < float(took[1]) < resident + 1, "the peak is above what is there at the end"
    assert float(took[1]) == pytest.approx(measured.memory_gb, rel=0.5), "of the process alone, not of who starts it"
    assert f"and {measured.memory_gb:.2f} GB of memory at the peak, for\n1 case of 32 x 32 voxels" in (
        folder / "README.md").read_text()
