"""Samplers on x_0 ~ N(mu, s^2), whose best predictor E[x_0 | x_t] is known in closed form.

The predictor is affine in x_t, and so is a deterministic sampler: two starts give its mean and its spread without any
Monte-Carlo error.
"""

import math

import pytest
import torch

from medsegdiff_auto.diffusion.process import v_from_x_start, x_start_from_v
from medsegdiff_auto.diffusion.samplers import sample, trailing_times
from medsegdiff_auto.diffusion.schedules import Schedule

MEAN, DEVIATION = 0.3, 0.5
SCHEDULES = [Schedule("cosine"), Schedule("cosine", -2.0), Schedule("linear")]


def posterior_mean(schedule, through_v=False):
    """mu + alpha s^2 / (alpha^2 s^2 + sigma^2) (x_t - alpha mu), on request by way of the v-parameterisation."""

    def predict(x_t, t):
        alpha, sigma = schedule.alpha_sigma(t)
        gain = alpha * DEVIATION ** 2 / (alpha ** 2 * DEVIATION ** 2 + sigma ** 2)
        x_start = MEAN + gain * (x_t - alpha * MEAN)
        return x_start_from_v(v_from_x_start(x_start, x_t, alpha, sigma), x_t, alpha, sigma) if through_v else x_start

    return predict


def affine_sampler(schedule, solver, num_steps, through_v=False):
    """Mean and standard deviation of a deterministic sampler's masks over standard normal noise."""
    starts = torch.tensor([0.0, 1.0], dtype=torch.float64).reshape(2, 1, 1, 1)
    ends = sample(posterior_mean(schedule, through_v), starts, trailing_times(num_steps), schedule, solver).flatten()
    return ends[0].item(), (ends[1] - ends[0]).item()


@pytest.mark.parametrize("through_v", [False, True], ids=["x_start", "v"])
@pytest.mark.parametrize("solver", ["ddim", "dpm_solver_pp_2m"])
@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_deterministic_samples_have_the_mean_and_the_spread_of_the_truth(schedule, solver, through_v):
    mean, deviation = affine_sampler(schedule, solver, 250, through_v)
    assert mean == pytest.approx(MEAN, abs=0.01)
    assert deviation == pytest.approx(DEVIATION, rel=0.02)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_ancestral_samples_have_the_mean_and_the_spread_of_the_truth(schedule):
    generator = torch.Generator().manual_seed(0)

    def draw_noise():
        return torch.randn(20000, 1, 1, 1, generator=generator, dtype=torch.float64)

    samples = sample(posterior_mean(schedule), draw_noise(), trailing_times(250), schedule, "ddpm", draw_noise)
    assert samples.mean().item() == pytest.approx(MEAN, abs=0.01 + 4 * DEVIATION / math.sqrt(20000))
    assert samples.std().item() == pytest.approx(DEVIATION, rel=0.02 + 4 / math.sqrt(2 * 20000))


def test_samples_of_one_step_are_all_the_mean():
    mean, deviation = affine_sampler(Schedule("cosine"), "ddim", 1)
    assert (mean, deviation) == pytest.approx((MEAN, 0), abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_dpm_solver_converges_faster_than_ddim(schedule):
    """The error of the spread halves with twice the steps for DDIM, and falls by more for DPM-Solver++(2M)."""
    errors = {solver: [abs(affine_sampler(schedule, solver, num_steps)[1] - DEVIATION) for num_steps in (40, 160, 320)]
              for solver in ("ddim", "dpm_solver_pp_2m")}
    for ddim, dpm_solver in zip(errors["ddim"], errors["dpm_solver_pp_2m"]):
        assert dpm_solver < ddim / 5
    assert errors["ddim"][1] / errors["ddim"][2] == pytest.approx(2, rel=0.05)
    assert errors["dpm_solver_pp_2m"][1] / errors["dpm_solver_pp_2m"][2] > 2.5
