"""Which predictions may be compared: every mix-up is refused by name, and nothing is written."""

import json
import shutil

import numpy as np
import pytest
from compared_folders import DATASET, write

from medsegdiff_auto.cli.compare import main
from medsegdiff_auto.comparison import compare
from medsegdiff_auto.comparison.methods import Methods, predictions_of, read_methods
from medsegdiff_auto.comparison.patients import patients_of, undivided_parts
from medsegdiff_auto.errors import UserError


@pytest.fixture
def folder(built, tmp_path):
    """A copy of the folders that a test may spoil."""
    shutil.copytree(built / "Dataset901_Balls", tmp_path / "Dataset901_Balls")
    for written in ("comparison.csv", "summary.json", "report.html"):
        (tmp_path / "Dataset901_Balls" / "comparison" / written).unlink(missing_ok=True)
    return tmp_path / "Dataset901_Balls" / "comparison"


def remove(folder):
    (folder / "predictions" / "paper" / "P03_1.nii.gz").unlink()


def add(folder):
    shutil.copy(folder / "predictions" / "paper" / "P03_1.nii.gz", folder / "predictions" / "paper" / "P99_1.nii.gz")


def rename(folder):
    (folder / "predictions" / "paper" / "P03_1.nii.gz").rename(folder / "predictions" / "paper" / "P03_1.mha")


def divide_otherwise(folder):
    file = folder / "predictions" / "paper" / "fold_of_case.json"
    file.write_text(json.dumps({case: 1 - fold for case, fold in json.loads(file.read_text()).items()}))


def repeat_a_row(folder):
    table = folder / "predictions" / "auto" / "cases.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines, lines[3]]) + "\n")


def list_twice(folder):
    (folder / "methods.json").write_text('{"reference": "auto", "methods": {"auto": {}, "nnunet": {}, "auto": {}}}')


def lack_a_folder(folder):
    shutil.rmtree(folder / "predictions" / "plain")


def name_no_reference(folder):
    (folder / "methods.json").write_text('{"reference": "resenc", "methods": {"auto": {}, "nnunet": {}}}')


def lead_out(folder):
    (folder / "methods.json").write_text('{"reference": "auto", "methods": {"auto": {}, "../nnunet": {}}}')


def move(folder):
    write(np.zeros((20, 24, 24), np.uint8), folder / "predictions" / "paper" / "P03_1.nii.gz", (1.0, 1.2, 1.5))


def cut(folder):
    write(np.zeros((19, 24, 24), np.uint8), folder / "predictions" / "paper" / "P03_1.nii.gz")


def add_a_label(folder):
    write(np.full((20, 24, 24), 7, np.uint8), folder / "predictions" / "paper" / "P03_1.nii.gz")


@pytest.mark.parametrize("spoil, what, found", [
    (remove, "the same cases: paper differs", "1 missing (P03_1)"),
    (add, "the same cases: auto differs", "1 missing (P99_1)"),
    (rename, "has another file ending", ".mha"),
    (divide_otherwise, "auto and paper were not trained on the same folds", "P00_1 in fold 0 of auto, in fold 1"),
    (repeat_a_row, "cases.csv has a case twice", "P00_2 organ"),
    (list_twice, "methods.json cannot be read", "auto stands there twice"),
    (lack_a_folder, "The prediction folder does not exist", "plain"),
    (name_no_reference, "The reference is none of the methods", "resenc"),
    (lead_out, "cannot be named ../nnunet", "../nnunet"),
    (move, "paper/P03_1.nii.gz", "1.2"), (cut, "paper/P03_1.nii.gz does not lie on the grid", "19"),
    (add_a_label, "paper/P03_1.nii.gz", "7")], ids=lambda one: getattr(one, "__name__", ""))
def test_what_cannot_be_compared_is_refused_by_name_and_writes_nothing(built, folder, spoil, what, found):
    spoil(folder)
    with pytest.raises(UserError) as raised:
        compare(folder, built / "labels", DATASET)
    assert what in raised.value.what and found in raised.value.found, str(raised.value)
    assert not (folder / "comparison.csv").exists() and not (folder / "report.html").exists()


def test_a_fold_that_a_method_says_to_have_but_did_not_predict_is_missed(folder):
    facts = json.loads((folder / "methods.json").read_text())
    facts["methods"]["paper"]["folds"] = [0, 1]
    (folder / "methods.json").write_text(json.dumps(facts))
    for file in (folder / "predictions" / "paper").glob("P0[4-7]_*"):
        file.unlink()
    with pytest.raises(UserError, match="paper differs") as raised:
        predictions_of(read_methods(folder), ".nii.gz")
    assert raised.value.found.startswith("8 missing")


def test_shared_cases_are_those_that_every_folder_has(folder):
    remove(folder)
    found = predictions_of(read_methods(folder), ".nii.gz", shared_only=True)
    assert {len(of_method) for of_method in found.values()} == {15} and "P03_1" not in found["auto"]


