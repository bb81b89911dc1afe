"""Fingerprint, folds, references and preprocessed cases are renewed or refused once the dataset is another one."""

import json
import logging
import shutil

import pytest
from nnunetv2.utilities.crossval_split import generate_crossval_split

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import checksum, read_record, recorded
from medsegdiff_auto.planning.made_from import (dataset_checksums, drop_stale_references, plan_checksum, renew_splits,
                                                require_preprocessed, stale_because)

CASES = [f"case_{number}" for number in range(6)]
DATASET_JSON = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "numTraining": 6,
                "file_ending": ".nii.gz"}
PLANS = {"plans_name": "OurPlans", "transpose_forward": [0, 1, 2], "image_reader_writer": "SimpleITKIO",
         "foreground_intensity_properties_per_channel": {"0": {"mean": 1.5}},
         "configurations": {"2d": {"data_identifier": "OurPlans_2d", "spacing": [1.0, 1.0], "patch_size": [32, 32]},
                            "2d_large": {"inherits_from": "2d", "batch_size": 2}}}


def write_case(raw, case, content=b"voxels") -> None:
    (raw / "imagesTr" / f"{case}_0000.nii.gz").write_bytes(content + case.encode())
    (raw / "labelsTr" / f"{case}.nii.gz").write_bytes(b"labels" + case.encode())


def write_splits(folder, splits) -> None:
    (folder / "splits_final.json").write_text(json.dumps(splits))


@pytest.fixture
def raw(tmp_path):
    folder = tmp_path / "raw"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in CASES:
        write_case(folder, case)
    return folder


@pytest.fixture
def preprocessed(tmp_path, raw):
    """The six cases, preprocessed by PLANS, and recorded."""
    folder = tmp_path / "Dataset001_Test"
    (folder / "OurPlans_2d").mkdir(parents=True)
    for case in CASES:
        for name in (f"{case}.b2nd", f"{case}_seg.b2nd", f"{case}.pkl"):
            (folder / "OurPlans_2d" / name).write_bytes(b"x")
    with recorded(folder / "OurPlans_2d", **dataset_checksums(raw, DATASET_JSON, 2),
                  plan=plan_checksum(PLANS, "OurPlans_2d")):
        pass
    return folder


def now(raw, dataset_json=None) -> dict:
    return dataset_checksums(raw, dataset_json or DATASET_JSON, 2)


@pytest.mark.parametrize("change, said", [
    (lambda raw: write_case(raw, "case_9"), "1 added (case_9)"),
    (lambda raw: write_case(raw, "case_3", b"other"), "1 changed (case_3)"),
    (lambda raw: (raw / "labelsTr" / "case_2.nii.gz").write_bytes(b"corrected"), "1 changed (case_2)"),
    (lambda raw: [file.unlink() for file in raw.glob("*/case_5*")], "1 removed (case_5)")],
    ids=["added", "image", "label", "removed"])
def test_a_fingerprint_of_other_files_is_stale_and_they_are_named(raw, tmp_path, change, said):
    made = tmp_path / "dataset_fingerprint.json"
    with recorded(made, **now(raw)):
        pass
    assert stale_because(made, now(raw), 6) == ""
    change(raw)
    assert stale_because(made, now(raw), 6) == said


def test_a_fingerprint_of_other_labels_is_stale_and_one_of_another_name_is_not(raw, tmp_path):
    made = tmp_path / "dataset_fingerprint.json"
    with recorded(made, **now(raw)):
        pass
    assert stale_because(made, now(raw, DATASET_JSON | {"name": "another"}), 6) == ""
    assert "labels" in stale_because(made, now(raw, DATASET_JSON | {"labels": {"background": 0, "rim": 1}}), 6)


def test_a_fingerprint_without_a_record_is_judged_by_its_number_of_cases_and_said_to_be_so(raw, tmp_path, caplog):
    made = tmp_path / "dataset_fingerprint.json"
    with caplog.at_level(logging.WARNING):
        assert stale_because(made, now(raw), 6) == ""
    assert "does not say what it was made from" in caplog.text
    assert stale_because(made, now(raw), 2) == "it is of 2 cases, the dataset has 6"


