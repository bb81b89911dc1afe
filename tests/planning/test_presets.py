"""Presets and finished plans are found by their names, wherever the package is installed."""

import json
from pathlib import Path

import pytest

from medsegdiff_auto.cli import plan_and_preprocess
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.planning import prepare
from medsegdiff_auto.planning.presets import available_presets, available_ready_plans, finished_plans

PLANS = Path(__file__).parents[2] / "plans"


def test_every_fragment_is_a_preset_and_no_finished_plan_is_one():
    assert available_presets() == ["auto", "paper", "paper_v2", "simple_diffusion"]
    assert available_ready_plans() == sorted(file.stem for file in (PLANS / "ready").glob("*.json"))


def test_finished_plans_are_given_by_name_or_as_a_file(tmp_path):
    for name in available_ready_plans():
        assert finished_plans(name).read_bytes() == (PLANS / "ready" / f"{name}.json").read_bytes()
    (tmp_path / "mine.json").write_text("{}")
    assert finished_plans(str(tmp_path / "mine.json")) == tmp_path / "mine.json"


def test_a_name_that_no_finished_plans_have_is_refused_with_those_that_exist():
    with pytest.raises(UserError, match="The finished plans do not exist.") as refused:
        finished_plans("Dataset004_Hipocampus")
    assert refused.value.found == "Dataset004_Hipocampus" and "Dataset004_Hippocampus" in refused.value.expected


def test_the_command_adopts_finished_plans_by_their_name(tmp_path, monkeypatch):
    raw = tmp_path / "raw" / "Dataset009_Mine"
    for images_or_labels in ("imagesTr", "labelsTr"):
        (raw / images_or_labels).mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps(
        {"channel_names": {"0": "MRI"}, "labels": {"background": 0}, "numTraining": 0, "file_ending": ".nii.gz"}))
    (tmp_path / "preprocessed" / "Dataset009_Mine").mkdir(parents=True)
    monkeypatch.setattr(prepare, "fingerprint", lambda *_: {})
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    words = "-d 9 --plans Dataset004_Hippocampus --no_pp --no_integrity_check -np 1"
    assert plan_and_preprocess.main(words.split()) == 0
    ready = json.loads((PLANS / "ready" / "Dataset004_Hippocampus.json").read_text(encoding="utf-8"))
    adopted = tmp_path / "preprocessed" / "Dataset009_Mine" / f"{ready['plans_name']}.json"
    assert json.loads(adopted.read_text(encoding="utf-8")) == ready | {"dataset_name": "Dataset009_Mine"}
