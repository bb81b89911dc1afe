"""Single steps against the papers' equations, and the sampler given the truth."""

import math

import pytest
import torch
from one_block import in_one_block

from medsegdiff_auto.diffusion.process import q_sample
from medsegdiff_auto.diffusion.sampling import WHOLE, OneBlock, sample
from medsegdiff_auto.diffusion.schedules import Schedule, trailing_times
from medsegdiff_auto.diffusion.solver import Previous, Step
from medsegdiff_auto.diffusion.solvers.ddim import ddim_step
from medsegdiff_auto.diffusion.solvers.dpm_solver_pp_2m import dpm_solver_pp_2m_step
from medsegdiff_auto.tables import SOLVERS


def scalar(value):
    return torch.tensor(value, dtype=torch.float64)


def one_voxel(value):
    return torch.full((1, 1, 1, 1), value, dtype=torch.float64)


def test_trailing_times_start_at_the_start_and_end_at_zero_in_equal_steps():
    assert trailing_times(4).tolist() == [1, 0.75, 0.5, 0.25, 0]


def test_no_steps_at_all_are_refused():
    with pytest.raises(ValueError, match="num_steps is 0"):
        trailing_times(0)


def test_a_ddim_step_follows_the_equation():
    """From t = 2/3 (alpha 1/2, sigma sqrt(3)/2) to s = 1/3 (alpha sqrt(3)/2, sigma 1/2)."""
    noise = (0.9 - 0.5 * 0.4) / (math.sqrt(3) / 2)
    expected = math.sqrt(3) / 2 * 0.4 + 0.5 * noise
    found = ddim_step(Step(one_voxel(0.9), one_voxel(0.4), scalar(2 / 3), scalar(1 / 3), Schedule("cosine")))
    assert found.item() == pytest.approx(expected, abs=1e-12)


def test_a_stochastic_ddim_step_follows_the_equation():
    """eta = 0.5 between the same times: d = eta (sigma_s / sigma_t) sqrt(1 - alpha_t^2 / alpha_s^2)."""
    d = 0.5 * (1 / math.sqrt(3)) * math.sqrt(1 - 1 / 3)
    noise = (0.9 - 0.5 * 0.4) / (math.sqrt(3) / 2)
    expected = math.sqrt(3) / 2 * 0.4 + math.sqrt(0.25 - d ** 2) * noise + d * -1.7
    step = Step(one_voxel(0.9), one_voxel(0.4), scalar(2 / 3), scalar(1 / 3), Schedule("cosine"), one_voxel(-1.7))
    found = ddim_step(step, eta=0.5)
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("i", [2, 400, 1000])
def test_eta_one_is_the_posterior_of_ddpm(i):
    """Ho et al. 2020, eq. 7, with the betas of the linear schedule; x_t = 0.9, x_0 = 0.4."""
    betas = [1e-4 + (0.02 - 1e-4) * j / 999 for j in range(i)]
    abar_s = math.prod(1 - beta for beta in betas[:-1])
    abar_t, beta = abar_s * (1 - betas[-1]), betas[-1]
    mean = (math.sqrt(abar_s) * beta * 0.4 + math.sqrt(1 - beta) * (1 - abar_s) * 0.9) / (1 - abar_t)
    deviation = math.sqrt((1 - abar_s) / (1 - abar_t) * beta)
    step = [SOLVERS.row("ddpm").step(Step(one_voxel(0.9), one_voxel(0.4), scalar(i / 1000), scalar((i - 1) / 1000),
                                          Schedule("linear"), one_voxel(z))).item() for z in (0.0, 1.0)]
    assert step[0] == pytest.approx(mean, abs=1e-9)
    assert step[1] - step[0] == pytest.approx(deviation, rel=1e-6)


def test_a_first_step_of_dpm_solver_is_a_ddim_step():
    step = Step(one_voxel(0.9), one_voxel(0.4), scalar(0.8), scalar(0.5), Schedule("cosine", -1.0))
    assert dpm_solver_pp_2m_step(step).item() == pytest.approx(ddim_step(step).item(), abs=1e-12)


