"""Configurations that inherit others, as plans edited by hand have them: whose data they use, over one step and two."""

import json
from pathlib import Path

import pytest

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.inheritance import DATA
from medsegdiff_auto.planning import prepare
from medsegdiff_auto.training.run import load_plans

READY = Path(__file__).parents[2] / "plans" / "ready" / "Dataset004_Hippocampus.json"
DATASET_JSON = {"name": "mine", "channel_names": {"0": "MRI"}, "numTraining": 0, "file_ending": ".nii.gz",
                "labels": {"background": 0, "Anterior": 1, "Posterior": 2}}
CHILDREN = {"finer": {"inherits_from": "3d_fullres", DATA: "MedSegDiffPlans_finer", "spacing": [0.5, 0.5, 0.5]},
            "finer_batch": {"inherits_from": "finer", "batch_size": 3},
            "finer_batch_again": {"inherits_from": "finer_batch"}}


@pytest.fixture
def preprocessed(tmp_path):
    """A folder with adopted plans under the name of their own, Mine, and no data."""
    plans = json.loads(READY.read_text(encoding="utf-8"))
    assert plans["plans_name"] == "MedSegDiffPlans"
    plans["configurations"] |= CHILDREN
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    folder, raw = tmp_path / "Dataset004_Hippocampus", tmp_path / "raw" / "Dataset004_Hippocampus"
    folder.mkdir()
    for images_or_labels in ("imagesTr", "labelsTr"):
        (raw / images_or_labels).mkdir(parents=True)
    (raw / "dataset.json").write_text(json.dumps(DATASET_JSON))
    (folder / "dataset_fingerprint.json").write_text('{"shapes_after_crop": [], "spacings": []}')
    assert prepare.adopt_plans(tmp_path / "plans.json", raw, folder, "Mine") == "Mine"
    return folder


def test_adopted_plans_bring_the_datasets_description_as_planning_does(preprocessed):
    assert json.loads((preprocessed / "dataset.json").read_text()) == DATASET_JSON


def test_adopted_plans_rename_the_data_of_every_configuration_that_has_data(preprocessed):
    configurations = json.loads((preprocessed / "Mine.json").read_text(encoding="utf-8"))["configurations"]
    assert configurations["3d_fullres"][DATA] == "Mine_3d_fullres" and configurations["finer"][DATA] == "Mine_finer"
    assert configurations["finer_batch"] == CHILDREN["finer_batch"]


@pytest.mark.parametrize("asked, expected", [(["finer_batch_again"], ["finer"]), (None, ["2d", "3d_fullres", "finer"]),
                                             (["finer", "finer_batch", "3d_fullres"], ["finer", "3d_fullres"])])
def test_what_is_preprocessed_is_the_nearest_configuration_with_data(preprocessed, asked, expected, monkeypatch):
    seen = []
    monkeypatch.setattr(prepare, "preprocess_dataset", lambda *arguments, **options: seen.append(arguments[:3]))
    raw = preprocessed.parent / "raw" / preprocessed.name
    assert prepare.preprocess(raw, preprocessed, "Mine", asked, 1) == expected
    assert seen == [(4, "Mine", [configuration]) for configuration in expected]


@pytest.mark.parametrize("configuration", ["finer", "finer_batch", "finer_batch_again"])
def test_training_asks_for_the_data_that_nnunet_will_read(preprocessed, configuration):
    (preprocessed / "Mine_3d_fullres").mkdir()
    with pytest.raises(UserError) as refusal:
        load_plans(preprocessed, "Mine", configuration)
    assert refusal.value.found.startswith("no folder Mine_finer ")
    (preprocessed / "Mine_finer").mkdir()
    assert load_plans(preprocessed, "Mine", configuration)["configurations"]["finer"][DATA] == "Mine_finer"
