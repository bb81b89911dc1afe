"""DDIM and DPM-Solver++ against the schedulers of ``diffusers`` on DDPM's linear schedule.

There t counts from 0: its step i - 1 is our t = i / T. Its tables are float32; they are replaced by their float64
values.
"""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler
from one_block import in_one_block

from medsegdiff_auto.diffusion.process import output_from_x_start, x_start_from_output
from medsegdiff_auto.diffusion.schedules import Schedule

T = 1000
COMMON = {"num_train_timesteps": T, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear",
          "timestep_spacing": "trailing"}
PREDICTION_TYPES = {"x_start": "sample", "noise": "epsilon", "v": "v_prediction"}
SCHEDULE = Schedule("linear")


def predict_x_start(x_t, t):
    """A smooth stand-in for a network; t in [0, 1]."""
    return torch.tanh(0.8 * x_t + 0.3 * torch.sin(3 * x_t + 2 * t))


def of_diffusers(scheduler, x_t, num_steps, parameterisation):
    scheduler.set_timesteps(num_steps)
    for step in scheduler.timesteps:
        t = (step.double() + 1) / T
        output = output_from_x_start(predict_x_start(x_t, t), x_t, *SCHEDULE.alpha_sigma(t), parameterisation)
        x_t = scheduler.step(output, step, x_t).prev_sample
    return x_t


def of_ours(x_t, num_steps, solver, parameterisation):
    def predict(x_t, t):
        alpha, sigma = SCHEDULE.alpha_sigma(t)
        output = output_from_x_start(predict_x_start(x_t, t), x_t, alpha, sigma, parameterisation)
        return x_start_from_output(output, x_t, alpha, sigma, parameterisation)

    return in_one_block(predict, x_t, num_steps, solver, SCHEDULE)


def start():
    return torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("parameterisation", PREDICTION_TYPES)
@pytest.mark.parametrize("num_steps", [1, 2, 5, 10, 50])
def test_ddim_agrees_with_diffusers(num_steps, parameterisation):
    scheduler = DDIMScheduler(**COMMON, clip_sample=False, set_alpha_to_one=True,
                              prediction_type=PREDICTION_TYPES[parameterisation])
    scheduler.alphas_cumprod = SCHEDULE.alpha_sigma(torch.arange(1, T + 1, dtype=torch.float64) / T)[0] ** 2
    expected = of_diffusers(scheduler, start(), num_steps, parameterisation)
    assert torch.allclose(of_ours(start(), num_steps, "ddim", parameterisation), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("parameterisation", PREDICTION_TYPES)
@pytest.mark.parametrize("num_steps", [1, 2, 5, 10, 50])
def test_dpm_solver_agrees_with_diffusers(num_steps, parameterisation):
    scheduler = DPMSolverMultistepScheduler(**COMMON, algorithm_type="dpmsolver++", solver_order=2,
                                            solver_type="midpoint", final_sigmas_type="zero", lower_order_final=False,
                                            prediction_type=PREDICTION_TYPES[parameterisation])
    expected = of_diffusers(scheduler, start(), num_steps, parameterisation)
    assert torch.allclose(of_ours(start(), num_steps, "dpm_solver_pp_2m", parameterisation), expected, atol=2e-4,
                          rtol=0)
