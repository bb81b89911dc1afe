"""The no-diffusion twin: the control experiment of every claim about diffusion."""

from __future__ import annotations

import torch

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff


WITHOUT_NOISE = {"latent_scales": (), "latent_channels": 0, "dispersion": 0.0, "name": "cross_entropy",
                 "num_training_draws": 1, "class_weights": ()}


def without_state(plans: dict) -> dict:
    """The plans with a denoiser that never sees a state or latent noise; changed in place, and returned.

    Draws that are all alike cannot be scored as a distribution: in the place of the energy score it has cross-entropy.
    """
    for section in plans["configurations"].values():
        if PLANS_KEY in section:
            diffusion = DiffusionConfiguration.from_plan(section[PLANS_KEY])
            diffusion = diffusion.changed(sees_state=False, recycling_share=0.0, num_steps=1)
            section[PLANS_KEY] = (diffusion.changed(**WITHOUT_NOISE) if diffusion.network.latent_scales else
                                  diffusion).to_plan()
    return plans


class nnUNetTrainerMedSegDiffTwin(nnUNetTrainerMedSegDiff):
    """Trains the network, loss, batches and budget of its model, but the denoiser sees neither
    a state (x_t = 0, t = 1) nor latent noise.

    What the twin reaches as well, diffusion has not contributed.
    """

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):
        super().__init__(without_state(plans), configuration, fold, dataset_json, device)
