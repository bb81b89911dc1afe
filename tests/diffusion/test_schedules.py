"""The noise schedules against their formulas."""

import math

import pytest
import torch

from medsegdiff_auto.diffusion.schedules import Schedule, log_snr_shift

SCHEDULES = [Schedule("cosine"), Schedule("cosine", -4.6), Schedule("cosine", 2.0), Schedule("linear"),
             Schedule("linear", num_train_steps=100)]


def float64(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("shift", [0.0, -4.6, 1.5])
def test_the_cosine_schedule_has_the_log_snr_of_the_formula(shift):
    found = Schedule("cosine", shift).log_snr(float64(0.1, 0.25, 1 / 3, 0.5, 2 / 3, 0.9))
    expected = [-2 * math.log(math.tan(0.05 * math.pi)), -2 * math.log(math.sqrt(2) - 1), math.log(3), 0.0,
                -math.log(3), 2 * math.log(math.tan(0.05 * math.pi))]
    assert found.tolist() == pytest.approx([value + shift for value in expected], abs=1e-12)


def test_the_unshifted_cosine_schedule_has_alpha_cos_and_sigma_sin_of_half_pi_t():
    t = torch.linspace(0.01, 0.99, 99, dtype=torch.float64)
    alpha, sigma = Schedule("cosine").alpha_sigma(t)
    assert torch.allclose(alpha, torch.cos(math.pi * t / 2), atol=1e-14, rtol=0)
    assert torch.allclose(sigma, torch.sin(math.pi * t / 2), atol=1e-14, rtol=0)


@pytest.mark.parametrize("shift", [0.0, -4.6, 3.0])
def test_the_cosine_schedule_ends_without_any_signal(shift):
    alpha, sigma = Schedule("cosine", shift).alpha_sigma(float64(1.0))
    assert 0 <= alpha.item() < 1e-15
    assert sigma.item() == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_variances_of_signal_and_noise_add_up_to_one(schedule):
    alpha, sigma = schedule.alpha_sigma(torch.linspace(0.001, 1, 500, dtype=torch.float64))
    assert torch.allclose(alpha ** 2 + sigma ** 2, torch.ones(500, dtype=torch.float64), atol=1e-14, rtol=0)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_the_log_snr_falls_from_each_time_to_the_next(schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)[1:]
    assert (schedule.log_snr(t).diff() < 0).all()


def test_the_linear_schedule_is_the_cumulative_product_of_its_betas():
    abar, expected = 1.0, {}
    for i in range(1, 1001):
        abar *= 1 - (1e-4 + (0.02 - 1e-4) * (i - 1) / 999)
        expected[i] = abar
    steps = [1, 2, 10, 250, 500, 999, 1000]
    alpha, _ = Schedule("linear").alpha_sigma(float64(*steps) / 1000)
    assert (alpha ** 2).tolist() == pytest.approx([expected[i] for i in steps], rel=1e-10)
    assert (alpha[0] ** 2).item() == pytest.approx(0.9999, rel=1e-12)
    assert (alpha[-1] ** 2).item() == pytest.approx(4.0358e-5, rel=1e-4)


@pytest.mark.parametrize("num_train_steps", [100, 250, 4000])
def test_a_linear_schedule_of_another_length_ends_about_as_noisy(num_train_steps):
    last = Schedule("linear", num_train_steps=num_train_steps).log_snr(float64(1.0)).item()
    assert last == pytest.approx(Schedule("linear").log_snr(float64(1.0)).item(), rel=0.1)


def test_the_linear_schedule_takes_the_nearest_of_its_steps():
    schedule = Schedule("linear")
    assert torch.equal(schedule.log_snr(float64(0.3333, 0.66667)), schedule.log_snr(float64(0.333, 0.667)))


def test_the_shift_adds_the_logarithm_of_reference_over_diameter_per_axis():
    assert log_snr_shift([10.0, 20.0], 5.0) == pytest.approx(-math.log(8), abs=1e-15)
    assert log_snr_shift([10.0, 20.0, 5.0], 5.0) == pytest.approx(-math.log(8), abs=1e-15)


def test_the_shift_of_a_square_is_that_of_simple_diffusion():
    assert log_snr_shift([256, 256], 64) == pytest.approx(2 * math.log(64 / 256), abs=1e-15)


def test_a_structure_twice_as_long_along_one_axis_halves_the_snr_at_every_t():
    t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
    ratios = []
    for diameter_vox in ([8.0, 8.0, 8.0], [16.0, 8.0, 8.0]):
        alpha, sigma = Schedule("cosine", log_snr_shift(diameter_vox, 5.0)).alpha_sigma(t)
        ratios.append((alpha / sigma) ** 2)
    assert torch.allclose(ratios[1] / ratios[0], torch.full_like(t, 0.5), atol=1e-12)


def test_an_unknown_schedule_is_named_in_the_error():
    with pytest.raises(ValueError, match="'quadratic'.*cosine, linear"):
        Schedule("quadratic")
