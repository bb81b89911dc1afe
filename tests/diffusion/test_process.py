"""The forward process and the conversions between parameterisations."""

import math

import pytest
import torch

from medsegdiff_auto.diffusion.configuration import PARAMETERISATIONS
from medsegdiff_auto.diffusion.process import (noise_from_v, noise_from_x_start, output_from_x_start, q_sample,
                                               random_rows, uniform_times, v_from_x_start, velocity, x_start_from_noise,
                                               x_start_from_output, x_start_from_v)
from medsegdiff_auto.diffusion.schedules import Schedule

SHAPES = [(3, 2, 7, 5), (3, 2, 4, 5, 3)]
DIMENSIONS = ["2-D", "3-D"]


@pytest.fixture(params=SHAPES, ids=DIMENSIONS)
def noised(request):
    """x_start, noise, alpha, sigma and x_t at three times in float64."""
    generator = torch.Generator().manual_seed(0)
    x_start = torch.rand(request.param, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.randn(request.param, generator=generator, dtype=torch.float64)
    alpha, sigma = Schedule("cosine", -2.0).alpha_sigma(torch.tensor([0.05, 0.4, 0.95], dtype=torch.float64))
    return x_start, noise, alpha, sigma, q_sample(x_start, noise, alpha, sigma)


def test_the_noised_state_mixes_every_sample_with_its_own_alpha_and_sigma(noised):
    x_start, noise, alpha, sigma, x_t = noised
    for b in range(3):
        assert torch.allclose(x_t[b], alpha[b] * x_start[b] + sigma[b] * noise[b], atol=1e-15, rtol=0)


def test_noised_states_have_the_mean_and_the_variance_of_the_forward_process():
    alpha, sigma = Schedule("cosine").alpha_sigma(torch.tensor([0.25], dtype=torch.float64))
    noise = torch.randn(1, 1, 400, 500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x_t = q_sample(torch.full_like(noise, 0.7), noise, alpha, sigma)
    standard_error = sigma.item() / math.sqrt(noise.numel())
    assert x_t.mean().item() == pytest.approx(0.7 * math.cos(math.pi / 8), abs=4 * standard_error)
    assert x_t.var().item() == pytest.approx(math.sin(math.pi / 8) ** 2, rel=4 * math.sqrt(2 / noise.numel()))


def test_noise_and_x_start_are_recovered_from_each_other(noised):
    x_start, noise, alpha, sigma, x_t = noised
    assert torch.allclose(noise_from_x_start(x_start, x_t, alpha, sigma), noise, atol=1e-10, rtol=0)
    assert torch.allclose(x_start_from_noise(noise, x_t, alpha, sigma), x_start, atol=1e-10, rtol=0)


def test_v_is_alpha_noise_minus_sigma_x_start_and_gives_x_start_back(noised):
    x_start, noise, alpha, sigma, x_t = noised
    v = v_from_x_start(x_start, x_t, alpha, sigma)
    for b in range(3):
        assert torch.allclose(v[b], alpha[b] * noise[b] - sigma[b] * x_start[b], atol=1e-10, rtol=0)
    assert torch.allclose(x_start_from_v(v, x_t, alpha, sigma), x_start, atol=1e-10, rtol=0)


def test_v_gives_the_noise_back_and_is_the_same_from_noise_or_from_x_t(noised):
    x_start, noise, alpha, sigma, x_t = noised
    v = velocity(x_start, noise, alpha, sigma)
    assert torch.allclose(v, v_from_x_start(x_start, x_t, alpha, sigma), atol=1e-10, rtol=0)
    assert torch.allclose(noise_from_v(v, x_t, alpha, sigma), noise, atol=1e-10, rtol=0)


@pytest.mark.parametrize("parameterisation", PARAMETERISATIONS)
def test_what_a_perfect_network_predicts_gives_x_start_back(noised, parameterisation):
    x_start, _, alpha, sigma, x_t = noised
    output = output_from_x_start(x_start, x_t, alpha, sigma, parameterisation)
    found = x_start_from_output(output, x_t, alpha, sigma, parameterisation)
    assert torch.allclose(found, x_start, atol=1e-10, rtol=0)
    assert parameterisation == "x_start" or not torch.allclose(output, x_start, atol=0.1)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_uniform_times_fall_one_into_each_equal_part_of_the_unit_interval(batch_size):
    generator = torch.Generator().manual_seed(2)
    for _ in range(20):
        times = uniform_times(batch_size, generator).sort().values
        parts = (times * batch_size).ceil().long() - 1
        assert parts.tolist() == list(range(batch_size))
        assert torch.allclose(times.diff(), torch.full((batch_size - 1,), 1 / batch_size, dtype=torch.float64))


def test_every_entry_of_uniform_times_is_uniform_over_draws():
    generator = torch.Generator().manual_seed(3)
    times = torch.stack([uniform_times(2, generator) for _ in range(4000)])
    assert times.mean(0).tolist() == pytest.approx([0.5, 0.5], abs=4 * math.sqrt(1 / 12 / 4000))
    assert times.var(0).tolist() == pytest.approx([1 / 12, 1 / 12], rel=0.1)
    assert times.min() > 0 and times.max() <= 1


def test_random_rows_are_the_share_of_the_batch_on_average_and_never_more_than_one_row_off():
    torch.manual_seed(4)
    rows = [random_rows(3, 0.25) for _ in range(4000)]
    assert set(map(len, rows)) == {0, 1}
    assert [sum(k in drawn for drawn in rows) / 4000 for k in range(3)] == pytest.approx(
        [0.25] * 3, abs=4 * math.sqrt(0.1875 / 4000))
    assert len(random_rows(8, 0.25)) == 2 and random_rows(8, 0.0) == [] and random_rows(8, 1.0) == list(range(8))
