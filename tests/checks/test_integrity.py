"""Each fault of a dataset is found, named by its file, and shown with the value found; an intact dataset passes."""

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from skimage import io

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.checks.dataset_json import training_cases
from medsegdiff_auto.checks.integrity import Finding, check_dataset, findings_table, require_intact, write_findings
from medsegdiff_auto.findings import errors_among

SHAPE_ZYX = (6, 8, 10)
SPACING_XYZ = (0.7, 0.8, 2.5)
ORIGIN_XYZ = (-12.5, 30.0, 7.25)


def volume(array: np.ndarray, origin=ORIGIN_XYZ, spacing=SPACING_XYZ, direction=None) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    if direction is not None:
        image.SetDirection(direction)
    return image


def intensities(shape=SHAPE_ZYX) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def label_map(shape=SHAPE_ZYX) -> np.ndarray:
    labels = np.zeros(shape, np.uint8)
    labels[..., 2:5, 2:5], labels[..., 5:7, 5:7] = 1, 2
    return labels


def write_json(path: Path, content) -> None:
    path.write_text(json.dumps(content))


def edit_dataset_json(folder: Path, **changes) -> None:
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    content.update(changes)
    write_json(folder / "dataset.json", {key: value for key, value in content.items() if value is not None})


def make_dataset(folder: Path, file_ending: str = ".nii.gz", num_cases: int = 5, num_channels: int = 2) -> Path:
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    for case in range(1, num_cases + 1):
        label_file = folder / "labelsTr" / f"case_{case:03d}{file_ending}"
        images = [
            folder / "imagesTr" / f"case_{case:03d}_{channel:04d}{file_ending}" for channel in range(num_channels)
        ]
        if file_ending == ".png":
            io.imsave(label_file, label_map((12, 14)), check_contrast=False)
            for image in images:
                io.imsave(image, (intensities((12, 14)) * 30 + 128).astype(np.uint8), check_contrast=False)
        else:
            sitk.WriteImage(volume(label_map()), label_file)
            for image in images:
                sitk.WriteImage(volume(intensities()), image)
    write_json(folder / "dataset.json", {
        "channel_names": {str(channel): f"T{channel}" for channel in range(num_channels)},
        "labels": {"background": 0, "edema": 1, "core": 2}, "numTraining": num_cases, "file_ending": file_ending})
    return folder


@pytest.fixture
def dataset(tmp_path) -> Path:
    return make_dataset(tmp_path / "Dataset001_Test")


def the_finding(folder: Path) -> Finding:
    findings = check_dataset(folder, 2)
    assert len(findings) == 1, findings_table(findings)
    return findings[0]


IMAGE, SECOND_CHANNEL = "imagesTr/case_003_0000.nii.gz", "imagesTr/case_003_0001.nii.gz"
LABEL = "labelsTr/case_003.nii.gz"


@pytest.mark.parametrize("file_ending, num_channels", [(".nii.gz", 2), (".nrrd", 1), (".png", 1), (".png", 3)])
def test_an_intact_dataset_has_no_finding_and_passes_nnunet_too(tmp_path, file_ending, num_channels):
    folder = make_dataset(tmp_path / "Dataset001_Test", file_ending, num_channels=num_channels)
    assert check_dataset(folder, 2) == []
    if (file_ending, num_channels) in ((".nii.gz", 2), (".png", 1)):
        from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity
        verify_dataset_integrity(str(folder), 1)


def test_an_rgb_image_counts_as_its_three_channels(tmp_path):
    folder = make_dataset(tmp_path / "Dataset001_Test", ".png", num_channels=1)
    for image in (folder / "imagesTr").iterdir():
        io.imsave(image, (intensities((12, 14, 3)) * 30 + 128).astype(np.uint8), check_contrast=False)
    edit_dataset_json(folder, channel_names={"0": "R", "1": "G", "2": "B"})
    assert check_dataset(folder) == []


