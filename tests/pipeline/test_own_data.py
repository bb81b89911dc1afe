"""``medsegdiff_run`` on a user's own folder: whole, given again, interrupted, by hand."""

import contextlib
import gzip
import io
import os
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from chain import command
from chain import threads_for_processes
from skimage.io import imread, imsave

from medsegdiff_auto.phantoms.nnunet_dataset import write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind
from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff

FLAGS = "--patient '^(.)' --iterations 2 --resources tiny -device cpu --seed 3 -np 1"
MODEL = "nnUNet_results/Dataset001_mine/nnUNetTrainerMedSegDiff__MedSegDiffPlans__2d"
PATIENTS, NUM_CASES = "ab", 3


@pytest.fixture(scope="module", autouse=True)
def own_environment():
    """The variables of the tests before, given back at the end; process pools are threads."""
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            patch.setenv(variable, os.devnull)
        patch.setenv("nnUNet_n_proc_DA", "0")
        patch.setenv("nnUNet_def_n_proc", "1")
        threads_for_processes(patch)
        yield


def write_folder(root: Path, write, ending: str) -> None:
    """``mine/`` with three pairs of each of two patients, and two images of others in ``new/``."""
    raw = write_phantom_dataset(root / "raw", 902, "P", (len(PATIENTS) * NUM_CASES, 2), PhantomKind(2, shape=(32, 32)))
    names = [f"{patient}{number}" for patient in PATIENTS for number in range(NUM_CASES)]
    for folder, part, cases in (("mine/images", "imagesTr", names), ("mine/masks", "labelsTr", names),
                                ("new", "imagesTs", ["x", "y"])):
        (root / folder).mkdir(parents=True)
        for case, file in zip(cases, sorted((raw / part).glob("*.nii.gz"))):
            write(sitk.ReadImage(str(file)), root / folder / f"{case}{ending}", is_mask="labels" in part)


def as_picture(image: sitk.Image, file: Path, is_mask: bool) -> None:
    pixels = sitk.GetArrayFromImage(image).squeeze().astype(float)
    if not is_mask:
        pixels = 255 * (pixels - pixels.min()) / np.ptp(pixels)
    imsave(file, pixels.astype(np.uint8), check_contrast=False)


def as_volume(image: sitk.Image, file: Path, is_mask: bool) -> None:
    """One slice in 3-D, 2 mm thick."""
    volume = sitk.JoinSeries(image, 0.0, 2.0)
    sitk.WriteImage(sitk.Cast(volume, sitk.sitkUInt8 if is_mask else sitk.sitkFloat32), str(file))


def said(line: str) -> tuple[int, str]:
    """Exit code of a command, and what it printed."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        code = command(line)
    return code, out.getvalue()


def line_of(root: Path, out: str = "out") -> str:
    return f"run -i {root / 'mine'} -o {root / out} --new {root / 'new'} {FLAGS}"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The root of a whole run on pictures, and what it said."""
    root = tmp_path_factory.mktemp("whole")
    write_folder(root, as_picture, ".png")
    code, out = said(line_of(root))
    assert code == 0, out
    return root, out


def files_below(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.read_bytes())
            for file in sorted(folder.rglob("*")) if file.is_file()}


def test_one_line_ends_with_masks_a_calibrated_model_and_a_report(whole):
    root, out = whole
    final = root / "out" / "predictions_postprocessed"
    for case in "xy":
        mask = imread(final / f"{case}.png")
        assert mask.shape == imread(root / "new" / f"{case}.png").shape and set(np.unique(mask)) <= {0, 1, 2}
        assert (final / f"{case}_uncertainty.nii.gz").is_file() and (final / f"{case}_samples.nii.gz").is_file()
    assert (root / "out" / MODEL / "sampling.json").is_file()
    assert "<html" in (root / "out" / "report.html").read_text(encoding="utf-8")
    assert [folder.name for folder in sorted((root / "out" / MODEL).glob("fold_*"))] == ["fold_0", "fold_1"]
    end = out[out.rindex("Masks:"):]
    assert str(final) in end and str(root / "out" / "report.html") in end
    assert "on 6 cases; too few for intervals of volumes and expected Dice" in end
    assert "-f 0 1 -device cpu" in end[end.index("Next:"):]


def test_hours_memory_and_commands_are_stated_first_and_again_when_the_network_is_planned(whole):
    _, out = whole
    before, after = out.split("[1/10, 0.0 min] $ ")
    assert "train/auto/2d/fold_1: unknown h, 1.00 GB\n    medsegdiff_train 1 2d 1 " in before
    assert "GB of converted images" in before and "export nnUNet_results=" in before
    planned = after[after.index("Planned. What is left:"):after.index("[4/10")]
    rows = dict(row.split(": ", 1) for row in planned.splitlines() if " h, " in row and not row.startswith(" "))
    assert list(rows) == ["train/auto/2d/fold_0", "train/auto/2d/fold_1", "calibrate/2d", "choose", "predict",
                          "postprocess", "report"]
    assert "unknown" not in rows["train/auto/2d/fold_0"] and "unknown h" not in planned


