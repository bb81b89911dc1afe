"""A challenge's folder: its program runs as in the platform's container, and gives what it is said to give."""

import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from limited_program import BASE, run_limited

from medsegdiff_auto import Segmenter
from medsegdiff_auto.cli import export
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.handover.challenge import read_sockets, segment
from medsegdiff_auto.handover.challenge_folder import write_challenge_folder

IMAGE, PRIOR = {"slug": "t1-mri", "relative_path": "images/t1-mri"}, {"slug": "flair", "relative_path": "images/flair"}
MASK = {"slug": "organ-segmentation", "relative_path": "images/organ-segmentation"}
PROBABILITY = {"slug": "organ-probability", "relative_path": "images/organ-probability", "kind": "probability",
               "structure": "organ"}
SIZES = {"slug": "sizes", "relative_path": "sizes.json", "kind": "sizes"}
SOCKETS = {"interfaces": [{"inputs": [IMAGE], "outputs": [MASK, PROBABILITY, SIZES]},
                          {"inputs": [PRIOR], "outputs": [MASK]}], "labels": {"1": 7, "2": 0}, "allowed": [0, 7]}
DATASET = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "organ": 1, "lesion": 2}, "file_ending": ".nii.gz"}

@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory) -> Path:
    """To be read only."""
    root = tmp_path_factory.mktemp("challenge")
    (root / "sockets.json").write_text(json.dumps(SOCKETS))
    write_challenge_folder(model_folder, root / "container", root / "sockets.json", BASE)
    return root / "container"


def tree(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_the_program_gives_the_expected_output_within_the_platforms_limits_twice(folder, tmp_path):
    home, before = tmp_path / "home", tree(folder)
    home.mkdir()
    for name in ("first", "second"):
        case = Path(shutil.copytree(folder / "test" / "input" / "interf0", tmp_path / f"case_{name}"))
        image = next((case / "images" / "t1-mri").iterdir())
        image.rename(image.with_name(f"{name}-of-the-platform.mha"))
        done = run_limited(folder, case, tmp_path / name, home, "sockets.json")
        assert done.returncode == 0 and "said: []" in done.stderr, done.stderr[-2000:]
        expected = folder / "test" / "expected_output" / "interf0"
        assert {str(file.relative_to(tmp_path / name)) for file in (tmp_path / name).rglob("*") if file.is_file()} == {
            "images/organ-segmentation/output.mha", "images/organ-probability/output.mha", "sizes.json"}
        for socket in (MASK, PROBABILITY):
            found, then = (sitk.ReadImage(str(one / socket["relative_path"] / "output.mha")) for one in (
                tmp_path / name, expected))
            np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(then))
        assert (tmp_path / name / "sizes.json").read_text() == (expected / "sizes.json").read_text()
    assert tree(folder) == before and not list(home.iterdir())


def test_masks_have_the_challenges_labels_and_probabilities_are_float32(folder):
    case, out = folder / "test" / "input" / "interf0", folder / "test" / "expected_output" / "interf0"
    image = sitk.ReadImage(str(next((case / "images" / "t1-mri").iterdir())))
    expected = Segmenter(folder / "model", device="cpu").predict(image, case="case")
    mask, probability = (sitk.ReadImage(str(out / one["relative_path"] / "output.mha")) for one in (MASK, PROBABILITY))
    assert {1, 2} & set(np.unique(expected.segmentation))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask).reshape(expected.segmentation.shape),
                                  np.where(expected.segmentation == 1, 7, 0))
    assert probability.GetPixelID() == sitk.sitkFloat32 and mask.GetPixelID() == sitk.sitkUInt8
    np.testing.assert_array_equal(sitk.GetArrayFromImage(probability).ravel(), expected.probabilities[1].ravel())
    assert mask.GetSize() == image.GetSize() and mask.GetSpacing() == image.GetSpacing()
    sizes = json.loads((out / "sizes.json").read_text())
    assert sizes["organ"]["area_mm2"] == pytest.approx(expected.volumes["organ"].size) and set(sizes) == {
        "organ", "lesion"}


