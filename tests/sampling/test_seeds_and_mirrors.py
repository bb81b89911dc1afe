"""Noise and views depend on what they should, and on nothing else."""

import subprocess

import pytest
import torch

from medsegdiff_auto.sampling.mirrors import mirror_views
from medsegdiff_auto.sampling.seeds import latent_seed, noise_volume, sample_seed


def test_noise_differs_between_cases_samples_seeds_and_steps_and_repeats_otherwise():
    reference = noise_volume((2, 8, 8), 0, "case_1", 3)
    assert torch.equal(reference, noise_volume((2, 8, 8), 0, "case_1", 3))
    for other in ((1, "case_1", 3), (0, "case_2", 3), (0, "case_1", 4), (0, "case_1", 3, 1), (0, "case_1", 3, 2)):
        assert (noise_volume((2, 8, 8), *other) != reference).all()
    assert (noise_volume((2, 8, 8), 0, "case_1", 3, 1) != noise_volume((2, 8, 8), 0, "case_1", 3, 2)).all()


@pytest.mark.parametrize("shape", [(2, 7, 5, 3), (3, 6, 4)], ids=str)
def test_noise_of_a_slab_is_that_of_the_whole_volume(shape):
    whole = noise_volume(shape, 0, "case", 3, step=2)
    assert whole.shape == shape
    for rows in (slice(0, 2), slice(2, 5), slice(5, None)):
        assert torch.equal(noise_volume(shape, 0, "case", 3, 2, rows), whole[:, rows])
    slices = whole.movedim(1, 0).flatten(1)
    assert all((slices[a] != slices[b]).all() for a in range(len(slices)) for b in range(a))


def test_a_seed_is_the_first_63_bits_of_sha256():
    digest = subprocess.run(["sha256sum"], input=b"7/a/0", capture_output=True, check=True).stdout[:16]
    assert sample_seed(7, "a", 0) == int(digest, 16) >> 1


def test_noise_is_standard_normal():
    noise = noise_volume((1, 100, 100, 10), 0, "case", 0)
    assert abs(noise.mean()) < 4 / 1e5 ** 0.5 and abs(noise.var() - 1) < 4 * (2 / 1e5) ** 0.5


def test_the_first_view_is_the_tile_itself_and_all_are_those_of_nnunet():
    assert mirror_views((0, 1, 2), 1) == [()]
    assert mirror_views((0, 1), 3) == [(), (0,), (1,)]
    assert len(mirror_views((0, 1, 2), 100)) == len(set(mirror_views((0, 1, 2), 100))) == 8
    assert mirror_views(None, 8) == [()]


def test_latent_noise_has_a_seed_for_every_seed_case_sample_and_step_that_no_other_noise_has():
    keys = [(0, "a", 0, 0), (1, "a", 0, 0), (0, "b", 0, 0), (0, "a", 1, 0), (0, "a", 0, 1), (0, "a", 0, 2)]
    found = [latent_seed(*key) for key in keys]
    others = [sample_seed(*key) for key in keys]
    assert len(set(found)) == len(keys) and not set(found) & set(others)
    assert all(0 <= seed < 2**63 for seed in found)