@pytest.mark.parametrize("change, check, found", [
    ({"channel_names": None}, "lacks the key channel_names", "labels, numTraining, file_ending"),
    ({"numTraining": None}, "lacks the key numTraining", "channel_names, labels, file_ending"),
    ({"numTraining": 7}, "announces another number of training cases", "numTraining 7"),
    ({"labels": {"background": 0, "edema": 1, "core": 2, "rim": 4}
      }, "has labels that are not consecutive", "0, 1, 2, 4"),
    ({"labels": {"0": "background", "1": "edema", "2": "core"}
      }, "has labels that are not names with numbers", '"0": "backg'),
    ({"labels": {"edema": 1, "core": 2}}, "does not declare background as label 0", '{"edema": 1'),
    ({"labels": {"background": 0, "edema": 1, "core": 2, "ignore": 4}
      }, "has an ignore label that is not the highest label", "ignore 4"),
    ({"labels": {"background": 0, "whole": [1, 2], "core": 2}
      }, "has regions without a fitting regions_class_order", "null"),
    ({"channel_names": {"1": "T1", "2": "T2"}}, "has channel_names that are not numbered from 0", '{"1": "T1"'),
    ({"file_ending": ".jpg"}, "has a file_ending that no image of imagesTr has", 'file_ending ".jpg"'),
])
def test_a_fault_of_dataset_json_is_found_with_its_value(dataset, change, check, found):
    edit_dataset_json(dataset, **change)
    of_dataset_json = [finding for finding in check_dataset(dataset) if finding.file == "dataset.json"]
    assert [finding.check for finding in of_dataset_json] == [check]
    assert found in of_dataset_json[0].found


def rename_endings(folder: Path, old: str, new: str) -> None:
    for path in [*folder.glob(f"*Tr/*{old}")]:
        path.rename(path.with_name(path.name.removesuffix(old) + new))


def test_an_ending_that_nnunet_cannot_read_is_found(dataset):
    edit_dataset_json(dataset, file_ending=".jpg")
    rename_endings(dataset, ".nii.gz", ".jpg")
    finding = check_dataset(dataset)[-1]
    assert (finding.check, finding.found) == ("has a file_ending that nnU-Net cannot read", ".jpg")


@pytest.mark.parametrize("file_ending", ["nii.gz", ".gz", ".nii", ".NII.GZ", ".nii.gz ", "*.nii.gz", ""])
def test_an_ending_that_no_image_has_is_the_only_finding_and_its_fix_the_right_ending(dataset, file_ending):
    edit_dataset_json(dataset, file_ending=file_ending)
    finding = the_finding(dataset)
    assert (finding.file, finding.expected) == ("dataset.json", '".nii.gz", as the images have')
    assert finding.fix == 'set "file_ending" to ".nii.gz"'


def test_images_that_all_end_in_capitals_are_one_finding_with_the_names_to_give(dataset):
    rename_endings(dataset, ".nii.gz", ".NII.GZ")
    assert the_finding(dataset).fix.startswith("rename the files to end in .nii.gz")


def test_hidden_images_which_nnunet_would_list_are_one_finding_and_other_foreign_files_none(dataset):
    for path in [*dataset.glob("labelsTr/*")]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (dataset / "imagesTr" / name).write_bytes(b"")
    assert check_dataset(dataset) == []
    for path in [*dataset.glob("imagesTr/case*")]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    finding = the_finding(dataset)
    assert finding.file == "imagesTr/._case_001_0000.nii.gz" and finding.found.startswith("10 of them (macOS")
    assert finding.fix == f"find {dataset / 'imagesTr'} -name '._*' -delete"
    (dataset / "imagesTr" / ".mine_0000.nii.gz").write_bytes(b"")
    assert the_finding(dataset).fix == "rename or remove them"


