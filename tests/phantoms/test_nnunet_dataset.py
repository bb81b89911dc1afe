"""The written dataset: intact for nnU-Net, reproducible, with the geometry and the annotations that were meant."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from medsegdiff_auto.cli.phantoms import main
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.phantoms.expectations import expected_dice_between_annotators
from medsegdiff_auto.phantoms.nnunet_dataset import Labelling, write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind, generate_phantom
from medsegdiff_auto.phantoms.posterior_file import load_posterior


def read(path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


def test_nnunet_finds_no_fault_in_the_dataset(written_dataset, capfd):
    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    verify_dataset_integrity(str(written_dataset[1]), num_processes=1)
    output = capfd.readouterr().out
    assert "verify_dataset_integrity Done" in output
    assert "Error" not in output and "Warning" not in output


def test_images_and_labels_keep_the_phantoms_geometry_through_nifti(written_dataset):
    dimension, folder = written_dataset
    for path in sorted((folder / "imagesTr").glob("*_0000.nii.gz")):
        image = sitk.ReadImage(str(path))
        label = sitk.ReadImage(str(folder / "labelsTr" / path.name.replace("_0000", "")))
        posterior = load_posterior(folder / "posterior" / path.name.replace("_0000.nii.gz", ".npz"))
        assert image.GetDimension() == label.GetDimension() == dimension
        np.testing.assert_allclose(image.GetSpacing(), posterior.spacing_mm[::-1], rtol=1e-5)
        assert image.GetSize() == posterior.shape[::-1] == label.GetSize()
        for geometry in ("GetSpacing", "GetOrigin", "GetDirection"):
            np.testing.assert_allclose(getattr(image, geometry)(), getattr(label, geometry)(), atol=1e-5)
        assert np.abs(np.subtract(image.GetDirection(), np.eye(dimension).ravel())).max() > 1e-3


def test_the_written_case_is_the_generated_phantom(tmp_path):
    kind = PhantomKind(2, shape=(24, 30))
    folder = write_phantom_dataset(tmp_path, 5, "One", (1, 0), kind, seed=3)
    phantom = generate_phantom((3, 0), kind)
    np.testing.assert_array_equal(read(folder / "imagesTr" / "phantom_000_0000.nii.gz"), phantom.image[0])
    image = sitk.ReadImage(str(folder / "imagesTr" / "phantom_000_0000.nii.gz"))
    np.testing.assert_allclose(image.GetOrigin(), phantom.origin_mm, atol=1e-4)
    np.testing.assert_allclose(image.GetDirection(), phantom.direction, atol=1e-5)


def test_the_image_does_not_depend_on_the_annotation(tmp_path):
    first, second = (write_phantom_dataset(tmp_path, 1 + seed, "Same", (2, 1), PhantomKind(2), Labelling(seed=seed))
                     for seed in (0, 1))
    for path in sorted(first.glob("images*/*.nii.gz")):
        assert path.read_bytes() == (second / path.relative_to(first)).read_bytes()
    labels = sorted(first.glob("labels*/*.nii.gz"))
    assert len(labels) == 3
    assert any(np.any(read(path) != read(second / path.relative_to(first))) for path in labels)


def test_two_raters_disagree_by_the_dice_that_the_posterior_expects(tmp_path):
    kind = PhantomKind(2, shape=(48, 48))
    folder = write_phantom_dataset(tmp_path, 1, "Raters", (40, 0), kind, Labelling(num_raters=2))
    observed, stated = [], []
    for path in sorted((folder / "labelsTr").iterdir()):
        raters = [read(folder / "labelsTr_raters" / f"rater_{rater}" / path.name) for rater in (1, 2)]
        np.testing.assert_array_equal(raters[0], read(path))
        observed.append(dice(raters[0] == 1, raters[1] == 1))
        posterior = load_posterior(folder / "posterior" / path.name.replace(".nii.gz", ".npz"))
        stated.append(expected_dice_between_annotators(posterior, (1,), 50, np.random.default_rng(0)))
    standard_error = np.std(np.subtract(observed, stated)) / np.sqrt(len(observed))
    assert abs(np.mean(observed) - np.mean(stated)) < 4 * standard_error
    assert np.mean(observed) < 0.95


def test_only_a_third_of_every_second_training_case_is_ignored(written_dataset):
    _, folder = written_dataset
    shares = [np.mean(read(path) == 3) for path in sorted((folder / "labelsTr").iterdir())]
    assert shares[0::2] == [0.0] * 3
    assert all(0.25 < share < 0.42 for share in shares[1::2])
    assert all(read(path).max() <= 2 for path in (folder / "labelsTs").iterdir())


def test_regions_are_declared_as_nnunet_reads_them(written_dataset):
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    dimension, folder = written_dataset
    description = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    manager = LabelManager(description["labels"], description.get("regions_class_order"))
    assert manager.has_regions == (dimension == 2) and manager.ignore_label == 3
    if manager.has_regions:
        assert manager.foreground_regions == [(1, 2), (2,)]
        nested = np.zeros((2, 3), dtype=np.float32)
        nested[:, 1:] = [[1, 1], [0, 1]]
        labels = manager.convert_probabilities_to_segmentation(nested[..., None, None])
        np.testing.assert_array_equal(np.ravel(labels), [0, 1, 2])


def test_an_existing_dataset_is_refused_and_left_untouched(tmp_path, capsys):
    arguments = ["-o", str(tmp_path), "-d", "7", "--dimension", "2", "--cases", "2", "--test_cases", "0"]
    assert main(arguments) == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main([*arguments, "--name", "Other"]) == 2
    assert "Dataset007_Phantoms" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}


def test_a_failure_while_writing_leaves_nothing_behind(tmp_path, monkeypatch):
    def full_disk(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sitk, "WriteImage", full_disk)
    with pytest.raises(UserError, match="cannot be written"):
        write_phantom_dataset(tmp_path, 1, "Full", (2, 0), PhantomKind(2))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dataset_id, name, cases", [(0, "A", 2), (1000, "A", 2), (1, "a/b", 2), (1, "A", 0)])
def test_an_id_name_or_count_out_of_range_is_refused(tmp_path, dataset_id, name, cases):
    with pytest.raises(UserError):
        write_phantom_dataset(tmp_path / "raw", dataset_id, name, (cases, 0))
    assert not (tmp_path / "raw").exists()
