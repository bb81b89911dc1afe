"""Bad input ends with exit code 2 and four lines, and nothing is half-written."""

import errno
import gzip
import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk
from chain import command

from medsegdiff_auto.inference import folder


@pytest.fixture
def images(chain_2d, folders, tmp_path):
    """A copy of the test images of the 2-D chain, two channels a case."""
    folders(chain_2d.root)
    return shutil.copytree(chain_2d.raw / "imagesTs", tmp_path / "images")


def refused(line, capsys, *paths) -> str:
    """Runs a command that must fail, checks its form and returns what it printed."""
    capsys.readouterr()
    assert command(line, *paths) == 2
    printed = capsys.readouterr().err.strip().splitlines()
    message = printed[next(i for i, text in enumerate(printed) if text.startswith("error: ")):]
    assert [text.split(":")[0].strip() for text in message] == ["error", "found", "expected", "fix"]
    return "\n".join(message)


def write_like(file, change) -> None:
    image = sitk.ReadImage(str(file))
    changed = sitk.GetImageFromArray(change(sitk.GetArrayFromImage(image)))
    changed.SetSpacing(image.GetSpacing())
    sitk.WriteImage(changed, str(file))


BROKEN = {
    "missing channel": lambda file: file.unlink(),
    "empty": lambda file: file.write_bytes(b""),
    "not an image": lambda file: file.write_bytes(gzip.compress(b"no image at all")),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:200]),
    "not a number": lambda file: write_like(file, lambda a: np.where(a > np.median(a), np.nan, a).astype(np.float32)),
    "another geometry": lambda file: write_like(file, lambda a: a[:-3]),
}


@pytest.mark.parametrize("name", BROKEN)
def test_prediction_refuses_a_broken_image_and_writes_nothing(name, images, tmp_path, capsys):
    for file in images.glob("phantom_007_*"):
        file.unlink()
    BROKEN[name](images / "phantom_006_0001.nii.gz")
    message = refused("predict -i {0} -o {1} -d 902 -c 2d -device cpu", capsys, images, tmp_path / "out")
    assert "phantom_006" in message
    assert not (tmp_path / "out").exists()


def test_one_broken_image_does_not_stop_the_others_and_ends_with_1_and_its_name(images, tmp_path, capsys):
    BROKEN["truncated"](images / "phantom_006_0001.nii.gz")
    line = "predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu --samples 2 --steps 1"
    assert command(line, images, tmp_path / "out") == 1
    assert "Left out, see above: phantom_006" in capsys.readouterr().err
    assert {file.name for file in (tmp_path / "out").glob("*.nii.gz")} == {"phantom_007.nii.gz"}


@pytest.mark.parametrize("spacing_mm", [1e-6, 100.0, 1e6])
def test_one_absurd_spacing_does_not_stop_the_others_and_comes_in_four_lines(
        spacing_mm, images, tmp_path, capsys, caplog):
    for file in images.glob("phantom_006_*"):
        image = sitk.ReadImage(str(file))
        image.SetSpacing([spacing_mm] * image.GetDimension())
        sitk.WriteImage(image, str(file))
    line = "predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu --samples 2 --steps 1"
    assert command(line, images, tmp_path / "out") == 1
    assert "phantom_006_0000.nii.gz cannot be true." in caplog.text
    assert "Left out, see above: phantom_006" in capsys.readouterr().err
    assert {file.name for file in (tmp_path / "out").glob("*.nii.gz")} == {"phantom_007.nii.gz"}
    for file in images.glob("phantom_007_*"):
        file.unlink()
    assert "cannot be true" in refused(line.replace("{1}", "{1}2"), capsys, images, tmp_path / "out")


