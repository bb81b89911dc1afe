"""The loss of a plan, for every parameterisation."""

import pytest
import torch
from test_diffusion_configuration import CONFIGURATION

from medsegdiff_auto.diffusion.losses import cross_entropy, mse
from medsegdiff_auto.diffusion.objective import denoiser_loss
from medsegdiff_auto.diffusion.process import output_from_x_start, q_sample
from medsegdiff_auto.diffusion.schedules import alpha_sigma

LOG_SNR = torch.tensor([-3.0, 2.0], dtype=torch.float64)
MSE, MULTISCALE = {"name": "mse"}, {"name": "multiscale_mse", "multiscale_size": 4}
LOSSES = [MSE, MULTISCALE]


@pytest.fixture
def noised():
    """x_start of random labels, noise and x_t of two samples."""
    generator = torch.Generator().manual_seed(0)
    x_start = torch.randint(0, 2, (2, 3, 8, 4), generator=generator) * 2.0 - 1
    noise = torch.randn(x_start.shape, generator=generator)
    return x_start, noise, q_sample(x_start, noise, *alpha_sigma(LOG_SNR))


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("parameterisation", ["noise", "v"])
def test_a_perfect_network_has_no_loss_and_another_has(noised, parameterisation, loss):
    x_start, _, x_t = noised
    c = CONFIGURATION.changed(parameterisation=parameterisation, **loss)
    perfect = output_from_x_start(x_start, x_t, *alpha_sigma(LOG_SNR), parameterisation)
    assert denoiser_loss(perfect, x_start, x_t, LOG_SNR, c).item() == pytest.approx(0, abs=1e-9)
    assert denoiser_loss(perfect + 0.1, x_start, x_t, LOG_SNR, c).item() > 1e-4


def test_unweighted_noise_prediction_is_the_loss_of_medsegdiff(noised):
    x_start, noise, x_t = noised
    c = CONFIGURATION.changed(parameterisation="noise", **MSE)
    assert denoiser_loss(torch.zeros_like(noise), x_start, x_t, LOG_SNR, c).item() == pytest.approx(
        mse(torch.zeros_like(noise), noise).item(), rel=1e-5)


def test_a_state_that_is_not_the_noised_reference_is_led_back_to_the_reference(noised):
    x_start, noise, _ = noised
    recycled = q_sample(-x_start, noise, *alpha_sigma(LOG_SNR))
    for parameterisation in ("noise", "v"):
        output = output_from_x_start(x_start, recycled, *alpha_sigma(LOG_SNR), parameterisation)
        c = CONFIGURATION.changed(parameterisation=parameterisation, **MSE)
        assert denoiser_loss(output, x_start, recycled, LOG_SNR, c).item() == pytest.approx(0, abs=1e-9)


def test_logits_are_scored_by_cross_entropy(noised):
    x_start, noise, x_t = noised
    expected = cross_entropy(noise, x_start, "regions")
    assert denoiser_loss(noise, x_start, x_t, LOG_SNR, CONFIGURATION).item() == expected.item()


@pytest.mark.parametrize(
    "loss", [{}, *({"parameterisation": name} | loss for name in ("noise", "v") for loss in LOSSES)], ids=str)
def test_ignored_voxels_do_not_count(noised, loss):
    x_start, noise, x_t = noised
    valid = torch.ones(2, 1, 8, 4, dtype=torch.bool)
    valid[:, :, 2:5] = False
    changed = torch.where(valid, noise, noise + 7)
    c = CONFIGURATION.changed(**loss)
    assert denoiser_loss(changed, x_start, x_t, LOG_SNR, c, valid).item() == pytest.approx(
        denoiser_loss(noise, x_start, x_t, LOG_SNR, c, valid).item())