@pytest.mark.parametrize("name, why", [("../../../evil", "is a path"), ("/tmp/evil", "is a path"),
                                       ("case_seg", "ends in _seg"), (".case", "begins with a dot")])
def test_a_listed_case_whose_name_no_case_can_have_is_found_by_name(dataset, name, why):
    cases = ("case_001", "case_002", "case_003", "case_004", name)
    listing = {case: {"images": [f"imagesTr/case_00{number}_000{channel}.nii.gz" for channel in (0, 1)],
                      "label": f"labelsTr/case_00{number}.nii.gz"} for number, case in enumerate(cases, 1)}
    edit_dataset_json(dataset, dataset=listing)
    finding = check_dataset(dataset)[0]
    assert (finding.file, finding.found, finding.severity) == ("dataset.json", name, "error") and why in finding.check


def test_a_case_that_nnunet_would_take_for_the_labels_of_another_is_found_by_name(dataset):
    for path in [*dataset.glob("*Tr/case_003*")]:
        path.rename(path.with_name(path.name.replace("case_003", "case_002_seg")))
    checks = {finding.file: finding.check for finding in check_dataset(dataset)}
    assert "ends in _seg" in checks["imagesTr/case_002_seg_0000.nii.gz"]


def test_a_missing_or_invalid_dataset_json_is_found(dataset):
    (dataset / "dataset.json").write_text('{"labels": ')
    assert the_finding(dataset).check == "is not valid JSON" and "line 1" in the_finding(dataset).found
    (dataset / "dataset.json").unlink()
    assert the_finding(dataset).check == "does not exist" and the_finding(dataset).file == "dataset.json"


