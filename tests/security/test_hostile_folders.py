"""Model, prediction and dataset folders that want to run code or to write elsewhere: each is refused in four lines."""

import json
import os
import pickle
import shutil
import subprocess
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from watched import MakesFolder, nothing_runs

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.case_files import read_posterior
from medsegdiff_auto.files.arrays import read_arrays
from medsegdiff_auto.inference.ensembling import ensemble
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.nnunet.dataset_files import read_splits
from medsegdiff_auto.nnunet.plans_schema import require_plans
from medsegdiff_auto.nnunet.postprocessing_steps import (STEP, as_plain, from_plain, load_postprocessing,
                                                         write_postprocessing)
from medsegdiff_auto.phantoms.posterior_file import load_posterior
from medsegdiff_auto.reporting.report import write_report
from medsegdiff_auto.selection.stored_samples import read_stored_case

KEPT = Path(__file__).parents[1] / "inference" / "version_1"
CHECKPOINT = "fold_0/checkpoint_final.pth"


def word(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def reference(module: str, name: str) -> bytes:
    """A pickle that is the object of this name."""
    return b"\x80\x04" + word(module) + word(name) + b"\x93."


def edit(file: Path, change) -> None:
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content), encoding="utf-8")


def rewrite(file: Path, change, **how) -> None:
    content = torch.load(file, weights_only=False)
    change(content)
    torch.save(content, file, **how)