def test_one_folder_under_two_names_is_no_comparison(tmp_path):
    with pytest.raises(UserError, match="a and b have the same predictions"):
        Methods({"a": tmp_path / "x", "b": tmp_path / "x" / ".." / "x"}, "a")
    with pytest.raises(UserError, match="needs several methods"):
        Methods({"a": tmp_path}, "a")


def test_what_is_plain_and_what_is_at_its_temperature_is_known_by_name(tmp_path):
    names = ("auto", "nnunet", "nnunet+T", "twin", "resenc", "mine")
    methods = Methods({name: tmp_path / name for name in names}, "mine")
    assert methods.plain == ["nnunet", "nnunet+T", "resenc", "mine"] and methods.at_temperature == "mine"
    assert Methods(methods.folders, "nnunet").at_temperature == "nnunet+T"
    assert methods.title("nnunet+T") == "nnunet+T" and methods.ours == "auto"


def splits(*validation, cases):
    return [{"val": list(val), "train": [case for case in cases if case not in val]} for val in validation]


@pytest.mark.parametrize("cases, validation, expected", [
    (["TCGA_1_5", "TCGA_1_6", "TCGA_2_1", "TCGA_2_9"], [["TCGA_1_5", "TCGA_1_6"], ["TCGA_2_1", "TCGA_2_9"]], 2),
    (["hip_001", "hip_002", "hip_003"], [["hip_001"], ["hip_002"], ["hip_003"]], None),
    (["p1_a", "p1_b", "p2_a", "p2_b"], [["p1_a", "p2_a"], ["p1_b", "p2_b"]], None)])
def test_the_patient_is_the_shortest_beginning_of_a_name_that_no_fold_divides(cases, validation, expected):
    assert undivided_parts(splits(*validation, cases=cases)) == expected


def test_a_file_of_patients_counts_before_the_folds_and_must_be_whole(built, tmp_path):
    cases = ["P00_1", "P00_2", "P01_1"]
    by_folds = patients_of(cases, built / "preprocessed")
    assert by_folds.of_case == {"P00_1": "P00", "P00_2": "P00", "P01_1": "P01"} and by_folds.several_cases
    (tmp_path / "patients.json").write_text('{"P00_1": "a", "P00_2": "b", "P01_1": "a"}')
    assert patients_of(cases, tmp_path).of_case == {"P00_1": "a", "P00_2": "b", "P01_1": "a"}
    with pytest.raises(UserError, match="does not name the patient of every case") as raised:
        patients_of([*cases, "P02_1"], tmp_path)
    assert "P02_1" in raised.value.found
    assert not patients_of(cases).several_cases


def test_the_command_compares_folders_of_nnunet_and_says_the_answers(built, tmp_path, capsys):
    predictions = built / "Dataset901_Balls" / "comparison" / "predictions"
    (tmp_path / "labelsTr").symlink_to(built / "labels")
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    code = main(["mine=" + str(predictions / "plain"), "nnunet=" + str(predictions / "nnunet"),
                 "-ref", str(tmp_path / "labelsTr"), "-o", str(tmp_path / "out"), "-djfile",
                 str(tmp_path / "dataset.json"), "--preprocessed", str(built / "preprocessed"), "-np", "1"])
    out = capsys.readouterr().out
    assert code == 0 and "not measured  ECE not worse (against nnunet)" in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["task"], summary["ours"], summary["reference"]) == ("Balls", "mine", "nnunet")
    assert json.loads((tmp_path / "out" / "run.json").read_text())["command"][0] == "medsegdiff_compare"


@pytest.mark.parametrize("methods, what", [
    (["a=x", "a=y"], "The method a is given twice"), (["x", "b=y"], "METHOD=FOLDER"),
    (["a=x", "b=y"], "There is no dataset.json"), (["a=x"], "needs several methods")])
def test_a_command_line_that_names_no_comparison_ends_with_four_lines(methods, what, tmp_path, capsys):
    assert main([*methods, "-ref", str(tmp_path / "in" / "labels"), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err.splitlines()
    assert what in error[0] and len(error) == 4 and not (tmp_path / "out").exists()


def test_predictions_of_another_dataset_are_refused(built, tmp_path, capsys):
    for name, labels in (("a", DATASET["labels"]), ("b", {"background": 0, "organ": 2, "lesion": 1})):
        shutil.copytree(built / "Dataset901_Balls" / "comparison" / "predictions" / "plain", tmp_path / name)
        (tmp_path / name / "dataset.json").write_text(json.dumps(DATASET | {"labels": labels}))
    assert main([f"a={tmp_path / 'a'}", f"b={tmp_path / 'b'}", "-ref", str(built / "labels"), "-o",
                 str(tmp_path / "out")]) == 2
    assert "trained on other data: labels differs" in capsys.readouterr().err