def test_regions_and_an_ignore_label_are_accepted_in_the_label_files(dataset):
    edit_dataset_json(dataset, labels={"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
                      regions_class_order=[1, 2])
    labels = label_map()
    labels[0] = 3
    sitk.WriteImage(volume(labels), dataset / LABEL)
    assert check_dataset(dataset) == []


def overwrite(file: str, image: sitk.Image):
    return lambda folder: sitk.WriteImage(image, folder / file)


def with_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed.flat[0] = value
    return changed


def four_dimensional() -> sitk.Image:
    return sitk.JoinSeries([volume(intensities())] * 3)


def cut(file: str, share: float):
    return lambda folder: (folder / file).write_bytes(
        (folder / file).read_bytes()[:int(share * (folder / file).stat().st_size)])


ROTATED = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
FAULTS = {
    "label value": (overwrite(LABEL, volume(with_value(
        label_map(), 4))), LABEL, "contains a label that dataset.json does not list", "0, 1, 2, 4"),
    "fractional label": (overwrite(LABEL, volume(with_value(label_map().astype(
        np.float32), 0.5))), LABEL, "holds label values that are no whole numbers", "0.5"),
    "size": (overwrite(LABEL, volume(label_map((6, 8, 9)))), LABEL, f"differs in size from {IMAGE}", "9 x 8 x 6"),
    "spacing": (overwrite(LABEL, volume(
        label_map(), spacing=(0.7, 0.8, 3.0))), LABEL, f"differs in spacing from {IMAGE}", "0.7, 0.8, 3 mm"),
    "origin": (overwrite(LABEL,
                         volume(label_map(),
                                origin=(0.0, 30.0, 7.25))), LABEL, f"differs in origin from {IMAGE}", "0, 30, 7.25"),
    "direction": (overwrite(LABEL, volume(
        label_map(), direction=ROTATED)), LABEL, f"differs in direction from {IMAGE}", "0, -1, 0, 1, 0, 0, 0, 0, 1"),
    "channel grids": (overwrite(SECOND_CHANNEL, volume(intensities(
        (5, 8, 10)))), SECOND_CHANNEL, f"differs in size from {IMAGE}", "10 x 8 x 5"),
    "NaN": (overwrite(IMAGE, volume(with_value(intensities(),
                                               np.nan))), IMAGE, "holds NaN or infinite values", "1 of 480 voxels"),
    "infinity": (overwrite(IMAGE,
                           volume(with_value(intensities(),
                                             np.inf))), IMAGE, "holds NaN or infinite values", "1 of 480 voxels"),
    "NaN in a label": (overwrite(LABEL,
                                 volume(with_value(label_map().astype(np.float32),
                                                   np.nan))), LABEL, "holds NaN or infinite values", "1 of 480 voxels"),
    "4-D": (overwrite(IMAGE, four_dimensional()), IMAGE, "is 4-D", "10 x 8 x 6 x 3"),
    "vectors": (overwrite(IMAGE,
                          sitk.Compose(volume(intensities()),
                                       volume(intensities()))), IMAGE, "has several values per voxel", "2 components"),
    "no label": (lambda folder: (folder / LABEL).unlink(), IMAGE, "is an image without a label", f"no label {LABEL}"),
    "no channel": (lambda folder: (folder / IMAGE).unlink(), SECOND_CHANNEL, "belongs to a case that lacks a channel",
                   "0001 (1 channel(s))"),
    "truncated image": (cut(IMAGE, 0.5), IMAGE, "is truncated", "a gzip stream that ends early"),
    "label without its last bytes": (cut(LABEL, 0.97), LABEL, "is truncated", "a gzip stream that ends early"),
    "empty file": (cut(LABEL, 0), LABEL, "is empty", "0 bytes"),
    "no image": (lambda folder: (folder / IMAGE).write_text("a text " * 99), IMAGE, "cannot be read as an image",
                 "Unable to determine ImageIO reader"),
    "name": (lambda folder: sitk.WriteImage(volume(intensities()), folder / "imagesTr/other.nii.gz"),
             "imagesTr/other.nii.gz", "has no channel number in its name", "other.nii.gz"),
    "image in capitals": (lambda folder: (folder / "imagesTr/other_0000.NII.GZ").write_bytes(b""),
                          "imagesTr/other_0000.NII.GZ", "has the file ending in other letters", ".NII.GZ"),
    "label of another format": (lambda folder: (folder / "labelsTr/other.nrrd").write_bytes(b""),
                                "labelsTr/other.nrrd", "has another file ending and is not read", ".nrrd"),
    "link to nowhere": (lambda folder: (folder / "imagesTr/other_0000.nii.gz").symlink_to("/gone.nii.gz"),
                        "imagesTr/other_0000.nii.gz", "is a link to nowhere in the place of an image", "/gone.nii.gz"),
    "label without image": (lambda folder: sitk.WriteImage(volume(label_map()), folder / "labelsTr/other.nii.gz"),
                            "labelsTr/other.nii.gz", "is a label without an image", "no image other_0000.nii.gz"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_one_file_is_the_only_finding_and_an_error_with_its_file_and_value(dataset, fault):
    damage, file, check, found = FAULTS[fault]
    damage(dataset)
    finding = the_finding(dataset)
    assert (finding.file, finding.check, finding.severity) == (file, check, "error")
    assert found in finding.found


def test_the_expected_labels_are_listed_with_their_names(dataset):
    FAULTS["label value"][0](dataset)
    assert the_finding(dataset).expected == "0 background, 1 edema, 2 core"
    assert the_finding(dataset).fix == "correct the file, or list label 4 in dataset.json"


def test_a_label_of_background_alone_and_a_shift_below_half_a_voxel_are_warnings(dataset):
    overwrite(LABEL, volume(np.zeros(SHAPE_ZYX, np.uint8), origin=(-12.4, 30.0, 7.25)))(dataset)
    findings = check_dataset(dataset)
    assert [(finding.check, finding.severity) for finding in findings] == [
        (f"differs in origin from {IMAGE}", "warning"), ("holds only background", "warning")]


def test_an_image_is_constant_if_all_its_channels_are_and_a_single_constant_channel_is_a_warning(dataset):
    flat = volume(np.full(SHAPE_ZYX, 7, np.float32))
    overwrite(IMAGE, flat)(dataset)
    assert (the_finding(dataset).found, the_finding(dataset).severity) == ("7 everywhere", "warning")
    overwrite(SECOND_CHANNEL, flat)(dataset)
    assert [(finding.file, finding.check, finding.severity) for finding in check_dataset(dataset)] == [
        (IMAGE, "is constant", "error"), (SECOND_CHANNEL, "is constant", "error")]


@pytest.mark.parametrize("damage, check", [
    (lambda path: path.write_bytes(path.read_bytes()[:60]), "is truncated"),
    (lambda path: path.write_text("a text " * 9), "cannot be read as an image"),
    (lambda path: path.write_bytes(b""), "is empty"),
    (lambda path: io.imsave(path, label_map((12, 13)), check_contrast=False),
     "differs in size from imagesTr/case_002_0000.png"),
    (lambda path: io.imsave(path, label_map((12, 14)) * 127, check_contrast=False),
     "contains a label that dataset.json does not list"),
])
def test_faults_of_png_labels_are_found(tmp_path, damage, check):
    folder = make_dataset(tmp_path / "Dataset001_Test", ".png", num_channels=1)
    damage(folder / "labelsTr/case_002.png")
    assert (the_finding(folder).file, the_finding(folder).check) == ("labelsTr/case_002.png", check)


@pytest.mark.parametrize("num_cases, found", [(1, [("holds too few cases to train and validate on", "warning")]),
                                              (4, [("holds too few cases for 5 folds", "warning")]), (5, [])])
def test_too_few_cases_for_cross_validation_are_a_warning(tmp_path, num_cases, found):
    folder = make_dataset(tmp_path / "Dataset001_Test", num_cases=num_cases, num_channels=1)
    assert [(finding.check, finding.severity) for finding in check_dataset(folder)] == found


def test_fewer_than_five_cases_are_enough_with_a_split_of_their_own(tmp_path):
    folder = make_dataset(tmp_path / "Dataset001_Test", num_cases=3, num_channels=1)
    write_json(folder / "splits_final.json", [{"train": ["case_001", "case_002"], "val": ["case_003"]}])
    assert check_dataset(folder) == []


@pytest.mark.parametrize("splits, check, found", [
    ([{"train": ["case_001", "case_9"], "val": ["case_002"]}], "names unknown cases in fold 0", "case_9"),
    ([{"train": ["case_001", "case_002"], "val": ["case_002"]}
      ], "has cases in both train and val of fold 0", "case_002"),
    ([{"train": ["case_001"], "val": []}], "has an empty fold 0", "1 train, 0 val"),
    ({"train": []}, "is not a list of folds", "TypeError"),
])
def test_a_fault_of_splits_final_is_found(dataset, splits, check, found):
    write_json(dataset / "splits_final.json", splits)
    finding = the_finding(dataset)
    assert (finding.file, finding.check) == ("splits_final.json", check) and found in finding.found


def test_cases_listed_in_dataset_json_are_read_from_where_it_says(dataset):
    (dataset / "imagesTr").rename(dataset / "scans")
    listing = {f"case_{n:03d}": {"images": [f"scans/case_{n:03d}_{channel:04d}.nii.gz" for channel in range(2)],
                                 "label": f"labelsTr/case_{n:03d}.nii.gz"} for n in range(1, 6)}
    edit_dataset_json(dataset, dataset=listing)
    assert check_dataset(dataset) == []
    (dataset / "scans/case_003_0001.nii.gz").unlink()
    assert (the_finding(dataset).file, the_finding(dataset).check) == ("scans/case_003_0001.nii.gz", "does not exist")


def test_all_faults_are_found_at_once_whatever_the_number_of_threads(dataset):
    for fault in ("label value", "NaN", "label without image"):
        FAULTS[fault][0](dataset)
    edit_dataset_json(dataset, numTraining=9)
    single, several = check_dataset(dataset, 1), check_dataset(dataset, 3)
    assert single == several
    assert {finding.file for finding in single} == {LABEL, IMAGE, "labelsTr/other.nii.gz", "dataset.json"}


def test_one_error_is_raised_as_itself_and_reported_in_json(dataset, tmp_path):
    FAULTS["label value"][0](dataset)
    with pytest.raises(UserError) as raised:
        require_intact(dataset, tmp_path / "report/integrity.json")
    assert str(raised.value).splitlines() == [
        f"{LABEL} contains a label that dataset.json does not list.", "  found:    0, 1, 2, 4",
        "  expected: 0 background, 1 edema, 2 core", "  fix:      correct the file, or list label 4 in dataset.json"]
    reported = json.loads((tmp_path / "report/integrity.json").read_text(encoding="utf-8"))["findings"]
    assert [Finding(**finding) for finding in reported] == check_dataset(dataset)


def test_several_errors_are_raised_as_their_number_and_logged_as_a_table(dataset, tmp_path, caplog):
    for fault in ("label value", "NaN"):
        FAULTS[fault][0](dataset)
    with caplog.at_level("INFO"), pytest.raises(UserError, match="Dataset001_Test is not intact") as raised:
        require_intact(dataset, tmp_path / "integrity.json")
    assert raised.value.found.startswith("2 errors in ") and LABEL in raised.value.found and IMAGE in raised.value.found
    assert all(file in caplog.text for file in (LABEL, IMAGE)) and len(str(raised.value).splitlines()) == 4


def test_warnings_alone_are_returned_and_do_not_stop(dataset, tmp_path):
    overwrite(LABEL, volume(np.zeros(SHAPE_ZYX, np.uint8)))(dataset)
    assert [finding.severity for finding in require_intact(dataset, tmp_path / "integrity.json")] == ["warning"]


def test_the_columns_of_the_table_are_aligned_and_hold_every_word(tmp_path):
    findings = [
        Finding("a.nii.gz", "is empty", "0 bytes", "an image", "copy it again"),
        Finding("labelsTr/b.nii.gz", "holds only background", "0", "0 background, 1 core", "check it " * 9, "warning")
    ]
    lines = findings_table(findings).splitlines()
    column = lines[0].index("found")
    assert lines[2][column:].startswith("0 bytes") and lines[3][column:].startswith("0 ")
    assert findings_table(findings).split().count("check") == 9 + 1 and "(warning)" in lines[3]
    write_findings(findings, tmp_path / "findings.json")
    assert [
        Finding(**finding)
        for finding in json.loads((tmp_path / "findings.json").read_text(encoding="utf-8"))["findings"]
    ] == findings


@pytest.mark.parametrize("name, is_accepted", [
    ("README.md", True), (".DS_Store", True), ("Thumbs.db", True), ("preview.png", True),
    ("._case_001_0000.nii.gz", False), (".case_006_0000.nii.gz", False), ("case_006_0000.NII.GZ", False),
    ("case_006_0000.nii", False), ("case_006.nii.gz", False), ("case_006_seg_0000.nii.gz", False)])
def test_a_folder_is_accepted_only_where_nnunet_lists_the_same_cases(dataset, name, is_accepted):
    from nnunetv2.utilities.utils import get_identifiers_from_splitted_dataset_folder

    (dataset / "imagesTr" / name).write_bytes(b"")
    content = json.loads((dataset / "dataset.json").read_text(encoding="utf-8"))
    cases, findings = training_cases(dataset, content)
    assert is_accepted == (errors_among(findings) == [])
    if is_accepted:
        assert list(cases) == list(get_identifiers_from_splitted_dataset_folder(str(dataset / "imagesTr"), ".nii.gz"))
