"""Sizes of structures against bodies whose size is known."""

import numpy as np
import pytest

from medsegdiff_auto.planning.fingerprint import measure_structure, structure_labels, summarise


def ellipsoid(shape, radii_vox) -> np.ndarray:
    grid = np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in shape], indexing="ij")
    return sum((g / r) ** 2 for g, r in zip(grid, radii_vox)) <= 1


def test_diameters_of_an_ellipsoid_are_its_axes_in_mm():
    measured = measure_structure(ellipsoid((41, 61, 51), (12, 25, 18)), np.array([2.0, 1.0, 0.5]))
    np.testing.assert_allclose(measured["diameter_mm"], [48, 50, 18], rtol=0.01)
    assert measured["volume_mm3"] == pytest.approx(4 / 3 * np.pi * 12 * 25 * 18, rel=0.01)


def test_diameters_of_an_ellipse_are_its_axes():
    measured = measure_structure(ellipsoid((101, 81), (40, 20))[None], np.array([1.0, 1.0, 1.0]))
    np.testing.assert_allclose(measured["diameter_mm"][1:], [80, 40], rtol=0.01)


def test_the_largest_component_gives_the_diameter_and_all_give_the_volume():
    mask = np.zeros((1, 20, 40), bool)
    mask[0, 5:15, 5:15] = mask[0, 2:4, 30:32] = True
    measured = measure_structure(mask, np.ones(3))
    assert measured["num_components"] == 2 and measured["volume_mm3"] == 104
    np.testing.assert_allclose(measured["diameter_mm"][1:], 4 * np.std(np.arange(10)), rtol=1e-6)


def test_empty_masks_count_as_absent():
    present = {"diameter_mm": [1.0, 2.0], "num_components": 1, "volume_mm3": 3.0, "volume_fraction": 0.1}
    assert measure_structure(np.zeros((2, 2, 2), bool), np.ones(3)) is None
    assert summarise([None, present])["share_of_cases"] == 0.5
    assert summarise([None])["share_of_cases"] == 0


def test_structures_are_labels_or_regions_without_background_and_ignore():
    dataset_json = {"labels": {"background": 0, "disc": [1, 2], "cup": 2, "ignore": 3}}
    assert structure_labels(dataset_json) == {"disc": [1, 2], "cup": [2]}
