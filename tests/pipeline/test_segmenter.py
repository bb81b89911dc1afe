"""From Python: the voxels, sizes and files of the command, from a model folder alone."""

import csv
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from chain import FOLDS

import medsegdiff_auto
from medsegdiff_auto import Segmenter
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.sampling import volume_store
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.planning.fingerprint import structure_labels

OPTIONS = {"folds": FOLDS, "device": "cpu", "samples": 3}
PAGE = Path(medsegdiff_auto.__file__).parent / "docs" / "how_to_python.md"
COMPANIONS = ("", "_uncertainty", "_samples", "_probabilities")


def volume(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def read_json(chain) -> dict:
    return json.loads((chain.model / "dataset.json").read_text(encoding="utf-8"))


def channel_paths(chain, case) -> list:
    return sorted((chain.raw / "imagesTs").glob(f"{case}_*.nii.gz"))


@pytest.fixture
def without_variables(monkeypatch):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(variable, raising=False)


def arrays_of(prediction) -> tuple:
    return prediction.segmentation, prediction.uncertainty, prediction.samples, prediction.probabilities


def require_as_the_command_wrote_it(prediction, chain, case) -> None:
    for array, suffix in zip(arrays_of(prediction), COMPANIONS):
        written = volume(chain.predictions / f"{case}{suffix}.nii.gz")
        np.testing.assert_array_equal(array, written.reshape(array.shape))


def test_files_give_the_voxels_of_the_command_without_any_variable_and_nothing_is_printed(
        chain, without_variables, capfd):
    segmenter, case = Segmenter(chain.model, **OPTIONS), chain.cases[1]
    prediction = segmenter.predict(channel_paths(chain, case))
    assert prediction.case == case and capfd.readouterr() == ("", "")
    require_as_the_command_wrote_it(prediction, chain, case)
    assert prediction.samples.shape == (3 * len(FOLDS), *prediction.segmentation.shape)
    assert repr(segmenter).endswith(
        f"folds=[0, 1], device='cpu', samples=3, steps=1, mirrors={len(segmenter.predictor.views)}, "
        "fusion='mean', seed=0)")


def test_a_case_that_the_memory_does_not_hold_gives_the_same_voxels_from_the_disk(chain, without_variables,
                                                                                  monkeypatch):
    """Maps are compared with those of the same batches: a convolution's last bit depends on what else is in its batch.
    """
    written_to, case = [], chain.cases[1]
    monkeypatch.setattr(volume_store, "_write", lambda file, *rest, write=volume_store._write:
                        (written_to.append(file), write(file, *rest)))
    on_disk = Segmenter(chain.model, **OPTIONS, max_memory_gb=1e-3).predict(channel_paths(chain, case))
    assert written_to and isinstance(on_disk.on_image.fused, volume_store.OnDisk)
    monkeypatch.setattr(
        MedSegDiffPredictor, "memory_plan", lambda self, *rest, plan=MedSegDiffPredictor.memory_plan, **named: replace(
            plan(self, *rest, **named), samples_together=1, terms_bytes=0.0))
    in_memory = Segmenter(chain.model, **OPTIONS).predict(channel_paths(chain, case))
    assert isinstance(in_memory.on_image.fused, volume_store.InMemory)
    for ours, theirs in zip(arrays_of(on_disk), arrays_of(in_memory)):
        np.testing.assert_array_equal(ours, theirs)
    for array, suffix in ((on_disk.segmentation, ""), (on_disk.samples, "_samples")):
        np.testing.assert_array_equal(array, volume(chain.predictions / f"{case}{suffix}.nii.gz").reshape(array.shape))


def test_mutual_information_is_computed_and_saved_where_it_is_asked_for(chain, without_variables, tmp_path):
    case = chain.cases[0]
    prediction = Segmenter(chain.model, **OPTIONS, mutual_information=True).predict(channel_paths(chain, case))
    written = volume(chain.predictions / f"{case}_mutual_information.nii.gz")
    np.testing.assert_array_equal(prediction.mutual_information, written.reshape(prediction.mutual_information.shape))
    prediction.save(tmp_path)
    np.testing.assert_array_equal(volume(tmp_path / f"{case}_mutual_information.nii.gz"), written)


def test_images_in_memory_under_the_name_of_the_case_give_the_same_voxels_on_their_own_grid(chain, without_variables):
    case = chain.cases[0]
    images = [sitk.ReadImage(str(file)) for file in channel_paths(chain, case)]
    prediction = Segmenter(chain.model, **OPTIONS).predict(images if len(images) > 1 else images[0], case=case)
    require_as_the_command_wrote_it(prediction, chain, case)
    mask = prediction.image(prediction.segmentation)
    for read in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(mask, read)() == getattr(images[0], read)()
    assert prediction.image(prediction.samples).GetSize() == (*images[0].GetSize(), 3 * len(FOLDS))


def test_the_name_of_the_case_and_the_seed_seed_the_noise(chain_2d, folders):
    paths = channel_paths(chain_2d, chain_2d.cases[0])
    segmenter = Segmenter(chain_2d.model, **OPTIONS)
    named, other = segmenter.predict(paths), segmenter.predict(paths, case="other")
    seeded = Segmenter(chain_2d.model, **OPTIONS, seed=1).predict(paths)
    in_memory = segmenter.predict([sitk.ReadImage(str(path)) for path in paths])
    assert (named.samples != other.samples).any() and (named.samples != seeded.samples).any()
    np.testing.assert_array_equal(in_memory.samples, segmenter.predict(paths, case="case").samples)


def test_sizes_intervals_and_expected_dice_are_those_of_the_table(chain, without_variables):
    case = chain.cases[0]
    prediction = Segmenter(chain.model, **OPTIONS).predict(channel_paths(chain, case))
    with (chain.predictions / "cases.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["case"] == case]
    assert list(prediction.volumes) == [row["structure"] for row in rows]
    for row in rows:
        one = prediction.volumes[row["structure"]]
        assert one.measure in row and one.interval == row["interval"]
        for value, column in ((one.size, one.measure), (one.lower, f"{one.measure}_p05"),
                              (one.upper, f"{one.measure}_p95"), (one.expected_dice, "expected_dice"),
                              (one.expected_dice_between_samples, "expected_dice_between_samples")):
            assert math.isclose(value, float(row[column]), rel_tol=1e-4, abs_tol=1e-4)


def test_saving_writes_the_files_of_the_command(chain, without_variables, tmp_path):
    case = chain.cases[0]
    Segmenter(chain.model, **OPTIONS).predict(channel_paths(chain, case)).save(tmp_path / "out")
    expected = {file.name for file in chain.predictions.iterdir() if file.name.startswith(case)}
    expected |= {"cases.csv", "dataset.json", "plans.json"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == expected - {f"{case}_mutual_information.nii.gz"}
    for suffix in COMPANIONS:
        ours, theirs = (sitk.ReadImage(str(folder / f"{case}{suffix}.nii.gz"))
                        for folder in (tmp_path / "out", chain.predictions))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(ours), sitk.GetArrayFromImage(theirs))
        for read in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection", "GetPixelID"):
            assert getattr(ours, read)() == getattr(theirs, read)()
    for name in ("dataset.json", "plans.json"):
        assert (tmp_path / "out" / name).read_text(encoding="utf-8") == (chain.predictions /
                                                                         name).read_text(encoding="utf-8")


def test_saving_an_image_of_memory_under_a_name_keeps_its_geometry(chain_3d, without_variables, tmp_path):
    [file] = channel_paths(chain_3d, chain_3d.cases[0])
    image = sitk.ReadImage(str(file))
    prediction = medsegdiff_auto.predict(image, chain_3d.model, folds=0, device="cpu", samples=2, steps=1)
    [row, *_] = prediction.save(tmp_path, "patient")
    assert row["case"] == "patient" and prediction.case == "case"
    written = sitk.ReadImage(str(tmp_path / "patient.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), prediction.segmentation)
    np.testing.assert_allclose(written.GetDirection(), image.GetDirection(), atol=1e-6)
    np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin(), rtol=1e-5)


def test_the_callers_number_of_threads_comes_back(chain_2d, folders):
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        medsegdiff_auto.predict(channel_paths(chain_2d, chain_2d.cases[0]), chain_2d.model, folds=0, device="cpu",
                                samples=2, steps=1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_the_code_of_the_readme_runs(chain_3d, without_variables, tmp_path):
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    code = "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
    [image], structure = channel_paths(chain_3d, chain_3d.cases[0]), next(iter(structure_labels(read_json(chain_3d))))
    for shown, real in (("MODEL_FOLDER", chain_3d.model), ("IMAGES/case_0000.nii.gz", image), ("PREDICTIONS", tmp_path),
                        ("liver", structure)):
        assert shown in code
        code = code.replace(shown, str(real))
    exec(code, {})
    assert (tmp_path / f"{chain_3d.cases[0]}.nii.gz").is_file()


@pytest.mark.parametrize("options, what", [({"samples": 0}, "samples must be at least 1"),
                                           ({"steps": 0}, "steps must be at least 1"),
                                           ({"speed": "quick"}, "no such speed"),
                                           ({"fusion": "vote"}, "no such fusion"),
                                           ({"max_memory_gb": 0}, "max_memory_gb must be above 0"),
                                           ({"max_memory_gb": float("nan")}, "max_memory_gb must be a finite"),
                                           ({"max_memory_gb": "8"}, "max_memory_gb must be a number"),
                                           ({"samples": 10**9}, "samples must be at most"),
                                           ({"steps": 2.5}, "steps must be a whole number"),
                                           ({"mirrors": True}, "mirrors must be a whole number"),
                                           ({"seed": -1}, "seed must be at least 0"),
                                           ({"seed": float("inf")}, "seed must be a whole number"),
                                           ({"folds": 4}, "no checkpoint_final.pth"),
                                           ({"device": "tpu"}, "device is not available")])
def test_an_option_out_of_its_range_is_refused_by_name(chain_2d, folders, options, what):
    with pytest.raises(UserError, match=what):
        Segmenter(chain_2d.model, **{"device": "cpu", **options})


def test_an_image_that_the_command_would_refuse_is_refused_in_four_lines(chain_2d, folders, tmp_path):
    first, second = channel_paths(chain_2d, chain_2d.cases[0])
    (tmp_path / second.name).write_bytes(second.read_bytes()[:200])
    segmenter = Segmenter(chain_2d.model, folds=0, device="cpu")
    with pytest.raises(UserError, match="is truncated") as raised:
        segmenter.predict([first, tmp_path / second.name])
    assert [line.split(":")[0].strip() for line in str(raised.value).splitlines()[1:]] == ["found", "expected", "fix"]
    with pytest.raises(UserError, match="lacks a channel"):
        segmenter.predict(first)
    with pytest.raises(UserError, match="does not exist"):
        segmenter.predict([first, tmp_path / "none_0001.nii.gz"])
    with pytest.raises(UserError, match="no previous stage"):
        segmenter.predict([first, second], previous_stage=first)
