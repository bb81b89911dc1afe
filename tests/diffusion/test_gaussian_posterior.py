"""Samplers on Gaussians, whose best predictor E[x_0 | x_t] is known in closed form.

First x_0 ~ N(mu, s^2): the predictor is affine in x_t, and so is a deterministic sampler, so that two starts give its
mean and its spread without any Monte-Carlo error. Then two correlated voxels given an image, whose posterior has a
covariance.
"""

import math

import pytest
import torch
from one_block import in_one_block

from medsegdiff_auto.diffusion.configuration import PARAMETERISATIONS
from medsegdiff_auto.diffusion.process import (output_from_x_start, v_from_x_start,
                                               x_start_from_output, x_start_from_v)
from medsegdiff_auto.diffusion.schedules import Schedule
from medsegdiff_auto.tables import SOLVERS

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
    ends = in_one_block(posterior_mean(schedule, through_v), starts, num_steps, solver, schedule).flatten()
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

    samples = in_one_block(posterior_mean(schedule), draw_noise(), 250, "ddpm", schedule, draw_noise)
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


NUM_SAMPLES = 10000
PRIOR = torch.tensor([[0.5, 0.3], [0.3, 0.4]], dtype=torch.float64)
VIEW = torch.tensor([[1.0, 0.5], [0.0, 1.0]], dtype=torch.float64)
IMAGE_NOISE, IMAGE = 0.6, torch.tensor([0.7, -0.2], dtype=torch.float64)


def posterior_given_the_image():
    """x ~ N(0, P), I = H x + n, n ~ N(0, s^2): x | I ~ N(G I, P - G H P) with G = P H' (H P H' + s^2)^-1."""
    gain = PRIOR @ VIEW.T @ torch.linalg.inv(VIEW @ PRIOR @ VIEW.T + IMAGE_NOISE ** 2 * torch.eye(2))
    return gain @ IMAGE, PRIOR - gain @ VIEW @ PRIOR


@pytest.mark.parametrize("solver", SOLVERS.names())
@pytest.mark.parametrize("parameterisation", PARAMETERISATIONS)
@pytest.mark.parametrize("schedule", [Schedule("cosine", -2.0), Schedule("linear")], ids=str)
def test_samples_have_the_mean_and_the_covariance_of_the_posterior_given_the_image(schedule, parameterisation, solver):
    mean, covariance = posterior_given_the_image()
    generator = torch.Generator().manual_seed(0)

    def draw_noise():
        return torch.randn(NUM_SAMPLES, 2, 1, generator=generator, dtype=torch.float64)

    def predict(x_t, t):
        alpha, sigma = schedule.alpha_sigma(t)
        gain = alpha * covariance @ torch.linalg.inv(alpha ** 2 * covariance + sigma ** 2 * torch.eye(2))
        x_start = mean[:, None] + torch.einsum("ij,bjn->bin", gain, x_t - alpha * mean[:, None])
        if parameterisation == "noise" and t == 1 and schedule.name == "cosine":
            return x_start  # pure noise says nothing about x_0: eps alone cannot give it back
        output = output_from_x_start(x_start, x_t, alpha, sigma, parameterisation)
        return x_start_from_output(output, x_t, alpha, sigma, parameterisation)

    num_steps = 1000 if solver == "ddpm" else 250
    samples = in_one_block(predict, draw_noise(), num_steps, solver, schedule, draw_noise)[..., 0]
    error = (covariance.diagonal() / NUM_SAMPLES).sqrt()
    assert ((samples.mean(0) - mean).abs() < 0.01 + 4 * error).all()
    spread = torch.outer(covariance.diagonal(), covariance.diagonal())
    error = ((spread + covariance ** 2) / NUM_SAMPLES).sqrt()
    assert ((samples.T.cov() - covariance).abs() < 0.02 * spread.sqrt() + 4 * error).all()
