"""Jobs follow from what is asked for, and the folders say which of them are done."""

import json
import os
from pathlib import Path

import pytest

from medsegdiff_auto.crossval.jobs import chosen_configuration, jobs_of, newer
from medsegdiff_auto.crossval.local import Slot, slots_of
from medsegdiff_auto.crossval.methods import with_temperature
from medsegdiff_auto.crossval.request import Request, folds_of_split, usual_configuration
from medsegdiff_auto.errors import UserError

NAME, WORDS = "Dataset921_Folds", ("921", "-c", "2d")


def request_of(root: Path, **changed) -> Request:
    for name in ("raw", "preprocessed", "results"):
        (root / name / NAME).mkdir(parents=True, exist_ok=True)
    values = {"configurations": ("2d",), "folds": (0, 1), "device": "cpu", "iterations": 100, "seed": 7} | changed
    return Request(NAME, root / "raw" / NAME, root / "preprocessed" / NAME, root / "results" / NAME, **values)


def trained(request: Request, method: str, fold: int, words: str = "--iterations 100 --seed 7") -> Path:
    """Leaves the files of a trained fold; each not older than the one before."""
    final = request.checkpoint(method, "2d", fold)
    (final.parent / "validation").mkdir(parents=True, exist_ok=True)
    final.touch()
    (final.parent / "validation" / "summary.json").write_text("{}", encoding="utf-8")
    (final.parent / "run.json").write_text(json.dumps({"command": ["medsegdiff_train", *words.split()]}),
                                           encoding="utf-8")
    return final


def test_the_jobs_of_two_methods_and_two_folds_are_these_and_need_these(tmp_path):
    jobs = jobs_of(request_of(tmp_path, methods=("auto", "nnunet")), WORDS)
    assert {name: job.needs for name, job in jobs.items()} == {
        "plan/MedSegDiffPlans": (),
        "train/auto/2d/fold_0": ("plan/MedSegDiffPlans",), "train/auto/2d/fold_1": ("plan/MedSegDiffPlans",),
        "train/nnunet/2d/fold_0": ("plan/MedSegDiffPlans",), "train/nnunet/2d/fold_1": ("plan/MedSegDiffPlans",),
        "calibrate/2d": ("train/auto/2d/fold_0", "train/auto/2d/fold_1"),
        "choose": ("train/auto/2d/fold_0", "train/auto/2d/fold_1"),
        "predict/auto/fold_0": ("train/auto/2d/fold_0", "train/auto/2d/fold_1"),
        "predict/auto/fold_1": ("train/auto/2d/fold_0", "train/auto/2d/fold_1"),
        "predict/nnunet/fold_0": ("train/nnunet/2d/fold_0", "train/nnunet/2d/fold_1"),
        "predict/nnunet/fold_1": ("train/nnunet/2d/fold_0", "train/nnunet/2d/fold_1"),
        "temperature/nnunet": ("predict/nnunet/fold_0", "predict/nnunet/fold_1"),
        "compare": ("predict/auto/fold_0", "predict/auto/fold_1", "predict/nnunet/fold_0", "predict/nnunet/fold_1",
                    "temperature/nnunet")}
    assert " ".join(jobs["train/nnunet/2d/fold_1"].command) == (
        "train 921 2d 1 -tr nnUNetTrainer --c auto -device cpu --iterations 100 -p MedSegDiffPlans --seed 7")
    assert jobs["predict/auto/fold_1"].command == ("crossval", *WORDS, "--job", "predict/auto/fold_1")


def test_methods_with_plans_of_their_own_an_upgrade_and_a_network_that_is_trained_already(tmp_path):
    request = request_of(tmp_path, methods=("auto", "nnunet_adamw", "resenc", "paper", "upgrade"), folds=(0,))
    jobs = jobs_of(request, WORDS)
    planned = {name: " ".join(job.command) for name, job in jobs.items() if name.startswith("plan/")}
    assert list(planned) == ["plan/MedSegDiffPlans", "plan/MedSegDiffPlansResEncM", "plan/MedSegDiffPlansPaper"]
    assert planned["plan/MedSegDiffPlansPaper"].endswith("-overwrite_plans_name MedSegDiffPlansPaper --preset paper")
    assert "--encoder resenc_m" in planned["plan/MedSegDiffPlansResEncM"]
    assert "train/nnunet_adamw/2d/fold_0" not in jobs
    assert jobs["predict/nnunet_adamw/fold_0"].needs == ("train/auto/2d/fold_0",)
    upgrade = jobs["train/upgrade/2d/fold_0"]
    assert upgrade.needs == ("train/nnunet/2d/fold_0",)
    checkpoint = request.results / "nnUNetTrainer__MedSegDiffPlans__2d" / "fold_0" / "checkpoint_final.pth"
    assert " ".join(upgrade.command) == (
        "train 921 2d 0 -tr nnUNetTrainerMedSegDiff --c auto -device cpu --iterations 10 -p MedSegDiffPlans "
        f"--upgrade {checkpoint} --seed 7")
    assert request.checkpoint("upgrade", "2d", 0).parent.parent.name == (
        "nnUNetTrainerMedSegDiff__MedSegDiffUpgrade_MedSegDiffPlans__2d")
    names = list(jobs)
    assert all(names.index(need) < names.index(name) for name, job in jobs.items() for need in job.needs)
    assert with_temperature(request.methods) == (
        "auto", "nnunet_adamw", "nnunet_adamw+T", "resenc", "resenc+T", "paper", "paper+T", "upgrade")