def test_a_longer_training_is_stated_in_hours_and_nothing_is_touched_by_a_rehearsal(whole):
    root, _ = whole
    before = files_below(root / "out")
    line = line_of(root).replace("--iterations 2", "--iterations 900000")
    code, out = said(f"{line} --dry_run")
    hours, memory = out.split("train/auto/2d/fold_1: ")[1].split(" GB\n")[0].split(" h, ")
    assert code == 0 and float(hours) > 1 and 0 < float(memory) < 1
    assert files_below(root / "out") == before


def test_given_again_it_does_nothing_twice(whole):
    root, _ = whole
    before = files_below(root / "out")
    code, out = said(line_of(root))
    assert code == 0 and "0 of 10 jobs are to do" in out and "$ medsegdiff" not in out and "Masks:" in out
    assert files_below(root / "out") == before


def test_the_printed_commands_typed_one_after_the_other_give_the_same_masks_voxel_by_voxel(whole, tmp_path,
                                                                                           monkeypatch):
    root, said_by_run = whole
    script = (root / "out" / "commands.sh").read_text(encoding="utf-8").replace(str(root / "out"), str(tmp_path))
    lines = [line for line in script.splitlines() if line.startswith("medsegdiff_")]
    printed = [line.split("$ ")[1] for line in said_by_run.splitlines() if "min] $ " in line]
    assert [line.replace(str(tmp_path), str(root / "out")) for line in lines] == printed
    for line in script.splitlines():
        if line.startswith("export "):
            variable, folder = shlex.split(line)[1].split("=", 1)
            Path(folder).mkdir()
            monkeypatch.setenv(variable, folder)
    for line in lines:
        assert command(line.removeprefix("medsegdiff_").replace("{", "{{").replace("}", "}}")) == 0, line
    ours, theirs = (folder / "predictions_postprocessed" for folder in (root / "out", tmp_path))
    for name in ("x.png", "y.png"):
        np.testing.assert_array_equal(imread(theirs / name), imread(ours / name))
    for name in ("x_samples.nii.gz", "y_uncertainty.nii.gz"):
        assert gzip.decompress((theirs / name).read_bytes()) == gzip.decompress((ours / name).read_bytes())


def test_ctrl_c_in_a_training_leaves_a_checkpoint_from_which_the_same_line_goes_on(tmp_path, monkeypatch, capsys):
    """On NIfTI files, whose masks have the geometry of their images."""
    write_folder(tmp_path, as_volume, ".nii.gz")
    step, steps = nnUNetTrainerMedSegDiff.new_train_step, []

    def interrupted(self, batch):
        if "keys" in batch:  # not one of those by which the pace is measured
            steps.append((self.fold, self.current_epoch))
            if len(steps) == 3:  # the first one of the second fold
                os.kill(os.getpid(), signal.SIGINT)
        return step(self, batch)

    monkeypatch.setattr(nnUNetTrainerMedSegDiff, "new_train_step", interrupted)
    handler = signal.getsignal(signal.SIGINT)
    try:
        assert command(line_of(tmp_path)) == 130
    finally:
        signal.signal(signal.SIGINT, handler)
    assert capsys.readouterr().err.splitlines()[-1] == "Interrupted: what is complete stays."
    fold = tmp_path / "out" / MODEL / "fold_1"
    assert load_safely(fold / "checkpoint_latest.pth")["num_train_steps_done"] == 1
    assert not (fold / "checkpoint_final.pth").exists()
    first = load_safely(tmp_path / "out" / MODEL / "fold_0" / "checkpoint_final.pth")
    assert command(line_of(tmp_path)) == 0
    assert steps == [(0, 0), (0, 1), (1, 0), (1, 1)]  # none is done twice
    assert load_safely(fold / "checkpoint_final.pth")["current_epoch"] == 2
    assert load_safely(tmp_path / "out" / MODEL / "fold_0" / "checkpoint_final.pth")["hours"] == first["hours"]
    mask, image = (sitk.ReadImage(str(file)) for file in (
        tmp_path / "out" / "predictions_postprocessed" / "x.nii.gz", tmp_path / "new" / "x.nii.gz"))
    assert (mask.GetSize(), mask.GetSpacing()) == (image.GetSize(), image.GetSpacing()) and mask.GetSpacing()[2] == 2


def test_a_changed_folder_is_not_taken_for_the_one_that_was_converted(whole, tmp_path, capsys):
    root, _ = whole
    before = files_below(root / "out")
    for folder in ("images", "masks"):
        (root / "mine" / folder / "b9.png").write_bytes((root / "mine" / folder / "b0.png").read_bytes())
    try:
        assert command(line_of(root)) == 2
    finally:
        for folder in ("images", "masks"):
            (root / "mine" / folder / "b9.png").unlink()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and "have changed since they were converted" in lines[0]
    assert files_below(root / "out") == before
