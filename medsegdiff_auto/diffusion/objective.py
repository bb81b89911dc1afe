"""The loss of a plan: what the network's output is compared with, and how."""

from __future__ import annotations

from torch import Tensor

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.energy_score import energy_score
from medsegdiff_auto.diffusion.losses import cross_entropy, mse, multiscale_mse
from medsegdiff_auto.diffusion.process import output_from_x_start
from medsegdiff_auto.diffusion.schedules import alpha_sigma
from medsegdiff_auto.diffusion.state import probabilities_from_logits


def denoiser_loss(output: Tensor, x_start: Tensor, x_t: Tensor, log_snr: Tensor, configuration: DiffusionConfiguration,
                  valid: Tensor | None = None) -> Tensor:
    """Cross-entropy of the logits of x_0, the energy score of several draws, or the squared error of noise or v.

    The reference noise is what lies between x_0 and x_t, so that a recycled x_t, which is not a noised x_0, is led back
    to x_0 as well.

    Args:
        output: of the network, (B, K, *spatial); for the energy score (m B, K, *spatial), draw by draw.
        x_start: reference state, (B, K, *spatial) in [-1, 1].
        x_t: the state that the network saw.
        log_snr: (B,), at the times of x_t, float64 on the CPU.
        valid: (B, 1, *spatial) bool; False where the reference is the ignore label.
    """
    c = configuration
    if c.loss.name == "cross_entropy":
        return cross_entropy(output, x_start, c.target, valid)
    if c.loss.name == "energy_score":
        draws = probabilities_from_logits(output, c.target).unflatten(0, (c.loss.num_training_draws, len(x_start)))
        return energy_score(draws, (x_start + 1) / 2, c.loss.class_weights, valid)
    reference = output_from_x_start(x_start.to(x_t), x_t, *alpha_sigma(log_snr), c.network.parameterisation).to(output)
    if c.loss.name == "mse":
        return mse(output, reference, valid)
    if valid is not None:
        output, reference = output * valid, reference * valid
    return multiscale_mse(output, reference, c.loss.multiscale_size)