def test_a_fold_is_trained_when_it_is_validated_after_it_and_to_this_length(tmp_path):
    request = request_of(tmp_path)
    job = jobs_of(request, WORDS)["train/auto/2d/fold_0"]
    assert not job.is_done()
    final = trained(request, "auto", 0)
    assert job.is_done()
    assert not jobs_of(request_of(tmp_path, iterations=200), WORDS)[job.name].is_done()
    assert not jobs_of(request_of(tmp_path, iterations=None), WORDS)[job.name].is_done()
    assert not jobs_of(request_of(tmp_path, seed=8), WORDS)[job.name].is_done()
    assert jobs_of(request_of(tmp_path, seed=None), WORDS)[job.name].is_done()
    later = final.stat().st_mtime + 10
    os.utime(final, (later, later))  # trained on, and not validated since
    assert not job.is_done()


def test_a_fit_on_other_folds_than_those_asked_for_is_not_done(tmp_path):
    request = request_of(tmp_path)
    for fold in request.folds:
        trained(request, "auto", fold)
    job, file = jobs_of(request, WORDS)["calibrate/2d"], request.model("auto", "2d") / "sampling.json"
    for folds, is_done in (((0,), False), ((0, 1), True)):
        file.write_text(json.dumps({"checkpoints": {f"fold_{fold}/checkpoint_final.pth": "" for fold in folds}}),
                        encoding="utf-8")
        assert job.is_done() == is_done


def test_predictions_count_until_a_fold_is_trained_anew_or_the_folds_change(tmp_path):
    request = request_of(tmp_path)
    (request.preprocessed / "splits_final.json").write_text(json.dumps([{"train": [], "val": ["a"]}] * 3),
                                                            encoding="utf-8")
    for fold in request.folds:
        trained(request, "auto", fold)
    record = request.predicted("auto", 0)
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"configuration": "2d", "folds": [0, 1], "cases": ["a"], "seed": 7}), encoding="utf-8")
    name = "predict/auto/fold_0"
    assert not jobs_of(request, WORDS)[name].is_done()
    request.predictions("auto").mkdir(parents=True)
    assert jobs_of(request, WORDS)[name].is_done()
    assert not jobs_of(request_of(tmp_path, folds=(0, 1, 2)), WORDS)[name].is_done()
    assert not jobs_of(request_of(tmp_path, seed=8), WORDS)[name].is_done()
    later = record.stat().st_mtime + 10
    os.utime(request.checkpoint("auto", "2d", 1), (later, later))  # the fit was made on it
    assert not jobs_of(request, WORDS)[name].is_done()


def test_of_several_configurations_the_best_by_itself_is_compared(tmp_path):
    request = request_of(tmp_path, configurations=("2d", "3d_fullres"))
    scores = {"nnUNetTrainerMedSegDiff__MedSegDiffPlans__2d": 0.7,
              "nnUNetTrainerMedSegDiff__MedSegDiffPlans__3d_fullres": 0.8, "ensemble___of___both": 0.9}
    (request.results / "inference_information.json").write_text(json.dumps({"all_results": scores}), encoding="utf-8")
    assert chosen_configuration(request) == "3d_fullres"
    jobs = jobs_of(request, WORDS)
    assert "choose" in jobs["predict/auto/fold_0"].needs
    assert "--npz" in jobs["train/auto/2d/fold_0"].command


def test_a_file_is_newer_than_those_that_are_there(tmp_path):
    old, young = tmp_path / "old", tmp_path / "young"
    old.touch(), young.touch()
    os.utime(old, (100, 100))
    assert newer(young, [old]) and newer(young, [young]) and not newer(old, [young])
    assert not newer(young, [tmp_path / "absent"]) and not newer(tmp_path / "absent", [])


def test_folds_are_those_of_the_split_wherever_it_lies(tmp_path):
    raw, preprocessed = tmp_path / "raw", tmp_path / "preprocessed"
    raw.mkdir(), preprocessed.mkdir()
    assert folds_of_split(raw, preprocessed, None) == (0, 1, 2, 3, 4)
    (raw / "splits_final.json").write_text(json.dumps([{"train": [], "val": []}] * 3), encoding="utf-8")
    assert folds_of_split(raw, preprocessed, None) == (0, 1, 2) and folds_of_split(raw, preprocessed, [2, 0]) == (0, 2)
    with pytest.raises(UserError, match="no such fold"):
        folds_of_split(raw, preprocessed, [3])
    with pytest.raises(UserError, match="Nothing is planned yet"):
        usual_configuration(preprocessed, "MedSegDiffPlans")


def test_jobs_side_by_side_share_cores_and_gpus_without_overlap():
    assert slots_of(3, [0, 1, 2, 3, 8, 9, 10], None) == [Slot((0, 1)), Slot((2, 3, 8)), Slot((9, 10))]
    first, second = slots_of(2, [0, 1, 2, 3], ["4", "7"])
    assert first.environment == {"OMP_NUM_THREADS": "2", "CUDA_VISIBLE_DEVICES": "4"}
    assert second == Slot((2, 3), "7")
    with pytest.raises(UserError, match="fewer cores"):
        slots_of(3, [0, 1], None)
    with pytest.raises(UserError, match="fewer GPUs"):
        slots_of(2, [0, 1], ["0"])