def test_the_folder_holds_what_a_container_is_built_of(folder, model_folder):
    lines = (folder / "Dockerfile").read_text().splitlines()
    assert lines[0] == f"FROM {BASE}"
    assert lines.index("USER 10001:10001") < lines.index('ENTRYPOINT ["python", "inference.py"]')
    copied = [word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]]
    assert copied == ["requirements.lock", "wheels", "inference.py", "sockets.json"]
    assert all((folder / name).exists() for name in copied)
    assert [file.name.split("-")[0] for file in (folder / "wheels").iterdir()] == ["medsegdiff_auto"]
    with tarfile.open(folder / "model.tar.gz") as archive:
        names = archive.getnames()
    assert {"plans.json", "dataset.json", "fold_0/checkpoint_final.pth", "sampling.json"} <= set(names)
    assert set(names) == set(tree(folder / "model"))
    for name in ("do_build.sh", "do_test_run.sh", "do_save.sh"):
        assert os.access(folder / name, os.X_OK)
        assert subprocess.run(["bash", "-n", folder / name]).returncode == 0
    weights = sum(file.stat().st_size for file in (folder / "model").rglob("*.pth"))
    assert weights < sum(file.stat().st_size for file in model_folder.rglob("*.pth")) / 3, "no optimizer"
    assert "{" not in (folder / "README.md").read_text().replace('{"speed"', "")


def test_the_interface_is_found_by_what_the_platform_lists(folder, tmp_path):
    written = segment(folder / "test" / "input" / "interf1", tmp_path, folder / "model", folder / "sockets.json")
    assert [str(file.relative_to(tmp_path)) for file in written] == ["images/organ-segmentation/output.mha"]


@pytest.mark.parametrize("change, found", [
    (lambda case: (case / "inputs.json").write_text('[{"socket": {"slug": "ct"}}]'), "ct"),
    (lambda case: (case / "inputs.json").write_text("{"), "JSONDecodeError"),
    (lambda case: (case / "images/t1-mri/b.mha").write_text(""), "b.mha"),
    (lambda case: next((case / "images/t1-mri").iterdir()).rename(case / "images/t1-mri/image.nii.gz"), "image.nii.gz"),
    (lambda case: shutil.rmtree(case / "images"), "no file"),
    (lambda case: next((case / "images/t1-mri").iterdir()).write_text("no image"), "")])
def test_inputs_that_are_not_as_expected_are_named_and_nothing_is_written(change, found, folder, tmp_path):
    case = Path(shutil.copytree(folder / "test" / "input" / "interf0", tmp_path / "case"))
    change(case)
    with pytest.raises(UserError) as refused:
        segment(case, tmp_path / "out", folder / "model", folder / "sockets.json")
    assert found in refused.value.found and not (tmp_path / "out").exists()


@pytest.mark.parametrize("change, found", [
    ({"allowed": [0, 1]}, "the masks have the values [0, 7], of which [0, 1] are allowed"),
    ({"labels": {"5": 1}}, "labels maps [5], which the model does not have"),
    ({"labels": {"1": 300}}, "less than or equal to 255"),
    ({"interfaces": [{"inputs": [IMAGE, PRIOR], "outputs": [MASK]}]}, "2 inputs for 1 channels"),
    ({"interfaces": 2 * [{"inputs": [IMAGE], "outputs": [MASK]}]}, "two interfaces have the same inputs"),
    ({"interfaces": [{"inputs": [IMAGE], "outputs": [MASK, MASK]}]}, "one file of each"),
    ({"interfaces": [{"inputs": [IMAGE], "outputs": [PROBABILITY | {"structure": "liver"}]}]}, "liver"),
    ({"interfaces": [{"inputs": [IMAGE], "outputs": [MASK | {"relative_path": "../../etc"}]}]}, "match pattern"),
    ({"interfaces": [{"inputs": [IMAGE], "outputs": [SIZES | {"relative_path": "sizes"}]}]}, "is a sizes at sizes"),
    ({"interfaces": []}, "at least 1 item"), ({"label": {}}, "Unexpected keyword")], ids=lambda value: str(value)[:60])
def test_sockets_that_do_not_fit_the_model_are_refused(change, found, tmp_path):
    (tmp_path / "sockets.json").write_text(json.dumps(SOCKETS | change))
    with pytest.raises(UserError) as refused:
        read_sockets(tmp_path / "sockets.json", DATASET)
    assert found in refused.value.found


def test_the_command_asks_for_all_that_a_container_needs(model_folder, tmp_path, capsys):
    (tmp_path / "sockets.json").write_text(json.dumps(SOCKETS))
    words = ["-m", str(model_folder), "-o", str(tmp_path / "out"), "--challenge", "grand-challenge"]
    assert export.main(words) == 2 and "--sockets FILE" in capsys.readouterr().err
    words += ["--sockets", str(tmp_path / "sockets.json"), "--base_image", "python:3.11"]
    assert export.main(words) == 2 and "not named by its digest" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["sockets.json"]
