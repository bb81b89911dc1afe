"""Latent noise: what its values are, and that they belong to the place and not to the tile."""

import sys
from pathlib import Path

import pytest
import torch

from medsegdiff_auto.diffusion import latent_noise
from medsegdiff_auto.diffusion.latent_noise import LatentNoise, LatentNoises, node_distances, num_nodes
from medsegdiff_auto.diffusion.smooth_field import SmoothField, correlation_vox

sys.path.insert(0, str(Path(__file__).parents[1] / "networks"))
from tiny_networks import STATE

LATENT = STATE.changed(latent_scales=(0.5, 2.0), latent_channels=3, name="energy_score", num_training_draws=2,
                      dispersion=1.0)
SHAPE, CELL = (12, 16, 20), (2, 2, 4)


def test_the_fields_of_a_tile_are_those_of_the_volume_there():
    noise = LatentNoise(SHAPE, LATENT, CELL, 5)
    whole = noise.everywhere()
    assert whole.shape == (1, 6, 6, 8, 5)
    place = (slice(2, 8), slice(4, 16), slice(8, 16))
    assert torch.allclose(noise.at(place), whole[:, :, 1:4, 2:8, 2:4])


def test_a_position_is_the_mean_of_its_cell():
    noise = LatentNoise(SHAPE, LATENT, CELL, 5)
    distance = [2.0 * d for d in correlation_vox(LATENT.noise.structure_diameter_vox, 3)]
    voxels = SmoothField((3, *SHAPE), distance, 6).at((slice(None),) * 3)
    assert torch.allclose(noise.everywhere()[0, 3:], torch.nn.functional.avg_pool3d(voxels, CELL), atol=1e-6)


def test_slices_of_a_volume_have_fields_of_a_plan_in_two_dimensions():
    noise = LatentNoise(SHAPE, LATENT.changed(structure_diameter_vox=(8.0, 8.0)), (2, 2), 5)
    whole = noise.everywhere()
    assert whole.shape == (1, 6, 12, 8, 10)
    assert torch.allclose(noise.at((slice(3, 4), slice(0, 8), slice(4, 12))), whole[:, :, 3:4, :4, 2:6])
    steps = (whole[:, :, 1:] - whole[:, :, :-1]).square().mean().sqrt()
    assert 0.05 < steps < 0.5  # neighbouring slices go together


def test_values_are_standard_normal_sets_independent_and_scales_smooth_as_they_say():
    sets = LatentNoise((64, 64), LATENT.changed(latent_scales=(0.5, 4.0), latent_channels=2,
                                                structure_diameter_vox=(8.0, 8.0)),
                       (1, 1), 0, num_sets=400).everywhere()
    assert sets.shape == (400, 4, 64, 64)
    assert sets.mean().abs() < 0.02 and sets.var(0).mean().item() == pytest.approx(1, abs=0.05)
    pairs = torch.corrcoef(sets[:, :, 10, 10].T)
    assert (pairs - torch.eye(4)).abs().max() < 0.2
    for scale, channels, near, far in ((0.5, slice(0, 2), 1, 12), (4.0, slice(2, 4), 8, 63)):
        values = sets[:, channels].flatten(0, 1)
        correlation = [torch.corrcoef(torch.stack([values[:, 0, 0], values[:, 0, gap]]))[0, 1] for gap in (near, far)]
        assert correlation[0] > 0.6 and correlation[1].abs() < 0.15, scale


def test_the_same_seed_gives_the_same_fields_and_another_seed_others():
    one, same, other = (LatentNoise(SHAPE, LATENT, CELL, seed).everywhere() for seed in (1, 1, 7))
    assert torch.equal(one, same) and (one - other).abs().mean() > 0.5


@pytest.mark.parametrize("shape, diameter, cell", [
    (SHAPE, (8.0, 8.0, 8.0), CELL), ((40, 64, 64), (16.0, 24.0), (4, 4)), ((20, 30, 30), (1.5, 2.0, 1.0), (2, 2, 2))],
                         ids=str)
def test_nodes_are_counted_before_any_is_made(shape, diameter, cell):
    configuration = LATENT.changed(structure_diameter_vox=diameter)
    made = [sum(one.nodes.numel() for one in LatentNoise(shape, configuration, cell, seed).fields)
            for seed in range(0, 40, 2)]
    counted = num_nodes(shape, configuration, cell)
    assert max(made) <= counted < 1.3 * max(made)


def test_nodes_are_no_nearer_than_the_cells_whose_means_are_taken():
    tiny = LATENT.changed(structure_diameter_vox=(2.0, 2.0, 2.0))
    assert node_distances(tiny, CELL) == [(2.0, 2.0, 4.0), (4.0, 4.0, 4.0)]
    values = LatentNoise((40, 40, 40), tiny, CELL, 0).everywhere()
    assert values.std().item() > 0.5  # nodes within a cell would cancel each other


@pytest.mark.parametrize("shape, cell", [(SHAPE, CELL), ((3, *SHAPE[1:]), CELL[1:])])
def test_samples_evaluated_together_have_the_values_that_each_has_alone(shape, cell, monkeypatch):
    """Their nodes lie elsewhere, and one field may have more of them than another."""
    noises = [LatentNoise(shape, LATENT.changed(dispersion=1.5, structure_diameter_vox=(4.0, 6.0, 5.0)[-len(cell):]),
                          cell, seed) for seed in range(6)]
    together = LatentNoises(noises, torch.device("cpu"))
    assert together and not LatentNoises([], torch.device("cpu"))
    place = tuple(slice(n // 4 * size, n // 4 * size + 2 * size) for n, size in zip((4, 4, 4), noises[0].cell))
    one_by_one = together.at([4, 0, 4], place)
    monkeypatch.setattr(latent_noise, "ONE_BY_ONE", ())
    assert len({field.nodes.shape for noise in noises for field in noise.fields[-1:]}) > 1
    torch.testing.assert_close(together.at([4, 0, 4], place), one_by_one, atol=1e-5, rtol=1e-5)
    assert not torch.equal(one_by_one[0], one_by_one[1]) and torch.equal(one_by_one[0], one_by_one[2])
