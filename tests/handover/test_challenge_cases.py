"""A container for a folder of cases: files by a pattern, one mask each, and nothing that is passed over in silence."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from limited_program import BASE, run_limited
from other_models import two_channels, write_other_model

from medsegdiff_auto import Segmenter
from medsegdiff_auto.cli import export
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.handover.challenge_cases import (Cases, default_patterns, listed_cases, main, read_cases,
                                                      segment_cases)
from medsegdiff_auto.handover.challenge_folder import write_cases_folder

T1, FLAIR = "{case}/{case}-t1.nii.gz", "{case}/{case}-flair.nii.gz"
DATASET = {"channel_names": {"0": "T1", "1": "FLAIR"}, "labels": {"background": 0, "organ": 1, "lesion": 2},
           "file_ending": ".nii.gz"}
CASES = Cases([T1, FLAIR], "{case}.nii.gz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The container's folder of a model of two channels; to be read only."""
    root = tmp_path_factory.mktemp("cases")
    write_cases_folder(write_other_model(root / "model", two_channels), root / "container", [T1, FLAIR], BASE)
    return root / "container"


@pytest.fixture(scope="module")
def cases(folder, tmp_path_factory) -> Path:
    """Two cases that differ, on a grid that is turned and not that of the network, and files that are none's."""
    root = tmp_path_factory.mktemp("given")
    for number, name in enumerate(("patient_b", "patient_a")):
        (root / name).mkdir()
        for pattern in (T1, FLAIR):
            image = sitk.ReadImage(str(folder / "test" / "input" / pattern.replace("{case}", "case_1")))
            image = sitk.Cast(image, sitk.sitkFloat32)[:30 + number, 2:]
            if number:
                image = image * -1.0
            image.SetOrigin((5.0, -7.0))
            image.SetSpacing((1.5, 1.25))
            sitk.WriteImage(image, str(root / pattern.replace("{case}", name)))
    shutil.copy(root / "patient_a" / "patient_a-t1.nii.gz", root / "patient_a" / "patient_a-t2.nii.gz")
    return root


def voxels(file: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def named(folder: Path, case: str, *patterns: str) -> list[Path]:
    return [folder / pattern.replace("{case}", case) for pattern in patterns]


def test_every_case_gets_the_mask_of_its_channels_within_the_limits(folder, cases, tmp_path):
    (tmp_path / "home").mkdir()
    done = run_limited(folder, cases, tmp_path / "out", tmp_path / "home", "cases.json")
    assert done.returncode == 0 and "said: []" in done.stderr, done.stderr[-2000:]
    assert "patient_a/patient_a-t2.nii.gz (1 files)" in done.stderr
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["patient_a.nii.gz", "patient_b.nii.gz"]
    segmenter = Segmenter(folder / "model", device="cpu")
    for case in ("patient_a", "patient_b"):
        mask, image = (sitk.ReadImage(str(file)) for file in (tmp_path / "out" / f"{case}.nii.gz",
                                                              *named(cases, case, T1)))
        right, swapped = (segmenter.predict(named(cases, case, *patterns), case=case).segmentation.squeeze()
                          for patterns in ((T1, FLAIR), (FLAIR, T1)))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), right)
        assert (right != swapped).any() and len(np.unique(right)) > 1, "the order of the channels counts"
        assert mask.GetPixelID() == sitk.sitkUInt8 and mask.GetSize() == image.GetSize()
        assert (mask.GetSpacing(), mask.GetOrigin()) == (image.GetSpacing(), image.GetOrigin())