def test_a_second_step_of_dpm_solver_follows_the_equation():
    """Half log-SNR at t = 2/3, 1/2, 1/3 is -log(3)/2, 0, log(3)/2: h = h_previous, r = 1, D = 1.5 x_0 - 0.5
    x_0_previous.
    """
    h, estimate = math.log(3) / 2, 1.5 * 0.4 - 0.5 * -0.2
    expected = 0.5 / math.sqrt(0.5) * 0.9 - math.sqrt(3) / 2 * (math.exp(-h) - 1) * estimate
    found = dpm_solver_pp_2m_step(Step(one_voxel(0.9), one_voxel(0.4), scalar(1 / 2), scalar(1 / 3), Schedule("cosine"),
                                       previous=Previous(one_voxel(-0.2), scalar(2 / 3))))
    assert found.item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("solver", SOLVERS.names())
@pytest.mark.parametrize("num_steps", [1, 2, 3, 10])
@pytest.mark.parametrize("schedule", [Schedule("cosine", -3.0), Schedule("linear")], ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 3, 4, 3, 2)], ids=["2-D", "3-D"])
def test_a_sampler_that_is_given_the_true_x_start_returns_it(shape, schedule, num_steps, solver):
    generator = torch.Generator().manual_seed(0)
    x_start = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.randn(shape, generator=generator, dtype=torch.float64)
    found = in_one_block(lambda x_t, t: x_start, noise, num_steps, solver, schedule, lambda: noise)
    assert torch.equal(found, x_start)


@pytest.mark.parametrize("solver", ["ddim", "dpm_solver_pp_2m"])
@pytest.mark.parametrize("schedule", [Schedule("cosine", -3.0), Schedule("linear")], ids=str)
def test_a_deterministic_sampler_that_is_given_the_truth_stays_on_the_forward_process(schedule, solver):
    generator = torch.Generator().manual_seed(0)
    x_start = torch.rand(2, 1, 3, 4, generator=generator, dtype=torch.float64) * 2 - 1
    noise = torch.randn(2, 1, 3, 4, generator=generator, dtype=torch.float64)
    seen = []

    def truth(x_t, t):
        seen.append((x_t, t))
        return x_start

    in_one_block(truth, q_sample(x_start, noise, *schedule.alpha_sigma(trailing_times(8)[:1])), 8, solver, schedule)
    for x_t, t in seen:
        assert torch.allclose(x_t, q_sample(x_start, noise, *schedule.alpha_sigma(t)), atol=1e-12, rtol=0)
    assert [t.item() for _, t in seen] == trailing_times(8)[:-1].tolist()


class Rows(OneBlock):
    """States that are read and written in blocks of rows."""

    def read(self, rows):
        return self.values[:, :, rows]

    def write(self, rows, values):
        self.values[:, :, rows] = values


@pytest.mark.parametrize("solver", SOLVERS.names())
def test_states_that_are_moved_on_block_by_block_end_as_those_moved_at_once(solver):
    """Every block has its own noise and its own memory of the step before; the noise of a step is asked for with its
    number.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, 2, 3, 6, 4, generator=generator, dtype=torch.float64)  # of the start and of four steps
    schedule, states, empty = Schedule("cosine", -2.0), Rows(noise[0].clone()), lambda: Rows(torch.zeros_like(noise[0]))

    def x_start_of(x_t, t):
        return torch.tanh(x_t + t)

    def blocks(step, t):
        for rows in (slice(0, 1), slice(1, 4), slice(4, 6)):
            yield rows, x_start_of(states.read(rows), t)

    sample(states, blocks, 4, SOLVERS.row(solver), schedule, lambda step, rows: noise[step][:, :, rows], torch.sin,
           empty)
    at_once = in_one_block(x_start_of, noise[0], 4, solver, schedule, iter(noise[1:]).__next__)
    assert torch.equal(states.values, at_once.sin())


def test_an_unknown_solver_is_named_in_the_error():
    with pytest.raises(ValueError, match="'euler'.*ddim, ddpm, dpm_solver_pp_2m"):
        SOLVERS.row("euler")


@pytest.mark.parametrize("solver, num_volumes", [("ddim", 1), ("ddpm", 1), ("dpm_solver_pp_2m", 2)])
def test_a_solver_says_how_many_volumes_a_sample_holds(solver, num_volumes):
    asked = []
    states = OneBlock(torch.zeros(1, 1, 2, 2))
    sample(states, lambda step, t: iter([(WHOLE, states.read())]), 3, SOLVERS.row(solver), Schedule("cosine"),
           lambda step, block: torch.zeros(1, 1, 2, 2), torch.sin, lambda: asked.append(OneBlock()) or asked[-1])
    assert SOLVERS.row(solver).num_volumes == num_volumes == 1 + len(asked)
