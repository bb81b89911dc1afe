"""nnU-Net's folders and the datasets in them."""

import pytest

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.paths import FOLDER_CONTENTS, known_datasets, require_folder, resolve_dataset, use_folders


@pytest.fixture
def folders(tmp_path, monkeypatch):
    for variable in FOLDER_CONTENTS:
        (tmp_path / variable).mkdir()
        monkeypatch.setenv(variable, str(tmp_path / variable))
    for name in ("nnUNet_raw/Dataset004_Hippocampus", "nnUNet_preprocessed/Dataset004_Hippocampus",
                 "nnUNet_results/Dataset110_BrainTumour", "nnUNet_raw/scratch"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_the_datasets_of_all_three_folders_are_known_once(folders):
    assert known_datasets() == ["Dataset004_Hippocampus", "Dataset110_BrainTumour"]


@pytest.mark.parametrize("dataset", [4, "4", "004", "Dataset004_Hippocampus"])
def test_a_dataset_is_found_by_its_id_or_its_name(folders, dataset):
    assert resolve_dataset(dataset) == "Dataset004_Hippocampus"


@pytest.mark.parametrize("dataset, nearest", [
    ("Dataset004_Hipocampus", "Dataset004_Hippocampus"), ("hippocampus", "Dataset004_Hippocampus"),
    ("Dataset11_BrainTumor", "Dataset110_BrainTumour")])
def test_an_unknown_dataset_is_refused_with_all_known_ones_and_the_nearest(folders, dataset, nearest):
    with pytest.raises(UserError, match=f"There is no dataset {dataset}") as raised:
        resolve_dataset(dataset)
    assert "Dataset004_Hippocampus, Dataset110_BrainTumour" in raised.value.expected
    assert raised.value.fix == f"did you mean {nearest}?"


def test_an_unknown_id_is_refused_with_the_folder_that_it_belongs_into(folders):
    with pytest.raises(UserError) as raised:
        resolve_dataset(7)
    assert f"{folders}/nnUNet_raw as Dataset007_Name" in raised.value.fix


def test_an_id_with_two_names_is_refused_with_both(folders):
    (folders / "nnUNet_results" / "Dataset004_Other").mkdir()
    with pytest.raises(UserError, match="belongs to several") as raised:
        resolve_dataset(4)
    assert raised.value.found == "Dataset004_Hippocampus, Dataset004_Other"


def test_an_unset_folder_is_refused_with_what_to_type(monkeypatch):
    for variable in FOLDER_CONTENTS:
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(UserError, match="nnUNet_results is not set") as raised:
        require_folder("nnUNet_results")
    assert raised.value.fix == "export nnUNet_results=/path/to/nnUNet_results"
    with pytest.raises(UserError, match="nnUNet_raw is not set"):
        resolve_dataset(4)


def test_a_folder_that_does_not_exist_is_refused_and_a_flag_overrides_the_variable(folders, tmp_path):
    assert require_folder("nnUNet_raw") == tmp_path / "nnUNet_raw"
    use_folders(raw=tmp_path / "missing")
    with pytest.raises(UserError, match="does not exist") as raised:
        require_folder("nnUNet_raw")
    assert f"mkdir -p {tmp_path}/missing" in raised.value.fix
    assert require_folder("nnUNet_results") == tmp_path / "nnUNet_results"