def test_predict_sh_runs_anywhere_and_gives_the_expected_output_again(folder, tmp_path):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                                "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path(__file__).parents[2]))}
    done = subprocess.run(["sh", folder / "predict.sh", "--input", folder / "test/input", "--output", tmp_path / "out"],
                          cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == ["case_1.nii.gz", "case_2.nii.gz"]
    for file in files:
        np.testing.assert_array_equal(voxels(file), voxels(folder / "test" / "expected_output" / file.name))
    assert (voxels(files[0]) != voxels(files[1])).any(), "the noise is that of the case's name"


def test_a_case_that_cannot_be_read_does_not_take_the_others_masks(folder, cases, tmp_path, capsys):
    given = Path(shutil.copytree(cases, tmp_path / "given"))
    (given / "patient_a" / "patient_a-t1.nii.gz").write_bytes(b"no image")
    code = main(["--input", str(given), "--output", str(tmp_path / "out")], folder=folder)
    said = capsys.readouterr().err
    assert code == 2 and "1 of 2 cases have no mask" in said and "found:    patient_a\n" in said
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["patient_b.nii.gz"]


def test_masks_have_the_challenges_labels(folder, cases, tmp_path):
    asked = asdict(CASES) | {"mask": "{case}/prediction_{case}.nii.gz", "labels": {"1": 4, "2": 0}, "allowed": [0, 4]}
    (tmp_path / "cases.json").write_text(json.dumps(asked))
    only = tmp_path / "given" / "patient_b"
    shutil.copytree(cases / "patient_b", only)
    written, = segment_cases(only.parent, tmp_path / "out", folder / "model", tmp_path / "cases.json")
    assert written == tmp_path / "out" / "patient_b" / "prediction_patient_b.nii.gz"
    ours = Segmenter(folder / "model", device="cpu").predict(named(cases, "patient_b", T1, FLAIR), case="patient_b")
    np.testing.assert_array_equal(voxels(written), np.where(ours.segmentation == 1, 4, 0).squeeze())
    assert {1, 2} <= set(np.unique(ours.segmentation))
    with pytest.raises(UserError, match="output folder is the input folder"):
        segment_cases(only.parent, only.parent, folder / "model", tmp_path / "cases.json")


@pytest.mark.parametrize("names, found", [
    ([], "an empty folder"), (["a.nii.gz"], "a.nii.gz"), (["a/a-t1.nii.gz"], "no a/a-flair.nii.gz"),
    (["a/b-t1.nii.gz", "a/b-flair.nii.gz"], "a/b-flair.nii.gz, a/b-t1.nii.gz"),
    (["a_samples/a_samples-t1.nii.gz", "a_samples/a_samples-flair.nii.gz"], "a_samples"),
    (["b/b-t1.nii.gz", "b/b-flair.nii.gz", "a/a-flair.nii.gz"], "no a/a-t1.nii.gz")])
def test_cases_that_are_not_whole_are_named(names, found, tmp_path):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError) as refused:
        listed_cases(tmp_path, CASES)
    assert refused.value.found == found


def test_cases_are_found_by_the_default_pattern_too(tmp_path):
    patterns = default_patterns(DATASET)
    assert patterns == ["{case}_0000.nii.gz", "{case}_0001.nii.gz"]
    for name in ("b.x_0000", "b.x_0001", "a_0000", "a_0001", "._a_0000"):
        (tmp_path / f"{name}.nii.gz").touch()
    assert listed_cases(tmp_path, Cases(patterns, "{case}.nii.gz")) == {
        case: [tmp_path / f"{case}_000{channel}.nii.gz" for channel in (0, 1)] for case in ("a", "b.x")}


@pytest.mark.parametrize("change, found", [
    ({"images": [T1]}, "1 patterns for 2 channels"), ({"images": [T1, T1]}, "two channels have the same pattern"),
    ({"images": [T1, "flair.nii.gz"]}, "match pattern"), ({"images": [T1, "{case}-{channel}.nii.gz"]}, "match pattern"),
    ({"images": [T1, "{case}.mha"]}, "{case}.mha does not end in .nii.gz"), ({"mask": "{case}.png"}, "{case}.png"),
    ({"mask": "../{case}.nii.gz"}, "match pattern"), ({"mask": "{case}/../../x.nii.gz"}, "lead out of the folder"),
    ({"mask": "/{case}.nii.gz"}, "match pattern"), ({"allowed": [0, 1]}, "the masks have the values [0, 1, 2]"),
    ({"labels": {"5": 1}}, "labels maps [5]"), ({"label": {}}, "Unexpected keyword")],
    ids=lambda value: str(value)[:60])
def test_names_that_do_not_fit_the_model_are_refused(change, found, tmp_path):
    (tmp_path / "cases.json").write_text(json.dumps(asdict(CASES) | change))
    with pytest.raises(UserError) as refused:
        read_cases(tmp_path / "cases.json", DATASET)
    assert found in refused.value.found


def test_the_command_takes_what_belongs_to_its_kind(model_folder, tmp_path, capsys):
    words = ["-m", str(model_folder), "-o", str(tmp_path / "out"), "--challenge", "folder"]
    assert export.main(words) == 2 and "found:    --challenge\n" in capsys.readouterr().err
    words += ["--base_image", BASE]
    assert export.main([*words, "--sockets", "x"]) == 2 and "--challenge and --sockets" in capsys.readouterr().err
    assert export.main([*words, "--pattern", T1, FLAIR]) == 2
    assert "2 patterns for 1 channels" in capsys.readouterr().err and not list(tmp_path.iterdir())
