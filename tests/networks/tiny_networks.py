"""Networks small enough for tests: nnU-Net's architectures with three stages, and ours around them."""

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from medsegdiff_auto.diffusion.configuration import (DiffusionConfiguration, LossSection, NetworkSection, NoiseSection,
                                                     SamplingSection)
from medsegdiff_auto.networks.build import build_network

NUM_INPUTS, NUM_OUTPUTS, FEATURES = 2, 3, (4, 8, 8)
ANISOTROPIC = [(1, 1, 1), (1, 2, 2), (2, 2, 2)]
STATE = DiffusionConfiguration(  # auto of versions 1 and 2: a state and cross-entropy
    "state", "classes",
    NetworkSection(architecture="conditioned", parameterisation="x_start", first_stage=1, features_per_stage=(8, 8),
                   dynamic_encoding=True, anchor_attention=False, spectrum_transformer_layers=0, transformer_layers=0,
                   bottleneck_attention_heads=2, filter_grid_size=5, dropout=0.0, sees_state=True,
                   frozen_conditioner=False, gradient_into_conditioner=False, latent_scales=(),
                   latent_channels=0),
    NoiseSection(schedule="cosine", reference_vox=4.0, structure_diameter_vox=(8.0, 8.0, 8.0), num_train_steps=1000),
    LossSection(name="cross_entropy", multiscale_size=0, anchor_loss_interval=0, recycling_share=0.25,
                initial_learning_rate=1e-3, ema_length=0.05, num_training_draws=1, class_weights=(),
                pure_noise_share=0.0),
    SamplingSection(solver="ddim", num_steps=3, dispersion=0.0, fusion="mean", num_samples=2, num_mirrors=2,
                    conditioner_weight=0.5))
LINEAR = {"schedule": "linear", "reference_vox": None}
PAPER = STATE.changed(preset="paper", architecture="two_encoders", parameterisation="noise", name="mse", first_stage=0,
                     features_per_stage=(8, 8, 16), recycling_share=0.0, conditioner_weight=0.0, **LINEAR)
PAPER_V2 = PAPER.changed(preset="paper_v2", architecture="conditioned", dynamic_encoding=False, anchor_attention=True,
                         spectrum_transformer_layers=2, gradient_into_conditioner=True, anchor_loss_interval=2)
SIMPLE_DIFFUSION = STATE.changed(preset="simple_diffusion", architecture="concatenated", parameterisation="v",
                                name="multiscale_mse", multiscale_size=4, dynamic_encoding=False, transformer_layers=2,
                                recycling_share=0.0, conditioner_weight=0.0)
LATENT = STATE.changed(latent_scales=(0.5, 2.0), latent_channels=2, name="energy_score", num_training_draws=2,
                      class_weights=(0.0, 1.0, 2.0), dispersion=1.0)
PRESETS = {c.preset: c for c in (STATE, PAPER, PAPER_V2, SIMPLE_DIFFUSION)} | {"latent": LATENT}


def tiny_unet(dimension: int, residual: bool = False, strides=None, deep_supervision: bool = False,
              num_outputs: int = NUM_OUTPUTS) -> nn.Module:
    """nnU-Net's plain or residual-encoder U-Net with three stages."""
    torch.manual_seed(0)
    common = dict(
        input_channels=NUM_INPUTS, n_stages=3, features_per_stage=FEATURES, kernel_sizes=[(3,) * dimension] * 3,
        conv_op={2: nn.Conv2d, 3: nn.Conv3d}[dimension], conv_bias=True, num_classes=num_outputs,
        strides=strides or [(1,) * dimension] + [(2,) * dimension] * 2, n_conv_per_stage_decoder=1,
        norm_op={2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimension], norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}, deep_supervision=deep_supervision)
    if residual:
        return ResidualEncoderUNet(n_blocks_per_stage=[1, 2, 2], **common)
    return PlainConvUNet(n_conv_per_stage=[1, 2, 2], **common)


def tiny_network(dimension: int, configuration: DiffusionConfiguration = STATE, deep_supervision: bool = False,
                 num_outputs: int = NUM_OUTPUTS, **unet_options) -> nn.Module:
    """The network of the configuration's preset."""
    unet = tiny_unet(dimension, deep_supervision=deep_supervision, num_outputs=num_outputs, **unet_options)
    return build_network(unet, num_outputs, configuration, deep_supervision, num_inputs=NUM_INPUTS)


def randomised(network: nn.Module, seed: int = 1) -> nn.Module:
    """The network with noise added to every parameter, so that nothing is zero or the identity."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return network


def random_image(*size: int, batch_size: int = 2, seed: int = 2) -> torch.Tensor:
    """(B, 2, *size), standard normal."""
    return torch.randn(batch_size, NUM_INPUTS, *size, generator=torch.Generator().manual_seed(seed))


def random_state(*size: int, batch_size: int = 2, seed: int = 3) -> torch.Tensor:
    """(B, 3, *size), standard normal."""
    return torch.randn(batch_size, NUM_OUTPUTS, *size, generator=torch.Generator().manual_seed(seed))
