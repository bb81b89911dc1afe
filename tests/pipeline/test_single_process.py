"""Containers of challenges have no shared memory: prediction starts no other process and takes no semaphore."""

import multiprocessing
import multiprocessing.context
import multiprocessing.process
import os
import shutil
import subprocess

import numpy as np
import SimpleITK as sitk
from chain import command


def refuse(*args, **kwargs):
    raise AssertionError("multiprocessing was used")


def test_prediction_works_where_no_process_can_be_started_and_nothing_shared(chain_2d, folders, tmp_path, monkeypatch):
    folders(chain_2d.root)
    shutil.copytree(chain_2d.raw / "imagesTs", tmp_path / "images")
    for name in ("get_context", "Pool", "Process", "Queue", "Manager", "Lock", "Semaphore", "Value", "Array"):
        monkeypatch.setattr(multiprocessing, name, refuse)
    for name in ("Pool", "Queue", "Manager", "Lock", "Semaphore", "Value", "Array"):
        monkeypatch.setattr(multiprocessing.context.BaseContext, name, refuse)
    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    monkeypatch.setattr(os, "fork", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert command(f"predict -i {{0}} -o {{1}} -d {chain_2d.dataset} -c 2d -f 0 1 -device cpu --samples 3 "
                   "--save_samples --save_uncertainty --save_probabilities", tmp_path / "images", tmp_path / "out") == 0
    for case in chain_2d.cases:
        ours, theirs = (sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{case}_samples.nii.gz")))
                        for folder in (tmp_path / "out", chain_2d.predictions))
        np.testing.assert_array_equal(ours, theirs)
