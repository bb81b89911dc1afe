"""dataset.json keeps its types, version 1 is named as one cause, and its regions give a perfect prediction back."""

import json

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from medsegdiff_auto.checks.dataset_json import labels_findings, read_dataset_json
from medsegdiff_auto.checks.integrity import check_dataset
from medsegdiff_auto.findings import Finding

INTACT = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "numTraining": 5,
          "file_ending": ".nii.gz"}
VERSION_1 = {"name": "Ours", "modality": {"0": "MR"}, "labels": {"0": "background", "1": "organ"}, "numTraining": 5,
             "numTest": 0, "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}], "test": []}


def findings(folder, content) -> list[Finding]:
    (folder / "dataset.json").write_text(json.dumps(content))
    return read_dataset_json(folder)[1]


@pytest.mark.parametrize("content", [
    VERSION_1, {key: value for key, value in VERSION_1.items() if key != "training"},
    VERSION_1 | {"file_ending": ".nrrd"}, {"modality": {"0": "CT"}}],
    ids=["whole", "without training", "with an ending", "modality alone"])
def test_version_1_is_one_finding_that_names_what_the_present_version_wants(tmp_path, content):
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found, = check_dataset(tmp_path)
    assert found.check == "is of nnU-Net's version 1" and "modality" in found.found
    assert all(key in found.expected for key in ("channel_names", "labels", "numTraining", "file_ending"))


def test_keys_of_version_1_beside_those_of_the_present_version_are_nobodys_concern(tmp_path):
    assert findings(tmp_path, INTACT | {"modality": {"0": "CT"}, "training": [], "test": [], "release": "1.0"}) == []


LIVER = {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}


def test_codes_of_labels_are_taken(tmp_path):
    assert findings(tmp_path, INTACT | {"codes": {"organ": LIVER}}) == []


LISTED = {"a": {"images": ["imagesTr/a_0000.nii.gz"], "label": "labelsTr/a.nii.gz"}}


@pytest.mark.parametrize("change, named", [
    ({"dataset": {"a": {"image": "a.nii.gz", "label": "b.nii.gz"}}}, "dataset.a.images is missing"),
    ({"dataset": {"a": {"images": "a.nii.gz", "label": "b.nii.gz"}}}, "dataset.a.images is 'a.nii.gz'"),
    ({"dataset": {"a": {"images": [], "label": "b.nii.gz"}}}, "dataset.a.images is []"),
    ({"dataset": {"a": {"images": ["a.nii.gz"]}}}, "dataset.a.label is missing"),
    ({"dataset": {"a": {"images": [7], "label": "b.nii.gz"}}}, "dataset.a.images.0 is 7"),
    ({"dataset": {"a": {"images": ["a.nii.gz"], "label": None}}}, "dataset.a.label is None"),
    ({"dataset": {"a": ["a.nii.gz", "b.nii.gz"]}}, "dataset.a is ["),
    ({"dataset": ["a", "b"]}, "dataset is ['a', 'b']"), ({"dataset": {}}, "dataset is {}"),
    ({"file_ending": 3}, "file_ending is 3"), ({"file_ending": None}, "file_ending is None"),
    ({"file_ending": [".nii.gz"]}, "file_ending is ['.nii.gz']"),
    ({"numTraining": "5"}, "numTraining is '5'"), ({"numTraining": -1}, "numTraining is -1"),
    ({"numTraining": 5.0}, "numTraining is 5.0"), ({"numTraining": True}, "numTraining is True"),
    ({"codes": {"organ": "10200004"}}, "codes.organ is '10200004'"),
    ({"codes": {"organ": LIVER | {"value": 10200004}}}, "codes.organ.value is 10200004"),
    ({"codes": {"organ": LIVER | {"scheme": "a" * 17}}}, "codes.organ.scheme is 'aaaaaaaaaaaaaaaaa'"),
    ({"codes": {"organ": {"value": "10200004", "scheme": "SCT"}}}, "codes.organ.meaning is missing"),
    ({"codes": {"organ": LIVER, "lung": LIVER}}, "lung"), ({"codes": ["organ"]}, "codes is ['organ']"),
    ({"regions_class_order": "1, 2"}, "regions_class_order is '1, 2'"),
    ({"regions_class_order": [1, "2"]}, "regions_class_order.1 is '2'")], ids=str)
def test_a_value_of_another_type_is_one_finding_that_names_its_place(tmp_path, change, named):
    found, = findings(tmp_path, INTACT | change)
    assert named in found.found and found.expected


def test_a_listing_of_the_right_form_is_accepted(tmp_path):
    assert findings(tmp_path, INTACT | {"dataset": LISTED}) == []


REGIONS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


@pytest.mark.parametrize("labels, order", [
    (REGIONS, [1, 2, 3]), (REGIONS | {"ignore": 4}, [1, 2, 3]),
    ({"background": 0, "kidney": [1, 2, 3], "mass": [2, 3], "tumour": 2}, [1, 3, 2]),
    ({"background": 0, "whole": [1, 2]}, [1]), ({"background": 0, "whole": [1, 2]}, [2]),
    ({"background": 0, "left": [1, 2], "right": [3, 4], "left lesion": 2, "right lesion": 4}, [1, 3, 2, 4]),
    ({"background": 0, "enhancing": [3], "whole": [1, 2]}, [3, 1])], ids=str)
def test_an_order_that_gives_a_perfect_prediction_back_is_accepted(labels, order):
    assert labels_findings({"labels": labels, "regions_class_order": order}) == []
    assert perfect_prediction_scores_perfectly(labels, order)


@pytest.mark.parametrize("labels, order, named", [
    (REGIONS, [1, 2, 5], "5 for enhancing"), (REGIONS, [3, 2, 1], "1 for enhancing"),
    (REGIONS, [0, 2, 3], "0 for whole"), (REGIONS, [1, 1, 3], "1 for core"), (REGIONS, [1, 3, 3], "label 2"),
    (REGIONS, [2, 2, 3], "label 1"),
    ({"background": 0, "core": 2, "whole": [1, 2]}, [2, 1], "label 2 (core, whole) is written as 1 (whole)"),
    ({"background": 0, "enhancing": 3, "core": [2, 3], "whole": [1, 2, 3]}, [3, 2, 1], "label 2")], ids=str)
def test_an_order_that_spoils_a_perfect_prediction_is_refused_by_its_label(labels, order, named):
    found, = labels_findings({"labels": labels, "regions_class_order": order})
    assert named in found.found
    assert not perfect_prediction_scores_perfectly(labels, order)


def perfect_prediction_scores_perfectly(labels: dict, order: list[int]) -> bool:
    """Whether the masks of the regions, written by nnU-Net, are the regions again."""
    manager = LabelManager(labels, order)
    reference = np.array(sorted({value for entry in labels.values()
                                 for value in (entry if isinstance(entry, list) else [entry])
                                 if entry != labels.get("ignore")}))

    def masks(label_map: np.ndarray) -> np.ndarray:
        return np.stack([np.isin(label_map, region) for region in manager.foreground_regions])

    written = manager.convert_probabilities_to_segmentation(masks(reference)[:, None, None].astype(np.float32))
    return bool((masks(np.asarray(written)[0, 0]) == masks(reference)).all())
