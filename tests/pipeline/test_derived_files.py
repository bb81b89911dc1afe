"""Commands renew or refuse by name what was made from another state of the dataset, its folds or its plans."""

import json
import shutil

import pytest
from chain import command
from chain import threads_for_processes

from medsegdiff_auto.files.provenance import read_record, record_file
from medsegdiff_auto.phantoms.nnunet_dataset import Labelling, write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind

PLAN = "plan_and_preprocess -d 909 -c 2d --resources tiny -np 1 --no_pp"


@pytest.fixture
def raw(tmp_path, folders, monkeypatch):
    """A dataset of seven cases, two of which lie elsewhere at first."""
    threads_for_processes(monkeypatch)
    folders(tmp_path)
    folder = write_phantom_dataset(tmp_path / "raw", 909, "Grows", (7, 0), PhantomKind(2, shape=(24, 24)), Labelling())
    (tmp_path / "later").mkdir()
    for file in [*folder.glob("*Tr/*_005*"), *folder.glob("*Tr/*_006*")]:
        shutil.move(file, tmp_path / "later" / f"{file.parent.name}-{file.name}")
    set_num_cases(folder, 5)
    return folder


def set_num_cases(raw, number) -> None:
    file = raw / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"numTraining": number}))


def test_cases_that_are_added_after_planning_are_in_the_next_plan_and_named(raw, tmp_path, caplog):
    assert command(PLAN) == 0
    preprocessed = tmp_path / "preprocessed" / raw.name
    fingerprint = preprocessed / "dataset_fingerprint.json"
    first = fingerprint.read_bytes()
    assert command(PLAN) == 0
    assert fingerprint.read_bytes() == first and "anew" not in caplog.text
    for file in (tmp_path / "later").iterdir():
        shutil.move(file, raw / file.name.replace("-", "/", 1))
    set_num_cases(raw, 7)
    assert command(PLAN) == 0
    assert len(json.loads(fingerprint.read_text(encoding="utf-8"))["spacings"]) == 7
    assert "2 added (phantom_005, phantom_006)" in caplog.text and read_record(fingerprint)["finished"]


def test_the_folds_of_another_conversion_are_those_of_the_next_plan(raw, tmp_path):
    cases = [f"phantom_{number:03d}" for number in range(5)]
    for held_out in (cases[:1], cases[3:]):
        folds = [{"train": [case for case in cases if case not in held_out], "val": held_out}]
        (raw / "splits_final.json").write_text(json.dumps(folds))
        assert command(PLAN) == 0
        found = (tmp_path / "preprocessed" / raw.name / "splits_final.json").read_text(encoding="utf-8")
        assert json.loads(found) == folds


@pytest.fixture
def chain(chain_2d, folders):
    """The 2-D chain, with the records and folds as they were afterwards."""
    folders(chain_2d.root)
    files = [record_file(chain_2d.preprocessed / "MedSegDiffPlans_2d"), chain_2d.preprocessed / "splits_final.json"]
    before = {file: file.read_bytes() for file in files}
    yield chain_2d
    for file, content in before.items():
        file.write_bytes(content)


def test_the_chain_leaves_records_of_its_cases_and_folds(chain):
    record = read_record(chain.preprocessed / "MedSegDiffPlans_2d")
    assert record["finished"] and set(record["cases"]) == {f"phantom_{number:03d}" for number in range(6)}
    splits = json.loads((chain.preprocessed / "splits_final.json").read_text(encoding="utf-8"))
    for fold in (0, 1):
        assert read_record(chain.model / f"fold_{fold}") == {"finished": True} | splits[fold]


@pytest.mark.parametrize("line", ["train 902 2d 3 --iterations 2 -device cpu",
                                  "calibrate -d 902 -c 2d -f 0 -device cpu --cases 1 --samples 2"])
def test_an_interrupted_preprocessing_is_neither_trained_nor_fitted_on(chain, capsys, line):
    file = record_file(chain.preprocessed / "MedSegDiffPlans_2d")
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"finished": False}))
    assert command(line) == 2
    assert "The preprocessing of MedSegDiffPlans_2d was interrupted." in capsys.readouterr().err
    assert not (chain.model / "fold_3").exists()


@pytest.mark.parametrize("line", ["train 902 2d 3 --iterations 2 -device cpu", "train 902 2d 0 --val -device cpu",
                                  "calibrate -d 902 -c 2d -f 0 -device cpu --cases 1 --samples 2"])
def test_folds_that_were_drawn_anew_are_not_mixed_with_those_of_the_model(chain, capsys, line):
    file = chain.preprocessed / "splits_final.json"
    splits = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(splits[1:] + splits[:1]))
    assert command(line) == 2
    assert "The folds have changed since fold 0" in capsys.readouterr().err