def test_a_fingerprint_whose_extraction_was_killed_is_stale(raw, tmp_path):
    made = tmp_path / "dataset_fingerprint.json"
    with pytest.raises(KeyboardInterrupt), recorded(made, **now(raw)):
        raise KeyboardInterrupt
    assert stale_because(made, now(raw), 6) == "it was interrupted"


FOLDS = [{"train": CASES[2:], "val": CASES[:2]}, {"train": CASES[:2], "val": CASES[2:]}]
OTHER_FOLDS = [{"train": CASES[:3], "val": CASES[3:]}]


def test_a_copy_of_earlier_folds_follows_those_of_the_raw_dataset(raw, tmp_path):
    write_splits(raw, FOLDS)
    renew_splits(raw, tmp_path, DATASET_JSON)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == FOLDS
    write_splits(raw, OTHER_FOLDS)
    renew_splits(raw, tmp_path, DATASET_JSON)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == OTHER_FOLDS
    assert read_record(tmp_path / "splits_final.json")["copy_of"] == checksum(raw / "splits_final.json")
    (raw / "splits_final.json").unlink()
    renew_splits(raw, tmp_path, DATASET_JSON)
    assert not (tmp_path / "splits_final.json").exists()


def test_folds_of_somebodys_own_are_never_replaced(raw, tmp_path):
    write_splits(tmp_path, OTHER_FOLDS)
    renew_splits(raw, tmp_path, DATASET_JSON)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == OTHER_FOLDS
    write_splits(raw, FOLDS)
    with pytest.raises(UserError, match="different folds") as raised:
        renew_splits(raw, tmp_path, DATASET_JSON)
    assert len(str(raised.value).splitlines()) == 4
    assert json.loads((tmp_path / "splits_final.json").read_text()) == OTHER_FOLDS


def test_a_copy_that_somebody_has_edited_is_somebodys_own(raw, tmp_path):
    write_splits(raw, FOLDS)
    renew_splits(raw, tmp_path, DATASET_JSON)
    write_splits(tmp_path, FOLDS[::-1])
    with pytest.raises(UserError, match="different folds"):
        renew_splits(raw, tmp_path, DATASET_JSON)


def test_more_folds_than_the_raw_dataset_has_are_accepted_as_nnunet_does(raw, tmp_path):
    write_splits(raw, FOLDS)
    write_splits(tmp_path, FOLDS + OTHER_FOLDS)
    renew_splits(raw, tmp_path, DATASET_JSON)
    assert len(json.loads((tmp_path / "splits_final.json").read_text())) == 3


@pytest.mark.parametrize("drawn_for", [CASES[:5], [*CASES, "case_7"]], ids=["cases added", "cases removed"])
def test_nnunets_own_folds_of_other_cases_are_drawn_anew(raw, tmp_path, drawn_for):
    write_splits(tmp_path, generate_crossval_split(drawn_for))
    renew_splits(raw, tmp_path, DATASET_JSON)
    assert not (tmp_path / "splits_final.json").exists()
    write_splits(tmp_path, generate_crossval_split(CASES))
    renew_splits(raw, tmp_path, DATASET_JSON)
    assert json.loads((tmp_path / "splits_final.json").read_text()) == generate_crossval_split(CASES)


def test_own_folds_that_name_an_unknown_case_are_refused_and_a_case_left_out_is_named(raw, tmp_path, caplog):
    write_splits(tmp_path, [{"train": CASES[:3], "val": ["case_4", "case_8"]}])
    with pytest.raises(UserError, match="names cases") as raised:
        renew_splits(raw, tmp_path, DATASET_JSON)
    assert raised.value.found == "case_8"
    write_splits(tmp_path, [{"train": CASES[:3], "val": ["case_4"]}])
    renew_splits(raw, tmp_path, DATASET_JSON)
    assert "leaves out 2 case(s)" in caplog.text and "case_3, case_5" in caplog.text


def test_only_copies_of_references_that_are_not_the_datasets_are_removed(raw, tmp_path):
    references = tmp_path / "gt_segmentations"
    shutil.copytree(raw / "labelsTr", references)
    (references / "case_1.nii.gz").write_bytes(b"of another day")
    (references / "case_8.nii.gz").write_bytes(b"of a case that is gone")
    drop_stale_references(tmp_path, raw, DATASET_JSON)
    assert {file.name for file in references.iterdir()} == {f"{case}.nii.gz" for case in CASES if case != "case_1"}


