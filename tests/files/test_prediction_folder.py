"""Companions that lie beside predictions are never taken for predictions."""

import json

import pytest

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.prediction_folder import list_companions, list_predictions, staged_predictions
from medsegdiff_auto.writing import staged_output

COMPANIONS = ("a_uncertainty.nii.gz", "a_samples.nii.gz", "a_probabilities.nii.gz", "a.npz", "a.pkl", "dataset.json")


@pytest.fixture
def predictions(tmp_path):
    for name in ("b.nii.gz", "a.nii.gz", *COMPANIONS):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_without_a_table_the_cases_are_the_files_without_a_companions_suffix(predictions):
    assert list_predictions(predictions, ".nii.gz") == {case: predictions / f"{case}.nii.gz" for case in "ab"}
    assert {path.name for path in list_companions(predictions, ".nii.gz")} == set(COMPANIONS)


def test_cases_that_an_interrupted_prediction_lacks_are_named(predictions, caplog):
    (predictions / "cases.csv").write_text("case,structure\na,organ\nb,organ\n")
    (predictions / "run.json").write_text(json.dumps({"images": {"a": "1", "b": "2"}}))
    assert list(list_predictions(predictions, ".nii.gz")) == ["a", "b"] and caplog.text == ""
    (predictions / "run.json").write_text(json.dumps({"images": dict.fromkeys("abcd", "1")}))
    assert list(list_predictions(predictions, ".nii.gz")) == ["a", "b"] and "no prediction of c, d:" in caplog.text


@pytest.mark.parametrize("case, why", [("a_samples", "ends in _samples"), ("../a", "is a path"), (".a", "dot")])
def test_a_table_that_names_what_no_case_can_be_is_refused_before_a_file_is_touched(predictions, case, why):
    (predictions / "cases.csv").write_text(f"case,structure\na,organ\n{case},organ\n")
    with pytest.raises(UserError, match=why) as raised:
        list_predictions(predictions, ".nii.gz")
    assert raised.value.found == case


def test_hidden_files_are_neither_predictions_nor_companions(predictions):
    for name in ("._a.nii.gz", ".DS_Store", "Thumbs.db"):
        (predictions / name).write_text(name)
    assert list(list_predictions(predictions, ".nii.gz")) == ["a", "b"]
    assert {path.name for path in list_companions(predictions, ".nii.gz")} == set(COMPANIONS)


def test_a_case_of_the_table_without_a_file_is_refused_by_name(predictions):
    (predictions / "cases.csv").write_text("case,structure\na,organ\nc,organ\n")
    with pytest.raises(UserError, match="names 1 case") as raised:
        list_predictions(predictions, ".nii.gz")
    assert raised.value.found == "no file c.nii.gz"


def test_a_folder_without_predictions_and_a_table_without_cases_are_refused(predictions, tmp_path):
    with pytest.raises(UserError, match="holds no prediction"):
        list_predictions(predictions, ".png")
    with pytest.raises(UserError, match="does not exist"):
        list_predictions(tmp_path / "nowhere", ".nii.gz")
    (predictions / "cases.csv").write_text("name\na\n")
    with pytest.raises(UserError, match="no column named case"):
        list_predictions(predictions, ".nii.gz")


def test_the_stage_holds_the_predictions_alone_with_their_content(predictions):
    with staged_predictions(predictions, ".nii.gz") as stage:
        assert {path.name: path.read_text(encoding="utf-8")
                for path in stage.iterdir()} == {"a.nii.gz": "a.nii.gz", "b.nii.gz": "b.nii.gz"}
    assert not stage.exists()


def test_staged_output_replaces_files_only_if_all_were_written(predictions):
    with pytest.raises(ZeroDivisionError), staged_output(predictions) as stage:
        (stage / "a.nii.gz").write_text("half")
        raise ZeroDivisionError
    assert (predictions / "a.nii.gz").read_text(encoding="utf-8") == "a.nii.gz"
    with staged_output(predictions) as stage:
        (stage / "a.nii.gz").write_text("whole")
    assert (predictions / "a.nii.gz").read_text(encoding="utf-8") == "whole"
    assert {path.name for path in predictions.iterdir()} == {"a.nii.gz", "b.nii.gz", *COMPANIONS}


def test_the_file_named_last_moves_after_all_others(predictions, monkeypatch):
    moved, move = [], type(predictions).replace
    monkeypatch.setattr(type(predictions), "replace", lambda path, target:
                        (moved.append(path.name), move(path, target))[1])
    with staged_output(predictions, last="a.nii.gz") as stage:
        for name in ("a.nii.gz", "a.npz", "a_samples.nii.gz"):
            (stage / name).write_text("whole")
    assert moved == ["a.npz", "a_samples.nii.gz", "a.nii.gz"]


def test_what_a_killed_command_left_behind_is_not_taken_over(predictions):
    (predictions / ".unfinished_killed").mkdir()
    (predictions / ".unfinished_killed" / "c.nii.gz").write_text("half")
    with staged_output(predictions) as stage:
        (stage / "b.nii.gz").write_text("whole")
    assert sorted(list_predictions(predictions, ".nii.gz")) == ["a", "b"]
