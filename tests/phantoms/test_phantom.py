"""The image of a phantom: reproducible, in the right units, and as informative as the docstrings say."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.phantoms.expectations import expected_dice, size_quantiles
from medsegdiff_auto.phantoms.intensities import BLUR, CHANNELS
from medsegdiff_auto.phantoms.phantom import Phantom, PhantomKind, generate_phantom
from medsegdiff_auto.phantoms.shapes import voxel_centres_mm


def phantom_of(seed: int, **kind) -> Phantom:
    """A phantom of the stated shape exactly."""
    return generate_phantom(seed, PhantomKind(shape_variation=0.0, **kind))


def test_the_same_seed_gives_the_same_case_and_another_seed_another(dimension):
    first, again, other = (phantom_of(seed, dimension=dimension) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    assert (first.posterior, first.origin_mm, first.direction) == (again.posterior, again.origin_mm, again.direction)
    assert not np.array_equal(first.image, other.image) and first.posterior != other.posterior


def test_the_direction_is_an_oblique_orthogonal_matrix(dimension):
    direction = np.reshape(phantom_of(1, dimension=dimension).direction, (dimension, dimension))
    np.testing.assert_allclose(direction @ direction.T, np.eye(dimension), atol=1e-12)
    assert np.abs(direction).max() < 0.999


def test_ct_shows_air_body_and_organ_in_hounsfield_units(dimension):
    for seed in range(3):
        phantom = phantom_of(seed, dimension=dimension, modality="CT")
        q, appearance = phantom.posterior.mask_probabilities(), CHANNELS["CT"][0]
        core = phantom.posterior.normalised_radii[0] < 0.8
        core &= phantom.posterior.normalised_radii[1] > 1.3
        assert q[0][core].min() > 0.95 and core.sum() > 50
        assert np.median(phantom.image[0][core]) == pytest.approx(appearance.structures[0], abs=6.0)
        assert phantom.image[0][(0,) * dimension] == pytest.approx(appearance.air, abs=80.0)


def test_mri_is_not_negative_and_has_another_scale_in_each_case():
    images = [phantom_of(seed, dimension=2, modality="MRI", num_channels=2).image for seed in range(6)]
    assert min(image.min() for image in images) >= 0.0
    medians = [np.median(channel) for image in images for channel in image]
    assert max(medians) / min(medians) > 2.0


def test_each_channel_shows_its_own_contrast_between_organ_and_lesion():
    phantom = phantom_of(2, dimension=2, modality="CT", num_channels=2)
    organ = (phantom.posterior.normalised_radii[0] < 0.9) & (phantom.posterior.normalised_radii[1] > 1.2)
    lesion = phantom.posterior.normalised_radii[1] < 0.8
    ct, pet = (np.median(channel[lesion]) / np.median(channel[organ]) for channel in phantom.image)
    assert ct == pytest.approx(180 / 100, rel=0.05) and pet == pytest.approx(1.00 / 0.50, rel=0.15)


def standard_errors(posterior, index: int, contrast_to_noise: float) -> tuple[float, float]:
    """Cramer-Rao bound of (relative radius, log delta) of a structure whose position is unknown as well."""
    structure, step = posterior.structures[index], 1e-3
    points = voxel_centres_mm(posterior.shape, posterior.spacing_mm)

    def signal(parameters: np.ndarray) -> np.ndarray:
        moved = replace(structure.blob, centre_mm=tuple(np.asarray(structure.blob.centre_mm) + parameters[2:]))
        rho = moved.normalised_radius(points) / np.exp(parameters[0])
        return contrast_to_noise * norm.cdf((1 - rho) / (BLUR * structure.delta * np.exp(parameters[1]))).ravel()

    steps = step * np.eye(2 + len(posterior.shape))
    jacobian = np.stack([(signal(row) - signal(-row)) / (2 * step) for row in steps])
    return tuple(np.sqrt(np.diag(np.linalg.inv(jacobian @ jacobian.T)))[:2])


def test_noise_leaves_the_radius_known_to_a_small_part_of_delta(dimension):
    appearance = CHANNELS["CT"][0]
    organ, lesion = appearance.structures[:2]
    for seed in range(4):
        posterior = phantom_of(seed, dimension=dimension, modality="CT").posterior
        for index, contrast in enumerate([organ - appearance.body, lesion - organ]):
            radius_error, log_delta_error = standard_errors(posterior, index, contrast / appearance.noise)
            assert radius_error < 0.007 and log_delta_error < 0.08
            assert np.hypot(1.0, radius_error / posterior.structures[index].delta) < 1.01


def test_the_default_ambiguity_leaves_a_best_dice_near_0_93_and_sizes_within_a_quarter(dimension):
    posteriors = [phantom_of(seed, dimension=dimension).posterior for seed in range(4)]
    for label in (1, 2):
        best = np.mean([expected_dice(posterior, (label,), log2_num_nodes=5) for posterior in posteriors])
        assert 0.90 < best < 0.96
    low, middle, high = np.mean([size_quantiles(posterior, (2, ), (0.05, 0.5, 0.95)) for posterior in posteriors],
                                axis=0)
    assert 0.74 < low / middle < 0.86 and 1.16 < high / middle < 1.32


def test_structures_lie_inside_the_image_and_none_is_empty(dimension):
    for seed in range(10):
        probabilities = phantom_of(seed, dimension=dimension, num_structures=4).posterior.probabilities()
        assert all(np.max(per_label) > 0.9 for per_label in probabilities)
        border = np.ones(probabilities.shape[1:], dtype=bool)
        border[(slice(1, -1),) * dimension] = False
        assert probabilities[0][border].min() > 0.5


@pytest.mark.parametrize("options, found", [
    (dict(dimension=4), "4"), (dict(num_structures=9), "9"), (dict(modality="US"), "US"),
    (dict(modality="CT", num_channels=3), "3"), (dict(dimension=3, shape=(20, 20)), "2 values (20, 20)"),
])
def test_an_impossible_phantom_is_refused_with_the_value_that_was_given(options, found):
    with pytest.raises(UserError) as error:
        PhantomKind(**options)
    assert error.value.found == found