def require(preprocessed, plans=PLANS, dataset_json=DATASET_JSON) -> None:
    require_preprocessed(preprocessed, plans, "OurPlans_2d", dataset_json)


def with_section(**changes) -> dict:
    plans = json.loads(json.dumps(PLANS))
    plans["configurations"]["2d"].update(changes)
    return plans


def test_complete_data_of_these_plans_are_accepted_whatever_the_networks_size(preprocessed, caplog):
    require(preprocessed, with_section(patch_size=[64, 64], batch_size=9))
    assert caplog.text == ""


@pytest.mark.parametrize("plans, dataset_json, named", [
    (with_section(spacing=[2.0, 2.0]), DATASET_JSON, "another plan"),
    (with_section(normalization_schemes=["ZScore"]), DATASET_JSON, "another plan"),
    (PLANS | {"transpose_forward": [2, 0, 1]}, DATASET_JSON, "another plan"),
    (PLANS | {"foreground_intensity_properties_per_channel": {"0": {"mean": 1.6}}}, DATASET_JSON, "another plan"),
    (PLANS, DATASET_JSON | {"labels": {"background": 0, "rim": 1}}, "other labels")])
def test_data_of_other_plans_or_labels_are_refused(preprocessed, plans, dataset_json, named):
    with pytest.raises(UserError, match="was not preprocessed as it is planned now") as raised:
        require(preprocessed, plans, dataset_json)
    assert named in raised.value.found and "medsegdiff_plan_and_preprocess" in raised.value.fix


def test_data_of_other_raw_files_than_the_fingerprint_are_refused(preprocessed, raw):
    write_case(raw, "case_9")
    with recorded(preprocessed / "dataset_fingerprint.json", **now(raw)):
        pass
    with pytest.raises(UserError) as raised:
        require(preprocessed)
    assert "other raw files" in raised.value.found


def test_preprocessing_that_was_killed_is_refused_with_its_number_of_cases(preprocessed, raw):
    with pytest.raises(KeyboardInterrupt), recorded(preprocessed / "OurPlans_2d", **now(raw), plan=""):
        for name in ("case_5.b2nd", "case_5_seg.b2nd", "case_5.pkl"):
            (preprocessed / "OurPlans_2d" / name).unlink()
        raise KeyboardInterrupt
    with pytest.raises(UserError, match="was interrupted") as raised:
        require(preprocessed)
    assert raised.value.found == "5 of 6 cases"


@pytest.mark.parametrize("recorded_before", [True, False])
@pytest.mark.parametrize("lost", ["case_3.pkl", "case_3_seg.b2nd", "case_3.b2nd"])
def test_a_case_that_lacks_a_file_or_has_an_empty_one_is_refused(preprocessed, lost, recorded_before):
    if not recorded_before:
        shutil.rmtree(preprocessed / "made_from")
    (preprocessed / "OurPlans_2d" / lost).write_bytes(b"")
    with pytest.raises(UserError, match="not completely preprocessed") as raised:
        require(preprocessed)
    assert "case_3" in raised.value.found
    (preprocessed / "OurPlans_2d" / lost).unlink()
    with pytest.raises(UserError, match="not completely preprocessed"):
        require(preprocessed)


def test_a_whole_case_that_is_gone_is_missed_by_the_record_or_by_the_folds(preprocessed):
    for file in (preprocessed / "OurPlans_2d").glob("case_4*"):
        file.unlink()
    with pytest.raises(UserError, match="not completely preprocessed"):
        require(preprocessed)
    shutil.rmtree(preprocessed / "made_from")
    require(preprocessed)
    write_splits(preprocessed, FOLDS)
    with pytest.raises(UserError, match="not completely preprocessed") as raised:
        require(preprocessed)
    assert "case_4" in raised.value.found


def test_data_without_a_record_are_accepted_with_a_line(preprocessed, caplog):
    shutil.rmtree(preprocessed / "made_from")
    require(preprocessed, with_section(spacing=[2.0, 2.0]))
    assert "does not say what it was made from" in caplog.text
