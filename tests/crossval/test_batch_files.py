"""Batch files say what they do, and a shell that runs one does it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from test_jobs import WORDS, request_of

from medsegdiff_auto.crossval.jobs import jobs_of
from medsegdiff_auto.crossval.slurm import batch_file, groups_of
from medsegdiff_auto.crossval.states import jobs_folder, last_end

TRAININGS = [f"train/{method}/2d/fold_{fold}" for method in ("auto", "nnunet") for fold in (0, 1)]


@pytest.fixture
def jobs(tmp_path):
    """A request of two methods and two folds, and its jobs."""
    request = request_of(tmp_path, methods=("auto", "nnunet"))
    jobs_folder(request).mkdir(parents=True)
    return request, jobs_of(request, WORDS)


def test_trainings_are_one_array_and_every_method_predicts_in_an_array_of_its_own(jobs):
    _, jobs = jobs
    groups = {group: [job.name for job in of_group] for group, of_group in groups_of(jobs, list(jobs)).items()}
    assert groups["train"] == TRAININGS
    assert groups["predict_nnunet"] == ["predict/nnunet/fold_0", "predict/nnunet/fold_1"]
    assert list(groups) == ["plan", "train", "calibrate", "choose", "predict_auto", "predict_nnunet", "temperature",
                            "compare"]


def test_an_upgrade_stands_behind_the_array_that_it_needs(tmp_path):
    jobs = jobs_of(request_of(tmp_path, methods=("auto", "upgrade"), folds=(0,)), WORDS)
    groups = groups_of(jobs, list(jobs))
    assert [job.name for job in groups["train_then"]] == ["train/upgrade/2d/fold_0"]


def test_a_batch_file_has_the_options_the_array_the_signal_and_every_line(jobs, monkeypatch):
    request, jobs = jobs
    monkeypatch.setenv("nnUNet_raw", "/scans of all/raw")
    text = batch_file(request, "train", [jobs[name] for name in TRAININGS], "--partition gpu --gres=gpu:1 -t 8:00:00",
                      "--dependency=afterok:12_0")
    lines = text.splitlines()
    assert [line for line in lines if line.startswith("#SBATCH")] == [
        "#SBATCH --job-name=crossval_921_train", "#SBATCH --array=0-3", "#SBATCH --signal=B:TERM@300",
        "#SBATCH --requeue", "#SBATCH --open-mode=append",
        f"#SBATCH --output={jobs_folder(request)}/slurm_train_%a.log", "#SBATCH --partition gpu",
        "#SBATCH --gres=gpu:1", "#SBATCH -t 8:00:00"]
    assert "sbatch --dependency=afterok:12_0" in text and "export nnUNet_raw='/scans of all/raw'" in lines
    assert "2) run train_nnunet_2d_fold_0 train 921 2d 0 -tr nnUNetTrainer --c auto -device cpu --iterations 100 " \
           "-p MedSegDiffPlans --seed 7;;" in lines
    assert 'if [ $code = 75 ]; then scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"; fi' in lines


@pytest.mark.parametrize("code, asks_again", [(0, False), (2, False), (75, True)])
def test_the_shell_passes_sigterm_on_keeps_log_and_end_and_asks_again_after_a_pause(jobs, tmp_path, monkeypatch, code,
                                                                                   asks_again):
    request, jobs = jobs
    python = tmp_path / "python"
    python.write_text(f"#!/bin/bash\ntrap 'exit {code}' TERM\necho \"$@\"\nwhile :; do sleep 0.02; done\n")
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/bash\necho "$@" >>{tmp_path}/asked\n')
    python.chmod(0o755), scontrol.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    batch = tmp_path / "train.sbatch"
    batch.write_text(batch_file(request, "train", [jobs[name] for name in TRAININGS], ""), encoding="utf-8")
    environment = os.environ | {"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "12",
                                "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    log = jobs_folder(request) / "train_nnunet_2d_fold_1.log"
    with subprocess.Popen(["bash", batch], env=environment) as shell:
        deadline = time.monotonic() + 60
        while not (log.is_file() and log.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        shell.send_signal(signal.SIGTERM)
        assert shell.wait(60) == code
    said = log.read_text(encoding="utf-8")
    assert said.startswith("-m medsegdiff_auto.cli train 921 2d 1 -tr nnUNetTrainer --c auto")
    assert last_end(request, jobs["train/nnunet/2d/fold_1"])["exit_code"] == code
    assert (tmp_path / "asked").exists() == asks_again
    if asks_again:
        assert (tmp_path / "asked").read_text(encoding="utf-8") == "requeue 12_3\n"
    assert json.loads((jobs_folder(request) / "train_nnunet_2d_fold_1.json").read_text(encoding="utf-8"))
