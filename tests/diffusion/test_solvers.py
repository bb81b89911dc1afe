"""Single steps against the papers' equations, and the sampler given the truth."""

import math

import pytest
import torch

from medsegdiff_auto.diffusion.process import q_sample
from medsegdiff_auto.diffusion.solvers import SOLVERS, ddim_step, dpm_solver_pp_2m_step, sample, trailing_times
from medsegdiff_auto.diffusion.schedules import Schedule


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def one_voxel(value):
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def test_trailing_times_start_at_the_start_and_end_at_zero_in_equal_steps():
    assert trailing_times(4).tolist() == [1, 0.75, 0.5, 0.25, 0]
    assert trailing_times(2, start_time=0.6).tolist() == pytest.approx([0.6, 0.3, 0], abs=1e-15)


def test_no_steps_at_all_are_refused():
    with pytest.raises(ValueError, match="num_steps is 0"):
        trailing_times(0)


def test_a_ddim_step_follows_the_equation():
    """From t = 2/3 (alpha 1/2, sigma sqrt(3)/2) to s = 1/3 (alpha sqrt(3)/2, sigma 1/2)."""
    noise = (0.9 - 0.5 * 0.4) / (math.sqrt(3) / 2)
    expected = math.sqrt(3) / 2 * 0.4 + 0.5 * noise
    found = ddim_step(one_voxel(0.9), one_voxel(0.4), scalar(2 / 3), scalar(1 / 3), Schedule("cosine"))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_a_stochastic_ddim_step_follows_the_equation():
    """eta = 0.5 between the same times: d = eta (sigma_s / sigma_t) sqrt(1 - alpha_t^2 / alpha_s^2)."""
    d = 0.5 * (1 / math.sqrt(3)) * math.sqrt(1 - 1 / 3)
    noise = (0.9 - 0.5 * 0.4) / (math.sqrt(3) / 2)
    expected = math.sqrt(3) / 2 * 0.4 + math.sqrt(0.25 - d ** 2) * noise + d * -1.7
    found = ddim_step(one_voxel(0.9), one_voxel(0.4), scalar(2 / 3), scalar(1 / 3), Schedule("cosine"), 0.5,
                      one_voxel(-1.7))
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("i", [2, 400, 1000])
def test_eta_one_is_the_posterior_of_ddpm(i):
    """Ho et al. 2020, eq. 7, with the betas of the linear schedule; x_t = 0.9, x_0 = 0.4."""
    betas = [1e-4 + (0.02 - 1e-4) * j / 999 for j in range(i)]
    abar_s = math.prod(1 - beta for beta in betas[:-1])
    abar_t, beta = abar_s * (1 - betas[-1]), betas[-1]
    mean = (math.sqrt(abar_s) * beta * 0.4 + math.sqrt(1 - beta) * (1 - abar_s) * 0.9) / (1 - abar_t)
    deviation = math.sqrt((1 - abar_s) / (1 - abar_t) * beta)
    step = [ddim_step(one_voxel(0.9), one_voxel(0.4), scalar(i / 1000), scalar((i - 1) / 1000), Schedule("linear"), 1.0,
                      one_voxel(z)).item() for z in (0.0, 1.0)]
    assert step[0] == pytest.approx(mean, abs=1e-9)
    assert step[1] - step[0] == pytest.approx(deviation, rel=1e-6)


def test_a_first_step_of_dpm_solver_is_a_ddim_step():
    arguments = (scalar(0.8), scalar(0.5), Schedule("cosine", -1.0))
    first = dpm_solver_pp_2m_step(one_voxel(0.9), one_voxel(0.4), None, None, *arguments)
    assert first.item() == pytest.approx(ddim_step(one_voxel(0.9), one_voxel(0.4), *arguments).item(), abs=1e-12)


def test_a_second_step_of_dpm_solver_follows_the_equation():
    """Half log-SNR at t = 2/3, 1/2, 1/3 is -log(3)/2, 0, log(3)/2: h = h_previous, r = 1, D = 1.5 x_0 - 0.5 x_0_previous."""
    h, estimate = math.log(3) / 2, 1.5 * 0.4 - 0.5 * -0.2
    expected = 0.5 / math.sqrt(0.5) * 0.9 - math.sqrt(3) / 2 * (math.exp(-h) - 1) * estimate
    found = dpm_solver_pp_2m_step(one_voxel(0.9), one_voxel(0.4), one_voxel(-0.2), scalar(2 / 3), scalar(1 / 2),
                                  scalar(1 / 3), Schedule("cosine"))
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10])
@pytest.mark.parametrize("schedule", [Schedule("cosine", -3.0), Schedule("linear")], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 3, 2)], ids=["2-D", "3-D"])
def test_a_sampler_that_is_given_the_true_x_start_returns_it(shape, schedule, num_steps, solver):
    generator = torch.Generator().manual_seed(0)
    x_start = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    found = sample(lambda x_t, t: x_start, noise, trailing_times(num_steps), schedule, solver, lambda: noise)
    assert torch.equal(found, x_start)


@pytest.mark.parametrize("solver", ["ddim", "dpm_solver_pp_2m"])
@pytest.mark.parametrize("schedule", [Schedule("cosine", -3.0), Schedule("linear")], ids=str)
def test_a_deterministic_sampler_that_is_given_the_truth_stays_on_the_forward_process(schedule, solver):
    generator = torch.Generator().manual_seed(0)
    x_start = torch.rand(2, 1, 3, 4, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.float64)
    times = trailing_times(8, start_time=0.8)
    seen = []

    def truth(x_t, t):
        seen.append((x_t, t))
        return x_start

    sample(truth, q_sample(x_start, noise, *schedule.alpha_sigma(times[:1])), times, schedule, solver)
    for x_t, t in seen:
        assert torch.allclose(x_t, q_sample(x_start, noise, *schedule.alpha_sigma(t)), atol=1e-12, rtol=0)
    assert [t.item() for _, t in seen] == times[:-1].tolist()


def test_an_unknown_solver_is_named_in_the_error():
    with pytest.raises(ValueError, match="'euler'.*'ddim'"):
        sample(lambda x_t, t: x_t, one_voxel(0.0), trailing_times(1), Schedule("cosine"), "euler")
