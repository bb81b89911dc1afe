"""The doctor's judgement of machines that are made up, and what it measures of parts that are made up."""

import json
from dataclasses import replace

import pytest
import torch

from medsegdiff_auto.checks import machine
from medsegdiff_auto.checks.machine import ERROR, OK, WARNING, Device, Machine, Place, judged
from medsegdiff_auto.cli import doctor

GB = 1e9
WELL = Machine({"torch": "2.15.0", "torchvision": "0.29.2", "nnunetv2": "2.8.1"},
               devices=(Device("NVIDIA H100", 80 * GB, 79 * GB), ), has_nvidia_driver=True,
               memory={"machine": 64 * GB}, cores=8, cores_of_machine=16, shared_memory=8 * GB,
               processes={"nnUNet_n_proc_DA": 8},
               folders={name: Place(f"/data/{name}", free_bytes=500 * GB) for name in (
                   "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")},
               caches={"TMPDIR": Place("/tmp", free_bytes=90 * GB), "XDG_CACHE_HOME": Place("/home/a/.cache")})


def test_a_machine_that_is_well_has_one_line_each_and_nothing_to_repair(capsys):
    judgements = judged(WELL)
    assert {one.state for one in judgements} == {OK} and not any(one.fix for one in judgements)
    assert [one.subject for one in judgements] == [
        "torch and torchvision", "nnU-Net", "packages", "device", "half precision", "compiling", "memory", "cores",
        "shared memory", "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "TMPDIR", "XDG_CACHE_HOME"]
    assert doctor.show(judgements, as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(judgements) and lines[3].split(maxsplit=2) == [
        "ok", "device", "NVIDIA H100, 79.0 of 80.0 GB free"]


FAULTS = [
    ({"torchvision": "RuntimeError: operator torchvision::nms does not exist"}, "torch and torchvision", ERROR,
     "torch 2.15.0, torchvision 0.29.2: RuntimeError: operator torchvision::nms does not exist", "pip install"),
    ({"packages": WELL.packages | {"nnunetv2": "2.9.0"}}, "nnU-Net", ERROR, "nnunetv2 2.9.0, not nnunetv2 2.8",
     "pip install nnunetv2==2.8.1"),
    ({"packages": WELL.packages | {"nnunetv2": None}}, "nnU-Net", ERROR, "nnunetv2 None", "nnunetv2==2.8.1"),
    ({"unmet": ("scipy<2 (2.1.0)", )}, "packages", ERROR, "scipy<2 (2.1.0)", "requirements.lock"),
    ({"devices": ()}, "device", ERROR, "an NVIDIA driver, but no GPU that torch can use", "--gpus all"),
    ({"devices": (Device("T4", 16 * GB, 2 * GB), )}, "device", WARNING, "T4, 2.0 of 16.0 GB free", "gpu_memory_target"),
    ({"devices": (Device("T4", 16 * GB, 15 * GB, "float32, off by 0"), )}, "half precision", ERROR, "float32, off by 0",
     "pip install"),
    ({"compiled": "InvalidCxxCompiler: No working C++ compiler found"}, "compiling", WARNING, "No working C++ compiler",
     "nnUNet_compile=f"),
    ({"memory": {"machine": 64 * GB, "cgroup": 4 * GB}}, "memory", WARNING, "4.0 GB (cgroup; machine 64.0) free",
     "--memory"),
    ({"memory": {"machine": 64 * GB, "RLIMIT_DATA": 1 * GB}}, "memory", ERROR, "1.0 GB (RLIMIT_DATA; machine 64.0)",
     "ulimit"),
    ({"processes": {"nnUNet_n_proc_DA": 17}}, "cores", WARNING, "8 of 16, but nnUNet_n_proc_DA=17",
     "export nnUNet_n_proc_DA=8"),
    ({"shared_memory": 64e6}, "shared memory", WARNING, "64 MB free", "--shm-size"),
    ({"folders": {"nnUNet_results": Place(None)}}, "nnUNet_results", WARNING, "not set", "export nnUNet_results="),
    ({"folders": {"nnUNet_results": Place("/none", exists=False)}}, "nnUNet_results", ERROR, "/none does not exist",
     "mkdir -p /none"),
    ({"folders": {"nnUNet_results": Place("/r", is_writable=False)}}, "nnUNet_results", ERROR, "/r cannot be written",
     "permissions"),
    ({"folders": {"nnUNet_preprocessed": Place("/p", free_bytes=5 * GB)}}, "nnUNet_preprocessed", WARNING,
     "/p, 5.0 GB free", "make room"),
    ({"folders": {"nnUNet_preprocessed": Place("/p", free_bytes=0.5 * GB)}}, "nnUNet_preprocessed", ERROR,
     "/p, 0.5 GB free", "make room"),
    ({"caches": {"TMPDIR": Place("/tmp", is_writable=False)}}, "TMPDIR", ERROR, "/tmp cannot be written",
     "export TMPDIR="),
    ({"caches": {"XDG_CACHE_HOME": Place("/c", is_writable=False)}}, "XDG_CACHE_HOME", WARNING, "/c cannot be written",
     "export XDG_CACHE_HOME="),
]


@pytest.mark.parametrize("change, subject, state, found, fix", FAULTS, ids=[f"{one[1]}: {one[3]}" for one in FAULTS])
def test_a_fault_is_one_line_with_its_fix_and_only_an_error_ends_with_1(change, subject, state, found, fix, capsys):
    judgements = judged(replace(WELL, **change))
    wrong = [one for one in judgements if one.state != OK]
    assert [(one.subject, one.state) for one in wrong] == [(subject, state)]
    assert found in wrong[0].found and fix in wrong[0].fix
    assert doctor.show(judgements, as_json=False) == (1 if state == ERROR else 0)
    assert f"{found}" in capsys.readouterr().out
    assert doctor.show(judgements, as_json=True) == (1 if state == ERROR else 0)
    told = json.loads(capsys.readouterr().out)
    assert told["is_well"] is (state != ERROR) and told["judgements"][judgements.index(wrong[0])] == {
        "subject": subject, "state": state, "found": wrong[0].found, "fix": wrong[0].fix}


@pytest.mark.parametrize("change, subject, found", [
    ({"devices": (), "has_nvidia_driver": False}, "device", "no GPU: give -device cpu"),
    ({"compiled": ""}, "compiling", "torch.compile works"), ({"compiled": None}, "compiling", "not tried"),
    ({"folders": {"nnUNet_raw": Place("/raw", is_writable=False)}}, "nnUNet_raw", "/raw"),
    ({"memory": {}}, "memory", "unknown")])
def test_what_is_no_fault_is_well(change, subject, found):
    one = next(one for one in judged(replace(WELL, **change)) if one.subject == subject)
    assert one.state == OK and found in one.found and not one.fix


def test_a_system_without_shared_memory_has_no_line_about_it():
    assert "shared memory" not in {one.subject for one in judged(replace(WELL, shared_memory=None))}


def test_the_command_prints_what_was_measured(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(machine, "measured", lambda try_compiling: asked.append(try_compiling) or WELL)
    assert doctor.main(["--json", "--compile"]) == 0 and json.loads(capsys.readouterr().out)["is_well"]
    assert doctor.main([]) == 0 and asked == [True, False]


def test_a_requirement_that_is_not_met_is_named_with_what_is_installed(monkeypatch):
    installed = {"medsegdiff-auto": "0.1.0", "numpy": "1.20.0", "scipy": "1.15.0"}
    monkeypatch.setattr(machine, "requires", lambda name: ["numpy>=1.26", "scipy<2,>=1.11", "rankseg<0.1", 'pytest>8; '
                                                           'extra == "test"'])
    monkeypatch.setattr(machine, "_version", installed.get)
    assert list(machine._unmet()) == ["numpy>=1.26 (1.20.0)", "rankseg<0.1 (not installed)"]
    del installed["medsegdiff-auto"]
    assert list(machine._unmet()) == ["medsegdiff-auto (not installed, but run from its folder)"]


def test_a_place_that_does_not_exist_is_judged_by_where_it_would_be(tmp_path, monkeypatch):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda folder: type("Usage", (), {
        "free": 7.0 if folder == tmp_path else 0})())
    monkeypatch.setattr(machine.os, "access", lambda folder, mode: folder == tmp_path)
    assert machine._place(str(tmp_path / "a" / "b")) == Place(str(tmp_path / "a" / "b"), False, True, 7.0)
    assert machine._place(str(tmp_path)) == Place(str(tmp_path), True, True, 7.0)
    assert machine._place(None) == Place(None)


@pytest.mark.parametrize("program, found", [
    ("pass", ""), ("raise ValueError('no compiler')", "ValueError: no compiler"),
    ("import sys; sys.exit(3)", "exit code 3"), ("import time; time.sleep(60)", "not done after 1 s")])
def test_compiling_is_tried_in_a_process_of_its_own_for_a_while(program, found, monkeypatch):
    monkeypatch.setattr(machine, "_COMPILE", program)
    monkeypatch.setattr(machine, "COMPILE_SECONDS", 1 if "sleep" in program else 60)
    assert machine._compile() == found


def test_torchvision_is_judged_by_what_its_operators_compute(monkeypatch):
    import torchvision.ops

    monkeypatch.setattr(torchvision.ops, "nms", lambda boxes, scores, overlap: torch.tensor([1]))
    assert machine._torchvision() == ""
    monkeypatch.setattr(torchvision.ops, "nms", lambda boxes, scores, overlap: torch.tensor([0]))
    assert machine._torchvision() == "its operators compute [0] in the place of [1]"

    def missing(*arguments):
        raise RuntimeError("operator torchvision::nms\ndoes not exist")

    monkeypatch.setattr(torchvision.ops, "nms", missing)
    assert machine._torchvision() == "RuntimeError: operator torchvision::nms does not exist"
