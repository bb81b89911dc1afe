"""The stated posterior against its own samples and against closed forms."""

import json
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import norm

from medsegdiff_auto.phantoms.expectations import (expected_dice, expected_dice_between_annotators, latent_nodes,
                                                   size_quantiles, sizes)
from medsegdiff_auto.phantoms.phantom import PhantomKind, generate_phantom
from medsegdiff_auto.phantoms.posterior import Latent, PhantomStructure, Posterior
from medsegdiff_auto.phantoms.posterior_file import load_posterior, save_posterior
from medsegdiff_auto.phantoms.shapes import Blob


def ball(dimension: int, radius_mm: float, delta: float, spacing_mm: float = 1.0) -> Posterior:
    """A disc or ball near the middle of a cube, off the voxel grid so that no two voxels share a radius; no lobe."""
    size = int(2.8 * radius_mm / spacing_mm)
    blob = Blob(centre_mm=tuple(np.array([1.38, 1.41, 1.43])[:dimension] * radius_mm),
                axes_mm=tuple(map(tuple, radius_mm * np.eye(dimension))))
    return Posterior((size,) * dimension, (spacing_mm,) * dimension, (PhantomStructure(blob, delta),))


def test_the_frequency_of_each_label_in_many_samples_equals_the_stated_probability(small_phantom):
    posterior, num_samples = small_phantom.posterior, 2000
    generator = np.random.default_rng(1)
    counts = np.zeros((4, *posterior.shape))
    for _ in range(num_samples):
        labels = posterior.sample(generator)
        for label in range(4):
            counts[label] += labels == label
    stated = posterior.probabilities().astype(np.float64)
    standard_error = np.sqrt(stated * (1 - stated) / num_samples)
    assert np.all(np.abs(counts / num_samples - stated) <= 5 * standard_error + 3 / num_samples)


def test_the_probabilities_of_the_labels_sum_to_one(small_phantom):
    np.testing.assert_allclose(small_phantom.posterior.probabilities().sum(axis=0), 1.0, atol=1e-6)


def test_the_probability_of_a_ball_is_the_normal_distribution_of_the_distance_to_its_surface(dimension):
    posterior = ball(dimension, radius_mm=8.0, delta=0.1)
    centre = posterior.structures[0].blob.centre_mm
    distance = np.sqrt(sum((axis - middle) ** 2 for axis, middle in zip(np.indices(posterior.shape), centre)))
    np.testing.assert_allclose(posterior.probabilities()[1], norm.cdf((8.0 - distance) / 0.8), atol=1e-6)


def test_two_samples_of_one_structure_are_nested_because_all_its_voxels_share_one_draw(dimension):
    posterior = ball(dimension, radius_mm=6.0, delta=0.1)
    generator = np.random.default_rng(0)
    masks = sorted((posterior.sample(generator) == 1 for _ in range(20)), key=np.sum)
    assert masks[0].sum() < masks[-1].sum()
    assert all(not np.any(smaller & ~larger) for smaller, larger in pairwise(masks))


def test_the_lobe_is_annotated_as_a_whole_and_as_often_as_stated(dimension):
    kind = PhantomKind(dimension, num_structures=1, lobe_probability=0.35, shape_variation=0.0)
    posterior = generate_phantom(3, kind).posterior
    tip = posterior.lobe_mask & (posterior.normalised_radii[0] > 1.4)
    generator = np.random.default_rng(0)
    included = np.array([posterior.sample(generator)[tip] for _ in range(400)])
    assert tip.sum() > 5 and set(included.mean(axis=1)) == {0.0, 1.0}
    assert abs(included[:, 0].mean() - 0.35) < 4 * np.sqrt(0.35 * 0.65 / 400)


def test_a_later_structure_is_painted_over_an_earlier_one(small_phantom):
    posterior = small_phantom.posterior
    labels = posterior.label_map(Latent(z=(0.0, 0.0, 0.0), has_lobe=False))
    inner = posterior.normalised_radii[1] <= 1.0
    assert np.any(inner & (posterior.normalised_radii[0] <= 1.0))
    assert set(np.unique(labels[inner])) <= {2, 3}