def test_a_mistake_of_ours_in_one_case_keeps_its_traceback_after_the_others_are_predicted(
        images, tmp_path, monkeypatch, caplog):
    prepare = folder.prepare_case

    def failing(model, files, previous_stage):
        if "phantom_006" in files[0].name:
            raise ZeroDivisionError("ours")
        return prepare(model, files, previous_stage)

    monkeypatch.setattr(folder, "prepare_case", failing)
    with pytest.raises(ZeroDivisionError, match="ours"):
        command("predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu --samples 2 --steps 1", images, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").glob("*.nii.gz")} == {"phantom_007.nii.gz"}
    assert "phantom_006: ZeroDivisionError: ours" in caplog.text


def test_a_full_disk_ends_the_command_at_once_and_want_of_memory_only_its_case(images, tmp_path, monkeypatch, capsys):
    prepare = folder.prepare_case
    for failure, predicted in ((OSError(errno.ENOSPC, "full", "a"), set()), (MemoryError(), {"phantom_007.nii.gz"})):

        def failing(model, files, previous_stage, failure=failure):
            if "phantom_006" in files[0].name:
                raise failure
            return prepare(model, files, previous_stage)

        monkeypatch.setattr(folder, "prepare_case", failing)
        out = tmp_path / type(failure).__name__
        line = "predict -i {0} -o {1} -d 902 -c 2d -f 0 -device cpu --samples 2 --steps 1"
        assert command(line, images, out) == (1 if predicted else 2)
        assert "phantom_006" in capsys.readouterr().err
        assert {file.name for file in out.glob("*.nii.gz")} == predicted


def test_prediction_refuses_an_output_folder_that_is_a_file(images, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    refused("predict -i {0} -o {1} -d 902 -c 2d -device cpu", capsys, images, tmp_path / "out")
    assert (tmp_path / "out").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("line, named", [
    ("predict -i {0} -o {1} -d 902 -c 2d -f 4 -device cpu", "fold_4"),
    ("predict -i {0} -o {1} -d 902 -c 3d_fullres -device cpu", "plans.json"),
    ("predict -i {0} -o {1} -d 77 -c 2d -device cpu", "77"),
    ("predict -i {0} -o {1} -d 902 -c 2d -device cpu --samples 0", "--samples"),
    ("predict -i {1}/none -o {1} -d 902 -c 2d -device cpu", "input folder does not exist"),
    ("predict -i {0} -o {0} -d 902 -c 2d -device cpu", "output folder is the input folder"),
    ("train 902 2d 7 -device cpu", "7"),
    ("train 902 2d first -device cpu", "first"),
    ("train 902 3d_fullres 0 -device cpu", "3d_fullres"),
    ("train 902 2d 3 --c -device cpu", "checkpoint"),
    ("train 902 2d 3 --val -device cpu", "not finished"),
    ("train 902 2d 0 -device cpu", "already trained"),
    ("train 902 2d 3 -p OtherPlans -device cpu", "OtherPlans"),
    ("train 902 2d 3 --epochs 0 -device cpu", "--epochs"),
    ("plan_and_preprocess -d 902 --preset none", "none"),
    ("plan_and_preprocess -d 902 -c 4d", "4d"),
])
def test_a_wish_that_cannot_be_met_is_refused_by_name(line, named, images, tmp_path, capsys, chain_2d):
    before = sorted(chain_2d.model.rglob("*"))
    assert named in refused(line, capsys, images, tmp_path / "out")
    assert sorted(chain_2d.model.rglob("*")) == before


def test_a_plan_that_changed_between_two_folds_is_refused(chain_2d, folders, capsys):
    folders(chain_2d.root)
    plans = chain_2d.preprocessed / "MedSegDiffPlans.json"
    before = plans.read_text(encoding="utf-8")
    try:
        plans.write_text(before.replace('"batch_size": ', '"batch_size": 1'))
        assert "batch_size" in refused("train 902 2d 3 --iterations 10 -device cpu", capsys)
    finally:
        plans.write_text(before)


def test_a_patch_that_the_network_cannot_halve_is_refused_before_training(chain_2d, folders, capsys):
    folders(chain_2d.root)
    plans = json.loads((chain_2d.preprocessed / "MedSegDiffPlans.json").read_text(encoding="utf-8"))
    plans["configurations"]["2d"]["patch_size"] = [33, 32]
    edited = chain_2d.preprocessed / "OddPlans.json"
    edited.write_text(json.dumps(plans | {"plans_name": "OddPlans"}), encoding="utf-8")
    message = refused("train 902 2d 3 -p OddPlans --iterations 4 -device cpu", capsys)
    assert "patch_size [33, 32]" in message and "multiples of" in message


def test_an_unset_folder_is_named_with_what_to_type(images, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("nnUNet_results")
    message = refused("predict -i {0} -o {1} -d 902 -c 2d -device cpu", capsys, images, tmp_path / "out")
    assert "export nnUNet_results=" in message


def test_an_unknown_flag_is_refused_with_the_nearest_one(capsys):
    assert command("predict -i a -o b -d 1 -c 2d --sample 3") == 2
    assert "did you mean --samples" in capsys.readouterr().err


def test_finished_plans_are_taken_as_they_are(chain_2d, folders, tmp_path):
    folders(chain_2d.root)
    assert command("plan_and_preprocess -d 902 --plans {0} -overwrite_plans_name Adopted --no_pp -np 1 "
                   "--no_integrity_check",
                   chain_2d.preprocessed / "MedSegDiffPlans.json") == 0
    theirs, adopted = (json.loads((chain_2d.preprocessed / f"{name}.json").read_text(encoding="utf-8"))
                       for name in ("MedSegDiffPlans", "Adopted"))
    assert adopted["plans_name"] == "Adopted" and adopted["configurations"]["2d"].pop("data_identifier") == "Adopted_2d"
    assert theirs["configurations"]["2d"].pop("data_identifier") == "MedSegDiffPlans_2d"
    assert adopted["configurations"]["2d"] == theirs["configurations"]["2d"]


def test_finished_plans_keep_their_own_name_and_leave_other_plans_alone(chain_2d, folders, tmp_path, capsys):
    folders(chain_2d.root)
    ours = chain_2d.preprocessed / "MedSegDiffPlans.json"
    before = ours.read_text(encoding="utf-8")
    plans = json.loads(before)
    plans["plans_name"], plans["configurations"]["2d"]["batch_size"] = "Edited", 3
    plans["configurations"]["2d"]["data_identifier"] = "Edited_2d"
    edited = tmp_path / "plans.json"
    edited.write_text(json.dumps(plans), encoding="utf-8")
    assert command("plan_and_preprocess -d 902 --plans {0} -c 2d -np 1 --no_integrity_check", edited) == 0
    assert "Next: medsegdiff_train 902 2d 0 -p Edited\n" in capsys.readouterr().out
    adopted = json.loads((chain_2d.preprocessed / "Edited.json").read_text(encoding="utf-8"))
    assert adopted["plans_name"] == "Edited" and adopted["configurations"]["2d"]["batch_size"] == 3
    assert ours.read_text(encoding="utf-8") == before


def test_a_file_that_is_no_plans_is_refused(chain_2d, folders, capsys):
    folders(chain_2d.root)
    assert command("plan_and_preprocess -d 902 --plans {0} --no_pp -np 1 --no_integrity_check",
                   chain_2d.preprocessed / "dataset.json") == 2
    assert "cannot be used as plans" in capsys.readouterr().err