OLD_FORM = {"_use_new_zipfile_serialization": False}
SCRIPT = torch.jit.script(torch.nn.Linear(1, 1))
MODELS = {
    "a call beside the weights": lambda m: rewrite(m / CHECKPOINT, lambda c: c.update(evil=MakesFolder())),
    "a call among the weights": lambda m: rewrite(m / CHECKPOINT, lambda c: c["network_weights"].update(
        evil=MakesFolder())),
    "a call in torch's old form": lambda m: rewrite(m / CHECKPOINT, lambda c: c.update(evil=MakesFolder()), **OLD_FORM),
    "a call in the plans of the training": lambda m: rewrite(m / CHECKPOINT, lambda c: c["init_args"]["plans"].update(
        evil=MakesFolder())),
    "a whole module": lambda m: rewrite(m / CHECKPOINT, lambda c: c.update(evil=torch.nn.Linear(1, 1))),
    "a program of torch": lambda m: SCRIPT.save(str(m / CHECKPOINT)),
    "a bare pickle": lambda m: (m / CHECKPOINT).write_bytes(pickle.dumps(MakesFolder())),
    "a bare pickle of the first protocol": lambda m: (m / CHECKPOINT).write_bytes(pickle.dumps(MakesFolder(), 0)),
    "an array of objects": lambda m: rewrite(m / CHECKPOINT, lambda c: c.update(evil=np.array([MakesFolder()]))),
    "plans that open a process": lambda m: edit(m / "plans.json", lambda p: p["configurations"]["2d"]["architecture"][
        "arch_kwargs"].update(nonlin="subprocess.Popen", nonlin_kwargs={"args": "mkdir made_by_plans"})),
    "plans of a network that is a function": lambda m: edit(m / "plans.json", lambda p: p["configurations"]["2d"][
        "architecture"].update(network_class_name="os.system")),
    "plans with a configuration that is a path": lambda m: edit(m / "plans.json", lambda p: p["configurations"].update(
        {"../../evil": {"inherits_from": "2d"}})),
    "plans with a data folder that is a path": lambda m: edit(m / "plans.json", lambda p: p["configurations"][
        "2d"].update(data_identifier="../../evil")),
    "plans of a dataset that is a path": lambda m: edit(m / "plans.json", lambda p: p.update(dataset_name="../evil")),
    "plans named like a path": lambda m: edit(m / "plans.json", lambda p: p.update(plans_name="/tmp/evil")),
    "a reader of somebody else": lambda m: edit(m / "dataset.json", lambda d: d.update(
        overwrite_image_reader_writer="os")),
    "a file ending that is a path": lambda m: edit(m / "dataset.json", lambda d: d.update(file_ending="/../../x.nii")),
    "a fit that holds more": lambda m: (m / "sampling.json").write_text('{"__class__": "os.system"}'),
}


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_folder_is_refused_and_nothing_of_it_runs(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MODELS[kind](Path(shutil.copytree(KEPT, tmp_path / "model")))
    with nothing_runs(), pytest.raises(UserError) as refused:
        load_model(tmp_path / "model")
    assert len(str(refused.value).splitlines()) == 4 and os.listdir(tmp_path) == ["model"]


STEPS = {
    "a call": pickle.dumps(MakesFolder()),
    "a call as a step": pickle.dumps(([MakesFolder()], [{}])),
    "a call as an argument": pickle.dumps(([], [{"labels_or_regions": MakesFolder()}])),
    "another function of its module": reference(STEP[0], "remove_all_but_largest_component"),
    "a module within its module": reference(STEP[0], "np"),
    "a way from it to anything": reference(STEP[0], f"{STEP[1]}.__globals__"),
    "the same name elsewhere": reference("os", STEP[1]),
    "another function of nnU-Net": reference("nnunetv2.utilities.utils", "create_lists_from_splitted_dataset_folder"),
    "eval": b"cbuiltins\neval\n(S'1'\ntR.",
    "an import": b"c__builtin__\n__import__\n(S'antigravity'\ntR.",
    "a function as a step": pickle.dumps(([os.mkdir], [{}])),
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_postprocessing_is_refused_and_nothing_of_it_runs(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "postprocessing.pkl").write_bytes(STEPS[kind])
    with nothing_runs(), pytest.raises(UserError) as refused:
        load_postprocessing(tmp_path / "postprocessing.pkl")
    assert refused.value.found.startswith("a reference to ") and os.listdir(tmp_path) == ["postprocessing.pkl"]


def test_steps_with_other_arguments_than_labels_are_no_postprocessing(tmp_path):
    for given in ({"labels_or_regions": ["os.system"], "background_label": 0}, {"segmentation": [1]}, ["labels"]):
        write_postprocessing([given], tmp_path / "postprocessing.pkl")
        with nothing_runs(".".join(STEP)), pytest.raises(UserError, match="is no postprocessing of nnU-Net"):
            load_postprocessing(tmp_path / "postprocessing.pkl")


def test_steps_as_plain_values_do_what_they_did(tmp_path):
    segmentation = np.array([[1, 0, 2, 2, 0, 1, 1], [0, 0, 0, 0, 0, 0, 2]])
    steps = [{"labels_or_regions": (1, 2), "background_label": 0}, {"labels_or_regions": [1, (2, )]},
             {"labels_or_regions": 2, "background_label": np.int64(0)}]
    for step in steps:
        back = from_plain(json.loads(json.dumps(as_plain([step]))))
        write_postprocessing(back, tmp_path / "postprocessing.pkl")
        (function, ), (arguments, ) = load_postprocessing(tmp_path / "postprocessing.pkl")
        expected = function(segmentation.copy(), **step)
        np.testing.assert_array_equal(function(segmentation.copy(), **arguments), expected)
        assert (expected != segmentation).any()


def test_the_watch_sees_what_it_is_there_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for attempt in (lambda: pickle.loads(pickle.dumps(MakesFolder())), lambda: os.system("true"),
                    lambda: subprocess.run(["true"])):
        with pytest.raises(AssertionError), nothing_runs():
            attempt()


def prediction_folders(folder: Path) -> list[Path]:
    """Two folders of a case with probabilities, as for an ensemble."""
    folders = [folder / "first", folder / "second"]
    for one in folders:
        one.mkdir()
        for name in ("plans.json", "dataset.json"):
            shutil.copy(KEPT / name, one)
        shutil.copy(KEPT / "phantom_005_0000.nii.gz", one / "case.nii.gz")
        np.savez(one / "case.npz", probabilities=np.full((3, 1, 4, 4), 1 / 3, np.float32))
        (one / "case.pkl").write_bytes(pickle.dumps({"spacing": [1.0]}))
    return folders


PREDICTIONS = {
    "properties that are a call": lambda f: (f / "case.pkl").write_bytes(pickle.dumps(MakesFolder())),
    "properties with a call": lambda f: (f / "case.pkl").write_bytes(pickle.dumps({"spacing": [MakesFolder()]})),
    "properties of another library": lambda f: (f / "case.pkl").write_bytes(pickle.dumps(OrderedDict(a=Path()))),
    "probabilities that are objects": lambda f: np.savez(f / "case.npz", probabilities=np.array([MakesFolder()])),
    "probabilities that are a pickle": lambda f: (f / "case.npz").write_bytes(pickle.dumps(MakesFolder())),
    "plans of somebody else": lambda f: edit(f / "plans.json", lambda p: p.update(image_reader_writer="os")),
    "a reader of somebody else": lambda f: edit(f / "dataset.json", lambda d: d.update(
        overwrite_image_reader_writer="os")),
}


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_an_ensemble_of_such_predictions_is_refused_and_nothing_of_them_runs(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders = prediction_folders(tmp_path)
    for one in folders:
        PREDICTIONS[kind](one)
    with nothing_runs("collections.OrderedDict"), pytest.raises(UserError) as refused:
        ensemble(folders, tmp_path / "out", False, 1)
    assert len(str(refused.value).splitlines()) == 4
    assert sorted(os.listdir(tmp_path)) == ["first", "second"]


@pytest.mark.parametrize("read", [lambda file: read_arrays(file, "probabilities"), load_posterior, read_stored_case,
                                  lambda file: read_posterior(file, None)],
                         ids=["arrays", "posterior", "stored samples", "known posterior"])
@pytest.mark.parametrize("kind", ["objects", "a pickle", "cut off"])
def test_arrays_of_objects_are_refused_wherever_they_are_read(read, kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    objects = {name: np.array([MakesFolder()]) for name in ("probabilities", "parameters", "samples", "means", "nll")}
    np.savez(tmp_path / "case.npz", **objects)
    if kind != "objects":
        (tmp_path / "case.npz").write_bytes(pickle.dumps(MakesFolder()) if kind == "a pickle" else
                                            (tmp_path / "case.npz").read_bytes()[:300])
    with nothing_runs(), pytest.raises(UserError) as refused:
        read(tmp_path / "case.npz")
    assert len(str(refused.value).splitlines()) == 4 and os.listdir(tmp_path) == ["case.npz"]


def test_arrays_of_numbers_are_read_in_the_order_of_their_names(tmp_path):
    np.savez(tmp_path / "a.npz", b=np.arange(3), a=np.array("text"))
    a, b = read_arrays(tmp_path / "a.npz", "a", "b")
    assert str(a) == "text" and b.tolist() == [0, 1, 2]


@pytest.mark.parametrize("splits", [[{"train": ["a"], "val": ["../../evil"]}], [{"train": ["/tmp/evil"], "val": []}],
                                    [{"train": ["a\x00b"], "val": []}], [{"train": [1], "val": []}], {"train": []},
                                    [{"train": "ab", "val": []}], [{"val": []}]], ids=str)
def test_folds_whose_cases_are_paths_are_refused(splits, tmp_path):
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    with pytest.raises(UserError, match="does not hold the folds"):
        read_splits(tmp_path)


def test_folds_of_any_names_that_are_no_paths_are_read(tmp_path):
    splits = [{"train": ["a b", "case.1", "ß"], "val": ["..x"], "test": []}]
    (tmp_path / "splits_final.json").write_text(json.dumps(splits))
    assert read_splits(tmp_path) == splits


def test_a_configuration_is_named_like_a_folder():
    plans = json.loads((KEPT / "plans.json").read_text(encoding="utf-8"))
    section = plans["configurations"]["2d"]
    for name in ("..", "a/b", "a\\b"):
        with pytest.raises(UserError, match="configurations"):
            require_plans(plans | {"configurations": {name: section}}, "plans.json")


def test_a_report_shows_names_as_text(tmp_path):
    markup = "<img src=x onerror=alert(1)>"
    folder = Path(shutil.copytree(KEPT, tmp_path / "nnUNetTrainerMedSegDiff__MedSegDiffPlans__2d"))
    edit(folder / "dataset.json", lambda d: d.update(labels={"background": 0, markup: 1, "=1+1": 2}, licence=markup,
                                                     channel_names={"0": markup}, description=markup))
    edit(folder / "plans.json", lambda p: p.update(dataset_name=markup))
    (folder / "plan.md").write_text(f"# {markup}\n\n| {markup} | `{markup}` |\n|---|---|\n| {markup} | b |\n")
    (folder / "run.json").write_text(json.dumps({"command": [markup]}))
    write_report(tmp_path / "report.html", folder, commands=[markup])
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<img src=x" not in html and html.count("&lt;img src=x") >= 9