@pytest.mark.parametrize("quantile", [0.05, 0.5, 0.95])
def test_a_quantile_of_the_size_is_the_size_at_that_quantile_of_z(dimension, quantile):
    posterior = ball(dimension, radius_mm=8.0, delta=0.08, spacing_mm=0.8)
    at_quantile = np.sum(posterior.normalised_radii[0] <= 1.0 + 0.08 * norm.ppf(quantile)) * posterior.voxel_size
    assert size_quantiles(posterior, (1,), (quantile,))[0] == pytest.approx(at_quantile, rel=0.005)


def test_the_mean_size_of_a_ball_is_that_of_the_continuous_ball():
    disc, sphere = ball(2, 12.0, 0.1), ball(3, 12.0, 0.1)
    assert sizes(disc, (1,)).mean() == pytest.approx(np.pi * 12 ** 2 * (1 + 0.1 ** 2), rel=0.01)
    assert sizes(sphere, (1,)).mean() == pytest.approx(4 / 3 * np.pi * 12 ** 3 * (1 + 3 * 0.1 ** 2) / 1000, rel=0.01)


@pytest.mark.parametrize("labels", [(1,), (2,), (1, 2, 3)])
def test_mean_and_quantiles_of_sampled_sizes_equal_the_stated_ones(small_phantom, labels):
    posterior, num_samples = small_phantom.posterior, 2000
    generator = np.random.default_rng(2)
    sampled = np.array([np.isin(posterior.sample(generator), labels).sum() for _ in range(num_samples)])
    sampled = sampled * posterior.voxel_size
    assert sampled.mean() == pytest.approx(sizes(posterior, labels).mean(), abs=4 * sampled.std() / num_samples ** 0.5)
    for quantile in (0.05, 0.5, 0.95):
        stated = size_quantiles(posterior, labels, (quantile,))[0]
        # the share of the samples below the stated quantile, each sample counted half where it is equal
        share = np.mean(sampled < stated) + np.mean(sampled == stated) / 2
        assert abs(share - quantile) < 4 * np.sqrt(quantile * (1 - quantile) / num_samples) + np.mean(sampled == stated)


def test_the_expected_dice_of_the_nominal_ball_equals_the_integral_over_the_radius(dimension):
    posterior = ball(dimension, radius_mm=14.0, delta=0.08)
    scale = (1 + 0.08 * norm.ppf((np.arange(2000) + 0.5) / 2000)) ** dimension
    closed_form = np.mean(2 * np.minimum(1, scale) / (1 + scale))
    assert expected_dice(posterior, (1,)) == pytest.approx(closed_form, abs=0.004)


def test_no_other_threshold_of_the_ball_beats_the_median_by_much(dimension):
    posterior = ball(dimension, radius_mm=10.0, delta=0.08)
    best = expected_dice(posterior, (1,))
    for z in (-1.0, -0.5, 0.5, 1.0):
        assert expected_dice(posterior, (1,), prediction=posterior.label_map(Latent((z,), False))) < best


def test_two_annotators_agree_less_with_each_other_than_with_the_mean(small_phantom):
    posterior = small_phantom.posterior
    between = expected_dice_between_annotators(posterior, (1, 2, 3), 300, np.random.default_rng(0))
    assert between < expected_dice(posterior, (1, 2, 3)) - 0.01


def test_the_nodes_have_the_moments_of_the_latents(small_phantom):
    nodes = latent_nodes(small_phantom.posterior)
    z = np.array([node.z for node in nodes])
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-3)
    np.testing.assert_allclose(z.std(axis=0), 1.0, atol=5e-3)
    assert np.mean([node.has_lobe for node in nodes]) == pytest.approx(small_phantom.posterior.lobe.probability,
                                                                       abs=1e-3)


def test_a_posterior_read_from_its_file_draws_the_same_samples(small_phantom, tmp_path):
    save_posterior(small_phantom.posterior, tmp_path / "case.npz")
    read = load_posterior(tmp_path / "case.npz")
    assert read == small_phantom.posterior
    for seed in range(3):
        np.testing.assert_array_equal(read.sample(np.random.default_rng(seed)),
                                      small_phantom.posterior.sample(np.random.default_rng(seed)))
    stored = np.load(tmp_path / "case.npz")["probabilities"]
    assert stored.dtype == np.float16
    np.testing.assert_allclose(stored, read.probabilities(), atol=1e-3)


def test_the_parameters_survive_json(small_phantom):
    assert Posterior.from_dict(json.loads(json.dumps(small_phantom.posterior.to_dict()))) == small_phantom.posterior
