"""A cross-validation on a cluster: a real SLURM of one node, whose trainings but one are a stand-in's."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from folds_place import VARIABLES, Place, command, use

HERE = Path(__file__).parent
LINE = "crossval 921 -c 2d -device cpu -np 1"
WITH_NNUNET = f"{LINE} --against nnunet -f 0 1 2 3 4 "
PATIENCE_S = 240


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """SLURM_CONF of a cluster of two cores."""
    missing = [name for name in ("slurmctld", "slurmd", "munge", "sbatch") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip("a cluster of one node needs root and Debian's slurm-wlm and munge"
                    + (f" (no {', '.join(missing)})" if missing else " (not root)"))
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([HERE / "slurm_one_node.sh", "start", folder], stdout=subprocess.DEVNULL,
                             stderr=(folder / "start.log").open("wb"))
    if started.returncode:
        pytest.skip(f"SLURM does not start here: {(folder / 'start.log').read_text(encoding='utf-8')[-500:]}")
    yield folder / "slurm.conf"
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    subprocess.run(["scancel", "--user=root"], env=environment)
    deadline = time.monotonic() + 60  # the last step tells the controller that it has ended, or waits for it for ever
    while subprocess.run(["squeue", "--noheader"], env=environment, capture_output=True).stdout.strip() and (
            time.monotonic() < deadline):
        time.sleep(0.5)
    subprocess.run([HERE / "slurm_one_node.sh", "stop", folder])


@pytest.fixture
def place(tmp_path, cluster, monkeypatch) -> Place:
    """A dataset that counts as planned, in five folds, for the stand-in."""
    for name in VARIABLES.values():
        (tmp_path / name / "Dataset921_Folds").mkdir(parents=True)
    place = Place(tmp_path)
    use(place, monkeypatch)
    monkeypatch.setenv("SLURM_CONF", str(cluster))
    plans = {"configurations": {"2d": {"data_identifier": "MedSegDiffPlans_2d"}}}
    (place.preprocessed / "MedSegDiffPlans_2d").mkdir()
    monkeypatch.setattr("medsegdiff_auto.crossval.jobs.read_plans", lambda file: plans)
    (place.preprocessed / "MedSegDiffPlans.json").write_text(json.dumps(plans), encoding="utf-8")
    (place.preprocessed / "splits_final.json").write_text(json.dumps([{"train": [], "val": []}] * 5), encoding="utf-8")
    return place


def states(line: str, capsys) -> dict[str, list[str]]:
    """What ``--status`` prints: state and further columns by job."""
    capsys.readouterr()
    assert command(f"{line} --status") == 0
    rows = [re.split(r"\s{2,}", row) for row in capsys.readouterr().out.splitlines()[1:]]
    return {row[0]: row[1:] for row in rows}


def wait_for(line: str, capsys, is_reached) -> dict[str, list[str]]:
    """The states as soon as they are as they should become."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_reached(found := states(line, capsys)):
        assert time.monotonic() < deadline, "\n".join(f"{name} {row}" for name, row in found.items())
        time.sleep(0.3)
    return found


def numbers(place: Place) -> dict[str, str]:
    return json.loads((place.results / "comparison" / "slurm" / "submitted.json").read_text(encoding="utf-8"))


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_jobs_are_preempted_paused_at_their_limit_and_failed_and_status_says_so(place, monkeypatch, capsys):
    ours, theirs = ([f"train/{method}/2d/fold_{fold}" for fold in range(5)] for method in ("auto", "nnunet"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(HERE / "stand_in.py"))
        assert command(f'{WITH_NNUNET} --slurm "--time=10 --ntasks=1"') == 0
    submitted = numbers(place)
    assert len({number.split("_")[0] for number in map(submitted.get, [*ours, *theirs])}) == 1  # one array

    # fold 1 runs and waits; a job of the higher partition takes both cores, and fold 1 is put back
    now = wait_for(WITH_NNUNET, capsys, lambda now: now[ours[1]][:3] == ["running", "2/5", "0:00:09"])
    assert now["plan/MedSegDiffPlans"][0] == "done" and now[theirs[4]][0] == "waiting"
    assert now["compare"][0] == now["predict/auto/fold_0"][0] == "waiting"
    high = slurm("sbatch", "--parsable", "--partition=high", "--ntasks=2", f"--output={place.root}/high.log",
                 "--wrap", "sleep 5").strip()
    now = wait_for(WITH_NNUNET, capsys, lambda now: now[ours[1]][0] == "paused")
    assert submitted[ours[1]] in slurm("squeue", "--noheader", "--array", "--state=PENDING", "--format=%i"), high

    # fold 2 waits until its limit is near: it writes its checkpoint, asks for another start, and goes on
    wait_for(WITH_NNUNET, capsys, lambda now: now[ours[2]][0] == "running" and now[ours[2]][1:2] == ["2/5"])
    slurm("scontrol", "update", f"JobId={submitted[ours[2]]}", "TimeLimit=5")
    wait_for(WITH_NNUNET, capsys, lambda now: now[ours[2]][0] == "paused")

    # fold 4 of nnU-Net fails for good, and only what needs it does not end
    of_ours = [f"predict/auto/fold_{fold}" for fold in range(5)]
    now = wait_for(WITH_NNUNET, capsys, lambda now: now[theirs[4]][0] == "failed" and all(
        now[name][0] == "done" for name in [*ours, *theirs[:4], *of_ours, "calibrate/2d", "choose"]))
    assert now[theirs[4]][-1] == "exit code 2: The labels of case_3 are wrong."
    waiting = [f"predict/nnunet/fold_{fold}" for fold in range(5)] + ["temperature/nnunet", "compare"]
    now = wait_for(WITH_NNUNET, capsys, lambda now: all(now[name][0] in ("failed", "waiting") for name in waiting))
    for fold in (1, 2):
        log = (place.results / "comparison" / "jobs" / f"train_auto_2d_fold_{fold}.log").read_text(encoding="utf-8")
        assert log.count("Paused") == 1 and log.count("epoch 5/5") == 1

    # repaired, and the same line: only what is missing is submitted, and all is done
    (place.results / "repaired").touch()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", str(HERE / "stand_in.py"))
        capsys.readouterr()
        assert command(f'{WITH_NNUNET} --slurm "--time=10 --ntasks=1"') == 0
    assert f"{1 + len(waiting)} jobs submitted" in capsys.readouterr().out
    wait_for(WITH_NNUNET, capsys, lambda now: all(row[0] == "done" for row in now.values()))


def test_a_real_fold_is_trained_by_a_batch_file(planned, cluster, monkeypatch, capsys):
    use(planned, monkeypatch)
    monkeypatch.setenv("SLURM_CONF", str(cluster))
    monkeypatch.setenv("PYTHONPATH", str(HERE.parents[1]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    line = f"{LINE} -f 0 --iterations 5 --seed 2 "
    assert command(f'{line} --slurm "--time=10"') == 0
    job = "train/auto/2d/fold_0"
    found = wait_for(line, capsys, lambda now: now[job][0] in ("done", "failed"))
    subprocess.run(["scancel", *{number.split("_")[0] for number in numbers(planned).values()}])
    assert found[job][:2] == ["done", "5/5"], found[job]
    shutil.rmtree(planned.results)
